# SPDX-License-Identifier: Apache-2.0
"""Damaged checkpoints of every format: refused with a reason, or loaded as their files say.

Hypothesis edits the sound checkpoints of ``mutation_kit`` in one or two places. Whatever the edit,
a load ends in a BringupError or in exactly what the independent reader says the files mean.
Settings nobody decodes may also leave every tensor as it is stored. The edits are numbers, reduced
modulo what there is to choose from, so that an example can be written down and run again.
"""

import copy
import itertools
import math
import re
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mutation_kit as kit
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from mutation_kit import BITS, CASES, PLAIN, Draft, Files, Item, NoMeaning, Value

from vllm_ascend_bringup.checkpoint import read_checkpoint
from vllm_ascend_bringup.conversion.run import convert
from vllm_ascend_bringup.errors import BringupError
from vllm_ascend_bringup.formats.catalog import FORMATS
from vllm_ascend_bringup.formats.families.base import LeftAlone
from vllm_ascend_bringup.formats.schemes import checkpoint_schemes

Edit = tuple[str, int, int, int]
Load = Callable[..., dict[str, torch.Tensor]]

# Examples per case; 47 cases make 5,640.
EXAMPLES = 120
TORCH = {"BF16": torch.bfloat16, "F16": torch.float16}
LONG = {"BF16": "bfloat16", "F16": "float16"}
NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8",
    torch.bool: "BOOL", torch.complex64: "C64", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2", torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ", torch.float8_e8m0fnu: "F8_E8M0",
}  # fmt: skip
# What happened, by outcome and by edit; the last test looks at it.
TALLY: Counter[str] = Counter()
REFUSED: Counter[str] = Counter()  # although the reader sees a meaning


# ---------------------------------------------------------------------------------------------
# Edits of tensors. Each takes a draft and three numbers, and changes the draft.


_SCALES = ("_scale_inv", "_scale", ".scale", "_scales", ".qscale_weight")


def _pick(draft: Draft, number: int, *endings: str) -> tuple[str, str, Item]:
    """A tensor: of low precision or a partner three times out of four."""
    chosen = [at for at in draft.items if at[1].endswith(endings)] if endings else []
    if not chosen:
        chosen = [at for at in draft.items if at[1] not in PLAIN]
        if not chosen or number % 4 == 3:
            chosen = draft.items or [("", "")]
        number //= 4
    shard, name = chosen[number % len(chosen)]
    return shard, name, draft.shards[shard][name] if name else Item("U8", [0], b"")


def _resize(item: Item, seed: int) -> None:
    """Make the data as long as dtype and shape say."""
    if not all(type(n) is int and 0 <= n < 10_000 for n in item.shape):
        return
    size = math.prod(item.shape) * BITS[item.dtype] // 8
    if len(item.data) < size:
        more = kit.random_of(str(seed)).integers(1, 120, size - len(item.data), np.uint8)
        item.data += more.tobytes()
    item.data = item.data[:size]


def dtype_of_same_width(draft: Draft, a: int, b: int, c: int) -> None:
    """Same bytes under another dtype."""
    item = _pick(draft, a)[2]
    others = [d for d in BITS if BITS[d] == BITS[item.dtype] and d != item.dtype]
    item.dtype = others[b % len(others)] if others else item.dtype


def dtype_of_other_width(draft: Draft, a: int, b: int, c: int) -> None:
    """Another dtype, data adjusted or not."""
    item = _pick(draft, a)[2]
    others = [d for d in BITS if BITS[d] != BITS[item.dtype]]
    item.dtype = others[b % len(others)]
    if c % 4:
        _resize(item, c)


def shape_of_same_size(draft: Draft, a: int, b: int, c: int) -> None:
    """Transposed, flat, split, joined, with a dimension of one more or less."""
    item = _pick(draft, a)[2]
    shape = list(item.shape)
    if not all(type(size) is int for size in shape):
        return
    n, at = len(shape), b // 8 % (len(shape) + 1)
    kind = b % 8
    if kind == 0:
        shape.reverse()
    elif kind == 1:
        shape = [math.prod(shape)]
    elif kind in (2, 3):
        shape.insert(at, 1)
    elif kind == 4:
        shape = [size for size in shape if size != 1]
    elif kind == 5 and n > 1:
        at %= n - 1
        shape[at : at + 2] = [shape[at] * shape[at + 1]]
    elif kind == 6 and n > 1:
        shape[0], shape[-1] = shape[0] * shape[-1], 1
    elif n:
        at %= n
        factors = [f for f in range(2, shape[at] + 1) if shape[at] % f == 0] or [1]
        factor = factors[c % len(factors)]
        to = (at + 1) % n
        shape[at] //= factor
        if to == at:
            shape.append(factor)
        else:
            shape[to] *= factor
    item.shape = shape


