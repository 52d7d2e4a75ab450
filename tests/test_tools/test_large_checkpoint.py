# SPDX-License-Identifier: Apache-2.0
"""Commands on a checkpoint of DeepSeek-V3's real size: quick, because they read headers only.

Its shards are sparse (see support/sparse_checkpoint.py), so the 641 GiB need 20 MB of disk.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sparse_checkpoint

from vllm_ascend_bringup.checkpoint import read_checkpoint
from vllm_ascend_bringup.tools.demo import CHECKPOINT

BRINGUP = str(Path(sys.executable).with_name("bringup"))
# Elements by dtype, as Hugging Face counts them for deepseek-ai/DeepSeek-V3 ("safetensors":
# {"parameters": ...} in its answer for the model). F32 are the scales and the router biases.
PUBLISHED = {"BF16": 3_918_786_560, "F8_E4M3": 680_571_043_840, "F32": 41_555_600}
PUBLISHED_TENSORS = 91_991
STORED_BYTES = 2 * PUBLISHED["BF16"] + PUBLISHED["F8_E4M3"] + 4 * PUBLISHED["F32"]
# The "671 B" of the main model, and its 62nd layer, for multi-token prediction: 11.5 B of its own,
# and copies of the embedding and the head (0.93 B each), which are on disk as well.
MAIN_PARAMETERS = 671_026_419_200
MTP_PARAMETERS = 13_463_426_304
# One bias per expert in each of the 59 MoE layers, kept in float32; all else is decoded to or
# already in bfloat16.
ROUTER_BIASES = 59 * 256
DECODED_BYTES = 2 * (MAIN_PARAMETERS + MTP_PARAMETERS) + 2 * ROUTER_BIASES
SECONDS = 3
AUDIT_SECONDS, AUDIT_BYTES = 30, 4 << 30


@dataclass(frozen=True)
class Run:
    """What a command printed, its wall time, and how many bytes it asked the kernel for."""

    output: str
    seconds: float
    bytes_read: int


def run(folder: Path, *arguments: str) -> Run:
    """Run the installed command; its output goes through a file in ``folder``."""
    output = folder / "output"
    start = time.perf_counter()
    with output.open("w") as stream:
        process = subprocess.Popen([BRINGUP, *arguments], stdout=stream)
    # Until it is waited for, a process that has ended keeps its /proc entry.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.perf_counter() - start
    counts = dict(
        line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().splitlines()
    )
    assert process.wait() == 0
    return Run(output.read_text(), seconds, int(counts["rchar"]))


@pytest.fixture(scope="module")
def deepseek(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint, written once."""
    return sparse_checkpoint.write_deepseek_v3(tmp_path_factory.mktemp("large") / "deepseek-v3")


@pytest.fixture(scope="module")
def bytes_of_headers(deepseek: Path) -> int:
    """Bytes of config, index and headers, without the tensors."""
    files = sum(file.stat().st_size for file in deepseek.iterdir())
    return files - STORED_BYTES


@pytest.fixture(scope="module")
def bytes_of_start(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Bytes that Python and its modules need: what the command reads for a tiny checkpoint."""
    return run(tmp_path_factory.mktemp("start"), "inspect", str(CHECKPOINT), "--json").bytes_read


def test_it_is_the_published_checkpoint_by_names_and_sizes(deepseek: Path) -> None:
    tensors = read_checkpoint(deepseek).tensors
    elements: Counter[str] = Counter()
    parameters: Counter[str] = Counter()
    for name, tensor in tensors.items():
        elements[tensor.dtype] += tensor.numel
        if not name.endswith("_scale_inv"):
            parameters["mtp" if name.startswith("model.layers.61.") else "main"] += tensor.numel
    assert len(tensors) == PUBLISHED_TENSORS
    assert elements == PUBLISHED
    assert parameters == {"main": MAIN_PARAMETERS, "mtp": MTP_PARAMETERS}


def test_its_shards_take_no_room(deepseek: Path) -> None:
    files = [file.stat() for file in deepseek.iterdir()]
    assert sum(file.st_size for file in files) > STORED_BYTES
    assert sum(file.st_blocks * 512 for file in files) < 40_000_000


def test_inspect_reads_headers_only_and_is_quick(
    deepseek: Path, bytes_of_headers: int, bytes_of_start: int, tmp_path: Path
) -> None:
    done = run(tmp_path, "inspect", str(deepseek), "--json")
    content: dict[str, Any] = json.loads(done.output)
    expected = {
        "tensors": PUBLISHED_TENSORS,
        "shards": 163,
        "formats": {"block fp8": 45_808},
        "dtypes": {"F32": 45_867, "F8_E4M3": 45_808, "BF16": 316},
        "stored_bytes": STORED_BYTES,
        "decoded_bytes": DECODED_BYTES,
        "known_to_vllm": True,
        "problems": [],
    }
    assert {key: content[key] for key in expected} == expected
    assert [size["tp"] for size in content["tp_sizes"]] == [1, 2, 4, 8, 16]
    # Each once, and of each shard a buffer more at most.
    assert done.bytes_read - bytes_of_start < 1.5 * bytes_of_headers
    assert done.seconds < SECONDS


def test_inspect_does_without_torch() -> None:
    # Its import takes as long as all the rest.
    code = (
        "import sys; from vllm_ascend_bringup.tools import checkpoint_report, cli, rendering; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_dry_run_of_a_conversion_reads_headers_only_and_is_quick(
    deepseek: Path, bytes_of_headers: int, bytes_of_start: int, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run(
        tmp_path, "convert", str(deepseek), str(out), "--dtype", "bfloat16", "--dry-run", "--json"
    )
    content: dict[str, Any] = json.loads(done.output)
    assert content["formats"] == {"block fp8": 45_808}
    assert content["tensors"] == PUBLISHED_TENSORS - 45_808
    headers = 10_000_000  # of a few hundred shards, at most
    assert DECODED_BYTES < content["bytes"] < DECODED_BYTES + headers
    assert not out.exists()
    assert done.bytes_read - bytes_of_start < 1.5 * bytes_of_headers
    assert done.seconds < SECONDS


@pytest.mark.engine
def test_audit_at_16_ranks_is_quick_and_small(deepseek: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    # A process of its own reports the largest of those below it.
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[2:], stdout=open(sys.argv[1], 'w'))\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(done.returncode)"
    )
    command = [BRINGUP, "audit", str(deepseek), "--tp", "16", "--json"]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, str(output), *command], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    content: dict[str, Any] = json.loads(output.read_text())
    assert not content["missing"]
    assert not content["unexpected"]
    assert not content["conflicts"]
    # All that is decoded or stored plain, and of these the layer for multi-token prediction.
    mtp = 3 * 256 + 20
    assert (content["matched"], content["left_out"]) == (PUBLISHED_TENSORS - 45_808 - mtp, mtp)
    assert seconds < AUDIT_SECONDS
    assert int(done.stdout) * 1024 < AUDIT_BYTES
