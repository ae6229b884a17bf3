"""Passkeys over the API: enrolling, confirming, removing, signing in, and verdicts that sign what they are about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from hitl_mcp.calls import CallRecord, Requirement, Status
from hitl_mcp.limits import CHALLENGE_SECONDS, LOGIN_FAILURES_PER_MINUTE, OPEN_CHALLENGES, PASSKEYS_PER_REVIEWER
from hitl_mcp.surfaces.api import page_routes
from tests.clocks import HandClock
from tests.samples import held
from tests.surfaces.authenticators import PRESENT, Key
from tests.surfaces.desk import Desk, open_desk

SIGNED = held(Requirement("payments", ("finance",), assurance="passkey"))
EDITED = "sha256:" + "e" * 64


@pytest.fixture
async def desk(tmp_path: Path, clock: HandClock) -> AsyncIterator[Desk]:
    """A desk that is known by a name."""
    async with open_desk(tmp_path / "hitl.db", clock, named=True) as running:
        yield running


async def enrol(client: httpx2.AsyncClient, key: Key, by: Key | None = None, **said: Any) -> httpx2.Response:
    """Enrol a passkey; `by` confirms it, where that is asked for."""
    options = (await client.post("/api/passkeys/options", json={})).json()
    answer = await client.post("/api/passkeys", json={"credential": key.made(options, **said)})
    if by is None or answer.status_code != 200:
        return answer
    return await client.post("/api/passkeys", json={"assertion": by.signed(answer.json()["confirm"])})


async def ask(
    client: httpx2.AsyncClient, record: CallRecord, verdict: str = "approve", digest: str = ""
) -> dict[str, Any]:
    """What a passkey is to sign for a verdict."""
    body = {"verdict": verdict, "digest": digest or record.digest}
    answer = await client.post(f"/api/calls/{record.id}/verdict/options", json=body)
    assert answer.status_code == 200, answer.text
    options: dict[str, Any] = answer.json()
    return options


async def give(
    client: httpx2.AsyncClient, record: CallRecord, assertion: object, verdict: str = "approve"
) -> httpx2.Response:
    """Hand in a verdict of what the call now is."""
    body = {"verdict": verdict, "digest": record.digest, **({"assertion": assertion} if assertion else {})}
    return await client.post(f"/api/calls/{record.id}/verdict", json=body)


async def refused(desk: Desk, record: CallRecord, answer: httpx2.Response, why: str) -> None:
    """Refused, and nothing moved."""
    assert answer.status_code == 403, answer.text
    assert why in answer.json()["error"]["message"]
    now = await desk.store.get(record.id)
    assert (now.status, now.version, now.verdicts) == (record.status, record.version, record.verdicts)


# Enrolling.


async def test_the_first_passkey_is_taken_on_the_word_of_a_sign_in(desk: Desk) -> None:
    """It is listed with a fingerprint, and stands in the chain; what the browser is told asks for a verified user."""
    key = Key(desk.url)
    async with desk.signed_in("dana") as dana:
        options = (await dana.post("/api/passkeys/options", json={})).json()
        assert options["rp"] == {"name": "hitl-mcp", "id": "localhost"}
        assert options["attestation"] == "none" and options["excludeCredentials"] == []
        wanted = {"residentKey": "required", "requireResidentKey": True, "userVerification": "required"}
        assert options["authenticatorSelection"] == wanted
        made = (await enrol(dana, key)).json()["passkey"]
        assert (made["reviewer"], made["label"], made["confirmed_by"]) == ("dana", "a program", None)
        assert (await dana.get("/api/passkeys")).json()["passkeys"] == [made]
        assert (await dana.get("/api/me")).json()["passkeys"] == {"usable": True, "why_not": None, "yours": 1}
    async with desk.signed_in("lee") as lee:
        assert (await lee.get("/api/passkeys")).json() == {"passkeys": []}
    assert (await desk.control.get("/api/passkeys")).json()["passkeys"] == [made]
    events = await desk.store.events_after(0)
    assert [event.detail for event in events if event.kind == "passkey-added"] == [
        f"dana: {made['fingerprint']} (a program), at first sight"
    ]


async def test_a_further_passkey_needs_a_signature_of_one_that_there_is(desk: Desk) -> None:
    """Neither none, nor one of somebody else's, nor the new one itself, nor one for another new one is enough."""
    first, second, foreign = Key(desk.url), Key(desk.url), Key(desk.url)
    async with desk.signed_in("dana") as dana, desk.signed_in("lee") as lee:
        assert (await enrol(dana, first)).status_code == 200
        assert (await enrol(lee, foreign)).status_code == 200
        unconfirmed = (await enrol(dana, second)).json()
        assert set(unconfirmed) == {"confirm"}
        for by in (foreign, second):
            answer = await enrol(dana, second, by)
            assert answer.status_code == 403, by
        options = (await dana.post("/api/passkeys/options", json={})).json()
        assert len(options["excludeCredentials"]) == 1
        (there,) = (await dana.get("/api/passkeys")).json()["passkeys"]
        confirmed = (await enrol(dana, second, first)).json()["passkey"]
        assert confirmed["confirmed_by"] == there["fingerprint"]
        assert len((await dana.get("/api/passkeys")).json()["passkeys"]) == 2


