# SPDX-License-Identifier: Apache-2.0
"""A torch_npu for the CPU, on which the Python code of vLLM-Ascend runs without an NPU.

    from vllm_ascend_bringup import emulation
    emulation.install(version="2.10.0.post4", chip="310p")

Not a mock: a call computes, by ``kernels/``, and has a result that can be wrong. Operators are
registered with torch's dispatcher under the names and schemas of that version of torch_npu, so
torch refuses wrong arguments as on an NPU. One that torch_npu has and this has not raises
NotImplementedError when it is called. Tensors stay on the CPU.

What it cannot show: speed, memory, roundings on the way, capture of graphs, several devices, and
whatever an NPU does that the host checks and kernels of ATB do not say. Of the operators that
torch_npu has, it knows what vLLM-Ascend calls and a few more; ``hasattr`` is false for the rest.

Importing this package does not load torch.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# What vLLM-Ascend 0.26.0rc1 requires.
VERSION = "2.10.0.post4"


def install(version: str = VERSION, chip: str = "310p") -> ModuleType:
    """Make ``import torch_npu`` and ``torch.npu`` the emulation of this version on this chip.

    May be called again, for another version or chip: modules that have imported torch_npu then see
    the new one; an operator that was kept from the old one must not be called. Returns the module.
    Raises ValueError for a version or chip that is not known, and RuntimeError where there is a
    real torch_npu.
    """
    from vllm_ascend_bringup.emulation.installation import install

    return install(version, chip)


def remove() -> None:
    """Take the emulation away again, if it is there."""
    from vllm_ascend_bringup.emulation.installation import remove

    remove()


def install_on_import() -> None:
    """Install when torch_npu is first imported, on the chip that vLLM-Ascend was built for.

    For a ``.pth`` file: processes that vLLM starts have it too.
    """
    sys.meta_path.append(_Finder())


class _Finder(MetaPathFinder):
    """Asked last, so a real torch_npu comes first."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, _Loader(), origin=__name__) if name == "torch_npu" else None


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        from vllm_ascend import _build_info

        from vllm_ascend_bringup.hardware import chip_of

        chip = chip_of(_build_info.__device_type__)
        if chip is None:
            raise ImportError(f"{_build_info.__file__}: its __device_type__ is no chip we know")
        return install(chip=chip.id)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing left to do."""
