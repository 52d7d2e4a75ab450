# SPDX-License-Identifier: Apache-2.0
"""Facts about Ascend chips. No other file of this package states one.

Importing this module loads neither torch, vLLM nor vllm-ascend.
"""

import importlib
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

# Streams of a device, and how many of them vllm-ascend kept back when it still counted
# (update_aclgraph_sizes in utils.py, until 0.20.2rc1). A virtual device has a share of them.
DEVICE_STREAMS = 2048
RESERVED_STREAMS = 248
# Of one buffer of a communicator of HCCL, in MiB; each has two, to send and to receive (CANN's
# documentation of HCCL_BUFFSIZE; _DEFAULT_BUFFER_SIZE and _MIN_DP_BUFFER_SIZE in utils.py).
HCCL_BUFFER_MIB = 200
HCCL_DP_BUFFER_MIB = 50


@dataclass(frozen=True)
class Deployment:
    """What vllm-ascend offers on a chip, and what its guides deploy it with.

    ``devices``: NPUs of a server. ``memory``: bytes of one as torch_npu reports them, of the
    variant that is usual. ``parallel``: "tp", "pp", "dp", "ep". ``quantization``: methods of vLLM
    that it has taken over. ``modelslim``: types of ModelSlim's weights that it has a scheme for.
    ``kv_divisor``: it offers this part of the free memory to the KV cache. ``graphs``: how many
    can be captured where ranks communicate; None if streams are the only limit. ``length``: tokens
    of context that its guides begin with; None for the model's own. ``image_suffix``, ``shm``,
    ``host_network``, ``hccn``: of its container.
    """

    devices: int
    memory: int
    parallel: frozenset[str]
    quantization: tuple[str, ...]
    modelslim: frozenset[str]
    image_suffix: str = ""
    shm: str = "1g"
    host_network: bool = True
    hccn: bool = True
    kv_divisor: int = 1
    graphs: int | None = None
    length: int | None = None


_MODELSLIM = frozenset({
    "W8A8", "W8A8_DYNAMIC", "W8A8_MIX", "W8A16", "W4A8_DYNAMIC", "W4A16", "W4A4_DYNAMIC",
    "W4A4_FLATQUANT_DYNAMIC",
})  # fmt: skip
_ALL_KINDS = frozenset({"tp", "pp", "dp", "ep"})
# Sources; docs are vllm-ascend's:
# - devices, containers: docs/source/tutorials/models/Qwen3-Dense.md, installation.md, faqs.md.
# - memory: "60.96 GiB total capacity" in errors of 64 GB devices (vllm-ascend issues 6611, 11514);
#   for the 300I Duo with 96 GB on two devices, the smaller of 44,280 and 43,693 MB in npu-smi
#   (issue 1141).
# - parallel: docs, Qwen3.5-27B-Qwen3.6-27B.md ("only the TP scenario" on the 300I Duo).
# - quantization: NPUPlatform.pre_register_and_update. modelslim: @register_scheme in
#   quantization/methods and _310p/quantization/methods; MXFP and FP8 ones are the 950's.
# - kv_divisor: _310p/worker_310p.py, determine_available_memory.
# - graphs: event ids of the 310P; its guide has 2 for Qwen3-32B, Qwen3.5-Dense.md "at most two".
# - length: the 310P's guide, which warns not to leave it to the model.
_HBM = 60 * 1024**3 + 96 * 1024**3 // 100
DEPLOYMENTS: Mapping[str, Deployment] = MappingProxyType({
    "a2": Deployment(8, _HBM, _ALL_KINDS, QUANTIZATION, _MODELSLIM),
    "a3": Deployment(16, _HBM, _ALL_KINDS, QUANTIZATION, _MODELSLIM, image_suffix="-a3"),
    "310p": Deployment(
        8, 43693 * 1024**2, frozenset({"tp"}), ("ascend",),
        frozenset({"W8A8", "W8A8_DYNAMIC", "W8A8S", "W8A8SC"}), image_suffix="-310p", shm="10g",
        host_network=False, hccn=False, kv_divisor=2, graphs=2, length=16384,
    ),
})  # fmt: skip


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
