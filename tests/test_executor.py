"""The gate and the executor over a real store and a real upstream: what is checked last, and what is never sent."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from hitl_mcp.answers import tell
from hitl_mcp.calls import Asked, CallRecord, Status
from hitl_mcp.canonical import canonical_bytes
from hitl_mcp.errors import ArgumentsRefused, ToolNotFound
from hitl_mcp.executor import Run
from hitl_mcp.store.moves import TAMPERED
from tests.houses import WAIT_SECONDS, house
from tests.samples import held, tool_call
from tests.upstream_programs import effects, let_go


@pytest.mark.promise("R4")
async def test_an_allowed_call_is_on_record_before_it_is_sent(tmp_path: Path) -> None:
    """When the effect is seen upstream, the running record is committed and readable by anyone."""
    async with house(tmp_path) as here:
        run = await here.ask("slow", what="free")
        assert run.record is not None
        with anyio.fail_after(WAIT_SECONDS):
            while effects(tmp_path) != ["free"]:
                await anyio.sleep(0)
        with contextlib.closing(sqlite3.connect(tmp_path / "hitl.db")) as other:
            status = other.execute("SELECT status FROM calls WHERE id = ?", [run.record.id]).fetchone()
        assert status == ("running",)
        let_go(tmp_path)
        with anyio.fail_after(WAIT_SECONDS):
            await run.finished.wait()
        assert run.result is not None
        assert run.result["content"][0]["text"] == "done free"
        stored = await here.store.get(run.record.id)
        assert stored.outcome is not None
        assert (stored.status, stored.outcome.result_json) == (Status.SUCCEEDED, None)
        assert stored.outcome.result_bytes == len(canonical_bytes(run.result))


async def test_what_a_held_call_carries_beside_its_arguments(tmp_path: Path) -> None:
    """Of `_meta` only the trace context is kept; an allowed call keeps all of it."""
    async with house(tmp_path) as here:
        record = await here.hold("slow", what="pay")
        allowed = (await here.ask("read", what="x")).record
    assert record.call.meta_json == '{"traceparent":"00-1"}'
    assert allowed is not None
    assert allowed.call.meta_json == '{"example.com/other":1,"traceparent":"00-1"}'


@pytest.mark.promise("R3")
async def test_a_call_that_was_changed_in_the_database_does_not_run(tmp_path: Path) -> None:
    """Approved, then a row edited behind our back, in any column the digest covers: nothing is sent."""
    columns = ["arguments_json", "meta_json", "agent", "tool", "upstream", "fingerprint", "definition", "digest"]
    async with house(tmp_path) as here:
        records = {column: await here.hold("slow", what=f"pay for {column}") for column in columns}
        await here.store.pause("test", "")
        for record in records.values():
            await here.approve(record)
        with contextlib.closing(sqlite3.connect(tmp_path / "hitl.db", isolation_level=None)) as intruder:
            for column, record in records.items():
                changed = '{"what":"pay twice"}' if column.endswith("_json") else "other"
                intruder.execute(f"UPDATE calls SET {column} = ? WHERE id = ?", [changed, record.id])  # noqa: S608
        await here.store.resume("test")
        for record in records.values():
            after = await here.until(record.id, Status.INVALIDATED)
            assert after.closed_reason == TAMPERED
    assert effects(tmp_path) == []


@pytest.mark.promise("R3")
async def test_an_approval_does_not_survive_a_changed_tool_definition(tmp_path: Path) -> None:
    """The upstream comes back with another description of the tool: the approval is invalid, and nothing is sent."""
    async with house(tmp_path) as here:
        record = await here.hold("slow", what="pay")
        await here.store.pause("test", "")
        await here.approve(record)
    program = tmp_path / "slow_server.py"
    described = program.read_text(encoding="utf-8").replace("Take effect, then answer once", "Act, and answer once")
    async with house(tmp_path, program=described) as here:
        await here.store.resume("test")
        after = await here.until(record.id, Status.INVALIDATED)
        assert after.closed_reason.startswith("the definition of `slow__slow` changed since it was accepted")
    assert effects(tmp_path) == []


async def test_an_unknown_tool_and_unfit_arguments_leave_no_record(tmp_path: Path) -> None:
    """They are the agent's mistakes: it is told where, nothing is decided, recorded or sent."""
    async with house(tmp_path) as here:
        with pytest.raises(ToolNotFound, match="no tool is called `slow__nothing`"):
            await here.ask("nothing", what="x")
        with pytest.raises(ArgumentsRefused, match=r"\$\.arguments\.what"):
            await here.ask("slow", what=5)
        with pytest.raises(ArgumentsRefused, match=r"\$\.arguments\.what"):
            await here.ask("slow", what="a\x00b")
        assert (await here.store.list_calls(None)).calls == ()
    assert effects(tmp_path) == []


