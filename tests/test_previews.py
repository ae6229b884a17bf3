"""What a held call would do, shown to reviewers: run as a call of its own, and never in anyone's way."""

from __future__ import annotations

from pathlib import Path

import anyio

from hitl_mcp.calls import Asked, CallRecord, Preview, ReadingCall, Status
from hitl_mcp.clock import Clock
from hitl_mcp.store import open_sqlite
from tests.houses import WAIT_SECONDS, House, house
from tests.samples import admit, held, tool_call
from tests.upstream_programs import effects, let_go

RULES = """
version: 1
rules:
  - {id: reads, tool: slow__read, effect: allow, reason: reading}
  - id: pays
    tool: slow__pay
    effect: hold
    reason: money leaves
    preview: {tool: slow__TOOL, args: {what: EXPRESSION}}
"""


def rules(tool: str = "read", expression: str = "args.to") -> str:
    """Payments are held, with a preview by this tool."""
    return RULES.replace("TOOL", tool).replace("EXPRESSION", expression)


async def previewed(here: House, record: CallRecord) -> Preview:
    """What came of the preview of a held call, once it is there."""
    with anyio.fail_after(WAIT_SECONDS):
        current = await here.store.get(record.id)
        while not current.previews:
            current = await here.store.wait_for_change(record.id, current.version, WAIT_SECONDS)
    return current.previews[0]


async def test_a_preview_is_a_recorded_call_with_arguments_of_the_held_one(tmp_path: Path) -> None:
    """It runs by itself, is on record as this agent's, and its result stands beside the call that is still held."""
    async with house(tmp_path, policy=rules()) as here:
        record = await here.hold("pay", amount=5, currency="EUR", to="ann")
        preview = await previewed(here, record)
        assert preview.call_id is not None
        ran = await here.store.get(preview.call_id)
        after = await here.store.get(record.id)
    assert preview.problem is None
    assert "done ann" in (preview.result_json or "")
    assert (ran.status, ran.call.arguments_json, ran.call.agent) == (Status.SUCCEEDED, '{"what":"ann"}', "builder")
    assert ran.asked.claim == f"preview of {record.id}"
    assert (after.status, after.digest) == (Status.HELD, record.digest)
    assert effects(tmp_path) == []


async def test_what_the_policy_does_not_allow_by_itself_is_no_preview(tmp_path: Path) -> None:
    """A preview that would be held is neither run nor held: reviewers are told why there is none."""
    async with house(tmp_path, policy=rules("slow")) as here:
        record = await here.hold("pay", amount=5, currency="EUR", to="ann")
        preview = await previewed(here, record)
        page = await here.store.list_calls(None)
    assert preview.problem == "the policy says hold: no rule matches this call, and then the policy says hold"
    assert [call.id for call in page.calls] == [record.id]
    assert effects(tmp_path) == []


async def test_a_preview_that_cannot_be_made_blocks_nothing(tmp_path: Path) -> None:
    """A missing argument, an unknown tool, or arguments that do not fit are said, and the call can be approved."""
    for number, (policy, problem) in enumerate(
        (
            (rules(), "its arguments cannot be taken from the call: there is no `to`"),
            (rules("nope"), "there is no tool `slow__nope`"),
            (rules(expression="args.amount"), '$.arguments.what: the value is not of type "string"'),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with house(folder, policy=policy) as here:
            given = {} if number == 0 else {"to": "ann"}
            record = await here.hold("pay", amount=5, currency="EUR", **given)
            assert (await previewed(here, record)).problem == problem
            await here.approve(await here.store.get(record.id))
            assert (await here.settled(record.id)).status is Status.SUCCEEDED


async def test_an_approval_does_not_wait_for_a_slow_preview(tmp_path: Path) -> None:
    """The reading tool hangs; the call is approved and runs, and the preview that comes too late is dropped."""
    hanging = rules("slow").replace("slow__read, effect", '["slow__read", "slow__slow"], effect')
    async with house(tmp_path, policy=hanging) as here:
        record = await here.hold("pay", amount=5, currency="EUR", to="ann")
        await here.approve(record)
        assert (await here.settled(record.id)).status is Status.SUCCEEDED
        let_go(tmp_path)


async def test_a_preview_missing_from_the_last_life_is_made_in_the_next(tmp_path: Path) -> None:
    """The gateway stopped between the hold and its preview."""
    asked = ReadingCall("pays", "slow__read", '{"what":"ann"}')
    async with open_sqlite(tmp_path / "hitl.db", Clock()) as store:
        record = (await admit(store, tool_call(), Asked("conv"), held(previews=(asked,)))).record
    async with house(tmp_path, policy=rules()) as here:
        assert "done ann" in ((await previewed(here, record)).result_json or "")
    async with house(tmp_path, policy=rules()) as here:
        assert len((await here.store.get(record.id)).previews) == 1
        assert len((await here.store.list_calls({Status.SUCCEEDED})).calls) == 1