@pytest.mark.parametrize(
    ("changes", "said", "why"),
    [
        ({"flags": PRESENT}, {}, "user verification"),
        ({"rp_id": "example.com"}, {}, "RP ID"),
        ({"origin": "http://localhost:1"}, {}, "not asked to be signed here"),
        ({}, {"challenge": "AAAA"}, "not asked to be signed here"),
        ({}, {"type": "webauthn.get"}, "client data type"),
        ({}, {"crossOrigin": True}, "another page"),
    ],
    ids=["unverified", "other-party", "other-page", "other-challenge", "other-kind", "framed"],
)
async def test_what_is_not_made_for_this_page_by_a_verified_user_is_no_passkey(
    desk: Desk, changes: dict[str, Any], said: dict[str, Any], why: str
) -> None:
    """Nothing is kept of it."""
    async with desk.signed_in("dana") as dana:
        answer = await enrol(dana, Key(**{"origin": desk.url, **changes}), **said)
        assert answer.status_code == 403
        assert why.lower() in answer.json()["error"]["message"].lower()
        assert (await dana.get("/api/passkeys")).json() == {"passkeys": []}


async def test_a_passkey_is_one_reviewers_and_there_are_only_so_many(desk: Desk) -> None:
    """The same one cannot be enrolled twice, by anybody."""
    first = Key(desk.url)
    async with desk.signed_in("dana") as dana, desk.signed_in("lee") as lee:
        assert (await enrol(dana, first)).status_code == 200
        assert "enrolled already" in (await enrol(lee, first)).json()["error"]["message"]
        for _ in range(PASSKEYS_PER_REVIEWER - 1):
            assert (await enrol(dana, Key(desk.url), first)).status_code == 200
        assert "which is the most" in (await enrol(dana, Key(desk.url), first)).json()["error"]["message"]


