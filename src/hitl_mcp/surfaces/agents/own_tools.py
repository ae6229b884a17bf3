"""The agent's own tools: wait for a held call, ask how calls stand, take one back. None approves anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hitl_mcp.answers import call_answer, not_changed_answer, open_calls_answer
from hitl_mcp.calls import WAITING, CallRecord
from hitl_mcp.errors import ArgumentsRefused, CallAlreadySettled, CallNotFound
from hitl_mcp.store import SqliteStore
from hitl_mcp.surfaces.agents.waiting import Ticker, wait_for_answer

_CALL_ID = {"type": "string", "description": "the call_id that the held call was answered with"}

LISTED_RESULT_BYTES = 256 * 1024
"""Results in one listing, all together; a larger one is fetched by its id."""

OWN_TOOLS: list[dict[str, Any]] = [
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

    names = frozenset(tool["name"] for tool in OWN_TOOLS)

    def __init__(self, store: SqliteStore, wait_seconds: float, review_url: Callable[[str], str]) -> None:
        self._store = store
        self._wait_seconds = wait_seconds
        self._review_url = review_url

    async def call(self, name: str, arguments: Mapping[str, Any], agent: str, ticker: Ticker) -> dict[str, Any]:
        """Run one of the own tools for `agent`.

        Raises:
            ArgumentsRefused: The arguments do not fit the tool's schema.
        """
        call_id = _call_id(arguments, required=name != "hitl_status")
        try:
            if call_id is None:
                return await self._list(agent)
            if name == "hitl_withdraw":
                record = await self._store.withdraw(call_id, agent)
            else:
                record = await self._own(call_id, agent)
                if name == "hitl_wait":
                    record = await wait_for_answer(self._store, record, self._wait_seconds, ticker)
        except CallNotFound:
            message = f"You have no call with the id {call_id}. `hitl_status` without arguments lists yours."
            return not_changed_answer(message, "not_found", call_id or "")
        except CallAlreadySettled as error:
            return not_changed_answer(f"Not withdrawn: {error.message}.", error.status, error.call_id)
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
