"""Grants in the store: what they serve, how uses are counted, what ends them, and what an edited row is worth."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import pytest

from hitl_mcp.audit.verify import verify_database
from hitl_mcp.calls import CallRecord, Decision, Mark, Outcome, Requirement, Status, VerdictKind
from hitl_mcp.clock import to_text
from hitl_mcp.errors import (
    CallAlreadySettled,
    DigestMismatch,
    GrantEnded,
    GrantNotFound,
    GrantRefused,
    NotAllowed,
    TooManyHeld,
)
from hitl_mcp.grants import Condition, Grant
from hitl_mcp.limits import GRANTS_OF_TOOL
from hitl_mcp.people import People, Reviewer
from hitl_mcp.policy.history import About, Question
from hitl_mcp.store import LastLook, SqliteStore, open_sqlite
from hitl_mcp.store.grant_rows import CHANGED_OUTSIDE
from hitl_mcp.store.intact import NOT_AS_LEFT, SignedHead
from hitl_mcp.store.pins import Change, Pin, keep_first_pins, tell_blocked
from hitl_mcp.store.statements import sql
from hitl_mcp.store.steps import RESTORED
from tests.clocks import HandClock
from tests.granting import DANA, ERIN, STANDS, ask, claimed, given, grantable, stands_with, wanted
from tests.samples import held, verdict


def findings(folder: Path) -> list[str]:
    """What verifying the record finds."""
    with closing(sqlite3.connect(folder / "hitl.db")) as connection:
        return verify_database(connection).findings


def edit(folder: Path, statement: str, *values: Any) -> None:
    """A row changed outside the gateway."""
    with closing(sqlite3.connect(folder / "hitl.db", isolation_level=None)) as intruder:
        assert intruder.execute(statement, values).rowcount


async def done(store: SqliteStore, record: CallRecord) -> None:
    """The call ran and succeeded."""
    result = ("{}", "sha256:" + sha256(b"{}").hexdigest(), 2)
    outcome = Outcome(Status.SUCCEEDED, True, to_text(HandClock().now()), "", *result)
    assert await store.settle(record.id, outcome, durable=True)


async def test_a_call_that_fits_is_approved_by_the_grant_and_its_use_is_counted_as_it_is_claimed(
    tmp_path: Path,
) -> None:
    """Held, approved by the grant in the same step, claimed; no verdict is made up, and the record verifies."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        grant = await given(store)
        asked = await ask(store, to="b@example.com")
        record = await store.get(asked.record.id)
        assert (asked.repeat, record.status, record.grant, record.verdicts) == (False, Status.APPROVED, grant.id, ())
        assert [(event.kind, event.by) for event in record.events] == [
            ("asked", "agent:builder"),
            ("approved", f"grant:{grant.id}"),
        ]
        assert (await store.grants.get(grant.id)).used == 0
        assert await claimed(store, asked.record) is not None
        assert (await store.grants.get(grant.id)).used == 1
        assert await claimed(store, asked.record) is None
        await done(store, record)
        assert (await store.grants.get(grant.id)).used == 1
        told = [event for event in await store.events_after(0) if event.kind.startswith("grant-")]
        assert [(event.kind, event.version) for event in told] == [("grant-given", 1), ("grant-used", 2)]
    assert findings(tmp_path) == []


OTHER = Requirement("other")


@pytest.mark.parametrize(
    "decision",
    [
        held(Requirement("mail-out", ("finance",))),
        held(Requirement("mail-out", ("finance",), grantable=True), OTHER),
        held(Requirement("mail-out", ("finance",), 2, grantable=True)),
        held(Requirement("mail-out", ("finance",), assurance="passkey", grantable=True)),
        held(Requirement("mail-out", ("finance",), assurance="sso", grantable=True)),
        held(Requirement("mail-out", ("finance",), barred=("dana",), grantable=True)),
        held(Requirement("mail-out", ("legal",), grantable=True)),
        held(Requirement("mail-out", ("finance",), surfaces=("cli",), grantable=True)),
    ],
    ids=["not grantable", "one is not", "quorum", "passkey", "assurance", "barred", "role", "surface"],
)
async def test_a_call_that_asks_for_what_the_grant_does_not_meet_is_held(tmp_path: Path, decision: Decision) -> None:
    """Whichever requirement it is: the call waits for people, and no use is taken."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        grant = await given(store)
        record = (await ask(store, decision, to="b@example.com")).record
        assert (record.status, record.grant) == (Status.HELD, None)
        assert (await store.grants.get(grant.id)).used == 0


async def test_a_call_that_does_not_fit_is_held(tmp_path: Path) -> None:
    """Another address, another argument than the first call had, or a decision where nobody is known."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        await given(store)
        assert (await ask(store, to="b@evil.org")).record.status is Status.HELD
        assert (await ask(store, to="b@example.com", bcc="b@evil.org")).record.status is Status.HELD
        nobody = stands_with(People(reviewers={"erin": ERIN}))
        assert (await ask(store, None, nobody, to="c@example.com")).record.status is Status.HELD


