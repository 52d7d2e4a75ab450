# SPDX-License-Identifier: Apache-2.0
"""An encoder for pictures whose heads do not divide by the ranks, and the scanner's cure."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_qwen_vl

from vllm_ascend_bringup.tools.tp_scan import BREAKS, scan_tp
from vllm_ascend_bringup.tools.vllm_registry import installed_vllm

# Between two float32 computations in another order.
TOLERANCE = 5e-4


@pytest.mark.engine
def test_a_whole_encoder_on_each_rank_answers_as_transformers_does(tmp_path: Path) -> None:
    folder, answer = tmp_path / "model", tmp_path / "answer.json"
    ran = subprocess.run(
        [sys.executable, tiny_qwen_vl.__file__, str(folder), str(answer)], capture_output=True,
        text=True, timeout=500, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(answer.read_text())

    assert found["weights"] == "AssertionError: 3 is not divisible by 2"
    assert len(found["data"]) == len(found["transformers"])
    for step, row in zip(found["data"], found["transformers"], strict=True):
        assert max(step.values()) == pytest.approx(max(row), abs=TOLERANCE)
        for token, logprob in step.items():
            assert logprob == pytest.approx(row[int(token)], abs=TOLERANCE)

    config = json.loads((folder / "config.json").read_text())
    (finding,) = scan_tp(config, 2, installed_vllm(), "auto")
    assert finding.severity == BREAKS
    assert finding.why == "the 3 heads of its encoder for pictures do not divide by 2"
    assert finding.cure.startswith("--mm-encoder-tp-mode data")
