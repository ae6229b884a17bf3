"""Who starts what: bridges share one gateway per config, `stop` stays stopped, and nothing is left behind."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import anyio
import pytest
from mcp import MCPError

from tests.gateways import OUTSIDE, WAIT_SECONDS, Site, site


async def test_two_bridges_at_once_start_and_share_one_gateway(sandbox_site: Site) -> None:
    """No gateway runs; two agents come at the same moment; both work, and there is one gateway."""
    pids = []

    async def work(name: str) -> None:
        async with sandbox_site.agent(name) as agent:
            await agent.call_tool("sandbox__send_mail", {**OUTSIDE, "subject": name})
            running = sandbox_site.state.read_gateway()
            pids.append(running.pid if running else 0)

    async with anyio.create_task_group() as tasks:
        for name in ("one", "two"):
            tasks.start_soon(work, name)
    assert len(set(pids)) == 1
    async with sandbox_site.reviewer() as dana:
        assert {call["agent"] for call in await dana.calls(status="held")} == {"one", "two"}


async def test_two_configs_have_two_gateways(short_dir: Path, sandbox_site: Site) -> None:
    """Each config has its own process, database and calls."""
    other = short_dir / "other"
    other.mkdir(mode=0o700)
    with site(other) as second:
        await sandbox_site.start()
        await second.start()
        first_gateway, second_gateway = sandbox_site.state.read_gateway(), second.state.read_gateway()
        assert first_gateway is not None
        assert second_gateway is not None
        assert first_gateway.pid != second_gateway.pid
        async with second.agent() as agent:
            await agent.call_tool("sandbox__send_mail", OUTSIDE)
        async with sandbox_site.reviewer() as dana, second.reviewer() as erin:
            assert (await dana.calls(), len(await erin.calls())) == ([], 1)


async def test_a_stopped_gateway_is_not_started_again_by_an_agent(sandbox_site: Site) -> None:
    """After `hitl-mcp stop` an agent gets a clear error; after `serve` it works on over the same connection."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent:
        stopped = await anyio.to_thread.run_sync(lambda: sandbox_site.run("stop"))
        assert (stopped.returncode, stopped.stdout) == (0, "the gateway is stopped\n")
        with pytest.raises(MCPError, match="stopped"):
            await agent.call_tool("sandbox__list_mail", {"folder": "inbox"})
        assert not sandbox_site.state.gateway_is_running()
        await sandbox_site.start()
        assert not (await agent.call_tool("sandbox__list_mail", {"folder": "inbox"})).is_error


async def test_status_prints_what_serve_printed(sandbox_site: Site) -> None:
    """The same addresses, and how everything is; without a gateway it says so and exits with 1."""
    none = sandbox_site.run("status", "--json")
    assert (none.returncode, json.loads(none.stdout)["running"]) == (1, False)
    reached = await sandbox_site.start()
    status = await anyio.to_thread.run_sync(lambda: sandbox_site.run("status", "--json"))
    told = json.loads(status.stdout)
    assert {key: told[key] for key in reached} == reached
    assert set(reached) >= {"url", "mcp_url", "agent_socket", "control_socket", "pid"}


async def test_sockets_and_files_are_closed_to_others(sandbox_site: Site) -> None:
    """0700 and 0600, whatever the umask; wider, and the gateway refuses to start and names the fix."""
    reached = await sandbox_site.start()
    folder = Path(sandbox_site.state.path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in (reached["agent_socket"], reached["control_socket"], *map(str, folder.iterdir())):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, path
    await sandbox_site.stop()
    folder.chmod(0o750)
    refused = sandbox_site.run("serve")
    assert refused.returncode == 2
    assert "chmod 700" in refused.stderr
    assert not sandbox_site.state.read_gateway()


async def test_a_second_serve_is_refused_and_disturbs_nothing(sandbox_site: Site) -> None:
    """One gateway per config: the second says which process has it."""
    reached = await sandbox_site.start()
    second = await anyio.to_thread.run_sync(lambda: sandbox_site.run("serve"))
    assert second.returncode == 2
    assert str(reached["pid"]) in second.stderr
    async with sandbox_site.agent() as agent:
        assert not (await agent.call_tool("sandbox__list_mail", {"folder": "inbox"})).is_error


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda s: s.rewrite_policy(lambda p: p["rules"][0].update(effect="alow")), "did you mean `allow`?"),
        (lambda s: s.config.write_text(s.config.read_text().replace("upstreams:", "upstream:")), "upstreams"),
    ],
    ids=["policy", "config"],
)
async def test_an_error_in_a_file_starts_nothing(sandbox_site: Site, break_it: object, says: str) -> None:
    """File, line and column on stderr, exit 2, no gateway, no upstream, no state."""
    break_it(sandbox_site)  # type: ignore[operator]
    refused = sandbox_site.run("serve")
    assert refused.returncode == 2
    assert says in refused.stderr
    assert ".yaml:" in refused.stderr
    assert not Path(sandbox_site.state.path).exists()
    assert not (sandbox_site.folder / "sandbox.db").exists()


async def test_upstreams_die_with_a_killed_gateway(sandbox_site: Site) -> None:
    """No upstream outlives its gateway, however that ended."""
    await sandbox_site.start()
    running = sandbox_site.state.read_gateway()
    assert running is not None
    async with sandbox_site.agent() as agent:
        await agent.call_tool("sandbox__list_mail", {"folder": "inbox"})
    children = _children(running.pid)
    assert children
    await sandbox_site.kill()
    with anyio.fail_after(WAIT_SECONDS):
        while any(Path(f"/proc/{pid}").exists() and not _is_zombie(pid) for pid in children):
            await anyio.sleep(0)


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
