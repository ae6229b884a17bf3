"""The real gateway, many times one after the other, each in a process of its own that may die at a place.

A program: `crash_gateway.py CONFIG [ARMED]`. What each would import is imported once, which is most of a start: each
line on stdin (`{"ahead_seconds": 0}`) forks a process that runs `hitl-mcp serve`, and its end is told on stdout.

The file ARMED names the place as `NAME@NTH`; it is read at each passage, so that a gateway can be armed while it runs.
Nothing but dying, and a clock that goes ahead, is added to what the gateway does by itself; without ARMED nothing is.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import hitl_mcp.app  # noqa: F401 - so that no gateway has to import it
from hitl_mcp import cli
from hitl_mcp.audit.checkpoints import Signer
from hitl_mcp.calls import CallRecord
from hitl_mcp.clock import Clock
from hitl_mcp.executor import Executor
from hitl_mcp.store.writer import Writer
from hitl_mcp.surfaces.agents import socket as agent_socket
from hitl_mcp.surfaces.api import _Answer
from hitl_mcp.surfaces.api.verdicts import VerdictEndpoints
from hitl_mcp.upstreams.stdio import StdioWire
from hitl_mcp.upstreams.streamable_http import HttpWire

EXIT_CODE = 86
"""How a gateway ends that died at its place, and nobody else does."""

_CALL = b'"method":"tools/call"'
_ANSWER_TO_CALL = b'"id": "c_'
_VERBS = frozenset({"verdict", "resolve", "pause", "resume"})


class Places:
    """The places that are passed, and the one at which this process ends."""

    def __init__(self, armed: Path) -> None:
        self._armed = armed
        self._armed_with = ""
        self._passed: Counter[str] = Counter()

    def passed(self, name: str) -> None:
        """End here, as a crash does, if this is the place and the passage that is armed."""
        try:
            armed_with = self._armed.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        if armed_with != self._armed_with:
            self._armed_with = armed_with
            self._passed.clear()
        self._passed[name] += 1
        if armed_with == f"{name}@{self._passed[name]}":
            os._exit(EXIT_CODE)

    def soon_passed(self, name: str) -> None:
        """As `passed`, once the loop has handed on to the kernel what was written just now."""
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self.passed, name)


def around(places: Places, owner: Any, method: str, name_of: Callable[..., str | None]) -> None:
    """Pass `before NAME` and `after NAME` around an asynchronous method; a call without a name passes nothing."""
    original: Callable[..., Awaitable[Any]] = getattr(owner, method)

    @wraps(original)
    async def passing(*args: Any, **options: Any) -> Any:
        name = name_of(*args, **options)
        if name is None:
            return await original(*args, **options)
        places.passed(f"before {name}")
        result = await original(*args, **options)
        places.soon_passed(f"after {name}")
        return result

    setattr(owner, method, passing)


# The record.


def commits(places: Places) -> None:
    """`before commit of X`: all is written, nothing committed. `after commit of X`: nobody was told yet."""
    step, commit = Writer._step, Writer._commit
    written: list[str] = []

    def stepping(self: Writer, connection: Any, member: Any) -> bool:
        done = step(self, connection, member)
        if done:
            names = [_name_of_event(event, member.result) for event in member.events]
            written.extend(names)
            for name in names:
                places.passed(f"before commit of {name}")
        return done

    def committing(self: Writer, connection: Any, batch: Any) -> None:
        written.clear()
        commit(self, connection, batch)
        for name in written:
            places.passed(f"after commit of {name}")

    Writer._step, Writer._commit = stepping, committing  # type: ignore[method-assign]


def _name_of_event(event: Any, result: Any) -> str:
    if event.kind == "asked":
        return f"asked, {event.status}"
    if event.kind == "rejected" and isinstance(result, CallRecord) and result.run_by is not None:
        return "undone"
    if event.kind in ("succeeded", "failed") and event.by != "gateway":
        return f"{event.kind}, found out"
    return str(event.kind)


def checkpoints(places: Places) -> None:
    """Around the signing of the chain's head."""
    sign = Signer.sign

    def signing(self: Signer, *args: Any, **options: Any) -> None:
        places.passed("before sign")
        sign(self, *args, **options)
        places.passed("after sign")

    Signer.sign = signing  # type: ignore[method-assign]


