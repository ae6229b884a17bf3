"""What the suite is run against: the everything server itself, the same through the gate, and the gateway alone."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.conformance.everything import everything_server
from tests.conformance.front import front
from tests.gateways import site

KEY = "suite-key"

ALLOW_ALL: dict[str, Any] = {
    "version": 1,
    "default": "hold",
    "rules": [{"id": "all", "tool": "*", "effect": "allow", "reason": "this is a test of the protocol"}],
}

UPSTREAM = "sdk"

TARGETS = ("direct", "gate", "bare")


@asynccontextmanager
async def target(name: str, folder: Path) -> AsyncIterator[str]:
    """The URL to run the suite against: `direct`, `gate`, or `bare` for a gateway without upstreams."""
    if name == "bare":
        async with gateway_alone(folder) as url:
            yield url
        return
    async with everything_server(folder) as everything:
        if name == "direct":
            yield everything
            return
        async with through_the_gate(folder, everything) as url:
            yield url


@asynccontextmanager
async def through_the_gate(folder: Path, upstream_url: str) -> AsyncIterator[str]:
    """A gateway with this one upstream, which lets every call pass."""
    async with _gateway(folder, f"{UPSTREAM}__", {UPSTREAM: {"url": upstream_url}}) as url:
        yield url


@asynccontextmanager
async def gateway_alone(folder: Path) -> AsyncIterator[str]:
    """A gateway's own endpoint, with nothing behind it but the sandbox."""
    async with _gateway(folder, "") as url:
        yield url


@asynccontextmanager
async def _gateway(folder: Path, prefix: str, upstreams: dict[str, Any] | None = None) -> AsyncIterator[str]:
    config: dict[str, Any] = {"agents": {"suite": {"token": KEY}}, "http": {"enabled": True}}
    if upstreams is not None:
        config["upstreams"] = upstreams
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as state, site(Path(state), ALLOW_ALL, **config) as place:
        reached = await place.start()
        try:
            async with front(reached["mcp_url"], KEY, prefix) as url:
                yield url
        finally:
            await place.stop()
            (folder / "gateway.log").write_text(place.log(), encoding="utf-8")
