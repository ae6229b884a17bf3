"""The event stream of the review API: live, resumable, bounded, and over when it should be."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from hitl_mcp.limits import REVIEW_STREAMS
from tests.clocks import HandClock
from tests.surfaces.desk import Desk, open_desk


class Events:
    """An open event stream, read message by message."""

    def __init__(self, response: httpx2.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, Any] | None:
        """The next message as its fields, its data parsed; None at the end."""
        fields: dict[str, Any] = {}
        with anyio.fail_after(5):
            async for line in self._lines:
                if not line and fields:
                    return {**fields, "data": json.loads(fields["data"])}
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = value
        return None


async def test_events_arrive_as_they_happen(desk: Desk) -> None:
    """`ready` comes first: who reads the calls after it misses nothing."""
    async with desk.signed_in("dana") as dana, dana.stream("GET", "/api/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = Events(response)
        assert await events.next() == {"event": "ready", "data": {"number": 1}}  # the sign-in
        record = await desk.hold({"to": "a@example.com"})
        message = await events.next()
    assert message is not None
    assert (message["event"], message["id"]) == ("call", "2")
    data = message["data"]
    assert (data["call_id"], data["kind"], data["status"], data["version"]) == (record.id, "asked", "held", 1)


@pytest.mark.parametrize("how", ["header", "query"])
async def test_a_stream_goes_on_after_the_last_event_seen(desk: Desk, how: str) -> None:
    """Nothing between two connections is lost, and nothing is told twice."""
    ids = [(await desk.hold({"n": number})).id for number in range(3)]
    headers = {"last-event-id": "1"} if how == "header" else {}
    path = "/api/events" if how == "header" else "/api/events?after=1"
    async with desk.signed_in("dana") as dana, dana.stream("GET", path, headers=headers) as response:
        events = Events(response)
        messages = [await events.next() for _ in range(3)]
        last = (await desk.hold({"n": 3})).id
        messages.append(await events.next())
    assert [message["data"]["call_id"] for message in messages[1:] if message] == [*ids[1:], last]
    assert [message["id"] for message in messages[1:] if message] == ["2", "3", "5"]


async def test_a_pause_is_an_event_too(desk: Desk) -> None:
    """The page learns of it at once."""
    async with desk.signed_in("dana") as dana, dana.stream("GET", "/api/events") as response:
        events = Events(response)
        await events.next()
        assert (await dana.post("/api/pause", json={"reason": "odd traffic"})).json()["paused"]["by"] == "dana"
        message = await events.next()
        assert message is not None and message["data"]["kind"] == "paused"
        assert (await dana.post("/api/resume")).json()["paused"] is None


async def test_a_stream_ends_with_its_sign_in(desk: Desk) -> None:
    """After signing out nothing more is told, even on a connection that was open."""
    async with desk.signed_in("dana") as dana, dana.stream("GET", "/api/events") as response:
        events = Events(response)
        await events.next()
        await dana.post("/api/logout")
        await desk.hold({"to": "a@example.com"})
        assert await events.next() is None


async def test_streams_end_cleanly_when_the_gateway_stops(desk: Desk) -> None:
    """The reader sees the end of the stream, not a broken connection."""
    async with desk.signed_in("dana") as dana, dana.stream("GET", "/api/events") as response:
        events = Events(response)
        await events.next()
        desk.parts.stopping.set()
        assert await events.next() is None


async def test_a_stream_that_falls_behind_catches_up_from_the_record(desk: Desk) -> None:
    """More events than the feed keeps waiting still arrive, each once."""
    async with desk.signed_in("dana") as dana, dana.stream("GET", "/api/events") as response:
        events = Events(response)
        await events.next()
        wanted = []
        for feed in tuple(desk.store._feeds):  # what a slow reader of a thousand events would have come to
            feed._behind = True
        for number in range(5):
            wanted.append((await desk.hold({"n": number})).id)
        got: list[str] = []
        while len(got) < len(wanted):
            message = await events.next()
            assert message is not None
            if message["event"] == "call":
                got.append(message["data"]["call_id"])
    assert got == wanted


async def test_streams_are_bounded_and_given_back(desk: Desk) -> None:
    """One too many is refused; ended ones make room again."""
    async with desk.signed_in("dana") as client:

        async def status() -> int:
            async with client.stream("GET", "/api/events") as response:
                return response.status_code

        async with AsyncExitStack() as stack:
            for _ in range(REVIEW_STREAMS):
                response = await stack.enter_async_context(client.stream("GET", "/api/events"))
                assert response.status_code == 200
            assert await status() == 429
        with anyio.fail_after(10):
            while await status() != 200:
                pass


@pytest.mark.parametrize("path", ["/api/events?after=x", "/api/events?from=1"])
async def test_a_wrong_start_of_a_stream_is_422(desk: Desk, path: str) -> None:
    """It is never taken for the beginning."""
    async with desk.signed_in("dana") as dana:
        assert (await dana.get(path)).status_code == 422
        assert (await dana.get("/api/events", headers={"last-event-id": "x"})).status_code == 422


async def test_a_stream_goes_on_after_the_gateway_was_started_again(tmp_path: Path, clock: HandClock) -> None:
    """What happened while a reader was away, and while no gateway ran, comes in order and once, with the same key."""
    database = tmp_path / "hitl.db"
    async with open_desk(database, clock) as before:
        key = await before.key("dana")
        await before.hold({"n": 0})
        seen = await before.store.last_event_number()
        missed = [(await before.hold({"n": number})).id for number in (1, 2)]
    async with open_desk(database, clock) as again:
        later = (await again.hold({"n": 3})).id
        headers = {"authorization": f"Bearer {key}", "last-event-id": str(seen)}
        async with again.program(headers=headers) as dana, dana.stream("GET", "/api/events") as response:
            events = Events(response)
            messages = [await events.next() for _ in range(4)]
    told = [message for message in messages if message is not None]
    assert [message["event"] for message in told] == ["ready", "call", "call", "call"]
    assert [message["data"]["call_id"] for message in told[1:]] == [*missed, later]
    assert [int(message["id"]) for message in told[1:]] == [seen + 1, seen + 2, seen + 3]


@pytest.mark.parametrize("last_seen", ["1", "90000"])
async def test_a_gap_that_cannot_be_told_is_said(desk: Desk, last_seen: str) -> None:
    """Too much happened, or the number is of another record, as after a restore: `reset`, and then all that comes."""
    await desk.hold({"n": 0})
    statement = (
        "INSERT INTO events (number, call_id, version, kind, at, by, detail) VALUES (20000, '', 0, 'x', '', '', '')"
    )
    await desk.store.access.step(lambda txn, life: txn.connection.execute(statement).rowcount)
    headers = {"last-event-id": last_seen}
    async with desk.signed_in("dana") as dana, dana.stream("GET", "/api/events", headers=headers) as response:
        events = Events(response)
        first, second = await events.next(), await events.next()
        record = await desk.hold({"n": 1})
        third = await events.next()
    assert first is not None and second is not None and third is not None
    newest = first["data"]["number"]
    assert (first["event"], first["id"], second["event"]) == ("reset", str(newest), "ready")
    assert newest >= 20000
    assert (third["event"], third["data"]["call_id"]) == ("call", record.id)
