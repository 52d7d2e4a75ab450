# SPDX-License-Identifier: Apache-2.0
"""Triton's interpreter for our kernels: in this process, and while a test asks for it.

Whether a kernel is interpreted is decided when its module is imported, so the modules are imported
here, before any test. Whether a call may use it is decided when it is made: kernels that others
call in this process get the reference.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vllm_ascend_bringup.kernels.catalog import KERNELS


@contextmanager
def interpreting() -> Iterator[None]:
    """Turn the interpreter on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        yield


with interpreting():
    for _implementations in KERNELS.values():
        if "triton" in _implementations:
            importlib.import_module(_implementations["triton"].partition(":")[0])
