# SPDX-License-Identifier: Apache-2.0
"""Rules about packages: which versions, and where they come from."""

import pytest
from doctor_kit import found, severities

from vllm_ascend_bringup.tools.doctor.facts import (
    AscendSource,
    Imported,
    Library,
    Origin,
    Package,
    Script,
)

SITE = "/venv/lib/python3.11/site-packages"
ASCEND = {"vllm-ascend": Package("vllm-ascend", "0.23.0")}


def imported(version: "str | None", error: "str | None" = None) -> Imported:
    return Imported(version, None, error)


@pytest.mark.parametrize(
    ("vllm", "plugin", "expected"),
    [
        ("0.23.0", "0.23.0", []), ("0.23.0", "0.23.0rc1", []), ("0.23.0", "0.23.0.post1", []),
        ("0.23.1", "0.23.0", ["warning"]), ("0.22.1", "0.23.0", ["error"]),
        ("0.24.0", "0.23.0", ["error"]), ("dev", "0.23.0", []), (None, "0.23.0", []),
    ],
)  # fmt: skip
def test_pairing(vllm: "str | None", plugin: str, expected: list[str]) -> None:
    packages = {"vllm-ascend": Package("vllm-ascend", plugin)}
    assert severities("pairing", imported=imported(vllm), packages=packages) == expected
    assert severities("pairing", imported=imported(vllm), packages={}) == []


def test_pairing_believes_what_vllm_ascend_believes() -> None:
    facts = {"imported": imported("0.22.1"), "packages": ASCEND}
    assert severities("pairing", environ={"VLLM_VERSION": "0.23.0"}, **facts) == []
    asks = AscendSource(("0.22.1", "0.23.0"), (), True, "A2")
    assert severities("pairing", ascend=asks, **facts) == ["warning"]
    assert "0.22.1, 0.23.0" in found("pairing", ascend=asks, **facts)


@pytest.mark.parametrize(
    ("vllm", "stated", "expected"),
    [
        ("0.23.0", None, []), ("0.23.1.dev12+g1a2b3c4", None, ["warning"]),
        ("0.23.0+empty", None, ["warning"]), ("dev", None, ["error"]),
        ("0.23.1.dev12+g1a2b3c4", "0.23.0", []), ("dev", "0.23.0", []),
        ("dev", "main", ["error"]), ("0.23.0", "0.23.0", []), ("0.23.0", "0.22.0", ["warning"]),
        (None, None, []),
    ],
)  # fmt: skip
def test_vllm_version(vllm: "str | None", stated: "str | None", expected: list[str]) -> None:
    environ = {} if stated is None else {"VLLM_VERSION": stated}
    facts = {"imported": imported(vllm), "environ": environ}
    assert severities("vllm-version", packages=ASCEND, **facts) == expected
    assert severities("vllm-version", packages={}, **facts) == []


def packages(requires: tuple[str, ...], **versions: str) -> dict[str, Package]:
    return {
        "vllm-ascend": Package("vllm-ascend", "0.23.0", requires),
        **{name: Package(name, v) for n, v in versions.items() for name in [n.replace("_", "-")]},
    }


@pytest.mark.parametrize(
    ("torch", "expected"),
    [("2.10.0", []), ("2.10.0+cpu", []), ("2.9.1", ["error"]), (None, ["error"])],
)
def test_requirements(torch: "str | None", expected: list[str]) -> None:
    given = packages(("torch==2.10.0", "numpy", "quart"), **({"torch": torch} if torch else {}))
    assert severities("requirements", packages=given) == expected


def test_requirements_are_one_finding_with_one_command() -> None:
    given = packages(("torch==2.10.0", "transformers==5.5.4"), torch="2.9.0", transformers="5.6.0")
    text = found("requirements", packages=given)
    assert text == "torch: 2.9.0 / ==2.10.0\ntransformers: 5.6.0 / ==5.5.4"


