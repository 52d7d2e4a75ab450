# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend's RMS norms on the emulated operators, as they are and with our patches."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ascend_runtime import MARKS
from attention_kit import assert_one_rounding

from vllm_ascend_bringup import emulation
from vllm_ascend_bringup.patch_engine import PatchEngine
from vllm_ascend_bringup.patches.catalog import PATCHES
from vllm_ascend_bringup.patching import installed_versions

pytestmark = [*MARKS, pytest.mark.usefixtures("ascend_config")]

WIDTH, MEAN_OVER, EPS = 64, 40, 1e-6


def norm_class(name: str) -> Any:
    """As vllm-ascend's modules have it at the moment."""
    from vllm_ascend._310p.ops import layernorm as of_310p
    from vllm_ascend.ops import layernorm

    return {"ascend_norm": layernorm, "ascend_norm_310p": of_310p}[name].__dict__[
        PATCHES[name].attribute
    ]


@pytest.fixture(params=["ascend_norm", "ascend_norm_310p"])
def name(request: pytest.FixtureRequest) -> Any:
    """A patch, which names the class of A2 and A3 or that of the 310P."""
    emulation.install(chip="310p" if request.param.endswith("310p") else "a2")
    return request.param


@pytest.fixture
def patched(name: str) -> Iterator[str]:
    """With the patch applied to the modules that vllm-ascend has imported."""
    engine = PatchEngine([PATCHES[name]], lambda status: pytest.fail(str(status)))
    engine.apply(installed_versions())
    assert engine.applied == [name]
    yield name
    engine.revert()


def exact(x: torch.Tensor, weight: torch.Tensor, mean_over: int = WIDTH) -> torch.Tensor:
    mean_square = x.double()[..., :mean_over].square().mean(-1, keepdim=True)
    return x.double() / (mean_square + EPS).sqrt() * weight.double()


def random_norm(name: str, dtype: torch.dtype, **options: Any) -> Any:
    norm = norm_class(name)(WIDTH, EPS, dtype=dtype, **options)
    norm.weight.data.normal_()
    return norm


def assert_right_without_a_narrower_mean(name: str, tokens: int) -> None:
    norm = random_norm(name, torch.float16)
    x, residual = (torch.randn(tokens, WIDTH).half() for _ in range(2))
    assert_one_rounding(norm.forward_oot(x), exact(x, norm.weight))
    found, total = norm.forward_oot(x, residual)
    assert torch.equal(total, x + residual)
    assert_one_rounding(found, exact(total, norm.weight))


@pytest.mark.parametrize("tokens", [1, 17])
def test_a_mean_over_all_columns(name: str, tokens: int) -> None:
    assert_right_without_a_narrower_mean(name, tokens)


@pytest.mark.parametrize("tokens", [1, 17])
def test_a_mean_over_all_columns_with_the_patch(patched: str, tokens: int) -> None:
    assert_right_without_a_narrower_mean(patched, tokens)


def narrower(name: str, with_residual: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What it computes, what is right, and what the operator makes of it."""
    norm = random_norm(name, torch.float32, var_hidden_size=MEAN_OVER)
    x = torch.randn(5, WIDTH)
    if with_residual:
        residual = torch.randn(5, WIDTH)
        x, (found, _) = x + residual, norm.forward_oot(x.clone(), residual.clone())
    else:
        found = norm.forward_oot(x.clone())
    return found, exact(x, norm.weight, MEAN_OVER).float(), exact(x, norm.weight).float()


@pytest.mark.parametrize("with_residual", [False, True])
def test_it_ignores_a_mean_over_fewer_columns(name: str, with_residual: bool) -> None:
    found, right, over_all = narrower(name, with_residual)
    torch.testing.assert_close(found, over_all)
    assert not torch.allclose(found, right, rtol=0.05)


@pytest.mark.parametrize("with_residual", [False, True])
def test_with_the_patch_it_does_not(patched: str, with_residual: bool) -> None:
    found, right, _ = narrower(patched, with_residual)
    torch.testing.assert_close(found, right)
