# SPDX-License-Identifier: Apache-2.0
"""Headers, index and config: what is read, what is refused, and that tensor bytes are not read."""

import json
import pickle
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import testkit
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vllm_ascend_bringup.checkpoint import (
    INDEX_FILE,
    MODELSLIM_FILE,
    TensorInfo,
    find_quantization,
    read_checkpoint,
    read_header,
    read_tensors,
)
from vllm_ascend_bringup.errors import CheckpointError

FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
DTYPES = (
    torch.float64, torch.int64, torch.float32, torch.int32, torch.float16, torch.bfloat16,
    torch.int16, torch.bool, torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu, torch.uint16, torch.uint32,
    torch.uint64, torch.complex64,
)  # fmt: skip


def zeros(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    size = dtype.itemsize
    for n in shape:
        size *= n
    return torch.zeros(size, dtype=torch.uint8).view(dtype).reshape(shape)


def write_header(file: Path, header: Mapping[str, Any], data: int) -> None:
    """A safetensors file with this header and ``data`` bytes that take no room on the disk."""
    raw = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(len(raw).to_bytes(8, "little") + raw)
        stream.truncate(8 + len(raw) + data)


def shard(folder: Path, file: str, *names: str) -> None:
    save_file({name: torch.ones(2) for name in names}, folder / file)


def write_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_header_equals_what_the_safetensors_library_reports(tmp_path: Path) -> None:
    tensors = {
        f"{str(dtype).removeprefix('torch.')}.{'x'.join(map(str, shape)) or 'scalar'}": zeros(
            dtype, *shape
        )
        for dtype in DTYPES
        for shape in ((), (1,), (0,), (3, 5), (2, 1, 7))
    }
    tensors["ключ.权重"] = torch.ones(2)
    file = tmp_path / "model.safetensors"
    save_file(tensors, file, metadata={"format": "pt", "note": "kept out"})
    found = read_header(file)
    with safe_open(file, framework="pt") as library:
        assert set(found) == set(library.keys()) == set(tensors)
        for name, tensor in found.items():
            part = library.get_slice(name)
            assert tensor == TensorInfo(
                name, part.get_dtype(), tuple(part.get_shape()), "model.safetensors"
            )
            assert tensor.numel == tensors[name].numel()
            assert tensor.nbytes == tensors[name].nbytes


def test_sub_byte_dtypes_are_sized_in_bits(tmp_path: Path) -> None:
    header = {
        "four": {"dtype": "F4", "shape": [4, 6], "data_offsets": [0, 12]},
        "six": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [12, 15]},
    }
    write_header(tmp_path / "a.safetensors", header, 15)
    sizes = {name: t.nbytes for name, t in read_header(tmp_path / "a.safetensors").items()}
    assert sizes == {"four": 12, "six": 3}


def bytes_read() -> int:
    """Bytes this process has asked the kernel for, cached or not."""
    line = Path("/proc/self/io").read_text().splitlines()[0]
    assert line.startswith("rchar: ")
    return int(line.split()[1])


def test_tensor_bytes_are_not_read(tmp_path: Path) -> None:
    size = 1 << 38  # a quarter of a terabyte, sparse
    header = {"w": {"dtype": "F8_E4M3", "shape": [1 << 19, 1 << 19], "data_offsets": [0, size]}}
    write_header(tmp_path / "model.safetensors", header, size)
    (tmp_path / "config.json").write_text("{}")
    read, memory, start = (
        bytes_read(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(),
    )  # fmt: skip
    checkpoint = read_checkpoint(tmp_path)
    assert bytes_read() - read < 200_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 50_000  # KiB
    assert time.perf_counter() - start < 5
    assert checkpoint.nbytes == size


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Names of the files that Python opens from here on."""
    names: list[str] = []
    active = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if active and event == "open":
            names.append(Path(str(arguments[0])).name)

    sys.addaudithook(hook)  # cannot be taken away again
    yield names
    active = False


class Bomb:
    """Unpickling this removes the checkpoint."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> "tuple[Callable[[str], None], tuple[str]]":
        return shutil.rmtree, (self.target,)


def test_pickles_beside_safetensors_are_never_opened(tmp_path: Path, opened: list[str]) -> None:
    folder = testkit.write_checkpoint(tmp_path / "c", {"a": torch.ones(2)}, {})
    for name in ("pytorch_model.bin", "model.pt", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(Bomb(folder)))
    opened.clear()
    assert set(read_checkpoint(folder).tensors) == {"a"}
    assert set(opened) == {"config.json", "model.safetensors"}
    assert folder.exists()


def test_only_pickles_is_refused_unopened(tmp_path: Path, opened: list[str]) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(folder)))
    opened.clear()
    with pytest.raises(CheckpointError, match=r"pickled \*\.bin"):
        read_checkpoint(folder)
    assert "pytorch_model.bin" not in opened
    assert folder.exists()


NESTED = {"text_config": {"quantization_config": FP8}}
OTHER = {"quant_method": "other"}


