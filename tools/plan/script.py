# SPDX-License-Identifier: Apache-2.0
"""A plan as a shell script, whose last command is the one that was printed."""

from vllm_ascend_bringup.language import Language, Text, said
from vllm_ascend_bringup.tools.plan.base import Plan, shell_word

_TITLE = Text(
    "{model} on {device}, by bringup plan", "{model} 部署于 {device}，由 bringup plan 生成"
)
_NODE = Text("usage: {name} NODE, a number from 0 to {last}", "用法：{name} NODE，取值 0 到 {last}")
_LOCAL = Text("address of this node", "本节点地址")
_NIC = Text("network interface of this node", "本节点网卡名")
_HEAD = Text("address of the first node", "首节点地址")


def shell_script(plan: Plan, language: Language) -> str:
    """For bash. Several nodes: the node's number is the first argument where each has a command;
    LOCAL_IP, NIC and HEAD_IP come from the environment.
    """
    title = said(_TITLE.format(model=plan.model, device=plan.device), language)
    lines = ["#!/usr/bin/env bash", f"# {title}", "set -euo pipefail", ""]
    if plan.layout.nodes > 1:
        needed = {"LOCAL_IP": _LOCAL, "NIC": _NIC, "HEAD_IP": _HEAD}
        lines += [f': "${{{name}:?{said(text, language)}}}"' for name, text in needed.items()]
    lines += [f"export {s.name}={shell_word(s.value or '')}" for s in plan.environment]
    lines.append("")
    if len(plan.commands) == 1:
        lines.append(f"exec {plan.command()}")
    else:
        lines += _by_node(plan, language)
    return "\n".join(lines) + "\n"


def _by_node(plan: Plan, language: Language) -> list[str]:
    last = len(plan.commands) - 1
    usage = said(_NODE.format(name="$0", last=last), language)
    cases = [f"    {node}) exec {plan.command(node)} ;;" for node in range(last + 1)]
    return ['case "${1:-}" in', *cases, f'    *) echo "{usage}" >&2; exit 2 ;;', "esac"]
