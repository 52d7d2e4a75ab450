# SPDX-License-Identifier: Apache-2.0
"""What the lines before an error tell: the phase that the process was in, the chip, the memory."""

import re

# Frames of vLLM, vllm-ascend and MindIE while parameters are made and filled.
LOADING = (
    r"\b(create_weights|\w*load_weights|\w*weight_loader\w*|load_model|initialize_model|get_model"
    r"|process_weights_after_loading|_?load_(module|column|row|merged|qkv|w13|w2|model_weight)\w*)\b"
    r"|/model_loader/"
)
# Frames once there is a model: profiling, capture, steps.
RUNNING = (
    r"\b(profile_run|_dummy_run|determine_available_memory|determine_num_available_blocks"
    r"|initialize_kv_cache\w*|_initialize_kv_caches|initialize_cache|compile_or_warm_up_model"
    r"|capture_model|execute_model|execute_dummy_batch|_model_forward|forward_impl)\b"
)
# Frames that look up a module in ModelSlim's description of the quantized weights.
QUANT_DESCRIPTION = (
    r"quant_description|is_layer_skipped|get_quant_(method|type)|get_linear_quant"
    r"|quant_config\.py|modelslim_config\.py|packed_modules_mapping"
)
ON_310P = r"310P|_310p\b|Ascend310"

_GIB = {"MiB": 1 / 1024, "GiB": 1.0}
_AMOUNT = re.compile(
    r"(?P<amount>[\d.]+) (?P<unit>[MG]iB) (?P<what>total capacity|free|reserved in total)"
)
# Of the card; what CANN and the driver take for themselves stays well below.
_OTHERS_SHARE = 0.3


def held_by_others(message: re.Match[str]) -> bool:
    """Whether an out-of-memory message of torch shows memory that other processes hold."""
    found = {
        amount["what"]: float(amount["amount"]) * _GIB[amount["unit"]]
        for amount in _AMOUNT.finditer(message.string)
    }
    if len(found) < 3:
        return False
    others = found["total capacity"] - found["free"] - found["reserved in total"]
    return others > _OTHERS_SHARE * found["total capacity"]


def held_by_this_process(message: re.Match[str]) -> bool:
    """The opposite, also where the message gives no amounts."""
    return not held_by_others(message)
