# SPDX-License-Identifier: Apache-2.0
"""What a conversion will write, decided from headers before the first byte is written.

A plan is small, picklable and the same every time for the same checkpoint and options, so that a
resumed run and every Ray task agree on it.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.checkpoint import INDEX_FILE, Checkpoint, TensorInfo
from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.formats.base import Pairing
from vllm_ascend_bringup.formats.families.base import SIDE_KEYS, LeftAlone
from vllm_ascend_bringup.formats.pairing import DecodePlan, decode_plan
from vllm_ascend_bringup.formats.schemes import checkpoint_schemes

# --dtype -> what safetensors headers call it.
DTYPES = {"bfloat16": "BF16", "float16": "F16"}
_SIXTEEN_BITS = frozenset(DTYPES.values())
_QUANTIZATION_KEYS = ("quantization_config", "compression_config")
# Files that describe or hold the weights as they were.
_REPLACED = frozenset({"config.json", INDEX_FILE, "hf_quant_config.json"})
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".msgpack", ".h5")


@dataclass(frozen=True)
class Output:
    """One tensor to write. ``source``: the tensor of codes, or the tensor to copy or cast."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: TensorInfo
    pairing: Pairing | None

    @property
    def info(self) -> TensorInfo:
        """As the new header describes it, in a shard still to be named."""
        return TensorInfo(self.name, self.dtype, self.shape, "")

    @property
    def nbytes(self) -> int:
        """Bytes in the new shard."""
        return self.info.nbytes


@dataclass(frozen=True)
class OutputShard:
    """One new file. ``header``: its bytes up to the tensor data, which follows in order."""

    file: str
    outputs: tuple[Output, ...]
    header: bytes

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return len(self.header) + sum(output.nbytes for output in self.outputs)


