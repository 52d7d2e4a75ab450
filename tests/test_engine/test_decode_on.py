# SPDX-License-Identifier: Apache-2.0
"""VLLM_ASCEND_BRINGUP_DECODE_ON in the real engine, whose parameters count as another device's.

There is none here: codes are copied from the host to the host, by the code that would copy them to
an NPU.
"""

import math
import re
from pathlib import Path

import pytest
from engine_kit import decoding_report, prompts, run_script
from safetensors import safe_open

from vllm_ascend_bringup.tools.demo import CHECKPOINT

pytestmark = pytest.mark.engine

PROMPTS = prompts(448, 3)


# Starts an engine whose parameters all count as another device's, and continues the prompts.
_ENGINE = """
import functools, json, sys
from pathlib import Path

def main(asked, answered):
    from vllm_ascend_bringup import loader
    from vllm_ascend_bringup.tools.engines.engine import generate

    loader.Decoder = functools.partial(loader.Decoder, force_staging=True)
    made = generate(Path(asked["model"]), asked["prompts"], 8)
    answered.write_text(json.dumps(made.tokens))

if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
"""


def stored(suffix: str) -> int:
    """Elements of the checkpoint's tensors whose names end so."""
    total = 0
    for shard in CHECKPOINT.glob("*.safetensors"):
        with safe_open(shard, "pt") as file:
            names = [name for name in file.keys() if name.endswith(suffix)]  # noqa: SIM118
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    return total


def test_on_the_device_half_the_bytes_make_the_same_tokens(tmp_path: Path) -> None:
    found = {}
    script = tmp_path / "engine.py"
    script.write_text(_ENGINE)
    for where in ("host", "device"):
        tokens, log = run_script(
            script, {"model": str(CHECKPOINT), "prompts": PROMPTS},
            environment={"VLLM_ASCEND_BRINGUP_DECODE_ON": where},
        )  # fmt: skip
        line = re.search(r"(\d+) bytes copied to the device, where (\d+) weights", log)
        assert line, log
        (report,) = decoding_report(log)
        assert report[2] == report[3]  # every element was decoded
        found[where] = (tokens, report[2], int(line[1]), int(line[2]))
    (tokens, elements, copied, _), on_device = found["host"], found["device"]
    assert found["host"][3] == 0
    assert copied == 2 * elements
    # One byte an element, and four for each of a weight's scales.
    scales = stored("weight_scale_inv")
    assert on_device == (tokens, elements, elements + 4 * scales, 28)
