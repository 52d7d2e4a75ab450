# SPDX-License-Identifier: Apache-2.0
"""The bias of a router that is stored, and kept by vLLM, beside the experts: Laguna."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

_BIAS = "e_score_correction_bias"


def load_weights(original: Any) -> Any:
    """``RoutedExperts.load_weights``, which also takes the bias."""

    def load_weights(self: Any, weights: Iterable[tuple[str, torch.Tensor]]) -> Iterator[str]:
        taken = []

        def others() -> Iterator[tuple[str, torch.Tensor]]:
            for name, tensor in weights:
                if name == _BIAS and getattr(self, _BIAS, None) is not None:
                    getattr(self, _BIAS).data.copy_(tensor)
                    taken.append(name)
                else:
                    yield name, tensor

        yield from original(self, others())
        yield from taken

    return load_weights
