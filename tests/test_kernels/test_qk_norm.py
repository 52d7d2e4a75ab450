# SPDX-License-Identifier: Apache-2.0
"""qk_norm, and TensorParallelRMSNorm over real processes, against one float64 formula."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from triton_interpreter import interpreting

from vllm_ascend_bringup.head_topology import head_topology
from vllm_ascend_bringup.kernels.qk_norm import qk_norm, square_sum, triton_kernel
from vllm_ascend_bringup.qk_norm import TensorParallelRMSNorm

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
EPS = 1e-5
HEADS, D, T = 16, 8, 5
KV_HEADS = (1, 2, 4, 8, 16)
# 128 is a tile's width, 64 its height there; 8192 the widest tile.
SHAPES = [(1, 1), (7, 16), (2, 3, 129), (65, 128), (3, 8193), (0, 16)]


def expected(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """By definition, in float64."""
    wide = x.double()
    return wide / (wide.square().mean(-1, keepdim=True) + EPS).sqrt() * weight.double()


def assert_within_one_rounding(found: torch.Tensor, exact: torch.Tensor) -> None:
    """Off by at most half the distance to the next value of the dtype, on either side.

    float32 also rounds on the way: sum, root, quotient and two products, each at most by half of
    its own, and the sum of squares in an order that is not ours.
    """
    float32 = torch.finfo(torch.float32).eps
    last = 0.0 if found.dtype == torch.float32 else torch.finfo(found.dtype).eps / 2
    allowed = (3 * float32 + last) * exact.abs().clamp_min(1e-4)
    assert bool(((found.double() - exact).abs() <= allowed).all())


@pytest.mark.parametrize("implementation", ["reference", "triton"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_rank(dtype: torch.dtype, shape: tuple[int, ...], implementation: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(shape, generator=generator)).to(dtype)
    weight = torch.randn(shape[-1], generator=generator).to(dtype)
    with interpreting():
        found = qk_norm(x, square_sum(x) / shape[-1], weight, EPS, implementation=implementation)
    assert found.dtype == dtype
    assert found.shape == x.shape
    assert_within_one_rounding(found, expected(x, weight))


@pytest.mark.parametrize("tile", [None, (2, 16)], ids=["launcher's tile", "small tiles"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_triton_on_a_part_of_a_projection(
    dtype: torch.dtype, tile: "tuple[int, int] | None", monkeypatch: pytest.MonkeyPatch
) -> None:
    """K out of Q, K and V, whose rows are not one behind the other; and x turned."""
    if tile:
        monkeypatch.setattr(triton_kernel, "TILES", (tile,))
    generator = torch.Generator().manual_seed(1)
    projection = torch.randn(5, 100, generator=generator).to(dtype)
    weight = torch.randn(33, generator=generator).to(dtype)
    for x in (projection[:, 40:73], projection[:, 40:73].contiguous().t().contiguous().t()):
        mean_square = square_sum(x) / 33
        with interpreting():
            found = qk_norm(x, mean_square, weight, EPS, implementation="triton")
        assert_within_one_rounding(found, expected(x, weight))


def test_triton_wants_a_weight_of_the_same_dtype() -> None:
    x, weight = torch.ones(2, 4, dtype=torch.float16), torch.ones(4)
    with interpreting(), pytest.raises(RuntimeError, match=r"float16 with a weight of .*float32"):
        qk_norm(x, square_sum(x), weight, EPS, implementation="triton")


@pytest.mark.parametrize(
    ("mean_square", "weight", "message"),
    [
        (torch.ones(3, 1), torch.ones(4), r"mean_square torch\.float32 \[3, 1\]"),
        (torch.ones(2, 1, dtype=torch.bfloat16), torch.ones(4), r"mean_square torch\.bfloat16"),
        (torch.ones(2, 1), torch.ones(3), r"weight \[3\]: expected \[4\]"),
    ],
    ids=["rows", "dtype", "weight"],
)
def test_arguments_that_do_not_fit(
    mean_square: torch.Tensor, weight: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        qk_norm(torch.ones(2, 4), mean_square, weight, EPS)


def test_weight_of_another_width_is_refused() -> None:
    norm = TensorParallelRMSNorm(slice(0, 4), 8, EPS, all_reduce=lambda x: x)
    with pytest.raises(ValueError, match=r"norm weight \[4\]: expected \[8\]"):
        norm.weight.weight_loader(norm.weight, torch.ones(4))  # type: ignore[attr-defined]


def projections(kv: int, dtype: torch.dtype) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Q and K of a whole model, and the norm weights on disk; the same in every process.

    Heads differ in size by far, so that one counted twice or left out shows.
    """
    generator = torch.Generator().manual_seed(kv)
    made = {}
    for name, heads in (("q", HEADS), ("k", kv)):
        size = 2.0 ** torch.arange(heads).repeat_interleave(D).remainder(5)
        x = torch.randn(T, heads * D, generator=generator) * size
        made[name] = (x.to(dtype), torch.randn(heads * D, generator=generator).to(dtype))
    return made


def run_rank(folder: Path, rank: int, tp: int) -> None:
    """One process: normalize this rank's parts for every number of KV heads, and write them."""
    import torch.distributed as dist

    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=tp)

    def all_reduce(x: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(x)
        return x

    made = {}
    for kv in KV_HEADS:
        topology = head_topology(HEADS, kv, D, tp, rank)
        for dtype in DTYPES:
            parts = {"q": (topology.query_rows, 1), "k": (topology.kv_rows, topology.kv_replicas)}
            for name, (x, weight) in projections(kv, dtype).items():
                rows, replicas = parts[name]
                norm = TensorParallelRMSNorm(
                    rows, x.shape[1], EPS, replicas=replicas, all_reduce=all_reduce
                ).to(dtype)
                norm.load_weight(norm.weight, weight)
                made[f"{kv} {dtype} {name}"] = norm(x[:, rows]).detach()
    torch.save(made, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_ranks_agree_with_the_whole(tp: int, tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, json.dumps([str(tmp_path), rank, tp])],
            stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for rank in range(tp)
    ]  # fmt: skip
    errors = [process.communicate(timeout=240)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0] * tp, errors
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(tp)]
    for kv in KV_HEADS:
        copies = max(1, tp // kv)
        for dtype in DTYPES:
            for name, (x, weight) in projections(kv, dtype).items():
                own = [part[f"{kv} {dtype} {name}"] for part in parts]
                step = copies if name == "k" else 1
                assert_within_one_rounding(torch.cat(own[::step], 1), expected(x, weight))
                for rank, found in enumerate(own):  # replicas are bit for bit the same
                    assert torch.equal(found, own[rank // step * step])


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder_, rank_, tp_ = json.loads(sys.argv[1])
    run_rank(Path(folder_), rank_, tp_)
