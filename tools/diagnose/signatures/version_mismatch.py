# SPDX-License-Identifier: Apache-2.0
"""Package versions that do not fit each other."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="version-mismatch",
    title=Text("Installed package versions do not fit each other", "已安装的软件包版本互不匹配"),
    actions=(
        Text(
            "Print the versions of torch, torch_npu, CANN, NNAL, vllm, vllm-ascend and "
            "transformers",
            "打印 torch、torch_npu、CANN、NNAL、vllm、vllm-ascend 和 transformers 的版本",
        ),
        Text(
            "Compare them with the release's table and install the pinned set again, "
            "torch_npu last",
            "对照发布说明的配套表，重新安装配套版本，torch_npu 最后安装",
        ),
        Text(
            "For a source build of vLLM set VLLM_VERSION to the release it stands for",
            "源码安装的 vLLM 需要把 VLLM_VERSION 设为对应的发布版本",
        ),
    ),
    patterns=(
        Pattern("ei0008", r"\bEI0008\b", Says.WHAT),
        Pattern("no matching distribution found", says=Says.WHAT),
        Pattern("resolutionimpossible", says=Says.WHAT),
        Pattern("conflicting dependencies", says=Says.WHAT),
        Pattern("the conflict is caused by", says=Says.WHAT),
        Pattern("no solution found when resolving", says=Says.WHAT),
        Pattern("was removed in the numpy 2", says=Says.WHAT),
        Pattern("_array_api not found", says=Says.WHAT),
        Pattern("numpy.core.multiarray failed to import", says=Says.WHAT),
        # A torch whose operator registration does not know the annotations of the other side.
        Pattern("infer_schema", r"infer_schema\(.*(unsupported|not supported)", Says.WHAT),
        Pattern("requires a different python", says=Says.WHAT),
        Pattern(
            "cannot import name",
            r"cannot import name '\w+' from '[\w.]+'(?!.*unknown location)",
            Says.GUESS,
        ),
        Pattern(
            "error: argument --",
            r"error: argument --.*(validation error|invalid choice)",
            Says.GUESS,
        ),
        Pattern("unrecognized arguments", r"\berror: unrecognized arguments: --", Says.GUESS),
        Pattern("extra inputs are not permitted", says=Says.GUESS),
        Pattern("could not find a version that satisfies", says=Says.WHAT),
        Pattern(
            "object has no attribute",
            r"AttributeError: '\w+Config' object has no attribute",
            Says.WHAT,
            near=r"transformers/configuration_utils\.py",
        ),
        Pattern(
            "requires",
            r"(Error|Exception): .*requires .{0,30}\b(transformers|torch|torch_npu"
            r"|torch-npu|vllm|tokenizers)\W{0,3}(>=|==|<=|>|<)\s*\d",
        ),
        Pattern("undefined symbol", r"undefined symbol: \S+"),
        Pattern(
            "normal functioning of this module",
            r"is required for a normal functioning of this module",
        ),
        Pattern("versionconflict", r"\b(Contextual)?VersionConflict\b"),
        Pattern("invalid vllm version"),
        Pattern("invalidversion", r"InvalidVersion: Invalid version"),
        Pattern("not found (required by", r"version `(GLIBCXX|CXXABI|GLIBC|GCC)_[\d.]+' not found"),
        Pattern("binary incompatibility", r"size changed, may indicate binary incompatibility"),
        Pattern("operator torchvision::", r"operator torchvision::\w+ does not exist"),
        Pattern("compiled using numpy", r"compiled using NumPy 1\.x cannot be run in", Says.WHAT),
        Pattern(
            "cannot import name",
            r"cannot import name '\w+' from '(transformers|huggingface_hub|tokenizers|torch"
            r"|numpy|pydantic|compressed_tensors|xgrammar|outlines)\b(?!.*unknown location)",
            Says.WHAT,
            near=r"site-packages/(vllm|vllm_ascend|transformers)/|/vllm/vllm/|/vllm_ascend/",
            apart=r"transformers_modules|modeling_\w+\.py",
        ),
        Pattern(
            "which is incompatible",
            r"requires .*, but you have .* which is incompatible",
            Says.WHAT,
        ),
        Pattern("distributionnotfound", says=Says.WHAT),
        Pattern(
            "torch_npu version",
            r"torch_npu version .*(not match|mismatch|does not match)"
            r"|torch version .*not match.*torch_npu",
            Says.WHAT,
        ),
        Pattern(
            "cannot open shared object file",
            r"\blib(cud\w+|cublas\w*|nccl|torch\w*|c10\w*|python3\S*|stdc\+\+)\.so",
            Says.WHAT,
        ),
        Pattern("all_special_tokens_extended", r"has no attribute '?all_special_tokens_extended"),
    ),
)
