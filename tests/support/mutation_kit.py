# SPDX-License-Identifier: Apache-2.0
"""What checkpoint files mean, read from the files alone: the judge of the mutation test.

``meaning`` shares nothing with the package: it reads headers, settings and bytes itself, and
computes each format's formula with numpy and tables made from the definition of the encodings. It
is strict: whatever the definition of a format leaves open has no meaning (``NoMeaning``), and then
nothing may load. ``CASES`` are sound checkpoints of every format, as drafts that can be edited.
"""

import copy
import fnmatch
import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Json = Any
Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Shape = tuple[int, ...]
Files = dict[str, bytes]

INDEX, CONFIG = "model.safetensors.index.json", "config.json"
BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32,
    "F16": 16, "BF16": 16, "I16": 16, "U16": 16, "BOOL": 8, "I8": 8, "U8": 8,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F8_E8M0": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
_CODES8 = ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ")
_EXPONENTS = ("U8", "F8_E8M0")
_FLOATS = ("F32", "BF16", "F16")
_BYTES = ("U8", "I8")


class NoMeaning(Exception):
    """The files do not say what the weights are; the text says why."""


# ---------------------------------------------------------------------------------------------
# Encodings.


def _minifloat(exponent_bits: int, mantissa_bits: int, bias: int, special: str) -> Floats:
    """All values of a small float. ``special``: "fn", "fnuz", "ieee" or "finite"."""
    values = []
    for code in range(1 << (1 + exponent_bits + mantissa_bits)):
        sign = -1.0 if code >> (exponent_bits + mantissa_bits) else 1.0
        exponent = code >> mantissa_bits & (1 << exponent_bits) - 1
        mantissa = code & (1 << mantissa_bits) - 1
        highest = exponent == (1 << exponent_bits) - 1
        value = sign * math.ldexp(
            mantissa + ((1 << mantissa_bits) if exponent else 0),
            max(exponent, 1) - bias - mantissa_bits,
        )
        if special == "fn" and highest and mantissa == (1 << mantissa_bits) - 1:
            value = math.nan
        if special == "fnuz" and code == 1 << (exponent_bits + mantissa_bits):
            value = math.nan
        if special == "ieee" and highest:
            value = math.nan if mantissa else sign * math.inf
        values.append(value)
    return np.array(values, np.float32)


FP8 = {
    "F8_E4M3": _minifloat(4, 3, 7, "fn"),
    "F8_E5M2": _minifloat(5, 2, 15, "ieee"),
    "F8_E4M3FNUZ": _minifloat(4, 3, 8, "fnuz"),
}
FP4 = _minifloat(2, 1, 1, "finite")
E8M0: Floats = np.array([math.ldexp(1.0, b - 127) for b in range(255)] + [math.nan], np.float32)


def floats_of(dtype: str, raw: bytes, shape: Shape) -> Floats:
    """Stored bytes as float32, exactly."""
    if dtype in FP8:
        flat = FP8[dtype][np.frombuffer(raw, np.uint8)]
    elif dtype in _EXPONENTS:
        flat = E8M0[np.frombuffer(raw, np.uint8)]
    elif dtype == "BF16":
        flat = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif dtype == "F16":
        flat = np.frombuffer(raw, "<f2").astype(np.float32)
    elif dtype == "F32":
        flat = np.frombuffer(raw, "<f4").astype(np.float32)
    else:
        raise NoMeaning(f"{dtype} is no dtype of a scale")
    return flat.reshape(shape)


def rounded(values: Floats, dtype: str) -> npt.NDArray[np.uint16]:
    """float32 to the bits of ``dtype`` ("BF16", "F16"), to nearest, ties to even."""
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).view(np.uint16)
    bits = np.ascontiguousarray(values).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def nibbles(packed: Array) -> Array:
    """Two codes of each byte, the low four bits first."""
    return np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)


def spread(scale: Array, shape: Shape, block: tuple[int, int]) -> Array:
    """``scale[..., i // bn, j // bk]`` for every element of ``shape``."""
    rows, columns = np.arange(shape[-2]) // block[0], np.arange(shape[-1]) // block[1]
    return np.broadcast_to(scale[..., rows[:, None], columns[None, :]], shape)


def up(value: int, divisor: int) -> int:
    """Division, rounded up."""
    return (value + divisor - 1) // divisor


# ---------------------------------------------------------------------------------------------
# Files.


@dataclass(frozen=True)
class Stored:
    """A tensor on disk."""

    name: str
    dtype: str
    shape: Shape
    raw: bytes
    file: str

    @property
    def codes(self) -> npt.NDArray[np.uint8]:
        """Its bytes in its shape; for dtypes of one byte."""
        return np.frombuffer(self.raw, np.uint8).reshape(self.shape)


def _object(pairs: "list[tuple[str, Json]]") -> "dict[str, Json]":
    made = dict(pairs)
    if len(made) != len(pairs):
        raise NoMeaning("a name twice in a header")
    return made


def _no_constant(name: str) -> None:
    raise NoMeaning(f"{name} in a header")


def _json(raw: bytes) -> Json:
    """A header: UTF-8, no name twice, no NaN, no half of a character."""
    try:
        text = raw.decode("utf-8")
        content = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
        json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise NoMeaning("a header that is not JSON") from None
    return content


def read_shard(file: str, content: bytes) -> "dict[str, Stored]":
    """The tensors of a safetensors file, by the format's rules."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > len(content) - 8:
        raise NoMeaning(f"{file} is truncated")
    header, data = content[8 : 8 + size], content[8 + size :]
    entries = _json(header)
    if not isinstance(entries, dict):
        raise NoMeaning(f"the header of {file} is no JSON object")
    metadata = entries.pop("__metadata__", None)
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise NoMeaning(f"the metadata of {file} is not text")
    tensors, spans = {}, []
    for name, entry in entries.items():
        try:
            dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
            numbers = [*shape, start, stop]
        except (KeyError, TypeError, ValueError):
            raise NoMeaning(f"{name} of {file} is malformed") from None
        if not all(type(n) is int and 0 <= n < 2**64 for n in numbers) or dtype not in BITS:
            raise NoMeaning(f"{name} of {file} is malformed")
        if math.prod(shape) * BITS[dtype] != (stop - start) * 8:
            raise NoMeaning(f"{name} of {file} has another size")
        spans.append((start, stop))
        tensors[name] = Stored(name, dtype, tuple(shape), data[start:stop], file)
    at = 0
    for start, stop in sorted(spans):
        if start != at:
            raise NoMeaning(f"{file} has a gap or an overlap")
        at = stop
    if at != len(data):
        raise NoMeaning(f"{file} has {len(data)} bytes of data, not {at}")
    return tensors


def read_object(files: Files, name: str) -> "dict[str, Json]":
    """A JSON object."""
    try:
        content = json.loads(files[name].decode("utf-8"))
    except (KeyError, ValueError, RecursionError):
        raise NoMeaning(f"{name} is missing or not JSON") from None
    if not isinstance(content, dict):
        raise NoMeaning(f"{name} is no object")
    return content


def read_tensors(files: Files) -> "dict[str, Stored]":
    """All tensors of the checkpoint: the index's shards, and stray ones that only add tensors."""
    on_disk = sorted(name for name in files if name.endswith(".safetensors"))
    index: dict[str, Json] = {}
    shards = on_disk
    if INDEX in files:
        found = read_object(files, INDEX).get("weight_map")
        if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
            raise NoMeaning("the index has no map")
        index, shards = found, sorted(set(found.values()))
    if not on_disk:
        raise NoMeaning("no shards")
    tensors: dict[str, Stored] = {}
    for shard in shards:
        if shard not in files:
            raise NoMeaning(f"{shard} is missing")
        more = read_shard(shard, files[shard])
        if more.keys() & tensors.keys():
            raise NoMeaning("a tensor in two shards")
        tensors |= more
    for stray in on_disk:
        if stray not in shards and stray.startswith("model"):
            more = read_shard(stray, files[stray])
            if not more.keys() & tensors.keys():
                tensors |= more
    for name, shard in index.items():
        if name not in tensors or tensors[name].file != shard:
            raise NoMeaning(f"the index is wrong about {name}")
    return tensors


# ---------------------------------------------------------------------------------------------
# Settings: module name -> the ways its weight may be stored.


@dataclass(frozen=True)
class Way:
    """One way to store a weight. ``kind``: a key of ``_DECODERS``; the rest as it needs it."""

    kind: str
    block: tuple[int, int] | None = None
    group: int | None = None
    bits: int = 4
    symmetric: bool = True
    chunks: "tuple[int, frozenset[tuple[int, int, int]]] | None" = None


Ways = Callable[[str], "list[Way]"]


