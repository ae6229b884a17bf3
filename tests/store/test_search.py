"""Searches: always what looking at every call would give, whatever the files beside the record say or lack."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
import pytest

from hitl_mcp.calls import Asked, Outcome, Status, VerdictKind
from hitl_mcp.store import SqliteStore, Wanted, open_sqlite
from hitl_mcp.store.grams import BLOCK_CALLS, CLASSES, ROW_BYTES, VOLUME_CALLS, WHOLE_BYTES, Grams, Mark
from hitl_mcp.store.search import Search, folder_of
from tests.clocks import HandClock
from tests.samples import admit, allowed, claim, held, tool_call, verdict

EVERYTHING = Wanted()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database lies."""
    return tmp_path / "hitl.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """A store that is empty."""
    async with open_sqlite(path, HandClock()) as opened:
        yield opened


async def ask(store: SqliteStore, text: str, **changes: str) -> str:
    """Have a call run at once that says something, and give its id."""
    call = tool_call(arguments_json=json.dumps({"text": text}, ensure_ascii=False), **changes)
    return (await admit(store, call, Asked("c"), allowed())).record.id


async def found(search: Search, text: str, wanted: Wanted = EVERYTHING) -> list[str]:
    """All calls that hold a text, page by page, newest first."""
    ids: list[str] = []
    cursor = None
    while True:
        page = await search.find(wanted, text, cursor, limit=3)
        ids += [record.id for record in page.calls]
        if (cursor := page.next) is None:
            return ids


async def taken_in(search: Search) -> None:
    """Take in all that there is."""
    await search.begin()
    while await search.take_in():
        pass
    await search.take_in()
    await search.flush()


@pytest.mark.parametrize("known", [0, 17, 40])
async def test_a_search_gives_what_looking_at_every_call_gives(store: SqliteStore, known: int) -> None:
    """Whatever part of the calls is in the files; for words, parts of words, signs and short texts."""
    chance = random.Random(known)  # noqa: S311
    words = (
        "invoice",
        "Müller",
        "50%",
        "a_b",
        "DE89370400",
        'say "no"',
        "back\\slash",
        "new\nline",
        "y",
        "ÄÖ",
        "refund",
    )
    texts: dict[str, str] = {}
    for number in range(40):
        text = " ".join(chance.choices(words, k=3))
        texts[await ask(store, text, agent=chance.choice(("ann", "bob")))] = text
        if number + 1 == known:
            await taken_in(store.search)
    for looked_for in (*words[:8], "ÄÖ", "voice", "370", "MÜLLER", "INVOICE", "invoice y", "nothing of this kind", "%"):
        expected = [id for id, text in reversed(texts.items()) if _ascii_lower(looked_for) in _ascii_lower(text)]
        assert await found(store.search, looked_for) == expected, looked_for


def _ascii_lower(text: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


async def test_everything_that_was_said_of_a_call_is_found(store: SqliteStore) -> None:
    """Its id, tool, agent, claim, the policy's reasons, the reviewer's reason, and what its outcome said."""
    await taken_in(store.search)
    record = (
        await admit(store, tool_call(), Asked("c", "the user begged me"), held(reasons=("beyond the fence",)))
    ).record
    failed = (await admit(store, tool_call(arguments_json="{}"), Asked("c"), held())).record
    await taken_in(store.search)  # what comes now is told of calls that are in the files already
    rejection = verdict(record.digest, VerdictKind.REJECT, reason="ask the treasurer")
    await store.add_verdict(record.id, rejection)
    await store.add_verdict(failed.id, verdict(failed.digest))
    await claim(store, await store.get(failed.id))
    outcome = Outcome(Status.FAILED, True, "2026-11-22T12:00:00.000000Z", "the pump broke", "{}", "sha256:x", 2)
    await store.settle(failed.id, outcome, durable=True)
    for _ in range(2):
        for text in (record.id, record.id[4:9], "user begged", "beyond the FENCE", "treasurer"):
            assert await found(store.search, text) == [record.id], text
        assert await found(store.search, "the pump") == [failed.id]
        assert await found(store.search, "mail__send") == [failed.id, record.id]
        await taken_in(store.search)


async def test_what_else_is_asked_narrows_a_search(store: SqliteStore) -> None:
    """Status, agent, tool and reviewer, as in lists."""
    ours = await ask(store, "invoice", agent="ann")
    await ask(store, "invoice", agent="bob")
    await taken_in(store.search)
    assert await found(store.search, "invoice", Wanted(agent="ann")) == [ours]
    assert await found(store.search, "invoice", Wanted(upstream="files")) == []
    assert await found(store.search, "invoice", Wanted(frozenset({Status.HELD}))) == []
    assert await found(store.search, "invoice", Wanted(reviewer="dana")) == []


async def test_a_search_that_takes_too_long_says_how_far_it_came(store: SqliteStore) -> None:
    """And goes on from there: with no time at all it still looks at some calls, and in the end at all."""
    oldest = await ask(store, "the needle")
    for number in range(16 * BLOCK_CALLS + 5):
        await ask(store, f"hay {number}")
    hurried = Search(store.access, store.listing, seconds=0)
    first = await hurried.find(EVERYTHING, "needle")
    assert (first.calls, first.looked_back_to is None) == ((), False)
    assert first.next is not None
    assert await found(hurried, "needle") == [oldest]
    await taken_in(hurried)
    at_once = await hurried.find(EVERYTHING, "needle")
    assert ([record.id for record in at_once.calls], at_once.next) == ([oldest], None)


async def test_a_search_reads_the_calls_of_its_blocks_and_no_others(store: SqliteStore) -> None:
    """What looking at so many blocks costs does not grow with the record: counted in steps of SQLite's machine."""
    hurried = Search(store.access, store.listing, seconds=0)
    costs = []
    for more in (20, 40):
        async with anyio.create_task_group() as tasks:
            for number in range(more * BLOCK_CALLS):
                tasks.start_soon(ask, store, f"text {number} of {more}")
        ticks: list[None] = []
        await store.access.long_reader.set_progress_handler(partial(ticks.append, None), 100)
        await hurried.find(EVERYTHING, "a text that no call holds")
        costs.append(len(ticks))
    assert 0 < costs[1] < 1.5 * costs[0]


