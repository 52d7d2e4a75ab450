# SPDX-License-Identifier: Apache-2.0
"""On a 310P, torch_npu offers the operators for masks of fixed size, and NNAL lacks their kernels.

Signals: versions of torch-npu and NNAL. torch_npu has a Python name for each operator of ATB
whether or not the installed ATB has it, so vllm-ascend's own question is answered yes. This plugin
runs both once before it trusts them and takes full masks if they fail, which costs memory with the
square of the context length. A torch_npu without the names is a note for that reason.
Source: torch_npu's release wheels; release branches of ascend-transformer-boost for CANN 8.5.0,
9.0.0 and 9.1.0, of which the last is the first to have the kernels.
"""

from collections.abc import Iterator, Mapping

from packaging.version import Version

from vllm_ascend_bringup.hardware import Chip
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, note, warning
from vllm_ascend_bringup.tools.doctor.facts import Component, Package
from vllm_ascend_bringup.tools.doctor.versions import older, package_version

_NNAL = "9.1.0"
# The first version with the names, for each torch; later torch has them from its first.
_TORCH_NPU = ("2.7.1.post8", "2.9.0.post6", "2.10.0.post4")
_CONTEXT = Text(
    "give an explicit --max-model-len: a full mask takes 2 bytes times its square",
    "请显式设置 --max-model-len：完整掩码占用 2 字节 × 上下文长度的平方",
)


def _judge(chip: Chip, nnal: Component, packages: Mapping[str, Package]) -> Iterator[Judgement]:
    package = packages.get("torch-npu")
    version = package_version(package.version) if package else None
    if not chip.fractal_attention or package is None or version is None:
        return
    if not _has_names(version):
        wanted = ", ".join(_TORCH_NPU)
        expected = Text(
            f"{wanted} or newer, for compressed masks", f"{wanted} 或更新，才有压缩掩码算子"
        )
        yield note(Evidence("torch-npu", package.version, expected), do=_CONTEXT)
    elif older(nnal.version, _NNAL):
        expected = Text(f"{_NNAL} or newer, for torch-npu {package.version}",
                        f"{_NNAL} 或更新（torch-npu {package.version} 所需）")  # fmt: skip
        what = Text(f"NNAL ({nnal.file})", f"NNAL 版本（{nnal.file}）")
        upgrade = Text(
            f"install CANN and NNAL {_NNAL}; until then keep this plugin on, which falls back to "
            "full masks",
            f"请安装 CANN 和 NNAL {_NNAL}；在此之前请保持启用本插件，它会改用完整掩码",
        )
        yield warning(Evidence(what, nnal.version, expected), do=(upgrade, _CONTEXT))


def _has_names(found: Version) -> bool:
    first = next((v for v in map(Version, _TORCH_NPU) if v.release == found.release), None)
    return found >= first if first else found > max(map(Version, _TORCH_NPU))


RULE = Rule("compressed-masks", Text("compressed masks on a 310P", "310P 的压缩掩码算子"), _judge)
