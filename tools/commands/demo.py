# SPDX-License-Identifier: Apache-2.0
"""Subcommand demo."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from vllm_ascend_bringup.tools.commands.options import Json, in_help, print_json

_EXIT_DEMO_FAILED = 8


def demo(
    output: Annotated[
        Path,
        typer.Option(
            help=in_help(
                "Directory for the report and the server's log.", "报告和服务日志所在目录。"
            )
        ),
    ] = Path("demo-report"),
    build: Annotated[
        bool,
        typer.Option(
            "--build",
            help=in_help(
                "Train the checkpoint anew in OUTPUT/checkpoint first.",
                "先在 OUTPUT/checkpoint 重新训练演示模型。",
            ),
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve a small fp8 checkpoint, by default the package's own, and judge its answers."""
    from vllm_ascend_bringup.operators import check_operators
    from vllm_ascend_bringup.tools.demo import CHECKPOINT, run_demo
    from vllm_ascend_bringup.tools.demo.report import write_report
    from vllm_ascend_bringup.tools.rendering import render_checkpoint, render_demo

    check_operators()
    console = Console(stderr=as_json)
    checkpoint = CHECKPOINT
    if build:
        from vllm_ascend_bringup.tools.demo.build_checkpoint import build as build_checkpoint

        checkpoint = output / "checkpoint"
        console.print(f"training {checkpoint}, about 15 seconds on two cores", soft_wrap=True)
        console.print(build_checkpoint(checkpoint), soft_wrap=True)
    if not as_json:
        from vllm_ascend_bringup.tools.checkpoint_report import report_checkpoint

        render_checkpoint(report_checkpoint(checkpoint), console)
    report = run_demo(checkpoint, output, lambda line: console.print(escape(line), soft_wrap=True))
    files = write_report(report, output)
    if as_json:
        print_json(report.to_json())
    else:
        render_demo(report, console)
    console.print(f"report: {', '.join(map(str, files))}", soft_wrap=True)
    raise typer.Exit(0 if report.passed else _EXIT_DEMO_FAILED)