async def test_what_was_erased_leaves_the_files(store: SqliteStore, path: Path) -> None:
    """A block is made anew of what its calls still hold: nothing tells any more what stood there."""
    gone = (await admit(store, tool_call(arguments_json='{"to":"zebra quagga"}'), Asked("c"), held())).record
    await store.withdraw(gone.id, "builder")
    kept = await ask(store, "okapi gnu")
    await taken_in(store.search)
    assert Grams(folder_of(path)).blocks(["zebra quagga"], 0, 1) == [0]
    assert (await store.erase_batch(Status.WITHDRAWN, 0)).erased == 1
    assert await found(store.search, "zebra") == []
    await taken_in(store.search)
    files = Grams(folder_of(path))
    assert (files.blocks(["zebra"], 0, 1), files.blocks(["quagga"], 0, 1)) == ([], [])
    assert await found(store.search, "okapi") == [kept]


async def test_the_files_are_taken_up_after_a_restart(path: Path) -> None:
    """What was written is not made again; what came after it is looked at, and taken in."""
    async with open_sqlite(path, HandClock()) as store:
        first = await ask(store, "first needle")
        await taken_in(store.search)
        second = await ask(store, "second needle")
    async with open_sqlite(path, HandClock()) as store:
        await store.search.begin()
        assert store.search._grams.mark.seq == 1
        assert await found(store.search, "needle") == [second, first]
        await taken_in(store.search)
        assert store.search._grams.mark.seq == 2
        assert await found(store.search, "needle") == [second, first]


