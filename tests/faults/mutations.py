"""Somebody edits the record behind the gateway's back, in thousands of ways: every one is found."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from hitl_mcp.audit import Checkpoints, Evidence, Signer
from hitl_mcp.store import open_sqlite
from tests.clocks import HandClock
from tests.days import a_day
from tests.faults.campaign import Campaign, Tally

TABLES = ("calls", "events", "verdicts", "previews", "marks", "policies", "pins", "revisions", "stops")
"""What the chain attests. Sign-ins and settings are how the gateway works, not what happened."""

COPIES = {"calls": ("score", "likeness", "roles_json")}
"""What only puts the queue in order, copied from what is attested: nothing is decided on it."""

UNSEEN = "a mutation was not found"
FALSE_ALARM = "a record that nobody touched was called broken"


def run(rounds: int, seed: int, folder: Path) -> Tally:
    """Mutate a fresh copy of one record so many times, each in its own way, and verify it."""
    tally = Tally()
    tally.never(UNSEEN, FALSE_ALARM)
    asyncio.run(_record(folder))
    whole = Evidence(folder / "hitl.db", folder / "checkpoints.jsonl", folder / "audit.pub")
    if whole.verify().answer != "fine":
        tally.breach(FALSE_ALARM, "the record itself")
    victim = folder / "victim.db"
    for number in range(rounds):
        shutil.copyfile(whole.record, victim)
        with closing(sqlite3.connect(victim, isolation_level=None)) as intruder:
            what = _mutate(intruder, random.Random(seed + number))
        if what is None:
            tally.count("changed nothing")
            continue
        tally.count(what.partition(" ")[0])
        if Evidence(victim, whole.checkpoints, whole.public_key).verify().answer != "broken":
            tally.breach(UNSEEN, f"seed {seed + number}: {what}")
    return tally


async def _record(folder: Path) -> None:
    async with open_sqlite(folder / "hitl.db", HandClock()) as store:
        for day in range(3):
            await a_day(store, day)
            await store.resume("dana")
        await Checkpoints(store, Signer(folder / "audit.key", folder / "checkpoints.jsonl")).sign_head()


def _mutate(intruder: sqlite3.Connection, chance: random.Random) -> str | None:
    """One mutation: what it was, or None where the database did not take it or is as before."""
    intruder.row_factory = sqlite3.Row
    table = chance.choice(TABLES)
    columns = [row["name"] for row in intruder.execute(f"PRAGMA table_info({table})")]
    key = "seq" if table == "calls" else "number" if table == "events" else None
    rows = intruder.execute(f"SELECT * FROM {table}").fetchall()
    row = chance.choice(rows)
    where = " AND ".join(f"{column} IS ?" for column in ([key] if key else columns))
    named = [row[key]] if key else list(row)
    kind = chance.choice(("update", "update", "update", "delete", "insert"))
    try:
        if kind == "delete":
            intruder.execute(f"DELETE FROM {table} WHERE {where}", named)
            return f"delete from {table}: {dict(row)}"
        if kind == "insert":
            values = {
                column: _other(row[column], chance) if chance.random() < 0.5 else row[column] for column in columns
            }
            marks = ", ".join("?" for _ in columns)
            intruder.execute(f"INSERT INTO {table} VALUES ({marks})", list(values.values()))
            return f"insert into {table}: {values}"
        column = chance.choice([name for name in columns if name not in COPIES.get(table, ())])
        value = _other(row[column], chance)
        if value == row[column]:
            return None
        intruder.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", [value, *named])
        return f"update {table}.{column}: {row[column]!r} to {value!r}"
    except sqlite3.IntegrityError:  # the schema itself does not take it
        return None


def _other(value: object, chance: random.Random) -> object:
    """Another value of the same type, or nothing."""
    if isinstance(value, int):
        return chance.choice((value + 1, value - 1, 0, value * 2))
    text = str(value or "")
    place = chance.randrange(len(text)) if text else 0
    return chance.choice(
        (
            text + "x",
            text[:-1],
            text[:place] + chance.choice("abc019{}[]") + text[place + 1 :],
            None,
            "",
            "succeeded",
            "2026-11-22T12:00:00.000001Z",
        )
    )


CAMPAIGN = Campaign("mutations", "somebody edits the record behind the gateway's back", short=300, long=10_000, run=run)
