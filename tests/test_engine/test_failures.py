# SPDX-License-Identifier: Apache-2.0
"""Broken checkpoints and settings in the real engine: one clear error, never wrong answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_kit import (
    EngineError,
    prompts,
    run_engine,
    run_script,
    wait_until_left,
)
from planted import SCALE, WEIGHT, Tensors, broken_demo, drop

from vllm_ascend_bringup.errors import ServeError
from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.demo.facts import FACTS
from vllm_ascend_bringup.tools.engines.engine import SMALL
from vllm_ascend_bringup.tools.vllm_server import CPU_ARGUMENTS, CPU_ENVIRONMENT, VllmServer

pytestmark = pytest.mark.engine

PROMPTS = prompts(448, 2)


def _refused(model: Path, **engine: Any) -> str:
    """The log of an engine that must not start."""
    with pytest.raises(EngineError) as refusal:
        run_engine(model, PROMPTS, **engine)
    assert refusal.value.code != 0
    return refusal.value.log


@pytest.fixture
def refused_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path, dict[str, str]], str]:
    """Start a server that must not come up; returns the error, and checks nothing is left."""
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def start(model: Path, environment: dict[str, str]) -> str:
        server = VllmServer(
            str(model),
            CPU_ARGUMENTS,
            environment={**CPU_ENVIRONMENT, **environment},
            log=tmp_path / "server.log",
        )
        with pytest.raises(ServeError, match=r"exited with code [1-9]") as refusal, server:
            pass
        wait_until_left(folder)
        return str(refusal.value)

    return start


def test_server_refuses_a_checkpoint_whose_scale_is_missing(
    refused_server: Callable[[Path, dict[str, str]], str], tmp_path: Path
) -> None:
    model = broken_demo(tmp_path / "model", drop(SCALE))

    message = refused_server(model, {})

    assert f"low-precision weight {WEIGHT}" in message
    assert "has no scale" in message


def test_server_refuses_an_unknown_setting_with_its_choices(
    refused_server: Callable[[Path, dict[str, str]], str],
) -> None:
    message = refused_server(CHECKPOINT, {"VLLM_ASCEND_BRINGUP_DEQUANT": "bogus"})

    assert "VLLM_ASCEND_BRINGUP_DEQUANT='bogus'" in message
    assert "auto, always, never" in message


def test_codes_without_settings_are_refused_though_stock_vllm_loads_them(tmp_path: Path) -> None:
    def drop_scales(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.endswith("_scale_inv")]:
            del tensors[name]

    model = broken_demo(
        tmp_path / "model", drop_scales, lambda config: config.pop("quantization_config")
    )

    garbage = run_engine(model, PROMPTS, plugin=False)
    log = _refused(model)

    # Stock vLLM serves it (0.32.0 warns of some of the weights), so it is on us to refuse.
    assert [len(tokens) for tokens in garbage.tokens] == [16, 16]
    assert "is about to be copied undecoded into" in log
    assert "FormatError: tensor model.layers." in log


def test_a_missing_weight_is_reported_as_a_partly_filled_parameter(tmp_path: Path) -> None:
    model = broken_demo(tmp_path / "model", drop(WEIGHT, SCALE))

    log = _refused(model)

    # Four query and two KV heads of 64: k_proj is a quarter of the 512 rows of width 256.
    assert (
        "LoadError: parameters not filled: "
        f"model.layers.1.self_attn.qkv_proj.weight ({384 * 256} of {512 * 256} elements)" in log
    )


# vLLM skips a bias that its model has no parameter for; the other name it refuses by itself.
@pytest.mark.parametrize("name", ["self_attn.q_proj.bias", "self_attn.unheard_of.weight"])
def test_a_tensor_that_the_model_does_not_know_is_an_error(name: str, tmp_path: Path) -> None:
    extra = f"model.layers.0.{name}"

    def add(tensors: Tensors) -> None:
        tensors[extra] = torch.ones(256, dtype=torch.bfloat16)

    log = _refused(broken_demo(tmp_path / "model", add))

    if name.endswith("bias"):
        assert f"LoadError: tensors that no parameter took: {extra}" in log
    else:
        assert "Error: " in log
        assert "unheard_of" in log


def test_a_checkpoint_that_fits_float16_answers_right_in_float16() -> None:
    import transformers

    hf: Any = transformers
    tokenizer = hf.AutoTokenizer.from_pretrained(CHECKPOINT)
    asked = [tokenizer.encode(fact.plain_prompt) for fact in FACTS]

    answer = run_engine(CHECKPOINT, asked, dtype="float16")

    assert "weights to torch.float16" in answer.log
    for fact, tokens in zip(FACTS, answer.tokens, strict=True):
        assert tokenizer.decode(tokens).startswith(fact.plain_continuation)


def test_a_scale_that_overflows_float16_is_an_error_naming_the_tensor(tmp_path: Path) -> None:
    def blow_up(tensors: Tensors) -> None:
        tensors[SCALE][0, 0] = 1e3  # times 448, the largest code, which every block holds

    log = _refused(broken_demo(tmp_path / "model", blow_up), dtype="float16")

    assert f"values of {WEIGHT} in model.safetensors exceed float16" in log


_ENGINE_FROM_EDITED_CONFIG = """
import copy, json, sys
from pathlib import Path


