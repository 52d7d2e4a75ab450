# SPDX-License-Identifier: Apache-2.0
"""The variables for deterministic results are set half: results still change with the batch.

Signals: four variables that belong together. All of them is a note, because they cost about a tenth
of matmul's speed.
Source: vllm-ascend's docs/source/faqs.md; MindIE's FAQ for the cost; vllm-ascend's
batch_invariant.py for "strict".
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, note, warning

_PROFILE = {
    "LCCL_DETERMINISTIC": ("1",), "HCCL_DETERMINISTIC": ("true", "strict"),
    "ATB_MATMUL_SHUFFLE_K_ENABLE": ("0",), "ATB_LLM_LCOC_ENABLE": ("0",),
}  # fmt: skip
_UNSET = Text("not set", "未设置")


def _judge(environ: Mapping[str, str]) -> Iterator[Judgement]:
    right = [name for name, values in _PROFILE.items() if environ.get(name, "").lower() in values]
    if not right:
        return
    if len(right) == len(_PROFILE):
        rows = (Evidence(name, environ[name], environ[name]) for name in right)
        yield note(*rows, do=Text(
            "nothing: results are deterministic with temperature 0; matmul is about 10 % slower",
            "无需处理：temperature 为 0 时结果是确定的；matmul 约慢 10%",
        ))  # fmt: skip
        return
    missing = {name: values[0] for name, values in _PROFILE.items() if name not in right}
    rows = (Evidence(name, environ.get(name, _UNSET), value) for name, value in missing.items())
    exports = " ".join(f"{name}={value}" for name, value in missing.items())
    yield warning(*rows, do=Text(
        f"export {exports}, or unset {' '.join(right)}",
        f"执行 export {exports}，或取消 {' '.join(right)}",
    ))  # fmt: skip


RULE = Rule("determinism", Text("deterministic results", "确定性计算"), _judge)