def shape_of_other_size(draft: Draft, a: int, b: int, c: int) -> None:
    """One dimension longer, shorter, gone; data adjusted or not."""
    item = _pick(draft, a)[2]
    shape = list(item.shape)
    if not all(type(size) is int for size in shape):
        return
    if not shape:
        shape = [[2], [0], [1, 2]][b % 3]
    else:
        at = b // 8 % len(shape)
        size = shape[at]
        changed = [size + 1, size - 1, size * 2, size // 2, 0, size + 2, 1, None][b % 8]
        shape[at : at + 1] = [] if changed is None else [changed]
    item.shape = shape
    if c % 4:
        _resize(item, c)


def scale_shape(draft: Draft, a: int, b: int, c: int) -> None:
    """A scale of another shape, of sizes that its weight and a wrong block size would give."""
    _, name, item = _pick(draft, a, *_SCALES)
    prefix = re.split(r"(\.weight)?_scale|\.scale|\.qscale", name)[0]
    shapes = [
        other.shape for items in draft.shards.values() for n, other in items.items()
        if n.startswith(prefix) and n != name and all(type(size) is int for size in other.shape)
    ]  # fmt: skip
    shape = max(shapes, key=math.prod, default=[4, 4])
    made = []
    for size in shape[c % 4 == 0 :] if b % 4 else shape[-1:]:
        sizes = (1, -(-size // 4), size // 4, size, 2, -(-size // 6), -(-size // 128))
        made.append(sizes[b // 4 % 7])
        b //= 7
    item.shape = made[::-1] if c // 4 % 4 == 0 else made
    _resize(item, c)


def malformed_entry(draft: Draft, a: int, b: int, c: int) -> None:
    """Sizes that no header holds."""
    item = _pick(draft, a)[2]
    if b % 4 == 0:
        item.shift = ((-1, 1, 8, -8, 2**63)[c % 5], 0)
        return
    odd: list[Any] = [-1, 1.0, "2", None, True, 2**64, [1]]
    item.shape = [*item.shape[: c % (len(item.shape) + 1)], odd[c % len(odd)], *item.shape[1:]]
    if b % 4 == 1:
        item.shape, item.data = [0, 2**70], b""


def offsets(draft: Draft, a: int, b: int, c: int) -> None:
    """data_offsets moved."""
    steps = (-8, -2, -1, 0, 1, 2, 8, 4)
    _pick(draft, a)[2].shift = (steps[b % 8], steps[c % 8])


def dropped(draft: Draft, a: int, b: int, c: int) -> None:
    """A tensor is not there; the index knows or does not."""
    shard, name, _ = _pick(draft, a)
    if name:
        del draft.shards[shard][name]
        if draft.index is not None and b % 2:
            draft.index.pop(name, None)


_SPELLINGS = (
    ".weight_scale_inv", ".weight_scale", ".scale", "_weight_scale", "_scale_inv", "_scale",
    ".weight_scale_2", "_scale_2", ".weight_global_scale", ".input_scale", ".weight_packed",
    ".weight", "_blocks", "_scales", ".qscale_weight", ".weight_shape", ".weight_zero_point",
    ".weight_offset", ".bias", "_weight_scale_2", ".k_scale", ".qweight", ".weights", "",
)  # fmt: skip


def renamed(draft: Draft, a: int, b: int, c: int) -> None:
    """Another suffix, a typo, another place, or the name of another tensor."""
    shard, name, item = _pick(draft, a)
    new = name
    if b % 4 == 0:
        ending = max((s for s in _SPELLINGS if name.endswith(s)), key=len)
        new = name.removesuffix(ending) + _SPELLINGS[c % len(_SPELLINGS)]
    elif b % 4 == 1:
        at = c % max(1, len(name))
        new = name[:at] + name[at + 1 :] if c % 2 else name[:at] + "x" + name[at:]
    elif b % 4 == 2:
        new = ("model.", "model.language_model.", "l.")[c % 3] + name
    else:
        _, other, its = _pick(draft, c)
        if other and name:
            its.dtype, item.dtype = item.dtype, its.dtype
            its.shape, item.shape = item.shape, its.shape
            its.data, item.data = item.data, its.data
        return
    if not name:
        return
    draft.shards[shard] = {new if n == name else n: i for n, i in draft.shards[shard].items()}
    if draft.index is not None and c % 3 and name in draft.index:
        draft.index[new] = draft.index.pop(name)


def duplicated(draft: Draft, a: int, b: int, c: int) -> None:
    """A tensor is in another shard too, with the same or other bytes, indexed or not."""
    shard, name, item = _pick(draft, a)
    others = [s for s in draft.shards if s != shard] if b % 2 else []
    new = others[0] if others else ("model-extra.safetensors", "other.safetensors")[b // 2 % 2]
    again = Item(item.dtype, list(item.shape), item.data[::-1] if c % 2 else item.data)
    draft.shards.setdefault(new, {})[name] = again
    if draft.index is not None and c % 5 == 0:
        draft.index[name] = new


def added(draft: Draft, a: int, b: int, c: int) -> None:
    """A copy of a partner under another spelling of its name, or of a global scale's."""
    shard, name, item = _pick(draft, a, *_SCALES, "_scale_2", ".weight_global_scale")
    base = re.split(r"(\.weight)?_(global_)?scale|\.scale|\.qscale", name)[0]
    new = base + _SPELLINGS[b % len(_SPELLINGS)]
    if new != name and all(new not in items for items in draft.shards.values()):
        made = Item(item.dtype, list(item.shape), item.data)
        if c % 3 == 0:
            made = Item("F32", [1][: c % 2], np.array([0.5], "<f4").tobytes())
        draft.shards[shard][new] = made


def index_changed(draft: Draft, a: int, b: int, c: int) -> None:
    """Entries gone, elsewhere, or of no use; also an index where there was none."""
    shard, name, _ = _pick(draft, a)
    if draft.index is None:
        draft.index = {n: s for s, n in draft.items}
    kind = b % 8
    if kind == 0:
        draft.index.pop(name, None)
    elif kind == 1:
        draft.index[name] = next((s for s in draft.shards if s != shard), shard)
    elif kind == 2:
        targets = [*draft.shards, "gone.safetensors", "../x.safetensors", "config.json", "", "."]
        draft.index[name] = targets[c % len(targets)]
    elif kind == 3:
        draft.index = {n: s for n, s in draft.index.items() if s != shard}
    elif kind == 4:
        draft.index[name] = [1, None, ["x"], {}][c % 4]
    elif kind == 5:
        draft.index["not.there"] = shard
    elif kind == 6:
        draft.index = None
    else:
        draft.index = {}


# ---------------------------------------------------------------------------------------------
# Edits of values.


_SPECIAL: dict[str, tuple[bytes, ...]] = {
    dtype: tuple(np.array(values, kind).tobytes()[: BITS[dtype] // 8] for values in specials)
    for dtype, kind, specials in (
        ("F32", "<u4", (0x7FC00000, 0x7F800000, 0xFF800000, 0x80000000, 0, 1, 0x7F7FFFFF,
                        0xBF800000, 0x00800000, 0x3F800000, 0x7E000000)),
        ("BF16", "<u2", (0x7FC0, 0x7F80, 0xFF80, 0x8000, 0, 1, 0x7F7F, 0xBF80, 0x3F80)),
        ("F16", "<u2", (0x7E00, 0x7C00, 0xFC00, 0x8000, 0, 1, 0x7BFF, 0xBC00, 0x3C00)),
        ("U8", "<u1", (0, 255, 254, 1, 127, 128)),
        ("F8_E8M0", "<u1", (0, 255, 254, 1, 127, 128)),
        ("F8_E4M3", "<u1", (0, 0x7F, 0xFF, 0x80, 0x7E, 1, 0xB8, 0x38)),
    )
}  # fmt: skip


def _overwrite(item: Item, at: int, raw: bytes) -> None:
    at = at // max(1, len(raw)) * len(raw)
    item.data = item.data[:at] + raw + item.data[at + len(raw) :]


def _poke(item: Item, b: int, c: int, *, sign: bool = True) -> None:
    """One element becomes a special one, a random one, or of the other sign."""
    width = max(1, BITS[item.dtype] // 8)
    if len(item.data) < width:
        return
    at = b // 4 * width % len(item.data)
    special = _SPECIAL.get(item.dtype, (bytes(width), b"\xff" * width))
    if b % 4 < 2:
        _overwrite(item, at, special[c % len(special)])
    elif b % 4 == 2 and sign:
        old = item.data[at // width * width :][:width]
        _overwrite(item, at, old[:-1] + bytes([old[-1] ^ 0x80]))
    else:
        _overwrite(item, at, kit.random_of(str(c)).integers(0, 256, width, np.uint8).tobytes())


def scale_value(draft: Draft, a: int, b: int, c: int) -> None:
    """A scale that is NaN, infinite, negative, zero, or only another."""
    _poke(_pick(draft, a, *_SCALES)[2], b, c)


def global_value(draft: Draft, a: int, b: int, c: int) -> None:
    """The same for a global scale, if there is one."""
    _poke(_pick(draft, a, "_scale_2", ".weight_global_scale")[2], b, c)


def _codes(draft: Draft, a: int) -> Item:
    found = [
        at for at in draft.items
        if at[1] not in PLAIN and draft.shards[at[0]][at[1]].dtype in ("F8_E4M3", "U8", "I8", "I32")
        and not at[1].endswith((*_SCALES, "_zero_point", "_shape"))
    ]  # fmt: skip
    shard, name = found[a % len(found)] if found else draft.items[a % len(draft.items)]
    return draft.shards[shard][name]


def code_bytes(draft: Draft, a: int, b: int, c: int) -> None:
    """Some codes become any other codes."""
    item = _codes(draft, a)
    random = kit.random_of(f"{b} {c}")
    raw = np.frombuffer(item.data, np.uint8).copy()
    if raw.size:
        where = random.integers(0, raw.size, 1 + b % 8)
        raw[where] = random.integers(0, 256, where.size, np.uint8)
    item.data = raw.tobytes()


def zero_codes(draft: Draft, a: int, b: int, c: int) -> None:
    """All codes of a weight become one byte."""
    item = _codes(draft, a)
    item.data = bytes([(0, 0, 0x80, 0x88, 0x7F)[b % 5]]) * len(item.data)


def weight_shape(draft: Draft, a: int, b: int, c: int) -> None:
    """The shape that a packed weight says it has."""
    item = _pick(draft, a, ".weight_shape")[2]
    kind = {"I64": "<i8", "I32": "<i4"}.get(item.dtype)
    if kind is None or not item.data:
        return
    values = np.frombuffer(item.data, kind).astype(np.int64)
    at = b // 8 % values.size
    changed = [values[at] + 1, values[at] - 1, 0, -1, 2**31 - 1, values[at] * 2, values[0], 1]
    values[at] = changed[b % 8]
    item.data = (values[::-1] if c % 8 == 0 else values).astype(kind).tobytes()


def zero_points(draft: Draft, a: int, b: int, c: int) -> None:
    """Zero points become any others."""
    item = _pick(draft, a, ".weight_zero_point")[2]
    _poke(item, 3 + 4 * b, c)


# ---------------------------------------------------------------------------------------------
# Edits of settings and files.


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything inside a JSON value."""
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        yield (*path, key)
        yield from _leaves(child, (*path, key))


_WORDS: dict[str, tuple[str, ...]] = {
    "quant_method": ("fp8", "FP8", "Compressed_Tensors", "compressed-tensors", "modelopt", "quark",
                     "fbgemm_fp8", "mxfp4", "MXFP8", "modelopt_fp4", "gptq", "awq", "", "mxfp8"),
    "quant_algo": ("fp8", "FP8", "NVFP4", "nvfp4", "MXFP8", "FP8_PB_WO", "MIXED_PRECISION",
                   "FP8_PER_CHANNEL_PER_TOKEN", "NVFP4_AWQ", "W4A16_AWQ", "MXFP4", ""),
    "strategy": ("tensor", "channel", "block", "group", "tensor_group", "token", "Channel"),
    "format": ("float-quantized", "naive-quantized", "pack-quantized", "mxfp4-pack-quantized",
               "nvfp4-pack-quantized", "mxfp8-quantized", "int-quantized", "dense",
               "mixed-precision", "marlin-24"),
    "type": ("int", "float", "Float"),
    "dtype": ("fp8_e4m3", "fp4", "int4", "fp8_e5m2", "fp6_e2m3"),
    "qscheme": ("per_tensor", "per_channel", "per_block", "per_group"),
    "scale_dtype": ("torch.uint8", "torch.float8_e4m3fn", "torch.bfloat16"),
    "expert_dtype": ("fp4", "fp8", "fp6"), "store_dtype": ("mxfp4", "nvfp4", "int4"),
    "moe_quant_algo": ("NVFP4", "MXFP4", "FP8"), "dense_format": ("mxfp8", "fp8"),
    "routed_experts_quant_method": ("mxfp4", "nvfp4"), "activation_scheme": ("static", "dynamic"),
    "model_type": ("llama", "deepseek_v4", "mimo_v2_flash", "gpt_oss"),
}  # fmt: skip
_NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 3, 5, 6, "4", "8", 4.0, 8.0, 32.0, True, None, [],
    1e30,
)  # fmt: skip
_ANY: tuple[Any, ...] = (
    None, 0, 1, -1, True, False, "", "x", [], {}, [1], {"a": 1}, 1.5, "false", ["l.up"], ["re:("],
    ["re:.*"], ["Linear"], "4x4", [4, 4], [128, 128], [4, 6], [6, 4], [2, 2], [1, 1], [4],
    ["4", "4"],
)  # fmt: skip


# Settings about other things than how weights are stored.
_SILENT = frozenset({
    "ignore", "ignored_layers", "exclude", "exclude_modules", "modules_to_not_convert", "fmt",
    "torch_dtype", "quantization_status", "version", "kv_cache_quant_algo", "input_activations",
    "input_tensors", "activation_scale_ub", "scale_format", "scale_fmt", "layer_type_quant_config",
})  # fmt: skip


def setting(draft: Draft, a: int, b: int, c: int) -> None:
    """One setting, or what the config says beside them, becomes another; or goes."""
    root: Any = draft.legacy if draft.legacy is not None else draft.config
    paths = list(_leaves(root))
    if a % 4:  # not those that say nothing about weights
        paths = [path for path in paths if not _SILENT & set(path)]
    a //= 4
    if not paths:
        return
    path = paths[a % len(paths)]
    parent = root
    for key in path[:-1]:
        parent = parent[key]
    key, old = path[-1], parent[path[-1]]
    if b % 6 == 0:
        del parent[key]
    elif b % 6 == 1 and isinstance(key, str):
        parent[key + "_" if c % 2 else key.upper()] = parent.pop(key)
    elif b % 6 == 2:
        parent[key] = copy.deepcopy(_ANY[c % len(_ANY)])
    elif isinstance(old, (int, float)) and not isinstance(old, bool):
        parent[key] = _NUMBERS[c % len(_NUMBERS)]
    elif isinstance(old, bool):
        parent[key] = (not old, not old, "false", None, 0)[c % 5]
    elif str(key) in _WORDS:
        parent[key] = _WORDS[str(key)][c % len(_WORDS[str(key)])]
    elif isinstance(old, list) and old and all(isinstance(v, int) for v in old):
        old[c % len(old)] = _NUMBERS[c // 8 % len(_NUMBERS)]
    else:
        parent[key] = copy.deepcopy(_ANY[c % len(_ANY)])


def setting_added(draft: Draft, a: int, b: int, c: int) -> None:
    """A key that was not there, inside the settings or beside them."""
    settings_ = draft.legacy or draft.config.get("quantization_config")
    key = sorted(_WORDS)[b % len(_WORDS)]
    value: Any = _WORDS[key][c % len(_WORDS[key])]
    if a % 4 == 0:
        key, value = [
            ("group_size", 64), ("weight_block_size", [2, 2]), ("sparsity_config", {"f": 1}),
            ("transform_config", {"g": 1}), ("num_bits", 8), ("scale_fmt", "ue8m0"),
        ][b % 6]  # fmt: skip
    place = settings_ if a % 3 and isinstance(settings_, dict) else draft.config
    place.setdefault(key, value)


def config_file(draft: Draft, a: int, b: int, c: int) -> None:
    """config.json is garbage, of another type, or not there."""
    bad = (
        b"", b"{", b"[]", b"null", b"\xff\xfe{}", b"version https://git-lfs.github.com/spec/v1",
        b'{"quantization_config": 3}', b'{"quantization_config": [1]}', b"[" * 100_000,
    )  # fmt: skip

    def patch(files: Files) -> None:
        if c % 8 == 0 or "config.json" not in files:
            files.pop("config.json", None)
        elif c % 8 < 3:
            files["config.json"] = files["config.json"][: b % (1 + len(files["config.json"]))]
        else:
            files["config.json"] = bad[b % len(bad)]

    draft.patches.append(patch)


def _shard_of(files: Files, a: int) -> str | None:
    found = sorted(name for name in files if name.endswith(".safetensors"))
    return found[a % len(found)] if found else None


def shard_file(draft: Draft, a: int, b: int, c: int) -> None:
    """A shard is cut, too long, gone, or not where the index looks."""

    def patch(files: Files) -> None:
        shard = _shard_of(files, a)
        if shard is None:
            return
        content = files[shard]
        if b % 4 == 0:
            files[shard] = content[: c % (len(content) + 1)]
        elif b % 4 == 1:
            files[shard] = content + bytes(1 + c % 9)
        elif b % 4 == 2:
            files[shard] = content[: -1 - c % 9]
        else:
            del files[shard]
            if c % 2:
                files["model-moved.safetensors"] = content

    draft.patches.append(patch)


def header(draft: Draft, a: int, b: int, c: int) -> None:
    """The header of a shard is damaged in a byte, in its length, or in ways JSON still allows."""

    def patch(files: Files) -> None:
        shard = _shard_of(files, a)
        if shard is None or len(files[shard]) < 8:
            return
        content = files[shard]
        size = int.from_bytes(content[:8], "little")
        raw, data = content[8 : 8 + size], content[8 + size :]
        text = raw.decode("utf-8", "replace")
        opened = text.rstrip().removesuffix("}").encode()
        made: bytes | None = None
        if b % 10 == 0:
            size += (-8, -1, 1, 8, 2**40, -size)[c % 6]
            files[shard] = (size % 2**64).to_bytes(8, "little") + content[8:]
            return
        if b % 10 in (1, 2) and raw:
            at = c % len(raw)
            made = raw[:at] + bytes([c // 7 % 256]) + raw[at + 1 :]
        elif b % 10 == 3:
            made = b"  " + raw
        elif b % 10 == 4:
            made = text.replace('"pt"', ("1", "null", '{"a": 1}', "[]")[c % 4]).encode()
        elif b % 10 == 5:
            other = ("null", "[]", '"x"', "1", "{}")[c % 5]
            made = text.replace('{"format": "pt"}', other).encode()
        elif b % 10 == 6:
            made = text.encode(("utf-16", "utf-32", "utf-8-sig", "utf-16-le")[c % 4])
        elif b % 10 == 7:
            ends = (b', "__metadata__": {}}', b"} x", b"}\0", b', "a": 1}', b', "a": {}}', b"}}")
            made = opened + ends[c % 6]
        elif b % 10 == 8:
            entries = ('"F4","shape":[0]', '"F32","shape":[0],"more":NaN',
                       '"F32","shape":[0,18446744073709551616]', '"F32","shape":[0],"dtype":"F16"',
                       '"F64","shape":[0,4294967296,4294967296]')  # fmt: skip
            extra = '{"dtype":' + entries[c % 5] + ',"data_offsets":[0,0]}'
            made = opened + b', "e.x": ' + extra.encode() + b"}"
        else:
            names = re.findall(r'"([^"]+)": \{', text) or [text]
            made = text.replace(names[c % len(names)], "\\ud800", 1).encode()
        files[shard] = len(made).to_bytes(8, "little") + made + data

    draft.patches.append(patch)


EDITS: dict[str, Callable[[Draft, int, int, int], None]] = {
    edit.__name__: edit
    for edit in (
        dtype_of_same_width, dtype_of_other_width, shape_of_same_size, shape_of_other_size,
        scale_shape, malformed_entry, offsets, dropped, renamed, duplicated, added,
        index_changed,
        scale_value, global_value, code_bytes, zero_codes, weight_shape, zero_points, setting,
        setting_added, config_file, shard_file, header,
    )
}  # fmt: skip
OF_SETTINGS = frozenset({"setting", "setting_added", "config_file"})
# How often an edit is chosen, where not once: by how much there is to choose from.
WEIGHTS = {
    "setting": 5, "scale_value": 5, "global_value": 3, "shape_of_other_size": 3, "renamed": 3,
    "scale_shape": 3, "added": 2, "index_changed": 2,
    "shape_of_same_size": 2, "dtype_of_same_width": 2, "code_bytes": 2, "zero_codes": 2,
    "weight_shape": 2, "header": 2,
}  # fmt: skip
# Edits of tensors that only some formats have.
_OF_TENSORS: dict[str, str | tuple[str, ...]] = {
    "weight_shape": ".weight_shape", "zero_points": ".weight_zero_point",
    "global_value": ("_scale_2", ".weight_global_scale"),
}  # fmt: skip
# Hypothesis prefers small numbers, of which too many are alike modulo anything.
_number = st.integers(0, 2**32 - 1).map(lambda n: zlib.crc32(n.to_bytes(4, "little")))


def edit_lists(case: str) -> "st.SearchStrategy[list[Edit]]":
    """One or two edits, of those that mean something for the case."""
    names = [name for _, name in CASES[case].items]
    possible = [
        edit for edit in EDITS for _ in range(WEIGHTS.get(edit, 1))
        if edit not in _OF_TENSORS or any(name.endswith(_OF_TENSORS[edit]) for name in names)
    ]  # fmt: skip
    edit = st.tuples(st.sampled_from(possible), _number, _number, _number)
    return st.lists(edit, min_size=1, max_size=2)


def edited(case: str, edits: "list[Edit]") -> Draft:
    """The case after these edits."""
    draft = CASES[case].copy()
    for name, a, b, c in edits:
        EDITS[name](draft, a, b, c)
    return draft


# ---------------------------------------------------------------------------------------------
# The property.


@pytest.fixture(scope="module")
def folders() -> "Iterator[Iterator[Path]]":
    """A new folder for each example, in memory where there is such a place."""
    shared = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield (root / str(number) for number in itertools.count())
    shutil.rmtree(root)


def value_of(tensor: torch.Tensor) -> Value:
    """A tensor as dtype, shape and bytes."""
    raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return Value(NAMES[tensor.dtype], tuple(tensor.shape), raw)


def assert_same(found: "dict[str, Value]", wanted: "dict[str, Value]") -> None:
    """The same tensors, bit for bit; NaN may be any NaN where it is wanted."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        got = found[name]
        assert (got.dtype, got.shape) == (value.dtype, value.shape), name
        if got.raw == value.raw:
            continue
        assert value.nan is not None, f"{name} differs"
        bits, wanted_bits = (np.frombuffer(v.raw, np.uint16) for v in (got, value))
        nan, infinite = value.nan.reshape(-1), 0x7F80 if value.dtype == "BF16" else 0x7C00
        assert ((bits[nan] & 0x7FFF) > infinite).all(), name
        assert (bits[~nan] == wanted_bits[~nan]).all(), f"{name} differs"


def names_in(draft: Draft, files: Files) -> "set[str]":
    """What an error may name: tensors, files, settings."""
    names = {*files, "*.safetensors", "config.json", "config_groups", "config group", *_WORDS}
    names |= {"quantization settings", "ModelOpt settings", "Quark settings"}
    for _, name in draft.items:
        base = name.removesuffix("_packed").removesuffix("_blocks").removesuffix(".weight")
        names |= {name, base}
    for root in (draft.config, draft.legacy):
        keys = {str(path[-1]) for path in _leaves(root)}
        names |= keys | {key.replace("_", " ") for key in keys}
    names |= {f"shard {shard}" for shard in (draft.index or {}).values()}
    return {name for name in names if len(name) > 3}


def check_error(error: BringupError, names: "set[str]") -> None:
    """It says what is wrong, where, and what to do."""
    assert error.found
    assert error.expected
    assert error.fix
    assert any(name in error.found for name in names), error.found


def judge(case: str, edits: "list[Edit]", load: Load, folder: Path) -> None:
    """Make the example, load it, and compare with what it means."""
    mark = zlib.crc32(repr((case, edits)).encode())
    dtype = "F16" if mark % 4 == 0 else "BF16"
    kinds = {name for name, *_ in edits}
    TALLY["examples"] += 1
    judge_draft(edited(case, edits), kinds, load, folder, dtype, conversion=mark % 10 == 0)


def judge_draft(
    draft: Draft, kinds: "set[str]", load: Load, folder: Path, dtype: str, *, conversion: bool
) -> None:
    """``kinds``: names of the edits. ``conversion``: convert it too."""
    files = draft.files()
    wanted: dict[str, Value] | None = None
    try:
        wanted, reason = kit.meaning(files, dtype), ""
    except NoMeaning as error:
        reason = str(error)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    refused: BringupError | None = None
    found: dict[str, Value] = {}
    try:
        found = {name: value_of(t) for name, t in load(folder, TORCH[dtype]).items()}
    except BringupError as error:
        refused = error
        check_error(error, names_in(draft, files))
    alone = refused is None and isinstance(checkpoint_schemes(read_checkpoint(folder)), LeftAlone)
    if refused is not None:
        TALLY["refused"] += 1
        if wanted is not None:
            TALLY["refused, but it has a meaning"] += 1
            REFUSED[refused.found] += 1
            assert not kinds <= {"code_bytes", "zero_points"}, f"legal codes, but {refused}"
    elif alone:
        TALLY["left alone"] += 1
        assert kinds & OF_SETTINGS, "left alone, but the settings are as they were"
        assert wanted is None, "left alone, but it has a meaning"
        assert not any(v.dtype.startswith("F8_") for v in found.values()), "codes handed on"
        assert_same(found, kit.as_stored(files))
    else:
        TALLY["loaded"] += 1
        assert wanted is not None, f"loaded without a meaning: {reason}"
        assert_same(found, wanted)
    if conversion:
        judge_conversion(folder, dtype, refused, None if alone else found)
    shutil.rmtree(folder)


def judge_conversion(
    folder: Path, dtype: str, refused: BringupError | None, found: "dict[str, Value] | None"
) -> None:
    """``bringup convert`` comes to the same verdict, and leaves nothing else behind."""
    TALLY["converted"] += 1
    place = folder.with_name(folder.name + "-converted")
    place.mkdir()
    # A conversion writes every 16-bit float in the dtype asked for.
    wanted = {name: _cast(value, dtype) for name, value in (found or {}).items()}
    also_refused: BringupError | None = None
    try:
        convert(folder, place / "made", LONG[dtype], 1 << 20)
    except BringupError as error:
        also_refused = error
    if also_refused is not None:
        same = found is None or type(also_refused) is type(refused) or None in wanted.values()
        assert same, f"conversion refuses: {also_refused}"
        assert {file.name for file in place.iterdir()} <= {"made.converting"}
        shutil.rmtree(place)
        return
    assert found is not None, "converted, but left alone"
    assert refused is None, f"converted, but not loaded: {refused}"
    assert {file.name for file in place.iterdir()} == {"made"}
    made: dict[str, Value] = {}
    for file in (place / "made").glob("*.safetensors"):
        for tensor in kit.read_shard(file.name, file.read_bytes()).values():
            made[tensor.name] = Value(tensor.dtype, tensor.shape, tensor.raw)
    assert_same(made, {name: value for name, value in wanted.items() if value})
    shutil.rmtree(place)


def _cast(value: Value, dtype: str) -> Value | None:
    """A 16-bit float in ``dtype``, None if it exceeds that; anything else as it is."""
    if value.dtype not in TORCH or value.dtype == dtype:
        return value
    stored = kit.floats_of(value.dtype, value.raw, value.shape)
    nan, bits = np.isnan(stored), kit.rounded(stored, dtype)
    infinite = (bits & 0x7FFF) == (0x7F80 if dtype == "BF16" else 0x7C00)
    if (infinite & np.isfinite(stored)).any():
        return None
    return Value(dtype, value.shape, bits.tobytes(), nan)


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
@pytest.mark.parametrize("case", CASES)
def test_a_sound_checkpoint_loads_and_converts(
    decode_checkpoint: Load, folders: "Iterator[Path]", case: str, dtype: str
) -> None:
    draft = CASES[case].copy()
    folder = next(folders)
    assert kit.meaning(draft.files(), dtype)
    judge_draft(draft, {"code_bytes"}, decode_checkpoint, folder, dtype, conversion=True)


def test_every_format_has_a_sound_checkpoint() -> None:
    assert {id_ for ids in kit.FORMAT_OF.values() for id_ in ids.split()} == set(FORMATS)


def sweep(case: str) -> "Iterator[tuple[str, str, Draft]]":
    """Single changes that are few enough to try all: (what, kind of edit, the draft)."""
    sound = CASES[case]
    for shard, name in sound.items:
        if name in PLAIN:
            continue
        draft = sound.copy()
        del draft.shards[shard][name]
        yield f"without {name}", "dropped", draft
        item = sound.shards[shard][name]
        for dtype in (d for d in BITS if BITS[d] == BITS[item.dtype] and d != item.dtype):
            draft = sound.copy()
            draft.shards[shard][name].dtype = dtype
            yield f"{name} as {dtype}", "dtype_of_same_width", draft
        if name.endswith((*_SCALES, "_scale_2", ".weight_global_scale")):
            for raw in _SPECIAL[item.dtype]:
                draft = sound.copy()
                _overwrite(draft.shards[shard][name], 0, raw)
                yield f"{name} of {raw.hex()}", "scale_value", draft
    root: Any = sound.legacy if sound.legacy is not None else sound.config
    for path in _leaves(root):
        if _SILENT & set(path):
            continue
        old = root
        for key in path:
            old = old[key]
        values: tuple[Any, ...] = (_GONE, *_WORDS.get(str(path[-1]), ()))
        if isinstance(old, (int, float)):
            values += (*_NUMBERS, "false", not old)
        if isinstance(old, str):
            values += (old.upper(), old.lower(), old.replace("-", "_"), None, [])
        for value in values:
            draft = sound.copy()
            place: Any = draft.legacy if draft.legacy is not None else draft.config
            for key in path[:-1]:
                place = place[key]
            if value is _GONE:
                del place[path[-1]]
            else:
                place[path[-1]] = copy.deepcopy(value)
            yield f"{path} {value!r}", "setting", draft


_GONE = "without it"


def _item(draft: Draft, name: str) -> Item:
    return next(draft.shards[shard][name] for shard, n in draft.items if n == name)


def _weights(draft: Draft, **changes: Any) -> None:
    for group in draft.config["quantization_config"]["config_groups"].values():
        group["weights"].update(changes)


def _reshape(name: str, *shape: int) -> Callable[[Draft], None]:
    return lambda draft: setattr(_item(draft, name), "shape", list(shape))


def _header(old: str, new: str, encoding: str = "utf-8") -> Callable[[Draft], None]:
    """Replace text in the header of the one shard."""

    def patch(files: Files) -> None:
        content = files["model.safetensors"]
        size = int.from_bytes(content[:8], "little")
        made = content[8 : 8 + size].decode().replace(old, new, 1).encode(encoding)
        files["model.safetensors"] = len(made).to_bytes(8, "little") + made + content[8 + size :]

    return lambda draft: draft.patches.append(patch)


def _rename(old: str, new: str) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        for items in draft.shards.values():
            if old in items:
                items[new] = items.pop(old)

    return change


def _nothing_left(draft: Draft) -> None:
    draft.shards, draft.index = {}, {}


def _no_kv_heads(draft: Draft) -> None:
    del draft.config["num_key_value_heads"]


def _unmatched(draft: Draft) -> None:
    groups = draft.config["quantization_config"]["config_groups"]
    groups["group_1"]["targets"] = ["re:.*gate_up$"]


def _infinite_over_zeros(draft: Draft) -> None:
    codes = _item(draft, "l.up.weight_packed")
    codes.data = bytes(len(codes.data))
    _item(draft, "l.up.weight_global_scale").data = np.array([1e-44], "<f4").tobytes()


def _subbyte(draft: Draft) -> None:
    item = _item(draft, "l.k_proj.k_scale")
    item.dtype, item.data = "F4", b""


def _six_bits(draft: Draft) -> None:
    item = _item(draft, "l.k_proj.k_scale")
    item.dtype, item.shape, item.data = "F6_E2M3", [4], bytes(3)


# Damage that random edits have found, or would with luck: what it is, the case, the change.
DAMAGE: "dict[str, tuple[str, Callable[[Draft], None]]]" = {
    "header-number-beyond-64-bits": ("ct-tensor", _header(
        "}}", '}, "x": {"dtype": "F32", "shape": [0, 18446744073709551616], '
        '"data_offsets": [0, 0]}}')),
    "header-in-utf-16": ("ct-tensor", _header("", "", "utf-16")),
    "header-metadata-not-text": ("ct-tensor", _header('"pt"', "1")),
    "header-half-a-character": ("ct-tensor", _header("model.norm", "\\ud800")),
    "header-half-a-byte": ("ct-tensor", _subbyte),
    "dropped-scale-of-six-bits": ("ct-tensor", _six_bits),
    "num-bits-float": ("ct-int4", lambda draft: _weights(draft, num_bits=4.0)),
    "symmetric-text": ("ct-int4", lambda draft: _weights(draft, symmetric="false")),
    "symmetric-null": ("ct-int4-asym", lambda draft: _weights(draft, symmetric=None)),
    "mxfp4-of-8-bits": ("ct-mxfp4", lambda draft: _weights(draft, num_bits=8)),
    "mxfp4-of-int": ("ct-mxfp4", lambda draft: _weights(draft, type="int")),
    "mxfp4-group-16": ("ct-mxfp4", lambda draft: _weights(draft, group_size=16)),
    "mxfp8-by-channel": ("ct-mxfp8", lambda draft: _weights(draft, strategy="channel")),
    "nvfp4-group-32": ("ct-nvfp4", lambda draft: _weights(draft, group_size=32)),
    "nvfp4-infinite-scale-over-zeros": ("ct-nvfp4", _infinite_over_zeros),
    "module-of-two-possible-schemes": ("ct-two-blocks", _unmatched),
    "gpt-oss-scale-4d": ("gpt-oss", _reshape("l.experts.down_proj_scales", 2, 2, 2, 1)),
    "chunked-qkv-3d": ("mimo-even", _reshape("m.self_attn.qkv_proj.weight", 1, 16, 6)),
    "chunked-qkv-unknown-heads": ("mimo-even", _no_kv_heads),
    "no-shards": ("ct-tensor", _nothing_left),
    "gate-and-up-halves-of-inputs": ("fp8-block-experts", _rename(
        "m.experts.gate_up_proj_scale_inv", "m.experts.gate_up_proj_weight_scale")),
    "modelopt-scale-per-input": ("modelopt-channel", _reshape(
        "l.moe.up_proj.weight_scale", 2, 1, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_found_before_is_refused_or_loads_as_its_files_say(
    decode_checkpoint: Load, folders: "Iterator[Path]", name: str
) -> None:
    case, change = DAMAGE[name]
    draft = CASES[case].copy()
    change(draft)
    judge_draft(draft, {"setting"}, decode_checkpoint, next(folders), "BF16", conversion=True)


def test_gpt_oss_scales_may_be_of_dtype_e8m0(
    decode_checkpoint: Load, folders: "Iterator[Path]"
) -> None:
    draft = CASES["gpt-oss"].copy()
    for name in ("l.experts.down_proj_scales", "l.experts.gate_up_proj_scales"):
        _item(draft, name).dtype = "F8_E8M0"
    judge_draft(draft, {"code_bytes"}, decode_checkpoint, next(folders), "BF16", conversion=True)


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_checkpoint_is_refused_or_loads_as_its_files_say(
    decode_checkpoint: Load, folders: "Iterator[Path]", case: str
) -> None:
    @seed(zlib.crc32(case.encode()))
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate),
    )  # fmt: skip
    @given(edit_lists(case))
    def check(edits: "list[Edit]") -> None:
        judge(case, edits, decode_checkpoint, next(folders))

    check()


@pytest.mark.parametrize("case", CASES)
def test_every_single_change_is_refused_or_loads_as_its_files_say(
    decode_checkpoint: Load, folders: "Iterator[Path]", case: str
) -> None:
    wrong = []
    for what, kind, draft in sweep(case):
        try:
            judge_draft(
                draft, {kind}, decode_checkpoint, next(folders), "BF16", conversion=False
            )  # fmt: skip
        except Exception as error:  # of any kind: that is what is being tested
            wrong.append(f"{what}: {type(error).__name__} {error}".splitlines()[0])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("case", CASES)
def test_methods_and_algorithms_may_be_spelled_otherwise(
    decode_checkpoint: Load, folders: "Iterator[Path]", case: str
) -> None:
    draft = CASES[case].copy()
    text = draft.config.get("text_config", draft.config)
    of_method = draft.legacy or text["quantization_config"]
    for place in (of_method, of_method.get("quantization", {})):
        if "quant_method" in place:
            place["quant_method"] = place["quant_method"].upper().replace("-", "_")
        if "quant_algo" in place:
            place["quant_algo"] = place["quant_algo"].lower()
    judge_draft(draft, {"code_bytes"}, decode_checkpoint, next(folders), "BF16", conversion=False)


def test_there_were_enough_examples_and_few_were_left_alone() -> None:
    if TALLY["examples"] < EXAMPLES * len(CASES):
        pytest.skip("not all cases ran")
    print(dict(TALLY), *REFUSED.most_common(), sep="\n")
    assert TALLY["examples"] >= 2000
    assert TALLY["left alone"] < TALLY["examples"] / 5
    assert TALLY["loaded"] > TALLY["examples"] / 10
    assert TALLY["converted"] >= TALLY["examples"] / 20
