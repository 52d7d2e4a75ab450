# SPDX-License-Identifier: Apache-2.0
"""Who executes a format: vllm-ascend as it is stored, or we decode it. Every kind on every chip."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from vllm_ascend_bringup import native
from vllm_ascend_bringup.checkpoint import TensorInfo
from vllm_ascend_bringup.formats.base import Layout, Pairing, Scheme, Stored
from vllm_ascend_bringup.formats.catalog import FORMATS
from vllm_ascend_bringup.hardware import CHIPS, Chip
from vllm_ascend_bringup.native import (
    COMPRESSED_TENSORS,
    ROUTES,
    Decision,
    Need,
    Route,
    decide,
    need_of,
    probe_platform,
)
from vllm_ascend_bringup.tools.vllm_server import CPU_ENVIRONMENT

KINDS = ("fp8_block", "fp8_channel", "fp8_tensor", "mxfp8", "mxfp4", "nvfp4", "int8", "int4")
METHODS = ("fp8", "deepseek_v4_fp8", "mxfp8", "modelopt_mxfp8", "mxfp4", COMPRESSED_TENSORS,
           "modelopt", "quark", "fbgemm_fp8")  # fmt: skip
ALL_METHODS = frozenset(route.method for route in ROUTES)
# Where models of these chips are documented to run as stored, given all that vllm-ascend ever had.
INTEGERS = {
    Need(frozenset({"int8"}), COMPRESSED_TENSORS, moe_only, activations)
    for moe_only, activations in ((False, "static"), (False, "dynamic"), (True, "dynamic"))
} | {
    Need(frozenset({"int4"}), COMPRESSED_TENSORS, True, "none"),
    Need(frozenset({"int4"}), COMPRESSED_TENSORS, True, "dynamic"),
    Need(frozenset({"int4"}), COMPRESSED_TENSORS, False, "dynamic"),
}
FLOATS = {
    Need(frozenset({kind}), method, moe_only, activations)
    for kind, method in (("fp8_block", "fp8"), ("mxfp8", "mxfp8"), ("mxfp8", "modelopt_mxfp8"))
    for moe_only in (False, True)
    for activations in ("none", "static", "dynamic")
} | {
    Need(frozenset({"fp8_channel"}), COMPRESSED_TENSORS, False, "dynamic"),
    Need(frozenset({"fp8_channel"}), COMPRESSED_TENSORS, True, "dynamic"),
    Need(frozenset({"mxfp4"}), COMPRESSED_TENSORS, True, "none"),
}
NATIVE = {"a2": INTEGERS, "a3": INTEGERS, "310p": set[Need](), "950": INTEGERS | FLOATS}
BLOCK = Need(frozenset({"fp8_block"}), "fp8")
MXFP8 = Need(frozenset({"mxfp8"}), "mxfp8")
DEEPSEEK_V4 = Need(frozenset({"fp8_block", "mxfp4"}), "deepseek_v4_fp8")
KIMI_K2 = Need(frozenset({"int4"}), COMPRESSED_TENSORS, moe_only=True)


def taken_over(chip: Chip) -> frozenset[str]:
    """On the 310P vllm-ascend takes over no method of vLLM's."""
    return frozenset({"ascend"}) if chip.id == "310p" else ALL_METHODS


def everything(method: str, scheme: str) -> bool:
    """A vllm-ascend with every scheme that any version had."""
    return True


class Found:
    """A vllm-ascend with these schemes only."""

    def __init__(self, schemes: set[str]) -> None:
        self.schemes = schemes

    def __call__(self, method: str, scheme: str) -> bool:
        return scheme in self.schemes