@pytest.mark.parametrize(
    ("torch_npu", "expected"),
    [
        ("2.10.0.post4", []), ("2.10.0.post2", ["warning"]),
        ("2.10.0.post4+git4c901a4", []), ("2.9.0+git4c901a4", ["note"]), ("mine", ["note"]),
        (None, ["error"]),
    ],
)  # fmt: skip
def test_torch_npu_overwritten(torch_npu: "str | None", expected: list[str]) -> None:
    given = packages(
        ("torch-npu==2.10.0.post4",), **({"torch_npu": torch_npu} if torch_npu else {})
    )
    assert severities("torch-npu-overwritten", packages=given) == expected
    assert severities("torch-npu-overwritten", packages={}) == []


@pytest.mark.parametrize(
    ("python", "expected"), [("3.9.18", ["error"]), ("3.10.0", []), ("3.12.9", []),
                             ("3.13.0", ["error"])],
)  # fmt: skip
def test_python_version(python: str, expected: list[str]) -> None:
    given = {"vllm-ascend": Package("vllm-ascend", "0.23.0", (), ">=3.10,<3.13")}
    assert severities("python-version", packages=given, python_version=python) == expected


def test_python_path() -> None:
    python = "/venv/bin/python"
    own, other = (
        Script("vllm", "/x/vllm", p) for p in ("/venv/bin/python3.11", "/usr/bin/python3")
    )
    assert severities("python-path", scripts=(), python=python) == []
    assert severities("python-path", scripts=(own,), python=python) == []
    assert severities("python-path", scripts=(own, other), python=python) == ["warning"]


def test_vllm_import() -> None:
    assert severities("vllm-import", imported=imported("0.23.0")) == []
    broken = imported(None, "ImportError: libatb.so: cannot open shared object file")
    assert severities("vllm-import", imported=broken) == ["error"]
    assert "libatb.so: cannot open" in found("vllm-import", imported=broken)


def test_static_tls() -> None:
    text = "ImportError: /x/torch.libs/libgomp-6e1a1d1b.so.1.0.0: cannot allocate memory in static TLS block"  # noqa: E501
    assert severities("static-tls", imported=imported(None, text)) == ["error"]
    assert "libgomp-6e1a1d1b.so.1.0.0" in found("static-tls", imported=imported(None, text))
    assert severities("static-tls", libraries=(Library("libatb.so", text),)) == ["error"]
    assert severities("static-tls", imported=imported(None, "ImportError: x")) == []


def origin(installed: "str | None", here: "str | None", folder: str = "/src") -> tuple[Origin, ...]:
    return (Origin("vllm", installed, here, folder),)


INIT = f"{SITE}/vllm/__init__.py"


@pytest.mark.parametrize(
    ("installed", "here", "expected"),
    [
        (INIT, INIT, []), (INIT, "/src/vllm/__init__.py", ["warning"]),
        (INIT, "/src/vllm/", ["warning"]), (None, "/src/vllm/", []), (INIT, None, []),
    ],
)  # fmt: skip
def test_import_shadowing(installed: "str | None", here: "str | None", expected: list[str]) -> None:
    assert severities("import-shadowing", origins=origin(installed, here)) == expected


@pytest.mark.parametrize(
    ("installed", "editable", "pythonpath", "expected"),
    [
        (INIT, None, "", []),
        ("/src/vllm/vllm/__init__.py", "/src/vllm", "", []),
        (INIT, "/src/vllm", "", ["error"]),
        ("/src/vllm-old/vllm/__init__.py", "/src/vllm", "", ["error"]),
        ("/overlay/vllm/__init__.py", None, "/overlay", ["warning"]),
        ("/overlay/vllm/__init__.py", None, "/elsewhere:/overlay", ["warning"]),
        (INIT, None, "/overlay", []),
    ],
)
def test_stale_import(
    installed: str, editable: "str | None", pythonpath: str, expected: list[str]
) -> None:
    given = {"vllm": Package("vllm", "0.23.0", editable=editable)}
    environ = {"PYTHONPATH": pythonpath} if pythonpath else {}
    origins = origin(installed, installed)
    assert severities("stale-import", origins=origins, packages=given, environ=environ) == expected


def test_edits_in_a_source_tree_that_is_not_installed() -> None:
    given = {"vllm": Package("vllm", "0.23.0")}
    tree = origin(INIT, "/src/vllm/__init__.py")
    assert severities("stale-import", origins=tree, packages=given) == ["note"]
    namespace = origin(INIT, "/src/vllm/")
    assert severities("stale-import", origins=namespace, packages=given) == []
