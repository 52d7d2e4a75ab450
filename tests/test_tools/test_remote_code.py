# SPDX-License-Identifier: Apache-2.0
"""Remote code: what it imports that transformers lacks, and nothing that transformers has."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import testkit
import torch

from vllm_ascend_bringup.model_facts import model_facts
from vllm_ascend_bringup.tools.checkpoint_report import CheckpointReport, report_checkpoint
from vllm_ascend_bringup.tools.model_class import find_model_class
from vllm_ascend_bringup.tools.remote_code import read_remote_code
from vllm_ascend_bringup.tools.transformers_source import (
    TransformersSource,
    installed_transformers,
)
from vllm_ascend_bringup.tools.vllm_registry import InstalledVllm, installed_vllm

MODEL = "modeling_tiny.TinyForCausalLM"
TRANSFORMERS = installed_transformers()
# Private state of _LazyModule, which nobody imports.
LAZY_STATE = {
    "_class_to_module", "_explicit_import_shortcut", "_import_structure", "_modules", "_name",
    "_object_missing_backend", "_objects",
}  # fmt: skip


def source() -> TransformersSource:
    assert TRANSFORMERS is not None
    return TRANSFORMERS


def checkpoint(folder: Path, code: str | None, **config: Any) -> Path:
    """A checkpoint of one tensor whose auto_map names one model file with ``code``."""
    settings = {
        "architectures": ["TinyForCausalLM"], "model_type": "tiny", "num_attention_heads": 4,
        "auto_map": {"AutoModelForCausalLM": MODEL}, **config,
    }  # fmt: skip
    testkit.write_checkpoint(folder, {"w": torch.ones(2, dtype=torch.bfloat16)}, settings)
    if code is not None:
        (folder / "modeling_tiny.py").write_text(code)
    return folder


def missing(folder: Path) -> list[tuple[str, str]]:
    """Module and name of each import that transformers lacks."""
    return [(m.module, m.name) for m in read_remote_code(folder, source()).missing]


def notes(report: CheckpointReport) -> str:
    return "\n".join(problem.text for problem in report.problems)


@pytest.mark.parametrize(
    ("line", "module", "name"),
    [
        ("from transformers import NoSuchModel", "transformers", "NoSuchModel"),
        ("from transformers.utils import LossKwargs", "transformers.utils", "LossKwargs"),
        ("from transformers.modeling_utils import no_such", "transformers.modeling_utils",
         "no_such"),
        ("from transformers.generation import NoSuchMixin", "transformers.generation",
         "NoSuchMixin"),
        ("from transformers.models.llama import LlamaFlashAttention2", "transformers.models.llama",
         "LlamaFlashAttention2"),
        ("from transformers.models.llama.modeling_llama import (\n    LlamaConfig,\n    _NoSuch)",
         "transformers.models.llama.modeling_llama", "_NoSuch"),
        ("from transformers.no_such_module import x", "transformers.no_such_module", ""),
        ("import transformers.no_such_module as t", "transformers.no_such_module", ""),
        ("try:\n    from transformers import NoSuch\nfinally:\n    pass", "transformers", "NoSuch"),
        ("try:\n    from transformers import NoSuch\nexcept KeyError:\n    pass", "transformers",
         "NoSuch"),
        ("class A:\n    from transformers import NoSuch", "transformers", "NoSuch"),
    ],
)  # fmt: skip
def test_import_that_transformers_lacks_is_found(
    tmp_path: Path, line: str, module: str, name: str
) -> None:
    assert missing(checkpoint(tmp_path, line)) == [(module, name)]
    with pytest.raises(ImportError):
        exec(line, {})


@pytest.mark.parametrize(
    "line",
    [
        "import transformers",
        "import transformers.utils.import_utils",
        "from transformers import PreTrainedModel, AutoConfig, LlamaForCausalLM, logging, utils",
        "from transformers import Qwen2TokenizerFast, LlamaTokenizerFast",
        "from transformers.utils import *",
        "from transformers.utils import is_torch_available, import_utils",
        "from transformers.tokenization_utils import PreTrainedTokenizer",
        "from transformers.tokenization_utils_fast import PreTrainedTokenizerFast",
        "from transformers.modeling_attn_mask_utils import AttentionMaskConverter",
        "from transformers.models.qwen2_vl.image_processing_qwen2_vl_fast import anything",
        "from transformers.models.llama.modeling_llama import LlamaAttention, torch",
        "from transformers.generation.utils import GenerationMixin",
        "import transformersx.foo\nfrom transformers_modules import x",
        "def late():\n    from transformers import NoSuch",
        "if is_flash_attn_2_available():\n    from transformers import NoSuch",
        "try:\n    from transformers import NoSuch\nexcept ImportError:\n    NoSuch = None",
        "try:\n    from transformers import NoSuch\nexcept (OSError, ModuleNotFoundError): ...",
        "try:\n    from transformers import NoSuch\nexcept:\n    pass",
        "try:\n    import foo\nexcept ImportError:\n    from transformers import NoSuch",
        "with suppress(ImportError):\n    from transformers import NoSuch",
        "'''\nfrom transformers import NoSuch\n'''\n# from transformers import NoSuch",
    ],
)
def test_import_that_exists_or_is_optional_is_not_reported(tmp_path: Path, line: str) -> None:
    assert missing(checkpoint(tmp_path, line)) == []


def test_nothing_that_transformers_exports_is_called_lacking() -> None:
    import transformers

    names = [name for name in transformers.__all__ if "." not in name]
    assert len(names) > 1000
    assert [name for name in names if source().lacks("transformers", name)] == []


@pytest.mark.parametrize(
    "module",
    ["modeling_utils", "utils", "utils.import_utils", "utils.generic", "cache_utils", "generation",
     "generation.utils", "integrations", "models", "models.auto", "models.llama",
     "models.llama.modeling_llama", "modeling_rope_utils", "masking_utils", "processing_utils",
     "tokenization_utils", "tokenization_utils_fast", "image_processing_utils_fast"],
)  # fmt: skip
def test_nothing_that_a_module_holds_is_called_lacking(module: str) -> None:
    name = f"transformers.{module}"
    names = set(dir(importlib.import_module(name))) - LAZY_STATE
    assert not source().lacks_module(name)
    assert {n for n in names if source().lacks(name, n)} == set()


def test_name_that_vllm_puts_back_is_not_called_lacking() -> None:
    module = "transformers.processing_utils"
    assert not source().lacks(module, "ChatTemplateLoadKwargs")
    assert source().lacks(module, "ChatTemplateLoadKwarg")


def test_what_per_model_files_export(tmp_path: Path) -> None:
    (tmp_path / "models" / "x").mkdir(parents=True)
    (tmp_path / "models" / "x" / "modeling_x.py").write_text(
        '@requires(backends=("torch",))\n@other\nclass Required:\n    pass\n'
        "class Neither:\n    pass\ndef listed(): ...\n__all__ = [\n    'listed',\n]\n"
    )
    made = TransformersSource("1", tmp_path)
    exported = {name for name in ("Required", "listed", "Neither") if made.exports(name)}
    assert exported == {"Required", "listed"}


def test_relative_imports_are_followed_and_classes_remembered(tmp_path: Path) -> None:
    folder = checkpoint(
        tmp_path, "from .a import x\nfrom . import b, not_a_module\nfrom .a import y",
        auto_map={"AutoModelForCausalLM": MODEL, "AutoConfig": "a.Config"},
    )  # fmt: skip
    (folder / "a.py").write_text("from .modeling_tiny import z\nfrom transformers import NoSuch")
    (folder / "b.py").write_text("import os")
    (folder / "not_named.py").write_text("from transformers import NoSuch")
    code = read_remote_code(folder, source())
    assert code.files == {
        "a.py": ("AutoConfig", "AutoModelForCausalLM"),
        "b.py": ("AutoConfig", "AutoModelForCausalLM"),
        "modeling_tiny.py": ("AutoConfig", "AutoModelForCausalLM"),
    }
    assert [(m.file, m.line, m.name) for m in code.missing] == [("a.py", 2, "NoSuch")]
    assert code.absent == ()


def test_absent_files_are_noted_unless_optional(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "from .gone import x\ntry:\n  from .maybe import y\nexcept: ...")
    assert read_remote_code(folder, source()).absent == ("gone.py",)
    (folder / "modeling_tiny.py").unlink()
    assert "modeling_tiny.py is missing" in notes(report_checkpoint(folder))


def test_code_outside_the_checkpoint_is_never_read(tmp_path: Path) -> None:
    (tmp_path / "secret.py").write_text("from transformers import NoSuch")
    auto_map = {"AutoConfig": "../secret.C", "AutoModel": "/etc/x.C", "AutoTokenizer": ["t", None]}
    folder = checkpoint(tmp_path / "c", None, auto_map=auto_map)
    code = read_remote_code(folder, source())
    assert (code.files, code.missing) == ({}, ())
    assert set(code.broken) == {"../secret.C", "/etc/x.C", "t"}
    (folder / "modeling_tiny.py").write_text("from ..secret import x\nfrom ......... import y")
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": MODEL}}))
    assert read_remote_code(folder, source()).missing == ()


def test_other_repository_and_tokenizer_files(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, None, auto_map={"AutoModelForCausalLM": f"org/repo--{MODEL}"})
    tokenizer = {"auto_map": {"AutoTokenizer": ["tokenization_tiny.Tiny", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "tokenization_tiny.py").write_text("from transformers import NoSuch")
    (folder / "processor_config.json").write_text("[]")
    report = report_checkpoint(folder)
    assert report.remote_code.elsewhere == (f"AutoModelForCausalLM: org/repo--{MODEL}",)
    assert report.model_class.source == "remote code"
    assert "code of another repository" in notes(report)
    assert "AutoTokenizer cannot be loaded" in notes(report)


@pytest.mark.parametrize("code", ["def f(:\n", "x = '\0'", "(" * 10_000, "\xff = 1"])
def test_file_that_python_cannot_parse_is_a_note(tmp_path: Path, code: str) -> None:
    folder = checkpoint(tmp_path, None)
    (folder / "modeling_tiny.py").write_bytes(code.encode("latin-1"))
    report = report_checkpoint(folder)
    assert "modeling_tiny.py cannot be parsed" in notes(report)
    assert report.exit_code == 0


def test_nothing_is_executed_or_printed(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\nx = '\\d'\n")
    code = (
        "import sys; from vllm_ascend_bringup.tools.checkpoint_report import report_checkpoint; "
        f"report_checkpoint({str(folder)!r}); "
        "print(*sorted({'torch', 'vllm', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == done.stderr == ""
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("architecture", "auto_map", "kind", "text"),
    [
        ("Qwen3ForCausalLM", {}, "vLLM", ""),
        ("TinyForCausalLM", {"AutoModelForCausalLM": MODEL}, "remote code", "auto_map, with"),
        ("TinyForCausalLM", {"AutoConfig": "modeling_tiny.C"}, "none", "only a plugin"),
        ("TinyForCausalLM", {}, "none", "neither has transformers"),
        ("DbrxModel", {}, "transformers", "the class of transformers"),
        ("DbrxMode", {}, "none", "only a plugin"),
    ],
)
def test_which_class_would_serve(
    tmp_path: Path, architecture: str, auto_map: dict[str, str], kind: str, text: str
) -> None:
    folder = checkpoint(tmp_path, "", architectures=[architecture], auto_map=auto_map)
    report = report_checkpoint(folder)
    assert report.model_class.source == kind
    assert report.known_to_vllm is (kind == "vLLM")
    assert text in notes(report)
    assert "until" not in notes(report)


def test_model_that_vllm_dropped_is_told_with_its_last_version(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "", architectures=["QWenLMHeadModel"])
    report = report_checkpoint(folder)
    assert report.model_class.supported_until == "0.23.0"
    assert "had a class for QWenLMHeadModel until 0.23.0" in notes(report)
    # A class that vLLM still has is not in that table, nor is it called dropped.
    assert "Qwen3ForCausalLM" not in installed_vllm().previously


def test_table_of_dropped_models_equals_the_imported_one() -> None:
    from vllm.model_executor.models import registry

    assert installed_vllm().previously == registry._PREVIOUSLY_SUPPORTED_MODELS


def test_file_that_only_the_fallback_needs_is_said_to_be_unused(tmp_path: Path) -> None:
    auto_map = {"AutoModelForCausalLM": MODEL}
    line = "from transformers import NoSuch"
    folder = checkpoint(tmp_path, line, architectures=["Qwen3ForCausalLM"], auto_map=auto_map)
    assert "vLLM does not need the file" in notes(report_checkpoint(folder))
    settings = json.loads((folder / "config.json").read_text())
    settings["auto_map"]["AutoConfig"] = "modeling_tiny.Config"
    (folder / "config.json").write_text(json.dumps(settings))
    assert "AutoConfig, AutoModelForCausalLM cannot be loaded" in notes(report_checkpoint(folder))


def test_without_vllm_or_transformers_nothing_is_claimed(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "from transformers import NoSuch")
    remote = read_remote_code(folder, None)
    assert remote.missing == ()
    model = model_facts(json.loads((folder / "config.json").read_text()))
    found = find_model_class(model, remote, InstalledVllm(None, frozenset()), None)
    assert found.source is None
