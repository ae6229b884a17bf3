"""Which connection of an upstream a client's calls travel on, and how long it is kept."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION

from hitl_mcp.config import UpstreamConfig
from hitl_mcp.errors import NotSent, OutcomeUnknown
from hitl_mcp.secrets import Secrets
from hitl_mcp.upstreams import Asker, Question, Send, Upstream
from hitl_mcp.upstreams.connect import Connection, Way
from hitl_mcp.upstreams.ledger import Ledger
from hitl_mcp.upstreams.legs import Legs, Wanted
from tests.stories.servers import curious_server
from tests.stories.servers.curious_server import Curious, over_http
from tests.upstreams.stage import RAW_SERVER, gone, one, raw, serving, until

ROOT = Path(curious_server.__file__).resolve().parents[3]
FORMS: dict[str, Any] = {"elicitation": {"form": {}}}
ROOTS: dict[str, Any] = {"roots": {"listChanged": True}, "sampling": {}}

_ids = count(1)


def asker(is_modern: bool, capabilities: Mapping[str, Any] = FORMS) -> Asker:
    """A client of an era, which is not asked in these tests."""

    async def ask(questions: Mapping[str, Question]) -> dict[str, Any]:
        raise AssertionError(questions)

    async def tell(method: str, params: Mapping[str, Any]) -> None:
        raise AssertionError(method)

    return Asker(is_modern, capabilities, None, ask, tell)


def a_send(tool: str, of: Asker | None = None, conversation: str = "") -> Send:
    """A call without arguments."""
    return Send(f"l_{next(_ids)}", tool, "{}", conversation=conversation, asker=of)


async def seen_by(upstream: Upstream | Connection, of: Asker | None = None, conversation: str = "") -> dict[str, Any]:
    """What the upstream sees of a client that calls it: the revision, the capabilities, and over which connection."""
    send = a_send("client", of, conversation)
    result = await (upstream.send(send) if isinstance(upstream, Upstream) else upstream.call(send))
    seen: dict[str, Any] = json.loads(result["content"][0]["text"])
    return seen


def stdio(record: Path, *options: str, **more: Any) -> UpstreamConfig:
    """The curious server as a program."""
    args = (str(curious_server.__file__), "u", "--record", str(record), *options)
    return UpstreamConfig("u", command=sys.executable, args=args, env={"PYTHONPATH": str(ROOT)}, **more)


@asynccontextmanager
async def reached_over_http(era: str = "both", **more: Any) -> AsyncIterator[tuple[Curious, Upstream]]:
    """The curious server of an era behind uvicorn, and an upstream that reached it."""
    curious = Curious("u")
    with anyio.fail_after(30):
        async with (
            serving(over_http(curious, era)) as address,
            one(UpstreamConfig("u", url=f"{address}/mcp", **more)) as upstream,
        ):
            yield curious, upstream


# Which one a client gets.


@pytest.mark.parametrize("is_modern", [True, False], ids=["modern client", "legacy client"])
@pytest.mark.parametrize("era", ["both", "legacy", "modern"])
async def test_over_http_a_client_meets_its_own_era_and_its_own_capabilities(era: str, is_modern: bool) -> None:
    """Where the upstream knows that era at all; and it is told of exactly what this client can do, either way."""
    expected = LATEST_MODERN_VERSION if era == "modern" or (era == "both" and is_modern) else LATEST_HANDSHAKE_VERSION
    async with reached_over_http(era) as (_, upstream):
        for capabilities in (FORMS, ROOTS, {}):
            seen = await seen_by(upstream, asker(is_modern, capabilities))
            assert (seen["version"], seen["capabilities"]) == (expected, capabilities)
        assert (await seen_by(upstream, None))["capabilities"] == {}


async def test_a_program_of_both_eras_serves_all_clients_in_the_modern_one(tmp_path: Path) -> None:
    """One process: what it remembers must not depend on who asks. What each client can do comes with its call."""
    async with one(stdio(tmp_path / "record")) as upstream:
        first = await seen_by(upstream)
        for client in (asker(is_modern=True), asker(is_modern=False), asker(is_modern=True, capabilities=ROOTS)):
            expected = {**first, "version": LATEST_MODERN_VERSION, "capabilities": client.capabilities}
            assert await seen_by(upstream, client, "c") == expected


async def test_an_older_program_is_told_once_what_clients_may_be_able_to_do(tmp_path: Path) -> None:
    """In its handshake, for all of them; nobody's roots are among it."""
    async with one(stdio(tmp_path / "record", "--legacy")) as upstream:
        for is_modern in (True, False):
            seen = await seen_by(upstream, asker(is_modern, ROOTS), "c")
            assert seen["version"] == LATEST_HANDSHAKE_VERSION
            assert seen["capabilities"] == {"elicitation": {"form": {}, "url": {}}, "sampling": {}}


