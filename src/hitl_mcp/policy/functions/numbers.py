"""Numbers that came as text. What is only nearly a number is refused; no rounding, no guessing of separators."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from hitl_mcp.limits import NUMBER_CHARACTERS, SAFE_INTEGER

__all__ = ["number"]

_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", re.ASCII)
"""JSON's notation without an exponent: readers disagree about `+1`, `.5`, `007`, `1e3`, `1,000` and other digits."""


def number(value: int | float | str) -> float:
    """A number, or a text that is exactly a plain decimal number, as a double."""
    if isinstance(value, str):
        return _of_text(value)
    if not math.isfinite(value) or abs(value) > SAFE_INTEGER:
        raise ValueError("the number is not finite, or beyond 2^53")
    return float(value)


def _of_text(text: str) -> float:
    if len(text) > NUMBER_CHARACTERS or _DECIMAL.fullmatch(text) is None:
        raise ValueError("the text is not a plain decimal number, such as 12 or -3.50")
    value = float(text)
    if abs(value) > SAFE_INTEGER:
        raise ValueError("the number is beyond 2^53")
    if Decimal(repr(value)) != Decimal(text):
        raise ValueError("the number has more digits than a double keeps")
    return value
