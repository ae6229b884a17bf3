"""Edits, calls passed on and agents that are stopped, in the store: one transaction each, sealed, told and verified."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from hitl_mcp.audit import Evidence
from hitl_mcp.calls import Asked, CallRecord, Decision, Effect, Mark, Requirement, RuleMatch, Status, VerdictKind
from hitl_mcp.canonical import canonical_text
from hitl_mcp.errors import (
    CallAlreadySettled,
    DigestMismatch,
    EditDenied,
    EditRefused,
    HitlError,
    NotAllowed,
    NotStopped,
)
from hitl_mcp.store import Edited, PassedOn, SqliteStore, open_sqlite, passed_on
from tests.clocks import HandClock
from tests.samples import admit, allowed, claim, denied, held, tool_call, verdict

TWO = Requirement("pay", quorum=2)


@pytest.fixture
def clock() -> HandClock:
    """Time, moved by hand."""
    return HandClock()


@pytest.fixture
async def store(tmp_path: Path, clock: HandClock) -> AsyncIterator[SqliteStore]:
    """An empty store."""
    async with open_sqlite(tmp_path / "hitl.db", clock) as opened:
        yield opened


async def hold(store: SqliteStore, *needs: Requirement, **changes: object) -> CallRecord:
    """A held mail."""
    return (await admit(store, tool_call(**changes), Asked("conv"), held(*needs))).record


def to(address: str) -> str:
    """The bytes of a mail to somebody else."""
    return canonical_text({"body": "hello", "to": address})


def edited(record: CallRecord, decision: Decision | None = None, address: str = "b@example.com") -> Edited:
    """The mail goes to somebody else, and is decided so."""
    return Edited(record.digest, to(address), lambda history: decision or held(), lambda needs: ())


async def edit(
    store: SqliteStore, record: CallRecord, decision: Decision | None = None, by: str = "dana", **changes: str
) -> CallRecord:
    """A reviewer edits and approves a call."""
    said = verdict(record.digest, reviewer=by, reason="to the right person")
    return await store.verdicts.edit(record.id, said, edited(record, decision, **changes))


def is_verified(path: Path) -> bool:
    """Whether nothing in the record differs from what the chain attests."""
    return Evidence(path).verify().findings == []


@pytest.mark.promise("R3")
async def test_an_edit_replaces_the_bytes_and_approves_exactly_these(store: SqliteStore, tmp_path: Path) -> None:
    """New bytes and a new digest, approved by their editor; the earlier ones are kept, with who and why."""
    record = await hold(store)
    after = await edit(store, record)
    assert (after.status, after.call.arguments_json) == (Status.APPROVED, to("b@example.com"))
    assert after.digest != record.digest
    assert after.request_key == record.request_key
    (earlier,) = after.revisions
    assert (earlier.arguments_json, earlier.digest) == (record.call.arguments_json, record.digest)
    assert (earlier.edited_by, earlier.reason) == ("dana", "to the right person")
    assert [event.kind for event in (await store.get(record.id)).events] == ["asked", "edited", "approved"]
    ran = await claim(store, await store.get(record.id))
    assert ran is not None
    assert ran.call.arguments_json == to("b@example.com")
    assert is_verified(tmp_path / "hitl.db")


@pytest.mark.promise("R3")
async def test_what_was_approved_before_an_edit_counts_no_more(store: SqliteStore, tmp_path: Path) -> None:
    """Of two that are needed, one approved the old bytes: with the editor's there is one for the new ones."""
    record = await hold(store, TWO)
    await store.add_verdict(record.id, verdict(record.digest, reviewer="erin"))
    after = await edit(store, await store.get(record.id), held(TWO))
    assert after.status is Status.HELD
    with pytest.raises(DigestMismatch):
        await store.add_verdict(record.id, verdict(record.digest, reviewer="fred"))
    approved = await store.add_verdict(record.id, verdict(after.digest, reviewer="erin"))
    assert approved.status is Status.APPROVED
    assert is_verified(tmp_path / "hitl.db")


async def test_the_second_of_two_reviewers_may_edit_and_then_the_first_decides_anew(store: SqliteStore) -> None:
    """Nobody's approval is carried over to bytes that they did not see."""
    record = await hold(store, TWO)
    await store.add_verdict(record.id, verdict(record.digest, reviewer="erin"))
    after = await edit(store, await store.get(record.id), held(TWO), by="fred")
    again = await edit(store, after, held(TWO), by="erin", address="c@example.com")
    assert (again.status, len(again.revisions)) == (Status.HELD, 2)
    approved = await store.add_verdict(record.id, verdict(again.digest, reviewer="fred"))
    assert approved.status is Status.APPROVED


