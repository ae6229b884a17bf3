"""Strict parsing of JSON, its canonical bytes, and digests over them. No I/O.

What leaves this module as bytes is what is shown, hashed and sent. Whatever two JSON readers could understand
differently is refused here, before anything else looks at it.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, NoReturn

from hitl_mcp.errors import ArgumentsRefused
from hitl_mcp.limits import DEPTH_LEVELS, MESSAGE_BYTES, SAFE_INTEGER

__all__ = ["canonical_bytes", "canonical_text", "check_value", "digest_of", "parse_strict"]


def parse_strict(raw: bytes | str, *, limit_bytes: int = MESSAGE_BYTES, depth_levels: int = DEPTH_LEVELS) -> Any:
    """Parse JSON that every reader would understand the same way.

    Refused, with the path named: more than `limit_bytes`, invalid UTF-8, duplicate keys, NaN and infinities (also
    as `1e999`), integers beyond ±(2^53-1), lone surrogates, NUL in strings or keys, more than `depth_levels`.

    Raises:
        ArgumentsRefused: The input is not such JSON; `path` is a JSON path such as `$.params.arguments.to`.
    """
    size_bytes = len(raw) if isinstance(raw, bytes) else len(raw.encode("utf-8", "surrogatepass"))
    if size_bytes > limit_bytes:
        raise ArgumentsRefused("$", f"the message is {size_bytes} bytes, more than {limit_bytes}")
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        value = json.loads(
            text,
            object_pairs_hook=_Pairs,
            parse_int=_parse_integer,
            parse_float=_parse_float,
            parse_constant=_Constant,
        )
    except UnicodeDecodeError as error:
        raise ArgumentsRefused("$", f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ArgumentsRefused("$", f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise ArgumentsRefused("$", f"nested deeper than {depth_levels} levels") from None
    return _checked(value, "$", depth_levels)


def check_value(value: Any, path: str = "$") -> Any:
    """Apply the same rules to a value that is already in memory, and return a plain copy of it.

    Raises:
        ArgumentsRefused: As `parse_strict`.
    """
    return _checked(value, path, DEPTH_LEVELS)


def canonical_bytes(value: Any) -> bytes:
    """Write a checked value as canonical JSON: keys sorted by code point, no spaces, UTF-8, shortest numbers.

    `1` and `1.0` stay different: they are different bytes to the tool. Source: JSON as Python's `json` writes it.
    """
    return canonical_text(value).encode("utf-8")


def canonical_text(value: Any) -> str:
    """`canonical_bytes` as text."""
    return _ENCODER.encode(value)


def digest_of(value: Any) -> str:
    """The SHA-256 of a value's canonical bytes, as `sha256:<64 hex digits>`."""
    return "sha256:" + hashlib.sha256(canonical_bytes(value)).hexdigest()


_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


class _Pairs(list[tuple[str, Any]]):
    """An object's members in the order they were written, so that duplicates can still be seen."""


class _Constant(str):
    """`NaN`, `Infinity` or `-Infinity`, which JSON does not have but Python's parser lets through."""


class _Refused:
    """A number that cannot be kept as it was written; it is refused once its path is known."""

    def __init__(self, message: str) -> None:
        self.message = message


def _parse_integer(digits: str) -> int | _Refused:
    if len(digits) <= 17 and abs(number := int(digits)) <= SAFE_INTEGER:
        return number
    return _Refused("the integer is beyond ±9007199254740991; send it as a string")


def _parse_float(digits: str) -> float | _Refused:
    number = float(digits)
    return number if math.isfinite(number) else _Refused("the number is too large for any JSON reader")


def _checked(value: Any, path: str, levels: int) -> Any:
    if isinstance(value, _Refused):
        raise ArgumentsRefused(path, value.message)
    if isinstance(value, _Constant):
        raise ArgumentsRefused(path, f"`{value}` is not JSON")
    if isinstance(value, str):
        return _checked_text(value, path)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(value) > SAFE_INTEGER:
            raise ArgumentsRefused(path, "the integer is beyond ±9007199254740991; send it as a string")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ArgumentsRefused(path, f"`{value}` is not JSON")
        return value
    if levels <= 0:
        raise ArgumentsRefused(path, "nested too deep")
    if isinstance(value, _Pairs):
        return _checked_object(value, path, levels)
    if isinstance(value, dict):
        return _checked_object(list(value.items()), path, levels)
    if isinstance(value, list | tuple):
        return [_checked(item, f"{path}[{index}]", levels - 1) for index, item in enumerate(value)]
    _not_json(value, path)


def _checked_object(pairs: list[tuple[Any, Any]], path: str, levels: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in pairs:
        if not isinstance(key, str):
            raise ArgumentsRefused(path, f"a key is a {type(key).__name__}, not a string")
        _checked_text(key, f"{path}.<key>")
        if key in result:
            raise ArgumentsRefused(_child(path, key), "the key stands twice")
        result[key] = _checked(item, _child(path, key), levels - 1)
    return result


def _child(path: str, key: str) -> str:
    return f"{path}.{key}" if key.isidentifier() else f"{path}[{json.dumps(key)}]"


def _checked_text(text: str, path: str) -> str:
    if "\x00" in text:
        raise ArgumentsRefused(path, "the text holds a NUL character")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise ArgumentsRefused(path, "the text holds half of a surrogate pair") from None
    return text


def _not_json(value: object, path: str) -> NoReturn:
    raise ArgumentsRefused(path, f"a {type(value).__name__} is not JSON")
