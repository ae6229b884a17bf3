"""JSON that everyone reads alike, and the bytes that stand for it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitl_mcp.canonical import canonical_bytes, canonical_text, check_value, compact_text, digest_of, parse_strict
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


# A second collection in the same process, as mutmut's, must find the same ids: only ASCII stays what it is.
@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[message.replace("±", "") for _, message in REFUSED])
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


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("[1]".encode("utf-16"), "$: not UTF-8 at byte 0"),
        ("[1]".encode("utf-16-le"), "$: not JSON: Expecting value at line 1 column 2"),
        ("[1]".encode("utf-8-sig"), "$: not JSON: Unexpected UTF-8 BOM (decode using utf-8-sig) at line 1 column 1"),
    ],
)
def test_no_other_encoding_is_guessed(raw: bytes, message: str) -> None:
    """Some readers guess UTF-16, or skip a byte order mark; others do not."""
    with pytest.raises(ArgumentsRefused) as refused:
        parse_strict(raw)
    assert str(refused.value) == message


def test_nesting_is_accepted_up_to_its_limit_and_refused_beyond() -> None:
    """64 levels pass, the 65th does not, and a bomb of brackets does not reach the stack's end."""
    assert parse_strict("[" * DEPTH_LEVELS + "]" * DEPTH_LEVELS)
    with pytest.raises(ArgumentsRefused, match="nested"):
        parse_strict("[" * (DEPTH_LEVELS + 1) + "]" * (DEPTH_LEVELS + 1))
    with pytest.raises(ArgumentsRefused, match=rf"^\$: nested deeper than {DEPTH_LEVELS} levels$"):
        parse_strict("[" * 200_000 + "]" * 200_000)


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


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": float("nan")}, "$.a: `nan` is not JSON"),
        ({"to pay": [1, float("-inf")]}, '$["to pay"][1]: `-inf` is not JSON'),
        ({"a": [SAFE_INTEGER + 1]}, "$.a[0]: the integer is beyond ±9007199254740991; send it as a string"),
        ({"a": [-SAFE_INTEGER - 1]}, "$.a[0]: the integer is beyond ±9007199254740991; send it as a string"),
        ({1: "x"}, "$: a key is a int, not a string"),
        ({"a": {1, 2}}, "$.a: a set is not JSON"),
        ({"a": "\ud800"}, "$.a: the text holds half of a surrogate pair"),
        ({"a": ["x", "x\x00y"]}, "$.a[1]: the text holds a NUL character"),
        ({"a": {"\x00": 1}}, "$.a.<key>: the text holds a NUL character"),
        ("x\x00y", "$: the text holds a NUL character"),
    ],
)
def test_a_value_in_memory_is_held_to_the_same_rules(value: object, message: str) -> None:
    """What was never JSON (NaN, a large integer, a key that is no text, a set) is refused with its path."""
    with pytest.raises(ArgumentsRefused) as refused:
        check_value(value)
    assert str(refused.value) == message
    assert message.startswith(f"{refused.value.path}: ")


def test_a_value_in_memory_that_is_right_comes_back_equal_and_of_the_same_types() -> None:
    """The ends of what is allowed are allowed, and numbers stay what they are."""
    value = {"a": [SAFE_INTEGER, -SAFE_INTEGER, 1.0, 1, True, None, ""], "é🙂": {"": {}, "b": []}}
    assert canonical_text(check_value(value)) == canonical_text(value)


def nested(levels: int, *kinds: str) -> str:
    """JSON of so many levels, of arrays and objects in turn."""
    openings = [kinds[level % len(kinds)] for level in range(levels)]
    closings = ["]" if opening == "[" else "}" for opening in reversed(openings)]
    return "".join(openings) + ("1" if openings[-1].endswith(":") else "") + "".join(closings)


@pytest.mark.parametrize("kinds", [["["], ['{"a":'], ["[", '{"a":'], ['{"a":', "["]])
def test_each_array_and_each_object_is_one_level(kinds: list[str]) -> None:
    """Written as text, as bytes, or in memory: 64 levels pass and 65 do not, and the error says where the last is."""
    allowed, deeper = nested(DEPTH_LEVELS, *kinds), nested(DEPTH_LEVELS + 1, *kinds)
    steps = {"[": "[0]", '{"a":': ".a"}
    path = "$" + "".join(steps[kinds[level % len(kinds)]] for level in range(DEPTH_LEVELS))
    for read, written in (
        (parse_strict, str),
        (parse_strict, str.encode),
        (check_value, json.loads),
    ):
        assert canonical_text(read(written(allowed))) == allowed
        with pytest.raises(ArgumentsRefused) as refused:
            read(written(deeper))
        assert str(refused.value) == f"{path}: nested too deep"


