"""Two definitions of a tool against each other, as people are shown them: lines that went, and lines that came. Pure.

Both are rendered as any JSON is, and compared line by line; in a line that only changed, what changed stands out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from hitl_mcp.limits import DEFINITION_CHARACTERS, DIFF_LINES
from hitl_mcp.render.marks import Segment
from hitl_mcp.render.secret import secret_arguments
from hitl_mcp.render.tree import Line, lines_of_json, shows_all

Sign = Literal["same", "gone", "new", "skipped"]

AROUND_LINES = 3
"""Lines shown around a change, as `diff -u` does."""


class Compared(NamedTuple):
    """One line of a difference. `changed` are the places of the segments that are not in the line it came from.

    Where lines that are the same are left out, `skipped` says how many.
    """

    sign: Sign
    line: Line
    changed: frozenset[int] = frozenset()
    skipped: int = 0


class Difference(NamedTuple):
    """The lines of a difference; `whole` only where every character of both is accounted for."""

    lines: tuple[Compared, ...]
    whole: bool


def difference(before: str | None, after: str, name: str = "") -> Difference:
    """What is different between two canonical JSON texts; without `before`, all of it is new.

    Of arguments for the tool `name`, what is secret is not shown.
    """
    if max(len(before or ""), len(after)) > DEFINITION_CHARACTERS:
        return Difference((), whole=False)
    old = lines_of_json(before, secret_arguments(name, before)) if before is not None else ()
    new = lines_of_json(after, secret_arguments(name, after))
    whole = shows_all(old, before or "") and shows_all(new, after)
    compared = tuple(_without_long_sameness(list(_compared(old, new))))
    return Difference(compared[:DIFF_LINES], whole and len(compared) <= DIFF_LINES)


def _compared(old: Sequence[Line], new: Sequence[Line]) -> Iterator[Compared]:
    start, end = _common(old, new)
    yield from (Compared("same", line) for line in old[:start])
    yield from _matched(old[start : len(old) - end], new[start : len(new) - end])
    yield from (Compared("same", line) for line in old[len(old) - end :])


def _common(old: Sequence[Any], new: Sequence[Any]) -> tuple[int, int]:
    """How many items both begin with, and how many of the rest both end with."""
    shorter = min(len(old), len(new))
    start = next((place for place in range(shorter) if old[place] != new[place]), shorter)
    left = shorter - start
    return start, next((place for place in range(left) if old[-1 - place] != new[-1 - place]), left)


def _matched(old: Sequence[Line], new: Sequence[Line]) -> Iterator[Compared]:
    # Matching takes up to the square of the lines. Beyond the bound one stands after the other; within it the matcher
    # leaves out lines that are everywhere (its `autojunk`), without which a thousand alike take ten seconds.
    if max(len(old), len(new)) > DIFF_LINES:
        yield from _replaced(old, new)
        return
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, old, new).get_opcodes():
        if kind == "equal":
            yield from (Compared("same", line) for line in old[i1:i2])
        else:
            yield from _replaced(old[i1:i2], new[j1:j2])


def _replaced(old: Sequence[Line], new: Sequence[Line]) -> Iterator[Compared]:
    """Lines for lines. As many for as many are taken to be the same ones, each changed somewhere."""
    if len(old) != len(new):
        yield from (Compared("gone", line) for line in old)
        yield from (Compared("new", line) for line in new)
        return
    pairs = [_changed_within(*pair) for pair in zip(old, new, strict=True)]
    yield from (gone for gone, _ in pairs)
    yield from (came for _, came in pairs)


def _changed_within(old: Line, new: Line) -> tuple[Compared, Compared]:
    before, after = _text(old), _text(new)
    start, end = _common(before, after)
    if start + end < min(len(before), len(after)) // 3:  # hardly the same line: all of it changed
        return Compared("gone", old), Compared("new", new)
    return _cut(old, "gone", start, len(before) - end), _cut(new, "new", start, len(after) - end)


def _text(line: Line) -> str:
    return "".join(segment.source for segment in line.segments)


def _cut(line: Line, sign: Sign, start: int, end: int) -> Compared:
    """A line with its segments cut where what changed begins and ends; a mark stays in one piece."""
    segments: list[Segment] = []
    changed: set[int] = set()
    place = 0
    for segment in line.segments:
        length = len(segment.source)
        cuts = sorted({0, length, *(cut - place for cut in (start, end) if 0 < cut - place < length)})
        pieces = list(pairwise(cuts)) if segment.text == segment.source else [(0, length)]
        for first, last in pieces:
            if place + first < end and place + last > start:
                changed.add(len(segments))
            part = segment.source[first:last]
            segments.append(segment if len(pieces) == 1 else Segment(segment.kind, part, part, segment.rtl))
        place += length
    return Compared(sign, Line(line.depth, tuple(segments), line.continued), frozenset(changed))


def _without_long_sameness(lines: list[Compared]) -> Iterator[Compared]:
    """The lines, of long stretches that are the same only what stands around a change."""
    changes = [place for place, one in enumerate(lines) if one.sign != "same"]
    near = {
        place
        for change in changes
        for place in range(max(0, change - AROUND_LINES), min(len(lines), change + AROUND_LINES + 1))
    }
    skipped = 0
    for place, one in enumerate(lines):
        if place in near:
            if skipped:
                yield Compared("skipped", Line(0, ()), skipped=skipped)
            skipped = 0
            yield one
        else:
            skipped += 1
    if skipped:
        yield Compared("skipped", Line(0, ()), skipped=skipped)
