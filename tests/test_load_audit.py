# SPDX-License-Identifier: Apache-2.0
"""LoadAudit around hand-written loaders, the good and the careless ones."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from vllm_ascend_bringup.decode import Decoder, ScaledTensor
from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.lazy_weight import LazyWeight
from vllm_ascend_bringup.load_audit import LoadAudit

Weights = Iterable[tuple[str, torch.Tensor]]
Load = Callable[["Model", Weights], object]
FP8 = [torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e8m0fnu]
fp8 = pytest.mark.parametrize("dtype", FP8, ids=lambda d: str(d).removeprefix("torch."))


class Model(nn.Module):
    """A fused projection of q (6 rows) and k (3 rows), an output projection and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.qk = nn.Parameter(torch.empty(9, 4, dtype=torch.bfloat16))
        self.o = nn.Linear(9, 4, bias=False, dtype=torch.bfloat16)
        self.norm = nn.Parameter(torch.empty(4, dtype=torch.bfloat16))


def tensors(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "q": torch.randn(6, 4).bfloat16(), "k": torch.randn(3, 4).bfloat16(),
        "o": torch.randn(4, 9).bfloat16(), "norm": torch.randn(4).bfloat16(), **more,
    }  # fmt: skip


def place(model: Model, name: str, tensor: torch.Tensor) -> None:
    """What vLLM's weight loaders do: copy into the right part; unknown names are skipped."""
    targets = {
        "q": model.qk.data.narrow(0, 0, 6), "k": model.qk.data.narrow(0, 6, 3),
        "o": model.o.weight.data, "norm": model.norm.data,
    }  # fmt: skip
    if name in targets:
        targets[name].copy_(tensor)


def load_all(model: Model, weights: Weights) -> None:
    for name, tensor in weights:
        place(model, name, tensor)


def audited(weights: "dict[str, torch.Tensor]", load: Load = load_all) -> tuple[LoadAudit, Model]:
    model = Model()
    audit = LoadAudit(dict(model.named_parameters()))
    with audit:
        load(model, audit.watch(iter(weights.items())))
    return audit, model


def test_complete_load_leaves_nothing_over() -> None:
    weights = tensors()
    audit, model = audited(weights)
    assert audit.unfilled() == {}
    assert audit.unused() == set()
    assert torch.equal(model.qk.data, torch.cat([weights["q"], weights["k"]]))


def test_nothing_loaded_is_everything_missing() -> None:
    audit, _ = audited({})
    assert audit.unfilled() == {"qk": (0, 36), "o.weight": (0, 36), "norm": (0, 4)}


@pytest.mark.parametrize(("missing", "written"), [("q", 12), ("k", 24)])
def test_fused_parameter_with_a_missing_part(missing: str, written: int) -> None:
    weights = tensors()
    del weights[missing]
    audit, _ = audited(weights)
    assert audit.unfilled() == {"qk": (written, 36)}
    assert audit.unused() == set()


def test_one_element_short_is_unfilled() -> None:
    def load(model: Model, weights: Weights) -> None:
        for name, tensor in weights:
            if name == "norm":
                model.norm.data[:3].copy_(tensor[:3])
            else:
                place(model, name, tensor)

    audit, _ = audited(tensors(), load)
    assert audit.unfilled() == {"norm": (3, 4)}


def test_tensor_that_nothing_touches_is_unused() -> None:
    audit, _ = audited(tensors(extra=torch.ones(2), more=torch.ones(1)))
    assert audit.unused() == {"extra", "more"}
    assert audit.unfilled() == {}


def test_empty_tensor_needs_no_taker() -> None:
    audit, _ = audited(tensors(extra=torch.ones(0)))
    assert audit.unused() == set()


@fp8
def test_codes_copied_raw_into_a_parameter(dtype: torch.dtype) -> None:
    codes = torch.zeros(6, 4, dtype=torch.uint8).view(dtype)
    with pytest.raises(FormatError, match=r"tensor q .*undecoded into parameter qk") as caught:
        audited(tensors(q=codes))
    assert str(dtype) in caught.value.found


