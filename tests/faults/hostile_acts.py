"""In what ways an upstream may misbehave on any transport: `BEHAVIOURS`, on the standard library alone.

Each says on which transports it is played, and which statuses of a call are honest then. What only HTTP knows stands
in `hostile_http.py`, and the transports themselves in `hostile_server.py`.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Stage = Literal["start", "initialize", "list", "call"]
Transport = Literal["stdio", "http"]
BOTH: tuple[Transport, ...] = ("stdio", "http")

DEADLINE_SECONDS = 0.5
"""The `timeout` of these upstreams; what hangs longer than this hangs for ever."""

FLOOD_SECONDS = 0.4
MEBIBYTE = 1024 * 1024

SUCCEEDED, FAILED, UNKNOWN, NO_CALL = "succeeded", "failed", "unknown", "no call"


class Talk:
    """The way back to the gateway."""

    def say(self, message: Any) -> None:
        """One message, as JSON unless it is bytes already."""
        self.frame(message if isinstance(message, bytes) else json.dumps(message).encode())

    def frame(self, raw: bytes) -> None:
        """One message as the transport wraps it."""
        raise NotImplementedError

    def write(self, raw: bytes) -> None:
        """Bytes as they are."""
        raise NotImplementedError

    def die(self) -> None:
        """End in the middle of everything."""
        raise NotImplementedError


@dataclass
class Call:
    """A message of the gateway, and where to answer."""

    talk: Talk
    id: Any
    params: dict[str, Any]

    def say(self, message: Any) -> None:
        self.talk.say(message)

    def notify(self, method: str, **params: Any) -> None:
        self.say({"jsonrpc": "2.0", "method": method, "params": params})

    def answer(self, **more: Any) -> None:
        self.say(result(self.id, **more))

    def answer_with(self, text: str) -> None:
        """A result whose structured content is written by hand; `text` is JSON, or is not."""
        head = json.dumps({"jsonrpc": "2.0", "id": self.id})[:-1]
        self.say(f'{head}, "result": {{"content": [], "structuredContent": {text}}}}}'.encode())

    def error(self, message: Any, code: Any = -32000) -> None:
        self.say({"jsonrpc": "2.0", "id": self.id, "error": {"code": code, "message": message}})


Act = Callable[[Call], None]


@dataclass(frozen=True)
class Behaviour:
    """One way to misbehave: when, where, what, and which statuses of a call would be honest."""

    name: str
    stage: Stage
    transports: tuple[Transport, ...]
    honest: frozenset[str]
    act: Act


BEHAVIOURS: dict[str, Behaviour] = {}


def behaves(stage: Stage, honest: str, *transports: Transport) -> Callable[[Act], Act]:
    """Name a function as a behaviour. Unknown is always honest: any call may meet its deadline."""

    def keep(act: Act) -> Act:
        statuses = frozenset({*honest.split(","), UNKNOWN})
        BEHAVIOURS[act.__name__] = Behaviour(act.__name__, stage, transports or BOTH, statuses, act)
        return act

    return keep


def result(call_id: Any, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call_id, "result": {"content": [{"type": "text", "text": "done"}], **more}}


def hang() -> None:
    time.sleep(3600)


def flood(call: Call, *messages: Any) -> None:
    """Say these over and over for a while."""
    raw = [message if isinstance(message, bytes) else json.dumps(message).encode() for message in messages]
    until = time.monotonic() + FLOOD_SECONDS
    while time.monotonic() < until:
        for one in raw:
            call.say(one)


def note(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


@behaves("call", SUCCEEDED)
def behaves_well(call: Call) -> None:
    """For comparison."""
    call.answer()


# Answers that say nothing, or say it wrongly.


@behaves("call", UNKNOWN)
def hangs(call: Call) -> None:
    hang()


@behaves("call", UNKNOWN)
def words(call: Call) -> None:
    call.say(b"All done, have a nice day!")


@behaves("call", UNKNOWN)
def broken_json(call: Call) -> None:
    call.say(json.dumps(result(call.id)).encode()[:-2])


@behaves("call", UNKNOWN)
def batch(call: Call) -> None:
    call.say([result(call.id)])


@behaves("call", UNKNOWN)
def not_a_number(call: Call) -> None:
    call.answer_with("NaN")


@behaves("call", UNKNOWN)
def infinite_number(call: Call) -> None:
    call.answer_with("1e999")


@behaves("call", SUCCEEDED)
def duplicate_keys(call: Call) -> None:
    call.answer_with('{"a": 1, "a": 2}')


@behaves("call", UNKNOWN)
def half_a_pair(call: Call) -> None:
    call.answer_with('"\\ud800"')


@behaves("call", UNKNOWN)
def deep(call: Call) -> None:
    call.answer_with("[" * 200 + "]" * 200)


@behaves("call", UNKNOWN)
def abyss(call: Call) -> None:
    call.answer_with("[" * 100_000 + "]" * 100_000)


@behaves("call", UNKNOWN)
def huge_integer(call: Call) -> None:
    call.answer_with("9" * 5000)


@behaves("call", f"{SUCCEEDED}")
def large_integer(call: Call) -> None:
    call.answer_with("9" * 4000)


@behaves("call", SUCCEEDED)
def not_utf8(call: Call) -> None:
    """Unknown over stdio; an event stream is read with what is not UTF-8 replaced, as its standard says."""
    call.say(json.dumps(result(call.id)).encode().replace(b"done", b"\xff\xfe"))


@behaves("call", UNKNOWN)
def byte_order_mark(call: Call) -> None:
    call.say(b"\xef\xbb\xbf" + json.dumps(result(call.id)).encode())


@behaves("call", UNKNOWN)
def content_of_words(call: Call) -> None:
    call.say({"jsonrpc": "2.0", "id": call.id, "result": {"content": "done"}})


@behaves("call", UNKNOWN)
def error_mark_of_words(call: Call) -> None:
    call.answer(isError="no")


@behaves("call", UNKNOWN)
def neither(call: Call) -> None:
    call.say({"jsonrpc": "2.0", "id": call.id})


@behaves("call", UNKNOWN)
def both(call: Call) -> None:
    call.say({**result(call.id), "error": {"code": 1, "message": "no"}})


@behaves("call", UNKNOWN)
def null_result(call: Call) -> None:
    call.say({"jsonrpc": "2.0", "id": call.id, "result": None})


@behaves("call", UNKNOWN)
def odd_kind(call: Call) -> None:
    call.answer(resultType="task")


@behaves("call", FAILED)
def wants_input(call: Call) -> None:
    call.answer(resultType="input_required", inputRequests={"a": {}}, requestState="s")


@behaves("call", FAILED)
def error_with_half_a_pair(call: Call) -> None:
    call.say(json.dumps({"jsonrpc": "2.0", "id": call.id, "error": {"code": 1, "message": "\ud800"}}).encode())


@behaves("call", FAILED)
def endless_error(call: Call) -> None:
    call.error("x" * 8 * MEBIBYTE)


@behaves("call", f"{FAILED}")
def odd_error(call: Call) -> None:
    call.error({"not": "text"}, "not a number")


@behaves("call", UNKNOWN)
def error_of_words(call: Call) -> None:
    call.say({"jsonrpc": "2.0", "id": call.id, "error": "no"})


@behaves("call", FAILED)
def error_with_odd_data(call: Call) -> None:
    data = '{"code": 1, "message": "no", "data": [NaN, "\\ud800"]}'
    call.say(f'{{"jsonrpc": "2.0", "id": {json.dumps(call.id)}, "error": {data}}}'.encode())


# Answers to somebody else, or too many.


@behaves("call", UNKNOWN)
def another_id(call: Call) -> None:
    call.say(result("c_another"))


@behaves("call", UNKNOWN)
def id_of_another_type(call: Call) -> None:
    call.say(result([call.id]))
    call.say(result(None))


@behaves("call", SUCCEEDED)
def ids_never_sent(call: Call) -> None:
    for number in range(2000):
        call.say(result(f"hitl-{number}" if number % 2 else number))
    call.answer()


@behaves("call", SUCCEEDED)
def answers_twice(call: Call) -> None:
    call.answer()
    call.answer(isError=True)
    call.error("it failed after all")


@behaves("call", FAILED)
def takes_it_back(call: Call) -> None:
    call.error("it failed")
    call.answer()


@behaves("call", SUCCEEDED)
def cancels_itself(call: Call) -> None:
    call.notify("notifications/cancelled", requestId=call.id)
    call.answer()


@behaves("call", SUCCEEDED)
def answers_late(call: Call) -> None:
    time.sleep(2 * DEADLINE_SECONDS)
    call.answer()


# Too much, or too slow.


@behaves("call", UNKNOWN)
def endless_line(call: Call) -> None:
    call.talk.write(b'{"jsonrpc": "2.0", "id": "')
    while True:
        call.talk.write(b"x" * 65536)


@behaves("call", UNKNOWN)
def too_large(call: Call) -> None:
    call.answer(structuredContent={"much": "x" * 17 * MEBIBYTE})


@behaves("call", SUCCEEDED)
def nearly_too_large(call: Call) -> None:
    call.answer(structuredContent={"much": "x" * 12 * MEBIBYTE})


@behaves("call", SUCCEEDED)
def many_small_parts(call: Call) -> None:
    call.answer_with("[" + "[]," * 50_000 + "0]")


@behaves("call", UNKNOWN)
def too_many_parts(call: Call) -> None:
    call.answer_with("[" + "[]," * 5_000_000 + "0]")


@behaves("call", SUCCEEDED)
def drips(call: Call) -> None:
    for byte in json.dumps(result(call.id)).encode():
        call.talk.write(bytes([byte]))
        time.sleep(0.002)
    call.talk.write(b"\n\n")


@behaves("call", UNKNOWN)
def drips_for_ever(call: Call) -> None:
    while True:
        call.talk.write(b" ")
        time.sleep(0.01)


@behaves("call", SUCCEEDED)
def floods_progress(call: Call) -> None:
    token = call.params.get("_meta", {}).get("progressToken", call.id)
    flood(call, note("notifications/progress", progressToken=token, progress=1, message="x" * 5000))
    call.answer()


@behaves("call", SUCCEEDED)
def floods_changes(call: Call) -> None:
    flood(call, note("notifications/tools/list_changed"))
    call.answer()


@behaves("call", SUCCEEDED)
def floods_log_messages(call: Call) -> None:
    flood(call, note("notifications/message", level="error", data="x" * 2000))
    call.answer()


@behaves("call", SUCCEEDED)
def floods_small_messages(call: Call) -> None:
    small = b'{"method":"x"}'
    flood(call, *[small] * 500)
    call.answer()


@behaves("call", SUCCEEDED)
def floods_odd_messages(call: Call) -> None:
    flood(call, b'{"method": 5}', b'{"method": null, "id": 1}', b'{"id": {}}')
    call.answer()


@behaves("call", SUCCEEDED)
def floods_garbage(call: Call) -> None:
    flood(call, b"noise", b"[]", b"\x00\x1b[31m", b"{", b"5")
    call.answer()


@behaves("call", SUCCEEDED)
def floods_large_messages(call: Call) -> None:
    flood(
        call,
        b'{"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": [' + b"[]," * MEBIBYTE + b"0]}}",
    )
    call.answer()


@behaves("call", SUCCEEDED)
def floods_blank_lines(call: Call) -> None:
    until = time.monotonic() + FLOOD_SECONDS
    while time.monotonic() < until:
        call.talk.write(b"\n" * 65536)
    call.answer()


@behaves("call", SUCCEEDED, "stdio")
def floods_stderr(call: Call) -> None:
    until = time.monotonic() + FLOOD_SECONDS
    while time.monotonic() < until:
        os.write(2, b"panic!\n" * 5000)
    call.answer()


@behaves("call", UNKNOWN, "stdio")
def endless_stderr(call: Call) -> None:
    while True:
        os.write(2, b"x" * 65536)


# Questions back.


@behaves("call", FAILED)
def asks_and_gives_up(call: Call) -> None:
    call.say({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": {"message": "Sure?"}})
    call.error("nobody answered")


@behaves("call", f"{SUCCEEDED},{FAILED}")
def floods_questions(call: Call) -> None:
    methods = ("sampling/createMessage", "elicitation/create", "roots/list")
    flood(call, *({"jsonrpc": "2.0", "id": method, "method": method, "params": {}} for method in methods))
    call.answer()


@behaves("call", f"{SUCCEEDED}")
def floods_pings(call: Call) -> None:
    flood(call, {"jsonrpc": "2.0", "id": 1, "method": "ping"})
    call.answer()


@behaves("call", f"{SUCCEEDED},{FAILED}")
def asks_endlessly(call: Call) -> None:
    method = "x\x1b[31m\n" * 100_000
    call.say({"jsonrpc": "2.0", "id": {"odd": ["id"]}, "method": method, "params": []})
    call.error("why not?")


# Ends.


@behaves("call", UNKNOWN)
def dies_before_the_answer(call: Call) -> None:
    call.talk.die()


@behaves("call", UNKNOWN)
def dies_in_the_answer(call: Call) -> None:
    call.talk.write(b'{"jsonrpc": "2.0", "id": ' + json.dumps(call.id).encode() + b', "result": {')
    call.talk.die()


@behaves("call", SUCCEEDED)
def dies_after_the_answer(call: Call) -> None:
    call.answer()
    call.talk.die()


@behaves("call", UNKNOWN, "stdio")
def stops_reading(call: Call) -> None:
    hang()


@behaves("call", UNKNOWN, "stdio")
def closes_its_input(call: Call) -> None:
    os.close(0)
    hang()


@behaves("call", UNKNOWN, "stdio")
def closes_its_output(call: Call) -> None:
    os.close(1)
    hang()


@behaves("start", NO_CALL)
def ends_at_once(call: Call) -> None:
    call.talk.die()


@behaves("list", f"{NO_CALL},{SUCCEEDED},{FAILED}")
def ends_again_and_again(call: Call) -> None:
    call.say({"jsonrpc": "2.0", "id": call.id, "result": {"tools": tools()}})
    time.sleep(0.05)
    call.talk.die()


# Before any call.


@behaves("initialize", NO_CALL)
def hangs_at_initialize(call: Call) -> None:
    hang()


@behaves("initialize", NO_CALL)
def floods_at_initialize(call: Call) -> None:
    while True:
        flood(call, note("notifications/message", data="x" * 500))


@behaves("initialize", NO_CALL)
def odd_initialize(call: Call) -> None:
    call.say({"jsonrpc": "2.0", "id": call.id, "result": {"protocolVersion": 7, "capabilities": []}})


@behaves("initialize", NO_CALL)
def unknown_revision(call: Call) -> None:
    info = {"serverInfo": {"name": "x", "version": "1"}, "capabilities": {}}
    call.say({"jsonrpc": "2.0", "id": call.id, "result": {"protocolVersion": "1999-01-01", **info}})


@behaves("list", NO_CALL)
def hangs_at_list(call: Call) -> None:
    hang()


@behaves("list", f"{NO_CALL},{SUCCEEDED}")
def endless_pages(call: Call) -> None:
    page = int(call.params.get("cursor", 0))
    call.say({"jsonrpc": "2.0", "id": call.id, "result": {"tools": tools(), "nextCursor": str(page + 1)}})


_listed = itertools.count()


@behaves("list", f"{NO_CALL},{SUCCEEDED},denied,invalidated")
def changes_each_time(call: Call) -> None:
    listed = [{**tool, "description": f"version {next(_listed)}"} for tool in tools()]
    call.say({"jsonrpc": "2.0", "id": call.id, "result": {"tools": listed}})
    call.notify("notifications/tools/list_changed")


@behaves("list", f"{NO_CALL},{SUCCEEDED}")
def ten_thousand_tools(call: Call) -> None:
    many = [{"name": f"t{number}", "inputSchema": {"type": "object"}} for number in range(10_000)]
    call.say({"jsonrpc": "2.0", "id": call.id, "result": {"tools": tools() + many}})


@behaves("list", f"{NO_CALL},{SUCCEEDED}")
def odd_tools(call: Call) -> None:
    loop = {"type": "object", "properties": {"a": {"$ref": "#"}}, "allOf": [{"$ref": "#"}]}
    remote = {"type": "object", "$ref": "http://127.0.0.1:9/schema"}
    odd: list[Any] = [
        None,
        5,
        {"name": 5},
        {"name": ""},
        {"name": "\u202e\x00"},
        {"name": "a"},
        {"name": "b", "inputSchema": 7},
    ]
    odd += [{"name": "loop", "inputSchema": loop}, {"name": "remote", "inputSchema": remote}]
    call.say({"jsonrpc": "2.0", "id": call.id, "result": {"tools": [*odd, *tools()]}})


@behaves("list", NO_CALL)
def list_of_words(call: Call) -> None:
    call.say({"jsonrpc": "2.0", "id": call.id, "result": {"tools": "many"}})


def tools() -> list[dict[str, Any]]:
    return [{"name": "act", "description": "Take effect.", "inputSchema": {"type": "object"}}]
