"""Passkeys in the store, against somebody who can write to the database, has the key of the seals, and cannot sign."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import pytest

from hitl_mcp.audit import Evidence
from hitl_mcp.calls import Asked, Assurance, CallRecord, Requirement, Status
from hitl_mcp.canonical import compact_text
from hitl_mcp.errors import NotAllowed
from hitl_mcp.passkeys import (
    Assertion,
    Passkey,
    RelyingParty,
    Statement,
    challenge_of,
    confirmation_statement,
    new_nonce,
    removal_statement,
    sign_in_statement,
    verdict_statement,
    why_none,
)
from hitl_mcp.store import SqliteStore, chain, open_sqlite
from hitl_mcp.store.passkeys import ADDED_COLUMNS, of_added
from hitl_mcp.store.sealing import sealed_parts
from hitl_mcp.store.seals import Seals
from hitl_mcp.store.statements import sql
from tests.clocks import HandClock
from tests.samples import admit, claim, held, tool_call, verdict
from tests.surfaces.authenticators import Key, encoded

ORIGIN = "http://localhost:8377"
NOON = "2026-11-22T12:00:00.000000Z"


def answer(key: Key, statement: Statement) -> Assertion:
    """What a passkey signs of a statement."""
    said = key.signed({"challenge": encoded(challenge_of(statement))})["response"]
    nonce = str(statement["nonce"])
    return Assertion(encoded(key.id), said["authenticatorData"], said["clientDataJSON"], said["signature"], nonce)


def passkey_of(key: Key, reviewer: str, label: str = "Chrome on Linux") -> Passkey:
    """A passkey as the page's API makes it of what a browser says."""
    made = key.made({"challenge": "AAAA"})
    numbers = key.private.public_key().public_numbers()
    public = b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20" + numbers.x.to_bytes(32, "big")
    public += b"\x22\x58\x20" + numbers.y.to_bytes(32, "big")
    return Passkey(made["id"], reviewer, encoded(public), "localhost", label, "")


async def add(store: SqliteStore, key: Key, reviewer: str = "dana", by: Key | None = None) -> Passkey:
    """Enrol a passkey."""
    passkey = passkey_of(key, reviewer)
    said = confirmation_statement(reviewer, passkey.id, passkey.public_key, new_nonce())
    return await store.passkeys.add(passkey, answer(by, said) if by is not None else None)


async def hold(store: SqliteStore, assurance: Assurance = "passkey", number: int = 1) -> CallRecord:
    """A call that waits for somebody known this surely."""
    call = tool_call(arguments_json=f'{{"n":{number}}}')
    decision = held(Requirement("payments", assurance=assurance))
    return (await admit(store, call, Asked("conversation-1"), decision)).record


async def approve(store: SqliteStore, key: Key, record: CallRecord, reviewer: str = "dana") -> CallRecord:
    """Approve a call by passkey."""
    said = verdict_statement(record.id, record.digest, "approve", reviewer, new_nonce())
    signed = answer(key, said).to_json()
    given = verdict(record.digest, reviewer=reviewer, assurance="passkey", assertion_json=signed)
    return await store.add_verdict(record.id, given)


@pytest.fixture
async def store(tmp_path: Path, clock: HandClock) -> AsyncIterator[SqliteStore]:
    """A store whose reviewer has a passkey or gets one."""
    async with open_sqlite(tmp_path / "hitl.db", clock) as opened:
        yield opened


@pytest.fixture
def clock() -> HandClock:
    """Time as this test wants it."""
    return HandClock()


# What the store takes.


async def test_a_verdict_is_kept_with_its_signature_and_runs(store: SqliteStore) -> None:
    """Approved, sound at the claim, and what the passkey did is noted."""
    key = Key(ORIGIN)
    made = await add(store, key)
    record = await hold(store)
    assert (await approve(store, key, record)).status is Status.APPROVED
    running = await claim(store, await store.get(record.id))
    assert running is not None and running.status is Status.RUNNING
    (kept,) = await store.passkeys.of("dana")
    assert (kept.id, kept.sign_count, kept.last_used_at is not None) == (made.id, 1, True)


async def test_a_sign_count_that_does_not_go_up_is_refused(store: SqliteStore) -> None:
    """There may be a copy of the key; an authenticator that keeps no count is fine."""
    key, plain = Key(ORIGIN, sign_count=7), Key(ORIGIN, steps=0)
    await add(store, key, "dana")
    await add(store, plain, "lee")
    for number in (1, 2):
        await approve(store, plain, await hold(store, number=number), "lee")
    await store.passkeys.used(said := sign_in_statement(new_nonce()), answer(key, said))
    key.sign_count -= 1
    record = await hold(store, number=3)
    with pytest.raises(NotAllowed, match="went back"):
        await approve(store, key, record)
    assert (await store.get(record.id)).verdicts == ()


