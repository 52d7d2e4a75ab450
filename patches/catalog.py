# SPDX-License-Identifier: Apache-2.0
"""All patches. Each is a function of a file beside this one; several may share it."""

from collections.abc import Mapping
from types import MappingProxyType

from vllm_ascend_bringup.patching import Patch

_OURS = "vllm_ascend_bringup.patches"
_MODELS = "vllm.model_executor.models"
_VLLM = "https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/model_executor"
_ASCEND = "https://github.com/vllm-project/vllm-ascend/blob/v0.26.0rc1/vllm_ascend"
_TESTED = ">=0.27.1,<=0.32.0"
_310P = "vllm_ascend._310p.attention"
_ASCEND_TESTED = ">=0.23.0,<=0.26.0"
_GATHERED = (
    "with more ranks than KV heads it gathers K of all ranks, replicas included, and normalizes "
    "it with a weight of another width: the first request fails"
)
_DISTINCT = "it normalizes K over distinct heads"
_UNEVEN = (
    "the transformers backend's norm refuses K of which ranks share heads, unless each has all "
    "of it"
)
_VARIANCE = (
    "it ignores var_hidden_size: InternViT with added heads (NVLM-D) gets a mean over too many "
    "columns, at any tensor-parallel size, without an error"
)

PATCHES: Mapping[str, Patch] = MappingProxyType(
    {
        patch.name: patch
        for patch in (
            Patch(
                name="olmoe",
                target=f"{_MODELS}.olmoe:OlmoeAttention",
                replacement=f"{_OURS}.whole_norms:attention",
                why=_GATHERED,
                upstream=f"{_VLLM}/models/olmoe.py#L190",
                versions=_TESTED,
                until=_DISTINCT,
                fingerprints=frozenset({"fe5876f4e70e6b3b"}),
                shared_kv_heads=("OlmoeForCausalLM",),
            ),
            Patch(
                name="olmo_hybrid",
                target=f"{_MODELS}.olmo_hybrid:OlmoHybridAttention",
                replacement=f"{_OURS}.whole_norms:attention",
                why=_GATHERED,
                upstream=f"{_VLLM}/models/olmo_hybrid.py#L164",
                versions=_TESTED,
                until=_DISTINCT,
                fingerprints=frozenset({"5a02a0ca5dc8fee5", "ffec03fb57139e79"}),
                shared_kv_heads=("OlmoHybridForCausalLM",),
            ),
            Patch(
                name="molmo",
                target=f"{_MODELS}.molmo:MolmoAttention",
                replacement=f"{_OURS}.whole_norms:attention",
                why=_GATHERED,
                upstream=f"{_VLLM}/models/molmo.py#L481",
                versions=_TESTED,
                until=_DISTINCT,
                fingerprints=frozenset({"7b844f251bc515c5", "ce5629b336382eb9"}),
                shared_kv_heads=("MolmoForCausalLM",),
                setting="attention_layer_norm",
            ),
            Patch(
                name="molmo2",
                target=f"{_MODELS}.molmo2:Molmo2Attention",
                replacement=f"{_OURS}.whole_norms:attention",
                why=_GATHERED,
                upstream=f"{_VLLM}/models/molmo2.py#L953",
                versions=_TESTED,
                until=_DISTINCT,
                fingerprints=frozenset({"b5b697252da64420", "1a1c51cedd61bce6"}),
                shared_kv_heads=("Molmo2ForConditionalGeneration",),
                setting="use_qk_norm",
            ),
            Patch(
                name="commandr",
                target=f"{_MODELS}.commandr:CohereAttention",
                replacement=f"{_OURS}.commandr:attention",
                why="with more ranks than KV heads a rank takes the norm weight of another head, "
                "without an error, or of none, and then loading fails",
                upstream=f"{_VLLM}/models/commandr.py#L259",
                versions=_TESTED,
                until="the weight of k_norm is divided as K is",
                fingerprints=frozenset({"56b226a8df73fcec", "a78b64a40606c9c0"}),
                shared_kv_heads=("CohereForCausalLM", "Cohere2ForCausalLM"),
                setting="use_qk_norm",
            ),
            Patch(
                name="gpt_oss",
                target=f"{_MODELS}.gpt_oss:OAIAttention",
                replacement=f"{_OURS}.shared_kv_heads:gpt_oss",
                why="with more ranks than KV heads it counts a part of a head for each rank",
                upstream=f"{_VLLM}/models/gpt_oss.py#L135",
                versions=_TESTED,
                until="no rank has fewer than one KV head",
                fingerprints=frozenset({"1c2d18b478f2474b"}),
                shared_kv_heads=("GptOssForCausalLM", "OpenAIPrivacyFilterForTokenClassification"),
            ),
            Patch(
                name="internlm2",
                target=f"{_MODELS}.internlm2:InternLM2Attention",
                replacement=f"{_OURS}.internlm2:attention",
                why="with more ranks than KV heads it gathers replicas as if each were another "
                "head: the profile run fails",
                upstream=f"{_VLLM}/models/internlm2.py#L157",
                versions=_TESTED,
                until="split_qkv leaves replicas out",
                fingerprints=frozenset({"c134f42a092530a3"}),
                shared_kv_heads=("InternLM2ForCausalLM", "InternLM2ForRewardModel"),
            ),
            Patch(
                name="param2moe",
                target=f"{_MODELS}.param2moe:Param2MoEAttention",
                replacement=f"{_OURS}.shared_kv_heads:param2moe",
                why="it refuses more ranks than KV heads",
                upstream=f"{_VLLM}/models/param2moe.py#L121",
                versions=_TESTED,
                until="it lets ranks share KV heads",
                fingerprints=frozenset({"7665eb2c4535a8eb", "36a56d539c8496ff"}),
                shared_kv_heads=("Param2MoEForCausalLM",),
            ),
            Patch(
                name="openpangu",
                target=f"{_MODELS}.openpangu:OpenPanguSinkAttention",
                replacement=f"{_OURS}.shared_kv_heads:openpangu",
                why="it refuses more ranks than KV heads, and (0.32) its projection takes q, k and "
                "v by number, while its model loads them by name",
                upstream=f"{_VLLM}/models/openpangu.py#L562",
                versions=_TESTED,
                until="it lets ranks share KV heads and has a QKVParallelLinear",
                fingerprints=frozenset({"5ae02335a70d195c", "078919d96fbfb624"}),
                shared_kv_heads=("PanguEmbeddedForCausalLM", "PanguProMoEV2ForCausalLM"),
                setting="param_sink_number",
            ),
            Patch(
                name="transformers_norm",
                target=f"{_MODELS}.transformers.fusers.rms_norm:TPAwareRMSNorm",
                builds_on=("TPAwareNormMixin",),
                replacement=f"{_OURS}.transformers_norm:norm",
                why=_UNEVEN,
                upstream=f"{_VLLM}/models/transformers/fusers/rms_norm.py#L118",
                versions=_TESTED,
                until=_DISTINCT,
                fingerprints=frozenset({"65347ea433fe30e1"}),
                shared_kv_heads=("Olmo2ForCausalLM", "Olmo3ForCausalLM", "FlexOlmoForCausalLM"),
            ),
            Patch(
                name="cpu_router",
                target="vllm.model_executor.layers.fused_moe.router.cpu_router:CPURouter",
                replacement=f"{_OURS}.cpu_router:router",
                why="on CPU it cannot choose experts by sigmoid without groups (MiniMax-M2)",
                upstream=f"{_VLLM}/layers/fused_moe/router/cpu_router.py#L239",
                versions="==0.32.0",
                until="it takes sigmoid without groups",
                fingerprints=frozenset({"517e68d7b98b8798"}),
            ),
            Patch(
                name="routed_experts",
                target="vllm.model_executor.layers.fused_moe.routed_experts:"
                "RoutedExperts.load_weights",
                replacement=f"{_OURS}.routed_experts:load_weights",
                why="it drops a router's bias that is stored beside the experts, without an error: "
                "Laguna chooses other experts then",
                upstream=f"{_VLLM}/layers/fused_moe/routed_experts.py#L981",
                versions="==0.32.0",
                until="it loads e_score_correction_bias",
                fingerprints=frozenset({"cabe82be129fda0c"}),
            ),
            Patch(
                name="cpu_rotary",
                target="vllm.model_executor.layers.rotary_embedding.base:"
                "RotaryEmbedding.forward_cpu",
                replacement=f"{_OURS}.cpu_rotary:forward_cpu",
                why="on CPU it rotates queries [tokens, heads, size] wrongly, without an error: "
                "DeepSeek-V2 and V3, LFM2",
                upstream=f"{_VLLM}/layers/rotary_embedding/base.py#L298",
                versions=_TESTED,
                until="its operator heeds the dimension of heads",
                fingerprints=frozenset({"f9209858b77cc155"}),
            ),
            Patch(
                name="ascend_norm",
                target="vllm_ascend.ops.layernorm:AscendRMSNorm",
                replacement=f"{_OURS}.ascend_norm:norm",
                why=_VARIANCE,
                upstream=f"{_ASCEND}/ops/layernorm.py#L63",
                versions=_ASCEND_TESTED,
                until="forward_oot heeds variance_size_override",
                fingerprints=frozenset({"f45b9a39cf38efc6", "b233a0a5868a1af4"}),
                wrong_without=("NVLM_D",),
            ),
            Patch(
                name="ascend_norm_310p",
                target="vllm_ascend._310p.ops.layernorm:AscendRMSNorm310",
                replacement=f"{_OURS}.ascend_norm:norm",
                why=_VARIANCE,
                upstream=f"{_ASCEND}/_310p/ops/layernorm.py#L9",
                versions=_ASCEND_TESTED,
                until="forward_oot heeds variance_size_override",
                fingerprints=frozenset({"4ff99f5f75afa32b"}),
                wrong_without=("NVLM_D",),
            ),
            Patch(
                name="compressed_masks_310p",
                target=f"{_310P}.attention_mask:is_compressed_mask_supported",
                replacement=f"{_OURS}.attention_310p:compressed_masks",
                why="it trusts torch_npu's list of functions, which names operators that the "
                "installed NNAL lacks, or computes wrongly",
                upstream=f"{_ASCEND}/_310p/attention/attention_mask.py#L28",
                versions=_ASCEND_TESTED,
                until="it runs the operators",
                fingerprints=frozenset({"1d7cd1f4d213fc6b"}),
            ),
            Patch(
                name="prompt_masks_310p",
                target=f"{_310P}.metadata_builder:AscendAttentionMetadataBuilder310",
                replacement=f"{_OURS}.attention_310p:metadata_builder",
                why="it makes a mask of the longest sequence that the model allows, squared: "
                "32 GiB for 131,072 tokens",
                upstream=f"{_ASCEND}/_310p/attention/metadata_builder.py#L48",
                versions=_ASCEND_TESTED,
                until="its mask is as long as the prompts of a batch",
                fingerprints=frozenset({"899d5c04a3e0ca93"}),
            ),
            Patch(
                name="attention_310p",
                target=f"{_310P}.attention_v1:AscendAttentionBackendImpl310",
                replacement=f"{_OURS}.attention_310p:attention",
                why="it copies the rows of a chunk from another such mask, in every layer; it "
                "ignores sliding windows; it may pool with an operator that cannot",
                upstream=f"{_ASCEND}/_310p/attention/attention_v1.py#L102",
                versions=_ASCEND_TESTED,
                until="it makes these rows itself, with the window, and refuses what it ignores",
                fingerprints=frozenset({"37d4aac47fcf9b2d"}),
            ),
        )
    }
)
