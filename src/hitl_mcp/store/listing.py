"""Calls as people look through them: by status, agent, tool, time or reviewer, and the queue by urgency.

Nothing here reads more of the record than it gives: an index says which calls they are, then these are read. What a
text is looked for in stands in `search`, what is told of one call or one tool in `around`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from hitl_mcp.calls import OPEN, CallRecord, Status
from hitl_mcp.errors import HitlError
from hitl_mcp.limits import PAGE_CALLS
from hitl_mcp.people import Reviewer
from hitl_mcp.store.access import Access
from hitl_mcp.store.base import CallPage
from hitl_mcp.store.rows import record_from_row

NEWEST = 2**62
"""Above the number of any call."""

MOST_DIGITS = 19
"""No number that the database holds has more."""

EVER, NEVER = "", "~"
"""Before and after every time, as texts."""

ANSWERS_AT_ONCE = 400
"""Answers of a reviewer that are looked through together, for those that fit."""

ANSWERS_MOST = 4000
"""Answers that are looked through for one page; then it ends, and says where to go on."""


@dataclass(frozen=True)
class Wanted:
    """Which calls are looked for; None is any. `since` and `until` are about when they were asked for."""

    statuses: frozenset[Status] | None = None
    agent: str | None = None
    name: str | None = None
    upstream: str | None = None
    reviewer: str | None = None
    since: str | None = None
    until: str | None = None

    @property
    def narrow(self) -> bool:
        """Whether anything but the status is asked for."""
        return replace(self, statuses=None) != Wanted()


class Bounds(NamedTuple):
    """What `Wanted` comes to in the database: numbers of calls, and names of tools (JSON, None for any)."""

    since: int
    before: int
    names: str | None


class Heap(NamedTuple):
    """Calls of the queue with something in common: how many, the most points, the least time, the most urgent one."""

    common: str
    calls: int
    highest: int
    soonest: str | None
    first: CallRecord | None = None


@dataclass(frozen=True)
class Queue:
    """What waits, in figures; `alike` are calls of one tool that differ in numbers and the like alone."""

    agents: tuple[Heap, ...]
    tools: tuple[Heap, ...]
    alike: tuple[Heap, ...]

    @property
    def all(self) -> Heap:
        """All of it."""
        calls = sum(heap.calls for heap in self.agents)
        soonest = min((heap.soonest for heap in self.agents if heap.soonest), default=None)
        return Heap("", calls, max((heap.highest for heap in self.agents), default=0), soonest)


class WrongCursor(HitlError):
    """A cursor that no page of this listing gave."""


class Listing:
    """Lists of calls, read from one database."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._rows = access.rows

    async def newest(self, wanted: Wanted, cursor: str | None = None, limit: int = PAGE_CALLS) -> CallPage:
        """Calls, the last asked first; those of a reviewer, the last answered first.

        Raises:
            WrongCursor: This listing gave no such cursor.
        """
        if wanted.reviewer is not None:
            return await self._answered_by(wanted, cursor, limit)
        if cursor is not None and not (cursor.isdecimal() and len(cursor) < MOST_DIGITS):
            raise WrongCursor("the cursor is of another listing")
        bounds = await self.bounds(wanted, NEWEST if cursor is None else int(cursor))
        seqs = await self.seqs(wanted, bounds, limit + 1)
        following = str(seqs[limit - 1]) if len(seqs) > limit else None
        return CallPage(await self.records(seqs[:limit]), following)

    async def seqs(self, wanted: Wanted, bounds: Bounds, limit: int) -> list[int]:
        """The numbers of the first calls, the newest first: open and settled ones stand in different indexes."""
        query = {"since": bounds.since, "before": bounds.before, "limit": limit, "agent": wanted.agent}
        statuses = frozenset(Status) if wanted.statuses is None else wanted.statuses
        if statuses == frozenset(Status) and wanted.agent is None and bounds.names is None:
            return [row["seq"] for row in await self._rows("seqs_of_all", query)]
        query["names"] = bounds.names
        rows: list[sqlite3.Row] = []
        if still := statuses & OPEN:
            rows += await self._rows("seqs_of_open", {**query, "statuses": json.dumps(sorted(still))})
        if over := statuses - OPEN:
            name = "seqs_of_agent" if wanted.agent else "seqs_of_tools" if bounds.names else "seqs_of_settled"
            rows += await self._rows(name, {**query, "statuses": json.dumps(sorted(over))})
        return sorted((row["seq"] for row in rows), reverse=True)[:limit]

    async def _answered_by(self, wanted: Wanted, cursor: str | None, limit: int) -> CallPage:
        at, _, call_id = (cursor or NEVER).partition(",")
        bounds = await self.bounds(wanted, NEWEST)
        query = {
            "statuses": json.dumps(sorted(wanted.statuses or Status)),
            "agent": wanted.agent,
            "names": bounds.names,
            "from": wanted.since or EVER,
            "until": wanted.until or NEVER,
            "reviewer": wanted.reviewer,
            "limit": ANSWERS_AT_ONCE,
        }
        found: list[sqlite3.Row] = []
        looked = 0
        while len(found) <= limit and looked < ANSWERS_MOST:
            rows = await self._rows("answered_by", {**query, "at": at, "call_id": call_id})
            looked += len(rows)
            found += [row for row in rows if row["fits"]]
            if len(rows) < ANSWERS_AT_ONCE:
                at = ""
                break
            at, call_id = rows[-1]["at"], rows[-1]["call_id"]
        following = f"{at},{call_id}" if at else None
        if len(found) > limit:
            following = f"{found[limit - 1]['at']},{found[limit - 1]['call_id']}"
        records = {record.id: record for record in await self.records([row["seq"] for row in found[:limit]])}
        return CallPage(tuple(records[row["call_id"]] for row in found[:limit]), following)

    # The queue.

    async def by_urgency(
        self, wanted: Wanted, may: Reviewer | None, cursor: str | None = None, limit: int = PAGE_CALLS
    ) -> CallPage:
        """Held calls, the most urgent first; with `may`, those that this reviewer may still approve.

        What is urgent changes with every second: the pages of one listing go by the time of the first.

        Raises:
            WrongCursor: This listing gave no such cursor.
        """
        at, behind, behind_seq = _urgency_of(cursor, int(self._access.clock.now().timestamp()))
        place = {"now": at, "behind": behind, "behind_seq": behind_seq, "limit": limit + 1}
        rows = await self._rows("queue_by_urgency", {**await self._of_queue(wanted, may), **place}, long=True)
        page = rows[:limit]
        following = f"{at},{page[-1]['urgency']},{page[-1]['seq']}" if len(rows) > limit else None
        return CallPage(await self._in_order([row["seq"] for row in page]), following)

    async def queue(self, wanted: Wanted, may: Reviewer | None, limit: int) -> Queue:
        """What waits, by agent, tool and what is alike; of the latter the most urgent `limit`, each with a call."""
        query = {**await self._of_queue(wanted, may), "now": int(self._access.clock.now().timestamp()), "limit": limit}
        agents, tools, alike = [
            await self._rows(name, query, long=True)
            for name in ("queue_by_agent", "queue_by_tool", "queue_by_likeness")
        ]
        firsts = await self._in_order([row["seq"] for row in alike])
        return Queue(
            tuple(_heap(row) for row in agents),
            tuple(_heap(row) for row in tools),
            tuple(_heap(row)._replace(first=first) for row, first in zip(alike, firsts, strict=False)),
        )

    async def _of_queue(self, wanted: Wanted, may: Reviewer | None) -> dict[str, Any]:
        """What the statements about the queue are asked with."""
        bounds = await self.bounds(wanted, NEWEST)
        query = {**bounds._asdict(), "agent": wanted.agent, "roles": None, "done": "[]"}
        if may is None:
            return query
        asked = await self._rows("roles_in_queue", {}, long=True)
        done = await self._approved_by(may, min((row["oldest"] for row in asked), default=0))
        roles = [row["roles_json"] for row in asked if _can_answer(may, row["roles_json"])]
        return {**query, "roles": json.dumps(roles), "done": json.dumps(done)}

    async def _in_order(self, seqs: Sequence[int]) -> tuple[CallRecord, ...]:
        """Calls by their numbers, in the order of these; one that is gone meanwhile is left out."""
        records = {record.id: record for record in await self.records(seqs)}
        ids = {row["seq"]: row["id"] for row in await self._rows("ids_of_calls", {"seqs": json.dumps(seqs)})}
        return tuple(records[ids[seq]] for seq in seqs if ids.get(seq) in records)

    async def _approved_by(self, reviewer: Reviewer, oldest: int) -> list[int]:
        """The waiting calls that a reviewer has approved already: what was asked since the oldest can be among them."""
        asked = await self._rows("call_from", {"seq": oldest})
        query = {"reviewer": reviewer.name, "since": asked[0]["created_at"] if asked else NEVER}
        return [row["seq"] for row in await self._rows("approved_by_since", query)]

    # What lists have in common.

    async def bounds(self, wanted: Wanted, before: int) -> Bounds:
        """What is wanted, as numbers of calls and names of tools."""
        since = await self._first_since(wanted.since) if wanted.since else 0
        until = await self._first_since(wanted.until) if wanted.until else NEWEST
        names: list[str] | None = None if wanted.name is None else [wanted.name]
        if wanted.upstream is not None:
            known = names if names is not None else await self.tool_names()
            names = [name for name in known if name.startswith(f"{wanted.upstream}__")]
        return Bounds(since, min(before, until), None if names is None else json.dumps(names))

    async def tool_names(self) -> list[str]:
        """Every tool that a call is on record of."""
        return [row["name"] for row in await self._rows("tool_names", {}, long=True)]

    async def agent_names(self) -> list[str]:
        """Every agent that a call is on record of."""
        return [row["agent"] for row in await self._rows("agent_names", {}, long=True)]

    async def _first_since(self, moment: str) -> int:
        """The number of the first call that was asked for at this time or later.

        Calls are numbered in the order in which they were asked for, so that halving finds it. Where the machine's
        clock was set back while no gateway ran, the calls of the time that came twice may be found at either side.
        """
        low, high = 0, int((await self._rows("last_seq", {}))[0]["seq"]) + 1
        while low < high:
            middle = (low + high) // 2
            rows = await self._rows("call_from", {"seq": middle})
            if rows and rows[0]["created_at"] < moment:
                low = int(rows[0]["seq"]) + 1
            else:
                high = middle
        return low

    async def records(self, seqs: Sequence[int]) -> tuple[CallRecord, ...]:
        """Calls by their numbers, the newest first, with their verdicts but without their events."""
        if not seqs:
            return ()
        rows = await self._rows("calls_by_seq", {"seqs": json.dumps(seqs)})
        return await self.with_verdicts(rows)

    async def with_verdicts(self, rows: Collection[sqlite3.Row]) -> tuple[CallRecord, ...]:
        """Rows of calls as records, with their verdicts."""
        ids = json.dumps([row["id"] for row in rows])
        verdicts: dict[str, list[sqlite3.Row]] = {}
        for verdict in await self._rows("verdicts_of_calls", {"ids": ids}) if rows else ():
            verdicts.setdefault(verdict["call_id"], []).append(verdict)
        return tuple([record_from_row(row, verdicts.get(row["id"], ())) for row in rows])


def _heap(row: sqlite3.Row) -> Heap:
    return Heap(row["common"], row["calls"], row["highest"], row["soonest"])


def _urgency_of(cursor: str | None, now: int) -> tuple[int, int, int]:
    """The time that a listing of the queue goes by, and the urgency and number of the call that it goes on behind."""
    if cursor is None:
        return now, NEWEST, 0
    try:
        at, urgency, seq = (int(part) for part in cursor.split(","))
    except ValueError:
        raise WrongCursor("the cursor is of another listing") from None
    if not all(0 <= part <= NEWEST for part in (at, urgency, seq)):
        raise WrongCursor("the cursor is of another listing")
    return at, urgency, seq


def _can_answer(reviewer: Reviewer, roles_json: str | None) -> bool:
    """Whether an approval of this reviewer could count, as far as roles go."""
    if reviewer.every_role or roles_json is None:
        return True
    needs = json.loads(roles_json)
    return not needs or any(not roles or not reviewer.roles.isdisjoint(roles) for roles in needs)
