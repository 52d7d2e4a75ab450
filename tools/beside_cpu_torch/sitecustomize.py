# SPDX-License-Identifier: Apache-2.0
"""Lets torchvision be imported beside a CPU build of torch, in every process of a test's engine.

No torchvision of the package index was compiled for that torch, so its compiled operators do not
load, and its import fails where it looks for two of them. Their schemas are all it needs; nothing
here calls them.
"""

import importlib.abc
import sys

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class _DefineFirst(importlib.abc.MetaPathFinder):
    """Asked before torchvision is imported; finds nothing itself."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            for operator in ("nms", "qnms"):
                torch.library.define(f"torchvision::{operator}", _SCHEMA)


sys.meta_path.insert(0, _DefineFirst())
