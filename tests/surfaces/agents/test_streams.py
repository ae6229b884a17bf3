"""Streams of `/mcp` that are picked up again: by whom, what comes, and how much is kept."""

from __future__ import annotations

from mcp.server.streamable_http import EventMessage
from mcp_types import JSONRPCMessage, JSONRPCNotification

from hitl_mcp.surfaces.agents.streams import KEPT_BYTES, KEPT_EVENTS, EventsOfAgent, EventsOfSession


def said(words: str) -> JSONRPCMessage:
    """A message with these words."""
    return JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params={"data": words})


async def replayed(session: EventsOfSession, event_id: str) -> tuple[str | None, list[str]]:
    """The stream that goes on behind an event, and the words that are sent again on it."""
    words: list[str] = []

    async def send(sent: EventMessage) -> None:
        assert isinstance(sent.message, JSONRPCNotification)
        words.append((sent.message.params or {})["data"])

    return await session.replay_events_after(event_id, send), words


async def test_what_came_on_a_stream_after_an_event_comes_again_and_nothing_of_another_stream() -> None:
    """In its order, without the empty event that began the stream."""
    session = EventsOfSession(EventsOfAgent())
    first = await session.store_event("1", None)
    await session.store_event("2", said("of another call"))
    second = await session.store_event("1", said("a"))
    await session.store_event("1", said("b"))
    assert await replayed(session, first) == ("1", ["a", "b"])
    assert await replayed(session, second) == ("1", ["b"])


async def test_an_event_of_another_session_is_as_one_that_never_was() -> None:
    """Of another agent, or of the same one: what it came on is not said, and nothing is sent."""
    agent = EventsOfAgent()
    mine, yours, foreign = EventsOfSession(agent), EventsOfSession(agent), EventsOfSession(EventsOfAgent())
    event_id = await mine.store_event("1", None)
    await mine.store_event("1", said("mine"))
    for session in (yours, foreign):
        await session.store_event("1", said("theirs"))
        assert await replayed(session, event_id) == await replayed(session, "never was") == (None, [])
    assert await replayed(mine, event_id) == ("1", ["mine"])


async def test_of_many_events_the_oldest_are_forgotten() -> None:
    """Their number and their size are bounded over all sessions of an agent; who asks behind them gets nothing."""
    agent = EventsOfAgent()
    one, other = EventsOfSession(agent), EventsOfSession(agent)
    first = await one.store_event("1", None)
    for _ in range(KEPT_EVENTS - 1):
        await other.store_event("1", None)
    assert await replayed(one, first) == ("1", [])
    large = await other.store_event("1", said("x" * (KEPT_BYTES // 2)))
    assert await replayed(one, first) == (None, [])
    await one.store_event("2", said("x" * (KEPT_BYTES // 2)))
    assert await replayed(other, large) == (None, [])


async def test_a_stream_whose_event_is_too_large_to_keep_is_not_picked_up_without_it() -> None:
    """Its client would wait for an answer that was sent: it is told at once that there is no such stream."""
    session = EventsOfSession(EventsOfAgent())
    first = await session.store_event("1", None)
    await session.store_event("1", said("x" * KEPT_BYTES))
    assert await replayed(session, first) == (None, [])
