# SPDX-License-Identifier: Apache-2.0
"""Subcommand plan."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vllm_ascend_bringup.errors import PlanError
from vllm_ascend_bringup.hardware import DEPLOYMENTS, DEVICE_STREAMS
from vllm_ascend_bringup.tools.commands.options import Json, Lang, in_help, print_json

_Device = Enum("_Device", {name: name for name in DEPLOYMENTS}, type=str)  # type: ignore[misc]


def plan(
    model: Annotated[
        Path, typer.Argument(help=in_help("Directory of the checkpoint.", "checkpoint 目录。"))
    ],
    device: Annotated[_Device, typer.Option(help=in_help("Chip.", "芯片。"))],
    lang: Lang,
    vllm: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- VLLM-ARGUMENTS]",
            help=in_help("After --: more for `vllm serve`.", "-- 之后：`vllm serve` 的其他参数。"),
        ),
    ] = None,
    cards: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=in_help(
                "NPUs of each node; as few as fit if not given.",
                "每个节点的 NPU 数；不指定时取能部署的最小值。",
            ),
        ),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help=in_help("Machines.", "节点数。"))] = 1,
    tp: Annotated[
        int | None, typer.Option(min=1, help=in_help("Tensor-parallel size.", "张量并行数。"))
    ] = None,
    dcp: Annotated[
        int,
        typer.Option(
            min=1,
            help=in_help(
                "Ranks that share the KV cache of a request.", "分摊同一请求 KV cache 的 rank 数。"
            ),
        ),
    ] = 1,
    max_model_len: Annotated[
        int | None,
        typer.Option(min=1, help=in_help("Context length in tokens.", "上下文长度，单位 token。")),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, help=in_help("Requests at a time.", "并发请求数。"))
    ] = 32,
    stream_quota: Annotated[
        int,
        typer.Option(
            min=1,
            max=DEVICE_STREAMS,
            help=in_help(
                "Streams of a virtual NPU (soft partitioning).",
                "虚拟 NPU（软切分）的 stream 配额。",
            ),
        ),
    ] = DEVICE_STREAMS,
    card_memory: Annotated[
        float | None,
        typer.Option(
            help=in_help(
                "Memory of one NPU in GiB, as `npu-smi info` shows it.",
                "单个 NPU 的显存，单位 GiB，见 `npu-smi info`。",
            )
        ),
    ] = None,
    gpu_memory_utilization: Annotated[
        float,
        typer.Option(
            min=0.1, max=1.0, help=in_help("vLLM's share of it.", "vLLM 可用的显存比例。")
        ),
    ] = 0.9,
    vllm_ascend: Annotated[
        str | None,
        typer.Option(
            help=in_help(
                "Version of vllm-ascend; the installed one if not given.",
                "vllm-ascend 版本；不指定时取已安装的版本。",
            )
        ),
    ] = None,
    xlite: Annotated[
        bool,
        typer.Option("--xlite", help=in_help("Use xlite's graphs.", "使用 xlite 图模式。")),
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help=in_help("Give each flag its reason and source.", "列出每个参数的原因与出处。"),
        ),
    ] = False,
    script: Annotated[
        bool, typer.Option("--script", help=in_help("Print a shell script.", "输出 shell 脚本。"))
    ] = False,
    as_json: Json = False,
) -> None:
    """Say whether a model fits, and the exact command that serves it; reads no weights."""
    from vllm_ascend_bringup.tools.plan import PlanRequest, make_plan
    from vllm_ascend_bringup.tools.plan.rendering import render_plan
    from vllm_ascend_bringup.tools.plan.script import shell_script

    made = make_plan(PlanRequest(
        model, device.value, cards, nodes, tp, dcp, max_model_len, concurrency, stream_quota,
        round(card_memory * 1024**3) if card_memory else None, gpu_memory_utilization, vllm_ascend,
        xlite, tuple(vllm or ()),
    ))  # fmt: skip
    if as_json:
        print_json(made.to_json())
    elif script:
        typer.echo(shell_script(made, lang), nl=False)
    else:
        render_plan(made, Console(), lang, explain=explain)
    raise typer.Exit(0 if made.fits else PlanError.exit_code)
