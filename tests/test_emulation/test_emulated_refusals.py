# SPDX-License-Identifier: Apache-2.0
"""What the emulation refuses: by torch_npu's schema, by an operator's own checks, or by name."""

from typing import Any

import pytest
import torch
from attention_kit import random_batch
from emulation_kit import Install, nz, paged_arguments, prompt_arguments

FRESH = random_batch(2, nz=True, dtype=torch.float16, fresh=True)
CHUNKS = random_batch(3, nz=True, dtype=torch.float16)
DECODE = random_batch(3, nz=True, dtype=torch.float16, decode=True)


def zeros(*shape: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def test_an_operator_that_torch_npu_lacks_is_no_attribute(torch_npu: Any) -> None:
    with pytest.raises(AttributeError, match="no attribute 'npu_anything'"):
        _ = torch_npu.npu_anything


def test_an_operator_that_is_not_emulated_raises_its_name(torch_npu: Any) -> None:
    x = zeros(2, 2)
    with pytest.raises(NotImplementedError, match=r"torch_npu\.npu_fast_gelu: .* not emulated"):
        torch_npu.npu_fast_gelu(x)
    with pytest.raises(NotImplementedError, match=r"torch_npu\.npu_format_cast: "):
        torch_npu.npu_format_cast(x, x)  # the overload that takes a tensor
    with pytest.raises(NotImplementedError, match=r"torch_npu\.atb\.npu_paged_cache_load: "):
        torch_npu.atb.npu_paged_cache_load(x, x, x, x)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "missing value for argument 'input'"),
        ((zeros(2),), {}, "missing value for argument 'gamma'"),
        ((zeros(2), zeros(2)), {"eps": 1e-6}, "Unknown keyword argument 'eps'"),
        ((zeros(2), zeros(2), "1e-6"), {}, "Expected a value of type 'float'"),
        ((zeros(2), [1.0, 1.0]), {}, "Expected a value of type 'Tensor'"),
        ((zeros(2), zeros(2), 1e-6, 1), {}, "expected at most 3 argument"),
    ],
)  # fmt: skip
def test_arguments_are_those_of_the_schema(
    torch_npu: Any, arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RuntimeError, match=message) as error:
        torch_npu.npu_rms_norm(*arguments, **options)
    assert "npu::npu_rms_norm(Tensor input, Tensor gamma, float epsilon" in str(error.value)


def test_a_mask_type_has_no_position(torch_npu: Any) -> None:
    x = zeros(1, 1, 16)
    with pytest.raises(RuntimeError, match=r"_npu_flash_attention_v3.*8 positional"):
        torch_npu._npu_flash_attention_v3(x, x, x, x, x, 1.0, 1, 1, 3, x)


def test_arguments_differ_by_version(install: Install) -> None:
    x = zeros(16, 16)
    assert install("2.9.0").npu_format_cast(x, 2, None) is x
    with pytest.raises(RuntimeError, match="takes 2 positional"):
        install("2.10.0").npu_format_cast(x, 2, None)
    cache = zeros(1, 16, 1, 16)
    token, slot = zeros(1, 1, 16), torch.zeros(1, dtype=torch.int32)
    install("2.10.0").npu_scatter_pa_kv_cache(token, token, cache, cache, slot, cache_mode="Norm")
    with pytest.raises(RuntimeError, match="Unknown keyword argument 'cache_mode'"):
        install("2.9.0").npu_scatter_pa_kv_cache(
            token, token, cache, cache, slot, cache_mode="Norm"
        )


@pytest.mark.parametrize(
    ("operator", "changed", "message"),
    [
        ("_npu_flash_attention", {"mask": zeros(1, 8, 128, 16)}, "mask of format 2: expected 29"),
        ("_npu_flash_attention", {"seq_len": torch.tensor(FRESH.queries)}, "seq_len torch.int64"),
        ("_npu_flash_attention", {"query": FRESH.query.bfloat16()}, "bfloat16, float16: expected"),
        ("_npu_flash_attention", {"out": FRESH.query[1:]}, r"out \[.*\]: expected \[.*as query"),
        ("_npu_flash_attention", {"value": zeros(1, 1, 16)}, r"key \[.*, value \[1, 1, 16\]"),
        ("_npu_flash_attention_v3", {"mask_type": 5}, "mask_type 5, .*expected 3 and"),
        ("_npu_flash_attention_v3", {"mask_type": None}, "mask_type None"),
        ("_npu_flash_attention_unpad_v2", {"kernel_type": 1}, "kernel_type 1: expected 0 or 2"),
    ],
)  # fmt: skip
def test_prompts(torch_npu: Any, operator: str, changed: dict[str, Any], message: str) -> None:
    arguments = prompt_arguments(FRESH)
    if "unpad" not in operator:
        arguments["mask"] = nz(zeros(1, 128, 2048, 16))
    getattr(torch_npu, operator)(**arguments)
    with pytest.raises(ValueError, match=message):
        getattr(torch_npu, operator)(**{**arguments, **changed})


