"""Many at once: a hundred people decide one call over HTTP, and many write one chain. One wins, nothing forks."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import httpx2

from hitl_mcp.audit import Checkpoints, Evidence, Signer
from hitl_mcp.calls import Asked, CallEvent, Outcome, Status
from hitl_mcp.clock import Clock
from hitl_mcp.errors import CallAlreadySettled
from hitl_mcp.store import SqliteStore, open_sqlite
from tests.faults.campaign import Campaign, Tally
from tests.faults.crash_checks import check_effects, check_statuses, read_calls
from tests.faults.crash_place import Agent, Place, place
from tests.faults.crashpoints import conclude
from tests.samples import admit, allowed, claim, held, tool_call, verdict

PEOPLE = tuple(f"p{number}" for number in range(100))

MANY_WINNERS = "more than one verdict, or none, settled a call"
UNTOLD = "a reviewer who came too late was not told so, or not what the call is"
UNTRUE = "a call's status is not what happened"
FORKED = "the chain of events forked, or has a gap"
WRITERS = 16


def people(rounds: int, seed: int, folder: Path) -> Tally:
    """So many calls, each decided by a hundred people at the same moment."""
    tally = Tally()
    tally.never(MANY_WINNERS, UNTOLD, UNTRUE)
    asyncio.run(_decide(rounds, seed, folder, tally))
    return tally


async def _decide(rounds: int, seed: int, folder: Path, tally: Tally) -> None:
    reviewers: dict[str, dict[str, list[str]]] = {name: {"roles": []} for name in ("dana", "erin", *PEOPLE)}
    async with place(folder, armed=False, reviewers=reviewers) as site:
        await site.start()
        for name in PEOPLE:
            await site.sign_in(name)
        async with site.agent() as agent:
            for number in range(seed, seed + rounds):
                for what, more in await _race(site, agent, random.Random(number), number, tally):
                    tally.breach(what, f"seed {number}: {more}")
        await conclude(site)
        calls, effects = read_calls(site.database()), site.effects()
        for what, more in chain(check_effects(calls, effects), check_statuses(calls, effects, crashed=False)):
            tally.breach(UNTRUE, f"{what}: {more}")


async def _race(site: Place, agent: Agent, chance: random.Random, number: int, tally: Tally) -> list[tuple[str, str]]:
    """One call, and everyone's verdict on it; what was wrong. Two must approve `pay`, one `give`."""
    tool, rejecting = ("pay", 0.0) if number % 3 == 0 else ("give", chance.choice((0.05, 0.5, 0.95)))
    await agent.begin(f"stdio__{tool}", f"race-{number}")
    call = await site.get(f"/api/calls/{await agent.until_held()}")
    kinds = {name: "reject" if chance.random() < rejecting else "approve" for name in PEOPLE}

    async def decide(name: str, kind: str) -> tuple[str, httpx2.Response]:
        body = {"verdict": kind, "digest": call["digest"], "reason": ""}
        return kind, await site.post(name, f"/api/calls/{call['id']}/verdict", body)

    answers = await asyncio.gather(*(decide(name, kind) for name, kind in kinds.items()))
    await agent.answer()
    ended = await site.get(f"/api/calls/{call['id']}")
    settled = Counter(kind for kind, answer in answers if answer.status_code == 200)
    tally.count("verdicts", len(answers))
    tally.count(f"calls that {'two' if tool == 'pay' else 'one'} of a hundred settled")
    if settled["approve"] and settled["reject"]:
        tally.count("approvals that a rejection overtook")
    losers = [answer for _, answer in answers if answer.status_code != 200]
    return [*_wrong_winners(settled, ended, 2 if tool == "pay" else 1), *_wrong_answers(losers, settled)]


def _wrong_winners(settled: Counter[str], ended: dict[str, Any], quorum: int) -> list[tuple[str, str]]:
    """A rejection ends a call, also one that is approved and has not started; otherwise as many approve as it takes."""
    if settled["reject"]:
        right = settled["reject"] == 1 and settled["approve"] <= quorum and ended["status"] == "rejected"
    else:
        right = settled["approve"] == quorum and ended["status"] == "succeeded"
    return [] if right else [(MANY_WINNERS, f"{dict(settled)}, and it is {ended['status']}")]


def _wrong_answers(losers: list[httpx2.Response], settled: Counter[str]) -> list[tuple[str, str]]:
    """Who comes too late is answered 409 with the call as it is: never held any more, and as it ended."""
    final = {"rejected"} if settled["reject"] else {"succeeded"}
    if settled["approve"]:
        final |= {"approved", "running"}
    return [
        (UNTOLD, answer.text[:200])
        for answer in losers
        if answer.status_code != 409 or answer.json()["error"]["call"]["status"] not in final
    ]


def writers(rounds: int, seed: int, folder: Path) -> Tally:
    """Write so many events, from many sides at once."""
    tally = Tally()
    tally.never(FORKED)
    asyncio.run(_write(rounds, seed, folder, tally))
    return tally


async def _write(rounds: int, seed: int, folder: Path, tally: Tally) -> None:
    async with open_sqlite(folder / "hitl.db", Clock()) as store:
        work = (_write_until(store, rounds, random.Random(seed + number), f"w{number}") for number in range(WRITERS))
        for refused in await asyncio.gather(*work):
            tally.count("steps that were refused between them", refused)
        await Checkpoints(store, Signer(folder / "audit.key", folder / "checkpoints.jsonl")).sign_head()
        numbers = [event.number for event in await _all_events(store)]
    tally.count("events", len(numbers))
    tally.count("writers", WRITERS)
    if numbers != list(range(1, len(numbers) + 1)):
        tally.breach(FORKED, f"seed {seed}: the numbers are not one after the other")
    report = Evidence(folder / "hitl.db", folder / "checkpoints.jsonl", folder / "audit.pub").verify()
    if report.answer != "fine" or report.unsigned:
        tally.breach(FORKED, f"seed {seed}: {report.as_dict()}")


async def _write_until(store: SqliteStore, events: int, chance: random.Random, name: str) -> int:
    """Take calls through their lives until there are so many events; how many steps were refused."""
    refused = number = 0
    while await store.last_event_number() < events:
        number += 1
        call = tool_call(arguments_json=f'{{"to":"{name}-{number}"}}')
        if chance.random() < 0.5:
            record = (await admit(store, call, Asked(name), allowed())).record
        else:
            record = (await admit(store, call, Asked(name), held())).record
            record = await store.add_verdict(record.id, verdict(record.digest))
            try:
                await store.add_verdict(record.id, verdict(record.digest, reviewer="erin"))
            except CallAlreadySettled:
                refused += 1
            await claim(store, record)
        await store.settle(record.id, _done(keep=record.was_held), durable=chance.random() < 0.5)
    return refused


def _done(*, keep: bool) -> Outcome:
    """An outcome; of an approved call its result is kept."""
    body = '{"content":[]}'
    result = ("sha256:" + sha256(body.encode()).hexdigest(), len(body))
    return Outcome(Status.SUCCEEDED, True, "2026-11-22T12:00:00.000000Z", "", body if keep else None, *result)


async def _all_events(store: SqliteStore) -> list[CallEvent]:
    found: list[CallEvent] = []
    while page := await store.events_after(found[-1].number if found else 0, 1000):
        found.extend(page)
    return found


CAMPAIGNS = (
    Campaign("reviewers", "a hundred people decide one call at the same moment", short=4, long=200, run=people),
    Campaign("writers", "sixteen writers write one chain of events", short=500, long=10_000, run=writers),
)
