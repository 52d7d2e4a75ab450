# SPDX-License-Identifier: Apache-2.0
"""Decode rate of every format, from tensors as stored to a bf16 parameter.

What is timed is all that a load does with one weight, its scales included. Each has two rivals:
the torch expression that says the same in one line, and copying the bf16 result.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vllm_ascend_bringup.checkpoint import TensorInfo
from vllm_ascend_bringup.formats.families.base import SchemeTable
from vllm_ascend_bringup.formats.pairing import decode_plan
from vllm_ascend_bringup.formats.schemes import scheme_table

# DeepSeek-V3's largest dense shape.
_N, _K = 8192, 7168
_ROUNDS = 9
_EXPERTS = 8  # of fused ones: the same number of elements
_NAME = "model.layers.0.mlp.up_proj.weight"
_HEADS = {"num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128}


@dataclass(frozen=True)
class Case:
    """One format. ``stored``: the tensors by name. ``expression``: the rival; its result is bf16.

    ``target``: against it.
    """

    settings: Mapping[str, Any]
    stored: Mapping[str, Any]
    expression: Callable[[], Any]
    target: float
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Rates:
    """Ours as a multiple of each rival's throughput."""

    format: str
    expression: float
    target: float
    copy: float


def rates(threads: int) -> Iterator[Rates]:
    """Measure every format of the catalogue."""
    for name, make in _CASES.items():
        yield _measure(name, make(), threads)


def _measure(name: str, case: Case, threads: int) -> Rates:
    import torch

    from vllm_ascend_bringup.decode import Decoder
    from vllm_ascend_bringup.weights import lazy_weights

    names = {"torch.float8_e4m3fn": "F8_E4M3", "torch.uint8": "U8", "torch.float32": "F32",
             "torch.int32": "I32", "torch.int64": "I64", "torch.bfloat16": "BF16"}  # fmt: skip
    tensors = {
        key: TensorInfo(key, names[str(t.dtype)], tuple(t.shape), "s")
        for key, t in case.stored.items()
    }
    table = scheme_table(case.settings, case.facts)
    if not isinstance(table, SchemeTable):
        raise ValueError(f"{name}: {table.reason}")
    ((codes, pairing),) = decode_plan(tensors, table).pairings.items()
    if pairing.format.id != name:
        raise ValueError(f"{name}: the settings mean {pairing.format.id}")

    class Memory:
        def read(self, tensor: str, shard: str) -> Any:
            return case.stored[tensor]

    # As the model classes take it: those that store experts the other way round turn them back.
    def shown(weight: Any) -> Any:
        return weight.transpose(-1, -2) if pairing.layout.turned else weight

    outs = {
        out: torch.zeros(shown(torch.empty(shape, device="meta")).shape, dtype=torch.bfloat16)
        for out, shape in pairing.outputs
    }
    copies = {out: torch.zeros_like(tensor) for out, tensor in outs.items()}
    with Decoder(threads) as decoder:

        def ours() -> None:
            memory: Any = Memory()
            made = lazy_weights(pairing, case.stored[codes], memory, decoder, torch.bfloat16)
            for out, weight in made:
                outs[out].copy_(shown(weight))

        def copy() -> None:
            for out, tensor in outs.items():
                copies[out].copy_(tensor)

        runs = [ours, copy, case.expression]
        seconds: list[list[float]] = [[] for _ in runs]
        for round_ in range(_ROUNDS + 1):
            for run, times in zip(runs, seconds, strict=True):
                started = time.perf_counter()
                run()
                if round_:  # the first warms up
                    times.append(time.perf_counter() - started)
    mine, copied, expressed = map(statistics.median, seconds)
    return Rates(name, expressed / mine, case.target, copied / mine)


def _fp8(shape: tuple[int, ...]) -> Any:
    import torch

    codes = torch.randint(0, 0x7F, shape, dtype=torch.uint8)
    return (codes | torch.randint(0, 2, shape, dtype=torch.uint8) << 7).view(torch.float8_e4m3fn)


def _floats(*shape: int) -> Any:
    import torch

    return (torch.rand(shape) + 0.5) * 0.01


def _exponents(*shape: int) -> Any:
    import torch

    return torch.randint(115, 125, shape, dtype=torch.uint8)


def _repeated(scale: Any, bn: int, bk: int) -> Any:
    scale = scale if bn == 1 else scale.repeat_interleave(bn, -2)
    return scale if bk == 1 else scale.repeat_interleave(bk, -1)


def _fp8_case(
    settings: Mapping[str, Any], name: str, shape: tuple[int, ...], suffix: str, scale: Any,
    grid: Any, bn: int, bk: int, facts: Mapping[str, Any] | None = None,
) -> Case:  # fmt: skip
    import torch

    weight = _fp8(shape)

    def expression() -> Any:
        return weight.to(torch.bfloat16) * _repeated(grid, bn, bk)

    return Case(settings, {name: weight, name + suffix: scale}, expression, 20.0, facts or {})


def _fp4_case(
    settings: Mapping[str, Any], stored: dict[str, Any], packed: Any, grid: Any, bk: int
) -> Case:
    import torch

    values = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    table = torch.tensor([*values, *(-v for v in values)], dtype=torch.bfloat16)

    def expression() -> Any:
        codes = torch.stack((packed & 15, packed >> 4), -1).flatten(-2)
        return table[codes.long()] * _repeated(grid, 1, bk)

    return Case(settings, stored, expression, 15.0, {})


def _bytes(*shape: int) -> Any:
    import torch

    return torch.randint(0, 256, shape, dtype=torch.uint8)


