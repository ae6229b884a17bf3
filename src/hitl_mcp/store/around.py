"""What the record tells around one call, and of one agent or one tool: read from indexes, a bounded number of calls."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any, Literal

from hitl_mcp.calls import OPEN, CallRecord, Status
from hitl_mcp.clock import after, from_text, to_text
from hitl_mcp.store.access import Access
from hitl_mcp.store.listing import NEWEST, Bounds, Listing, Wanted

WEEK_DAYS = 7

NEIGHBOURS = 5
"""Calls of a conversation before and after one, and calls like it, that are shown beside it."""

COMPARED_CALLS = 100
"""Calls of a tool whose arguments are compared with one's: what people were asked of late, enough to find its like."""

COMPARED_CHARACTERS = 8 * 1024
"""How much of arguments is compared."""

LOOKED_BACK_CALLS = 200
"""Earlier calls among which a value counts as new if none of them has it."""

ANSWERS_TIMED = 200
"""Answers from which the median time to an answer is taken."""

_SETTLED = json.dumps(sorted(frozenset(Status) - OPEN))
_ANSWERED = json.dumps(sorted([Status.SUCCEEDED, Status.FAILED, Status.REJECTED, Status.RELEASED, Status.EXPIRED]))

_WAYS = (("allow", False), ("hold", False), ("hold", True), ("deny", False))
"""In which order settled calls are counted: by effect, and whether a grant answered for people."""

Whose = Literal["agents", "tools"]

_STATEMENTS: dict[Whose, tuple[str, str, str]] = {
    "agents": ("settled_of_agents", "last_settled_of_agents", "open_of_agents"),
    "tools": ("settled_of_tools", "last_settled_of_tools", "open_of_tools"),
}


@dataclass(frozen=True)
class Neighbourhood:
    """What stands around a call. `earlier` are the arguments of earlier calls of its tool by its agent, the last first.

    `all_earlier` says whether these are all there were, none erased.
    """

    before: tuple[CallRecord, ...]
    after: tuple[CallRecord, ...]
    similar: tuple[CallRecord, ...]
    similar_counts: Mapping[str, int]
    earlier: tuple[str, ...]
    all_earlier: bool


@dataclass
class Figures:
    """What an agent, or a tool, came to in a week; `open` and `last_at` are of all time."""

    name: str
    by_status: dict[str, int] = field(default_factory=dict)
    by_answer: dict[str, int] = field(default_factory=dict)
    effects: dict[str, int] = field(default_factory=dict)
    open: int = 0
    last_at: str | None = None
    median_answer_seconds: float | None = None

    @property
    def approval_share(self) -> float | None:
        """How many of those that people answered they approved."""
        approved, rejected = self.by_answer.get("approved", 0), self.by_answer.get("rejected", 0)
        return round(approved / (approved + rejected), 3) if approved + rejected else None

    def add(self, status: str, effect: str, granted: bool, calls: int) -> None:
        """Count calls that stand and were decided alike."""
        if not calls:
            return
        _count(self.by_status, status, calls)
        _count(self.effects, effect, calls)
        answer = _answer(status, effect, granted)
        if answer is not None:
            _count(self.by_answer, answer, calls)


