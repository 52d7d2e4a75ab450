# SPDX-License-Identifier: Apache-2.0
"""Attention operators of A2 and A3 on the emulation: results against torch's own, and refusals."""

from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
import torch
from attention_kit import SCALE, Batch, assert_one_rounding, random_batch
from emulation_kit import Install, fused_arguments, nz, renamed, without_cache
from torch.nn.functional import scaled_dot_product_attention

from vllm_ascend_bringup.emulation.schemas import schemas, versions

SEEDS = range(10)
FUSED = "npu_fused_infer_attention_score"


@pytest.fixture
def torch_npu(install: Install) -> Any:
    return install(chip="a2")


def bidirectional(batch: Batch) -> torch.Tensor:
    """Every query of a request sees all of its keys."""
    return batch.exact(tile=max(batch.contexts))


@pytest.mark.parametrize(
    ("chip", "dtype"), [("a2", torch.float16), ("a2", torch.bfloat16), ("a3", torch.bfloat16)]
)
@pytest.mark.parametrize("decode", [False, True], ids=["chunks", "decode"])
def test_fused_attention(install: Install, chip: str, dtype: torch.dtype, decode: bool) -> None:
    torch_npu = install(chip=chip)
    for seed in SEEDS:
        batch = random_batch(seed, nz=False, dtype=dtype, decode=decode)
        arguments = fused_arguments(batch)
        exact = batch.exact()
        for own in (arguments, {**arguments, **without_cache(batch)}):
            found, lse = torch_npu.npu_fused_infer_attention_score(**own)
            assert_one_rounding(found, exact)
            assert torch.equal(
                torch_npu.npu_fused_infer_attention_score_v2(**renamed(own))[0], found
            )
            assert bool(lse.isnan().all())


def test_fused_attention_in_a_band(torch_npu: Any) -> None:
    for seed in SEEDS:
        batch = random_batch(seed, nz=False, dtype=torch.bfloat16)
        band = {"sparse_mode": 4, "pre_tokens": seed, "next_tokens": 0}
        arguments = {**fused_arguments(batch), **band}
        found, _ = torch_npu.npu_fused_infer_attention_score(**arguments)
        assert_one_rounding(found, batch.exact(window=seed + 1))
        found, _ = torch_npu.npu_fused_infer_attention_score_v2(**renamed(arguments))
        assert_one_rounding(found, batch.exact(window=seed + 1))


def test_fused_attention_without_a_mask(torch_npu: Any) -> None:
    for seed in SEEDS:
        batch = random_batch(seed, nz=False, dtype=torch.bfloat16)
        arguments = {**fused_arguments(batch), "sparse_mode": 0, "atten_mask": None}
        for own in (arguments, {**arguments, **without_cache(batch)}):
            found, _ = torch_npu.npu_fused_infer_attention_score(**own)
            assert_one_rounding(found, bidirectional(batch))


@pytest.mark.parametrize("size", [128, 512])
def test_rotary_parts_are_more_columns(torch_npu: Any, size: int) -> None:
    heads = set()
    for seed in SEEDS:
        batch = random_batch(seed, nz=False, dtype=torch.bfloat16, kv_heads=1, size=size + 64)
        heads.add(batch.heads)
        arguments = {**fused_arguments(batch), **apart(batch, size)}
        if size == 512 and batch.heads == 3:  # documented: powers of two
            with pytest.raises(ValueError, match="3 heads of 512 to 1 KV heads: expected a power"):
                torch_npu.npu_fused_infer_attention_score(**arguments)
            continue
        found, _ = torch_npu.npu_fused_infer_attention_score(**arguments)
        assert_one_rounding(found, batch.exact()[..., :size])
    assert heads == {1, 2, 3}


