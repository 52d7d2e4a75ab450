# SPDX-License-Identifier: Apache-2.0
"""Make a virtual environment with Ascend's Triton compiler. It needs no NPU.

When to use it: ``make kernels-npu`` calls it. Run from a checkout: ``python tools/npu_setup.py
.venv-npu``. Standard library only, because it runs before anything is installed.

An environment of its own, because triton-ascend is imported as ``triton``, as the Triton that vLLM
brings along is. What it cannot see: hivmc, which is not on the package index.
"""

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

PACKAGES = (
    "triton-ascend==3.2.0",
    "ascendnpu-ir==1.2.0",
    # triton-ascend imports these two and does not declare them.
    "numpy",
    "pybind11",
    "torch==2.13.0",  # that of tools/cpu_setup.py
)


def set_up(folder: Path) -> None:
    """Create or complete the environment in ``folder``.

    Raises subprocess.CalledProcessError if an installation fails; pip says why.
    """
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet")
    subprocess.run([*pip, *PACKAGES], check=True)


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    try:
        set_up(arguments.folder)
    except subprocess.CalledProcessError as error:
        print(f"set-up failed: {' '.join(error.cmd[:6])} ... (see above)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
