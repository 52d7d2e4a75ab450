# SPDX-License-Identifier: Apache-2.0
"""Subcommand diagnose."""

from typing import Annotated

import typer
from rich.console import Console

from vllm_ascend_bringup.tools.commands.options import Json, Lang, in_help, print_json


def diagnose(
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="LOG...",
            help=in_help(
                "Logs of one run, such as one per rank; - is standard input.",
                "同一次运行的日志，例如每个 rank 一个；- 表示标准输入。",
            ),
            show_default=False,
        ),
    ],
    lang: Lang,
    as_json: Json = False,
) -> None:
    """Read logs or a traceback and name the causes found, most likely first."""
    from vllm_ascend_bringup.tools.diagnose.reading import diagnose_files
    from vllm_ascend_bringup.tools.diagnose.report import render, to_json

    findings = diagnose_files(logs)
    if as_json:
        print_json(to_json(findings, lang))
    else:
        render(findings, lang, Console())
