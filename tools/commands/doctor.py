# SPDX-License-Identifier: Apache-2.0
"""Subcommand doctor."""

import signal
import sys
from typing import Annotated

import typer
from rich.console import Console

from vllm_ascend_bringup.tools.commands.options import Json, Lang, in_help, print_json


def doctor(
    *,
    model: Annotated[
        str | None,
        typer.Option(help=in_help("Directory of the checkpoint that is to be served.",
                                  "要部署的 checkpoint 目录。")),
    ] = None,
    tp: Annotated[
        int, typer.Option(min=1, help=in_help("Tensor-parallel size.", "张量并行规模。"))
    ] = 1,
    nodes: Annotated[
        int, typer.Option(min=1, help=in_help("Machines that it is spread over.", "使用的机器数。"))
    ] = 1,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help=in_help("Port of the server.", "服务端口。"))
    ] = 8000,
    lang: Lang,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Check what is installed, and whether it fits together."""
    from vllm_ascend_bringup.tools.doctor import examine
    from vllm_ascend_bringup.tools.doctor.facts import Request
    from vllm_ascend_bringup.tools.doctor.rendering import render_doctor

    # The commands that it runs are in sessions of their own, and end when this ends by itself.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    report = examine(Request(model, tp, nodes, port))
    if as_json:
        print_json(report.to_json())
    else:
        render_doctor(report, Console(), lang)
    raise typer.Exit(report.exit_code)
