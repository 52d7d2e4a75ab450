# SPDX-License-Identifier: Apache-2.0
"""How exporters name a weight's codes and its partners.

The one place that knows these spellings. Sources: vLLM, model_executor/layers/quantization
(fp8.py, modelopt.py, compressed_tensors/, quark/, kv_cache.py); transformers, integrations
(finegrained_fp8.py, mxfp4.py, fbgemm_fp8.py); DeepSeek-V4's and Mistral's own checkpoints.
"""

import re
from collections.abc import Mapping

from vllm_ascend_bringup.checkpoint import LOW_PRECISION, TensorInfo
from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.formats.base import E8M0_DTYPES, PACKED_DTYPES, Stored

# Activation and KV-cache scales. They never touch the weights; with a bf16 or fp16 KV cache vLLM
# sets them to one (vllm/model_executor/layers/quantization/kv_cache.py), so dropping is lossless.
DROPPED_SUFFIXES = (
    "input_scale", "activation_scale", "input_scale_ub", ".output_scale", ".prob_output_scale",
    "input_scale_2", "input_global_scale", "input_zero_point", "azp_adj", "input_amax",
    ".qscale_act", ".q_scale", ".k_scale", ".v_scale", ".kv_scale",
    ".q_zero_point", ".k_zero_point", ".v_zero_point",
    ".k_proj.k_bias", ".v_proj.v_bias", ".q.scale", ".k_cache.scale", ".v_cache.scale",
)  # fmt: skip

# Tensors whose presence means more than scales is needed to get the weights back.
_UNSUPPORTED = {
    "pre_quant_scale": "activations are smoothed by it at run time (AWQ-style export)",
    "svdquant_lora_a": "a low-rank residual is added at run time",
    "svdquant_lora_b": "a low-rank residual is added at run time",
    "weight_g_idx": "columns are reordered (actorder group)",
    ".qweight": "GPTQ or AWQ packing",
    ".qzeros": "GPTQ or AWQ packing",
    ".weight_offset": "ModelSlim weights, which vllm-ascend executes itself",
    ".quant_bias": "ModelSlim weights, which vllm-ascend executes itself",
    ".deq_scale": "ModelSlim weights, which vllm-ascend executes itself",
}

_PACKED, _BLOCKS, _WEIGHT = ".weight_packed", "_blocks", ".weight"
# An n-gram embedding table is cut into shard_0, shard_1 ... that share one scale beside them.
_SHARD = re.compile(r"\.shard_\d+$")
_MANY_D = 2

# Suffixes that can be nothing but a partner's, and what its weight is called.
_PARTNER_SUFFIXES = (
    ("_scale_inv", ""), (".weight_scale", _WEIGHT), (".weight_scale_2", _WEIGHT),
    (".weight_global_scale", _PACKED), (".weight_zero_point", _PACKED), (".weight_shape", _PACKED),
    (".qscale_weight", _WEIGHT),
)  # fmt: skip


def refuse_unsupported(tensors: Mapping[str, TensorInfo]) -> None:
    """Raise FormatError at the first tensor that says that scales are not all there is."""
    suffixes = tuple(_UNSUPPORTED)
    for name, tensor in tensors.items():
        if name.endswith(suffixes):
            why = next(text for suffix, text in _UNSUPPORTED.items() if name.endswith(suffix))
            raise FormatError(
                f"{name} in {tensor.shard}: {why}",
                "weights that codes and scales alone define",
                "use a checkpoint in bf16 or in a format of the support table (README)",
            )


