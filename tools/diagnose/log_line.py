# SPDX-License-Identifier: Apache-2.0
"""One line of a log: who wrote it, how serious it is, and what it says."""

import re
from dataclasses import dataclass
from enum import Enum

# Terminal sequences, also colours that lost their escape character on the way into a file.
_ANSI = re.compile(
    r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])"
    r"|(?:\^\[)?\[\d{1,2}(?:;\d{1,3})*m"
)
_LEVEL = r"DEBUG|INFO|EVENT|TRACE|WARN(?:ING)?|ERROR|CRITICAL|FATAL"
_PREFIX = re.compile(
    r"(?:\S{1,60}\s+\|\s)?"  # docker compose
    r"(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*\s+)?"  # docker logs -t
    rf"(?:- [\w.]+ - (?P<logged>{_LEVEL}) - (?:\S+\.py:\d+ - )?)?"  # python's logging
    r"(?:\((?P<process>\w[^()]{0,60}\bpid=\d+[^()]{0,40})\)\s?)*"  # vLLM's processes, Ray's actors
    r"(?:\[Stage-\d+\]\s)?"  # vLLM-Omni
    r"(?:\[(?P<rank>rank\s?\d+)\]:?\s?)?"  # torch
    rf"(?:(?P<level>{_LEVEL})\s+(?P<when>\d\d-\d\d \d\d:\d\d:\d\d)\S*\s+\[?[\w./]+:\d+\]\s?)?"
    r"(?:E   (?=\S))?"  # pytest
)
# Logs of other programs: uvicorn, spdlog (MindIE), CANN, python's logging, glog (torch).
_OTHER_LEVEL = re.compile(
    rf"(?:\[?\d{{4}}-\d\d-\d\d[^\]]{{0,24}}\]?\s*)?(?:\[\d+\]\s*)*\[?(?P<level>{_LEVEL})\b"
    r"|\[(?P<glog>[IW])\d{3,4} ",
    re.IGNORECASE,
)
_WARNING_CLASS = re.compile(r"\s*(?:\S+:\d+: )?\w*Warning: ")
_RAISED = re.compile(r"\s*[\w.]*(?:Error|Exception|Unsupported)\b")


class Level(Enum):
    NOTE = "note"  # information, debugging
    WARNING = "warning"
    ERROR = "error"  # also what carries no level: tracebacks, output of other programs


@dataclass(frozen=True)
class LogLine:
    """``source``: the process, empty if the line does not say. ``when``: as vLLM prints it."""

    source: str
    level: Level
    message: str
    when: str

    @property
    def reports_error(self) -> bool:
        """Notes and warnings mention errors all the time; a raised exception inside one counts."""
        if self.level is Level.WARNING:
            return _RAISED.match(self.message) is not None
        return self.level is Level.ERROR


def without_ansi(line: str) -> str:
    """``line`` without colours and other terminal sequences, and without its line end."""
    if "\x1b" in line or "0m" in line:  # every colour is ended by one of these
        line = _ANSI.sub("", line)
    return line.rstrip("\r\n")


def source_of(line: str) -> str:
    """The process or rank that a line names."""
    match = _PREFIX.match(line)
    return _source(match) if match else ""


def parse(line: str) -> LogLine:
    """Take a line, already without colours, apart."""
    match = _PREFIX.match(line)
    assert match is not None  # every part is optional
    message = line[match.end() :]
    level = _level(match["level"] or match["logged"], message)
    return LogLine(_source(match), level, message, match["when"] or "")


def _source(match: re.Match[str]) -> str:
    process, rank = match["process"], match["rank"]
    if not process:
        return rank or ""
    name = process.partition("pid=")[0].strip()
    return name if any(c.isdigit() for c in name) else process


def _level(level: str | None, message: str) -> Level:
    if level is None:
        other = _OTHER_LEVEL.match(message)
        if other is not None:
            level = other["level"] or {"I": "INFO", "W": "WARN"}[other["glog"].upper()]
    if level is not None and level.upper() in ("DEBUG", "INFO", "EVENT", "TRACE"):
        return Level.NOTE
    if (level is not None and level.upper().startswith("WARN")) or _WARNING_CLASS.match(message):
        return Level.WARNING
    return Level.ERROR
