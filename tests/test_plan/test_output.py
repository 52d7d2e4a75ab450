# SPDX-License-Identifier: Apache-2.0
"""Text, JSON and the command line."""

import json
import subprocess
import sys
from pathlib import Path

from planned_models import (
    PlannedModel,
    value,
)
from rich.console import Console

from vllm_ascend_bringup.language import Language
from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.plan import PlanRequest, make_plan
from vllm_ascend_bringup.tools.plan.base import Plan
from vllm_ascend_bringup.tools.plan.rendering import render_plan


def rendered(plan: Plan, language: Language) -> str:
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    render_plan(plan, console, language, explain=True)
    return console.export_text()


def test_the_text_says_everything(planned_model: PlannedModel) -> None:
    plan = make_plan(PlanRequest(planned_model("Qwen3-32B"), "310p", cards=4))
    text = rendered(plan, "en")
    assert plan.command() in text
    for setting in (*plan.flags, *plan.environment, *plan.defaults):
        assert setting.reason.en in text
        assert f"source: {setting.source}" in text
    for recipe in plan.recipes:
        assert all(line in text for line in recipe.lines)
    # A brace is the shell's or JSON's, or a text whose values were forgotten.
    for recipe in plan.recipes:
        text = text.replace("\n".join(recipe.lines), "")
    assert "{" not in text.replace(plan.command(), "").replace(
        value(plan, "--compilation-config") or "", ""
    ).replace(value(plan, "--additional-config") or "", "")


def test_sources_are_public(planned_model: PlannedModel) -> None:
    plan = make_plan(PlanRequest(planned_model("Qwen3-32B"), "a2", nodes=2))
    for setting in (*plan.flags, *plan.environment, *plan.defaults):
        assert setting.source
        assert "/work" not in setting.source


def test_the_chinese_text_is_chinese(planned_model: PlannedModel) -> None:
    for more in ({"cards": 4}, {"tp": 1}):
        plan = make_plan(PlanRequest(planned_model("Qwen3-32B"), "310p", **more))  # type: ignore[arg-type]
        text = rendered(plan, "zh")
        for said in (*plan.notes, *plan.advice, plan.graphs.reason):
            assert said.zh in text
            assert said.en not in text
    assert "单卡显存" in text
    assert "无法部署" in text


def test_the_json(planned_model: PlannedModel) -> None:
    plan = make_plan(PlanRequest(planned_model("Qwen3-32B"), "310p", cards=4))
    content = json.loads(json.dumps(plan.to_json()))
    assert (content["schema_version"], content["command"]) == (1, "plan")
    memory = content["memory"]
    assert {"card_bytes", "usable_bytes", "free_bytes", "parts"} == memory.keys()
    for part in memory["parts"]:
        assert part.keys() == {"id", "title", "bytes", "formula"}
        assert part["title"].keys() == part["formula"].keys() == {"en", "zh"}
    total = sum(part["bytes"] for part in memory["parts"])
    assert memory["free_bytes"] == memory["card_bytes"] - total
    assert content["commands"] == [plan.command()]


def bringup(*arguments: str) -> "subprocess.CompletedProcess[str]":
    code = "from vllm_ascend_bringup.tools.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, "plan", *arguments], capture_output=True,
                          text=True, check=False)  # fmt: skip


def test_the_command(planned_model: PlannedModel, tmp_path: Path) -> None:
    folder = str(planned_model("Qwen3-8B"))
    found = bringup(folder, "--device", "a2", "--json", "--", "--port", "8001")
    assert found.returncode == 0
    assert json.loads(found.stdout)["commands"][0].endswith("--port 8001")
    script = bringup(folder, "--device", "a2", "--script", "--lang", "zh")
    assert script.stdout.startswith("#!/usr/bin/env bash\n")
    too_large = bringup(str(planned_model("Qwen3-32B")), "--device", "310p", "--tp", "1")
    assert too_large.returncode == 13
    assert "does not fit" in too_large.stdout
    wrong = bringup(folder, "--device", "a2", "--tp", "3", "--lang", "zh")
    assert wrong.returncode == 13
    assert "张量并行数 3" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert bringup(str(tmp_path), "--device", "a2").returncode == 4
    assert bringup(folder, "--device", "950").returncode == 2


def test_a_plan_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from vllm_ascend_bringup.tools.plan import PlanRequest, make_plan\n"
        f"make_plan(PlanRequest(Path({str(CHECKPOINT)!r}), '310p'))\n"
        "assert not {'torch', 'vllm', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
