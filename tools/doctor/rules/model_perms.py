# SPDX-License-Identifier: Apache-2.0
"""Files of the checkpoint cannot be read by this user, or MindIE will refuse their modes.

Signals: permission to read each file; where MindIE's environment is set, the modes of config.json
and of the tokenizer, which it wants at 0640 or below.
Source: MindIE's FAQ on tokenizers that cannot be loaded.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error, warning
from vllm_ascend_bringup.tools.doctor.facts import ModelFiles
from vllm_ascend_bringup.tools.doctor.wording import joined

_MINDIE, _MODE = "MINDIE_LLM_HOME_PATH", 0o640


def _judge(model: ModelFiles, environ: Mapping[str, str]) -> Iterator[Judgement]:
    if model.closed:
        what = Text(
            f"files of {model.path} without permission to read", f"{model.path} 中无权读取的文件"
        )
        yield error(Evidence(what, joined(model.closed), Text("none", "无")), do=Text(
            f"chmod -R u+rX,g+rX {model.path}, as their owner",
            f"以文件属主身份执行 chmod -R u+rX,g+rX {model.path}",
        ))  # fmt: skip
    wide = {name: mode for name, mode in model.modes.items() if mode & ~_MODE}
    if _MINDIE in environ and wide:
        expected = Text(f"{_MODE:04o} for MindIE", f"{_MODE:04o}（MindIE 的要求）")
        rows = (Evidence(name, f"{mode:04o}", expected) for name, mode in wide.items())
        yield warning(*rows, do=Text(
            f"chmod 640 on the files of {model.path}, and compare tokenizer.json with the original "
            "(sha256sum)",
            f"对 {model.path} 中的文件执行 chmod 640，并用 sha256sum 与原始 tokenizer.json 核对",
        ))  # fmt: skip


RULE = Rule("model-perms", Text("permissions of the checkpoint", "checkpoint 文件权限"), _judge)
