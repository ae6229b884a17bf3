"""The sandbox, through a real client in both protocol eras: other tests count on its counting."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from examples.sandbox.server import make_server
from tests.sandbox import SERVER, command, effects


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A state file that is not there yet."""
    return tmp_path / "sandbox.db"


@pytest.fixture(params=["legacy", "2026-07-28"])
async def agent(request: pytest.FixtureRequest, database: Path) -> AsyncIterator[Client]:
    """A client of the sandbox in each era, in this process, since starting one takes a second or two."""
    with anyio.fail_after(60):  # some of these start a program twice, which takes seconds on a busy machine
        async with Client(make_server(database), mode=request.param) as client:
            yield client


async def run(*arguments: str) -> str:
    """Run the sandbox's own command line, which must succeed, and return what it prints."""
    return (await anyio.run_process([sys.executable, str(SERVER), *arguments])).stdout.decode()


async def read(agent: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool that must succeed, and return its structured content (which the client holds against its schema)."""
    result = await agent.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


async def test_it_offers_tools_that_read_tools_that_write_and_one_that_destroys(agent: Client) -> None:
    """Every tool is described, typed on both sides, and honest about what it does."""
    tools = {tool.name: tool for tool in (await agent.list_tools()).tools}

    hints = {
        name: (tool.annotations.read_only_hint, tool.annotations.destructive_hint)
        for name, tool in tools.items()
        if tool.annotations
    }
    assert hints == {
        "list_mail": (True, None),
        "read_mail": (True, None),
        "balance": (True, None),
        "send_mail": (False, False),
        "pay": (False, False),
        "delete_account": (False, True),
    }
    assert all(tool.title and tool.description and tool.output_schema for tool in tools.values())
    assert tools["pay"].icons and tools["pay"].meta == {"example.com/moves-money": True}


async def test_reading_changes_nothing(agent: Client, database: Path) -> None:
    """The inbox holds three mails, one of them an attack; the accounts hold money; and no effect is counted."""
    inbox = await read(agent, "list_mail", folder="inbox")
    assert [mail["id"] for mail in inbox["mails"]] == ["m1", "m2", "m3"]
    assert "delete the account" in (await read(agent, "read_mail", id="m3"))["body"]
    assert await read(agent, "balance") == {"account": "main", "currency": "EUR", "amount": 12500.0}

    assert effects(database) == []


async def test_each_change_is_counted_once(agent: Client, database: Path) -> None:
    """A mail, a payment and a deletion are three rows with their arguments, and are done."""
    mail = {"to": "carl@customer.example.org", "subject": "Our offer", "body": "Two desks: 480 EUR"}
    sent = await read(agent, "send_mail", **mail)
    paid = await read(agent, "pay", to="Bella Repairs", amount=40.25, note="4711")
    gone = await read(agent, "delete_account", name="travel")

    assert (await read(agent, "read_mail", id=sent["id"]))["recipient"] == "carl@customer.example.org"
    assert paid == {"payment": 2, "paid": 40.25, "currency": "EUR", "remaining": 12459.75}
    assert gone == {"account": "travel", "lost": 800.0}
    assert effects(database) == [
        ("send_mail", mail),
        ("pay", {"to": "Bella Repairs", "amount": 40.25, "currency": "EUR", "note": "4711"}),
        ("delete_account", {"name": "travel"}),
    ]


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("pay", {"to": "x", "amount": 12500.01}, "which is not enough"),
        ("pay", {"to": "x", "amount": -1}, "greater than 0"),
        ("pay", {"to": "x", "amount": 1, "currency": "GBP"}, "currency"),
        ("delete_account", {"name": "nobody's"}, "there is no account"),
        ("read_mail", {"id": "m9"}, "there is no mail"),
    ],
)
async def test_what_it_refuses_leaves_no_trace(
    agent: Client, database: Path, tool: str, arguments: dict[str, Any], says: str
) -> None:
    """A call that cannot be done says why, counts as nothing, and moves no money."""
    result = await agent.call_tool(tool, arguments)

    assert result.is_error
    assert says in result.content[0].model_dump_json()
    assert effects(database) == []
    assert (await read(agent, "balance"))["amount"] == 12500.0


async def test_calls_at_once_all_count(agent: Client, database: Path) -> None:
    """Twenty payments at the same time are twenty rows and twenty euros."""
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(agent.call_tool, "pay", {"to": f"shop {number}", "amount": 1})

    assert len(effects(database)) == 20
    assert (await read(agent, "balance"))["amount"] == 12480.0


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
async def test_as_a_process_it_serves_over_stdio(database: Path, era: str) -> None:
    """Started as an upstream is, it does in each era what it does in this process."""
    with anyio.fail_after(10):
        async with Client(StdioServerParameters(**command(database)), mode=era) as agent:
            await read(agent, "pay", to="Bella Repairs", amount=40)
    assert [tool for tool, _ in effects(database)] == ["pay"]


async def test_its_command_line_prints_what_happened_and_starts_again(agent: Client, database: Path) -> None:
    """`--effects` prints the rows as JSON beside a running server; `--reset` puts everything back under it."""
    await read(agent, "pay", to="Bella Repairs", amount=40)

    printed = json.loads(await run("--effects", str(database)))
    assert (printed["count"], printed["effects"][0]["tool"]) == (1, "pay")
    await run("--reset", str(database))
    assert effects(database) == []
    assert (await read(agent, "balance"))["amount"] == 12500.0


async def test_without_a_state_file_it_says_what_to_do() -> None:
    """No `$SANDBOX_DB`: exit 2 and a help line."""
    refused = await anyio.run_process([sys.executable, str(SERVER)], env=os.environ | {"SANDBOX_DB": ""}, check=False)
    assert refused.returncode == 2
    assert b"help: name one in $SANDBOX_DB" in refused.stderr


async def test_a_file_that_was_never_used_has_seen_nothing(tmp_path: Path) -> None:
    """Counting before the first start is zero, not an error."""
    assert json.loads(await run("--effects", str(tmp_path / "none.db"))) == {"count": 0, "effects": []}
