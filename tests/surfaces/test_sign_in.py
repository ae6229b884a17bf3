"""Who may talk to the review API: one-time links, keys, and every way not to have one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from pathlib import Path

import anyio
import httpx2
import pytest
from starlette.applications import Starlette

from hitl_mcp.limits import (
    LOGIN_CODE_SECONDS,
    LOGIN_FAILURES_PER_MINUTE,
    SEEN_EVERY_SECONDS,
    SIGN_IN_SECONDS,
    SIGN_INS_PER_REVIEWER,
)
from hitl_mcp.surfaces.api import page_routes
from hitl_mcp.surfaces.api.browsers import label_of
from hitl_mcp.surfaces.api.openapi import only_at
from tests.clocks import HandClock
from tests.surfaces.desk import AGENT_KEY, Desk

BROWSER = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36 Edg/156.0"
)

NEEDS_A_REVIEWER = (
    ("GET", "/api/calls"),
    ("GET", "/api/calls/c_x"),
    ("GET", "/api/calls/c_x/shown"),
    ("POST", "/api/calls/c_x/verdict"),
    ("GET", "/api/events"),
    ("GET", "/api/me"),
    ("GET", "/api/status"),
    ("POST", "/api/pause"),
    ("POST", "/api/resume"),
    ("POST", "/api/logout"),
    ("GET", "/api/sign-ins"),
    ("POST", "/api/sign-ins/s_x/end"),
    ("GET", "/api/passkeys"),
    ("POST", "/api/passkeys"),
    ("POST", "/api/passkeys/options"),
    ("POST", "/api/passkeys/x/remove"),
    ("POST", "/api/calls/c_x/verdict/options"),
    ("GET", "/api/openapi.json"),
    ("GET", "/metrics"),
    ("POST", "/api/links"),
    ("POST", "/api/stop"),
    ("GET", "/api/anything/else"),
)


async def test_a_links_code_is_exchanged_for_a_key_once(desk: Desk) -> None:
    """The first exchange signs the reviewer in; a second one is refused like a wrong code."""
    url = await desk.link("dana")
    assert url.startswith(f"{desk.url}/#login=")
    code = url.partition("#login=")[2]
    async with desk.program() as client:
        first = await client.post("/api/login", json={"code": code})
        assert first.status_code == 200
        assert first.json()["reviewer"] == "dana"
        second = await client.post("/api/login", json={"code": code})
        assert second.status_code == 401
        me = await client.get("/api/me", headers={"authorization": f"Bearer {first.json()['token']}"})
    assert me.json()["reviewer"] == "dana"
    assert me.json()["roles"] == ["admin", "finance"]
    assert me.json()["assurance"] == "link"


async def test_a_link_for_nobody_in_particular_is_for_local(desk: Desk) -> None:
    """Without a name the link signs in `local`."""
    assert (await desk.control.post("/api/links", json={})).json()["reviewer"] == "local"


async def test_a_link_for_someone_unknown_is_refused(desk: Desk) -> None:
    """Only reviewers of the config can be signed in."""
    answer = await desk.control.post("/api/links", json={"for": "mallory"})
    assert answer.status_code == 422
    assert "`mallory` is not a reviewer" in answer.json()["error"]["message"]


async def test_a_code_is_good_for_five_minutes(desk: Desk, clock: HandClock) -> None:
    """After that it is as good as a wrong one."""
    code = (await desk.link("dana")).partition("#login=")[2]
    clock.forward(LOGIN_CODE_SECONDS)
    async with desk.program() as client:
        assert (await client.post("/api/login", json={"code": code})).status_code == 401


async def test_many_wrong_codes_close_the_door_for_a_minute(desk: Desk, clock: HandClock) -> None:
    """Then even a right code is not read; a minute later it is."""
    code = (await desk.link("dana")).partition("#login=")[2]
    async with desk.program() as client:
        for _ in range(LOGIN_FAILURES_PER_MINUTE):
            assert (await client.post("/api/login", json={"code": "guess"})).status_code == 401
        assert (await client.post("/api/login", json={"code": code})).status_code == 429
        clock.forward(60)
        assert (await client.post("/api/login", json={"code": code})).status_code == 200


async def test_a_key_is_kept_only_as_its_digest(desk: Desk, tmp_path: Path) -> None:
    """Whoever reads the database cannot sign in with what stands there."""
    key = (await desk.key("dana")).encode()
    files = [await file.read_bytes() async for file in anyio.Path(tmp_path).iterdir() if await file.is_file()]
    assert files and not any(key in content for content in files)


async def test_without_a_key_everything_is_closed(desk: Desk) -> None:
    """No key, a wrong one, an agent's, another scheme, two at once: 401 on every path, and nothing else is said."""
    key = await desk.key("dana")
    ways_to_fail: tuple[list[tuple[str, str]], ...] = (
        [],
        [("authorization", "Bearer wrong")],
        [("authorization", f"Bearer {AGENT_KEY}")],
        [("authorization", "Basic ZGFuYTpkYW5h")],
        [("authorization", f"Bearer {key}"), ("authorization", "Bearer other")],
    )
    async with desk.program() as client:
        for method, path in NEEDS_A_REVIEWER:
            for headers in ways_to_fail:
                answer = await client.request(method, path, headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "not_signed_in"), path
    assert desk.stopped == [] and desk.store.paused is None


async def test_a_sign_in_ends_after_twelve_hours_and_by_signing_out(desk: Desk, clock: HandClock) -> None:
    """Its key is then worth nothing."""
    async with desk.signed_in("dana") as dana, desk.signed_in("lee") as lee:
        assert (await lee.post("/api/logout")).status_code == 200
        assert (await lee.get("/api/me")).status_code == 401
        assert (await dana.get("/api/me")).status_code == 200
        clock.forward(SIGN_IN_SECONDS)
        assert (await dana.get("/api/me")).status_code == 401


async def test_a_reviewer_who_left_the_config_is_signed_out(desk: Desk) -> None:
    """A key of someone who is no reviewer any more opens nothing."""
    key = await desk.key("sam")
    people = replace(desk.parts.people, reviewers={})
    routes = page_routes(replace(desk.parts, people=people))
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(Starlette(routes=routes)), base_url=desk.url
    ) as client:
        assert (await client.get("/api/me", headers={"authorization": f"Bearer {key}"})).status_code == 401


@pytest.mark.parametrize("path", sorted(only_at("socket")))
async def test_links_and_stopping_do_not_exist_on_the_port(desk: Desk, path: str) -> None:
    """Not even for someone who is signed in."""
    async with desk.signed_in("dana") as dana:
        assert (await dana.post(path, json={})).status_code == 404
    assert desk.stopped == []


async def test_the_control_socket_stops_the_gateway(desk: Desk) -> None:
    """That is what `hitl-mcp stop` calls."""
    assert (await desk.control.post("/api/stop")).status_code == 200
    assert desk.stopped == ["stop"]


# Who is signed in.


async def test_sign_ins_are_listed_to_their_reviewer_and_to_admins(desk: Desk, clock: HandClock) -> None:
    """How, where from in our own words, since when, and when last seen; never the key."""
    async with desk.signed_in("dana") as dana, desk.signed_in("lee") as lee:
        lee.headers["user-agent"] = BROWSER
        again = (await lee.post("/api/login", json={"code": (await desk.link("lee")).partition("=")[2]})).json()
        clock.forward(SEEN_EVERY_SECONDS)
        mine = (await lee.get("/api/sign-ins")).json()["sign_ins"]
        assert [(one["reviewer"], one["label"], one["current"]) for one in mine] == [
            ("lee", "a program", True),
            ("lee", "Edge on Linux", False),
        ]
        assert mine[0]["last_seen_at"] > mine[0]["created_at"] == mine[1]["last_seen_at"]
        everybody = (await dana.get("/api/sign-ins")).text
        assert [one["reviewer"] for one in json.loads(everybody)["sign_ins"]].count("lee") == 2
        assert again["token"] not in everybody
    listed = (await desk.control.get("/api/sign-ins")).json()["sign_ins"]
    assert sorted(one["reviewer"] for one in listed) == ["dana", "lee", "lee"]


