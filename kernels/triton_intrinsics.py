# SPDX-License-Identifier: Apache-2.0
"""What the Triton kernels share.

They run on A2 and A3 under triton-ascend, and on CPU tensors in Triton's interpreter, which
TRITON_INTERPRET=1 turns on; it has to be set before they are imported. A kernel is one program
per vector core; each walks over tiles, so that the next tile is loaded while one is computed.
"""

import os
from functools import cache

import triton
import triton.language as tl

from vllm_ascend_bringup.hardware import installed_chip

# In the interpreter: more than one, so that programs have to share the tiles rightly.
_INTERPRETED_PROGRAMS = 2


@triton.jit
def bfloat16_bits(value):
    """The bits of a float32 rounded to bfloat16, to nearest even, as int16.

    Not a cast, so that it is exact wherever it runs: Triton's interpreter cuts off instead of
    rounding, and what a vector unit does to subnormals is not documented. NaN stays NaN unless
    its low 15 bits are set, which no NaN made by arithmetic has.
    """
    bits = value.to(tl.int32, bitcast=True)
    upper = bits >> 16
    odd = upper - ((upper >> 1) << 1)  # an AND takes a whole tile of ones, a shift nothing
    return ((bits + 0x7FFF + odd) >> 16).to(tl.int16)


def runs_on(device: str) -> tuple[bool, str]:
    """Whether these kernels can be launched on tensors of ``device``, a torch device type."""
    if os.environ.get("TRITON_INTERPRET") == "1" and not isinstance(
        bfloat16_bits, triton.JITFunction
    ):
        return device == "cpu", f"Triton's interpreter, and tensors on {device}"
    if device != "npu":
        return False, f"no Triton for Ascend on {device}"
    return _runs_on_npu()


@cache
def _runs_on_npu() -> tuple[bool, str]:
    if "ascend" not in triton.backends.backends:
        return False, f"triton {triton.__version__} is not triton-ascend"
    chip = installed_chip()
    if chip is None or chip.triton_target is None:
        return False, f"no tiles for {chip.title if chip else 'an unknown chip'}"
    return True, ""


def programs(device: str, tiles: int) -> int:
    """How many programs share ``tiles`` tiles: one for each vector core."""
    return min(tiles, _vector_cores() if device == "npu" else _INTERPRETED_PROGRAMS)


@cache
def _vector_cores() -> int:
    utils = triton.runtime.driver.active.utils
    return int(utils.get_device_properties("npu")["num_vectorcore"])
