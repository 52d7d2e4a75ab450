# SPDX-License-Identifier: Apache-2.0
"""Facts of any shape as rows: what ``bringup inspect --json`` and a plan hold."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Cell, Literally
from vllm_ascend_bringup.tools.report.words import size

TITLES: Mapping[str, Text] = MappingProxyType(
    {
        "path": Text("checkpoint", "权重目录"),
        "architecture": Text("architecture", "架构"),
        "model_type": Text("model type", "模型类型"),
        "dtype": Text("dtype", "数据类型"),
        "layers": Text("layers", "层数"),
        "hidden_size": Text("hidden size", "隐藏维度"),
        "vocabulary": Text("vocabulary", "词表大小"),
        "max_length": Text("context length in config.json", "config.json 中的上下文长度"),
        "query_heads": Text("query heads", "查询头数"),
        "kv_heads": Text("KV heads", "KV 头数"),
        "head_size": Text("head size", "头维度"),
        "attention": Text("attention", "注意力"),
        "experts": Text("experts", "专家数"),
        "mtp_layers": Text("MTP layers", "MTP 层数"),
        "parts": Text("parts beside the text model", "文本模型之外的部分"),
        "recipe": Text("recipe", "配方"),
        "served_as": Text("served as", "实际加载的架构"),
        "quantization": Text("quantization", "量化"),
        "formats": Text("formats decoded while loading", "加载时解码的格式"),
        "dtypes": Text("tensors by dtype", "各 dtype 的张量数"),
        "tensors": Text("tensors", "张量数"),
        "shards": Text("shards", "分片数"),
        "stored_bytes": Text("size as stored", "存储大小"),
        "decoded_bytes": Text("size after decoding", "解码后大小"),
        "vllm_version": Text("vLLM", "vLLM 版本"),
        "transformers_version": Text("transformers", "transformers 版本"),
    }
)


def rows(facts: Mapping[str, Any]) -> tuple[tuple[Cell, ...], ...]:
    """A row per fact: known ones first, in the order of TITLES; those that are empty left out.

    Objects within objects stay in report.json, but for counts, which read as a list.
    """
    known = [name for name in TITLES if name in facts]
    names = known + [name for name in facts if name not in TITLES]
    return tuple(_row(name, facts[name]) for name in names if _said(name, facts[name]) is not None)


def _row(name: str, value: Any) -> tuple[Cell, ...]:
    said = _said(name, value)
    assert said is not None
    return (TITLES.get(name, Literally(name)), said)


def _said(name: str, value: Any) -> Cell | None:
    if isinstance(value, bool):
        return Text("yes", "是") if value else Text("no", "否")
    if isinstance(value, int) and name.endswith("_bytes"):
        return size(value)
    if isinstance(value, (str, int, float)):
        return str(value) or None
    if isinstance(value, Text):
        return value
    if isinstance(value, Mapping):
        if set(value) == {"en", "zh"}:
            return Text(str(value["en"]), str(value["zh"]))
        if value and all(isinstance(count, (int, str)) for count in value.values()):
            return ", ".join(f"{key}: {count}" for key, count in value.items())
    if isinstance(value, (list, tuple)) and value and all(map(_plain, value)):
        return ", ".join(map(str, value))
    return None


def _plain(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def flattened(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Facts with those of the model itself, which ``inspect`` keeps apart, among them."""
    for name, value in facts.items():
        if name == "model" and isinstance(value, Mapping):
            yield from value.items()
        elif name not in ("schema_version", "command"):
            yield name, value
