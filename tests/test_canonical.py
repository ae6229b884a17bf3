"""JSON that everyone reads alike, and the bytes that stand for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitl_mcp.canonical import canonical_bytes, canonical_text, check_value, digest_of, parse_strict
from hitl_mcp.errors import ArgumentsRefused
from hitl_mcp.limits import DEPTH_LEVELS, MESSAGE_BYTES, SAFE_INTEGER

REFUSED = [
    ('{"a":1,"a":2}', "$.a: the key stands twice"),
    ('{"x":{"a":1,"\\u0061":2}}', "$.x.a: the key stands twice"),
    ('{"to pay":[1,NaN]}', '$["to pay"][1]: `NaN` is not JSON'),
    ('{"a":-Infinity}', "$.a: `-Infinity` is not JSON"),
    ('{"a":1e999}', "$.a: the number is too large for any JSON reader"),
    ('{"a":-1e999}', "$.a: the number is too large for any JSON reader"),
    (f'{{"a":{SAFE_INTEGER + 1}}}', "$.a: the integer is beyond ±9007199254740991; send it as a string"),
    (f'{{"a":-{SAFE_INTEGER + 1}}}', "$.a: the integer is beyond ±9007199254740991; send it as a string"),
    ('{"a":' + "9" * 5000 + "}", "$.a: the integer is beyond ±9007199254740991; send it as a string"),
    ('{"a":"\\ud800"}', "$.a: the text holds half of a surrogate pair"),
    ('{"\\udfff":1}', "$.<key>: the text holds half of a surrogate pair"),
    ('{"a":"x\\u0000y"}', "$.a: the text holds a NUL character"),
    ("{'a':1}", "$: not JSON: Expecting property name enclosed in double quotes at line 1 column 2"),
    ('{"a":1} {"b":2}', "$: not JSON: Extra data at line 1 column 9"),
    ("", "$: not JSON: Expecting value at line 1 column 1"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_two_readers_could_understand_differently_is_refused_with_its_path(text: str, message: str) -> None:
    """Each smuggling trick is refused, and the error says where it stands."""
    with pytest.raises(ArgumentsRefused) as refused:
        parse_strict(text)
    assert str(refused.value) == message
    assert message.startswith(refused.value.path)


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    """Invalid UTF-8 is refused with the byte where it starts."""
    with pytest.raises(ArgumentsRefused, match=r"^\$: not UTF-8 at byte 6$"):
        parse_strict(b'{"a":"\xff"}')


def test_nesting_is_accepted_up_to_its_limit_and_refused_beyond() -> None:
    """64 levels pass, the 65th does not, and a bomb of brackets does not reach the stack's end."""
    assert parse_strict("[" * DEPTH_LEVELS + "]" * DEPTH_LEVELS)
    for levels in (DEPTH_LEVELS + 1, 200_000):
        with pytest.raises(ArgumentsRefused, match="nested"):
            parse_strict("[" * levels + "]" * levels)


def test_a_message_over_the_cap_is_refused_before_it_is_parsed() -> None:
    """One byte more than 1 MiB is too much, exactly 1 MiB is not."""
    padding = MESSAGE_BYTES - len('{"a":""}')
    assert parse_strict('{"a":"' + "x" * padding + '"}')
    with pytest.raises(ArgumentsRefused, match=f"more than {MESSAGE_BYTES}"):
        parse_strict('{"a":"' + "x" * (padding + 1) + '"}')


def test_the_largest_safe_integers_are_kept_exactly() -> None:
    """±(2^53-1) pass and stand in the bytes digit by digit."""
    text = '{"a":9007199254740991,"b":-9007199254740991}'
    assert canonical_text(parse_strict(text)) == text


def test_canonical_bytes_sort_keys_and_write_the_shortest_numbers() -> None:
    """One value has one writing, whatever order and spelling it came in."""
    assert canonical_bytes(parse_strict('{ "b" : 1e2, "a" : [1.50, -0, 1] , "é":"\\u00e9"}')) == (
        '{"a":[1.5,0,1],"b":100.0,"é":"é"}'.encode()
    )


def test_an_integer_and_the_same_number_with_a_point_stay_different() -> None:
    """1 and 1.0 are different bytes to a tool, so they have different digests."""
    assert digest_of(parse_strict("[1]")) != digest_of(parse_strict("[1.0]"))


def test_a_value_in_memory_is_held_to_the_same_rules() -> None:
    """What was never JSON (NaN, a large integer, a key that is no text, a set) is refused with its path."""
    for value, path in (
        ({"a": float("nan")}, "$.a"),
        ({"a": [SAFE_INTEGER + 1]}, "$.a[0]"),
        ({1: "x"}, "$"),
        ({"a": {1, 2}}, "$.a"),
        ({"a": "\ud800"}, "$.a"),
    ):
        with pytest.raises(ArgumentsRefused) as refused:
            check_value(value)
        assert refused.value.path == path


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-SAFE_INTEGER, SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcé🙂 ", max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(JSON)
def test_parsing_the_canonical_bytes_gives_the_value_and_the_same_bytes(value: Any) -> None:
    """Canonical bytes are a fixed point: read and written again they are the same, for any JSON value."""
    written = canonical_bytes(value)
    assert canonical_bytes(parse_strict(written)) == written
    assert parse_strict(written) == value
    assert canonical_bytes(json.loads(json.dumps(value))) == written
