# SPDX-License-Identifier: Apache-2.0
"""What low-precision checkpoints hold and what they decode to, from the formulas alone.

Numpy and tables computed from the definition of each encoding; nothing of the package, and no
fp8 arithmetic of torch's. Writers make random codes and scales (seeded by name) and say, in
float32, what they mean: ``code * scale``, before the one rounding to the target dtype.
"""

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

Shape = tuple[int, ...]
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

TORCH_DTYPES = {
    "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "U8": torch.uint8,
    "I8": torch.int8, "F8_E4M3": torch.float8_e4m3fn, "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip


def _e4m3(code: int) -> float:
    """Sign, four bits of exponent biased by 7, three of mantissa; no infinity, one NaN a sign."""
    sign = -1.0 if code & 0x80 else 1.0
    exponent, mantissa = code >> 3 & 0xF, code & 7
    if (exponent, mantissa) == (15, 7):
        return math.nan
    if exponent == 0:
        return sign * mantissa / 8 * 2.0**-6
    return sign * (1 + mantissa / 8) * 2.0 ** (exponent - 7)


def _e2m1(code: int) -> float:
    """Sign, two bits of exponent biased by 1, one of mantissa; neither infinity nor NaN."""
    sign = -1.0 if code & 8 else 1.0
    exponent, mantissa = code >> 1 & 3, code & 1
    if exponent == 0:
        return sign * mantissa / 2
    return sign * (1 + mantissa / 2) * 2.0 ** (exponent - 1)


E4M3: Floats = np.array([_e4m3(code) for code in range(256)], np.float32)
E2M1: Floats = np.array([_e2m1(code) for code in range(16)], np.float32)
# The exponent alone, biased by 127; byte 0 is 2**-127, which float32 holds as a subnormal.
E8M0: Floats = np.array([2.0 ** (byte - 127) for byte in range(255)] + [math.nan], np.float32)


def nibbles(packed: Bytes) -> Bytes:
    """Two codes of each byte of the last dimension, the low four bits first."""
    return np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)


def expanded(scale: Floats, shape: Shape, block: tuple[int, int]) -> Floats:
    """A scale ``[..., R, C]`` for each element of ``shape``: repeated, and cropped at the tail."""
    repeated = scale.repeat(block[0], -2).repeat(block[1], -1)
    return np.broadcast_to(repeated[..., : shape[-2], : shape[-1]], shape)


def rounded(values: Floats, dtype: torch.dtype) -> torch.Tensor:
    """float32 to ``dtype``, to nearest and ties to even. NaN is not handled."""
    values = np.ascontiguousarray(values)
    if dtype == torch.bfloat16:
        bits = values.view(np.uint32).astype(np.uint64)
        kept = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        return torch.from_numpy(kept.astype(np.uint16).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values.astype({torch.float16: np.float16, torch.float32: np.float32}[
        dtype]))  # fmt: skip


def as_floats(tensor: torch.Tensor) -> Floats:
    """A scale as stored, exactly: a float of any width, E4M3, or exponents."""
    tensor = tensor.contiguous()
    values: Floats
    if tensor.dtype == torch.bfloat16:
        bits = tensor.view(torch.int16).numpy().astype(np.uint16).astype(np.uint32)
        values = (bits << 16).view(np.float32)
    elif tensor.dtype in (torch.uint8, torch.float8_e8m0fnu):
        values = E8M0[tensor.view(torch.uint8).numpy()]
    elif tensor.dtype == torch.float8_e4m3fn:
        values = E4M3[tensor.view(torch.uint8).numpy()]
    else:
        values = tensor.numpy().astype(np.float32)
    return values