def on(chip: str, need: Need) -> Decision:
    return decide(need, CHIPS[chip], taken_over(CHIPS[chip]), everything)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_on_every_chip(kind: str, chip: str) -> None:
    for method in METHODS:
        for moe_only in (False, True):
            for activations in ("none", "static", "dynamic"):
                need = Need(frozenset({kind}), method, moe_only, activations)
                decision = on(chip, need)
                assert decision.decode == (need not in NATIVE[chip]), decision
                assert CHIPS[chip].title in decision.reason
                assert kind in decision.reason
                assert not decision.reason.endswith(".")


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_ascend_chip_everything_is_decoded(kind: str) -> None:
    decision = decide(Need(frozenset({kind}), "fp8"), None, ALL_METHODS, everything)
    assert decision == Decision(True, f"no known Ascend chip is here to execute {kind}")


@pytest.mark.parametrize(
    ("chip", "need", "decision"),
    [
        ("a2", BLOCK, Decision(True, "Atlas A2 does not execute fp8_block")),
        ("950", MXFP8,
         Decision(False, "Ascend 950 executes mxfp8 and vllm-ascend has a method for it")),
        ("950", Need(frozenset({"nvfp4"}), "modelopt_fp4"),
         Decision(True, "vllm-ascend on Ascend 950 has no way to execute nvfp4 of modelopt_fp4")),
        ("a3", KIMI_K2,
         Decision(False, "Atlas A3 executes int4 and vllm-ascend has a method for it")),
        ("310p", KIMI_K2, Decision(True, "Ascend 310P does not execute int4")),
        ("310p", Need(frozenset({"int8"}), COMPRESSED_TENSORS, activations="dynamic"),
         Decision(True, "vllm-ascend on Ascend 310P has no quantization method compressed-tensors "
                        "for int8")),
    ],
)  # fmt: skip
def test_reasons(chip: str, need: Need, decision: Decision) -> None:
    assert on(chip, need) == decision


def test_deepseek_v4_is_native_only_with_its_fp4_experts() -> None:
    assert not on("950", DEEPSEEK_V4).decode
    assert "fp8_block and mxfp4" in on("950", DEEPSEEK_V4).reason
    assert on("a3", DEEPSEEK_V4).decode
    assert on("950", Need(frozenset({"fp8_block"}), "deepseek_v4_fp8")).decode
    assert on("950", Need(frozenset({"fp8_block", "nvfp4"}), "deepseek_v4_fp8")).decode


def test_two_spellings_of_a_scheme_are_one_scheme() -> None:
    for linear in ("fp8:ds_linear", "FP8:ds_linear"):
        for moe in ("fp8:ds_w4a8_moe", "FP8:w4a8_moe"):
            found = Found({linear, moe})
            assert not decide(DEEPSEEK_V4, CHIPS["950"], ALL_METHODS, found).decode


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method}-{route.linear}")
def test_a_missing_scheme_means_decoding(route: Route) -> None:
    for layer, schemes in (("linear", route.linear), ("MoE", route.moe)):
        if not schemes:
            continue
        need = Need(route.kinds, route.method, not route.linear, route.activations or "none")
        found = Found({*route.linear, *route.moe} - {*schemes})
        lacking = decide(need, CHIPS["950"], ALL_METHODS, found)
        assert lacking.decode
        assert f"no scheme for {layer} layers" in lacking.reason


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method}-{route.linear}")
def test_a_method_that_is_not_taken_over_means_decoding(route: Route) -> None:
    need = Need(route.kinds, route.method, not route.linear, route.activations or "none")
    assert not on("950", need).decode
    refused = decide(need, CHIPS["950"], ALL_METHODS - {route.method}, everything)
    assert refused.decode
    assert f"quantization method {route.method}" in refused.reason


def test_the_scheme_is_asked_for_under_its_own_method() -> None:
    asked = []

    def record(method: str, scheme: str) -> bool:
        asked.append((method, scheme))
        return True

    decide(MXFP8, CHIPS["950"], ALL_METHODS, record)
    assert asked == [("mxfp8", "W8A8_MXFP8:linear"), ("mxfp8", "W8A8_MXFP8:moe")]


def test_no_two_routes_serve_one_need() -> None:
    for route in ROUTES:
        for activations in ("none", "static", "dynamic"):
            need = Need(route.kinds, route.method, False, activations)
            assert sum(other.serves(need) for other in ROUTES) <= 1


