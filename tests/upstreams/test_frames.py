"""Reading an upstream's messages: a large one is read like a small one."""

from __future__ import annotations

import json
import math
import random

import pytest

from hitl_mcp.upstreams.frames import Garbage, parse

PAD = b" " * (256 * 1024)
"""Makes a message a large one."""

VALUES = (
    *(b"NaN", b"-Infinity", b"1e999", b"-0", b"-0.0", b"01", b"1.", b"1E5", b"-", b"nan", b"tru", b"1e-400"),
    *(b"9" * 400, b"9" * 5000, b"18446744073709551616", b"-9223372036854775809", b"123456789012345678901234567890.0"),
    *(b'"\x01"', b'"a\nb"', b'"\xff"', b'"\\x"', b'"\x7f"', b'"\\u0000"', b'"\\ud800"', b'"\\ud83d\\ude00"'),
    *(b"[" * 150 + b"]" * 150, b"[" * 300 + b"]" * 300, b"[1 2]", b"[1,]", b'{"a":1,"a":2}', b'{"\\ud800":1}', b"'a'"),
)


def read(message: bytes) -> str:
    """What a message says, NaN and the sign of zero included; or that it is garbage."""
    try:
        return repr(parse(message))
    except Garbage:
        return "garbage"


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_a_large_message_says_what_a_small_one_says(value: bytes) -> None:
    """Another reader reads it, as far as that one takes it: every oddity comes out alike."""
    for message in (b'{"a":%s}' % value, b'{"a":%s}{}' % value, b'\xef\xbb\xbf{"a":%s}' % value):
        assert read(message + PAD) == read(message)


def test_numbers_of_a_large_message_are_exactly_those_of_a_small_one() -> None:
    """To the last bit, of whatever length they are written."""
    chance = random.Random(7)  # noqa: S311 (the same numbers each time)
    numbers = [
        f"{chance.randrange(10 ** chance.randint(1, 25))}.{chance.randrange(10 ** chance.randint(1, 25))}"
        f"e{chance.randint(-340, 300)}"
        for _ in range(5000)
    ]
    large = parse(f'{{"a":[{",".join(numbers)}]}}'.encode() + PAD)["a"]
    assert large == [json.loads(number) for number in numbers]
    assert any(number == 0 for number in large) and not any(math.isnan(number) for number in large)