@pytest.mark.promise("R2")
async def test_an_edit_is_there_after_a_restart(store: SqliteStore, tmp_path: Path, clock: HandClock) -> None:
    """Bytes, revisions and approvals survive; what the next gateway finds is sound."""
    record = await hold(store, TWO)
    after = await edit(store, record, held(TWO))
    store.access.writer.stop()
    copy = tmp_path / "copy.db"
    for suffix in ("", "-wal", ".key"):
        source = tmp_path / f"hitl.db{suffix}"
        if source.exists():
            (tmp_path / f"copy.db{suffix}").write_bytes(source.read_bytes())
    async with open_sqlite(copy, clock) as opened:
        await opened.recover()
        found = await opened.get(record.id)
        assert replace(found, events=()) == replace(after, events=())
        assert found.revisions == after.revisions
        assert (await opened.add_verdict(record.id, verdict(after.digest, reviewer="erin"))).status is Status.APPROVED


async def test_an_edit_that_the_policy_denies_changes_nothing(store: SqliteStore) -> None:
    """Refused with the policy's reasons; record, events and verdicts are as before."""
    record = await hold(store)
    before = await store.get(record.id)
    with pytest.raises(EditDenied, match="nothing is ever deleted") as refused:
        await edit(store, record, denied())
    assert refused.value.reasons == ("nothing is ever deleted",)
    assert await store.get(record.id) == before


async def test_an_edited_call_needs_its_editor_even_where_the_policy_would_let_it_run(store: SqliteStore) -> None:
    """It stays a call that people decided on; the agent's own people are nobody's editor."""
    record = await hold(store, Requirement("pay", barred=("dana",)))
    with pytest.raises(NotAllowed, match="one of the agent's own people"):
        await edit(store, record, allowed())
    assert (await store.get(record.id)).digest == record.digest
    after = await edit(store, record, allowed(), by="erin")
    assert (after.status, after.decision.effect) == (Status.APPROVED, Effect.HOLD)
    assert [need.id for need in after.decision.requirements] == ["edited"]


async def test_an_editor_who_could_not_approve_the_edited_call_changes_nothing(store: SqliteStore) -> None:
    """The edited call needs finance: an editor without that role is refused, and the call is as it was."""
    record = await hold(store)
    with pytest.raises(NotAllowed, match="none of the roles it needs"):
        await edit(store, record, held(Requirement("pay", roles=("finance",))))
    assert (await store.get(record.id)).digest == record.digest


async def test_an_edit_never_gives_a_call_more_time(store: SqliteStore, clock: HandClock) -> None:
    """Neither people have longer nor the approval; a shorter clock counts."""
    record = await hold(store, TWO)
    clock.forward(100)
    long = held(TWO, expires_in_seconds=9000, run_within_seconds=9000)
    after = await edit(store, record, long)
    assert (after.expires_at, after.decision.run_within_seconds) == (record.expires_at, 300)
    short = held(TWO, expires_in_seconds=50)
    again = await edit(store, after, short, by="erin", address="c@example.com")
    assert again.expires_at is not None
    assert again.expires_at < (record.expires_at or "")


async def test_an_edit_takes_its_share_of_budgets_with_it(store: SqliteStore, tmp_path: Path) -> None:
    """What the call counted for is gone, and what it counts for now stands in its place."""
    record = (await admit(store, tool_call(), Asked("c"), held(marks=(Mark("daily", "{}", "EUR", 100),)))).record
    await edit(store, record, held(TWO, marks=(Mark("daily", "{}", "EUR", 7),)))
    with closing(sqlite3.connect(tmp_path / "hitl.db")) as reader:
        assert reader.execute("SELECT amount FROM marks WHERE call_id = ?", (record.id,)).fetchall() == [(7,)]
    assert is_verified(tmp_path / "hitl.db")


async def test_an_edit_that_changes_nothing_or_goes_back_is_refused(store: SqliteStore) -> None:
    """Going back would make approvals of then count again."""
    record = await hold(store, TWO)
    with pytest.raises(EditRefused, match="nothing is changed"):
        await edit(store, record, address="a@example.com")
    after = await edit(store, record, held(TWO))
    with pytest.raises(EditRefused, match="it had these arguments before"):
        await edit(store, after, held(TWO), by="erin", address="a@example.com")
    assert (await store.get(record.id)).digest == after.digest


Act = Callable[[SqliteStore, CallRecord, HandClock], object]


async def _approve(store: SqliteStore, record: CallRecord, clock: HandClock) -> None:
    await store.add_verdict(record.id, verdict(record.digest, reviewer="erin"))


async def _withdraw(store: SqliteStore, record: CallRecord, clock: HandClock) -> None:
    await store.withdraw(record.id, "builder")


async def _expire(store: SqliteStore, record: CallRecord, clock: HandClock) -> None:
    clock.forward(601)


async def _reject(store: SqliteStore, record: CallRecord, clock: HandClock) -> None:
    await store.add_verdict(record.id, verdict(record.digest, VerdictKind.REJECT, reviewer="erin"))


