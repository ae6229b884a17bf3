"""The answer to a call that nobody waits for any more: it counts once, on the connection it was sent on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from hitl_mcp.config import UpstreamConfig
from hitl_mcp.errors import OutcomeUnknown, UpstreamRefused
from hitl_mcp.limits import LATE_ANSWERS
from hitl_mcp.upstreams import Send, Upstream
from hitl_mcp.upstreams.wire import Back, Exchange
from tests.upstreams.servers.raw_app import RawApp
from tests.upstreams.stage import a_call, lines, one, raw, serving, until


class Inbox:
    """The late answers that came."""

    def __init__(self) -> None:
        self.answers: list[dict[str, Any] | UpstreamRefused] = []
        self.filled = anyio.Event()

    def take(self, answer: dict[str, Any] | UpstreamRefused) -> None:
        self.answers.append(answer)
        self.filled.set()

    async def first(self) -> dict[str, Any]:
        """The first answer, a result."""
        with anyio.fail_after(10):
            await self.filled.wait()
        assert isinstance(self.answers[0], dict)
        return self.answers[0]


async def leave_waiting(upstream: Upstream, send: Send, arrived: anyio.Event | None = None) -> None:
    """Send a call and stop waiting for its answer once it left, or once it arrived."""
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(upstream.send, send)
            while not upstream.has_sent(send.call_id):
                await anyio.sleep(0)
            if arrived is not None:
                await arrived.wait()
            tasks.cancel_scope.cancel()


@pytest.mark.promise("R5")
async def test_the_late_answer_of_the_same_send_counts_once(tmp_path: Path) -> None:
    """It comes on the same connection; a second one is dropped, and the upstream was not told to stop."""
    inbox = Inbox()
    async with one(raw("raw", "--record", str(tmp_path / "calls"))) as upstream:
        await leave_waiting(upstream, a_call("silent", on_late=inbox.take))
        await upstream.send(a_call("release"))
        assert (await inbox.first())["structuredContent"] == {"late": "yes"}
    assert len(inbox.answers) == 1
    assert lines(tmp_path / "calls") == ["silent", "release"]


async def test_a_late_error_is_the_upstream_s_own_word() -> None:
    """It refused, late."""
    inbox = Inbox()
    async with one(raw("raw")) as upstream:
        await leave_waiting(upstream, a_call("silent", on_late=inbox.take))
        await upstream.send(a_call("release_errors"))
    assert [str(answer) for answer in inbox.answers] == ["no money"]


async def test_a_late_answer_that_cannot_be_used_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It was the one answer: what comes after it is dropped too."""
    inbox = Inbox()
    async with one(raw("raw")) as upstream:
        await leave_waiting(upstream, a_call("silent", on_late=inbox.take))
        await upstream.send(a_call("release_garbage"))
    assert inbox.answers == []
    assert "it was answered late, and upstream `raw` answered, but the answer cannot be used" in caplog.text


async def test_no_answer_is_late_on_another_connection() -> None:
    """What the upstream says after its restart answers nothing of before."""
    inbox = Inbox()
    async with one(raw("raw")) as upstream:
        await leave_waiting(upstream, a_call("silent", on_late=inbox.take))
        with pytest.raises(OutcomeUnknown):
            await upstream.send(a_call("half"))
        await until(upstream, lambda: upstream.state == "ready")
        await upstream.send(a_call("release"))
    assert inbox.answers == []


async def test_only_so_many_late_answers_are_listened_for(tmp_path: Path) -> None:
    """The oldest is given up then: the upstream is told, and what it still answers is dropped."""
    inbox = Inbox()
    async with one(raw("raw", "--record", str(tmp_path / "calls"))) as upstream:
        sends = [a_call("silent", on_late=inbox.take) for _ in range(LATE_ANSWERS + 1)]
        for send in sends:
            await leave_waiting(upstream, send)
        await upstream.send(a_call("release"))
    assert len(inbox.answers) == LATE_ANSWERS
    assert f"cancelled {sends[0].call_id}" in lines(tmp_path / "calls")


async def test_a_late_answer_over_http_counts() -> None:
    """The exchange goes on behind the wait; the upstream is told nothing, and the call is not sent again."""
    app, inbox = RawApp(), Inbox()
    async with serving(app.app) as address, one(UpstreamConfig("web", url=f"{address}/mcp")) as upstream:
        await leave_waiting(upstream, a_call("holds", on_late=inbox.take), app.waiting)
        assert inbox.answers == []
        app.let_go.set()
        assert (await inbox.first())["content"]
        app.close()
    assert app.calls == ["holds"]


async def test_listening_ends_with_the_connection() -> None:
    """Over HTTP nothing is left open behind a gateway that stops."""
    app, inbox = RawApp(), Inbox()
    async with serving(app.app) as address:
        async with one(UpstreamConfig("web", url=f"{address}/mcp")) as upstream:
            await leave_waiting(upstream, a_call("holds", on_late=inbox.take), app.waiting)
        app.let_go.set()
        app.close()
    assert inbox.answers == []


async def test_an_answer_that_comes_as_the_wait_ends_is_not_lost() -> None:
    """It was there in the moment in which the wait was cancelled: it counts as a late one, and once."""
    taken: list[dict[str, Any]] = []
    exchange = Exchange("c_1", "tools/call", back=Back(on_late=taken.append))
    exchange.settle({"result": 1})
    exchange.wait_ended()
    exchange.settle({"result": 2})
    assert taken == [{"result": 1}]


async def test_an_exchange_that_failed_as_the_wait_ended_has_no_late_answer() -> None:
    """What came was of no use: nothing after it counts."""
    taken: list[dict[str, Any]] = []
    exchange = Exchange("c_1", "tools/call", back=Back(on_late=taken.append))
    exchange.fail(OutcomeUnknown("garbage"))
    exchange.wait_ended()
    exchange.settle({"result": 2})
    exchange.close()
    assert taken == []