def test_fp8_that_would_be_taken_for_int8_is_decoded() -> None:
    # vllm-ascend's compressed-tensors would copy these codes into int8 weights: see the contract.
    assert on("950", Need(frozenset({"fp8_channel"}), COMPRESSED_TENSORS, False, "static")).decode


def test_compressed_tensors_chooses_only_names_that_it_knows() -> None:
    class Config:
        def _detect_quant_type(self) -> str:
            return "W4A16"

    assert native.chooses(COMPRESSED_TENSORS, Config, "W4A16")
    assert not native.chooses(COMPRESSED_TENSORS, Config, "W4A8_MXFP")
    assert not native.chooses(COMPRESSED_TENSORS, object, "W4A16")
    assert native.chooses("mxfp8", object, "W8A8_MXFP8")


@pytest.fixture
def cpu_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CPU_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("cpu_environment")
def test_the_probe_on_vllms_cpu_platform() -> None:
    platform = probe_platform()
    assert platform is not None
    assert platform.chip is None
    assert decide(BLOCK, platform.chip, platform.supported, platform.has_method).decode


@pytest.fixture
def npu(monkeypatch: pytest.MonkeyPatch, cpu_environment: None) -> pytest.MonkeyPatch:
    """vLLM as vllm-ascend leaves it where it allows two methods and has taken over one of them.

    vllm-ascend itself is absent, as it is here.
    """
    from vllm import platforms
    from vllm.model_executor.layers import quantization

    quantization.get_quantization_config("fp8")  # imports, for which vLLM's own platform is needed
    platform = SimpleNamespace(device_type="npu", is_cpu=lambda: False,
                               supported_quantization=["ascend", "fp8", "mxfp8"])  # fmt: skip
    monkeypatch.setattr(platforms, "current_platform", platform, raising=False)
    config = type("Config", (), {"__module__": "vllm_ascend.quantization.modelopt_mxfp8_config"})
    monkeypatch.setitem(quantization._CUSTOMIZED_METHOD_TO_QUANT_CONFIG, "mxfp8", config)
    return monkeypatch


def test_the_probe_without_vllm_ascends_modules_finds_no_method(npu: pytest.MonkeyPatch) -> None:
    platform = probe_platform()
    assert platform is not None
    assert platform.chip is None
    assert platform.supported == {"mxfp8"}
    assert not platform.has_method("mxfp8", "W8A8_MXFP8:linear")
    decision = decide(MXFP8, CHIPS["950"], platform.supported, platform.has_method)
    assert decision == Decision(
        True, "vllm-ascend on Ascend 950 has no scheme for linear layers of mxfp8"
    )


def test_the_probe_asks_vllm_ascend(npu: pytest.MonkeyPatch) -> None:
    # The names are checked against vllm-ascend's source in test_ascend.
    registry = {("W8A8_MXFP8", "linear"): object, ("W8A8_MXFP8", "moe"): object}
    utils, methods = ModuleType("vllm_ascend.utils"), ModuleType("vllm_ascend.quantization.methods")
    utils.get_ascend_device_type = lambda: SimpleNamespace(name="A5")  # type: ignore[attr-defined]
    methods.get_scheme_class = lambda *key: registry.get(key)  # type: ignore[attr-defined]
    for module in (ModuleType("vllm_ascend"), ModuleType("vllm_ascend.quantization"), utils,
                   methods):  # fmt: skip
        npu.setitem(sys.modules, module.__name__, module)
    platform = probe_platform()
    assert platform is not None
    assert platform.chip is CHIPS["950"]
    assert not decide(MXFP8, platform.chip, platform.supported, platform.has_method).decode
    assert decide(BLOCK, platform.chip, platform.supported, platform.has_method).decode
    assert not platform.has_method("fp8", "W8A8_MXFP8:linear")