@pytest.mark.parametrize(
    ("act", "stands"),
    [
        (_approve, Status.APPROVED),
        (_withdraw, Status.WITHDRAWN),
        (_expire, Status.EXPIRED),
        (_reject, Status.REJECTED),
    ],
    ids=["approval", "withdrawal", "expiry", "rejection"],
)
async def test_an_edit_after_the_end_is_refused_with_the_true_status(
    store: SqliteStore, clock: HandClock, act: Act, stands: Status
) -> None:
    """Whoever comes first wins; the edit changes no byte, and says how the call stands."""
    record = await hold(store)
    await act(store, record, clock)  # type: ignore[misc]
    with pytest.raises(CallAlreadySettled) as late:
        await edit(store, record)
    assert late.value.status == stands
    found = await store.get(record.id)
    assert (found.status, found.digest, found.revisions) == (stands, record.digest, ())


@pytest.mark.parametrize("needs", [(), (TWO,)], ids=["quorum 1", "quorum 2"])
async def test_of_two_edits_at_once_exactly_one_wins(store: SqliteStore, needs: tuple[Requirement, ...]) -> None:
    """The other names bytes that the call has no more, or comes when it is decided."""
    record = await hold(store, *needs)
    errors: list[HitlError] = []
    for by, address in (("dana", "b@example.com"), ("erin", "c@example.com")):
        try:
            await edit(store, record, held(*needs), by=by, address=address)
        except (DigestMismatch, CallAlreadySettled) as error:
            errors.append(error)
    after = await store.get(record.id)
    assert len(errors) == 1
    assert (after.call.arguments_json, len(after.revisions)) == (to("b@example.com"), 1)
    assert errors[0].status == after.status  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "tampering",
    [
        'UPDATE revisions SET arguments_json = \'{"to":"x"}\'',
        "UPDATE revisions SET edited_by = 'mallory'",
        "DELETE FROM revisions",
        "UPDATE calls SET revision = 0",
        "UPDATE calls SET (arguments_json, digest, decision_json, expires_at) ="
        " (SELECT arguments_json, digest, decision_json, expires_at FROM revisions),"
        " seal = (SELECT substr(facts, 1, 64) FROM events LIMIT 1)",
    ],
    ids=["bytes", "editor", "gone", "number", "put back"],
)
async def test_whoever_changes_what_an_edit_kept_ends_the_call(
    store: SqliteStore, tmp_path: Path, tampering: str
) -> None:
    """A held call whose history somebody rewrote is not approved any more, and verifying says so."""
    record = await hold(store, TWO)
    after = await edit(store, record, held(TWO))
    with closing(sqlite3.connect(tmp_path / "hitl.db")) as intruder:
        intruder.execute(tampering)
        intruder.commit()
    assert not is_verified(tmp_path / "hitl.db")
    with pytest.raises(HitlError):
        await store.add_verdict(record.id, verdict(after.digest, reviewer="erin"))
    assert (await store.get(record.id)).status is Status.INVALIDATED


async def test_the_state_before_an_edit_with_its_old_seal_is_found_out(store: SqliteStore, tmp_path: Path) -> None:
    """An old seal fits an old state: but the events say which seal was the last."""
    record = await hold(store, TWO)
    columns = "arguments_json, digest, decision_json, expires_at, seal"
    with closing(sqlite3.connect(tmp_path / "hitl.db")) as intruder:
        old = intruder.execute(f"SELECT {columns} FROM calls").fetchone()  # noqa: S608 - named right above
        await edit(store, record, held(TWO))
        intruder.execute(f"UPDATE calls SET ({columns}) = (?, ?, ?, ?, ?)", old)  # noqa: S608 - the same
        intruder.commit()
    with pytest.raises(HitlError):
        await store.add_verdict(record.id, verdict(record.digest, reviewer="erin"))
    assert (await store.get(record.id)).status is Status.INVALIDATED


async def test_retention_erases_what_edits_replaced(store: SqliteStore, tmp_path: Path, clock: HandClock) -> None:
    """Arguments and words are gone in every revision; who edited it when stays, and the chain still verifies."""
    record = await hold(store)
    after = await edit(store, record)
    await store.add_verdict(record.id, verdict(after.digest, VerdictKind.REJECT))
    clock.forward(9000)
    assert (await store.erase_batch(Status.REJECTED, 100)).erased == 1
    (earlier,) = (await store.get(record.id)).revisions
    assert (earlier.arguments_json, earlier.decision.reasons, earlier.edited_by) == ("null", (), "dana")
    assert is_verified(tmp_path / "hitl.db")


# Passing on.


async def pass_to(store: SqliteStore, record: CallRecord, role: str) -> CallRecord:
    """A call is passed on to a role."""
    return await store.verdicts.pass_on(record.id, PassedOn(record.digest, passed_on(record, role), "dana", "theirs"))


