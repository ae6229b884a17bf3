"""Which characters cannot be trusted by sight, and what stands in their place. Pure; knows nothing of calls.

A character that is invisible, moves others, or looks like another one becomes a *mark*: its code point and name in
`⟦ ⟧`. Nothing is dropped: every segment carries the source it stands for. The brackets themselves, and the signs
for line breaks and tabs, are marked where they occur in a text, so no text can imitate a mark.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from hitl_mcp.render.confusables import ALWAYS_ODD, CJK_SIGNS, LOOKALIKES, ODD_SIGNS
from hitl_mcp.render.secret import mark_of_value, secret_values
from hitl_mcp.render.tokens import Place

Words = Literal["key", "string", "number", "literal", "punctuation", "plain", "name", "decoded"]
Kind = Literal[Words, "mark", "white", "note", "secret"]
"""What a segment is. `mark`, `white` (a break or tab made visible), `note`, `secret` are our words, not the text's."""

BREAK, TAB = "↵", "⇥"
LONGEST_SPACES = 12
"""More spaces in a row than any indentation a person reads; longer runs push text out of sight, so they are counted."""


@dataclass(frozen=True)
class Segment:
    """A stretch of one kind. `text` is what is shown, `source` what it stands for; `rtl` runs right to left."""

    kind: Kind
    text: str
    source: str
    rtl: bool = False


def marked(text: str, kind: Kind, whole: str | None = None) -> list[Segment]:
    """Split a text into what can be read as it stands and marks for what cannot; the sources join to `text`.

    `whole` is the text this one was cut from, where that says more about the language it is written in.
    """
    if secrets := secret_values(text):
        return _covered(text, kind, whole if whole is not None else text, secrets)
    if not _NOT_PLAIN.search(text):
        return [Segment(kind, text, text)] if text else []
    odd = _odd_places(text, whole if whole is not None else text)
    segments: list[Segment] = []
    start = 0
    while start < len(text):
        end = start + 1
        if start in odd:
            while end < len(text) and end in odd and _same_mark(text[start], text[end]):
                end += 1
            end = end if is_counted(text[start], end - start) else start + 1
            segments.append(_mark(text[start:end]))
        else:
            while end < len(text) and end not in odd:
                end += 1
            segments.extend(_by_direction(text[start:end], kind))
        start = end
    return segments


def _covered(text: str, kind: Kind, whole: str, secrets: Iterable[Place]) -> list[Segment]:
    segments: list[Segment] = []
    last = 0
    for start, end in secrets:
        segments += marked(text[last:start], kind, whole)
        segments.append(Segment("secret", mark_of_value(text[start:end]), text[start:end]))
        last = end
    return segments + marked(text[last:], kind, whole)


def mark_for(character: str, source: str) -> Segment:
    """The mark of one character that was written as `source`, such as an escape."""
    mark = _mark(character)
    return Segment(mark.kind, mark.text, source)


def is_counted(character: str, times: int) -> bool:
    """Whether so many of one character in a row get one mark with their number, instead of one mark each."""
    return times > _SINGLE.get(character, 1)