@pytest.mark.promise("R5")
async def test_a_call_without_an_answer_in_time_is_unknown(tmp_path: Path) -> None:
    """It was sent; after the upstream's `timeout` nobody knows, and it says so."""
    async with house(tmp_path, timeout=1) as here:
        record = await here.hold("slow", what="pay")
        await here.approve(record)
        after = await here.until(record.id, Status.UNKNOWN)
        assert after.outcome is not None
        assert (after.outcome.executed, after.outcome.detail) == (True, "no answer within 1 s")
    assert effects(tmp_path) == ["pay"]


@pytest.mark.promise("R5")
async def test_the_late_answer_of_an_approved_call_settles_it_with_its_result(tmp_path: Path) -> None:
    """Unknown after its deadline, then the upstream answers that very send: it succeeded, late, and ran once."""
    async with house(tmp_path, timeout=1) as here:
        record = await here.hold("slow", what="pay")
        await here.approve(record)
        unknown = await here.until(record.id, Status.UNKNOWN)
        await here.store.hand_over(record.id)
        let_go(tmp_path)
        after = await here.until(record.id, Status.SUCCEEDED)
        told = await here.ask("slow", what="pay")
    assert after.outcome is not None
    assert (after.outcome.executed, after.outcome.detail) == (True, "the upstream answered late")
    assert "done pay" in (after.outcome.result_json or "")
    last = after.events[-1]
    assert (last.status, last.by, last.detail) == (Status.SUCCEEDED, "upstream:slow", "the upstream answered late")
    assert after.version > unknown.version
    assert (told.repeat, told.record and told.record.status) == (True, Status.SUCCEEDED)
    assert effects(tmp_path) == ["pay"]


@pytest.mark.promise("R5")
async def test_the_late_answer_of_an_allowed_call_settles_it_without_its_result(tmp_path: Path) -> None:
    """Of what the policy allowed only digest and size of a result are kept, also of a late one."""
    async with house(tmp_path, timeout=1) as here:
        run = await here.ask("slow", what="free")
        assert run.record is not None
        await here.until(run.record.id, Status.UNKNOWN)
        let_go(tmp_path)
        after = await here.until(run.record.id, Status.SUCCEEDED)
    assert after.outcome is not None
    assert after.outcome.result_json is None
    assert after.outcome.result_bytes
    assert tell(after).message.count("the upstream answered late") == 1
    assert effects(tmp_path) == ["free"]


