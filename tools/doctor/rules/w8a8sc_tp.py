# SPDX-License-Identifier: Apache-2.0
"""Shards that were saved per rank do not fit the tensor-parallel size.

Signals: model-rank-R-part-P.safetensors files, which name their rank; the quantization that
ModelSlim's description states. Compressed weights (W8A8SC) exist only in this form, for one size.
Below that size vLLM's loader fills each rank from the files of its own number alone, with a warning
about shapes.
Source: vLLM's sharded_state_loader.py; vllm-ascend's examples/save_sharded_state_310.py.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.facts import ModelFiles, Request

_OR = Text("or {action}", "或者{action}")


def _judge(model: ModelFiles, request: Request) -> Iterator[Judgement]:
    ranks, compressed = model.ranks, (model.quantization or "").endswith("SC")
    again = Text(
        f"save the shards for --tensor-parallel-size {request.tp} with vllm-ascend's "
        "examples/save_sharded_state_310.py",
        f"用 vllm-ascend 的 examples/save_sharded_state_310.py 按 --tensor-parallel-size "
        f"{request.tp} 重新保存权重",
    )
    if model.missing_ranks:
        missing = ", ".join(map(str, model.missing_ranks))
        what = Text("ranks without a file", "缺少文件的 rank")
        yield error(Evidence(what, missing, Text("none", "无")), do=again)
    if ranks and ranks != request.tp:
        what = Text("ranks that the shards were saved for", "分片保存时的 rank 数")
        size = Text(f"{request.tp}, the tensor-parallel size", f"{request.tp}，即张量并行规模")
        serve = Text(
            f"serve with --tensor-parallel-size {ranks} (and give doctor --tp {ranks})",
            f"请用 --tensor-parallel-size {ranks} 启动服务（doctor 也加上 --tp {ranks}）",
        )
        yield error(Evidence(what, str(ranks), size), do=(serve, _OR.format(action=again)))
    elif compressed and not ranks:
        what = Text(
            f"files of ranks, for {model.quantization}", f"{model.quantization} 的分 rank 文件"
        )
        expected = "model-rank-0-part-0.safetensors"
        yield error(Evidence(what, "0", expected), do=again)


RULE = Rule("w8a8sc-tp", Text("shards per rank", "分 rank 保存的权重"), _judge)
