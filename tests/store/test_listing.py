"""Lists of calls, the queue, and what is told around a call: each against the same answer found the long way."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from hitl_mcp.calls import Asked, CallRecord, Decision, Effect, Outcome, Requirement, Status, VerdictKind
from hitl_mcp.clock import to_text
from hitl_mcp.likeness import likeness_of
from hitl_mcp.people import Reviewer
from hitl_mcp.store import SqliteStore, Wanted, WrongCursor, open_sqlite
from hitl_mcp.store.statements import migrations, statements
from tests.clocks import NOON, HandClock
from tests.samples import admit, allowed, claim, denied, held, tool_call, verdict

SMALL_INDEXES = ("calls_open", "calls_queue")
"""Indexes of open calls alone: reading one whole takes milliseconds for ten thousand."""

OF_THE_PAGE = re.compile(r"-- name: (\w+)\n")


@pytest.fixture
def clock() -> HandClock:
    """Time as a test wants it."""
    return HandClock()


@pytest.fixture
async def store(tmp_path: Path, clock: HandClock) -> AsyncIterator[SqliteStore]:
    """A store that is empty."""
    async with open_sqlite(tmp_path / "hitl.db", clock) as opened:
        yield opened


async def ask(
    store: SqliteStore, decision: Decision, number: int = 0, claim_of: str = "", **changes: str
) -> CallRecord:
    """Have a call decided."""
    if "arguments_json" not in changes:
        changes["arguments_json"] = json.dumps({"n": number})
    call = tool_call(**changes)
    return (await admit(store, call, Asked(f"conversation-{call.agent}", claim_of), decision)).record


async def end(store: SqliteStore, record: CallRecord, status: Status) -> None:
    """Lead a call to where it is to stand, as people, upstream and agent would."""
    if record.status is Status.HELD:
        kind = VerdictKind.REJECT if status is Status.REJECTED else VerdictKind.APPROVE
        if status is Status.WITHDRAWN:
            await store.withdraw(record.id, record.call.agent)
            return
        at = to_text(store.access.clock.now())
        record = await store.add_verdict(record.id, verdict(record.digest, kind, at=at))
        if status in (Status.REJECTED, Status.APPROVED):
            return
        running = await claim(store, record)
        assert running is not None
    if status is not Status.RUNNING:
        at = to_text(store.access.clock.now())
        await store.settle(record.id, Outcome(status, True, at, "", "{}", "sha256:x", 2), durable=False)  # type: ignore[arg-type]


async def filled(store: SqliteStore, clock: HandClock) -> list[CallRecord]:
    """Sixty calls that went every way, of three agents and four tools, a minute apart."""
    chance = random.Random(6)  # noqa: S311
    ways = (
        *((allowed(), status) for status in (Status.SUCCEEDED, Status.FAILED, Status.RUNNING, Status.UNKNOWN)),
        *((held(), status) for status in (Status.HELD, Status.REJECTED, Status.SUCCEEDED, Status.WITHDRAWN)),
        *((held(), status) for status in (Status.APPROVED, Status.UNKNOWN)),
        (denied(), Status.DENIED),
    )
    records = []
    for number in range(60):
        decision, status = chance.choice(ways)
        upstream, tool = chance.choice((("mail", "send"), ("mail", "read"), ("files", "write"), ("mailing", "send")))
        names = {"upstream": upstream, "tool": tool, "name": f"{upstream}__{tool}"}
        record = await ask(store, decision, number, agent=chance.choice(("ann", "bob", "cleo")), **names)
        if status not in (Status.HELD, Status.DENIED):
            await end(store, record, status)
        clock.forward(60)
        records.append(await store.get(record.id))
    return records


def matches(record: CallRecord, wanted: Wanted) -> bool:
    """Whether a call is wanted, said in the plainest way."""
    return (
        (wanted.statuses is None or record.status in wanted.statuses)
        and (wanted.agent is None or record.call.agent == wanted.agent)
        and (wanted.name is None or record.call.name == wanted.name)
        and (wanted.upstream is None or record.call.upstream == wanted.upstream)
        and (wanted.reviewer is None or any(one.reviewer == wanted.reviewer for one in record.verdicts))
        and (wanted.since is None or record.created_at >= wanted.since)
        and (wanted.until is None or record.created_at < wanted.until)
    )


async def test_every_combination_of_filters_gives_what_looking_at_all_calls_gives(
    store: SqliteStore, clock: HandClock
) -> None:
    """In pages, each call once, newest first; those of a reviewer too, whose answers came in the order of the calls."""
    records = await filled(store, clock)
    settled = frozenset({Status.SUCCEEDED, Status.REJECTED, Status.DENIED})
    half = to_text(NOON + timedelta(minutes=30))
    for statuses, agent, name, upstream, reviewer, since, until in itertools.product(
        (None, frozenset({Status.HELD}), settled, frozenset({Status.UNKNOWN, Status.FAILED})),
        (None, "bob", "nobody"),
        (None, "mail__send"),
        (None, "mail"),
        (None, "dana"),
        (None, half),
        (None, to_text(NOON + timedelta(minutes=50))),
    ):
        wanted = Wanted(statuses, agent, name, upstream, reviewer, since, until)
        found, cursor = [], None
        for _ in range(60):
            page = await store.listing.newest(wanted, cursor, limit=7)
            found += [one.id for one in page.calls]
            cursor = page.next
            if cursor is None:
                break
        assert found == [one.id for one in reversed(records) if matches(one, wanted)], wanted


async def test_a_cursor_of_another_listing_is_refused(store: SqliteStore) -> None:
    """It is never taken for the beginning."""
    for cursor in ("2026-11-22T12:00:00.000000Z,c_x", "x"):
        with pytest.raises(WrongCursor):
            await store.listing.newest(Wanted(), cursor)
    with pytest.raises(WrongCursor):
        await store.listing.by_urgency(Wanted(), None, "17")
    with pytest.raises(WrongCursor):
        await store.search.find(Wanted(), "text", "x,y")


# The queue.


async def waiting(store: SqliteStore, score: int, minutes: int, number: int, **changes: str) -> str:
    """A call that waits, with so many points and so much time left."""
    decision = held(Requirement("pay", ("finance",)), score=score, expires_in_seconds=60 * minutes)
    return (await ask(store, decision, number, **changes)).id


async def test_what_is_urgent_has_little_time_or_many_points(store: SqliteStore, clock: HandClock) -> None:
    """Points by the time that is left; of the same urgency the older comes first; pages go by the time of the first."""
    calm = await waiting(store, 40, 600, 1)
    soon = await waiting(store, 40, 10, 2)
    grave = await waiting(store, 90, 30, 3)
    same = await waiting(store, 90, 30, 4)
    first = await store.listing.by_urgency(Wanted(), None, limit=2)
    clock.forward(300)  # what follows still goes by the time of the first page
    rest = await store.listing.by_urgency(Wanted(), None, first.next, limit=2)
    assert [one.id for one in (*first.calls, *rest.calls)] == [soon, grave, same, calm]
    assert rest.next is None


async def test_a_queue_in_pages_has_every_call_once_though_calls_leave_it(store: SqliteStore) -> None:
    """Whoever answers while somebody else reads takes no row away from under them."""
    ids = [await waiting(store, 40 + number, 60, number) for number in range(9)]
    first = await store.listing.by_urgency(Wanted(), None, limit=3)
    await store.withdraw(first.calls[0].id, "builder")
    second = await store.listing.by_urgency(Wanted(), None, first.next, limit=10)
    assert [one.id for one in (*first.calls, *second.calls)] == ids[::-1]


async def test_mine_are_those_whose_approval_would_count_and_that_were_not_given(store: SqliteStore) -> None:
    """By roles, and without those that this reviewer has approved already and that need another."""
    two = held(Requirement("pay", ("finance",), 2))
    approved = await ask(store, two, 1)
    await store.add_verdict(approved.id, verdict(approved.digest, roles=("finance",), at=to_text(NOON)))
    open_to_all = await ask(store, held(), 2)
    for_finance = await ask(store, two, 3)
    dana, sam = Reviewer("dana", frozenset({"finance"})), Reviewer("sam", frozenset({"support"}))

    async def mine(reviewer: Reviewer) -> list[str]:
        return [one.id for one in (await store.listing.by_urgency(Wanted(), reviewer)).calls]

    assert sorted(await mine(dana)) == sorted([open_to_all.id, for_finance.id])
    assert await mine(sam) == [open_to_all.id]
    assert len(await mine(Reviewer("local", every_role=True))) == 3


async def test_the_queue_in_figures_counts_all_of_it_and_folds_what_is_alike(store: SqliteStore) -> None:
    """Calls that differ in numbers alone are one fold, with the most urgent of them before it."""
    for number in range(5):
        await waiting(store, 40 + number, 60, number, arguments_json=f'{{"order":"invoice {number}"}}', agent="ann")
    other = await waiting(store, 80, 5, 0, arguments_json='{"order":"refund"}', agent="bob", name="shop__pay")
    queue = await store.listing.queue(Wanted(), None, 50)
    assert (queue.all.calls, queue.all.highest) == (6, 80)
    assert {heap.common: heap.calls for heap in queue.agents} == {"bob": 1, "ann": 5}
    assert {heap.common: heap.calls for heap in queue.tools} == {"shop__pay": 1, "mail__send": 5}
    assert [heap.calls for heap in queue.alike] == [1, 5]
    first, second = (heap.first for heap in queue.alike)
    assert first is not None and first.id == other
    assert second is not None and second.decision.score == 44
    assert [heap.common for heap in (await store.listing.queue(Wanted(agent="ann"), None, 50)).agents] == ["ann"]
    assert (await store.listing.queue(Wanted(agent="nobody"), None, 50)).all.calls == 0


def test_calls_are_alike_that_differ_in_numbers_ids_and_spaces_alone() -> None:
    """And never calls of two tools, or whose words differ."""
    one = likeness_of("a__b", '{"id":"3f2504e0-4f89-11d3-9a0c-0305e82c3301","n":17,"text":"pay\\n now"}')
    assert one == likeness_of("a__b", '{"id":"99999999-aaaa-bbbb-cccc-0123456789ab","n":2,"text":"Pay now"}')
    assert one != likeness_of("a__c", '{"id":"3f2504e0-4f89-11d3-9a0c-0305e82c3301","n":17,"text":"pay\\n now"}')
    assert one != likeness_of("a__b", '{"id":"3f2504e0-4f89-11d3-9a0c-0305e82c3301","n":17,"text":"pay later"}')
    long = '{"text":"' + "x" * 70_000
    assert likeness_of("a__b", long + '1"}') != likeness_of("a__b", long + '2"}')


# Around a call.


async def test_around_a_call_stand_its_conversation_and_the_calls_most_like_it(
    store: SqliteStore, clock: HandClock
) -> None:
    """Five before and five after, in order; of the tool's answered calls the nearest first, and how they went."""
    told = {}
    for number, (to, status) in enumerate(
        (("x@y", Status.REJECTED), ("a@b", Status.SUCCEEDED), ("z@z", Status.SUCCEEDED))
    ):
        text = json.dumps({"body": f"text {number}", "to": to})
        record = await ask(store, held(), agent="other", arguments_json=text)
        await end(store, record, status)
        told[to] = record.id
    ids = []
    for number in range(13):
        record = await ask(store, allowed(), number)
        await end(store, record, Status.SUCCEEDED)
        ids.append(record.id)
    here = await ask(store, held(), arguments_json='{"body":"text 9","to":"a@b"}')
    after = await ask(store, denied(), 99)
    around = await store.around.call(await store.get(here.id))
    assert [one.id for one in around.before] == ids[-5:]
    assert [one.id for one in around.after] == [after.id]
    assert around.similar[0].id == told["a@b"]
    assert {one.id for one in around.similar} == set(told.values())
    assert around.similar_counts == {"approved": 2, "rejected": 1}
    assert (len(around.earlier), around.all_earlier) == (13, True)