@pytest.mark.parametrize(
    ("config", "files", "where", "settings"),
    [
        pytest.param({}, {}, None, None, id="nowhere"),
        pytest.param({"quantization_config": None}, {}, None, None, id="null"),
        pytest.param({"quantization_config": {}}, {}, None, None, id="empty"),
        pytest.param(
            {"quantization_config": FP8, **NESTED, "compression_config": OTHER},
            {"hf_quant_config.json": OTHER},
            "config.json: quantization_config", FP8, id="config-wins-over-the-rest",
        ),
        pytest.param(
            {**NESTED, "compression_config": OTHER}, {"hf_quant_config.json": OTHER},
            "config.json: text_config.quantization_config", FP8, id="text-config",
        ),
        pytest.param(
            {"compression_config": FP8}, {"hf_quant_config.json": OTHER},
            "config.json: compression_config", FP8, id="compression-config",
        ),
        pytest.param(
            {"text_config": {}}, {"hf_quant_config.json": {"quantization": {"quant_algo": "FP8"}}},
            "hf_quant_config.json", {"quantization": {"quant_algo": "FP8"}}, id="hf-quant-config",
        ),
        pytest.param(
            {"quantization_config": FP8}, {MODELSLIM_FILE: {"model_quant_type": "W8A8"}},
            MODELSLIM_FILE, {"quant_method": "ascend"}, id="modelslim-wins-over-config",
        ),
    ],
)  # fmt: skip
def test_every_place_quantization_settings_hide(
    tmp_path: Path,
    config: "dict[str, Any]",
    files: "dict[str, Any]",
    where: "str | None",
    settings: "dict[str, Any] | None",
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    found = find_quantization(tmp_path, config)
    assert (found and found.where) == where
    assert (found and dict(found.settings)) == settings


def test_quantization_settings_of_another_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"quantization_config is a str"):
        find_quantization(tmp_path, {"quantization_config": "fp8"})


def test_shards_come_from_headers_and_agree_with_the_index(tmp_path: Path) -> None:
    tensors = {name: torch.ones(2, 3) for name in ("a", "b", "c")}
    testkit.write_checkpoint(tmp_path, tensors, {"x": 1}, [["a", "c"], ["b"]])
    checkpoint = read_checkpoint(tmp_path)
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    assert {n: t.shard for n, t in checkpoint.tensors.items()} == {
        "a": first, "c": first, "b": second,
    }  # fmt: skip
    assert checkpoint.shards == (first, second)
    assert checkpoint.notes == ()
    assert checkpoint.config == {"x": 1}
    assert checkpoint.nbytes == 3 * 24


def test_tensor_missing_from_the_index_counts_with_a_note(tmp_path: Path) -> None:
    shard(tmp_path, "model-1.safetensors", "w", "w_scale")
    (tmp_path / "config.json").write_text("{}")
    write_index(tmp_path, {"w": "model-1.safetensors"})
    checkpoint = read_checkpoint(tmp_path)
    assert set(checkpoint.tensors) == {"w", "w_scale"}
    assert checkpoint.notes == ("not in the index: w_scale",)


def test_stray_shard_that_only_adds_tensors_counts_with_a_note(tmp_path: Path) -> None:
    shard(tmp_path, "model-1.safetensors", "w")
    shard(tmp_path, "model-2.safetensors", "w_scale")
    tensors, notes = read_tensors(tmp_path, ["model-1.safetensors"])
    assert {n: t.shard for n, t in tensors.items()} == {
        "w": "model-1.safetensors", "w_scale": "model-2.safetensors",
    }  # fmt: skip
    assert notes == ["model-2.safetensors is not in the index, but holds 1 tensors"]


@pytest.mark.parametrize(
    ("file", "names"),
    [("model-2.safetensors", ("w", "v")), ("adapter.safetensors", ("v",))],
    ids=["repeats-a-tensor", "not-called-model"],
)
def test_other_stray_shards_are_ignored_with_a_note(
    tmp_path: Path, file: str, names: tuple[str, ...]
) -> None:
    shard(tmp_path, "model-1.safetensors", "w")
    shard(tmp_path, file, *names)
    tensors, notes = read_tensors(tmp_path, ["model-1.safetensors"])
    assert {n: t.shard for n, t in tensors.items()} == {"w": "model-1.safetensors"}
    assert notes == [f"{file} is not part of the model and is ignored"]


def test_consolidated_copy_beside_the_shards_is_not_read_twice(tmp_path: Path) -> None:
    shard(tmp_path, "model.safetensors", "w")
    shard(tmp_path, "consolidated.safetensors", "layers.w")
    (tmp_path / "config.json").write_text("{}")
    assert set(read_checkpoint(tmp_path).tensors) == {"w"}
    (tmp_path / "model.safetensors").unlink()
    assert set(read_checkpoint(tmp_path).tensors) == {"layers.w"}


@pytest.mark.parametrize(
    "weight_map", [None, [], {"w": 1}, "model.safetensors"], ids=["none", "list", "number", "str"]
)
def test_index_without_usable_map_is_refused(tmp_path: Path, weight_map: object) -> None:
    shard(tmp_path, "model.safetensors", "w")
    (tmp_path / "config.json").write_text("{}")
    write_index(tmp_path, weight_map)
    with pytest.raises(CheckpointError, match="no usable weight_map"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", INDEX_FILE])
def test_lfs_pointer_is_called_by_its_name(tmp_path: Path, file: str) -> None:
    testkit.write_checkpoint(tmp_path, {"w": torch.ones(2)}, {})
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345678\n"
    (tmp_path / file).write_text(pointer)
    with pytest.raises(CheckpointError, match="Git LFS pointer") as caught:
        read_checkpoint(tmp_path)
    assert file in caught.value.found


def test_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a directory"):
        read_checkpoint(tmp_path / "nowhere")


def test_shards_may_lie_in_a_folder_inside_the_checkpoint(tmp_path: Path) -> None:
    testkit.write_checkpoint(tmp_path / "inner", {"a": torch.ones(2)}, {})
    (tmp_path / "config.json").write_text("{}")
    index = {"weight_map": {"a": "inner/model.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_checkpoint(tmp_path).tensors["a"].shard == "inner/model.safetensors"