async def test_removing_needs_a_signature_and_a_reset_needs_the_operator(desk: Desk, clock: HandClock) -> None:
    """A sign-in alone removes none; a removed one signs nothing; a reset is shown to everybody for a week."""
    first, second = Key(desk.url), Key(desk.url)
    async with desk.signed_in("dana") as dana:
        first_id = (await enrol(dana, first)).json()["passkey"]["id"]
        await enrol(dana, second, first)
        path = f"/api/passkeys/{first_id}/remove"
        asked = (await dana.post(path, json={})).json()["confirm"]
        assert len(asked["allowCredentials"]) == 2
        assert (await dana.post(path, json={"assertion": Key(desk.url).signed(asked)})).status_code == 403
        asked = (await dana.post(path, json={})).json()["confirm"]
        left = (await dana.post(path, json={"assertion": second.signed(asked)})).json()["passkeys"]
        assert [one["id"] == first_id for one in left] == [False]
        assert (await dana.post(path, json={})).status_code == 404
        assert (await dana.post("/api/passkeys/reset", json={"reviewer": "dana"})).status_code == 404
        reset = await desk.control.post("/api/passkeys/reset", json={"reviewer": "dana"})
        assert reset.json() == {"reviewer": "dana", "removed": 1}
        status = (await dana.get("/api/status")).json()["passkeys"]
        assert [(one["reviewer"], one["by"]) for one in status["resets"]] == [("dana", "operator")]
        assert (await enrol(dana, Key(desk.url))).json()["passkey"]["confirmed_by"] is None
    clock.forward(8 * 24 * 3600)
    assert (await desk.control.get("/api/status")).json()["passkeys"] == {"resets": [], "tampered": []}


async def test_without_a_name_there_are_no_passkeys_and_the_page_says_why(tmp_path: Path, clock: HandClock) -> None:
    """At a numeric address everything else works."""
    async with open_desk(tmp_path / "numeric.db", clock) as desk, desk.signed_in("dana") as dana:
        said = (await dana.get("/api/me")).json()["passkeys"]
        assert said == {"usable": False, "why_not": "passkeys need a name, and `127.0.0.1` is a number", "yours": 0}
        for path in ("/api/passkeys/options", "/api/login/options"):
            assert (await dana.post(path, json={})).status_code == 403
    async with open_desk(tmp_path / "open.db", clock, "http://review.example") as desk, desk.signed_in("dana") as dana:
        assert (await dana.get("/api/me")).json()["passkeys"]["why_not"] == "passkeys need `https`"


# Signing in.


async def test_a_passkey_signs_its_reviewer_in_and_no_verdict_by_that_alone(desk: Desk, clock: HandClock) -> None:
    """Who signed in with one is known surely; what is said afterwards is worth a link, unless it is signed, too."""
    key = Key(desk.url)
    async with desk.signed_in("dana") as dana:
        await enrol(dana, key)
    clock.forward(1)  # the newest stands first
    async with desk.program() as client:
        options = (await client.post("/api/login/options", json={})).json()
        assert options["allowCredentials"] == [] and options["userVerification"] == "required"
        assertion = key.signed(options)
        answer = (await client.post("/api/login", json={"assertion": assertion})).json()
        assert answer["reviewer"] == "dana"
        again = await client.post("/api/login", json={"assertion": assertion})
        assert (again.status_code, again.json()["error"]["code"]) == (401, "not_signed_in")
        client.headers["authorization"] = f"Bearer {answer['token']}"
        assert (await client.get("/api/me")).json()["assurance"] == "link"
        listed = (await client.get("/api/sign-ins")).json()["sign_ins"]
        assert [(one["assurance"], one["current"]) for one in listed if one["reviewer"] == "dana"] == [
            ("passkey", True),
            ("link", False),
        ]
        record = await desk.hold({"amount": 1}, SIGNED)
        await refused(desk, record, await give(client, record, None), "it needs `passkey`")


@pytest.mark.parametrize("how", ["unknown", "removed", "stale", "other-page", "unverified"])
async def test_a_passkey_that_should_not_signs_nobody_in(desk: Desk, clock: HandClock, how: str) -> None:
    """Always 401; and many of them close the door for a minute, as wrong codes do."""
    key = Key(desk.url)
    async with desk.signed_in("sam") as sam, desk.program() as client:
        await enrol(sam, key)
        options = (await client.post("/api/login/options", json={})).json()
        if how == "unknown":
            key = Key(desk.url)
        elif how == "removed":
            await desk.control.post("/api/passkeys/reset", json={"reviewer": "sam"})
        elif how == "stale":
            clock.forward(CHALLENGE_SECONDS)
        elif how == "other-page":
            key.origin = "http://localhost:3000"
        else:
            key.flags = PRESENT
        answer = await client.post("/api/login", json={"assertion": key.signed(options)})
        assert answer.status_code == 401
        for _ in range(LOGIN_FAILURES_PER_MINUTE):
            await client.post("/api/login", json={"assertion": key.signed(options)})
        assert (await client.post("/api/login/options", json={})).status_code == 429


