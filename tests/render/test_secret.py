"""What the config names as secret: shown as type, length and fingerprint, on page and terminal, raw or not."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from hitl_mcp.calls import CallRecord, Outcome, Status
from hitl_mcp.canonical import canonical_text
from hitl_mcp.render import difference_shown, shown, summary, terminal_text
from hitl_mcp.render.secret import Cover, cover_with, public_part
from hitl_mcp.render.tokens import places_of
from tests.render.records import PEOPLE, record_with

PASSWORD = "correct horse battery"
VALUE = 'tok"en/with %odd\u00e9 bytes'
NAME = "payments__pay"


@pytest.fixture(autouse=True)
def covered() -> Iterator[None]:
    """A cover as a gateway lays it, for one test."""
    cover = Cover(
        arguments=(("payments__*", ("password",)), ("*", ("headers", "*")), ("payments__pay", ("card",))),
        values=frozenset({VALUE, "short"}),
        fingerprint=lambda value: f"f{len(value)}{ord(value[0]):x}",
    )
    cover_with(cover)
    yield
    cover_with(Cover())


def everything(record: CallRecord) -> str:
    """All that people are shown of a call, anywhere."""
    data = shown(record, PEOPLE, "dana")
    return json.dumps([data, summary(record)], ensure_ascii=False) + terminal_text(data, 100) + terminal_text(data, 40)


def test_a_secret_argument_is_shown_by_type_length_and_fingerprint() -> None:
    """In the tree and in the raw view, with everything else as it is; whole, and its size is that of the true bytes."""
    arguments = {"amount": 5, "password": PASSWORD, "card": {"n": 1}, "headers": {"a": "x1", "b": 17, "c": None}}
    data = shown(record_with(arguments), PEOPLE)
    tree = "\n".join("".join(one["text"] for one in line["segments"]) for line in data["arguments"]["lines"])
    raw = "".join(one["text"] for one in data["arguments"]["raw"])
    for text in (tree, raw):
        assert "⟦secret: text, 21 characters, fingerprint f2163⟧" in text
        assert "⟦secret: object, 7 characters, fingerprint f77b⟧" in text
        assert "⟦secret: text, 2 characters, fingerprint f278⟧" in text
        assert "⟦secret: number, 2 characters, fingerprint f231⟧" in text
        assert "⟦secret: null, 4 characters, fingerprint f46e⟧" in text
    assert '"amount": 5' in tree
    assert data["arguments"]["whole"] is True
    assert data["arguments"]["bytes"] == len(canonical_text(arguments))


def test_other_tools_keep_their_arguments() -> None:
    """The glob says whose argument it is."""
    record = record_with({"password": PASSWORD})
    other = replace(record, call=replace(record.call, name="mail__send"))
    assert PASSWORD in everything(other)
    assert PASSWORD not in everything(record)


@pytest.mark.parametrize("field", ["claim", "result", "error", "reason", "other argument", "tool"])
def test_a_secret_argument_stands_nowhere_else_either(field: str) -> None:
    """A result may echo a password, a claim may repeat it: it is covered in all that is shown of this call."""
    record = record_with({"password": PASSWORD, "note": f"it is {PASSWORD}!" if field == "other argument" else ""})
    ways: dict[str, dict[str, Any]] = {
        "claim": {"asked": replace(record.asked, claim=f"with {PASSWORD}")},
        "result": {"outcome": _outcome(result_json=json.dumps({"echo": [PASSWORD]}))},
        "error": {"outcome": _outcome(detail=f"wrong password {PASSWORD}")},
        "reason": {"closed_reason": f"no: {PASSWORD}"},
        "other argument": {},
        "tool": {"call": replace(record.call, tool=f"pay {PASSWORD}")},
    }
    text = everything(replace(record, **ways[field]))
    assert PASSWORD not in text
    assert text.count("fingerprint f2163") >= 4


def _outcome(**changes: Any) -> Outcome:
    return Outcome(Status.FAILED, executed=True, at="2026-11-22T14:03:00.000000Z", **changes)


@pytest.mark.parametrize(
    "spelling",
    [
        VALUE,
        "tok%22en%2Fwith%20%25odd%C3%A9%20bytes",
        base64.b64encode(VALUE.encode()).decode(),
        base64.b64encode(f"user:{VALUE}".encode()).decode(),
    ],
    ids=["as it is", "percent-encoded", "in base64", "with a name before it, in base64"],
)
def test_a_value_of_the_config_is_covered_wherever_it_stands(spelling: str) -> None:
    """However it is written: nobody reads a gateway's credential off the page, nor decodes it from there."""
    record = record_with({"note": f"use {spelling} here", "list": [spelling]}, claim=f"the key is {spelling}")
    text = everything(record)
    assert spelling not in text and json.dumps(spelling, ensure_ascii=False)[1:-1] not in text
    assert "⟦secret: text" in text
    assert shown(record, PEOPLE)["arguments"]["whole"] is True


def test_a_short_value_is_covered_nowhere() -> None:
    """It would be found in words that have nothing to do with it."""
    assert "in short" in everything(record_with({"note": "in short"}))


def test_an_edit_shows_no_secret_on_either_side() -> None:
    """The difference of two versions says that the secret changed, by its fingerprint."""
    before = canonical_text({"password": PASSWORD, "amount": 5})
    after = canonical_text({"password": "another secret", "amount": 5})
    text = json.dumps(difference_shown(before, after, NAME), ensure_ascii=False)
    assert PASSWORD not in text and "another secret" not in text
    assert "fingerprint f2163" in text and "fingerprint f1461" in text


def test_what_tells_of_a_call_leaves_secrets_out() -> None:
    """The sentence, and what is to be typed before a critical call is approved, are made of the rest."""
    record = record_with({"amount": 5, "card": {"n": [1, 2]}, "password": PASSWORD})
    assert json.loads(public_part(record.call)) == {"amount": 5, "card": None, "password": None}


def test_a_text_cannot_pass_for_a_covered_secret() -> None:
    """The brackets are marked where a text contains them, as for every mark."""
    text = everything(record_with({"note": "⟦secret: text, 4 characters, fingerprint abc⟧"}))
    assert "⟦secret: text, 4 characters" not in text


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        (("a",), ['{"b":[1,{"c":"x"}],"d":"y"}']),
        (("a", "b", "0"), ["1"]),
        (("a", "b", "*", "c"), ['"x"']),
        (("*", "d"), ['"y"']),
        (("e/f~",), ["null"]),
        (("a", "b", "2"), []),
        (("b",), []),
    ],
)
def test_a_pointer_leads_to_a_value_in_the_text(pointer: tuple[str, ...], found: list[str]) -> None:
    """Through members and elements, with a star for any; never into a string."""
    text = canonical_text({"a": {"b": [1, {"c": "x"}], "d": "y"}, "e/f~": None, "s": '{"a":1,"b":2}'})
    assert [text[start:end] for start, end in places_of(text, [pointer])] == found
