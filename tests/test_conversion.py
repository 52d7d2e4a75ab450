# SPDX-License-Identifier: Apache-2.0
"""Rewriting a checkpoint: what is written, what is refused, and that nothing is left half-done."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import testkit
import torch
from safetensors.torch import load_file

from vllm_ascend_bringup.checkpoint import read_checkpoint
from vllm_ascend_bringup.conversion import run as run_module
from vllm_ascend_bringup.conversion.journal import JOURNAL, Journal
from vllm_ascend_bringup.conversion.plan import plan_conversion
from vllm_ascend_bringup.conversion.run import convert
from vllm_ascend_bringup.conversion.writer import ShardWriter
from vllm_ascend_bringup.errors import CheckpointError, FormatError
from vllm_ascend_bringup.tools.demo import CHECKPOINT

Decode = Callable[..., dict[str, torch.Tensor]]
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
W = "model.layers.{}.mlp.up_proj.weight"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Two shards; scales in the other shard; tensors of every kind to keep; other files."""
    tensors: dict[str, torch.Tensor] = {
        "model.norm.weight": torch.randn(192).bfloat16(),
        "model.layers.0.gate.e_score_correction_bias": torch.randn(4),
        "model.layers.0.self_attn.k_proj.k_scale": torch.ones(()),
        "model.tid2eid": torch.randint(0, 99, (5,)),
        "model.logit_scale": torch.tensor(2.5, dtype=torch.bfloat16),
        "model.empty": torch.empty(0, 4, dtype=torch.bfloat16),
    }
    shards: tuple[list[str], list[str]] = (list(tensors), [])
    for layer in range(3):
        codes, scale = testkit.quantize(torch.randn(160, 192), (128, 128))
        name = W.format(layer)
        tensors |= {name: codes.view(torch.float8_e4m3fn), f"{name}_scale_inv": scale}
        shards[layer % 2].append(name)
        shards[1 - layer % 2].append(f"{name}_scale_inv")
    config = {
        "architectures": ["Qwen3ForCausalLM"], "torch_dtype": "bfloat16",
        "quantization_config": FP8, "expert_dtype": "fp8",
        "text_config": {"dtype": "bfloat16", "quantization_config": FP8, "名": "值"},
    }  # fmt: skip
    folder = testkit.write_checkpoint(tmp_path / "source", tensors, config, shards)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "assets").mkdir()
    (folder / "assets" / "image.png").write_bytes(b"png")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "hf_quant_config.json").write_text("{}")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("")
    return folder