class Around:
    """What is told around calls, from one database."""

    def __init__(self, access: Access, listing: Listing) -> None:
        self._clock = access.clock
        self._rows = access.rows
        self._listing = listing

    async def call(self, record: CallRecord) -> Neighbourhood:
        """What stands around one call."""
        here = {"conversation": record.asked.conversation, "id": record.id, "limit": NEIGHBOURS}
        before = await self._rows("before_in_conversation", here)
        behind = await self._rows("after_in_conversation", here)
        similar, counts = await self._similar(record)
        earlier, complete = await self._earlier(record)
        return Neighbourhood(
            before=tuple(reversed(await self._listing.records([row["seq"] for row in before]))),
            after=tuple(reversed(await self._listing.records([row["seq"] for row in behind]))),
            similar=similar,
            similar_counts=counts,
            earlier=earlier,
            all_earlier=complete,
        )

    async def _similar(self, record: CallRecord) -> tuple[tuple[CallRecord, ...], dict[str, int]]:
        """The calls of this tool that people were asked about and whose arguments are nearest, the nearest first."""
        query = {"name": record.call.name, "statuses": _ANSWERED, "limit": COMPARED_CALLS}
        seqs = [row["seq"] for row in await self._rows("seqs_asked_of_people", query)]
        compared = await self._rows("arguments_of_calls", {"seqs": json.dumps(seqs)})
        own = _parts_of(record.call.arguments_json)
        near = sorted(
            (
                (_likeness(own, _parts_of(row["arguments_json"])), row["seq"])
                for row in compared
                if row["id"] != record.id and row["erased_at"] is None
            ),
            reverse=True,
        )
        rank = {
            row["id"]: near_place for near_place, (_, seq) in enumerate(near) for row in compared if row["seq"] == seq
        }
        records = await self._listing.records([seq for _, seq in near[:NEIGHBOURS]])
        counts: dict[str, int] = {}
        for row in compared:
            if row["id"] != record.id:
                answer = _answer(row["status"], "hold", row["granted"])
                _count(counts, answer or row["status"], 1)
        return tuple(sorted(records, key=lambda one: rank[one.id])), counts

    async def _earlier(self, record: CallRecord) -> tuple[tuple[str, ...], bool]:
        """The arguments of the last calls of this tool by this agent before this one, and whether these are all."""
        own = await self._rows("seq_of_call", {"id": record.id})
        bounds = Bounds(0, own[0]["seq"] if own else NEWEST, json.dumps([record.call.name]))
        wanted = Wanted(agent=record.call.agent, name=record.call.name)
        seqs = await self._listing.seqs(wanted, bounds, LOOKED_BACK_CALLS + 1)
        rows = await self._rows("arguments_of_calls", {"seqs": json.dumps(seqs[:LOOKED_BACK_CALLS])})
        kept = tuple(row["arguments_json"] for row in rows if row["erased_at"] is None)
        return kept, len(seqs) <= LOOKED_BACK_CALLS and len(kept) == len(rows)

    # Agents and tools.

    async def agents(self, names: Sequence[str] | None = None) -> list[Figures]:
        """A week of each agent; of those named, where some are."""
        return await self._figures("agents", names if names is not None else await self._listing.agent_names())

    async def tools(self, names: Sequence[str] | None = None) -> list[Figures]:
        """A week of each tool that was ever called; of those named, where some are."""
        found = await self._figures("tools", names if names is not None else await self._listing.tool_names())
        for one in found:
            one.median_answer_seconds = await self._median_of(one.name)
        return found

    async def is_known(self, whose: Whose, name: str) -> bool:
        """Whether a call of this agent, or tool, is on record."""
        wanted = Wanted(agent=name) if whose == "agents" else Wanted(name=name)
        bounds = await self._listing.bounds(wanted, NEWEST)
        return bool(await self._listing.seqs(wanted, bounds, 1))

    async def _figures(self, whose: Whose, names: Iterable[str]) -> list[Figures]:
        found = {name: Figures(name) for name in names}
        since = to_text(after(self._clock.now(), -WEEK_DAYS * 24 * 3600))
        bounds = await self._listing.bounds(Wanted(since=since), NEWEST)
        query: dict[str, Any] = {"whose": json.dumps([*found]), "since": bounds.since, "statuses": _SETTLED}
        last: dict[str, int] = {}
        for row in await self._rows(_STATEMENTS[whose][0], query, long=True):
            counts = json.loads(row["counts"])
            for (effect, granted), calls in zip(_WAYS, counts, strict=True):
                found[row["whose"]].add(row["status"], effect, granted, calls or 0)
        for row in await self._rows(_STATEMENTS[whose][1], query, long=True):
            last[row["whose"]] = row["last"] or 0
        for row in await self._rows(_STATEMENTS[whose][2], query, long=True):
            one = found[row["whose"]]
            one.open += row["calls"]
            last[one.name] = max(last.get(one.name, 0), row["last"])
            if row["lately"]:
                one.add(row["status"], row["effect"], bool(row["granted"]), row["calls"])
        times = {row["seq"]: row["created_at"] for row in await self._times(last.values())}
        for name, one in found.items():
            one.last_at = times.get(last.get(name, 0))
        return list(found.values())

    async def _times(self, seqs: Iterable[int]) -> list[sqlite3.Row]:
        return await self._rows("times_of_calls", {"seqs": json.dumps(sorted(set(seqs)))})

    async def _median_of(self, name: str) -> float | None:
        """How long this tool's calls waited for their answer, of late."""
        asked = {"name": name, "statuses": _ANSWERED, "limit": ANSWERS_TIMED}
        seqs = [row["seq"] for row in await self._rows("seqs_asked_of_people", asked)]
        rows = await self._rows("answered_of_tool", {"seqs": json.dumps(seqs)})
        since = after(self._clock.now(), -WEEK_DAYS * 24 * 3600)
        waited = [_seconds(row) for row in rows if from_text(row["at"]) >= since]
        return round(median(waited), 1) if waited else None


def _seconds(row: sqlite3.Row) -> float:
    asked, answered = (from_text(row[name]) for name in ("created_at", "at"))
    return _between(asked, answered)


def _between(first: datetime, then: datetime) -> float:
    return max(0.0, (then - first).total_seconds())


def _count(counts: dict[str, int], name: str, calls: int) -> None:
    counts[name] = counts.get(name, 0) + calls


def _answer(status: str, effect: str, granted: bool) -> str | None:
    """Who answered a call, and how; None where nobody has yet. What ran on a grant was answered by no person."""
    if effect != "hold":
        return "allowed" if effect == "allow" else "denied"
    if status in (Status.REJECTED, Status.EXPIRED, Status.WITHDRAWN, Status.INVALIDATED):
        return status
    if status in (Status.HELD, Status.DENIED):
        return None
    return "granted" if granted else "approved"


def _parts_of(arguments_json: str) -> frozenset[str]:
    """What arguments are compared by: their members with their values, and the words in those."""
    text = arguments_json[:COMPARED_CHARACTERS]
    words = text.replace('"', " ").replace(",", " ").replace(":", " ").split()
    return frozenset([*words, *text.split(',"')])


def _likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """How much of two things is in both, from 0 to 1."""
    together = len(one | other)
    return len(one & other) / together if together else 1.0
