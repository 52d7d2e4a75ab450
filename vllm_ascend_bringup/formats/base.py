# SPDX-License-Identifier: Apache-2.0
"""What a format is: the layout of the scales that belong to a low-precision weight.

Every format of this package reduces to ``weight[i, j] = decode(code[i, j]) * scale[i // bn,
j // bk]`` with one block shape (bn, bk); a format knows which scale shapes it accepts and what
the block is.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vllm_ascend_bringup.checkpoint import TensorInfo
from vllm_ascend_bringup.errors import FormatError

if TYPE_CHECKING:
    import torch

# Weight dtypes by their safetensors name -> what kernels/fp8_dequant calls the code format.
CODE_FORMATS = {"F8_E4M3": "e4m3fn", "F8_E4M3FNUZ": "e4m3fnuz", "F8_E5M2": "e5m2"}
# U8 and F8_E8M0 scales hold the exponent byte b of 2**(b - 127) (OCP MX specification, E8M0).
E8M0_DTYPES = frozenset({"U8", "F8_E8M0"})
SCALE_DTYPES = frozenset({"F32", "BF16", "F16"}) | E8M0_DTYPES

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Scheme:
    """How the config says a group of weights is quantized.

    ``formats``: ids of the formats to try in this order (a config without block size may mean one
    scale per tensor or one per output row). ``block``: rows and columns per scale, from the
    config, for the block format only.
    """

    formats: tuple[str, ...]
    block: tuple[int, int] | None = None


class WeightFormat(Protocol):
    """Layout of the scales of one weight. Shapes: weight ``[N, K]`` or ``[E, N, K]``."""

    id: str
    title: str

    def scale_shapes(self, weight: Shape, scheme: Scheme) -> tuple[Shape, ...]:
        """The scale shapes this format accepts for a weight of this shape."""

    def block(self, weight: Shape, scheme: Scheme) -> tuple[int, int]:
        """Rows and columns that share one scale."""

    def grid(self, scale: "torch.Tensor", weight: Shape, scheme: Scheme) -> "torch.Tensor":
        """The scale viewed as ``[..., rows of blocks, columns of blocks]``."""


@dataclass(frozen=True)
class Pairing:
    """One weight of the checkpoint with the scale and format that decode it."""

    weight: TensorInfo
    scale: TensorInfo
    format: WeightFormat
    scheme: Scheme

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns that share one scale."""
        return self.format.block(self.weight.shape, self.scheme)

    @property
    def code_format(self) -> str:
        """Name of the fp8 encoding, as in kernels/fp8_dequant."""
        return CODE_FORMATS[self.weight.dtype]


def scale_grid(pairing: Pairing, scale: "torch.Tensor") -> "torch.Tensor":
    """Turn a scale as stored into a float32 grid ``[..., rows of blocks, columns of blocks]``.

    Raises FormatError if a value is NaN, infinite or negative; which values are legal zeros is
    decided with the codes (see weights.py).
    """
    import torch

    if pairing.scale.dtype in E8M0_DTYPES:
        exponent = scale.view(torch.uint8).to(torch.int32)
        bad = exponent == 255  # E8M0 has one NaN, byte 255, and neither sign nor infinity
        # Built from bits: 2**-127 (byte 0) is a float32 subnormal, which ldexp may flush.
        bits = torch.where(exponent == 0, 1 << 22, exponent << 23)
        values = bits.to(torch.int32).view(torch.float32)
    else:
        values = scale.to(torch.float32)
        bad = ~torch.isfinite(values) | torch.signbit(values)
    if bool(bad.any()):
        at = tuple(int(i) for i in bad.nonzero()[0])
        raise FormatError(
            f"scale {pairing.scale.name} in {pairing.scale.shard} is "
            f"{float(values[at]) if pairing.scale.dtype not in E8M0_DTYPES else 'NaN'} "
            f"at {list(at)} ({int(bad.sum())} bad values)",
            "finite scales that are not negative",
            "download this shard again, or ask for a new export of the checkpoint",
        )
    return pairing.format.grid(values, pairing.weight.shape, pairing.scheme).contiguous()
