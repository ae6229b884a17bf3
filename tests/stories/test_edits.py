"""Reviewers who change a call, stop an agent or pass a call on, end to end: a real agent, upstream and reviewer."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
import yaml

from hitl_mcp.canonical import canonical_text
from tests.gateways import OUTSIDE, Desk, Site
from tests.surfaces.authenticators import Key

INSIDE = {**OUTSIDE, "to": "colleague@example.com"}
ELSEWHERE = {**OUTSIDE, "to": "other@elsewhere.example"}


async def held_mail(agent: Any, mail: dict[str, Any] = OUTSIDE) -> str:
    """A mail that waits for people: its id."""
    answer = await agent.call_tool("sandbox__send_mail", mail)
    assert answer.structured_content["status"] == "held", answer.structured_content
    return str(answer.structured_content["call_id"])


async def approve_as(dana: Desk, call: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """Approve a call with other arguments."""
    body = {"verdict": "approve", "digest": call["digest"], "arguments_json": canonical_text(arguments)}
    return await dana.http.post(f"/api/calls/{call['id']}/verdict", json={**body, "reason": "not to them"})


@pytest.mark.promise("R3")
async def test_what_a_reviewer_made_of_a_call_runs_and_the_agent_is_told(sandbox_site: Site) -> None:
    """First tried, which changes nothing; then approved: exactly these bytes run, once, and the agent hears what
    was changed, in `hitl_wait`, in `hitl_status` and when it repeats the original."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana:
        call = await dana.call(await held_mail(agent))
        tried = await dana.http.post(
            f"/api/calls/{call['id']}/edit",
            json={"digest": call["digest"], "arguments_json": canonical_text(ELSEWHERE)},
        )
        said = tried.raise_for_status().json()
        assert (said["problems"], said["decision"]["effect"], said["changes"]["whole"]) == ([], "hold", True)
        assert await dana.call(call["id"]) == call
        after = (await approve_as(dana, call, ELSEWHERE)).raise_for_status().json()
        assert (after["digest"], after["revisions"][0]["digest"]) == (said["digest"], call["digest"])
        await dana.until(call["id"], "succeeded")
        listed = await agent.call_tool("hitl_status", {})
        told = await agent.call_tool("hitl_wait", {"call_id": call["id"]})
        again = await agent.call_tool("sandbox__send_mail", OUTSIDE)
        shown = (await dana.http.get(f"/api/calls/{call['id']}/shown")).json()
        verified = sandbox_site.run("audit", "verify", "--config", str(sandbox_site.config))
    assert sandbox_site.effects() == [("send_mail", ELSEWHERE)]
    change = [{"path": "$.to", "before": OUTSIDE["to"], "after": ELSEWHERE["to"]}]
    for answer in (told.structured_content, again.structured_content, listed.structured_content["calls"][0]):
        assert answer["message"].startswith("EXECUTED WITH CHANGES"), answer
        assert (answer["changes"], answer["executed"]) == (change, True)
        assert "result" in answer
    assert again.structured_content["repeat"] is True
    assert [edit["by"][0]["text"] for edit in shown["revisions"]] == ["dana"]
    assert verified.returncode == 0, verified.stdout


async def test_an_edit_that_does_not_fit_or_is_denied_is_refused(sandbox_site: Site) -> None:
    """By its schema, each problem with its path; by its bytes; by the policy, with its reasons. Nothing changes."""
    never = {"id": "never", "tool": "sandbox__send_mail", "effect": "deny", "reason": "nobody writes to them"}
    sandbox_site.rewrite_policy(lambda policy: policy["rules"].append({**never, "when": 'args.to == "x@bad.example"'}))
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana:
        call = await dana.call(await held_mail(agent))
        tried = []
        for text in ('{"to": 1, "nonsense": 2}', '{"to": 1, "to": 2}', "[]", '{"to": NaN}'):
            body = {"digest": call["digest"], "arguments_json": text}
            answer = (await dana.http.post(f"/api/calls/{call['id']}/edit", json=body)).raise_for_status().json()
            assert (answer["digest"], answer["decision"]) == (None, None)
            refused = await dana.http.post(f"/api/calls/{call['id']}/verdict", json={**body, "verdict": "approve"})
            assert refused.status_code == 422
            tried.append([problem["path"] for problem in answer["problems"]])
        assert "$.arguments.to" in tried[0]
        assert all(paths[0].startswith("$.arguments") for paths in tried)
        bad = await approve_as(dana, call, {**OUTSIDE, "to": "x@bad.example"})
        assert (bad.status_code, bad.json()["error"]["code"]) == (409, "edit_denied")
        assert bad.json()["error"]["reasons"][0].startswith("nobody writes to them")
        stale = await approve_as(dana, {**call, "digest": "sha256:other"}, ELSEWHERE)
        assert (stale.status_code, stale.json()["error"]["status"]) == (409, "held")
        assert await dana.call(call["id"]) == call
    assert sandbox_site.effects() == []


