"""The lines that pass the bridge: how they are cut, what is read of them, and what is answered in their place.

No I/O. What the bridge does with them stands in `bridge`.
"""

from __future__ import annotations

import json

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

INTERNAL_ERROR = -32603  # JSON-RPC; not -32000, which clients take for a connection that closed
INVALID_REQUEST = -32600  # JSON-RPC


class Frame:
    """One line from the client, and what the bridge reads of it; `message` is None where that is nothing."""

    __slots__ = ("id", "is_answer", "is_modern", "is_request", "key", "line", "may_be_asked_again", "method", "params")

    def __init__(self, line: bytes, message: dict[str, Any] | None) -> None:
        self.line = line
        message = message or {}
        method = message.get("method")
        self.method = method if isinstance(method, str) else ""
        self.id = scalar(message.get("id"))
        self.key = id_key(self.id)
        self.is_request = bool(self.method) and self.id is not None
        self.is_answer = not self.method and ("result" in message or "error" in message)
        params = fields(message.get("params"))
        self.params = {key: params[key] for key in ("name", "requestId", "uri") if key in params}
        self.is_modern = MODERN_META in fields(params.get("_meta"))
        self.may_be_asked_again = self.method in READS or (
            self.method == "tools/call" and self.params.get("name") in READING_TOOLS
        )

    def forget_line_of_call(self) -> None:
        """Free the bytes of a request that is never sent twice: they may be large, and it may be long in flight."""
        if self.is_request and not self.may_be_asked_again:
            self.line = b""


class Lines:
    """Cuts a stream of bytes into whole lines; None stands for a line that was longer than the limit."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._begun = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """The lines that end in `data`, without their newline; blank ones are left out."""
        *ended, rest = data.split(b"\n")
        for part in ended:
            line = bytes(self._begun) + part if self._begun else part
            self._begun.clear()
            if self._skipping:
                self._skipping = False
            elif len(line) > self._limit_bytes:
                yield None
            elif line.strip():
                yield line
        if self._skipping:
            return
        self._begun += rest
        if len(self._begun) > self._limit_bytes:
            self._begun.clear()
            self._skipping = True
            yield None


def read_message(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; None for anything else, which the gateway answers as it is."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def id_key(value: object) -> str:
    """A JSON-RPC id as a dictionary key: to JSON, unlike to Python, 1, 1.0, true and "1" are four things."""
    return json.dumps(scalar(value))


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
