# SPDX-License-Identifier: Apache-2.0
"""One step's batch on a 310P, and the masks that its layers share."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from vllm_ascend_bringup.attention.masks import LegacyMasks


@dataclass(frozen=True)
class Call:
    """One call of the chunked-prefill operator.

    tokens, requests: of the batch, which of them. mask: FRACTAL_NZ. seq_len: query tokens of each
    request, int32 on the host. context_lens: keys that its last token sees, int32.
    """

    tokens: slice
    requests: slice
    mask: torch.Tensor
    seq_len: torch.Tensor
    context_lens: torch.Tensor


@dataclass
class Step:
    """queries: tokens of each request in this step. lengths: its keys, those included.

    window, wherever it is asked for: how many keys a query sees at most, itself included, or None.
    A mask that is the whole batch's is made when the first layer asks for it, and kept. Where a
    batch takes several, they together exceed what masks may take, and each layer makes them anew.
    """

    queries: list[int]
    lengths: list[int]
    causal: bool
    masks: LegacyMasks
    _whole: dict[int | None, Call] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Rows of the query that are not padding."""
        return sum(self.queries)

    @property
    def fresh(self) -> bool:
        """No request has keys from before: vllm-ascend's state PrefillNoCache."""
        return self.queries == self.lengths

    def within(self, window: int | None) -> bool:
        """No request is longer than the window."""
        return window is None or max(self.lengths) <= window

    def decodes(self, window: int | None) -> bool:
        """One token each, and nothing to hide: what the operator without a mask computes."""
        return max(self.queries) == 1 and self.within(window)

    def calls(self, window: int | None) -> Iterator[Call]:
        """The whole batch by the chunked-prefill operator, in order."""
        if self.within(window):
            window = None
        if window in self._whole:
            yield self._whole[window]
            return
        made = self.masks.chunks(self.queries, self.lengths, causal=self.causal, window=window)
        for piece, mask in made:
            call = Call(
                piece.tokens, slice(piece.requests.start, piece.requests.stop), mask,
                int32(piece.query_lengths),
                int32(piece.sequence_lengths).to(self.masks.device),
            )  # fmt: skip
            if sum(piece.query_lengths) == self.tokens:
                self._whole[window] = call
            yield call


def int32(lengths: list[int] | tuple[int, ...]) -> torch.Tensor:
    """Lengths as operators take them, on the host."""
    return torch.tensor(lengths, dtype=torch.int32)
