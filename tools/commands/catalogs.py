# SPDX-License-Identifier: Apache-2.0
"""Subcommands that list what this project has: recipes, patches."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vllm_ascend_bringup.tools.commands.options import Json, in_help, print_json

recipes = typer.Typer(no_args_is_help=True)


@recipes.command(
    "list",
    help=in_help(
        "List the recipes, where each comes from, and which are in force.",
        "列出各配方、来自何处、哪些正在生效。",
    ),
)
def recipes_list(as_json: Json = False) -> None:
    """List the recipes, where each comes from, and which are in force."""
    from vllm_ascend_bringup.tools.recipes_report import SCHEMA_VERSION, list_recipes
    from vllm_ascend_bringup.tools.rendering import render_recipes

    found = list_recipes()
    if as_json:
        lines = [asdict(line) for line in found]
        print_json({"schema_version": SCHEMA_VERSION, "command": "recipes", "recipes": lines})
    else:
        render_recipes(found, Console())


@recipes.command(
    "explain",
    help=in_help(
        "Show, rule by rule, what becomes of one key of a checkpoint.",
        "逐条规则说明权重中的一个键会变成什么。",
    ),
)
def recipes_explain(
    key: Annotated[
        str,
        typer.Argument(help=in_help("A key as the checkpoint spells it.", "权重文件里的键名。")),
    ],
    model: Annotated[
        Path, typer.Option(help=in_help("Directory of the checkpoint.", "权重所在目录。"))
    ],
    as_json: Json = False,
) -> None:
    """Show, rule by rule, what becomes of one key of a checkpoint."""
    from vllm_ascend_bringup.tools.recipes_report import explain
    from vllm_ascend_bringup.tools.rendering import render_explanation

    explanation = explain(key, model)
    if as_json:
        print_json(explanation.to_json())
    else:
        render_explanation(explanation, Console())


def patches(
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help=in_help(
                "Exit with 10 if one no longer matches its source.",
                "只要有一个与源码不再匹配，就以 10 退出。",
            ),
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show which patches of vLLM there are, and whether they fit the installed one."""
    from vllm_ascend_bringup.tools.patches_report import report_patches
    from vllm_ascend_bringup.tools.rendering import render_patches

    report = report_patches()
    if as_json:
        print_json(report.to_json())
    else:
        render_patches(report, Console())
    raise typer.Exit(report.exit_code if check else 0)