async def test_an_edit_between_signing_and_writing_is_noticed(store: SqliteStore) -> None:
    """The signature is held against the digest that the verdict names when it is written, not when it was asked for."""
    key = Key(ORIGIN)
    await add(store, key)
    record = await hold(store)
    said = verdict_statement(record.id, "sha256:" + "9" * 64, "approve", "dana", new_nonce())
    given = verdict(record.digest, assurance="passkey", assertion_json=answer(key, said).to_json())
    with pytest.raises(NotAllowed, match="challenge"):
        await store.add_verdict(record.id, given)
    for nonsense in ("", "{}", "[]", '{"v":1}', '{"v":2,"credential":"x"}', "[" * 100_000):
        with pytest.raises(NotAllowed, match="is none"):
            await store.add_verdict(record.id, replace(given, assertion_json=nonsense))
    assert (await store.get(record.id)).verdicts == ()


async def test_passkeys_outlive_a_restart_and_so_does_what_they_approved(tmp_path: Path, clock: HandClock) -> None:
    """What was approved before runs after; what was removed stays removed."""
    path, first, second = tmp_path / "hitl.db", Key(ORIGIN), Key(ORIGIN)
    async with open_sqlite(path, clock) as store:
        await add(store, first)
        added = await add(store, second, by=first)
        record = await hold(store)
        await approve(store, first, record)
        gone = removal_statement("dana", passkey_of(first, "dana").id, new_nonce())
        await store.passkeys.remove("dana", passkey_of(first, "dana").id, answer(second, gone))
    async with open_sqlite(path, clock) as store:
        assert store.passkeys.tampered == ()
        assert [one.id for one in await store.passkeys.of("dana")] == [added.id]
        assert await claim(store, await store.get(record.id)) is not None
        with pytest.raises(NotAllowed, match="removed"):
            await approve(store, first, await hold(store, number=2))
    report = Evidence.beside(path).verify()
    assert report.findings == []
    assert (report.signatures.good, len(report.signatures.as_dict())) == (1, 2)


# Against a forger: who writes to the database, has the key of the seals, and links events as the gateway does.


@dataclass
class Forger:
    """Everything but a reviewer's passkey."""

    connection: sqlite3.Connection
    seals: Seals

    def event(
        self, call_id: str, version: int, kind: str, status: str | None, detail: str, facts: dict[str, str]
    ) -> None:
        """Append an event, linked as it should be."""
        number, previous = self.connection.execute(
            "SELECT number, hash FROM events ORDER BY number DESC LIMIT 1"
        ).fetchone()
        columns = (number + 1, call_id, version, kind, status, NOON, "reviewer:dana", detail, compact_text(facts))
        self.connection.execute(sql("insert_event"), (*columns, chain.link(previous, columns)))

    def approve(self, record: CallRecord, assurance: str, assertion_json: str | None) -> None:
        """Write an approval and the step it brings about, every seal and link in place."""
        row: dict[str, str | None] = {
            "call_id": record.id,
            "digest": record.digest,
            "reviewer": "dana",
            "kind": "approve",
            "roles_json": "[]",
        }
        row |= {"surface": "web", "assurance": assurance, "reason": "", "at": NOON, "considered_seconds": None}
        row["seal"] = self.seals.seal("verdict", *chain.verdict_parts(row))
        self.connection.execute(sql("put_verdict"), row)
        if assertion_json is not None:
            values = (record.id, record.digest, "dana", "approve", assertion_json)
            self.connection.execute("INSERT INTO assertions VALUES (?, ?, ?, ?, ?)", values)
        self.move(record, {"verdict": chain.of_verdict(row), "assertion": chain.of_text(assertion_json)})

    def move(self, record: CallRecord, facts: dict[str, str]) -> None:
        """Make a held call approved."""
        run_by = "2026-11-23T12:00:00.000000Z"
        call = self.connection.execute("SELECT * FROM calls WHERE id = ?", (record.id,)).fetchone()
        seal = self.seals.seal(*sealed_parts(call, Status.APPROVED, run_by, NOON))
        self.connection.execute(
            "UPDATE calls SET status = 'approved', version = 2, changed_at = ?, run_by = ?, seal = ? WHERE id = ?",
            (NOON, run_by, seal, record.id),
        )
        self.event(record.id, 2, "approved", "approved", "", {**facts, "seal": chain.of_text(seal)})

    def passkey(self, passkey: Passkey) -> None:
        """Write a passkey of one's own."""
        made = replace(passkey, created_at=NOON)
        columns = (*ADDED_COLUMNS, "removed_at", "removed_by", "removal_json", "sign_count", "last_used_at")
        row = {column: getattr(made, column) for column in columns}
        row["seal"] = self.seals.seal("passkey", *row.values())
        self.connection.execute(sql("put_passkey"), row)
        self.event("", 0, "passkey-added", None, f"{made.reviewer}: x", {"passkey": of_added(row)})


