# SPDX-License-Identifier: Apache-2.0
"""Quantizers to the 4-bit formats, for engine tests: stored tensors and the dense twin.

numpy, from the formulas, and without a line of the package they are to check.
"""

import numpy as np
import numpy.typing as npt
import torch

Stored = dict[str, torch.Tensor]
Floats = npt.NDArray[np.float32]
_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)


def _nearest_e2m1(values: Floats) -> npt.NDArray[np.uint8]:
    distance = np.abs(np.abs(values)[..., None] - _E2M1)
    codes: npt.NDArray[np.uint8] = (distance.argmin(-1) | (np.signbit(values) << 3)).astype(
        np.uint8
    )
    return codes


def _groups(weight: torch.Tensor, size: int) -> Floats:
    """``[..., N, K / size, size]``."""
    values: Floats = weight.float().numpy()
    return values.reshape(*values.shape[:-1], -1, size)


def _pack(codes: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Groups of nibbles ``[..., N, G, size]`` as bytes ``[..., N, K / 2]``, low half first."""
    flat = codes.reshape(*codes.shape[:-2], -1)
    return torch.from_numpy(flat[..., 0::2] | (flat[..., 1::2] << 4))


def _dense(codes: npt.NDArray[np.uint8], scale: Floats) -> torch.Tensor:
    sign = np.where(codes & 8, np.float32(-1), np.float32(1))
    values = sign * _E2M1[codes & 7] * scale[..., None]
    return torch.from_numpy(values.reshape(*values.shape[:-2], -1)).to(torch.bfloat16)


def mxfp4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bytes ``[..., N, K / 2]``, exponents uint8 ``[..., N, K / 32]``, dense ``[..., N, K]``."""
    groups = _groups(weight, 32)
    exponent = np.ceil(np.log2(np.abs(groups).max(-1) / 6)).astype(np.int32)
    scale = np.exp2(exponent).astype(np.float32)
    codes = _nearest_e2m1(groups / scale[..., None])
    stored = torch.from_numpy((exponent + 127).astype(np.uint8))
    return _pack(codes), stored, _dense(codes, scale)


def ling_mxfp4(name: str, weight: torch.Tensor) -> tuple[Stored, torch.Tensor]:
    """An expert of a hybrid: fp4 under the names of block fp8."""
    packed, scale, dense = mxfp4(weight)
    return {name: packed, f"{name}_scale_inv": scale}, dense


def modelopt_nvfp4(name: str, weight: torch.Tensor) -> tuple[Stored, torch.Tensor]:
    """U8 codes, E4M3 scales, and a global factor."""
    groups = _groups(weight, 16)
    largest = np.abs(groups).max(-1)
    factor = np.float32(largest.max() / 2688)
    stored = torch.from_numpy(largest / 6 / factor).to(torch.float8_e4m3fn)
    scale: Floats = stored.float().numpy() * factor
    codes = _nearest_e2m1(groups / scale[..., None])
    return {
        name: _pack(codes), f"{name}_scale": stored, f"{name}_scale_2": torch.tensor(factor),
        f"{name.removesuffix('.weight')}.input_scale": torch.tensor(1.0),
    }, _dense(codes, scale)  # fmt: skip


def packed_int4(name: str, weight: torch.Tensor) -> tuple[Stored, torch.Tensor]:
    """compressed-tensors' words of eight codes, group 32."""
    groups = _groups(weight, 32)
    stored = torch.from_numpy(np.abs(groups).max(-1) / 7).to(torch.bfloat16)
    scale: Floats = stored.float().numpy()
    codes = np.clip(np.rint(groups / scale[..., None]), -8, 7).astype(np.int8)
    dense = torch.from_numpy((codes * scale[..., None]).reshape(weight.shape)).to(torch.bfloat16)
    packed = _pack((codes + 8).astype(np.uint8)).view(torch.int32)
    return {
        f"{name}_packed": packed, f"{name}_scale": stored,
        f"{name}_shape": torch.tensor(weight.shape),
    }, dense  # fmt: skip


def gpt_oss(name: str, weight: torch.Tensor) -> tuple[Stored, torch.Tensor]:
    """Experts ``[E, in, out]`` as blocks ``[E, out, in / 32, 16]``."""
    packed, scale, dense = mxfp4(weight.transpose(1, 2))
    blocks = packed.reshape(*packed.shape[:-1], -1, 16)
    return {f"{name}_blocks": blocks, f"{name}_scales": scale}, dense.transpose(1, 2).contiguous()
