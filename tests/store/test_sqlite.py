"""The store on a real database: every step of the lifecycle, what folds, and what is refused."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from hitl_mcp.calls import LIFECYCLE, Asked, CallRecord, Decision, Outcome, Requirement, Status, VerdictKind
from hitl_mcp.clock import to_text
from hitl_mcp.errors import CallAlreadySettled, CallNotFound, DigestMismatch, HitlError, NotAllowed, StoreError
from hitl_mcp.limits import EVENT_QUEUE_LENGTH
from hitl_mcp.store import FeedBehind, SqliteStore, open_sqlite
from hitl_mcp.store.moves import TAMPERED
from hitl_mcp.store.statements import migrations, sql, statements
from tests.clocks import HandClock
from tests.samples import admit, allowed, claim, denied, held, tool_call, verdict

ASKED = Asked(conversation="conv", claim="the user asked for it")


@pytest.fixture
def clock() -> HandClock:
    """A clock the test moves."""
    return HandClock()


@pytest.fixture
async def store(tmp_path: Path, clock: HandClock) -> AsyncIterator[SqliteStore]:
    """An empty store."""
    async with open_sqlite(tmp_path / "hitl.db", clock) as opened:
        yield opened


async def hold(store: SqliteStore, decision: Decision | None = None, **changes: Any) -> CallRecord:
    """A call that is held."""
    return (await admit(store, tool_call(**changes), ASKED, decision or held())).record


async def approve(store: SqliteStore, **changes: Any) -> CallRecord:
    """A call that is approved."""
    record = await hold(store, **changes)
    return await store.add_verdict(record.id, verdict(record.digest))


async def run(store: SqliteStore, **changes: Any) -> CallRecord:
    """A call that was approved and is running."""
    record = await approve(store, **changes)
    claimed = await claim(store, record)
    assert claimed is not None
    return claimed


def outcome(clock: HandClock, status: Status = Status.SUCCEEDED) -> Outcome:
    """What running brought."""
    return Outcome(status, executed=True, at=to_text(clock.now()), result_json='{"content":[]}')  # type: ignore[arg-type]


async def test_a_held_call_is_stored_whole(store: SqliteStore) -> None:
    """What was asked, by whom, why and what was decided reads back as it was written."""
    record = await hold(store)
    read = await store.get(record.id)
    assert read == record
    assert (read.status, read.call, read.asked, read.decision) == (Status.HELD, tool_call(), ASKED, held())
    assert [event.kind for event in read.events] == ["asked"]


@pytest.mark.promise("R1")
async def test_a_held_call_survives_the_store_being_closed(tmp_path: Path, clock: HandClock) -> None:
    """What was held before is held after, byte for byte."""
    async with open_sqlite(tmp_path / "hitl.db", clock) as first:
        record = await hold(first)
    async with open_sqlite(tmp_path / "hitl.db", clock) as second:
        assert await second.get(record.id) == record


async def test_denied_and_allowed_calls_are_inserted_as_such(store: SqliteStore) -> None:
    """A denied call is final at once; an allowed one is inserted as running."""
    refused = await admit(store, tool_call(), ASKED, denied())
    running = await admit(store, tool_call(), ASKED, allowed())
    assert (refused.record.status, running.record.status) == (Status.DENIED, Status.RUNNING)


async def test_an_identical_request_gets_the_held_record(store: SqliteStore) -> None:
    """The second request adds nothing and is told it is a repeat."""
    first = await admit(store, tool_call(), ASKED, held())
    second = await admit(store, tool_call(), Asked("another"), held())
    assert (first.repeat, second.repeat) == (False, True)
    assert second.record.id == first.record.id
    assert len((await store.list_calls(None)).calls) == 1


async def test_a_different_agent_or_argument_is_another_request(store: SqliteStore) -> None:
    """Nothing folds across agents or bytes."""
    changes: list[dict[str, Any]] = [{}, {"agent": "other"}, {"arguments_json": "{}"}]
    ids = {(await hold(store, **change)).id for change in changes}
    assert len(ids) == 3


async def test_a_hundred_identical_requests_at_once_make_one_record(store: SqliteStore) -> None:
    """Lookup and insert are one transaction, whoever comes at the same time."""
    ids: list[str] = []

    async def ask() -> None:
        ids.append((await hold(store)).id)

    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(ask)
    assert len(set(ids)) == 1


async def test_a_deny_of_the_current_policy_comes_before_an_open_record(store: SqliteStore) -> None:
    """What is denied now is denied, even if the same request is still held from before."""
    record = await hold(store)
    again = await admit(store, tool_call(), ASKED, denied())
    assert (again.record.status, again.repeat) == (Status.DENIED, False)
    assert (await store.get(record.id)).status is Status.HELD


async def test_an_open_record_answers_even_where_the_policy_now_allows(store: SqliteStore) -> None:
    """Running it now and again on approval would send the same bytes twice."""
    record = await hold(store)
    again = await admit(store, tool_call(), ASKED, allowed())
    assert (again.record.id, again.repeat) == (record.id, True)


async def test_a_rejection_answers_repeats_for_ten_minutes(store: SqliteStore, clock: HandClock) -> None:
    """Asking again right away brings the same no; later it is a new question."""
    record = await hold(store)
    await store.add_verdict(record.id, verdict(record.digest, VerdictKind.REJECT))
    clock.forward(599)
    assert (await admit(store, tool_call(), ASKED, held())).record.id == record.id
    clock.forward(2)
    assert (await admit(store, tool_call(), ASKED, held())).record.id != record.id


async def test_an_outcome_answers_repeats_until_a_minute_after_it_was_handed_over(
    store: SqliteStore, clock: HandClock
) -> None:
    """Nobody fetched it: it waits. Once it was handed over, an identical request is new after 60 s."""
    record = await run(store)
    await store.settle(record.id, outcome(clock), durable=True)
    clock.forward(23 * 3600)
    assert (await admit(store, tool_call(), ASKED, held())).record.id == record.id
    await store.hand_over(record.id)
    clock.forward(59)
    assert (await admit(store, tool_call(), ASKED, held())).repeat
    clock.forward(2)
    assert not (await admit(store, tool_call(), ASKED, held())).repeat


async def test_an_outcome_nobody_fetched_answers_repeats_for_a_day(store: SqliteStore, clock: HandClock) -> None:
    """After 24 h the same request is a new one, asked of people again."""
    record = await run(store)
    await store.settle(record.id, outcome(clock), durable=True)
    clock.forward(24 * 3600 + 1)
    assert not (await admit(store, tool_call(), ASKED, held())).repeat


async def test_allowed_calls_are_never_folded(store: SqliteStore) -> None:
    """Two identical allowed calls are two calls."""
    first, second = [await admit(store, tool_call(), ASKED, allowed()) for _ in range(2)]
    assert first.record.id != second.record.id
    assert not second.repeat


async def test_a_repeat_of_an_unknown_allowed_call_is_linked_to_it(store: SqliteStore, clock: HandClock) -> None:
    """It is a new record, and it says which one may have happened before."""
    first = (await admit(store, tool_call(), ASKED, allowed())).record
    await store.settle(first.id, outcome(clock, Status.UNKNOWN), durable=False)
    second = (await admit(store, tool_call(), ASKED, allowed())).record
    assert (second.id != first.id, second.repeat_of) == (True, first.id)


async def test_one_approval_approves_where_one_is_asked_for(store: SqliteStore, clock: HandClock) -> None:
    """The call becomes approved with a time by which it must run."""
    record = await approve(store)
    assert record.status is Status.APPROVED
    clock.forward(300)
    assert record.run_by == to_text(clock.now())


async def test_one_approval_of_two_moves_nothing(store: SqliteStore) -> None:
    """With a quorum of two and one approval the call stays held, and cannot be claimed."""
    record = await hold(store, held(Requirement("pay", quorum=2)))
    after = await store.add_verdict(record.id, verdict(record.digest))
    assert after.status is Status.HELD
    assert await claim(store, after) is None
    assert (await store.add_verdict(record.id, verdict(record.digest, reviewer="erin"))).status is Status.APPROVED


async def test_the_same_person_cannot_approve_twice(store: SqliteStore) -> None:
    """The second approval is refused and counts nothing."""
    record = await hold(store, held(Requirement("pay", quorum=2)))
    await store.add_verdict(record.id, verdict(record.digest))
    with pytest.raises(CallAlreadySettled, match="`dana` approved it already, and it needs more people"):
        await store.add_verdict(record.id, verdict(record.digest))
    assert len((await store.get(record.id)).verdicts) == 1


async def test_a_person_who_approved_may_still_reject(store: SqliteStore) -> None:
    """Changing one's mind towards no is always possible while it is held, and one verdict per person stays."""
    record = await hold(store, held(Requirement("pay", quorum=2)))
    await store.add_verdict(record.id, verdict(record.digest))
    after = await store.add_verdict(record.id, verdict(record.digest, VerdictKind.REJECT, reason="wrong account"))
    assert after.status is Status.REJECTED
    assert [given.kind for given in after.verdicts] == [VerdictKind.REJECT]