async def test_a_call_that_is_passed_on_needs_that_role_too(store: SqliteStore, tmp_path: Path) -> None:
    """What was approved before still counts for the rest; only the last role it was passed to is asked."""
    record = await hold(store, TWO)
    await store.add_verdict(record.id, verdict(record.digest, reviewer="erin"))
    await pass_to(store, record, "legal")
    after = await pass_to(store, record, "finance")
    assert [need.id for need in after.decision.requirements] == ["pay", "reassigned"]
    assert (await store.add_verdict(record.id, verdict(record.digest, reviewer="fred"))).status is Status.HELD
    approved = await store.add_verdict(record.id, verdict(record.digest, reviewer="gwen", roles=("finance",)))
    assert approved.status is Status.APPROVED
    told = [event for event in (await store.get(record.id)).events if event.kind == "reassigned"]
    assert [(event.by, event.detail) for event in told] == [
        ("reviewer:dana", "to legal: theirs"),
        ("reviewer:dana", "to finance: theirs"),
    ]
    assert is_verified(tmp_path / "hitl.db")


async def test_passing_on_makes_a_call_only_stricter(store: SqliteStore) -> None:
    """An edit keeps it, a rule of that name is not replaced, and what a role approved is not passed on to it."""
    named = held(Requirement("reassigned", quorum=2), rules=(RuleMatch("reassigned", Effect.HOLD, "a rule"),))
    record = (await admit(store, tool_call(), Asked("conv"), named)).record
    after = await pass_to(store, record, "legal")
    assert [need.quorum for need in after.decision.requirements] == [2, 1]
    other = await hold(store, TWO, arguments_json='{"to":"z@example.com"}')
    after = await edit(store, await pass_to(store, other, "legal"), held(TWO))
    assert [need.id for need in after.decision.requirements] == ["pay", "reassigned"]
    third = await hold(store, arguments_json='{"to":"y@example.com"}')
    await pass_to(store, third, "legal")
    await store.add_verdict(third.id, verdict(third.digest, roles=("finance",)))
    with pytest.raises(NotAllowed, match="approved with that role"):
        await pass_to(store, third, "finance")


# Stopping an agent.


async def test_a_stopped_agent_is_denied_what_would_be_held(store: SqliteStore, tmp_path: Path) -> None:
    """Allowed calls go on, other agents too, and what is held stays; released, it is as before."""
    waiting = await hold(store)
    bad = await hold(store, arguments_json='{"to":"x@example.com"}')
    await store.verdicts.add(bad.id, verdict(bad.digest, VerdictKind.REJECT, reason="enough"), stop=True)
    refused = await hold(store, arguments_json='{"to":"y@example.com"}')
    assert (refused.status, refused.decision.reasons[0].endswith(": enough")) == (Status.DENIED, True)
    assert (await admit(store, tool_call(), Asked("conv"), held())).record.id == waiting.id
    assert (await admit(store, tool_call(tool="get"), Asked("conv"), allowed())).record.status is Status.RUNNING
    assert (await hold(store, agent="other")).status is Status.HELD
    (stop,) = await store.stops.all()
    assert (stop.agent, stop.by, stop.reason, stop.call_id) == ("builder", "dana", "enough", bad.id)
    assert is_verified(tmp_path / "hitl.db")
    await store.stops.release("builder", "erin")
    assert (await hold(store, arguments_json='{"to":"w@example.com"}')).status is Status.HELD
    with pytest.raises(NotStopped):
        await store.stops.release("builder", "erin")
    assert is_verified(tmp_path / "hitl.db")


async def test_a_rejection_that_is_refused_stops_nobody(store: SqliteStore) -> None:
    """It named other bytes: neither the call nor its agent is changed."""
    record = await hold(store)
    with pytest.raises(DigestMismatch):
        await store.verdicts.add(record.id, verdict("sha256:other", VerdictKind.REJECT), stop=True)
    assert await store.stops.all() == ()


@pytest.mark.parametrize("tampering", ["DELETE FROM stops", "UPDATE stops SET reason = 'nothing', seal = ''"])
async def test_whoever_edits_the_database_releases_nobody(
    store: SqliteStore, tmp_path: Path, clock: HandClock, tampering: str
) -> None:
    """The agent stays stopped, in this life and in the next, and verifying says what was done."""
    await store.stops.stop("builder", "dana", "enough")
    with closing(sqlite3.connect(tmp_path / "hitl.db")) as intruder:
        intruder.execute(tampering)
        intruder.commit()
    assert (await hold(store)).status is Status.DENIED
    assert not is_verified(tmp_path / "hitl.db")
    store.access.stopped.clear()
    await store.stops.load()
    assert (await hold(store, arguments_json="{}")).status is Status.DENIED
