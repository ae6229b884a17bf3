"""What became of a call of unknown outcome, where a reading call can tell; everything else stays with people."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from hitl_mcp.calls import CallRecord, Status
from tests.houses import WAIT_SECONDS, House, house
from tests.upstream_programs import effects

POLICY = """
version: 1
rules:
  - {id: reads, tool: slow__read, effect: READS, reason: reading}
  - id: dies
    tool: slow__die
    effect: hold
    reason: it acts
    probe:
      tool: slow__read
      args: {what: args.what}
      happened: result.content[0].text == "done " + args.what && HAPPENED
      did_not: 'DID_NOT'
"""


def policy(happened: str = "true", did_not: str = "false", reads: str = "allow") -> str:
    """A policy whose probe reads its result so."""
    return POLICY.replace("HAPPENED", happened).replace("DID_NOT", did_not).replace("READS", reads)


async def lost(here: House) -> CallRecord:
    """An approved call whose upstream died after the effect."""
    record = await here.hold("die", what="pay")
    await here.approve(record)
    return await here.until(record.id, Status.UNKNOWN, Status.SUCCEEDED, Status.FAILED)


@pytest.mark.promise("R5")
@pytest.mark.parametrize(
    ("happened", "did_not", "status", "what"),
    [("true", "false", Status.SUCCEEDED, "it happened"), ("false", "true", Status.FAILED, "it did not happen")],
)
async def test_a_probe_that_says_it_plainly_settles_the_call(
    tmp_path: Path, happened: str, did_not: str, status: Status, what: str
) -> None:
    """The record says what was found, by which call; nothing was sent a second time, and the agent is to be told."""
    async with house(tmp_path, policy=policy(happened, did_not)) as here:
        record = await here.until((await lost(here)).id, status)
        probes = [
            call
            for call in (await here.store.list_calls({Status.SUCCEEDED})).calls
            if call.asked.claim == f"probe of {record.id}"
        ]
        told = await here.store.of_interest_to("builder")
    assert record.outcome is not None
    assert len(probes) == 1
    assert record.outcome.detail == f"{what}, as `slow__read` showed ({probes[0].id})"
    assert record.events[-1].by == "probe:dies"
    assert [call.id for call in told] == [record.id]
    assert effects(tmp_path) == ["pay"]


@pytest.mark.parametrize(
    ("happened", "did_not", "reads"),
    [
        ("true", "true", "allow"),
        ("false", "false", "allow"),
        ("true", "result.nothing == 1", "allow"),
        ("result.nothing == 1", "true", "allow"),
        ("true", "false", "hold"),
    ],
)
async def test_a_probe_that_does_not_say_leaves_it_to_people(
    tmp_path: Path, happened: str, did_not: str, reads: str
) -> None:
    """Both, neither, what cannot be read, and a reading call that the policy does not allow by itself."""
    async with house(tmp_path, policy=policy(happened, did_not, reads)) as here:
        record = await lost(here)
        if reads == "allow":
            with anyio.fail_after(WAIT_SECONDS):
                while not (await here.store.list_calls({Status.SUCCEEDED})).calls:
                    await here.store.wait_for_change(record.id, record.version, 0.05)
        after = await here.store.wait_for_change(record.id, record.version, 0.2)
    assert after.status is Status.UNKNOWN
    assert effects(tmp_path) == ["pay"]