async def test_agents_and_tools_are_counted_as_the_record_has_them(store: SqliteStore, clock: HandClock) -> None:
    """Against counting by hand: by status, by who answered, what stands open, and the last call; of a week alone."""
    records = await filled(store, clock)
    for whose, names in (("agents", {"ann", "bob", "cleo"}), ("tools", {one.call.name for one in records})):
        found = await (store.around.agents() if whose == "agents" else store.around.tools())
        assert {one.name for one in found} == names
        for one in found:
            own = [record for record in records if one.name in (record.call.agent, record.call.name)]
            assert one.by_status == {str(key): len([*group]) for key, group in _grouped(own)}
            assert sum(one.effects.values()) == len(own)
            assert one.open == sum(record.status in ("held", "approved", "running", "unknown") for record in own)
            assert one.last_at == own[-1].created_at
            people = [record for record in own if record.decision.effect is Effect.HOLD]
            assert one.by_answer.get("rejected", 0) == sum(record.status is Status.REJECTED for record in people)
            assert one.by_answer.get("approved", 0) == sum(
                record.status in ("approved", "succeeded", "unknown") for record in people
            )
    clock.forward(8 * 24 * 3600)
    late = (await store.around.agents(["ann"]))[0]
    assert (late.by_status, late.by_answer, late.approval_share) == ({}, {}, None)
    assert late.last_at is not None and late.open > 0


