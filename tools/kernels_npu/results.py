# SPDX-License-Identifier: Apache-2.0
"""What became of one kernel, compiled for one tile, one dtype and one target."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from vllm_ascend_bringup import kernels

_KERNELS = Path(next(iter(kernels.__path__)))

Tile = tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """``used``, ``available``: bytes of the vector core's memory (UB). ``concessions``: what the
    compiler gave up to make it fit, such as a second buffer. ``error``: why nothing came out; empty
    if the kernel reached optimized HIVM. ``overflow``: bytes it would take, if that was why.
    """

    used: int = 0
    available: int = 0
    concessions: tuple[str, ...] = ()
    error: str = ""
    overflow: int = 0

    @property
    def fits(self) -> bool:
        """Whether a launcher may choose this tile."""
        return not self.error and not self.concessions


@dataclass(frozen=True)
class Result:
    """``selectable``: whether the launcher may choose the tile, or it is the next larger one."""

    kernel: str
    tile: Tile
    dtype: str
    target: str
    selectable: bool
    outcome: Outcome


def problems(results: "list[Result]") -> list[str]:
    """What is wrong with the launchers' tables, a sentence each.

    A tile in a table has to fit, whatever the dtype; the next larger must not fit for all of them.
    """
    found = [
        f"{r.kernel} {shown(r.tile)} for {r.target}, {r.dtype}: {reason(r.outcome)}"
        for r in results
        if r.selectable and not r.outcome.fits
    ]
    larger = {(r.kernel, r.tile, r.target) for r in results if not r.selectable}
    for key in sorted(larger):
        if all(r.outcome.fits for r in results if (r.kernel, r.tile, r.target) == key):
            found.append(f"{key[0]} {shown(key[1])} for {key[2]}: fits, but is not in the table")
    return found


def shown(tile: Tile) -> str:
    """A tile as text: ``64 x 128``."""
    return " x ".join(str(size) for size in tile)


def reason(outcome: Outcome) -> str:
    """Why a tile does not fit, in words."""
    if outcome.overflow:
        return f"overflows: {outcome.overflow:,} of {outcome.available:,} bytes"
    return outcome.error or "only with " + " and ".join(outcome.concessions)


def fingerprint(kernel: str) -> str:
    """Of the source that was compiled: a document about another one is out of date."""
    files = (_KERNELS / kernel / "triton_kernel.py", _KERNELS / "triton_intrinsics.py")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
