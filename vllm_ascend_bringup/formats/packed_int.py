# SPDX-License-Identifier: Apache-2.0
"""compressed-tensors pack-quantized: 4- or 8-bit integers in 32-bit words (Kimi-K2, W4A16, W8A16).

``w = (code - zero) * scale``; codes are offset binary, so without zero points ``zero`` is
2 ** (bits - 1). A word's lowest bits are its first column, which makes its little-endian bytes the
packing of the fp4 formats. Zero points are packed along rows. ``weight_shape`` is the shape before
rows were padded to whole words. Source: compressed-tensors, compressors/pack_quantized.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.formats.base import (
    FLOAT_DTYPES,
    INT4,
    INT8,
    Layout,
    Pairing,
    Scheme,
    Shape,
    Stored,
    Tensors,
    Unfit,
    WeightFormat,
    ceil_div,
)

if TYPE_CHECKING:
    import torch

_WORD_BITS = 32


class PackedInt(WeightFormat):
    """Codes I32 ``[..., N, ceil(K / codes per word)]``, scale ``[..., N, ceil(K / group)]``."""

    id = "packed_int"
    title = "packed int"
    code_dtypes = frozenset({"I32"})
    scale_dtypes = FLOAT_DTYPES
    needs = frozenset({"shape"})
    allows = frozenset({"zero_point"})

    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """One scale per group or row. Columns count whole words until ``resolve``."""
        if scheme.bits not in (4, 8):
            raise Unfit("4 or 8 bits")
        *rows, words = stored.codes.shape
        codes_per_word = _WORD_BITS // scheme.bits
        K = words * codes_per_word
        shape = stored.partners["shape"]
        if shape.dtype not in ("I64", "I32") or shape.shape not in ((2,), (len(rows) + 1,)):
            raise Unfit(f"a weight_shape I64 [{len(rows) + 1}]")
        if ("zero_point" in stored.partners) == scheme.symmetric:
            raise Unfit("no zero points" if scheme.symmetric else "zero points")
        layouts: dict[Shape, Layout] = {}
        # How much of the last word is padding is not known yet; groups seldom end there.
        for columns in range(K, K - codes_per_word, -1):
            groups = ceil_div(columns, scheme.group) if scheme.group else 1
            grid = (*rows, groups)
            if scheme.symmetric or self._zero_fits(stored, grid, codes_per_word):
                layouts.setdefault(
                    grid,
                    Layout((*rows, K), grid, (1, scheme.group or K), INT4 if scheme.bits == 4
                           else INT8),
                )  # fmt: skip
        if not layouts:
            raise Unfit(f"zero points I32 packed along rows, {codes_per_word} in a word")
        return layouts

    def _zero_fits(self, stored: Stored, grid: Shape, codes_per_word: int) -> bool:
        zero = stored.partners["zero_point"]
        packed = (*grid[:-2], ceil_div(grid[-2], codes_per_word), grid[-1])
        return zero.dtype == "I32" and zero.shape == packed

    def resolve(self, pairing: Pairing, partners: Tensors) -> Pairing:
        """Take the number of columns from the values of ``weight_shape``."""
        stored, scheme, layout = pairing.stored, pairing.scheme, pairing.layout
        said = tuple(int(n) for n in partners["shape"].tolist())
        codes_per_word = _WORD_BITS // scheme.bits
        # Not layout.shape: it has been resolved already if a conversion was planned.
        padded = (*layout.shape[:-1], stored.codes.shape[-1] * codes_per_word)
        columns = said[-1]
        groups = ceil_div(columns, scheme.group) if scheme.group else 1
        if (
            said[:-1] != padded[:-1][-len(said) + 1 :]
            or columns < 1
            or ceil_div(columns, codes_per_word) * codes_per_word != padded[-1]
            or groups != layout.grid[-1]
        ):
            info = stored.partners["shape"]
            raise FormatError(
                f"{info.name} in {info.shard} says {list(said)}",
                f"what fits codes {list(stored.codes.shape)} of {codes_per_word} in a word and "
                f"scale {list(stored.scale.shape)}",
                "ask for a new export of the checkpoint",
            )
        return pairing.with_shape((*padded[:-1], columns))

    def zero(self, pairing: Pairing, partners: Tensors) -> "torch.Tensor | None":
        """Zero points unpacked along rows, uint8 ``[..., N, groups]``."""
        import torch

        if "zero_point" not in partners:
            return None
        bits, grid = pairing.scheme.bits, pairing.layout.grid
        # A clone: torch calls a [1, G] tensor contiguous whichever way it is turned.
        words = (
            partners["zero_point"].transpose(-1, -2).clone(memory_format=torch.contiguous_format)
        )
        codes = words.view(torch.uint8)  # [..., groups, 4 bytes of each word]
        if bits == 4:
            codes = torch.stack((codes & 15, codes >> 4), -1).flatten(-2)
        return codes[..., : grid[-2]].transpose(-1, -2).contiguous()