@contextmanager
def forger(path: Path) -> Iterator[Forger]:
    """Work on a database behind its gateway's back."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        connection.row_factory = sqlite3.Row
        yield Forger(connection, Seals.from_file(path.with_name(path.name + ".key")))


async def test_a_forged_approval_runs_where_a_link_is_enough(store: SqliteStore, tmp_path: Path) -> None:
    """The control: with the key of the seals all can be forged but a signature. That limit is said aloud (R7)."""
    record = await hold(store, "link")
    with forger(tmp_path / "hitl.db") as forging:
        forging.approve(record, "link", None)
    running = await claim(store, await store.get(record.id))
    assert running is not None and running.status is Status.RUNNING


@pytest.mark.promise("R7")
@pytest.mark.parametrize(
    "how", ["no-verdict", "none", "nonsense", "another-call", "another-reviewer", "own-key", "own-key-enrolled"]
)
async def test_a_forged_approval_never_runs_where_a_passkey_is_needed(
    store: SqliteStore, tmp_path: Path, how: str
) -> None:
    """Not without a signature, not with one that signs something else, not with a key that the forger enrolled."""
    hers, own = Key(ORIGIN), Key(ORIGIN)
    await add(store, hers, "dana")
    await add(store, other := Key(ORIGIN), "lee")
    record = await hold(store)
    said = verdict_statement(record.id, record.digest, "approve", "dana", new_nonce())
    elsewhere = verdict_statement("c_elsewhere", record.digest, "approve", "dana", new_nonce())
    signed = {
        "none": None,
        "nonsense": answer(hers, said).to_json().replace('"signature":"', '"signature":"AA'),
        "another-call": answer(hers, elsewhere).to_json(),
        "another-reviewer": answer(other, said).to_json(),
        "own-key": answer(own, said).to_json(),
        "own-key-enrolled": answer(own, said).to_json(),
    }
    with forger(tmp_path / "hitl.db") as forging:
        if how == "own-key-enrolled":
            forging.passkey(passkey_of(own, "dana"))
        if how == "no-verdict":
            forging.move(record, {})
        else:
            forging.approve(record, "passkey", signed[how])
    assert await claim(store, await store.get(record.id)) is None
    assert (await store.get(record.id)).status is Status.INVALIDATED
    assert record.id in store.tampered


async def test_a_key_that_was_written_while_the_gateway_was_off_is_not_learnt(tmp_path: Path, clock: HandClock) -> None:
    """Neither as a further one that nobody confirmed, nor in the place of one that was deleted; and it is told."""
    path, hers, own = tmp_path / "hitl.db", Key(ORIGIN), Key(ORIGIN)
    async with open_sqlite(path, clock) as store:
        await add(store, hers)
    with forger(path) as forging:
        forging.passkey(passkey_of(own, "dana"))
    async with open_sqlite(path, clock) as store:
        assert ["said to be the first" in one for one in store.passkeys.tampered] == [True]
        with pytest.raises(NotAllowed, match="no passkey of `dana`"):
            await approve(store, own, await hold(store))
        assert (await approve(store, hers, await hold(store, number=2))).status is Status.APPROVED
    assert any("said to be the first" in finding for finding in Evidence.beside(path).verify().findings)
    with forger(path) as forging:
        forging.connection.execute("DELETE FROM passkeys")
    async with open_sqlite(path, clock) as store:
        assert store.passkeys.tampered
        with pytest.raises(NotAllowed, match="confirmed by one that you have"):
            await add(store, own)
        await store.passkeys.reset("dana")
        assert (await add(store, own)).confirmed_by is None
        assert [one["reviewer"] for one in await store.passkeys.resets(NOON[:10])] == ["dana"]


@pytest.mark.parametrize("column", ["public_key", "reviewer", "rp_id", "sign_count", "removed_at"])
async def test_a_passkey_that_was_changed_signs_nothing_more(store: SqliteStore, tmp_path: Path, column: str) -> None:
    """Whichever part of it somebody edits who has no key of the seals."""
    key = Key(ORIGIN, sign_count=3)
    await add(store, key)
    with forger(tmp_path / "hitl.db") as forging:
        forging.connection.execute(f"UPDATE passkeys SET {column} = ?", (77 if column == "sign_count" else "lee",))  # noqa: S608
    with pytest.raises(NotAllowed, match="no passkey of `dana`"):
        await approve(store, key, await hold(store))


# What an export says by itself.


def line_of(lines: list[str], kind: str) -> int:
    """Where the event of a kind stands in an export."""
    return next(number for number, line in enumerate(lines) if json.loads(line)["event"]["kind"] == kind)


@asynccontextmanager
async def exported(tmp_path: Path, clock: HandClock) -> AsyncIterator[tuple[Path, CallRecord]]:
    """An export of a record with one call that was approved by passkey."""
    path, key = tmp_path / "hitl.db", Key(ORIGIN)
    async with open_sqlite(path, clock) as store:
        await add(store, key)
        record = await hold(store)
        await approve(store, key, record)
    export = tmp_path / "export.jsonl"
    export.write_text("".join(line + "\n" for line in Evidence.beside(path).export()), encoding="utf-8")
    yield export, record


async def test_an_export_is_enough_to_verify_the_signatures(tmp_path: Path, clock: HandClock) -> None:
    """`audit verify EXPORT` counts them and names the keys; it needs no database and no key of ours."""
    async with exported(tmp_path, clock) as (export, _):
        report = Evidence.beside(export).verify().as_dict()
    assert (report["findings"], report["signed_verdicts"]) == ([], 1)
    assert [one["reviewer"] for one in report["passkeys"]] == ["dana"]


@pytest.mark.parametrize(
    ("kind", "change", "why"),
    [
        ("passkey-added", lambda line: line["passkey"].update(reviewer="lee"), "not the one it attests"),
        ("passkey-added", lambda line: line.pop("passkey"), "cannot be read"),
        ("approved", lambda line: line["verdict"].update(digest="sha256:0"), "verdict is not the one"),
        ("approved", lambda line: line.update(assertion_json="{}"), "assertion is not the one"),
        ("approved", lambda line: line.pop("assertion_json"), "is not signed"),
    ],
    ids=["key", "no-key", "verdict", "assertion", "no-assertion"],
)
async def test_an_export_that_was_changed_is_found_out(
    tmp_path: Path, clock: HandClock, kind: str, change: object, why: str
) -> None:
    """Key, verdict and assertion are attested by their events, and needed."""
    assert callable(change)
    async with exported(tmp_path, clock) as (export, _):
        lines = export.read_text(encoding="utf-8").splitlines()
        number = line_of(lines, kind)
        line = json.loads(lines[number])
        change(line)
        lines[number] = json.dumps(line)
        export.write_text("\n".join(lines), encoding="utf-8")
        report = Evidence.beside(export).verify()
    assert report.answer == "broken"
    assert any(why in finding for finding in report.findings), report.findings


def test_passkeys_need_a_name_and_encryption() -> None:
    """As browsers do: `localhost` counts as encrypted, a number is no name."""
    assert RelyingParty.at("http://localhost:8377") == RelyingParty("localhost", "http://localhost:8377")
    assert RelyingParty.at("https://Hitl.Example.com/gate/") == RelyingParty(
        "hitl.example.com", "https://hitl.example.com"
    )
    for address in ("http://127.0.0.1:8377", "http://[::1]:8377", "https://192.0.2.1", "http://hitl.example.com"):
        assert RelyingParty.at(address) is None and why_none(address), address


def documented_check() -> str:
    """The program that the documentation gives to whoever checks an export without us."""
    page = (Path(__file__).parents[2] / "docs" / "identity.md").read_text(encoding="utf-8")
    return next(part.partition("```")[0] for part in page.split("```python\n") if "from_encoded_point" in part)


async def test_a_third_party_checks_an_export_with_nothing_but_cryptography(tmp_path: Path, clock: HandClock) -> None:
    """The documentation's program, which knows nothing of us: it accepts the export, and no other verdict in it."""
    async with exported(tmp_path, clock) as (export, record):
        whole = export.read_text(encoding="utf-8")
    forged = tmp_path / "forged.jsonl"
    forged.write_text(whole.replace(record.digest, "sha256:" + "9" * 64), encoding="utf-8")
    command = [sys.executable, "-I", "-c", documented_check()]
    good = await anyio.run_process([*command, str(export)], check=False)
    assert good.returncode == 0, good.stderr
    assert good.stdout.decode().startswith(f"{record.id}: approve by dana at ")
    assert (await anyio.run_process([*command, str(forged)], check=False)).returncode != 0
