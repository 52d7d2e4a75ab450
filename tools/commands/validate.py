# SPDX-License-Identifier: Apache-2.0
"""Subcommand validate."""

import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.commands.options import Json, Lang, in_help, print_json

_EXIT_NOT_PASSED = 14


def validate(
    model: Annotated[Path, typer.Argument(help=in_help("Folder of the checkpoint.", "权重目录。"))],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- VLLM SERVE ARGUMENTS]",
            help=in_help("Passed to `vllm serve`.", "传给 `vllm serve` 的参数。"),
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help=in_help("Folder for the report and the logs.", "报告与日志的目录。")),
    ] = None,
    dummy: Annotated[
        bool,
        typer.Option(
            "--dummy/--no-dummy",
            help=in_help("Dummy weights first.", "先用虚拟权重启动一次。"),
        ),
    ] = True,
    ladder: Annotated[
        bool,
        typer.Option(
            "--ladder/--no-ladder",
            help=in_help("After a failure, try fallbacks.", "失败后逐级尝试回退方案。"),
        ),
    ] = True,
    features: Annotated[
        bool,
        typer.Option(
            "--features",
            help=in_help(
                "Try each feature on a server of its own.", "为每个特性单独启动服务验证。"
            ),
        ),
    ] = False,
    capacity: Annotated[
        bool,
        typer.Option(
            "--capacity",
            help=in_help("Search for the largest sizes that serve.", "搜索可服务的最大规格。"),
        ),
    ] = False,
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights",
            help=in_help(
                "The weights were never trained: do not judge what it says.",
                "权重未经训练：不评判回答内容。",
            ),
        ),
    ] = False,
    phase_timeout: Annotated[
        float,
        typer.Option(
            help=in_help("Seconds that a start may stand still.", "启动过程允许停滞的秒数。")
        ),
    ] = 600,
    start_timeout: Annotated[
        float,
        typer.Option(help=in_help("Seconds that a start may take.", "启动允许的总秒数。")),
    ] = 7200,
    request_timeout: Annotated[
        float,
        typer.Option(help=in_help("Seconds that an answer may take.", "单个请求允许的秒数。")),
    ] = 600,
    as_json: Json = False,
    *,
    lang: Lang,
) -> None:
    """Run the real server and prove that it serves the model."""
    from vllm_ascend_bringup.language import said
    from vllm_ascend_bringup.tools.validate import validate as run
    from vllm_ascend_bringup.tools.validate.rendering import render_validation
    from vllm_ascend_bringup.tools.validate.request import ValidateRequest

    # So that servers are stopped in order, as for an interrupt; for SIGKILL there is their guard.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    console = Console(stderr=as_json)

    def say(text: Text) -> None:
        console.print(escape(str(said(text, lang))), highlight=False, soft_wrap=True)

    logs = report / "logs" if report else Path(tempfile.mkdtemp(prefix="bringup-validate-"))
    say(Text("logs: {logs}", "日志：{logs}").format(logs=logs))
    validation = run(
        ValidateRequest(
            model=model, arguments=tuple(arguments or ()), logs=logs, dummy=dummy, ladder=ladder,
            features=features, capacity=capacity, random_weights=random_weights,
            phase_seconds=phase_timeout, start_seconds=start_timeout,
            request_seconds=request_timeout, say=say,
        )
    )  # fmt: skip
    if as_json:
        print_json(validation.to_json())
    else:
        render_validation(validation, lang, console)
    if report:
        from vllm_ascend_bringup.tools.report import write_report

        files = ", ".join(map(str, write_report(validation, report, lang)))
        say(Text("report: {files}", "报告：{files}").format(files=files))
    raise typer.Exit(0 if validation.verdict == "pass" else _EXIT_NOT_PASSED)
