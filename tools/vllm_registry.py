# SPDX-License-Identifier: Apache-2.0
"""Which architectures the installed vLLM has a class for, without importing vLLM.

Importing vLLM costs seconds, and its registry is a module of literal tables, so those are read
from the source. What it cannot see: architectures that other plugins register at run time.
"""

import ast
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_REGISTRY = Path("model_executor", "models", "registry.py")
# Tables that name something other than what vLLM has a class for.
_OTHER_TABLES = ("_PREVIOUSLY_SUPPORTED_MODELS", "_OOT_SUPPORTED_MODELS")


@dataclass(frozen=True)
class InstalledVllm:
    """The vLLM that this Python would import; ``architectures`` is empty if none is."""

    version: str | None
    architectures: frozenset[str]


def installed_vllm() -> InstalledVllm:
    """Find vLLM and read its version and registry from their source files."""
    spec = find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return InstalledVllm(None, frozenset())
    folder = Path(spec.submodule_search_locations[0])
    return InstalledVllm(_version(folder), _architectures(folder / _REGISTRY))


def _architectures(file: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if not isinstance(target, ast.Name) or not isinstance(value, ast.Dict):
            continue
        if target.id.endswith("_MODELS") and target.id not in _OTHER_TABLES:
            names |= {str(key.value) for key in value.keys if isinstance(key, ast.Constant)}
    return frozenset(names)


def _version(folder: Path) -> str:
    for node in ast.parse((folder / "_version.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            if names & {"version", "__version__"}:
                return str(node.value.value)
    return "unknown"
