"""What a checked CEL expression reads, and the expression without what a tool does not have. Evaluates nothing.

The CEL library shows its syntax tree only as the bytes of a `cel.expr.CheckedExpr` (protocol buffers; the field
numbers are those of the CEL specification's `checked.proto` and `syntax.proto`). They come from our own compiler, so
they are trusted. A tokenizer over the text would have to guess which words are names and which stand in a string.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

__all__ = ["Part", "ShadowedName", "alone", "parts", "reads", "with_text", "without"]

ARGUMENTS = "args"
"""The variable whose fields are a call's arguments."""

_ANY_VALUE, _CHECKED_EXPR, _SOURCE, _POSITIONS = 2, 4, 5, 4
_ID, _KEY, _VALUE = 2, 1, 2
_CONST, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = 3, 4, 5, 6, 7, 8, 9
_NAME = 1
_OPERAND, _SELECTED, _TEST_ONLY = 1, 2, 3
_TARGET, _FUNCTION, _ARGUMENTS = 1, 2, 3
_NULL, _TRUTH, _INTEGER, _UNSIGNED, _DOUBLE, _STRING, _BYTES = 1, 2, 3, 4, 5, 6, 7
_VARIABLES = (1, 3, 8)
_BOOL = {False: b"\x10\x00", True: b"\x10\x01"}
_CHILDREN = {
    _SELECT: (_OPERAND,),
    _CALL: (_TARGET, _ARGUMENTS),
    _LIST: (1,),
    _STRUCT: (2,),
    _COMPREHENSION: (2, 4, 5, 6, 7),
}
_ENTRY_CHILDREN = (3, 4)

_Field = tuple[int, int, bytes]
"""A field's number, its wire type, and its content: for a varint the bytes as they stand."""


class _Offsets:
    """Where each part stands, by its number; read when somebody asks, which is rare."""

    def __init__(self, source: bytes) -> None:
        self._source = source

    @cached_property
    def known(self) -> dict[int, int]:
        entries = [entry for number, _, entry in _fields(self._source) if number == _POSITIONS]
        return {_number(_first(entry, _KEY)): _number(_first(entry, _VALUE)) for entry in entries}


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an expression: `word` is a name, a field, or what is called, `parts` what it is made of.

    A call's target comes first among its parts. `constant`: it says the same of every call. `raw` is the part as an
    expression of its own; see `alone`.
    """

    kind: str
    word: str
    value: object
    parts: tuple[Part, ...]
    constant: bool
    raw: bytes
    _number: int
    _offsets: _Offsets

    @property
    def offset(self) -> int:
        """Where it stands in the text; of an operator and of a call, where the sign or the parenthesis stands."""
        return self._offsets.known.get(self._number, 0)

    def all(self) -> Iterator[Part]:
        """This part and every part of it, in the order of the text's grammar."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting += reversed(part.parts)


_WORDS = {_IDENT: _NAME, _SELECT: _SELECTED, _CALL: _FUNCTION}
_KINDS = {
    _CONST: "constant",
    _IDENT: "name",
    _SELECT: "field",
    _CALL: "call",
    _LIST: "list",
    _STRUCT: "map",
    _COMPREHENSION: "loop",
}


class ShadowedName(ValueError):
    """A macro's own variable is called `args`, so that `args.x` no longer means an argument."""


def reads(checked: bytes) -> frozenset[str]:
    """The top-level arguments whose value an expression takes: `args.x`, `args["x"]`, `args.x.y`.

    A bare `has(args.x)` only asks whether an argument is there, so it reads nothing. An argument chosen while
    evaluating (`args[tool]`) is not known here; a call that lacks it is an evaluation error, which fails closed.

    Raises:
        ShadowedName: A macro's variable hides `args`.
    """
    return frozenset(_reads(_first(_first(checked, _ANY_VALUE), _CHECKED_EXPR)))


def parts(checked: bytes) -> Part:
    """The whole expression, part by part."""
    inner = _first(checked, _ANY_VALUE)
    return _part(_first(inner, _CHECKED_EXPR), _Offsets(_first(inner, _SOURCE)))


def alone(checked: bytes, part: bytes) -> bytes:
    """The checked expression that is only one part of another, given by its `raw`."""
    inner = _first(checked, _ANY_VALUE)
    return _replaced(checked, _ANY_VALUE, _replaced(inner, _CHECKED_EXPR, part))


def with_text(call: Part, index: int, text: str) -> bytes:
    """A call with one of its parts replaced by a text."""
    part = call.parts[index]
    constant = _written((_STRING, 2, text.encode()))
    other = b"".join(_written(each) for each in _fields(part.raw) if each[0] == _ID) + _written((_CONST, 2, constant))
    kind, body = _kind(call.raw)
    fields, seen = [], 0
    for number, wire, content in _fields(body):
        if number in (_TARGET, _ARGUMENTS):
            content = other if seen == index else content
            seen += 1
        fields.append((number, wire, content))
    return _replaced(call.raw, kind, b"".join(_written(each) for each in fields))


def _part(expression: bytes, offsets: _Offsets) -> Part:
    id = kind = 0
    body = b""
    for number, _, content in _fields(expression):
        if number == _ID:
            id = _number(content)
        elif number >= _CONST:
            kind, body = number, content
    if kind == _CONST:
        return Part("constant", "", _constant(body), (), True, expression, id, offsets)
    word = b""
    inner: list[Part] = []
    named, holding = _WORDS.get(kind), _CHILDREN.get(kind, ())
    for number, _, content in _fields(body):
        if number == named:
            word = content
        elif number in holding:
            entries = _entry(content) if kind == _STRUCT else (content,)
            inner += [_part(entry, offsets) for entry in entries if entry]
    constant = kind not in (_IDENT, _COMPREHENSION) and all(part.constant for part in inner)
    return Part(_KINDS[kind], word.decode(), None, tuple(inner), constant, expression, id, offsets)