def main(asked, answered):
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    config = EngineArgs(**asked["engine"]).create_engine_config()
    model = config.model_config
    views = {
        name: view.quantization_config
        for name in ("hf_config", "hf_text_config", "model_arch_config")
        if (view := getattr(model, name, None)) is not None
    }
    answered.write_text(json.dumps({
        "views": views,
        "quantization": model.quantization,
        "quant_description": config.quant_config.quant_description,
    }))
    if asked["edit"] == "none":
        return
    if asked["edit"] == "hf_config":
        model.hf_config.quantization_config = asked["settings"]
    elif asked["edit"] == "inner config":
        inner = copy.deepcopy(model.hf_config)
        inner.quantization_config = asked["settings"]
        model.hf_config.text_config = inner
    elif asked["edit"] == "quantization":
        model.quantization = None
    LLMEngine.from_vllm_config(config)
    print("the engine started")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
"""


def _edited(tmp_path: Path, edit: str) -> Any:
    """What the engine's config says, once an engine with ``edit`` in its config was started."""
    script = tmp_path / "edited.py"
    script.write_text(_ENGINE_FROM_EDITED_CONFIG)
    settings = json.loads((CHECKPOINT / "config.json").read_text())["quantization_config"]
    engine = {"model": str(CHECKPOINT), **SMALL}
    return run_script(script, {"engine": engine, "edit": edit, "settings": settings})[0]


def test_every_view_of_the_settings_says_ascend_dequant(tmp_path: Path) -> None:
    answer = _edited(tmp_path, "none")

    published = json.loads((CHECKPOINT / "config.json").read_text())
    facts = {name: published[name] for name in (
        "model_type", "num_attention_heads", "num_key_value_heads", "head_dim")}  # fmt: skip
    rewritten = {
        "quant_method": "ascend_dequant",
        "source": published["quantization_config"],
        "facts": facts,
    }
    assert answer["views"] == dict.fromkeys(
        ("hf_config", "hf_text_config", "model_arch_config"), rewritten
    )
    assert answer["quantization"] == "ascend_dequant"
    assert answer["quant_description"] == {}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("hf_config", "quantization settings are still visible in hf_config.quantization_config"),
        ("inner config", "are still visible in text_config.quantization_config"),
        ("quantization", "is about to be copied undecoded into"),
    ],
)
def test_a_view_that_was_not_rewritten_stops_the_load(
    edit: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(EngineError) as refusal:
        _edited(tmp_path, edit)

    assert message in refusal.value.log
    assert "the engine started" not in refusal.value.log


WRONG_RECIPES = {
    "unknown-class": ('serve_as = "NoSuchForCausalLM"', "has no class NoSuchForCausalLM"),
    "two-keys-to-one": (
        "[[rule]]\nregex = 'layers\\.1\\.'\nto = 'layers.0.'", "both become model.layers.0."
    ),
    "override": (
        '[config]\nrms_norm_eps = { was = 0.5, now = 0.1 }', "the old value that the recipe states"
    ),
    "drops-a-weight": (
        '[[rule]]\nsuffix = "norm.weight"\ndrop = true', "parameters not filled: model.layers.0"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_RECIPES)
def test_wrong_recipe_stops_the_start(name: str, tmp_path: Path) -> None:
    body, message = WRONG_RECIPES[name]
    (tmp_path / "r.toml").write_text(f'architecture = "Qwen3ForCausalLM"\n{body}\n')
    log = _refused(
        CHECKPOINT, environment={"VLLM_ASCEND_BRINGUP_RECIPES": str(tmp_path / "r.toml")}
    )
    assert message in log


def test_rule_that_matches_nothing_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        'architecture = "Qwen3ForCausalLM"\n[[rule]]\nprefix = "model.layer."\nto = "x."\n'
    )
    own = {"VLLM_ASCEND_BRINGUP_RECIPES": str(tmp_path / "r.toml")}
    log = run_engine(CHECKPOINT, PROMPTS, tokens=2, environment=own).log
    assert "prefix 'model.layer.' to 'x.' matches nothing; nearest: model.layers.0" in log