@fp8
@pytest.mark.parametrize(
    "convert",
    [
        pytest.param(lambda t: t.to(torch.bfloat16), id="to"),
        pytest.param(lambda t: t.float(), id="float"),
        pytest.param(lambda t: t.type(torch.float16), id="type"),
        pytest.param(lambda t: t[1:].half(), id="slice"),
        pytest.param(lambda t: torch.ones(6, 4).copy_(t), id="copy-elsewhere"),
    ],
)
def test_codes_converted_as_numbers(
    dtype: torch.dtype, convert: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    def load(model: Model, weights: Weights) -> None:
        for _, tensor in weights:
            convert(tensor)

    codes = torch.zeros(6, 4, dtype=torch.uint8).view(dtype)
    with pytest.raises(FormatError, match=r"tensor q .*undecoded into torch"):
        audited({"q": codes}, load)


def test_error_names_the_tensor_even_if_others_came_after() -> None:
    def load(model: Model, weights: Weights) -> None:
        for name, tensor in list(weights):
            place(model, name, tensor)

    codes = torch.zeros(6, 4, dtype=torch.uint8).view(torch.float8_e4m3fn)
    with pytest.raises(FormatError, match="tensor q "):
        audited(tensors(q=codes), load)


@fp8
def test_raw_codes_into_a_parameter_of_their_dtype_are_fine(dtype: torch.dtype) -> None:
    model = nn.Module()
    model.w = nn.Parameter(torch.empty(3, 5).to(dtype), requires_grad=False)
    codes = torch.randint(0, 100, (3, 5), dtype=torch.uint8)
    audit = LoadAudit(dict(model.named_parameters()))
    with audit:
        for _, tensor in audit.watch(iter([("w", codes.view(dtype))])):
            model.w.data.copy_(tensor)
    assert (audit.unfilled(), audit.unused()) == ({}, set())
    assert torch.equal(model.w.data.view(torch.uint8), codes)


@pytest.mark.parametrize(
    "pad",
    [
        pytest.param(lambda part: part.zero_(), id="zero_"),
        pytest.param(lambda part: part.fill_(0), id="fill_"),
        pytest.param(lambda part: part.copy_(torch.zeros(3, 4)), id="copy_"),
        pytest.param(lambda part: nn.init.zeros_(part), id="init"),
    ],
)
def test_padding_counts_as_written(pad: Callable[[torch.Tensor], object]) -> None:
    def load(model: Model, weights: Weights) -> None:
        load_all(model, weights)
        pad(model.qk.data[6:])

    weights = tensors()
    del weights["k"]
    audit, _ = audited(weights, load)
    assert audit.unfilled() == {}


def test_setitem_and_index_put_count_as_written() -> None:
    def load(model: Model, weights: Weights) -> None:
        for name, tensor in weights:
            if name == "q":
                model.qk.data[:6] = tensor
            elif name == "norm":
                model.norm.data[torch.tensor([3, 1, 2, 0])] = tensor
            else:
                place(model, name, tensor)

    audit, _ = audited(tensors(), load)
    assert (audit.unfilled(), audit.unused()) == ({}, set())


def test_scattering_into_one_part_does_not_fill_the_other() -> None:
    def load(model: Model, weights: Weights) -> None:
        for name, tensor in weights:
            if name == "q":
                model.qk.data[:6][torch.tensor([5, 4, 3, 2, 1, 0])] = tensor
            else:
                place(model, name, tensor)

    weights = tensors()
    del weights["k"]
    audit, _ = audited(weights, load)
    assert audit.unfilled() == {"qk": (24, 36)}


def test_buffered_and_out_of_order_use_counts() -> None:
    def load(model: Model, weights: Weights) -> None:
        for name, tensor in reversed(list(weights)):
            place(model, name, tensor)

    audit, _ = audited(tensors(), load)
    assert (audit.unfilled(), audit.unused()) == ({}, set())


@pytest.mark.parametrize(
    "merge",
    [
        pytest.param(lambda q, k: torch.cat([q, k]), id="cat"),
        pytest.param(lambda q, k: torch.stack([*q.unbind(), *k.unbind()]), id="stack-of-views"),
    ],
)
def test_use_through_another_operation_counts(merge: Callable[..., torch.Tensor]) -> None:
    def load(model: Model, weights: Weights) -> None:
        given = dict(weights)
        model.qk.data.copy_(merge(given.pop("q"), given.pop("k")))
        load_all(model, given.items())

    weights = tensors()
    audit, model = audited(weights, load)
    assert (audit.unfilled(), audit.unused()) == ({}, set())
    assert torch.equal(model.qk.data, torch.cat([weights["q"], weights["k"]]))


def test_use_of_a_slice_in_the_middle_counts() -> None:
    def load(model: Model, weights: Weights) -> None:
        for _, tensor in weights:
            model.norm.data.copy_(tensor[3, 2:6])

    audit, _ = audited({"table": torch.randn(9, 9)}, load)
    assert audit.unused() == set()


def test_tensor_in_reused_memory_is_told_apart() -> None:
    memory = torch.randn(6, 4).bfloat16()

    def stream() -> Iterator[tuple[str, torch.Tensor]]:
        yield "lost", memory[1:3]
        yield "skipped", memory[3:5]
        yield "q", memory  # over both, as if they had been freed
        yield "k", torch.randn(3, 4).bfloat16()

    model = Model()
    audit = LoadAudit(dict(model.named_parameters()))
    with audit:
        load_all(model, audit.watch(stream()))
    assert audit.unused() == {"lost", "skipped"}
    assert audit.unfilled() == {"o.weight": (0, 36), "norm": (0, 4)}


def test_lazy_weight_fills_its_parameter_and_is_left_to_the_decoder() -> None:
    codes = torch.randint(0, 0x7F, (6, 4), dtype=torch.uint8)
    source = ScaledTensor("q", "s", codes, torch.ones(1, 1), (128, 128))
    with Decoder(1) as decoder:
        lazy = LazyWeight.wrap(source, decoder, torch.bfloat16)
        audit, model = audited(tensors(q=lazy, other=lazy.t()))
        assert decoder.counts.weights == {"q"}
    assert (audit.unfilled(), audit.unused()) == ({}, set())
    assert torch.equal(model.qk.data[:6], codes.view(torch.float8_e4m3fn).bfloat16())


def test_decoding_reads_codes_without_complaint() -> None:
    # The decoder itself turns fp8 codes into numbers, for float32 through torch's own cast.
    codes = torch.randint(0, 0x7F, (6, 4), dtype=torch.uint8)
    source = ScaledTensor("q", "s", codes, torch.full((1, 1), 2.0), (128, 128))

    def load(model: Any, weights: Weights) -> None:
        for _, tensor in weights:
            model.qk.data[:6].copy_(tensor)

    with Decoder(1) as decoder:
        lazy = LazyWeight.wrap(source, decoder, torch.float32)
        _, model = audited({"q": lazy}, load)
    assert torch.equal(model.qk.data[:6], (codes.view(torch.float8_e4m3fn).float() * 2).bfloat16())


def test_parameter_whose_data_was_replaced_is_not_unfilled() -> None:
    def load(model: Model, weights: Weights) -> None:
        for name, tensor in weights:
            if name == "norm":
                model.norm.data = tensor.clone()
            else:
                place(model, name, tensor)

    audit, _ = audited(tensors(), load)
    assert (audit.unfilled(), audit.unused()) == ({}, set())


def test_outside_of_the_load_nothing_is_watched() -> None:
    audit, model = audited({})
    model.norm.data.zero_()
    assert audit.unfilled()["norm"] == (0, 4)
    assert torch.zeros(2, dtype=torch.uint8).view(torch.float8_e4m3fn).float().tolist() == [0, 0]


def test_a_parameter_that_became_another_object_counts_as_filled() -> None:
    model = torch.nn.Linear(2, 2, bias=False)
    audit = LoadAudit(dict(model.named_parameters()))
    with audit:
        model.weight = torch.nn.Parameter(torch.ones(2, 2))
    assert audit.unfilled(dict(model.named_parameters())) == {}
    assert audit.unfilled() == {"weight": (0, 4)}
