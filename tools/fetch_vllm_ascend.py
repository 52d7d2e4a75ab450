# SPDX-License-Identifier: Apache-2.0
"""Unpack the Python source of vllm-ascend's published wheels, for the contract tests.

``python tools/fetch_vllm_ascend.py FOLDER`` leaves FOLDER/<version>/vllm_ascend. Nothing is
installed: vllm-ascend cannot be imported without an NPU's libraries.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# The releases whose behaviour this project relies on.
VERSIONS = ("0.23.0", "0.26.0rc1")


def fetch(folder: Path, version: str) -> None:
    """Download one wheel and unpack its Python files. Raises CalledProcessError if pip fails."""
    target = folder / version
    if target.exists():
        return
    with tempfile.TemporaryDirectory() as download:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
             "--only-binary", ":all:", "--python-version", "3.11",
             "--platform", "manylinux_2_34_x86_64", "--dest", download,
             f"vllm-ascend=={version}"],
            check=True,
        )  # fmt: skip
        (wheel,) = Path(download).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if n.endswith((".py", "entry_points.txt"))]
            archive.extractall(Path(download, "unpacked"), names)
        folder.mkdir(parents=True, exist_ok=True)
        Path(download, "unpacked").replace(target)


if __name__ == "__main__":
    for wanted in VERSIONS:
        fetch(Path(sys.argv[1]), wanted)
