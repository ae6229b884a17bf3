"""Streams that a client can pick up again: what was sent on them lately, in memory. What that means is not known here.

An event's id is a chance number that only the session it was made for can use; another session, also of the same
agent, finds nothing under it. What is kept is bounded for each agent, and what is gone is not replayed: the record
knows what became of a call. A stream that ends, or is picked up again, changes no call.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthorizationContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore, StreamableHTTPServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import JSONRPCMessage

KEPT_EVENTS = 256
"""Events kept of one agent, over all its sessions: a few for each of the calls it may have in flight."""

KEPT_BYTES = 1024 * 1024
"""The same in bytes: one message of the largest size."""

RETRY_MILLISECONDS = 1000
"""After which a client asks again for a stream that ended; the protocol's own default."""


@dataclass(frozen=True)
class _Event:
    session: EventsOfSession
    stream: str
    message: JSONRPCMessage | None
    size_bytes: int


class EventsOfAgent:
    """What is kept of one agent, oldest first. An event larger than all that is kept takes the rest with it."""

    def __init__(self) -> None:
        self._events: OrderedDict[str, _Event] = OrderedDict()
        self._size_bytes = 0

    def keep(self, event: _Event) -> str:
        """Keep an event, and forget the oldest where that is too much."""
        event_id = secrets.token_urlsafe(16)
        self._events[event_id] = event
        self._size_bytes += event.size_bytes
        while len(self._events) > KEPT_EVENTS or self._size_bytes > KEPT_BYTES:
            _, forgotten = self._events.popitem(last=False)
            self._size_bytes -= forgotten.size_bytes
        return event_id

    def after(self, event_id: str, asking: EventsOfSession) -> tuple[str, list[tuple[str, _Event]]] | None:
        """The stream of an event, and what came on it since; None where this session has no such event."""
        last = self._events.get(event_id)
        if last is None or last.session is not asking:
            return None
        ids = list(self._events)
        later = [(one, self._events[one]) for one in ids[ids.index(event_id) + 1 :]]
        return last.stream, [(one, e) for one, e in later if (e.session, e.stream) == (asking, last.stream)]


class EventsOfSession(EventStore):
    """The SDK's event store, for one session."""

    def __init__(self, kept: EventsOfAgent) -> None:
        self._kept = kept

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Keep an event, and name it."""
        size_bytes = len(message.model_dump_json(by_alias=True, exclude_unset=True)) if message is not None else 0
        return self._kept.keep(_Event(self, stream_id, message, size_bytes))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Send again what came on the same stream after an event; None where that is not known."""
        found = self._kept.after(last_event_id, self)
        if found is None:
            return None
        stream, events = found
        for event_id, event in events:
            if event.message is not None:
                await send_callback(EventMessage(event.message, event_id))
        return stream


class ResumableSessions(StreamableHTTPSessionManager):
    """The SDK's sessions, each with events of its own: one store for all would replay any agent's to any other."""

    def __init__(self, server: Server[Any], max_request_body_size: int) -> None:
        super().__init__(app=server, max_request_body_size=max_request_body_size, retry_interval=RETRY_MILLISECONDS)
        self._kept: dict[str, EventsOfAgent] = {}

    def _admit_session(self, requestor: AuthorizationContext | None) -> StreamableHTTPServerTransport | None:
        agent = requestor["client_id"] if requestor is not None else ""
        self.event_store = EventsOfSession(self._kept.setdefault(agent, EventsOfAgent()))
        return super()._admit_session(requestor)
