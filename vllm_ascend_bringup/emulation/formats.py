# SPDX-License-Identifier: Apache-2.0
"""Formats of tensors: what torch_npu keeps beside a tensor's storage, and views share.

Only the tag is emulated. On an NPU a matrix in FRACTAL_NZ lies in fractals, but torch goes on
showing its rows and columns, so there is nothing a program could read that differs here. A tensor
of four dimensions whose last is 16 is in that order already, as masks and caches of the 310P are.
"""

import torch

ND, FRACTAL_NZ = 2, 29
_FORMATS = {ND: "ND", FRACTAL_NZ: "FRACTAL_NZ"}


def get_npu_format(input: torch.Tensor) -> int:
    """The format's id; ND for what was never cast."""
    found: int = getattr(input.untyped_storage(), "npu_format", ND)
    return found


def format_cast(
    input: torch.Tensor,
    acl_format: int,
    customize_dtype: int | None = None,
    input_dtype: int | None = None,
) -> torch.Tensor:
    """The same values in the other format. Raises ValueError or NotImplementedError for a format
    that does not fit or is not emulated.
    """
    if customize_dtype is not None or input_dtype is not None:
        raise NotImplementedError("npu_format_cast: dtypes of its own are not emulated")
    if get_npu_format(input) == acl_format:
        return input
    return _tagged(input.clone(memory_format=torch.contiguous_format), acl_format)


def empty_with_format(
    size: list[int],
    *,
    dtype: torch.dtype | None = None,
    layout: torch.layout | None = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
    acl_format: int = ND,
    base_addr_aligned_kb: int | None = None,
) -> torch.Tensor:
    """Uninitialized memory on the CPU, whichever device is asked for."""
    return _tagged(torch.empty(size, dtype=dtype), acl_format)


def _tagged(tensor: torch.Tensor, acl_format: int) -> torch.Tensor:
    if acl_format not in _FORMATS:
        names = ", ".join(f"{number} ({name})" for number, name in _FORMATS.items())
        raise NotImplementedError(f"format {acl_format}: emulated are {names}")
    if acl_format == FRACTAL_NZ and tensor.dim() < 2:
        raise ValueError(f"{list(tensor.shape)} in FRACTAL_NZ: expected at least two dimensions")
    tensor.untyped_storage().npu_format = acl_format  # type: ignore[attr-defined]
    return tensor