async def test_a_record_that_went_back_has_its_files_made_anew(path: Path, tmp_path: Path) -> None:
    """After a restore, or lost power, numbers are given a second time: files of before would miss those calls."""
    async with open_sqlite(path, HandClock()) as store:
        await ask(store, "the beginning")
    earlier = tmp_path / "earlier.db"
    shutil.copy(path, earlier)
    async with open_sqlite(path, HandClock()) as store:
        for number in range(3):
            await ask(store, f"lost {number}")
        await taken_in(store.search)
    shutil.copy(earlier, path)
    async with open_sqlite(path, HandClock()) as store:
        after = [await ask(store, f"another needle {number}") for number in range(5)]
        await store.search.begin()
        assert store.search._grams.mark.seq == 0
        assert await found(store.search, "needle") == after[::-1]
        await taken_in(store.search)
        assert await found(store.search, "needle") == after[::-1]
        assert await found(store.search, "lost") == []


@pytest.mark.parametrize("harm", ["gone", "cut", "mark"])
async def test_files_that_are_lost_or_damaged_cost_time_and_no_call(path: Path, harm: str) -> None:
    """What cannot be read is looked at."""
    async with open_sqlite(path, HandClock()) as store:
        needle = await ask(store, "the needle")
        await taken_in(store.search)
    (volume,) = folder_of(path).glob("*.grams")
    if harm == "gone":
        volume.unlink()
    elif harm == "cut":
        os.truncate(volume, 100)
    else:
        (folder_of(path) / "mark.json").write_text("{", encoding="utf-8")
    async with open_sqlite(path, HandClock()) as store:
        await store.search.begin()
        assert await found(store.search, "needle") == [needle]
        later = await ask(store, "a second needle")
        await taken_in(store.search)
        assert await found(store.search, "needle") == [later, needle]


async def test_files_that_cannot_be_written_stop_no_search(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Then everything is looked at, and the log says why."""
    folder_of(path).write_text("in the way", encoding="utf-8")
    async with open_sqlite(path, HandClock()) as store:
        needle = await ask(store, "the needle")
        await store.search.run()  # ends: it cannot be done
        assert await found(store.search, "needle") == [needle]
    assert "searches look at every call" in caplog.text


# The files themselves.


def test_files_are_closed_to_others(tmp_path: Path) -> None:
    """They say something of what calls hold, so nobody else may read them."""
    grams = Grams(tmp_path / "s")
    grams.take_in([(1, "a text")], Mark(1, "h", 1))
    grams.flush()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "s").iterdir()}
    assert modes == {"000000.grams": 0o600, "mark.json": 0o600}
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700


def test_blocks_far_apart_are_told_apart(tmp_path: Path) -> None:
    """In memory and from disk, newest first, over the ends of volumes."""
    grams = Grams(tmp_path / "s")
    places = (3, VOLUME_CALLS - 1, VOLUME_CALLS, 2 * VOLUME_CALLS + 40, 5 * VOLUME_CALLS)
    for place in places:
        grams.take_in([(place, f"needle {place}")], Mark(place, "h", place))
    grams.flush()
    for files in (grams, Grams(tmp_path / "s")):
        files.open()
        expected = [place // BLOCK_CALLS * BLOCK_CALLS for place in reversed(places)]
        inside = [block for block in files.blocks(["needle"], 0, places[-1]) if block in expected]
        assert inside == expected
        assert files.blocks([f"needle {places[1]}"], 0, VOLUME_CALLS - 1) == [VOLUME_CALLS - BLOCK_CALLS]
    assert (tmp_path / "s" / "000000.grams").stat().st_size == CLASSES * ROW_BYTES


def test_a_text_that_is_too_long_may_hold_anything(tmp_path: Path) -> None:
    """It is looked at every time, which costs less than reading it twice."""
    grams = Grams(tmp_path / "s")
    grams.take_in([(1, "x" * (WHOLE_BYTES + 1)), (BLOCK_CALLS + 1, "short")], Mark(1, "h", BLOCK_CALLS + 1))
    assert grams.blocks(["anything at all"], 0, 2 * BLOCK_CALLS - 1) == [0]