def test_the_probe_on_other_platforms_says_nothing(npu: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(device_type="cuda", is_cpu=lambda: False)
    npu.setattr("vllm.platforms.current_platform", other)
    assert probe_platform() is None


def pairing(format_id: str, name: str, **scheme: object) -> Pairing:
    """A pairing as far as ``need_of`` looks at it."""
    stored = Stored(name, TensorInfo(name, "I32", (1, 1), "s"), {})
    layout = Layout((1, 1), (1, 1), (1, 1), "int4")
    return Pairing(stored, FORMATS[format_id], Scheme((format_id,), **scheme), layout)  # type: ignore[arg-type]


EXPERT, DENSE = "model.layers.0.mlp.experts.0.up_proj.weight", "model.layers.0.mlp.up_proj.weight"
INT4 = {"num_bits": 4, "type": "int"}


def compressed(format_: str, *activations: "dict[str, object] | None") -> "dict[str, object]":
    groups = {str(i): {"weights": INT4, "input_activations": a} for i, a in enumerate(activations)}
    return {"quant_method": "compressed-tensors", "format": format_, "config_groups": groups}


@pytest.mark.parametrize(
    ("settings", "facts", "pairings", "need"),
    [
        pytest.param(
            compressed("pack-quantized", None), {}, [pairing("packed_int", EXPERT, group=32)],
            Need(frozenset({"int4"}), "compressed-tensors", True, "none"), id="kimi-k2",
        ),
        pytest.param(
            compressed("pack-quantized", {"dynamic": True}), {},
            [pairing("packed_int", EXPERT, group=32)],
            Need(frozenset({"int4"}), "compressed-tensors", True, "none"),
            id="packed-integers-ignore-activations",
        ),
        pytest.param(
            compressed("pack-quantized", None), {},
            [pairing("packed_int", EXPERT, group=32), pairing("packed_int", DENSE, group=128)],
            Need(frozenset({"int4", "packed int4"}), "compressed-tensors", False, "none"),
            id="int4-also-in-linear-layers",
        ),
        pytest.param(
            compressed("pack-quantized", None), {},
            [pairing("packed_int", EXPERT, group=32, symmetric=False)],
            Need(frozenset({"packed int4"}), "compressed-tensors", True, "none"), id="asymmetric",
        ),
        pytest.param(
            {**compressed("float-quantized", {"dynamic": True}),
             "quant_method": "compressed_tensors"}, {}, [pairing("channel_fp8", DENSE)],
            Need(frozenset({"fp8_channel"}), "compressed-tensors", False, "dynamic"), id="ptpc",
        ),
        pytest.param(
            compressed("float-quantized", {"dynamic": True}, {"dynamic": False}), {},
            [pairing("channel_fp8", DENSE)],
            Need(frozenset({"fp8_channel"}), "compressed-tensors", False, "mixed"),
            id="two-kinds-of-activations",
        ),
        pytest.param(
            {"quant_method": "fp8"}, {"model_type": "deepseek_v4"},
            [pairing("block_fp8", DENSE), pairing("mxfp4", EXPERT)],
            Need(frozenset({"fp8_block", "mxfp4"}), "deepseek_v4_fp8"), id="deepseek-v4",
        ),
        pytest.param(
            {"quant_algo": "MXFP8"}, {}, [pairing("mxfp8", DENSE)],
            Need(frozenset({"mxfp8"}), "modelopt_mxfp8"), id="modelopt-mxfp8",
        ),
    ],
)  # fmt: skip
def test_what_a_checkpoint_needs(
    settings: "dict[str, object]", facts: "dict[str, object]", pairings: "list[Pairing]", need: Need
) -> None:
    assert need_of(settings, facts, pairings) == need


def test_every_format_has_a_kind() -> None:
    kinds = {
        kind
        for format_id in FORMATS
        for kind in need_of({}, {}, [pairing(format_id, DENSE, group=32)]).kinds
    }
    routed = {kind for route in ROUTES for kind in route.kinds} - {"int8"}
    assert routed < kinds
