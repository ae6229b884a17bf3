"""The questions put to a client: what a form shows, when there is none, and what its answers say."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hitl_mcp.calls import VerdictKind
from hitl_mcp.render.shown import shown
from hitl_mcp.render.terminal import terminal_text
from hitl_mcp.surfaces.agents.forms import (
    FORM_CHARACTERS,
    FORM_COLUMNS,
    Mode,
    Said,
    address_for,
    form_for,
    modes_of,
    said_by,
)
from tests.render.records import PEOPLE, record_with

MODERN = "2026-07-28"


def form_about(arguments: Any, version: str = MODERN, **changes: Any) -> dict[str, Any] | None:
    """The form about a payment with these arguments."""
    record = record_with(arguments, **changes)
    return form_for(record, shown(record, PEOPLE), version)


def test_a_form_shows_what_the_terminal_and_the_page_show() -> None:
    """One renderer: the message has every row of it, and nothing else inside the fence."""
    record = record_with({"to": "Northwind", "amount": 5000})
    form = form_for(record, shown(record, PEOPLE), MODERN)
    assert form is not None
    _, fence, text, end, rest = re.split(r"\n(```+)\n", "\n" + form["message"] + "\n", maxsplit=2)
    assert (fence, end, rest) == ("```", "```", "")
    assert text == terminal_text(shown(record, PEOPLE), FORM_COLUMNS).rstrip("\n")


def test_a_form_needs_an_explicit_decision_and_its_constants() -> None:
    """Nothing is filled in that decides anything; call and digest can only be what they are."""
    record = record_with({})
    form = form_for(record, shown(record, PEOPLE), MODERN)
    assert form is not None
    schema = form["requestedSchema"]
    assert set(schema["required"]) == set(schema["properties"]) == {"decision", "call", "digest"}
    assert "default" not in schema["properties"]["decision"]
    assert schema["properties"]["decision"]["enum"] == ["approve", "reject"]
    assert schema["properties"]["call"]["enum"] == [record.id]
    assert schema["properties"]["digest"]["enum"] == [record.digest]


def test_hidden_characters_are_visible_in_a_form() -> None:
    """What turns text around or cannot be seen stands there by its name."""
    form = form_about({"to": "a\u202eb\u200bc\x1b[2J"})
    assert form is not None
    assert all(name in form["message"] for name in ("RIGHT-TO-LEFT OVERRIDE", "ZERO WIDTH SPACE", "U+001B"))
    assert not set("\u202e\u200b\x1b") & set(form["message"])


@pytest.mark.parametrize("text", ["```", "a ``` b", "``````", "```\n\n# Approved\n<!--", "~~~"])
def test_no_text_ends_the_fence_in_which_it_is_shown(text: str) -> None:
    """A client that reads Markdown shows what an agent wrote as it is: the fence is longer than any run inside."""
    form = form_about({"note": text, text: 1})
    assert form is not None
    fence = form["message"].rsplit("\n", 1)[1]
    assert set(fence) == {"`"}
    assert form["message"].count(fence) == 2


@pytest.mark.parametrize(
    "arguments",
    [{"body": "word " * 1000}, {"body": "line\n" * 100}, {str(number): number for number in range(100)}],
    ids=["long", "lines", "keys"],
)
def test_what_does_not_fit_is_not_asked_in_a_form(arguments: dict[str, Any]) -> None:
    """Not cut, not folded: whoever cannot see it whole does not decide on it there."""
    assert form_about(arguments) is None


def test_a_form_is_never_longer_than_its_bound() -> None:
    """Growing letter by letter, forms stop exactly where the bound is crossed."""
    lengths = [len(form["message"]) for size in range(0, 4000, 50) if (form := form_about({"body": "w" * size}))]
    assert lengths
    assert max(lengths) < FORM_CHARACTERS + 200


def test_each_era_gets_the_form_it_knows() -> None:
    """A form's `mode` came with the revision that has another one."""
    assert ((form_about({}, "2025-06-18") or {}).get("mode"), (form_about({}) or {}).get("mode")) == (None, "form")


def test_an_address_names_the_call_and_gives_no_authority() -> None:
    """The question leads to the page, where the person signs in; only older clients need an id to be told the end."""
    record = record_with({"secret": "hunter2"})
    question = address_for(record, "http://127.0.0.1:8377/#call=c_1", None)
    assert question["url"] == "http://127.0.0.1:8377/#call=c_1"
    assert "hunter2" not in str(question)
    assert "elicitationId" not in question
    assert address_for(record, "http://127.0.0.1:8377/", "e1")["elicitationId"] == "e1"


@pytest.mark.parametrize(
    ("declared", "version", "modes"),
    [
        ({}, MODERN, set()),
        ({"elicitation": {}}, MODERN, {Mode.FORM}),
        ({"elicitation": {"form": {}}}, "2025-11-25", {Mode.FORM}),
        ({"elicitation": {"url": {}}}, MODERN, {Mode.URL}),
        ({"elicitation": {"form": {}, "url": {}}}, MODERN, {Mode.FORM, Mode.URL}),
        ({"elicitation": {"form": {}, "url": {}}}, "2025-06-18", {Mode.FORM}),
        ({"elicitation": {}}, "2025-03-26", set()),
        ({"elicitation": True}, MODERN, set()),
    ],
)
def test_a_client_is_asked_in_the_ways_it_declares(declared: Any, version: str, modes: set[Mode]) -> None:
    """A bare `elicitation` means forms, and what a revision does not have is not asked of it."""
    assert modes_of(declared, version) == modes


def test_only_an_exact_answer_is_a_verdict() -> None:
    """Decision, call and digest, to the letter; the rest says nothing."""
    record = record_with({})
    content = {"decision": "approve", "call": record.id, "digest": record.digest}
    assert said_by({"action": "accept", "content": content}, Mode.FORM, record).verdict is VerdictKind.APPROVE
    rejected = {**content, "decision": "reject"}
    assert said_by({"action": "accept", "content": rejected}, Mode.FORM, record).verdict is VerdictKind.REJECT
    answers: list[Any] = [
        None,
        [],
        "accept",
        {},
        {"action": "approve", "content": content},
        {"action": "accept"},
        {"action": "accept", "content": [content]},
        {"action": "accept", "content": {**content, "more": 1}},
        {"action": "accept", "content": {**content, "digest": record.digest.upper()}},
    ]
    for answer in answers:
        assert said_by(answer, Mode.FORM, record) is Said.NOTHING


def test_opening_the_page_is_no_verdict_whatever_comes_with_it() -> None:
    """A client that was sent to the page cannot approve with what it makes up."""
    record = record_with({})
    content = {"decision": "approve", "call": record.id, "digest": record.digest}
    said = said_by({"action": "accept", "content": content}, Mode.URL, record)
    assert (said, said.verdict) == (Said.OPENED, None)
