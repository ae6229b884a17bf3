"""What upstreams ask while a call runs, on its way to the client that waits for it. What is asked is not looked at.

A client with a handshake is asked within its request. A modern one cannot be: it gets the questions as the answer to
its request (`input_required`), and the call stays parked here until it sends the same request again with the answers.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, INVALID_REQUEST
from pydantic import ValidationError

from hitl_mcp.executor import Executor, Run
from hitl_mcp.limits import AGENT_REQUESTS
from hitl_mcp.surfaces.agents.asked import Caller, ClientRequest
from hitl_mcp.surfaces.agents.states import Opened, States
from hitl_mcp.upstreams import Asker, Question

PARKED_CALLS = AGENT_REQUESTS
"""Of each agent: a call that runs, and waits for its client. As many as it may have in flight when it waits itself."""

INPUT = "input"
"""The kind of a state that belongs to what an upstream asked."""


class Dialogue:
    """One call's client over all the requests it takes, and the questions that are open between it and the upstream."""

    def __init__(self, asked: ClientRequest, log_level: str | None, *, parks: bool = True) -> None:
        """`parks` says whether a modern client is asked: what is no call has nothing that could run on meanwhile."""
        self.asked = asked
        self._parks = parks
        self.nonce = ""
        self.run: Run | None = None
        self._open: dict[str, _Open] = {}
        self.asker = Asker(asked.is_modern, asked.capabilities, log_level, self._ask, self._tell, self._end_stream)

    async def report(self, progress: float, total: float | None, message: str | None) -> None:
        """Tell the client how far its call is, on whichever request it waits with now."""
        await self.asked.report(progress, total, message)

    async def _tell(self, method: str, params: Mapping[str, Any]) -> None:
        await self.asked.tell(method, params)

    async def _end_stream(self) -> None:
        if self.asked.end_stream is not None:
            await self.asked.end_stream()

    async def _ask(self, questions: Mapping[str, Question]) -> dict[str, Any]:
        if self.asked.ask is not None:
            return await self._ask_now(questions)
        if not self.asked.is_modern or not self._parks:
            raise MCPError(INVALID_REQUEST, "this client's connection carries no questions")
        return await self._park(questions)

    async def _ask_now(self, questions: Mapping[str, Question]) -> dict[str, Any]:
        answers: dict[str, Any] = {}
        for key, question in questions.items():
            if self.asked.ask is None:
                break
            try:
                answers[key] = await self.asked.ask(question.method, _as_before_2026(question))
            except ValidationError:
                raise MCPError(INVALID_REQUEST, "the client's answer is not one to this question") from None
        return answers

    # A modern client: asked by the answer to its request.

    async def _park(self, questions: Mapping[str, Question]) -> dict[str, Any]:
        opened = {secrets.token_urlsafe(8) if key in self._open else key: _Open(key, q) for key, q in questions.items()}
        self._open.update(opened)
        if self.run is not None:
            self.run.news.set()
        try:
            for one in opened.values():
                await one.answered.wait()
            return {one.key: one.answer for one in opened.values()}
        finally:
            for key in opened:
                del self._open[key]

    @property
    def is_open(self) -> bool:
        """Whether something is asked that waits for the client to come back."""
        return any(not one.answered.is_set() for one in self._open.values())

    def questions(self) -> dict[str, Any]:
        """What is asked, as `inputRequests` say it. Its answers count once, and only with the newest nonce."""
        self.nonce = secrets.token_urlsafe(12)
        return {
            key: {"method": one.question.method, "params": dict(one.question.params)}
            for key, one in self._open.items()
            if not one.answered.is_set()
        }

    def resume(self, asked: ClientRequest, nonce: str) -> None:
        """Take the client's answers with the request that brings them; what it left unanswered is asked again.

        Raises:
            MCPError: These questions were answered before.
        """
        if not self.nonce or nonce != self.nonce:
            raise MCPError(INVALID_PARAMS, "these questions were answered before", {"reason": "invalid_request_state"})
        self.nonce, self.asked = "", asked
        for key, one in self._open.items():
            if isinstance(asked.answers.get(key), dict) and not one.answered.is_set():
                one.answer = asked.answers[key]
                one.answered.set()


class _Open:
    """One question that waits for the client, under the key its upstream gave it."""

    def __init__(self, key: str, question: Question) -> None:
        self.key = key
        self.question = question
        self.answer: dict[str, Any] = {}
        self.answered = anyio.Event()


def _as_before_2026(question: Question) -> Mapping[str, Any]:
    """Its params as a client with a handshake must have them: there, a page to open has an id, which is gone since."""
    if question.method == "elicitation/create" and question.params.get("mode") == "url":
        return {"elicitationId": secrets.token_urlsafe(12), **question.params}
    return question.params


class Parked:
    """The calls that run on while their modern clients were asked something.

    Of too many the longest parked of the same agent is given up: none can have another's call given up.
    """

    def __init__(self, states: States, executor: Executor) -> None:
        self._states = states
        self._executor = executor
        self._dialogues: OrderedDict[str, Dialogue] = OrderedDict()

    def park(self, dialogue: Dialogue, call_id: str) -> dict[str, Any]:
        """The answer that asks the client; the call runs on until it comes back with the answers, or for so long."""
        self._dialogues[call_id] = dialogue
        agent = dialogue.asked.caller.agent
        its_own = [one for one, parked in self._dialogues.items() if parked.asked.caller.agent == agent]
        if len(its_own) > PARKED_CALLS:
            self._give_up(its_own[0])
        questions = dialogue.questions()
        state = self._states.seal(dialogue.asked, INPUT, call_id, dialogue.nonce)
        return {"resultType": "input_required", "inputRequests": questions, "requestState": state}

    def resumed(self, asked: ClientRequest, opened: Opened) -> Dialogue | None:
        """The dialogue that a client goes on with, its answers taken; None where there is no such call any more.

        Raises:
            MCPError: These questions were answered before.
        """
        dialogue = self._dialogues.get(opened.call_id)
        if dialogue is not None:
            dialogue.resume(asked, opened.nonce)
            del self._dialogues[opened.call_id]
        return dialogue

    def resumed_without_state(self, asked: ClientRequest) -> Dialogue | None:
        """As `resumed`, for a client that brings answers and has lost the state: by the request that it sends again.

        What it answers is put to the upstream as its own client's, which it is: nobody's approval hangs on it.
        """
        for call_id, dialogue in self._dialogues.items():
            before = dialogue.asked
            same_caller = (before.caller.agent, before.caller.conversation) == (
                asked.caller.agent,
                asked.caller.conversation,
            )
            if same_caller and before.name == asked.name and before.arguments == asked.arguments:
                return self.resumed(asked, Opened(INPUT, call_id, dialogue.nonce))
        return None

    def drop(self, caller: Caller) -> None:
        """Their client is gone: cancel what it was asked for."""
        for call_id in [one for one, dialogue in self._dialogues.items() if dialogue.asked.caller is caller]:
            self._give_up(call_id)

    def _give_up(self, call_id: str) -> None:
        run = self._dialogues.pop(call_id).run
        if run is not None:
            self._executor.cancel(run)