async def test_clients_that_can_do_the_same_share_a_connection_over_http() -> None:
    """What a connection is told once is all that tells them apart. But nobody shares one with somebody's roots."""
    async with reached_over_http("legacy") as (_, upstream):
        forms, again, roots, still, others = [
            (await seen_by(upstream, asker(is_modern=False, capabilities=capabilities), conversation))["connection"]
            for capabilities, conversation in ((FORMS, "a"), (FORMS, "b"), (ROOTS, "a"), (ROOTS, "a"), (ROOTS, "b"))
        ]
        alone = (await seen_by(upstream))["connection"]
    assert forms == again
    assert roots == still
    assert len({forms, roots, others, alone}) == 4


# One for each conversation.


async def test_with_isolation_each_conversation_has_a_process_of_its_own() -> None:
    """Shared by its calls, also by those that run when nobody waits any more."""
    async with one(raw("u", isolation="session")) as upstream:
        a, again, b = [await pid_of(upstream, conversation) for conversation in ("a", "a", "b")]
        unattended = (await upstream.send(a_send("pid", None, "a")))["structuredContent"]["pid"]
        nobodys = (await upstream.send(a_send("pid")))["structuredContent"]["pid"]
        assert a == again == unattended
        assert len({a, b, nobodys}) == 3


@pytest.mark.parametrize("era", ["both", "legacy"])
async def test_with_isolation_each_conversation_has_a_connection_that_knows_its_client(era: str) -> None:
    """Its roots too: they are given to nobody else's."""
    async with reached_over_http(era, isolation="session") as (_, upstream):
        client = asker(is_modern=False, capabilities=ROOTS)
        a, again, b = [await seen_by(upstream, client, conversation) for conversation in ("a", "a", "b")]
        assert a == again
        assert a["connection"] != b["connection"]
        assert a["capabilities"] == b["capabilities"] == ROOTS


async def test_a_program_that_ended_is_started_anew_for_its_conversation() -> None:
    """It costs the conversation what the program remembered, and others nothing."""
    async with one(raw("u", isolation="session")) as upstream:
        pids = [await pid_of(upstream, conversation) for conversation in ("a", "b")]
        with pytest.raises(OutcomeUnknown):
            await upstream.send(a_send("half", asker(is_modern=False), "a"))
        await gone(pids[0])
        assert upstream.state == "ready"
        assert await pid_of(upstream, "a") not in pids
        assert await pid_of(upstream, "b") == pids[1]


async def pid_of(upstream: Upstream, conversation: str) -> int:
    """The process that a conversation's calls reach."""
    result = await upstream.send(a_send("pid", asker(is_modern=False), conversation))
    return int(result["structuredContent"]["pid"])


async def test_a_connection_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    """And the next call tries again: nothing of it is kept."""
    program = tmp_path / "moody.py"
    program.write_text(RAW_SERVER.read_text(encoding="utf-8"), encoding="utf-8")
    config = UpstreamConfig("u", command=sys.executable, args=("-I", "-S", str(program)), isolation="session")
    async with one(config) as upstream:
        good = program.read_text(encoding="utf-8")
        program.write_text("import sys; sys.exit('out of order')", encoding="utf-8")
        for _ in range(2):
            send = a_send("pid", asker(is_modern=False), "a")
            with pytest.raises(NotSent, match="upstream `u` cannot be reached: "):
                await upstream.send(send)
            assert not upstream.has_sent(send.call_id)
        assert upstream.state == "ready"
        program.write_text(good, encoding="utf-8")
        assert await pid_of(upstream, "a") > 0


