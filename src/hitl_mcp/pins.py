"""Which definition of each tool was accepted, and which tools are blocked because theirs is another one now.

A tool is pinned by what it is when it is seen first. Whatever changes in it afterwards blocks it until an operator
accepts the new definition, and ends what was held or approved of it. What agents are shown meanwhile stands in
`catalog`, what becomes of a call in `decider`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import anyio

from hitl_mcp.errors import OtherDefinition, StoreError, ToolNotFound
from hitl_mcp.limits import PINS_PER_UPSTREAM
from hitl_mcp.store import SqliteStore
from hitl_mcp.store.pins import FIRST_SIGHT, Change, Pin, accept_pin, keep_first_pins, read_pins, tell_blocked

__all__ = ["FIRST_SIGHT", "PIN_RULE", "Blocked", "Pin", "Pins", "Proposed", "State", "open_pins"]

State = Literal["new", "accepted", "changed", "tampered"]
"""`new`: its pin is not in the store yet. The last two are blocked."""

PIN_RULE = "tool definition"
"""What stands for a rule's id where a call is denied because its tool is blocked. No rule can be called so."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Proposed:
    """What an upstream says that a tool is: the digest of its definition, and the definition as canonical JSON."""

    upstream: str
    definition: str
    definition_json: str


@dataclass(frozen=True)
class Blocked:
    """A tool that nobody may call until what is offered is accepted."""

    pin: Pin
    offer: Proposed

    @property
    def reason(self) -> str:
        """Why it is blocked, in one sentence for everyone.

        Agents read it, so it names no command: one that has a shell would run it.
        """
        what = "changed since it was accepted" if self.pin.intact else "that was accepted was altered in the database"
        return f"the definition of `{self.pin.name}` {what}; an operator has to look at it and accept it"


class Pins:
    """The pins of one gateway, in memory. `open_pins` reads them once; `run` writes what changes."""

    def __init__(self, known: Iterable[Pin] = ()) -> None:
        self._pins = {pin.name: pin for pin in known}
        self._unwritten: dict[str, Pin] = {}
        self._untold: dict[str, Blocked] = {}
        self._news = anyio.Event()
        self._callbacks: list[Callable[[], None]] = []
        # INVARIANT: replaced whole and never changed, and replaced before what is held is ended: the store's thread
        # looks here as it admits a call, so that none can slip in behind.
        self.blocked: Mapping[str, Blocked] = {}

    def find(self, name: str) -> Pin | None:
        """The pin of the tool of this full name, or None."""
        return self._pins.get(name)

    def all(self) -> tuple[Pin, ...]:
        """Every pin, in the order of names."""
        return tuple(self._pins[name] for name in sorted(self._pins))

    def state(self, name: str) -> State:
        """How a tool stands that was seen before."""
        blocked = self.blocked.get(name)
        if blocked is not None:
            return "changed" if blocked.pin.intact else "tampered"
        return "new" if name in self._unwritten else "accepted"

    def why_blocked(self, name: str) -> str | None:
        """Why no call of this tool may run, or None."""
        blocked = self.blocked.get(name)
        return blocked.reason if blocked else None

    def on_accept(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, at once and without waiting, when a definition was accepted."""
        self._callbacks.append(callback)

    def take_in(self, offers: Mapping[str, Proposed]) -> frozenset[str]:
        """Hold what upstreams offer now, by full names, against the pins: pin what is new, block what changed.

        Gives the names of what cannot be pinned, since its upstream has shown too many tools before.
        """
        blocked: dict[str, Blocked] = {}
        counts = Counter(pin.upstream for pin in self._pins.values())
        refused: set[str] = set()
        for name, offer in offers.items():
            pin = self._pins.get(name)
            if pin is None and counts[offer.upstream] >= PINS_PER_UPSTREAM:
                refused.add(name)
                continue
            if pin is None:
                counts[offer.upstream] += 1
                pin = Pin(name, offer.upstream, offer.definition, offer.definition_json)
                self._pins[name] = self._unwritten[name] = pin
            if not pin.intact or pin.definition != offer.definition:
                blocked[name] = Blocked(pin, offer)
        fresh = {name: one for name, one in blocked.items() if name not in self.blocked}
        self.blocked = blocked
        for name, one in fresh.items():
            logger.warning("%s", one.reason)
            self._untold[name] = one
        self._news.set()
        return frozenset(refused)

    async def accept(self, store: SqliteStore, name: str, definition: str, by: str) -> Pin:
        """Accept what a blocked tool offers now; `definition` is its digest as `by` was shown it.

        Raises:
            ToolNotFound: No tool of this full name was ever seen.
            OtherDefinition: It does not offer this definition (any more), or is not blocked.
            StoreError: It cannot be written, so the tool stays blocked.
        """
        if name not in self._pins:
            raise ToolNotFound(name)
        blocked = self.blocked.get(name)
        if blocked is None or blocked.offer.definition != definition:
            raise OtherDefinition(name, is_blocked=blocked is not None)
        offer = blocked.offer
        pin = Pin(name, offer.upstream, offer.definition, offer.definition_json)
        self._unwritten.pop(name, None)  # what was seen first must not be written over this
        self._pins[name] = await accept_pin(store, pin, by)
        for callback in self._callbacks:
            callback()
        return self._pins[name]

    async def run(self, store: SqliteStore) -> None:
        """Write what `take_in` finds, for ever: new pins, and the end of what waits for people of a blocked tool."""
        while True:
            self._news = anyio.Event()
            try:
                await self._write(store)
            except StoreError:
                logger.exception("pins cannot be written")  # then no call can be, and all are refused
                if store.broken is None:  # it may pass, and then nobody would say that they are still to be written
                    await store.after_failure()
                    continue
            await self._news.wait()

    async def _write(self, store: SqliteStore) -> None:
        if unwritten := tuple(self._unwritten.values()):
            for before, pin in zip(unwritten, await keep_first_pins(store, unwritten), strict=True):
                self._unwritten.pop(pin.name, None)
                self._replace(before, pin)
        if untold := tuple(self._untold.items()):
            changes = [Change(blocked.pin, blocked.offer.definition, blocked.reason) for _, blocked in untold]
            for (name, blocked), told in zip(untold, await tell_blocked(store, changes), strict=True):
                if self._untold.get(name) is blocked:
                    del self._untold[name]
                self._replace(blocked.pin, replace(blocked.pin, changed_at=told.since))
                if told.ended:
                    logger.warning("%d calls of `%s` that were held or approved are no longer valid", told.ended, name)

    def _replace(self, before: Pin, after: Pin) -> None:
        """Remember what the store made of a pin, unless it is another one by now."""
        if self._pins[before.name] is before:
            self._pins[before.name] = after


async def open_pins(store: SqliteStore) -> Pins:
    """The pins that this store has.

    Raises:
        StoreError: They cannot be read.
    """
    return Pins(await read_pins(store))
