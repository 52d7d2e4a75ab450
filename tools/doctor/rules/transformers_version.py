# SPDX-License-Identifier: Apache-2.0
"""The checkpoint was written by a newer transformers than the installed one.

Signals: transformers_version in config.json, against the package. Its config or tokenizer may then
have settings that this one does not know; often it works all the same.
Source: MindIE's FAQ on tokenizers that cannot be loaded.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, note
from vllm_ascend_bringup.tools.doctor.facts import ModelFiles, Package
from vllm_ascend_bringup.tools.doctor.versions import package_version


def _judge(model: ModelFiles, packages: Mapping[str, Package]) -> Iterator[Judgement]:
    installed = packages.get("transformers")
    if installed is None or model.transformers is None:
        return
    wrote, here = package_version(model.transformers), package_version(installed.version)
    if wrote and here and wrote > here:
        expected = Text(
            f"{model.transformers}, which wrote config.json",
            f"{model.transformers}（config.json 由该版本写出）",
        )
        yield note(Evidence("transformers", installed.version, expected), do=Text(
            "do not upgrade transformers past what vllm-ascend requires; if config or tokenizer "
            "does not load, look for a vLLM with a class of its own for this model",
            "不要把 transformers 升级到超出 vllm-ascend 依赖要求的版本；如果 config 或 tokenizer "
            "无法加载，请改用自带该模型实现的 vLLM 版本",
        ))  # fmt: skip


RULE = Rule(
    "transformers-version",
    Text("transformers against the checkpoint", "transformers 与 checkpoint"),
    _judge,
)
