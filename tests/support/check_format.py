# SPDX-License-Identifier: Apache-2.0
"""``check_format``: decode a synthetic checkpoint whole and in slices, compare bit by bit."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import format_kit
import pytest
import testkit
import torch

from vllm_ascend_bringup.checkpoint import read_checkpoint
from vllm_ascend_bringup.decode import Decoder
from vllm_ascend_bringup.formats.families.base import SchemeTable
from vllm_ascend_bringup.formats.pairing import decode_plan, output_shapes
from vllm_ascend_bringup.formats.schemes import checkpoint_schemes
from vllm_ascend_bringup.lazy_weight import LazyWeight
from vllm_ascend_bringup.weights import ShardReader, lazy_weights

DTYPES = (torch.bfloat16, torch.float16)


@pytest.fixture
def check_format(
    tmp_path: Path, decode_checkpoint: Callable[..., dict[str, torch.Tensor]]
) -> Callable[..., None]:
    """``check_format(made, settings, config, shards)`` in bf16 and fp16."""

    def check(
        made: format_kit.Made,
        settings: Mapping[str, Any],
        config: "Mapping[str, Any] | None" = None,
        shards: "Sequence[Sequence[str]] | None" = None,
    ) -> None:
        whole = {**(config or {}), "quantization_config": dict(settings)}
        testkit.write_checkpoint(tmp_path, made.tensors, whole, shards)
        for dtype in DTYPES:
            found = decode_checkpoint(tmp_path, dtype)
            assert set(found) == {*made.wanted, *made.kept}
            for name, tensor in made.kept.items():
                assert format_kit.same_bits(found[name], tensor), name
            for name, values in made.wanted.items():
                wanted = format_kit.rounded(values, dtype)
                assert found[name].shape == wanted.shape, name
                assert torch.equal(found[name], wanted), name
                assert format_kit.same_bits(found[name], wanted), name
        _check_slices(tmp_path, made, torch.bfloat16)

    return check


def _check_slices(folder: Path, made: format_kit.Made, dtype: torch.dtype) -> None:
    """What each rank of a tensor-parallel model would copy into its parameter."""
    checkpoint = read_checkpoint(folder)
    table = checkpoint_schemes(checkpoint)
    assert isinstance(table, SchemeTable)
    plan = decode_plan(checkpoint.tensors, table)
    assert set(output_shapes(plan)) == set(made.wanted)
    reader = ShardReader(folder)
    for pairing in plan.pairings.values():
        partners = {r: reader.read(t.name, t.shard) for r, t in pairing.stored.partners.items()}
        for output, shape in pairing.format.resolve(pairing, partners).outputs:
            assert shape == made.wanted[output].shape
    with Decoder(1) as decoder:
        for name, pairing in plan.pairings.items():
            codes = reader.read(name, pairing.stored.codes.shard)
            for output, lazy in lazy_weights(pairing, codes, reader, decoder, dtype):
                assert isinstance(lazy, LazyWeight)
                wanted = format_kit.rounded(made.wanted[output], dtype)
                pairs = zip(format_kit.cuts(lazy), format_kit.cuts(wanted), strict=True)
                for (label, part), (_, dense) in pairs:
                    assert isinstance(part, LazyWeight)
                    parameter = torch.nn.Parameter(torch.empty(dense.shape, dtype=dtype))
                    parameter.data.copy_(part)
                    assert format_kit.same_bits(parameter.data, dense), f"{output}{label}"
        assert decoder.counts.materialized == {}
