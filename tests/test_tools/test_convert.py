# SPDX-License-Identifier: Apache-2.0
"""``bringup convert`` as a command: killed at any moment, on Ray, with wrong arguments."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import testkit
import torch
from typer.testing import CliRunner

from vllm_ascend_bringup.tools.cli import app
from vllm_ascend_bringup.tools.demo import CHECKPOINT

BRINGUP = Path(sys.executable).with_name("bringup")
KILLS = 20
SHARDS = 48


def run(*arguments: object, code: int = 0, **environment: str) -> str:
    """Run the command; its standard output."""
    done = subprocess.run(
        [BRINGUP, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough fp8 weights for a conversion to take a while: 48 shards of 4 MB."""
    torch.manual_seed(0)
    tensors = {}
    for layer in range(SHARDS):
        name = f"model.layers.{layer}.mlp.up_proj.weight"
        codes = torch.randint(0, 0x7F, (1024, 2048), dtype=torch.uint8)
        tensors[name] = codes.view(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = torch.rand(8, 16) + 0.5
    settings = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    folder = tmp_path_factory.mktemp("convert") / "source"
    return testkit.write_checkpoint(folder, tensors, {"quantization_config": settings})


@pytest.fixture(scope="module")
def converted(checkpoint: Path) -> dict[str, bytes]:
    """What an uninterrupted conversion writes."""
    out = checkpoint.parent / "reference"
    run("convert", checkpoint, out, "--dtype", "bfloat16", "--shard-size", "4MB")
    assert len(list(out.glob("*.safetensors"))) == SHARDS
    return contents(out)


def test_killed_at_random_moments_the_result_is_the_same(
    tmp_path: Path, checkpoint: Path, converted: dict[str, bytes]
) -> None:
    chance = random.Random(0)
    command: list[str | Path] = [
        BRINGUP, "convert", str(checkpoint), str(tmp_path / "out"), "--dtype", "bfloat16",
        "--shard-size", "4MB",
    ]  # fmt: skip
    work, out = tmp_path / "out.converting", tmp_path / "out"
    kills = halfway = completed = 0
    while kills < KILLS:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while process.poll() is None and not writes(process.pid):
            time.sleep(0.001)
        # By shards, not by seconds: how fast a machine writes must not decide where it is hit.
        target = chance.randint(len(list(work.glob("*.safetensors"))), SHARDS)
        while process.poll() is None and len(list(work.glob("*.safetensors"))) < target:
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.02))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
            halfway += work.exists() and bool(list(work.glob("*.safetensors")))
        process.wait()
        assert not (work.exists() and out.exists())
        if out.exists() and not (out / ".conversion.journal").exists():
            assert contents(out) == converted
            out.rename(tmp_path / f"done-{completed}")
            completed += 1
    if not (tmp_path / "out").exists() or (tmp_path / "out" / ".conversion.journal").exists():
        run(*command[1:])
    assert contents(tmp_path / "out") == converted
    assert sorted(f.name for f in tmp_path.iterdir() if not f.name.startswith("done-")) == ["out"]
    assert halfway > KILLS // 4  # not all before the first or after the last shard


def writes(pid: int) -> bool:
    """Whether a conversion has got as far as its journal."""
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            if descriptor.readlink().name == ".conversion.journal":
                return True
        except OSError:  # closed in between
            continue
    return False


def test_without_a_ray_cluster(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    done = subprocess.run(
        [BRINGUP, "convert", CHECKPOINT, tmp_path / "out", "--dtype", "bfloat16", "--ray"],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"},
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "no Ray cluster answers" in done.stderr


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[str]:
    """A cluster of two nodes on this machine, each with a processor and processes of its own."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000}
    )
    try:
        cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def test_two_nodes_of_a_ray_cluster(
    tmp_path: Path, checkpoint: Path, converted: dict[str, bytes], ray_cluster: str
) -> None:
    out = tmp_path / "out"
    arguments = ("convert", checkpoint, out, "--dtype", "bfloat16", "--shard-size", "4MB", "--ray")
    report = json.loads(run(*arguments, "--verify", "--json", RAY_ADDRESS=ray_cluster))
    assert (report["shards"], report["verified"]) == (SHARDS, True)
    assert contents(out) == converted


def test_error_of_a_ray_task_is_reported_as_without_ray(tmp_path: Path, ray_cluster: str) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    tensors = {
        name: torch.full((4, 4), 0x38, dtype=torch.uint8).view(torch.float8_e4m3fn),
        f"{name}_scale": torch.tensor(float("nan")),
    }
    settings = {"quantization_config": {"quant_method": "fp8"}}
    source = testkit.write_checkpoint(tmp_path / "source", tensors, settings)
    done = subprocess.run(
        [BRINGUP, "convert", source, tmp_path / "out", "--dtype", "bfloat16", "--ray"],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "RAY_ADDRESS": ray_cluster},
    )  # fmt: skip
    assert done.returncode == 5
    assert f"{name}_scale" in done.stderr
    assert "nan" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("size", "nbytes"), [("5GB", 5 * 10**9), ("2MiB", 2 << 20), ("1000000", 10**6), ("3 mb", 3e6)]
)
def test_shard_size(tmp_path: Path, size: str, nbytes: float) -> None:
    out = tmp_path / "out"
    arguments = ["convert", str(CHECKPOINT), str(out), "--dtype", "float16", "--shard-size", size]
    result = CliRunner().invoke(app, [*arguments, "--dry-run", "--json"])
    report = json.loads(result.stdout)
    assert report["dtype"] == "float16"
    assert report["shards"] >= report["bytes"] // (nbytes + 100_000)
    assert (report["shards"] == 1) == (nbytes > report["bytes"])


@pytest.mark.parametrize("size", ["", "0", "5XB", "-1GB", "much"])
def test_impossible_shard_size_is_wrong_usage(tmp_path: Path, size: str) -> None:
    out = str(tmp_path / "out")
    arguments = ["convert", str(CHECKPOINT), out, "--dtype", "float16", "--shard-size", size]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "is no size" in result.output


def test_what_it_prints(tmp_path: Path) -> None:
    text = run("convert", CHECKPOINT, tmp_path / "out", "--dtype", "bfloat16", "--verify")
    assert "28 block fp8" in text
    assert "74" not in text  # tensors on disk; the result has fewer
    assert "46 tensors in 1 shards" in text
    assert "verified byte for byte" in text
    again = subprocess.run(
        [BRINGUP, "convert", CHECKPOINT, tmp_path / "out", "--dtype", "bfloat16"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 4
    assert "exists" in again.stderr