@dataclass(frozen=True)
class ConversionPlan:
    """All of a conversion. ``left_out``: scales and other tensors that decoding uses up.

    ``copied``: other files, relative to the checkpoint. ``skipped``: files that stay behind.
    """

    source: Path
    dtype: str
    shards: tuple[OutputShard, ...]
    config: Mapping[str, Any]
    formats: Mapping[str, int]
    left_out: int
    copied: tuple[str, ...]
    skipped: tuple[str, ...]
    source_bytes: int
    source_files: tuple[tuple[str, int, int], ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all new shards."""
        return sum(shard.nbytes for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """Equal for two plans that write the same from the same files.

        Files count by name, size and time of change: reading them all would double the work.
        """
        digest = hashlib.sha256(repr((str(self.source), self.dtype, self.source_files)).encode())
        for shard in self.shards:
            digest.update(shard.file.encode() + shard.header)
        return digest.hexdigest()


def plan_conversion(checkpoint: Checkpoint, dtype: str, shard_bytes: int) -> ConversionPlan:
    """Plan to write ``checkpoint`` in ``dtype`` ("bfloat16" or "float16").

    ``shard_bytes``: the most tensor bytes of one new shard; a single larger tensor gets a shard of
    its own. Raises FormatError if the checkpoint has no format that is decoded here.
    """
    table = checkpoint_schemes(checkpoint)
    if isinstance(table, LeftAlone):
        raise FormatError(
            f"nothing to convert in {checkpoint.path}: {table.reason}",
            "a checkpoint in a format of the support table (README)",
            "serve it as it is",
        )
    plan = decode_plan(checkpoint.tensors, table)
    outputs = tuple(_outputs(checkpoint, plan, DTYPES[dtype]))
    groups = _grouped(outputs, shard_bytes)
    formats: dict[str, int] = {}
    for pairing in plan.pairings.values():
        formats[pairing.format.title] = formats.get(pairing.format.title, 0) + 1
    copied, skipped = _other_files(checkpoint)
    return ConversionPlan(
        source=checkpoint.path,
        dtype=dtype,
        shards=tuple(_shard(n, len(groups), group) for n, group in enumerate(groups, start=1)),
        config=plain_config(checkpoint.config, dtype),
        formats=formats,
        left_out=len(plan.scales) + len(plan.dropped),
        copied=copied,
        skipped=skipped,
        source_bytes=checkpoint.nbytes,
        source_files=tuple(_stamp(checkpoint.path, shard) for shard in checkpoint.shards),
    )


def plain_config(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """``config`` without a word about quantization, and with ``dtype`` where it named one."""
    dropped = {*_QUANTIZATION_KEYS, *SIDE_KEYS}
    made: dict[str, Any] = {}
    for key, value in config.items():
        if key in dropped:
            continue
        if key in ("torch_dtype", "dtype") and isinstance(value, str):
            value = dtype
        made[key] = plain_config(value, dtype) if isinstance(value, dict) else value
    return made


def index_of(plan: ConversionPlan) -> dict[str, Any]:
    """Content of model.safetensors.index.json."""
    outputs = [(shard.file, output) for shard in plan.shards for output in shard.outputs]
    return {
        "metadata": {
            "total_parameters": sum(math.prod(output.shape) for _, output in outputs),
            "total_size": sum(output.nbytes for _, output in outputs),
        },
        "weight_map": {output.name: file for file, output in sorted(
            outputs, key=lambda pair: pair[1].name)},
    }  # fmt: skip


def _outputs(checkpoint: Checkpoint, plan: DecodePlan, dtype: str) -> Iterator[Output]:
    """Every tensor of the new checkpoint, in the order of the old one."""
    reader = None
    for name, tensor in checkpoint.tensors.items():
        if name in plan.scales or name in plan.dropped:
            continue
        pairing = plan.pairings.get(name)
        if pairing is None:
            # A 16-bit tensor follows --dtype, as it would in `vllm serve --dtype`; float32 ones
            # (routing biases, for instance) are kept at the precision the author chose.
            kept = dtype if tensor.dtype in _SIXTEEN_BITS else tensor.dtype
            yield Output(name, kept, tensor.shape, tensor, None)
            continue
        shape = pairing.stored.partners.get("shape")
        if shape is not None:  # says how much of the last word is padding
            if reader is None:
                from vllm_ascend_bringup.weights import ShardReader  # imports torch

                reader = ShardReader(checkpoint.path)
            partners = {"shape": reader.read(shape.name, shape.shard)}
            pairing = pairing.format.resolve(pairing, partners)
        for output, decoded in pairing.outputs:
            yield Output(output, dtype, decoded, tensor, pairing)


def _grouped(outputs: tuple[Output, ...], shard_bytes: int) -> list[list[Output]]:
    """Cut the outputs into shards; what one source tensor becomes stays together."""
    groups: list[list[Output]] = [[]]
    filled = 0
    for output in outputs:
        if groups[-1] and filled + output.nbytes > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(output)
        filled += output.nbytes
    return groups


def _shard(number: int, count: int, outputs: list[Output]) -> OutputShard:
    """Lay out one file: wide elements first, so that every tensor is aligned (as safetensors)."""
    file = "model.safetensors"
    if count > 1:
        file = f"model-{number:05d}-of-{count:05d}.safetensors"
    ordered = sorted(outputs, key=lambda o: -(o.nbytes // max(1, math.prod(o.shape))))
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for output in ordered:
        entries[output.name] = {
            "dtype": output.dtype, "shape": list(output.shape),
            "data_offsets": [at, at + output.nbytes],
        }  # fmt: skip
        at += output.nbytes
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return OutputShard(file, tuple(ordered), len(header).to_bytes(8, "little") + header)


def _other_files(checkpoint: Checkpoint) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Files to copy and files to leave behind, by relative path; hidden ones are neither."""
    replaced = _REPLACED.union(checkpoint.shards)
    copied: list[str] = []
    skipped: list[str] = []
    for file in sorted(checkpoint.path.rglob("*")):
        relative = file.relative_to(checkpoint.path)
        if not file.is_file() or any(part.startswith(".") for part in relative.parts):
            continue
        if str(relative) in replaced or file.name.endswith(".safetensors.index.json"):
            continue
        (skipped if file.name.endswith(_WEIGHT_SUFFIXES) else copied).append(str(relative))
    return tuple(copied), tuple(skipped)


def _stamp(folder: Path, shard: str) -> tuple[str, int, int]:
    status = (folder / shard).stat()
    return shard, status.st_size, status.st_mtime_ns
