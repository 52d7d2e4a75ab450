# SPDX-License-Identifier: Apache-2.0
"""Arguments of ``vllm serve``, looked at and changed one at a time.

vLLM takes ``--max-model-len`` and ``--max_model_len``, ``--x y`` and ``--x=y``.
"""

from collections.abc import Sequence


def value_of(arguments: Sequence[str], name: str) -> str | None:
    """The last value given for an option; None if it is absent, "" for a flag."""
    found = None
    for place, argument in enumerate(arguments):
        if _name(argument) == name:
            _, separator, value = argument.partition("=")
            following = arguments[place + 1] if place + 1 < len(arguments) else "--"
            found = value if separator else "" if following.startswith("--") else following
    return found


def has(arguments: Sequence[str], name: str) -> bool:
    """Whether an option is there."""
    return any(_name(argument) == name for argument in arguments)


def decided(arguments: Sequence[str], name: str) -> bool:
    """Whether an option is there, or its ``--no-`` form."""
    return has(arguments, name) or has(arguments, name.replace("--", "--no-", 1))


def without(arguments: Sequence[str], *names: str) -> tuple[str, ...]:
    """The arguments without these options, their values and their ``--no-`` forms."""
    dropped = {*names, *(name.replace("--", "--no-", 1) for name in names)}
    kept: list[str] = []
    dropping = False
    for argument in arguments:
        if argument.startswith("--"):
            dropping = _name(argument) in dropped
        if not dropping:
            kept.append(argument)
    return tuple(kept)


def replaced(arguments: Sequence[str], name: str, *values: str) -> tuple[str, ...]:
    """The arguments with this option, whatever was said about it before."""
    return (*without(arguments, name), name, *values)


def _name(argument: str) -> str:
    return argument.partition("=")[0].replace("_", "-") if argument.startswith("--") else ""
