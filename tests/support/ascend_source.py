# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend's published sources, where `make test-ascend` has fetched them."""

from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).resolve().parents[2] / ".vllm-ascend").glob("*"))
MARKS = [
    pytest.mark.ascend,
    pytest.mark.skipif(not SOURCES, reason="no vllm-ascend source; `make test-ascend` fetches it"),
]


@pytest.fixture(params=SOURCES, ids=lambda folder: folder.name)
def source(request: pytest.FixtureRequest) -> Path:
    """The folder that holds one version's ``vllm_ascend``."""
    folder: Path = request.param
    return folder
