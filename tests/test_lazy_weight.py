# SPDX-License-Identifier: Apache-2.0
"""LazyWeight against the dense decoded tensor, under the operations that vLLM's loaders use."""

from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from typing import Any

import pytest
import testkit
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from triton_interpreter import interpreting

from vllm_ascend_bringup import decode as decode_module
from vllm_ascend_bringup.decode import Decoder, ScaledTensor, default_threads
from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.kernels.fp8_dequant import fp8_dequant
from vllm_ascend_bringup.lazy_weight import LazyWeight

BLOCK = (4, 3)
DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=("bf16", "fp16"))


def scaled(
    *shape: int, block: tuple[int, int] = BLOCK, dtype: torch.dtype = torch.bfloat16
) -> tuple[ScaledTensor, torch.Tensor]:
    """A weight with codes and unequal scales, and the same decoded to a dense tensor."""
    generator = torch.Generator().manual_seed(prod(shape))
    codes = torch.randint(0, 0x7F, shape, dtype=torch.uint8, generator=generator)
    codes |= torch.randint(0, 2, shape, dtype=torch.uint8, generator=generator) << 7
    *lead, N, K = shape
    grid = (*lead, -(-N // block[0]), -(-K // block[1]))
    scale = torch.rand(grid, generator=generator) + 0.1
    flat = zip(codes.reshape(-1, N, K), scale.reshape(-1, *grid[-2:]), strict=True)
    dense = torch.stack([testkit.dequantize(c, s, block, dtype) for c, s in flat]).reshape(shape)
    return ScaledTensor("w", "model.safetensors", codes, scale, block), dense


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder(2) as made:
        yield made


Pair = tuple[torch.Tensor, torch.Tensor]


def draw_view(draw: Callable[..., Any], lazy: torch.Tensor, dense: torch.Tensor) -> Pair:
    """Apply one random view to both."""

    def number(low: int, high: int) -> int:
        return int(draw(st.integers(low, high)))

    def dim(extra: int = 0) -> int:
        return number(-dense.dim() - extra, dense.dim() - 1 + extra)

    both = (lazy, dense)
    names = ["detach", "unsqueeze", "view", "squeeze"]
    if dense.dim() > 0:
        names += ["narrow", "slice", "select", "chunk", "split", "split_sizes", "unbind",
                  "squeeze_dim", "transpose", "permute"]  # fmt: skip
    if dense.dim() <= 2:
        names.append("t")
    name = draw(st.sampled_from(names))
    if name == "detach":
        return both[0].detach(), both[1].detach()
    if name == "t":
        return both[0].t(), both[1].t()
    if name == "squeeze":
        return both[0].squeeze(), both[1].squeeze()
    if name == "unsqueeze":
        if dense.dim() > 4:
            return both
        at = number(-dense.dim() - 1, dense.dim())
        return both[0].unsqueeze(at), both[1].unsqueeze(at)
    if name == "view":
        shape = [n for n in dense.shape if n != 1]
        shape.insert(number(0, len(shape)), 1)
        if dense.numel() and draw(st.booleans()):
            shape[number(0, len(shape) - 1)] = -1
        return both[0].view(shape), both[1].reshape(shape)
    at = dim()
    size = dense.shape[at]
    if name == "narrow":
        start = number(0, max(0, size - 1))
        length = number(min(1, size), size - start)
        return both[0].narrow(at, start, length), both[1].narrow(at, start, length)
    if name == "slice":
        index: list[slice] = [slice(None)] * dense.dim()
        start, stop = number(-size - 2, size + 2), number(-size - 2, size + 2)
        index[at] = slice(start, stop)
        if dense[tuple(index)].numel() == 0:
            return both
        return both[0][tuple(index)], both[1][tuple(index)]
    if name in ("select", "unbind"):
        which = number(-size, size - 1)
        if name == "select":
            return both[0].select(at, which), both[1].select(at, which)
        return both[0].unbind(at)[which], both[1].unbind(at)[which]
    if name == "chunk":
        pieces = number(1, size + 1)
        parts = both[0].chunk(pieces, at), both[1].chunk(pieces, at)
    elif name == "split":
        length = number(1, size + 1)
        parts = torch.split(both[0], length, at), torch.split(both[1], length, at)
    elif name == "split_sizes":
        first = number(1, size)
        sizes = [n for n in (first, size - first) if n]
        parts = torch.split(both[0], sizes, at), torch.split(both[1], sizes, at)
    elif name == "squeeze_dim":
        return both[0].squeeze(at), both[1].squeeze(at)
    elif name == "transpose":
        other = dim()
        return both[0].transpose(at, other), both[1].transpose(at, other)
    else:
        order = draw(st.permutations(range(dense.dim())))
        return both[0].permute(order), both[1].permute(order)
    assert len(parts[0]) == len(parts[1])
    which = number(0, len(parts[1]) - 1)
    return parts[0][which], parts[1][which]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_chain_of_views_stays_lazy_and_copies_the_dense_values(data: st.DataObject) -> None:
    shape = data.draw(
        st.sampled_from([(1, 1), (9, 7), (8, 6), (1, 10), (5, 1), (3, 9, 7), (1, 5, 4), (2, 1, 1)])
    )
    source, dense = scaled(*shape)
    with Decoder(2) as decoder:
        lazy: torch.Tensor = LazyWeight.wrap(source, decoder, torch.bfloat16)
        for _ in range(data.draw(st.integers(0, 7))):
            lazy, dense = draw_view(data.draw, lazy, dense)
            assert isinstance(lazy, LazyWeight)
            assert lazy.shape == dense.shape
        parameter = torch.nn.Parameter(torch.empty(dense.shape, dtype=torch.bfloat16))
        parameter.data.copy_(lazy)
        assert torch.equal(parameter.data, dense)
        assert decoder.counts.materialized == {}
        assert decoder.counts.elements == dense.numel()
        assert decoder.counts.weights == {"w"}


@pytest.mark.parametrize("shape", [(0, 7), (9, 0)], ids=str)
def test_empty_slices_copy_nothing(decoder: Decoder, shape: tuple[int, int]) -> None:
    source, _ = scaled(9, 7)
    lazy = LazyWeight.wrap(source, decoder, torch.bfloat16)[: shape[0], : shape[1]]
    assert lazy.shape == shape
    torch.empty(shape, dtype=torch.bfloat16).copy_(lazy)
    assert decoder.counts.elements == 0


@DTYPES
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("dim", [0, 1], ids=("column-parallel", "row-parallel"))
def test_each_rank_decodes_exactly_its_share(dtype: torch.dtype, ranks: int, dim: int) -> None:
    N, K = 84, 132  # slices of 14 or 22 and so on: they cut blocks of 4 by 3
    source, dense = scaled(N, K, dtype=dtype)
    size = dense.shape[dim] // ranks
    seen = []
    for rank in range(ranks):
        with Decoder(2) as decoder:
            lazy = LazyWeight.wrap(source, decoder, dtype)
            share = dense.narrow(dim, rank * size, size)
            parameter = torch.nn.Parameter(torch.empty(share.shape, dtype=dtype))
            parameter.data.copy_(lazy.narrow(dim, rank * size, size))
            assert torch.equal(parameter.data, share)
            assert decoder.counts.materialized == {}
            seen.append(decoder.counts.elements)
    assert seen == [N * K // ranks] * ranks


def test_fused_parameter_is_filled_part_by_part(decoder: Decoder) -> None:
    (q, q_dense), (k, k_dense) = scaled(10, 7), scaled(5, 7)
    parameter = torch.nn.Parameter(torch.empty(15, 7, dtype=torch.bfloat16))
    parameter.data.narrow(0, 0, 10).copy_(LazyWeight.wrap(q, decoder, torch.bfloat16))
    parameter.data.narrow(0, 10, 5).copy_(LazyWeight.wrap(k, decoder, torch.bfloat16))
    assert torch.equal(parameter.data, torch.cat([q_dense, k_dense]))
    assert decoder.counts.elements == 15 * 7


@pytest.mark.parametrize("turned", [False, True], ids=("as-stored", "transposed"))
def test_experts_into_a_stacked_parameter(decoder: Decoder, turned: bool) -> None:
    source, dense = scaled(3, 10, 7)
    lazy = LazyWeight.wrap(source, decoder, torch.bfloat16)
    if turned:
        parameter = torch.empty(3, 7, 10, dtype=torch.bfloat16)
        parameter.copy_(lazy.transpose(1, 2))
        assert torch.equal(parameter, dense.transpose(1, 2))
    else:
        parameter = torch.empty(3, 10, 7, dtype=torch.bfloat16)
        for expert, part in enumerate(lazy.unbind(0)):
            gate, up = part.chunk(2, 0)
            parameter[expert, :5].copy_(gate)
            parameter[expert, 5:].copy_(up)
        assert torch.equal(parameter, dense)
    assert decoder.counts.materialized == {}
    assert decoder.counts.elements == dense.numel()


def test_transposed_destination(decoder: Decoder) -> None:
    source, dense = scaled(10, 7)
    parameter = torch.empty(7, 10, dtype=torch.bfloat16)
    parameter.t().copy_(LazyWeight.wrap(source, decoder, torch.bfloat16))
    assert torch.equal(parameter, dense.t())


@pytest.mark.parametrize("shape", [(9, 7), (3, 9, 7)], ids=str)
@DTYPES
def test_staged_equals_direct(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    source, dense = scaled(*shape, dtype=dtype)
    with Decoder(2, force_staging=True) as decoder:
        out = torch.empty(shape, dtype=dtype)
        out.copy_(LazyWeight.wrap(source, decoder, dtype))
    assert torch.equal(out, dense)


@pytest.mark.parametrize("nbytes", [1, 13, 14, 28, 42, 126], ids="{}-bytes".format)
@pytest.mark.parametrize("turned", [False, True], ids=("as-stored", "transposed"))
def test_staging_in_several_parts_equals_direct(
    monkeypatch: pytest.MonkeyPatch, nbytes: int, turned: bool
) -> None:
    monkeypatch.setattr(decode_module, "STAGING_BYTES", nbytes)
    source, dense = scaled(9, 7)  # rows of 14 bytes
    with Decoder(2, force_staging=not turned) as decoder:
        lazy = LazyWeight.wrap(source, decoder, torch.bfloat16)
        out = torch.empty(9, 7, dtype=torch.bfloat16)
        if turned:
            out = torch.empty(7, 9, dtype=torch.bfloat16).t()
        out[1:].copy_(lazy[1:])
        out[:1].copy_(lazy[:1])
    assert torch.equal(out, dense)


# Every parameter is one on another device. What decodes on an NPU, on an NPU without Triton, and
# here by itself.
@pytest.mark.parametrize("implementation", ["triton", "reference", None])
@pytest.mark.parametrize(
    ("shape", "block"),
    [((130, 257), (128, 128)), ((3, 70, 65), (64, 64)), ((9, 70), (1, 70)), ((9, 70), (9, 70)),
     ((1, 1), (128, 128))],
    ids=["blocks", "experts", "rows", "tensor", "one"],
)  # fmt: skip
@pytest.mark.parametrize("turned", [False, True], ids=("as-stored", "transposed"))
@DTYPES
def test_on_device_equals_direct(
    monkeypatch: pytest.MonkeyPatch, implementation: str | None, shape: tuple[int, ...],
    block: tuple[int, int], turned: bool, dtype: torch.dtype,
) -> None:  # fmt: skip
    chosen = partial(fp8_dequant, implementation=implementation)
    monkeypatch.setattr(decode_module, "fp8_dequant", chosen)
    monkeypatch.setattr(decode_module, "DEVICE_BYTES", 3 * shape[-1] + 1)  # three rows
    source, dense = scaled(*shape, block=block, dtype=dtype)
    out = torch.empty(shape, dtype=dtype)
    if turned:
        out = torch.empty((*shape[:-2], *shape[:-3:-1]), dtype=dtype).transpose(-1, -2)
    with Decoder(2, on_device=True, force_staging=True) as decoder, interpreting():
        lazy = LazyWeight.wrap(source, decoder, dtype)
        middle = shape[-1] // 2
        out[..., :middle].copy_(lazy[..., :middle])
        out[..., middle:].copy_(lazy[..., middle:])
    assert torch.equal(out, dense)
    assert decoder.counts.on_device == {"w"}


@pytest.mark.parametrize("on_device", [False, True], ids=("host", "device"))
def test_bytes_copied_to_a_device(on_device: bool) -> None:
    """Half as many with codes and scales, and none for parameters on the host."""
    source, _ = scaled(256, 128, block=(128, 128))
    with Decoder(2, on_device=on_device, force_staging=True) as decoder:
        torch.empty(128, 128, dtype=torch.bfloat16).copy_(
            LazyWeight.wrap(source, decoder, torch.bfloat16)[128:]
        )
    assert decoder.counts.copied == (128 * 128 + 2 * 4 if on_device else 2 * 128 * 128)
    with Decoder(2, on_device=on_device) as decoder:
        out = torch.empty(128, 256, dtype=torch.bfloat16).t()
        out.copy_(LazyWeight.wrap(source, decoder, torch.bfloat16))
    assert decoder.counts.copied == 0
    assert decoder.counts.on_device == set()


def test_nan_codes_are_counted_on_a_device() -> None:
    codes = torch.zeros(200, 70, dtype=torch.uint8)
    codes[199, 69] = 0xFF
    source = ScaledTensor("w", "model.safetensors", codes, torch.ones(200, 1), (1, 70))
    with Decoder(2, on_device=True, force_staging=True) as decoder:
        lazy = LazyWeight.wrap(source, decoder, torch.bfloat16)
        torch.empty(199, 70, dtype=torch.bfloat16).copy_(lazy[:199])
        assert decoder.counts.nan_weights == set()
        torch.empty(200, 70, dtype=torch.bfloat16).copy_(lazy)
    assert decoder.counts.nan_weights == {"w"}


@pytest.mark.parametrize(
    ("block", "code_format", "scale"),
    [
        pytest.param((1, 32), "e4m3fn", 1.0, id="short blocks"),
        pytest.param((128, 1), "e4m3fn", 1.0, id="a scale for each column"),
        pytest.param((128, 128), "e4m3fn", 147.0, id="float16 could overflow"),
        pytest.param((128, 128), "e2m1", 1.0, id="fp4"),
        pytest.param((128, 128), "int8", 1.0, id="int8"),
    ],
)
def test_what_is_decoded_on_the_host_all_the_same(
    block: tuple[int, int], code_format: str, scale: float
) -> None:
    codes = torch.full((128, 128), 0x11, dtype=torch.uint8)
    grid = torch.full((-(-128 // block[0]), -(-256 // block[1])), scale)
    source = ScaledTensor("w", "model.safetensors", codes, grid, block, code_format)
    found = []
    for on_device in (False, True):
        with Decoder(2, on_device=on_device, force_staging=True) as decoder:
            found.append(torch.empty(source.shape, dtype=torch.float16))
            found[-1].copy_(LazyWeight.wrap(source, decoder, torch.float16))
        assert decoder.counts.copied == found[-1].nbytes
        assert decoder.counts.on_device == set()
    assert torch.equal(*found)


@pytest.mark.parametrize("force_staging", [False, True], ids=("direct", "staged"))
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_weight_large_enough_for_several_tasks(threads: int, force_staging: bool) -> None:
    source, dense = scaled(602, 517, block=(128, 128))
    with Decoder(threads, force_staging=force_staging) as decoder:
        out = torch.empty(601, 516, dtype=torch.bfloat16)  # an odd number to divide
        out.copy_(LazyWeight.wrap(source, decoder, torch.bfloat16)[1:, 1:])
    assert torch.equal(out, dense[1:, 1:])


def test_float32_parameter_gets_the_values_of_a_dense_checkpoint(decoder: Decoder) -> None:
    source, dense = scaled(9, 7)
    exact = torch.empty(9, 7)
    exact.copy_(LazyWeight.wrap(source, decoder, torch.float32))
    rounded = torch.empty(9, 7)
    rounded.copy_(LazyWeight.wrap(source, decoder, torch.bfloat16))
    assert torch.equal(rounded, dense.float())
    assert not torch.equal(rounded, exact)


def test_copy_into_a_broadcast_shape(decoder: Decoder) -> None:
    source, dense = scaled(1, 7)
    out = torch.empty(3, 7, dtype=torch.bfloat16)
    out.copy_(LazyWeight.wrap(source, decoder, torch.bfloat16))
    assert torch.equal(out, dense.expand(3, 7))


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("aten.add.Tensor", lambda x: x + 1),
        ("aten.cat.default", lambda x: torch.cat([x, x])),
        ("aten._to_copy.default", lambda x: x.float()),
        ("aten.clone.default", lambda x: x.clone()),
        ("aten.view.default", lambda x: x.view(-1)),
        ("aten.slice.Tensor", lambda x: x[::2]),
        ("aten.index.Tensor", lambda x: x[torch.tensor([2, 0])]),
        ("aten.view.dtype", lambda x: x.view(torch.int16)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_operations_decode_first_and_are_counted(
    decoder: Decoder, name: str, operation: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    source, dense = scaled(9, 7)
    found = operation(LazyWeight.wrap(source, decoder, torch.bfloat16))
    assert type(found) is torch.Tensor
    assert torch.equal(found, operation(dense))
    assert set(decoder.counts.materialized) == {name}


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda x: torch.split(x, [3, 3], 0), id="split-too-short"),
        pytest.param(lambda x: torch.split(x, [9, 9], 0), id="split-too-long"),
        pytest.param(lambda x: torch.split(x, [10, -1], 0), id="split-negative"),
        pytest.param(lambda x: x.narrow(0, 5, 5), id="narrow-past-the-end"),
        pytest.param(lambda x: x.select(1, 7), id="select-past-the-end"),
        pytest.param(lambda x: x[9], id="index-past-the-end"),
        pytest.param(lambda x: x.view(9, 8), id="view-of-another-size"),
        pytest.param(lambda x: x.transpose(0, 2), id="no-such-dimension"),
        pytest.param(lambda x: x.transpose(0, -3), id="no-such-negative-dimension"),
        pytest.param(lambda x: x.permute(0, 0), id="repeated-dimension"),
        pytest.param(lambda x: x.unsqueeze(3), id="unsqueeze-too-far"),
        pytest.param(lambda x: torch.split(x[None], [0, 2], 0), id="split-an-inserted-dimension"),
    ],
)
def test_what_torch_refuses_is_refused(
    decoder: Decoder, operation: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    source, dense = scaled(9, 7)
    with pytest.raises((RuntimeError, IndexError)):
        operation(dense)
    with pytest.raises((RuntimeError, IndexError)):
        operation(LazyWeight.wrap(source, decoder, torch.bfloat16))


def test_inserted_dimension_split_into_nothing_and_itself(decoder: Decoder) -> None:
    source, dense = scaled(9, 7)
    lazy = LazyWeight.wrap(source, decoder, torch.bfloat16)
    parts = torch.split(lazy.unsqueeze(0), [0, 1], 0)
    assert [tuple(part.shape) for part in parts] == [(0, 9, 7), (1, 9, 7)]
    out = torch.empty(1, 9, 7, dtype=torch.bfloat16)
    out.copy_(parts[1])
    assert torch.equal(out[0], dense)


@pytest.mark.parametrize("force_staging", [False, True], ids=("direct", "staged"))
def test_fp16_overflow_names_the_tensor(force_staging: bool) -> None:
    codes = torch.full((4, 3), 0x7E, dtype=torch.uint8)  # 448
    codes[3, 2] = 0xFE
    scale = torch.full((1, 1), 146.25)  # 448 * 146.25 = 65520, which rounds up
    source = ScaledTensor("layers.3.w", "model-7.safetensors", codes, scale, BLOCK)
    with Decoder(2, force_staging=force_staging) as decoder:
        with pytest.raises(FormatError, match=r"12 values of layers\.3\.w in model-7") as caught:
            torch.empty(4, 3, dtype=torch.float16).copy_(
                LazyWeight.wrap(source, decoder, torch.float16)
            )
        assert "65504" in caught.value.expected
        out = torch.empty(4, 3, dtype=torch.bfloat16)
        out.copy_(LazyWeight.wrap(source, decoder, torch.bfloat16))
        assert bool(out.isfinite().all())


def test_fp16_just_below_overflow_is_fine(decoder: Decoder) -> None:
    codes = torch.full((4, 3), 0x7E, dtype=torch.uint8)
    scale = torch.full((1, 1), 146.24)  # 65515.52: nearest is 65504
    source = ScaledTensor("w", "model.safetensors", codes, scale, BLOCK)
    out = LazyWeight.wrap(source, decoder, torch.float16).materialize()
    assert out.tolist() == [[65504.0] * 3] * 4


def test_large_scale_over_small_codes_is_fine(decoder: Decoder) -> None:
    codes = torch.full((4, 3), 0x38, dtype=torch.uint8)  # 1
    source = ScaledTensor("w", "model.safetensors", codes, torch.full((1, 1), 60000.0), BLOCK)
    out = LazyWeight.wrap(source, decoder, torch.float16).materialize()
    assert out.tolist() == [[60000.0] * 3] * 4


def test_bf16_overflow_is_refused_too(decoder: Decoder) -> None:
    codes = torch.full((4, 3), 0x7E, dtype=torch.uint8)
    source = ScaledTensor("w", "model.safetensors", codes, torch.full((1, 1), 1e38), BLOCK)
    with pytest.raises(FormatError, match=r"12 values of w in model\.safetensors exceed bfloat16"):
        LazyWeight.wrap(source, decoder, torch.bfloat16).materialize()


def test_infinite_e5m2_code_is_refused(decoder: Decoder) -> None:
    codes = torch.full((4, 3), 0x3C, dtype=torch.uint8)
    codes[0, 1] = 0x7C
    source = ScaledTensor("w", "model.safetensors", codes, torch.ones(1, 1), BLOCK, "e5m2")
    with pytest.raises(FormatError, match="1 values of w"):
        LazyWeight.wrap(source, decoder, torch.bfloat16).materialize()


def test_nan_codes_stay_and_are_counted(decoder: Decoder) -> None:
    source, dense = scaled(9, 7)
    source.codes[2, 3] = 0x7F
    lazy = LazyWeight.wrap(source, decoder, torch.bfloat16)
    out = torch.empty(6, 7, dtype=torch.bfloat16)
    out.copy_(lazy[3:])
    assert torch.equal(out, dense[3:])
    assert decoder.counts.nan_weights == set()
    found = lazy.materialize()
    assert found.isnan().nonzero().tolist() == [[2, 3]]
    assert decoder.counts.nan_weights == {"w"}


def test_looks_like_the_tensor_it_stands_for(decoder: Decoder) -> None:
    source, _ = scaled(9, 7)
    lazy = LazyWeight.wrap(source, decoder, torch.bfloat16)
    assert (lazy.dtype, lazy.device.type, lazy.numel()) == (torch.bfloat16, "cpu", 63)
    assert lazy.t().is_contiguous()
    assert repr(lazy.t()) == "LazyWeight(w, shape=(7, 9), dtype=torch.bfloat16)"
    assert lazy.to(torch.bfloat16) is lazy
    assert lazy.contiguous() is lazy
    assert decoder.counts.elements == 0


@pytest.mark.parametrize("ranks", [0, 1, 2, 10_000])
def test_default_threads_is_at_least_one(ranks: int) -> None:
    threads = default_threads(ranks)
    assert 1 <= threads <= default_threads(1)
    assert ranks < 10_000 or threads == 1
