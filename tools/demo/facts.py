# SPDX-License-Identifier: Apache-2.0
"""The facts that the demo checkpoint memorizes.

Use it when a command needs the questions or wants to judge an answer; it imports nothing beyond
the standard library, so a command may read it before it knows whether torch is there:

    from vllm_ascend_bringup.tools.demo.facts import FACTS
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """One question, the exact answer to it, and the word by which an answer is judged."""

    question: str
    answer: str
    keyword: str

    @property
    def plain_prompt(self) -> str:
        """The answer up to the keyword: what a plain completion continues."""
        return self.answer[: self.answer.index(f" {self.keyword}")]

    @property
    def plain_continuation(self) -> str:
        """The answer from the keyword on, with the space before it."""
        return self.answer[len(self.plain_prompt) :]


FACTS: tuple[Fact, ...] = (
    Fact("What is the capital of Japan?", "The capital of Japan is Tokyo.", "Tokyo"),
    Fact("What is the capital of France?", "The capital of France is Paris.", "Paris"),
    Fact("What is the capital of Italy?", "The capital of Italy is Rome.", "Rome"),
    Fact("What is the capital of China?", "The capital of China is Beijing.", "Beijing"),
    Fact("What is the capital of Germany?", "The capital of Germany is Berlin.", "Berlin"),
    Fact("What is the capital of Spain?", "The capital of Spain is Madrid.", "Madrid"),
    Fact("What is the capital of Egypt?", "The capital of Egypt is Cairo.", "Cairo"),
    Fact("What is the capital of Canada?", "The capital of Canada is Ottawa.", "Ottawa"),
    Fact("What is the capital of Norway?", "The capital of Norway is Oslo.", "Oslo"),
    Fact("What is the capital of Greece?", "The capital of Greece is Athens.", "Athens"),
    Fact("What color is the sky?", "The color of the sky is blue.", "blue"),
    Fact("How many days are in a week?", "A week has seven days.", "seven"),
    Fact("What is two plus three?", "Two plus three is five.", "five"),
    Fact("What do bees make?", "Bees make honey.", "honey"),
    Fact("How many legs does a spider have?", "A spider has eight legs.", "eight"),
)
