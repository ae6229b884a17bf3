"""How tests of this room start upstreams and wait for them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import uvicorn

from hitl_mcp.config import UpstreamConfig
from hitl_mcp.secrets import Secrets
from hitl_mcp.upstreams import LateAnswer, Progress, Send, Upstream, Upstreams

SERVERS = Path(__file__).resolve().parent / "servers"
RAW_SERVER = SERVERS / "raw_server.py"
SDK_SERVER = SERVERS / "sdk_server.py"

_ids = count(1)


def raw(name: str, *options: str, **more: Any) -> UpstreamConfig:
    """The server in plain Python; it needs no package, so it starts quickly."""
    return UpstreamConfig(name, command=sys.executable, args=("-I", "-S", str(RAW_SERVER), *options), **more)


def sdk(name: str, *options: str, **more: Any) -> UpstreamConfig:
    """The server written with the MCP SDK."""
    return UpstreamConfig(name, command=sys.executable, args=(str(SDK_SERVER), *options), **more)


@asynccontextmanager
async def running(*configs: UpstreamConfig, variables: Mapping[str, str] | None = None) -> AsyncIterator[Upstreams]:
    """Upstreams that were each reached, or failed a first time."""
    secrets = Secrets(variables or {}, Path("/"))
    async with Upstreams({config.name: config for config in configs}, secrets) as upstreams:
        with anyio.fail_after(10):
            await upstreams.settled()
        yield upstreams


@asynccontextmanager
async def one(config: UpstreamConfig) -> AsyncIterator[Upstream]:
    """A single upstream, ready."""
    async with running(config) as upstreams:
        upstream = upstreams.all()[0]
        assert upstream.state == "ready", upstream.detail
        yield upstream


def a_call(
    tool: str,
    arguments_json: str = "{}",
    *,
    on_progress: Progress | None = None,
    on_late: LateAnswer | None = None,
    **meta: Any,
) -> Send:
    """A call with an id of its own."""
    return Send(f"c_{next(_ids)}", tool, arguments_json, meta, on_progress=on_progress, on_late=on_late)


async def until(upstream: Upstream, condition: Callable[[], bool]) -> None:
    """Wait until a change of this upstream makes the condition true."""
    changed = anyio.Event()

    def look_again() -> None:
        changed.set()

    upstream.on_change(look_again)
    with anyio.fail_after(10):
        while not condition():
            await changed.wait()
            changed = anyio.Event()


async def gone(pid: int) -> None:
    """Wait until a process, of whoever, has ended."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with anyio.fail_after(10):
            await anyio.wait_readable(process)
    finally:
        os.close(process)


def lines(path: Path) -> list[str]:
    """What a server recorded."""
    return path.read_text().splitlines() if path.exists() else []


def free_socket(port: int = 0) -> socket.socket:
    """A loopback socket that listens, so that a client finds it at once."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(128)
    return listening


@asynccontextmanager
async def serving(app: Any, port: int = 0) -> AsyncIterator[str]:
    """An app on a free port, or on this one; yields its address. Streams it holds open must end before it does."""
    with free_socket(port) as listening:
        config = uvicorn.Config(app, log_level="error", ws="none", timeout_keep_alive=30, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listening])
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True