def test_a_digest_names_its_kind_and_is_of_the_canonical_bytes() -> None:
    """Others can check a digest with nothing but SHA-256."""
    value = {"b": 1, "a": "é"}
    assert digest_of(value) == "sha256:" + hashlib.sha256('{"a":"é","b":1}'.encode()).hexdigest()
    assert digest_of({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_message_is_measured_in_bytes_also_where_it_is_text() -> None:
    """Two bytes of one character are two; the size that was sent and the limit are both named."""
    assert parse_strict('"é"', limit_bytes=4) == "é"
    for raw in ('"é"', '"é"'.encode()):
        with pytest.raises(ArgumentsRefused) as refused:
            parse_strict(raw, limit_bytes=3)
        assert str(refused.value) == "$: the message is 4 bytes, more than 3"
    with pytest.raises(ArgumentsRefused, match=r"^\$: the message is 5 bytes, more than 3$"):
        parse_strict('"\ud800"', limit_bytes=3)


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


PIECES = st.sampled_from(
    ['"a"', '"\\u0061"', '"b c"', '"\\u0000"', '"\\ud800"', '"ü"', '"\x00"', '"\x01"', "1", "-0", "1.5", "1e999", "NaN",
     "-Infinity", "9007199254740991", "9007199254740992", "-9007199254740991", "123456789012345", "1234567890123456",
     "0.10", "1E2", "true", "null", "01", "", " ", "\ufeff"]
)  # fmt: skip
"""Of these, written JSON is made that is right, wrong, and everything in between."""


def members(of: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Arrays and objects of written pieces, with keys that may stand twice."""
    arrays = st.lists(of, max_size=4).map(lambda items: "[" + ",".join(items) + "]")
    pairs = st.lists(st.tuples(PIECES, of), max_size=4)
    return arrays | pairs.map(lambda found: "{" + ", ".join(f"{key}:{item}" for key, item in found) + "}")


def taken(raw: bytes | str, levels: int) -> object:
    """What came of parsing: the value as it would be written, or the refusal's words."""
    try:
        return json.dumps(parse_strict(raw, depth_levels=levels))
    except ArgumentsRefused as refused:
        return f"refused: {refused}"


@settings(max_examples=500, derandomize=True, deadline=None)
@given(st.recursive(PIECES, members, max_leaves=12), st.integers(min_value=1, max_value=6))
def test_bytes_are_read_exactly_like_the_same_text(text: str, levels: int) -> None:
    """Bytes have a quicker first pass, which text has not: both take the same, and refuse the same alike."""
    assert taken(text.encode(), levels) == taken(text, levels)


def test_a_value_in_memory_comes_back_as_a_copy() -> None:
    """Nobody who still holds the original can change what was checked."""
    value: dict[str, Any] = {"a": [{"b": 1}]}
    copied = check_value(value)
    value["a"][0]["b"] = 2
    value["a"].append(3)
    assert copied == {"a": [{"b": 1}]}


@settings(max_examples=300, derandomize=True, deadline=None)
@given(JSON)
def test_json_is_written_as_pythons_own_encoder_writes_it(value: Any) -> None:
    """Its encoder in C is made once and kept, which changes no byte; without sorting, keys keep their order."""
    plainly = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    assert canonical_text(value) == json.dumps(value, sort_keys=True, **plainly)  # type: ignore[arg-type]
    assert compact_text(value) == json.dumps(value, **plainly)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_numbers_that_json_lacks_are_never_written(value: Any) -> None:
    """They would be read by some and refused by others."""
    for write in (canonical_text, compact_text):
        with pytest.raises(ValueError, match="JSON compliant"):
            write(value)


def test_a_value_without_an_end_is_not_written_for_ever() -> None:
    """It holds itself: that ends in an error, not in silence."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(RecursionError):
        canonical_text(value)
