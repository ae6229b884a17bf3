"""The check of the bytes that leave: only a registered call, once, and exactly as it is on record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hitl_mcp.canonical import canonical_bytes
from hitl_mcp.errors import NotSent
from hitl_mcp.upstreams import Send
from hitl_mcp.upstreams.frames import notification, request
from hitl_mcp.upstreams.ledger import Ledger

SEND = Send("c_1", "pay", '{"amount":5,"to":"ann"}', {"traceparent": "00-1"})
PARAMS: dict[str, Any] = {
    "name": "pay",
    "arguments": {"to": "ann", "amount": 5},
    "_meta": {"traceparent": "00-1", "progressToken": "c_1", "io.modelcontextprotocol/protocolVersion": "2026-07-28"},
}


@pytest.mark.promise("R3")
def test_the_registered_call_leaves_once() -> None:
    """Its own frame passes, whatever the connection put beside it; the same frame again does not."""
    ledger = Ledger()
    frame = request("c_1", "tools/call", PARAMS)
    with ledger.registered(SEND):
        assert not ledger.has_sent("c_1")
        ledger.release(frame + b"\n")
        assert ledger.has_sent("c_1")
        with pytest.raises(NotSent, match="second time"):
            ledger.release(frame)


@pytest.mark.promise("R3")
@pytest.mark.parametrize(
    "change",
    [
        {"name": "refund"},
        {"arguments": {"to": "ann", "amount": 5.0}},
        {"arguments": {"to": "ann", "amount": 5, "more": None}},
        {"arguments": None},
        {"_meta": {"traceparent": "00-2"}},
        {"_meta": {**PARAMS["_meta"], "example.com/more": 1}},
        {"_meta": []},
        {"requestState": "abc"},
        {"arguments": {"arguments": {"to": "ann", "amount": 5}}},
    ],
)
def test_a_frame_that_differs_from_the_record_does_not_leave(change: dict[str, Any]) -> None:
    """Another tool, argument, type of number or `_meta`, or a parameter nobody recorded: nothing is let out."""
    ledger = Ledger()
    with ledger.registered(SEND):
        with pytest.raises(NotSent, match="not what is on record"):
            ledger.release(request("c_1", "tools/call", {**PARAMS, **change}))
        assert not ledger.has_sent("c_1")


@pytest.mark.promise("R4")
def test_a_call_nobody_registered_does_not_leave() -> None:
    """Neither under another id, nor as a notification, nor after its context ended."""
    ledger = Ledger()
    with ledger.registered(SEND):
        for frame in (request("c_2", "tools/call", PARAMS), notification("tools/call", PARAMS)):
            with pytest.raises(NotSent, match="without a record"):
                ledger.release(frame)
    with pytest.raises(NotSent, match="without a record"):
        ledger.release(request("c_1", "tools/call", PARAMS))
    assert not ledger.has_sent("c_1")


def test_an_id_is_good_for_one_send() -> None:
    """While a call is on its way and after it left, its id cannot be registered again."""
    ledger = Ledger()
    with ledger.registered(SEND):
        with pytest.raises(NotSent, match="sent before"), ledger.registered(SEND):
            pass
        ledger.release(request("c_1", "tools/call", PARAMS))
    with pytest.raises(NotSent, match="sent before"), ledger.registered(SEND):
        pass


@pytest.mark.parametrize(
    "frame",
    [
        json.dumps({"jsonrpc": "2.0", "id": "c_1", "method": "tools/call", "params": PARAMS}).encode(),
        b'{"id":"c_1","id":"c_1","jsonrpc":"2.0","method":"tools/call"}',
        b'{"id":"c_1","jsonrpc":"2.0","method":"tools/call","params":{"amount":NaN}}',
        b'[{"id":"c_1","jsonrpc":"2.0","method":"tools/call"}]',
        canonical_bytes({"id": "c_1", "method": "tools/call"}) + b"\n\n",
        b"\xff",
    ],
    ids=["spaces", "duplicate key", "NaN", "batch", "second line", "not UTF-8"],
)
def test_only_canonical_frames_leave(frame: bytes) -> None:
    """What another reader could understand differently is refused before anything looks inside."""
    ledger = Ledger()
    with ledger.registered(SEND):
        with pytest.raises(NotSent, match="canonical"):
            ledger.release(frame)
        assert not ledger.has_sent("c_1")


def test_what_is_no_call_passes() -> None:
    """Negotiation, listings and notifications are not the ledger's business."""
    Ledger().release(request("hitl-1", "tools/list", None))
    Ledger().release(notification("notifications/initialized", None) + b"\n")


@pytest.mark.promise("R3")
@pytest.mark.parametrize(
    "stored",
    [
        '{"to":"ann","amount":5}',
        '{"amount":5, "to":"ann"}',
        '{"amount":5.0,"to":"ann"}',
        '{"amount":5,"to":"ann"},"name":"pay","x":{}',
        '{"amount":5,"to":"\\u0061nn"}',
        '{"to":"ann"}',
    ],
)
def test_a_record_whose_bytes_are_not_those_of_the_frame_lets_nothing_leave(stored: str) -> None:
    """Also where they would mean the same: what people saw are bytes."""
    ledger = Ledger()
    send = Send("c_1", "pay", stored, SEND.meta)
    with ledger.registered(send), pytest.raises(NotSent, match="not what is on record"):
        ledger.release(request("c_1", "tools/call", PARAMS))
    assert not ledger.has_sent("c_1")


