# SPDX-License-Identifier: Apache-2.0
"""The ``bringup`` command: arguments, exit codes, nothing else."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from vllm_ascend_bringup import __version__
from vllm_ascend_bringup.errors import BringupError

# sysexits.h: EX_SOFTWARE, an error that is ours and not the user's.
_EXIT_INTERNAL = 70
_EXIT_DEMO_FAILED = 8
_DEBUG = "--debug"

_HELP = """Bring up a checkpoint on Ascend, step by step.

Exit codes: 0 all right, 2 wrong usage, 3 bad setting, 4 unreadable checkpoint, 5 weights that
cannot be decoded, 6 leftovers after loading, 7 the server failed, 8 the demo answered wrongly,
70 a defect of this tool.
"""

app = typer.Typer(
    help=_HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
_Json = Annotated[bool, typer.Option("--json", help="Print JSON with a schema_version.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show tracebacks.")] = False,
) -> None:
    """Options before the subcommand; --debug may stand anywhere (see main)."""


@app.command()
def inspect(
    model: Annotated[Path, typer.Argument(help="Directory of the checkpoint.")],
    as_json: _Json = False,
) -> None:
    """Say what a checkpoint is and what will happen to it; reads no weights."""
    from vllm_ascend_bringup.tools.checkpoint_report import report_checkpoint
    from vllm_ascend_bringup.tools.rendering import render_checkpoint

    report = report_checkpoint(model)
    if as_json:
        _print_json(report.to_json())
    else:
        render_checkpoint(report, Console())
    raise typer.Exit(report.exit_code)


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option(help="Directory for the report and the server's log.")
    ] = Path("demo-report"),
    build: Annotated[
        bool, typer.Option("--build", help="Train the checkpoint anew in OUTPUT/checkpoint first.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Serve a small fp8 checkpoint, by default the package's own, and judge its answers."""
    from vllm_ascend_bringup.tools.demo import CHECKPOINT, run_demo
    from vllm_ascend_bringup.tools.demo.report import write_report
    from vllm_ascend_bringup.tools.rendering import render_checkpoint, render_demo

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
        _print_json(report.to_json())
    else:
        render_demo(report, console)
    console.print(f"report: {', '.join(map(str, files))}", soft_wrap=True)
    raise typer.Exit(0 if report.passed else _EXIT_DEMO_FAILED)


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))


def main() -> None:
    """Console script. No traceback reaches a user who did not ask for one with --debug."""
    debug = _DEBUG in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != _DEBUG]
    try:
        app(arguments, prog_name="bringup")  # exits by itself, also for wrong usage
    except BringupError as error:
        if debug:
            raise
        Console(stderr=True).print(f"[red]error[/]: {escape(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        text = f"internal error: {type(error).__name__}: {error} (run again with {_DEBUG})"
        Console(stderr=True).print(escape(text), style="red", soft_wrap=True)
        sys.exit(_EXIT_INTERNAL)
