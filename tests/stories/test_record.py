"""The record as its operator sees it: verified, exported, backed up, restored and resolved through the commands."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import anyio
import anyio.to_thread
import pytest

from tests.gateways import OUTSIDE, Site
from tests.stories.test_crashes import wait_for_effects
from tests.upstream_programs import effects, let_go

REPORT_BROKEN, CANNOT_TELL = 1, 3


async def run(site: Site, *arguments: str) -> CompletedProcess[str]:
    """Run a command of ours."""
    return await anyio.to_thread.run_sync(lambda: site.run(*arguments))


def intrude(site: Site, statement: str) -> None:
    """Change the database as somebody would who can write the file, but is not the gateway."""
    with closing(sqlite3.connect(site.state.file("hitl.db"), isolation_level=None)) as intruder:
        intruder.execute(statement)


async def held(site: Site) -> str:
    """A call that the sandbox's policy holds."""
    async with site.agent() as agent:
        answer = await agent.call_tool("sandbox__send_mail", OUTSIDE)
    return str((answer.structured_content or {})["call_id"])


async def test_the_record_is_verified_with_the_gateway_running_and_without(sandbox_site: Site) -> None:
    """Fine both ways, up to a signed event; the report can be read by programs, too."""
    await sandbox_site.start()
    await held(sandbox_site)
    running = await run(sandbox_site, "audit", "verify", "--json")
    report = json.loads(running.stdout)
    assert (running.returncode, report["answer"], report["findings"], report["unsigned"]) == (0, "fine", [], 0)
    await sandbox_site.stop()
    stopped = await run(sandbox_site, "audit", "verify")
    assert (stopped.returncode, stopped.stdout.startswith("fine: ")) == (0, True), stopped.stdout + stopped.stderr


@pytest.mark.promise("R3")
async def test_a_call_that_was_edited_in_the_database_does_not_run_and_is_reported(sandbox_site: Site) -> None:
    """Held for two people, edited to need one: approving it runs nothing; status, health and verify say tampering."""
    await sandbox_site.start()
    call_id = await held(sandbox_site)
    intrude(sandbox_site, "UPDATE calls SET decision_json = replace(decision_json, 'leaves', 'stays in')")
    async with sandbox_site.reviewer() as dana, sandbox_site.control() as control:
        refused = await dana.decide(await dana.call(call_id))
        assert (refused.status_code, refused.json()["error"]["status"]) == (409, "invalidated")
        after = await dana.call(call_id)
        health = (await control.get("/healthz")).json()
    assert after["closed_reason"] == "its record was changed outside the gateway: its seal does not fit"
    assert sandbox_site.effects() == []
    assert "changed outside the gateway" in health["warning"]
    status = await run(sandbox_site, "status")
    assert (status.returncode, "TAMPERING" in status.stdout, call_id in status.stdout) == (1, True, True)
    verified = await run(sandbox_site, "audit", "verify")
    assert (verified.returncode, f"call `{call_id}`: its decision was changed" in verified.stdout) == (1, True)


async def test_what_was_edited_while_the_gateway_was_stopped_is_found_at_its_start(sandbox_site: Site) -> None:
    """An approval written into the stopped database approves nothing."""
    await sandbox_site.start()
    call_id = await held(sandbox_site)
    await sandbox_site.stop()
    intrude(
        sandbox_site,
        "UPDATE calls SET status = 'approved', version = 2, run_by = '2099-01-01T00:00:00.000000Z'",
    )
    await sandbox_site.start()
    async with sandbox_site.reviewer() as dana:
        assert (await dana.call(call_id))["status"] == "invalidated"
    assert sandbox_site.effects() == []


def database_files(site: Site) -> list[Path]:
    """The database as it lies on the disk, with its log."""
    return sorted(Path(site.state.path).glob("hitl.db*"))


