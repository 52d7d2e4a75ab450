# SPDX-License-Identifier: Apache-2.0
"""What torch does with an NPU and cannot do without one, made to do the same with the CPU."""

from typing import Any

import torch
from torch.utils.backend_registration import rename_privateuse1_backend

_PIN_MEMORY = torch.Tensor.pin_memory
_IMPL = torch.library.Library.impl


def _pin_memory(tensor: torch.Tensor, device: Any = None) -> torch.Tensor:
    """A copy, as on an NPU, although all memory is as near as any other."""
    return tensor.clone()


def _impl(
    library: torch.library.Library, name: Any, function: Any, dispatch_key: str = "", **options: Any
) -> None:
    """What vLLM has for tensors of an NPU is for those that stand for them. Torch's own operators
    have something for the CPU besides.
    """
    for_npu = library.ns == "vllm" and dispatch_key == "PrivateUse1"
    key = "CPU" if for_npu else dispatch_key
    _IMPL(library, name, function, key, **options)


def apply(npu: Any) -> None:
    """Change torch, which then has the module ``torch.npu``. Repeating it changes nothing."""
    rename_privateuse1_backend("npu")  # a name for torch.device, and no more
    torch.npu = npu  # type: ignore[attr-defined]
    torch.Tensor.pin_memory = _pin_memory  # type: ignore[method-assign, assignment]
    torch.library.Library.impl = _impl  # type: ignore[method-assign, assignment]


def revert() -> None:
    """Change it back, but for the name, which torch keeps."""
    if hasattr(torch, "npu"):
        del torch.npu
    torch.Tensor.pin_memory = _PIN_MEMORY  # type: ignore[method-assign]
    torch.library.Library.impl = _IMPL  # type: ignore[method-assign]
