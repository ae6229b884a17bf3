"""Command lines of a POSIX shell, read as words. Whatever a shell would replace, expand or redirect is refused.

No command is known here: which programs and options are harmless is for a policy to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hitl_mcp.limits import COMMAND_CHARACTERS
from hitl_mcp.policy.functions.lists import texts

__all__ = ["argv", "shell_commands"]

_PIECE = re.compile(
    r"""
      (?P<blank>[ \t]+)
    | (?P<quiet>(?<![^ \t;|&])(?:(?:[12]?>>?|&>|<)[ \t]*/dev/null|2>&1|1?>&2)(?![^ \t;|]))
    | (?P<operator>&&|\|\||[|;])
    | (?P<plain>[A-Za-z0-9_@%+:,./=-]+|(?<=[A-Za-z0-9])~(?=[0-9 \t]|\Z))
    | '(?P<single>[^'\x00]*)'
    | "(?P<double>(?:[^"\\$`\x00]|\\["\\])*)"
    | \\(?P<escaped>[!-~ ])
    | (?P<letter>[^\W\x00-\x7f])
    """,
    re.VERBOSE,
)
"""`~` is plain where it cannot mean a home directory (`HEAD~1`). Letters of other scripts are plain."""

_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\[.*\])?\+?=|=", re.DOTALL)
_RESERVED_WORDS = """
! [[ ]] { } case coproc do done elif else esac fi for function if in repeat select then time until while
"""
_RESERVED = frozenset(_RESERVED_WORDS.split())
"""Words that make a shell read on differently (POSIX, bash and zsh)."""


def argv(command: str | list[Any]) -> list[str]:
    """The words of one simple command. A list is taken as words that no shell will read."""
    if isinstance(command, list):
        words = list(texts(command, "word"))
        if not words[0] or any("\0" in word for word in words):
            raise ValueError("the list does not begin with a program")
        return words
    return _commands(command, operators=False)[0]


def shell_commands(line: str) -> list[list[str]]:
    """The simple commands of a line that are joined by `|`, `&&`, `||` or `;`, each as its words.

    Redirections that write no file (`2>&1`, `>/dev/null`) are left out.
    """
    return _commands(line, operators=True)


def _commands(line: str, *, operators: bool) -> list[list[str]]:
    if len(line) > COMMAND_CHARACTERS:
        raise ValueError(f"the command is longer than {COMMAND_CHARACTERS} characters")
    commands: list[list[str]] = [[]]
    word: str | None = None
    for kind, text in _pieces(line.strip(" \t")):
        if kind in ("operator", "quiet") and not operators:
            raise ValueError("the command is more than one simple command")
        if kind == "quiet" and word is not None:
            raise ValueError("a redirection stands inside a word")  # after an escaped blank
        if kind in ("blank", "operator") and word is not None:
            commands[-1].append(word)
            word = None
        if kind == "operator":
            commands.append([])
        elif kind not in ("blank", "quiet"):
            word = (word or "") + text
    if word is not None:
        commands[-1].append(word)
    for words in commands:
        _check(words)
    return commands


def _pieces(line: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(line):
        found = _PIECE.match(line, at)
        if found is None or found.lastgroup is None:
            raise ValueError("the command has something in it that a shell treats specially, or an open quote")
        text = found[found.lastgroup]
        yield found.lastgroup, re.sub(r"\\(.)", r"\1", text) if found.lastgroup == "double" else text
        at = found.end()


def _check(words: list[str]) -> None:
    if not words or not words[0]:
        raise ValueError("a command is empty")
    if _ASSIGNMENT.match(words[0]):
        raise ValueError("the command sets a variable")
    if words[0] in _RESERVED:
        raise ValueError("the command is a shell statement, not a program")
    if any(word.startswith("=") for word in words):
        raise ValueError("a word begins with `=`, which some shells replace")
