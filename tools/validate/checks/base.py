# SPDX-License-Identifier: Apache-2.0
"""What a check is: a question to a running server, answered with what was measured."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.model_facts import ModelFacts
from vllm_ascend_bringup.tools.validate.client import Client, Generation
from vllm_ascend_bringup.tools.validate.results import State

# "anything" that answers, "real" weights, or weights that were "trained".
Needs = Literal["anything", "real", "trained"]


@dataclass(frozen=True)
class Outcome:
    """What one check found. ``label``: the cause, if it failed."""

    state: State
    evidence: tuple[Text | str, ...]
    label: str | None = None


@dataclass
class Session:
    """One running server and what its checks learn about it.

    ``name``: what it was told to call the model. ``folder``: of the checkpoint. ``dtype``: what it
    computes in, by torch's name. ``max_model_len``: in tokens, from /v1/models. ``chats``: whether
    it has a chat template. ``answers``: those whose content is to be judged.
    """

    client: Client
    model: ModelFacts
    folder: Path
    arguments: tuple[str, ...]
    name: str
    dtype: str
    max_model_len: int = 0
    chats: bool = False
    answers: list[Generation] = field(default_factory=list)


@dataclass(frozen=True)
class Rule:
    """One entry of the catalogue.

    ``first``: its request is the first of its kind to the engine. ``vital``: if it fails, the
    others have nothing to ask with.
    """

    id: str
    title: Text
    run: Callable[[Session], Outcome]
    needs: Needs = "anything"
    first: bool = False
    vital: bool = False


def passed(*evidence: Text | str) -> Outcome:
    """It did what it should."""
    return Outcome("passed", evidence)


def failed(label: str, *evidence: Text | str) -> Outcome:
    """It did not."""
    return Outcome("failed", evidence, label)


def not_applicable(reason: Text) -> Outcome:
    """There is nothing to prove here."""
    return Outcome("not-applicable", (reason,))
