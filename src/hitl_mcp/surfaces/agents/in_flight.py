"""How many requests of each agent are being worked on. What a request means stands in `server.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from hitl_mcp.limits import AGENT_REQUESTS


class InFlight:
    """Counts the requests of each agent over all its connections, whatever transport they came by."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    @contextmanager
    def one_more(self, agent: str) -> Iterator[bool]:
        """Whether there is room for one more request of this agent; it is counted while this is open."""
        if self._counts[agent] >= AGENT_REQUESTS:
            yield False
            return
        self._counts[agent] += 1
        try:
            yield True
        finally:
            self._counts[agent] -= 1
            if not self._counts[agent]:
                del self._counts[agent]  # an agent may call itself whatever it likes
