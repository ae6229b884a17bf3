"""The lines that pass the bridge: how a stream is cut, and what is read of a line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from hitl_mcp.bridge_frames import Lines, TooLong, answered, frame_of, id_key

MODERN = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}


@given(some.lists(some.binary(min_size=1, max_size=20)), some.lists(some.integers(1, 30)))
def test_lines_are_the_same_however_the_stream_is_cut(texts: list[bytes], sizes: list[int]) -> None:
    """Chunks end anywhere; lines are whole, in order, and blank ones are left out."""
    stream = b"".join(text + b"\n" for text in texts)
    lines = Lines(100)
    found: list[bytes | TooLong] = []
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
    found: list[bytes | TooLong] = []
    for start in range(0, len(stream), chunk_bytes):
        found += lines.feed(stream[start : start + chunk_bytes])
    assert [line if isinstance(line, bytes) else None for line in found] == [b"a", b"x" * 10, None, None, b"b"]


def test_of_a_line_that_is_too_long_only_its_two_ends_are_kept() -> None:
    """The rest of its memory is given back at the limit, not at its newline."""
    lines = Lines(1000)
    assert list(lines.feed(b"a" * 1001)) == []
    assert [line for _ in range(100) for line in lines.feed(b"x" * 1000)] == []
    assert len(lines._begun) <= 256
    long, next_line = lines.feed(b"z\nb\n")
    assert isinstance(long, TooLong)
    assert (long.head, long.end, next_line) == (b"a" * 256, b"x" * 255 + b"z", b"b")


@pytest.mark.parametrize(
    ("frame", "id"),
    [
        (b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"?"}}', 7),
        (b'{"jsonrpc": "2.0", "id": "a-1", "method": "tools/call", "params": {"name": "?"}}', "a-1"),
        (b'{"method":"tools/call","params":{"name":"?"},"jsonrpc":"2.0","id":0}', 0),
        (b'{"method":"tools/call","params":{"name":"?","jsonrpc":"2.0","id":7}}', None),
        (b'{"jsonrpc":"2.0","id":7,"result":{"a":"?"}}', None),
        (b'{"result":{"a":"?"},"jsonrpc":"2.0","id":7}', None),
        (b'{"jsonrpc":"2.0","method":"notifications/x","params":{"a":"?"}}', None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"tools/call","params":{"a":"?"}}', None),
        (b"?", None),
    ],
)
def test_the_id_of_a_request_that_is_too_long_is_read_at_its_beginning_or_end(
    frame: bytes, id: int | str | None
) -> None:
    """That of an answer is one of the gateway's own, and nobody waits for an answer to a notification."""
    (line,) = Lines(1000).feed(frame.replace(b"?", b"x" * 2000) + b"\n")
    assert isinstance(line, TooLong)
    assert line.id == id


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
    frame = frame_of(line)
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
    frame = frame_of(line)
    assert frame.may_be_asked_again is again
    frame.forget_line_of_call()
    assert frame.line == (line if again else b"")


COMPACT, SPACED = (",", ":"), (", ", ": ")


@pytest.mark.parametrize("separators", [COMPACT, SPACED])
@pytest.mark.parametrize(
    "id", [0, 1, -7, 10**14, 2**53, "a", "", "1", "x-1:2/3", 'q"', "\\", "ä", 1.5, True, None, [1]]
)
@pytest.mark.parametrize("name", ["hitl_wait", "mail__send", "", "hitl_wait\\", "ä", 7, None, ["hitl_wait"]])
@pytest.mark.parametrize("order", ["python", "typescript", "other"])
def test_a_call_is_read_alike_with_and_without_parsing_it(
    order: str, name: object, id: object, separators: tuple[str, str]
) -> None:
    """However a client orders the members and whatever stands in the arguments: the id, the tool and the era."""
    trap = {"method": "x", "id": 9, "text": '"},"jsonrpc":"2.0","id":8}', "result": {}}
    params = {"name": name, "arguments": trap, **MODERN}
    orders = {
        "python": {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params},
        "typescript": {"method": "tools/call", "params": params, "jsonrpc": "2.0", "id": id},
        "other": {"params": params, "id": id, "method": "tools/call", "jsonrpc": "2.0"},
    }
    frame = frame_of(json.dumps(orders[order], separators=separators).encode())
    is_id = isinstance(id, str | int | float)
    assert (frame.method, frame.id, type(frame.id), frame.key) == (
        "tools/call",
        id if is_id else None,
        type(id if is_id else None),
        id_key(id),
    )
    assert frame.params.get("name") == name
    assert (frame.is_request, frame.is_answer, frame.is_modern) == (is_id, False, True)
    assert frame.may_be_asked_again is (name == "hitl_wait")


def test_a_call_of_the_older_era_is_not_taken_for_a_modern_one() -> None:
    """Its lost answer must not carry what its client does not know."""
    line = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{}}}'
    assert frame_of(line).is_modern is False


@pytest.mark.parametrize("id", [0, 1, -7, "a", 'q"', "ä", 1.5])
@pytest.mark.parametrize("kind", ["result", "error"])
def test_an_answer_is_known_by_how_it_begins(kind: str, id: object) -> None:
    """An id that is written otherwise than usual is left to whoever parses the line."""
    line = json.dumps({"jsonrpc": "2.0", "id": id, kind: {"id": 5, "error": 1}}, separators=COMPACT).encode()
    expected = None if id in ('q"', "ä", 1.5) else (id_key(id), kind == "error")
    assert answered(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}',
        b'{"jsonrpc":"2.0","id":null,"error":{}}',
        b'{"id":1,"result":{}}',
    ],
)
def test_what_answers_nothing_is_parsed(line: bytes) -> None:
    """Questions, notifications, errors about no request, and whatever is written in another order."""
    assert answered(line) is None
