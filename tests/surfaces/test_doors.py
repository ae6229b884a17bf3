"""What every request on the TCP port passes first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clocks import HandClock
from tests.surfaces.desk import Desk, open_desk

PUBLIC = "https://review.example"


@pytest.fixture
async def public_desk(tmp_path: Path, clock: HandClock) -> AsyncIterator[Desk]:
    """A desk behind a proxy that ends TLS for `review.example`."""
    async with open_desk(tmp_path / "public.db", clock, PUBLIC) as running:
        yield running


async def answer_to(desk: Desk, headers: dict[str, str], method: str = "GET", path: str = "/healthz") -> int:
    """The HTTP status a request with these headers gets."""
    headers = {name: value.replace("PORT", str(desk.port)) for name, value in headers.items()}
    async with desk.program() as client:
        return (await client.request(method, path, headers=headers)).status_code


async def test_our_own_names_are_let_in(desk: Desk) -> None:
    """The loopback address under each of its names, with our port."""
    for host in ("127.0.0.1:PORT", "localhost:PORT", "LOCALHOST:PORT", "[::1]:PORT"):
        assert await answer_to(desk, {"host": host}) == 200


@pytest.mark.parametrize("path", ["/", "/app.js", "/healthz", "/api/calls", "/api/login", "/nothing"])
async def test_a_false_name_is_shut_out_everywhere(desk: Desk, path: str) -> None:
    """A page that made its own name point at this machine gets nothing, not even the page's files."""
    for host in (
        *("evil.example", "evil.example:PORT", "localhost", "127.0.0.1:1"),
        *("localhost.evil.example:PORT", "review.example"),
    ):
        assert await answer_to(desk, {"host": host}, path=path) == 403


async def test_behind_a_proxy_the_public_name_is_let_in(public_desk: Desk) -> None:
    """Exactly that name and origin, with https' own port written out or not, or with a Host the proxy writes."""
    for host in ("review.example", "review.example:443", "127.0.0.1:PORT"):
        assert await answer_to(public_desk, {"host": host, "origin": PUBLIC}) == 200
    for host in ("review.example.evil.example", "evil-review.example", "review.example:8443"):
        assert await answer_to(public_desk, {"host": host, "origin": PUBLIC}) == 403
    for origin in ("http://review.example", "https://review.example:8443", "https://evil-review.example"):
        assert await answer_to(public_desk, {"host": "review.example", "origin": origin}) == 403


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_another_origin_is_shut_out(desk: Desk, method: str) -> None:
    """Another port, another scheme, another name for this machine: each is another origin."""
    for origin in (
        *("http://localhost:1", "http://evil.example", "null", "https://127.0.0.1:PORT"),
        *("http://localhost:PORT", "file://"),
    ):
        assert await answer_to(desk, {"origin": origin}, method, "/api/login") == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
async def test_a_browser_may_send_unsafe_methods_from_our_page_alone(desk: Desk, site: str) -> None:
    """Whatever else it claims; a program sends no such header and is let in to show its key."""
    assert await answer_to(desk, {"sec-fetch-site": site}, "POST", "/api/login") == 403
    assert await answer_to(desk, {"sec-fetch-site": site, "sec-fetch-dest": "document"}, "POST", "/api/login") == 403
    assert await answer_to(desk, {"sec-fetch-site": "same-origin"}, "POST", "/api/login") == 422
    assert await answer_to(desk, {}, "POST", "/api/login") == 422


async def test_a_link_elsewhere_may_lead_to_the_page_but_not_load_parts_of_it(desk: Desk) -> None:
    """Navigation is how people come; a script, image or frame tag on another page is not."""
    navigation = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert await answer_to(desk, navigation, path="/") == 200
    for dest in ("script", "image", "iframe", "empty", "style"):
        assert await answer_to(desk, {"sec-fetch-site": "same-site", "sec-fetch-dest": dest}, path="/app.js") == 403


@pytest.mark.parametrize("path", ["/", "/app.js", "/style.css", "/healthz", "/api/calls", "/nothing"])
async def test_every_answer_carries_the_headers_that_protect_it(desk: Desk, path: str) -> None:
    """No caching, no sniffing, no referrer, no frames, and no cookies."""
    async with desk.program() as client:
        headers = (await client.get(path)).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "set-cookie" not in headers and "access-control-allow-origin" not in headers


async def test_the_page_allows_its_own_files_and_nothing_else(desk: Desk) -> None:
    """No inline script or style, nothing from elsewhere, no markup made from strings."""
    async with desk.program() as client:
        policy = (await client.get("/")).headers["content-security-policy"]
    for part in (
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
    ):
        assert part in policy
    assert "unsafe" not in policy and "http" not in policy
