"""SQL as characters: comments out, statements apart. Refuses what databases divide differently. No grammar here.

What one database takes for the inside of a string is a statement to another: `'\\'; delete from t --'`. So a text is
read on only where all dialects (or the one that was named) agree where strings, names and comments begin and end.
"""

from __future__ import annotations

import re
import unicodedata

from hitl_mcp.limits import SQL_CHARACTERS, SQL_TOKENS

__all__ = ["DIALECTS", "statements"]

DIALECTS = ("postgres", "mysql", "sqlite", "tsql")

_COMMON = r"""
      (?P<space>(?:[ \t\n\f]|\r\n)+)
    | (?P<quoted>'(?:[^'\\]|\\\\|\\[^'\\]|'')*'|"(?:[^"\\]|\\\\|\\[^"\\]|"")*")
    | (?P<block>/\*(?!M?!)(?:[^*/\r]|\r\n|\*(?!/)|/(?!\*))*\*/)
    | (?P<line>--(?=[ \t\n]|\r\n|\Z)[^\n\r]*(?=\n|\r\n|\Z))
    | (?P<end>;)
    | (?P<word>\w+)
    | (?P<sign>(?!--|/\*|\$\w*\$)[-+*/<>=~!@%^&|?:,.()$])
"""
"""What all read alike. Not here: a quote after a backslash, which ends a string or does not; `/*!`, which MySQL runs; a
comment within a comment; `--` without a space, which MySQL takes for two minus signs; a lone carriage return."""

_DASHES = r"| (?P<dashes>--[^\n\r]*(?=\n|\r\n|\Z))"
_BACKTICKS = r"| (?P<backticks>`(?:[^`]|``)*`)"
_OWN = {
    None: _BACKTICKS + r"| (?P<bracket>\[[\w .,]*\])",
    "postgres": _DASHES + r"| (?P<dollar>(?<!\w)(?P<tag>\$(?:[^\W\d]\w*)?\$)(?s:.*?)(?P=tag)) | (?P<own>[\[\]\#])",
    "mysql": _BACKTICKS + r"| (?P<hash>\#[^\n\r]*(?=\n|\r\n|\Z))",
    "sqlite": _BACKTICKS + _DASHES + r"| (?P<bracket>\[[^\]]*\])",
    "tsql": _DASHES + r"| (?P<bracket>\[(?:[^\]]|\]\])*\]) | (?P<own>\#)",
}
_PIECES = {dialect: re.compile(_COMMON + own, re.VERBOSE) for dialect, own in _OWN.items()}

_COMMENTS = frozenset({"block", "line", "dashes", "hash"})
_DOTLESS_I = "\u0131"
"""Its capital is an ASCII letter, but it is no compatibility form of one."""


def statements(text: str, dialect: str | None) -> list[str]:
    """The statements of a text, without comments, as written otherwise."""
    if dialect not in _PIECES:
        raise ValueError(f"the dialect is none of {', '.join(DIALECTS)}")
    if len(text) > SQL_CHARACTERS:
        raise ValueError(f"the text is longer than {SQL_CHARACTERS} characters")
    found: list[str] = []
    current: list[str] = []
    tokens = 0
    for kind, piece in _pieces(text, dialect):
        if kind == "end":
            found.append("".join(current))
            current = []
        else:
            current.append(" " if kind in _COMMENTS else piece)
            tokens += kind != "space"
    if tokens > SQL_TOKENS:
        raise ValueError(f"the text has more than {SQL_TOKENS} words and signs")
    found.append("".join(current))
    kept = [statement.strip() for statement in found if statement.strip()]
    if not kept:
        raise ValueError("there is no statement in the text")
    return kept


def _pieces(text: str, dialect: str | None) -> list[tuple[str, str]]:
    scanner = _PIECES[dialect]
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        piece = scanner.match(text, at)
        if piece is None or piece.lastgroup is None:
            raise ValueError("databases read the text differently: a quote, comment or sign in it is not plain SQL")
        kind, content = piece.lastgroup, piece[0]
        if kind == "word" and (_DOTLESS_I in content or unicodedata.normalize("NFKC", content) != content):
            raise ValueError("a word has letters in it that can pass for others")
        found.append((kind, content))
        at = piece.end()
    return found
