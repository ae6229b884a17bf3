"""A grant from end to end: a real gateway, a real agent, reviewers on the page's API and on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
import yaml

from tests.gateways import OUTSIDE, POLICY, Site, site

CONDITIONS = [{"path": "/to", "op": "ends_with", "value": "@customer.example.org"}]
BOUNDS = {"uses": 2, "minutes": 60, "reason": "the mailing of today"}


@pytest.fixture
def post(short_dir: Path) -> Iterator[Site]:
    """The sandbox, whose mails out are finance's and grantable."""
    policy = deepcopy(POLICY)
    rule = next(rule for rule in policy["rules"] if rule["id"] == "mail-out")
    rule |= {"roles": ["finance"], "grantable": True}
    with site(short_dir, policy) as made:
        yield made


async def run(post: Site, *arguments: str) -> tuple[int, str]:
    """A command without a terminal."""
    done = await anyio.to_thread.run_sync(lambda: post.run(*arguments))
    return done.returncode, done.stdout + done.stderr


def mail(name: str) -> dict[str, Any]:
    """A mail to somebody at the customer's."""
    return {**OUTSIDE, "to": f"{name}@customer.example.org"}


async def test_a_grant_lets_mails_run_until_it_is_used_up_revoked_or_its_giver_loses_the_role(post: Site) -> None:
    """The agent is told nothing but that they ran; nobody is said to have approved them; the record verifies."""
    await post.start()
    async with post.agent() as agent, post.reviewer() as dana, post.reviewer("erin") as erin:
        held = (await agent.call_tool("sandbox__send_mail", OUTSIDE)).structured_content or {}
        call = await dana.call(held["call_id"])
        asked = {"call_id": call["id"], "digest": call["digest"], "conditions": CONDITIONS, **BOUNDS}
        refused = await erin.http.post("/api/grants", json=asked)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_allowed")
        grant = (await dana.http.post("/api/grants", json=asked)).raise_for_status().json()
        await dana.approve(call)
        for name in ("ann", "ben"):
            answer = await agent.call_tool("sandbox__send_mail", mail(name))
            assert (answer.is_error, set(answer.structured_content or {})) == (False, {"id"})
        third = (await agent.call_tool("sandbox__send_mail", mail("cid"))).structured_content or {}
        assert third["status"] == "held"
        outside = (await agent.call_tool("sandbox__send_mail", {**OUTSIDE, "to": "x@evil.org"})).structured_content
        assert (outside or {})["status"] == "held"
        ran = [one for one in await dana.calls(status="succeeded") if one["grant"] == grant["id"]]
        assert [(one["verdicts"], one["requirements"][0]["met"]) for one in ran] == [([], 0), ([], 0)]
        code, text = await run(post, "grants", "list", "--ended", "--json")
        (listed,) = json.loads(text)["grants"]
        assert (code, listed["used"], listed["ended_why"]) == (0, 2, "it is used up")
        again = {**asked, "call_id": third["call_id"], "digest": (await dana.call(third["call_id"]))["digest"]}
        revoked, left = [(await dana.http.post("/api/grants", json=again)).json()["id"] for _ in range(2)]
        assert (await run(post, "grants", "revoke", revoked, "--reason", "too wide"))[0] == 0
        assert (await run(post, "grants", "revoke", revoked))[0] == 1
        assert left in (await run(post, "grants", "list"))[1]
    assert sorted(arguments["to"][:4] for _, arguments in post.effects()) == ["ann@", "ben@", "carl"]
    await post.stop()
    config = yaml.safe_load(post.config.read_text(encoding="utf-8"))
    config["reviewers"] = {"dana": {"roles": []}, "erin": {"roles": ["finance"]}}
    post.config.write_text(yaml.safe_dump(config), encoding="utf-8")
    await post.start()
    code, text = await run(post, "grants", "list", "--ended")
    assert "`dana`, who gave it, has no longer the role `finance`" in text
    assert "`local` revoked it: too wide" in text
    async with post.agent() as agent:
        last = (await agent.call_tool("sandbox__send_mail", mail("dan"))).structured_content or {}
    assert last["status"] == "held"
    assert (await run(post, "audit", "verify"))[0] == 0