async def test_a_late_answer_changes_nothing_about_a_call_that_was_resolved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A person found out first; the first who knows better counts."""
    caplog.set_level("INFO", "hitl_mcp")
    async with house(tmp_path, timeout=1) as here:
        record = await here.hold("slow", what="pay")
        await here.approve(record)
        unknown = await here.until(record.id, Status.UNKNOWN)
        assert unknown.outcome is not None
        found = replace(unknown.outcome, status=Status.FAILED, detail="it did not happen")
        assert await here.store.resolve(record.id, found, "reviewer:dana")
        let_go(tmp_path)
        with anyio.fail_after(WAIT_SECONDS):
            while f"call {record.id} was answered late: it was settled already" not in caplog.text:
                await anyio.sleep(0)
        after = await here.store.get(record.id)
    assert (after.status, after.outcome and after.outcome.detail) == (Status.FAILED, "it did not happen")


@pytest.mark.promise("R5")
async def test_a_cancelled_allowed_call_is_unknown_if_no_answer_comes(tmp_path: Path) -> None:
    """The cancel is passed on; the upstream had five seconds to say how it ended, and said nothing."""
    async with house(tmp_path) as here:
        run = await here.ask("slow", what="free")
        with anyio.fail_after(WAIT_SECONDS):
            while effects(tmp_path) != ["free"]:
                await anyio.sleep(0)
            here.executor.cancel(run)
            await run.finished.wait()
        assert run.record is not None
        after = await here.store.get(run.record.id)
        assert after.status is Status.UNKNOWN
    assert effects(tmp_path) == ["free"]


async def test_a_request_cancelled_before_its_record_is_sent_nowhere(tmp_path: Path) -> None:
    """The asker went away between the decision and the record: the record says that nothing was sent."""
    async with house(tmp_path) as here:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await here.ask("slow", what="free")
        with anyio.fail_after(WAIT_SECONDS):
            while not (calls := (await here.store.list_calls({Status.FAILED})).calls):
                await anyio.sleep(0)
        assert calls[0].outcome is not None
        assert (calls[0].outcome.executed, calls[0].outcome.detail) == (False, "cancelled before it was sent")
    assert effects(tmp_path) == []


@pytest.mark.promise("R3")
async def test_fifty_approved_calls_run_once_each(tmp_path: Path) -> None:
    """Approved all at once, each takes effect exactly once."""
    let_go(tmp_path)
    async with house(tmp_path) as here:
        records = [await here.hold("slow", what=f"pay {number}") for number in range(50)]
        async with anyio.create_task_group() as tasks:
            for record in records:
                tasks.start_soon(here.approve, record)
        for record in records:
            await here.until(record.id, Status.SUCCEEDED)
    assert sorted(effects(tmp_path)) == sorted(f"pay {number}" for number in range(50))


@pytest.mark.promise("R7")
async def test_what_an_upstream_says_it_did_is_recorded_as_its_word(tmp_path: Path) -> None:
    """An upstream that claims a success it did not have is believed: the gate sees answers, not effects."""
    async with house(tmp_path) as here:
        run = await here.ask("read", what="the payment was made")
        with anyio.fail_after(WAIT_SECONDS):
            await run.finished.wait()
        assert run.outcome is not None
        assert run.outcome.status is Status.SUCCEEDED
    assert effects(tmp_path) == []


async def test_draining_waits_for_what_runs_and_no_longer_than_asked(tmp_path: Path) -> None:
    """A stop lets a running call end, but not for ever."""
    async with house(tmp_path) as here:
        record = await here.hold("slow", what="pay")
        await here.approve(record)
        await here.until(record.id, Status.RUNNING)
        with anyio.fail_after(WAIT_SECONDS):
            await here.executor.drain(0.05)
            let_go(tmp_path)
            await here.executor.drain(WAIT_SECONDS)
            await here.until(record.id, Status.SUCCEEDED)


async def test_a_run_in_memory_is_never_mistaken_for_a_repeat() -> None:
    """Only a new record in `running` starts; a repeat of a running one does not start again."""
    record = CallRecord(
        id="c_1",
        version=1,
        status=Status.RUNNING,
        call=tool_call(),
        asked=Asked("c"),
        digest="d",
        request_key="k",
        decision=held(),
        created_at="",
        changed_at="",
    )
    assert Run(record=record).starts_now
    assert not Run(record=record, repeat=True).starts_now
    assert not Run(record=replace(record, status=Status.HELD)).starts_now
    assert not Run().starts_now
