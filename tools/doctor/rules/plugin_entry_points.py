# SPDX-License-Identifier: Apache-2.0
"""vLLM will not load this plugin, or no plugin for the NPU at all.

Signals: entry points in the environment's metadata, and VLLM_PLUGINS, which allows only those it
names. vllm-ascend's platform is called ascend.
Source: pyproject.toml; vLLM's plugins/__init__.py; vllm-ascend's entry points.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.plugin import PLUGIN
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error, warning
from vllm_ascend_bringup.tools.doctor.facts import OwnState, Package
from vllm_ascend_bringup.tools.doctor.own_state import GROUPS

_ALLOWED, _ASCEND = "VLLM_PLUGINS", "ascend"


def _judge(
    own: OwnState, environ: Mapping[str, str], packages: Mapping[str, Package]
) -> Iterator[Judgement]:
    wanted = [f"{group}:{PLUGIN}" for group in GROUPS]
    if "vllm-ascend" in packages:
        wanted.append(f"{GROUPS[1]}:{_ASCEND}")
    missing = [name for name in wanted if name not in own.registered]
    if missing:
        what = Text("entry points", "入口点")
        yield error(
            Evidence(what, Text(f"{', '.join(missing)} missing", f"缺少 {', '.join(missing)}"),
                     Text("registered", "已注册")),
            do=Text("install the package again with pip; a copied folder registers nothing",
                    "请用 pip 重新安装；直接复制目录不会注册入口点"),
        )  # fmt: skip
    given = environ.get(_ALLOWED)
    if given is None:
        return
    names = [name.strip() for name in given.split(",")]
    if PLUGIN not in names:
        neither = "vllm-ascend" in packages and _ASCEND not in names
        yield (error if neither else warning)(
            Evidence(_ALLOWED, given, Text(f"with {PLUGIN}", f"包含 {PLUGIN}")),
            do=Text(f"add {PLUGIN}{f' and {_ASCEND}' if neither else ''} to it, or unset it",
                    f"请加上 {PLUGIN}{f' 和 {_ASCEND}' if neither else ''}，或取消该变量"),
        )  # fmt: skip


RULE = Rule("plugin-entry-points", Text("loading of this plugin", "本插件的加载"), _judge)
