"""How YAML is written: where a text stands in a file, and what was meant by what is no YAML or means something else.

Works on the lines as they are written; nothing here reads a document. How values are checked stands in `documents`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Mistake",
    "comment_that_cuts",
    "mistake",
    "numbers_meant",
    "odd_space",
    "place_in_source",
    "quoted",
    "written_at",
]

_CONDITIONS = frozenset({"when", "unless", "of", "sum", "unit"})
"""Keys whose texts are expressions: they hold double quotes sooner or later, so single ones go around them."""

_START = re.compile(r"(?P<indent>[ \t]*(?:- +)*)(?:(?P<key>[A-Za-z_][\w-]*):(?: +|$))?(?P<rest>.*)\Z")
_FLOW_START = re.compile(r"(?:(?<![\w-])(?P<key>[A-Za-z_][\w-]*): +|[\[,{] *)")
_CLOSERS = {"(": ")", "[": "]", "{": "}"}
_STARTS_SOMETHING = {
    "*": "an alias",
    "&": "an anchor",
    "!": "a tag",
    "%": "a directive",
    "|": "a block of text",
    ">": "a block of text",
    "?": "a key",
    "-": "a list",
}
"""What the first character of a text without quotes means to YAML; others mean nothing and are not allowed."""

_BACKSLASHED = re.compile(r"""(?<![rR\w])("[^"]*\\[^"]*")""")
_ANYTHING_ELSE = "text that starts with a quote or holds `: ` or ` #` goes into single quotes as a whole"
_OLD_NUMBERS = re.compile(r"(?P<sign>[-+]?)(?:0x(?P<hex>[0-9a-fA-F]+)|0b(?P<bits>[01]+)|(?P<digits>[0-9]+))\Z")


@dataclass(frozen=True)
class Mistake:
    """What is wrong, where (line and column from 1), and what to write."""

    line: int
    column: int
    message: str
    help: str | None
    repeats: bool = False
    """Whether the help repeats what is written."""


@dataclass(frozen=True)
class _Value:
    """The text after a key, as far as it was meant to go; `column` counts from 0."""

    key: str | None
    text: str
    column: int

    @property
    def cure(self) -> str:
        """What to write instead, with its key."""
        text = quoted(_inside_quotes(self.text), self.key)
        return f"write `{self.key}: {text}`" if self.key else f"write `{text}`"


def quoted(text: str, key: str | None = None) -> str:
    """A text as YAML reads it for what it says."""
    if key not in _CONDITIONS and not set(text) & {'"', "\\"}:
        return f'"{text}"'
    if key in _CONDITIONS and '"' not in text and text.count("'") % 2 == 0:
        text = text.replace("'", '"')  # the same to CEL
    return "'" + text.replace("'", "''") + "'"


def written_at(lines: list[str], line: int, column: int, *, with_comment: bool = False) -> str | None:
    """The help line for the value that stands at a place, or around it: the key with the whole text in quotes.

    `with_comment`: what YAML takes for a comment was meant as text.
    """
    value = _value_at(lines[line - 1], column - 1) if 0 < line <= len(lines) else None
    if value is not None and with_comment:
        value = _Value(value.key, lines[line - 1][value.column :].rstrip(), value.column)
    return value.cure if value and value.text else None


def comment_that_cuts(lines: list[str], line: int, column: int, text: str) -> int | None:
    """The column of a `#` after a text that ends at a column, where it was hardly meant as a comment.

    Either a word follows at once (`see #5`), or quotes that the text opened are closed behind it.
    """
    found = re.match(r"[^\S\n]+#(.*)", lines[line - 1][column - 1 :])
    if found is None:
        return None
    parted = any(text.count(quote) % 2 and found[1].count(quote) % 2 for quote in ("'", '"'))
    return column + found.start(1) - 1 if parted or re.match(r"[^\s#!]", found[1]) else None


def odd_space(text: str) -> str | None:
    """The name of the first character at either end of a text that looks like a space, or like nothing."""
    for character in (text[:1], text[-1:]):
        if character and (unicodedata.category(character) in ("Zs", "Cf") and character != " "):
            return f"U+{ord(character):04X} {unicodedata.name(character, 'unnamed').lower()}"
    return None


def numbers_meant(text: str) -> list[str]:
    """In plain digits, what a number in a notation that only some YAML readers know may mean."""
    plain = text.replace("_", "")
    if ":" in plain and re.fullmatch(r"[-+]?[0-9]+(:[0-5]?[0-9])+", plain):
        total = 0
        for part in plain.lstrip("+-").split(":"):
            total = total * 60 + int(part)
        return [f"-{total}" if plain.startswith("-") else str(total)]
    found = _OLD_NUMBERS.match(plain)
    if found is None:
        return []
    sign = "-" if found["sign"] == "-" else ""
    if found["digits"] is None:
        return [sign + str(int(found["hex"], 16) if found["hex"] else int(found["bits"], 2))]
    digits = found["digits"]
    meant = [str(int(digits))]
    if digits.startswith("0") and re.fullmatch(r"[0-7]+", digits) and int(digits, 8) != int(digits):
        meant.append(str(int(digits, 8)))
    return [sign + each for each in meant]


# ---------------------------------------------------------------------------------------------------------------
# Where a text stands


def place_in_source(
    lines: Sequence[str], start: tuple[int, int], style: str | None, text: str, offset: int
) -> tuple[int, int]:
    """Where a character of a text stands in the file, whatever quotes, escapes and line breaks it is written with.

    `style` is the quote, or `|` or `>`, that the text is written with, and starts at `start`.
    """
    line, column = start
    if style in ("|", ">"):
        line, column = line + 1, 1
    elif style:
        column += 1
    for index, character in enumerate(text):
        line, column = _skipped(lines, line, column, character)
        if index >= offset:
            return line, column
        if line > len(lines):
            return start
        column += _written_length(lines[line - 1][column - 1 :], style)
        if character == "\n":
            line, column = line + 1, 1
    return line, column


def _skipped(lines: Sequence[str], line: int, column: int, character: str) -> tuple[int, int]:
    """Past the line breaks and the indentation that stand in the file and not in the text."""
    while line <= len(lines):
        there = lines[line - 1][column - 1 : column]
        if there == character or (there == "" and character == "\n"):
            break
        if there == "" or (there == "\\" and lines[line - 1][column:] == ""):
            line, column = line + 1, 1
            if character.isspace() and line <= len(lines):
                # One space of the text stands for the break and for what the next line is indented by.
                row = lines[line - 1]
                return line, len(row) - len(row.lstrip(" \t")) + (0 if row.strip() else 1)
        elif there.isspace():
            column += 1
        else:
            break
    return line, column


def _written_length(rest: str, style: str | None) -> int:
    """How many characters one character of a text takes in the file."""
    if style == "'" and rest[:2] == "''":
        return 2
    if style == '"' and rest[:1] == "\\":
        return 2 + {"x": 2, "u": 4, "U": 8}.get(rest[1:2], 0)
    return 1


# ---------------------------------------------------------------------------------------------------------------
# What no YAML reader reads


def mistake(lines: list[str], at: tuple[int, int], opened: tuple[int, int] | None, problem: str) -> Mistake:
    """What was meant where a reader stopped. `opened` is where what it was reading began, if it says so."""
    row = lines[at[0] - 1] if 0 < at[0] <= len(lines) else ""
    found = (
        _tab(row, at[0])
        or _invisible(lines, at, opened)
        or _escape(row, at, problem)
        or _not_closed(lines, at, opened)
        or _unquoted(row, at)
        or _no_space(lines, at[0])
        or (_no_space(lines, opened[0]) if opened else None)
        or _no_key(lines, opened, problem)
        or _indentation(lines, at[0])
    )
    return found or Mistake(at[0], at[1], f"not YAML: {problem}", _ANYTHING_ELSE)


def _tab(row: str, line: int) -> Mistake | None:
    blank = row[: len(row) - len(row.lstrip())]
    if "\t" not in blank:
        return None
    return Mistake(line, blank.index("\t") + 1, "not YAML: a tab in the indentation", "indent with spaces")


def _invisible(lines: list[str], at: tuple[int, int], opened: tuple[int, int] | None) -> Mistake | None:
    for line in sorted({at[0], opened[0] if opened else at[0]}):
        row = lines[line - 1] if line <= len(lines) else ""
        for column, character in enumerate(row, 1):
            if name := odd_space(character):
                return Mistake(line, column, f"not YAML: a character that looks like none: {name}", "delete it")
    return None


def _no_key(lines: list[str], opened: tuple[int, int] | None, problem: str) -> Mistake | None:
    if opened is None or "expected ':'" not in problem:
        return None
    row = lines[opened[0] - 1] if opened[0] <= len(lines) else ""
    if found := re.match(r"[\w-]+:", row[opened[1] - 1 :]):
        at = opened[1] + found.end()
        return Mistake(opened[0], at, "not YAML: there is no value after the colon", "write one, or leave the key out")
    return Mistake(opened[0], opened[1], "not YAML: this line is no `key: value`", "write a colon and a value after it")


def _escape(row: str, at: tuple[int, int], problem: str) -> Mistake | None:
    """A backslash in double quotes that YAML does not know, as in a pattern."""
    if "escape character" not in problem:
        return None
    value = _value_at(row, at[1] - 1)
    if value is not None and value.key in _CONDITIONS:
        # CEL does not know the escape either: there it takes a raw text.
        text = _BACKSLASHED.sub(r"r\1", quoted(_inside_quotes(value.text), value.key)[1:-1])
        value = _Value(value.key, text, value.column)
    word = row[at[1] - 1 : at[1] + 1]
    message = f"not YAML: `{word}` means nothing in double quotes"
    return Mistake(at[0], at[1], message, value.cure if value else None, repeats=True)


def _not_closed(lines: list[str], at: tuple[int, int], opened: tuple[int, int] | None) -> Mistake | None:
    """A quote or a bracket that the file ends in."""
    if opened is None or any(row.strip() for row in lines[at[0] - 1 :]):
        return None
    if opened[0] > len(lines):
        opened = len(lines), len(lines[-1].rstrip()) if lines else 1
    character = lines[opened[0] - 1][opened[1] - 1 : opened[1]] if lines else ""
    closer = {**_CLOSERS, '"': '"', "'": "'"}.get(character)
    if closer is None:
        return None
    message = f"not YAML: the `{character}` that opens here is not closed"
    return Mistake(opened[0], opened[1], message, f"close it with `{closer}`")


def _unquoted(row: str, at: tuple[int, int]) -> Mistake | None:
    """A value that needs quotes as a whole."""
    value = _value_at(row, at[1] - 1)
    fault = _fault(value.text) if value else None
    if value is None or fault is None:
        return None
    if value.key is None and value.text[fault[0] :][:1] in ("'", '"') and fault[0]:
        column = value.column + fault[0] + 1
        return Mistake(at[0], column, "not YAML: there is no comma between two texts", "write `,` between them")
    return Mistake(at[0], value.column + fault[0] + 1, f"not YAML: {fault[1]}", value.cure, repeats=True)


def _fault(text: str) -> tuple[int, str] | None:
    """What of a text needs quotes, and where in it."""
    first = text[:1]
    if first in ("'", '"') and first:
        end = _end_of_quotes(text)
        after = text[end:].lstrip()
        return (len(text) - len(after), "text goes on after the closing quote") if after else None
    if first in ("{", "["):
        closed = _end_of_brackets(text)
        after = text[closed:].lstrip() if closed else ""
        return (len(text) - len(after), f"text goes on after the `{_CLOSERS[first]}`") if after else None
    if first in ("@", "`", ",", "}", "]"):
        return 0, f"a text without quotes cannot start with `{first}`"
    if first in _STARTS_SOMETHING and (first not in "-?" or text[1:2] == " "):
        return 0, f"`{first}` at the start of a text without quotes is {_STARTS_SOMETHING[first]} to YAML"
    outside = _outside(text, ": ")
    colon = text.find(": ") if outside is None else outside
    if colon >= 0:
        return colon, "`: ` in a text without quotes makes a key of what stands before it"
    if (bracket := re.search(r"[\[\]{}]", text)) is not None:
        return bracket.start(), f"`{bracket[0]}` in a text without quotes ends it inside braces"
    return None


def _no_space(lines: list[str], line: int) -> Mistake | None:
    """A colon or a dash with no space after it, on this line or the one before."""
    for number in (line, line - 1):
        row = lines[number - 1] if 0 < number <= len(lines) else ""
        if found := re.match(r"( *(?:- +)*[A-Za-z_][\w-]*):(?=[^\s:/])(.*)\Z", row):
            cure = f"write `{found[1].strip(' -')}: {found[2].strip()}`"
            return Mistake(number, len(found[1]) + 2, "not YAML: there is no space after the colon", cure, repeats=True)
        if found := re.match(r"( *)-(?=[A-Za-z_][\w-]*:)(.*)\Z", row):
            cure = f"write `- {found[2]}`"
            return Mistake(number, len(found[1]) + 2, "not YAML: there is no space after the dash", cure, repeats=True)
    return None


def _indentation(lines: list[str], line: int) -> Mistake | None:
    """A line that starts in another column than what stands above it."""
    row = lines[line - 1] if 0 < line <= len(lines) else ""
    above = next((text for text in reversed(lines[: line - 1]) if text.strip() and text.lstrip()[0] != "#"), None)
    if above is None or not row.strip():
        return None
    column, expected = len(row) - len(row.lstrip()), _column_of_key(above)
    if column == expected:
        return None
    return Mistake(
        line,
        column + 1,
        f"not YAML: this starts in column {column + 1}, and what it would belong to in column {expected + 1}",
        "keys of one item start in one column, the first one right after `- `",
    )


def _column_of_key(row: str) -> int:
    found = _START.match(row)
    return len(found["indent"]) if found else 0


# ---------------------------------------------------------------------------------------------------------------
# Where a value starts and ends


def _value_at(row: str, column: int) -> _Value | None:
    """The value that a column is in, or, in a line that is one value, that value."""
    found = _START.match(row)
    if found is None:
        return None
    start, rest = found.start("rest"), found["rest"]
    if rest[:1] in ("{", "[") and column > start:
        end = _end_of_brackets(rest)
        if end is None or column < start + end:
            return _in_flow(row, start, column)
    elif found["key"] is None and (found["indent"].strip() == "" or any(sign in rest for sign in ("{", "["))):
        return _in_flow(row, 0, column)
    return _Value(found["key"], _without_comment(rest), start)


def _in_flow(row: str, start: int, column: int) -> _Value | None:
    """The value inside `{…}` or `[…]` that a column is in."""
    inside = None
    at = start
    while (found := _FLOW_START.search(row, at)) and found.end() <= column:
        inside = found
        at = found.end()
        if row[at : at + 1] in ("'", '"'):
            closed = at + _end_of_quotes(row[at:])
            at = closed if closed <= column else at
    if inside is None:
        return None
    begin = inside.end()
    return _Value(inside["key"], row[begin : _end_of_item(row, begin)].rstrip(), begin)


def _end_of_item(row: str, begin: int) -> int:
    """Where an item of `{…}` or `[…]` was meant to end: at a comma or a closing bracket that is not its own."""
    open_brackets: list[str] = []
    quote = ""
    for place in range(begin, len(row)):
        character = row[place]
        if quote:
            quote = "" if character == quote else quote
        elif character in ("'", '"'):
            quote = character
        elif character in _CLOSERS:
            open_brackets.append(_CLOSERS[character])
        elif open_brackets and character == open_brackets[-1]:
            open_brackets.pop()
        elif not open_brackets and character in ",}]":
            return place
    return len(row)


def _end_of_quotes(text: str) -> int:
    """Where the quotes that a text starts with end; its length where they do not."""
    quote, place = text[0], 1
    while place < len(text):
        escaped = quote == '"' and text[place] == "\\"
        doubled = quote == "'" and text[place : place + 2] == "''"
        if escaped or doubled:
            place += 2
        elif text[place] == quote:
            return place + 1
        else:
            place += 1
    return len(text)


def _end_of_brackets(text: str) -> int | None:
    """Where the bracket that a text starts with is closed, on the same line."""
    depth, quote = 0, ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in ("'", '"'):
            quote = character
        elif character in "{[":
            depth += 1
        elif character in "}]":
            depth -= 1
            if not depth:
                return place + 1
    return None


def _outside(text: str, sign: str) -> int | None:
    """Where a sign first stands outside quotes."""
    quote = ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in ("'", '"'):
            quote = character
        elif text.startswith(sign, place):
            return place
    return None


def _without_comment(text: str) -> str:
    cut = _outside(text, " #")
    return (text if cut is None else text[:cut]).rstrip()


def _inside_quotes(text: str) -> str:
    """A text without the quotes that were put around it, although the same ones stand inside it."""
    quote = text[:1]
    if quote not in ("'", '"') or len(text) < 3 or not text.endswith(quote):
        return text
    end = _end_of_quotes(text)
    goes_on = text[end : end + 1]
    if end == len(text):
        return text[1:-1].replace("''", "'") if quote == "'" else text[1:-1]
    return text[1:-1] if text.endswith(quote * 2) or goes_on.isalnum() else text
