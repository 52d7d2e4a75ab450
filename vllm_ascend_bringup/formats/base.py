# SPDX-License-Identifier: Apache-2.0
"""What a format is: how codes, scales and other partners on disk make up one weight.

Every format of this package reduces to ``weight[i, j] = decode(code[i, j]) * scale[i // bn,
j // bk]`` (integer codes: ``(code - zero) * scale``) with one block shape (bn, bk). A format knows
which partners it needs, which shapes they may have, and how to bring them into that form.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from vllm_ascend_bringup.checkpoint import TensorInfo
from vllm_ascend_bringup.errors import FormatError

if TYPE_CHECKING:
    import torch

# fp8 dtypes by their safetensors name -> what kernels/fp8_dequant calls the code format.
FP8_CODES = {"F8_E4M3": "e4m3fn", "F8_E4M3FNUZ": "e4m3fnuz", "F8_E5M2": "e5m2"}
# Two codes in a byte; the first column is in the low four bits. DeepSeek-V4 writes I8.
PACKED_DTYPES = frozenset({"U8", "I8"})
# U8 and F8_E8M0 scales hold the exponent byte b of 2**(b - 127) (OCP MX specification, E8M0).
E8M0_DTYPES = frozenset({"U8", "F8_E8M0"})
FLOAT_DTYPES = frozenset({"F32", "BF16", "F16"})
SCALE_DTYPES = FLOAT_DTYPES | E8M0_DTYPES
E2M1, INT4, INT8 = "e2m1", "int4", "int8"

# The bytes of the largest values. Above is E8M0's NaN; e4m3's, and its negative values.
_E8M0_LARGEST = 0xFE
_E4M3_LARGEST = 0x7E
# Float32 bits of E8M0's byte 0, 2**-127: a subnormal, which arithmetic may flush to zero.
_E8M0_ZERO = 1 << 22
_FLOAT32_NAN = 0x7FC00000

Shape = tuple[int, ...]
Tensors = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True)
class QkvChunks:
    """A fused qkv_proj stored as ``count`` chunks ``[Q_0 | K_0 | V_0 | Q_1 | ...]``.

    ``rows``: the possible (Q, K, V) rows of one chunk; layers of a model may differ.
    """

    count: int
    rows: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Scheme:
    """How the config says a group of weights is quantized.

    ``formats``: ids of the formats to try in this order (a config without block size may mean one
    scale per tensor or one per output row). ``block``: rows and columns per scale, for block
    formats. ``group``: columns per scale; None is one scale per row. ``bits``, ``symmetric``: of
    packed integers. ``chunks``: of a fused qkv_proj.
    """

    formats: tuple[str, ...]
    block: tuple[int, int] | None = None
    group: int | None = None
    bits: int = 4
    symmetric: bool = True
    chunks: QkvChunks | None = None


@dataclass(frozen=True)
class Stored:
    """One low-precision weight as headers describe it.

    ``name``: what the decoded weight is called. ``codes``: the tensor of codes. ``partners``: role
    ("scale", "global_scale", "zero_point", "shape") -> tensor. ``bmm``: named in the manner of
    ModelOpt's fused experts, whose weights are ``[E, in, out]``.
    """

    name: str
    codes: TensorInfo
    partners: Mapping[str, TensorInfo]
    bmm: bool = False

    @property
    def scale(self) -> TensorInfo:
        """The scale; every format has one."""
        return self.partners["scale"]

    @property
    def module(self) -> str:
        """Name of the module it belongs to, as configs spell it."""
        return self.name.removesuffix(".weight")


@dataclass(frozen=True)
class Layout:
    """One weight in the common form.

    shape: ``[..., N, K]`` decoded. grid: ``[..., R, C]``, the scale's shape. block: (bn, bk).
    code_format: as the kernels call it. turned: the decoded weight is handed on with its last two
    dimensions swapped. codes_turned: codes and scales are stored with them swapped.
    """

    shape: Shape
    grid: Shape
    block: tuple[int, int]
    code_format: str
    turned: bool = False
    codes_turned: bool = False

    @property
    def shown(self) -> Shape:
        """The shape under which the decoded weight is handed on."""
        return (*self.shape[:-2], *self.shape[:-3:-1]) if self.turned else self.shape


class Unfit(Exception):
    """Raised by ``WeightFormat.layouts``; its text says what the format would have wanted."""


class WeightFormat(ABC):
    """Base of all formats: fp8 codes and one scale that is multiplied.

    A subclass sets ``id`` and ``title``, says in ``layouts`` which scale shapes it accepts, and
    overrides what else differs.
    """

    id: str
    title: str
    code_dtypes = frozenset(FP8_CODES)
    scale_dtypes = SCALE_DTYPES
    needs: frozenset[str] = frozenset()  # roles beside "scale"
    allows: frozenset[str] = frozenset()  # roles it can do without

    @abstractmethod
    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """Each accepted shape of the scale as stored -> the layout it means.

        Raises Unfit if something other than the scale's shape is wrong.
        """

    def outputs(self, pairing: "Pairing") -> tuple[tuple[str, Shape], ...]:
        """Name and shape of each weight that decoding hands on, from headers alone."""
        return ((pairing.stored.name, pairing.layout.shown),)

    def resolve(self, pairing: "Pairing", partners: Tensors) -> "Pairing":
        """The pairing with what only a partner's values say; most formats need none."""
        return pairing

    def codes(self, pairing: "Pairing", codes: "torch.Tensor") -> "torch.Tensor":
        """The codes as uint8 ``[..., N, bytes of a row]``."""
        import torch

        if pairing.layout.codes_turned:
            codes = codes.transpose(-1, -2)
        return codes.view(torch.uint8)

    def grid(self, pairing: "Pairing", partners: Tensors) -> "torch.Tensor":
        """The scale ``[..., R, C]``: float32, or uint8 where there is a ``scale_table``."""
        scale = pairing.stored.scale
        values = scale_bytes if scale.dtype in E8M0_DTYPES else scale_values
        return shaped(values(scale, partners["scale"]), pairing.layout.grid)

    def scale_table(self, pairing: "Pairing", partners: Tensors) -> "torch.Tensor | None":
        """What each byte of the grid means, float32 ``[..., 256]``, if it is as stored: E8M0.

        It rises as far as the bytes of legal scales go.
        """
        dtype = pairing.stored.scale.dtype
        if dtype not in E8M0_DTYPES:
            return None
        return byte_values(dtype).expand(*pairing.layout.grid[:-2], 256)

    def zero(self, pairing: "Pairing", partners: Tensors) -> "torch.Tensor | None":
        """The zero points as uint8 ``[..., R, C]``, where there are any."""
        return None

    def parts(self, pairing: "Pairing") -> Mapping[str, tuple[int, int]] | None:
        """For a tensor ``[E, N, K]`` that is several weights: name -> rows of each matrix."""
        return None


