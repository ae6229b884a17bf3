"""No agent has more held calls than people can look at, whatever it does at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from hitl_mcp.calls import Asked, CallRecord, Decision, Status
from hitl_mcp.errors import TooManyHeld
from hitl_mcp.limits import AGENT_HELD_CALLS
from hitl_mcp.store import SqliteStore, open_sqlite
from tests.clocks import HandClock
from tests.samples import admit, allowed, denied, held, tool_call

ASKED = Asked(conversation="conv", claim="")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An empty store."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as opened:
        yield opened


async def ask(store: SqliteStore, number: int, agent: str = "builder", decision: Decision | None = None) -> CallRecord:
    """One of many calls; held, if nothing else is said."""
    call = tool_call(arguments_json=f'{{"number":{number}}}', agent=agent)
    return (await admit(store, call, ASKED, decision or held())).record


async def fill(store: SqliteStore) -> list[CallRecord]:
    """As many held calls as an agent may have, and as many again that are refused, all asked at once."""
    taken: list[CallRecord] = []
    refused: list[TooManyHeld] = []

    async def one(number: int) -> None:
        try:
            taken.append(await ask(store, number))
        except TooManyHeld as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        for number in range(2 * AGENT_HELD_CALLS):
            tasks.start_soon(one, number)
    assert (len(taken), len(refused)) == (AGENT_HELD_CALLS, AGENT_HELD_CALLS)
    return taken


async def test_of_many_held_calls_at_once_as_many_are_taken_as_an_agent_may_have(store: SqliteStore) -> None:
    """The others are refused, say how many are held, and leave neither a record nor an event."""
    taken = await fill(store)
    before = (await store.count_open(), await store.last_event_number())
    with pytest.raises(TooManyHeld) as refused:
        await ask(store, -1)
    assert refused.value.message == f"{AGENT_HELD_CALLS} calls of this agent are held already, which is the most"
    assert (await store.count_open(), await store.last_event_number()) == before
    assert {record.status for record in taken} == {Status.HELD}


async def test_an_agent_with_all_its_held_calls_still_gets_its_other_answers(store: SqliteStore) -> None:
    """Repeating one that is held answers with it, what is allowed runs, what is denied is denied; others may ask."""
    taken = await fill(store)
    again = await admit(store, taken[0].call, ASKED, held())
    assert (again.record.id, again.repeat) == (taken[0].id, True)
    assert (await ask(store, -1, decision=allowed())).status is Status.RUNNING
    assert (await ask(store, -2, decision=denied())).status is Status.DENIED
    assert (await ask(store, -3, agent="other")).status is Status.HELD


async def test_one_that_is_taken_back_makes_room_for_one(store: SqliteStore) -> None:
    """And for no more than one."""
    taken = await fill(store)
    await store.withdraw(taken[7].id, "builder")
    assert (await ask(store, -1)).status is Status.HELD
    with pytest.raises(TooManyHeld):
        await ask(store, -2)
