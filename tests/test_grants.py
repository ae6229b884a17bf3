"""Which calls a grant fits: each operator, what must not fool it, and a model that it is held against."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitl_mcp.calls import RUNS_ELSEWHERE, Requirement
from hitl_mcp.canonical import canonical_text
from hitl_mcp.errors import GrantRefused
from hitl_mcp.grants import (
    Condition,
    Grant,
    Op,
    check_conditions,
    giver_lost,
    holds,
    misfit,
    paths_in,
    shape_of,
    suggested,
    ungrantable,
    unmatched,
    why_not_served,
)
from hitl_mcp.limits import GRANT_CONDITIONS, GRANT_SHAPE_PATHS
from hitl_mcp.people import Reviewer
from tests.samples import tool_call

HOLDING = [
    ("equals", "a", "a"),
    ("equals", 5, 5),
    ("equals", {"x": [1, None]}, {"x": [1, None]}),
    ("one_of", "b", ["a", "b"]),
    ("one_of", ["b", "a"], ["a", "b", "c"]),
    ("one_of", 5, [4, 5]),
    ("starts_with", "report-1", "report-"),
    ("starts_with", ["report-1", "report-2"], "report-"),
    ("starts_with", "/srv/data/a.txt", "/srv/data/"),
    ("starts_with", "https://example.com/a/b", "https://example.com/a/"),
    ("ends_with", "a@example.com", "@example.com"),
    ("ends_with", ["a@example.com", "b.c+d@example.com"], "@example.com"),
    ("ends_with", "a@mail.example.com", ".example.com"),
    ("ends_with", "a@example.com", "example.com"),
    ("ends_with", "report.pdf", ".pdf"),
    ("at_most", 5, 5),
    ("at_most", 4.5, 5),
    ("at_most", "4.50", 5),
    ("at_most", -6, -5),
    ("at_least", 5, 5),
    ("at_least", "6", 5),
    ("domain_in", "a@example.com", "example.com"),
    ("domain_in", ["a@example.com", "a@EXAMPLE.org"], ["example.com", "example.org"]),
    ("domain_in", "https://example.com/x", "example.com"),
    ("domain_in", "Example.com", "example.com"),
]

FAILING = [
    ("equals", "A", "a"),
    ("equals", "5", 5),
    ("equals", 5.0, 5),
    ("equals", True, 1),
    ("equals", 1, True),
    ("equals", None, False),
    ("equals", "e\u0301", "\u00e9"),
    ("one_of", [], ["a"]),
    ("one_of", ["a", "x"], ["a", "b"]),
    ("one_of", 1, [True]),
    ("starts_with", "Report-1", "report-"),
    ("starts_with", ["report-1", "x"], "report-"),
    ("starts_with", [], "report-"),
    ("starts_with", 5, "5"),
    ("starts_with", "/srv/data/../../etc/passwd", "/srv/data/"),
    ("starts_with", "/srv/data/..", "/srv/data/"),
    ("starts_with", "/srv/data/%2E%2e/x", "/srv/data/"),
    ("starts_with", "/srv/data/..%2fx", "/srv/data/"),
    ("starts_with", "C:/data/..\\x", "C:/data/"),
    ("starts_with", "/srv/data/.. /x", "/srv/data/"),
    ("starts_with", "https://example.com.evil.org/", "https://example.com"),
    ("starts_with", "https://example.com@evil.org/", "https://example.com"),
    ("starts_with", "https://example.com\\@evil.org/", "https://example.com"),
    ("starts_with", "https://example.com", "https://exam"),
    ("ends_with", "a@example.com, b@evil.org", "evil.org"),
    ("ends_with", "b@evil.org, a@example.com", "@example.com"),
    ("ends_with", "b@evil.org;a@example.com", "@example.com"),
    ("ends_with", "b@evil.org a@example.com", "@example.com"),
    ("ends_with", "a@example.com <b@evil.org>", "@example.com"),
    ("ends_with", '"b@evil.org" <a@example.com>', "@example.com"),
    ("ends_with", "b%evil.org@example.com", "@example.com"),
    ("ends_with", "a@evil.org\n@example.com", "@example.com"),
    ("ends_with", "@example.com", "@example.com"),
    ("ends_with", "a@EXAMPLE.com", "@example.com"),
    ("ends_with", "a@notexample.com", "example.com"),
    ("ends_with", "a@notexample.com", "@example.com"),
    ("ends_with", "а@evil.org@example.com", "@example.com"),
    ("ends_with", ["a@example.com", "b@evil.org"], "@example.com"),
    ("ends_with", ["a@example.com", 5], "@example.com"),
    ("ends_with", [["a@example.com"]], "@example.com"),
    ("ends_with", {"to": "a@example.com"}, "@example.com"),
    ("at_most", 6, 5),
    ("at_most", -1, 5),
    ("at_most", "-1", 5),
    ("at_most", True, 5),
    ("at_most", "4,5", 5),
    ("at_most", "1e0", 5),
    ("at_most", "٤", 5),
    ("at_most", [1], 5),
    ("at_most", None, 5),
    ("at_least", "5 ", 5),
    ("at_least", 4, 5),
    ("domain_in", "a@mail.example.com", "example.com"),
    ("domain_in", "https://example.com.evil.org/", "example.com"),
    ("domain_in", "https://a@example.com/", "example.com"),
    ("domain_in", "a@example.com,b@evil.org", "example.com"),
    ("domain_in", "exаmple.com", "example.com"),
    ("domain_in", [], "example.com"),
]


@pytest.mark.parametrize(("op", "present", "value"), HOLDING)
def test_a_condition_holds(op: Op, present: Any, value: Any) -> None:
    """Of a value at any place in the arguments."""
    assert holds(Condition("/x", op, value), {"x": present})
    assert holds(Condition("/a~1b/1/~0", op, value), {"a/b": [0, {"~": present}]})


@pytest.mark.parametrize(("op", "present", "value"), FAILING)
def test_a_condition_fails(op: Op, present: Any, value: Any) -> None:
    """Where it is not so, of another type, or where it looks so and is not."""
    assert not holds(Condition("/x", op, value), {"x": present})


@pytest.mark.parametrize("path", ["/y", "/x/y", "/x/0", "/list/01", "/list/-", "/list/2", "/list/²", "/x/"])
def test_a_condition_on_what_is_not_there_fails(path: str) -> None:
    """Absent, below a text, or no index."""
    for op, value in (("equals", None), ("one_of", [None]), ("at_most", 5), ("starts_with", "a")):
        assert not holds(Condition(path, op, value), {"x": "abc", "list": [1, 2]})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "condition",
    [
        Condition("x", "equals", 1),
        Condition("", "equals", 1),
        Condition("/x", "starts_with", ""),
        Condition("/x", "ends_with", 5),
        Condition("/x", "at_most", "5"),
        Condition("/x", "at_least", True),
        Condition("/x", "one_of", []),
        Condition("/x", "one_of", "a"),
        Condition("/x", "one_of", [{}]),
        Condition("/x", "domain_in", "@example.com"),
        Condition("/x", "domain_in", []),
        Condition("/x", "domain_in", "exаmple.com"),
    ],
)
def test_a_condition_that_means_nothing_is_refused(condition: Condition) -> None:
    """With what to write instead."""
    with pytest.raises(GrantRefused) as refused:
        check_conditions([condition])
    assert refused.value.help


def test_more_conditions_or_arguments_than_a_person_can_read_are_refused() -> None:
    """A grant is looked through by a person."""
    check_conditions([Condition("/x", "equals", 1)] * GRANT_CONDITIONS)
    with pytest.raises(GrantRefused):
        check_conditions([Condition("/x", "equals", 1)] * (GRANT_CONDITIONS + 1))
    shape_of(canonical_text(dict.fromkeys(map(str, range(GRANT_SHAPE_PATHS)))))
    with pytest.raises(GrantRefused):
        shape_of(canonical_text(dict.fromkeys(map(str, range(GRANT_SHAPE_PATHS + 1)))))


GRANT = Grant(
    id="g_23456789abcde",
    agent="builder",
    upstream="mail",
    tool="send",
    name="mail__send",
    fingerprint="sha256:" + "1" * 64,
    definition="sha256:" + "2" * 64,
    conditions=(Condition("/to", "ends_with", "@example.com"),),
    shape=frozenset({"/to", "/body"}),
    uses=3,
    given_by="dana",
    roles=("finance",),
    surface="web",
    assurance="link",
    given_at="2026-11-22T12:00:00.000000Z",
    expires_at="2026-11-22T13:00:00.000000Z",
    call_id="c_23456789abcde",
    digest="sha256:" + "3" * 64,
    reason="",
)


@pytest.mark.parametrize(
    "change",
    [
        {"agent": "other"},
        {"upstream": "post"},
        {"tool": "forward"},
        {"name": "mail__forward"},
        {"fingerprint": "sha256:" + "4" * 64},
        {"definition": "sha256:" + "4" * 64},
        {"fingerprint": RUNS_ELSEWHERE, "definition": RUNS_ELSEWHERE},
        {"arguments_json": '{"to":"a@evil.org"}'},
        {"arguments_json": '{"bcc":"b@evil.org","body":"hello","to":"a@example.com"}'},
        {"arguments_json": '{"body":{"html":"x"},"to":"a@example.com"}'},
    ],
)
def test_a_call_that_differs_in_what_a_grant_is_bound_to_does_not_fit(change: dict[str, str]) -> None:
    """Agent, tool, definition, upstream, and what its arguments carry."""
    assert misfit(GRANT, tool_call()) is None
    assert misfit(GRANT, tool_call(**change)) is not None


def test_what_a_call_carries_may_be_less_but_not_more_than_the_first_one_did() -> None:
    """Every entry of a list counts as the same; a member called `*` is no entry."""
    shape = shape_of('{"list":[{"a":1}],"to":"x"}')
    assert shape == {"/list", "/list/*", "/list/*/a", "/to"}
    assert unmatched((), shape, '{"list":[{"a":1},{"a":2},{}]}') is None
    assert unmatched((), shape, '{"list":[{"b":1}]}') is not None
    assert unmatched((), shape, '{"list":{"*":{"a":1}}}') is not None
    assert list(paths_in({"*": {"a/b": 1}})) == ["/~2", "/~2/a~1b"]


def test_a_grant_is_over_by_its_end_its_time_or_its_uses() -> None:
    """Each is told apart."""
    now = GRANT.given_at
    assert GRANT.over(now) is None
    assert GRANT.over(GRANT.expires_at) == "its time is over"
    assert replace(GRANT, used=3).over(now) == "it is used up"
    assert replace(GRANT, ended_at=now, ended_why="`erin` revoked it").over(now) == "`erin` revoked it"


def test_what_asks_for_people_and_is_not_grantable_is_met_by_no_grant() -> None:
    """Nothing asked, a rule that does not say so, several people, a passkey."""
    need = Requirement("mail-out", ("finance",), grantable=True)
    assert ungrantable([need]) is None
    for wrong in ([], [need, Requirement("band-40")], [replace(need, quorum=2)], [replace(need, assurance="passkey")]):
        assert ungrantable(wrong) is not None


def test_a_giver_counts_as_the_config_says_now() -> None:
    """Who lost a role that counted, left, or is barred, gives nothing any more; with every role nobody loses any."""
    need = Requirement("mail-out", ("finance",), grantable=True)
    dana = Reviewer("dana", frozenset({"finance"}))
    assert why_not_served(GRANT, dana, [need]) is None
    assert why_not_served(GRANT, None, [need]) == "`dana`, who gave it, is no reviewer any more"
    assert giver_lost(GRANT, Reviewer("dana", frozenset({"legal"}))) is not None
    assert giver_lost(GRANT, Reviewer("dana", every_role=True)) is None
    assert why_not_served(GRANT, dana, [replace(need, barred=("dana",))]) is not None
    assert why_not_served(GRANT, dana, [replace(need, roles=("legal",))]) is not None
    assert why_not_served(GRANT, dana, []) is None


def test_the_conditions_to_begin_with_match_nothing_but_the_call() -> None:
    """One for each value, a list being one; where they are many, one for each argument."""
    text = '{"amount":5,"a/b":{"c":[1,2],"d":{}},"to":"x"}'
    first = suggested(text)
    assert [(one.path, one.value) for one in first] == [
        ("/amount", 5),
        ("/a~1b/c", [1, 2]),
        ("/a~1b/d", {}),
        ("/to", "x"),
    ]
    assert unmatched(first, shape_of(text), text) is None
    assert unmatched(first, shape_of(text), text.replace("5", "6")) is not None
    many = canonical_text({"rows": {str(number): number for number in range(GRANT_CONDITIONS)}, "to": "x"})
    assert [one.path for one in suggested(many)] == ["/rows", "/to"]


# A model of the operators, written another way.

TEXTS = st.sampled_from(
    [
        *("a@example.com", "b@evil.org", "a@example.com,b@evil.org", "b@evil.org a@example.com", "x <a@example.com>"),
        *("a@sub.example.com", "a@notexample.com", "example.com", "evil.org", "/srv/a", "/srv/../etc", "srv", "", "@"),
        *("https://example.com/a", "https://example.com.evil.org/a", "https://example.com@evil.org", "5", "05", "-3"),
    ]
)
SCALARS = st.one_of(TEXTS, st.integers(-10, 10), st.booleans(), st.none(), st.sampled_from([0.5, 5.0, -2.5]))
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.sampled_from(["x", "y"]), SCALARS))
ARGUMENTS = st.dictionaries(st.sampled_from(["to", "cc", "amount", "body"]), VALUES, max_size=4)
PATHS = st.sampled_from(["/to", "/cc", "/amount", "/body", "/to/0", "/to/x", "/none"])
CONDITIONS = st.one_of(
    st.builds(Condition, PATHS, st.just("equals"), VALUES),
    st.builds(Condition, PATHS, st.just("one_of"), st.lists(SCALARS, min_size=1, max_size=3)),
    st.builds(Condition, PATHS, st.sampled_from(["at_most", "at_least"]), st.integers(-5, 10)),
    st.builds(Condition, PATHS, st.just("starts_with"), st.sampled_from(["/srv/", "a", "https://example.com"])),
    st.builds(Condition, PATHS, st.just("ends_with"), st.sampled_from(["@example.com", "example.com", ".org"])),
    st.builds(Condition, PATHS, st.just("domain_in"), st.sampled_from(["example.com", ["evil.org", "example.com"]])),
)
ABSENT = object()


def model_of(condition: Condition, arguments: dict[str, Any]) -> bool:
    """What a person would say of the few values that are tried here."""
    present: Any = arguments
    for part in condition.path[1:].split("/"):
        if isinstance(present, list) and part == "0" and present:
            present = present[0]
        else:
            present = present.get(part, ABSENT) if isinstance(present, dict) else ABSENT
    if present is ABSENT:
        return False
    if condition.op == "equals":
        return same(present, condition.value)
    each = present if isinstance(present, list) else [present]
    if condition.op == "one_of":
        return each != [] and all(any(same(one, other) for other in condition.value) for one in each)
    if condition.op in ("at_most", "at_least"):
        amount = amount_of(present)
        if amount is None:
            return False
        bound = Decimal(condition.value)
        if condition.op == "at_least":
            return amount >= bound
        return amount <= bound and not amount < 0 <= bound
    return each != [] and all(isinstance(one, str) and model_of_text(condition, one) for one in each)


def same(one: Any, other: Any) -> bool:
    """The same JSON, to the byte."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def amount_of(value: Any) -> Decimal | None:
    """A number, or the text of a plain one."""
    if value is True or value is False:
        return None
    text = json.dumps(value) if isinstance(value, int | float) else value
    try:
        plain = isinstance(text, str) and (text == "5" or not isinstance(value, str) or text == "-3")
        return Decimal(text) if plain else None
    except InvalidOperation:
        return None