async def test_an_edited_payment_needs_its_second_person_anew(sandbox_site: Site) -> None:
    """The waiting agent gets what ran, though a client would take a plain result for its own call's."""

    def two(policy: dict[str, Any]) -> None:
        policy["rules"].append(
            {"id": "two", "tool": "sandbox__send_mail", "effect": "hold", "quorum": 2, "reason": "two people"}
        )

    sandbox_site.rewrite_policy(two)
    await sandbox_site.start()
    async with (
        sandbox_site.agent() as agent,
        sandbox_site.reviewer() as dana,
        sandbox_site.reviewer("erin") as erin,
    ):
        call = await dana.call(await held_mail(agent))
        await dana.approve(call)
        after = (await approve_as(erin, call, INSIDE)).raise_for_status().json()
        assert after["status"] == "held"
        late = await dana.decide(call)
        assert (late.status_code, late.json()["error"]["code"]) == (409, "other_digest")
        told = await agent.call_tool("hitl_status", {"call_id": call["id"]})
        assert "A reviewer changed what runs" in told.structured_content["message"]
        await dana.approve(after)
        await dana.until(call["id"], "succeeded")
    assert sandbox_site.effects() == [("send_mail", INSIDE)]


async def test_an_edit_is_signed_as_it_runs_not_as_it_was_shown(sandbox_site: Site) -> None:
    """A passkey's word for the bytes before, or for those after without them, is refused, and nothing moves."""

    def signed(policy: dict[str, Any]) -> None:
        rule = {"id": "signed", "tool": "sandbox__send_mail", "effect": "hold", "reason": "it is signed for"}
        policy["rules"] = [{**rule, "assurance": "passkey"}]

    sandbox_site.rewrite_policy(signed)
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana:
        key = Key(str(dana.http.base_url).rstrip("/"))
        options = (await dana.http.post("/api/passkeys/options", json={})).json()
        (await dana.http.post("/api/passkeys", json={"credential": key.made(options)})).raise_for_status()
        call = await dana.call(await held_mail(agent))
        verdict, edit = f"/api/calls/{call['id']}/verdict", f"/api/calls/{call['id']}/edit"
        changed = {"arguments_json": canonical_text(ELSEWHERE)}
        tried = (await dana.http.post(edit, json={"digest": call["digest"], **changed})).json()
        assert (tried["you"]["passkey"], tried["requirements"][0]["you"]["state"]) == ("needed", "passkey")

        async def given(of: str, **arguments: str) -> httpx2.Response:
            asked = (await dana.http.post(f"{verdict}/options", json={"verdict": "approve", "digest": of})).json()
            body = {"verdict": "approve", "digest": call["digest"], **arguments, "assertion": key.signed(asked)}
            return await dana.http.post(verdict, json=body)

        assert (await approve_as(dana, call, ELSEWHERE)).json()["error"]["code"] == "not_allowed"
        for refused in (await given(call["digest"], **changed), await given(tried["digest"])):
            assert refused.status_code == 403, refused.text
            assert await dana.call(call["id"]) == call
        after = (await given(tried["digest"], **changed)).raise_for_status().json()
        assert [one["assurance"] for one in after["verdicts"]] == ["passkey"]
        await dana.until(call["id"], "succeeded")
        verified = sandbox_site.run("audit", "verify")
    assert sandbox_site.effects() == [("send_mail", ELSEWHERE)]
    assert verified.returncode == 0 and "the signatures are good: 1 verdict" in verified.stdout, verified.stdout