async def test_a_passkey_of_somebody_who_left_the_config_signs_nobody_in(desk: Desk) -> None:
    """The key is still good, and its reviewer is none any more."""
    key = Key(desk.url)
    async with desk.signed_in("sam") as sam:
        await enrol(sam, key)
    parts = replace(desk.parts, people=replace(desk.parts.people, reviewers={}))
    transport = httpx2.ASGITransport(Starlette(routes=page_routes(parts)))
    async with httpx2.AsyncClient(transport=transport, base_url=desk.url) as client:
        options = (await client.post("/api/login/options", json={})).json()
        assert (await client.post("/api/login", json={"assertion": key.signed(options)})).status_code == 401


# Verdicts.


async def test_a_verdict_by_passkey_signs_the_call_and_is_kept_with_its_signature(desk: Desk) -> None:
    """It counts as `passkey`; a link's word does not; and a rejection may be signed, too."""
    key = Key(desk.url)
    record, other = [await desk.hold({"amount": number}, SIGNED) for number in (1, 2)]
    async with desk.signed_in("dana") as dana:
        await enrol(dana, key)
        await refused(desk, record, await give(dana, record, None), "`link` does not say surely enough")
        answer = await give(dana, record, key.signed(await ask(dana, record)))
        assert answer.json()["status"] == "approved"
        assert [one["assurance"] for one in answer.json()["verdicts"]] == ["passkey"]
        answer = await give(dana, other, key.signed(await ask(dana, other, "reject")), "reject")
        assert answer.json()["status"] == "rejected"
        assert answer.json()["verdicts"][0]["assurance"] == "passkey"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flags": PRESENT}, {}),
        ({"rp_id": "example.com"}, {}),
        ({"origin": "http://localhost:3000"}, {}),
        ({}, {"challenge": "AAAA"}),
        ({}, {"type": "webauthn.create"}),
        ({}, {"crossOrigin": True}),
        ({"sign_count": -1, "steps": 1}, {}),
    ],
    ids=["unverified", "other-party", "other-page", "other-challenge", "other-kind", "framed", "count-went-back"],
)
async def test_a_signature_that_is_not_made_as_asked_is_worth_nothing(
    desk: Desk, changes: dict[str, Any], said: dict[str, Any]
) -> None:
    """The verdict is refused whole: it does not count as a link's either."""
    key = Key(desk.url, sign_count=5)
    record = await desk.hold({"amount": 1}, SIGNED)
    async with desk.signed_in("dana") as dana:
        await enrol(dana, key)
        for name, value in changes.items():
            setattr(key, name, value)
        await refused(desk, record, await give(dana, record, key.signed(await ask(dana, record), **said)), "")


async def test_a_signature_is_good_for_one_verdict_of_one_call_and_digest_of_one_sign_in_once(desk: Desk) -> None:
    """Another call, another verdict, another digest, another sign-in, another reviewer, or a second time: refused."""
    key, foreign = Key(desk.url), Key(desk.url)
    record, other = [await desk.hold({"amount": number}, SIGNED) for number in (1, 2)]
    async with desk.signed_in("dana") as dana, desk.signed_in("dana") as second, desk.signed_in("lee") as lee:
        await enrol(dana, key)
        await enrol(lee, foreign)
        await refused(desk, other, await give(dana, other, key.signed(await ask(dana, record))), "another verdict")
        signed = key.signed(await ask(dana, record, "reject"))
        await refused(desk, record, await give(dana, record, signed), "another verdict")
        signed = key.signed(await ask(dana, record, digest=EDITED))
        await refused(desk, record, await give(dana, record, signed), "challenge")
        signed = key.signed(await ask(dana, record))
        await refused(desk, record, await give(second, record, signed), "not asked to be signed here")
        await refused(desk, record, await give(lee, record, key.signed(await ask(lee, record))), "no passkey of `lee`")
        signed["response"]["signature"] = signed["response"]["signature"][:-6] + "AAAAAA"
        await refused(desk, record, await give(dana, record, signed), "")
        signed = key.signed(await ask(dana, record))
        assert (await give(dana, record, signed)).json()["status"] == "approved"
        approved = await desk.store.get(record.id)
        await refused(desk, approved, await give(dana, approved, signed), "signed before")