def shards_of(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize(
    ("dtype", "torch_dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
@pytest.mark.parametrize("shard_bytes", [70_000, 10**9], ids=("four-shards", "one-file"))
def test_result_is_what_serving_decodes(
    tmp_path: Path, checkpoint: Path, decode_checkpoint: Decode, dtype: str,
    torch_dtype: torch.dtype, shard_bytes: int,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    report = convert(checkpoint, out, dtype, shard_bytes, verify=True)
    expected = decode_checkpoint(checkpoint, torch_dtype)
    found = shards_of(out)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.to(torch_dtype)
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
    assert found["model.layers.0.gate.e_score_correction_bias"].dtype == torch.float32
    # It reads as a checkpoint without any notes, so index and headers agree.
    again = read_checkpoint(out)
    assert again.notes == ()
    assert again.quantization is None
    assert (len(again.shards), len(again.tensors)) == (report.shards, report.tensors)
    index = out / "model.safetensors.index.json"
    assert index.exists() == (report.shards > 1)
    if report.shards > 1:
        stated = json.loads(index.read_text())
        assert stated["metadata"]["total_size"] == again.nbytes
        assert set(stated["weight_map"]) == set(expected)
    for file in out.glob("*.safetensors"):
        assert file.stat().st_size <= shard_bytes + 10_000  # the header comes on top


def test_config_says_nothing_of_quantization_and_all_else_is_kept(
    tmp_path: Path, checkpoint: Path
) -> None:
    report = convert(checkpoint, tmp_path / "out", "float16", 10**9)
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == {
        "architectures": ["Qwen3ForCausalLM"], "torch_dtype": "float16",
        "text_config": {"dtype": "float16", "名": "值"},
    }  # fmt: skip
    assert set(contents(tmp_path / "out")) == {
        "config.json", "model.safetensors", "tokenizer.json", "assets/image.png",
    }  # fmt: skip
    assert report.skipped == ("pytorch_model.bin",)
    assert report.left_out == 4  # three scales, one KV-cache scale


def test_dry_run_writes_nothing_and_reports_the_same(tmp_path: Path, checkpoint: Path) -> None:
    planned = convert(checkpoint, tmp_path / "out", "bfloat16", 70_000, dry_run=True)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["source"]
    done = convert(checkpoint, tmp_path / "out", "bfloat16", 70_000)
    assert (planned.shards, planned.bytes) == (done.shards, done.bytes)
    assert done.bytes == sum(f.stat().st_size for f in (tmp_path / "out").glob("*.safetensors"))


def test_conversion_is_the_same_every_time(tmp_path: Path, checkpoint: Path) -> None:
    for name in ("one", "two"):
        convert(checkpoint, tmp_path / name, "bfloat16", 70_000)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_transposed_experts_in_many_pieces(
    tmp_path: Path, decode_checkpoint: Decode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_ascend_bringup.conversion.writer._PIECE_ELEMENTS", 100)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    tensors = {
        f"{name}_blocks": torch.randint(0, 256, (2, 24, 3, 16), dtype=torch.uint8),
        f"{name}_scales": torch.randint(120, 130, (2, 24, 3), dtype=torch.uint8),
        f"{name}_bias": torch.randn(2, 24).bfloat16(),
    }
    config = {"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}}
    folder = testkit.write_checkpoint(tmp_path / "source", tensors, config)
    convert(folder, tmp_path / "out", "bfloat16", 10**9, verify=True)
    found, expected = shards_of(tmp_path / "out"), decode_checkpoint(folder)
    assert found[name].shape == (2, 96, 24)
    assert set(found) == set(expected) == {name, f"{name}_bias"}
    assert all(torch.equal(found[n], expected[n]) for n in expected)


def test_existing_destination_is_refused_and_untouched(tmp_path: Path, checkpoint: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("data")
    with pytest.raises(CheckpointError, match="exists"):
        convert(checkpoint, out, "bfloat16", 10**9)
    assert contents(out) == {"precious": b"data"}
    (out / "precious").unlink()
    convert(checkpoint, out, "bfloat16", 10**9)  # an empty directory is as good as none


def test_destination_inside_the_source_is_refused(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="inside"):
        convert(checkpoint, checkpoint / "out", "bfloat16", 10**9)


def test_full_disk_is_found_before_the_first_byte(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(CheckpointError, match="1000 bytes free") as caught:
        convert(checkpoint, tmp_path / "deep" / "out", "bfloat16", 10**9)
    assert "bytes for 1 shards" in caught.value.expected
    assert not (tmp_path / "deep").exists()


def test_disk_that_fills_up_while_writing(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(CheckpointError, match="No space left on device"):
            convert(checkpoint, tmp_path / "out", "bfloat16", 10**9)
    assert not (tmp_path / "out").exists()
    convert(checkpoint, tmp_path / "out", "bfloat16", 10**9, verify=True)


@pytest.mark.parametrize(
    ("settings", "found"),
    [({"quant_method": "gptq"}, "gptq"), (None, "no quantization settings")],
    ids=("gptq", "dense"),
)
def test_nothing_to_convert(tmp_path: Path, settings: "dict[str, Any] | None", found: str) -> None:
    config = {"quantization_config": settings} if settings else {}
    folder = testkit.write_checkpoint(tmp_path / "source", {"a": torch.ones(1)}, config)
    with pytest.raises(FormatError, match=found):
        convert(folder, tmp_path / "out", "bfloat16", 10**9)


def test_headers_are_checked_before_the_first_byte(tmp_path: Path) -> None:
    good, scale = testkit.quantize(torch.randn(8, 8), (128, 128))
    tensors = {
        W.format(0): good.view(torch.float8_e4m3fn), W.format(0) + "_scale_inv": scale,
        W.format(1): good.clone().view(torch.float8_e4m3fn),
    }  # fmt: skip
    folder = testkit.write_checkpoint(tmp_path / "source", tensors, {"quantization_config": FP8})
    with pytest.raises(FormatError, match=r"layers\.1.*no scale"):
        convert(folder, tmp_path / "out", "bfloat16", 10**9)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("kept", [False, True], ids=("decoded", "cast"))
def test_float16_overflow_names_the_tensor_and_leaves_no_result(tmp_path: Path, kept: bool) -> None:
    codes = torch.full((4, 4), 0x7E, dtype=torch.uint8).view(torch.float8_e4m3fn)
    tensors = {
        W.format(0): codes,
        W.format(0) + "_scale_inv": torch.full((1, 1), 1.0 if kept else 147.0),
        "model.norm.weight": torch.full((4,), 70000.0 if kept else 1.0).bfloat16(),
    }
    folder = testkit.write_checkpoint(tmp_path / "source", tensors, {"quantization_config": FP8})
    with pytest.raises(FormatError) as caught:
        convert(folder, tmp_path / "out", "float16", 10**9)
    assert ("model.norm.weight" if kept else W.format(0)) in caught.value.found
    assert not (tmp_path / "out").exists()
    convert(folder, tmp_path / "bf16", "bfloat16", 10**9)


def interrupted(checkpoint: Path, out: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A conversion that dies when ``after`` shards are finished; its folder."""
    write = ShardWriter.write
    done: list[Any] = []

    def dying(self: ShardWriter, shard: Any, folder: Path) -> str:
        if len(done) == after:
            (folder / f"{shard.file}.partial").write_bytes(b"half")
            raise KeyboardInterrupt
        done.append(shard)
        return write(self, shard, folder)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write", dying)
        with pytest.raises(KeyboardInterrupt):
            convert(checkpoint, out, "bfloat16", 70_000)
    return out.with_name(out.name + ".converting")


def test_resuming_keeps_finished_shards(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    work = interrupted(checkpoint, out, 2, monkeypatch)
    finished = sorted(work.glob("*.safetensors"))
    stamps = [f.stat().st_mtime_ns for f in finished]
    assert len(finished) == 2
    assert not out.exists()
    report = convert(checkpoint, out, "bfloat16", 70_000)
    assert report.resumed == 2
    assert [(out / f.name).stat().st_mtime_ns for f in finished] == stamps
    convert(checkpoint, tmp_path / "fresh", "bfloat16", 70_000)
    assert contents(out) == contents(tmp_path / "fresh")


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_finished_shards_that_changed_are_written_again(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    work = interrupted(checkpoint, tmp_path / "out", 2, monkeypatch)
    shard = min(work.glob("*.safetensors"))
    data = bytearray(shard.read_bytes())
    if damage == "gone":
        shard.unlink()
    else:
        data[-1] ^= 1
        shard.write_bytes(data if damage == "changed" else data[:-1])
    assert convert(checkpoint, tmp_path / "out", "bfloat16", 70_000).resumed == 1
    convert(checkpoint, tmp_path / "fresh", "bfloat16", 70_000)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_journal_line_that_was_cut_off_is_ignored(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = interrupted(checkpoint, tmp_path / "out", 2, monkeypatch)
    journal = work / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-5])
    assert convert(checkpoint, tmp_path / "out", "bfloat16", 70_000, verify=True).resumed == 1


@pytest.mark.parametrize("change", ["dtype", "shard-size", "source"])
def test_unfinished_conversion_with_other_options_is_refused(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    interrupted(checkpoint, tmp_path / "out", 1, monkeypatch)
    dtype, size = "bfloat16", 70_000
    if change == "dtype":
        dtype = "float16"
    elif change == "shard-size":
        size = 140_000
    else:
        shard = min(checkpoint.glob("*.safetensors"))
        shard.write_bytes(shard.read_bytes())
    with pytest.raises(CheckpointError, match="unfinished conversion"):
        convert(checkpoint, tmp_path / "out", dtype, size)


def test_two_conversions_at_once_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    work = tmp_path / "out.converting"
    work.mkdir()
    plan = plan_conversion(read_checkpoint(checkpoint), "bfloat16", 70_000)
    with Journal(work, plan.fingerprint), pytest.raises(CheckpointError, match="another conver"):
        convert(checkpoint, tmp_path / "out", "bfloat16", 70_000)


def test_killed_between_the_rename_and_the_end(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove_from", killed)
        with pytest.raises(KeyboardInterrupt):
            convert(checkpoint, tmp_path / "out", "bfloat16", 70_000)
    convert(checkpoint, tmp_path / "out", "bfloat16", 70_000)
    assert not (tmp_path / "out" / JOURNAL).exists()


@pytest.mark.parametrize("damage", ["byte", "length", "header"])
def test_verify_finds_what_is_wrong_on_disk(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    def broken(plan: Any, work: Path) -> None:
        file = work / "model.safetensors"
        data = bytearray(file.read_bytes())
        data[-1 if damage == "byte" else 20] ^= 1
        file.write_bytes(data[:-1] if damage == "length" else data)

    monkeypatch.setattr(run_module, "_write_rest", broken)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: ") as caught:
        convert(checkpoint, tmp_path / "out", "bfloat16", 10**9, verify=True)
    assert damage != "byte" or "differs" in caught.value.found
    assert not (tmp_path / "out").exists()


def test_nan_codes_are_reported(tmp_path: Path) -> None:
    codes = torch.full((4, 4), 0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn)
    tensors = {W.format(0): codes, W.format(0) + "_scale_inv": torch.ones(1, 1)}
    folder = testkit.write_checkpoint(tmp_path / "source", tensors, {"quantization_config": FP8})
    report = convert(folder, tmp_path / "out", "bfloat16", 10**9)
    assert report.nan_weights == (W.format(0),)
    assert shards_of(tmp_path / "out")[W.format(0)].isnan().all()


def test_transformers_loads_the_result(tmp_path: Path, decode_checkpoint: Decode) -> None:
    import transformers

    hf: Any = transformers
    convert(CHECKPOINT, tmp_path / "out", "bfloat16", 2_000_000)
    model = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    state = model.state_dict()
    expected = decode_checkpoint(CHECKPOINT)
    assert model.dtype == torch.bfloat16
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