async def test_a_stopped_agent_hears_it_and_goes_on_once_released(sandbox_site: Site) -> None:
    """Rejected and stopped in one; status, list and command line say so; a person releases it."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana:
        call = await dana.call(await held_mail(agent))
        body = {"verdict": "reject", "digest": call["digest"], "reason": "enough", "stop": True}
        (await dana.http.post(f"/api/calls/{call['id']}/verdict", json=body)).raise_for_status()
        denied = (await agent.call_tool("sandbox__send_mail", ELSEWHERE)).structured_content
        assert denied["message"].startswith("NOT EXECUTED, stopped by a reviewer")
        assert (denied["status"], denied["executed"], "enough" in denied["message"]) == ("denied", False, True)
        assert (await agent.call_tool("sandbox__balance", {})).is_error is False
        (stop,) = (await dana.http.get("/api/stops")).json()["stops"]
        assert (stop["agent"], stop["by"], stop["call_id"]) == ("builder", "dana", call["id"])
        assert (await dana.http.get("/api/status")).json()["stops"] == [stop]
        listed = sandbox_site.run("agents", "list", "--config", str(sandbox_site.config))
        assert "builder" in listed.stdout and "enough" in listed.stdout
        released = sandbox_site.run("agents", "release", "--config", str(sandbox_site.config), "builder")
        assert released.returncode == 0, released.stderr
        await held_mail(agent, ELSEWHERE)
        again = await dana.http.post("/api/agents/builder/release", json={})
        assert (again.status_code, again.json()["error"]["code"]) == (404, "not_stopped")


async def test_beyond_a_reviewers_budget_calls_wait_and_never_run(sandbox_site: Site) -> None:
    """At the terminal as on the page; the agent hears that it waits, and another reviewer still approves it."""
    written = yaml.safe_load(sandbox_site.config.read_text(encoding="utf-8"))
    written["review"]["approvals_per_hour"] = 1
    sandbox_site.config.write_text(yaml.safe_dump(written), encoding="utf-8")
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana:
        first, second = [await dana.call(await held_mail(agent, mail)) for mail in (OUTSIDE, INSIDE)]

        def approve(call: dict[str, Any]) -> tuple[int, str]:
            done = sandbox_site.run("approve", call["id"], "--yes", "--digest", call["digest"])
            return done.returncode, done.stdout + done.stderr

        assert approve(first)[0] == 0
        await dana.until(first["id"], "succeeded")
        code, said = approve(second)
        assert code == 1 and "`local` approved 1 call within the hour, which is the most" in said
        assert "or now by another reviewer; rejecting always works" in said
        told = await agent.call_tool("hitl_wait", {"call_id": second["id"]})
        assert told.structured_content["status"] == "held"
        assert sandbox_site.effects() == [("send_mail", OUTSIDE)]
        await dana.approve(second)
        await dana.until(second["id"], "succeeded")
        third = await dana.call(await held_mail(agent, ELSEWHERE))
        assert (await dana.decide(third)).json()["error"]["code"] == "budget_spent"
    assert sandbox_site.effects() == [("send_mail", OUTSIDE), ("send_mail", INSIDE)]


async def test_a_call_is_passed_on_and_several_are_answered_together(sandbox_site: Site) -> None:
    """Only a role that somebody has can be asked; a batch tells of each call what became of it."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer("erin") as erin, sandbox_site.reviewer() as dana:
        first, second = [await erin.call(await held_mail(agent, mail)) for mail in (OUTSIDE, ELSEWHERE)]
        nobody = {"digest": first["digest"], "role": "astronaut"}
        refused = await erin.http.post(f"/api/calls/{first['id']}/reassign", json=nobody)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_allowed")
        passed = await erin.http.post(f"/api/calls/{first['id']}/reassign", json={**nobody, "role": "finance"})
        assert [need["id"] for need in passed.raise_for_status().json()["requirements"]][-1] == "reassigned"
        assert (await erin.decide(first)).json()["status"] == "held"
        calls = [{"id": first["id"], "digest": first["digest"]}, {"id": second["id"], "digest": "sha256:stale"}]
        batch = await dana.http.post("/api/verdicts", json={"verdict": "approve", "calls": calls})
        one, other = batch.raise_for_status().json()["results"]
        assert (one["ok"], one["call"]["status"]) == (True, "approved")
        assert (other["ok"], other["error"]["code"]) == (False, "other_digest")
        await dana.until(first["id"], "succeeded")
    assert sandbox_site.effects() == [("send_mail", OUTSIDE)]