async def test_a_thousand_calls_at_once_never_take_more_uses_than_there_are(tmp_path: Path) -> None:
    """Uses of approved calls that have not started are kept for them; the others are held, and all that ran count."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        grant = await given(store, uses=300)
        records: list[CallRecord] = []

        async def one(number: int) -> None:
            try:
                record = (await ask(store, to=f"{number}@example.com")).record
            except TooManyHeld:
                pass
            else:
                records.append(record)
                if record.status is Status.APPROVED:
                    await claimed(store, record)

        async with anyio.create_task_group() as tasks:
            for number in range(1000):
                tasks.start_soon(one, number)
        ran = [record for record in records if record.grant is not None]
        assert len(ran) == 300
        after = await store.grants.get(grant.id)
        assert (after.used, after.ended_why) == (300, "it is used up")
        assert (await store.list_calls({Status.RUNNING}, limit=1)).calls
        assert (await store.list_calls({Status.APPROVED})).calls == ()
    assert findings(tmp_path) == []


async def test_a_use_that_was_kept_for_a_call_is_free_again_when_the_call_never_starts(tmp_path: Path) -> None:
    """Withdrawn before its claim: the next call is served."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        await given(store, uses=1)
        first = (await ask(store, to="b@example.com")).record
        second = (await ask(store, to="c@example.com")).record
        assert (first.status, second.status) == (Status.APPROVED, Status.HELD)
        await store.withdraw(first.id, "builder")
        assert (await ask(store, to="d@example.com")).record.status is Status.APPROVED


async def revoke(store: SqliteStore, clock: HandClock, grant: Grant) -> str:
    """Somebody takes it back."""
    await store.grants.revoke(grant.id, "erin", "too wide")
    return "`erin` revoked it: too wide"


async def let_it_expire(store: SqliteStore, clock: HandClock, grant: Grant) -> str:
    """Its hour is over, and the sweep comes by."""
    clock.forward(60 * 60)
    await store.expire_due()
    return "its time is over"


async def lose_the_role(store: SqliteStore, clock: HandClock, grant: Grant) -> str:
    """Its giver has another role in the config of the next start."""
    people = People(reviewers={"dana": Reviewer("dana", frozenset({"admin"}))})
    assert await store.grants.end_where(lambda one: stands_with(people)(one, ())) == 1
    return "`dana`, who gave it, has no longer the role `finance`"


async def change_the_tool(store: SqliteStore, clock: HandClock, grant: Grant) -> str:
    """Its upstream offers the tool with another definition."""
    pin = Pin("mail__send", "mail", grant.definition, "{}")
    await keep_first_pins(store, [pin])
    await tell_blocked(store, [Change(pin, "sha256:" + "9" * 64, "the definition changed")])
    return "the definition changed"


async def go_back(store: SqliteStore, clock: HandClock, grant: Grant) -> str:
    """The record is a backup that was restored."""
    await store.end_restored("restored")
    return RESTORED


ENDS = [revoke, let_it_expire, lose_the_role, change_the_tool, go_back]


