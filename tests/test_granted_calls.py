"""Calls that run on a grant, through the gate and the executor: what they must still meet, and when they do not run."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from hitl_mcp.calls import RUNS_ELSEWHERE, Status
from hitl_mcp.config import PolicySource
from hitl_mcp.errors import NotAllowed
from hitl_mcp.grants import Condition, Grant
from hitl_mcp.people import People, Reviewer
from hitl_mcp.policy import load_policy
from tests.clocks import HandClock
from tests.granting import wanted
from tests.houses import WAIT_SECONDS, House, house
from tests.samples import admit, held, tool_call
from tests.upstream_programs import effects

LOCAL = Reviewer("local", every_role=True)
PAYS = "{id: pays, tool: slow__pay, effect: hold, grantable: true, reason: money leaves}"
POLICY = f"version: 1\nrules: [{PAYS}]\n"


async def give(here: House, uses: int = 3) -> Grant:
    """A grant for payments up to 10 EUR, given on a call that stays held."""
    record = await here.hold("pay", amount=1, currency="EUR")
    conditions = (Condition("/amount", "at_most", 10), Condition("/currency", "equals", "EUR"))
    return await here.store.grants.give(wanted(record, *conditions, uses=uses, surface="cli", assurance="cli"), LOCAL)


async def test_a_call_that_fits_runs_once_and_the_next_one_too_until_the_uses_are_gone(tmp_path: Path) -> None:
    """Nobody approves anything; more than the bound, another currency, another agent and one too many are held."""
    async with house(tmp_path, policy=POLICY) as here:
        grant = await give(here, uses=2)
        await here.hold("pay", amount=11, currency="EUR")
        await here.hold("pay", amount=2, currency="USD")
        await here.hold("pay", agent="other", amount=2, currency="EUR")
        ran = [await here.outcome_of("pay", amount=amount, currency="EUR") for amount in (2, 3)]
        assert [(record.status, record.grant, record.verdicts) for record in ran] == [
            (Status.SUCCEEDED, grant.id, ()),
            (Status.SUCCEEDED, grant.id, ()),
        ]
        assert ran[0].outcome is not None and ran[0].outcome.result_json is not None
        assert (await here.hold("pay", amount=4, currency="EUR")).grant is None
        assert (await here.store.grants.get(grant.id)).ended_why == "it is used up"
        await give(here)
        await here.store.pause("test", "lunch")
        paused = (await here.ask("pay", amount=5, currency="EUR")).record
        assert paused is not None and paused.status is Status.DENIED
        await here.store.resume("test")
        elsewhere = tool_call(fingerprint=RUNS_ELSEWHERE, definition=RUNS_ELSEWHERE)
        decision = held(*ran[0].decision.requirements)
        record = (await admit(here.store, elsewhere, ran[0].asked, decision)).record
        with pytest.raises(NotAllowed, match="the agent's own program runs it"):
            await here.store.grants.give(wanted(record, surface="cli", assurance="cli"), LOCAL)
    assert effects(tmp_path) == ["2 EUR", "3 EUR"]


BANDS = """
bands: [{from: 20, effect: hold}]
signals: [{id: large, tool: slow__pay, points: 20, when: args.amount >= 5, reason: large}]
"""
SPENT = "budgets: [{id: daily, tool: slow__pay, sum: args.amount, limit: 5, window: 1d, over: hold}]\n"
OTHER = f"version: 1\nrules: [{PAYS}, {{id: five, tool: slow__pay, effect: hold, when: args.amount == 5, reason: r}}]\n"


async def test_what_else_the_policy_asks_is_asked_of_people(tmp_path: Path) -> None:
    """A band, a budget or another rule beside the one that is grantable: the call is held."""
    async with house(tmp_path, policy=POLICY) as here:
        await give(here)
        for number, policy in enumerate((POLICY + BANDS, POLICY + SPENT, OTHER)):
            read(here, policy)
            assert (await here.outcome_of("pay", amount=1 + number / 10, currency="EUR")).status is Status.SUCCEEDED
            waiting = await here.hold("pay", amount=5, currency="EUR")
            await here.store.withdraw(waiting.id, "builder")
    assert len(effects(tmp_path)) == 3


def another_rule(here: House) -> None:
    """The policy asks for more now."""
    read(here, OTHER.replace("args.amount == 5", "args.amount == 2"))


def not_grantable(here: House) -> None:
    """The rule does not let grants be given any more."""
    read(here, POLICY.replace("grantable: true, ", ""))


def denied(here: House) -> None:
    """The policy denies it now."""
    read(here, "version: 1\nrules: [{id: none, tool: slow__pay, effect: deny, reason: no more}]\n")


def read(here: House, policy: str) -> None:
    """Put another policy in force."""
    path = here.folder / "policy.yaml"
    path.write_text(policy, encoding="utf-8")
    here.gate.decider.policy = load_policy([PolicySource(path)], People())


CHANGES = [
    (another_rule, "`five` asks for people and does not say `grantable: true`"),
    (not_grantable, "`pays` asks for people and does not say `grantable: true`"),
    (denied, "the policy denies it now"),
]


async def test_a_call_is_decided_again_under_the_policy_of_its_claim(tmp_path: Path) -> None:
    """Approved by the grant, and stricter since: it is invalidated and does not run; no use is taken."""
    clock = HandClock()
    waiting = POLICY.replace("grantable: true", "grantable: true, undo: 1m")
    async with house(tmp_path, policy=waiting, clock=clock) as here:
        grant = await give(here)
        for change, says in CHANGES:
            read(here, waiting)
            record = (await here.ask("pay", amount=2, currency="EUR")).record
            assert record is not None and record.status is Status.APPROVED
            change(here)
            clock.forward(61)
            await here.store.resume("test")  # the executor looks again
            after = await here.until(record.id, Status.INVALIDATED)
            assert says in after.closed_reason
        assert (await here.store.grants.get(grant.id)).used == 0
    assert effects(tmp_path) == []


async def test_a_reviewer_can_take_back_what_a_grant_approved_while_it_can_be_undone(tmp_path: Path) -> None:
    """A rejection within `undo` ends it, and the use is free again."""
    clock = HandClock()
    waiting = POLICY.replace("grantable: true", "grantable: true, undo: 1m")
    async with house(tmp_path, policy=waiting, clock=clock) as here:
        grant = await give(here, uses=1)
        run = await here.ask("pay", amount=2, currency="EUR")
        assert run.record is not None
        assert (await here.reject(run.record)).status is Status.REJECTED
        second = await here.ask("pay", amount=3, currency="EUR")
        assert second.record is not None and second.record.grant == grant.id


async def test_a_changed_tool_or_another_upstream_of_the_same_name_ends_the_grants(tmp_path: Path) -> None:
    """As the next start finds it; where nothing changed they stay."""
    async with house(tmp_path, policy=POLICY) as here:
        grant = await give(here)
        assert await here.executor.end_grants() == 0
        args = [str(tmp_path / "slow_server.py"), str(tmp_path), "other"]
    async with house(tmp_path, policy=POLICY, args=args) as here:
        assert await here.executor.end_grants() == 1
        assert "is another one than when it was given" in str((await here.store.grants.get(grant.id)).ended_why)
        record = await here.hold("pay", amount=2, currency="EUR")
        euros = Condition("/currency", "equals", "EUR")
        again = await here.store.grants.give(wanted(record, euros, surface="cli", assurance="cli"), LOCAL)
    program = (tmp_path / "slow_server.py").read_text(encoding="utf-8").replace("to nobody is an error", "at once")
    async with house(tmp_path, policy=POLICY, program=program, args=args) as here:
        with anyio.fail_after(WAIT_SECONDS):
            while (ended := await here.store.grants.get(again.id)).ended_why is None:
                await anyio.sleep(0)
        assert "changed since it was accepted" in str(ended.ended_why)
