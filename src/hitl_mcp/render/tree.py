"""Canonical JSON text into lines that a person can read to the last character. Pure; knows nothing of calls.

The text is cut, never parsed and written again: the sources of all segments join to exactly the text that came in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hitl_mcp.render.decoded import STRETCHES, Stretch, looks_like, stretches
from hitl_mcp.render.marks import Kind, Segment, is_counted, joined, mark_for, marked
from hitl_mcp.render.secret import mark_of_json, mark_of_value, secret_values
from hitl_mcp.render.tokens import JSON_TOKEN, Place

LONG_CHARACTERS = 200
"""A string longer than this says its length first, so that a reader knows how far to read."""

PREVIEW_CHARACTERS = 1000
"""How much of a decoded text is shown beside the encoded one: half a screen."""

DEPTH = 3
"""How often what was decoded is decoded again: deeper is a riddle, and the innermost text is then shown encoded."""

SEGMENTS_WHOLE = 20_000
"""More than this and no browser stays quick and no person reads on: cut there, and then it is not shown whole."""


@dataclass(frozen=True)
class Line:
    """One line: how deep it is nested, and whether it goes on inside a string that the line above began."""

    depth: int
    segments: tuple[Segment, ...]
    continued: bool = False


def lines_of_json(text: str, secrets: Iterable[Place] = ()) -> tuple[Line, ...]:
    """The lines of a canonical JSON text, one member a line; line breaks inside strings break the line too.

    Values at the places that are `secrets` are shown as what they are, not as what they say.
    """
    lines = _Lines()
    pieces = [piece for piece, _ in _pieces(text, secrets)]
    hidden = {number for number, (_, is_secret) in enumerate(_pieces(text, secrets)) if is_secret}
    stack: list[str] = []
    is_key = False
    for place, piece in enumerate(pieces):
        if lines.count > SEGMENTS_WHOLE:
            break
        following = pieces[place + 1] if place + 1 < len(pieces) else ""
        if place in hidden:
            lines.add(Segment("secret", mark_of_json(piece), piece))
        elif piece[0] == '"':
            lines.add_some(_string(piece, "key" if is_key else "string"))
        elif piece in "{[":
            lines.add(Segment("punctuation", piece, piece))
            stack.append(piece)
            if following not in "}]":
                lines.next_at(len(stack))
            is_key = piece == "{"
        elif piece in "}]":
            stack = stack[:-1]
            if pieces[place - 1] not in "{[":
                lines.next_at(len(stack))
            lines.add(Segment("punctuation", piece, piece))
        elif piece == ",":
            lines.add(Segment("punctuation", piece, piece))
            lines.next_at(len(stack))
            is_key = bool(stack) and stack[-1] == "{"
        elif piece == ":":
            lines.add(Segment("punctuation", ": ", piece))
            is_key = False
        else:
            lines.add(*_scalar(piece))
    return lines.finished()


def lines_of_text(text: str, kind: Kind = "plain") -> tuple[Line, ...]:
    """The lines of ordinary text, broken where it breaks."""
    lines = _Lines()
    lines.add(*_with_notes(text, stretches(text), lambda part: marked(part, kind, text)))
    return lines.finished()


def raw_segments(text: str, secrets: Iterable[Place] = (), characters: int | None = None) -> tuple[Segment, ...]:
    """JSON text exactly as it is stored, its escapes as they are written; only what cannot be trusted is marked.

    Of it, only so many `characters` where that is said.
    """
    segments: list[Segment] = []
    last, end = 0, len(text) if characters is None else characters
    end = min([end, *(place.start for place in secret_values(text) if place.start < end < place.end)])
    for place in sorted(secrets):
        if place.start < end:
            segments += marked(text[last : place.start], "string")
            secret = text[place.start : place.end]
            segments.append(Segment("secret", mark_of_json(secret), secret))
            last = place.end
    return joined([*segments, *marked(text[last : max(last, end)], "string")][:SEGMENTS_WHOLE])


def shows_all(lines: Iterable[Line], text: str) -> bool:
    """Whether these lines show every character of the text: asked of each rendering, never taken for granted."""
    return "".join(segment.source for line in lines for segment in line.segments) == text


_ESCAPE = re.compile(r"(\\(?:u[0-9a-fA-F]{4}|.))")


class _Lines:
    """Lines while they are being put together."""

    def __init__(self) -> None:
        self._done: list[Line] = []
        self._depth = 0
        self._continued = False
        self._segments: list[Segment] = []
        self.count = 0

    def add(self, *segments: Segment) -> None:
        self.count += len(segments)
        for segment in segments:
            self._segments.append(segment)
            if segment.kind == "white" and segment.source.startswith(("\n", "\\n")):
                self._close()
                self._continued = True

    def add_some(self, segments: Iterable[Segment]) -> None:
        """Add segments up to the bound: one long string alone may have more than can be shown."""
        for segment in segments:
            self.add(segment)
            if self.count > SEGMENTS_WHOLE:
                return

    def next_at(self, depth: int) -> None:
        self._close()
        self._depth, self._continued = depth, False

    def finished(self) -> tuple[Line, ...]:
        self._close()
        return tuple(self._done)

    def _close(self) -> None:
        if self._segments:
            self._done.append(Line(self._depth, joined(self._segments), self._continued))
            self._segments = []


def _pieces(text: str, secrets: Iterable[Place]) -> Iterator[tuple[str, bool]]:
    """The tokens of a JSON text; a value that is secret is one piece, and said to be."""
    last = 0
    for start, end in sorted(secrets):
        yield from ((piece, False) for piece in JSON_TOKEN.findall(text[last:start]))
        yield text[start:end], True
        last = end
    yield from ((piece, False) for piece in JSON_TOKEN.findall(text[last:]))


def _scalar(piece: str) -> list[Segment]:
    if piece in ("true", "false", "null"):
        return [Segment("literal", piece, piece)]
    if piece[0] in "-0123456789":
        return [Segment("number", piece, piece)]
    return marked(piece, "string")


def _string(piece: str, kind: Kind) -> Iterator[Segment]:
    """A string with its quotes. Escapes of control characters become marks; `\\"` and `\\\\` stay as written."""
    inner = piece[1:-1]
    found = stretches(inner, escaped=True)
    is_encoded = len(found) == 1 and (found[0].start, found[0].end) == (0, len(inner))
    if is_encoded and not _holds_secret(found[0]):
        yield from decoded_note(found[0])
        found = []
    elif len(piece) > LONG_CHARACTERS:
        yield from _length_note(piece)
    yield Segment(kind, '"', '"')
    yield from _with_notes(inner, found, lambda part: _escaped(part, kind, inner))
    yield Segment(kind, '"', '"')


def _escaped(text: str, kind: Kind, whole: str) -> Iterator[Segment]:
    """What stands between the quotes of a JSON string. Secrets are found before it is cut at its escapes."""
    last = 0
    for start, end in secret_values(text):
        yield from _unescaped(text[last:start], kind, whole)
        yield Segment("secret", mark_of_value(text[start:end]), text[start:end])
        last = end
    yield from _unescaped(text[last:], kind, whole)


def _unescaped(text: str, kind: Kind, whole: str) -> Iterator[Segment]:
    for part, count in _with_breaks_counted(_ESCAPE.split(text)):
        if part[:1] != "\\":
            yield from marked(part, kind, whole)
        elif part in ('\\"', "\\\\", "\\/"):
            yield Segment(kind, part * count, part * count)
        else:
            yield mark_for(json.loads(f'"{part}"') * count, part * count)


def _with_breaks_counted(pieces: list[str]) -> Iterator[tuple[str, int]]:
    """The pieces of a split string; many equal escapes in a row come as one, with their number."""
    place = 0
    while place < len(pieces):
        piece, count = pieces[place], 1
        while piece[:1] == "\\" and pieces[place + 2 * count - 1 : place + 2 * count + 1] == ["", piece]:
            count += 1
        if piece[:1] != "\\" or not is_counted(json.loads(f'"{piece}"'), count):
            count = 1
        if piece:
            yield piece, count
        place += 2 * count - 1


def _length_note(piece: str) -> Iterator[Segment]:
    """How long a string is, before it is read."""
    value = json.loads(piece)
    if len(value) > LONG_CHARACTERS:
        size_bytes = len(value.encode("utf-8"))
        also = f", {size_bytes:,} bytes" if size_bytes != len(value) else ""
        yield Segment("note", f"⟦{len(value):,} characters{also}⟧ ", "")


def _with_notes(text: str, found: list[Stretch], show: Callable[[str], Iterable[Segment]]) -> Iterator[Segment]:
    """A text as `show` shows it, and behind each encoded stretch what it decodes to."""
    last = 0
    for number, stretch in enumerate(found):
        encoded = text[stretch.start : stretch.end]
        if _holds_secret(stretch):
            yield from show(text[last : stretch.start])
            yield Segment("secret", mark_of_value(encoded), encoded)
        else:
            yield from show(text[last : stretch.end])
            if number >= STRETCHES:
                yield Segment("note", " ⟦from here on nothing more is decoded⟧ ", "")
                last = stretch.end
                break
            yield from decoded_note(stretch)
        last = stretch.end
    yield from show(text[last:])


def _holds_secret(stretch: Stretch) -> bool:
    return isinstance(stretch.data, str) and bool(secret_values(stretch.data))


_FLAG = "; in it "


def hidden_in_decoded(lines: Iterable[Line]) -> int:
    """How many decoded parts hold what cannot be seen, or passes for something else."""
    segments = [segment for line in lines for segment in line.segments]
    return sum(segment.kind == "mark" and segment.text.startswith(_FLAG) for segment in segments)


def decoded_note(stretch: Stretch, depth: int = 1) -> Iterator[Segment]:
    """What an encoded stretch decodes to, as a note of ours; what is hidden in it is marked, and counted in front."""
    characters = stretch.end - stretch.start
    if isinstance(stretch.data, bytes):
        size = f"decoded {len(stretch.data):,} bytes{' of its beginning' if stretch.cut else ''}"
        yield Segment(
            "note", f"⟦{stretch.how}, {characters:,} characters; {size}, looks like {looks_like(stretch.data)}⟧ ", ""
        )
        return
    text = stretch.data
    size = f"decoded {len(text.encode('utf-8', 'replace')):,} bytes of text"
    told = text[:PREVIEW_CHARACTERS]
    part = f" (the first {len(told):,} characters)" if len(told) < len(text) or stretch.cut else ""
    yield Segment("note", f"⟦{stretch.how}, {characters:,} characters; {size}{part}", "")
    hidden = sum(segment.kind == "mark" for segment in marked(text, "decoded"))
    if hidden:
        yield Segment("mark", f"{_FLAG}{hidden:,} hidden or passing for another", "")
    yield Segment("note", ": ", "")
    inside = stretches(told) if depth < DEPTH else []
    last = 0
    for one in inside:
        yield from _of_decoded(told[last : one.end])
        yield from decoded_note(one, depth + 1)
        last = one.end
    yield from _of_decoded(told[last:])
    yield Segment("note", "⟧ ", "")


def _of_decoded(text: str) -> Iterator[Segment]:
    """Decoded text; it stands for nothing in the source, and breaks no line."""
    for segment in marked(text, "decoded"):
        yield Segment(segment.kind, segment.text, "", segment.rtl)