def test_a_mask_of_another_size_for_v3(torch_npu: Any) -> None:
    arguments = prompt_arguments(FRESH)
    with pytest.raises(ValueError, match=r"mask \[1, 8, 128, 16\]: expected 3 and \[1, 128, 2048"):
        torch_npu._npu_flash_attention_v3(**arguments, mask=nz(zeros(1, 8, 128, 16)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"key_cache": DECODE.key_cache}, r"formats \[2, 29\]: expected \[29, 29\] on Ascend 310P"),
        ({"context_lens": torch.tensor(DECODE.contexts)}, "context_lens torch.int64"),
        ({"block_table": DECODE.table.long()}, "block_table torch.int64"),
        ({"num_kv_heads": 3 * DECODE.kv_heads}, r"expected both \[\.\.\., "),
    ],
)
def test_paged_attention(torch_npu: Any, changed: dict[str, Any], message: str) -> None:
    arguments = paged_arguments(DECODE)
    torch_npu._npu_paged_attention(**arguments)
    with pytest.raises(ValueError, match=message):
        torch_npu._npu_paged_attention(**{**arguments, **changed})


def v2_arguments() -> dict[str, Any]:
    mask = torch.ones(2048, 2048, dtype=torch.float16).triu(1) * -10000
    seq_len = CHUNKS.int32(CHUNKS.queries)
    return {**paged_arguments(CHUNKS), "mask": mask, "seq_len": seq_len}


