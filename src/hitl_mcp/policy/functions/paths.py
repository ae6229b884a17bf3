"""Paths. POSIX only; a path is judged by how it is written and by where links of this machine lead.

What a link points to when the tool opens the file may differ from what it points to now, and an upstream on another
machine has other links. Nothing is opened; `realpath` reads links.
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import Any

from hitl_mcp.limits import PATH_CHARACTERS
from hitl_mcp.policy.functions.globs import compiled
from hitl_mcp.policy.functions.lists import texts

__all__ = ["path_has", "path_within"]

_READ_DIFFERENTLY = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]|%[0-9A-Fa-f]{2}")
"""Control characters, characters without width (some file systems skip them), and escapes that a server may decode."""

_SEPARATORS = re.compile(r"[/\\]+")


def path_within(path: str, roots: str | list[Any]) -> bool:
    """Whether an absolute path is one of the roots or below one, both as written and with links followed."""
    written = _absolute(path)
    normal = _normal(written)
    reals: set[str] = set()
    for root in texts(roots, "root"):
        top = _normal(_absolute(root))
        if not _is_below(normal, top):
            continue
        # Some servers take `..` out before they follow links, some follow links first.
        reals = reals or {os.path.realpath(form) for form in {written, normal}}
        real_top = os.path.realpath(top)
        if all(_is_below(real, real_top) for real in reals):
            return True
    return False


def path_has(path: str, globs: str | list[Any]) -> bool:
    """Whether one of the names in a path matches one of the globs: as written, without `..`, or with links followed.

    Upper and lower case are the same, since some file systems think so, and so are both slashes. Each makes it true
    more often: this is for what must not be touched. Of a relative path, only what is written is known.
    """
    _check(path)
    patterns = compiled(tuple(pattern.lower() for pattern in texts(globs, "glob")))
    forms = {path, posixpath.normpath(path)}
    if path.startswith("/"):
        forms |= {os.path.realpath(form) for form in forms}
    names = {name for form in forms for name in _SEPARATORS.split(form.lower())} - {"", ".", ".."}
    return any(patterns.match(name) for name in names)


def _check(path: str) -> None:
    if not path or len(path) > PATH_CHARACTERS:
        raise ValueError("the path is empty or too long")
    if _READ_DIFFERENTLY.search(path):
        raise ValueError("the path has invisible characters or escapes in it")


def _absolute(path: str) -> str:
    _check(path)
    if not path.startswith("/") or "\\" in path:
        raise ValueError("the path is not an absolute one with `/` as separator")
    return path


def _normal(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/")  # normpath keeps two slashes in front


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top if top == "/" else top + "/")