PLAIN_ADDRESSES = {"a@example.com": "example.com", "b@evil.org": "evil.org", "a@sub.example.com": "sub.example.com"}
PLAIN_ADDRESSES["a@notexample.com"] = "notexample.com"
HOSTS = {"https://example.com/a": "example.com", "https://example.com.evil.org/a": "example.com.evil.org"}
HOSTS |= {"example.com": "example.com", "evil.org": "evil.org", "srv": "srv"}


def model_of_text(condition: Condition, text: str) -> bool:
    """As a table, where there is one."""
    value = condition.value
    if condition.op == "domain_in":
        return {**PLAIN_ADDRESSES, **HOSTS}.get(text) in ([value] if isinstance(value, str) else value)
    if condition.op == "starts_with":
        if value.startswith("https"):
            return text == "https://example.com/a"
        return text.startswith(value) and ".." not in text
    if "@" not in text:
        return text.endswith(value)
    domain = PLAIN_ADDRESSES.get(text)
    if domain is None:
        return False
    ours = {"@example.com": {"example.com"}, "example.com": {"example.com", "sub.example.com"}, ".org": {"evil.org"}}
    return domain in ours[value]


@settings(max_examples=1500, deadline=None)
@given(st.lists(CONDITIONS, max_size=3), ARGUMENTS, ARGUMENTS)
def test_a_grant_serves_exactly_what_its_conditions_allow(
    conditions: list[Condition], first: dict[str, Any], later: dict[str, Any]
) -> None:
    """Against the model; and nothing with a member that the first call did not have."""
    wanted = all(model_of(condition, later) for condition in conditions)
    carries_more = {path for path in paths_in(later) if path not in set(paths_in(first))} - {
        condition.path for condition in conditions
    }
    served = unmatched(conditions, shape_of(canonical_text(first)), canonical_text(later)) is None
    assert served is (wanted and not carries_more)