async def test_an_approval_without_the_role_is_refused(store: SqliteStore) -> None:
    """It says which role is needed, and leaves no verdict behind."""
    record = await hold(store, held(Requirement("pay", roles=("finance",))))
    with pytest.raises(NotAllowed, match="`dana` has none of the roles it needs"):
        await store.add_verdict(record.id, verdict(record.digest, roles=("sales",)))
    assert (await store.get(record.id)) == record


async def test_an_approval_by_the_agent_s_own_people_is_refused(store: SqliteStore) -> None:
    """Whom a requirement bars may reject, but not approve: another's approval is asked for."""
    record = await hold(store, held(Requirement("pay", barred=("dana",), assurance="link")))
    with pytest.raises(NotAllowed, match="`dana` is one of the agent's own people"):
        await store.add_verdict(record.id, verdict(record.digest))
    with pytest.raises(NotAllowed, match="`cli` does not say surely enough who approves: it needs `link`"):
        await store.add_verdict(record.id, verdict(record.digest, reviewer="li", assurance="cli"))
    assert (await store.get(record.id)) == record
    approved = await store.add_verdict(record.id, verdict(record.digest, reviewer="li"))
    assert approved.status is Status.APPROVED
    assert approved.decision.requirements == record.decision.requirements


async def test_a_verdict_on_other_bytes_is_refused(store: SqliteStore) -> None:
    """A digest that is not the call's moves nothing."""
    record = await hold(store)
    with pytest.raises(DigestMismatch):
        await store.add_verdict(record.id, verdict("sha256:other"))
    assert (await store.get(record.id)) == record