@pytest.mark.promise("R3")
def test_a_member_beside_the_params_keeps_a_call_from_leaving() -> None:
    """Nothing may stand in a frame that is not on record."""
    ledger = Ledger()
    message = {"jsonrpc": "2.0", "id": "c_1", "method": "tools/call", "params": PARAMS, "zone": 1}
    with ledger.registered(SEND), pytest.raises(NotSent, match="not what is on record"):
        ledger.release(canonical_bytes(message))
    assert not ledger.has_sent("c_1")


# What a call brings when its upstream asked for something first.

ROUND: dict[str, Any] = {"inputResponses": {"q": {"action": "accept", "content": {"n": 1}}}, "requestState": "s1"}


def sent(ledger: Ledger) -> None:
    """Let the call itself leave."""
    with ledger.registered(SEND):
        ledger.release(request("c_1", "tools/call", PARAMS))


@pytest.mark.promise("R3")
def test_a_call_that_left_brings_what_was_asked_for_once() -> None:
    """The same call under an id of its own, with exactly the answers and the state; each round once."""
    ledger = Ledger()
    sent(ledger)
    for rounds, more in ((1, ROUND), (2, {"requestState": "s2"}), (3, {"inputResponses": {}}), (4, {})):
        with ledger.continued(SEND, rounds, more) as request_id:
            frame = request(request_id, "tools/call", {**PARAMS, **more})
            ledger.release(frame + b"\n")
            with pytest.raises(NotSent, match="second time"):
                ledger.release(frame)
        with pytest.raises(NotSent, match="sent before"), ledger.continued(SEND, rounds, more):
            pass
        with pytest.raises(NotSent, match="without a record"):
            ledger.release(frame)


@pytest.mark.promise("R3")
def test_a_call_that_never_left_cannot_go_on() -> None:
    """Neither before it was sent, nor after a connection wrote not one byte of it."""
    ledger = Ledger()
    with pytest.raises(NotSent, match="it never left"), ledger.continued(SEND, 1, ROUND):
        pass
    sent(ledger)
    ledger.held_back("c_1")
    with pytest.raises(NotSent, match="it never left"), ledger.continued(SEND, 1, ROUND):
        pass


@pytest.mark.promise("R3")
@pytest.mark.parametrize(
    "change",
    [
        {"name": "refund"},
        {"arguments": {"to": "eve", "amount": 5}},
        {"arguments": {"to": "ann", "amount": 5, "more": 1}},
        {"_meta": {"traceparent": "00-2"}},
        {"requestState": "s2"},
        {"requestState": None},
        {"inputResponses": {"q": {"action": "accept", "content": {"n": 2}}}},
        {"inputResponses": {"q": {"action": "accept", "content": {"n": 1.0}}}},
        {"inputResponses": {**ROUND["inputResponses"], "other": {"action": "accept"}}},
        {"inputResponses": {}},
        {"task": {"ttl": 1}},
    ],
    ids=str,
)
def test_a_round_that_differs_from_what_was_answered_does_not_leave(change: dict[str, Any]) -> None:
    """The call itself must be the one on record, and the answers those that its client gave."""
    ledger = Ledger()
    sent(ledger)
    with ledger.continued(SEND, 1, ROUND) as request_id:
        with pytest.raises(NotSent, match="not what is on record"):
            ledger.release(request(request_id, "tools/call", {**PARAMS, **ROUND, **change}))
        without = {key: value for key, value in {**PARAMS, **ROUND}.items() if key not in change}
        with pytest.raises(NotSent, match="not what is on record"):
            ledger.release(request(request_id, "tools/call", without if "task" not in change else PARAMS))
        ledger.release(request(request_id, "tools/call", {**PARAMS, **ROUND}))


@pytest.mark.promise("R3")
def test_answers_travel_only_in_a_round_of_their_own() -> None:
    """Not with the call itself, and a round does not let the call leave once more under its first id."""
    ledger = Ledger()
    with ledger.registered(SEND), pytest.raises(NotSent, match="not what is on record"):
        ledger.release(request("c_1", "tools/call", {**PARAMS, **ROUND}))
    sent(ledger)
    with ledger.continued(SEND, 1, ROUND):
        with pytest.raises(NotSent, match="without a record"):
            ledger.release(request("c_1", "tools/call", {**PARAMS, **ROUND}))
        with pytest.raises(NotSent, match="without a record"):
            ledger.release(request("c_1.2", "tools/call", {**PARAMS, **ROUND}))


@pytest.mark.promise("R3")
def test_what_is_read_leaves_once() -> None:
    """A resource or a prompt that a rule names is sent under its record, and counts as sent from then on."""
    ledger = Ledger()
    read = Send("c_9", "resource:mem:///1", '{"uri":"mem:///1"}', method="resources/read")
    with ledger.reading(read):
        assert ledger.has_sent("c_9")
    with pytest.raises(NotSent, match="sent before"), ledger.reading(read):
        pass
