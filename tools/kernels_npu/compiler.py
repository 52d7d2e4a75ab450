# SPDX-License-Identifier: Apache-2.0
"""A Triton kernel through Ascend's compiler, as far as one gets without hivmc.

Triton's front end and triton-adapter-opt make linalg of it, bishengir-compile makes HIVM of that,
plans the on-chip memory and optimizes. The last step, hivmc, is proprietary and not on the package
index: a stand-in on PATH keeps what it would be given. It runs in the environment of
tools/npu_setup.py only.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.tools.kernels_npu.results import Outcome

# What triton-ascend's compiler.py passes for A2 and A3 (linalg_to_bin_enable_npu_compile_A2_A3).
FLAGS = (
    "--enable-auto-multi-buffer=True",
    "--enable-auto-bind-sub-block=True",
    "--enable-hfusion-compile=true",
    "--enable-hivm-compile=true",
    "--enable-triton-kernel-compile=true",
)
_STAND_IN = """\
#!/bin/sh
# In hivmc's place: keep what it would have been given.
[ "$1" = --version ] || cp "$1" "$(dirname "$0")/input.mlir"
"""
_OVERFLOW = re.compile(r"ub overflow, requires (\d+) bits while (\d+) bits available")
_CONCESSION = re.compile(r"automatically set ([\w-]+) to false and retrying")
_AVAILABLE = re.compile(r'"UB_SIZE", (\d+)')
_ADDRESS = re.compile(r"(%\w+) = arith\.constant (\d+) : i64")
_BUFFER = re.compile(
    r"hivm\.hir\.pointer_cast\(([^)]*)\)[^\n]* : "
    r"memref<(?:(?P<sizes>[\dx]+)x)?(?P<type>\w+), #hivm\.address_space<(?P<space>\w+)>>"
)
_CALL = re.compile(r"\bcall @(\w+)\(")


def lower(
    kernel: Any, signature: "dict[str, str]", constants: "dict[str, int]", target: str
) -> str:
    """Triton to linalg: what triton-ascend does before it calls bishengir-compile.

    Raises subprocess.CalledProcessError, or Triton's CompilationError, if that fails.
    """
    from triton._C.libtriton import ir
    from triton.backends.ascend import compiler as ascend
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    backend = ascend.AscendBackend(GPUTarget("npu", target, 0))
    options = backend.parse_options({})
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    source = ASTSource(fn=kernel, signature=signature, constants=constants)
    module = source.make_ir(
        options, backend.get_codegen_implementation(), backend.get_module_map(), context
    )
    metadata = {"target": backend.target, **options.__dict__}
    module = ascend.make_ttir(module, metadata, options)
    linalg = ascend.ttir_to_linalg(module, metadata, options, named_ops=True)
    # bishengir-compile does not take the attribute that tells the launcher which cores to use.
    text: str = ascend._parse_linalg_metadata(linalg, metadata)[0]
    return text


def compile_to_hivm(linalg: str, target: str, folder: Path) -> Outcome:
    """Linalg to optimized HIVM; ``folder``: an empty one to work in."""
    stand_in, recorded = folder / "hivmc", folder / "input.mlir"
    stand_in.write_text(_STAND_IN)
    stand_in.chmod(0o755)
    source = folder / "kernel.mlir"
    source.write_text(linalg)
    command = [str(vendor("bin/bishengir-compile")), str(source), f"--target={target}", *FLAGS]
    done = subprocess.run(
        [*command, "-o", str(folder / "kernel")], capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    said = done.stdout + done.stderr
    if overflow := _OVERFLOW.search(said):
        required, available = (int(bits) // 8 for bits in overflow.groups())
        return Outcome(available=available, overflow=required, error="on-chip memory overflows")
    if not recorded.exists():
        return Outcome(
            error=_first_error(said) or f"bishengir-compile ended with {done.returncode}"
        )
    hivm = recorded.read_text()
    if missing := _not_in_library(hivm):
        return Outcome(error=f"the compiler's library has no {', '.join(missing)}")
    available = int(_AVAILABLE.findall(hivm)[0]) // 8
    concessions = tuple(f"{name} off" for name in _CONCESSION.findall(said))
    return Outcome(_used(hivm), available, concessions)


def _used(hivm: str) -> int:
    """Where the last buffer in the vector core's memory ends, in bytes.

    Raises ValueError for a buffer elsewhere on the chip, or of a size that it does not tell.
    """
    addresses = dict(_ADDRESS.findall(hivm))
    ends = [0]
    buffers = list(_BUFFER.finditer(hivm))
    if len(buffers) != hivm.count("pointer_cast("):
        raise ValueError(f"{hivm.count('pointer_cast(')} buffers, {len(buffers)} understood")
    for buffer in buffers:
        if buffer["space"] != "ub":
            raise ValueError(f"buffer in {buffer['space']}: expected none but in ub")
        bits = int(buffer["type"].lstrip("bfi"))
        for size in (buffer["sizes"] or "1").split("x"):
            bits *= int(size)
        ends += [int(addresses[name.strip()]) + bits // 8 for name in buffer[1].split(",")]
    return max(ends)


def _not_in_library(hivm: str) -> list[str]:
    """Routines that the code calls and hivmc would not find. c220 is the core of A2 and A3."""
    library = vendor("lib/meta_op.aiv.c220.bc").read_bytes()
    return sorted(name for name in set(_CALL.findall(hivm)) if name.encode() not in library)


def _first_error(said: str) -> str:
    return next((line.strip() for line in said.splitlines() if "error" in line.lower()), "")


def vendor(path: str) -> Path:
    """A file of ascendnpu-ir. Raises ImportError where that is not installed."""
    import ascendnpuir

    return Path(ascendnpuir.__file__).parent / path
