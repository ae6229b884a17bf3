"""Who may talk to the review API: one-time links, keys, and every way not to have one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import httpx2
import pytest
from starlette.applications import Starlette

from hitl_mcp.limits import LOGIN_CODE_SECONDS, LOGIN_FAILURES_PER_MINUTE, SIGN_IN_SECONDS
from hitl_mcp.surfaces.api import page_routes
from hitl_mcp.surfaces.api.openapi import CONTROL_ONLY
from tests.clocks import HandClock
from tests.surfaces.desk import AGENT_KEY, Desk

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


@pytest.mark.parametrize("path", sorted(CONTROL_ONLY))
async def test_links_and_stopping_do_not_exist_on_the_port(desk: Desk, path: str) -> None:
    """Not even for someone who is signed in."""
    async with desk.signed_in("dana") as dana:
        assert (await dana.post(path, json={})).status_code == 404
    assert desk.stopped == []


async def test_the_control_socket_stops_the_gateway(desk: Desk) -> None:
    """That is what `hitl-mcp stop` calls."""
    assert (await desk.control.post("/api/stop")).status_code == 200
    assert desk.stopped == ["stop"]
