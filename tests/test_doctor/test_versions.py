# SPDX-License-Identifier: Apache-2.0
"""Ascend's version numbers in their order."""

import itertools

import pytest

from vllm_ascend_bringup.tools.doctor.versions import (
    ascend_version,
    older,
    package_version,
    required,
    satisfies,
)

ORDERED = (
    "22.0.4", "23.0.rc3", "23.0.6", "23.0.7", "24.1.rc1", "24.1.RC2", "24.1.rc2.1", "24.1.rc3.7",
    "24.1.0", "24.1.1", "25.0.rc1.1", "25.2.0", "25.10.0", "26.0.rc2",
)  # fmt: skip
CANN = (
    "8.0.RC3", "8.0.0", "8.1.RC1.alpha001", "8.1.RC1.beta1", "8.1.RC1", "8.3.RC2", "8.5.0.alpha002",
    "8.5.0", "9.0.0-beta.2", "9.0.0", "9.1.0",
)  # fmt: skip


@pytest.mark.parametrize("versions", [ORDERED, CANN], ids=["driver", "CANN"])
def test_order(versions: tuple[str, ...]) -> None:
    assert sorted(reversed(versions), key=ascend_version) == list(versions)
    assert all(older(a, b) for a, b in itertools.pairwise(versions))
    assert not any(older(version, version) for version in versions)


def test_case_and_builds_do_not_count() -> None:
    assert ascend_version("8.3.RC2") == ascend_version("8.3.rc2")
    assert ascend_version("9.1.0.B150") == ascend_version("9.1.0")


@pytest.mark.parametrize("text", ["", "unknown", "rc1.0"])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="is no version"):
        ascend_version(text)


def test_what_a_package_requires_of_this_python() -> None:
    requires = ("torch==2.10.0", "torch<2; python_version < '3'", "torchvision", "x; extra == 'y'")
    (torch,) = required(requires, "torch", "x")
    assert str(torch) == "torch==2.10.0"
    for version, fits in (
        ("2.10.0", True),
        ("2.10.0+cpu", True),
        ("2.10.1", False),
        ("dev", False),
    ):
        assert satisfies(version, torch) is fits
    assert satisfies("0.25.0.dev1", required(requires, "torchvision")[0])
    assert package_version("dev") is None
