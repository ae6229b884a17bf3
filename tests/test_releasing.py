"""Tools that a client runs itself: decided at the gate, released to whoever asks, once per approval, and never run."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest

from hitl_mcp.answers import evaluation, permission_allowed
from hitl_mcp.audit import Evidence
from hitl_mcp.calls import CallRecord, Status, VerdictKind
from hitl_mcp.errors import ArgumentsRefused, CallAlreadySettled, CallNotFound, ToolNotFound
from hitl_mcp.gate import AgentCall
from hitl_mcp.releasing import Answered
from hitl_mcp.store import Edited
from hitl_mcp.store.moves import NOT_ASKED_IN_TIME, TAMPERED
from tests.client_houses import WAIT_SECONDS, ClientHouse, client_house
from tests.clocks import HandClock
from tests.samples import verdict


async def test_what_the_policy_allows_is_released_at_once_and_on_record(tmp_path: Path) -> None:
    """The record says who got it, and no outcome; each request gets a record of its own."""
    async with client_house(tmp_path) as here:
        first = await here.ask("Read", file_path="/a")
        second = await here.ask("Read", file_path="/a")
        stored = await here.store.get(first.record.id)
    assert (first.released, second.released, first.record.id == second.record.id) == (True, True, False)
    assert (stored.status, stored.outcome, stored.call.runs_elsewhere) == (Status.RELEASED, None, True)
    assert [(event.kind, event.status, event.by) for event in stored.events] == [
        ("asked", Status.RELEASED, "agent:builder")
    ]
    assert stored.call.arguments_json == '{"file_path":"/a"}'


async def test_what_the_policy_denies_is_denied_and_not_released(tmp_path: Path) -> None:
    """Denied means denied, whoever would run it."""
    async with client_house(tmp_path) as here:
        answered = await here.ask("Rm", path="/")
    assert (answered.record.status, answered.released) == (Status.DENIED, False)


async def test_what_a_reviewer_changed_is_released_only_to_who_runs_the_changed_input(tmp_path: Path) -> None:
    """Who would run the original is given nothing, and the approval stays for who takes the answer's input."""
    async with client_house(tmp_path) as here:
        record = await here.hold(command="make all")
        edited = Edited(record.digest, '{"command":"make test"}', lambda history: record.decision, lambda needs: ())
        changed = await here.store.verdicts.edit(record.id, verdict(record.digest), edited)
        assert changed.status is Status.APPROVED
        call = AgentCall("builder", "conv", "claude-code__Bash", {"command": "make all"}, {})
        refused = await here.releasing.ask(call, 0, _no_tick)
        assert (refused.record.id, refused.released, refused.record.status) == (record.id, False, Status.APPROVED)
        given = await here.releasing.ask(call, 0, _no_tick, takes_changes=True)
    assert (given.record.id, given.released) == (record.id, True)
    told = evaluation(given.record, released=True, repeat=True, review_url="http://x")
    assert (told["decision"], told["updatedInput"]) == ("allow", {"command": "make test"})
    assert json.loads(permission_allowed(given.record)["content"][0]["text"])["updatedInput"] == told["updatedInput"]
    assert told["reason"].startswith("RELEASED WITH CHANGES")


async def _no_tick(record: CallRecord) -> None:
    """Nobody listens."""


@pytest.mark.promise("R3")
async def test_an_approval_releases_a_call_once_to_who_asks_again(tmp_path: Path) -> None:
    """The approval waits for its agent; the identical request gets it, and the one after is held anew."""
    async with client_house(tmp_path) as here:
        record = await here.hold(command="make")
        again = await here.ask("Bash", command="make")
        assert (again.record.id, again.repeat, again.released) == (record.id, True, False)
        approved = await here.approve(record)
        assert (approved.status, approved.awaits_its_agent) == (Status.APPROVED, True)
        given = await here.ask("Bash", command="make")
        assert (given.record.id, given.released, given.record.status) == (record.id, True, Status.RELEASED)
        after = await here.ask("Bash", command="make")
        assert (after.record.status, after.released, after.record.id == record.id) == (Status.HELD, False, False)
        stored = await here.store.get(record.id)
    assert [(event.kind, event.by) for event in stored.events] == [
        ("asked", "agent:builder"),
        ("approved", "reviewer:dana"),
        ("released", "agent:builder"),
        ("told", "gateway"),
    ]


