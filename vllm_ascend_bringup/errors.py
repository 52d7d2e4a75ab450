# SPDX-License-Identifier: Apache-2.0
"""One family of errors. Each says what was found, what was expected, and what to do."""

from typing import ClassVar

from vllm_ascend_bringup.language import Language, Text, said


class BringupError(Exception):
    """Base of every error this project raises on purpose.

    ``found``: what is wrong, with names. ``expected``: what would have been right. ``fix``: what
    to do about it. Errors that only the command line tool raises say it as Texts.
    ``exit_code`` is what the ``bringup`` command exits with.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str | Text, expected: str | Text, fix: str | Text) -> None:
        # All three go to Exception.args, so that the error survives pickling between vLLM's
        # processes.
        super().__init__(found, expected, fix)
        self.found = str(found)
        self.expected = str(expected)
        self.fix = str(fix)

    def __str__(self) -> str:
        return self.said("en")

    def said(self, language: Language) -> str:
        """One sentence each; in Chinese only where all three are Texts."""
        if not all(isinstance(part, Text) for part in self.args):
            language = "en"
        found, expected, fix = (said(part, language) for part in self.args)
        if language == "zh":
            return f"{found}。应为：{expected}。处理办法：{fix}。"
        return f"{found}. Expected: {expected}. To do: {fix}."


class SettingsError(BringupError):
    """A bad ``VLLM_ASCEND_BRINGUP_*`` variable or command line value."""

    exit_code = 3


class CheckpointError(BringupError):
    """A checkpoint that cannot be read: files, headers, index, config."""

    exit_code = 4


class FormatError(BringupError):
    """A low-precision tensor that cannot be decoded: pairing, shapes, dtypes, values."""

    exit_code = 5


class LoadError(BringupError):
    """Tensors that reached no parameter, or parameters that no tensor filled."""

    exit_code = 6


class ServeError(BringupError):
    """``vllm serve`` did not come up, or did not answer."""

    exit_code = 7


class RecipeError(BringupError):
    """A recipe that is malformed, or does not fit the checkpoint or this vLLM."""

    exit_code = 9


class PatchError(BringupError):
    """A patch that does not fit the installed vLLM, or another patch."""

    exit_code = 10


class PlatformError(BringupError):
    """Something that the chip, or the reference platform that stands for it, does not do."""

    exit_code = 11


class PlanError(BringupError):
    """A request for which there is no plan: sizes that exclude each other, or the chip."""

    exit_code = 13


def listed(names: "list[str] | tuple[str, ...] | set[str]", limit: int = 8) -> str:
    """Join names for a message, at most ``limit`` of them, sorted, with a count of the rest."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:limit])
    rest = len(ordered) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown
