"""`grants list`, `give` and `revoke` as the one reviewer of a machine uses them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from tests.gateways import Site, site
from tests.terminals import Shown, on_terminal
from tests.upstream_programs import effects, slow_upstream

POLICY = {
    "version": 1,
    "rules": [{"id": "pays", "tool": "slow__pay", "effect": "hold", "grantable": True, "reason": "money leaves"}],
}
SMALL = ("--when", "/amount", "at_most", "10", "--when", "/currency", "equals", "EUR")


@pytest.fixture(scope="module")
async def till() -> AsyncIterator[Site]:
    """A gateway with the one reviewer `local`."""
    folder = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))
    with site(folder, POLICY, upstreams={"slow": slow_upstream(folder)}, reviewers={}) as made:
        await made.start()
        yield made
    shutil.rmtree(folder)


async def run(till: Site, *arguments: str) -> tuple[int, str, str]:
    """A command without a terminal."""
    done = await anyio.to_thread.run_sync(lambda: till.run(*arguments))
    return done.returncode, done.stdout, done.stderr


async def terminal(till: Site, *arguments: str, answer: str = "") -> Shown:
    """A command on a terminal."""
    return await anyio.to_thread.run_sync(partial(on_terminal, till, *arguments, answer=answer, columns=120))


async def pay(till: Site, amount: int) -> dict[str, Any]:
    """What the agent is told of a payment."""
    async with till.agent() as agent:
        return (await agent.call_tool("slow__pay", {"amount": amount, "currency": "EUR"})).structured_content or {}


async def test_a_grant_is_given_on_a_terminal_after_the_call_was_shown(till: Site) -> None:
    """The call, the conditions in words and what they would have matched; no means nothing is given."""
    held = (await pay(till, 1))["call_id"]
    await pay(till, 50)
    shown = await terminal(till, "grants", "give", held, *SMALL, "--uses", "2", answer="n\n")
    assert shown.code == 1
    for text in ("money leaves", "/amount is at most 10", "matched 1 of the last 2 calls", "not given"):
        assert text in shown.text
    assert (await run(till, "grants", "list"))[1] == "there is no grant: every held call waits for people\n"
    given = await terminal(till, "grants", "give", held, *SMALL, "--uses", "2", "--approve", answer="y\n")
    assert given.code == 0 and "0/2" in given.text
    assert "status" not in await pay(till, 2)
    assert sorted(effects(till.folder)) == ["1 EUR", "2 EUR"]
    code, text, _ = await run(till, "grants", "list", "--json")
    (grant,) = json.loads(text)["grants"]
    assert (code, grant["used"], grant["given_by"], grant["assurance"]) == (0, 1, "local", "cli")
    assert (await run(till, "grants", "revoke", grant["id"], "--reason", "done"))[1] == f"{grant['id']}: revoked\n"
    assert "ended: `local` revoked it: done" in (await run(till, "grants", "list", "--ended"))[1]
    assert (await pay(till, 3))["status"] == "held"


async def test_without_a_terminal_the_digest_is_named(till: Site) -> None:
    """Misuse is 2; terms that cannot be are 2, too; with the digest it is given."""
    held = (await pay(till, 4))["call_id"]
    code, _, error = await run(till, "grants", "give", held, *SMALL)
    assert (code, "there is no terminal to ask on" in error) == (2, True)
    code, _, error = await run(till, "grants", "give", held, *SMALL, "--yes")
    assert (code, "--yes needs --digest" in error) == (2, True)
    call = json.loads((await run(till, "show", held, "--json"))[1])
    by_digest = ("--yes", "--digest", call["digest"], "--json")
    code, _, error = await run(till, "grants", "give", held, "--when", "/amount", "at_most", "1", *by_digest)
    assert (code, "the very call" in error) == (2, True)
    code, text, _ = await run(till, "grants", "give", held, *SMALL, *by_digest)
    assert (code, json.loads(text)["state"]) == (0, "live")
