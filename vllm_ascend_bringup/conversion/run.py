# SPDX-License-Identifier: Apache-2.0
"""Run a conversion: check everything, write what is missing, finish with one rename.

Everything is written into ``DESTINATION.converting``, which gets its name when it is complete. A
killed run leaves that folder and its journal; the same command goes on from there.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_ascend_bringup.checkpoint import INDEX_FILE, read_checkpoint
from vllm_ascend_bringup.conversion.journal import JOURNAL, Journal
from vllm_ascend_bringup.conversion.plan import (
    ConversionPlan,
    OutputShard,
    index_of,
    plan_conversion,
)
from vllm_ascend_bringup.errors import CheckpointError
from vllm_ascend_bringup.settings import read_settings

if TYPE_CHECKING:  # it imports torch, which a dry run does without
    from vllm_ascend_bringup.conversion.writer import ShardWriter

SCHEMA_VERSION = 1
_UNFINISHED = ".converting"

# Called with what is being done and how many bytes that is; gives where to report progress.
Stage = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True)
class ConversionReport:
    """What ``convert`` did, or with ``--dry-run`` would do. Byte counts are of whole shards.

    ``free_bytes``, ``needed_bytes``: on the destination's disk before the first byte is written.
    ``resumed``: shards that an earlier run had finished.
    """

    source: str
    destination: str
    dtype: str
    formats: dict[str, int]
    tensors: int
    left_out: int
    shards: int
    source_bytes: int
    bytes: int
    free_bytes: int
    needed_bytes: int
    copied: tuple[str, ...]
    skipped: tuple[str, ...]
    dry_run: bool
    resumed: int = 0
    verified: bool = False
    nan_weights: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``schema_version`` changes when a field changes meaning or goes."""
        return {"schema_version": SCHEMA_VERSION, "command": "convert", **asdict(self)}


def convert(
    source: Path,
    destination: Path,
    dtype: str,
    shard_bytes: int,
    *,
    dry_run: bool = False,
    verify: bool = False,
    on_ray: bool = False,
    stage: Stage = lambda text, nbytes: lambda done: None,
) -> ConversionReport:
    """Write the checkpoint in ``source`` as plain ``dtype`` ("bfloat16", "float16") weights.

    Raises CheckpointError if the source cannot be read, the destination exists or lacks space, and
    FormatError if weights cannot be decoded; nothing is then left under the destination's name.
    """
    started = time.monotonic()
    settings = read_settings()
    plan = plan_conversion(read_checkpoint(source), dtype, shard_bytes)
    work = destination.with_name(destination.name + _UNFINISHED)
    if (destination / JOURNAL).exists():
        # Killed between the last rename and the removal of the journal.
        with Journal(destination, plan.fingerprint) as journal:
            resumed = len(journal.finished)
            Journal.remove_from(destination)
        return _report(plan, destination, dry_run, resumed=resumed)
    _refuse_destination(source, destination)
    free, needed = _space(plan, destination, work)
    if dry_run:
        return _report(plan, destination, dry_run, free=free, needed=needed)
    if free < needed:
        raise CheckpointError(
            f"{free} bytes free where {destination} would be",
            f"{needed} bytes for {len(plan.shards)} shards in {plan.dtype}",
            "make room or choose another destination",
        )
    from vllm_ascend_bringup.conversion.writer import ShardWriter
    from vllm_ascend_bringup.decode import default_threads

    work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(work, plan.fingerprint))
        # Ray's tasks make writers of their own; here it checks and verifies.
        writer = stack.enter_context(
            ShardWriter(plan.source, settings.threads or default_threads(1))
        )
        resumed = _check_finished(plan, work, journal, writer, stage)
        todo = [shard for shard in plan.shards if shard.file not in journal.finished]
        writer.progress = stage("converting", sum(shard.nbytes for shard in todo))
        _write(plan, todo, work, journal, writer, on_ray)
        _write_rest(plan, work)
        if verify:
            writer.progress = stage("verifying", plan.nbytes)
            for shard in plan.shards:
                writer.compare(shard, work)
        os.rename(work, destination)
        Journal.remove_from(destination)
    return _report(
        plan, destination, dry_run, free=free, needed=needed, resumed=resumed, verified=verify,
        nan_weights=tuple(sorted(writer.nan_weights)), seconds=time.monotonic() - started,
    )  # fmt: skip


