# SPDX-License-Identifier: Apache-2.0
"""Subcommand check-request."""

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from vllm_ascend_bringup.language import Text, said
from vllm_ascend_bringup.tools.commands.options import Json, Lang, in_help, print_json


class _Server(str, Enum):
    vllm = "vllm"
    mindie = "mindie"


_HELP = in_help(
    "Say what a server would refuse of a chat request with images, videos or sounds, before it is "
    "sent.",
    "在发送之前，检查带图像、视频或音频的对话请求会被服务拒绝的地方。",
)
_SEVERITIES = {"refused": Text("refused", "拒绝"), "note": Text("note", "提示")}
_LINE = Text("{severity} [{rule}] {where}: {found}", "{severity} [{rule}] {where}：{found}")


def check_request(
    file: Annotated[
        Path, typer.Argument(help=in_help("JSON body of one request; - reads it from stdin.",
                                          "一个请求的 JSON 请求体；- 表示从标准输入读取。"))
    ],
        lang: Lang,
    server: Annotated[
        _Server, typer.Option(help=in_help("Whose rules.", "按哪种服务的规则检查。"))
    ] = _Server.vllm,
    allowed_local_media_path: Annotated[

        Path | None,
        typer.Option(help=in_help("As given to vllm serve.", "与 vllm serve 的值相同。")),

    ] = None,
    allowed_media_domains: Annotated[
        list[str] | None,
        typer.Option(help=in_help("As given to vllm serve; may be repeated.",
                                  "与 vllm serve 的值相同；可重复。")),
    ] = None,
    limit_mm_per_prompt: Annotated[
        str, typer.Option(help=in_help('As given to vllm serve, such as {"image": 2}.',
                                       '与 vllm serve 的值相同，例如 {"image": 2}。'))
    ] = "{}",
    as_json: Json = False,

) -> None:  # fmt: skip
    from vllm_ascend_bringup.tools.check_request import check_request as run
    from vllm_ascend_bringup.tools.check_request.base import Server
    from vllm_ascend_bringup.tools.check_request.body import read_request

    asked = Server(
        server.value, allowed_local_media_path, tuple(allowed_media_domains or ()),
        _limits(limit_mm_per_prompt),
    )  # fmt: skip
    report = run(read_request(file), asked)
    if as_json:
        print_json(report.to_json())
        raise typer.Exit(report.exit_code)
    for objection in report.objections:
        line = _LINE.format(
            severity=_SEVERITIES[objection.severity], rule=objection.rule,
            where=objection.where, found=objection.found,
        )  # fmt: skip
        typer.echo(said(line, lang))
        typer.echo(f"    {said(objection.action, lang)}")
    refused = sum(objection.severity == "refused" for objection in report.objections)
    typer.echo(
        said(
            Text(
                "{server}: {messages} messages, {media} media, {refused} refused",
                "{server}：{messages} 条消息，{media} 个媒体，{refused} 处会被拒绝",
            ).format(
                server=report.server, messages=report.messages, media=report.media, refused=refused
            ),
            lang,
        )
    )
    raise typer.Exit(report.exit_code)


check_request.__doc__ = _HELP


def _limits(text: str) -> dict[str, int]:
    """JSON of counts by kind; vLLM also takes objects with a count."""
    try:
        given = json.loads(text)
        counts = {kind: value["count"] if isinstance(value, dict) else value
                  for kind, value in given.items()}  # fmt: skip
        if all(type(count) is int for count in counts.values()):
            return counts
    except (ValueError, AttributeError, KeyError):
        pass
    raise typer.BadParameter(f'{text!r}: write {{"image": 2}}', param_hint="--limit-mm-per-prompt")
