# SPDX-License-Identifier: Apache-2.0
"""Write shards as tasks of an existing Ray cluster, one shard and one processor each.

All machines must see source and destination under the same paths and have this package installed.
The journal stays with the process that started the conversion.
"""

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from vllm_ascend_bringup.conversion.plan import ConversionPlan, OutputShard
from vllm_ascend_bringup.conversion.writer import Progress, ShardWriter
from vllm_ascend_bringup.errors import BringupError, CheckpointError, SettingsError

_CONNECT_SECONDS = 10.0


def write_on_ray(
    plan: ConversionPlan, todo: list[OutputShard], work: Path, progress: Progress
) -> Iterator[tuple[OutputShard, str]]:
    """Yield each shard with its checksum when it is finished, in no order.

    Raises SettingsError if Ray is not installed or no cluster answers, and what a task raised.
    """
    try:
        import ray
    except ImportError as error:
        raise SettingsError(
            "--ray, but Ray is not installed", "the package ray",
            "pip install 'vllm-ascend-bringup[ray]'",
        ) from error  # fmt: skip
    address = os.environ.get("RAY_ADDRESS", "auto")
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except OSError as error:  # ConnectionError among them
        raise SettingsError(
            "--ray, but no Ray cluster answers",
            "a running cluster that this machine belongs to",
            "run `ray start --head` here and `ray start --address=...` on the others",
        ) from error
    try:
        task = ray.remote(num_cpus=1, max_retries=3)(_write_shard)
        shared = ray.put((plan.source, work.absolute()))
        pending = {task.remote(shared, shard): shard for shard in todo}
        while pending:
            done, _ = ray.wait(list(pending))
            for reference in done:
                shard = pending.pop(reference)
                checksum: str = ray.get(reference)
                progress(shard.nbytes)
                yield shard, checksum
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, BringupError):
            raise error.cause from None
        raise
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError if nothing listens at ``host:port``: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()


def _write_shard(folders: tuple[Path, Path], shard: OutputShard) -> str:
    source, work = folders
    for folder in folders:
        if not folder.is_dir():
            raise CheckpointError(
                f"a machine of the cluster does not see {folder}",
                "source and destination on storage that all machines share, under the same paths",
                "mount it there, or convert without --ray",
            )
    with ShardWriter(source, threads=1) as writer:
        return writer.write(shard, work)
