# SPDX-License-Identifier: Apache-2.0
"""What a server does between its process and its readiness, read from its log while it starts.

A phase may take hours (weights of a terabyte, a hundred graphs to capture) and still be all right,
so each phase is waited for as long as its log shows progress. What it cannot see: work that vLLM
does not log.
"""

import re
import time
from dataclasses import dataclass

from vllm_ascend_bringup.errors import ServeError
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.results import Event
from vllm_ascend_bringup.tools.vllm_server import VllmServer


@dataclass(frozen=True)
class Mark:
    """A log line by which a moment is recognized."""

    name: str
    title: Text
    line: re.Pattern[str]


# As vLLM 0.23 to 0.32 and vllm-ascend log them; in the order of a start.
MARKS = (
    Mark("config", Text("configuration read", "配置已读取"), re.compile("Resolved architecture:")),
    Mark("engine", Text("engine process started", "引擎进程已启动"),
         re.compile(r"Initializing an? (V1 )?LLM engine")),
    Mark("load", Text("weights begin to load", "开始加载权重"),
         re.compile("Starting to load model")),
    Mark("loaded", Text("weights loaded", "权重加载完成"),
         re.compile("Loading weights took|Model loading took")),
    Mark("profiled", Text("KV cache sized", "KV cache 大小已确定"),
         re.compile(r"KV cache size: [\d,]+ tokens")),
    Mark("capture", Text("graph capture begins", "开始图捕获"),
         re.compile(r"Capturing .*\b\d+/\d+ \[")),
    Mark("captured", Text("graphs captured", "图捕获完成"),
         re.compile("Graph capturing finished")),
    Mark("initialized", Text("engine initialized", "引擎初始化完成"),
         re.compile(r"init engine \(.*took")),
    Mark("api", Text("API server starts", "API 服务启动"),
         re.compile("Starting vLLM (API )?server")),
)  # fmt: skip
PROCESS = Text("process started", "进程已启动")
READY = Text("answers on /health", "/health 已有响应")
_STILL = Text("not ready, {waited} s after the last progress or the start; last seen: {last}",
              "尚未就绪，距最后一次进展或启动已 {waited} 秒；最后的进展：{last}")  # fmt: skip
_ALLOWED = Text("progress in the log within {allowed} s", "{allowed} 秒内日志应有进展")
_MORE_TIME = Text(
    "look at the end of {log}; give it more time with --phase-timeout or --start-timeout",
    "查看 {log} 末尾；可用 --phase-timeout 或 --start-timeout 延长等待",
)
# Lines that mean work is being done, if they say something new.
_WORK = re.compile("[Ll]oad|[Cc]aptur|[Cc]ompil|decoded|Dynamo")
# What differs between two lines that say the same: who logs it, when, and elapsed times.
_VARYING = re.compile(r"^\(.*?pid=\d+\)|\b\d\d-\d\d \d\d:\d\d:\d\d\b|\[?\d\d:\d\d[^\]]*\]?")
# After these vLLM ends by itself, unless one of its processes hangs.
_FATAL = re.compile(
    "EngineCore failed to start|Engine core initialization failed|WorkerProc failed to start"
)
_GRACE_SECONDS = 30.0


class StartTimeout(ServeError):
    """A start in which nothing happens any more, or which takes longer than it may."""


class Startup:
    """``VllmServer``'s ``watch``: notes events, gives up when a phase stands still.

    ``phase_seconds``: how long the log may show no progress. ``total_seconds``: of the whole start.
    """

    def __init__(self, phase_seconds: float, total_seconds: float) -> None:
        self._started = self._progress = time.monotonic()
        self._phase_seconds, self._total_seconds = phase_seconds, total_seconds
        self._events = [Event("process", PROCESS, 0.0)]
        self._offset = 0
        self._seen: set[str] = set()
        self._fatal_since: float | None = None

    def __call__(self, server: VllmServer) -> None:
        """Read what the log has got. Raises StartTimeout, or ServeError for a fatal line."""
        self.read(server)
        now = time.monotonic()
        if self._fatal_since is not None and now - self._fatal_since > _GRACE_SECONDS:
            raise ServeError(server.cause(), "a running server", f"look at {server.log}")
        for waited, allowed in (
            (now - self._progress, self._phase_seconds), (now - self._started, self._total_seconds)
        ):  # fmt: skip
            if waited > allowed:
                raise StartTimeout(
                    _STILL.format(waited=f"{waited:.0f}", last=self._events[-1].title),
                    _ALLOWED.format(allowed=f"{allowed:.0f}"),
                    _MORE_TIME.format(log=server.log),
                )

    def timeline(self, ready_after: float | None) -> tuple[Event, ...]:
        """What was seen; ``ready_after``: seconds until it answered, None if it never did."""
        end = [] if ready_after is None else [Event("ready", READY, ready_after)]
        return (*self._events, *end)

    def read(self, server: VllmServer) -> None:
        """Take note of new whole lines; a progress bar's are divided by carriage returns."""
        with server.log.open("rb") as log:
            log.seek(self._offset)
            text = log.read()
        whole = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        self._offset += whole
        for line in re.split(r"[\r\n]+", text[:whole].decode(errors="replace")):
            self._note(line)

    def _note(self, line: str) -> None:
        known = {event.name for event in self._events}
        for mark in MARKS:
            if mark.name not in known and mark.line.search(line):
                self._events.append(Event(mark.name, mark.title, self._elapsed()))
                self._progress = time.monotonic()
        if _WORK.search(line):
            said = _VARYING.sub("", line)
            if said not in self._seen:
                self._seen.add(said)
                self._progress = time.monotonic()
        if _FATAL.search(line) and self._fatal_since is None:
            self._fatal_since = time.monotonic()

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._started, 2)