async def test_an_approved_call_can_be_undone_before_it_is_claimed(store: SqliteStore) -> None:
    """A rejection between approval and claim wins; the claim then finds nothing."""
    record = await approve(store)
    after = await store.add_verdict(record.id, verdict(record.digest, VerdictKind.REJECT, reviewer="erin"))
    assert after.status is Status.REJECTED
    assert await claim(store, record) is None


@pytest.mark.promise("R3")
async def test_a_call_is_claimed_at_most_once(store: SqliteStore) -> None:
    """Of fifty claims at once exactly one gets the call."""
    record = await approve(store)
    claims: list[CallRecord | None] = []

    async def take() -> None:
        claims.append(await claim(store, record))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(take)
    assert len([claimed for claimed in claims if claimed is not None]) == 1


async def test_a_call_that_changed_since_it_was_checked_is_not_claimed(store: SqliteStore, tmp_path: Path) -> None:
    """Between the executor's check and the claim the row was edited: its seal does not fit, and it ends there."""
    checked = await approve(store)
    with contextlib.closing(sqlite3.connect(tmp_path / "hitl.db", isolation_level=None)) as intruder:
        intruder.execute("UPDATE calls SET arguments_json = '{}' WHERE id = ?", [checked.id])
    assert await claim(store, checked) is None
    after = await store.get(checked.id)
    assert (after.status, after.closed_reason) == (Status.INVALIDATED, TAMPERED)
    assert store.tampered == (checked.id,)


async def test_the_first_outcome_counts(store: SqliteStore, clock: HandClock) -> None:
    """A settled call is not settled again."""
    record = await run(store)
    assert await store.settle(record.id, outcome(clock), durable=True)
    assert not await store.settle(record.id, outcome(clock, Status.FAILED), durable=True)
    assert (await store.get(record.id)).status is Status.SUCCEEDED


async def test_a_held_call_expires_and_a_late_verdict_is_told_so(store: SqliteStore, clock: HandClock) -> None:
    """The verdict at the very second of the deadline is too late; the refusal names the true status."""
    record = await hold(store)
    clock.forward(600)
    with pytest.raises(CallAlreadySettled) as refused:
        await store.add_verdict(record.id, verdict(record.digest))
    assert refused.value.status == Status.EXPIRED
    after = await store.get(record.id)
    assert (after.status, after.closed_reason, after.verdicts) == (Status.EXPIRED, "no one decided in time", ())


