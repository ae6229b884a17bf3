"""What a client does with what a server asks its user: a person at a dialog, and a client that takes tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import mcp_types as types
from mcp import Client
from mcp.client import ClaimContext, ClientExtension, ClientRequestContext, ResultClaim
from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitRequestURLParams, ElicitResult

from tests.gateways import WAIT_SECONDS

TASKS = "io.modelcontextprotocol/tasks"

Answer = Callable[[ElicitRequestParams], ElicitResult]
"""What a person answers to a question."""


def filled_in(asked: ElicitRequestParams, **changes: Any) -> dict[str, Any]:
    """The content of a form as a client sends it back, with `decision` or anything else as the test says."""
    assert isinstance(asked, ElicitRequestFormParams)
    properties = asked.requested_schema["properties"]
    return {**{name: one["default"] for name, one in properties.items() if "default" in one}, **changes}


def approves(asked: ElicitRequestParams) -> ElicitResult:
    """Approve what the form shows; agree to open a page."""
    content = None if isinstance(asked, ElicitRequestURLParams) else filled_in(asked, decision="approve")
    return ElicitResult(action="accept", content=content)


def rejects(asked: ElicitRequestParams) -> ElicitResult:
    """Reject what the form shows."""
    return ElicitResult(action="accept", content=filled_in(asked, decision="reject"))


def declines(asked: ElicitRequestParams) -> ElicitResult:
    """Decline to answer at all."""
    return ElicitResult(action="decline")


@dataclass
class Person:
    """Whoever sits before a client: what was asked, what is answered, and how often a dialog was closed on them.

    With `slow`, they look at the question until it is taken away.
    """

    answer: Answer = approves
    slow: bool = False
    asked: list[ElicitRequestParams] = field(default_factory=list)
    closed: int = 0
    looks: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, context: ClientRequestContext, asked: ElicitRequestParams) -> ElicitResult:
        """As the SDK's client asks."""
        self.asked.append(asked)
        self.looks.set()
        try:
            if self.slow:
                await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.closed += 1
            raise
        return self.answer(asked)

    async def is_asked(self) -> ElicitRequestParams:
        """Wait until there is a question."""
        with anyio.fail_after(WAIT_SECONDS):
            await self.looks.wait()
        return self.asked[-1]


# A client that goes through the rounds of a modern call by itself.


@dataclass(frozen=True)
class Round:
    """A question that a modern call was answered with, to be answered by hand."""

    client: Client
    name: str
    arguments: Mapping[str, Any]
    form: ElicitRequestParams
    state: str | None

    async def goes_on(self, answer: ElicitResult | None, **changes: Any) -> types.CallToolResult:
        """Bring an answer with the state; `changes` replace the call's arguments."""
        answers = {"approval": answer} if answer is not None else None
        result = await self.client.session.call_tool(
            self.name,
            {**self.arguments, **changes},
            input_responses=answers,  # type: ignore[arg-type]
            request_state=self.state,
            allow_input_required=True,
        )
        assert isinstance(result, types.CallToolResult), result
        return result


async def first_round(client: Client, name: str, arguments: Mapping[str, Any], **more: Any) -> Round:
    """Call a tool that is held, and get the question."""
    asked = await client.session.call_tool(name, dict(arguments), allow_input_required=True, **more)
    assert isinstance(asked, types.InputRequiredResult), asked
    question = (asked.input_requests or {})["approval"]
    assert isinstance(question, types.ElicitRequest)
    return Round(client, name, arguments, question.params, asked.request_state)


# Tasks, as the extension has them.


class TaskParams(types.RequestParams):
    task_id: str


class UpdateParams(TaskParams):
    input_responses: dict[str, Any]


class GetTask(types.Request[TaskParams, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    params: TaskParams
    name_param = "taskId"


class CancelTask(types.Request[TaskParams, Literal["tasks/cancel"]]):
    method: Literal["tasks/cancel"] = "tasks/cancel"
    params: TaskParams
    name_param = "taskId"


class UpdateTask(types.Request[UpdateParams, Literal["tasks/update"]]):
    method: Literal["tasks/update"] = "tasks/update"
    params: UpdateParams
    name_param = "taskId"


class Handle(types.Result):
    """What a call is answered with that became a task."""

    result_type: Literal["task"] = "task"
    task_id: str
    status: str
    status_message: str | None = None
    created_at: str
    last_updated_at: str
    ttl_ms: int | None
    poll_interval_ms: int | None = None


class Task(types.Result):
    """How a task stands when it is looked at."""

    task_id: str
    status: str
    status_message: str | None = None
    created_at: str
    last_updated_at: str
    ttl_ms: int | None
    poll_interval_ms: int | None = None
    result: dict[str, Any] | None = None
    input_requests: dict[str, Any] | None = None


class TakesTasks(ClientExtension):
    """A client that declares the extension, and follows a task to its end by looking."""

    identifier = TASKS

    def __init__(self) -> None:
        self.handles: list[Handle] = []

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=Handle, resolve=self._follow)]

    async def _follow(self, handle: Handle, context: ClaimContext) -> types.CallToolResult:
        self.handles.append(handle)
        with anyio.fail_after(WAIT_SECONDS):
            while (task := await look(context, handle.task_id)).status in ("working", "input_required"):
                await anyio.sleep(0)
        return types.CallToolResult.model_validate(task.result)


async def look(client: Client | ClaimContext, task_id: str) -> Task:
    """How a task stands."""
    return await client.session.send_request(GetTask(params=TaskParams(task_id=task_id)), Task)


async def cancel(client: Client, task_id: str) -> None:
    """Cancel a task."""
    await client.session.send_request(CancelTask(params=TaskParams(task_id=task_id)), types.EmptyResult)


async def update(client: Client, task_id: str, **answers: Mapping[str, Any]) -> None:
    """Answer what a task asks."""
    params = UpdateParams(task_id=task_id, input_responses=dict(answers))
    await client.session.send_request(UpdateTask(params=params), types.EmptyResult)
