# SPDX-License-Identifier: Apache-2.0
"""The definition of fp8_dequant, in torch. It runs on whatever device its arguments are on."""

from functools import cache

import torch

# Torch's names for the encodings; its casts to float32 are exact.
_TORCH_DTYPES = {
    "e4m3fn": torch.float8_e4m3fn,
    "e4m3fnuz": torch.float8_e4m3fnuz,
    "e5m2": torch.float8_e5m2,
}


def verify(out_dtype: torch.dtype, device: str, code_format: str) -> tuple[bool, str]:
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
    rows = (torch.arange(N, device=codes.device) + offset[0]) // block[0]
    columns = (torch.arange(K, device=codes.device) + offset[1]) // block[1]
    values = every_value(code_format).to(codes.device)[codes.to(torch.int64)]
    out.copy_(values * scale[rows][:, columns])
    return bool(values.isnan().any())


@cache
def every_value(code_format: str) -> torch.Tensor:
    """The 256 decoded values, float32, made on the host: not every device casts fp8."""
    every_code = torch.arange(256, dtype=torch.int32, device="cpu").to(torch.uint8)
    return every_code.view(_TORCH_DTYPES[code_format]).to(torch.float32)