async def test_an_approval_that_could_not_run_in_time_expires(store: SqliteStore, clock: HandClock) -> None:
    """After `run_within` it cannot be claimed, even before the sweep came by."""
    record = await approve(store)
    clock.forward(300)
    assert await claim(store, record) is None
    after = await store.get(record.id)
    assert (after.status, after.closed_reason) == (Status.EXPIRED, "approved, but it could not run in time")


async def test_the_sweep_expires_only_what_is_due(store: SqliteStore, clock: HandClock) -> None:
    """One of two held calls is past its time."""
    first = await hold(store, agent="one")
    clock.forward(300)
    second = await hold(store, agent="two")
    clock.forward(301)
    assert await store.expire_due() == 1
    assert (await store.get(first.id)).status is Status.EXPIRED
    assert (await store.get(second.id)).status is Status.HELD
    assert await store.next_deadline() == second.expires_at


async def test_only_the_agent_itself_can_withdraw(store: SqliteStore) -> None:
    """Another agent's id answers as if it did not exist, and nothing moves."""
    record = await hold(store)
    with pytest.raises(CallNotFound):
        await store.withdraw(record.id, "other")
    assert (await store.get(record.id)).status is Status.HELD
    assert (await store.withdraw(record.id, "builder")).status is Status.WITHDRAWN


async def test_a_running_call_cannot_be_withdrawn(store: SqliteStore) -> None:
    """It is too late, and the agent is told what it is now."""
    record = await run(store)
    with pytest.raises(CallAlreadySettled) as refused:
        await store.withdraw(record.id, "builder")
    assert refused.value.status == Status.RUNNING


async def test_a_pause_stops_claims_and_new_runs_but_no_verdicts(store: SqliteStore) -> None:
    """While paused nothing starts; an approved call waits; after resuming it can be claimed."""
    record = await hold(store)
    await store.pause("dana", "incident")
    refused = (await admit(store, tool_call(agent="two"), ASKED, allowed())).record
    assert (refused.status, refused.decision.paused) == (Status.DENIED, True)
    assert refused.decision.reasons == ("paused by dana at 2026-11-22T12:00:00Z: incident",)
    approved = await store.add_verdict(record.id, verdict(record.digest))
    assert approved.status is Status.APPROVED
    assert await claim(store, approved) is None
    await store.resume("dana")
    assert await claim(store, approved) is not None


async def test_a_pause_outlives_the_gateway(tmp_path: Path, clock: HandClock) -> None:
    """An emergency stop is not undone by a restart."""
    async with open_sqlite(tmp_path / "hitl.db", clock) as first:
        await first.pause("dana", "incident")
    async with open_sqlite(tmp_path / "hitl.db", clock) as second:
        assert second.paused is not None
        assert second.paused.by == "dana"


@pytest.mark.promise("R4")
async def test_at_boot_what_was_running_is_unknown(tmp_path: Path, clock: HandClock) -> None:
    """A restart makes running calls unknown, allowed ones too, and touches no other."""
    async with open_sqlite(tmp_path / "hitl.db", clock) as first:
        running = await run(first)
        allowed_one = (await admit(first, tool_call(agent="two"), ASKED, allowed())).record
        waiting = await hold(first, agent="three")
        approved = await approve(first, agent="four")
    async with open_sqlite(tmp_path / "hitl.db", clock) as second:
        assert await second.recover() == 2
        found = [(await second.get(record.id)).status for record in (running, allowed_one, waiting, approved)]
        assert found == [Status.UNKNOWN, Status.UNKNOWN, Status.HELD, Status.APPROVED]
        assert await second.recover() == 0


async def test_recovery_leaves_alone_what_this_life_is_running(store: SqliteStore) -> None:
    """Only what an earlier epoch left is recovered."""
    record = await run(store)
    assert await store.recover() == 0
    assert (await store.get(record.id)).status is Status.RUNNING


@pytest.mark.promise("R6")
async def test_an_agent_sees_what_is_open_and_what_it_was_not_told(store: SqliteStore, clock: HandClock) -> None:
    """Open and unfetched outcomes are listed, handed-over and foreign ones are not."""
    waiting = await hold(store, arguments_json="[1]")
    done = await run(store, arguments_json="[2]")
    await store.settle(done.id, outcome(clock), durable=True)
    told = await run(store, arguments_json="[3]")
    await store.settle(told.id, outcome(clock), durable=True)
    await store.hand_over(told.id)
    await hold(store, agent="other")
    assert {record.id for record in await store.of_interest_to("builder")} == {waiting.id, done.id}


