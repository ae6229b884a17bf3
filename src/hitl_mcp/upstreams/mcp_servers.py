"""Upstreams that speak MCP, each supervised by itself: connected, listed, and restarted when it is lost.

What one upstream does costs the others nothing: each has its own task, connection and client.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import anyio
from anyio.abc import TaskGroup
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from hitl_mcp.canonical import digest_of
from hitl_mcp.config import UpstreamConfig
from hitl_mcp.errors import HitlError, NotSent
from hitl_mcp.limits import (
    RELIST_PAUSE_SECONDS,
    RESTART_BACKOFF_SECONDS,
    UPSTREAM_STABLE_SECONDS,
    UPSTREAM_START_SECONDS,
)
from hitl_mcp.secrets import Secrets
from hitl_mcp.upstreams.connect import Connection, Way, connect
from hitl_mcp.upstreams.ledger import Ledger, Send
from hitl_mcp.upstreams.streamable_http import http_client

__all__ = ["Upstream", "UpstreamState", "Upstreams"]

logger = logging.getLogger(__name__)

_RELIST_RESTS = 20
"""How many times as long as its new definitions took to take in an upstream waits until it is listed again."""

UpstreamState = Literal["starting", "ready", "down"]


class Upstream:
    """One tool source behind the gate.

    `detail` says why it is down, and what would help. `tools` are its definitions as it last sent them, also while
    it is down; `warnings` what was wrong with that list.
    """

    def __init__(self, config: UpstreamConfig, secrets: Secrets, ledger: Ledger, directory: Path) -> None:
        self.config = config
        self.name = config.name
        self.labels: Mapping[str, str] = config.labels
        self.fingerprint = _fingerprint(config, directory)
        self.state: UpstreamState = "starting"
        self.detail = ""
        self.tools: tuple[dict[str, Any], ...] = ()
        self.warnings: tuple[str, ...] = ()
        self.settled = anyio.Event()
        self._secrets = secrets
        self._ledger = ledger
        self._directory = directory
        self._connection: Connection | None = None
        self._running: dict[str, Connection] = {}
        self._callbacks: list[Callable[[], None]] = []
        self._asks_modern_first = True

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, at once and without waiting, whenever the state or the tools changed."""
        self._callbacks.append(callback)

    # Calls.

    async def send(self, send: Send) -> dict[str, Any]:
        """Send a call, once, and return the tool's result as the upstream sent it. It has no deadline of its own.

        Where the wait is cancelled, `has_sent` tells whether the call left; its answer may still come, and `on_late`
        of the call gets it then, once, as long as this connection lives.

        Raises:
            NotSent: It is certain that nothing was sent.
            UpstreamRefused: The upstream answered with an error of its own, or needs an input that nobody may give.
            OutcomeUnknown: It was sent, or may have been, and no usable answer came.
        """
        connection = self._connection
        if connection is None:
            reason = f": {self.detail}" if self.detail else ""
            raise NotSent(f"upstream `{self.name}` is {self.state}{reason}", help="`hitl-mcp status` shows upstreams")
        self._running[send.call_id] = connection
        try:
            return await connection.call(send)
        finally:
            self._running.pop(send.call_id, None)

    async def cancel(self, call_id: str) -> None:
        """Ask the upstream to stop a call that runs; `send` keeps waiting for its answer.

        A modern upstream over HTTP is told by closing the connection, so that its `send` ends with `OutcomeUnknown`.
        """
        connection = self._running.get(call_id)
        if connection is not None:
            await connection.cancel(call_id)

    def has_sent(self, call_id: str) -> bool:
        """Whether the bytes of this call were handed to a connection."""
        return self._ledger.has_sent(call_id)

    # Supervision.

    async def supervise(self) -> None:
        """Keep the upstream connected, for ever, with pauses between attempts that grow until it holds."""
        if self.config.url is None:
            await self._keep_up(Way(self.config, self._secrets, self._ledger, self._directory, None))
        else:
            async with http_client(self.config.url, self._ledger) as client:
                await self._keep_up(Way(self.config, self._secrets, self._ledger, self._directory, client))

    async def _keep_up(self, way: Way) -> None:
        failures = 0
        while True:
            started_at = anyio.current_time()
            try:
                reason = await self._live(way)
            except HitlError as error:
                reason = self._reason(error)
            except Exception:
                # Whatever else: a fault of ours, or an upstream we did not expect. It must not stop the gateway.
                logger.exception("upstream `%s`: the connection failed", self.name)
                reason = "an error in the gateway, which its log shows"
            if anyio.current_time() - started_at > UPSTREAM_STABLE_SECONDS:
                failures = 0
            pause = RESTART_BACKOFF_SECONDS[min(failures, len(RESTART_BACKOFF_SECONDS) - 1)]
            failures += 1
            self._becomes("down", reason)
            await anyio.sleep(pause)

    async def _live(self, way: Way) -> str:
        """Connect and serve until the connection is lost; return why."""
        async with connect(way, self._lost) as connection, anyio.create_task_group() as tasks:
            failed = await self._start(connection)
            if failed is None:
                tasks.start_soon(connection.subscribe)
            reason = failed or await self._follow(connection)
            tasks.cancel_scope.cancel()
            self._becomes("down", reason)  # at once: leaving the contexts may take seconds
        return reason

    async def _start(self, connection: Connection) -> str | None:
        """Negotiate and list; return why that failed, or None."""
        try:
            with anyio.fail_after(UPSTREAM_START_SECONDS):
                await connection.negotiate(modern=self._asks_modern_first)
                await self._list(connection)
        except TimeoutError:
            return f"it did not answer within {UPSTREAM_START_SECONDS} s"
        except (MCPError, HitlError, ValidationError, RuntimeError) as error:
            self._asks_modern_first = not connection.dies_of_discover
            return connection.lost_because or self._reason(error)
        self._becomes("ready", "", connection)
        return None

    async def _follow(self, connection: Connection) -> str:
        """Look at the tools again whenever they may have changed; return why the connection was lost."""
        while True:
            await connection.news()
            if connection.lost_because is not None:
                return connection.lost_because
            before = (self.tools, self.warnings)
            try:
                with anyio.fail_after(UPSTREAM_START_SECONDS):
                    await self._list(connection)
            except TimeoutError:
                return f"it did not list its tools within {UPSTREAM_START_SECONDS} s"
            except (MCPError, HitlError) as error:
                return connection.lost_because or self._reason(error)
            began = time.perf_counter()
            if before != (self.tools, self.warnings):
                self._tell()
            taken = time.perf_counter() - began  # reading a thousand new definitions holds everything else up
            await anyio.sleep(max(RELIST_PAUSE_SECONDS, taken * _RELIST_RESTS))

    def _lost(self, connection: Connection) -> None:
        """At once, so that no call starts on a connection that is gone."""
        if connection is self._connection:
            self._becomes("down", connection.lost_because or "")

    async def _list(self, connection: Connection) -> None:
        listing = await connection.list_tools()
        self.tools, self.warnings = listing.tools, listing.warnings

    def _becomes(self, state: UpstreamState, detail: str, connection: Connection | None = None) -> None:
        changed = (self.state, self.detail) != (state, detail)
        self.state, self.detail, self._connection = state, detail, connection
        self.settled.set()
        if changed:
            level = logging.INFO if state == "ready" else logging.WARNING
            logger.log(level, "upstream `%s` is %s%s", self.name, state, f": {detail}" if detail else "")
            self._tell()

    def _tell(self) -> None:
        for callback in self._callbacks:
            callback()

    def _reason(self, error: Exception) -> str:
        """An error's text as it stands behind the upstream's name, with what would help."""
        text = error.message if isinstance(error, HitlError | MCPError) else str(error)
        text = text.replace(f"upstream `{self.name}` ", "it ", 1)
        help_text = error.help if isinstance(error, HitlError) else None
        return f"{text} ({help_text})" if help_text else text


