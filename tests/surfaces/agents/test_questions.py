"""A call's client over all the requests it takes, and the questions that are open between it and the upstream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult

from hitl_mcp.surfaces.agents.asked import AskClient, Caller, ClientRequest
from hitl_mcp.surfaces.agents.questions import Dialogue
from hitl_mcp.upstreams import Question

FORM = Question("elicitation/create", {"mode": "form", "message": "?"})
LINK = Question("elicitation/create", {"mode": "url", "url": "https://example.com"})


def request_of(version: str, ask: AskClient | None = None, **params: Any) -> ClientRequest:
    """A call of a client of this revision."""

    async def report(progress: float, total: float | None, message: str | None) -> None:
        raise AssertionError(message)

    async def tell(method: str, params: Mapping[str, Any]) -> None:
        raise AssertionError(method)

    return ClientRequest(Caller("builder", "c"), 1, version, {"name": "u__t", **params}, report, tell, ask)


def modern(**params: Any) -> ClientRequest:
    """A call of a modern client."""
    return request_of("2026-07-28", **params)


# Clients with a handshake.


async def test_an_older_client_is_asked_within_its_request_one_after_the_other() -> None:
    """As the upstream wrote it. Only a page to open gets an id, which that client's revision requires."""
    asked: list[tuple[str, Mapping[str, Any]]] = []

    async def ask(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        asked.append((method, params))
        return {"number": len(asked)}

    named = Question(LINK.method, {**LINK.params, "elicitationId": "mine"})
    dialogue = Dialogue(request_of("2025-11-25", ask), None)
    answers = await dialogue.asker.ask({"a": FORM, "b": LINK, "c": named})
    assert answers == {"a": {"number": 1}, "b": {"number": 2}, "c": {"number": 3}}
    assert asked[0] == (FORM.method, FORM.params)
    assert asked[1][1].keys() - {"elicitationId"} == LINK.params.keys()
    assert len(asked[1][1]["elicitationId"]) >= 16
    assert asked[2][1] == named.params


async def test_what_is_no_answer_to_the_question_is_an_error_for_the_upstream() -> None:
    """The client's own words do not reach it."""

    async def ask(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        ElicitResult.model_validate({"action": "dance"})
        return {}

    with pytest.raises(MCPError, match="the client's answer is not one to this question"):
        await Dialogue(request_of("2025-11-25", ask), None).asker.ask({"a": FORM})


@pytest.mark.parametrize("asked", [request_of("2025-11-25"), modern()], ids=["no way back", "nothing to park"])
async def test_who_cannot_be_asked_is_not(asked: ClientRequest) -> None:
    """An older client whose connection carries no questions, and a modern one that only reads."""
    with pytest.raises(MCPError, match="this client's connection carries no questions"):
        await Dialogue(asked, None, parks=False).asker.ask({"a": FORM})


# Modern clients.


async def test_what_a_modern_client_is_asked_stays_open_until_it_brings_answers() -> None:
    """Under the keys of the upstream; what it leaves out, or answers with no object, is asked again."""
    dialogue = Dialogue(modern(), None)
    answers: list[dict[str, Any]] = []

    async def ask() -> None:
        answers.append(await dialogue.asker.ask({"a": FORM, "b": LINK}))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            assert dialogue.questions() == {
                "a": {"method": FORM.method, "params": FORM.params},
                "b": {"method": LINK.method, "params": LINK.params},
            }
            dialogue.resume(modern(inputResponses={"b": {"action": "accept"}, "a": "yes", "z": {}}), dialogue.nonce)
            assert dialogue.is_open
            assert dialogue.questions().keys() == {"a"}
            dialogue.resume(
                modern(inputResponses={"a": {"action": "decline"}, "b": {"action": "cancel"}}), dialogue.nonce
            )
            assert not dialogue.is_open
    assert answers[0]["a"] == {"action": "decline"}
    assert answers[0]["b"] == {"action": "accept"}


async def test_answers_count_once_and_only_with_the_newest_nonce() -> None:
    """Not with an older one, not with none, and not before anything was asked."""
    dialogue = Dialogue(modern(), None)
    answer = modern(inputResponses={"a": {"action": "accept"}})

    def refused(nonce: str) -> bool:
        with pytest.raises(MCPError, match="answered before"):
            dialogue.resume(answer, nonce)
        return dialogue.is_open

    async with anyio.create_task_group() as tasks:
        assert not refused("")
        tasks.start_soon(dialogue.asker.ask, {"a": FORM})  # type: ignore[arg-type]
        await anyio.wait_all_tasks_blocked()
        dialogue.questions()
        older = dialogue.nonce
        dialogue.questions()
        assert refused(older)
        assert refused("")
        nonce = dialogue.nonce
        dialogue.resume(answer, nonce)
        assert not refused(nonce)


async def test_two_questions_of_the_same_key_are_told_apart() -> None:
    """An older upstream's questions have no keys of their own; each gets its own answer."""
    dialogue = Dialogue(modern(), None)
    answers: dict[str, Any] = {}

    async def ask(message: str) -> None:
        question = replace(FORM, params={"message": message})
        answers[message] = (await dialogue.asker.ask({"question": question}))["question"]

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for message in ("one", "two"):
                tasks.start_soon(ask, message)
            await anyio.wait_all_tasks_blocked()
            asked = dialogue.questions()
            assert len(asked) == 2
            replies = {key: {"content": one["params"]["message"]} for key, one in asked.items()}
            dialogue.resume(modern(inputResponses=replies), dialogue.nonce)
    assert answers == {"one": {"content": "one"}, "two": {"content": "two"}}


async def test_a_question_that_is_taken_back_is_asked_no_more() -> None:
    """And an answer that comes all the same changes nothing."""
    dialogue = Dialogue(modern(), None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dialogue.asker.ask, {"a": FORM})  # type: ignore[arg-type]
        await anyio.wait_all_tasks_blocked()
        assert dialogue.is_open
        tasks.cancel_scope.cancel()
    assert not dialogue.is_open
    assert dialogue.questions() == {}
    dialogue.resume(modern(inputResponses={"a": {"action": "accept"}}), dialogue.nonce)
