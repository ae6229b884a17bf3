"""Calls that hold a text, and the files that say where looking is worth it: made beside the record, not by its writer.

Every answer is read from the calls themselves. The files (see `grams`) only leave out blocks of calls that cannot hold
the text; what is not in them yet is looked at. So an answer is never older than the record, and names no call whose
text was erased. It may end before it has looked at everything, and then says how far it came.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from hitl_mcp.calls import Status
from hitl_mcp.errors import StoreError
from hitl_mcp.limits import PAGE_CALLS
from hitl_mcp.store.access import Access
from hitl_mcp.store.base import Found
from hitl_mcp.store.grams import BLOCK_CALLS, Grams, Mark
from hitl_mcp.store.listing import MOST_DIGITS, NEWEST, Bounds, Listing, Wanted, WrongCursor

SEARCH_SECONDS = 0.2
"""How long one answer looks before it says how far it came; the next goes on from there."""

BLOCKS_AT_ONCE = 16
"""Blocks that are looked at together, then the clock: 256 calls of a kilobyte take about a millisecond."""

BATCH_CALLS = 64
"""Calls that are taken into the files together: a few milliseconds of work."""

RETOLD_AT_ONCE = 500
"""Calls that have another text now, and are taken in again together."""

FLUSH_CALLS = 4096
"""After so many calls the files go to disk: taking them in again costs a second or two after a crash."""

LOOK_SECONDS = 2.0
"""How often to look for new calls. A search looks at those that are not in the files yet: nobody waits for this."""

REST = 4.0
"""While there is much to take in, rest this many times as long as the work took: the calls of agents come first."""

logger = logging.getLogger(__name__)


class Search:
    """Looks for texts in one database. `run` keeps its files up to date; without it everything is looked at."""

    def __init__(self, access: Access, listing: Listing, seconds: float = SEARCH_SECONDS) -> None:
        self._rows = access.rows
        self._listing = listing
        self._seconds = seconds
        self._grams = Grams(folder_of(access.writer.path))
        self._unwritten = 0
        self._behind = True

    async def find(self, wanted: Wanted, text: str, cursor: str | None = None, limit: int = PAGE_CALLS) -> Found:
        """Calls that hold a text, newest first: in their arguments, names, ids, claims, reasons and outcomes.

        Only letters of ASCII are the same in both cases. An answer may give fewer than `limit` and still have a
        `next`: then `looked_back_to` says of which time the last call is that was looked at.

        Raises:
            WrongCursor: No search gave such a cursor.
        """
        if cursor is not None and not (cursor.isdecimal() and len(cursor) < MOST_DIGITS):
            raise WrongCursor("the cursor is of another listing")
        ends_at = time.monotonic() + self._seconds
        bounds = await self._listing.bounds(wanted, NEWEST if cursor is None else int(cursor))
        query = {**_conditions(wanted, bounds), "limit": limit + 1, "width": BLOCK_CALLS, **_patterns(text)}
        found: list[int] = []
        blocks = await self._blocks(text, bounds)
        low = None
        while len(found) <= limit:
            part = list(islice(blocks, BLOCKS_AT_ONCE))
            if not part:
                low = None
                break
            query["blocks"] = json.dumps(part)
            found += [row["seq"] for row in await self._rows("find_in_blocks", query, long=True)]
            low = part[-1]
            if time.monotonic() >= ends_at:
                break
        if len(found) > limit:
            return Found(await self._listing.records(found[:limit]), str(found[limit - 1]), None)
        records = await self._listing.records(found)
        if low is None or low <= bounds.since:
            return Found(records, None, None)
        return Found(records, str(low), await self._time_of(low))

    async def _blocks(self, text: str, bounds: Bounds) -> Iterator[int]:
        """The blocks worth looking at, newest first: what is not in the files yet, then what they do not rule out."""
        mark = self._grams.mark
        upto = min(int((await self._rows("last_seq", {}))[0]["seq"]), bounds.before - 1)
        retold = await self._retold(mark, NEWEST)
        if len(retold) == RETOLD_AT_ONCE:  # far behind: better slow than silent
            mark = Mark()
        low, texts = max(bounds.since, 1), (text, _quoted(text))
        inside = min(mark.seq, upto)
        known = await anyio.to_thread.run_sync(self._grams.blocks, texts, low, inside) if inside >= low else []
        again = {_first(row["seq"]) for row in retold if low <= row["seq"] <= inside}
        old = sorted({*known, *again}, reverse=True) if again else known
        newest = range(_first(upto), _first(max(mark.seq + 1, low)) - 1, -BLOCK_CALLS) if upto > inside else range(0)
        last_new = newest[-1] if newest else NEWEST
        return (block for part in (newest, (one for one in old if one < last_new)) for block in part)

    async def _retold(self, mark: Mark, upto: int) -> list[Any]:
        """The calls in the files that have another text since, by the event that said so last."""
        query = {"after": mark.event, "upto": upto, "known": mark.seq, "limit": RETOLD_AT_ONCE}
        return await self._rows("retold_after", query, long=True) if mark.seq else []

    async def _time_of(self, seq: int) -> str | None:
        rows = await self._rows("call_from", {"seq": seq})
        return rows[0]["created_at"] if rows else None

    # Keeping the files.

    async def run(self) -> None:
        """Take in what is new, for ever. Where the files cannot be kept, everything is looked at instead."""
        try:
            await self.begin()
            while True:
                began = time.monotonic()
                more = await self.take_in()
                await anyio.sleep(REST * (time.monotonic() - began) if more else LOOK_SECONDS)
        except (OSError, StoreError):
            logger.exception("the files for searching cannot be kept; searches look at every call until the next start")
        finally:
            await self._close()

    async def begin(self) -> None:
        """See whether the files are of this record as it is now; if not, begin them anew."""
        mark = await anyio.to_thread.run_sync(self._grams.open)
        rows = await self._rows("hash_of_event", {"number": mark.event})
        last = int((await self._rows("last_seq", {}))[0]["seq"])
        # INVARIANT: a record that went back to an earlier state gives its numbers anew; files from before would miss
        # those calls. Its chain has another event at that number then, or none.
        same = mark.event == 0 or (bool(rows) and rows[0]["hash"] == mark.hash)
        if mark != Mark() and same and last >= mark.seq:
            return
        if mark != Mark():
            logger.info("the files for searching are of another record; they are made anew")
        head = await self._rows("head", {}, long=True)
        # What was told until now stands in the calls as they are read from here on.
        start = Mark(head[0]["number"], head[0]["hash"]) if head else Mark()
        await anyio.to_thread.run_sync(self._grams.begin_anew, start)

    async def take_in(self) -> bool:
        """Take in some calls that are new, or have another text than before. Returns whether there may be more."""
        mark = self._grams.mark
        head = await self._rows("head", {}, long=True)
        if not head or (head[0]["number"] == mark.event and not self._behind):
            return False
        retold = await self._retold(mark, head[0]["number"])
        texts = [text for row in retold for text in await self._texts_of_block(row["seq"], bool(row["erased"]))]
        fresh = await self._texts(mark.seq, NEWEST, BATCH_CALLS)
        reached = fresh[-1][0] if fresh else mark.seq
        full = len(retold) == RETOLD_AT_ONCE
        # Where not all was taken in that was told anew, go on behind the last that was.
        moved = await self._mark_at(retold[-1]["number"] if full else head[0]["number"], reached)
        erased = sorted({_first(row["seq"]) for row in retold if row["erased"]})
        await anyio.to_thread.run_sync(self._grams.take_in, [*texts, *fresh], moved, erased)
        self._unwritten += len(texts) + len(fresh)
        if self._unwritten >= FLUSH_CALLS or erased:
            await self.flush()
        self._behind = full or len(fresh) == BATCH_CALLS
        return self._behind

    async def _mark_at(self, number: int, seq: int) -> Mark:
        rows = await self._rows("hash_of_event", {"number": number})
        return Mark(number, rows[0]["hash"], seq)

    async def _texts_of_block(self, seq: int, whole: bool) -> list[tuple[int, str]]:
        """The text of a call; or of all that stand in a block with it, where the block is made anew."""
        first = _first(seq)
        upto = min(first + BLOCK_CALLS - 1, self._grams.mark.seq)
        return await self._texts(first - 1, upto, BLOCK_CALLS) if whole else await self._texts(seq - 1, seq, 1)

    async def _texts(self, after: int, upto: int, limit: int) -> list[tuple[int, str]]:
        rows = await self._rows("texts_of_calls", {"after": after, "upto": upto, "limit": limit}, long=True)
        return [(row["seq"], _text_of(row)) for row in rows]

    async def flush(self) -> None:
        """Write the files to disk."""
        await anyio.to_thread.run_sync(self._grams.flush)
        self._unwritten = 0

    async def _close(self) -> None:
        with anyio.CancelScope(shield=True):
            try:
                if self._unwritten:
                    await self.flush()
            except OSError:
                logger.warning(
                    "the files for searching cannot be written; the next start takes in again what is missing"
                )


def folder_of(database: Path) -> Path:
    """Where the files of a database lie."""
    return database.with_name(f"{database.name}.search")


def _first(seq: int) -> int:
    """The number that the block of a call begins with."""
    return seq // BLOCK_CALLS * BLOCK_CALLS


def _text_of(row: Any) -> str:
    """Everything that `find_in_blocks` looks at of a call."""
    return "\n".join(str(row[name] or "") for name in _LOOKED_AT)


_LOOKED_AT = ("id", "name", "agent", "arguments_json", "claim", "closed_reason", "outcome_detail", "reasons", "said")


def _conditions(wanted: Wanted, bounds: Bounds) -> dict[str, Any]:
    statuses = sorted(Status if wanted.statuses is None else wanted.statuses)
    asked = {"statuses": json.dumps(statuses), "agent": wanted.agent, "reviewer": wanted.reviewer}
    return {**bounds._asdict(), **asked}


def _quoted(text: str) -> str:
    """A text as it stands inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _patterns(text: str) -> dict[str, str]:
    return {"pattern": _pattern(text), "quoted": _pattern(_quoted(text))}


def _pattern(text: str) -> str:
    """The LIKE pattern of whatever holds a text, word for word."""
    for special in "\\%_":
        text = text.replace(special, "\\" + special)
    return f"%{text}%"
