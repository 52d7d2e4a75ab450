# SPDX-License-Identifier: Apache-2.0
"""Writing keys and values into a paged cache."""

import torch

from vllm_ascend_bringup.emulation.formats import FRACTAL_NZ, get_npu_format
from vllm_ascend_bringup.kernels import reshape_and_cache as kernel


def is_fractal(key_cache: torch.Tensor, value_cache: torch.Tensor) -> bool:
    """Whether both caches are in FRACTAL_NZ. Raises ValueError if only one is."""
    formats = get_npu_format(key_cache), get_npu_format(value_cache)
    if formats[0] != formats[1]:
        raise ValueError(f"caches of formats {formats}: expected the same")
    return formats[0] == FRACTAL_NZ


def reshape_and_cache(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_indices: torch.Tensor,
) -> None:
    """See the kernel; in FRACTAL_NZ if the caches are. A negative slot is left out."""
    kernel.reshape_and_cache(
        key, value, key_cache, value_cache, slot_indices, nz=is_fractal(key_cache, value_cache)
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