@pytest.mark.promise("R6")
async def test_an_allowed_call_whose_outcome_was_found_out_is_news(store: SqliteStore, clock: HandClock) -> None:
    """Its agent was told that nobody knows: once somebody does, it is listed until the agent was told."""
    record = (await admit(store, tool_call(), ASKED, allowed())).record
    await store.settle(record.id, outcome(clock, Status.UNKNOWN), durable=False)
    await store.resolve(record.id, outcome(clock), "reviewer:dana")
    assert [one.id for one in await store.of_interest_to("builder")] == [record.id]
    await store.hand_over(record.id)
    assert await store.of_interest_to("builder") == ()


async def test_every_step_leaves_an_event_in_order(store: SqliteStore, clock: HandClock) -> None:
    """The history of a call reads as what happened, by whom."""
    record = await run(store)
    await store.settle(record.id, outcome(clock), durable=True)
    events = (await store.get(record.id)).events
    assert [(event.kind, event.by) for event in events] == [
        ("asked", "agent:builder"),
        ("approved", "reviewer:dana"),
        ("running", "gateway"),
        ("succeeded", "gateway"),
    ]
    assert [event.version for event in events] == [1, 2, 3, 4]
    assert await store.events_after(events[1].number) == events[2:]
    assert await store.last_event_number() == events[-1].number


async def test_a_follower_sees_every_committed_step(store: SqliteStore) -> None:
    """Subscribing first and reading then misses nothing."""
    with store.follow() as feed, anyio.fail_after(5):
        record = await approve(store)
        assert [(await feed.next()).kind for _ in range(2)] == ["asked", "approved"]  # type: ignore[union-attr]
        assert await feed.next(timeout_seconds=0) is None
    assert record.status is Status.APPROVED


async def test_a_follower_that_falls_behind_is_told_so(store: SqliteStore) -> None:
    """It loses events rather than memory, and knows that it must read again."""
    with store.follow() as feed:
        for _ in range(EVENT_QUEUE_LENGTH + 1):
            await admit(store, tool_call(), ASKED, denied())
        with pytest.raises(FeedBehind):
            await feed.next()


async def test_waiting_for_a_change_returns_when_it_comes(store: SqliteStore) -> None:
    """A waiter gets the new state, not the old one, and no later than the change."""
    record = await hold(store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.add_verdict, record.id, verdict(record.digest))
        with anyio.fail_after(5):
            changed = await store.wait_for_change(record.id, record.version, 5)
    assert changed.status is Status.APPROVED


async def test_waiting_past_the_time_returns_the_call_as_it_stands(store: SqliteStore) -> None:
    """A wait that nobody ends is over by itself and changes nothing."""
    record = await hold(store)
    assert await store.wait_for_change(record.id, record.version, 0.01) == await store.get(record.id)


async def test_pages_list_every_call_once(store: SqliteStore) -> None:
    """Newest first, with a cursor to the next page and none after the last."""
    ids = [(await hold(store, agent=f"agent{number}")).id for number in range(5)]
    first = await store.list_calls({Status.HELD}, limit=2)
    second = await store.list_calls({Status.HELD}, cursor=first.next, limit=2)
    third = await store.list_calls({Status.HELD}, cursor=second.next, limit=2)
    assert [record.id for page in (first, second, third) for record in page.calls] == ids[::-1]
    assert third.next is None


async def test_a_caller_that_goes_away_leaves_its_step_done(store: SqliteStore) -> None:
    """A cancelled writer stops waiting; what it asked for is still written, once."""
    with anyio.move_on_after(0):
        await hold(store)
    for _ in itertools.count():
        page = await store.list_calls(None)
        if page.calls:
            break
        await anyio.sleep(0)
    assert [record.status for record in page.calls] == [Status.HELD]


