"""A database of any version opens with the newest one, and the schema is what the migrations make."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from hitl_mcp.audit import Evidence
from hitl_mcp.calls import Status
from hitl_mcp.errors import StoreError
from hitl_mcp.store import open_sqlite
from hitl_mcp.store.statements import migrations
from tests.clocks import HandClock
from tests.samples import claim, verdict

OLDEST = Path(__file__).with_name("oldest.sql")


def schema_of(*scripts: str) -> dict[str, str]:
    """What stands in a database after these scripts, by name, without the spaces that people like."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for script in scripts:
            connection.executescript(script)
        rows = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
        )
        return {
            name: "".join(line.partition("--")[0] for line in sql.splitlines()).replace(" ", "") for name, sql in rows
        }


def oldest(folder: Path) -> Path:
    """A database as the first version left it."""
    path = folder / "hitl.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLDEST.read_text(encoding="utf-8"))
    return path


def test_the_schema_is_what_the_migrations_make() -> None:
    """`schema.sql`, which people read, says the same as the migrations, which run."""
    written = (resources.files("hitl_mcp.store") / "sql" / "schema.sql").read_text(encoding="utf-8")
    assert schema_of(written) == schema_of(*migrations())


@pytest.mark.promise("R1")
async def test_the_oldest_database_opens_and_what_was_open_in_it_goes_on(tmp_path: Path) -> None:
    """Held is still held and can be approved, approved can run, one of two approvals counts; it is chained."""
    path = oldest(tmp_path)
    async with open_sqlite(path, HandClock()) as store:
        assert await store.recover() == 1
        page = await store.list_calls(None)
        stands = {record.call.arguments_json: record for record in page.calls}
        assert {arguments: record.status for arguments, record in stands.items()} == {
            '{"n":1}': Status.HELD,
            '{"n":2}': Status.APPROVED,
            '{"n":3}': Status.REJECTED,
            '{"n":4}': Status.SUCCEEDED,
            '{"n":5}': Status.UNKNOWN,
            '{"n":6}': Status.HELD,
        }
        waiting, half = stands['{"n":1}'], stands['{"n":6}']
        assert (await store.add_verdict(waiting.id, verdict(waiting.digest))).status is Status.APPROVED
        approved = await store.add_verdict(half.id, verdict(half.digest, reviewer="erin"))
        assert approved.status is Status.APPROVED
        assert await claim(store, stands['{"n":2}']) is not None
        assert store.tampered == ()
    report = Evidence(path).verify()
    assert (report.findings, report.answer) == ([], "cannot tell")


async def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    """The database cannot take a migration: it is refused, with its old version and every row in place."""
    path = oldest(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("ALTER TABLE calls ADD COLUMN seal TEXT")
    with pytest.raises(StoreError, match="duplicate column"):
        async with open_sqlite(path, HandClock()):
            pass
    with closing(sqlite3.connect(path)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        calls = connection.execute("SELECT count(*) FROM calls").fetchone()[0]
    assert (version, calls, "pins" in tables) == (2, 6, False)
