"""Starts: from launching a server's process to its answers, as an agent client waits for it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence

from benchmarks.figures import Figure
from benchmarks.site import ROOT, UPSTREAM_COMMAND, Site

_FIRST: dict[str, object] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "benchmarks", "version": "1"},
    },
}
_INITIALIZED: dict[str, object] = {"jsonrpc": "2.0", "method": "notifications/initialized"}
_LIST: dict[str, object] = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}


class Starts:
    """Starts the upstream alone, a bridge to a running gateway, and a bridge that has to start its gateway."""

    def __init__(self, running: Site, stopped: Site) -> None:
        self._running, self._stopped = running, stopped
        self._warm = Figure("start", "`hitl-mcp stdio`, gateway running: first answer", "ms")
        self._warm_listed = Figure("start", "the same: tools listed", "ms")
        self._cold = Figure("start", "`hitl-mcp stdio`, no gateway: first answer", "ms")
        self._cold_listed = Figure("start", "the same: tools listed", "ms")
        self.figures = [self._warm, self._warm_listed, self._cold, self._cold_listed]

    def round(self) -> None:
        """One start of each kind. `direct` is the upstream's own start."""
        direct, direct_listed = _start(UPSTREAM_COMMAND, self._running.environment)
        warm, warm_listed = _start(self._running.bridge_command(), self._running.environment)
        cold, cold_listed = _start(self._stopped.bridge_command(), self._stopped.environment)
        self._stopped.stop()
        for figure, of_direct, of_gateway in (
            (self._warm, direct, warm),
            (self._warm_listed, direct_listed, warm_listed),
            (self._cold, direct, cold),
            (self._cold_listed, direct_listed, cold_listed),
        ):
            figure.direct.append(of_direct * 1000)
            figure.gateway.append(of_gateway * 1000)


def _start(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Launch a stdio server; seconds until it answered the first request, and until it had listed its tools."""
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        _ask(process, _FIRST)
        first = time.perf_counter() - began
        _ask(process, _INITIALIZED, _LIST)
        listed = time.perf_counter() - began
        process.communicate(timeout=20)  # closes its input, which ends it
    return first, listed


def _ask(process: subprocess.Popen[bytes], *messages: dict[str, object]) -> None:
    """Write messages and read until the last of them is answered."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the server has no pipes")
    process.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
    process.stdin.flush()
    while True:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"`{process.args!s:.60}` ended without an answer")
        answer = json.loads(line)
        if answer.get("id") == messages[-1]["id"]:
            if "result" not in answer:
                raise RuntimeError(f"refused: {answer}")
            return
