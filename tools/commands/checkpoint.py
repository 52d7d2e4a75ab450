# SPDX-License-Identifier: Apache-2.0
"""Subcommands about one checkpoint: inspect, audit, new, convert."""

import re
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vllm_ascend_bringup.tools.commands.options import Json, in_help, print_json


def inspect(
    model: Annotated[
        Path, typer.Argument(help=in_help("Directory of the checkpoint.", "权重所在目录。"))
    ],
    tp: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=in_help(
                "Say what this tensor-parallel size does to it.", "说明这个张量并行大小会带来什么。"
            ),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a checkpoint is and what will happen to it; reads no weights."""
    from vllm_ascend_bringup.tools.checkpoint_report import report_checkpoint
    from vllm_ascend_bringup.tools.rendering import render_checkpoint

    report = report_checkpoint(model, tp)
    if as_json:
        print_json(report.to_json())
    else:
        render_checkpoint(report, Console())
    raise typer.Exit(report.exit_code)


def audit(
    model: Annotated[
        Path, typer.Argument(help=in_help("Directory of the checkpoint.", "权重所在目录。"))
    ],
    tp: Annotated[
        int,
        typer.Option(
            min=1,
            help=in_help("Tensor-parallel size to build for.", "按哪个张量并行大小构建模型。"),
        ),
    ] = 1,
    suggest: Annotated[
        bool,
        typer.Option(
            "--suggest",
            help=in_help(
                "Look for rules that explain what does not fit.", "寻找能解释不匹配之处的规则。"
            ),
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help=in_help(
                "Where --suggest writes the recipe it drafts.", "--suggest 起草的配方写到哪里。"
            )
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare a checkpoint with the vLLM class that will serve it; reads headers only.

    vLLM's own loaders run without memory for weights, in a process of their own; no NPU needed.
    """
    from vllm_ascend_bringup.tools.audit import audit as run
    from vllm_ascend_bringup.tools.audit.rendering import render_audit, render_draft
    from vllm_ascend_bringup.tools.audit.suggestion import suggest as run_suggest

    if not suggest:
        report = run(model, tp)
        if as_json:
            print_json(report.to_json())
        else:
            render_audit(report, Console())
        raise typer.Exit(report.exit_code)
    draft = run_suggest(model, output)
    if as_json:
        print_json(draft.to_json())
    else:
        files = (draft.file,) if draft.file else ()
        render_draft(draft.recipe, files, draft.before, draft.report, Console())
    raise typer.Exit(draft.report.exit_code)


def new(
    architecture: Annotated[
        str, typer.Argument(help=in_help("As config.json names it.", "config.json 里写的架构名。"))
    ],
    from_model: Annotated[
        Path,
        typer.Option(help=in_help("Directory of a checkpoint of it.", "这种架构的权重所在目录。")),
    ],
    output: Annotated[
        Path, typer.Option(help=in_help("Directory for the files.", "生成的文件放在哪个目录。"))
    ] = Path(),
    as_json: Json = False,
) -> None:
    """Draft a recipe for a new architecture, and a test of it, from a checkpoint's headers."""
    from vllm_ascend_bringup.tools.audit.rendering import render_draft
    from vllm_ascend_bringup.tools.new_recipe import new_recipe

    made = new_recipe(architecture, from_model, output)
    if as_json:
        print_json(made.to_json())
    else:
        render_draft(made.text, (made.recipe, made.test), made.before, made.report, Console())
    raise typer.Exit(made.report.exit_code)


class _Dtype(str, Enum):
    bfloat16 = "bfloat16"
    float16 = "float16"


def convert(
    source: Annotated[
        Path, typer.Argument(help=in_help("Directory of the checkpoint.", "权重所在目录。"))
    ],
    destination: Annotated[
        Path, typer.Argument(help=in_help("Directory to create.", "要创建的目录。"))
    ],
    dtype: Annotated[
        _Dtype,
        typer.Option(
            help=in_help(
                "Type of the weights; 310P needs float16.", "权重的数据类型；310P 需要 float16。"
            )
        ),
    ],
    shard_size: Annotated[
        str,
        typer.Option(
            help=in_help(
                "Most bytes of one shard, such as 5GB or 500MB.",
                "单个分片的最大字节数，例如 5GB 或 500MB。",
            )
        ),
    ] = "5GB",
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help=in_help(
                "Decode everything again and compare it with the files.",
                "全部重新解码一遍，并与写出的文件比较。",
            ),
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help=in_help("Check everything, write nothing.", "只检查，不写任何文件。")
        ),
    ] = False,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            help=in_help(
                "One task per shard on the running Ray cluster.",
                "在正在运行的 Ray 集群上，每个分片一个任务。",
            ),
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Rewrite a low-precision checkpoint as plain bf16 or fp16, which anything can load.

    A killed conversion goes on where it was when the same command is run again. What it cannot
    see: whether the model class that will load the result wants exactly these tensor names.
    """
    from vllm_ascend_bringup.conversion.run import convert as run
    from vllm_ascend_bringup.tools.rendering import progress_bar, render_conversion

    with progress_bar() as stage:
        report = run(
            source, destination, dtype.value, _bytes_in(shard_size), dry_run=dry_run,
            verify=verify, on_ray=ray, stage=stage,
        )  # fmt: skip
    if as_json:
        print_json(report.to_json())
    else:
        render_conversion(report, Console())


def _bytes_in(size: str) -> int:
    """``5GB`` (powers of ten) or ``5GiB`` (powers of two) as bytes."""
    match = re.fullmatch(r"(\d+)\s*([KMGT]?)(i?)B?", size.strip(), re.IGNORECASE)
    if match is None or int(match[1]) == 0:
        raise typer.BadParameter(
            f"{size!r} is no size: write 5GB or 500MB", param_hint="--shard-size"
        )
    base = 1024 if match[3] else 1000
    power = " KMGT".index(match[2].upper() or " ")
    return int(match[1]) * int(base**power)
