"""One-time codes that links carry, the keys they are exchanged for, and a bound on wrong ones.

Codes live in memory only: a restart makes open links void, and nothing on disk lets anyone in.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hitl_mcp.clock import after
from hitl_mcp.limits import LOGIN_CODE_SECONDS, LOGIN_FAILURES_PER_MINUTE

_KEY_BYTES = 32
"""256 bits: guessing is hopeless without any bound on tries."""

_OPEN_CODES = 1000
"""Links not yet used; more are only ever made by a loop gone wrong, and the oldest then goes."""


def new_key() -> str:
    """A fresh secret, as text that fits a URL."""
    return secrets.token_urlsafe(_KEY_BYTES)


def digest_of_key(key: str) -> str:
    """What is kept of a secret, and what it is looked up by: comparing digests tells nothing about the secret."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(eq=False)
class LoginCodes:
    """The one-time codes that were given out and not used yet, and the recent wrong ones."""

    _open: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    _failures: deque[datetime] = field(default_factory=deque)

    def make(self, reviewer: str, now: datetime) -> tuple[str, datetime]:
        """A code that signs this reviewer in once, and until when."""
        while len(self._open) >= _OPEN_CODES:
            del self._open[next(iter(self._open))]
        code, expires_at = new_key(), after(now, LOGIN_CODE_SECONDS)
        self._open[digest_of_key(code)] = (reviewer, expires_at)
        return code, expires_at

    def redeem(self, code: str, now: datetime) -> str | None:
        """The reviewer this code is for, the first time it is shown in time; None otherwise."""
        reviewer, expires_at = self._open.pop(digest_of_key(code), ("", now))
        if expires_at > now:
            return reviewer
        self.note_failure(now)
        return None

    def note_failure(self, now: datetime) -> None:
        """One more that did not sign anybody in, whatever it was."""
        self._failures.append(now)

    def too_many_failures(self, now: datetime) -> bool:
        """Whether so many wrong codes came in the last minute that none is read for now."""
        while self._failures and self._failures[0] <= now - timedelta(minutes=1):
            self._failures.popleft()
        return len(self._failures) >= LOGIN_FAILURES_PER_MINUTE