@pytest.mark.parametrize("heads", [64, 65, 128, 256])
def test_heads_to_one_latent(torch_npu: Any, heads: int) -> None:
    """Up to 128, where other sizes of heads have at most 64 to one KV head."""
    batch = random_batch(0, nz=False, dtype=torch.float16, kv_heads=1, size=576)
    # Small, so that float32 sums of many products are exact enough.
    batch = replace(batch, query=torch.randn(len(batch.query), heads, 576).half() / 8)
    arguments = fused_arguments(batch) | apart(batch, 512)
    if heads in (64, 128):
        found, _ = torch_npu.npu_fused_infer_attention_score(**arguments)
        assert_one_rounding(found, batch.exact()[..., :512])
        return
    with pytest.raises(ValueError, match=f"{heads} heads of 512 to 1 KV heads: expected a power"):
        torch_npu.npu_fused_infer_attention_score(**arguments)


@pytest.mark.parametrize("size", [128, 512])
def test_results_by_heads(torch_npu: Any, size: int) -> None:
    """The layout BNSD_NBSD, with keys by heads, as MLA's decode has it."""
    batch = random_batch(
        10, nz=False, dtype=torch.bfloat16, decode=True, kv_heads=1, size=size + 64
    )
    arguments = fused_arguments(batch) | apart(batch, size)
    del arguments["actual_seq_lengths"]
    for name in ("query", "query_rope"):
        arguments[name] = arguments[name].unsqueeze(2)
    for name in ("key", "key_rope", "value"):
        arguments[name] = arguments[name].unsqueeze(1)
    arguments["input_layout"] = "BNSD_NBSD"
    found, _ = torch_npu.npu_fused_infer_attention_score(**arguments)
    assert found.shape == (batch.heads, len(batch.query), 1, size)
    assert len(batch.query) > 1
    assert batch.heads > 1
    assert_one_rounding(found[:, :, 0].transpose(0, 1), batch.exact()[..., :size])
    for changed in ({"actual_seq_lengths": [1]}, {"block_table": None}):
        with pytest.raises(NotImplementedError, match="with their lengths, or without pages"):
            torch_npu.npu_fused_infer_attention_score(**arguments | changed)


def apart(batch: Batch, size: int) -> dict[str, Any]:
    """The last columns of queries and keys as their rotary parts, the others as values too."""
    key, value = batch.key_cache, batch.value_cache
    return {
        "query": batch.query[..., :size], "query_rope": batch.query[..., size:],
        "key": key[..., :size].flatten(2), "key_rope": key[..., size:].flatten(2),
        "value": value[..., :size].flatten(2),
    }  # fmt: skip


def test_paged_attention_of_latents(install: Install) -> None:
    for chip in ("a2", "a3"):
        torch_npu = install(chip=chip)
        for seed in SEEDS:
            batch = random_batch(
                seed, nz=False, dtype=torch.bfloat16, decode=True, kv_heads=1, size=48
            )
            arguments = latents(batch)
            assert torch_npu._npu_paged_attention_mla(**arguments) is None
            for row, key in enumerate(batch.keys):
                rows = key.double().transpose(0, 1)
                exact = scaled_dot_product_attention(
                    batch.query[row, :, None].double(), rows, rows[..., :32], scale=SCALE,
                    enable_gqa=True,
                )  # fmt: skip
                assert_one_rounding(arguments["out"][row], exact[:, 0])


def latents(batch: Batch) -> dict[str, Any]:
    """Of _npu_paged_attention_mla, with values of 32 columns."""
    return {
        "query": batch.query, "key_cache": batch.key_cache, "num_kv_heads": 1,
        "num_heads": batch.heads, "scale_value": SCALE, "block_table": batch.table,
        "context_lens": batch.int32(batch.contexts), "mla_vheadsize": 32,
        "out": torch.full_like(batch.query[..., :32], float("nan")),
    }  # fmt: skip


@pytest.mark.parametrize("ended", [[], [0], [0, 0]])
def test_fusion_attention_sees_everything(torch_npu: Any, ended: list[int]) -> None:
    """Requests whose running total is zero are left out, and tokens that are no request's."""
    for seed in SEEDS:
        batch = random_batch(seed, nz=False, dtype=torch.float16)
        query, more = batch.query, torch.zeros_like(batch.query[:3])
        found = torch_npu.npu_fusion_attention(
            query=torch.cat([query, more]) if ended else query, key=torch.cat(batch.keys),
            value=torch.cat(batch.values), head_num=batch.heads, input_layout="TND", scale=SCALE,
            actual_seq_qlen=[*accumulate(batch.queries), *ended],
            actual_seq_kvlen=[*accumulate(batch.contexts), *ended],
        )  # fmt: skip
        assert_one_rounding(found[0][: len(query)], bidirectional(batch))
        assert bool(found[0][len(query) :].isnan().all())
        assert all(bool(part.isnan().all()) for part in found[1:4])