@pytest.mark.parametrize("end", ENDS)
async def test_a_grant_that_ended_serves_nothing_and_what_it_approved_does_not_run(
    tmp_path: Path, end: Callable[[SqliteStore, HandClock, Grant], Any]
) -> None:
    """The call that it approved and that has not started is invalidated, saying why; the next one is held."""
    clock = HandClock()
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        grant = await given(store)
        record = (await ask(store, held(*grantable().requirements, run_within_seconds=7200), to="b@example.com")).record
        assert record.status is Status.APPROVED
        why = await end(store, clock, grant)
        assert await claimed(store, record) is None
        after = await store.get(record.id)
        assert after.status is Status.INVALIDATED
        assert why in after.closed_reason
        ended = await store.grants.get(grant.id)
        assert (ended.used, ended.ended_why) == (0, why)
        assert ended in await store.grants.list(live=False)
        assert await store.grants.list(live=True) == ()
        assert (await ask(store, to="c@example.com")).record.status is Status.HELD
    assert findings(tmp_path) == []


async def test_a_stopped_agent_is_served_by_no_grant(tmp_path: Path) -> None:
    """What was approved for it before does not run either; released, it is served again."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        await given(store)
        before = (await ask(store, to="b@example.com")).record
        await store.stops.stop("builder", "dana", "strange")
        assert (await ask(store, to="c@example.com")).record.status is Status.DENIED
        assert await claimed(store, before) is None
        assert (await store.get(before.id)).closed_reason == "its agent was stopped since a grant approved it"
        await store.stops.release("builder", "dana")
        assert (await ask(store, to="d@example.com")).record.status is Status.APPROVED


async def test_the_giver_and_what_is_asked_are_looked_at_again_as_the_call_is_claimed(tmp_path: Path) -> None:
    """No sweep came by: the claim itself sees that the giver is gone, the time over, or more asked than before."""
    clock = HandClock()
    within = held(*grantable().requirements, run_within_seconds=7200, expires_in_seconds=9000)
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        await given(store)
        asks = [(await ask(store, within, to=f"{number}@example.com")).record for number in range(3)]
        gone = stands_with(People(reviewers={"erin": ERIN}))
        assert await claimed(store, asks[0], gone) is None
        more = (*within.requirements, Requirement("band-40"))
        assert await store.claim(asks[1], lambda history: LastLook(None, asks=more), STANDS) is None
        clock.forward(60 * 60)
        assert await claimed(store, asks[2]) is None
        said = [(await store.get(record.id)).closed_reason.partition("any more: ")[2] for record in asks]
        assert said == [
            "`dana`, who gave it, is no reviewer any more",
            "`band-40` asks for people and does not say `grantable: true`",
            "its time is over",
        ]


async def test_an_identical_call_gets_the_record_that_exists(tmp_path: Path) -> None:
    """As where people approved: while it is open, and for a minute after its outcome was handed over."""
    clock = HandClock()
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        grant = await given(store)
        first = (await ask(store, to="b@example.com")).record
        assert (await ask(store, to="b@example.com")).repeat
        assert await claimed(store, first) is not None
        await done(store, first)
        await store.hand_over(first.id)
        again = await ask(store, to="b@example.com")
        assert (again.repeat, again.record.id) == (True, first.id)
        clock.forward(61)
        second = await ask(store, to="b@example.com")
        assert (second.repeat, second.record.grant) == (False, grant.id)


async def test_what_people_said_of_a_call_comes_before_any_grant(tmp_path: Path) -> None:
    """One that is held stays held, and one that was rejected stays so for the repeat window."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        waiting = (await ask(store, to="b@example.com")).record
        refused = (await ask(store, to="c@example.com")).record
        await store.add_verdict(refused.id, verdict(refused.digest, VerdictKind.REJECT))
        await given(store)
        assert (await ask(store, to="b@example.com")).record.id == waiting.id
        assert (await ask(store, to="c@example.com")).record.status is Status.REJECTED


async def test_a_value_is_not_known_by_a_call_that_ran_on_a_grant(tmp_path: Path) -> None:
    """No person approved it; the same call approved by a person makes the value known."""
    asks = Question("first-mail", About.KNOWN, "builder", 3600, ("d",))
    decision = replace(grantable(), marks=(Mark("first-mail", "builder", "d"),))
    known: list[object] = []

    def noting(history: Any) -> LastLook:
        known.append(history(asks))
        return LastLook(None, (), ())

    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        await given(store, uses=1)
        record = (await ask(store, decision, to="b@example.com")).record
        await store.claim(record, lambda history: LastLook(None, decision.marks, decision.requirements), STANDS)
        await done(store, record)
        by_hand = (await ask(store, decision, to="c@example.com")).record
        approved = await store.add_verdict(by_hand.id, verdict(by_hand.digest, roles=("finance",)))
        await store.claim(approved, lambda history: (noting(history), LastLook(None, decision.marks))[1])
        await done(store, approved)
        last = (await ask(store, to="d@example.com")).record
        approved = await store.add_verdict(last.id, verdict(last.digest, roles=("finance",)))
        await store.claim(approved, noting)
    assert known == [(), ("d",)]


