"""`POST /api/evaluate`: hooks ask here whether a tool that their agent's client runs itself may run.

On the TCP port the agent is who its bearer token says. On the control socket, which only the gateway's own user can
open, it is whom the operator wrote into the hook. A reviewer's key opens nothing here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from hitl_mcp.answers import evaluation, too_many_at_once
from hitl_mcp.calls import CallRecord
from hitl_mcp.canonical import canonical_bytes, parse_strict
from hitl_mcp.errors import ArgumentsRefused, HitlError
from hitl_mcp.gate import AgentCall
from hitl_mcp.limits import AGENT_REQUESTS, EVALUATION_BODY_BYTES, MESSAGE_BYTES
from hitl_mcp.releasing import Answered, Releasing
from hitl_mcp.surfaces.api.bodies import EvaluateBody, read_body
from hitl_mcp.surfaces.api.problems import Problem

AGENT_NAME_CHARACTERS = 40
"""As on `agent.sock`."""


@dataclass(frozen=True)
class Evaluating:
    """What is needed to answer hooks. `agent_of` says which agent a request on the TCP port is of, or refuses it.

    `wait_seconds` is how long a hook waits that does not say.
    """

    releasing: Releasing
    agent_of: Callable[[Scope], Awaitable[str | Response]]
    wait_seconds: float
    review_url: Callable[[str], str]


class EvaluateEndpoint:
    """The endpoint, at both doors."""

    def __init__(self, evaluating: Evaluating | None, stopping: anyio.Event) -> None:
        self._evaluating = evaluating
        self._stopping = stopping
        self._asking: Counter[str] = Counter()

    async def on_port(self, http: Request) -> Response:
        """Asked by an agent with its bearer token; a body that names an agent is refused, whomever it names."""
        parts = self._parts()
        agent = await parts.agent_of(http.scope)
        if isinstance(agent, Response):
            return agent
        with self._one_more(agent):
            body = await _body(http)
            if body.agent is not None:
                raise Problem(422, "wrong_body", "agent: no such field", help="the bearer token says which agent asks")
            return await self._answer(http, body, agent)

    async def on_socket(self, http: Request) -> Response:
        """Asked by a hook of the gateway's own user; the body names the agent."""
        self._parts()
        body = await _body(http)
        agent = body.agent
        if agent is None or not 0 < len(agent) <= AGENT_NAME_CHARACTERS or not agent.isprintable():
            what = f"agent: a name of 1 to {AGENT_NAME_CHARACTERS} characters is needed"
            raise Problem(422, "wrong_body", what, help="name the agent as `hitl-mcp stdio --agent` does")
        with self._one_more(agent):
            return await self._answer(http, body, agent)

    @contextmanager
    def _one_more(self, agent: str) -> Iterator[None]:
        """Count what hooks of this agent ask at once: each may wait for people, and holds its body meanwhile.

        Raises:
            Problem: They ask as much as they may.
        """
        if self._asking[agent] >= AGENT_REQUESTS:
            raise Problem(429, "too_many_at_once", too_many_at_once(AGENT_REQUESTS))
        self._asking[agent] += 1
        try:
            yield
        finally:
            self._asking[agent] -= 1
            if not self._asking[agent]:
                del self._asking[agent]  # an agent may call itself whatever it likes

    async def _answer(self, http: Request, body: EvaluateBody, agent: str) -> Response:
        parts = self._parts()
        if body.client not in parts.releasing.clients:
            what = f"client: the own tools of `{body.client}` are not decided here"
            raise Problem(422, "no_such_client", what, help="name it under `clients` in the config")
        call = AgentCall(
            agent=agent,
            conversation=body.conversation or f"hook:{agent}",
            name=f"{body.client}__{body.tool}",
            arguments=_arguments(body),
            meta={},
        )
        seconds = parts.wait_seconds if body.wait_seconds is None else body.wait_seconds
        ask = partial(parts.releasing.ask, call, seconds, _no_tick, takes_changes=body.takes_updated_input)
        answered = await self._while_there(http, ask)
        return JSONResponse(
            evaluation(
                answered.record,
                released=answered.released,
                repeat=answered.repeat,
                review_url=parts.review_url(answered.record.id),
            )
        )

    async def _while_there(self, http: Request, ask: Callable[[], Awaitable[Answered]]) -> Answered:
        """Ask, and give up once the hook is gone or the gateway stops: a call must not be released to nobody.

        Raises:
            ClientDisconnect: The hook went.
            Problem: The gateway stops.
        """
        answered: Answered | None = None
        failed: HitlError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_after, tasks.cancel_scope, partial(_gone, http))
            tasks.start_soon(_cancel_after, tasks.cancel_scope, self._stopping.wait)
            try:
                answered = await ask()
            except HitlError as error:  # raised below: a group would hide which it is
                failed = error
            tasks.cancel_scope.cancel()
        if failed is not None:
            raise failed
        if answered is not None:
            return answered
        if self._stopping.is_set():
            raise Problem(503, "stopping", "the gateway is being stopped", help="ask again once it runs")
        raise ClientDisconnect

    def _parts(self) -> Evaluating:
        if self._evaluating is None:
            raise Problem(404, "not_found", "this gateway answers no hooks")
        return self._evaluating


async def _body(http: Request) -> EvaluateBody:
    body = await read_body(http, EvaluateBody, limit_bytes=EVALUATION_BODY_BYTES)
    if (body.arguments is None) == (body.arguments_json is None):
        both = "both" if body.arguments is not None else "neither"
        raise Problem(422, "wrong_body", f"one of `arguments` and `arguments_json` is needed, and there is {both}")
    return body


def _arguments(body: EvaluateBody) -> dict[str, Any]:
    """The arguments, read strictly in either form."""
    if body.arguments_json is None:
        arguments: Any = body.arguments
        if (size := len(canonical_bytes(arguments))) > MESSAGE_BYTES:
            raise Problem(413, "too_large", f"the arguments are {size} bytes, more than {MESSAGE_BYTES}")
    else:
        try:
            arguments = parse_strict(body.arguments_json.encode())
        except ArgumentsRefused as error:
            raise Problem(422, "wrong_body", f"arguments_json: {error.message}") from None
    if not isinstance(arguments, dict):
        raise Problem(422, "wrong_body", "arguments_json: an object is needed")
    return arguments


async def _cancel_after(scope: anyio.CancelScope, wait: Callable[[], Awaitable[object]]) -> None:
    await wait()
    scope.cancel()


async def _gone(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def _no_tick(record: CallRecord) -> None:
    """A hook hears nothing before its answer."""