# The upstreams.


def sends(places: Places) -> None:
    """`before send`: not a byte is written. `after send`: the upstream has them all."""
    write, stream = StdioWire._write, HttpWire._stream

    def writing(self: StdioWire, frame: bytes) -> None:
        if _CALL not in frame:
            write(self, frame)
            return
        places.passed("before send")
        write(self, frame)
        places.soon_passed("after send")

    def streaming(
        self: HttpWire,
        method: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> Any:
        if body is None or extensions is None or _CALL not in body:
            return stream(self, method, headers, body, extensions)
        trace = extensions["trace"]

        async def tracing(step: str, info: object) -> None:
            if step == "http11.send_request_headers.started":
                places.passed("before send")
            await trace(step, info)
            if step == "http11.send_request_body.complete":
                places.passed("after send")

        return stream(self, method, headers, body, {**extensions, "trace": tracing})

    StdioWire._write, HttpWire._stream = writing, streaming  # type: ignore[method-assign]


def receives(places: Places) -> None:
    """`before receive`: the answer is read. `after receive`: it is handed on. `before outcome`: nothing is written."""
    take = StdioWire._take

    def taking(self: StdioWire, line: bytes) -> None:
        if _ANSWER_TO_CALL not in line:
            take(self, line)
            return
        places.passed("before receive")
        take(self, line)
        places.passed("after receive")

    StdioWire._take = taking  # type: ignore[method-assign]
    around(places, HttpWire, "_answer", lambda wire, response, to: "receive" if to.method == "tools/call" else None)
    answer = Executor._answer

    async def answering(*args: Any) -> None:
        await answer(*args)
        places.passed("before outcome")

    Executor._answer = answering  # type: ignore[method-assign, assignment]


# The doors.


def doors(places: Places) -> None:
    """Around each request that is read, and each answer that is written, of agents and reviewers."""
    around(places, agent_socket._Reader, "_message", lambda reader, raw: "request" if b"tools/call" in raw else None)
    around(places, agent_socket._Writer, "_write", lambda writer, frame: _name_of_answer(frame))
    around(places, _Answer, "__call__", lambda door, scope, receive, send: _name_of_post(scope))
    for name in ("give_verdict", "resolve"):
        endpoint = getattr(VerdictEndpoints, name)

        @wraps(endpoint)
        async def answered(*args: Any, endpoint: Any = endpoint) -> Any:
            answer = await endpoint(*args)
            places.passed("before answer to reviewer")
            return answer

        setattr(VerdictEndpoints, name, answered)


def _name_of_answer(frame: bytes) -> str | None:
    result = json.loads(frame).get("result")
    if not isinstance(result, dict) or "content" not in result:
        return None
    told = result.get("structuredContent") or {}
    return f"answer {told.get('status', 'plain')}"


def _name_of_post(scope: Mapping[str, Any]) -> str | None:
    verb = str(scope["path"]).rpartition("/")[2]
    return f"POST {verb}" if scope["method"] == "POST" and verb in _VERBS else None


def ahead(seconds: float) -> None:
    """Have the gateway's clock go ahead."""
    now = Clock.now

    def later(self: Clock) -> datetime:
        return now(self) + timedelta(seconds=seconds)

    Clock.now = later  # type: ignore[method-assign]


# The processes.


def main(config: str, armed: str | None) -> None:
    """Start a gateway for each line on stdin, and end with stdin."""
    if armed is not None:
        here = Places(Path(armed))
        for wrap in (commits, checkpoints, sends, receives, doors):
            wrap(here)
    ended, told = os.pipe()
    os.set_blocking(told, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(told)
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            serve(config, json.loads(line)["ahead_seconds"])
        print(json.dumps({"pid": pid}), flush=True)
        readable, _, _ = select.select([ended, sys.stdin], [], [])
        if ended not in readable:  # nobody is there any more
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.read(ended, 100)
        print(json.dumps({"exit": os.waitstatus_to_exitcode(status)}), flush=True)


def serve(config: str, ahead_seconds: float) -> None:
    """Be the gateway, to its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if ahead_seconds:
        ahead(ahead_seconds)
    cli.main(["serve", "--config", config])
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
