# SPDX-License-Identifier: Apache-2.0
"""What a tensor-parallel size does, from config.json alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vllm_ascend_bringup.errors import SettingsError
from vllm_ascend_bringup.patches.catalog import PATCHES
from vllm_ascend_bringup.patching import ABSENT, CHANGED, MATCHES, Status
from vllm_ascend_bringup.tools import tp_scan
from vllm_ascend_bringup.tools.checkpoint_report import report_checkpoint
from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.tp_scan import BREAKS, COSTS, scan_tp
from vllm_ascend_bringup.tools.vllm_registry import InstalledVllm, installed_vllm


def config(architecture: str, heads: int, kv_heads: int, **more: Any) -> dict[str, Any]:
    return {
        "architectures": [architecture], "num_attention_heads": heads, "hidden_size": heads * 64,
        "num_key_value_heads": kv_heads, **more,
    }  # fmt: skip


def mla(heads: int) -> dict[str, Any]:
    return config("DeepseekV3ForCausalLM", heads, heads, kv_lora_rank=512, qk_rope_head_dim=64)


LLAMA = config("LlamaForCausalLM", 32, 8)
OLMOE = config("OlmoeForCausalLM", 16, 4)
QWEN_VL = config(
    "Qwen2_5_VLForConditionalGeneration", 32, 8, vision_config={"num_heads": 14}
)  # fmt: skip
LLAVA = {
    "architectures": ["LlavaForConditionalGeneration"],
    "text_config": {"num_attention_heads": 24, "num_key_value_heads": 24, "hidden_size": 768},
    "vision_config": {"num_attention_heads": 6},
}
INTERN = config("InternVLChatModel", 32, 8, vision_config={"num_attention_heads": 25})


@pytest.mark.parametrize(
    ("settings", "tp", "severity", "why", "cure"),
    [
        (LLAMA, 3, BREAKS, "32 query heads do not divide by 3", "choose TP=1 or 2 or 4 or 8 or 16"),
        (config("X", 24, 8), 6, BREAKS, "8 KV heads neither divide by 6 nor into it",
         "choose TP=1 or 2 or 4 or 8 or 24"),
        (LLAMA, 16, COSTS, "each of 8 KV heads is on 2 ranks", "choose TP=1 or 2 or 4 or 8 to"),
        (OLMOE, 8, COSTS, "each of 4 KV heads is on 2 ranks", "choose TP=1 or 2 or 4"),
        (QWEN_VL, 4, BREAKS, "the 14 heads of its encoder for pictures do not divide by 4",
         "--mm-encoder-tp-mode data"),
        (LLAVA, 4, BREAKS, "the 6 heads of its encoder for pictures do not divide by 4",
         "choose TP=1 or 2 or 3 or 6, or serve text only: --limit-mm-per-prompt"),
        ({**LLAVA, "architectures": ["Molmo2ForConditionalGeneration"],
          "vit_config": LLAVA["vision_config"], "vision_config": None}, 4, BREAKS,
         "the 6 heads of its encoder for pictures do not divide by 4", "choose TP=1 or 2"),
        (mla(64), 4, COSTS, "MLA has 16 heads on a rank; in graph mode its operator takes 32, 64, "
         "128", "choose TP=1 or 2, or serve with --enforce-eager"),
        (mla(16), 1, COSTS, "MLA has 16 heads on a rank", "no size does without, or serve with"),
        (config("Moondream3ForCausalLM", 8, 4), 1, BREAKS, "no meaning with fewer KV heads",
         "correct the numbers"),
    ],
)  # fmt: skip
def test_a_size_that_is_not_clean(
    settings: dict[str, Any], tp: int, severity: str, why: str, cure: str
) -> None:
    (finding,) = scan_tp(settings, tp, installed_vllm(), "auto")
    assert finding.severity == severity
    assert why in finding.why
    assert cure in finding.cure


@pytest.mark.parametrize(
    ("settings", "tp"),
    [(LLAMA, 8), (OLMOE, 4), (QWEN_VL, 2), (LLAVA, 6), (INTERN, 8), (mla(128), 4), (mla(64), 1),
     (config("Moondream3ForCausalLM", 8, 8), 8), ({"architectures": ["X"]}, 3)],
)  # fmt: skip
def test_a_clean_size(settings: dict[str, Any], tp: int) -> None:
    assert scan_tp(settings, tp, installed_vllm(), "auto") == ()


@pytest.mark.parametrize("patch", [p for p in PATCHES.values() if p.shared_kv_heads], ids=str)
def test_without_its_patch_a_model_breaks_where_ranks_share_heads(patch: Any) -> None:
    for architecture in patch.shared_kv_heads:
        on = {} if patch.setting is None else {patch.setting: True}
        settings = config(architecture, 8, 2, **on)
        vllm = installed_vllm()
        assert [f.severity for f in scan_tp(settings, 4, vllm, "auto")] == [COSTS]
        first, _ = scan_tp(settings, 4, vllm, "off")
        assert first.severity == BREAKS
        assert f"unset VLLM_ASCEND_BRINGUP_PATCHES, so that patch {patch.name}" in first.cure
        assert "or choose TP=1 or 2" in first.cure
        assert scan_tp(settings, 2, vllm, "off") == ()
        if patch.setting:
            off = config(architecture, 8, 2, **{patch.setting: False})
            assert [f.severity for f in scan_tp(off, 4, vllm, "off")] == [COSTS]


def test_a_patch_that_does_not_fit_is_no_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tp_scan, "check", lambda patch, versions: Status(patch, CHANGED, "0"))
    first, _ = scan_tp(OLMOE, 8, installed_vllm(), "auto")
    assert first.severity == BREAKS
    assert "patch olmoe does not fit this vllm (changed), or choose TP=1 or 2 or 4" in first.cure


@pytest.mark.parametrize(
    ("state", "setting", "cure"),
    [
        (MATCHES, "auto", None),
        (MATCHES, "off", "unset VLLM_ASCEND_BRINGUP_PATCHES, so that patch ascend_norm stands in"),
        (CHANGED, "auto", "patch ascend_norm does not fit this vllm_ascend (changed)"),
        (ABSENT, "off", None),  # off Ascend, vLLM's own norm is right
    ],
)
def test_a_model_that_vllm_ascend_answers_wrongly_at_any_size(
    state: str, setting: str, cure: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tp_scan, "check", lambda patch, versions: Status(patch, state, None))
    settings = config("NVLM_D", 64, 8, vision_config={"num_attention_heads": 25})
    found = scan_tp(settings, 8, installed_vllm(), setting)
    assert [finding.severity for finding in found] == [BREAKS] * (2 if cure else 0)
    if cure:
        assert found[0].cure == cure
        assert found[0].why == ("vllm_ascend's own AscendRMSNorm answers wrongly, without an error")


def test_without_vllm_the_patch_is_taken_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tp_scan, "check", lambda patch, versions: Status(patch, ABSENT, None))
    none = InstalledVllm(None, frozenset())
    assert [f.severity for f in scan_tp(OLMOE, 8, none, "auto")] == [COSTS]
    (finding,) = scan_tp(QWEN_VL, 4, none, "auto")
    assert finding.cure.startswith("try --mm-encoder-tp-mode data; else choose TP=1 or 2")


def test_inspect_says_it_of_the_size_asked_for() -> None:
    plain, asked = report_checkpoint(CHECKPOINT), report_checkpoint(CHECKPOINT, 3)
    assert plain.exit_code == 0
    assert asked.exit_code == SettingsError.exit_code
    (problem,) = [problem for problem in asked.problems if problem.severity == "error"]
    assert problem.text.startswith("TP=3: ")
    assert "query heads do not divide by 3; choose TP=1 or 2" in problem.text
    kv_heads = plain.model.kv_heads
    for size in plain.tp_sizes:
        assert bool(size.findings) is (size.tp > kv_heads)
    shared = report_checkpoint(CHECKPOINT, 2 * kv_heads)
    assert shared.exit_code == 0
    assert [p.severity for p in shared.problems if p.text.startswith("TP=")] == ["warning"]


LOADED = """
import json, os, sys
os.environ["VLLM_PLUGINS"] = ""
from vllm_ascend_bringup.tools.engines.engine import set_up
set_up()
from vllm.model_executor.models.registry import _MULTIMODAL_MODELS, ModelRegistry
found = {}
for name in _MULTIMODAL_MODELS:
    try:
        loaded = ModelRegistry._try_load_model_cls(name)
    except Exception:
        continue
    if loaded is not None:
        found[name] = getattr(loaded, "supports_encoder_tp_data", False)
with open(sys.argv[1], "w") as file:
    json.dump(found, file)
"""


def test_which_encoders_can_be_whole_is_read_as_vllm_says(tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    subprocess.run(
        [sys.executable, "-c", LOADED, str(answer)], check=True, capture_output=True, timeout=300
    )
    vllm = installed_vllm()
    loaded = json.loads(answer.read_text())
    assert len(loaded) > 50
    read = {name: vllm.encoder_data_parallel(name) for name in loaded}
    assert {n for n, known in read.items() if known is not None and known != loaded[n]} == set()
    # Classes that differ by platform are not looked for.
    assert len([name for name, known in read.items() if known is None]) <= 5
    assert {True, False} <= set(read.values())
