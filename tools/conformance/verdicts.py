# SPDX-License-Identifier: Apache-2.0
"""What the findings about an architecture mean, and which failures are explained."""

from dataclasses import dataclass

from vllm_ascend_bringup.tools.conformance.results import Result


@dataclass(frozen=True)
class Verdict:
    """``outcome``: pass, skipped, or fail and whose it is. ``why``: empty if it passes.

    ``explained``: whether there is nothing to look into.
    """

    outcome: str
    why: str = ""
    explained: bool = True


SKIPPED = {
    "InklingForCausalLM": "vLLM starts it with its own tokenizer only, and these models have none",
}
_MAMBA_1 = "its Mamba-1 layer asks for a third dimension of convolution weights that have two here"
# More about what stock vLLM cannot load or run; its error alone is enough for the verdict.
_CANNOT = {
    "DbrxForCausalLM": "the parameter is called experts.routed_experts.w13_weight",
    "DeepseekV4ForCausalLM": "its config class refuses what transformers' class writes",
    "FalconMambaForCausalLM": _MAMBA_1,
    "JambaForCausalLM": _MAMBA_1,
    "KimiLinearForCausalLM": "its CPU worker looks into every imported module and trips over "
    "llvmlite, which its own module for this model imports",
    "LongcatFlashForCausalLM": "this operation is not in its CPU build",
    "MambaForCausalLM": _MAMBA_1,
    "OlmoHybridForCausalLM": "it needs Triton, which has no CPU backend here",
}


def judge(result: Result) -> Verdict:
    """Whose a failure is: vLLM's if it fails without us too, and ours if only fp8 fails."""
    name = result.architecture
    if result.skipped:
        return Verdict("skipped", result.skipped)
    if result.build_error:
        return Verdict("fail (the sweep)", f"no tiny model: {result.build_error}", explained=False)
    if result.dense_error:
        more = f" ({_CANNOT[name]})" if name in _CANNOT else ""
        return Verdict("fail (vLLM)", f"stock vLLM on the dense twin: {result.dense_error}{more}")
    if result.fp8_error:
        return Verdict("fail (ours)", f"only fp8 fails: {result.fp8_error}", explained=False)
    if not result.equal:
        return Verdict("fail (ours)", "fp8 and its dense twin answer differently", explained=False)
    if result.agrees and result.patched:
        alone = f"fails: {result.stock_error}" if result.stock_error else "answers otherwise"
        return Verdict("pass (patched)", f"vLLM alone {alone}")
    if result.agrees:
        return Verdict("pass")
    why = result.transformers_error or "vLLM and transformers differ on the dense twin"
    return Verdict("fail (unexplained)", f"fp8 = dense, but {why}", explained=False)
