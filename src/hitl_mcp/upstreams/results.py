"""Whether an upstream's answer to a call can be recorded and handed to an agent. No I/O."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any

import mcp_types
from pydantic import ValidationError
from pydantic_core import to_json

from hitl_mcp.canonical import compact_text
from hitl_mcp.errors import OutcomeUnknown, UpstreamRefused
from hitl_mcp.limits import RESULT_DEPTH_LEVELS
from hitl_mcp.upstreams.ledger import without_hop_keys

__all__ = ["NEEDS_INPUT", "checked_result", "why_unwritable", "without_hop"]

_TEXT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

NEEDS_INPUT = "needs input"
"""How the failure of a call begins whose upstream wanted to ask something: nobody may answer it."""


def checked_result(result: dict[str, Any], upstream: str) -> dict[str, Any]:
    """Return a tool's result as the upstream sent it, less what belonged to that connection.

    Raises:
        UpstreamRefused: The tool did not finish, it asks for something first.
        OutcomeUnknown: The tool may well have run, but its answer cannot be recorded or passed on.
    """
    kind = result.get("resultType", "complete")
    if kind == "input_required":
        raise UpstreamRefused(
            mcp_types.INVALID_REQUEST, f"{NEEDS_INPUT}: upstream `{upstream}` asks for something before it goes on"
        )
    problem = _why_unusable(result) if kind == "complete" else f"its kind is `{kind!s:.40}`"
    if problem is not None:
        raise OutcomeUnknown(f"upstream `{upstream}` answered, but the answer cannot be used: {problem}")
    return without_hop(result)


def why_unwritable(value: object) -> str | None:
    """What keeps a value that an upstream sent from being written down as JSON and relayed, or None."""
    try:
        written = _written(value)
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair"
    except ValueError:
        return "it holds a number that JSON does not have"
    except RecursionError:
        return "it is nested too deep"
    # Brackets inside texts count too, so only a result that has many of them is measured.
    if written.count(b"[") + written.count(b"{") > RESULT_DEPTH_LEVELS and _is_deep(written.decode()):
        return "it is nested too deep"
    return None


def _written(value: object) -> bytes:
    """A value as JSON: by the encoder that is quickest with long texts, unless it may hold what that one lets pass."""
    try:
        written = to_json(value, inf_nan_mode="constants")
    except (ValueError, RecursionError):  # the other one says what is wrong
        return compact_text(value).encode("utf-8")
    return compact_text(value).encode("utf-8") if b"NaN" in written or b"Infinity" in written else written


def _why_unusable(result: dict[str, Any]) -> str | None:
    """What keeps this answer from being recorded and relayed by the MCP SDK, or None."""
    problem = why_unwritable(result)
    if problem is not None:
        return problem
    if not isinstance(result.get("isError", False), bool):
        return "`isError` is neither true nor false"  # readers would not agree on what a text means there
    try:
        mcp_types.CallToolResult.model_validate(result, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"`{'.'.join(str(step) for step in first['loc'])}`: {first['msg'].lower()}"
    return None


def _is_deep(text: str) -> bool:
    """Whether JSON is nested too deep: by its brackets alone, once its texts are taken out."""
    brackets = _TEXT.sub("", text).encode().translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > RESULT_DEPTH_LEVELS


def without_hop(result: dict[str, Any]) -> dict[str, Any]:
    """A result less what belonged to the connection it came on."""
    meta = result.get("_meta")
    if not isinstance(meta, dict):
        return result
    kept = {key: value for key, value in without_hop_keys(meta).items() if key != mcp_types.SERVER_INFO_META_KEY}
    without = {key: value for key, value in result.items() if key != "_meta"}
    return {**without, "_meta": kept} if kept else without
