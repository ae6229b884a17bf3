"""What is shown in place of a secret: its type, its length, and a fingerprint. Which they are, the config names.

A cover is laid over all that is rendered: `cover_with` once, where a gateway begins, and whatever runs in it has it.
It is no argument of each function: one that forgot to hand it on would show what nobody may see.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property, wraps
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

from hitl_mcp.calls import CallRecord, ToolCall
from hitl_mcp.render.decoded import stretches
from hitl_mcp.render.tokens import Place, places_of

P = ParamSpec("P")
T = TypeVar("T")

SHORTEST_VALUE = 8
"""A shorter value would be found in words that have nothing to do with it."""

_TYPES = {'"': "text", "{": "object", "[": "list", "t": "true or false", "f": "true or false", "n": "null"}


@dataclass(frozen=True)
class Cover:
    """What is covered: arguments, by a glob of tools and the steps of a JSON pointer; and values, wherever they are.

    `fingerprint` is keyed: who sees it can tell that two secrets are the same, and cannot try out what they are.
    """

    arguments: tuple[tuple[str, tuple[str, ...]], ...] = ()
    values: frozenset[str] = field(default=frozenset(), repr=False)
    fingerprint: Callable[[str], str] = field(default=lambda value: "", repr=False)

    @cached_property
    def spelled(self) -> dict[str, str]:
        """Each way a value may be written, and the value."""
        return {
            spelling: value
            for value in sorted(self.values)
            if len(value) >= SHORTEST_VALUE
            for spelling in (
                value,
                json.dumps(value, ensure_ascii=False)[1:-1],
                quote(value, safe=""),
                base64.b64encode(value.encode()).decode(),
            )
        }

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        """What finds any of them, the longest first."""
        longest_first = sorted(self.spelled, key=lambda spelling: (-len(spelling), spelling))
        return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


_COVER: ContextVar[Cover] = ContextVar("cover", default=Cover())  # noqa: B039 - it is frozen


def cover_with(cover: Cover) -> None:
    """Lay a cover over all that is rendered from here on, in this task and in those that it starts."""
    _COVER.set(cover)


def secret_arguments(name: str, arguments_json: str) -> tuple[Place, ...]:
    """Where in the arguments of a call of this tool secrets stand."""
    patterns = [steps for tools, steps in _COVER.get().arguments if fnmatchcase(name, tools.replace("[", "[[]"))]
    return places_of(arguments_json, patterns)


def secret_values(text: str) -> list[Place]:
    """Where in a text a secret value stands."""
    pattern = _COVER.get().pattern
    if pattern is None:
        return []
    found = [Place(*match.span()) for match in pattern.finditer(text)]
    for one in stretches(text):  # what is only encoded can be read by everyone
        if isinstance(one.data, str) and pattern.search(one.data):
            found.append(Place(one.start, one.end))
    apart: list[Place] = []
    for place in sorted(found, key=lambda place: (place.start, -place.end)):
        if not apart or place.start >= apart[-1].end:
            apart.append(place)
    return apart


def public_part(call: ToolCall) -> str:
    """The arguments of a call with `null` in place of what is secret, for what picks telling ones."""
    text, parts, last = call.arguments_json, [], 0
    for start, end in sorted(secret_arguments(call.name, text)):
        parts += [text[last:start], "null"]
        last = end
    return "".join([*parts, text[last:]])


def covered(render: Callable[Concatenate[CallRecord, P], T]) -> Callable[Concatenate[CallRecord, P], T]:
    """A rendering of a call in which its own secret arguments are covered everywhere: a result may echo one."""

    @wraps(render)
    def rendered(record: CallRecord, /, *args: P.args, **kwargs: P.kwargs) -> T:
        text = record.call.arguments_json
        pieces = [text[start:end] for start, end in secret_arguments(record.call.name, text)]
        values = {json.loads(piece) for piece in pieces if piece[0] == '"'}
        if not values:
            return render(record, *args, **kwargs)
        cover = _COVER.get()
        before = _COVER.set(replace(cover, values=cover.values | values))
        try:
            return render(record, *args, **kwargs)
        finally:
            _COVER.reset(before)

    return rendered


def mark_of_value(spelling: str) -> str:
    """What is shown in place of a value that was found in a text."""
    cover = _COVER.get()
    return _mark("text", cover.spelled.get(spelling, spelling), cover)


def mark_of_json(piece: str) -> str:
    """What is shown in place of a JSON value."""
    kind = _TYPES.get(piece[:1], "number")
    return _mark(kind, str(json.loads(piece)) if kind == "text" else piece, _COVER.get())


def _mark(kind: str, value: str, cover: Cover) -> str:
    characters = f"{len(value):,} {'character' if len(value) == 1 else 'characters'}"
    fingerprint = cover.fingerprint(value)
    return f"⟦secret: {kind}, {characters}{', fingerprint ' + fingerprint if fingerprint else ''}⟧"