@pytest.mark.parametrize(
    ("change", "giver", "error", "says"),
    [
        ({"digest": "sha256:other"}, DANA, DigestMismatch, "digest"),
        ({}, ERIN, NotAllowed, "`erin` has none of the roles it needs"),
        ({"assurance": "client"}, DANA, NotAllowed, "the agent's own client"),
        ({"uses": 0}, DANA, GrantRefused, "`uses` is out of range"),
        ({"uses": 1001}, DANA, GrantRefused, "`uses` is out of range"),
        ({"minutes": 24 * 60 + 1}, DANA, GrantRefused, "`minutes` is out of range"),
        ({"conditions": ()}, DANA, GrantRefused, "no condition"),
        ({"conditions": (Condition("/to", "ends_with", ".org"),)}, DANA, GrantRefused, "the very call"),
        ({"conditions": (Condition("to", "equals", "x"),)}, DANA, GrantRefused, "is no path"),
    ],
)
async def test_a_grant_that_cannot_be_is_refused_and_leaves_nothing(
    tmp_path: Path, change: dict[str, Any], giver: Reviewer, error: type[Exception], says: str
) -> None:
    """Whoever could not approve the call alone, other bytes, terms out of bounds, conditions that miss the call."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        record = (await ask(store)).record
        before = await store.last_event_number()
        with pytest.raises(error, match=says):
            await store.grants.give(wanted(record, **change), giver)
        assert await store.grants.list(live=True) == ()
        assert await store.last_event_number() == before


async def test_no_grant_is_given_where_no_rule_says_so_or_the_call_is_over(tmp_path: Path) -> None:
    """A rule that does not say `grantable`, and a call that was rejected."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        strict = (await ask(store, held(Requirement("mail-out", ("finance",))), to="b@example.com")).record
        with pytest.raises(NotAllowed, match="does not say `grantable: true`"):
            await store.grants.give(wanted(strict), DANA)
        record = (await ask(store)).record
        await store.add_verdict(record.id, verdict(record.digest, VerdictKind.REJECT))
        with pytest.raises(CallAlreadySettled):
            await store.grants.give(wanted(record), DANA)


async def test_an_agent_has_only_so_many_grants_for_a_tool(tmp_path: Path) -> None:
    """Each call looks at all of them; one that is revoked makes room. Revoking twice, or what is not there, is said."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        record = (await ask(store)).record
        grants = [await store.grants.give(wanted(record), DANA) for _ in range(GRANTS_OF_TOOL)]
        with pytest.raises(GrantRefused, match="grants for this tool already"):
            await store.grants.give(wanted(record), DANA)
        await store.grants.revoke(grants[0].id, "dana", "")
        await store.grants.give(wanted(record), DANA)
        with pytest.raises(GrantEnded, match="`dana` revoked it"):
            await store.grants.revoke(grants[0].id, "dana", "")
        with pytest.raises(GrantNotFound):
            await store.grants.revoke("g_nothing", "dana", "")


# A row that somebody changed.


EDITS = {
    "uses": "UPDATE grants SET uses = 1000 WHERE id = ?",
    "time": "UPDATE grants SET expires_at = '2099-01-01T00:00:00.000000Z' WHERE id = ?",
    "conditions": "UPDATE grants SET conditions_json = '[]' WHERE id = ?",
    "shape": """UPDATE grants SET shape_json = '["/bcc","/body","/to"]' WHERE id = ?""",
    "giver": "UPDATE grants SET given_by = 'erin' WHERE id = ?",
    "assurance": "UPDATE grants SET assurance = 'sso' WHERE id = ?",
    "reason": "UPDATE grants SET reason = 'mine' WHERE id = ?",
}


@pytest.mark.parametrize("change", sorted(EDITS))
async def test_a_grant_that_was_changed_in_the_database_serves_nothing(tmp_path: Path, change: str) -> None:
    """Nor does the call run that it had approved before; it is ended and pointed at, and verifying finds it first."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        grant = await given(store)
        before = (await ask(store, to="b@example.com")).record
        edit(tmp_path, EDITS[change], grant.id)
        assert findings(tmp_path) == [f"grant `{grant.id}` was changed"]
        assert (await ask(store, to="c@example.com")).record.status is Status.HELD
        assert await claimed(store, before) is None
        assert (await store.get(before.id)).status is Status.INVALIDATED
        assert (await store.grants.get(grant.id)).ended_why == CHANGED_OUTSIDE
        assert store.tampered == (grant.id,)


