"""What an upstream is told that its client can be asked, and what is refused before any client sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import anyio
import pytest

from hitl_mcp.config import UpstreamConfig
from hitl_mcp.limits import QUESTION_SECONDS
from hitl_mcp.upstreams import Asker, Question, patient
from hitl_mcp.upstreams.asker import declared_for, declared_to_all, is_wanted, why_not_asked

EVERYTHING: dict[str, Any] = {
    "elicitation": {"form": {}, "url": {}},
    "sampling": {"tools": {}},
    "roots": {"listChanged": True},
    "experimental": {"x": {}},
    "extensions": {"io.modelcontextprotocol/tasks": {}},
}
FORM = Question("elicitation/create", {"mode": "form", "message": "?"})
LINK = Question("elicitation/create", {"mode": "url", "message": "?"})
SAMPLE = Question("sampling/createMessage", {})
ROOTS = Question("roots/list", {})


def asker(capabilities: Mapping[str, Any]) -> Asker:
    """A client that can do this, and is not asked in these tests."""

    async def ask(questions: Mapping[str, Question]) -> dict[str, Any]:
        raise AssertionError(questions)

    async def tell(method: str, params: Mapping[str, Any]) -> None:
        raise AssertionError(method)

    return Asker(True, capabilities, None, ask, tell)


def config(**switches: Any) -> UpstreamConfig:
    """An upstream with these switches."""
    return UpstreamConfig("u", command="x", **switches)


@pytest.mark.parametrize(
    ("switches", "missing"),
    [
        ({}, []),
        ({"sampling": False}, ["sampling"]),
        ({"elicitation": False}, ["elicitation"]),
        ({"sampling": False, "elicitation": False}, ["sampling", "elicitation"]),
    ],
    ids=str,
)
def test_an_upstream_is_told_of_what_the_client_declared_less_what_the_config_forbids(
    switches: dict[str, Any], missing: list[str]
) -> None:
    """With everything below it, as it was declared; experimental things and extensions are the gateway's own hop."""
    declared = declared_for(asker(EVERYTHING), config(**switches))
    kept = {"elicitation", "sampling", "roots"}.difference(missing)
    assert declared == {kind: EVERYTHING[kind] for kind in kept}
    assert declared_to_all(config(**switches)).keys() == kept - {"roots"}


@pytest.mark.parametrize("capabilities", [{}, {"sampling": None}, {"sampling": True}, {"roots": []}], ids=str)
def test_what_a_client_did_not_declare_no_upstream_is_told(capabilities: dict[str, Any]) -> None:
    """Also where it wrote something there that is no declaration."""
    assert declared_for(asker(capabilities), config()) == {}


def test_a_program_for_all_clients_is_not_told_of_anybodys_roots() -> None:
    """It could take one client's folders for everybody's. Forms, links and sampling are put to whoever calls."""
    assert declared_to_all(config()) == {"elicitation": {"form": {}, "url": {}}, "sampling": {}}


@pytest.mark.parametrize(
    "question", [FORM, LINK, SAMPLE, ROOTS], ids=lambda one: str(one.params.get("mode", one.method))
)
def test_a_client_that_can_do_everything_is_asked_everything(question: Question) -> None:
    """Nothing stands in the way."""
    assert why_not_asked(question, asker(EVERYTHING), config()) is None


@pytest.mark.parametrize(
    ("question", "capabilities", "switches", "why"),
    [
        (Question("tools/call", {}), EVERYTHING, {}, "no client is asked this here"),
        (Question("", {}), EVERYTHING, {}, "no client is asked this here"),
        (SAMPLE, EVERYTHING, {"sampling": False}, "the gateway's config forbids `sampling/createMessage`"),
        (FORM, EVERYTHING, {"elicitation": False}, "the gateway's config forbids `elicitation/create`"),
        (LINK, EVERYTHING, {"elicitation": False}, "the gateway's config forbids `elicitation/create`"),
        (SAMPLE, {"elicitation": {}}, {}, "the client does not support `sampling/createMessage`"),
        (ROOTS, {}, {}, "the client does not support `roots/list`"),
        (FORM, {"sampling": {}}, {}, "the client does not support `elicitation/create`"),
        (LINK, {"elicitation": {}}, {}, "the client does not support `elicitation/create`"),
        (LINK, {"elicitation": {"form": {}}}, {}, "the client does not support `elicitation/create`"),
        (FORM, {"elicitation": {"url": {}}}, {}, "the client does not support `elicitation/create`"),
    ],
    ids=str,
)
def test_a_question_that_cannot_be_put_is_refused_with_the_reason(
    question: Question, capabilities: dict[str, Any], switches: dict[str, Any], why: str
) -> None:
    """By the switch first, then by what the client declared, down to the mode of a form or a link."""
    refused = why_not_asked(question, asker(capabilities), config(**switches))
    assert refused is not None
    assert refused.message == why


@pytest.mark.parametrize("capabilities", [{"elicitation": {}}, {"elicitation": {"form": {}}}], ids=str)
def test_a_client_that_names_no_mode_takes_forms(capabilities: dict[str, Any]) -> None:
    """As clients declared it before there were links; and a question without a mode is a form."""
    for question in (FORM, Question("elicitation/create", {"message": "?"})):
        assert why_not_asked(question, asker(capabilities), config()) is None


@pytest.mark.parametrize(
    ("level", "wanted_from", "expected"),
    [
        ("error", "debug", True),
        ("error", "error", True),
        ("warning", "error", False),
        ("emergency", "alert", True),
        ("debug", "info", False),
        ("error", None, False),
        ("loud", "debug", False),
        ("error", "loud", False),
        (None, "debug", False),
        (["error"], "debug", False),
    ],
)
def test_a_line_of_the_log_is_wanted_from_its_level_on(level: object, wanted_from: str | None, expected: bool) -> None:
    """What is no level is wanted by nobody, and whoever named none wants nothing."""
    assert is_wanted(level, wanted_from) is expected


async def test_while_a_client_is_asked_its_upstreams_time_stands_still() -> None:
    """A person may take minutes where a tool has seconds; with two questions open it stands still until the last."""
    limit = anyio.CancelScope(deadline=anyio.current_time() + 5)
    first, second = anyio.Event(), anyio.Event()
    asked = anyio.Event()

    def left() -> float:
        return limit.deadline - anyio.current_time()

    async def ask(questions: Mapping[str, Question]) -> dict[str, Any]:
        assert left() > QUESTION_SECONDS
        asked.set()
        await (first if "first" in questions else second).wait()
        return {key: {} for key in questions}

    waits = patient(replace(asker({}), ask=ask), limit)

    async def asks_second() -> None:
        await waits.ask({"second": FORM})

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asks_second)
            await asked.wait()
            first.set()
            assert await waits.ask({"first": FORM}) == {"first": {}}
            assert left() > QUESTION_SECONDS
            second.set()
    assert left() <= 5
