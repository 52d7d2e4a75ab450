# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend's attention of vision encoders on the 310P, against torch's own."""

from typing import Any

import pytest
import torch
from ascend_runtime import MARKS
from attention_kit import assert_one_rounding
from torch.nn.functional import scaled_dot_product_attention

from vllm_ascend_bringup import emulation

pytestmark = [*MARKS, pytest.mark.usefixtures("ascend_config")]

HEADS = 3


# Sizes between 64 and 128 are padded. The second version has _npu_flash_attention_unpad_v2.
@pytest.mark.parametrize("size", [16, 64, 80, 128])
@pytest.mark.parametrize("version", ["2.10.0", "2.10.0.post4"])
def test_pictures_of_several_sizes(version: str, size: int) -> None:
    emulation.install(version)
    from vllm_ascend._310p.ops.mm_encoder_attention import AscendMMEncoderAttention310

    layer: Any = AscendMMEncoderAttention310(HEADS, size)
    lengths = [1, 16, 33]
    query, key, value = (torch.randn(1, sum(lengths), HEADS * size).half() for _ in range(3))
    starts = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    found = layer.forward_oot(query, key, value, cu_seqlens=starts)
    first = 0
    for length in lengths:
        rows = slice(first, first + length)
        heads = [
            x[:, rows].double().view(1, length, HEADS, size).transpose(1, 2)
            for x in (query, key, value)
        ]
        exact = scaled_dot_product_attention(heads[0], heads[1], heads[2]).transpose(1, 2)
        assert_one_rounding(found[:, rows].reshape(exact.shape), exact)
        first += length
