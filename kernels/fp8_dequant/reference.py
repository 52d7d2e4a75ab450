# SPDX-License-Identifier: Apache-2.0
"""The definition of fp8_dequant, in torch."""

import torch

# Torch's names for the encodings; its casts to float32 are exact.
TORCH_DTYPES = {
    "e4m3fn": torch.float8_e4m3fn,
    "e4m3fnuz": torch.float8_e4m3fnuz,
    "e5m2": torch.float8_e5m2,
}


def verify(out_dtype: torch.dtype) -> tuple[bool, str]:
    """Runs everywhere."""
    return True, ""


def fp8_dequant(
    codes: torch.Tensor,
    scale: torch.Tensor,
    scale_table: torch.Tensor | None,
    out: torch.Tensor,
    block: tuple[int, int],
    offset: tuple[int, int],
    code_format: str,
) -> bool:
    """See the package: codes, out ``[N, K]``, scale ``[R, C]``."""
    if scale_table is not None:
        scale = scale_table[scale.to(torch.int64)]
    N, K = codes.shape
    rows = (torch.arange(N) + offset[0]) // block[0]
    columns = (torch.arange(K) + offset[1]) // block[1]
    values = codes.view(TORCH_DTYPES[code_format]).to(torch.float32)
    out.copy_(values * scale[rows][:, columns])
    return bool(values.isnan().any())
