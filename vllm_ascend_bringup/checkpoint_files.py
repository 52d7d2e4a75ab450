# SPDX-License-Identifier: Apache-2.0
"""Which files of a checkpoint are not there in full: missing, or left as Git LFS pointers."""

from collections.abc import Iterable
from pathlib import Path

from vllm_ascend_bringup.errors import CheckpointError

# The first line of a pointer, and the most bytes one may have (git-lfs, docs/spec.md).
_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES = 1024
# Besides shards, what vLLM and transformers read from a checkpoint; pictures may stay pointers.
_READ_BY_VLLM = frozenset({".json", ".jinja", ".model", ".py", ".tiktoken", ".txt"})
_TOKENIZERS = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "tekken.json", "vocab.json",
    "vocab.txt", "spiece.model", "*.tiktoken", "tiktoken.model", "tokenizer.model.v*",
)  # fmt: skip


def is_lfs_pointer(file: Path) -> bool:
    """Whether the file holds the name of its content instead of the content."""
    try:
        if file.stat().st_size >= _POINTER_BYTES:
            return False
        with file.open("rb") as stream:
            return stream.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def require_files(folder: Path, index: str, shards: Iterable[str]) -> None:
    """Check config, index and ``shards``; all that is wrong is in one error.

    Raises CheckpointError that tells missing files from Git LFS pointers. ``index``: its file
    name; that it is missing is no error.
    """
    shards = sorted(shards)
    present = {name: (folder / name).exists() for name in ("config.json", *shards)}
    missing = [name for name, there in present.items() if not there]
    pointers = [n for n in ("config.json", index, *shards) if is_lfs_pointer(folder / n)]
    if not missing and not pointers:
        return
    found, fixes = [], []
    if "config.json" in missing:
        found.append(f"config.json is missing in {folder}")
    if lost := [name for name in missing if name != "config.json"]:
        kind, verb = ("shard", "is") if len(lost) == 1 else ("shards", "are")
        found.append(f"{index} names the {kind} {', '.join(lost)}, which {verb} missing")
    if missing:
        fixes.append(f"download {', '.join(missing)}")
    if pointers:
        verb = "is a Git LFS pointer" if len(pointers) == 1 else "are Git LFS pointers"
        found.append(f"{', '.join(pointers)} {verb}, not the content")
        fixes.append(f"run `git lfs pull` or download {', '.join(pointers)}")
    raise CheckpointError(
        "; ".join(found),
        f"a complete checkpoint directory: config.json and {len(shards)} shards in {folder}",
        "; ".join(fixes),
    )


def other_pointers(folder: Path) -> tuple[str, ...]:
    """Files besides shards that vLLM or transformers may read, and that are Git LFS pointers."""
    files = sorted(file for file in folder.iterdir() if file.suffix in _READ_BY_VLLM)
    return tuple(file.name for file in files if is_lfs_pointer(file))


def tokenizer_files(folder: Path) -> tuple[str, ...]:
    """Files that belong to a tokenizer, by the names transformers and mistral-common give them."""
    return tuple(sorted({file.name for name in _TOKENIZERS for file in folder.glob(name)}))
