"""What makes two waiting calls alike: the same tool, and arguments that differ in numbers and the like alone. Pure.

People fold by this what they look through; nothing is decided on it, and every call stays a record of its own.
"""

from __future__ import annotations

import re
from hashlib import blake2b

READ_CHARACTERS = 64 * 1024
"""Longer arguments are alike only where they are the same: nobody compares them by eye."""

_COUNTED = re.compile(r"[0-9a-f]{8,}(?:-[0-9a-f]{4,})*|[0-9]+", re.IGNORECASE)
_SPACES = re.compile(r"(?:\\[ntr]|\s)+")


def likeness_of(name: str, arguments_json: str) -> str:
    """Sixteen characters that calls have in common which a reviewer would call alike."""
    text = arguments_json
    if len(text) <= READ_CHARACTERS:
        text = _SPACES.sub(" ", _COUNTED.sub("0", text)).casefold()
    return blake2b(f"{name}\n{text}".encode(), digest_size=8).hexdigest()