def _write(
    plan: ConversionPlan,
    todo: list[OutputShard],
    work: Path,
    journal: Journal,
    writer: "ShardWriter",
    on_ray: bool,
) -> None:
    """Write the shards still to do; each is in the journal before the next one counts."""
    results: Iterator[tuple[OutputShard, str]]
    if on_ray:
        from vllm_ascend_bringup.conversion.on_ray import write_on_ray

        results = write_on_ray(plan, todo, work, writer.progress)
    else:
        results = ((shard, writer.write(shard, work)) for shard in todo)
    try:
        for shard, checksum in results:
            journal.add(shard.file, checksum)
    except OSError as error:
        raise CheckpointError(
            f"writing into {work} failed ({error.strerror or error})",
            f"{plan.nbytes} bytes that can be written there",
            "make room or choose another destination, then run the same command again",
        ) from error


def _check_finished(
    plan: ConversionPlan, work: Path, journal: Journal, writer: "ShardWriter", stage: Stage
) -> int:
    """Keep only those finished shards whose bytes still have their checksum; returns how many."""
    finished = [shard for shard in plan.shards if shard.file in journal.finished]
    if finished:
        writer.progress = stage("checking finished shards", sum(s.nbytes for s in finished))
    for shard in finished:
        path = work / shard.file
        if not path.exists() or writer.checksum(path) != journal.finished[shard.file]:
            del journal.finished[shard.file]
        writer.progress(shard.nbytes)
    for file in work.glob("*.partial"):
        file.unlink()
    return len(journal.finished)


def _write_rest(plan: ConversionPlan, work: Path) -> None:
    """config.json, the index, and every other file."""
    for name in plan.copied:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(plan.source / name, work / name)
    (work / "config.json").write_text(json.dumps(plan.config, indent=2, ensure_ascii=False) + "\n")
    if len(plan.shards) > 1:
        (work / INDEX_FILE).write_text(json.dumps(index_of(plan), indent=2) + "\n")


def _refuse_destination(source: Path, destination: Path) -> None:
    if destination.exists() and not (destination.is_dir() and not any(destination.iterdir())):
        raise CheckpointError(
            f"{destination} exists", "a destination that does not exist, or an empty directory",
            "choose another destination, or delete this one",
        )  # fmt: skip
    if source.resolve() in destination.resolve().parents:
        raise CheckpointError(
            f"{destination} lies inside {source}",
            "a destination outside the checkpoint",
            "choose another destination",
        )


def _space(plan: ConversionPlan, destination: Path, work: Path) -> tuple[int, int]:
    """Bytes that are free where the destination will be, and bytes still to be written."""
    place = next(folder for folder in destination.absolute().parents if folder.exists())
    free = shutil.disk_usage(place).free
    written = sum((work / s.file).stat().st_size for s in plan.shards if (work / s.file).exists())
    needed = plan.nbytes - written
    needed += sum((plan.source / name).stat().st_size for name in plan.copied)
    return free, needed


def _report(
    plan: ConversionPlan,
    destination: Path,
    dry_run: bool,
    free: int = 0,
    needed: int = 0,
    **done: Any,
) -> ConversionReport:
    return ConversionReport(
        source=str(plan.source), destination=str(destination), dtype=plan.dtype,
        formats=dict(plan.formats), tensors=sum(len(shard.outputs) for shard in plan.shards),
        left_out=plan.left_out, shards=len(plan.shards), source_bytes=plan.source_bytes,
        bytes=plan.nbytes, free_bytes=free, needed_bytes=needed, copied=plan.copied,
        skipped=plan.skipped, dry_run=dry_run, **done,
    )  # fmt: skip
