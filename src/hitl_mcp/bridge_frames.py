"""The lines that pass the bridge: how they are cut, what is read of them, and what is answered in their place.

No I/O. What the bridge does with them stands in `bridge`.
"""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False  # as in state_dir
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

READS = frozenset(
    (
        *("initialize", "server/discover", "ping"),
        *("tools/list", "resources/list", "resources/templates/list", "prompts/list"),
        *("resources/subscribe", "resources/unsubscribe", "logging/setLevel", "subscriptions/listen"),
    )
)
"""Requests that a new gateway may simply be asked again: they only read, or set what is the same when set twice."""

READING_TOOLS = ("hitl_wait", "hitl_status")
"""The gateway's own tools that only read. `hitl_withdraw` is not among them."""

MODERN_META = "io.modelcontextprotocol/protocolVersion"
"""In `params._meta` of every request of the modern era, and of no other."""

MODERN_META_KEY = b'"io.modelcontextprotocol/protocolVersion"'
"""The same as it is written. Where an argument is called so, a lost answer may carry a member too many."""

INTERNAL_ERROR = -32603  # JSON-RPC; not -32000, which clients take for a connection that closed
INVALID_REQUEST = -32600  # JSON-RPC

# How nearly every line begins (and, of the TypeScript SDK's requests, ends): then it need not be parsed.
_ID = rb'(0|-?[1-9]\d{0,15}|"[\w.:/ -]*+")'
_CALLED = rb'"method": ?"tools/call", ?"params": ?\{"name": ?"([\w.:/ -]*+)"'
_CALL = re.compile(rb'\{"jsonrpc": ?"2\.0", ?"id": ?' + _ID + rb", ?" + _CALLED)
_CALL_BEFORE_ID = re.compile(rb"\{" + _CALLED)
_ID_AT_END = re.compile(rb', ?"jsonrpc": ?"2\.0", ?"id": ?' + _ID + rb"\}$")
_END_BYTES = 256
"""What of a line's end is looked at: more than an id of usual length takes."""

_BEGINS_WITH_ID = re.compile(rb'\{"jsonrpc": ?"2\.0", ?"id": ?' + _ID + rb', ?"method"')
_BEGINS_WITH_METHOD = re.compile(rb'\{"method"')

_ANSWER = re.compile(rb'\{"jsonrpc":"2\.0","id":' + _ID + rb',"(result|error)":')


class Frame:
    """One line from the client, and what the bridge reads of it (`frame_of`)."""

    __slots__ = ("id", "is_answer", "is_modern", "is_request", "key", "line", "may_be_asked_again", "method", "params")

    def __init__(self, line: bytes, method: str = "", id: str | int | float | None = None) -> None:
        self.line = line
        self.method = method
        self.id = id
        self.key = id_key(id)
        self.is_request = method != "" and id is not None
        self.may_be_asked_again = method in READS
        self.is_answer = False
        self.is_modern = False
        self.params: dict[str, Any] = {}

    def forget_line_of_call(self) -> None:
        """Free the bytes of a request that is never sent twice: they may be large, and it may be long in flight."""
        if self.is_request and not self.may_be_asked_again:
            self.line = b""


def frame_of(line: bytes) -> Frame:
    """A line from the client with what is read of it; of what is no JSON object that is nothing.

    INVARIANT: where the beginning of a `tools/call` says something else than the whole line would (a key that comes
    twice, what is no JSON), the gateway refuses that line, so that nothing ran for it.
    """
    if (call := _CALL.match(line)) and line.endswith(b"}"):
        return _call_frame(line, call[1], call[2].decode(), MODERN_META_KEY in line)
    if (call := _CALL_BEFORE_ID.match(line)) and (end := _ID_AT_END.search(line, max(0, len(line) - _END_BYTES))):
        return _call_frame(line, end[1], call[1].decode(), MODERN_META_KEY in line)
    message = read_message(line) or {}
    method, params = message.get("method"), fields(message.get("params"))
    id, is_modern = scalar(message.get("id")), MODERN_META in fields(params.get("_meta"))
    if method == "tools/call":
        return _call_frame(line, id, params.get("name"), is_modern)
    frame = Frame(line, method if isinstance(method, str) else "", id)
    frame.is_answer = not frame.method and ("result" in message or "error" in message)
    frame.is_modern = is_modern
    frame.params = {key: params[key] for key in ("name", "requestId", "uri") if key in params}
    return frame