async def test_a_used_up_grant_that_was_put_back_serves_nothing(tmp_path: Path) -> None:
    """Its old row fits its old seal; what was told of it since, and what the gateway knows itself, gives it away."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        grant = await given(store, uses=2)
        with closing(sqlite3.connect(tmp_path / "hitl.db")) as reader:
            reader.row_factory = sqlite3.Row
            old = dict(reader.execute(sql("grant"), {"id": grant.id}).fetchone())
        assert await claimed(store, (await ask(store, to="b@example.com")).record) is not None
        put_back = "UPDATE grants SET version = ?, used = ?, ended_at = ?, ended_by = ?, ended_why = ?, seal = ?"
        values = [old[name] for name in ("version", "used", "ended_at", "ended_by", "ended_why", "seal")]
        edit(tmp_path, put_back, *values)
        edit(tmp_path, "DELETE FROM events WHERE kind = 'grant-used'")
        assert (await ask(store, to="c@example.com")).record.status is Status.HELD
        assert store.tampered == (grant.id,)


async def test_a_grant_that_ended_and_was_revived_serves_nothing(tmp_path: Path) -> None:
    """While the gateway runs, and after it was started again."""
    clock = HandClock()
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        grant = await given(store)
        await store.grants.revoke(grant.id, "dana", "")
        edit(tmp_path, "UPDATE grants SET ended_at = NULL, ended_by = NULL, ended_why = NULL")
        assert (await ask(store, to="b@example.com")).record.status is Status.HELD
        edit(tmp_path, "UPDATE grants SET ended_at = NULL, ended_by = NULL, ended_why = NULL")
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        await store.recover()
        assert store.tampered == (grant.id, grant.id)
        assert await store.grants.list(live=True) == ()
        assert (await ask(store, to="c@example.com")).record.status is Status.HELD


async def test_a_call_whose_grant_was_written_into_it_does_not_run(tmp_path: Path) -> None:
    """Somebody makes a held call look as if a grant had approved it: its seal does not fit."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        grant = await given(store)
        record = (await ask(store, to="b@evil.org")).record
        made_up = (
            "UPDATE calls SET status = 'approved', grant_id = ?, run_by = '2099-01-01T00:00:00.000000Z' WHERE id = ?"
        )
        edit(tmp_path, made_up, grant.id, record.id)
        assert await claimed(store, await store.get(record.id)) is None
        assert (await store.get(record.id)).status is Status.INVALIDATED


async def test_a_grant_of_a_record_that_was_rolled_back_ends(tmp_path: Path) -> None:
    """An older copy in the place of the database would bring a used grant back: all that is open ends, grants too."""
    clock = HandClock()
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        grant = await given(store)
        number, head, at = await store.flushed_head()
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        looked = await store.look_back(SignedHead(number + 5, head, at))
        assert looked.findings
        assert (await store.grants.get(grant.id)).ended_why == NOT_AS_LEFT
        assert (await ask(store, to="b@example.com")).record.status is Status.HELD


async def test_a_grant_outlives_a_restart(tmp_path: Path) -> None:
    """It serves as before, with the uses that are left."""
    clock = HandClock()
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        grant = await given(store, uses=2)
        assert await claimed(store, (await ask(store, to="b@example.com")).record) is not None
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        await store.recover()
        assert await claimed(store, (await ask(store, to="c@example.com")).record) is not None
        assert (await ask(store, to="d@example.com")).record.status is Status.HELD
        assert (await store.grants.get(grant.id)).used == 2
    assert findings(tmp_path) == []