CHUNKS = random_batch(3, nz=False, dtype=torch.bfloat16)
MASK = fused_arguments(CHUNKS)["atten_mask"]


@pytest.mark.parametrize("version", versions())
@pytest.mark.parametrize("name", [FUSED, f"{FUSED}_v2"])
def test_what_is_not_emulated_is_refused_by_name(install: Install, version: str, name: str) -> None:
    torch_npu = install(version, "a2")
    arguments = fused_arguments(CHUNKS)
    if name.endswith("_v2"):
        arguments = renamed(arguments)
    getattr(torch_npu, name)(**arguments)
    (schema,) = (schema for schema in schemas(version) if schema.name == name)
    refused = []
    for argument in torch._C.parse_schema(schema.text).arguments:
        if argument.name in (*arguments, "pre_tokens", "next_tokens", "query_rope", "key_rope"):
            continue
        refused.append(argument.name)
        with pytest.raises(NotImplementedError, match=rf"^{argument.name}: not emulated"):
            getattr(torch_npu, name)(**arguments, **{argument.name: other(argument)})
    expected = {"pse_shift", "return_softmax_lse", "learnable_sink", "quant_scale_out"}
    if name == FUSED:
        expected = {"pse_shift", "softmax_lse_flag", "key_shared_prefix", "quant_scale2"}
    assert expected <= {*refused}


