"""Frames as they arrive: what is refused, under which id and path it is answered, and what just passes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, JSONRPCError, JSONRPCNotification, JSONRPCRequest

from hitl_mcp.limits import DEPTH_LEVELS, MESSAGE_BYTES
from hitl_mcp.surfaces.agents.frames import FrameRefused, read_frame, too_long


def answer_to(raw: bytes) -> dict[str, Any]:
    """The answer to a frame that must be refused."""
    with pytest.raises(FrameRefused) as refused:
        read_frame(raw)
    return refused.value.answer


def call(arguments: str, id: str = "7") -> bytes:
    """A tools/call with its id and arguments exactly as written."""
    return f'{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"arguments":{arguments}}}}}'.encode()


def test_a_request_and_a_notification_pass_as_they_are() -> None:
    """Numbers stay what they were written as, and nothing is added."""
    asked = read_frame(call('{"a":[1,1.0,-0.0,9007199254740991,null,"\\u00e9"]}', '"x"'))
    assert isinstance(asked, JSONRPCRequest)
    assert asked.id == "x"
    assert json.dumps(asked.params) == '{"arguments": {"a": [1, 1.0, -0.0, 9007199254740991, null, "\\u00e9"]}}'
    assert isinstance(read_frame(b'{"jsonrpc":"2.0","method":"notifications/initialized"}'), JSONRPCNotification)


def test_arguments_may_be_nested_to_their_full_depth_and_no_deeper() -> None:
    """The envelope around them takes nothing of their 64 levels."""
    assert read_frame(call("[" * DEPTH_LEVELS + "]" * DEPTH_LEVELS))
    answer = answer_to(call("[" * (DEPTH_LEVELS + 1) + "]" * (DEPTH_LEVELS + 1)))
    path = "$.params.arguments" + "[0]" * DEPTH_LEVELS
    assert (answer["id"], answer["error"]["data"]) == (7, {"path": path})


def test_a_frame_of_exactly_the_cap_passes_and_one_byte_more_is_refused_under_its_id() -> None:
    """Its sender waits for an answer with that id, and would wait for ever for one without."""
    room = MESSAGE_BYTES - len(call('""'))
    assert read_frame(call(f'"{"x" * room}"'))
    for answer, id in ((answer_to(call(f'"{"x" * (room + 1)}"')), 7), (too_long().answer, None)):
        assert (answer["id"], answer["error"]["code"], answer["error"]["data"]) == (id, INVALID_REQUEST, {"path": "$"})


@pytest.mark.parametrize(
    ("raw", "id", "code", "path"),
    [
        (call('{"a":1,"a":1}'), 7, INVALID_PARAMS, "$.params.arguments.a"),
        (call('{"a b":NaN}'), 7, INVALID_PARAMS, '$.params.arguments["a b"]'),
        (call("{}", '"a\\u0000"'), None, INVALID_REQUEST, "$.id"),
        (call("{}", "9" * 5000), None, INVALID_REQUEST, "$.id"),
        (b"[" * 100_000, None, PARSE_ERROR, "$"),
        (b"\xff\xfe", None, PARSE_ERROR, "$"),
        (b'""', None, INVALID_REQUEST, "$"),
        (b'{"jsonrpc":2.0,"id":7,"method":"ping"}', 7, INVALID_REQUEST, "$.jsonrpc"),
        (b'{"jsonrpc":"2.0","id":7,"method":null}', 7, INVALID_REQUEST, "$"),
        (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":"x"}', 7, INVALID_REQUEST, "$.params"),
    ],
)
def test_a_refusal_names_the_path_and_the_id_where_it_can_be_read(
    raw: bytes, id: int | None, code: int, path: str
) -> None:
    """The id comes back only if it can stand in an answer as it was."""
    answer = answer_to(raw)
    assert (answer["id"], answer["error"]["code"], answer["error"]["data"]) == (id, code, {"path": path})


@pytest.mark.parametrize("id", ["null", "true", "1.5", "{}", "[]"])
def test_a_request_whose_id_is_none_is_answered_and_not_taken_for_a_notification(id: str) -> None:
    """Else it would be dropped without a word, and its sender would wait."""
    answer = answer_to(call("{}", id))
    assert (answer["id"], answer["error"]["data"]) == (None, {"path": "$.id"})


@pytest.mark.parametrize(
    ("frame", "id"),
    [
        ('{"jsonrpc":"2.0","id":7,"method":"x","params":?}', 7),
        (' { "jsonrpc" : "2.0", "id" : "a-1", "method":"x","params":?}', "a-1"),
        ('{"id":-7,"params":?,"jsonrpc":"2.0"}', -7),
        ('{"method":"x","params":?,"jsonrpc":"2.0","id":"é"}', None),
        ('{"method":"x","params":?,"jsonrpc":"2.0", "id": 7 } ', 7),
        ('{"method":"x","id":7,"params":?}', None),
        ('{"jsonrpc":"2.0","id":1.5,"params":?}', None),
        ('{"params":{"a":?,"id":7}}', None),
    ],
)
def test_what_is_nested_too_deep_to_be_read_is_answered_under_the_id_at_its_beginning_or_end(
    frame: str, id: int | str | None
) -> None:
    """There every client writes it; a member `id` of something inside is not taken for it."""
    nested = "[" * 100_000 + "]" * 100_000
    assert answer_to(frame.replace("?", nested).encode())["id"] == id


@pytest.mark.parametrize("sent", ["true", "1.5", "null", "{}", "[]"])
def test_a_progress_token_that_could_not_be_sent_back_as_it_was_is_refused(sent: str) -> None:
    """Else progress would come under another one, for which nobody listens."""
    answer = answer_to(call(f'{{}},"_meta":{{"progressToken":{sent}}}'))
    assert answer["error"]["data"] == {"path": "$.params._meta.progressToken"}
    assert (answer["id"], answer["error"]["code"]) == (7, INVALID_PARAMS)


@pytest.mark.parametrize("body", ['"result":{"a":1,"a":2}', '"result":7', '"error":{"code":"x"}', '"error":{}'])
def test_a_broken_answer_is_not_answered_under_its_id(body: str) -> None:
    """The id is one of ours: sent back, it would seem to answer a request of the client with the same one."""
    assert answer_to(f'{{"jsonrpc":"2.0","id":1,{body}}}'.encode())["id"] is None


def test_an_error_may_say_that_it_does_not_know_what_it_is_about() -> None:
    """JSON-RPC has `id: null` for that, and for nothing else."""
    message = read_frame(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}')
    assert isinstance(message, JSONRPCError)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "x"])
_NEARLY = st.dictionaries(_KEYS, st.just("2.0") | _JSON, max_size=5).map(lambda value: json.dumps(value).encode())


@given(st.binary(max_size=60) | _NEARLY)
def test_whatever_arrives_is_a_message_or_gets_an_answer_that_can_be_sent(raw: bytes) -> None:
    """No input ends in another way, and an answer is always JSON in UTF-8 with a usable id."""
    try:
        message = read_frame(raw)
    except FrameRefused as refused:
        sent = json.loads(json.dumps(refused.answer, ensure_ascii=False).encode())
        assert isinstance(sent["id"], str | int | None)
        assert sent["error"]["message"].startswith(sent["error"]["data"]["path"] + ": ")
    else:
        assert "id" not in json.loads(raw) or not isinstance(message, JSONRPCNotification)