def joined(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Segments with neighbours of one kind made one; marks and notes stay apart."""
    result: list[Segment] = []
    for segment in segments:
        last = result[-1] if result else None
        if last and last.kind == segment.kind and last.kind not in _APART and not (last.rtl or segment.rtl):
            result[-1] = Segment(last.kind, last.text + segment.text, last.source + segment.source)
        else:
            result.append(segment)
    return tuple(result)


# Everything below decides which characters are odd. `_NOT_PLAIN` is the quick look: most texts pass it untouched.
_CAPITAL_I = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z]?[a-z]{2,}(I)(?![A-Za-z0-9+/_=-])")
_SPACES = re.compile(f" {{{LONGEST_SPACES + 1},}}")
_NOT_PLAIN = re.compile(rf"[^ -~]|{_SPACES.pattern}|{_CAPITAL_I.pattern}")
_BETWEEN_SPACES = re.compile(r"\S+")
_ADDRESS = re.compile(r"[@/\\:]|\w\.\w")

_SINGLE = {"\n": 2, "\t": LONGEST_SPACES}
"""How many breaks or tabs in a row ordinary text has: paragraphs, and indentation."""

_APART = frozenset({"mark", "white", "note", "secret"})
_OURS = frozenset("⟦⟧" + BREAK + TAB)
_UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0\ufffc\ufffd\U0001d159\U00016fe4"
) | frozenset(chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
"""Blank or ignorable, although their category says letter, symbol or accent (Unicode: Default_Ignorable)."""

_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zs", "Zl", "Zp", "Me"})
_ACCENTS_IN_A_ROW = 2
"""Vietnamese and polytonic Greek need two; more only buries the text around them."""

_CJK = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "KATAKANA-HIRAGANA"})
_LATIN_SIGNS = frozenset("µªº")

_CONTROL_NAMES = {
    0x07: "BELL",
    0x08: "BACKSPACE",
    0x0B: "LINE TABULATION",
    0x0C: "FORM FEED",
    0x0D: "CARRIAGE RETURN",
    0x1B: "ESCAPE",
    0x7F: "DELETE",
    0x85: "NEXT LINE",
    0x9B: "CONTROL SEQUENCE INTRODUCER",
}
"""What Unicode calls them; `unicodedata` knows no names for controls. The others are named as what they are."""


def _odd_places(text: str, whole: str) -> set[int]:
    odd = {place for match in _SPACES.finditer(text) for place in range(*match.span())}
    odd.update(match.start(1) for match in _CAPITAL_I.finditer(text))
    accents = 0
    for place, character in enumerate(text):
        if " " <= character <= "~":
            accents = 0
        elif _is_unseen(character):
            odd.add(place)
        elif unicodedata.category(character) in ("Mn", "Mc"):
            accents += 1
            if accents > _ACCENTS_IN_A_ROW or not _is_ordinary_accent(text, place, odd):
                odd.add(place)
        else:
            accents = 0
    if not text.isascii():
        genuine = _genuine_scripts(whole)
        for word in _BETWEEN_SPACES.finditer(text):
            if not word.group().isascii():
                odd.update(word.start() + place for place in _odd_letters(word.group(), genuine))
    return odd


@lru_cache(maxsize=4096)
def _is_unseen(character: str) -> bool:
    if character in _OURS or character in _UNSEEN:
        return True
    return unicodedata.category(character) in _UNSEEN_CATEGORIES


def _is_ordinary_accent(text: str, place: int, odd: set[int]) -> bool:
    """Whether an accent stands on a letter, strikes nothing through, and could not have been one character."""
    if place == 0 or place - 1 in odd or 0x334 <= ord(text[place]) <= 0x338:
        return False
    base = text[place - 1]
    if unicodedata.category(base)[0] not in "LM":
        return False
    return len(unicodedata.normalize("NFC", base + text[place])) > 1


@lru_cache(maxsize=64)
def _genuine_scripts(text: str) -> frozenset[str]:
    """The scripts of which the text has letters that pass for no other: it is really written in them.

    Kept, because a text that is shown in many pieces is asked about for each of them.
    """
    return frozenset(
        {
            script
            for character in set(text)
            if character > "~" and character not in LOOKALIKES and (script := _script(character)) != "LATIN" and script
        }
    )


def _odd_letters(chunk: str, genuine: frozenset[str]) -> Iterator[int]:
    """The places in a word between spaces where a letter or sign passes for another."""
    beside_ascii = any(character.isalnum() and character.isascii() for character in chunk)
    is_address = beside_ascii and _ADDRESS.search(chunk) is not None
    for place, character in enumerate(chunk):
        if character <= "~":
            continue
        if character in ALWAYS_ODD or (character in ODD_SIGNS and beside_ascii):
            yield place
        elif _folds_to_ascii(character) or (character in CJK_SIGNS and beside_ascii):
            neighbours = chunk[max(0, place - 1) : place] + chunk[place + 1 : place + 2]
            if not any(_script(neighbour) == "CJK" for neighbour in neighbours):
                yield place
        elif (character in LOOKALIKES and is_address) or (beside_ascii and character.isdecimal()):
            yield place
    for start, word in _words(chunk):
        yield from (start + place for place in _odd_in_word(word, beside_ascii, genuine))


def _odd_in_word(word: str, beside_ascii: bool, genuine: frozenset[str]) -> Iterator[int]:
    scripts = Counter(script for character in word if (script := _script(character)))
    lookalikes = [place for place, character in enumerate(word) if character in LOOKALIKES]
    if len(scripts) > 1 and not set(scripts) <= {"LATIN", "CJK"}:
        usual = scripts.most_common(1)[0][0]
        yield from (place for place, character in enumerate(word) if (script := _script(character)) and script != usual)
        yield from lookalikes
    elif len(lookalikes) == len(word) and (beside_ascii or not genuine & set(scripts)):
        yield from lookalikes


def _words(chunk: str) -> Iterator[tuple[int, str]]:
    start: int | None = None
    for place, character in enumerate(chunk + " "):
        inside = unicodedata.category(character)[0] in "LM"
        if inside and start is None:
            start = place
        elif not inside and start is not None:
            yield start, chunk[start:place]
            start = None


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    """The script of a letter, read off its Unicode name; nothing for what is no letter."""
    if not unicodedata.category(character).startswith("L"):
        return ""
    if character.isascii() or character in _LATIN_SIGNS:
        return "LATIN"
    first = unicodedata.name(character, "").partition(" ")[0]
    return "CJK" if first in _CJK else first


@lru_cache(maxsize=4096)
def _folds_to_ascii(character: str) -> bool:
    """Whether this is another form of an ASCII character: fullwidth, mathematical, ligature, Kelvin sign."""
    form, _, codes = f" {unicodedata.decomposition(character)}".rpartition("> ")
    points = [int(code, 16) for code in codes.split()]
    if not points or max(points) > 0x7E or character in _LATIN_SIGNS:
        return False
    if form.strip() in ("<super", "<sub", "<circle", "<fraction", "<square"):
        return False
    return len(points) == 1 or (len(points) == 2 and unicodedata.category(character).startswith("L"))


def _same_mark(first: str, other: str) -> bool:
    return first == other or (_is_tag(first) and _is_tag(other))


def _is_tag(character: str) -> bool:
    return 0xE0020 <= ord(character) <= 0xE007E


def _mark(run: str) -> Segment:
    """The mark for one odd character, or for a run that one mark can stand for."""
    character, count = run[0], len(run)
    times = f" ×{count:,}" if count > 1 else ""
    if character == "\n":
        return Segment("white", BREAK + times, run)
    if character == "\t":
        return Segment("white", TAB + times, run)
    if _is_tag(character):
        hidden = "".join(chr(ord(tag) - 0xE0000) for tag in run)
        return Segment("mark", f"⟦U+{ord(character):04X} TAG CHARACTERS{times}, hidden text: {hidden}⟧", run)
    glyph = f"{character} " if _can_be_shown(character) else ""
    return Segment("mark", f"⟦{glyph}U+{ord(character):04X} {_name(character)}{times}⟧", run)


def _can_be_shown(character: str) -> bool:
    if character == " " or _is_unseen(character) or unicodedata.category(character).startswith("M"):
        return False
    return unicodedata.bidirectional(character) not in ("R", "AL", "AN")


def _name(character: str) -> str:
    fallback = {"Cc": "CONTROL CHARACTER", "Co": "PRIVATE USE"}.get(unicodedata.category(character), "UNASSIGNED")
    return _CONTROL_NAMES.get(ord(character), unicodedata.name(character, fallback))


def _by_direction(text: str, kind: Kind) -> Iterator[Segment]:
    """Cut readable text so that a right-to-left stretch stands alone and cannot move what is beside it."""
    if text.isascii():
        yield Segment(kind, text, text)
        return
    start, was_rtl = 0, _runs_right_to_left(text, 0)
    for place in range(1, len(text)):
        is_rtl = _runs_right_to_left(text, place)
        if is_rtl != was_rtl:
            yield Segment(kind, text[start:place], text[start:place], was_rtl)
            start, was_rtl = place, is_rtl
    yield Segment(kind, text[start:], text[start:], was_rtl)


def _runs_right_to_left(text: str, place: int) -> bool:
    direction = unicodedata.bidirectional(text[place])
    if text[place] == " " and 0 < place < len(text) - 1:
        sides = (unicodedata.bidirectional(text[place - 1]), unicodedata.bidirectional(text[place + 1]))
        return all(side in ("R", "AL", "AN", "NSM") for side in sides)
    if direction == "NSM" and place:
        return _runs_right_to_left(text, place - 1)
    return direction in ("R", "AL", "AN")
