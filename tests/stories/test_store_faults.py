"""When the record cannot be written, nothing runs: shown with a real limit on the gateway's own file sizes."""

from __future__ import annotations

import resource
from pathlib import Path

import anyio.to_thread
import pytest

from tests.gateways import OUTSIDE, Site


@pytest.mark.promise("R4")
async def test_if_the_record_cannot_be_written_the_call_is_refused(sandbox_site: Site) -> None:
    """The disk takes no more: calls are refused as NOT EXECUTED, health and status say why, and nothing is sent."""
    await sandbox_site.start()
    running = sandbox_site.state.read_gateway()
    assert running is not None
    async with sandbox_site.agent() as agent, sandbox_site.control() as control:
        assert not (await agent.call_tool("sandbox__list_mail", {"folder": "inbox"})).is_error
        log = Path(sandbox_site.state.file("hitl.db-wal"))
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, log.stat().st_size))
        held = await agent.call_tool("sandbox__send_mail", OUTSIDE)
        read = await agent.call_tool("sandbox__list_mail", {"folder": "inbox"})
        for refused in (held, read):
            assert refused.is_error
            said = refused.content[0].text  # type: ignore[union-attr]
            assert said.startswith("NOT EXECUTED: the record cannot be written")
        health = await control.get("/healthz")
        assert (health.status_code, health.json()["ok"]) == (503, False)
        status = await anyio.to_thread.run_sync(lambda: sandbox_site.run("status"))
        assert (status.returncode, "THE RECORD CANNOT BE WRITTEN" in status.stdout) == (1, True)
    assert sandbox_site.effects() == []
    await sandbox_site.kill()
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana:
        after = await agent.call_tool("sandbox__send_mail", OUTSIDE)
        assert (after.structured_content or {})["status"] == "held"
        assert [call["name"] for call in await dana.calls(status="held")] == ["sandbox__send_mail"]
