"""Held calls as durable tasks, for clients that declare the tasks extension of MCP 2026-07-28 (SEP-2663).

A task is its call: the same id, owned by the same agent, kept by the store and nowhere else, so that it outlives
connections and restarts. What people are asked, and what an answer means, stands in `asking.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from hitl_mcp.answers import call_answer
from hitl_mcp.calls import WAITING, CallRecord, Status
from hitl_mcp.errors import CallAlreadySettled, CallNotFound
from hitl_mcp.surfaces.agents.asked import ClientRequest, Context, of_context
from hitl_mcp.surfaces.agents.asking import QUESTION, Asking, Question
from hitl_mcp.surfaces.agents.forms import ELICIT

EXTENSION = "io.modelcontextprotocol/tasks"

POLL_MILLISECONDS = 1000
"""How often a client may look: a look is one read, and people take longer."""

ASKING = "task"
"""The one asking in a task's life, in the place of a nonce: its key must never stand for a second question."""


class TaskParams(types.RequestParams):
    """Which task is meant."""

    task_id: str


class UpdateParams(TaskParams):
    """What a client answers to questions of a task; attacker's input."""

    input_responses: dict[str, Any]


HandOver = Callable[[ClientRequest, CallRecord], Awaitable[None]]
"""Notes that a call's outcome reaches its agent with the answer to this request."""


@dataclass(frozen=True)
class Tasks:
    """Answers `tasks/get`, `tasks/update` and `tasks/cancel`."""

    asking: Asking
    hand_over: HandOver

    def offer(self, server: Server[Any]) -> None:
        """Say that tasks are to be had, and answer for them."""
        server.extensions[EXTENSION] = {}
        # Plain dicts, as everywhere at this door: the SDK checks them all the same.
        server.add_request_handler("tasks/get", TaskParams, self._get)
        server.add_request_handler("tasks/update", UpdateParams, self._update)
        server.add_request_handler("tasks/cancel", TaskParams, self._cancel)

    def handle(self, asked: ClientRequest, record: CallRecord) -> dict[str, Any] | None:
        """The answer to a call that waits for people, where its client takes tasks; None where it does not."""
        if record.status not in WAITING or not _takes_tasks(asked):
            return None
        return {"resultType": "task", **self._told(record, "working")}

    async def _get(self, ctx: Context, params: TaskParams) -> dict[str, Any]:
        asked, record = await self._own(ctx, params)
        if record.status in WAITING:
            question = await self._question(asked, record)
            if question is None:
                return self._told(record, "working")
            requests = {QUESTION: {"method": ELICIT, "params": question.params}}
            return {**self._told(record, "input_required"), "inputRequests": requests}
        await self.hand_over(asked, record)
        if record.status is Status.WITHDRAWN:
            return self._told(record, "cancelled")
        # Whatever else became of it is a tool's result, also where it is an error; `unknown` too, so that the agent
        # hears of it: what is found out later, `hitl_status` tells.
        return {**self._told(record, "completed"), "result": {"resultType": "complete", **self._answer(record)}}

    async def _update(self, ctx: Context, params: UpdateParams) -> dict[str, Any]:
        asked, record = await self._own(ctx, params)
        if QUESTION in params.input_responses and (question := await self._question(asked, record)) is not None:
            await self.asking.take(record, question.mode, ASKING, params.input_responses[QUESTION])
        return {}

    async def _cancel(self, ctx: Context, params: TaskParams) -> dict[str, Any]:
        asked, record = await self._own(ctx, params)
        with suppress(CallAlreadySettled):  # a cancel asks for it and no more: the task tells what became of the call
            await self.asking.store.withdraw(record.id, asked.caller.agent)
        return {}

    async def _own(self, ctx: Context, params: TaskParams) -> tuple[ClientRequest, CallRecord]:
        """The call of a task. Another agent's, and one that nobody was asked about, is like one that is not there.

        Raises:
            MCPError: This client takes no tasks, or this agent has no such task.
        """
        asked = of_context(ctx, ctx.params or {})
        if not _takes_tasks(asked):
            needed: dict[str, Any] = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
            raise MCPError(
                types.MISSING_REQUIRED_CLIENT_CAPABILITY, "the client does not declare the tasks extension", needed
            )
        try:
            record = await self.asking.store.get(params.task_id)
        except CallNotFound:
            record = None
        if record is None or record.call.agent != asked.caller.agent or not record.was_held:
            raise MCPError(types.INVALID_PARAMS, "there is no such task: `hitl_status` lists what is open")
        return asked, record

    async def _question(self, asked: ClientRequest, record: CallRecord) -> Question | None:
        if self.asking.has_ended(record, ASKING):
            return None
        return await self.asking.question(asked, record)

    def _answer(self, record: CallRecord) -> dict[str, Any]:
        return call_answer(record, repeat=False, review_url=self.asking.review_url(record.id), plain_result=True)

    def _told(self, record: CallRecord, status: str) -> dict[str, Any]:
        """How a task stands. No end is put to it: the record is kept, and says itself when its call expires."""
        told = {
            "taskId": record.id,
            "status": status,
            "createdAt": record.created_at,
            "lastUpdatedAt": record.changed_at,
            "ttlMs": None,
            "pollIntervalMs": POLL_MILLISECONDS,
        }
        if status != "completed":
            told["statusMessage"] = self._answer(record)["structuredContent"]["message"]
        return told


def _takes_tasks(asked: ClientRequest) -> bool:
    """Whether the client declared the extension with this very request."""
    return asked.is_modern and EXTENSION in (asked.capabilities.get("extensions") or {})
