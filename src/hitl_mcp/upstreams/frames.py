"""JSON-RPC messages as bytes: writing ours, reading an upstream's. No I/O, and no meaning beyond the envelope."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic_core import from_json

from hitl_mcp.canonical import canonical_bytes
from hitl_mcp.limits import UPSTREAM_MESSAGE_PARTS

__all__ = ["Garbage", "answer", "ids_in", "is_answer", "notification", "parse", "refusal", "request"]

_HINT_BYTES = 4096
"""How much of each end of an unusable message is searched for the id of the request it answers."""

_ID = re.compile(rb'"id"\s*:\s*"([^"\\]{1,200})"')


_LARGE_BYTES = 256 * 1024
"""Below this the two readers of JSON are equally quick."""

_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


class Garbage(ValueError):
    """What an upstream wrote is not a JSON-RPC message."""


def request(request_id: str, method: str, params: Mapping[str, Any] | None) -> bytes:
    """A request of ours, in canonical JSON."""
    return _written({"jsonrpc": "2.0", "id": request_id, "method": method}, params)


def notification(method: str, params: Mapping[str, Any] | None) -> bytes:
    """A notification of ours, in canonical JSON."""
    return _written({"jsonrpc": "2.0", "method": method}, params)


def answer(request_id: object, result: Mapping[str, Any]) -> bytes:
    """Our answer to an upstream's request."""
    return canonical_bytes({"jsonrpc": "2.0", "id": request_id, "result": result})


def refusal(request_id: object, code: int, message: str) -> bytes:
    """Our error to an upstream's request."""
    return canonical_bytes({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}})


def parse(raw: bytes | str) -> dict[str, Any]:
    """Read one message. Only the envelope is checked here: what stands inside may still be unusable.

    Raises:
        Garbage: It is not one JSON object in UTF-8, or has more parts than there is time for.
    """
    if len(raw) > UPSTREAM_MESSAGE_PARTS and _parts(raw) > UPSTREAM_MESSAGE_PARTS:
        raise Garbage(f"it has more than {UPSTREAM_MESSAGE_PARTS} parts")
    try:
        message = _read(raw)
    except (ValueError, RecursionError) as error:
        raise Garbage(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise Garbage("not a JSON-RPC message: no object")
    return message


def is_answer(message: Mapping[str, Any]) -> bool:
    """Whether a message answers one of our requests, rather than asking or telling something."""
    return "method" not in message


def ids_in(raw: bytes) -> list[str]:
    """The ids at both ends of a message that cannot be read, so that whoever waits for one need not wait any longer.

    The upstream may be lying; all that can come of it is that its own call counts as unknown.
    """
    found = _ID.findall(raw[:_HINT_BYTES]) + _ID.findall(raw[-_HINT_BYTES:])
    return [one.decode("utf-8", "replace") for one in found]


def _read(raw: bytes | str) -> Any:
    """JSON, leniently: large messages by the reader that is quickest with long texts, as far as it takes them."""
    if len(raw) > _LARGE_BYTES:
        with suppress(ValueError):
            return from_json(raw)
    return json.loads(raw.decode("utf-8") if isinstance(raw, bytes) else raw)


def _parts(raw: bytes | str) -> int:
    """How many values a message holds, near enough; reading them is what takes the time."""
    data = raw if isinstance(raw, bytes) else raw.encode("utf-8", "replace")
    if data.count(b",") + data.count(b"[") + data.count(b"{") <= UPSTREAM_MESSAGE_PARTS:
        return 0
    bare = _TEXT.sub(b"", data)  # only those outside of texts make a value
    return bare.count(b",") + bare.count(b"[") + bare.count(b"{")


def _written(message: dict[str, Any], params: Mapping[str, Any] | None) -> bytes:
    if params:
        message["params"] = params
    return canonical_bytes(message)
