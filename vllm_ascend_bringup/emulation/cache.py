# SPDX-License-Identifier: Apache-2.0
"""Writing keys and values into a paged cache."""

import torch

from vllm_ascend_bringup.emulation import device
from vllm_ascend_bringup.emulation.formats import FRACTAL_NZ, ND, get_npu_format
from vllm_ascend_bringup.kernels import reshape_and_cache as kernel


def fractal(key_cache: torch.Tensor, value_cache: torch.Tensor) -> bool:
    """Whether this chip has its caches in FRACTAL_NZ. Raises ValueError if these are otherwise."""
    nz = device.chip().fractal_attention
    found = [get_npu_format(cache) for cache in (key_cache, value_cache)]
    expected = [FRACTAL_NZ if nz else ND] * 2
    if found != expected:
        raise ValueError(f"caches of formats {found}: expected {expected} on {device.chip().title}")
    return nz


def reshape_and_cache(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_indices: torch.Tensor,
) -> None:
    """See the kernel. A negative slot is left out."""
    kernel.reshape_and_cache(
        key, value, key_cache, value_cache, slot_indices, nz=fractal(key_cache, value_cache)
    )


def scatter_pa_kv_cache(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
    *,
    compress_lens: torch.Tensor | None = None,
    compress_seq_offsets: torch.Tensor | None = None,
    seq_lens: torch.Tensor | None = None,
    cache_mode: str | None = "PA_NZ",
) -> None:
    """See the kernel. cache_mode: "Norm" for ``[blocks, block_size, heads, size]``, "PA_NZ" for
    the layout of the 310P. slot_mapping: int32 or int64.

    Raises ValueError for a negative slot, of which its documentation does not say what it does.
    """
    if not (compress_lens is compress_seq_offsets is seq_lens is None):
        raise NotImplementedError("npu_scatter_pa_kv_cache: compression is not emulated")
    if cache_mode not in ("Norm", "PA_NZ"):
        raise ValueError(f"cache_mode {cache_mode!r}: expected Norm or PA_NZ")
    if slot_mapping.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"slot_mapping {slot_mapping.dtype}: expected int32 or int64")
    if slot_mapping.numel() and int(slot_mapping.min()) < 0:
        raise ValueError(f"slot {int(slot_mapping.min())}: expected none below 0")
    kernel.reshape_and_cache(
        key, value, key_cache, value_cache, slot_mapping.int(), nz=cache_mode == "PA_NZ"
    )
