# SPDX-License-Identifier: Apache-2.0
"""Options that subcommands share, and how they print JSON."""

import json
import sys
from typing import Annotated, Any

import typer

from vllm_ascend_bringup.language import Language, Text, language_of, said

# Help is made before arguments are parsed.
HELP_LANGUAGE = language_of(sys.argv[1:])


def in_help(en: str, zh: str) -> str:
    """A help text in the language of the one who asks for it."""
    return str(said(Text(en, zh), HELP_LANGUAGE))


Lang = Annotated[
    Language,
    typer.Option(
        "--lang",
        default_factory=lambda: language_of([]),
        show_default=False,
        help=in_help(
            "Language of what is printed; the locale's if not given.",
            "输出语言；不指定时按系统区域设置。",
        ),
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help=in_help("Print JSON with a schema_version.", "输出带 schema_version 的 JSON。"),
    ),
]


def print_json(content: dict[str, Any]) -> None:
    """To standard output."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
