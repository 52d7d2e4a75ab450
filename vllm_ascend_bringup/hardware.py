# SPDX-License-Identifier: Apache-2.0
"""Facts about Ascend chips. No other file of this package states one.

Importing this module loads neither torch, vLLM nor vllm-ascend.
"""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Chip:
    """One generation, as vllm-ascend tells them apart.

    ``title``: for messages. ``device_type``: vllm-ascend's name for it. ``dtypes``: what models
    are served in, by torch's names. ``executes``: the codes its matrix units take as stored:
    "int8", "int4", "fp8" (scales are applied to the product), "mxfp8", "mxfp4" (scales are part
    of the operands). ``socs``: numbers by which torch_npu tells its variants apart.
    ``triton_target``: what Ascend's compiler calls a member of it, for which our Triton kernels are
    known to fit; None where there are none.

    Of its attention: ``fractal_attention``: it takes masks and KV caches in FRACTAL_NZ only.
    ``block_sizes``: of the KV cache, the preferred one first; empty where this project does not
    know. ``block_elements``: the most that block size times head size may be. ``largest_head``:
    head sizes are multiples of 16 up to it; 0 means that nothing limits these two. ``mla``: whether
    there is an operator for it.
    """

    id: str
    title: str
    device_type: str
    dtypes: tuple[str, ...]
    executes: frozenset[str]
    socs: range
    triton_target: str | None = None
    fractal_attention: bool = False
    block_sizes: tuple[int, ...] = ()
    block_elements: int = 0
    largest_head: int = 0
    mla: bool = True

    def block_size(self, head_size: int) -> int | None:
        """The preferred size of a KV cache block for heads of this size; None if none serves."""
        if self.largest_head and (head_size % 16 or head_size > self.largest_head):
            return None
        fits = (size for size in self.block_sizes
                if not self.block_elements or size * head_size <= self.block_elements)  # fmt: skip
        return next(fits, None)


_BOTH = ("bfloat16", "float16")
_EVERYTHING = frozenset({"int8", "int4", "fp8", "mxfp8", "mxfp4"})
# Sources; paths are of vllm-ascend's main of 2026-08-22:
# - A2, A3: ops/fused_moe/moe_utils.py, _get_cann_mega_moe_quant_settings ("W8A8/W4A8 INT on
#   A2/A3"); quantization/methods/w4a16.py (int4).
# - 310P: _310p/quantization/methods has variants of W8A8 only; the host checks of its attention
#   kernels refuse bfloat16.
# - 950: pull request 10236 (fp8); device/device_op.py ("MXFP MoE quantization is only supported
#   on Ascend A5"), quantization/methods/{w8a8_mxfp8,w4a8_mxfp4}.py; docs, feature_guide/
#   expert_parallelism_load_balancer.md (int4: W4A16 but for load balancing); CANN ops-nn,
#   aclnnQuantMatmulV5.md (on the 950 a superset of V3 and V4, which take int8).
# - socs: utils.py, check_ascend_device_type. fractal_attention: _310p/attention, and the host
#   checks of ascend-transformer-boost (ddcc8b62), which limit the 310P's head sizes too.
# - block_sizes: get_supported_kernel_block_sizes in attention/attention_v1.py and
#   _310p/attention/attention_v1.py; _310p/model_runner_310p.py has _ATTENTION_BLOCK_SIZE_LIMIT and
#   refuses MLA.
# - Triton: the targets that bishengir-compile 1.2.0 lists, among which there is no 310P; the 950's
#   compiler is another (bishengir-compile-a5), for which no kernel of ours has been compiled.
_INT = frozenset({"int8", "int4"})
_CHIPS = (
    Chip("a2", "Atlas A2", "A2", _BOTH, _INT, range(220, 226), "Ascend910B3", block_sizes=(128,)),
    Chip("a3", "Atlas A3", "A3", _BOTH, _INT, range(250, 256), "Ascend910_9391",
         block_sizes=(128,)),
    Chip("310p", "Ascend 310P", "_310P", ("float16",), frozenset({"int8"}), range(200, 206),
         fractal_attention=True, block_sizes=(128, 64), block_elements=128 * 128,
         largest_head=256, mla=False),
    Chip("950", "Ascend 950", "A5", _BOTH, _EVERYTHING, range(260, 261)),
)  # fmt: skip
CHIPS: Mapping[str, Chip] = MappingProxyType({chip.id: chip for chip in _CHIPS})

# Query heads per KV head and rank that MLA's attention kernel takes in graph mode. vllm-ascend's
# docs/source/faqs.md quotes its refusal of others; later CANN versions may take 1 to 16 as well.
MLA_GRAPH_HEADS = frozenset({32, 64, 128})

# vllm-ascend's NPUPlatform.supported_quantization, all chips alike.
QUANTIZATION = ("ascend", "compressed-tensors", "fp8", "deepseek_v4_fp8")


def installed_chip() -> Chip | None:
    """The chip that vllm-ascend was built for; None off NPU, and for one that is not in CHIPS."""
    from vllm.platforms import current_platform

    if current_platform.device_type != "npu":
        return None
    try:
        # vllm_ascend/device/device_config.py defines it in later versions; this name stayed.
        device_type = importlib.import_module("vllm_ascend.utils").get_ascend_device_type()
    except (ImportError, AttributeError):
        return None
    return chip_of(device_type.name)


def chip_of(device_type: str) -> Chip | None:
    """The chip that vllm-ascend calls ``device_type``."""
    return next((chip for chip in _CHIPS if chip.device_type == device_type), None)


# What npu-smi calls members of each: A2 910B1 to 910B4-1 and 910B2C (one HDK says a2g3), A3
# Ascend910, 310P 310P3. First generation's 910B has no number after it. Sources: outputs in
# vllm-ascend's issues, its setup.py (get_chip_type), and what docs/source/faqs.md supports.
_NAMES = {
    "a2": re.compile("910B[0-9].*|a2g3", re.IGNORECASE),
    "a3": re.compile("Ascend910|910_93.*"),
    "310p": re.compile("310P.*"),
    "950": re.compile("950.*"),
}
_UNSUPPORTED = re.compile("310B.*|310|910|910A|910B|910(Pro|Premium).*")


def chip_named(name: str) -> Chip | None:
    """The chip that npu-smi calls ``name``; None for one that is not in CHIPS."""
    bare = name if name == "Ascend910" else name.removeprefix("Ascend")
    found = (id_ for id_, names in _NAMES.items() if names.fullmatch(bare))
    return next((CHIPS[id_] for id_ in found), None)


def unsupported_name(name: str) -> bool:
    """Whether vllm-ascend does not support the chip that npu-smi calls ``name``."""
    bare = name if name == "Ascend910" else name.removeprefix("Ascend")
    return _UNSUPPORTED.fullmatch(bare) is not None
