# SPDX-License-Identifier: Apache-2.0
"""The processor and transformers disagree about a call."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

# Those of transformers and of checkpoints; vLLM calls other things processors too.
_PROCESSOR = r"(?!\w*(Logits|Input|Output|MultiModal|Request)Processor)\w*Processor(Fast)?"

SIGNATURE = Signature(
    id="mm-processor-signature",
    title=Text(
        "The multimodal processor does not fit this transformers",
        "多模态 processor 与当前 transformers 不匹配",
    ),
    actions=(
        Text(
            "Compare the checkpoint's transformers_version with the installed one, and "
            "prefer vLLM's own processor",
            "对照权重的 transformers_version 与已安装版本，优先使用 vLLM 自带的 processor",
        ),
        Text(
            "--limit-mm-per-prompt with zeros isolates it, but is not the fix",
            "把 --limit-mm-per-prompt 设为 0 只能用于隔离，不是修复",
        ),
    ),
    patterns=(
        Pattern("skip_tensor_conversion"),
        Pattern("convert_to_tensors", r"convert_to_tensors\(\) got an unexpected keyword"),
        Pattern(
            "processor",
            rf"TypeError: {_PROCESSOR}[\w.]*\(\) "
            r"(got (an unexpected|multiple values)|missing|takes)",
        ),
        Pattern("processor", rf"AttributeError: '{_PROCESSOR}' object has no attribute"),
        Pattern(
            "featureextractor", r"TypeError: \w*FeatureExtractor[\w.]*\(\) (got|missing|takes)"
        ),
        Pattern(
            "values for argument",
            r"got multiple values for (keyword )?argument '(image|video|audio)_processor'",
        ),
        Pattern(
            "for argument",
            r"Received a \w+ for argument \w*(processor|tokenizer|extractor)\w*,"
            r" but an? .*expected",
        ),
        Pattern("failed to apply", rf"Failed to apply {_PROCESSOR} on data", Says.CODE),
        Pattern(
            "error:",
            r"^(TypeError|AttributeError|ValueError|KeyError):",
            Says.GUESS,
            near=r"/transformers/(image_|video_)?process\w*_utils\w*\.py|/image_processing_\w+\.py"
            r"|/processing_\w+\.py",
        ),
    ),
)
