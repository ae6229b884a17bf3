"""A server that others wrote, as people configure it."""

from __future__ import annotations

import sys

from hitl_mcp.config import UpstreamConfig
from tests.upstreams.stage import a_call, running


async def test_the_time_server_from_pypi_tells_the_time() -> None:
    """`mcp-server-time` over stdio: its tools are listed as it writes them, and it answers."""
    config = UpstreamConfig("clock", command=sys.executable, args=("-m", "mcp_server_time", "--local-timezone", "UTC"))
    async with running(config) as upstreams:
        clock = upstreams.all()[0]
        assert clock.state == "ready", clock.detail
        assert {tool["name"] for tool in clock.tools} == {"get_current_time", "convert_time"}
        result = await clock.send(a_call("get_current_time", '{"timezone":"Europe/Warsaw"}'))
        assert "Europe/Warsaw" in result["content"][0]["text"]
