"""Strict parsing of JSON, its canonical bytes, and digests over them. No I/O.

What leaves this module as bytes is what is shown, hashed and sent. Whatever two JSON readers could understand
differently is refused here, before anything else looks at it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

from hitl_mcp.errors import ArgumentsRefused
from hitl_mcp.limits import DEPTH_LEVELS, MESSAGE_BYTES, SAFE_INTEGER

__all__ = ["canonical_bytes", "canonical_text", "check_value", "compact_text", "digest_of", "parse_strict"]


def parse_strict(raw: bytes | str, *, limit_bytes: int = MESSAGE_BYTES, depth_levels: int = DEPTH_LEVELS) -> Any:
    """Parse JSON that every reader would understand the same way.

    Refused, with the path named: more than `limit_bytes`, invalid UTF-8, duplicate keys, NaN and infinities (also
    as `1e999`), integers beyond ±(2^53-1), lone surrogates, NUL in strings or keys, more than `depth_levels`.

    Raises:
        ArgumentsRefused: The input is not such JSON; `path` is a JSON path such as `$.params.arguments.to`.
    """
    if isinstance(raw, bytes) and len(raw) <= limit_bytes:
        try:
            return _read_plain(raw, depth_levels)
        except _NotPlain:
            pass  # it may still be right: what follows takes its time, and knows where it is wrong
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
    try:
        return _plain_copy(value, DEPTH_LEVELS)
    except _NotPlain:
        return _checked(value, path, DEPTH_LEVELS)


def canonical_bytes(value: Any) -> bytes:
    """Write a checked value as canonical JSON: keys sorted by code point, no spaces, UTF-8, shortest numbers.

    `1` and `1.0` stay different: they are different bytes to the tool. Source: JSON as Python's `json` writes it.
    """
    return canonical_text(value).encode("utf-8")


def canonical_text(value: Any) -> str:
    """`canonical_bytes` as text."""
    return _canonical(value)


def compact_text(value: Any) -> str:
    """A value as JSON without spaces, its keys in their own order: what is stored and never compared."""
    return _compact(value)


def digest_of(value: Any) -> str:
    """The SHA-256 of a value's canonical bytes, as `sha256:<64 hex digits>`."""
    return "sha256:" + hashlib.sha256(canonical_bytes(value)).hexdigest()


def _encoder(*, sort_keys: bool) -> Callable[[Any], str]:
    """As `JSONEncoder.encode`, which makes its encoder in C anew for each value: that takes longer than most values."""
    make, text = json.encoder.c_make_encoder, json.encoder.encode_basestring  # type: ignore[attr-defined]
    in_c = make(None, json.JSONEncoder().default, text, None, ":", ",", sort_keys, False, False)
    return lambda value: "".join(in_c(value, 0))


_canonical = _encoder(sort_keys=True)
_compact = _encoder(sort_keys=False)


# What nearly every message is, in one pass that remembers no path. INVARIANT: whatever it takes, the pass with paths
# takes as well and reads alike; whatever it does not take is left to that pass.


class _NotPlain(ValueError):
    """Not certainly right: to be read again, with its path in hand."""


_SAFE_DIGITS = 15
"""An integer of so many characters is within ±(2^53-1), whatever they are."""


def _read_plain(raw: bytes, depth_levels: int) -> Any:
    # An escape may stand for NUL or for half of a surrogate pair; brackets in texts are counted too, which is no harm.
    if b"\\u" in raw or raw.count(b"[") + raw.count(b"{") > depth_levels:
        raise _NotPlain
    try:
        return _PLAIN.decode(raw.decode("utf-8"))
    except ValueError:
        raise _NotPlain from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _NotPlain
    return members


def _plain_integer(digits: str) -> int:
    if len(digits) > _SAFE_DIGITS:
        raise _NotPlain
    return int(digits)


def _plain_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _NotPlain
    return number


def _no_constant(text: str) -> NoReturn:
    raise _NotPlain


_PLAIN = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_plain_integer, parse_float=_plain_float, parse_constant=_no_constant
)


def _plain_copy(value: Any, levels: int) -> Any:
    kind = type(value)
    if kind is str:
        return _plain_text(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        if not -SAFE_INTEGER <= value <= SAFE_INTEGER:
            raise _NotPlain
        return value
    if kind is float:
        if not math.isfinite(value):
            raise _NotPlain
        return value
    if levels <= 0:
        raise _NotPlain
    if kind is dict:
        return {_plain_text(key): _plain_copy(item, levels - 1) for key, item in value.items()}
    if kind is list:
        return [_plain_copy(item, levels - 1) for item in value]
    raise _NotPlain


def _plain_text(text: Any) -> str:
    if type(text) is not str or "\x00" in text:
        raise _NotPlain
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise _NotPlain from None
    return text


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
