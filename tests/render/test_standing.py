"""What stands beside a call: its telling arguments, whose approval would count, and how much care it asks for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hitl_mcp.calls import Requirement
from hitl_mcp.people import Reviewer
from hitl_mcp.render import Beside, shown
from hitl_mcp.render.standing import place_in, standing
from hitl_mcp.render.telling import telling
from tests.render.records import PAYMENT, PEOPLE, record_with


def test_telling_arguments_are_whom_it_concerns_then_how_much() -> None:
    """At most four, by names that many tools use, numbers to the digit; of others only what is short."""
    arguments = {"amount": 9007199254740993, "memo": "x" * 200, "to": ["a@x.example", "b@x.example"], "z": {"deep": 1}}
    facts = telling(json.dumps(arguments))
    assert facts == (("to", "a@x.example, b@x.example"), ("amount", "9007199254740993"))
    assert telling("[1]") == telling("") == ()


@pytest.mark.parametrize(
    ("need", "beside", "state"),
    [
        (Requirement("any"), Beside(), "can"),
        (Requirement("care", ("support",)), Beside(), "cannot"),
        (Requirement("sure", assurance="passkey"), Beside(), "passkey"),
        (Requirement("sure", assurance="passkey"), Beside(assurance="passkey"), "can"),
        (Requirement("apart", barred=("dana",), assurance="passkey"), Beside(), "cannot"),
        (Requirement("elsewhere", surfaces=("slack",)), Beside(), "cannot"),
    ],
    ids=["any", "role", "unsigned", "signed", "barred", "surface"],
)
def test_whether_ones_approval_would_count_is_said_for_each_requirement(
    need: Requirement, beside: Beside, state: str
) -> None:
    """By the very rule that counts it later; a passkey is asked for only where that is all that is missing."""
    record = record_with({}, decision=replace(PAYMENT, requirements=(need,)))
    found = place_in(record, Reviewer("dana", frozenset({"finance"})), need, beside)
    assert found["state"] == state
    assert (found["why"] is None) == (state != "cannot")


@pytest.mark.parametrize(
    ("needs", "passkeys", "signs"),
    [
        ((Requirement("any"),), 1, False),
        ((Requirement("sure", assurance="passkey"),), 0, True),
        ((Requirement("any"), Requirement("sure", assurance="passkey")), 0, False),
        ((Requirement("any"), Requirement("sure", assurance="passkey")), 1, True),
    ],
    ids=["not-asked", "asked", "beside-another", "beside-another-and-at-hand"],
)
def test_who_can_sign_signs_where_that_makes_their_approval_count_for_more(
    needs: tuple[Requirement, ...], passkeys: int, signs: bool
) -> None:
    """Nobody approves twice, so a second approval would not make up for it; who has none meets the other."""
    record = record_with({}, decision=replace(PAYMENT, requirements=needs))
    you = standing(record, Reviewer("dana", frozenset({"finance"})), Beside(passkeys=passkeys))
    assert you["passkey"] == ("needed" if signs else None)


def test_an_ordinary_call_is_not_critical() -> None:
    """One person, few points and nothing irreversible: nothing is typed."""
    plain = replace(PAYMENT, requirements=(Requirement("mail"),), signals=(), score=74)
    assert shown(record_with({"amount": 5}, decision=plain), PEOPLE)["critical"] is None
    careful = shown(record_with({"amount": 5}, decision=replace(plain, score=75)), PEOPLE)["critical"]
    assert careful == {"why": ["it has 75 of 100 points"], "type": {"name": "amount", "text": "5"}}