async def test_no_step_leaves_the_lifecycle(store: SqliteStore, clock: HandClock) -> None:
    """Every step tried on every status either follows the table or is refused and moves nothing."""

    async def in_status(status: Status, number: int) -> CallRecord:
        name = f"agent{number}"
        if status is Status.DENIED:
            return (await admit(store, tool_call(agent=name), ASKED, denied())).record
        released = status is Status.RELEASED
        record = await hold(store, agent=name, fingerprint="elsewhere" if released else "sha256:1")
        if released or status in (Status.APPROVED, Status.RUNNING, Status.SUCCEEDED, Status.FAILED, Status.UNKNOWN):
            record = await store.add_verdict(record.id, verdict(record.digest))
        if released or status in (Status.RUNNING, Status.SUCCEEDED, Status.FAILED, Status.UNKNOWN):
            await claim(store, record)
        if status in (Status.SUCCEEDED, Status.FAILED, Status.UNKNOWN):
            await store.settle(record.id, outcome(clock, status), durable=True)
        if status is Status.REJECTED:
            await store.add_verdict(record.id, verdict(record.digest, VerdictKind.REJECT))
        if status is Status.WITHDRAWN:
            await store.withdraw(record.id, name)
        if status is Status.INVALIDATED:
            await store.invalidate(record.id, "the tool changed")
        return await store.get(record.id)

    steps: dict[str, Callable[[CallRecord], Awaitable[object]]] = {
        "approve": lambda record: store.add_verdict(record.id, verdict(record.digest, reviewer="erin")),
        "reject": lambda record: store.add_verdict(record.id, verdict(record.digest, VerdictKind.REJECT)),
        "claim": lambda record: claim(store, record),
        "settle": lambda record: store.settle(record.id, outcome(clock), durable=True),
        "withdraw": lambda record: store.withdraw(record.id, record.call.agent),
        "invalidate": lambda record: store.invalidate(record.id, "x"),
    }
    numbers = itertools.count()
    for status in Status:
        if status is Status.EXPIRED:
            continue  # reached by the clock alone, and shown above
        for step in steps:
            before = await in_status(status, next(numbers))
            assert before.status is status
            try:
                await steps[step](before)
            except HitlError:
                assert await store.get(before.id) == before, (status, step)
            after = await store.get(before.id)
            moved = after.version != before.version
            assert after.status in LIFECYCLE[status] if moved else after == before, (status, step)


async def test_a_second_gateway_cannot_open_the_database(tmp_path: Path, store: SqliteStore, clock: HandClock) -> None:
    """The database belongs to one process; the second is told who to ask."""
    with pytest.raises(StoreError, match="another gateway has this database open"):
        async with open_sqlite(tmp_path / "hitl.db", clock):
            pass
    assert (await hold(store)).status is Status.HELD


async def test_the_database_files_are_private(tmp_path: Path, store: SqliteStore) -> None:
    """Arguments stand in these files whole, so nobody else may read them."""
    await hold(store)
    files = [path for path in tmp_path.iterdir() if path.name.startswith("hitl.db")]
    assert len(files) >= 3
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in files} == {0o600}


async def test_a_database_of_a_newer_version_is_not_touched(tmp_path: Path, clock: HandClock) -> None:
    """It could mean something we do not know, so we do not write to it."""
    with sqlite3.connect(tmp_path / "hitl.db") as connection:
        connection.execute(f"PRAGMA user_version={len(migrations()) + 1}")
    connection.close()
    with pytest.raises(StoreError, match="written by a newer hitl-mcp"):
        async with open_sqlite(tmp_path / "hitl.db", clock):
            pass


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, clock: HandClock) -> None:
    """A damaged file is named, with what to do, and left as it is."""
    path = tmp_path / "hitl.db"
    path.write_bytes(b"this is not a database, and it is long enough to look at" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="cannot be opened"):
        async with open_sqlite(path, clock):
            pass
    assert path.read_bytes() == before


async def test_readers_cannot_write(store: SqliteStore) -> None:
    """The reading connection refuses to write, so that there is only one writer."""
    with pytest.raises(StoreError, match="read-only"):
        await store.access.rows("drop_old_sign_ins", {"now": "x"})


def test_every_named_statement_is_used() -> None:
    """Statements that nobody runs are deleted, and those that code names exist."""
    package = Path(__file__).parents[2] / "src" / "hitl_mcp"
    code = "\n".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    for name in statements():
        assert f'"{name}"' in code, name
        assert sql(name)


@pytest.mark.parametrize("name", ["waiting_of_tool", "due", "left_running", "waiting_for_people"])
def test_what_is_open_is_found_without_walking_every_call(name: str) -> None:
    """The gateway asks these again and again; at a million records only the index of open calls answers in time."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for script in migrations():
            connection.executescript(script)
        query = dict.fromkeys(("before", "limit", "agent", "name", "definition", "now", "runner", "epoch"), 1)
        rows = connection.execute(f"EXPLAIN QUERY PLAN {sql(name)}", {**query, "statuses": '["held"]'})
        assert any("INDEX calls_open" in row[3] for row in rows)