def ways_of(files: Files) -> Ways:
    """Read the quantization settings."""
    config = read_object(files, CONFIG)
    text = config.get("text_config")
    places = [config.get("quantization_config"),
              text.get("quantization_config") if isinstance(text, dict) else None,
              config.get("compression_config")]  # fmt: skip
    settings = next((place for place in places if place), None)
    if settings is None and "hf_quant_config.json" in files:
        settings = read_object(files, "hf_quant_config.json")
    if not isinstance(settings, dict):
        raise NoMeaning("no settings")
    facts = {**config, **text} if isinstance(text, dict) else config
    for read in (_read_fp8, _read_ct, _read_modelopt, _read_fbgemm, _read_mx, _read_quark):
        ways = read(settings, facts)
        if ways is not None:
            return ways
    raise NoMeaning("an unknown method")


def _method(settings: Json) -> str:
    return str(settings.get("quant_method") or "").lower().replace("_", "-")


def _pair_of(value: Json) -> tuple[int, int]:
    if isinstance(value, str):
        value = value.split("x")
    if isinstance(value, list) and len(value) == 2:
        numbers = [int(v) if re.fullmatch(r"\s*[0-9]+\s*", str(v)) else 0 for v in value]
        if min(numbers) > 0 and not any(isinstance(v, bool) for v in value):
            return numbers[0], numbers[1]
    raise NoMeaning(f"block size {value!r}")


def _group_of(value: Json) -> int | None:
    if value is None or value == -1:
        return None
    if type(value) is not int or value < 1:
        raise NoMeaning(f"group size {value!r}")
    return value


def _fixed(value: Json, *wanted: Json) -> None:
    """A setting that the format fixes: absent or as the format says."""
    if value is not None and (isinstance(value, bool) or value not in wanted):
        raise NoMeaning(f"{value!r}, but the format has {wanted}")


def _read_fp8(settings: Json, facts: Json) -> Ways | None:
    if _method(settings) not in ("fp8", "deepseek-v4-fp8"):
        return None
    dense = [Way("tensor"), Way("channel")]
    block = None
    if settings.get("weight_block_size") is not None:
        block = _pair_of(settings["weight_block_size"])
        dense = [Way("block", block)]
        if settings.get("activation_scheme") == "static":
            raise NoMeaning("static activations with blocks")
    known = {"expert_dtype": ("fp4", "fp8"), "store_dtype": ("mxfp4", "nvfp4"),
             "routed_experts_quant_method": ("mxfp4",), "moe_quant_algo": ("nvfp4", "mxfp4"),
             "dense_format": ("mxfp8",)}  # fmt: skip
    said = {key: settings.get(key) or facts.get(key) for key in known}
    for key, value in said.items():
        if value and str(value).lower() not in known[key]:
            raise NoMeaning(f"{key} {value!r}")
    model_type = str(facts.get("model_type") or "")
    if said.pop("dense_format"):
        dense.insert(0, Way("mxfp8"))
    if any(said.values()) or model_type.startswith("deepseek_v4"):
        dense += [Way("mxfp4"), Way("modelopt_nvfp4")]
    chunks = _chunks(facts) if model_type.startswith("mimo_v2") and block else None

    def ways(module: str) -> list[Way]:
        if re.search(r"\.shard_\d+$", module):
            return [Way("tensor")]
        if chunks is not None and module.endswith(".qkv_proj"):
            return [Way("chunked", block, chunks=chunks)]
        return dense

    return ways


