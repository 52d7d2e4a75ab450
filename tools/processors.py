# SPDX-License-Identifier: Apache-2.0
"""What a model takes besides text, and what its processor needs for that.

What it cannot see: packages that a processor imports only when it is called.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vllm_ascend_bringup.tools.remote_code import settings_of
from vllm_ascend_bringup.tools.transformers_source import TransformersSource

_SETTINGS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
# Which key names which class, and the sections of processor_config.json that have keys of these.
_CLASS_KEYS = (
    "processor_class", "image_processor_type", "video_processor_type", "feature_extractor_type",
)  # fmt: skip
_SECTIONS = ("image_processor", "video_processor", "feature_extractor")


@dataclass(frozen=True)
class Processors:
    """Files of processors and chat template.

    ``parts``: keys of config.json with the settings of encoders. ``classes``: the processor
    classes that the files name. ``packages``: what transformers' class of that name declares to
    need, in transformers' words ("vision" is Pillow).
    """

    parts: tuple[str, ...]
    files: tuple[str, ...]
    missing: tuple[str, ...]
    classes: tuple[str, ...]
    packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_processors(
    folder: Path, parts: tuple[str, ...], transformers: TransformersSource | None
) -> Processors:
    """Look at the checkpoint's files; a text model misses none of them but the chat template."""
    settings = [name for name in _SETTINGS if (folder / name).exists()]
    templates = [name for name in _TEMPLATES if (folder / name).exists()]
    tokenizer = settings_of(folder / "tokenizer_config.json")
    if tokenizer.get("chat_template"):
        templates.append("tokenizer_config.json")
    missing = [] if templates else ["chat template"]
    if parts and not {"preprocessor_config.json", "processor_config.json"} & set(settings):
        missing.insert(0, "preprocessor_config.json or processor_config.json")
    classes: list[str] = []
    for name in settings:
        content = settings_of(folder / name)
        classes += [*_named(content), *(n for key in _SECTIONS for n in _named(content.get(key)))]
    if parts:
        classes += _named(tokenizer)
    classes = list(dict.fromkeys(classes))
    packages = {name: _packages(name, transformers) for name in classes if transformers}
    return Processors(
        parts, (*settings, *templates), tuple(missing), tuple(classes),
        {name: needed for name, needed in packages.items() if needed},
    )  # fmt: skip


def _named(settings: object) -> list[str]:
    if not isinstance(settings, dict):
        return []
    return [settings[key] for key in _CLASS_KEYS if isinstance(settings.get(key), str)]


def _packages(name: str, transformers: TransformersSource) -> tuple[str, ...]:
    """What the class and its bases declare with ``@requires`` and ``requires_backends``."""
    # Without the suffix, because transformers 5 has no classes with it but takes the name.
    start = name if transformers.find_processor(name) else name.removesuffix("Fast")
    needed: set[str] = set()
    names, seen = [start], set()
    while names:
        name = names.pop()
        node = None if name in seen else transformers.find_processor(name)
        seen.add(name)
        if node is None:
            continue
        names += [base.id for base in node.bases if isinstance(base, ast.Name)]
        for call in _declarations(node):
            needed |= {
                part.value
                for argument in (*call.args, *(keyword.value for keyword in call.keywords))
                for part in ast.walk(argument)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            }
    return tuple(sorted(needed))


def _declarations(node: ast.ClassDef) -> Iterator[ast.Call]:
    # Other methods ask for what only they need.
    always = [
        method
        for method in node.body
        if isinstance(method, ast.FunctionDef) and method.name in ("__init__", "__call__")
    ]
    for part in (*node.decorator_list, *(inner for method in always for inner in ast.walk(method))):
        if not isinstance(part, ast.Call) or not isinstance(part.func, ast.Name):
            continue
        if part.func.id in ("requires", "requires_backends"):
            yield part
