"""Canonical JSON text as pieces, and where in it a value stands. Pure; nothing is parsed and written again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*|[a-z]+|.', re.DOTALL)

ANY = "*"
"""In a pattern: whatever stands there, a member or an element."""


class Place(NamedTuple):
    """Where a value begins and ends in a JSON text."""

    start: int
    end: int


def places_of(text: str, patterns: Sequence[tuple[str, ...]]) -> tuple[Place, ...]:
    """Where the values stand that a pattern leads to, outermost first; each pattern is the steps of a JSON pointer."""
    if not patterns:
        return ()
    walk = _Walk(patterns)
    for piece in JSON_TOKEN.finditer(text):
        walk.take(piece.group(), *piece.span())
    return tuple(walk.found)


class _Walk:
    """A walk along the tokens of a JSON text, that knows at which path it is."""

    def __init__(self, patterns: Iterable[tuple[str, ...]]) -> None:
        self._patterns = tuple(patterns)
        self._path: list[str | int] = []
        self._awaits_key = False
        self._inside: tuple[int, int] | None = None  # how deep the place that was found is, and where it begins
        self._depth = 0
        self.found: list[Place] = []

    def take(self, piece: str, start: int, end: int) -> None:
        if piece == ",":
            self._next()
        elif piece == ":":
            self._awaits_key = False
        elif piece in "}]":
            self._close(end)
        elif self._awaits_key and piece[0] == '"':
            self._path[-1] = str(json.loads(piece))
        else:
            self._value(piece, start, end)

    def _next(self) -> None:
        if self._path and isinstance(self._path[-1], int):
            self._path[-1] += 1
        else:
            self._awaits_key = True

    def _value(self, piece: str, start: int, end: int) -> None:
        matches = self._inside is None and any(self._leads_here(pattern) for pattern in self._patterns)
        if piece in "{[":
            if matches:
                self._inside = (self._depth, start)
            self._depth += 1
            self._path.append("" if piece == "{" else 0)
            self._awaits_key = piece == "{"
        elif matches:
            self.found.append(Place(start, end))

    def _close(self, end: int) -> None:
        self._depth -= 1
        self._path.pop()
        self._awaits_key = False
        if self._inside is not None and self._inside[0] == self._depth:
            self.found.append(Place(self._inside[1], end))
            self._inside = None

    def _leads_here(self, pattern: tuple[str, ...]) -> bool:
        return len(pattern) == len(self._path) and all(
            step in (ANY, str(at)) for step, at in zip(pattern, self._path, strict=True)
        )