@pytest.mark.promise("R3")
async def test_of_many_identical_requests_that_wait_one_is_given_the_approval(tmp_path: Path) -> None:
    """Ten processes of one agent wait for the same bytes; one approval lets one of them run."""
    answers: list[Answered] = []
    async with client_house(tmp_path) as here:

        async def ask() -> None:
            answers.append(await here.ask("Bash", seconds=WAIT_SECONDS, command="make"))

        record = await here.hold(command="make")
        with anyio.fail_after(WAIT_SECONDS):
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                await here.approve(record)
    assert sorted(answer.released for answer in answers) == [False] * 9 + [True]
    assert {answer.record.id for answer in answers} == {record.id}
    assert {answer.record.status for answer in answers} == {Status.RELEASED}


async def test_who_waits_is_given_the_call_as_soon_as_it_is_approved_or_told_that_it_is_not(tmp_path: Path) -> None:
    """A verdict ends the wait, whichever it is."""
    answers: dict[str, Answered] = {}
    async with client_house(tmp_path) as here:

        async def ask(command: str) -> None:
            answers[command] = await here.ask("Bash", seconds=WAIT_SECONDS, command=command)

        good, bad = await here.hold(command="good"), await here.hold(command="bad")
        with anyio.fail_after(WAIT_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, "good")
                tasks.start_soon(ask, "bad")
                await here.approve(good)
                await here.store.add_verdict(bad.id, verdict(bad.digest, VerdictKind.REJECT))
        assert await here.store.of_interest_to("builder") == ()
    assert (answers["good"].released, answers["bad"].released) == (True, False)
    assert answers["bad"].record.status is Status.REJECTED


@pytest.mark.promise("R3")
async def test_a_request_that_is_gone_is_given_nothing(tmp_path: Path) -> None:
    """Who asked stopped waiting before the approval: it stays for whoever asks next."""
    async with client_house(tmp_path) as here:
        record = await here.hold(command="make")
        with anyio.move_on_after(0):
            await here.ask("Bash", seconds=WAIT_SECONDS, command="make")
        await here.approve(record)
        assert (await here.store.get(record.id)).status is Status.APPROVED
        assert (await here.ask("Bash", command="make")).released


async def test_an_approval_is_for_the_agent_and_the_bytes_that_asked(tmp_path: Path) -> None:
    """Another agent, or another byte, is another request."""
    async with client_house(tmp_path) as here:
        record = await here.hold(command="make")
        await here.approve(record)
        other_agent = await here.ask("Bash", agent="other", command="make")
        other_bytes = await here.ask("Bash", command="make ")
        assert (other_agent.released, other_bytes.released) == (False, False)
        assert {other_agent.record.status, other_bytes.record.status} == {Status.HELD}
        assert (await here.store.get(record.id)).status is Status.APPROVED


@pytest.mark.promise("R7")
async def test_the_gateway_never_runs_a_released_call_and_knows_no_outcome_of_it(tmp_path: Path) -> None:
    """Approved and left alone, over a restart: nothing takes it but its agent, and nothing is ever `unknown`."""
    async with client_house(tmp_path) as here:
        record = await here.hold(command="make")
        await here.approve(record)
        await anyio.wait_all_tasks_blocked()
    async with client_house(tmp_path) as here:
        await anyio.wait_all_tasks_blocked()
        assert (await here.store.get(record.id)).status is Status.APPROVED
        given = await here.ask("Bash", command="make")
        assert given.released
    async with client_house(tmp_path) as here:
        stored = await here.store.get(record.id)
        page = await here.store.list_calls({Status.UNKNOWN, Status.RUNNING})
    assert (stored.status, stored.outcome, page.calls) == (Status.RELEASED, None, ())
    report = Evidence(tmp_path / "hitl.db").verify()
    assert report.findings == []


