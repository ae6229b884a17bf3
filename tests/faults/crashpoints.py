"""The gateway dies at each place where it commits, sends, receives or answers, with each kind of upstream.

How it is made to die stands in `crash_gateway`, where in `crash_stories`, what must be true then in `crash_checks`.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from hitl_mcp.audit import Evidence
from tests.faults.campaign import Campaign, Tally
from tests.faults.crash_checks import (
    BREACHES,
    BROKEN,
    LOST_ANSWER,
    Breach,
    check_alarms,
    check_effects,
    check_statuses,
    check_told,
    read_calls,
)
from tests.faults.crash_gateway import EXIT_CODE
from tests.faults.crash_place import REVIEWERS, Died, Place, Told, place
from tests.faults.crash_stories import Case, Scene, cases

UNREACHED = "a place was never reached"

REACH_SECONDS = 5
"""How long after its story a gateway may take to its place: what is written last is written beside the answer."""

CONCLUDE_SECONDS = 180
"""What the end of all that is open may take, after hundreds of kills on a busy machine; the rest is `UNDECIDED`."""

CASES = cases()


def run(rounds: int, seed: int, folder: Path) -> Tally:
    """Play so many cases, one after the other, each start of the gateway being the restart after the crash before."""
    tally = Tally()
    tally.never(UNREACHED, *BREACHES)
    asyncio.run(_play(rounds, seed, folder, tally))
    return tally


async def _play(rounds: int, seed: int, folder: Path, tally: Tally) -> None:
    async with place(folder, armed=True) as site:
        await site.start()
        known: set[Breach] = set()
        for number in range(seed, seed + rounds):
            case = CASES[number % len(CASES)]
            # Every call there ever was is looked at: what is wrong with one is told by the round that found it.
            for what, more in set(await _round(site, case, number, tally)) - known:
                known.add((what, more))
                tally.breach(what, f"seed {number}: {case}: {more}")


async def _round(site: Place, case: Case, number: int, tally: Tally) -> list[Breach]:
    """One crash and the start after it; what it broke."""
    site.told = Told()
    reached = await _until_death(site, case, f"r{number}")
    if not reached:
        return [(UNREACHED, str(case))]
    tally.count("crashes")
    tally.count(f"crashes with {case.way}")
    found = list(check_told(read_calls(site.database()), site.told))
    await site.start()
    if site.told.paused is not None and bool((await site.get("/api/status"))["paused"]) is not site.told.paused:
        found.append((LOST_ANSWER, "the pause"))
    await site.post("dana", "/api/resume", {})
    await conclude(site)
    return [*found, *check(site, crashed=False)]


async def _until_death(site: Place, case: Case, what: str) -> bool:
    """Play the story until the gateway dies; whether it died at its place."""
    code = None
    with suppress(Died):
        await case.story(Scene(site, case.way, what, case.point))
    with suppress(TimeoutError):
        code = await asyncio.wait_for(site.ended(), REACH_SECONDS)
    site.disarm()
    if code != EXIT_CODE:
        await site.kill()
        await site.start()
    return code == EXIT_CODE


async def conclude(site: Place) -> None:
    """Decide every call that is still held, and wait until nothing is under way any more, or far too long."""
    with suppress(TimeoutError):
        await _conclude(site)


async def _conclude(site: Place) -> None:
    async with asyncio.timeout(CONCLUDE_SECONDS):
        while calls := await _open(site):
            for call in calls:
                verdict = "reject" if _is_deadly(call) else "approve"
                for reviewer in REVIEWERS if call["status"] == "held" else ():
                    await site.decide(reviewer, call, verdict)
                if call["tool"] == "undoable":
                    await site.decide("erin", await site.get(f"/api/calls/{call['id']}"), "reject")
                async with site.agent(call["agent"]) as agent:
                    await agent.own("hitl_wait", call["id"])


def _is_deadly(call: dict[str, Any]) -> bool:
    """Whether its upstream dies of it: a few of these, and it is started again only after half a minute."""
    return call["tool"] == "die" or str(json.loads(call["arguments_json"])["what"]).startswith("dies:")


async def _open(site: Place) -> list[dict[str, Any]]:
    page = await site.get("/api/calls?status=held&status=approved&status=running&limit=200")
    return list(page["calls"])


def check(site: Place, *, crashed: bool) -> list[Breach]:
    """Everything that must be true, of every call there ever was here."""
    calls, effects = read_calls(site.database()), site.effects()
    found = [
        *check_told(calls, site.told),
        *check_effects(calls, effects),
        *check_statuses(calls, effects, crashed=crashed),
        *check_alarms(site.database()),
    ]
    report = Evidence.of(site.config(), site.state).verify()
    if report.answer != "fine":
        found.append((BROKEN, f"{report.answer}: {report.findings}"))
    return found


CAMPAIGN = Campaign(
    "crashpoints",
    "the gateway dies before and after every commit, send, receive and answer, with every kind of upstream",
    short=18,
    long=len(CASES),
    run=run,
)