async def test_a_call_that_ran_on_a_grant_is_nobodys_approval(store: SqliteStore) -> None:
    """It is counted apart."""
    record = await ask(store, held())
    await end(store, record, Status.SUCCEEDED)
    await store.access.step(lambda txn, life: txn.connection.execute("UPDATE calls SET grant_id = 'g_x'").rowcount)
    (one,) = await store.around.agents()
    assert one.by_answer == {"granted": 1}


async def test_how_long_answers_take_is_told_of_a_tool(store: SqliteStore, clock: HandClock) -> None:
    """From asking to the answer, in the middle; without answers nothing is told."""
    for number, seconds in enumerate((10, 30, 500)):
        record = await ask(store, held(), number)
        clock.forward(seconds)
        await end(store, record, Status.REJECTED)
    await end(store, await ask(store, allowed(), 9, name="mail__read"), Status.SUCCEEDED)
    median = {one.name: one.median_answer_seconds for one in await store.around.tools()}
    assert median == {"mail__send": 30.0, "mail__read": None}


def _grouped(records: list[CallRecord]) -> itertools.groupby[Status, CallRecord]:
    return itertools.groupby(sorted(records, key=lambda one: one.status), key=lambda one: one.status)


# What it costs.


@pytest.fixture(scope="module")
def schema() -> Iterator[sqlite3.Connection]:
    """The newest schema, without a row."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for script in migrations():
            connection.executescript(script)
        yield connection


LISTING = Path(__file__).parents[2] / "src" / "hitl_mcp" / "store" / "sql" / "listing.sql"
ASKED_BY_THE_PAGE = (
    *OF_THE_PAGE.findall(LISTING.read_text(encoding="utf-8")),
    *("call", "verdicts_of_call", "events_of_call", "previews_of_call", "count_open", "last_event", "events_after"),
    *("find_sign_in", "sign_ins", "live_grants", "next_deadline", "verdicts_since", "approvals_since"),
)


@pytest.mark.parametrize("name", ASKED_BY_THE_PAGE)
def test_nothing_that_the_page_asks_walks_the_calls(schema: sqlite3.Connection, name: str) -> None:
    """With a million calls on record one walk takes seconds. Only an index of open calls may be read whole."""
    text = statements()[name]
    query = dict.fromkeys(re.findall(r":(\w+)", text), "[]")
    plan = [row[3] for row in schema.execute(f"EXPLAIN QUERY PLAN {text}", query)]
    aliases = "calls|one|here|events|verdicts|later"
    walks = [line for line in plan if re.match(rf"SCAN ({aliases})\b", line)]
    assert [line for line in walks if not any(f"INDEX {index}" in line for index in SMALL_INDEXES)] == [], plan
    counted = name in (
        "queue_by_urgency",
        "queue_by_agent",
        "queue_by_tool",
        "queue_by_likeness",
        "roles_in_queue",
        "seqs_of_open",
        "open_of_tools",
        "open_of_agents",
        "tool_names",
        "agent_names",
    )
    assert not counted or all("COVERING INDEX" in line for line in walks), plan


async def test_what_a_call_is_sought_by_is_noted_where_people_wait_for_it_alone(store: SqliteStore) -> None:
    """An allowed call writes none of it."""
    await ask(store, allowed(), 1)
    await ask(store, replace(held(), score=71), 2)
    rows = await store.access.writer.write(
        lambda txn: txn.connection.execute(
            "SELECT effect, score, likeness, roles_json FROM calls ORDER BY seq"
        ).fetchall(),
        durable=False,
    )
    first, second = (tuple(row) for row in rows)
    assert first == ("allow", None, None, None)
    assert second[:2] == ("hold", 71) and second[3] == "[[]]"
