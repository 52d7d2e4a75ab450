# SPDX-License-Identifier: Apache-2.0
"""The ``bringup`` command: arguments, exit codes, nothing else."""

import json
import re
import sys
from dataclasses import asdict
from enum import Enum
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
9 bad recipe, 10 a patch that does not fit, 11 something that the chip does not do, 70 a defect of
this tool.
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
    tp: Annotated[
        int | None, typer.Option(min=1, help="Say what this tensor-parallel size does to it.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Say what a checkpoint is and what will happen to it; reads no weights."""
    from vllm_ascend_bringup.tools.checkpoint_report import report_checkpoint
    from vllm_ascend_bringup.tools.rendering import render_checkpoint

    report = report_checkpoint(model, tp)
    if as_json:
        _print_json(report.to_json())
    else:
        render_checkpoint(report, Console())
    raise typer.Exit(report.exit_code)


@app.command()
def audit(
    model: Annotated[Path, typer.Argument(help="Directory of the checkpoint.")],
    tp: Annotated[int, typer.Option(min=1, help="Tensor-parallel size to build for.")] = 1,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Look for rules that explain what does not fit.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Where --suggest writes the recipe it drafts.")
    ] = None,
    as_json: _Json = False,
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
            _print_json(report.to_json())
        else:
            render_audit(report, Console())
        raise typer.Exit(report.exit_code)
    draft = run_suggest(model, output)
    if as_json:
        _print_json(draft.to_json())
    else:
        files = (draft.file,) if draft.file else ()
        render_draft(draft.recipe, files, draft.before, draft.report, Console())
    raise typer.Exit(draft.report.exit_code)


_recipes = typer.Typer(no_args_is_help=True, help="Recipes: list them, explain what one does.")
app.add_typer(_recipes, name="recipes")


@_recipes.command("list")
def recipes_list(as_json: _Json = False) -> None:
    """List the recipes, where each comes from, and which are in force."""
    from vllm_ascend_bringup.tools.recipes_report import SCHEMA_VERSION, list_recipes
    from vllm_ascend_bringup.tools.rendering import render_recipes

    recipes = list_recipes()
    if as_json:
        lines = [asdict(line) for line in recipes]
        _print_json({"schema_version": SCHEMA_VERSION, "command": "recipes", "recipes": lines})
    else:
        render_recipes(recipes, Console())


@_recipes.command("explain")
def recipes_explain(
    key: Annotated[str, typer.Argument(help="A key as the checkpoint spells it.")],
    model: Annotated[Path, typer.Option(help="Directory of the checkpoint.")],
    as_json: _Json = False,
) -> None:
    """Show, rule by rule, what becomes of one key of a checkpoint."""
    from vllm_ascend_bringup.tools.recipes_report import explain
    from vllm_ascend_bringup.tools.rendering import render_explanation

    explanation = explain(key, model)
    if as_json:
        _print_json(explanation.to_json())
    else:
        render_explanation(explanation, Console())


@app.command()
def new(
    architecture: Annotated[str, typer.Argument(help="As config.json names it.")],
    from_model: Annotated[Path, typer.Option(help="Directory of a checkpoint of it.")],
    output: Annotated[Path, typer.Option(help="Directory for the files.")] = Path(),
    as_json: _Json = False,
) -> None:
    """Draft a recipe for a new architecture, and a test of it, from a checkpoint's headers."""
    from vllm_ascend_bringup.tools.audit.rendering import render_draft
    from vllm_ascend_bringup.tools.new_recipe import new_recipe

    made = new_recipe(architecture, from_model, output)
    if as_json:
        _print_json(made.to_json())
    else:
        render_draft(made.text, (made.recipe, made.test), made.before, made.report, Console())
    raise typer.Exit(made.report.exit_code)


@app.command()
def patches(
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 10 if one no longer matches its source.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Show which patches of vLLM there are, and whether they fit the installed one."""
    from vllm_ascend_bringup.tools.patches_report import report_patches
    from vllm_ascend_bringup.tools.rendering import render_patches

    report = report_patches()
    if as_json:
        _print_json(report.to_json())
    else:
        render_patches(report, Console())
    raise typer.Exit(report.exit_code if check else 0)


class _Dtype(str, Enum):
    bfloat16 = "bfloat16"
    float16 = "float16"


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Directory of the checkpoint.")],
    destination: Annotated[Path, typer.Argument(help="Directory to create.")],
    dtype: Annotated[_Dtype, typer.Option(help="Type of the weights; 310P needs float16.")],
    shard_size: Annotated[
        str, typer.Option(help="Most bytes of one shard, such as 5GB or 500MB.")
    ] = "5GB",
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Decode everything again and compare it with the files."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, write nothing.")
    ] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="One task per shard on the running Ray cluster.")
    ] = False,
    as_json: _Json = False,
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
        _print_json(report.to_json())
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