@pytest.mark.promise("R6")
async def test_an_approval_that_its_agent_does_not_fetch_expires(tmp_path: Path) -> None:
    """The clock of an approval is the same for whoever runs it."""
    clock = HandClock()
    async with client_house(tmp_path, clock=clock) as here:
        record = await here.hold(command="make")
        await here.approve(record)
        clock.forward(3600)
        later = await here.ask("Bash", command="make")
        stored = await here.store.get(record.id)
    assert (stored.status, stored.closed_reason) == (Status.EXPIRED, NOT_ASKED_IN_TIME)
    assert (later.released, later.record.status, later.record.id == record.id) == (False, Status.HELD, False)


async def test_an_approval_that_can_be_undone_is_released_once_it_stands(tmp_path: Path) -> None:
    """Within the time to undo nobody is given it; after that its agent is."""
    clock = HandClock()
    rules = """
    rules: [{id: shell, tool: claude-code__Bash, effect: hold, undo: 30s, reason: it runs a command}]
    """
    async with client_house(tmp_path, rules, clock=clock) as here:
        record = await here.hold(command="make")
        await here.approve(record)
        early = await here.ask("Bash", command="make")
        assert (early.released, early.record.status) == (False, Status.APPROVED)
        clock.forward(30)
        assert (await here.ask("Bash", command="make")).released


async def test_a_pause_releases_nothing(tmp_path: Path) -> None:
    """Neither what the policy allows nor what people approved, until it is resumed."""
    async with client_house(tmp_path) as here:
        record = await here.hold(command="make")
        await here.approve(record)
        await here.store.pause("dana", "incident")
        allowed, approved = await here.ask("Read", file_path="/a"), await here.ask("Bash", command="make")
        assert (allowed.released, allowed.record.status, allowed.record.decision.paused) == (False, Status.DENIED, True)
        assert (approved.released, approved.record.status) == (False, Status.APPROVED)
        await here.store.resume("dana")
        assert (await here.ask("Bash", command="make")).released


STRICTER = "rules: [{id: two, tool: claude-code__Bash, effect: hold, quorum: 2, reason: now two}]"
DENIES = "rules: [{id: denied, tool: claude-code__Bash, effect: deny, reason: not any more}]"


@pytest.mark.promise("R3")
async def test_a_call_is_decided_again_before_it_is_released(tmp_path: Path) -> None:
    """A policy that asks for more ends the approval; one that denies answers the repeat, and releases nothing."""
    async with client_house(tmp_path) as here:
        stricter, denied = await here.hold(command="one"), await here.hold(command="two")
        await here.approve(stricter)
        await here.approve(denied)
    async with client_house(tmp_path, STRICTER) as here:
        answered = await here.ask("Bash", command="one")
        assert (answered.released, answered.record.status) == (False, Status.INVALIDATED)
        assert answered.record.closed_reason == "the policy asks for more now: `two`"
    async with client_house(tmp_path, DENIES) as here:
        assert (await here.ask("Bash", command="two")).record.status is Status.DENIED
        assert (await here.store.get(denied.id)).status is Status.APPROVED


async def test_a_client_that_left_the_config_is_given_nothing(tmp_path: Path) -> None:
    """What was approved for it ends when it is asked for; a new call is of no tool that is known."""
    async with client_house(tmp_path) as here:
        record = await here.hold(command="make")
        await here.approve(record)
    async with client_house(tmp_path, clients=["codex"]) as here:
        with pytest.raises(ToolNotFound):
            await here.ask("Bash", command="make")
        assert (await here.store.get(record.id)).status is Status.APPROVED


@pytest.mark.promise("R3")
async def test_a_call_that_was_put_back_after_its_release_is_not_released_again(tmp_path: Path) -> None:
    """Somebody copies the approved row back over the released one: its seal fits, and still it ends."""
    async with client_house(tmp_path) as here:
        record = await here.hold(command="make")
        await here.approve(record)
        with contextlib.closing(sqlite3.connect(tmp_path / "hitl.db", isolation_level=None)) as intruder:
            intruder.execute("CREATE TEMP TABLE before AS SELECT * FROM calls WHERE id = ?", [record.id])
            assert (await here.ask("Bash", command="make")).released
            intruder.execute("DELETE FROM marks")
            intruder.execute(
                "UPDATE calls SET (status, is_open, version, changed_at, handed_over_at) = "
                "(SELECT status, is_open, version, changed_at, handed_over_at FROM before) WHERE id = ?",
                [record.id],
            )
        again = await here.ask("Bash", command="make")
        assert again.released is False
        stored = await here.store.get(record.id)
    assert (stored.status, stored.closed_reason) == (Status.INVALIDATED, TAMPERED)


