# SPDX-License-Identifier: Apache-2.0
"""Patches of vllm-ascend's RMS norm, on its published source.

The NPU's operator is the emulated one; everything else is vllm-ascend's and vLLM's own.
"""

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ascend_source import MARKS

from vllm_ascend_bringup.patches.ascend_norm import norm
from vllm_ascend_bringup.patches.catalog import PATCHES
from vllm_ascend_bringup.patching import MATCHES, check, fingerprint, source_version
from vllm_ascend_bringup.tools.vllm_server import CPU_ENVIRONMENT

HEADS, ADDED, D, EPS = 5, 3, 8, 1e-6
WIDTH, MEAN_OVER = (HEADS + ADDED) * D, HEADS * D

pytestmark = MARKS


@pytest.fixture
def vllm_config() -> Iterator[None]:
    os.environ.update(CPU_ENVIRONMENT)
    from vllm.config import VllmConfig, set_current_vllm_config

    with set_current_vllm_config(VllmConfig()):
        yield


def class_of(source: Path, patch: str, torch_npu: Any) -> Any:
    """A class of vllm-ascend, executed from its source."""
    from vllm.config import get_current_vllm_config
    from vllm.model_executor.layers.layernorm import RMSNorm

    names: dict[str, Any] = {
        "RMSNorm": RMSNorm, "torch": torch, "torch_npu": torch_npu,
        "get_current_vllm_config": get_current_vllm_config,
        "get_weight_prefetch_method": lambda: SimpleNamespace(
            maybe_prefetch_mlp_weight_postprocess=lambda x: None
        ),
    }  # fmt: skip
    for target in dict.fromkeys((PATCHES["ascend_norm"].target, PATCHES[patch].target)):
        module, _, name = target.partition(":")
        parsed = ast.parse((source / Path(*module.split("."))).with_suffix(".py").read_text())
        (node,) = [node for node in parsed.body if getattr(node, "name", None) == name]
        exec(compile(ast.Module([node], []), module, "exec"), names)
    return names[PATCHES[patch].attribute]


@pytest.mark.parametrize("patch", ["ascend_norm", "ascend_norm_310p"])
def test_the_patch_matches_and_is_for_this_version(
    source: Path, patch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(source))
    version = source_version(source / "vllm_ascend")
    assert version == source.name
    assert check(PATCHES[patch], {"vllm_ascend": version}).state == MATCHES
    module, _, name = PATCHES[patch].target.partition(":")
    file = (source / Path(*module.split("."))).with_suffix(".py")
    assert fingerprint(file.read_text(), name) in PATCHES[patch].fingerprints


@pytest.mark.usefixtures("vllm_config")
@pytest.mark.parametrize("patch", ["ascend_norm", "ascend_norm_310p"])
def test_a_mean_over_fewer_columns(source: Path, patch: str, torch_npu: Any) -> None:
    original = class_of(source, patch, torch_npu)
    x = torch.randn(4, WIDTH)
    x[:, MEAN_OVER:] = 0  # what added heads compute
    exact = x / (x[:, :MEAN_OVER].square().mean(-1, keepdim=True) + EPS).sqrt()

    before = original(WIDTH, EPS, var_hidden_size=MEAN_OVER).forward_oot(x)
    after = norm(original)(WIDTH, EPS, var_hidden_size=MEAN_OVER).forward_oot(x)

    torch.testing.assert_close(before, exact * (WIDTH / MEAN_OVER) ** 0.5)
    torch.testing.assert_close(after, exact)


@pytest.mark.usefixtures("vllm_config")
@pytest.mark.parametrize("patch", ["ascend_norm", "ascend_norm_310p"])
def test_other_norms_stay_on_the_operator(
    source: Path, patch: str, torch_npu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = class_of(source, patch, torch_npu)
    x = torch.randn(4, WIDTH)
    called: list[int] = []
    real = torch_npu.npu_rms_norm

    def counted(*arguments: Any) -> Any:
        called.append(1)
        return real(*arguments)

    monkeypatch.setattr(torch_npu, "npu_rms_norm", counted)
    found = norm(original)(WIDTH, EPS).forward_oot(x)
    assert called == [1]
    torch.testing.assert_close(found, x / (x.square().mean(-1, keepdim=True) + EPS).sqrt())
