"""Whom a program speaks of that says neither for which call it asks nor of which it tells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from hitl_mcp.upstreams import Asker, Question, Send, Upstream
from tests.upstreams.stage import a_call, lines, one, raw
from tests.upstreams.test_late_answers import Inbox, leave_waiting


class Client:
    """One that can fill in forms, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Question]] = []

    async def _ask(self, questions: Mapping[str, Question]) -> dict[str, Any]:
        self.asked.append(questions)
        return {"question": {"action": "decline"}}

    async def _tell(self, method: str, params: Mapping[str, Any]) -> None:
        raise AssertionError(method)

    def sends(self, tool: str) -> Send:
        """A call that it waits for."""
        asker = Asker(False, {"elicitation": {}}, None, self._ask, self._tell)
        return Send(a_call(tool).call_id, tool, "{}", asker=asker)


async def told(upstream: Upstream, client: Client) -> str:
    """What the upstream was told when it asked something during a call of this client."""
    result = await upstream.send(client.sends("ask"))
    return str(result["content"][0]["text"])


@pytest.mark.parametrize("is_called_off", [False, True], ids=["given up", "called off"])
async def test_what_may_be_asked_for_a_call_that_was_given_up_is_put_to_no_other_client(
    is_called_off: bool, tmp_path: Path
) -> None:
    """A call that took too long may still be worked on. Once it was answered, or called off, nobody is mistaken."""
    record, inbox, second = tmp_path / "calls", Inbox(), Client()
    with anyio.fail_after(20):
        async with one(raw("raw", "--record", str(record))) as upstream:
            first = a_call("silent", on_late=inbox.take)
            if is_called_off:
                await called_off(upstream, first, record)
            else:
                await leave_waiting(upstream, first)
                assert await told(upstream, second) == '"nobody can be asked while a call runs"'
                assert second.asked == []
                await upstream.send(a_call("release"))
                await inbox.first()
            assert await told(upstream, second) == "null"
            assert len(second.asked) == 1


async def called_off(upstream: Upstream, send: Send, record: Path) -> None:
    """Send a call, tell its upstream to stop, and stop waiting."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(upstream.send, send)
        while not upstream.has_sent(send.call_id):
            await anyio.sleep(0)
        await upstream.cancel(send.call_id)
        while f"cancelled {send.call_id}" not in lines(record):
            await anyio.sleep(0)
        tasks.cancel_scope.cancel()
