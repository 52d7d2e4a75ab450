# SPDX-License-Identifier: Apache-2.0
"""The formats this package decodes, one line each."""

from vllm_ascend_bringup.formats.base import WeightFormat
from vllm_ascend_bringup.formats.block_fp8 import BlockFp8
from vllm_ascend_bringup.formats.channel_fp8 import ChannelFp8
from vllm_ascend_bringup.formats.tensor_fp8 import TensorFp8

FORMATS: dict[str, WeightFormat] = {
    format_.id: format_
    for format_ in (
        BlockFp8(),
        ChannelFp8(),
        TensorFp8(),
    )
}
