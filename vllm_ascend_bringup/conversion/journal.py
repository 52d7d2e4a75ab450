# SPDX-License-Identifier: Apache-2.0
"""What a conversion has finished, so that a killed one goes on where it was.

The first line of the file holds the plan's fingerprint, each further line one finished shard with
its checksum. A line is written after its shard has its final name; a last line that was cut off
is ignored.
"""

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO

from vllm_ascend_bringup.errors import CheckpointError

JOURNAL = ".conversion.journal"


class Journal:
    """The journal of one conversion, held by one process. Use as a context manager.

    ``folder``: where it lies. ``fingerprint``: of the plan. ``finished``: file -> checksum, as the
    journal says.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._file = folder / JOURNAL
        self._fingerprint = fingerprint
        self._stream: IO[bytes] | None = None
        self.finished: dict[str, str] = {}

    def __enter__(self) -> "Journal":
        """Raises CheckpointError if another process holds it, or it belongs to another plan."""
        stream = self._file.open("a+b")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.close()
            raise CheckpointError(
                f"{self._file.parent} is being written by another conversion",
                "one conversion per destination",
                "wait for it, or choose another destination",
            ) from None
        try:
            self._read(stream)
        except BaseException:
            stream.close()
            raise
        self._stream = stream
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def add(self, file: str, checksum: str) -> None:
        """Note that ``file`` is finished."""
        self.finished[file] = checksum
        self._append({"file": file, "checksum": checksum})

    @staticmethod
    def remove_from(folder: Path) -> None:
        """Delete the journal in ``folder``: the conversion is complete."""
        (folder / JOURNAL).unlink()

    def _read(self, stream: IO[bytes]) -> None:
        stream.seek(0)
        lines = stream.read().split(b"\n")
        complete, rest = lines[:-1], lines[-1]
        if rest:  # cut off by a kill: the shard it was about is done again
            stream.truncate(sum(len(line) + 1 for line in complete))
        if not complete:
            self._stream = stream
            self._append({"fingerprint": self._fingerprint})
            return
        entries = [json.loads(line) for line in complete]
        if entries[0].get("fingerprint") != self._fingerprint:
            raise CheckpointError(
                f"{self._file.parent} holds an unfinished conversion of another checkpoint or with "
                "other options",
                "the same source files, --dtype and --shard-size",
                f"repeat the earlier command, or delete {self._file.parent}",
            )
        self.finished = {entry["file"]: entry["checksum"] for entry in entries[1:]}

    def _append(self, entry: dict[str, str]) -> None:
        if self._stream is None:
            raise ValueError("the journal is not open")
        self._stream.write(json.dumps(entry).encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