@pytest.mark.promise("R3")
async def test_a_database_that_was_rolled_back_runs_nothing_twice_and_is_reported(
    slow_site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Approved and waiting for its upstream, copied, run; the copy put back in its place: page and CLI say so."""
    site, older = slow_site, tmp_path_factory.mktemp("older")
    await site.start()
    async with site.agent() as agent:
        call_id = ((await agent.call_tool("slow__slow", {"what": "pay"})).structured_content or {})["call_id"]
    await site.stop()
    for file in database_files(site):
        shutil.copy(file, older)
    await site.start()
    async with site.reviewer() as dana:
        await dana.approve(await dana.call(call_id))
        await wait_for_effects(site, ["pay"])
        await dana.until(call_id, "running")
    await site.kill()
    let_go(site.folder)
    for file in database_files(site):
        file.unlink()
    for file in older.iterdir():
        shutil.copy(file, site.state.path)
    await site.start()
    async with site.reviewer() as dana, site.control() as control:
        after = await dana.call(call_id)
        assert (after["status"], (await dana.decide(after)).status_code) == ("invalidated", 409)
        assert after["closed_reason"].startswith("the record was rolled back or rewritten outside the gateway")
        assert "TAMPERING: the record is not as" in (await control.get("/healthz")).json()["warning"]
    status = await run(site, "status")
    assert (status.returncode, "TAMPERING: the record is not as" in status.stdout) == (1, True), status.stdout
    assert "was signed at" in status.stdout
    assert (await run(site, "audit", "verify")).returncode == REPORT_BROKEN
    assert effects(site.folder) == ["pay"]


async def test_lost_checkpoints_leave_in_doubt_and_stop_nothing(sandbox_site: Site) -> None:
    """The file is gone: status says that nobody can tell; what is held can still be approved and runs."""
    await sandbox_site.start()
    call_id = await held(sandbox_site)
    await run(sandbox_site, "audit", "verify")
    await sandbox_site.stop()
    Path(sandbox_site.state.file("checkpoints.jsonl")).unlink()
    await sandbox_site.start()
    status = await run(sandbox_site, "status")
    assert (status.returncode, "CANNOT TELL: " in status.stdout) == (0, True), status.stdout
    assert "nobody can tell whether the record was rolled back" in status.stdout
    async with sandbox_site.reviewer() as dana:
        await dana.approve(await dana.call(call_id))
        await dana.until(call_id, "succeeded")


async def test_an_export_and_a_backup_can_be_verified_anywhere(sandbox_site: Site, tmp_path: Path) -> None:
    """What lies beside a backup proves it; cut or changed it is broken; alone, nobody can tell where it ended."""
    await sandbox_site.start()
    await held(sandbox_site)
    backup, export = tmp_path / "monday.db", tmp_path / "monday.jsonl"
    made = await run(sandbox_site, "backup", str(backup))
    assert made.returncode == 0, made.stderr
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert (await run(sandbox_site, "audit", "verify", str(backup))).returncode == 0
    again = await run(sandbox_site, "backup", str(backup))
    assert (again.returncode, "not overwritten" in again.stderr) == (1, True), again.stderr
    assert (await run(sandbox_site, "audit", "export", "-o", str(export))).returncode == 0
    proof = ("--checkpoints", f"{backup}.checkpoints", "--public-key", f"{backup}.pub")
    assert (await run(sandbox_site, "audit", "verify", str(export), *proof)).returncode == 0
    assert (await run(sandbox_site, "audit", "verify", str(export))).returncode == CANNOT_TELL
    lines = export.read_text(encoding="utf-8").splitlines(keepends=True)
    export.write_text("".join(lines[:-1]), encoding="utf-8")
    assert (await run(sandbox_site, "audit", "verify", str(export), *proof)).returncode == REPORT_BROKEN
    with closing(sqlite3.connect(backup, isolation_level=None)) as intruder:
        intruder.execute("UPDATE calls SET agent = 'someone'")
    assert (await run(sandbox_site, "audit", "verify", str(backup))).returncode == REPORT_BROKEN
    await sandbox_site.stop()
    refused = await run(sandbox_site, "restore", "--yes", str(backup))
    assert (refused.returncode, "was changed since it was made" in refused.stderr) == (2, True), refused.stderr


@pytest.mark.promise("R3")
async def test_a_restore_brings_the_record_back_and_lets_nothing_run_twice(sandbox_site: Site, tmp_path: Path) -> None:
    """Held in the backup, then approved and run: after the restore it can be neither approved nor run again."""
    await sandbox_site.start()
    call_id = await held(sandbox_site)
    backup = tmp_path / "monday.db"
    await run(sandbox_site, "backup", str(backup))
    async with sandbox_site.reviewer() as dana:
        await dana.approve(await dana.call(call_id))
        await dana.until(call_id, "succeeded")
    while_running = await run(sandbox_site, "restore", "--yes", str(backup))
    assert (while_running.returncode, "is running" in while_running.stderr) == (2, True)
    await sandbox_site.stop()
    restored = await run(sandbox_site, "restore", "--yes", str(backup))
    assert restored.returncode == 0, restored.stderr
    assert "1 calls were held or approved in it" in restored.stdout
    assert list(Path(sandbox_site.state.path).glob("hitl.db.before-*"))
    await sandbox_site.start()
    async with sandbox_site.reviewer() as dana:
        after = await dana.call(call_id)
        assert (after["status"], (await dana.decide(after)).status_code) == ("invalidated", 409)
    assert sandbox_site.effects() == [("send_mail", OUTSIDE)]
    assert (await run(sandbox_site, "audit", "verify")).returncode == 0
    status = await run(sandbox_site, "status")
    assert (status.returncode, "TAMPERING" in status.stdout, "CANNOT TELL" in status.stdout) == (0, False, False)


@pytest.mark.promise("R5")
async def test_a_person_settles_a_call_of_unknown_outcome_and_the_agent_is_told(slow_site: Site) -> None:
    """Killed while it ran: `resolve` with evidence makes it succeeded; only once, and only with evidence."""
    await slow_site.start()
    async with slow_site.agent() as agent:
        call_id = ((await agent.call_tool("slow__slow", {"what": "pay"})).structured_content or {})["call_id"]
    async with slow_site.reviewer() as dana:
        await dana.approve(await dana.call(call_id))
        await wait_for_effects(slow_site, ["pay"])
    await slow_site.kill()
    let_go(slow_site.folder)
    await slow_site.start()
    blank = await run(slow_site, "resolve", call_id, "--happened", "--evidence", " ")
    assert (blank.returncode, "say how you know" in blank.stderr) == (2, True)
    resolved = await run(slow_site, "resolve", call_id, "--happened", "--evidence", "receipt 7 is there")
    assert (resolved.returncode, resolved.stdout) == (0, f"{call_id}: succeeded\n")
    late = await run(slow_site, "resolve", call_id, "--did-not", "--evidence", "no")
    assert (late.returncode, "it ran and succeeded" in late.stderr) == (1, True)
    async with slow_site.agent() as agent:
        told = await agent.call_tool("hitl_status", {"call_id": call_id})
        again = await agent.call_tool("slow__slow", {"what": "pay"})
    text = told.content[0].text  # type: ignore[union-attr]
    assert text.startswith(f"EXECUTED: {call_id} was sent once, and it happened, as local found: receipt 7 is there.")
    assert (again.structured_content or {})["call_id"] == call_id
    assert effects(slow_site.folder) == ["pay"]