async def test_its_agent_takes_an_approved_call_back_and_nobody_else(tmp_path: Path) -> None:
    """Withdrawn before it was fetched, it is not released; after its release it cannot be withdrawn."""
    async with client_house(tmp_path) as here:
        record, other = await here.hold(command="make"), await here.hold(command="test")
        await here.approve(record)
        await here.approve(other)
        with pytest.raises(CallNotFound):
            await here.store.withdraw(record.id, "other")
        assert (await here.store.withdraw(record.id, "builder")).status is Status.WITHDRAWN
        assert (await here.ask("Bash", command="make")).record.id != record.id
        assert (await here.ask("Bash", command="test")).released
        with pytest.raises(CallAlreadySettled, match="it was released to the agent, which runs it itself"):
            await here.store.withdraw(other.id, "builder")
        with pytest.raises(CallAlreadySettled, match="it was released"):
            await here.store.add_verdict(other.id, verdict(other.digest, VerdictKind.REJECT))


@pytest.mark.parametrize("name", ["claude-code__Bash", "codex__Bash", "claude-code__", "claude-code__a b", "Bash"])
async def test_only_tools_of_named_clients_are_decided_so_and_none_is_called(tmp_path: Path, name: str) -> None:
    """A name that is none is refused; and as a tool of an upstream, a client's is not there."""
    async with client_house(tmp_path) as here:
        with pytest.raises(ToolNotFound):
            await here.gate.ask(AgentCall("builder", "conv", name, {}, {}))
        if name != "claude-code__Bash":
            with pytest.raises(ToolNotFound):
                await here.gate.ask(AgentCall("builder", "conv", name, {}, {}), for_client=True)
        assert (await here.store.list_calls(None)).calls == ()


async def test_arguments_are_read_as_strictly_as_an_upstreams(tmp_path: Path) -> None:
    """What two readers understand differently is refused with its path, and not recorded."""
    async with client_house(tmp_path) as here:
        with pytest.raises(ArgumentsRefused, match=r"\$\.arguments\.command"):
            await here.ask("Bash", command="\ud800")
        assert (await here.store.list_calls(None)).calls == ()


# What it counts for.

REMEMBERS = """
    bands: [{from: 50, effect: hold}]
    signals:
      - {id: new-host, tool: claude-code__Fetch, points: 50, novelty: {of: args.host, per: agent, window: 90d},
         reason: first time}
      - {id: read, tool: claude-code__Send, points: 50, taint: {from: claude-code__Fetch, window: 1h}, reason: it read}
    rules:
      - {id: runs, tool: [claude-code__Fetch, claude-code__Send, claude-code__Pay], effect: allow, reason: work}
    budgets:
      - {id: two, tool: claude-code__Pay, sum: args.amount, limit: 10, per: agent, window: 1d, over: deny,
         reason: enough}
"""


async def _approved(here: ClientHouse, tool: str, **arguments: Any) -> Answered:
    answered = await here.ask(tool, **arguments)
    assert answered.record.status is Status.HELD
    await here.approve(answered.record)
    return await here.ask(tool, **arguments)


async def test_what_a_released_call_counts_for(tmp_path: Path) -> None:
    """Its amount is spent for good, what it read taints its agent, and a value that people let go is known."""
    async with client_house(tmp_path, REMEMBERS) as here:
        assert (await here.ask("Send")).released
        assert (await _approved(here, "Fetch", host="a.example")).released
        assert (await here.ask("Fetch", host="a.example")).released  # known now
        assert (await here.ask("Fetch", host="b.example")).record.status is Status.HELD
        assert (await here.ask("Send")).record.status is Status.HELD
        assert (await here.ask("Pay", amount=6)).released
        assert (await here.ask("Pay", amount=6)).record.status is Status.DENIED