async def test_a_sign_in_is_ended_by_its_reviewer_an_admin_or_the_operator(desk: Desk) -> None:
    """Its key is worth nothing from then on; somebody else's is not even there."""
    async with desk.signed_in("dana") as dana, desk.signed_in("lee") as lee, desk.signed_in("lee") as second:
        ids = {name: (await one.get("/api/me")).json()["sign_in"] for name, one in (("d", dana), ("l", lee))}
        other = (await second.get("/api/me")).json()["sign_in"]
        refused = await lee.post(f"/api/sign-ins/{ids['d']}/end", json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "sign_in_not_found")
        assert (await dana.get("/api/me")).status_code == 200
        assert (await lee.post(f"/api/sign-ins/{other}/end", json={})).status_code == 200
        assert (await second.get("/api/me")).status_code == 401
        assert (await dana.post(f"/api/sign-ins/{ids['l']}/end", json={})).status_code == 200
        assert (await lee.get("/api/me")).status_code == 401
        assert (await desk.control.post(f"/api/sign-ins/{ids['d']}/end", json={})).status_code == 200
        assert (await dana.get("/api/me")).status_code == 401
        assert (await desk.control.post(f"/api/sign-ins/{ids['d']}/end", json={})).status_code == 404
    told = [event for event in await desk.store.events_after(0) if event.kind == "sign-in-ended"]
    assert [event.by for event in told] == ["reviewer:lee", "reviewer:dana", "reviewer:local"]


async def test_ending_a_sign_in_ends_its_event_streams_at_once(desk: Desk) -> None:
    """The stream is over although nothing else happened; another reviewer's goes on, and is not told who left."""
    async with AsyncExitStack() as stack:
        lee, dana = [await stack.enter_async_context(desk.signed_in(name)) for name in ("lee", "dana")]
        lees = await stack.enter_async_context(lee.stream("GET", "/api/events"))
        danas = await stack.enter_async_context(dana.stream("GET", "/api/events"))
        lines, others = lees.aiter_lines(), danas.aiter_lines()
        with anyio.fail_after(30):
            assert await anext(lines) == await anext(others) == "event: ready"
            await dana.post(f"/api/sign-ins/{(await lee.get('/api/me')).json()['sign_in']}/end", json={})
            assert [line async for line in lines if line.startswith("event")] == []
            record = await desk.hold({"to": "a@example.com"})
            seen = ""
            while "asked" not in seen:
                seen += await anext(others)
        assert record.id in seen and "sign-in" not in seen


async def test_a_reviewer_has_only_so_many_sign_ins(desk: Desk, clock: HandClock) -> None:
    """With one more, the one that was seen longest ago ends; other reviewers keep theirs."""
    async with desk.signed_in("sam") as sam, desk.signed_in("lee") as oldest:
        for _ in range(SIGN_INS_PER_REVIEWER):
            clock.forward(1)
            await desk.key("lee")
        assert (await oldest.get("/api/me")).status_code == 401
        assert (await sam.get("/api/me")).status_code == 200
    assert len(await desk.store.sign_ins.of("lee")) == SIGN_INS_PER_REVIEWER


async def test_a_sign_in_that_somebody_wrote_into_the_database_signs_nobody_in(desk: Desk, tmp_path: Path) -> None:
    """A row without the seal is none, and neither is one whose reviewer was changed."""
    key = await desk.key("sam")
    with closing(sqlite3.connect(tmp_path / "hitl.db", timeout=30)) as connection, connection:
        connection.execute("UPDATE sign_ins SET reviewer = 'dana'")
    async with desk.program(headers={"authorization": f"Bearer {key}"}) as client:
        assert (await client.get("/api/me")).status_code == 401
    assert await desk.store.sign_ins.of(None) == ()


@pytest.mark.parametrize(
    ("header", "label"),
    [
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        ("Mozilla/5.0 (Windows NT 10.0; rv:150.0) Gecko/20100101 Firefox/150.0", "Firefox on Windows"),
        ("Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 Chrome/156.0 Mobile Safari/537.36", "Chrome on Android"),
        ("<b>dana\u202e</b>", "a program"),
        ("", "a program"),
    ],
    ids=["iphone", "firefox", "android", "nasty", "none"],
)
def test_a_browser_is_named_in_our_own_words(header: str, label: str) -> None:
    """Nothing of what the header says stands on the page."""
    assert label_of(header) == label
