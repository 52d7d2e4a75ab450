# SPDX-License-Identifier: Apache-2.0
"""Shared fixtures: fixed seeds, poisoned scratch memory, and decoding a checkpoint without vLLM."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import triton_interpreter  # noqa: F401 (before anything else imports a kernel)
from ascend_runtime import (  # noqa: F401 (fixtures)
    ascend_config,
    engine_config,
    install_chip,
    own_masks,
)
from ascend_source import source  # noqa: F401 (a fixture)
from check_format import check_format  # noqa: F401 (a fixture)
from emulation_kit import install, torch_npu  # noqa: F401 (fixtures)
from planned_models import planned_model  # noqa: F401 (a fixture)
from torch.utils._device import _device_constructors

from vllm_ascend_bringup.checkpoint import read_checkpoint
from vllm_ascend_bringup.decode import Decoder
from vllm_ascend_bringup.formats.families.base import LeftAlone
from vllm_ascend_bringup.formats.pairing import decode_plan, refuse_low_precision
from vllm_ascend_bringup.formats.schemes import checkpoint_schemes
from vllm_ascend_bringup.lazy_weight import LazyWeight
from vllm_ascend_bringup.weights import ShardReader, decoding_stream

DecodeCheckpoint = Callable[..., dict[str, torch.Tensor]]


def _poisoned(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def empty(*args: Any, **kwargs: Any) -> torch.Tensor:
        tensor = function(*args, **kwargs)
        if tensor.is_floating_point() and tensor.device.type != "meta":
            with torch.no_grad():
                tensor.fill_(float("nan"))
        return tensor

    return empty


@pytest.fixture(autouse=True)
def poisoned_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fill ``torch.empty`` and ``empty_like`` with NaN, so that output left unwritten fails.

    Not around the real engine, whose timing and memory are its own.
    """
    torch.manual_seed(0)
    if request.node.get_closest_marker("engine"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        # torch caches which functions it treats as constructors; ours are not among them.
        _device_constructors()
        for name in ("empty", "empty_like"):
            patch.setattr(torch, name, _poisoned(getattr(torch, name)))
        yield


@pytest.fixture(scope="session")
def decode_checkpoint() -> DecodeCheckpoint:
    """What serving does to a checkpoint, without vLLM: ``decode_checkpoint(folder, dtype)``.

    Returns what the model would get, by name: decoded weights, and all others as stored.
    """

    def decode(folder: Path, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
        checkpoint = read_checkpoint(folder)
        table = checkpoint_schemes(checkpoint)
        reader = ShardReader(folder)
        stream = ((t.name, reader.read(t.name, t.shard)) for t in checkpoint.tensors.values())
        if isinstance(table, LeftAlone):
            refuse_low_precision(checkpoint.tensors, "config.json has no settings for them")
            return dict(stream)
        plan = decode_plan(checkpoint.tensors, table)
        with Decoder(2) as decoder:
            return {
                name: tensor.materialize() if isinstance(tensor, LazyWeight) else tensor
                for name, tensor in decoding_stream(stream, plan, reader, decoder, dtype)
            }

    return decode