async def test_what_waits_to_be_signed_is_short_lived_and_bounded(desk: Desk, clock: HandClock) -> None:
    """After five minutes, or when many were asked for since, it is worth nothing."""
    key = Key(desk.url)
    record = await desk.hold({"amount": 1}, SIGNED)
    async with desk.signed_in("dana") as dana:
        await enrol(dana, key)
        oldest = await ask(dana, record)
        for _ in range(OPEN_CHALLENGES):
            newest = await ask(dana, record)
        await refused(desk, record, await give(dana, record, key.signed(oldest)), "its time is over")
        clock.forward(CHALLENGE_SECONDS)
        await refused(desk, record, await give(dana, record, key.signed(newest)), "its time is over")


async def test_a_removed_passkey_approves_nothing_more_and_what_it_approved_stands(desk: Desk) -> None:
    """Removing one does not reach back: whoever wants to undo an approval rejects it."""
    key = Key(desk.url)
    before, after = [await desk.hold({"amount": number}, SIGNED) for number in (1, 2)]
    async with desk.signed_in("dana") as dana:
        await enrol(dana, key)
        assert (await give(dana, before, key.signed(await ask(dana, before)))).json()["status"] == "approved"
        asked = await ask(dana, after)
        await desk.control.post("/api/passkeys/reset", json={"reviewer": "dana"})
        await refused(desk, after, await give(dana, after, key.signed(asked)), "it was removed")
        answer = await dana.post(f"/api/calls/{after.id}/verdict/options", json={"verdict": "approve", "digest": "x"})
        assert answer.status_code == 403 and "you have no passkey here" in answer.json()["error"]["message"]
    assert (await desk.store.get(before.id)).status is Status.APPROVED


async def test_two_who_must_sign_are_two_people_with_two_passkeys(desk: Desk) -> None:
    """Quorum, roles and passkeys together; the agent's owner does not count where people must be separate."""
    need = Requirement("payments", ("finance",), 2, "passkey")
    keys = {name: Key(desk.url) for name in ("dana", "lee")}
    record = await desk.hold({"amount": 1}, held(need))
    apart = await desk.hold({"amount": 2}, held(Requirement("apart", ("finance",), 1, "passkey", barred=("dana",))))
    async with desk.signed_in("dana") as dana, desk.signed_in("lee") as lee:
        await enrol(dana, keys["dana"])
        await enrol(lee, keys["lee"])
        await refused(desk, apart, await give(dana, apart, keys["dana"].signed(await ask(dana, apart))), "own people")
        assert (await give(dana, record, keys["dana"].signed(await ask(dana, record)))).json()["status"] == "held"
        again = await give(dana, record, keys["dana"].signed(await ask(dana, record)))
        assert again.status_code == 409
        assert (await give(lee, record, keys["lee"].signed(await ask(lee, record)))).json()["status"] == "approved"


async def test_the_control_socket_has_no_passkeys(desk: Desk) -> None:
    """A verdict from the command line stays a word from the command line, whatever stands in it."""
    record = await desk.hold({"amount": 1}, SIGNED)
    key = Key(desk.url)
    async with desk.signed_in("dana") as dana:
        await enrol(dana, key)
        signed = key.signed(await ask(dana, record))
    await refused(desk, record, await give(desk.control, record, signed), "used on the review page")
