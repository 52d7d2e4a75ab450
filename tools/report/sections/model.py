# SPDX-License-Identifier: Apache-2.0
"""What the checkpoint is."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Block, Bullets, Prose, Section, Table
from vllm_ascend_bringup.tools.report.sections.facts import flattened, rows
from vllm_ascend_bringup.tools.validate.results import Validation

_TITLE = Text("Model", "模型")
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
_HEAD = (Text("fact", "项目"), Text("value", "值"))


def section(validation: Validation) -> Section:
    """Facts, and the problems that ``inspect`` found."""
    facts = dict(flattened(validation.model))
    known = rows(facts, TITLES)
    blocks: list[Block] = [Table(_HEAD, known)] if known else []
    if problems := facts.get("problems"):
        blocks += [Prose(Text("Notes of bringup inspect:", "bringup inspect 的提示：")),
                   Bullets(tuple(_problem(problem) for problem in problems))]  # fmt: skip
    if not blocks:
        blocks.append(Prose(Text("The checkpoint was not read.", "没有读取权重目录。")))
    return Section("model", _TITLE, tuple(blocks))


def _problem(problem: Any) -> str:
    if isinstance(problem, Mapping):
        return f"{problem.get('severity', 'note')}: {problem.get('text', '')}"
    return str(problem)
