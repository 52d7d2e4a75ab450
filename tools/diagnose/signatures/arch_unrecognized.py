# SPDX-License-Identifier: Apache-2.0
"""An architecture or model type that nobody knows."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="arch-unrecognized",
    title=Text(
        "vLLM or transformers does not know this architecture or model type",
        "vLLM 或 transformers 不认识该模型架构或模型类型",
    ),
    actions=(
        Text(
            "Read `architectures` and `model_type` in config.json and compare with the "
            "registry's list",
            "查看 config.json 中的 `architectures` 和 `model_type`，与注册表列表对照",
        ),
        Text(
            "Take a vLLM and transformers release that knows it, as a pair with vllm-ascend",
            "使用认识该模型的 vLLM 和 transformers 版本，并与 vllm-ascend 配套",
        ),
        Text(
            "Otherwise register an adapter: `bringup new` drafts a recipe",
            "否则需要注册适配：`bringup new` 可以生成 recipe 草稿",
        ),
    ),
    patterns=(
        Pattern(
            "are not supported for now", r"Model architectures? .* (are|is) not supported for now"
        ),
        Pattern("does not recognize this architecture"),
        Pattern("not supported in-tree anymore"),
        Pattern("was supported in vllm until"),
        Pattern("cannot find model module"),
        Pattern("no model architectures are specified"),
        Pattern(
            "is not compatible with vllm",
            r"(has no vLLM implementation"
            r"|The Transformers implementation of).*not compatible with vLLM",
        ),
        Pattern("unrecognized configuration class"),
        Pattern("unrecognized model in"),
        Pattern(
            "keyerror", r"KeyError: '[a-z]\w*'\s*$", near=r"configuration_auto\.py|CONFIG_MAPPING\["
        ),
        Pattern(
            "error:",
            r"^(Key|Value|Attribute|Type)Error:",
            Says.GUESS,
            near=r"/configuration_auto\.py|/transformers_utils/config\.py",
        ),
        Pattern(
            "model type",
            r"(unsupported|unknown|not supported|不支持).{0,30}model[ _]type"
            r"|model[ _]type\W.{0,60}(not supported|unsupported|不支持)",
            Says.WHAT,
        ),
    ),
)
