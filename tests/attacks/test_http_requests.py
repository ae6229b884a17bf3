"""HTTP requests to `/mcp` that are wrong beside their body: each is answered, and the next good call is served."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.attacks.at_doors import Posted, opened
from tests.attacks.messages import call
from tests.gateways import ERAS, Site, site
from tests.stories.doors import AGENTS

HEADERS: tuple[dict[str, str], ...] = (
    {"content-type": "text/plain"},
    {"content-type": "application/x-www-form-urlencoded"},
    {"content-type": "multipart/form-data; boundary=x"},
    {"accept": "text/html"},
    {"accept": "application/json;q=0"},
    {"content-encoding": "gzip"},
    {"content-encoding": "identity, br"},
)
"""What is said of a good message that is not so."""

METHODS = ("PUT", "PATCH", "OPTIONS", "HEAD", "TRACE", "PROPFIND")


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Site]:
    """One gateway in front of the sandbox."""
    options: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}}
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name, site(Path(name), **options) as made:
        await made.start()
        yield made


@pytest.mark.parametrize("era", ERAS)
async def test_a_request_of_another_kind_is_refused_with_a_status_that_says_so(place: Site, era: str) -> None:
    """Another method, body or form of answer than the protocol has: never a 5xx, never a call, never a lost client."""
    frame = call("{}", name='"hitl_status"').replace(b"@META@", b"")
    async with opened(place, "http", era) as way:
        assert isinstance(way, Posted)
        answers: list[tuple[str, httpx2.Response]] = []
        for header in HEADERS:
            answers.append((str(header), await way.http.post("/mcp", content=frame, headers=header)))
        for method in METHODS:
            answers.append((method, await way.http.request(method, "/mcp", content=frame)))
        assert [(what, answer.status_code) for what, answer in answers if not 400 <= answer.status_code < 500] == []
        assert "result" in await way.call("hitl_status", {})