def test_chunks_with_a_mask_of_fixed_size(torch_npu: Any) -> None:
    run = torch_npu._npu_paged_attention_splitfuse_v2
    arguments = v2_arguments()
    run(**arguments, mask_type=5)
    mask = arguments["mask"]
    open_cell, shaded_cell = mask.clone(), mask.clone()
    open_cell[7, 8], shaded_cell[7, 7] = -9000, -1
    for changed, message in (
        ({"mask_type": 3}, "mask_type 3"),
        ({"mask": nz(mask)}, "mask of format 29: expected 2"),
        ({"mask": mask[:128, :128]}, r"mask torch.float16 \[128, 128\]"),
        ({"mask": mask.float()}, "mask torch.float32"),
        ({"mask": open_cell}, "above the diagonal, -10000.0 or less"),
        ({"mask": shaded_cell}, "expected zeros"),
        ({"seq_len": torch.tensor(CHUNKS.queries)}, "seq_len torch.int64"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**{**arguments, **changed})


@pytest.mark.parametrize(
    ("heads", "size", "block", "message"),
    [(272, 16, 16, "272 heads"), (80, 256, 16, "20480 columns"), (1, 16, 144, "blocks of 144")],
)
def test_what_kernels_of_chunks_take_at_most(
    torch_npu: Any, heads: int, size: int, block: int, message: str
) -> None:
    query, cache = zeros(2, heads, size), nz(zeros(1, size // 16, block, 16))
    lengths, table = torch.tensor([2], dtype=torch.int32), zeros(1, 1).int()
    with pytest.raises(ValueError, match=message):
        torch_npu._npu_paged_attention_splitfuse(
            query, cache, cache, table, lengths, nz(zeros(1, 1, 16, 16)), lengths, 1, heads, 1.0,
            query,
        )  # fmt: skip


def test_more_than_2000_requests(torch_npu: Any) -> None:
    query = zeros(2001, 1, 16)
    lengths = torch.ones(2001, dtype=torch.int32)
    torch_npu._npu_flash_attention_unpad(
        query[1:], query[1:], query[1:], lengths[1:], 1.0, 1, 1, query[1:]
    )
    with pytest.raises(ValueError, match=r"2001 requests: expected .* at most 2000"):
        torch_npu._npu_flash_attention_unpad(query, query, query, lengths, 1.0, 1, 1, query)
    # Chunks of one token each are exempt.
    chunks, cache = zeros(2002, 1, 16), nz(zeros(1, 1, 16, 16))
    mask, counts = nz(zeros(1, 1, 2016, 16)), lengths.clone()
    counts[0] = 2
    table = torch.zeros(2001, 1, dtype=torch.int32)
    run = torch_npu._npu_paged_attention_splitfuse
    run(query, cache, cache, table, lengths, mask, lengths, 1, 1, 1.0, query)
    with pytest.raises(ValueError, match="2001 requests, 1 heads"):
        run(chunks, cache, cache, table, counts, mask, counts, 1, 1, 1.0, chunks)


@pytest.mark.parametrize("size", [24, 272])
def test_head_sizes_of_the_310p(torch_npu: Any, size: int) -> None:
    query, length = zeros(1, 1, size), torch.tensor([1], dtype=torch.int32)
    with pytest.raises(ValueError, match="a multiple of 16 and at most 256"):
        torch_npu._npu_flash_attention_unpad(query, query, query, length, 1.0, 1, 1, query)


def test_bfloat16_on_a_310p(torch_npu: Any) -> None:
    query, length = zeros(1, 1, 16).bfloat16(), torch.tensor([1], dtype=torch.int32)
    with pytest.raises(ValueError, match="bfloat16: expected all of them float16 on Ascend 310P"):
        torch_npu._npu_flash_attention_unpad(query, query, query, length, 1.0, 1, 1, query)


def test_forms_of_the_310p_on_another_chip(install: Install) -> None:
    torch_npu = install(chip="a2")
    with pytest.raises(NotImplementedError, match="not emulated on Atlas A2"):
        torch_npu._npu_flash_attention_unpad(**prompt_arguments(FRESH))
    with pytest.raises(NotImplementedError, match="not emulated on Atlas A2"):
        torch_npu._npu_paged_attention_splitfuse_v2(**v2_arguments())
    with pytest.raises(ValueError, match=r"formats \[29, 29\]: expected \[2, 2\] on Atlas A2"):
        torch_npu._npu_paged_attention(**paged_arguments(DECODE))
    mixed = {**paged_arguments(DECODE), "query": DECODE.query.bfloat16()}
    with pytest.raises(
        ValueError, match="bfloat16, float16: expected all of them bfloat16 or float16"
    ):
        torch_npu._npu_paged_attention(**mixed)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"slot_mapping": torch.tensor([-1])}, ValueError, "slot -1: expected none below 0"),
        ({"slot_mapping": zeros(1)}, ValueError, "slot_mapping torch.float16"),
        ({"cache_mode": "NZ"}, ValueError, "cache_mode 'NZ': expected Norm or PA_NZ"),
        ({"seq_lens": zeros(1)}, NotImplementedError, "compression is not emulated"),
    ],
)
def test_scatter_pa_kv_cache(
    torch_npu: Any, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    token, cache = zeros(1, 1, 16), zeros(1, 16, 1, 16)
    arguments = {"slot_mapping": torch.tensor([0]), "cache_mode": "Norm", **changed}
    with pytest.raises(error, match=message):
        torch_npu.npu_scatter_pa_kv_cache(token, token, cache, cache, **arguments)


def test_formats(torch_npu: Any) -> None:
    with pytest.raises(NotImplementedError, match=r"format 3: emulated are 2 \(ND\), 29"):
        torch_npu.npu_format_cast(zeros(4, 4), 3)
    with pytest.raises(ValueError, match=r"\[4\] in FRACTAL_NZ: expected at least two"):
        torch_npu.npu_format_cast(zeros(4), 29)
    with pytest.raises(NotImplementedError, match="dtypes of its own"):
        torch_npu.npu_format_cast(zeros(4, 4), 29, customize_dtype=1)


def test_norms_and_activations(torch_npu: Any) -> None:
    with pytest.raises(
        ValueError, match=r"gamma torch.float16 \[3\]: expected torch.float16 \[4\]"
    ):
        torch_npu.npu_rms_norm(zeros(2, 4), zeros(3))
    with pytest.raises(ValueError, match=r"gamma torch\.bfloat16"):
        torch_npu.npu_rms_norm(zeros(2, 4), zeros(4).bfloat16())
    with pytest.raises(ValueError, match=r"x2 torch.float16 \[4\]: expected"):
        torch_npu.npu_add_rms_norm(zeros(2, 4), zeros(4), zeros(4))
    with pytest.raises(ValueError, match="expected an even size"):
        torch_npu.npu_swiglu(zeros(2, 3))


@pytest.mark.parametrize(
    ("weight", "changed", "error", "message"),
    [
        (zeros(2, 16, 16), {"perm_x1": [0, 2, 1]}, ValueError, r"perm_x1 \[0, 2, 1\]"),
        (zeros(2, 16, 16), {"perm_x2": [0, 2, 1]}, ValueError, r"perm_x2 \[0, 2, 1\]: expected"),
        (zeros(2, 16, 16), {"perm_y": [0, 1, 2]}, ValueError, r"perm_y \[0, 1, 2\]"),
        (zeros(3, 16, 16), {}, ValueError, r"weight \[3, 16, 16\]: expected \[B, M, K\]"),
        (zeros(2, 32, 16), {}, ValueError, r"weight \[2, 32, 16\]: expected"),
        (zeros(2, 16, 24), {}, ValueError, r"weight \[2, 16, 24\]: expected .* of 16"),
        (zeros(2, 16, 16), {"scale": zeros(2)}, NotImplementedError, "scale: not emulated"),
    ],
)
def test_a_product(
    install: Install, weight: torch.Tensor, changed: dict[str, Any], error: type[Exception],
    message: str,
) -> None:  # fmt: skip
    torch_npu = install(chip="a2")
    x = zeros(2, 3, 16)
    torch_npu.npu_transpose_batchmatmul(x, zeros(2, 16, 16))
    with pytest.raises(error, match=message):
        torch_npu.npu_transpose_batchmatmul(x, weight, **changed)


@pytest.mark.parametrize("name", ["NPUGraph", "ExternalEvent", "memory_stats"])
def test_what_only_an_npu_has(torch_npu: Any, name: str) -> None:
    with pytest.raises(NotImplementedError, match=rf"torch\.npu\.{name}: not emulated"):
        getattr(torch_npu.npu, name)()
