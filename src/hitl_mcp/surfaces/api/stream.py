"""Server-sent events: what happens to calls, as it happens, resumable after any event."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
from starlette.types import Message, Receive, Scope, Send

from hitl_mcp.calls import CallEvent
from hitl_mcp.limits import EVENT_KEEPALIVE_SECONDS
from hitl_mcp.store import SIGN_IN_EVENTS, Feed, FeedBehind, SqliteStore
from hitl_mcp.surfaces.api.wire import event_wire

_PAGE = 100

REPLAY_EVENTS = 10_000
"""A reader that missed more is told to read everything again: that takes less time than being told of each."""


class EventStream:
    """An HTTP answer that goes on until the reader leaves, is signed out, or the gateway closes.

    It says `ready` with the number of the newest event once it follows the store: who reads the calls after that
    misses nothing. `after` makes it begin with what happened since that event. Where that is too much to tell, or is no
    event of this record, as after a restore, it says `reset` first: all that the reader knows may be another thing now.
    """

    def __init__(
        self,
        store: SqliteStore,
        after: int | None,
        may_go_on: Callable[[], Awaitable[bool]],
        stopping: anyio.Event,
        ended: Callable[[], None],
    ) -> None:
        self._store = store
        self._after = after
        self._may_go_on = may_go_on
        self._stopping = stopping
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_after, tasks.cancel_scope, self._stopping.wait)
                tasks.start_soon(_cancel_after, tasks.cancel_scope, partial(_gone, receive))
                await self._send_events(send)
                tasks.cancel_scope.cancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._ended()

    async def _send_events(self, send: Send) -> None:
        last = self._after
        while True:
            with self._store.follow() as feed:
                newest = await self._store.last_event_number()
                last = newest if last is None else last
                if not newest - REPLAY_EVENTS <= last <= newest:
                    last = newest
                    await send(_chunk(f"id: {newest}\nevent: reset\ndata: {json.dumps({'number': newest})}\n\n"))
                await send(_chunk(f"event: ready\ndata: {json.dumps({'number': newest})}\n\n"))
                while events := await self._store.events_after(last, _PAGE):
                    for event in events:
                        await send(_event_chunk(event))
                        last = event.number
                try:
                    await self._follow(feed, last, send)
                    return
                except FeedBehind:  # too slow for the feed: begin again from what was sent last
                    last = self._sent

    async def _follow(self, feed: Feed, last: int, send: Send) -> None:
        """Send what the feed brings, until this reader may no longer see it."""
        self._sent = last
        while True:
            event = await feed.next(timeout_seconds=EVENT_KEEPALIVE_SECONDS)
            if not await self._may_go_on():
                return
            if event is None:
                await send(_chunk(": still here\n\n"))
            elif event.number > self._sent:
                await send(_event_chunk(event))
                self._sent = event.number


async def _cancel_after(scope: anyio.CancelScope, wait: Callable[[], Awaitable[object]]) -> None:
    await wait()
    scope.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event_chunk(event: CallEvent) -> Message:
    """An event as it is sent; who signs in and out is on record for admins, and no news for everybody."""
    if event.kind in SIGN_IN_EVENTS:
        return _chunk(": nothing of a call\n\n")
    return _chunk(f"id: {event.number}\nevent: call\ndata: {json.dumps(event_wire(event))}\n\n")


def _chunk(text: str) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}
