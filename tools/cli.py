# SPDX-License-Identifier: Apache-2.0
"""The ``bringup`` command: its subcommands, exit codes, nothing else."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from vllm_ascend_bringup import __version__
from vllm_ascend_bringup.errors import BringupError
from vllm_ascend_bringup.language import language_of
from vllm_ascend_bringup.tools.commands import (
    catalogs,
    check_request,
    checkpoint,
    demo,
    diagnose,
    plan,
    validate,
)

# sysexits.h: EX_SOFTWARE, an error that is ours and not the user's.
_EXIT_INTERNAL = 70
_DEBUG = "--debug"

_HELP = """Bring up a checkpoint on Ascend, step by step.

Exit codes: 0 all right, 2 wrong usage, 3 bad setting, 4 unreadable checkpoint, 5 weights that
cannot be decoded, 6 leftovers after loading, 7 the server failed, 8 the demo answered wrongly,
9 bad recipe, 10 a patch that does not fit, 11 something that the chip does not do, 12 doctor found
an error, 13 no plan is possible, 14 validate did not pass, 15 a request that the server would
refuse, 70 a defect of this tool.
"""

app = typer.Typer(
    help=_HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


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


app.command()(checkpoint.inspect)
app.command()(checkpoint.audit)
app.add_typer(catalogs.recipes, name="recipes")
app.command()(checkpoint.new)
app.command()(catalogs.patches)
app.command()(checkpoint.convert)
app.command()(check_request.check_request)
app.command()(demo.demo)
app.command()(validate.validate)
app.command()(diagnose.diagnose)
app.command()(plan.plan)


def main() -> None:
    """Console script. No traceback reaches a user who did not ask for one with --debug."""
    debug = _DEBUG in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != _DEBUG]
    try:
        app(arguments, prog_name="bringup")  # exits by itself, also for wrong usage
    except BringupError as error:
        if debug:
            raise
        Console(stderr=True).print(
            f"[red]error[/]: {escape(error.said(language_of(sys.argv)))}", soft_wrap=True
        )
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        text = f"internal error: {type(error).__name__}: {error} (run again with {_DEBUG})"
        Console(stderr=True).print(escape(text), style="red", soft_wrap=True)
        sys.exit(_EXIT_INTERNAL)