def same_bits(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """``torch.equal``, and the same sign of zero."""
    if found.dtype != wanted.dtype or found.shape != wanted.shape:
        return False
    as_int = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[found.itemsize]
    return torch.equal(found.contiguous().view(as_int), wanted.contiguous().view(as_int))


@dataclass(frozen=True)
class Made:
    """``tensors``: as they go to disk. ``wanted``: name -> decoded values, before rounding.

    ``kept``: what must come out as it went in.
    """

    tensors: Mapping[str, torch.Tensor]
    wanted: Mapping[str, Floats]
    kept: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __or__(self, other: "Made") -> "Made":
        return Made(
            {**self.tensors, **other.tensors},
            {**self.wanted, **other.wanted},
            {**self.kept, **other.kept},
        )


def plain(**kept: torch.Tensor) -> Made:
    """Tensors that must pass; ``__`` in a name stands for a dot."""
    named = {name.replace("__", "."): tensor for name, tensor in kept.items()}
    return Made(named, {}, named)


def dropped(*names: str) -> Made:
    """Scales of activations, which must not come out."""
    return Made({name: torch.tensor(0.25) for name in names}, {})


def generator(name: str) -> np.random.Generator:
    """Random numbers that depend on ``name`` alone."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def codes8(name: str, shape: Shape) -> Bytes:
    """Random E4M3 codes of both signs and all magnitudes, zeros and subnormals too; no NaN."""
    codes = generator(name).integers(0, 256, shape, np.uint8)
    return np.where(codes & 0x7F == 0x7F, codes - 1, codes).astype(np.uint8)


def packed4(name: str, shape: Shape) -> Bytes:
    """Random bytes: any is two E2M1 codes."""
    return generator(name).integers(0, 256, shape, np.uint8)


def scales(name: str, shape: Shape, dtype: str) -> torch.Tensor:
    """Random scales as stored. Exponents reach far enough down for float16 to go subnormal."""
    random = generator(name)
    if dtype in ("U8", "F8_E8M0"):
        exponents = torch.from_numpy(random.integers(105, 132, shape, np.uint8))
        return exponents.view(TORCH_DTYPES[dtype])
    if dtype == "F8_E4M3":
        return torch.from_numpy(random.integers(1, 0x7F, shape, np.uint8)).view(torch.float8_e4m3fn)
    values = np.asarray(2.0 ** random.uniform(-12, 2, shape)).astype(np.float32)
    return torch.from_numpy(values).to(TORCH_DTYPES[dtype])


def grid_of(shape: Shape, block: tuple[int, int]) -> Shape:
    """One scale per block, the last ones partial."""
    return (*shape[:-2], -(-shape[-2] // block[0]), -(-shape[-1] // block[1]))


def fp8(
    name: str,
    shape: Shape,
    block: tuple[int, int],
    *,
    scale: str,
    dtype: str = "F32",
    stored: Shape | None = None,
    swapped: bool = False,
    shared: bool = False,
) -> Made:
    """fp8 codes and the scale called ``scale``, one per block.

    ``stored``: the scale's shape on disk, if not the grid. ``swapped``: it has its last two
    dimensions swapped there. ``shared``: one for all experts.
    """
    codes = codes8(name, shape)
    grid = grid_of(shape, block)
    values = scales(scale, (1,) * len(grid) if shared else grid, dtype)
    on_disk = values.transpose(-1, -2) if swapped else values
    if stored is not None:
        on_disk = on_disk.reshape(stored)
    tensors = {name: torch.from_numpy(codes).view(torch.float8_e4m3fn), scale: on_disk}
    factor = np.broadcast_to(as_floats(values), grid)
    return Made(tensors, {name: E4M3[codes] * expanded(factor, shape, block)})


def mxfp4(
    codes: str, scale: str, shape: Shape, *, name: str, stored: str = "U8", dtype: str = "U8"
) -> Made:
    """MXFP4 of a decoded ``shape``: one power of two per 32 columns of each row.

    ``codes``, ``scale``: tensors on disk. ``name``: of the decoded weight. ``stored``: dtype of
    the codes. ``dtype``: of the scale; a float one holds powers of two.
    """
    packed = packed4(codes, (*shape[:-1], shape[-1] // 2))
    grid = (*shape[:-1], shape[-1] // 32)
    exponents = scales(scale, grid, "U8")
    if dtype in ("U8", "F8_E8M0"):
        on_disk = exponents.view(TORCH_DTYPES[dtype])
    else:
        on_disk = torch.from_numpy(as_floats(exponents)).to(TORCH_DTYPES[dtype])
    factor = expanded(as_floats(exponents), shape, (1, 32))
    tensors = {codes: torch.from_numpy(packed).view(TORCH_DTYPES[stored]), scale: on_disk}
    return Made(tensors, {name: E2M1[nibbles(packed)] * factor})


def gpt_oss(name: str, E: int, out: int, inputs: int, *, dtype: str = "U8") -> Made:
    """``name_blocks [E, out, in / 32, 16]`` and ``name_scales``; decoded ``[E, in, out]``."""
    made = mxfp4(f"{name}_blocks", f"{name}_scales", (E, out, inputs), name=name, dtype=dtype)
    blocks = made.tensors[f"{name}_blocks"].reshape(E, out, inputs // 32, 16)
    tensors = {**made.tensors, f"{name}_blocks": blocks}
    return Made(tensors, {name: made.wanted[name].swapaxes(1, 2)})


def nvfp4(
    codes: str,
    shape: Shape,
    factor: Floats,
    *,
    scale: str,
    over: str,
    divides: bool = False,
    stored: Shape = (),
    name: str | None = None,
    bmm: bool = False,
) -> Made:
    """NVFP4 of a decoded ``shape``: an E4M3 scale per 16 columns of each row, and a global one.

    ``over``: name of the global scale. ``factor``: its values, to broadcast over ``[..., R, C]``.
    ``divides``: it is a divisor. ``stored``: its shape on disk. ``bmm``: codes, scale and decoded
    weight have their last two dimensions swapped; ``shape`` is before that.
    """
    packed = packed4(codes, (*shape[:-1], shape[-1] // 2))
    local = scales(scale, (*shape[:-1], shape[-1] // 16), "F8_E4M3")
    one = as_floats(local) / factor if divides else as_floats(local) * factor
    assert one.dtype == np.float32
    values = E2M1[nibbles(packed)] * expanded(one, shape, (1, 16))
    on_disk, on_disk_scale = torch.from_numpy(packed), local
    if bmm:
        values = values.swapaxes(-1, -2)
        on_disk, on_disk_scale = on_disk.transpose(-1, -2), local.transpose(-1, -2)
    global_ = torch.from_numpy(np.ascontiguousarray(factor)).reshape(stored)
    return Made({codes: on_disk, scale: on_disk_scale, over: global_}, {name or codes: values})


def int_words(codes: npt.NDArray[np.uint8], bits: int) -> torch.Tensor:
    """Codes packed into 32-bit words along the last dimension, the lowest bits first."""
    per_word = 32 // bits
    padding = -codes.shape[-1] % per_word
    padded = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, padding)])
    grouped = padded.reshape(*codes.shape[:-1], -1, per_word).astype(np.uint64)
    words = (grouped << (np.arange(per_word, dtype=np.uint64) * np.uint64(bits))).sum(-1)
    return torch.from_numpy(words.astype(np.uint32).view(np.int32))


def packed_int(
    module: str,
    shape: Shape,
    *,
    bits: int = 4,
    group: int | None = None,
    symmetric: bool = True,
    dtype: str = "BF16",
    shape_dtype: torch.dtype = torch.int64,
    shape_of: int | None = None,
) -> Made:
    """compressed-tensors pack-quantized of a decoded ``shape``.

    ``group``: columns per scale; None is one scale per row. ``shape_of``: how many of the last
    dimensions ``weight_shape`` gives.
    """
    random = generator(module)
    columns = group or shape[-1]
    codes = random.integers(0, 2**bits, shape, np.uint8)
    grid = grid_of(shape, (1, columns))
    scale = scales(f"{module}.weight_scale", grid, dtype)
    zero = np.full(grid, 2 ** (bits - 1), np.uint8)
    tensors = {
        f"{module}.weight_packed": int_words(codes, bits),
        f"{module}.weight_scale": scale,
        f"{module}.weight_shape": torch.tensor(shape[-(shape_of or len(shape)) :]).to(shape_dtype),
    }
    if not symmetric:
        zero = random.integers(0, 2**bits, grid, np.uint8)
        turned = int_words(np.ascontiguousarray(zero.swapaxes(-1, -2)), bits)
        tensors[f"{module}.weight_zero_point"] = turned.transpose(-1, -2)
    signed = codes.astype(np.float32) - expanded(zero.astype(np.float32), shape, (1, columns))
    wanted = signed * expanded(as_floats(scale), shape, (1, columns))
    return Made(tensors, {f"{module}.weight": wanted})


def _spans(size: int) -> list[tuple[int, int]]:
    """Whole, the last of two ranks, the middle one of three from an odd start on, the last one."""
    odd = size // 3 | 1
    spans = [(0, size), (size // 2, size), (odd, 2 * size // 3 + 1), (size - 1, size)]
    return list(dict.fromkeys((start, stop) for start, stop in spans if start < stop <= size))


def cuts(tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Narrowed, selected and transposed views of a weight, with a description each."""
    last = tensor.shape[0] - 1
    matrices = [("", tensor)]
    if tensor.dim() == 3:
        matrices += [(f"[{last}]", tensor.select(0, last)), ("[:1]", tensor.narrow(0, 0, 1))]
    for at, matrix in matrices:
        for dim, across in ((-2, -1), (-1, -2)):
            for start, stop in _spans(matrix.shape[dim]):
                part = matrix.narrow(dim, start, stop - start)
                yield f"{at} {dim}:{start}-{stop}", part
                # Across too, and turned, so that an odd row meets an odd column.
                skip = min(3, part.shape[across] - 1)
                rest = part.narrow(across, skip, part.shape[across] - skip)
                yield f"{at} {dim}:{start}-{stop}, {across}:{skip}-, turned", rest.transpose(-1, -2)
