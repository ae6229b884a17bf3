"""The agent's own tools: wait for a held call, ask how calls stand, take one back. None approves anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hitl_mcp.answers import call_answer, not_changed_answer, open_calls_answer
from hitl_mcp.calls import WAITING, CallRecord
from hitl_mcp.errors import ArgumentsRefused, CallAlreadySettled, CallNotFound
from hitl_mcp.releasing import Releasing
from hitl_mcp.surfaces.agents import permission
from hitl_mcp.surfaces.agents.asked import ClientRequest
from hitl_mcp.surfaces.agents.asking import Asking
from hitl_mcp.surfaces.agents.waiting import Ticker

_CALL_ID = {"type": "string", "description": "the call_id that the held call was answered with"}

LISTED_RESULT_BYTES = 256 * 1024
"""Results in one listing, all together; a larger one is fetched by its id."""

OWN_TOOLS: list[dict[str, Any]] = [
    {
        "name": "hitl_status",
        "title": "How held calls stand",
        "description": "Says how a call stands, with its result once it ran. Without call_id it lists your open calls "
        "and every outcome you were not told yet.",
        "inputSchema": {
            "type": "object",
            "properties": {"call_id": _CALL_ID},
            "additionalProperties": False,
        },
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
    },
    {
        "name": "hitl_wait",
        "title": "Wait for a held call",
        "description": "Waits up to 45 seconds for the decision on a held call and for its outcome, then says how it "
        "stands. Call it again while the answer says held.",
        "inputSchema": {
            "type": "object",
            "properties": {"call_id": _CALL_ID},
            "required": ["call_id"],
            "additionalProperties": False,
        },
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
    },
    {
        "name": "hitl_withdraw",
        "title": "Take back a held call",
        "description": "Takes back a call that has not started, so that nobody is asked about it any more.",
        "inputSchema": {
            "type": "object",
            "properties": {"call_id": _CALL_ID},
            "required": ["call_id"],
            "additionalProperties": False,
        },
        "annotations": {
            "readOnlyHint": False,
            "destructiveHint": False,
            "idempotentHint": True,
            "openWorldHint": False,
        },
    },
]


class OwnTools:
    """Answers the agent's own tools from the store. Another agent's call is answered like one that does not exist."""

    def __init__(
        self, asking: Asking, releasing: Releasing, wait_seconds: float, review_url: Callable[[str], str]
    ) -> None:
        self._asking = asking
        self._store = asking.store
        self._releasing = releasing
        self._wait_seconds = wait_seconds
        self._review_url = review_url
        # Without clients whose tools are decided here there is nothing to ask permission for.
        self.tools = [*OWN_TOOLS, permission.TOOL] if releasing.clients else OWN_TOOLS
        self.names = frozenset(tool["name"] for tool in self.tools)

    async def call(self, asked: ClientRequest) -> dict[str, Any]:
        """Run one of the own tools for the agent that asks.

        Raises:
            ArgumentsRefused: The arguments do not fit the tool's schema.
        """
        name, arguments, agent = asked.name, asked.arguments, asked.caller.agent
        if name == permission.NAME:
            return await permission.permission(self._releasing, asked, self._wait_seconds, self._review_url)
        call_id = _call_id(arguments, required=name != "hitl_status")
        try:
            if call_id is None:
                return await self._list(agent)
            if name == "hitl_withdraw":
                record = await self._store.withdraw(call_id, agent)
            else:
                record = await self._own(call_id, agent)
                if name == "hitl_wait":
                    # A dialog that closed when the call's own wait was over opens again.
                    record = await self._asking.wait(asked, record, self._wait_seconds, Ticker(asked.report))
        except CallNotFound:
            message = f"You have no call with the id {call_id}. `hitl_status` without arguments lists yours."
            return not_changed_answer(message, "not_found", call_id or "")
        except CallAlreadySettled as error:
            return not_changed_answer(f"Not withdrawn: {error.message}.", error.status, error.call_id)
        answer = self._answer(record)
        await self._handed_over(record)
        return answer

    async def status(self, call_id: str, agent: str) -> dict[str, Any]:
        """How a call of this agent stands, as `hitl_status` says it."""
        try:
            record = await self._own(call_id, agent)
        except CallNotFound:
            message = f"You have no call with the id {call_id}. `hitl_status` without arguments lists yours."
            return not_changed_answer(message, "not_found", call_id)
        answer = self._answer(record)
        await self._handed_over(record)
        return answer

    async def _own(self, call_id: str, agent: str) -> CallRecord:
        record = await self._store.get(call_id)
        if record.call.agent != agent:
            raise CallNotFound(call_id)
        return record

    async def _list(self, agent: str) -> dict[str, Any]:
        listed: list[CallRecord] = []
        too_large: list[CallRecord] = []
        bytes_left = LISTED_RESULT_BYTES
        for record in await self._store.of_interest_to(agent):
            size = record.outcome.result_bytes or 0 if record.outcome else 0
            (listed if size <= bytes_left else too_large).append(record)
            bytes_left -= size if size <= bytes_left else 0
        answer = open_calls_answer(listed, too_large, lambda record: self._review_url(record.id))
        for record in listed:
            await self._handed_over(record)
        return answer

    def _answer(self, record: CallRecord) -> dict[str, Any]:
        return call_answer(record, repeat=False, review_url=self._review_url(record.id))

    async def _handed_over(self, record: CallRecord) -> None:
        if record.status not in WAITING and record.may_be_news:
            await self._store.hand_over(record.id)


def _call_id(arguments: Mapping[str, Any], *, required: bool) -> str | None:
    unknown = sorted(set(arguments) - {"call_id"})
    if unknown:
        raise ArgumentsRefused(f"$.arguments.{unknown[0]}", "this tool takes no such argument")
    call_id = arguments.get("call_id")
    if call_id is None and not required:
        return None
    if not isinstance(call_id, str):
        raise ArgumentsRefused("$.arguments.call_id", "a text is needed")
    return call_id