class Upstreams:
    """All upstreams of a gateway. Enter it, or `run` it, in the main thread.

    On Linux the kernel kills the children of stdio upstreams when the thread that started them ends.
    """

    def __init__(
        self, configs: Mapping[str, UpstreamConfig], secrets: Secrets, *, directory: Path | None = None
    ) -> None:
        """`directory` is where children start, so that relative paths mean the same whoever starts the gateway."""
        ledger = Ledger()
        where = directory or Path.cwd()
        self._upstreams = {config.name: Upstream(config, secrets, ledger, where) for config in configs.values()}
        self._tasks: TaskGroup | None = None

    def names(self) -> tuple[str, ...]:
        """The names of all upstreams, in the order of the config."""
        return tuple(self._upstreams)

    def get(self, name: str) -> Upstream | None:
        """The upstream of this name, or None."""
        return self._upstreams.get(name)

    def all(self) -> tuple[Upstream, ...]:
        """All upstreams, in the order of the config."""
        return tuple(self._upstreams.values())

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, at once and without waiting, whenever some upstream's state or tools changed."""
        for upstream in self._upstreams.values():
            upstream.on_change(callback)

    async def run(self) -> None:
        """Supervise all upstreams, until cancelled; then stop them."""
        async with anyio.create_task_group() as tasks:
            for upstream in self._upstreams.values():
                tasks.start_soon(upstream.supervise)

    async def settled(self) -> None:
        """Return once each upstream was reached or failed a first time."""
        for upstream in self._upstreams.values():
            if not upstream.settled.is_set():  # the wait itself yields, also where there is nothing to wait for
                await upstream.settled.wait()

    async def __aenter__(self) -> Upstreams:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self.run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(None, None, None)


def _fingerprint(config: UpstreamConfig, directory: Path) -> str:
    """What identifies the program or address a call goes to; of secrets only the references are in it."""
    if config.url is not None:
        return digest_of({"url": config.url})
    return digest_of({"command": config.command, "args": list(config.args), "cwd": str(directory)})
