"""The lines that pass the bridge: how a stream is cut, and what is read of a line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from hitl_mcp.bridge_frames import Frame, Lines, id_key, read_message


@given(some.lists(some.binary(min_size=1, max_size=20)), some.lists(some.integers(1, 30)))
def test_lines_are_the_same_however_the_stream_is_cut(texts: list[bytes], sizes: list[int]) -> None:
    """Chunks end anywhere; lines are whole, in order, and blank ones are left out."""
    stream = b"".join(text + b"\n" for text in texts)
    lines = Lines(100)
    found: list[bytes | None] = []
    for size in [*sizes, len(stream)]:
        found += lines.feed(stream[:size])
        stream = stream[size:]
    whole = b"\n".join(texts).split(b"\n")
    assert found == [line for line in whole if line.strip()]


@pytest.mark.parametrize("chunk_bytes", [1, 3, 11, 100])
def test_a_line_over_the_limit_is_named_once_and_skipped(chunk_bytes: int) -> None:
    """The lines around it are whole, and one of exactly the limit passes."""
    stream = b"a\n" + b"x" * 10 + b"\n" + b"y" * 11 + b"\n" + b"z" * 95 + b"\nb\n"
    lines = Lines(10)
    found: list[bytes | None] = []
    for start in range(0, len(stream), chunk_bytes):
        found += lines.feed(stream[start : start + chunk_bytes])
    assert found == [b"a", b"x" * 10, None, None, b"b"]


def test_a_line_without_an_end_is_not_kept() -> None:
    """Its memory is given back at the limit, not at its newline."""
    lines = Lines(10)
    assert list(lines.feed(b"x" * 11)) == [None]
    assert [line for _ in range(100) for line in lines.feed(b"x" * 1000)] == []
    assert list(lines.feed(b"\nb\n")) == [b"b"]


def test_ids_that_json_tells_apart_are_told_apart() -> None:
    """To Python 1, 1.0 and true are one dictionary key; an answer must not meet another's request."""
    ids = [1, 1.0, True, "1", "true", None]
    assert len({id_key(one) for one in ids}) == len(ids)


@pytest.mark.parametrize(
    ("message", "is_request", "is_answer"),
    [
        ({"id": 1, "method": "ping"}, True, False),
        ({"method": "notifications/initialized"}, False, False),
        ({"id": 1, "result": {}}, False, True),
        ({"id": None, "error": {}}, False, True),
        ({"id": 1, "method": "ping", "result": {}}, True, False),
        ({"id": 1}, False, False),
        ({"id": [1], "method": "ping"}, False, False),
        ({"method": 7, "id": 1}, False, False),
        ([{"id": 1, "method": "ping"}], False, False),
        (7, False, False),
    ],
)
def test_a_frame_is_a_request_an_answer_or_neither(message: object, is_request: bool, is_answer: bool) -> None:
    """Neither is relayed as it is, and never kept, repeated or answered here."""
    line = json.dumps(message).encode()
    frame = Frame(line, read_message(line))
    assert (frame.is_request, frame.is_answer) == (is_request, is_answer)


@pytest.mark.parametrize(
    ("method", "params", "again"),
    [
        ("tools/list", {}, True),
        ("tools/call", {"name": "hitl_wait"}, True),
        ("tools/call", {"name": "hitl_status"}, True),
        ("tools/call", {"name": "hitl_withdraw"}, False),
        ("tools/call", {"name": "mail__send"}, False),
        ("tools/call", {"name": ["hitl_wait"]}, False),
        ("tools/call", ["hitl_wait"], False),
        ("resources/read", {"name": "hitl_wait"}, False),
        ("prompts/get", {}, False),
        ("completion/complete", {}, False),
        ("anything/else", {}, False),
    ],
)
def test_only_what_reads_may_be_asked_again(method: str, params: object, again: bool) -> None:
    """Whatever is not known to read is never sent twice, and the bytes of such a frame are freed once it is sent."""
    line = json.dumps({"id": 1, "method": method, "params": params}).encode()
    frame = Frame(line, read_message(line))
    assert frame.may_be_asked_again is again
    frame.forget_line_of_call()
    assert frame.line == (line if again else b"")
