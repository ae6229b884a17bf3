"""A call that needs a passkey, from the policy to the tool: a real gateway, a reviewer's key, and an auditor."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx2

from tests.gateways import OUTSIDE, POLICY, Site, site
from tests.surfaces.authenticators import Key


def signed_policy() -> dict[str, Any]:
    """The sandbox's policy, its mails only with a signature."""
    policy = copy.deepcopy(POLICY)
    rule = next(rule for rule in policy["rules"] if rule["id"] == "mail-out")
    rule["assurance"] = "passkey"
    return policy


async def run(made: Site, *arguments: str) -> tuple[int, str]:
    """Run a command of ours; its exit code and what it said."""
    done = await anyio.to_thread.run_sync(lambda: made.run(*arguments))
    return done.returncode, done.stdout + done.stderr


async def enrol(http: httpx2.AsyncClient, key: Key) -> str:
    """Add a first passkey; gives its fingerprint."""
    options = (await http.post("/api/passkeys/options", json={})).raise_for_status().json()
    answer = await http.post("/api/passkeys", json={"credential": key.made(options)})
    return str(answer.raise_for_status().json()["passkey"]["fingerprint"])


async def test_a_call_that_needs_a_passkey_runs_when_one_signed_it_and_an_auditor_can_tell(short_dir: Path) -> None:
    """A link's word and the terminal's are refused; the signed approval runs once, and its export proves who signed."""
    with site(short_dir, signed_policy(), reviewers={"dana": {"roles": ["admin"]}}) as made:
        reached = await made.start()
        assert urlsplit(reached["url"]).hostname == "localhost"
        async with made.agent() as agent, made.reviewer("dana") as dana:
            answer = await agent.call_tool("sandbox__send_mail", OUTSIDE)
            call = await dana.call((answer.structured_content or {})["call_id"])
            assert [need["assurance"] for need in call["requirements"]] == ["passkey"]
            assert (await dana.decide(call)).status_code == 403
            code, said = await run(made, "approve", call["id"], "--yes", "--digest", call["digest"])
            assert (code, "it needs `passkey`" in said) == (1, True), said
            key = Key(reached["url"])
            fingerprint = await enrol(dana.http, key)
            path = f"/api/calls/{call['id']}/verdict"
            options = (
                await dana.http.post(f"{path}/options", json={"verdict": "approve", "digest": call["digest"]})
            ).json()
            body = {"verdict": "approve", "digest": call["digest"], "assertion": key.signed(options)}
            assert (await dana.http.post(path, json=body)).raise_for_status().json()["status"] in (
                "approved",
                "running",
            )
            await dana.until(call["id"], "succeeded")
            assert (await dana.http.post(path, json=body)).status_code in (403, 409)
        assert [tool for tool, _ in made.effects()] == ["send_mail"]
        export = short_dir / "record.jsonl"
        assert (await run(made, "audit", "export", "-o", str(export)))[0] == 0
        code, said = await run(made, "audit", "verify", str(export))
        assert "signatures are good: 1 verdict" in said and fingerprint in said, said
        code, said = await run(made, "audit", "verify")
        assert (code, fingerprint in said) == (0, True), said


async def test_an_approval_with_edits_signs_what_will_run(short_dir: Path) -> None:
    """A signature over the bytes as asked is refused for other ones; one over the edited bytes runs these."""
    with site(short_dir, signed_policy(), reviewers={"dana": {"roles": ["admin"]}}) as made:
        key = Key((await made.start())["url"])
        async with made.agent() as agent, made.reviewer("dana") as dana:
            await enrol(dana.http, key)
            answer = await agent.call_tool("sandbox__send_mail", OUTSIDE)
            call = await dana.call((answer.structured_content or {})["call_id"])
            path = f"/api/calls/{call['id']}"
            edited = json.dumps({**OUTSIDE, "subject": "Our best offer"})
            body = {"digest": call["digest"], "arguments_json": edited}
            tried = (await dana.http.post(f"{path}/edit", json=body)).raise_for_status().json()
            for digest, status in ((call["digest"], 403), (tried["digest"], 200)):
                asked = {"verdict": "approve", "digest": digest}
                options = (await dana.http.post(f"{path}/verdict/options", json=asked)).raise_for_status().json()
                given = {"verdict": "approve", **body, "assertion": key.signed(options)}
                assert (await dana.http.post(f"{path}/verdict", json=given)).status_code == status
            await dana.until(call["id"], "succeeded")
        assert [sent["subject"] for _, sent in made.effects()] == ["Our best offer"]
        code, said = await run(made, "audit", "verify")
        assert (code, "signatures are good: 1 verdict" in said) == (0, True), said


async def test_the_operator_sees_and_ends_sign_ins_and_resets_passkeys(short_dir: Path) -> None:
    """By commands; a reset asks first, and everybody is shown that it was done."""
    with site(short_dir, reviewers={"dana": {"roles": ["admin"]}}) as made:
        reached = await made.start()
        async with made.reviewer("dana") as dana:
            fingerprint = await enrol(dana.http, Key(reached["url"]))
            assert fingerprint in (await run(made, "passkeys", "list"))[1]
            assert (await run(made, "passkeys", "reset", "dana"))[0] == 2
            code, said = await run(made, "passkeys", "reset", "--yes", "dana")
            assert (code, said) == (0, "1 passkeys of dana are gone; every reviewer is shown that\n")
            assert (await run(made, "passkeys", "list"))[1] == "nobody has a passkey\n"
            resets = (await dana.http.get("/api/status")).json()["passkeys"]["resets"]
            assert [one["reviewer"] for one in resets] == ["dana"]
            listed = json.loads((await run(made, "sign-ins", "list", "--json"))[1])["sign_ins"]
            assert [one["reviewer"] for one in listed] == ["dana"]
            assert listed[0]["id"] in (await run(made, "sign-ins", "list"))[1]
            assert (await run(made, "sign-ins", "end", listed[0]["id"]))[0] == 0
            assert (await dana.http.get("/api/me")).status_code == 401
            assert (await run(made, "sign-ins", "end", listed[0]["id"]))[0] == 1
            assert (await run(made, "sign-ins", "list"))[1] == "nobody is signed in\n"