def _compressed(format_: str, **weights: object) -> dict[str, Any]:
    return {"quant_method": "compressed-tensors", "format": format_,
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}  # fmt: skip


def _block() -> Case:
    grid = _floats(_N // 128, _K // 128)
    settings = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    return _fp8_case(settings, _NAME, (_N, _K), "_scale_inv", grid, grid, 128, 128)


def _channel() -> Case:
    grid = _floats(_N, 1)
    settings = _compressed("float-quantized", num_bits=8, type="float", strategy="channel")
    return _fp8_case(settings, _NAME, (_N, _K), "_scale", grid, grid, 1, 1)


def _chunked() -> Case:
    rows = 8 * (6 + 2) * 128
    grid = _floats(rows // 128, _K // 128)
    settings = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    facts = {"model_type": "mimo_v2_flash", **_HEADS}
    name = "model.layers.0.self_attn.qkv_proj.weight"
    return _fp8_case(settings, name, (rows, _K), "_scale_inv", grid, grid, 128, 128, facts)


def _column() -> Case:
    shape = (_EXPERTS, 1024, _K)
    grid = _floats(_EXPERTS, 1, _K)
    settings = {"quant_method": "fbgemm_fp8"}
    name = "model.layers.0.feed_forward.experts.gate_up_proj"
    return _fp8_case(settings, name, shape, "_scale", grid, grid, 1, 1)


def _group() -> Case:
    grid = _floats(_N, _K // 128)
    settings = _compressed("float-quantized", num_bits=8, type="float", strategy="group",
                           group_size=128)  # fmt: skip
    return _fp8_case(settings, _NAME, (_N, _K), "_scale", grid, grid, 1, 128)


def _modelopt_block() -> Case:
    grid = _floats(_N // 128, _K // 128)
    settings = {"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}
    stored = grid[:, None, :, None]
    return _fp8_case(settings, _NAME, (_N, _K), "_scale", stored, grid, 128, 128)


def _mxfp8() -> Case:
    stored = _exponents(_N, _K // 32)
    settings = {"quant_method": "mxfp8"}
    grid = 2.0 ** (stored.float() - 127)
    return _fp8_case(settings, _NAME, (_N, _K), "_scale_inv", stored, grid, 1, 32)


def _tensor() -> Case:
    grid = _floats(1)
    return _fp8_case({"quant_method": "fp8"}, _NAME, (_N, _K), "_scale", grid, grid, 1, 1)


def _mxfp4() -> Case:
    packed, scale = _bytes(_N, _K // 2), _exponents(_N, _K // 32)
    settings = _compressed("mxfp4-pack-quantized", num_bits=4, type="float")
    stored = {f"{_NAME}_packed": packed, f"{_NAME}_scale": scale}
    return _fp4_case(settings, stored, packed, 2.0 ** (scale.float() - 127), 32)


def _gpt_oss() -> Case:
    packed, scale = _bytes(_EXPERTS, 1024, _K // 32, 16), _exponents(_EXPERTS, 1024, _K // 32)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    stored = {f"{name}_blocks": packed, f"{name}_scales": scale}
    grid = 2.0 ** (scale.float() - 127)
    return _fp4_case({"quant_method": "mxfp4"}, stored, packed.flatten(-2), grid, 32)


def _nvfp4(global_name: str, settings: dict[str, Any], codes: str) -> Case:
    import torch

    packed = _bytes(_N, _K // 2)
    scale = (torch.rand(_N, _K // 16) * 400 + 1).to(torch.float8_e4m3fn)
    stored = {codes: packed, f"{_NAME}_scale": scale, global_name: torch.tensor([0.5])}
    return _fp4_case(settings, stored, packed, scale.float() * 0.5, 16)


def _ct_nvfp4() -> Case:
    settings = _compressed("nvfp4-pack-quantized", num_bits=4, type="float")
    return _nvfp4(f"{_NAME}_global_scale", settings, f"{_NAME}_packed")


def _modelopt_nvfp4() -> Case:
    settings = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    return _nvfp4(f"{_NAME}_scale_2", settings, _NAME)


def _packed_int() -> Case:
    import torch
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32

    packed, scale = _bytes(_N, _K // 2), _floats(_N, _K // 32).to(torch.bfloat16)
    settings = _compressed("pack-quantized", num_bits=4, type="int", strategy="group",
                           group_size=32, symmetric=True)  # fmt: skip
    stored = {f"{_NAME}_packed": packed.view(torch.int32), f"{_NAME}_scale": scale,
              f"{_NAME}_shape": torch.tensor([_N, _K])}  # fmt: skip

    def expression() -> Any:
        codes = unpack_from_int32(stored[f"{_NAME}_packed"], 4, torch.Size((_N, _K)))
        return codes.to(torch.bfloat16) * _repeated(scale, 1, 32)

    return Case(settings, stored, expression, 15.0, {})


_CASES: Mapping[str, Callable[[], Case]] = {
    "block_fp8": _block,
    "channel_fp8": _channel,
    "chunked_qkv_fp8": _chunked,
    "column_fp8": _column,
    "gpt_oss_mxfp4": _gpt_oss,
    "group_fp8": _group,
    "modelopt_block_fp8": _modelopt_block,
    "modelopt_nvfp4": _modelopt_nvfp4,
    "mxfp4": _mxfp4,
    "mxfp8": _mxfp8,
    "nvfp4": _ct_nvfp4,
    "packed_int": _packed_int,
    "tensor_fp8": _tensor,
}
