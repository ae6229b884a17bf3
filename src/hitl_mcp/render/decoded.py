"""Which stretches of a text are something else, encoded, and what they decode to. Pure; how that is shown is `tree`'s.

Nothing is replaced: a reader gets the text as it stands, and beside it what a program would make of it.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Callable, Iterator
from html.entities import html5
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

DECODED_CHARACTERS = 64 * 1024
"""How much of one encoded stretch is decoded, to be looked through for what is hidden in it."""

STRETCHES = 200
"""How many encoded stretches of one text are decoded: more is a file, not something that people read."""

WHOLE_CHARACTERS = 24
"""From here on a text that has the looks of base64 is said to be some, whatever it decodes to."""

SHORT_CHARACTERS = 11
"""A shorter one is a word; between the two it counts where every byte of it is readable ASCII."""


class Stretch(NamedTuple):
    """A stretch of a text that is encoded: where it stands, how, and what it decodes to: text, or bytes that are none.

    `cut` says that it goes on and was decoded no further.
    """

    start: int
    end: int
    how: str
    data: bytes | str
    cut: bool = False


def stretches(text: str, *, escaped: bool = False) -> list[Stretch]:
    """The encoded stretches of a text, in order, none inside another. `escaped`: it is JSON, between the quotes."""
    if not _WORTH_A_LOOK.search(text):
        return []
    found: list[Stretch] = []
    for one in sorted(_all(text, escaped), key=lambda one: (one.start, -one.end)):
        if not found or one.start >= found[-1].end:
            found.append(one)
    return found[: STRETCHES + 1]


def looks_like(data: bytes) -> str:
    """What kind of file these bytes begin like."""
    return next((looks for magic, looks in _LOOKS_LIKE if data.startswith(magic)), "binary data")


_WORTH_A_LOOK = re.compile(r"%[0-9A-Fa-f]{2}|&#?[A-Za-z0-9]+;|\\[\\uxU]|xn--|[A-Za-z0-9+/_-]{11}", re.ASCII)
_BASE64_LINES = r"[A-Za-z0-9+/_-]{%d,}(?:(?:\\r)?\\n[A-Za-z0-9+/_-]{4,}|\r?\n[A-Za-z0-9+/_-]{4,})*={0,2}"
_BASE64 = re.compile(
    rf"(?<![A-Za-z0-9+/_%&=.-])(?:data:[\w.+-]+/[\w.+;=-]+,)?({_BASE64_LINES % SHORT_CHARACTERS})(?![A-Za-z0-9+/_-])"
)
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:0x)?((?:[0-9a-fA-F]{2}){8,})(?![0-9A-Za-z])")
_RUN = re.compile(r"[^\s\"'<>\\]+")
_HOST = re.compile(r"[A-Za-z0-9.-]+")
"""Runs as long as they can be, so that nothing is looked at twice: an agent chooses the text."""

_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_PLAIN_ENTITIES = frozenset({"&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&nbsp;", "&#39;", "&#34;", "&#x27;"})
_ESCAPED = r"(?:u[0-9a-fA-F]{4}|u\{[0-9a-fA-F]{1,6}\}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|[0-3][0-7]{2})"
_ESCAPES = re.compile(rf"(?:\\{_ESCAPED})+")
_ESCAPES_IN_JSON = re.compile(rf"(?:\\\\{_ESCAPED})+")
_ONE_ESCAPE = re.compile(rf"\\({_ESCAPED})")

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


def _all(text: str, escaped: bool) -> Iterator[Stretch]:
    for one, pattern, read in (
        ("base64", _BASE64, _base64),
        ("hexadecimal", _HEX, _hex),
        ("percent-encoded", _RUN, _percent),
        ("HTML entities", _RUN, _entities),
        ("escapes", _ESCAPES_IN_JSON if escaped else _ESCAPES, _escapes),
        ("punycode", _HOST, _punycode),
    ):
        yield from _found(one, pattern, read, text)


_Read = Callable[["re.Match[str]", bool], "bytes | str | None"]


def _found(how: str, pattern: re.Pattern[str], read: _Read, text: str) -> Iterator[Stretch]:
    number = 0
    for match in pattern.finditer(text):
        data = read(match, match.span() == (0, len(text)))
        if data is None:
            continue
        number += 1
        if isinstance(data, bytes) and (as_text := _text_of(data)) is not None:
            data = as_text
        cut = match.end() - match.start() > DECODED_CHARACTERS
        yield Stretch(match.start(), match.end(), how, data, cut)
        if number > STRETCHES:
            return


def _base64(match: re.Match[str], whole: bool) -> bytes | None:
    """The bytes, if it is base64 by its looks: mixed case and digits, not a path, not hex."""
    text = re.sub(r"(?:\\r)?\\n|\s", "", match[1])
    if not (re.search("[a-z]", text) and re.search("[A-Z]", text)) or re.fullmatch("[0-9A-Fa-f]+", text):
        return None
    if not re.search("[0-9=]", text):
        return None
    plain = text[:DECODED_CHARACTERS].rstrip("=").translate(str.maketrans("-_", "+/"))
    plain = plain if len(text) <= DECODED_CHARACTERS else plain[: len(plain) // 4 * 4]
    try:
        data = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        return None
    if whole and len(text) >= WHOLE_CHARACTERS:
        return data
    if len(text) >= WHOLE_CHARACTERS and (_text_of(data) is not None or looks_like(data) != "binary data"):
        return data
    return data if _reads_as_ascii(data) or _is_wide(data) else None


def _hex(match: re.Match[str], whole: bool) -> bytes | None:
    data = bytes.fromhex(match[1][:DECODED_CHARACTERS])
    return data if _reads_as_ascii(data) and re.search(rb"[A-Za-z]", data) else None


def _percent(match: re.Match[str], whole: bool) -> str | None:
    if not _PERCENT.search(match[0]):
        return None
    return unquote_to_bytes(match[0][:DECODED_CHARACTERS]).decode("utf-8", "replace")


def _entities(match: re.Match[str], whole: bool) -> str | None:
    if "&" not in match[0]:
        return None
    named = set(_ENTITY.findall(match[0]))
    known = {name for name in named if name[1] == "#" or name[1:] in html5}
    return html.unescape(match[0][:DECODED_CHARACTERS]) if known - _PLAIN_ENTITIES else None


def _escapes(match: re.Match[str], whole: bool) -> str:
    text = match[0][:DECODED_CHARACTERS].replace("\\\\", "\\")
    read = _ONE_ESCAPE.sub(lambda one: _character(one[1]), text)
    return read.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(escape: str) -> str:
    code = int(escape, 8) if escape[0] in "0123" else int(escape[1:].strip("{}"), 16)
    return chr(code) if code <= 0x10FFFF else "\ufffd"


def _punycode(match: re.Match[str], whole: bool) -> str | None:
    if "xn--" not in match[0].lower():
        return None
    try:
        labels = [
            label[4:].encode("ascii").decode("punycode") if label[:4].lower() == "xn--" else label
            for label in match[0][:DECODED_CHARACTERS].split(".")
        ]
    except (UnicodeError, OverflowError):
        return None
    return ".".join(labels)


def _text_of(data: bytes) -> str | None:
    """The text that these bytes are, if nearly all of it can be read."""
    try:
        text = data.decode("utf-16-le" if _is_wide(data) else "utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(data) - 3 or error.encoding != "utf-8":
            return None
        text = data[: error.start].decode("utf-8")  # cut within its last character
    readable = sum(character.isprintable() or character in "\n\r\t" for character in text)
    hidden = sum(_is_hidden(character) for character in text)
    return text if text and readable + hidden >= 0.9 * len(text) else None


def _is_hidden(character: str) -> bool:
    """Whether a character is one of those that text is hidden with: no control, but nothing that is seen."""
    return 0x200B <= ord(character) <= 0x206F or 0xE0000 <= ord(character) <= 0xE0FFF


def _is_wide(data: bytes) -> bool:
    """Whether this is ASCII in two bytes each, as PowerShell takes its encoded commands."""
    return len(data) >= 4 and len(data) % 2 == 0 and not any(data[1::2]) and _reads_as_ascii(data[::2])


def _reads_as_ascii(data: bytes) -> bool:
    return bool(data) and all(0x20 <= byte < 0x7F or byte in (9, 10, 13) for byte in data)


def unescaped(text: str) -> str:
    """What stands between the quotes of a JSON text, as it is meant."""
    return str(json.loads(f'"{text}"'))