def _call_frame(line: bytes, id: bytes | str | int | float | None, name: object, is_modern: bool) -> Frame:
    if isinstance(id, bytes):  # as `_ID` takes it: without escapes
        id = id[1:-1].decode() if id.startswith(b'"') else int(id)
    frame = Frame(line, "tools/call", id)
    frame.params = {"name": name}
    frame.may_be_asked_again = name in READING_TOOLS
    frame.is_modern = is_modern
    return frame


def answered(line: bytes) -> tuple[str, bool] | None:
    """Which request a line of the gateway answers, as `id_key`, and whether by an error; None where it must be parsed.

    The gateway writes no other key before the result.
    """
    found = _ANSWER.match(line)
    return (found[1].decode(), found[2] == b"error") if found else None


class TooLong:
    """A line that was longer than the limit: its beginning and its end, in which a request's id stands."""

    __slots__ = ("end", "head")

    def __init__(self, head: bytes, end: bytes) -> None:
        self.head = head
        self.end = end

    @property
    def id(self) -> str | int | None:
        """The id of the request that it is, where that can be read: its sender waits for an answer with it."""
        found = _BEGINS_WITH_ID.match(self.head)
        if found is None and _BEGINS_WITH_METHOD.match(self.head):
            found = _ID_AT_END.search(self.end)
        if found is None:
            return None
        return found[1][1:-1].decode() if found[1].startswith(b'"') else int(found[1])


class Lines:
    """Cuts a stream of bytes into whole lines; of one that was longer than the limit only its two ends are kept."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._begun = bytearray()
        self._head: bytes | None = None
        """How the line begins that is too long already; then `_begun` holds no more than its end."""

    def feed(self, data: bytes) -> Iterator[bytes | TooLong]:
        """The lines that end in `data`, without their newline; blank ones are left out."""
        *ended, rest = data.split(b"\n")
        for part in ended:
            line = bytes(self._begun) + part if self._begun else part
            self._begun.clear()
            head, self._head = self._head, None
            if head is not None or len(line) > self._limit_bytes:
                yield TooLong(line[:_END_BYTES] if head is None else head, line[-_END_BYTES:])
            elif line.strip():
                yield line
        self._begun += rest
        if self._head is None and len(self._begun) > self._limit_bytes:
            self._head = bytes(self._begun[:_END_BYTES])
        if self._head is not None:
            del self._begun[:-_END_BYTES]


def read_message(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; None for anything else, which the gateway answers as it is."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def id_key(value: object) -> str:
    """A JSON-RPC id as a dictionary key: to JSON, unlike to Python, 1, 1.0, true and "1" are four things."""
    return str(value) if type(value) is int else json.dumps(scalar(value))


def scalar(value: object) -> str | int | float | None:
    """What may be a JSON-RPC id; None of anything else, however deep it is nested."""
    return value if isinstance(value, str | int | float) else None


def lost_answer(frame: Frame) -> dict[str, Any]:
    """What a request is answered that was in flight when the gateway ended and may not be asked again."""
    if frame.method != "tools/call":
        return error_body(INTERNAL_ERROR, f"the gateway ended before it answered `{frame.method}`: ask again")
    message = (
        "OUTCOME UNKNOWN: the gateway ended while it worked on this call, which MAY HAVE RUN, or may be waiting for "
        "a person. Do not call it again. Call `hitl_status` without an id: it lists what became of your calls."
    )
    if frame.params.get("name") == "hitl_withdraw":
        message = (
            "OUTCOME UNKNOWN: the gateway ended while it worked on this withdrawal, which may have happened or "
            "not. Call `hitl_status` with the call's id: it says whether the call still stands."
        )
    result: dict[str, Any] = {
        "content": [{"type": "text", "text": message}],
        "structuredContent": {"status": "unknown", "retry": "never", "message": message},
        "isError": True,
    }
    if frame.is_modern:
        result["resultType"] = "complete"
    return {"result": result}


def fields(value: object) -> dict[str, Any]:
    """The members of a JSON object; none of anything else."""
    return value if isinstance(value, dict) else {}


def error_body(code: int, message: str) -> dict[str, Any]:
    """The part of an answer that says what went wrong."""
    return {"error": {"code": code, "message": message}}


def cancelled_line(question: object) -> bytes:
    """What tells the client that nobody waits for its answer to this question any more."""
    params = {"requestId": question, "reason": "the gateway that asked has ended"}
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).encode() + b"\n"
