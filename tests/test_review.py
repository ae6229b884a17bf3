"""The one door for verdicts: who may say what, and that the record carries who said it, where and how surely."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hitl_mcp.calls import Asked, CallRecord, Requirement, Status, VerdictKind
from hitl_mcp.errors import CallNotFound, NotAllowed
from hitl_mcp.limits import VERDICT_REASON_CHARACTERS
from hitl_mcp.people import People, Reviewer
from hitl_mcp.review import Given, Review
from hitl_mcp.store import SqliteStore, open_sqlite
from tests.clocks import HandClock
from tests.samples import admit, held, tool_call

TEAM = People(reviewers={"dana": Reviewer("dana", frozenset({"finance"})), "erin": Reviewer("erin")})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An empty store."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as opened:
        yield opened


async def hold(store: SqliteStore, *needs: Requirement) -> CallRecord:
    """A held call."""
    return (await admit(store, tool_call(), Asked("conv"), held(*needs))).record


def given(record: CallRecord, reviewer: str, kind: VerdictKind = VerdictKind.APPROVE, reason: str = "") -> Given:
    """A verdict as the page hands it in."""
    return Given(kind, record.digest, reviewer, surface="web", assurance="link", reason=reason)


async def test_a_verdict_carries_who_where_and_how_surely(store: SqliteStore) -> None:
    """Reviewer, roles at that time, surface and assurance are on record."""
    record = await hold(store, Requirement("pay", roles=("finance",)))
    after = await Review(store, TEAM, HandClock()).give_verdict(record.id, given(record, "dana", reason="known payee"))
    said = after.verdicts[0]
    assert (said.reviewer, said.roles, said.surface, said.assurance) == ("dana", ("finance",), "web", "link")
    assert (said.reason, said.digest, after.status) == ("known payee", record.digest, Status.APPROVED)


async def test_somebody_the_config_does_not_name_is_no_reviewer(store: SqliteStore) -> None:
    """A name from nowhere decides nothing."""
    record = await hold(store)
    with pytest.raises(NotAllowed, match="`mallory` is not a reviewer"):
        await Review(store, TEAM, HandClock()).give_verdict(record.id, given(record, "mallory"))
    assert await store.get(record.id) == record


async def test_without_reviewers_configured_local_has_every_role(store: SqliteStore) -> None:
    """On a laptop nobody has to configure people; the one who sits there decides."""
    record = await hold(store, Requirement("pay", roles=("finance",)))
    after = await Review(store, People(), HandClock()).give_verdict(record.id, given(record, "local"))
    assert (after.status, after.verdicts[0].roles) == (Status.APPROVED, ("finance",))


async def test_with_reviewers_configured_local_has_no_role_of_its_own(store: SqliteStore) -> None:
    """A role is given by the config, not by having a shell."""
    record = await hold(store, Requirement("pay", roles=("finance",)))
    with pytest.raises(NotAllowed, match="`local` has none of the roles it needs"):
        await Review(store, TEAM, HandClock()).give_verdict(record.id, given(record, "local"))
    assert await store.get(record.id) == record


async def test_two_verdicts_of_the_command_line_are_one_person(store: SqliteStore) -> None:
    """A quorum of two is never met by one shell."""
    record = await hold(store, Requirement("pay", quorum=2))
    review = Review(store, TEAM, HandClock())
    await review.give_verdict(record.id, given(record, "local"))
    with pytest.raises(Exception, match="`local` approved it already"):
        await review.give_verdict(record.id, given(record, "local"))
    assert (await store.get(record.id)).status is Status.HELD


async def test_anyone_may_reject(store: SqliteStore) -> None:
    """One rejection rejects, whatever roles approving would need."""
    record = await hold(store, Requirement("pay", roles=("finance",), quorum=1))
    review = Review(store, TEAM, HandClock())
    after = await review.give_verdict(record.id, given(record, "erin", VerdictKind.REJECT, "x" * 3000))
    assert after.status is Status.REJECTED
    assert len(after.verdicts[0].reason) == VERDICT_REASON_CHARACTERS


async def test_a_verdict_on_a_call_that_does_not_exist_says_so(store: SqliteStore) -> None:
    """An unknown id is a clear error."""
    record = await hold(store)
    with pytest.raises(CallNotFound, match="no call has the id `c_nope`"):
        await Review(store, TEAM, HandClock()).give_verdict("c_nope", given(record, "dana"))


def test_people_can_meet_a_quorum_only_if_enough_of_them_qualify() -> None:
    """Three could answer without a role asked for; only one has finance."""
    assert TEAM.can_meet(Requirement("x", quorum=3))
    assert not TEAM.can_meet(Requirement("x", quorum=4))
    assert TEAM.can_meet(Requirement("x", roles=("finance",)))
    assert not TEAM.can_meet(Requirement("x", roles=("finance",), quorum=2))
    assert People().can_meet(Requirement("x", roles=("anything",)))
    assert not People().can_meet(Requirement("x", quorum=2))


# What an agent's own client says.


def from_client(record: CallRecord, reviewer: str = "client:builder") -> Given:
    """An approval as the client of an agent gives it."""
    return Given(VerdictKind.APPROVE, record.digest, reviewer, surface="client", assurance="client")


async def test_a_client_approves_what_anyone_may_approve(store: SqliteStore) -> None:
    """It is on record as the client's word, with no role, whoever is configured."""
    record = await hold(store)
    after = await Review(store, People(), HandClock()).give_verdict(record.id, from_client(record))
    said = after.verdicts[0]
    assert (said.reviewer, said.roles, said.assurance, after.status) == (
        "client:builder",
        (),
        "client",
        Status.APPROVED,
    )


@pytest.mark.parametrize(
    "need",
    [
        Requirement("pay", roles=("finance",)),
        Requirement("pay", quorum=2),
        Requirement("pay", assurance="cli"),
        Requirement("pay", barred=("dana",)),
        Requirement("pay", surfaces=("web", "cli")),
    ],
    ids=["roles", "quorum", "assurance", "separate", "surfaces"],
)
@pytest.mark.parametrize("people", [TEAM, People()], ids=["team", "nobody"])
async def test_a_client_counts_for_nothing_more(store: SqliteStore, need: Requirement, people: People) -> None:
    """No role, no second person, nobody apart from the agent's own, no surface that was asked for: refused."""
    record = await hold(store, need)
    with pytest.raises(NotAllowed):
        await Review(store, people, HandClock()).give_verdict(record.id, from_client(record))
    assert await store.get(record.id) == record


@pytest.mark.parametrize("name", ["client:other", "client:", "dana", "local", "builder"])
async def test_a_client_speaks_for_its_own_agent_only(store: SqliteStore, name: str) -> None:
    """Neither for another agent nor for a person."""
    record = await hold(store)
    with pytest.raises(NotAllowed, match="is not the client that asked"):
        await Review(store, TEAM, HandClock()).give_verdict(record.id, from_client(record, name))
    assert await store.get(record.id) == record


async def test_a_client_is_nobody_on_other_surfaces(store: SqliteStore) -> None:
    """No sign-in makes a reviewer of it, so no other surface can speak in its name."""
    record = await hold(store)
    with pytest.raises(NotAllowed, match="`client:builder` is not a reviewer"):
        await Review(store, TEAM, HandClock()).give_verdict(record.id, given(record, "client:builder"))
    assert TEAM.reviewer("client:builder") is None