def holds_codes(tensor: TensorInfo, tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether this tensor holds codes: by its dtype, or by its name if the dtype is common."""
    name = tensor.name
    if name.endswith(_PACKED):
        return True
    if name.endswith(_BLOCKS):
        return tensor.dtype in PACKED_DTYPES
    if tensor.dtype in LOW_PRECISION:
        return not _is_partner(name, tensors) and orphan_of(tensor, tensors) is None
    if tensor.dtype not in PACKED_DTYPES or len(tensor.shape) < _MANY_D:
        return False
    return name.endswith(_WEIGHT) or any(
        f"{name}{suffix}" in tensors
        for suffix in ("_scale", "_scale_inv", "_weight_scale", "_scale_2", "_weight_scale_2")
    )


def stored_weight(codes: TensorInfo, tensors: Mapping[str, TensorInfo]) -> Stored:
    """Find the partners of ``codes`` by name.

    Raises FormatError if there is no scale, or one role is filled twice.
    """
    name, spellings = _spellings(codes.name)
    partners = {}
    for role, names in spellings.items():
        found = [tensors[n] for n in names if n in tensors]
        if len(found) > 1:
            raise FormatError(
                f"{_where(codes)} has two scales: {found[0].name} and {found[1].name}",
                "one of them",
                "ask for a new export of the checkpoint",
            )
        if found:
            partners[role] = found[0]
    if "scale" not in partners:
        raise FormatError(
            f"low-precision weight {_where(codes)} has no scale",
            " or ".join(spellings["scale"][:2]) + " in any shard",
            "download all shards; a weight without its scale cannot be decoded",
        )
    bmm = partners["scale"].name.endswith("_weight_scale")
    return Stored(name, codes, partners, bmm)


def _spellings(codes: str) -> tuple[str, dict[str, tuple[str, ...]]]:
    """What the decoded weight is called, and role -> names its partner may have."""
    if codes.endswith(_PACKED):
        base = codes.removesuffix(_PACKED) + _WEIGHT
        return base, {
            "scale": (f"{base}_scale",),
            "global_scale": (f"{base}_global_scale",),
            "zero_point": (f"{base}_zero_point",),
            "shape": (f"{base}_shape",),
        }
    if codes.endswith(_BLOCKS):
        base = codes.removesuffix(_BLOCKS)
        return base, {"scale": (f"{base}_scales",)}
    scales: tuple[str, ...] = (f"{codes}_scale_inv", f"{codes}_scale")
    globals_: tuple[str, ...] = (f"{codes}_scale_2",)
    if codes.endswith(_WEIGHT):
        module = codes.removesuffix(_WEIGHT)
        scales += (f"{module}.scale", f"{module}.qscale_weight")
        if _SHARD.search(module):
            scales += (_SHARD.sub("", module) + ".weight_scale",)
    else:
        scales += (f"{codes}_weight_scale",)
        globals_ += (f"{codes}_weight_scale_2",)
    return codes, {"scale": scales, "global_scale": globals_}


def _is_partner(name: str, tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether a tensor of low-precision dtype is the scale of another one by its name."""
    for suffix, weight in (
        ("_scale_inv", ""), ("_scale", ""), (".weight_scale", _PACKED), (".scale", _WEIGHT),
        ("_weight_scale", ""), ("_scales", _BLOCKS),
    ):  # fmt: skip
        if name.endswith(suffix) and name.removesuffix(suffix) + weight in tensors:
            return True
    return False


def orphan_of(tensor: TensorInfo, tensors: Mapping[str, TensorInfo]) -> str | None:
    """The weight that ``tensor`` is a partner of by its name, if it can be nothing else.

    Only for tensors that no pairing uses. Models have parameters called ``..._scale`` too.
    """
    name = tensor.name
    if name.endswith("_scale") and name.removesuffix("_scale") in tensors:
        return name.removesuffix("_scale")
    for suffix, weight in _PARTNER_SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix) + weight
    if name.endswith("_scales") and tensor.dtype in E8M0_DTYPES:
        return name.removesuffix("_scales") + _BLOCKS
    if name.endswith(".scale"):
        weight = name.removesuffix(".scale") + _WEIGHT
        if weight in tensors and len(tensors[weight].shape) >= _MANY_D:
            return weight
    return None


def _where(tensor: TensorInfo) -> str:
    return f"{tensor.name} ({tensor.dtype} {list(tensor.shape)}) in {tensor.shard}"