def other(argument: Any) -> Any:
    """Than its default."""
    kind = str(argument.type)
    if "Tensor" in kind:
        return torch.ones(1)
    if kind == "bool":
        return True
    return [1] if "List" in kind else 1


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"input_layout": "BSH"}, NotImplementedError, "input_layout BSH: not emulated"),
        ({"input_layout": "BNSD_NBSD"}, NotImplementedError, "BNSD_NBSD of several queries"),
        ({"sparse_mode": 0}, NotImplementedError, "sparse_mode 0 with a mask: not emulated"),
        ({"sparse_mode": 2}, NotImplementedError, "sparse_mode 2 with a mask: not emulated"),
        ({"sparse_mode": 5}, ValueError, "sparse_mode 5: expected 0, 3 or 4"),
        ({"actual_seq_lengths": None}, ValueError, "None: expected totals"),
        ({"actual_seq_lengths_kv": None}, ValueError, "None: expected totals"),
        ({"query": CHUNKS.query.half()}, ValueError, "bfloat16, float16: expected all of them"),
        ({"query": CHUNKS.query[..., :20]}, ValueError, "heads of 20 to . KV heads: expected"),
        ({"query": CHUNKS.query[..., :1].expand(-1, -1, 520)}, ValueError, "heads of 520"),
        ({"query": CHUNKS.query[..., :1].expand(-1, -1, 512)}, ValueError, "part of none: exp"),
        ({"query_rope": CHUNKS.query}, ValueError, r"rotary part of \d+: expected one of"),
        ({"num_heads": 260, "num_key_value_heads": 260}, ValueError, "260 heads"),
        ({"num_heads": 65, "num_key_value_heads": 1}, ValueError, "65 heads of .* to 1 KV heads"),
        ({"block_table": CHUNKS.table.long()}, ValueError, "block_table torch.int64"),
        ({"block_table": CHUNKS.table[1:]}, ValueError, "block_table torch.int32"),
        ({"block_size": 24}, ValueError, "blocks of 24: expected a multiple of 16"),
        ({"block_size": 1040}, ValueError, "blocks of 1040: expected a multiple of 16, at most"),
        ({"actual_seq_lengths": [1] * 4097}, ValueError, "4097 requests: expected at most 4096"),
        ({"atten_mask": MASK.tril()}, ValueError, "mask: expected ones above the diagonal"),
        ({"atten_mask": None}, ValueError, "mask none with sparse_mode 3"),
        ({"atten_mask": MASK[:128, :128]}, ValueError, r"mask torch.int8 \[128, 128\]"),
    ],
)
def test_what_fused_attention_refuses(
    torch_npu: Any, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = fused_arguments(CHUNKS)
    torch_npu.npu_fused_infer_attention_score(**arguments)
    with pytest.raises(error, match=message):
        torch_npu.npu_fused_infer_attention_score(**{**arguments, **changed})


def test_a_fractal_cache_is_refused(torch_npu: Any) -> None:
    for name in ("key", "value"):
        arguments = fused_arguments(CHUNKS)
        with pytest.raises(ValueError, match=f"{name} of format 29: expected 2"):
            torch_npu.npu_fused_infer_attention_score(**{**arguments, name: nz(arguments[name])})


TOKENS = torch.zeros(2, 1, 16, dtype=torch.float16)
ENCODER: dict[str, Any] = {
    "query": TOKENS, "key": TOKENS, "value": TOKENS, "head_num": 1, "input_layout": "TND",
    "actual_seq_qlen": [2], "actual_seq_kvlen": [2],
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"atten_mask": MASK}, NotImplementedError, "atten_mask: not emulated"),
        ({"sink": TOKENS, "pse": TOKENS}, NotImplementedError, "pse, sink: not emulated"),
        ({"input_layout": "BSH"}, NotImplementedError, "input_layout BSH"),
        ({"keep_prob": 0.9}, NotImplementedError, "keep_prob 0.9"),
        ({"softmax_layout": "TND"}, NotImplementedError, "softmax_layout 'TND'"),
        ({"inner_precise": 2}, NotImplementedError, "inner_precise 2"),
        ({"actual_seq_qlen": [0]}, ValueError, r"lengths \[0\]: expected running totals"),
        ({"actual_seq_kvlen": None}, ValueError, "lengths None: expected running totals"),
        ({"actual_seq_kvlen": [3]}, ValueError, r"key \[2, 1, 16\], .*: expected \[3, 1, size\]"),
        ({"key": TOKENS.repeat(1, 2, 1)}, ValueError, "in whole groups of 2 KV heads"),
        ({"key": TOKENS.float()}, ValueError, "float16, float32: expected all of them"),
        ({"head_num": 257}, ValueError, r"query \[2, 1, 16\] of 257 heads"),
        ({"query": TOKENS.repeat(1, 1, 49)}, ValueError, "sizes up to 768"),
    ],
)
def test_what_fusion_attention_refuses(
    torch_npu: Any, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    torch_npu.npu_fusion_attention(**ENCODER)
    with pytest.raises(error, match=message):
        torch_npu.npu_fusion_attention(**{**ENCODER, **changed})


def test_what_latents_refuse(torch_npu: Any) -> None:
    batch = random_batch(3, nz=False, dtype=torch.bfloat16, decode=True, kv_heads=1, size=48)
    for changed, message in (
        ({"query": batch.query.half()}, "bfloat16, float16: expected all of them"),
        ({"key_cache": nz(batch.key_cache)}, "key_cache of format 29: expected 2"),
        ({"mla_vheadsize": 49}, "49 columns of values"),
        ({"context_lens": torch.tensor(batch.contexts)}, "context_lens torch.int64"),
    ):
        with pytest.raises(ValueError, match=message):
            torch_npu._npu_paged_attention_mla(**{**latents(batch), **changed})


def test_a_310p_has_none_of_them(install: Install) -> None:
    torch_npu = install(chip="310p")
    arguments = fused_arguments(random_batch(3, nz=False, dtype=torch.float16))
    decode = random_batch(3, nz=False, dtype=torch.float16, decode=True, kv_heads=1, size=48)
    for name, own in (
        (FUSED, arguments),
        (f"{FUSED}_v2", renamed(arguments)),
        ("npu_fusion_attention", ENCODER),
        ("_npu_paged_attention_mla", latents(decode)),
    ):
        with pytest.raises(RuntimeError, match="Ascend 310P does not have this operator"):
            getattr(torch_npu, name)(**own)
