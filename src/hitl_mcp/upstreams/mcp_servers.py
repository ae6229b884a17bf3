"""Upstreams that speak MCP, each supervised by itself: connected, listed, and restarted when it is lost.

What one upstream does costs the others nothing: each has its own task, connection and client.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import anyio
from anyio.abc import TaskGroup
from mcp.shared.exceptions import MCPError
from mcp_types import ServerCapabilities
from pydantic import ValidationError

from hitl_mcp.canonical import digest_of
from hitl_mcp.config import UpstreamConfig
from hitl_mcp.errors import HitlError, NotSent, UpstreamError
from hitl_mcp.limits import (
    LEGS_OVER_HTTP,
    LEGS_PER_UPSTREAM,
    LIST_SECONDS,
    RELIST_PAUSE_SECONDS,
    RESTART_BACKOFF_SECONDS,
    UPSTREAM_STABLE_SECONDS,
    UPSTREAM_START_SECONDS,
)
from hitl_mcp.secrets import Secrets
from hitl_mcp.upstreams.asker import Asker, declared_for, declared_to_all, patient
from hitl_mcp.upstreams.connect import Connection, Way, connect, endpoint_of
from hitl_mcp.upstreams.ledger import Ledger, Send
from hitl_mcp.upstreams.legs import Legs, Wanted
from hitl_mcp.upstreams.oauth import Access
from hitl_mcp.upstreams.sign_ins import SignIns
from hitl_mcp.upstreams.streamable_http import http_client

__all__ = ["Upstream", "UpstreamState", "Upstreams"]

logger = logging.getLogger(__name__)

_RELIST_RESTS = 20
"""How many times as long as its new definitions took to take in an upstream waits until it is listed again."""

UpstreamState = Literal["starting", "ready", "down"]

Announced = Callable[["Upstream", str, dict[str, Any]], None]
"""Takes a notification of an upstream by method and params: its resources or prompts, or one resource, changed."""


class Upstream:
    """One tool source behind the gate.

    `detail` says why it is down, and what would help. `tools` are its definitions as it last sent them, also while
    it is down; `warnings` what was wrong with that list.
    """

    def __init__(
        self,
        config: UpstreamConfig,
        secrets: Secrets,
        ledger: Ledger,
        directory: Path,
        sign_ins: SignIns | None = None,
    ) -> None:
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
        self._announcements: list[Announced] = []
        self._legs: Legs | None = None
        self._hints: tuple[str, ...] = ()
        self._subscribed: Counter[str] = Counter()
        self._log_level: str | None = None
        self._asks_modern_first = True
        self._speaks_legacy = True
        self._access: Access | None = None
        if config.oauth is not None:
            if sign_ins is None:
                raise ValueError("an upstream with `oauth` needs a place where sign-ins are kept")
            self._access = Access(config, secrets, sign_ins, self._access_changed)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, at once and without waiting, whenever the state or the tools changed."""
        self._callbacks.append(callback)

    def on_announcement(self, callback: Announced) -> None:
        """Have `callback` called, at once and without waiting, when resources or prompts may be others now."""
        self._announcements.append(callback)

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
        async with self._reached(send.asker, send.conversation) as connection:
            self._running[send.call_id] = connection
            try:
                return await connection.call(send)
            finally:
                self._running.pop(send.call_id, None)

    async def request(self, method: str, params: dict[str, Any], asker: Asker, conversation: str) -> dict[str, Any]:
        """Send anything that is no tool call for a client, and return the result as the upstream wrote it.

        Raises:
            MCPError: The upstream refused.
            UpstreamError: It cannot be reached, or gave no usable answer.
        """
        with anyio.move_on_after(self.config.timeout_seconds) as limit:
            async with self._reached(asker, conversation) as connection:
                return await connection.request(method, params, patient(asker, limit))
        raise UpstreamError(
            f"upstream `{self.name}` gave no answer to `{method}` within {self.config.timeout_seconds:g} s"
        )

    @property
    def log_level(self) -> str | None:
        """From which level on somebody wants to hear its log; None where nobody said."""
        return self._log_level

    async def set_log_level(self, level: str) -> None:
        """Have it log from this level on, on the connections that there are and those to come."""
        self._log_level = level
        first = (self._connection,) if self._connection is not None else ()
        for connection in (*first, *(self._legs.connections if self._legs is not None else ())):
            await connection.tell_log_level()

    async def roots_changed(self, conversation: str) -> None:
        """Tell it that a client's roots are others now, on the connections that it has for that client."""
        for connection in self._legs.of(conversation) if self._legs is not None and conversation else ():
            await connection.tell_roots_changed()

    async def subscribe(self, uri: str) -> None:
        """Have the upstream say when this resource changes, until as many `unsubscribe` as this was called.

        Raises:
            MCPError: The upstream refused.
            UpstreamError: It cannot be reached, or gave no usable answer.
        """
        self._subscribed[uri] += 1  # before the wait: a second one must not watch it once more
        if self._subscribed[uri] > 1 or self._connection is None:
            return
        is_watched = False
        try:
            with anyio.move_on_after(LIST_SECONDS):
                await self._connection.subscriptions.watch(uri)
                is_watched = True
        finally:
            if not is_watched:
                self.unsubscribe(uri)
        if not is_watched:
            raise UpstreamError(f"upstream `{self.name}` gave no answer within {LIST_SECONDS} s")

    def unsubscribe(self, uri: str) -> None:
        """Take back one `subscribe`."""
        self._subscribed[uri] -= 1
        if self._subscribed[uri] <= 0:
            del self._subscribed[uri]
            if self._connection is not None:
                self._connection.subscriptions.unwatch(uri)

    @property
    def capabilities(self) -> ServerCapabilities | None:
        """What it says it offers; None while it is not connected."""
        return self._connection.capabilities if self._connection is not None else None

    @asynccontextmanager
    async def _reached(self, asker: Asker | None, conversation: str) -> AsyncIterator[Connection]:
        """The connection for a client: of its protocol era if that is to be had, and of its conversation if kept apart.

        A program speaks one era for as long as it runs, and what it remembers must not depend on who asks: so all
        share its one connection, whatever their era.

        Raises:
            NotSent: There is none.
        """
        if self._access is not None and self._connection is not None and not await self._access.renewed():
            raise NotSent(f"upstream `{self.name}` is out of reach: {self._access.problem}")
        connection, legs = self._connection, self._legs
        if connection is None or legs is None:
            reason = f": {self.detail}" if self.detail else ""
            raise NotSent(f"upstream `{self.name}` is {self.state}{reason}", help="`hitl-mcp status` shows upstreams")
        wanted = self._wanted(asker, conversation, connection)
        if wanted is not None and connection.is_modern and wanted.is_modern is False:
            # It may know no handshake at all; then a client that does is served by what it knows.
            self._speaks_legacy = await legs.opens(wanted)
            wanted = self._wanted(asker, conversation, connection)
        if wanted is None:
            yield connection
        else:
            async with legs.using(wanted) as leg:
                yield leg

    def _wanted(self, asker: Asker | None, conversation: str, first: Connection) -> Wanted | None:
        """Which connection but the first is for this client, or None."""
        is_apart = self.config.isolation == "session" and bool(conversation)
        if asker is None:
            return Wanted(conversation) if is_apart else None
        is_modern = first.is_modern and (asker.is_modern or not self._speaks_legacy)
        if not is_apart and (self.config.url is None or is_modern):
            return None
        declared = declared_for(asker, self.config)
        # An older upstream asks for roots once in a connection: two clients on one would get each other's.
        is_own = is_apart or (not is_modern and "roots" in declared)
        return Wanted(conversation if is_own else "", is_modern, declared)

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
                way = Way(self.config, self._secrets, self._ledger, self._directory, client, self._access)
                async with anyio.create_task_group() as tasks:
                    if self._access is not None:
                        tasks.start_soon(self._keep_access, self._access)
                    await self._keep_up(way)

    async def _keep_access(self, access: Access) -> None:
        """Have an access token for as long as the gateway runs."""
        while True:
            try:
                await access.run(endpoint_of(self.config, self._secrets))
            except HitlError as error:
                access.problem = self._reason(error)
            except Exception as error:
                # As in `_keep_up`; but what the libraries say may hold what was sent, so its kind must do.
                logger.error("upstream `%s`: its sign-in failed: %s", self.name, type(error).__name__)
                access.problem = "an error in the gateway during the sign-in, which its log shows"
            self._access_changed()
            await anyio.sleep(RESTART_BACKOFF_SECONDS[-1])

    def _access_changed(self) -> None:
        """Called by the access, at once: nothing is connected without one, and what is ends with it for a person."""
        if self._access is None or not self._access.problem:
            return
        if self._connection is None:
            self._becomes("down", self._access.problem)
        elif self._access.wants_person:
            self._connection.lost(self._access.problem)

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
        if self._access is not None and not self._access.is_usable:
            self._access_changed()
            await self._access.usable()
        declared = declared_to_all(self.config) if self.config.url is None else {}
        async with connect(way, self, declared) as connection, anyio.create_task_group() as tasks:
            at_most = LEGS_PER_UPSTREAM if self.config.url is None else LEGS_OVER_HTTP
            self._legs = Legs(way, self, tasks, at_most=at_most)
            self._speaks_legacy = True  # until it shows that it does not; it may be another server than it was
            failed = await self._start(connection)
            if failed is None:
                tasks.start_soon(connection.subscriptions.listen)
                tasks.start_soon(connection.subscriptions.watch_all, tuple(self._subscribed))
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
            else:
                # It may have taken back what it changed: who listens to it directly hears of that, too.
                self.announced("notifications/tools/list_changed", {})
            taken = time.perf_counter() - began  # reading a thousand new definitions holds everything else up
            await anyio.sleep(max(RELIST_PAUSE_SECONDS, taken * _RELIST_RESTS))

    def lost(self, connection: Connection) -> None:
        """Called by its first connection: at once, so that no call starts on one that is gone."""
        if connection is self._connection:
            self._becomes("down", connection.lost_because or "")

    def tools_changed(self, connection: Connection) -> None:
        """Called by its connections: another one than the first was told, and the first is the one that lists."""
        if self._connection is not None and connection is not self._connection:
            self._connection.tools_changed()

    def announced(self, method: str, params: dict[str, Any]) -> None:
        """Called by its connections: resources or prompts may be others now."""
        if method.startswith("notifications/resources/") and not self.config.resources:
            return
        if method.startswith("notifications/prompts/") and not self.config.prompts:
            return
        if method == "notifications/resources/updated" and params.get("uri") not in self._subscribed:
            return  # nobody wants to know, or not of this one: a resource is not another upstream's to speak of
        for callback in self._announcements:
            callback(self, method, params)

    def unattributed(self) -> None:
        """Called by its connections: a question of the upstream could not be put to anybody."""
        if not self._hints:
            hint = (
                "it asked something while several calls ran, and nobody could tell for which of them: "
                "`isolation: session` gives each conversation a connection of its own"
            )
            self._hints = (hint,)
            self.warnings = (*self.warnings, hint)
            self._tell()

    async def _list(self, connection: Connection) -> None:
        listing = await connection.list_tools()
        self.tools, self.warnings = listing.tools, (*listing.warnings, *self._hints)

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
        self,
        configs: Mapping[str, UpstreamConfig],
        secrets: Secrets,
        *,
        directory: Path | None = None,
        sign_ins: SignIns | None = None,
    ) -> None:
        """`directory` is where children start, so that relative paths mean the same whoever starts the gateway.

        `sign_ins` is needed where an upstream has `oauth`.
        """
        ledger = Ledger()
        where = directory or Path.cwd()
        self._upstreams = {
            config.name: Upstream(config, secrets, ledger, where, sign_ins) for config in configs.values()
        }
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

    def on_announcement(self, callback: Announced) -> None:
        """Have `callback` called, at once and without waiting, when some upstream's resources or prompts changed."""
        for upstream in self._upstreams.values():
            upstream.on_announcement(callback)

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
