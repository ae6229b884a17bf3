"""The connections of one upstream beside its first: for one conversation, or in the protocol era of one client.

An upstream with `isolation: session` gets one for each conversation, a process of its own where it is a program. One
that is reached over HTTP gets one for each set of things that clients with a handshake can do, because it is told of
them once for a whole connection. Each is opened when it is first needed, and closed when nobody needed it for a while.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from hitl_mcp.errors import HitlError, NotSent
from hitl_mcp.limits import LEG_IDLE_SECONDS, LEGS_PER_UPSTREAM, UPSTREAM_START_SECONDS
from hitl_mcp.upstreams.connect import Connection, ConnectionEvents, Way, connect

__all__ = ["Legs", "Wanted"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """Which connection is wanted. `is_modern` is None where any era will do."""

    conversation: str = ""
    is_modern: bool | None = None
    declared: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Equal for those that can share a connection. A modern client says what it can do with each request."""
        declared = None if self.is_modern else self.declared
        return json.dumps([self.conversation, self.is_modern, declared], sort_keys=True)


class _Leg:
    """One of the connections, from when it is wanted until it ended."""

    def __init__(self, conversation: str) -> None:
        self.conversation = conversation
        self.settled = anyio.Event()
        self.over = anyio.Event()
        self.connection: Connection | None = None
        self.problem = ""
        self.users = 0
        self.used_at = anyio.current_time()


class Legs:
    """Opens, shares and closes them. Its tasks live in the task group it is given."""

    def __init__(
        self,
        way: Way,
        events: ConnectionEvents,
        tasks: TaskGroup,
        *,
        at_most: int = LEGS_PER_UPSTREAM,
        idle_seconds: float = LEG_IDLE_SECONDS,
    ) -> None:
        self._at_most = at_most
        self._idle_seconds = idle_seconds
        self._way = way
        self._events = events
        self._tasks = tasks
        self._legs: dict[str, _Leg] = {}

    @asynccontextmanager
    async def using(self, wanted: Wanted) -> AsyncIterator[Connection]:
        """A connection as it is wanted, for as long as the context is open.

        Raises:
            NotSent: There is none, and none can be opened.
        """
        leg = self._live().get(wanted.key) or self._of_conversation(wanted) or self._open(wanted)
        leg.users += 1
        try:
            await leg.settled.wait()
            if leg.connection is None:
                raise NotSent(f"upstream `{self._way.config.name}` cannot be reached: {leg.problem}")
            yield leg.connection
        finally:
            leg.users -= 1
            leg.used_at = anyio.current_time()

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Those that are open."""
        return tuple(leg.connection for leg in self._live().values() if leg.connection is not None)

    def of(self, conversation: str) -> tuple[Connection, ...]:
        """Those that are open for one conversation."""
        own = (leg for leg in self._live().values() if leg.conversation == conversation)
        return tuple(leg.connection for leg in own if leg.connection is not None)

    async def opens(self, wanted: Wanted) -> bool:
        """Whether such a connection is open, or can be opened."""
        with suppress(NotSent):
            async with self.using(wanted):
                return True
        return False

    def _live(self) -> dict[str, _Leg]:
        """Those that are not about to close: what is sent on one that is would be cut off."""
        return {key: leg for key, leg in self._legs.items() if not leg.over.is_set()}

    def _of_conversation(self, wanted: Wanted) -> _Leg | None:
        """What runs when nobody waits for it any more runs where the conversation's calls ran before."""
        if wanted.is_modern is not None:
            return None
        return next((leg for leg in self._live().values() if leg.conversation == wanted.conversation), None)

    def _open(self, wanted: Wanted) -> _Leg:
        live = self._live().values()
        if len(live) >= self._at_most:
            idle = [leg for leg in live if leg.users == 0]
            if not idle:
                why = f"{self._at_most} conversations use it already, each with a connection of its own"
                raise NotSent(f"upstream `{self._way.config.name}` cannot be reached: {why}")
            min(idle, key=lambda leg: leg.used_at).over.set()
        leg = self._legs[wanted.key] = _Leg(wanted.conversation)
        self._tasks.start_soon(self._serve, wanted, leg)
        return leg

    async def _serve(self, wanted: Wanted, leg: _Leg) -> None:
        name = self._way.config.name
        try:
            async with connect(self._way, _EventsOf(leg, self._events), wanted.declared) as connection:
                await self._start(connection, wanted, leg)
                await self._until_over(leg)
                self._forget(wanted, leg)  # at once: leaving the connection may take seconds
        except TimeoutError:
            leg.problem = f"it did not answer within {UPSTREAM_START_SECONDS} s"
        except (MCPError, HitlError) as error:
            leg.problem = error.message
        except (ValidationError, RuntimeError) as error:
            leg.problem = str(error)
        except Exception:
            # One conversation's connection must not end the others.
            logger.exception("upstream `%s`: a connection failed", name)
            leg.problem = "an error in the gateway, which its log shows"
        finally:
            leg.connection = None
            self._forget(wanted, leg)
            leg.settled.set()

    async def _start(self, connection: Connection, wanted: Wanted, leg: _Leg) -> None:
        with anyio.fail_after(UPSTREAM_START_SECONDS):
            await connection.negotiate(modern=wanted.is_modern is not False)
            if connection.is_modern:
                await connection.list_tools()  # which of their arguments travel as headers, too
        leg.connection = connection
        leg.settled.set()

    async def _until_over(self, leg: _Leg) -> None:
        """Return once the leg was lost, had to make room, or was not used for a while."""
        while not leg.over.is_set():
            rested = anyio.current_time() - leg.used_at if leg.users == 0 else 0
            left = self._idle_seconds - rested
            if left <= 0:
                return
            with anyio.move_on_after(left):
                await leg.over.wait()

    def _forget(self, wanted: Wanted, leg: _Leg) -> None:
        if self._legs.get(wanted.key) is leg:
            del self._legs[wanted.key]


@dataclass(frozen=True)
class _EventsOf:
    """Hears of one leg: when it is lost it is over, and the upstream itself is not down."""

    leg: _Leg
    events: ConnectionEvents

    def lost(self, connection: Connection) -> None:
        self.leg.connection = None
        self.leg.problem = connection.lost_because or "it was lost"
        self.leg.over.set()

    @property
    def log_level(self) -> str | None:
        return self.events.log_level

    def tools_changed(self, connection: Connection) -> None:
        self.events.tools_changed(connection)

    def announced(self, method: str, params: dict[str, Any]) -> None:
        self.events.announced(method, params)

    def unattributed(self) -> None:
        self.events.unattributed()
