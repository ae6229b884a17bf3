"""The policy follows its files while the gateway runs: a good change counts, a bad one changes nothing and is told."""

from __future__ import annotations

import json
from pathlib import Path

import anyio

from hitl_mcp.calls import CallEvent, Status
from hitl_mcp.canonical import digest_of
from tests.houses import WAIT_SECONDS, House, house
from tests.upstream_programs import effects

ALLOWS = "version: 1\nrules: [{id: pays, tool: slow__pay, effect: allow, reason: small change}]\n"
HOLDS = ALLOWS.replace("effect: allow", "effect: hold")
BROKEN = ALLOWS.replace("effect: allow", "effect: alow")


async def written(here: House, text: str, kind: str = "policy-loaded") -> CallEvent:
    """Write the policy file, and wait until the gateway said what it makes of it."""
    with here.store.follow(lambda event: event.kind == kind) as feed:
        (here.folder / "policy.yaml").write_text(text, encoding="utf-8")
        with anyio.fail_after(WAIT_SECONDS):
            event = await feed.next()
    assert event is not None
    return event


async def test_a_good_change_counts_without_a_restart_and_is_recorded_by_its_hash(tmp_path: Path) -> None:
    """The next call is decided by the new policy, whose text can be found by the version that its decisions name."""
    async with house(tmp_path, policy=ALLOWS) as here:
        before = await here.outcome_of("pay", amount=1, currency="EUR")
        event = await written(here, HOLDS)
        after = await here.hold("pay", amount=2, currency="EUR")
        kept = [await here.store.policy(record.decision.policy) for record in (before, after)]
    assert event.detail == after.decision.policy != before.decision.policy
    texts = [json.loads(text or "null") for text in kept]
    assert [digest_of(text) for text in texts] == [before.decision.policy, after.decision.policy]
    assert [text[0]["rules"][0]["effect"] for text in texts] == ["allow", "hold"]


async def test_a_bad_change_keeps_the_last_good_policy_and_says_so(tmp_path: Path) -> None:
    """Calls go on being decided as before; the problem names file, line and column until the file is right again."""
    async with house(tmp_path, policy=HOLDS) as here:
        event = await written(here, BROKEN, "policy-refused")
        problem = here.policy_files.problem
        assert problem is not None
        assert event.detail.endswith("policy.yaml:2:45: unknown effect `alow`")
        assert problem.findings.endswith("help: did you mean `allow`? effects are `allow`, `hold`, `deny`")
        await here.hold("pay", amount=1, currency="EUR")
        await written(here, ALLOWS)
        assert here.policy_files.problem is None
        assert (await here.outcome_of("pay", amount=2, currency="EUR")).status is Status.SUCCEEDED
    assert effects(tmp_path) == ["2 EUR"]


async def test_a_policy_file_that_disappears_opens_nothing(tmp_path: Path) -> None:
    """The policy that was read stays in force."""
    async with house(tmp_path, policy=HOLDS) as here:
        with here.store.follow(lambda event: event.kind == "policy-refused") as feed:
            (tmp_path / "policy.yaml").unlink()
            with anyio.fail_after(WAIT_SECONDS):
                assert await feed.next() is not None
        assert here.policy_files.problem is not None
        assert "no policy file is found by `policy.yaml`" in here.policy_files.problem.findings
        await here.hold("pay", amount=1, currency="EUR")


async def test_an_approved_call_that_the_new_policy_denies_does_not_run(tmp_path: Path) -> None:
    """It was held under the old policy; the approval came after the change."""
    async with house(tmp_path, policy=HOLDS) as here:
        record = await here.hold("pay", amount=1, currency="EUR")
        await written(here, HOLDS.replace("effect: hold", "effect: deny"))
        await here.approve(record)
        ended = await here.settled(record.id)
    assert ended.status is Status.INVALIDATED
    assert ended.closed_reason == "the policy denies it now: small change (rule `pays`)"
    assert effects(tmp_path) == []


async def test_tools_are_shown_anew_when_the_policy_changes(tmp_path: Path) -> None:
    """A tool that may now be held asks agents why they want it."""
    async with house(tmp_path, policy=ALLOWS) as here:
        changed = anyio.Event()
        here.catalog.on_tools_change(changed.set)
        before = here.catalog.find("slow__pay")
        await written(here, HOLDS)
        with anyio.fail_after(WAIT_SECONDS):
            await changed.wait()
        after = here.catalog.find("slow__pay")
    assert before is not None
    assert after is not None
    assert (before.takes_reason, after.takes_reason) == (False, True)