def _chunks(facts: Json) -> "tuple[int, frozenset[tuple[int, int, int]]]":
    """(number of chunks, possible (Q, K, V) rows of one)."""

    def number(key: str) -> int:
        value = facts.get(key)
        return value if type(value) is int and value > 0 else 0

    count, rows = number("num_key_value_heads"), set()
    for prefix in ("", "swa_"):
        heads, kv = number(f"{prefix}num_attention_heads"), number(f"{prefix}num_key_value_heads")
        size = number(f"{prefix}head_dim")
        v_size = number(f"{prefix}v_head_dim") or size
        if count and heads and kv and size and heads % count == 0 and kv % count == 0:
            rows.add((heads // count * size, kv // count * size, kv // count * v_size))
    return count, frozenset(rows)


_PRESETS: "dict[str, Json]" = {
    "FP8": (8, "float", "tensor", None), "FP8_DYNAMIC": (8, "float", "channel", None),
    "FP8_BLOCK": (8, "float", "block", None), "MXFP8": (8, "float", "group", 32),
    "MXFP4": (4, "float", "group", 32), "NVFP4": (4, "float", "tensor_group", 16),
    "W4A16": (4, "int", "group", 128), "W8A16": (8, "int", "channel", None),
}  # fmt: skip


def _read_ct(settings: Json, facts: Json) -> Ways | None:
    if _method(settings) != "compressed-tensors":
        return None
    if settings.get("transform_config") or settings.get("sparsity_config"):
        raise NoMeaning("transformed or sparse")
    groups = settings.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise NoMeaning("no groups")
    names: dict[str, Way] = {}
    patterns: list[tuple[re.Pattern[str], Way]] = []
    classes: dict[str, Way] = {}
    for name, group in groups.items():
        if isinstance(group, list) and name.upper() in _PRESETS:
            bits, kind, strategy, size = _PRESETS[name.upper()]
            weights = {"num_bits": bits, "type": kind, "strategy": strategy, "group_size": size,
                       "block_structure": [128, 128],
                       "scale_dtype": "torch.uint8" if size == 32 else None}  # fmt: skip
            group = {"targets": group, "weights": weights}
        if not isinstance(group, dict):
            raise NoMeaning("a malformed group")
        targets = group.get("targets") or ["Linear"]
        if not isinstance(targets, list):
            raise NoMeaning("malformed targets")
        if group.get("weights") is None or all(str(t).endswith("Attention") for t in targets):
            continue
        way = _ct_way(group, settings.get("format"))
        for target in map(str, targets):
            if target.startswith("re:"):
                try:
                    patterns.append((re.compile(target[3:]), way))
                except re.error:
                    raise NoMeaning(f"{target} is no pattern") from None
            elif target[:1].isupper() and "." not in target:
                classes[target] = way  # of two groups for one class, the last counts
            else:
                names[target] = way
    return _choose(names, patterns, list(classes.values()))


def _choose(
    names: "Mapping[str, Way]",
    patterns: "list[tuple[re.Pattern[str], Way]]",
    default: "list[Way]",
) -> Ways:
    """A name, else the first pattern that matches, else all that may be meant."""
    every = [*names.values(), *(way for _, way in patterns)]
    if not (every or default):
        raise NoMeaning("no weights are quantized")

    def ways(module: str) -> list[Way]:
        if module in names:
            return [names[module]]
        matching = [way for pattern, way in patterns if pattern.match(module)]
        return matching[:1] or default or every

    return ways


def _ct_way(group: Json, default_format: Json) -> Way:
    weights = group["weights"]
    if not isinstance(weights, dict):
        raise NoMeaning("malformed weights")
    bits, kind = weights.get("num_bits"), weights.get("type", "int")
    strategy, size = weights.get("strategy"), weights.get("group_size")
    stored = group.get("format") or default_format
    if stored in (None, "mixed-precision", "dense"):
        if kind == "int" and not group.get("input_activations"):
            stored = "pack-quantized"
        elif kind != "int" and bits == 4:
            stored = "nvfp4" if strategy == "tensor_group" else "mxfp4"
            stored += "-pack-quantized"
        else:
            stored = "float-quantized"
    mx = {"mxfp4-pack-quantized": (4, "mxfp4"), "mxfp8-quantized": (8, "mxfp8")}
    if not isinstance(stored, str):
        raise NoMeaning(f"format {stored!r}")
    if stored in mx or stored == "nvfp4-pack-quantized":
        way = Way(mx[stored][1] if stored in mx else "nvfp4")
        _fixed(bits, mx[stored][0] if stored in mx else 4)
        _fixed(weights.get("type"), "float")
        _fixed(strategy, "group" if stored in mx else "tensor_group")
        _fixed(size, 32 if stored in mx else 16)
        return way
    if isinstance(bits, bool):
        raise NoMeaning(f"num_bits {bits!r}")
    if stored == "pack-quantized" and kind == "int" and bits in (4, 8):
        if weights.get("actorder") in ("group", "dynamic"):
            raise NoMeaning("reordered columns")
        symmetric = weights.get("symmetric", True)
        if not isinstance(symmetric, bool) and symmetric not in (0, 1):
            raise NoMeaning(f"symmetric {symmetric!r}")
        if strategy not in ("group", "channel"):
            raise NoMeaning(f"strategy {strategy!r}")
        of = _group_of(size) if strategy == "group" else None
        return Way("int", group=of, bits=int(bits), symmetric=bool(symmetric))
    if stored in ("float-quantized", "naive-quantized") and (bits, kind) == (8, "float"):
        if strategy == "block":
            return Way("block", _pair_of(weights.get("block_structure")))
        if strategy == "group" and "uint8" in str(weights.get("scale_dtype")):
            _fixed(size, 32)
            return Way("mxfp8")
        if strategy == "group" and _group_of(size) is not None:
            return Way("group", group=_group_of(size))
        if strategy in ("tensor", "channel"):
            return Way(strategy)
    raise NoMeaning(f"{stored} of {bits}-bit {kind}, strategy {strategy}")


_ALGORITHMS = {
    "FP8": (Way("tensor"),), "FP8_PER_CHANNEL_PER_TOKEN": (Way("modelopt_channel"),),
    "FP8_PB_WO": (Way("modelopt_block", (128, 128)),),
    "FP8_BLOCK_SCALES": (Way("modelopt_block", (128, 128)),),
    "MXFP8": (Way("mxfp8"), 32), "MXFP4": (Way("mxfp4"), 32), "W4A8_MXFP4_FP8": (Way("mxfp4"), 32),
    "NVFP4": (Way("modelopt_nvfp4"), 16), "W4A16_NVFP4": (Way("modelopt_nvfp4"), 16),
    "W4A8_NVFP4_FP8": (Way("modelopt_nvfp4"), 16),
}  # fmt: skip


def _read_modelopt(settings: Json, facts: Json) -> Ways | None:
    producer, nested = settings.get("producer"), settings.get("quantization")
    if isinstance(nested, dict) and "quant_algo" in nested:
        settings = nested
    elif not (
        (isinstance(producer, dict) and producer.get("name") == "modelopt")
        or _method(settings).startswith("modelopt")
    ):
        return None
    if str(settings.get("quant_algo") or "").upper() != "MIXED_PRECISION":
        return _choose({}, [], [_algorithm(settings)])
    layers = settings.get("quantized_layers")
    if not isinstance(layers, dict):
        raise NoMeaning("no quantized_layers")
    names, patterns = {}, []
    for module, layer in layers.items():
        said = layer if isinstance(layer, dict) else {"quant_algo": layer}
        if str(said.get("quant_algo") or "NONE").upper() == "NONE":
            continue
        if "*" in module:
            patterns.append((re.compile(fnmatch.translate(module)), _algorithm(said)))
        else:
            names[module] = _algorithm(said)
    return _choose(names, patterns, [])


def _algorithm(said: Json) -> Way:
    found = _ALGORITHMS.get(str(said.get("quant_algo") or "").upper())
    if found is None:
        raise NoMeaning(f"quant_algo {said.get('quant_algo')!r}")
    way, *group = found
    if group:
        _fixed(said.get("group_size"), *group)
    assert isinstance(way, Way)
    return way


def _read_fbgemm(settings: Json, facts: Json) -> Ways | None:
    if _method(settings) != "fbgemm-fp8":
        return None
    experts = re.compile(r".*experts\.(gate_up_proj|down_proj)$")
    return _choose({}, [(experts, Way("column"))], [Way("channel")])


def _read_mx(settings: Json, facts: Json) -> Ways | None:
    ways = {"mxfp8": [Way("mxfp8")], "mxfp4": [Way("gpt_oss"), Way("mxfp4")],
            "gpt-oss-mxfp4": [Way("gpt_oss")]}.get(_method(settings))  # fmt: skip
    return _choose({}, [], ways) if ways else None


def _read_quark(settings: Json, facts: Json) -> Ways | None:
    if _method(settings) != "quark":
        return None
    classes = settings.get("layer_type_quant_config")
    specs = list(classes.values()) if isinstance(classes, dict) else []
    default = [_quark_way(spec) for spec in (*specs, settings.get("global_quant_config"))]
    layers = settings.get("layer_quant_config")
    named = layers.items() if isinstance(layers, dict) else ()
    patterns = [(re.compile(fnmatch.translate(name)), _quark_way(spec)) for name, spec in named]
    return _choose(
        {}, [(p, way) for p, way in patterns if way], [way for way in default if way]
    )  # fmt: skip


def _quark_way(spec: Json) -> Way | None:
    weight = spec.get("weight") if isinstance(spec, dict) else None
    if not weight:
        return None
    levels = weight if isinstance(weight, list) else [weight]
    if not all(isinstance(level, dict) for level in levels):
        raise NoMeaning("a malformed spec")
    dtypes = [level.get("dtype") for level in levels]
    first = levels[0]
    scheme, group = first.get("qscheme"), _group_of(first.get("group_size"))
    if dtypes == ["fp4", "fp8_e4m3"]:
        _fixed(scheme, "per_group")
        _fixed(first.get("group_size"), 16)
        return Way("modelopt_nvfp4")
    if dtypes == ["fp4"] and (scheme, group) == ("per_group", 32):
        return Way("mxfp4")
    if dtypes == ["fp8_e4m3"]:
        if scheme == "per_block":
            return Way("block", _pair_of(first.get("block_size")))
        if scheme == "per_group" and group is not None:
            return Way("mxfp8") if group == 32 else Way("group", group=group)
        if scheme in ("per_tensor", "per_channel"):
            return Way(scheme.removeprefix("per_"))
    raise NoMeaning(f"Quark weights {dtypes} {scheme}")


# ---------------------------------------------------------------------------------------------
# Pairing, by name.

_DROPPED = (
    "input_scale", "activation_scale", "input_scale_ub", "output_scale", "input_scale_2",
    "input_global_scale", "input_zero_point", "azp_adj", "input_amax", ".qscale_act", ".q_scale",
    ".k_scale", ".v_scale", ".kv_scale", ".q_zero_point", ".k_zero_point", ".v_zero_point",
    ".k_proj.k_bias", ".v_proj.v_bias", ".q.scale", ".k_cache.scale", ".v_cache.scale",
)  # fmt: skip
_NEVER = (
    "pre_quant_scale", "svdquant_lora_a", "svdquant_lora_b", "weight_g_idx", ".qweight", ".qzeros",
    ".weight_offset", ".quant_bias", ".deq_scale",
)  # fmt: skip
# Of partners: role, suffix, what stands in its place in the name of the codes.
_SUFFIXES = (
    ("scale", "_scale_inv", ""), ("scale", "_scale", ""), ("scale", ".scale", ".weight"),
    ("scale", ".qscale_weight", ".weight"), ("scale", "_weight_scale", ""),
    ("scale", "_scales", "_blocks"), ("scale", ".weight_scale", ".weight_packed"),
    ("global", "_scale_2", ""), ("global", "_weight_scale_2", ""),
    ("global", ".weight_global_scale", ".weight_packed"),
    ("zero", ".weight_zero_point", ".weight_packed"),
    ("shape", ".weight_shape", ".weight_packed"),
)  # fmt: skip
_ONLY_PARTNERS = (
    "_scale_inv", ".weight_scale", ".weight_scale_2", ".weight_global_scale", ".weight_zero_point",
    ".weight_shape", ".qscale_weight",
)  # fmt: skip


@dataclass(frozen=True)
class Weight:
    """Codes and what belongs to them. ``bmm``: named ``..._weight_scale``, so ``[E, in, out]``."""

    codes: Stored
    partners: "Mapping[str, Stored]"
    bmm: bool

    @property
    def scale(self) -> Stored:
        """Its scale."""
        return self.partners["scale"]


def _owners(name: str) -> Iterator[tuple[str, str]]:
    """(role, codes) that ``name`` could be a partner of."""
    for role, suffix, instead in _SUFFIXES:
        if name.endswith(suffix):
            codes = name[: len(name) - len(suffix)] + instead
            if not (suffix.startswith("_weight_") and codes.endswith(".weight")):
                yield role, codes


def _is_codes(tensor: Stored, tensors: "Mapping[str, Stored]") -> bool:
    name, two_d = tensor.name, len(tensor.shape) > 1
    if name.endswith(".weight_packed"):
        return True
    if name.endswith("_blocks"):
        return tensor.dtype in _BYTES
    if tensor.dtype.startswith(("F8_", "F6_")) or tensor.dtype == "F4":
        return not any(codes in tensors for role, codes in _owners(name) if role == "scale")
    if tensor.dtype not in _BYTES or not two_d:
        return False
    owned = any(name + s in tensors for s in ("_scale", "_scale_inv", "_weight_scale"))
    return name.endswith(".weight") or owned


def weights_of(tensors: "Mapping[str, Stored]") -> "tuple[list[Weight], set[str]]":
    """Every low-precision weight, and the names of all tensors that are not handed on as stored."""
    for name in tensors:
        if name.endswith(_NEVER):
            raise NoMeaning(f"{name} needs more than scales")
    gone = {name for name in tensors if name.endswith(_DROPPED)}
    codes = [t for t in tensors.values() if t.name not in gone and _is_codes(t, tensors)]
    owned: dict[str, dict[str, Stored]] = {t.name: {} for t in codes}
    for tensor in tensors.values():
        for role, owner in _owners(tensor.name):
            if owner in owned and tensor.name != owner:
                if role in owned[owner]:
                    raise NoMeaning(f"two partners {role} of {owner}")
                owned[owner][role] = tensor
    weights = []
    for tensor in codes:
        partners = owned[tensor.name]
        table = re.sub(r"\.shard_\d+\.weight$", ".weight_scale", tensor.name)
        if table != tensor.name and table in tensors:
            if "scale" in partners:
                raise NoMeaning(f"two scales of {tensor.name}")
            partners["scale"] = tensors[table]
        if "scale" not in partners:
            raise NoMeaning(f"no scale of {tensor.name}")
        packed = tensor.name.endswith((".weight", ".weight_packed", "_blocks"))
        bmm = not packed and partners["scale"].name == tensor.name + "_weight_scale"
        weights.append(Weight(tensor, partners, bmm))
        gone |= {tensor.name, *(partner.name for partner in partners.values())}
    for name, tensor in tensors.items():
        if name not in gone:
            orphan = name.endswith(_ONLY_PARTNERS)
            orphan |= name.endswith("_scale") and name.removesuffix("_scale") in tensors
            orphan |= name.endswith("_scales") and tensor.dtype in _EXPONENTS
            if name.endswith(".scale"):
                weight = tensors.get(name.removesuffix(".scale") + ".weight")
                orphan |= weight is not None and len(weight.shape) > 1
            if orphan:
                raise NoMeaning(f"{name} is the scale of nothing")
    return weights, gone


# ---------------------------------------------------------------------------------------------
# Formulas. Each returns name -> float32 values, or raises NoMeaning.


def _need(condition: bool, text: str) -> None:
    if not condition:
        raise NoMeaning(text)


def _scale(tensor: Stored, allowed: "tuple[str, ...]", *, zero: bool = True) -> Floats:
    _need(tensor.dtype in allowed, f"{tensor.name} is {tensor.dtype}")
    values = floats_of(tensor.dtype, tensor.raw, tensor.shape)
    bad = ~np.isfinite(values) | np.signbit(values) | ((values == 0) & (not zero))
    _need(not bad.any(), f"{tensor.name} holds a value that no scale has")
    return values


def _product(codes: Floats, factor: Array, what: str) -> Floats:
    """``code * scale``; a scale that is zero or not finite has lost what it scaled."""
    _need(bool(np.isfinite(factor).all()), f"{what}: the scale overflows")
    lost = (factor == 0) & (codes != 0)
    _need(not lost.any(), f"{what}: a zero scale over codes")
    made: Floats = codes * factor.astype(np.float32)
    return made


def _fp8(weight: Weight) -> Floats:
    codes = weight.codes
    _need(codes.dtype in _CODES8 and len(codes.shape) in (2, 3), f"{codes.name} is no fp8 weight")
    _need(math.prod(codes.shape) > 0, f"{codes.name} is empty")
    return FP8[codes.dtype][codes.codes]


def _no_more(weight: Weight, *roles: str) -> None:
    _need(weight.partners.keys() == {"scale", *roles}, f"partners of {weight.codes.name}")


def _halves(weight: Weight) -> bool:
    """Whether gate and up may have scales of their own: fused experts of even rows."""
    shape = weight.codes.shape
    named = weight.codes.name.endswith("gate_up_proj") and not weight.bmm
    return len(shape) == 3 and named and shape[-2] % 2 == 0


def _blocks(weight: Weight, block: tuple[int, int], *, inserted: bool = False) -> Floats:
    _no_more(weight)
    codes, shape = _fp8(weight), weight.codes.shape
    *lead, N, K = shape
    scale = _scale(weight.scale, _FLOATS + _EXPONENTS)
    grid = (*lead, up(N, block[0]), up(K, block[1]))
    if inserted and scale.shape == (*lead, grid[-2], 1, grid[-1], 1):
        scale = scale.reshape(grid)
    if not inserted and _halves(weight) and grid[-2] == 1 and scale.shape[-2:-1] == (2,):
        grid, block = (*lead, 2, grid[-1]), (N // 2, block[1])
    _need(scale.shape == grid, f"grid {scale.shape}, not {grid}")
    return _product(codes, spread(scale, shape, block), weight.codes.name)


def _block(weight: Weight, way: Way) -> Floats:
    assert way.block
    return _blocks(weight, way.block)


def _modelopt_block(weight: Weight, way: Way) -> Floats:
    assert way.block
    return _blocks(weight, way.block, inserted=True)


def _tensor(weight: Weight, way: Way) -> Floats:
    _no_more(weight)
    codes, shape = _fp8(weight), weight.codes.shape
    scale = _scale(weight.scale, _FLOATS + _EXPONENTS)
    *lead, N, K = shape
    if scale.size == 1:
        return _product(codes, np.broadcast_to(scale.reshape(()), shape), weight.codes.name)
    if lead and scale.shape in ((*lead,), (*lead, 1), (*lead, 1, 1)):
        grid, block = scale.reshape(*lead, 1, 1), (N, K)
    else:
        _need(_halves(weight) and scale.shape == (*lead, 2, 1), f"scale {scale.shape}")
        grid, block = scale, (N // 2, K)
    return _product(codes, spread(grid, shape, block), weight.codes.name)


def _channel(weight: Weight, way: Way) -> Floats:
    _no_more(weight)
    codes, shape = _fp8(weight), weight.codes.shape
    scale = _scale(weight.scale, _FLOATS + _EXPONENTS)
    rows = shape[:-1]
    _need(scale.shape in (rows, (*rows, 1)) and not weight.bmm, f"scale {scale.shape}")
    return _product(codes, spread(scale.reshape(*rows, 1), shape, (1, shape[-1])), "channel")


def _columns(weight: Weight, shapes: "tuple[Shape, ...]") -> Floats:
    _no_more(weight)
    codes, shape = _fp8(weight), weight.codes.shape
    scale = _scale(weight.scale, _FLOATS + _EXPONENTS)
    _need(len(shape) == 3 and scale.shape in shapes, f"scale {scale.shape}")
    return _product(codes, spread(scale.reshape(shape[0], 1, shape[2]), shape, (shape[1], 1)), "")


def _column(weight: Weight, way: Way) -> Floats:
    E, out = weight.codes.shape[0], weight.codes.shape[-1]
    return _columns(weight, ((E, out),) if weight.bmm else ((E, 1, out), (E, out, 1)))


def _modelopt_channel(weight: Weight, way: Way) -> Floats:
    if weight.bmm:
        return _columns(weight, ((weight.codes.shape[0], weight.codes.shape[-1]),))
    return _channel(weight, way)


def _grouped(weight: Weight, group: int, dtypes: "tuple[str, ...]", *, whole: bool) -> Floats:
    _no_more(weight)
    codes, shape = _fp8(weight), weight.codes.shape
    _need(not (whole and shape[-1] % group) and not weight.bmm, f"columns {shape[-1]}")
    scale, grid = _scale(weight.scale, dtypes), (*shape[:-1], up(shape[-1], group))
    _need(scale.shape == grid, f"grid {scale.shape}, not {grid}")
    return _product(codes, spread(scale, shape, (1, group)), weight.codes.name)


def _group(weight: Weight, way: Way) -> Floats:
    assert way.group
    return _grouped(weight, way.group, _FLOATS, whole=False)


def _mxfp8(weight: Weight, way: Way) -> Floats:
    return _grouped(weight, 32, _EXPONENTS, whole=True)


def _fp4(codes: Array) -> Floats:
    values: Floats = FP4[nibbles(codes)]
    return values


def _mxfp4(weight: Weight, way: Way) -> Floats:
    _no_more(weight)
    codes = weight.codes
    _need(codes.dtype in _BYTES and len(codes.shape) in (2, 3) and not weight.bmm, codes.name)
    _need(codes.shape[-1] % 16 == 0 and math.prod(codes.shape) > 0, f"columns {codes.shape}")
    shape = (*codes.shape[:-1], 2 * codes.shape[-1])
    scale = _scale(weight.scale, _FLOATS + _EXPONENTS)
    _need(scale.shape == (*shape[:-1], shape[-1] // 32), f"grid {scale.shape}")
    powers = (np.frexp(scale)[0] == 0.5) | (scale == 0)
    _need(bool(powers.all()), "a scale that is no power of two")
    return _product(_fp4(codes.codes), spread(scale, shape, (1, 32)), codes.name)


def _nvfp4_factors(weight: Weight, shape: Shape, divides: bool) -> Array:
    """Scale and global scale together, ``[..., N, K / 16]``, of codes as [..., out, in]."""
    scale = _scale(weight.scale, ("F8_E4M3",))
    if weight.bmm and scale.ndim > 1:
        scale = scale.swapaxes(-1, -2)
    _need(scale.shape == (*shape[:-1], shape[-1] // 16), f"grid {scale.shape}")
    over = _scale(weight.partners["global"], _FLOATS, zero=False)
    lead = shape[:-2]
    gate_up = not divides and weight.codes.name.endswith("gate_up_proj") and shape[-2] % 2 == 0
    if over.shape in ((), (1,)):
        factor: Array = over.reshape(())
    elif lead and over.shape in (lead, (*lead, 1), (*lead, 1, 1)):
        _need(not (divides and len(over.shape) == 3), "a divisor of three dimensions")
        factor = over.reshape(*lead, 1, 1)
    else:
        _need(bool(lead) and gate_up and over.shape == (*lead, 2), f"global {over.shape}")
        factor = over.repeat(shape[-2] // 2, -1)[..., None]
    return scale / factor if divides else scale * factor


def _nvfp4_of(weight: Weight, *, divides: bool) -> Floats:
    _no_more(weight, "global")
    stored = weight.codes
    _need(stored.dtype == "U8" and len(stored.shape) in (2, 3), stored.name)
    codes = stored.codes.swapaxes(-1, -2) if weight.bmm else stored.codes
    shape = (*codes.shape[:-1], 2 * codes.shape[-1])
    _need(shape[-1] % 16 == 0 and math.prod(shape) > 0, f"columns {shape[-1]}")
    factors = _nvfp4_factors(weight, shape, divides)
    made = _product(_fp4(codes), spread(factors, shape, (1, 16)), stored.name)
    return made.swapaxes(-1, -2) if weight.bmm else made


def _nvfp4(weight: Weight, way: Way) -> Floats:
    _need(not weight.bmm, "no such name")
    return _nvfp4_of(weight, divides=True)


def _modelopt_nvfp4(weight: Weight, way: Way) -> Floats:
    return _nvfp4_of(weight, divides=False)


def _gpt_oss(weight: Weight, way: Way) -> Floats:
    _no_more(weight)
    codes = weight.codes
    _need(codes.dtype == "U8" and len(codes.shape) == 4 and codes.shape[-1] == 16, codes.name)
    _need(math.prod(codes.shape) > 0, "empty")
    scale = _scale(weight.scale, _EXPONENTS)
    E, out, groups, _ = codes.shape
    _need(scale.shape == (E, out, groups), f"grid {scale.shape}")
    values = _fp4(codes.codes).reshape(E, out, 32 * groups)
    made = _product(values, spread(scale, values.shape, (1, 32)), codes.name)
    return made.swapaxes(1, 2)


def _unpacked(words: Stored, bits: int) -> Array:
    """Codes of little-endian 32-bit words along the last dimension, the lowest bits first."""
    _need(words.dtype == "I32", f"{words.name} is {words.dtype}")
    values = np.frombuffer(words.raw, "<u4").reshape(words.shape).astype(np.uint64)
    places = np.arange(0, 32, bits, dtype=np.uint64)
    codes = values[..., None] >> places & np.uint64(2**bits - 1)
    return codes.reshape(*words.shape[:-1], -1).astype(np.int64)


def _int(weight: Weight, way: Way) -> Floats:
    _no_more(weight, "shape", *([] if way.symmetric else ["zero"]))
    stored, said = weight.codes, weight.partners["shape"]
    _need(len(stored.shape) in (2, 3) and math.prod(stored.shape) > 0, stored.name)
    words = _unpacked(stored, way.bits)
    _need(said.dtype in ("I64", "I32") and len(said.shape) == 1, f"{said.name} {said.dtype}")
    sizes = np.frombuffer(said.raw, "<i8" if said.dtype == "I64" else "<i4").tolist()
    _need(len(sizes) in (2, len(stored.shape)), f"{said.name} says {sizes}")
    _need(tuple(sizes[:-1]) == stored.shape[-len(sizes) : -1], f"{said.name} says {sizes}")
    K = sizes[-1]
    _need(K > 0 and up(K, 32 // way.bits) == stored.shape[-1], f"{said.name} says {sizes}")
    shape, group = (*stored.shape[:-1], K), way.group or K
    scale = _scale(weight.scale, _FLOATS)
    grid = (*shape[:-1], up(K, group))
    _need(scale.shape == grid, f"grid {scale.shape}, not {grid}")
    zero: Array = np.full(grid, 2 ** (way.bits - 1))
    if not way.symmetric:
        packed = weight.partners["zero"]
        wanted = (*grid[:-2], up(grid[-2], 32 // way.bits), grid[-1])
        _need(packed.dtype == "I32" and packed.shape == wanted, f"{packed.name} {packed.shape}")
        turned = np.frombuffer(packed.raw, "<u4").reshape(wanted).swapaxes(-1, -2)
        turned = np.ascontiguousarray(turned)
        again = Stored(packed.name, "I32", turned.shape, turned.tobytes(), packed.file)
        zero = _unpacked(again, way.bits)[..., : grid[-2]].swapaxes(-1, -2)
    codes = (words[..., :K] - spread(zero, shape, (1, group))).astype(np.float32)
    return _product(codes, spread(scale, shape, (1, group)), stored.name)


def _chunked(weight: Weight, way: Way) -> "dict[str, Floats]":
    assert way.block
    assert way.chunks
    _no_more(weight)
    codes = _fp8(weight)
    _need(codes.ndim == 2 and weight.codes.name.endswith(".weight"), weight.codes.name)
    (N, K), (bn, bk), (count, options) = codes.shape, way.block, way.chunks
    fitting = [rows for rows in options if count * sum(rows) == N]
    _need(len(fitting) == 1, f"{N} rows are no chunks")
    scale, rows = _scale(weight.scale, _FLOATS + _EXPONENTS), N // count
    tiles = up(rows, bn)
    _need(scale.shape == (count * tiles, up(K, bk)), f"grid {scale.shape}")
    base = weight.codes.name.removesuffix("qkv_proj.weight")
    parts: dict[str, list[Floats]] = {f"{base}{kind}_proj.weight": [] for kind in "qkv"}
    for chunk in range(count):
        grid = scale[chunk * tiles : (chunk + 1) * tiles]
        piece = codes[chunk * rows : (chunk + 1) * rows]
        values = _product(piece, spread(grid, piece.shape, (bn, bk)), base)
        start = 0
        for name, size in zip(parts, fitting[0], strict=True):
            parts[name].append(values[start : start + size])
            start += size
    return {name: np.concatenate(values) for name, values in parts.items()}


_DECODERS: "dict[str, Callable[[Weight, Way], Any]]" = {
    "block": _block, "modelopt_block": _modelopt_block, "tensor": _tensor, "channel": _channel,
    "column": _column, "modelopt_channel": _modelopt_channel, "group": _group, "mxfp8": _mxfp8,
    "mxfp4": _mxfp4, "nvfp4": _nvfp4, "modelopt_nvfp4": _modelopt_nvfp4, "gpt_oss": _gpt_oss,
    "int": _int, "chunked": _chunked,
}  # fmt: skip


# ---------------------------------------------------------------------------------------------
# The whole.


@dataclass(frozen=True)
class Value:
    """What the model gets: header dtype, shape, bytes; ``nan``: where any NaN will do."""

    dtype: str
    shape: Shape
    raw: bytes
    nan: "npt.NDArray[np.bool_] | None" = None


def as_stored(files: Files) -> "dict[str, Value]":
    """Every tensor as it is."""
    return {t.name: Value(t.dtype, t.shape, t.raw) for t in read_tensors(files).values()}


def meaning(files: Files, dtype: str) -> "dict[str, Value]":
    """What the files say the model gets, with weights in ``dtype`` ("BF16" or "F16").

    Raises NoMeaning if they do not say.
    """
    tensors, ways = read_tensors(files), ways_of(files)
    weights, gone = weights_of(tensors)
    made = {n: Value(t.dtype, t.shape, t.raw) for n, t in tensors.items() if n not in gone}
    for weight in weights:
        for name, values in _decoded(weight, ways).items():
            if name in made:
                raise NoMeaning(f"{name} twice")
            bits, nan = rounded(values, dtype), np.isnan(values)
            finite = 0x7F80 if dtype == "BF16" else 0x7C00
            if ((bits & 0x7FFF == finite) & ~nan).any():
                raise NoMeaning(f"{name} exceeds {dtype}")
            made[name] = Value(dtype, values.shape, bits.tobytes(), nan)
    return made


def _decoded(weight: Weight, ways: Ways) -> "dict[str, Floats]":
    """By all the ways it may be stored; if two of them fit and differ, none is meant."""
    name = weight.codes.name
    module = name.removesuffix(".weight").removesuffix(".weight_packed")
    if name.endswith(".weight_packed"):
        name = module + ".weight"
    name = name.removesuffix("_blocks")
    results: list[dict[str, Floats]] = []
    reasons = []
    for way in ways(module):
        try:
            with np.errstate(all="ignore"):
                made = _DECODERS[way.kind](weight, way)
        except NoMeaning as error:
            reasons.append(str(error))
        else:
            results.append(made if isinstance(made, dict) else {name: made})
    _need(bool(results), " / ".join(reasons))
    for other in results[1:]:
        same = other.keys() == results[0].keys() and all(
            np.array_equal(other[n], results[0][n], equal_nan=True) for n in other
        )
        _need(same, f"{name} can be read in two ways")
    return results[0]


# ---------------------------------------------------------------------------------------------
# Drafts: checkpoints that can be edited.


@dataclass
class Item:
    """A tensor of a draft. ``shift``: added to its data_offsets in the header."""

    dtype: str
    shape: "list[Any]"
    data: bytes
    shift: tuple[int, int] = (0, 0)


@dataclass
class Draft:
    """A checkpoint before it is written. ``patches``: done to the files, last."""

    config: "dict[str, Json]"
    shards: "dict[str, dict[str, Item]]"
    index: "dict[str, Json] | None" = None
    legacy: "dict[str, Json] | None" = None
    patches: "list[Callable[[Files], None]]" = field(default_factory=list)

    def copy(self) -> "Draft":
        """One that can be edited on its own."""
        return copy.deepcopy(self)

    @property
    def items(self) -> "list[tuple[str, str]]":
        """(shard, name) of every tensor."""
        return [(shard, name) for shard, items in self.shards.items() for name in items]

    def files(self) -> Files:
        """The files it makes."""
        files = {CONFIG: json.dumps(self.config).encode()}
        for shard, items in self.shards.items():
            files[shard] = _shard_bytes(items)
        if self.index is not None:
            files[INDEX] = json.dumps({"metadata": {}, "weight_map": self.index}).encode()
        if self.legacy is not None:
            files["hf_quant_config.json"] = json.dumps(self.legacy).encode()
        for patch in self.patches:
            patch(files)
        return files


def _shard_bytes(items: "Mapping[str, Item]") -> bytes:
    header: dict[str, Json] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, item in items.items():
        offsets = [at + item.shift[0], at + len(item.data) + item.shift[1]]
        header[name] = {"dtype": item.dtype, "shape": item.shape, "data_offsets": offsets}
        at += len(item.data)
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw + b"".join(item.data for item in items.values())


def random_of(text: str) -> np.random.Generator:
    """Random numbers that depend on ``text`` alone."""
    return np.random.default_rng(zlib.crc32(text.encode()))


def codes(name: str, dtype: str, *shape: int) -> "dict[str, Item]":
    """Random codes; no NaN."""
    count = math.prod(shape) * BITS[dtype] // 8
    raw = random_of(name).integers(0, 256, count, np.uint8)
    if dtype == "F8_E4M3":
        raw = np.where(raw & 0x7F == 0x7F, raw ^ 1, raw).astype(np.uint8)
    return {name: Item(dtype, list(shape), raw.tobytes())}


def scale(name: str, dtype: str, *shape: int, power: bool = False) -> "dict[str, Item]":
    """Random scales. ``power``: powers of two."""
    random, count = random_of(name), math.prod(shape)
    if dtype in _EXPONENTS:
        raw = random.integers(112, 131, count, np.uint8).tobytes()
    elif dtype == "F8_E4M3":
        raw = random.integers(8, 0x60, count, np.uint8).tobytes()
    else:
        exponents = random.uniform(-8, 1, count)
        values = (2.0 ** (np.round(exponents) if power else exponents)).astype("<f4")
        raw = values.tobytes()
        if dtype == "BF16":
            raw = (values.view("<u4") >> 16).astype("<u2").tobytes()
        if dtype == "F16":
            raw = values.astype("<f2").tobytes()
    return {name: Item(dtype, list(shape), raw)}


def numbers(name: str, *values: int, dtype: str = "I64") -> "dict[str, Item]":
    """A vector of whole numbers."""
    return {name: Item(dtype, [len(values)], np.array(values, f"<i{BITS[dtype] // 8}").tobytes())}


PLAIN = {
    **scale("model.norm.weight", "BF16", 6), **scale("gate.e_score_correction_bias", "F32", 3),
    **scale("lm_head.weight", "BF16", 4, 6), **codes("tid2eid", "I64", 2, 3),
    **scale("l.k_proj.k_scale", "F32"), **scale("l.up.input_scale", "F32", 1),
}  # fmt: skip

CASES: "dict[str, Draft]" = {}
FORMAT_OF: "dict[str, str]" = {}


def _case(
    name: str,
    formats: str,
    settings: "dict[str, Json]",
    *tensors: "dict[str, Item]",
    legacy: bool = False,
    shards: int = 1,
    **config: Json,
) -> None:
    """Register a sound checkpoint. ``formats``: ids of the package's formats, for coverage."""
    merged = {key: item for part in (*tensors, PLAIN) for key, item in part.items()}
    files = ["model.safetensors"]
    if shards > 1:
        files = [f"model-{n:05d}-of-{shards:05d}.safetensors" for n in range(1, shards + 1)]
    divided: dict[str, dict[str, Item]] = {file: {} for file in files}
    for number, (key, item) in enumerate(merged.items()):
        divided[files[number % shards]][key] = item
    index = {key: file for file, items in divided.items() for key in items}
    config = {"model_type": "llama", "torch_dtype": "bfloat16", **config}
    if not legacy:
        config["quantization_config"] = settings
    CASES[name] = Draft(
        config, divided, index if shards > 1 else None, settings if legacy and settings else None
    )
    FORMAT_OF[name] = formats


def _blocks_of(*sizes: int) -> "dict[str, Json]":
    return {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3",
            "weight_block_size": list(sizes)}  # fmt: skip


def _ct(
    stored: "str | None", weights: "dict[str, Json]", *targets: str, **more: Json
) -> "dict[str, Json]":
    group = {"targets": list(targets or ["Linear"]), "weights": weights, "input_activations": None}
    return {"quant_method": "compressed-tensors", "format": stored, "ignore": ["lm_head"],
            "quantization_status": "compressed", "config_groups": {"group_0": group},
            **more}  # fmt: skip


def _modelopt(algorithm: str, **more: Json) -> "dict[str, Json]":
    return {"quant_method": "modelopt", "quant_algo": algorithm, "producer": {"name": "modelopt"},
            "ignore": ["lm_head"], **more}  # fmt: skip


def _quark(**weight: Json) -> "dict[str, Json]":
    return {"quant_method": "quark", "exclude": ["lm_head"], "layer_type_quant_config": {},
            "global_quant_config": {"weight": weight, "input_tensors": None},
            "layer_quant_config": {}}  # fmt: skip


def _register() -> None:
    f8, f32, u8, i8, i32, e8m0 = "F8_E4M3", "F32", "U8", "I8", "I32", "F8_E8M0"
    up_, down = "l.up", "l.down"
    # fp8 by value.
    _case("fp8-block", "block_fp8", _blocks_of(4, 6),
          codes(f"{up_}.weight", f8, 10, 13), scale(f"{up_}.weight_scale_inv", f32, 3, 3),
          codes(f"{down}.weight", f8, 8, 6), scale(f"{down}.weight_scale_inv", "BF16", 2, 1),
          shards=2)  # fmt: skip
    _case("fp8-block-128", "block_fp8", _blocks_of(128, 128),
          codes(f"{up_}.weight", f8, 20, 130), scale(f"{up_}.weight_scale_inv", f32, 1, 2),
          codes(f"{down}.weight", f8, 130, 3),
          scale(f"{down}.weight_scale", "F16", 2, 1))  # fmt: skip
    _case("fp8-block-e8m0", "block_fp8", {**_blocks_of(4, 4), "scale_fmt": "ue8m0"},
          codes("layers.0.wq.weight", f8, 6, 8), scale("layers.0.wq.scale", e8m0, 2, 2),
          codes("layers.0.wo.weight", f8, 4, 5), scale("layers.0.wo.scale", u8, 1, 2))  # fmt: skip
    _case("fp8-block-experts", "block_fp8", _blocks_of(4, 4),
          codes("l.experts.gate_up_proj", f8, 2, 6, 5),
          scale("l.experts.gate_up_proj_scale_inv", f32, 2, 2, 2),
          codes("l.experts.down_proj", f8, 2, 5, 3),
          scale("l.experts.down_proj_scale_inv", f32, 2, 2, 1),
          codes("m.experts.gate_up_proj", f8, 2, 4, 5),
          scale("m.experts.gate_up_proj_scale_inv", "BF16", 2, 2, 2),
          codes("l.moe.up_proj.weight", f8, 2, 4, 4),
          scale("l.moe.up_proj.weight_scale_inv", f32, 2, 1, 1))  # fmt: skip
    _case("fp8-tensor", "tensor_fp8", {"quant_method": "fp8", "activation_scheme": "static"},
          codes(f"{up_}.weight", f8, 4, 6), scale(f"{up_}.weight_scale", f32),
          codes(f"{down}.weight", f8, 3, 4), scale(f"{down}.weight_scale", "BF16", 1),
          codes("l.o.weight", f8, 3, 2), scale("l.o.qscale_weight", f32), shards=2)  # fmt: skip
    _case("fp8-tensor-mistral", "tensor_fp8",
          {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None},
          codes(f"{up_}.weight", f8, 4, 6), scale(f"{up_}.weight_scale_inv", "BF16"),
          scale(f"{up_}.activation_scale", "BF16"))  # fmt: skip
    _case("fp8-tensor-experts", "tensor_fp8", {"quant_method": "fp8"},
          codes("l.experts.gate_up_proj", f8, 2, 6, 4),
          scale("l.experts.gate_up_proj_scale_inv", f32, 2, 2, 1),
          codes("l.experts.down_proj", f8, 2, 4, 3),
          scale("l.experts.down_proj_scale_inv", f32, 2, 1, 1))  # fmt: skip
    _case("fp8-channel", "channel_fp8", {"quant_method": "fp8"},
          codes(f"{up_}.weight", f8, 4, 6), scale(f"{up_}.weight_scale", f32, 4, 1),
          codes(f"{down}.weight", f8, 6, 4), scale(f"{down}.weight_scale", "BF16", 6))  # fmt: skip
    _case("fp8-ngram", "tensor_fp8 block_fp8", _blocks_of(4, 4),
          codes("ngram.shard_0.weight", f8, 3, 4), codes("ngram.shard_1.weight", f8, 2, 4),
          scale("ngram.weight_scale", f32, 1),
          codes(f"{up_}.weight", f8, 5, 4),
          scale(f"{up_}.weight_scale_inv", f32, 2, 1))  # fmt: skip
    fbgemm = {"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"],
              "activation_scale_ub": 1200.0}  # fmt: skip
    _case("fbgemm", "channel_fp8 column_fp8", fbgemm,
          codes(f"{up_}.weight", f8, 4, 6), scale(f"{up_}.weight_scale", f32, 4, 1),
          codes("l.experts.gate_up_proj", f8, 2, 3, 4),
          scale("l.experts.gate_up_proj_scale", f32, 2, 1, 4),
          codes("l.experts.down_proj", f8, 2, 2, 3),
          scale("l.experts.down_proj_scale", f32, 2, 3, 1))  # fmt: skip
    _case("fbgemm-square", "column_fp8", fbgemm,
          codes("l.experts.gate_up_proj", f8, 2, 4, 4),
          scale("l.experts.gate_up_proj_scale", f32, 2, 1, 4),
          codes("l.experts.down_proj", f8, 2, 4, 4),
          scale("l.experts.down_proj_scale", f32, 2, 4, 1))  # fmt: skip
    _case("mimo-qkv", "chunked_qkv_fp8 block_fp8", _blocks_of(4, 4),
          codes("l.self_attn.qkv_proj.weight", f8, 18, 6),
          scale("l.self_attn.qkv_proj.weight_scale_inv", f32, 6, 2),
          codes("m.self_attn.qkv_proj.weight", f8, 14, 6),
          scale("m.self_attn.qkv_proj.weight_scale_inv", f32, 4, 2),
          codes(f"{up_}.weight", f8, 5, 4), scale(f"{up_}.weight_scale_inv", f32, 2, 1),
          model_type="mimo_v2_flash", num_attention_heads=4, num_key_value_heads=2, head_dim=2,
          v_head_dim=3, swa_num_attention_heads=2, swa_num_key_value_heads=2, swa_head_dim=2,
          swa_v_head_dim=3)  # fmt: skip
    _case("mimo-even", "chunked_qkv_fp8", _blocks_of(4, 4),
          codes("m.self_attn.qkv_proj.weight", f8, 16, 6),
          scale("m.self_attn.qkv_proj.weight_scale_inv", f32, 4, 2), model_type="mimo_v2_flash",
          num_attention_heads=4, num_key_value_heads=2, head_dim=2)  # fmt: skip
    # compressed-tensors.
    f8_ = {"num_bits": 8, "type": "float", "symmetric": True, "group_size": None}
    for strategy, shape in {"tensor": (1,), "channel": (6, 1)}.items():
        _case(f"ct-{strategy}", f"{strategy}_fp8",
              _ct("float-quantized", {**f8_, "strategy": strategy}),
              codes(f"{up_}.weight", f8, 6, 4),
              scale(f"{up_}.weight_scale", "BF16", *shape))  # fmt: skip
    _case("ct-block", "block_fp8",
          _ct("float-quantized", {**f8_, "strategy": "block", "block_structure": [4, 6]}),
          codes(f"{up_}.weight", f8, 10, 13), scale(f"{up_}.weight_scale", "BF16", 3, 3),
          codes(f"{down}.weight", f8, 4, 6),
          scale(f"{down}.weight_scale", "BF16", 1, 1))  # fmt: skip
    _case("ct-group", "group_fp8",
          _ct("float-quantized", {**f8_, "strategy": "group", "group_size": 4}),
          codes(f"{up_}.weight", f8, 5, 9),
          scale(f"{up_}.weight_scale", "BF16", 5, 3))  # fmt: skip
    mx = {"type": "float", "strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"}
    _case("ct-mxfp8", "mxfp8", _ct("mxfp8-quantized", {**mx, "num_bits": 8}),
          codes(f"{up_}.weight", f8, 3, 64), scale(f"{up_}.weight_scale", u8, 3, 2))  # fmt: skip
    _case("ct-mxfp4", "mxfp4", _ct("mxfp4-pack-quantized", {**mx, "num_bits": 4}),
          codes(f"{up_}.weight_packed", u8, 3, 32), scale(f"{up_}.weight_scale", u8, 3, 2),
          shards=2)  # fmt: skip
    nv = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16,
          "scale_dtype": "torch.float8_e4m3fn"}  # fmt: skip
    _case("ct-nvfp4", "nvfp4", _ct("nvfp4-pack-quantized", nv),
          codes(f"{up_}.weight_packed", u8, 3, 16), scale(f"{up_}.weight_scale", f8, 3, 2),
          scale(f"{up_}.weight_global_scale", f32, 1), scale(f"{up_}.input_global_scale", f32, 1),
          codes(f"{down}.weight_packed", u8, 2, 8), scale(f"{down}.weight_scale", f8, 2, 1),
          scale(f"{down}.weight_global_scale", f32, 1), shards=2)  # fmt: skip
    int4 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 8}
    _case("ct-int4", "packed_int", _ct("pack-quantized", int4),
          codes(f"{up_}.weight_packed", i32, 3, 3), scale(f"{up_}.weight_scale", "BF16", 3, 3),
          numbers(f"{up_}.weight_shape", 3, 20),
          codes(f"{down}.weight_packed", i32, 2, 1), scale(f"{down}.weight_scale", "F16", 2, 1),
          numbers(f"{down}.weight_shape", 2, 8, dtype=i32))  # fmt: skip
    _case("ct-int4-asym", "packed_int", _ct("pack-quantized", {**int4, "symmetric": False}),
          codes(f"{up_}.weight_packed", i32, 10, 2), scale(f"{up_}.weight_scale", "BF16", 10, 2),
          codes(f"{up_}.weight_zero_point", i32, 2, 2),
          numbers(f"{up_}.weight_shape", 10, 16))  # fmt: skip
    _case("ct-int8", "packed_int",
          _ct(None, {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}),
          codes(f"{up_}.weight_packed", i32, 3, 2), scale(f"{up_}.weight_scale", f32, 3, 1),
          numbers(f"{up_}.weight_shape", 3, 7))  # fmt: skip
    _case("ct-int8-asym", "packed_int",
          _ct("pack-quantized", {"num_bits": 8, "type": "int", "symmetric": False,
                                 "strategy": "group", "group_size": 4}),
          codes(f"{up_}.weight_packed", i32, 5, 2), scale(f"{up_}.weight_scale", "BF16", 5, 2),
          codes(f"{up_}.weight_zero_point", i32, 2, 2),
          numbers(f"{up_}.weight_shape", 5, 8))  # fmt: skip
    group = _ct("mixed-precision", {**f8_, "strategy": "block", "block_structure": [4, 4]},
                "re:.*up$")  # fmt: skip
    group["config_groups"]["group_1"] = {
        "targets": ["l.down"], "format": "pack-quantized", "weights": int4,
    }  # fmt: skip
    _case("ct-mixed", "block_fp8 packed_int", group,
          codes(f"{up_}.weight", f8, 5, 4), scale(f"{up_}.weight_scale", "BF16", 2, 1),
          codes(f"{down}.weight_packed", i32, 2, 2), scale(f"{down}.weight_scale", "BF16", 2, 2),
          numbers(f"{down}.weight_shape", 2, 16))  # fmt: skip
    _case("ct-int4-experts", "packed_int", _ct("pack-quantized", int4),
          codes("l.experts.weight_packed", i32, 2, 3, 2),
          scale("l.experts.weight_scale", "BF16", 2, 3, 2),
          numbers("l.experts.weight_shape", 2, 3, 15))  # fmt: skip
    block = {**f8_, "strategy": "block"}
    two = _ct("float-quantized", {**block, "block_structure": [4, 4]}, "re:.*up$")
    two["config_groups"]["group_1"] = {
        "targets": ["re:.*down$"],
        "weights": {**block, "block_structure": [5, 4]},
    }
    _case("ct-two-blocks", "block_fp8", two,
          codes(f"{up_}.weight", f8, 6, 4), scale(f"{up_}.weight_scale", f32, 2, 1),
          codes(f"{down}.weight", f8, 7, 4), scale(f"{down}.weight_scale", f32, 2, 1))  # fmt: skip
    preset = {"quant_method": "compressed-tensors", "config_groups": {"FP8_DYNAMIC": ["Linear"]}}
    _case("ct-preset", "channel_fp8", preset,
          codes(f"{up_}.weight", f8, 6, 4), scale(f"{up_}.weight_scale", "BF16", 6, 1))  # fmt: skip
    _case("ct-text-config", "packed_int", {},
          codes(f"{up_}.weight_packed", i32, 3, 2), scale(f"{up_}.weight_scale", "BF16", 3, 2),
          numbers(f"{up_}.weight_shape", 3, 16), legacy=True,
          text_config={"quantization_config": _ct("pack-quantized", int4)})  # fmt: skip
    # ModelOpt.
    _case("modelopt-fp8", "tensor_fp8", _modelopt("FP8"),
          codes(f"{up_}.weight", f8, 4, 6), scale(f"{up_}.weight_scale", f32),
          codes("l.experts.gate_up_proj", f8, 2, 3, 4),
          scale("l.experts.gate_up_proj_weight_scale", f32, 2),
          codes("l.experts.down_proj", f8, 2, 3, 4),
          scale("l.experts.down_proj_weight_scale", f32))  # fmt: skip
    _case("modelopt-channel", "channel_fp8 column_fp8", _modelopt("FP8_PER_CHANNEL_PER_TOKEN"),
          codes(f"{up_}.weight", f8, 4, 6), scale(f"{up_}.weight_scale", f32, 4),
          codes("l.moe.up_proj.weight", f8, 2, 3, 3),
          scale("l.moe.up_proj.weight_scale", f32, 2, 3),
          codes("l.experts.down_proj", f8, 2, 3, 4),
          scale("l.experts.down_proj_weight_scale", f32, 2, 4))  # fmt: skip
    _case("modelopt-pb-wo", "modelopt_block_fp8", _modelopt("FP8_PB_WO"),
          codes(f"{up_}.weight", f8, 130, 4), scale(f"{up_}.weight_scale", f32, 2, 1, 1, 1),
          codes(f"{down}.weight", f8, 3, 260),
          scale(f"{down}.weight_scale", f32, 1, 1, 3, 1))  # fmt: skip
    _case("modelopt-nvfp4", "modelopt_nvfp4",
          {"producer": {"name": "modelopt", "version": "0.29"},
           "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16,
                            "exclude_modules": ["lm_head"]}},
          codes(f"{up_}.weight", u8, 3, 16), scale(f"{up_}.weight_scale", f8, 3, 2),
          scale(f"{up_}.weight_scale_2", f32),
          codes(f"{down}.weight", u8, 2, 8), scale(f"{down}.weight_scale", f8, 2, 1),
          scale(f"{down}.weight_scale_2", f32, 1), legacy=True, shards=2)  # fmt: skip
    _case("modelopt-nvfp4-experts", "modelopt_nvfp4", _modelopt("NVFP4"),
          codes("l.experts.gate_up_proj", u8, 2, 4, 8),
          scale("l.experts.gate_up_proj_scale", f8, 2, 4, 1),
          scale("l.experts.gate_up_proj_scale_2", f32, 2, 2),
          codes("l.moe.up.weight", u8, 2, 3, 8), scale("l.moe.up.weight_scale", f8, 2, 3, 1),
          scale("l.moe.up.weight_scale_2", f32, 2),
          codes("m.experts.down_proj", u8, 2, 16, 3),
          scale("m.experts.down_proj_weight_scale", f8, 2, 2, 3),
          scale("m.experts.down_proj_weight_scale_2", f32))  # fmt: skip
    _case("modelopt-mxfp8", "mxfp8", _modelopt("MXFP8"),
          codes(f"{up_}.weight", f8, 3, 32), scale(f"{up_}.weight_scale", u8, 3, 1))  # fmt: skip
    _case("modelopt-mixed", "tensor_fp8 modelopt_nvfp4 mxfp8",
          _modelopt("MIXED_PRECISION", quantized_layers={
              "l.up": {"quant_algo": "FP8"}, "l.down": {"quant_algo": "NVFP4", "group_size": 16},
              "l.experts.*": {"quant_algo": "MXFP8"}}),
          codes(f"{up_}.weight", f8, 4, 6), scale(f"{up_}.weight_scale", f32),
          codes(f"{down}.weight", u8, 2, 8), scale(f"{down}.weight_scale", f8, 2, 1),
          scale(f"{down}.weight_scale_2", f32),
          codes("l.experts.0.weight", f8, 2, 32),
          scale("l.experts.0.weight_scale", u8, 2, 1))  # fmt: skip
    # MX, DeepSeek-V4, Ling, Quark.
    _case("gpt-oss", "gpt_oss_mxfp4", {"quant_method": "mxfp4", "modules_to_not_convert": ["l.o"]},
          codes("l.experts.gate_up_proj_blocks", u8, 2, 4, 1, 16),
          scale("l.experts.gate_up_proj_scales", u8, 2, 4, 1),
          scale("l.experts.gate_up_proj_bias", "BF16", 2, 4),
          codes("l.experts.down_proj_blocks", u8, 2, 2, 2, 16),
          scale("l.experts.down_proj_scales", u8, 2, 2, 2),
          model_type="gpt_oss", shards=2)  # fmt: skip
    _case("minimax-mxfp8", "mxfp8", {"quant_method": "mxfp8", "ignored_layers": ["lm_head"]},
          codes(f"{up_}.weight", f8, 3, 64), scale(f"{up_}.weight_scale_inv", u8, 3, 2),
          codes("l.experts.w13", f8, 2, 2, 32),
          scale("l.experts.w13_scale_inv", e8m0, 2, 2, 1))  # fmt: skip
    _case("mxfp4", "mxfp4", {"quant_method": "mxfp4"},
          codes(f"{up_}.weight", u8, 3, 32), scale(f"{up_}.weight_scale", u8, 3, 2),
          codes(f"{down}.weight", u8, 2, 16),
          scale(f"{down}.weight_scale", "BF16", 2, 1, power=True))  # fmt: skip
    _case("deepseek-v4", "block_fp8 mxfp4",
          {**_blocks_of(4, 4), "scale_fmt": "ue8m0"},
          codes("layers.0.attn.wq.weight", f8, 6, 8), scale("layers.0.attn.wq.scale", e8m0, 2, 2),
          codes("layers.0.ffn.experts.0.w1.weight", i8, 3, 32),
          scale("layers.0.ffn.experts.0.w1.scale", e8m0, 3, 2),
          scale("layers.0.hc_attn_scale", f32, 3),
          model_type="deepseek_v4", expert_dtype="fp4", shards=2)  # fmt: skip
    _case("deepseek-v4-nvfp4", "block_fp8 mxfp4 modelopt_nvfp4",
          {**_blocks_of(4, 4), "moe_quant_algo": "NVFP4", "quant_algo": "MIXED_PRECISION"},
          codes("layers.0.attn.wq.weight", f8, 6, 8), scale("layers.0.attn.wq.scale", e8m0, 2, 2),
          codes("layers.0.experts.0.w1.weight", u8, 2, 8),
          scale("layers.0.experts.0.w1.weight_scale", f8, 2, 1),
          scale("layers.0.experts.0.w1.weight_scale_2", f32),
          codes("mtp.0.experts.0.w1.weight", i8, 2, 16),
          scale("mtp.0.experts.0.w1.scale", e8m0, 2, 1), model_type="deepseek_v4")  # fmt: skip
    _case("ling", "block_fp8 mxfp4", {**_blocks_of(4, 4), "routed_experts_quant_method": "mxfp4"},
          codes("l.o.weight", f8, 5, 6), scale("l.o.weight_scale_inv", f32, 2, 2),
          codes("l.experts.0.up_proj.weight", u8, 3, 32),
          scale("l.experts.0.up_proj.weight_scale_inv", u8, 3, 2))  # fmt: skip
    for scheme, shape in {"per_tensor": (), "per_channel": (4,)}.items():
        _case(f"quark-{scheme[4:]}", f"{scheme[4:]}_fp8", _quark(dtype="fp8_e4m3", qscheme=scheme),
              codes(f"{up_}.weight", f8, 4, 6),
              scale(f"{up_}.weight_scale", f32, *shape))  # fmt: skip
    _case("quark-block", "block_fp8",
          _quark(dtype="fp8_e4m3", qscheme="per_block", block_size=[4, 4]),
          codes(f"{up_}.weight", f8, 5, 6), scale(f"{up_}.weight_scale", f32, 2, 2))  # fmt: skip
    _case("quark-mxfp4", "mxfp4",
          _quark(dtype="fp4", qscheme="per_group", group_size=32, scale_format="e8m0"),
          codes(f"{up_}.weight", u8, 3, 32), scale(f"{up_}.weight_scale", u8, 3, 2))  # fmt: skip
    nested = _quark()
    nested["global_quant_config"]["weight"] = [
        {"dtype": "fp4", "qscheme": "per_group", "group_size": 16},
        {"dtype": "fp8_e4m3", "qscheme": "per_tensor"},
    ]
    _case("quark-nvfp4", "modelopt_nvfp4", nested,
          codes(f"{up_}.weight", u8, 3, 16), scale(f"{up_}.weight_scale", f8, 3, 2),
          scale(f"{up_}.weight_scale_2", f32), scale(f"{up_}.input_scale_2", f32))  # fmt: skip


_register()
