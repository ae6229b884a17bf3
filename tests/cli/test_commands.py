"""The command line as people use it: what it shows, what it asks, how it ends."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx2
import pytest

from tests.gateways import OUTSIDE, Site, site
from tests.terminals import Shown, on_terminal

HIDDEN = "pay \u202eevil\u202c \u200b\u0007now"
"""Text with a bidi override, a zero-width space and a bell."""


@pytest.fixture(scope="module")
async def office() -> AsyncIterator[Site]:
    """One gateway for the commands of this file; nobody configured, so `local` has every role."""
    folder = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))
    with site(folder, reviewers={}, policy=_one_person()) as made:
        await made.start()
        yield made
    shutil.rmtree(folder)


def _one_person() -> dict[str, Any]:
    rules = [
        {"id": "mail", "tool": "sandbox__send_mail", "effect": "hold", "reason": "it leaves the company"},
        {"id": "reads", "tool": "sandbox__list_mail", "effect": "allow", "reason": "reading"},
    ]
    return {"version": 1, "default": "hold", "rules": rules}


async def hold(office: Site, **arguments: str) -> str:
    """A mail that is held; returns its call id."""
    async with office.agent() as agent:
        held = await agent.call_tool("sandbox__send_mail", {**OUTSIDE, **arguments})
    return str((held.structured_content or {})["call_id"])


async def run(office: Site, *arguments: str) -> tuple[int, str, str]:
    """A command without a terminal."""
    done = await anyio.to_thread.run_sync(lambda: office.run(*arguments))
    return done.returncode, done.stdout, done.stderr


async def terminal(office: Site, *arguments: str, answer: str = "", columns: int = 100) -> Shown:
    """A command on a terminal."""
    return await anyio.to_thread.run_sync(partial(on_terminal, office, *arguments, answer=answer, columns=columns))


async def test_pending_lists_what_is_open(office: Site) -> None:
    """A row for people, JSON for programs, both with the id that the other commands take."""
    call_id = await hold(office, subject="listed")
    code, text, _ = await run(office, "pending")
    assert (code, call_id in text, "mail 0/1" in text) == (0, True, True)
    code, text, _ = await run(office, "pending", "--json")
    assert call_id in [call["id"] for call in json.loads(text)["calls"]]


async def test_show_prints_the_exact_arguments_with_nothing_hidden(office: Site) -> None:
    """Invisible characters are named; no control character reaches the terminal; JSON carries the exact bytes."""
    call_id = await hold(office, subject=HIDDEN)
    code, text, _ = await run(office, "show", call_id)
    assert code == 0
    assert "U+202E" in text
    assert "U+200B" in text
    assert "U+0007" in text
    assert not set(text) & set("\u202e\u200b\u0007\x1b")
    code, text, _ = await run(office, "show", call_id, "--json")
    assert json.loads(json.loads(text)["arguments_json"])["subject"] == HIDDEN


async def test_approving_shows_the_call_and_asks(office: Site) -> None:
    """On a terminal the call is shown whole; anything but yes leaves it held, yes runs it once."""
    call_id = await hold(office, subject="asked")
    before = len(office.effects())
    asked = await terminal(office, "approve", call_id, answer="n\n")
    assert (asked.code, "asked" in asked.text, "stays as it is" in asked.text) == (1, True, True)
    approved = await terminal(office, "approve", call_id, answer="y\n")
    assert (approved.code, f"{call_id}: approved" in approved.text) == (0, True)
    async with office.reviewer("local") as desk:
        await desk.until(call_id, "succeeded")
    assert len(office.effects()) == before + 1


async def test_approving_without_a_terminal_needs_the_digest(office: Site) -> None:
    """`--yes` alone is misuse; with the digest of other bytes nothing moves; with the right one it is approved."""
    call_id = await hold(office, subject="by digest")
    digest = json.loads((await run(office, "show", call_id, "--json"))[1])["digest"]
    assert (await run(office, "approve", call_id))[0] == 2
    code, _, error = await run(office, "approve", call_id, "--yes")
    assert (code, "--yes needs --digest" in error) == (2, True)
    code, _, error = await run(office, "approve", call_id, "--yes", "--digest", "sha256:" + "0" * 64)
    assert (code, "the digest is not the one this call has" in error) == (1, True)
    assert json.loads((await run(office, "show", call_id, "--json"))[1])["status"] == "held"
    assert (await run(office, "approve", call_id, "--yes", "--digest", digest))[0] == 0


async def test_what_does_not_fit_the_terminal_cannot_be_approved_there(office: Site) -> None:
    """A terminal too narrow to show the call whole is not asked on; the page is named instead."""
    call_id = await hold(office, subject="narrow")
    refused = await terminal(office, "approve", call_id, answer="y\n", columns=10)
    assert refused.code == 1
    assert "hitl-mcp review" in refused.text
    assert json.loads((await run(office, "show", call_id, "--json"))[1])["status"] == "held"


async def test_rejecting_carries_the_reason(office: Site) -> None:
    """The agent will read it; a second verdict is told that it came too late."""
    call_id = await hold(office, subject="rejected")
    code, text, _ = await run(office, "reject", call_id, "--reason", "wrong customer")
    assert (code, text) == (0, f"{call_id}: rejected\n")
    code, _, error = await run(office, "reject", call_id)
    assert (code, "it was rejected by `local`" in error) == (1, True)


async def test_an_unknown_id_is_a_finding_and_no_gateway_is_cannot_tell(office: Site, short_dir: Path) -> None:
    """Exit 1 for what is not there, 3 where nobody can be asked; both say what to do."""
    code, _, error = await run(office, "show", "c_nothing")
    assert (code, "no call has the id `c_nothing`" in error) == (1, True)
    with site(short_dir) as quiet:
        code, _, error = await run(quiet, "pending")
        assert (code, "start one with `hitl-mcp serve`" in error) == (3, True)


async def test_a_login_link_is_printed_to_a_terminal_only(office: Site) -> None:
    """A pipe gets none; a terminal gets one that works once, from the fragment, and is no cookie."""
    code, text, error = await run(office, "review", "--print-link")
    assert (code, "#login=" in text + error) == (1, False)
    shown = await terminal(office, "review", "--print-link", columns=300)
    found = re.search(r"(http://\S+)/#login=(\S+)", shown.text)
    assert found is not None
    async with httpx2.AsyncClient(base_url=found[1]) as http:
        first = await http.post("/api/login", json={"code": found[2]})
        second = await http.post("/api/login", json={"code": found[2]})
    assert (first.status_code, second.status_code) == (200, 401)
    assert "set-cookie" not in first.headers
    assert first.json()["reviewer"] == "local"


async def test_a_link_for_somebody_unknown_is_refused(office: Site) -> None:
    """Only configured reviewers sign in."""
    shown = await terminal(office, "review", "--for", "mallory", "--print-link")
    assert (shown.code, "`mallory` is not a reviewer" in shown.text) == (2, True)


async def test_pausing_and_resuming(office: Site) -> None:
    """Both say what they did, and `status` shows a pause."""
    assert (await run(office, "pause", "--reason", "incident"))[0] == 0
    code, text, _ = await run(office, "status")
    assert (code, "PAUSED by local" in text, "incident" in text) == (0, True, True)
    assert (await run(office, "resume"))[0] == 0
    assert "PAUSED" not in (await run(office, "status"))[1]


@pytest.mark.promise("R7")
async def test_the_doctor_finds_a_running_gateway_in_order(office: Site) -> None:
    """Nothing wrong: exit 0; what it cannot check it says as a note."""
    code, text, _ = await run(office, "doctor")
    assert code == 0, text
    assert "upstream sandbox: ready, 6 tools" in text
    assert "note same-user agents" in text


async def test_misuse_exits_with_two(office: Site) -> None:
    """An unknown command or option is misuse, said on stderr."""
    for arguments in (("nonsense",), ("pending", "--nonsense"), ("approve",)):
        assert (await run(office, *arguments))[0] == 2
