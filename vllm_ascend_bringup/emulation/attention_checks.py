# SPDX-License-Identifier: Apache-2.0
"""What operators refuse, mostly by the host checks of ascend-transformer-boost."""

import torch

from vllm_ascend_bringup.emulation import device
from vllm_ascend_bringup.emulation.formats import get_npu_format

# The most that kernels of the 310P take.
REQUESTS, _HEAD_SIZE = 2000, 256


def check_chip() -> None:
    """Raises NotImplementedError on chips that have these operators in another form."""
    if not device.chip().fractal_attention:
        raise NotImplementedError(f"this operator is not emulated on {device.chip().title}")


def check_plain_chip() -> None:
    """Raises RuntimeError on chips that lack these operators, which take no FRACTAL_NZ."""
    if device.chip().fractal_attention:
        raise RuntimeError(f"{device.chip().title} does not have this operator")


def refuse(*arguments: str) -> None:
    """Raises NotImplementedError if there are any."""
    if arguments:
        raise NotImplementedError(f"{', '.join(arguments)}: not emulated")


def check_dtypes(*tensors: torch.Tensor) -> None:
    """Raises ValueError unless they are of one dtype, and one in which this chip serves models."""
    chip = device.chip()
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors}
    if len(dtypes) > 1 or not dtypes <= set(chip.dtypes):
        found, allowed = ", ".join(sorted(dtypes)), " or ".join(chip.dtypes)
        raise ValueError(f"{found}: expected all of them {allowed} on {chip.title}")


def check_tensors(query: torch.Tensor, *others: torch.Tensor) -> None:
    """query, and the last of ``others``, which is the output: ``[tokens, heads, size]``. Raises
    ValueError for that and for dtypes.
    """
    check_dtypes(query, *others)
    chip = device.chip()
    size = query.shape[-1]
    if query.dim() != 3 or (chip.fractal_attention and (size % 16 or size > _HEAD_SIZE)):
        raise ValueError(
            f"query {list(query.shape)}: expected [tokens, heads, size], the size a multiple of 16 "
            f"and at most {_HEAD_SIZE}"
        )
    if others[-1].shape != query.shape:
        raise ValueError(f"out {list(others[-1].shape)}: expected {list(query.shape)}, as query")


def check_format(what: str, tensor: torch.Tensor, expected: int) -> None:
    """Raises ValueError for another format."""
    if get_npu_format(tensor) != expected:
        raise ValueError(f"{what} of format {get_npu_format(tensor)}: expected {expected}")