async def test_what_one_connection_hears_of_its_tools_is_looked_at_on_the_first() -> None:
    """An older server tells only the session that it works for; the list is everybody's."""
    async with reached_over_http("legacy") as (curious, upstream):
        before = len(upstream.tools)
        curious.names.append("new")
        await upstream.send(a_send("renews", asker(is_modern=False)))
        await until(upstream, lambda: len(upstream.tools) == before + 1)


# How many there are, and for how long.


@dataclass
class Heard:
    """What legs tell of their connections."""

    lost_ones: int = 0

    def lost(self, connection: Connection) -> None:
        self.lost_ones += 1

    def tools_changed(self, connection: Connection) -> None: ...
    def announced(self, method: str, params: dict[str, Any]) -> None: ...
    def unattributed(self) -> None: ...

    @property
    def log_level(self) -> str | None:
        return None


@asynccontextmanager
async def legs(*, at_most: int = 2, idle_seconds: float = 600) -> AsyncIterator[Legs]:
    """Connections with a plain program, within these limits."""
    way = Way(raw("u", isolation="session"), Secrets({}, Path("/")), Ledger(), Path.cwd(), None)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            yield Legs(way, Heard(), tasks, at_most=at_most, idle_seconds=idle_seconds)
            tasks.cancel_scope.cancel()


async def process_of(some: Legs, conversation: str) -> int:
    """The process of a conversation's connection, which is opened where there is none."""
    async with some.using(Wanted(conversation, is_modern=False)) as connection:
        result = await connection.call(a_send("pid"))
    return int(result["structuredContent"]["pid"])


async def test_one_that_is_not_used_for_a_while_is_closed() -> None:
    """Its process ends; the next call starts another."""
    async with legs(idle_seconds=0.01) as some:
        pid = await process_of(some, "a")
        await gone(pid)
        assert await process_of(some, "a") != pid


async def test_one_that_is_used_is_not_closed_however_long_it_takes() -> None:
    """Rest is counted from when the last one was done with it."""
    async with legs(idle_seconds=0.001) as some:
        async with some.using(Wanted("a", is_modern=False)) as connection:
            first = await connection.call(a_send("pid"))
            second = await connection.call(a_send("pid"))
        assert first["structuredContent"] == second["structuredContent"]
        await gone(first["structuredContent"]["pid"])


async def test_where_there_are_too_many_the_longest_unused_makes_room() -> None:
    """Never one that is in use."""
    async with legs() as some:
        pids = {name: await process_of(some, name) for name in ("a", "b")}
        assert await process_of(some, "a") == pids["a"]
        await process_of(some, "c")
        await gone(pids["b"])
        assert await process_of(some, "a") == pids["a"]


async def test_where_all_are_in_use_another_is_refused_and_can_come_later() -> None:
    """Nothing was sent, and it says why."""
    async with legs() as some:
        async with some.using(Wanted("a", is_modern=False)), some.using(Wanted("b", is_modern=False)):
            assert not await some.opens(Wanted("c", is_modern=False))
            with pytest.raises(NotSent, match="2 conversations use it already"):
                await process_of(some, "c")
        assert await process_of(some, "c") > 0


async def test_one_that_makes_room_takes_nothing_more() -> None:
    """A call that comes in the same moment is not put on a connection that is about to close."""
    async with legs(at_most=1) as some:
        pid = await process_of(some, "a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process_of, some, "b")
            again: list[int] = []

            async def come_again() -> None:
                with suppress(NotSent):
                    again.append(await process_of(some, "a"))

            tasks.start_soon(come_again)
        assert pid not in again


async def test_calls_of_one_conversation_wait_for_the_same_connection() -> None:
    """However many come while it is opened."""
    async with legs() as some:
        pids: list[int] = []

        async def call() -> None:
            pids.append(await process_of(some, "a"))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(call)
        assert len(pids) == 5
        assert len(set(pids)) == 1
