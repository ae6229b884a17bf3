"""What the store gives to others, free of any one database: shapes, and the feed of what changed. No SQL."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from hitl_mcp.calls import CallEvent, CallRecord, Decision, Mark, Requirement
from hitl_mcp.errors import StoreError
from hitl_mcp.limits import EVENT_QUEUE_LENGTH
from hitl_mcp.policy.history import History


@dataclass(frozen=True)
class Admission:
    """What became of a request: its record, and whether that record existed before (nothing ran for this request)."""

    record: CallRecord
    repeat: bool


Decide = Callable[[History], Decision]
"""Decides a call by what happened before. Runs where nothing else can happen meanwhile, so it must be short."""


@dataclass(frozen=True)
class LastLook:
    """What the policy says of an approved call just before it runs: why it must not, or what it counts for.

    `asks` is what it asks of people now, where a grant approved the call: that must still meet it.
    """

    refusal: str | None
    marks: tuple[Mark, ...] = ()
    asks: tuple[Requirement, ...] = ()


@dataclass(frozen=True)
class CallPage:
    """One page of a listing, newest first; `next` is the cursor of the page after it, or None."""

    calls: tuple[CallRecord, ...]
    next: str | None


@dataclass(frozen=True)
class Found(CallPage):
    """A page of a search. Where it ended before everything was looked at, `looked_back_to` is how far it came."""

    looked_back_to: str | None = None


@dataclass(frozen=True)
class Pause:
    """Who stopped all running, when and why."""

    by: str
    at: str
    reason: str


@dataclass(frozen=True)
class Erased:
    """One batch of retention: of how many calls it erased something, and whether there may be more due."""

    erased: int
    more: bool


class FeedBehind(StoreError):
    """A reader of the feed was too slow; it must read the store again."""


def _everything(event: CallEvent) -> bool:
    return True


@dataclass(eq=False)
class Feed:
    """The events after `follow()` was entered that `wants` asks for, in order. Subscribe first, then read the store.

    Most calls are allowed and nobody waits for them: whoever follows says what concerns it, so as not to be woken.
    """

    wants: Callable[[CallEvent], bool] = field(default=_everything)
    _waiting: deque[CallEvent] = field(default_factory=deque)
    _news: anyio.Event = field(default_factory=anyio.Event)
    _behind: bool = False

    def publish(self, event: CallEvent) -> None:
        """Add an event; only the store calls this, on the event loop."""
        if not self.wants(event):
            return
        if len(self._waiting) >= EVENT_QUEUE_LENGTH:
            self._behind = True
            self._waiting.clear()
        if not self._behind:
            self._waiting.append(event)
        self._news.set()

    async def next(self, timeout_seconds: float | None = None) -> CallEvent | None:
        """The next event, or None when none came in time.

        Raises:
            FeedBehind: Events were dropped because this reader was too slow.
        """
        with anyio.move_on_after(timeout_seconds):
            while not self._waiting and not self._behind:
                self._news = anyio.Event()
                await self._news.wait()
        if self._behind:
            self._behind = False
            raise FeedBehind("the event feed fell behind", help="read the store again and follow anew")
        return self._waiting.popleft() if self._waiting else None

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> CallEvent:
        event = await self.next()
        if event is None:  # without a timeout there is always an event
            raise StopAsyncIteration
        return event