def _constant(body: bytes) -> object:
    number, _, content = next(iter(_fields(body)), (_NULL, 0, b""))
    if number == _STRING:
        return content.decode()
    if number == _BYTES:
        return content
    if number == _DOUBLE:
        return struct.unpack("<d", content)[0]
    if number == _TRUTH:
        return content != b"\x00"
    if number in (_INTEGER, _UNSIGNED):
        value = _number(content)
        return value - 2**64 if number == _INTEGER and value >= 2**63 else value
    return None


def without(checked: bytes, lacking: frozenset[str]) -> bytes:
    """The checked expression with every statement about the lacking arguments taken out.

    `&&`, `||` and `!` are followed down to single statements; one that reads a lacking argument is replaced so that it
    cannot help to make the whole true. For a tool without `b`, `args.a > 1 || args.b > 1` becomes `args.a > 1`, and
    `args.b > 1` and `!(args.b > 1)` are both false: neither concerns that tool.
    """
    inner = _first(checked, _ANY_VALUE)
    root = _without(_first(inner, _CHECKED_EXPR), lacking, positive=True)
    return _replaced(checked, _ANY_VALUE, _replaced(inner, _CHECKED_EXPR, root))


def _reads(expression: bytes) -> Iterator[str]:
    kind, body = _kind(expression)
    if kind == _SELECT and _is_arguments(_first(body, _OPERAND)):
        if not _first(body, _TEST_ONLY):
            yield _first(body, _SELECTED).decode()
        return
    if kind == _CALL and (key := _constant_index(body)) is not None:
        yield key
        return
    if kind == _COMPREHENSION and ARGUMENTS.encode() in (_first(body, number) for number in _VARIABLES):
        raise ShadowedName
    for child in _children(kind, body):
        yield from _reads(child)


def _children(kind: int, body: bytes) -> Iterator[bytes]:
    """The expressions directly inside one."""
    for number, _, content in _fields(body):
        if number in _CHILDREN.get(kind, ()):
            if kind == _STRUCT:
                yield from _entry(content)
            else:
                yield content


def _entry(content: bytes) -> Iterator[bytes]:
    """The key and the value of one entry of a map."""
    return (inner for number, _, inner in _fields(content) if number in _ENTRY_CHILDREN)


def _without(expression: bytes, lacking: frozenset[str], *, positive: bool) -> bytes:
    kind, body = _kind(expression)
    function = _first(body, _FUNCTION) if kind == _CALL else b""
    if function in (b"_&&_", b"_||_", b"!_"):
        inner = positive if function != b"!_" else not positive
        parts = (
            (number, wire, _without(content, lacking, positive=inner) if number == _ARGUMENTS else content)
            for number, wire, content in _fields(body)
        )
        return _replaced(expression, kind, b"".join(_written(part) for part in parts))
    if lacking.isdisjoint(_reads(expression)):
        return expression
    kept = b"".join(_written(part) for part in _fields(expression) if part[0] != kind)  # its id, which types refer to
    return kept + _written((_CONST, 2, _BOOL[not positive]))


def _kind(expression: bytes) -> tuple[int, bytes]:
    """Which kind of expression this is, and its content."""
    return next(((number, content) for number, _, content in _fields(expression) if number >= _CONST), (0, b""))


def _is_arguments(expression: bytes) -> bool:
    kind, body = _kind(expression)
    return kind == _IDENT and _first(body, _NAME).lstrip(b".") == ARGUMENTS.encode()


def _constant_index(call: bytes) -> str | None:
    """The name in `args["name"]`, if a call is that."""
    operands = [content for number, _, content in _fields(call) if number == _ARGUMENTS]
    if _first(call, _FUNCTION) != b"_[_]" or len(operands) != 2 or not _is_arguments(operands[0]):
        return None
    kind, body = _kind(operands[1])
    if kind != _CONST or not any(number == _STRING for number, _, _ in _fields(body)):
        return None
    return _first(body, _STRING).decode()


# ---------------------------------------------------------------------------------------------------------------
# The wire format: https://protobuf.dev/programming-guides/encoding/


@lru_cache(maxsize=1024)  # an expression's parts, which are looked at one field at a time
def _fields(message: bytes) -> tuple[_Field, ...]:
    fields: list[_Field] = []
    at, size = 0, len(message)
    while at < size:
        tag, at = (message[at], at + 1) if message[at] < 0x80 else _varint(message, at)
        wire = tag & 7
        if wire == 2:
            length, at = (message[at], at + 1) if message[at] < 0x80 else _varint(message, at)
            end = at + length
        elif wire == 0:
            end = _varint(message, at)[1]
        else:
            end = at + (8 if wire == 1 else 4)
        fields.append((tag >> 3, wire, message[at:end]))
        at = end
    return tuple(fields)


def _first(message: bytes, number: int) -> bytes:
    for found, _, content in _fields(message):
        if found == number:
            return content
    return b""


def _replaced(message: bytes, number: int, content: bytes) -> bytes:
    return b"".join(
        _written((found, wire, content if found == number else old)) for found, wire, old in _fields(message)
    )


def _written(part: _Field) -> bytes:
    number, wire, content = part
    return _as_varint(number << 3 | wire) + (_as_varint(len(content)) if wire == 2 else b"") + content


def _number(content: bytes) -> int:
    return _varint(content, 0)[0] if content else 0


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _as_varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
