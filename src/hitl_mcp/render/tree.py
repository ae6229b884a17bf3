"""Canonical JSON text into lines that a person can read to the last character. Pure; knows nothing of calls.

The text is cut, never parsed and written again: the sources of all segments join to exactly the text that came in.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hitl_mcp.render.marks import Kind, Segment, is_counted, joined, mark_for, marked

LONG_CHARACTERS = 200
"""A string longer than this says its length first, so that a reader knows how far to read."""

PREVIEW_CHARACTERS = 240
"""How much of a decoded text is shown beside the encoded one: three lines of a terminal."""

SEGMENTS_WHOLE = 20_000
"""More than this and no browser stays quick and no person reads on: cut there, and then it is not shown whole."""


@dataclass(frozen=True)
class Line:
    """One line: how deep it is nested, and whether it goes on inside a string that the line above began."""

    depth: int
    segments: tuple[Segment, ...]
    continued: bool = False


def lines_of_json(text: str) -> tuple[Line, ...]:
    """The lines of a canonical JSON text, one member a line; line breaks inside strings break the line too."""
    lines = _Lines()
    pieces = _JSON_TOKEN.findall(text)
    stack: list[str] = []
    is_key = False
    for place, piece in enumerate(pieces):
        if lines.count > SEGMENTS_WHOLE:
            break
        following = pieces[place + 1] if place + 1 < len(pieces) else ""
        if piece[0] == '"':
            lines.add(*_string(piece, "key" if is_key else "string"))
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
    lines.add(*marked(text, kind))
    return lines.finished()


def raw_segments(text: str) -> tuple[Segment, ...]:
    """JSON text exactly as it is stored, its escapes as they are written; only what cannot be trusted is marked."""
    return joined(marked(text, "string")[:SEGMENTS_WHOLE])


def shows_all(lines: Iterable[Line], text: str) -> bool:
    """Whether these lines show every character of the text: asked of each rendering, never taken for granted."""
    return "".join(segment.source for line in lines for segment in line.segments) == text


_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*|[a-z]+|.', re.DOTALL)
_ESCAPE = re.compile(r"(\\(?:u[0-9a-fA-F]{4}|.))")
_BASE64 = re.compile(r"(?:data:[\w.+-]+/[\w.+-]+;base64,)?([A-Za-z0-9+/_-]{24,}={0,2})")

_LOOKS_LIKE = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or Office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x7fELF", "a Linux program"),
    (b"MZ", "a Windows program"),
    (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"RIFF", "a WebP, WAV or AVI file"),
    (b"SQLite format 3\x00", "an SQLite database"),
)


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


def _scalar(piece: str) -> list[Segment]:
    if piece in ("true", "false", "null"):
        return [Segment("literal", piece, piece)]
    if piece[0] in "-0123456789":
        return [Segment("number", piece, piece)]
    return marked(piece, "string")


def _string(piece: str, kind: Kind) -> Iterator[Segment]:
    """A string with its quotes. Escapes of control characters become marks; `\\"` and `\\\\` stay as written."""
    inner = piece[1:-1]
    yield from _notes(piece)
    yield Segment(kind, '"', '"')
    for part, count in _with_breaks_counted(_ESCAPE.split(inner)):
        if part[:1] != "\\":
            yield from marked(part, kind, inner)
        elif part in ('\\"', "\\\\", "\\/"):
            yield Segment(kind, part * count, part * count)
        else:
            yield mark_for(json.loads(f'"{part}"') * count, part * count)
    yield Segment(kind, '"', '"')


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


def _notes(piece: str) -> Iterator[Segment]:
    """What to know of a string before reading it: that it is long, or that it is something else, encoded."""
    if len(piece) < 26:
        return
    match = _BASE64.fullmatch(piece, 1, len(piece) - 1)
    decoded = _decoded(match.group(1)) if match else None
    if decoded is not None:
        yield from _note_on_decoded(len(piece) - 2, decoded)
    elif len(piece) > LONG_CHARACTERS:
        value = json.loads(piece)
        if len(value) > LONG_CHARACTERS:
            size_bytes = len(value.encode("utf-8"))
            also = f", {size_bytes:,} bytes" if size_bytes != len(value) else ""
            yield Segment("note", f"⟦{len(value):,} characters{also}⟧ ", "")


def _decoded(text: str) -> bytes | None:
    """The bytes that a text encodes, if it is base64 by its looks: mixed case and digits, not a path, not hex."""
    if not (re.search("[a-z]", text) and re.search("[A-Z]", text)) or re.fullmatch("[0-9A-Fa-f]+", text):
        return None
    if not re.search("[0-9=]", text):
        return None
    plain = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        return None


def _note_on_decoded(characters: int, decoded: bytes) -> Iterator[Segment]:
    size = f"⟦base64, {characters:,} characters; decoded {len(decoded):,} bytes"
    try:
        text = decoded.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if text and sum(character.isprintable() or character in "\n\r\t" for character in text) >= 0.9 * len(text):
        shown = text[:PREVIEW_CHARACTERS]
        part = f" (the first {len(shown)} characters)" if len(shown) < len(text) else ""
        yield Segment("note", f"{size} of text{part}: ", "")
        for segment in marked(shown.replace("\n", " "), "decoded"):
            yield Segment(segment.kind if segment.kind == "mark" else "decoded", segment.text, "", segment.rtl)
        yield Segment("note", "⟧ ", "")
        return
    looks = next((looks for magic, looks in _LOOKS_LIKE if decoded.startswith(magic)), "binary data")
    yield Segment("note", f"{size}, looks like {looks}⟧ ", "")
