# SPDX-License-Identifier: Apache-2.0
"""Additive masks for the operators of a 310P that take a whole one, no larger than a batch needs.

vllm-ascend makes one of the longest sequence a model allows, squared: 32 GiB for 131,072 tokens.
Here a prompt's mask is as long as the prompts in the batch, and of a chunk only the rows of its own
tokens are made, in pieces that stay within a budget.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from vllm_ascend_bringup.attention import CHUNK_MASK_BYTES
from vllm_ascend_bringup.kernels.nz_mask import mask_bytes, mask_rows

# Rows of a mask are padded to this; a piece with fewer would take as much.
_ROWS = 16


@dataclass(frozen=True)
class Piece:
    """What one call of the chunked-prefill operator computes: some tokens of some requests.

    requests: their numbers in the batch, without gaps. first_token: where the piece begins among
    the batch's tokens. query_lengths: tokens of each request that are in the piece.
    sequence_lengths: keys that the last of these tokens sees.
    """

    requests: range
    first_token: int
    query_lengths: tuple[int, ...]
    sequence_lengths: tuple[int, ...]

    @property
    def tokens(self) -> slice:
        """Of the batch's tokens, those of this piece."""
        return slice(self.first_token, self.first_token + sum(self.query_lengths))

    @property
    def width(self) -> int:
        """Keys that a mask for it has to cover."""
        return max(self.sequence_lengths)

    def positions(self) -> torch.Tensor:
        """Of its tokens in their sequences, int64 ``[T]``."""
        lengths = torch.tensor(self.query_lengths)
        starts = torch.tensor(self.sequence_lengths) - lengths
        first_of_each = lengths.cumsum(0) - lengths
        within = torch.arange(int(lengths.sum())) - first_of_each.repeat_interleave(lengths)
        return starts.repeat_interleave(lengths) + within


def pieces(
    query_lengths: Sequence[int], sequence_lengths: Sequence[int], budget: int, itemsize: int = 2
) -> Iterator[Piece]:
    """Cut a batch so that the mask of each piece takes at most ``budget`` bytes.

    query_lengths: tokens of each request in this step. sequence_lengths: tokens of each, those
    included. A token is cut off from what is before it without harm: its keys are in the cache.
    Sixteen tokens are the least a piece has, and may exceed a small budget. Raises ValueError for
    lengths that cannot be.
    """
    together = list(zip(query_lengths, sequence_lengths, strict=True))
    if wrong := [pair for pair in together if not 0 < pair[0] <= pair[1]]:
        raise ValueError(
            f"query and sequence length {wrong[0]}: expected at least one query token, and all of "
            "them in the sequence"
        )
    request, done, first_token = 0, 0, 0
    while request < len(together):
        first_request, width = request, 0
        queries: list[int] = []
        sequences: list[int] = []
        while request < len(together):
            count, length = together[request]
            start = length - count + done
            taken = _fitting(sum(queries), start, count - done, width, budget, itemsize)
            if taken:
                queries.append(taken)
                sequences.append(start + taken)
                width = max(width, start + taken)
                done += taken
            if done < count:
                break  # the piece is full
            request, done = request + 1, 0
        yield Piece(
            range(first_request, first_request + len(queries)), first_token, tuple(queries),
            tuple(sequences),
        )  # fmt: skip
        first_token += sum(queries)


def _fitting(used: int, start: int, wanted: int, width: int, budget: int, itemsize: int) -> int:
    """How many of ``wanted`` tokens from ``start`` on fit beside ``used`` rows of ``width``.

    The first sixteen rows always do. Found by halving: a longer part is also a wider one.
    """

    def fits(count: int) -> bool:
        rows = used + count
        return rows <= _ROWS or mask_bytes(rows, max(width, start + count), itemsize) <= budget

    if fits(wanted):
        return wanted
    low, high = 0, wanted
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


class LegacyMasks:
    """Masks for the operators that add what they are given, for one dtype on one device.

    longest_prompt: that any batch can have. budget: bytes that the rows of one call may take.
    mark: what makes an operator take a tensor as FRACTAL_NZ. Nothing is kept on the class: two of
    them do not know of each other. window: how many keys a query sees at most, itself included.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        device: torch.device,
        longest_prompt: int,
        *,
        budget: int = CHUNK_MASK_BYTES,
        mark: Callable[[torch.Tensor], torch.Tensor] = lambda mask: mask,
    ) -> None:
        self.dtype, self.device, self.longest_prompt = dtype, device, longest_prompt
        self.budget, self.mark = budget, mark
        self._prompt: dict[int | None, torch.Tensor] = {}

    def prompt(
        self, longest: int, *, causal: bool = True, window: int | None = None
    ) -> torch.Tensor:
        """For prompts of up to ``longest`` tokens: ``[1, side / 16, side, 16]``.

        Kept if causal, and made anew with twice the side when a longer prompt comes, but no larger
        than the longest one needs.
        """
        if not causal:
            return self._zeros(longest, longest)
        kept = self._prompt.get(window)
        if kept is None or kept.shape[2] < longest:
            side = _ROWS
            while side < longest:
                side *= 2
            if longest <= self.longest_prompt:
                side = min(side, -(-self.longest_prompt // _ROWS) * _ROWS)
            self._prompt.pop(window, None)  # before the larger one is made
            positions = torch.arange(side, device=self.device)
            rows = mask_rows(positions, side, self.dtype, window=window)
            kept = self._prompt[window] = self.mark(rows)
        return kept

    def chunks(
        self,
        query_lengths: Sequence[int],
        sequence_lengths: Sequence[int],
        *,
        causal: bool = True,
        window: int | None = None,
    ) -> Iterator[tuple[Piece, torch.Tensor]]:
        """Pieces of a batch, each with its rows ``[1, ceil(width / 16), ceil16(T), 16]``.

        Without causality a request is not cut: what a piece leaves out would be seen too.
        """
        if not causal:
            whole = Piece(
                range(len(query_lengths)), 0, tuple(query_lengths), tuple(sequence_lengths)
            )
            yield whole, self._zeros(sum(query_lengths), whole.width)
            return
        for piece in pieces(query_lengths, sequence_lengths, self.budget, self.dtype.itemsize):
            positions = piece.positions().to(self.device)
            rows = mask_rows(positions, piece.width, self.dtype, window=window)
            yield piece, self.mark(rows)

    def _zeros(self, rows: int, width: int) -> torch.Tensor:
        """Every key visible; padding is zero anyway."""
        shape = (1, -(-width // _ROWS), -(-rows // _ROWS) * _ROWS, _ROWS)
        return self.mark(torch.zeros(shape, dtype=self.dtype, device=self.device))
