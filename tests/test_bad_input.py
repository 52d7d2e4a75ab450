# SPDX-License-Identifier: Apache-2.0
"""Everything that can be wrong with a checkpoint: which error, and that it says what and where."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import testkit
import torch

from vllm_ascend_bringup.errors import BringupError, CheckpointError, FormatError

Build = Callable[[Path], object]
BLOCK: "dict[str, Any]" = {"quant_method": "fp8", "weight_block_size": [128, 128]}
TENSOR: "dict[str, Any]" = {"quant_method": "fp8"}
CHANNEL: "dict[str, Any]" = {
    "quant_method": "compressed-tensors", "format": "float-quantized",
    "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
    }},
}  # fmt: skip
W, S = "model.layers.3.mlp.up_proj.weight", "model.layers.3.mlp.up_proj.weight_scale_inv"
S2 = "model.layers.3.mlp.up_proj.weight_scale"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
BF16 = torch.ones(160, 192, dtype=torch.bfloat16)
E4M3, FNUZ, E5M2FNUZ = torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz
INFINITY, NAN = float("inf"), float("nan")


def codes(*shape: int, byte: int = 0x38, dtype: torch.dtype = E4M3) -> torch.Tensor:
    """A weight of one byte, 1.0 unless told."""
    return torch.full(shape, byte, dtype=torch.uint8).view(dtype)


def write(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    settings: object = BLOCK,
    shards: "list[list[str]] | None" = None,
) -> Path:
    config = {"quantization_config": settings} if settings is not None else {}
    return testkit.write_checkpoint(folder, tensors, config, shards)


def tensors(settings: object = BLOCK, **named: torch.Tensor) -> Build:
    """A builder; ``W``, ``S`` and ``S2`` are the weight and two spellings of its scale."""
    names = {"W": W, "S": S, "S2": S2}
    given = {names.get(key, key.replace("__", ".")): tensor for key, tensor in named.items()}
    return lambda folder: write(folder, given, settings)


def scaled(
    scale: torch.Tensor, settings: object = BLOCK, weight: "torch.Tensor | None" = None
) -> Build:
    """A weight of 160 by 192 (2 by 2 blocks, the last ones partial) with this scale."""
    return tensors(settings, W=codes(160, 192) if weight is None else weight, S=scale)


def value(bad: float) -> Build:
    scale = torch.ones(2, 2)
    scale[1, 0] = bad
    return scaled(scale)


def zero_over_codes(weight: torch.Tensor) -> Build:
    return scaled(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), weight=weight)


def good(folder: Path) -> Path:
    """A sound checkpoint in two shards, to be damaged."""
    return write(
        folder, {W: codes(160, 192), S: torch.ones(2, 2), "norm": torch.ones(4)},
        shards=[[W, "norm"], [S]],
    )  # fmt: skip


def config(settings: "dict[str, Any]") -> Build:
    return scaled(torch.ones(2, 2), settings)


def text(name: str, content: str) -> Build:
    """A sound checkpoint, then this file."""

    def build(folder: Path) -> None:
        good(folder)
        (folder / name).write_text(content)

    return build


def without(name: str) -> Build:
    def build(folder: Path) -> None:
        (good(folder) / name).unlink()

    return build


def damaged(change: Callable[[bytes], bytes]) -> Build:
    """A sound checkpoint, then its second shard changed."""

    def build(folder: Path) -> None:
        file = good(folder) / TWO
        file.write_bytes(change(file.read_bytes()))

    return build


def raw_header(header: bytes, data: int = 0) -> Build:
    """A sound checkpoint, then a second shard with this header."""
    return damaged(lambda _: len(header).to_bytes(8, "little") + header + bytes(data))


def header(data: int = 16, **entries: object) -> Build:
    """A second shard whose header has these entries, and so many bytes of data."""
    return raw_header(json.dumps(entries).encode(), data)


def entry(*offsets: int, dtype: object = "F32", shape: object = (2,)) -> "dict[str, object]":
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def index(**changes: str) -> Build:
    """A sound checkpoint, then its index changed; ``W`` and ``S`` stand for the two tensors."""

    def build(folder: Path) -> None:
        content = json.loads((good(folder) / INDEX).read_text())
        for key, shard in changes.items():
            content["weight_map"][{"W": W, "S": S}.get(key, key)] = shard
        (folder / INDEX).write_text(json.dumps(content))

    return build


def twice(folder: Path) -> None:
    """One tensor in both shards."""
    write(folder, {W: codes(4, 4), S: torch.ones(1, 1)}, shards=[[W, S], [S]])


def hf_quant_config_broken(folder: Path) -> None:
    write(folder, {W: BF16}, settings=None)
    (folder / "hf_quant_config.json").write_text("?")


def pickles_only(folder: Path) -> None:
    (good(folder) / ONE).rename(folder / "pytorch_model.bin")
    (folder / TWO).unlink()
    (folder / INDEX).unlink()


# The builder, the error, and what its text must name: what was found, then what was expected.
CASES: "dict[str, tuple[Build, type[BringupError], tuple[str, ...], tuple[str, ...]]]" = {
    # Pairing.
    "missing-scale": (tensors(W=codes(8, 8)),
        FormatError, (W, "F8_E4M3", "[8, 8]", "model.safetensors"), (S, S2)),
    "missing-expert-scale": (tensors(up=codes(2, 8, 8)),
        FormatError, ("weight up ", "no scale"), ("up_scale_inv", "up_scale")),
    "orphan-scale": (tensors(S=torch.ones(1, 1)),
        FormatError, (S, "there is no " + W), (W, "F8_E4M3")),
    "scale-of-a-bf16-weight": (scaled(torch.ones(2, 2), weight=BF16),
        FormatError, (S, "its weight is BF16"), ("F8_E4M3",)),
    "scale-of-an-int8-weight": (scaled(torch.ones(2, 2), weight=BF16.char()),
        FormatError, (W, "I8", "[160, 192]"), ("F8_E4M3", "fp8 settings")),
    "both-spellings": (tensors(W=codes(8, 8), S=torch.ones(1, 1), S2=torch.ones(1, 1)),
        FormatError, (W, S, S2), ("one of them",)),
    "both-spellings-of-deepseek": (
        tensors(W=codes(8, 8), S=torch.ones(1, 1), model__layers__3__mlp__up_proj__scale=BF16),
        FormatError, (W, S, "model.layers.3.mlp.up_proj.scale"), ("one of them",)),
    "smoothed-activations": (
        tensors(W=codes(8, 8), S=torch.ones(1, 1), up__pre_quant_scale=torch.ones(8)),
        FormatError, ("up.pre_quant_scale", "model.safetensors"), ("codes and scales",)),
    "gptq": (tensors(up__qweight=torch.ones(8, 8).int(), up__scales=torch.ones(1, 8)),
        FormatError, ("up.qweight", "GPTQ or AWQ"), ("codes and scales",)),
    "modelslim-without-description": (
        tensors(W=BF16.char(), S2=torch.ones(160, 1), up__weight_offset=torch.ones(160, 1)),
        FormatError, ("up.weight_offset", "ModelSlim"), ("codes and scales",)),
    "fp4-without-settings-for-it": (
        tensors(W=torch.ones(8, 8, dtype=torch.uint8), S2=codes(8, 1)),
        FormatError, (W, "U8", "[8, 8]"), ("F8_E4M3", "fp8 settings")),
    "weight-1d": (tensors(W=codes(8), S=torch.ones(1)), FormatError, (W, "[8]"), ("2-D or 3-D",)),
    "weight-4d": (tensors(W=codes(2, 2, 2, 2), S=torch.ones(1)),
        FormatError, (W, "[2, 2, 2, 2]"), ("2-D or 3-D",)),
    "weight-e5m2fnuz": (scaled(torch.ones(2, 2), weight=codes(160, 192, dtype=E5M2FNUZ)),
        FormatError, (W, "F8_E5M2FNUZ"), ("F8_E4M3",)),
    # Shapes of scales.
    "grid-one-row-more": (scaled(torch.ones(3, 2)),
        FormatError, (S, "[3, 2]", "[160, 192]"), ("[2, 2]", "[128, 128]")),
    "grid-one-row-less": (scaled(torch.ones(1, 2)), FormatError, (S, "[1, 2]"), ("[2, 2]",)),
    "grid-one-column-more": (scaled(torch.ones(2, 3)), FormatError, (S, "[2, 3]"), ("[2, 2]",)),
    "grid-one-column-less": (scaled(torch.ones(2, 1)), FormatError, (S, "[2, 1]"), ("[2, 2]",)),
    "grid-transposed": (scaled(torch.ones(2, 4), weight=codes(512, 256)),
        FormatError, (S, "[2, 4]"), ("[4, 2]",)),
    "grid-floor": (scaled(torch.ones(4, 2), weight=codes(576, 256)),
        FormatError, (S, "[4, 2]"), ("[5, 2]",)),
    "grid-chunk-tiled": (scaled(torch.ones(4, 1), weight=codes(384, 128)),
        FormatError, (S, "[4, 1]"), ("[3, 1]",)),
    "grid-flat": (scaled(torch.ones(4)), FormatError, (S, "[4]"), ("[2, 2]",)),
    "grid-4d": (scaled(torch.ones(2, 1, 2, 1)), FormatError, (S, "[2, 1, 2, 1]"), ("[2, 2]",)),
    "grid-of-too-few-experts": (scaled(torch.ones(1, 2, 2), weight=codes(3, 160, 192)),
        FormatError, (S, "[1, 2, 2]"), ("[3, 2, 2]",)),
    "two-scales-for-one-tensor": (scaled(torch.ones(2), TENSOR),
        FormatError, (S, "[2]"), ("[]", "[1]", "[160, 1]")),
    "channel-scale-per-column": (scaled(torch.ones(192), CHANNEL),
        FormatError, (S, "[192]"), ("[160, 1]", "compressed-tensors")),
    "channel-scale-transposed": (scaled(torch.ones(1, 160), CHANNEL),
        FormatError, (S, "[1, 160]"), ("[160, 1]",)),
    "block-scales-without-block-size": (scaled(torch.ones(2, 2), TENSOR),
        FormatError, (S, "[2, 2]"), ("per-tensor", "per-channel")),
    # Dtypes and values of scales.
    "scale-int32": (scaled(torch.ones(2, 2).int()),
        FormatError, (S, "I32"), ("F32", "BF16", "F8_E8M0", "U8")),
    "scale-float64": (scaled(torch.ones(2, 2).double()), FormatError, (S, "F64"), ("F32",)),
    "scale-fp8": (scaled(codes(2, 2)), FormatError, (S, "F8_E4M3"), ("F32",)),
    "scale-nan": (value(NAN), FormatError, (S, "nan", "[1, 0]", "model.safetensors"), ("finite",)),
    "scale-infinite": (value(INFINITY), FormatError, (S, "inf", "[1, 0]"), ("finite",)),
    "scale-negative": (value(-0.5), FormatError, (S, "-0.5", "[1, 0]"), ("not negative",)),
    "scale-0d-nan": (scaled(torch.tensor(NAN), TENSOR), FormatError, (S, "nan"), ("finite",)),
    "scale-bf16-infinite": (scaled(torch.full((2, 2), INFINITY).bfloat16()),
        FormatError, (S, "inf", "4 bad"), ("finite",)),
    "e8m0-nan": (scaled(torch.full((2, 2), 255, dtype=torch.uint8).view(torch.float8_e8m0fnu)),
        FormatError, (S, "NaN"), ("finite",)),
    "e8m0-nan-in-uint8": (scaled(torch.tensor([[127, 255], [0, 254]], dtype=torch.uint8)),
        FormatError, (S, "NaN", "[0, 1]", "1 bad"), ("finite",)),
    "zero-scale-over-codes": (zero_over_codes(codes(160, 192)),
        FormatError, (S, "zero", "[1, 0]"), ("zero codes",)),
    "zero-scale-over-fnuz-nan": (zero_over_codes(codes(160, 192, byte=0x80, dtype=FNUZ)),
        FormatError, (S, "zero", "[1, 0]"), ("zero codes",)),
    "product-overflows": (scaled(torch.full((2, 2), 3e38), weight=codes(160, 192, byte=0x7E)),
        FormatError, (W, "30720 values", "bfloat16"), ("3.38953e+38",)),
    # Settings.
    "low-precision-without-settings": (scaled(torch.ones(2, 2), None),
        FormatError, ("1 tensors", "F8_E4M3", W), ("quantization settings",)),
    "low-precision-with-unknown-method": (config({"quant_method": "new"}),
        FormatError, ("F8_E4M3", W), ("quantization settings",)),
    "hybrid-of-an-unknown-kind": (config({**BLOCK, "expert_dtype": "fp6"}),
        FormatError, ("expert_dtype 'fp6'",), ("fp4 or fp8",)),
    "low-precision-of-a-rotated-model": (
        scaled(torch.ones(160, 1), {**CHANNEL, "transform_config": {"R1": {}}}),
        FormatError, ("F8_E4M3", W), ("quantization settings",)),
    "groups-missing": (scaled(torch.ones(160, 1), {**CHANNEL, "config_groups": {}}),
        FormatError, ("without config_groups",), ("at least one",)),
    "block-size-of-one-number": (config({**BLOCK, "weight_block_size": [128]}),
        FormatError, ("[128]",), ("two positive",)),
    "block-size-of-three-numbers": (config({**BLOCK, "weight_block_size": [1, 2, 3]}),
        FormatError, ("[1, 2, 3]",), ("two positive",)),
    "block-size-zero": (config({**BLOCK, "weight_block_size": [0, 128]}),
        FormatError, ("[0, 128]",), ("two positive",)),
    "block-size-negative": (config({**BLOCK, "weight_block_size": [128, -128]}),
        FormatError, ("[128, -128]",), ("two positive",)),
    "block-size-fraction": (config({**BLOCK, "weight_block_size": [12.8, 128]}),
        FormatError, ("[12.8, 128]",), ("two positive",)),
    "block-size-words": (config({**BLOCK, "weight_block_size": "big"}),
        FormatError, ("'big'",), ("two positive",)),
    "static-activations": (config({**BLOCK, "activation_scheme": "static"}),
        FormatError, ("weight_block_size", "static"), ("dynamic",)),
    "settings-are-a-list": (scaled(torch.ones(2, 2), ["fp8"]),
        CheckpointError, ("quantization_config is a list",), ("JSON object",)),
    # config.json.
    "config-missing": (without("config.json"),
        CheckpointError, ("config.json is missing",), ("complete checkpoint",)),
    "config-not-json": (text("config.json", "{"),
        CheckpointError, ("config.json", "JSON"), ("JSON object",)),
    "config-a-list": (text("config.json", "[]"),
        CheckpointError, ("config.json", "list"), ("JSON object",)),
    "config-nested-too-deep": (text("config.json", "[" * 100_000),
        CheckpointError, ("config.json",), ("JSON object",)),
    "hf-quant-config-not-json": (hf_quant_config_broken,
        CheckpointError, ("hf_quant_config.json", "JSON"), ("JSON object",)),
    # Shards.
    "no-shards": (pickles_only, CheckpointError, ("no *.safetensors",), ("pickled",)),
    "shard-empty": (damaged(lambda _: b""), CheckpointError, (TWO, "0 bytes"), ("8-byte header",)),
    "shard-cut-in-the-length": (damaged(lambda raw: raw[:5]),
        CheckpointError, (TWO, "5 bytes"), ("8-byte header",)),
    "shard-cut-in-the-header": (damaged(lambda raw: raw[:20]),
        CheckpointError, (TWO, "in a file of 20"), ("complete header",)),
    "shard-cut-in-the-data": (damaged(lambda raw: raw[:-1]),
        CheckpointError, (TWO, "15 bytes of tensor data"), ("16 bytes",)),
    "shard-too-long": (damaged(lambda raw: raw + b"\0"),
        CheckpointError, (TWO, "17 bytes of tensor data"), ("16 bytes",)),
    "header-over-the-bound": (damaged(lambda _: (100_000_001).to_bytes(8, "little") + bytes(99)),
        CheckpointError, (TWO, "100000001"), ("100000000",)),
    "header-length-negative-in-signed": (damaged(lambda _: b"\xff" * 8),
        CheckpointError, (TWO, str(2**64 - 1)), ("100000000",)),
    "header-not-json": (raw_header(b"{nonsense"),
        CheckpointError, (TWO, "not JSON"), ("safetensors header",)),
    "header-not-text": (raw_header(b"\xff\xfe\xfd\xfc"),
        CheckpointError, (TWO, "not JSON"), ("safetensors header",)),
    "header-nested-too-deep": (raw_header(b"[" * 100_000),
        CheckpointError, (TWO, "not JSON"), ("safetensors header",)),
    "header-a-list": (raw_header(b"[]"),
        CheckpointError, (TWO, "not a JSON object"), ("safetensors header",)),
    "header-empty": (raw_header(b""), CheckpointError, (TWO, "not JSON"), ("safetensors header",)),
    "header-names-twice": (raw_header(b'{"a": {"dtype": "F32"}, "a": {}}'),
        CheckpointError, (TWO, "duplicate name a"), ("safetensors header",)),
    "entry-without-dtype": (header(a={"shape": [2], "data_offsets": [0, 16]}),
        CheckpointError, (TWO, "tensor a"), ("dtype, shape, data_offsets",)),
    "entry-not-an-object": (header(a=[1]),
        CheckpointError, (TWO, "tensor a"), ("dtype, shape, data_offsets",)),
    "entry-three-offsets": (header(a=entry(0, 8, 16)),
        CheckpointError, (TWO, "tensor a"), ("data_offsets",)),
    "entry-negative-shape": (header(a=entry(0, 16, shape=[-4, -1])),
        CheckpointError, (TWO, "tensor a"), ("shape",)),
    "entry-fractional-shape": (header(a=entry(0, 16, shape=[4.0])),
        CheckpointError, (TWO, "tensor a"), ("shape",)),
    "entry-shape-of-bools": (header(a=entry(0, 4, shape=[True])),
        CheckpointError, (TWO, "tensor a"), ("shape",)),
    "unknown-dtype": (header(a=entry(0, 16, dtype="F5")),
        CheckpointError, (TWO, "tensor a", "'F5'"), ("safetensors format",)),
    "dtype-not-a-name": (header(a=entry(0, 16, dtype=["F32"])),
        CheckpointError, (TWO, "tensor a"), ("dtype",)),
    "wrong-byte-span": (header(a=entry(0, 16)),
        CheckpointError, (TWO, "tensor a (F32 [2])", "16 bytes"), ("8 bytes",)),
    "offsets-reversed": (header(a=entry(8, 0)),
        CheckpointError, (TWO, "tensor a", "-8 bytes"), ("8 bytes",)),
    "offsets-overlap": (header(a=entry(0, 8), b=entry(4, 12)),
        CheckpointError, (TWO, "tensor b", "byte 4"), ("byte 8",)),
    "offsets-with-a-gap": (header(a=entry(0, 8), b=entry(12, 20)),
        CheckpointError, (TWO, "tensor b", "byte 12"), ("byte 8",)),
    "offsets-start-late": (header(a=entry(8, 16)),
        CheckpointError, (TWO, "tensor a", "byte 8"), ("byte 0",)),
    "offsets-past-the-end": (header(a=entry(0, 8), b=entry(8, 24, shape=[4])),
        CheckpointError, (TWO, "16 bytes"), ("24 bytes",)),
    "tensor-in-two-shards": (twice, CheckpointError, (S, ONE, TWO), ("exactly one shard",)),
    # Index.
    "index-names-a-missing-shard": (without(TWO),
        CheckpointError, (INDEX, TWO, "missing"), ("2 shards",)),
    "index-outside-with-dots": (index(S="../" + TWO),
        CheckpointError, ("../" + TWO, "outside"), ("inside the directory",)),
    "index-outside-absolute": (index(S="/etc/hostname"),
        CheckpointError, ("/etc/hostname", "outside"), ("inside the directory",)),
    "index-outside-with-backslash": (index(S="..\\" + TWO),
        CheckpointError, (TWO, "outside"), ("inside the directory",)),
    "index-names-a-directory": (index(S="."),
        CheckpointError, ("cannot be read",), ("readable file",)),
    "index-names-an-unknown-tensor": (index(lost=ONE),
        CheckpointError, ("lost", ONE, "no shard holds it"), ("every tensor",)),
    "index-names-the-wrong-shard": (index(S=ONE, norm=TWO),
        CheckpointError, (ONE, TWO), ("agrees with the shards",)),
    "index-not-json": (text(INDEX, ""), CheckpointError, (INDEX, "JSON"), ("JSON object",)),
    "index-without-map": (text(INDEX, "{}"),
        CheckpointError, (INDEX, "weight_map"), ("shard file names",)),
}  # fmt: skip


def test_the_checkpoint_that_the_cases_damage_is_sound(
    tmp_path: Path, decode_checkpoint: Callable[..., dict[str, torch.Tensor]]
) -> None:
    good(tmp_path)
    assert torch.equal(decode_checkpoint(tmp_path)[W], torch.ones(160, 192, dtype=torch.bfloat16))


@pytest.mark.parametrize("case", CASES)
def test_refused_with_what_was_found_what_was_expected_and_what_to_do(
    tmp_path: Path, decode_checkpoint: Callable[..., object], case: str
) -> None:
    build, kind, found, expected = CASES[case]
    build(tmp_path)
    with pytest.raises(kind) as caught:
        decode_checkpoint(tmp_path)
    error = caught.value
    assert type(error) is kind
    assert error.exit_code == {CheckpointError: 4, FormatError: 5}[kind]
    for part in found:
        assert part in error.found
    for part in expected:
        assert part in error.expected
    assert error.fix
    assert str(error) == f"{error.found}. Expected: {error.expected}. To do: {error.fix}."
