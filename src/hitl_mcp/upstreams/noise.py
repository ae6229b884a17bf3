"""What an upstream makes us log beside its answers: visible, cut, and no more than so many lines a second. No I/O."""

from __future__ import annotations

import logging
import time

from hitl_mcp.limits import UPSTREAM_LOG_CHARACTERS, UPSTREAM_LOG_LINES_PER_SECOND

__all__ = ["Noise", "visible"]

logger = logging.getLogger(__name__)

_GARBAGE_BYTES = 200
"""How much of what cannot be read is shown: enough to tell what it is."""


class Noise:
    """The lines of one upstream in our log."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._second = 0
        self._lines = 0

    def said(self, raw: bytes, is_whole: bool) -> None:
        """A line of its stderr."""
        if self._may_log():
            logger.info("upstream `%s`: %s%s", self._name, visible(raw), "" if is_whole else " (cut)")

    def skipped(self, raw: bytes, why: str) -> None:
        """Something that stood where only messages may stand."""
        if self._may_log():
            logger.warning("upstream `%s`: %s: %s", self._name, why, visible(raw[:_GARBAGE_BYTES]))

    def did(self, what: str) -> None:
        """Something that it should not have done; `what` may hold its own words."""
        if self._may_log():
            cut = what[:UPSTREAM_LOG_CHARACTERS].encode("utf-8", "backslashreplace")
            logger.warning("upstream `%s` %s", self._name, visible(cut))

    def _may_log(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            dropped = self._lines - UPSTREAM_LOG_LINES_PER_SECOND
            self._second, self._lines = second, 0
            if dropped > 0:
                logger.warning("upstream `%s`: %d more lines were not logged", self._name, dropped)
        self._lines += 1
        return self._lines <= UPSTREAM_LOG_LINES_PER_SECOND


def visible(raw: bytes) -> str:
    """Text for a log: one line, with every control, bidi and zero-width character written out."""
    text = raw.rstrip(b"\r").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
