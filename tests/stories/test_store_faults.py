"""When the record cannot be written nothing runs, everyone is told why, and work goes on once it can be again.

Faults that a machine can really have: limits set on the gateway's own process, and another program's lock.
"""

from __future__ import annotations

import resource
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx2
import pytest
from mcp import Client

from hitl_mcp.calls import Status
from tests.faults.limits import limited, locked_by_another, open_files
from tests.gateways import OUTSIDE, WAIT_SECONDS, Site
from tests.houses import house
from tests.upstream_programs import effects, let_go

CROWD = 50
"""More connections than descriptors are free below the highest one in use, fewer than a listening socket queues."""

INBOX = {"folder": "inbox"}


async def is_refused(agent: Client, why: str) -> None:
    """Neither a call that runs nor one that is held is taken, and the agent is told that nothing was executed."""
    for name, arguments in (("sandbox__send_mail", OUTSIDE), ("sandbox__list_mail", INBOX)):
        answer = await agent.call_tool(name, arguments)
        assert answer.is_error
        said = answer.content[0].text  # type: ignore[union-attr]
        assert said.startswith("NOT EXECUTED: the record cannot be written")
        assert why in said


async def says_why(site: Site, control: httpx2.AsyncClient, why: str) -> dict[str, Any]:
    """Health, `hitl-mcp status` and its JSON say what is wrong; returns what the status says of the record."""
    health = await control.get("/healthz")
    assert (health.status_code, health.json()["ok"]) == (503, False)
    assert why in health.json()["why"]
    status = await anyio.to_thread.run_sync(lambda: site.run("status"))
    assert (status.returncode, f"THE RECORD CANNOT BE WRITTEN: {why}" in status.stdout) == (1, True)
    assert "help: " in status.stdout
    trouble: dict[str, Any] = (await control.get("/api/status")).json()["store"]["trouble"]
    return trouble


async def is_well(control: httpx2.AsyncClient) -> None:
    """Health says so by itself, though nobody writes."""
    with anyio.fail_after(WAIT_SECONDS):
        while (await control.get("/healthz")).status_code != 200:
            await anyio.sleep(0)


@pytest.mark.promise("R4")
async def test_if_the_record_cannot_be_written_the_call_is_refused(sandbox_site: Site) -> None:
    """No file may grow any further: calls are refused, everyone is told, and work goes on when the limit is raised."""
    pid = (await sandbox_site.start())["pid"]
    async with sandbox_site.agent() as agent, sandbox_site.control() as control:
        assert not (await agent.call_tool("sandbox__list_mail", INBOX)).is_error
        log = Path(sandbox_site.state.file("hitl.db-wal"))
        with limited(resource.RLIMIT_FSIZE, log.stat().st_size, pid):
            await is_refused(agent, "a limit on the size of files is reached")
            trouble = await says_why(sandbox_site, control, "a limit on the size of files is reached")
            assert (trouble["kind"], trouble["passes"]) == ("file-size", True)
        assert sandbox_site.effects() == []
        await is_well(control)
        after = await agent.call_tool("sandbox__send_mail", OUTSIDE)
        assert (after.structured_content or {})["status"] == "held"
    async with sandbox_site.reviewer() as dana:
        assert [call["name"] for call in await dana.calls(status="held")] == ["sandbox__send_mail"]


async def test_while_another_program_locks_the_record_calls_are_refused(sandbox_site: Site) -> None:
    """The status names the program; an approval is refused and counts for nothing; all goes on without the lock."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.control() as control, sandbox_site.reviewer() as dana:
        held = await agent.call_tool("sandbox__send_mail", OUTSIDE)
        call = await dana.call((held.structured_content or {})["call_id"])
        with locked_by_another(Path(sandbox_site.state.file("hitl.db"))) as pid:
            await is_refused(agent, "another program has locked the database")
            answer = await dana.decide(call)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
            trouble = await says_why(sandbox_site, control, "another program has locked the database")
            if Path("/proc/locks").exists():
                assert f"(pid {pid})" in trouble["help"]
            assert (await dana.call(call["id"]))["status"] == "held"
        assert sandbox_site.effects() == []
        await is_well(control)
        await dana.approve(await dana.call(call["id"]))
        await dana.until(call["id"], "succeeded")
    assert sandbox_site.effects() == [("send_mail", OUTSIDE)]


@contextmanager
def crowd(url: str) -> Iterator[None]:
    """So many connections to the page that they take every descriptor that was free."""
    parts = urlsplit(url)
    with ExitStack() as connections:
        for _ in range(CROWD):
            connections.enter_context(socket.create_connection((parts.hostname, parts.port), timeout=WAIT_SECONDS))
        yield


async def test_a_gateway_without_free_descriptors_serves_who_is_there_and_recovers(sandbox_site: Site) -> None:
    """Nobody new gets in while none is free; who is connected works on, the gateway lives, and others come later."""
    gateway = await sandbox_site.start()
    async with sandbox_site.agent() as agent:
        assert not (await agent.call_tool("sandbox__list_mail", INBOX)).is_error
        with limited(resource.RLIMIT_NOFILE, open_files(gateway["pid"]), gateway["pid"]), crowd(gateway["url"]):
            with pytest.raises(httpx2.TransportError):
                async with httpx2.AsyncClient(timeout=0.5) as stranger:
                    await stranger.get(f"{gateway['url']}/healthz")
            with anyio.fail_after(WAIT_SECONDS):
                while "the policy files cannot be looked at" not in sandbox_site.log():
                    await anyio.sleep(0)
            assert not (await agent.call_tool("sandbox__list_mail", INBOX)).is_error
            held = await agent.call_tool("sandbox__send_mail", OUTSIDE)
            assert (held.structured_content or {})["status"] == "held"
    running = sandbox_site.state.read_gateway()
    assert running is not None
    assert running.pid == gateway["pid"]
    async with sandbox_site.agent("second") as second, sandbox_site.control() as control:
        assert not (await second.call_tool("sandbox__list_mail", INBOX)).is_error
        await is_well(control)


def impatient(path: Path) -> sqlite3.Connection:
    """A connection that waits for no lock, so that the test does not either."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
    connection.row_factory = sqlite3.Row
    return connection


async def test_a_call_that_ended_while_nothing_could_be_written_is_settled_later(tmp_path: Path) -> None:
    """Whoever asked is told at once how it ended; the record follows when the lock is gone, without a restart."""
    async with house(tmp_path, connect=impatient) as place:
        run = await place.ask("slow", what="free")
        with anyio.fail_after(WAIT_SECONDS):
            while effects(tmp_path) != ["free"]:
                await anyio.sleep(0)
            with locked_by_another(tmp_path / "hitl.db"):
                let_go(tmp_path)
                await run.finished.wait()
                assert run.record is not None
                assert (run.outcome is not None and run.outcome.status) is Status.SUCCEEDED
                assert (await place.store.get(run.record.id)).status is Status.RUNNING
        assert (await place.settled(run.record.id)).status is Status.SUCCEEDED
        assert place.store.trouble is None
