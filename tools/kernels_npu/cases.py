# SPDX-License-Identifier: Apache-2.0
"""Which kernels are compiled, with which arguments, for which tiles.

The arguments are those that the launcher passes: it is called with a recorder in the kernel's
place, so that no list of types here can differ from what runs.
"""

import importlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import triton.language as tl

from vllm_ascend_bringup.kernels.catalog import KERNELS
from vllm_ascend_bringup.tools.kernels_npu.results import Tile

_TYPES = {
    torch.uint8: "*u8", torch.int16: "*i16", torch.int32: "*i32", torch.bfloat16: "*bf16",
    torch.float16: "*fp16", torch.float32: "*fp32", int: "i32", float: "fp32",
}  # fmt: skip
_BF16, _FP16, _FP32 = torch.bfloat16, torch.float16, torch.float32


@dataclass(frozen=True)
class Case:
    """``kernel``: its name in the catalog. ``function``: its name in the module. ``sizes``: the
    names of the kernel's arguments that make a tile. ``launch``: calls the launcher.
    """

    kernel: str
    function: str
    sizes: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    launch: Callable[[Callable[..., Any], torch.dtype], object]

    @property
    def module(self) -> ModuleType:
        """The module with the kernel, its launcher and TILES."""
        return importlib.import_module(KERNELS[self.kernel]["triton"].partition(":")[0])

    def tiles(self) -> list[Tile]:
        """Those that the launcher chooses from."""
        return [tile if isinstance(tile, tuple) else (tile,) for tile in self.module.TILES]

    def larger(self) -> list[Tile]:
        """The next larger of each tile, by doubling its last size, unless a larger one is in the
        table.
        """
        tiles = self.tiles()
        largest = max(math.prod(tile) for tile in tiles)
        doubled = [(*tile[:-1], 2 * tile[-1]) for tile in tiles]
        return [tile for tile in doubled if math.prod(tile) > largest]

    def arguments(self, dtype: torch.dtype, tile: Tile) -> tuple[dict[str, str], dict[str, int]]:
        """The kernel's signature and its constants, by argument name."""
        kernel = getattr(self.module, self.function)
        recorder = _Recorder()
        setattr(self.module, self.function, recorder)
        try:
            attribute = KERNELS[self.kernel]["triton"].partition(":")[2]
            self.launch(getattr(self.module, attribute), dtype)
        finally:
            setattr(self.module, self.function, kernel)
        passed = dict(zip(kernel.arg_names, recorder.passed, strict=True))
        parameters = inspect.signature(kernel.fn).parameters.values()
        constants = {p.name: passed.pop(p.name) for p in parameters if p.annotation is tl.constexpr}
        types = {
            name: _TYPES[value.dtype if isinstance(value, torch.Tensor) else type(value)]
            for name, value in passed.items()
        }
        return types, constants | dict(zip(self.sizes, tile, strict=True))


class _Recorder:
    """Stands where a kernel is launched, and keeps what it is given."""

    passed: tuple[Any, ...] = ()

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self._launch

    def _launch(self, *arguments: Any) -> None:
        self.passed = arguments


def _fp8_dequant(launcher: Callable[..., Any], dtype: torch.dtype) -> object:
    codes, scale = torch.zeros(256, 256, dtype=torch.uint8), torch.ones(2, 2)
    out = torch.empty(256, 256, dtype=dtype)
    return launcher(codes, scale, None, out, (128, 128), (0, 0), "e4m3fn")


def _qk_norm(launcher: Callable[..., Any], dtype: torch.dtype) -> object:
    x, weight = torch.zeros(4, 256, dtype=dtype), torch.ones(256, dtype=dtype)
    return launcher(x, torch.ones(4, 1), weight, 1e-6)


def _nz_mask(launcher: Callable[..., Any], dtype: torch.dtype) -> object:
    return launcher(torch.arange(32), 32, (2, 32, 16), dtype, None, float("-inf"))


CASES = (
    Case("fp8_dequant", "fp8_dequant_fwd_kernel", ("TN", "TK"), (_BF16, _FP16), _fp8_dequant),
    Case("nz_mask", "nz_mask_fwd_kernel", ("TT",), (_BF16, _FP16), _nz_mask),
    Case("qk_norm", "qk_norm_fwd_kernel", ("TT", "TN"), (_BF16, _FP16, _FP32), _qk_norm),
)
