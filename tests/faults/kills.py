"""The gateway is killed at any moment, again and again, while agents and reviewers are at work; its record goes on.

All kills hit gateways of one state directory. What must be true then stands in `crash_checks`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from hitl_mcp.audit import Evidence
from tests.faults.campaign import Campaign, Tally
from tests.faults.crash_checks import (
    BREACHES,
    BROKEN,
    Breach,
    check_alarms,
    check_effects,
    check_statuses,
    check_told,
    read_calls,
)
from tests.faults.crash_place import REVIEWERS, WAYS, Agent, Died, Place, Told, full_name, place
from tests.faults.crashpoints import conclude

AGENTS = ("builder", "tester", "mover", "painter", "plumber", "roofer")

LIFE_SECONDS = 0.6
"""The longest that a gateway lives once it is ready: some dozens of calls. One in six dies before it is ready."""

START_SECONDS = 0.4
"""What a start takes on an idle machine: a kill within it hits the recovery of the record."""

WALK_EVERY = 50
"""Kills between two walks over the whole record, which take longer the longer it grows."""

TOOLS = ("pay", "pay", "pay", "free", "free", "die", "broken", "never", "undoable")


def run(rounds: int, seed: int, folder: Path) -> Tally:
    """Kill so many gateways, each when chance says so."""
    tally = Tally()
    tally.never(*BREACHES)
    asyncio.run(_play(rounds, seed, folder, tally))
    return tally


async def _play(rounds: int, seed: int, folder: Path, tally: Tally) -> None:
    async with place(folder, armed=False) as site:
        ever, seen_bytes = Told(), 0
        await site.start()  # so that there is a record to begin with
        await site.kill()
        for number in range(seed, seed + rounds):
            site.told = Told()
            await _one_life(site, random.Random(number), number, tally)
            effects = site.effects(seen_bytes)
            seen_bytes += sum(len(f"{call_id} {what}\n") for call_id, what in effects)
            calls = read_calls(site.database(), site.told.ids | {call_id for call_id, _ in effects})
            found = [*check_told(calls, site.told), *check_effects(calls, effects)]
            ever.add(site.told)
            if (number - seed + 1) % WALK_EVERY == 0:
                found += _everything(site, ever, crashed=True)
            for what, more in found:
                tally.breach(what, f"seed {number}: {more}")
        await site.start()
        await conclude(site)
        for what, more in _everything(site, ever, crashed=False):
            tally.breach(what, f"after the last of {rounds} kills from seed {seed}: {more}")
        _count(site, tally)


def _everything(site: Place, ever: Told, *, crashed: bool) -> list[Breach]:
    """What there is to say of all calls there ever were, and of the chain with its checkpoints."""
    calls, effects = read_calls(site.database()), site.effects()
    found = [*check_told(calls, ever), *check_effects(calls, effects)]
    found += [*check_statuses(calls, effects, crashed=crashed), *check_alarms(site.database())]
    report = Evidence.of(site.config(), site.state).verify()
    return found if report.answer == "fine" else [*found, (BROKEN, f"{report.answer}: {report.findings}")]


def _count(site: Place, tally: Tally) -> None:
    calls = read_calls(site.database()).values()
    tally.count("calls", len(calls))
    tally.count("effects", len(site.effects()))
    for call in calls:
        tally.count(f"calls that are {call['status']} in the end")
        tally.count("calls that a kill cut off", any("gateway stopped" in one["detail"] for one in call["events"]))


# One life of a gateway.


async def _one_life(site: Place, chance: random.Random, number: int, tally: Tally) -> None:
    """Start a gateway, use it from all sides at once, and kill it."""
    if chance.random() < 1 / 6:
        await site.launch()
        with suppress(TimeoutError):
            await asyncio.wait_for(site.ended(), chance.uniform(0, START_SECONDS))
        tally.count("kills while it started")
        await site.kill()
        return
    await site.start()
    life = Life(site, chance, f"k{number}")
    at_work = [asyncio.create_task(work) for work in life.work()]
    await asyncio.wait(at_work, timeout=chance.uniform(0, LIFE_SECONDS), return_when=asyncio.FIRST_EXCEPTION)
    site.strike()
    await asyncio.gather(*at_work)
    await site.ended()
    tally.count("kills while it worked")
    tally.count("verdicts accepted", len(site.told.verdicts))


class Life:
    """What agents and reviewers do while one gateway lives. What chance draws is fixed; what it hits is not."""

    def __init__(self, site: Place, chance: random.Random, name: str) -> None:
        self._site = site
        self._chance = chance
        self._name = name
        self._desks: dict[str, asyncio.Queue[str]] = {reviewer: asyncio.Queue() for reviewer in REVIEWERS}

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """Everyone's work; each ends when the gateway does."""
        return [*map(self._ask, AGENTS), *map(self._review, REVIEWERS)]

    def _tell_reviewers(self, call_id: str) -> None:
        for desk in self._desks.values():
            desk.put_nowait(call_id)

    async def _ask(self, name: str) -> None:
        """Ask for one call after the other, take some back, and lose a connection now and then."""
        asked = 0
        with suppress(Died):
            while True:
                async with self._site.agent(name) as agent:
                    agent.on_held = self._tell_reviewers
                    while True:
                        asked += 1
                        await self._ask_once(agent, name, f"{self._name}-{name}-{asked}")
                        if self._chance.random() < 0.1:
                            break

    async def _ask_once(self, agent: Agent, name: str, what: str) -> None:
        way, tool, doing = self._chance.choice(WAYS), self._chance.choice(TOOLS), self._chance.random()
        await agent.begin(full_name(way, tool), f"{way}:{what}")
        if doing < 0.15 and tool == "pay":
            call_id = await agent.until_held()
            async with self._site.agent(name) as other:
                await other.own("hitl_withdraw", call_id)
        await agent.answer()

    async def _review(self, reviewer: str) -> None:
        """Decide what an earlier gateway left, then whatever comes; look into what is unknown."""
        desk = self._desks[reviewer]
        with suppress(Died):
            for status in ("held", "unknown"):
                for call in (await self._site.get(f"/api/calls?status={status}"))["calls"]:
                    desk.put_nowait(call["id"])
            while True:
                # Nobody says when the gateway dies: whoever waits for work asks it now and then.
                with suppress(TimeoutError):
                    await self._look_at(reviewer, await asyncio.wait_for(desk.get(), LIFE_SECONDS))
                await self._site.get("/api/me")

    async def _look_at(self, reviewer: str, call_id: str) -> None:
        call = await self._site.get(f"/api/calls/{call_id}")
        if call["status"] == "unknown" and self._chance.random() < 0.5:
            body = {"happened": self._chance.random() < 0.5, "evidence": "looked"}
            if (await self._site.post(reviewer, f"/api/calls/{call_id}/resolve", body)).status_code == 200:
                self._site.told.resolved.add(call_id)
        elif call["status"] != "unknown":
            verdict = "reject" if self._chance.random() < 0.15 else "approve"
            await self._site.decide(reviewer, call, verdict)


CAMPAIGN = Campaign(
    "kills", "the gateway is killed at any moment while agents and reviewers work", short=8, long=1_000, run=run
)
