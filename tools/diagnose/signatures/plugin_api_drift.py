# SPDX-License-Identifier: Apache-2.0
"""The plugin calls something that its counterpart does not have."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

# Frames in which an exception means something else.
_OTHER_STEPS = (
    r"\bload_weights\b|weight_loader|in (capture_model|init_process_group|init_distributed\w*)\b"
    r"|quant_description"
)

SIGNATURE = Signature(
    id="plugin-api-drift",
    title=Text(
        "The plugin calls a signature or attribute that its counterpart lacks",
        "插件调用的接口或属性在配套软件里不存在",
    ),
    actions=(
        Text(
            "Check that vllm and vllm-ascend are a released pair, both from this interpreter",
            "确认 vllm 与 vllm-ascend 是配套发布的版本，并且都来自当前解释器",
        ),
        Text(
            "If they are, it is a defect of that feature: turn the feature off, or look "
            "for a newer patch release",
            "如果版本配套，则是该特性的缺陷：关闭该特性，或者查找更新的补丁版本",
        ),
    ),
    patterns=(
        # Code for another accelerator runs because the plugin did not replace it.
        Pattern("compiled with cuda enabled", r"Torch not compiled with CUDA enabled", Says.CODE),
        Pattern(
            "unexpected keyword argument",
            r"TypeError: .*got an unexpected keyword argument(?! 'skip_tensor_conversion')",
            Says.WHAT,
        ),
        Pattern(
            "required positional",
            r"TypeError: .*missing \d+ required positional arguments?",
            Says.WHAT,
        ),
        Pattern(
            "required keyword-only",
            r"TypeError: .*missing \d+ required keyword-only arguments?",
            Says.WHAT,
        ),
        Pattern(
            "positional argument",
            r"TypeError: .*takes .*positional arguments? but \d+ (was|were) given",
            Says.WHAT,
        ),
        Pattern(
            "got multiple values for",
            r"TypeError: .*got multiple values for (keyword )?argument",
            Says.WHAT,
        ),
        Pattern("can't instantiate abstract class", says=Says.WHAT),
        # NoneType: something was not made, not something renamed.
        Pattern(
            "object has no attribute",
            r"AttributeError: (type object )?'(?!NoneType|_OpNamespace|ForkAwareLocal"
            r"|function)[\w.]+'( object)? has no attribute",
            Says.WHAT,
        ),
        Pattern(
            "has no attribute",
            r"AttributeError: (module '(vllm|torch|torch_npu|torchair"
            r"|transformers)(?!_ascend)[\w.]*'|type object '\w+') has no attribute '(?!npu')",
            Says.WHAT,
        ),
        Pattern(
            "cannot import name",
            r"cannot import name '\w+' from '?(partially initialized module '?)?(vllm"
            r"|torch_npu|torchair)\b(?!_)(?!.*unknown location)",
            Says.WHAT,
        ),
        Pattern(
            "from 'vllm_ascend", r"cannot import name '\w+' from 'vllm_ascend\b.*\.py\)", Says.WHAT
        ),
        Pattern("no module named", r"No module named '?vllm\.(?!_C\b|_version\b)\w", Says.WHAT),
        Pattern("'_opnamespace' 'vllm' object has no attribute", says=Says.WHAT),
        Pattern("forward context is not set", says=Says.WHAT),
        Pattern("expected all tensors to be on the same device", says=Says.CODE),
        # A layer, not a weight: the plugin's table of layers is not the model's.
        Pattern("keyerror", r"KeyError: '[\w.]+\.(linear_|mla_)?attn'", Says.WHAT),
        *(
            Pattern(
                anchor,
                r"^\s*(Attribute|Type|Name|UnboundLocal|Import|NotImplemented|Key|Assertion)Error\b",
                Says.GUESS,
                near=r"/vllm_ascend/",
                apart=_OTHER_STEPS,
            )
            for anchor in ("error:", "assertionerror")
        ),
        Pattern(
            "values to unpack", r"ValueError: (not enough|too many) values to unpack", Says.CODE
        ),
    ),
)
