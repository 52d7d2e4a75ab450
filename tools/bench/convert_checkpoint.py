# SPDX-License-Identifier: Apache-2.0
"""``bringup convert`` against ``cp`` of as many bytes, and the memory it takes.

Both commands are timed whole, start of the process included, in turns, and what was written before
goes to the disk first.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from vllm_ascend_bringup.tools.bench import load_checkpoint

_ROUNDS = 5
# Codes and scales of one shard of the sparse checkpoint: 1 GiB of zeros that take no room.
_ROWS, _COLUMNS, _LAYERS = 8192, 8192, 16


def ratio_to_cp(folder: Path, gigabytes: float) -> float:
    """Median of ``cp``'s seconds divided by ours. Takes about ``6 * gigabytes`` GB of disk."""
    source, converted, copied = folder / "fp8", folder / "converted", folder / "copied"
    load_checkpoint.write(source, folder / "bf16", gigabytes)
    shutil.rmtree(folder / "bf16")
    ratios = []
    for round_ in range(_ROUNDS + 1):
        ours = _seconds(_command(source, converted))
        rival = _seconds(["cp", "-r", str(converted), str(copied)])
        if round_:  # the first fills the page cache
            ratios.append(rival / ours)
        shutil.rmtree(converted)
        shutil.rmtree(copied)
    return statistics.median(ratios)


def peak_memory(folder: Path, gibibytes: int) -> int:
    """Largest resident memory, in bytes, of converting a sparse fp8 checkpoint of this size.

    File pages count. What is written is cut off as soon as its shard is finished, so that the disk
    need not hold it.
    """
    source, converted = folder / "sparse", folder / "sparse-converted"
    _write_sparse(source, gibibytes)
    work = converted.with_name(converted.name + ".converting")
    process = subprocess.Popen(_command(source, converted), stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _peak_of(process.pid))
        for file in work.glob("*.safetensors"):
            if file.stat().st_size:
                os.truncate(file, 0)
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"convert ended with status {process.returncode}")
    shutil.rmtree(source)
    shutil.rmtree(converted)
    return peak


def _peak_of(pid: int) -> int:
    """Largest resident memory so far, in bytes.

    Not ``getrusage``: that counts what this process had when it forked.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _command(source: Path, converted: Path) -> list[str]:
    bringup = Path(sys.executable).with_name("bringup")
    return [str(bringup), "convert", str(source), str(converted), "--dtype", "bfloat16",
            "--shard-size", "1GB"]  # fmt: skip


def _seconds(command: list[str]) -> float:
    os.sync()
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def _write_sparse(folder: Path, gibibytes: int) -> None:
    folder.mkdir(parents=True)
    settings = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    (folder / "config.json").write_text(json.dumps({"quantization_config": settings}))
    grid = [_ROWS // 128, _COLUMNS // 128]
    for shard in range(gibibytes):
        header: dict[str, object] = {}
        at = 0
        for layer in range(_LAYERS):
            name = f"model.layers.{shard * _LAYERS + layer}.mlp.up_proj.weight"
            for key, dtype, shape, nbytes in (
                (name, "F8_E4M3", [_ROWS, _COLUMNS], _ROWS * _COLUMNS),
                (f"{name}_scale_inv", "F32", grid, 4 * grid[0] * grid[1]),
            ):
                header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + nbytes]}
                at += nbytes
        raw = json.dumps(header).encode()
        with (folder / f"model-{shard:05d}.safetensors").open("wb") as stream:
            stream.write(len(raw).to_bytes(8, "little") + raw)
            stream.truncate(8 + len(raw) + at)
