"""Stories of what a policy remembers: budgets under a rush, what is new, how often, and what an agent has read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from textwrap import dedent

import anyio
import pytest

from hitl_mcp.calls import CallRecord, Status
from tests.clocks import HandClock
from tests.houses import WAIT_SECONDS, House, house
from tests.upstream_programs import effects

RUSH_SECONDS = 120
"""A thousand calls through a real upstream, on a machine that does other things too."""


def policy(text: str) -> str:
    """A policy under which payments run, beside what the test is about."""
    start = "version: 1\nrules:\n  - {id: runs, tool: 'slow__*', effect: allow, reason: the agent's work}\n"
    return start + dedent(text)


TEN_CALLS = policy("budgets: [{id: ten, tool: slow__pay, count: true, limit: 10, window: 1d, over: deny}]")
HUNDRED = policy(
    """
    budgets:
      - {id: daily, tool: slow__pay, sum: args.amount, unit: args.currency, limit: {EUR: 100, USD: 50}, per: agent,
         window: 1d, over: deny}
    """
)


def reasons(record: CallRecord) -> str:
    """Why, as it is told."""
    return "; ".join(record.decision.reasons)


async def approved(here: House, record: CallRecord) -> CallRecord:
    """A held call after a person approved it and it ended."""
    await here.approve(record)
    return await here.settled(record.id)


async def test_of_a_thousand_calls_at_once_a_budget_of_ten_lets_ten_run(tmp_path: Path) -> None:
    """However many ask at the same moment, no two fit into what is left for one."""
    statuses: Counter[Status] = Counter()
    async with house(tmp_path, policy=TEN_CALLS) as here:

        async def pay(number: int) -> None:
            record = await here.outcome_of("pay", agent=f"agent-{number % 7}", amount=number, currency="EUR")
            statuses[record.status] += 1

        with anyio.fail_after(RUSH_SECONDS):
            async with anyio.create_task_group() as tasks:
                for number in range(1000):
                    tasks.start_soon(pay, number)
    assert statuses == {Status.SUCCEEDED: 10, Status.DENIED: 990}
    assert len(effects(tmp_path)) == 10


async def test_two_calls_never_both_fit_into_the_last_ten_euros(tmp_path: Path) -> None:
    """Ninety are spent; of two calls over ten, asked at once, one runs, and the other is told what is left."""
    async with house(tmp_path, policy=HUNDRED) as here:
        await here.outcome_of("pay", amount=90, currency="EUR")
        found: list[CallRecord] = []

        async def pay(to: str) -> None:
            found.append(await here.outcome_of("pay", amount=10, currency="EUR", to=to))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pay, "a")
            tasks.start_soon(pay, "b")
    assert sorted(record.status for record in found) == [Status.DENIED, Status.SUCCEEDED]
    refused = next(record for record in found if record.status is Status.DENIED)
    assert reasons(refused) == (
        "the budget does not allow it (10 EUR does not fit into the 0 EUR that are left of 100 EUR within 1d) "
        "(budget `daily`)"
    )
    assert effects(tmp_path) == ["90 EUR", "10 EUR"]


async def test_each_agent_and_each_unit_has_its_own_account(tmp_path: Path) -> None:
    """A budget per agent is not used up by another agent, nor euros by dollars; a unit without a limit has none."""
    async with house(tmp_path, policy=HUNDRED) as here:
        assert (await here.outcome_of("pay", amount=100, currency="EUR")).status is Status.SUCCEEDED
        assert (await here.outcome_of("pay", amount=0.01, currency="EUR")).status is Status.DENIED
        assert (await here.outcome_of("pay", amount=50, currency="USD")).status is Status.SUCCEEDED
        assert (await here.outcome_of("pay", agent="other", amount=100, currency="EUR")).status is Status.SUCCEEDED
        refused = await here.outcome_of("pay", amount=1, currency="GBP")
    assert refused.status is Status.DENIED
    assert "budget `daily` cannot be read: it has no limit for `GBP`" in reasons(refused)


@pytest.mark.parametrize("amount", [-5, 1e300])
async def test_what_is_no_amount_fits_into_no_budget(tmp_path: Path, amount: float) -> None:
    """A negative amount would give money back to the budget; one beyond all reason would overflow it."""
    async with house(tmp_path, policy=HUNDRED) as here:
        refused = await here.outcome_of("pay", amount=amount, currency="EUR")
        fits = await here.outcome_of("pay", amount=100, currency="EUR")
    assert (refused.status, fits.status) == (Status.DENIED, Status.SUCCEEDED)


async def test_a_tenth_ten_times_is_one(tmp_path: Path) -> None:
    """Amounts are not added as binary fractions: a limit is reached exactly, and not passed."""
    one = HUNDRED.replace("EUR: 100", "EUR: 1")
    async with house(tmp_path, policy=one) as here:
        statuses = [
            (await here.outcome_of("pay", amount=0.1, currency="EUR", to=str(number))).status for number in range(11)
        ]
    assert statuses == [Status.SUCCEEDED] * 10 + [Status.DENIED]


async def test_a_failed_call_gives_back_what_it_took(tmp_path: Path) -> None:
    """The upstream refused the payment, so the money is still there."""
    async with house(tmp_path, policy=HUNDRED) as here:
        assert (await here.outcome_of("pay", amount=80, currency="EUR", to="nobody")).status is Status.FAILED
        assert (await here.outcome_of("pay", amount=100, currency="EUR")).status is Status.SUCCEEDED


async def test_a_call_of_unknown_outcome_keeps_what_it_took(tmp_path: Path) -> None:
    """It may have happened, so it counts."""
    one_death = policy("budgets: [{id: one, tool: slow__die, count: true, limit: 1, window: 1d, over: deny}]")
    async with house(tmp_path, policy=one_death) as here:
        assert (await here.outcome_of("die", what="a")).status is Status.UNKNOWN
        assert (await here.outcome_of("die", what="b")).status is Status.DENIED
    assert effects(tmp_path) == ["a"]


HELD_BUDGET = HUNDRED.replace("effect: allow", "effect: hold")


async def test_a_held_call_takes_from_the_budget_until_it_is_rejected(tmp_path: Path) -> None:
    """What waits for people may still be spent; asking for the very same again asks for nothing more."""
    async with house(tmp_path, policy=HELD_BUDGET) as here:
        waiting = await here.hold("pay", amount=80, currency="EUR")
        again = await here.ask("pay", amount=80, currency="EUR")
        assert again.repeat
        assert again.record is not None
        assert again.record.id == waiting.id
        assert (await here.outcome_of("pay", amount=30, currency="EUR")).status is Status.DENIED
        await here.reject(waiting)
        await here.hold("pay", amount=90, currency="EUR")


async def test_a_budget_is_looked_at_again_when_an_approved_call_starts(tmp_path: Path) -> None:
    """While it waited, the limit was lowered: it does not run, and says why; what was approved before counts."""
    async with house(tmp_path, policy=HELD_BUDGET) as here:
        first = await here.hold("pay", amount=40, currency="EUR")
        second = await here.hold("pay", amount=50, currency="EUR")
        assert (await approved(here, first)).status is Status.SUCCEEDED
        (tmp_path / "policy.yaml").write_text(HELD_BUDGET.replace("EUR: 100", "EUR: 60"), encoding="utf-8")
        with anyio.fail_after(WAIT_SECONDS):
            await policy_noted(here, "policy-loaded")
        after = await approved(here, second)
    assert after.status is Status.INVALIDATED
    assert "50 EUR does not fit into the 20 EUR that are left of 60 EUR" in after.closed_reason
    assert effects(tmp_path) == ["40 EUR"]


async def policy_noted(here: House, kind: str) -> str:
    """Wait until the files of the policy were looked at again; what was said of them."""
    with here.store.follow(lambda event: event.kind == kind) as feed:
        noted = [event for event in await here.store.events_after(0, 1000) if event.kind == kind]
        found = noted[0] if noted else await feed.next()
    assert found is not None
    return found.detail


async def test_a_budget_that_holds_lets_people_decide(tmp_path: Path) -> None:
    """Beyond the limit a person is asked; their approval is what lets it run, and it counts like any other."""
    asking = HUNDRED.replace("over: deny", "over: hold")
    async with house(tmp_path, policy=asking) as here:
        assert (await here.outcome_of("pay", amount=100, currency="EUR")).status is Status.SUCCEEDED
        waiting = await here.hold("pay", amount=5, currency="EUR")
        assert [need.id for need in waiting.decision.requirements] == ["daily"]
        assert (await approved(here, waiting)).status is Status.SUCCEEDED


async def test_a_budget_forgets_what_is_older_than_its_window(tmp_path: Path) -> None:
    """A day later the hundred are there again."""
    clock = HandClock()
    async with house(tmp_path, policy=HUNDRED, clock=clock) as here:
        assert (await here.outcome_of("pay", amount=100, currency="EUR")).status is Status.SUCCEEDED
        clock.forward(24 * 3600 - 1)
        assert (await here.outcome_of("pay", amount=1, currency="EUR")).status is Status.DENIED
        clock.forward(2)
        assert (await here.outcome_of("pay", amount=100, currency="EUR")).status is Status.SUCCEEDED


async def test_a_budget_outlives_the_gateway(tmp_path: Path) -> None:
    """What was spent before a restart is spent."""
    async with house(tmp_path, policy=HUNDRED) as here:
        assert (await here.outcome_of("pay", amount=100, currency="EUR")).status is Status.SUCCEEDED
    async with house(tmp_path, policy=HUNDRED) as here:
        assert (await here.outcome_of("pay", amount=1, currency="EUR")).status is Status.DENIED


NOVELTY = policy(
    """
    bands: [{from: 20, effect: hold}]
    signals:
      - {id: first-time, tool: slow__pay, points: 25, novelty: {of: args.to, window: 90d}, reason: not approved yet}
    """
)


async def test_a_value_is_known_once_a_call_with_it_succeeded_on_approval(tmp_path: Path) -> None:
    """Neither asking, nor a rejection, nor a failure makes it known; and what one agent may, another may not."""
    async with house(tmp_path, policy=NOVELTY) as here:
        rejected = await here.hold("pay", amount=1, currency="EUR", to="ann")
        await here.reject(rejected)
        failed = await here.hold("pay", amount=1, currency="EUR", to="nobody")
        assert (await approved(here, failed)).status is Status.FAILED
        await here.hold("pay", amount=2, currency="EUR", to="nobody")
        waiting = await here.hold("pay", amount=2, currency="EUR", to="ann")
        assert waiting.decision.signals[0].reason == 'not approved yet (new: "ann")'
        assert (await approved(here, waiting)).status is Status.SUCCEEDED
        assert (await here.outcome_of("pay", amount=3, currency="EUR", to="ann")).status is Status.SUCCEEDED
        await here.hold("pay", amount=3, currency="EUR", to="bob")
        other = await here.ask("pay", agent="other", amount=3, currency="EUR", to="ann")
    assert other.record is not None
    assert other.record.status is Status.HELD


async def test_what_history_said_is_kept_with_the_decision(tmp_path: Path) -> None:
    """The record says what the signal was told, so that the decision can be made again from it alone."""
    async with house(tmp_path, policy=NOVELTY) as here:
        waiting = await here.hold("pay", amount=2, currency="EUR", to="ann")
        stored = await here.store.get(waiting.id)
    assert [(used.item, used.about, used.answer) for used in stored.decision.history] == [("first-time", "known", ())]


async def test_many_calls_in_a_short_time_are_noticed(tmp_path: Path) -> None:
    """The fourth call within the hour is held, of this agent and this tool; an hour later none is."""
    burst = policy(
        """
        bands: [{from: 20, effect: hold}]
        signals: [{id: burst, tool: "slow__*", points: 25, velocity: {window: 1h, above: 3}, reason: many calls}]
        """
    )
    clock = HandClock()
    async with house(tmp_path, policy=burst, clock=clock) as here:
        for number in range(3):
            assert (await here.outcome_of("pay", amount=number, currency="EUR")).status is Status.SUCCEEDED
        waiting = await here.hold("pay", amount=4, currency="EUR")
        assert waiting.decision.signals[0].reason == "many calls (4 calls within 1h)"
        assert (await here.outcome_of("read", what="x")).status is Status.SUCCEEDED
        assert (await here.outcome_of("pay", agent="other", amount=4, currency="EUR")).status is Status.SUCCEEDED
        clock.forward(3601)
        assert (await here.outcome_of("pay", amount=5, currency="EUR")).status is Status.SUCCEEDED


async def test_an_agent_that_read_what_may_steer_it_is_tainted_for_a_while(tmp_path: Path) -> None:
    """After reading, paying is held; in every conversation of this agent, in none of another, and not for ever."""
    tainted = policy(
        """
        bands: [{from: 20, effect: hold}]
        signals: [{id: steered, tool: slow__pay, points: 25, taint: {from: slow__read, window: 1h}, reason: it read}]
        """
    )
    clock = HandClock()
    async with house(tmp_path, policy=tainted, clock=clock) as here:
        assert (await here.outcome_of("pay", amount=1, currency="EUR")).status is Status.SUCCEEDED
        assert (await here.outcome_of("read", what="a page")).status is Status.SUCCEEDED
        await here.hold("pay", amount=2, currency="EUR")
        assert (await here.outcome_of("pay", agent="other", amount=2, currency="EUR")).status is Status.SUCCEEDED
        clock.forward(3601)
        assert (await here.outcome_of("pay", amount=3, currency="EUR")).status is Status.SUCCEEDED


async def test_after_rejections_an_agent_is_looked_at_more_closely(tmp_path: Path) -> None:
    """Two calls were rejected; the third thing it wants needs a person although it would have run before."""
    wary = policy(
        """
        bands: [{from: 20, effect: hold}]
        signals: [{id: told-no, tool: slow__pay, points: 25, rejections: {window: 1d, above: 1}, reason: told no}]
        """
    ).replace("effect: allow", "effect: hold, when: 'has(args.amount) && args.amount > 10.0'")
    async with house(tmp_path, policy=wary.replace("rules:\n", SMALL, 1)) as here:
        assert (await here.outcome_of("pay", amount=1, currency="EUR")).status is Status.SUCCEEDED
        for number in (11, 12):
            await here.reject(await here.hold("pay", amount=number, currency="EUR"))
        waiting = await here.hold("pay", amount=2, currency="EUR")
    assert waiting.decision.signals[0].reason == "told no (2 rejected within 1d)"


SMALL = "rules:\n  - {id: small, tool: slow__pay, effect: allow, reason: small}\n"


async def test_spending_adds_points_as_it_grows(tmp_path: Path) -> None:
    """Nothing at the low end, half of the points at the geometric middle, all at the high end."""
    spending = policy(
        """
        bands: [{from: 100, effect: deny}]
        signals:
          - id: total
            tool: slow__pay
            points: 60
            spend: {of: args.amount, window: 1d, low: 10, high: 1000}
            reason: it adds up
        """
    )
    async with house(tmp_path, policy=spending) as here:
        scores = [
            (await here.outcome_of("pay", amount=amount, currency="EUR")).decision.score for amount in (10, 90, 900)
        ]
    assert scores == [0, 30, 60]


@pytest.mark.promise("R4")
async def test_an_allowed_call_can_be_recorded_to_survive_power_loss(tmp_path: Path) -> None:
    """With `record: durable` the store is asked to flush the running record; without, it is not. Both calls run."""
    for text, durable in (("effect: allow, record: durable", True), ("effect: allow", False)):
        folder = tmp_path / str(durable)
        folder.mkdir()
        async with house(folder, policy=policy("").replace("effect: allow", text)) as here:
            entry = here.catalog.find("slow__pay")
            assert entry is not None
            assert here.gate.decider.ready(entry, {"amount": 1, "currency": "EUR"}, "builder").durable is durable
            record = await here.outcome_of("pay", amount=1, currency="EUR")
        assert (record.status, record.decision.durable) == (Status.SUCCEEDED, durable)


async def test_a_rule_in_the_shadow_is_on_record_and_changes_nothing(tmp_path: Path) -> None:
    """The call runs; the record says that the rule would have held it."""
    shadow = policy("") + "  - {id: later, tool: slow__pay, effect: hold, shadow: true, reason: we may hold these}\n"
    async with house(tmp_path, policy=shadow) as here:
        record = await here.outcome_of("pay", amount=1, currency="EUR")
    assert record.status is Status.SUCCEEDED
    assert [match.id for match in record.decision.rules] == ["runs"]
    assert [(match.id, match.reason) for match in record.decision.shadows] == [("later", "we may hold these")]
