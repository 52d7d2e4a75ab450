# SPDX-License-Identifier: Apache-2.0
"""The formats this package decodes, one line each."""

from vllm_ascend_bringup.formats.base import WeightFormat
from vllm_ascend_bringup.formats.block_fp8 import BlockFp8
from vllm_ascend_bringup.formats.channel_fp8 import ChannelFp8
from vllm_ascend_bringup.formats.chunked_qkv_fp8 import ChunkedQkvFp8
from vllm_ascend_bringup.formats.column_fp8 import ColumnFp8
from vllm_ascend_bringup.formats.gpt_oss_mxfp4 import GptOssMxFp4
from vllm_ascend_bringup.formats.group_fp8 import GroupFp8
from vllm_ascend_bringup.formats.modelopt_block_fp8 import ModelOptBlockFp8
from vllm_ascend_bringup.formats.modelopt_nvfp4 import ModelOptNvFp4
from vllm_ascend_bringup.formats.mxfp4 import MxFp4
from vllm_ascend_bringup.formats.mxfp8 import MxFp8
from vllm_ascend_bringup.formats.nvfp4 import NvFp4
from vllm_ascend_bringup.formats.packed_int import PackedInt
from vllm_ascend_bringup.formats.tensor_fp8 import TensorFp8

FORMATS: dict[str, WeightFormat] = {
    format_.id: format_
    for format_ in (
        BlockFp8(),
        ChannelFp8(),
        ChunkedQkvFp8(),
        ColumnFp8(),
        GptOssMxFp4(),
        GroupFp8(),
        ModelOptBlockFp8(),
        ModelOptNvFp4(),
        MxFp4(),
        MxFp8(),
        NvFp4(),
        PackedInt(),
        TensorFp8(),
    )
}
