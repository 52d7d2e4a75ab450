# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint is: its config, index and safetensors headers.

Reads no tensor bytes, never unpickles, executes no remote code. The map from tensor to file comes
from the shard headers; the index is only a cross-check, because exporters write indexes that
leave tensors out.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from vllm_ascend_bringup.checkpoint_files import is_lfs_pointer, require_files
from vllm_ascend_bringup.errors import CheckpointError, listed

INDEX_FILE = "model.safetensors.index.json"
MODELSLIM_FILE = "quant_model_description.json"
# The bound the safetensors library itself uses (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
MAX_HEADER_BYTES = 100_000_000

_TOO_MANY = 1 << 63

# Bits per element of every dtype a safetensors header may name (safetensors/src/tensor.rs).
_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32,
    "F16": 16, "BF16": 16, "I16": 16, "U16": 16, "BOOL": 8, "I8": 8, "U8": 8,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F8_E8M0": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
# Header dtypes that hold a code, not a number one may copy into a bf16 parameter.
LOW_PRECISION = frozenset(
    {"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4"}
)


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as its shard's header describes it; ``dtype`` is the header's name for it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: str

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return self.numel * _BITS[self.dtype] // 8


@dataclass(frozen=True)
class QuantizationSource:
    """The quantization settings as found, and where: a file name, or file name and key path."""

    where: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint directory: frozen view of config and headers.

    ``notes`` are oddities that do not prevent loading, one sentence each.
    """

    path: Path
    config: Mapping[str, Any]
    quantization: QuantizationSource | None
    tensors: Mapping[str, TensorInfo]
    shards: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors on disk."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the checkpoint in directory ``path``.

    Raises CheckpointError if a file is missing or malformed, or the index contradicts the shards.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a directory",
            "a directory with config.json and *.safetensors",
            "give the path of a downloaded checkpoint",
        )
    shards, index = _list_shards(folder)
    require_files(folder, INDEX_FILE, shards)
    if not shards:
        raise CheckpointError(
            f"no *.safetensors in {folder}",
            "safetensors shards (pickled *.bin and *.pt files are not read)",
            "download the safetensors version of the checkpoint or convert it",
        )
    config = read_json(folder / "config.json")
    quantization = find_quantization(folder, config)
    tensors, notes = read_tensors(folder, shards)
    if index is not None:
        notes += _check_index(index, tensors)
    used = tuple(sorted({tensor.shard for tensor in tensors.values()}))
    return Checkpoint(folder, config, quantization, MappingProxyType(tensors), used, tuple(notes))


def read_tensors(folder: Path, shards: Iterable[str]) -> tuple[dict[str, TensorInfo], list[str]]:
    """Read the headers of ``shards`` in ``folder``, and of stray shards that only add tensors.

    Exporters have left scales in shards that the index does not name, so a stray ``model*``
    shard counts unless it repeats a tensor. Returns the tensors and a note per stray shard.
    Raises CheckpointError if one tensor is in two of ``shards``.
    """
    tensors: dict[str, TensorInfo] = {}
    for shard in shards:
        for name, tensor in read_header(folder / shard, shard).items():
            if name in tensors:
                raise CheckpointError(
                    f"tensor {name} is in both {tensors[name].shard} and {shard}",
                    "every tensor in exactly one shard",
                    "remove the shard that does not belong to this checkpoint",
                )
            tensors[name] = tensor
    notes = []
    for file in sorted(folder.glob("*.safetensors")):
        if file.name not in shards:
            stray = read_header(file) if file.name.startswith("model") else {}
            if stray and not tensors.keys() & stray.keys():
                tensors.update(stray)
                notes.append(f"{file.name} is not in the index, but holds {len(stray)} tensors")
            else:
                notes.append(f"{file.name} is not part of the model and is ignored")
    return tensors, notes


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object. Raises CheckpointError if it is missing or not an object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{file.name} is missing in {file.parent}",
            "a complete checkpoint directory",
            "download the checkpoint again, all files",
        ) from None
    except (ValueError, RecursionError, OSError) as error:
        hint = " (a Git LFS pointer?)" if is_lfs_pointer(file) else ""
        raise CheckpointError(
            f"{file} cannot be read as JSON{hint}: {error}",
            "a JSON object",
            "download this file again",
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{file} holds a JSON {type(content).__name__}",
            "a JSON object",
            "download this file again",
        )
    return content


def find_quantization(folder: Path, config: Mapping[str, Any]) -> QuantizationSource | None:
    """Look in every place quantization settings hide, in vLLM's order.

    A ModelSlim description wins over everything, as it does in vllm-ascend.
    """
    if (folder / MODELSLIM_FILE).exists():
        return QuantizationSource(MODELSLIM_FILE, {"quant_method": "ascend"})
    text_config = config.get("text_config")
    places = [("config.json: quantization_config", config.get("quantization_config"))]
    if isinstance(text_config, dict):
        places.append(
            ("config.json: text_config.quantization_config", text_config.get("quantization_config"))
        )
    places.append(("config.json: compression_config", config.get("compression_config")))
    for where, settings in places:
        if settings:
            if not isinstance(settings, dict):
                raise CheckpointError(
                    f"{where} is a {type(settings).__name__}",
                    "a JSON object",
                    "correct config.json",
                )
            return QuantizationSource(where, complete_settings(folder, settings))
    if (folder / "hf_quant_config.json").exists():
        return QuantizationSource(
            "hf_quant_config.json", read_json(folder / "hf_quant_config.json")
        )
    return None


def complete_settings(folder: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """ModelOpt's mixed settings with their layers, which may be in a file of their own.

    As vLLM does (model_executor/model_loader/weight_utils.py, get_quant_config).
    """
    file = folder / "hf_quant_config.json"
    mixed = str(settings.get("quant_algo") or "").upper() == "MIXED_PRECISION"
    if not mixed or settings.get("quantized_layers") or not file.exists():
        return settings
    there = read_json(file)
    nested = there.get("quantization")
    layers = (nested if isinstance(nested, dict) else there).get("quantized_layers")
    return {**settings, "quantized_layers": layers}


def read_header(file: Path, shard: str | None = None) -> dict[str, TensorInfo]:
    """Read one safetensors header: 8 bytes of little-endian length, then JSON.

    ``shard``: the name to give it, if that is not the file's own (a path inside the checkpoint).

    Checks it against the file size, so that a truncated shard is found without reading it.
    Raises CheckpointError naming the file and, where one is at fault, the tensor.
    """
    shard = shard or file.name

    def wrong(found: str, expected: str) -> CheckpointError:
        fix = "download this shard again"
        if is_lfs_pointer(file):
            found, fix = "it is a Git LFS pointer", "run `git lfs pull` or download the shard"
        return CheckpointError(f"shard {shard}: {found}", expected, fix)

    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8:
                raise wrong(f"{size} bytes long", "at least the 8-byte header length")
            if length > MAX_HEADER_BYTES:
                raise wrong(f"header length {length}", f"at most {MAX_HEADER_BYTES} bytes")
            if 8 + length > size:
                raise wrong(f"header of {length} bytes in a file of {size}", "a complete header")
            raw = stream.read(length)
    except OSError as error:
        raise wrong(f"cannot be read ({error.strerror})", "a readable file") from None
    try:
        text = raw.decode()  # the format says UTF-8; json.loads would accept others
        header = json.loads(text, object_pairs_hook=_unique_keys)
        # Half of a surrogate pair is no text to the safetensors library.
        json.dumps(header, ensure_ascii=False).encode() if "\\u" in text else None
    except (ValueError, RecursionError) as error:
        raise wrong(f"its header is not JSON ({error})", "a safetensors header") from None
    if not isinstance(header, dict) or not text.startswith("{"):
        raise wrong("its header is not a JSON object", "a safetensors header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise wrong("its __metadata__ is not a map of texts", "a safetensors header")

    tensors: dict[str, TensorInfo] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        tensor, span = _parse_entry(name, entry, shard, wrong)
        tensors[name] = tensor
        spans.append((*span, name))
    end = 0
    for start, stop, name in sorted(spans):
        if start != end:
            raise wrong(f"tensor {name} starts at byte {start}", f"byte {end}: no gap, no overlap")
        end = stop
    data = size - 8 - length
    if end != data:
        raise wrong(f"{data} bytes of tensor data", f"{end} bytes, by its header")
    return tensors


def _parse_entry(
    name: str, entry: Any, shard: str, wrong: Any
) -> tuple[TensorInfo, tuple[int, int]]:
    """One header entry as a TensorInfo and its byte span."""
    try:
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        # Not isinstance: JSON's true is an int to Python.
        usable = all(type(n) is int and 0 <= n < _TOO_MANY for n in (*shape, start, stop))
    except (KeyError, TypeError, ValueError):
        usable = False
    if not usable:
        raise wrong(f"malformed entry for tensor {name}", "dtype, shape, data_offsets")
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise wrong(f"tensor {name} has dtype {dtype!r}", "a dtype of the safetensors format")
    tensor = TensorInfo(name, dtype, tuple(shape), shard)
    if tensor.numel * _BITS[dtype] % 8:
        raise wrong(f"tensor {name} ({dtype} {list(shape)}) ends inside a byte", "whole bytes")
    if stop - start != tensor.nbytes:
        raise wrong(
            f"tensor {name} ({dtype} {list(shape)}) spans {stop - start} bytes",
            f"{tensor.nbytes} bytes",
        )
    return tensor, (start, stop)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate name {next(n for n in names if names.count(n) > 1)}")
    return seen


def _list_shards(folder: Path) -> tuple[list[str], Mapping[str, str] | None]:
    """The shard files that should make up the checkpoint, and the index's map if there is one."""
    on_disk = sorted(file.name for file in folder.glob("*.safetensors"))
    if not (folder / INDEX_FILE).exists() or is_lfs_pointer(folder / INDEX_FILE):
        # A "consolidated" file beside model*.safetensors is the same weights in another layout.
        return [n for n in on_disk if not n.startswith("consolidated")] or on_disk, None
    index = read_json(folder / INDEX_FILE).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(v, str) for v in index.values()):
        raise CheckpointError(
            f"{INDEX_FILE} has no usable weight_map",
            "an object that maps tensor names to shard file names",
            "download the index again",
        )
    if not index:
        raise CheckpointError(
            f"{INDEX_FILE} lists no tensors", "every tensor of the model", "download it again"
        )
    for shard in sorted(set(index.values())):
        parts = PurePosixPath(shard).parts
        if PurePosixPath(shard).is_absolute() or ".." in parts or "\\" in shard:
            raise CheckpointError(
                f"{INDEX_FILE} names the shard {shard!r}, outside the checkpoint directory",
                "shard files inside the directory",
                "do not load this checkpoint; get it from a source you trust",
            )
    return sorted(set(index.values())), index


def _check_index(index: Mapping[str, str], tensors: Mapping[str, TensorInfo]) -> list[str]:
    """Cross-check the index with the headers; returns notes, raises on contradictions."""
    for name, shard in index.items():
        if name not in tensors:
            raise CheckpointError(
                f"{INDEX_FILE} lists {name} in {shard}, but no shard holds it",
                "every tensor of the index in its shard",
                "download the shard again",
            )
        if tensors[name].shard != shard:
            raise CheckpointError(
                f"{INDEX_FILE} puts {name} in {shard}, but it is in {tensors[name].shard}",
                "an index that agrees with the shards",
                "download index and shards of the same revision",
            )
    unlisted = set(tensors) - set(index)
    return [f"not in the index: {listed(unlisted, 3)}"] if unlisted else []
