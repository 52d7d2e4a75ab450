# SPDX-License-Identifier: Apache-2.0
"""What the loader hands to recipes and model classes, known from headers alone."""

from vllm_ascend_bringup.checkpoint import Checkpoint
from vllm_ascend_bringup.formats.base import Shape
from vllm_ascend_bringup.formats.families.base import LeftAlone
from vllm_ascend_bringup.formats.pairing import decode_plan, output_shapes
from vllm_ascend_bringup.formats.schemes import checkpoint_schemes


def loaded_tensors(checkpoint: Checkpoint) -> dict[str, tuple[str | None, Shape]]:
    """Name -> header dtype, or None if it is decoded, and shape; scales are gone.

    Raises FormatError if the weights cannot be decoded.
    """
    stored: dict[str, tuple[str | None, Shape]] = {
        name: (tensor.dtype, tensor.shape) for name, tensor in checkpoint.tensors.items()
    }
    table = checkpoint_schemes(checkpoint)
    if isinstance(table, LeftAlone):
        return stored
    plan = decode_plan(checkpoint.tensors, table)
    for name in (*plan.scales, *plan.dropped, *plan.pairings):
        stored.pop(name, None)
    return stored | {name: (None, shape) for name, shape in output_shapes(plan).items()}