@dataclass(frozen=True)
class Pairing:
    """One weight of the checkpoint with its partners, and the format that decodes it."""

    stored: Stored
    format: WeightFormat
    scheme: Scheme
    layout: Layout

    @property
    def outputs(self) -> tuple[tuple[str, Shape], ...]:
        """Name and shape of each decoded weight."""
        return self.format.outputs(self)

    def with_shape(self, shape: Shape) -> "Pairing":
        """The same with another decoded shape."""
        return replace(self, layout=replace(self.layout, shape=shape))


def ceil_div(value: int, divisor: int) -> int:
    """``value / divisor``, rounded up."""
    return -(-value // divisor)


def fp8_code_format(stored: Stored) -> str:
    """Name of the fp8 encoding, as in kernels/fp8_dequant."""
    return FP8_CODES[stored.codes.dtype]


def shaped(values: "torch.Tensor", grid: Shape) -> "torch.Tensor":
    """Scales as a contiguous ``grid``; a single one is repeated for each expert."""
    whole = values.reshape(1).expand(grid) if values.numel() == 1 else values.reshape(grid)
    return whole.contiguous()


def scale_values(info: TensorInfo, stored: "torch.Tensor") -> "torch.Tensor":
    """Turn a float scale as stored into float32 of the same shape.

    Raises FormatError if a value is NaN, infinite or negative; which values are legal zeros is
    decided with the codes (see weights.py).
    """
    import torch

    values = stored.to(torch.float32)
    if values.numel():
        smallest, largest = torch.aminmax(values)  # NaN if there is one
        if not (float(smallest) > 0 and float(largest) < float("inf")):
            bad = ~torch.isfinite(values) | torch.signbit(values)
            if bool(bad.any()):
                _refuse_scale(info, bad, f"{float(values[bad][0]):g}")
    return values


def scale_bytes(info: TensorInfo, stored: "torch.Tensor") -> "torch.Tensor":
    """An E8M0 or e4m3 scale as uint8. Raises FormatError if a value is NaN or negative."""
    import torch

    codes = stored.view(torch.uint8)
    largest = _E8M0_LARGEST if info.dtype in E8M0_DTYPES else _E4M3_LARGEST
    if codes.numel() and int(codes.max()) > largest:
        bad = codes > largest
        value = float(byte_values(info.dtype)[int(codes[bad][0])])
        _refuse_scale(info, bad, "NaN" if math.isnan(value) else f"{value:g}")
    return codes


@cache
def byte_values(dtype: str) -> "torch.Tensor":
    """What the 256 bytes of an E8M0 or e4m3 scale mean, float32."""
    import torch

    # Named in full: vLLM loads under a default dtype and device of its own.
    codes = torch.arange(256, dtype=torch.uint8, device=torch.device("cpu"))
    if dtype not in E8M0_DTYPES:
        return codes.view(torch.float8_e4m3fn).to(torch.float32)
    bits = codes.to(torch.int32) << 23
    bits[0], bits[255] = _E8M0_ZERO, _FLOAT32_NAN
    return bits.view(torch.float32)


def times_global(
    values: "torch.Tensor", scale: "torch.Tensor", lead: Shape, *, divide: bool
) -> "torch.Tensor":
    """``values`` ``[256]`` times or divided by a float32 global scale: ``[*lead, 256]``.

    ``scale``: one value, or one per index of ``lead``.
    """
    import torch

    per_matrix = scale.reshape(-1, 1)
    result = torch.div(values, per_matrix) if divide else torch.mul(values, per_matrix)
    return result.expand(math.prod(lead), 256).reshape(*lead, 256)


def global_scale(info: TensorInfo, stored: "torch.Tensor") -> "torch.Tensor":
    """A global scale as float32; zero is refused besides what ``scale_values`` refuses."""
    values = scale_values(info, stored)
    if bool((values == 0).any()):
        _refuse_scale(info, values == 0, "zero")
    return values


def _refuse_scale(info: TensorInfo, bad: "torch.Tensor", found: str) -> None:
    at = [int(i) for i in bad.nonzero()[0]]
    raise FormatError(
        f"scale {info.name} in {info.shard} is {found} at {at} ({int(bad.sum())} bad values)",
        "finite scales that are not negative, and global scales that are not zero",
        "download this shard again, or ask for a new export of the checkpoint",
    )
