"""JSON-RPC frames as they arrive: parsed strictly, before the SDK sees them, and answered when they are refused."""

from __future__ import annotations

import json
import re
from typing import Any

from mcp_types import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, JSONRPCMessage, JSONRPCRequest
from mcp_types.jsonrpc import jsonrpc_message_adapter
from pydantic import ValidationError

from hitl_mcp.canonical import parse_strict
from hitl_mcp.errors import ArgumentsRefused
from hitl_mcp.limits import DEPTH_LEVELS, MESSAGE_BYTES

_ID = rb'(0|-?[1-9][0-9]{0,15}|"[^"\\\x00-\x1f\x80-\xff]{0,200}")\s*'
_ID_AT_BEGINNING = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*' + _ID + rb"[,}]")
_ID_AT_END = re.compile(rb',\s*"id"\s*:\s*' + _ID + rb"\}\s*$")
_END_BYTES = 256
"""What of a frame's end is looked at: more than an id of usual length takes."""

ENVELOPE_LEVELS = 2
"""A message nests its arguments two levels deep (the message, its params); they get their full depth besides."""


class FrameRefused(Exception):
    """A frame that cannot be served; `answer` is the JSON-RPC error that says so."""

    def __init__(
        self, code: int, message: str, *, frame_id: str | int | None, path: str, http_status: int = 400
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        error: dict[str, Any] = {"code": code, "message": message, "data": {"path": path}}
        self.answer: dict[str, Any] = {"jsonrpc": "2.0", "id": frame_id, "error": error}


def read_frame(raw: bytes) -> JSONRPCMessage:
    """Parse one frame strictly into a JSON-RPC message.

    Raises:
        FrameRefused: It is not JSON every reader understands alike, or not one JSON-RPC message.
    """
    try:
        value = parse_strict(raw, depth_levels=DEPTH_LEVELS + ENVELOPE_LEVELS)
    except ArgumentsRefused as refused:
        frame_id = _id_of(raw)
        code = INVALID_PARAMS if refused.path.startswith("$.params") else INVALID_REQUEST
        if refused.path == "$" and frame_id is None:
            code = PARSE_ERROR
        raise FrameRefused(code, str(refused), frame_id=frame_id, path=refused.path) from None
    if not isinstance(value, dict):
        what = "$: one JSON-RPC message is needed, which is an object"
        raise FrameRefused(INVALID_REQUEST, what, frame_id=None, path="$")
    problem = _why_no_message(value)
    if problem is not None:
        path, what = problem
        code = INVALID_PARAMS if path.startswith("$.params.") else INVALID_REQUEST
        raise FrameRefused(code, f"{path}: {what}", frame_id=_usable_id(value), path=path)
    try:
        if "method" in value and "id" in value:
            return JSONRPCRequest.model_validate(value, by_name=False)
        return jsonrpc_message_adapter.validate_python(value, by_name=False)
    except ValidationError:
        what = "$: not a JSON-RPC 2.0 message"
        raise FrameRefused(INVALID_REQUEST, what, frame_id=_usable_id(value), path="$") from None


def packed() -> FrameRefused:
    """The refusal of a body that would have to be unpacked first."""
    what = "$: the body has a content encoding; send it as it is"
    return FrameRefused(INVALID_REQUEST, what, frame_id=None, path="$", http_status=415)


def too_long() -> FrameRefused:
    """The refusal of a frame that was not even read to its end."""
    return FrameRefused(INVALID_REQUEST, f"$: the message is more than {MESSAGE_BYTES} bytes", frame_id=None, path="$")


def _why_no_message(value: dict[str, Any]) -> tuple[str, str] | None:
    """What keeps an object from being one JSON-RPC message: where, and why.

    The SDK takes a request whose id is unusable for a notification, which nobody would ever answer.
    """
    if value.get("jsonrpc") != "2.0":
        return "$.jsonrpc", 'it must be "2.0"'
    kinds = [key for key in ("method", "result", "error") if value.get(key) is not None]
    if len(kinds) != 1:
        return "$", "one of `method`, `result` and `error` is needed"
    if not isinstance(value.get("method", ""), str):
        return "$.method", "it must be a string"
    if not isinstance(value.get("params"), dict | None):
        return "$.params", "it must be an object"
    if _is_odd_progress_token(value.get("params")):
        return "$.params._meta.progressToken", "it must be a string or an integer"
    # Only an error may say that it does not know which request it is about.
    if "id" in value and not _is_id(value["id"]) and not (value["id"] is None and kinds == ["error"]):
        return "$.id", "it must be a string or an integer"
    return None


def _is_odd_progress_token(params: dict[str, Any] | None) -> bool:
    """Whether progress would be reported under another token than was sent: the SDK makes a number of `true`."""
    meta = params.get("_meta") if params else None
    return isinstance(meta, dict) and "progressToken" in meta and not _is_id(meta["progressToken"])


def _id_of(raw: bytes) -> str | int | None:
    """The id of a frame that was refused, read leniently: only so that its sender gets an answer it can match."""
    try:
        value = json.loads(raw)
    except RecursionError:
        return _id_at_an_end(raw)
    except ValueError:
        return None
    return _usable_id(value) if isinstance(value, dict) else None


def _id_at_an_end(raw: bytes) -> str | int | None:
    """The id of a frame that is nested too deep to be read: it stands before all that is nested, or behind it."""
    found = _ID_AT_BEGINNING.match(raw) or _ID_AT_END.search(raw, max(0, len(raw) - _END_BYTES))
    return _usable_id({"method": "", "id": json.loads(found[1])}) if found else None


def _usable_id(value: dict[str, Any]) -> str | int | None:
    """The id under which a refusal can be sent back.

    An answer's id is one of ours: sent back, it would seem to answer a request of the client that has the same one.
    """
    if "method" not in value and ("result" in value or "error" in value):
        return None
    frame_id = value.get("id")
    if isinstance(frame_id, str):
        return frame_id if frame_id.isprintable() else None
    return frame_id if isinstance(frame_id, int) and _is_id(frame_id) else None


def _is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)
