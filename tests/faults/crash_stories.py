"""Short stories of a call, and at which places of each the gateway is made to die. Nothing is checked here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tests.faults.crash_place import POLICY, WAYS, Agent, Died, Place, full_name

DAY_SECONDS = 24 * 3600


@dataclass
class Scene:
    """One story being played: with which upstream, under which name, and dying where."""

    place: Place
    way: str
    what: str
    point: str

    async def armed(self) -> None:
        """From here on the gateway dies at the place."""
        self.place.arm(self.point)

    async def ask(self, agent: Agent, tool: str) -> None:
        """Have the agent ask for a call, and wait for nothing."""
        await agent.begin(full_name(self.way, tool), f"{self.way}:{self.what}")

    async def hold(self, agent: Agent, tool: str) -> dict[str, Any]:
        """Ask for a call that is held; the call as reviewers see it."""
        await self.ask(agent, tool)
        call_id = await agent.until_held()
        found: dict[str, Any] = await self.place.get(f"/api/calls/{call_id}")
        return found

    async def post(self, path: str, **body: Any) -> None:
        """Post as dana, and remember what was acknowledged."""
        answer = await self.place.post("dana", path, body)
        if answer.status_code != 200:
            return
        verb, told = path.rpartition("/")[2], self.place.told
        if verb in ("pause", "resume"):
            told.paused = verb == "pause"
        elif verb == "resolve":
            told.resolved.add(path.split("/")[3])

    async def start_again(self, *, armed: bool = True) -> None:
        """Let the gateway crash here, and start it, which dies in its turn where it is armed."""
        await self.place.kill()
        if armed:
            await self.armed()
        await self.place.start()


async def allow(scene: Scene) -> None:
    """The policy allows a call."""
    async with scene.place.agent() as agent:
        await scene.armed()
        await scene.ask(agent, "free")
        await agent.answer()


async def deny(scene: Scene) -> None:
    """The policy denies a call."""
    async with scene.place.agent() as agent:
        await scene.armed()
        await scene.ask(agent, "never")
        await agent.answer()


async def hold(scene: Scene) -> None:
    """A call is held, and nobody answers while the agent waits."""
    async with scene.place.agent() as agent:
        await scene.armed()
        await scene.ask(agent, "pay")
        await agent.answer()


async def approve(scene: Scene) -> None:
    """Two people approve; the agent, which waits, is told what came of it."""
    async with scene.place.agent() as agent:
        call = await scene.hold(agent, "pay")
        await scene.armed()
        await scene.place.decide("dana", call)
        await scene.place.decide("erin", call)
        await agent.answer()


async def fail(scene: Scene) -> None:
    """An approved call runs, and its tool answers with an error."""
    async with scene.place.agent() as agent:
        call = await scene.hold(agent, "broken")
        await scene.armed()
        await scene.place.decide("dana", call)
        await agent.answer()


async def reject(scene: Scene) -> None:
    """One person approves, the other rejects."""
    async with scene.place.agent() as agent:
        call = await scene.hold(agent, "pay")
        await scene.place.decide("dana", call)
        await scene.armed()
        await scene.place.decide("erin", call, "reject")
        await agent.answer()


async def undo(scene: Scene) -> None:
    """An approval is taken back before the call starts."""
    async with scene.place.agent() as agent:
        call = await scene.hold(agent, "undoable")
        await scene.place.decide("dana", call)
        await scene.armed()
        await scene.place.decide("erin", call, "reject")
        await agent.answer()


async def withdraw(scene: Scene) -> None:
    """The agent takes its call back."""
    async with scene.place.agent() as agent, scene.place.agent() as other:
        call = await scene.hold(agent, "pay")
        await scene.armed()
        await other.own("hitl_withdraw", call["id"])
        await agent.answer()


async def resolve(scene: Scene) -> None:
    """A call's upstream dies under it; a person finds out what became of it."""
    async with scene.place.agent() as agent:
        call = await scene.hold(agent, "die")
        await scene.place.decide("dana", call)
        await agent.answer()
        await scene.armed()
        await scene.post(f"/api/calls/{call['id']}/resolve", happened=True, evidence="the money is gone")


async def late(scene: Scene) -> None:
    """The answer comes when the wait for it is over."""
    async with scene.place.agent() as agent:
        await scene.armed()
        await agent.begin("late__late", scene.what)
        await agent.answer()


async def pause(scene: Scene) -> None:
    """Everything is paused."""
    await scene.armed()
    await scene.post("/api/pause", reason="lunch")


async def resume(scene: Scene) -> None:
    """The pause ends, and what was approved in it runs."""
    async with scene.place.agent() as agent:
        call = await scene.hold(agent, "pay")
        await scene.place.decide("dana", call)
        await scene.post("/api/pause", reason="lunch")
        scene.place.told.paused = None
        await scene.place.decide("erin", call)
        await scene.armed()
        await scene.post("/api/resume")
        await agent.answer()


async def expire(scene: Scene) -> None:
    """Nobody decides in time: found at the next start."""
    async with scene.place.agent() as agent:
        await scene.hold(agent, "pay")
    scene.place.ahead_seconds += DAY_SECONDS
    await scene.start_again()


async def lapse(scene: Scene) -> None:
    """An approved call could not run in time: found at the next start."""
    async with scene.place.agent() as agent:
        call = await scene.hold(agent, "undoable")
        await scene.place.decide("dana", call)
    scene.place.ahead_seconds += DAY_SECONDS
    await scene.start_again()


async def change(scene: Scene) -> None:
    """The definition of a held call's tool changes: found at the next start."""
    async with scene.place.agent() as agent:
        await scene.hold(agent, "brittle")
    edition = scene.place.folder / "edition"
    edition.write_text("New.", encoding="utf-8")
    try:
        await scene.start_again()
        await scene.place.ended()
    finally:
        edition.unlink()


async def stricter(scene: Scene) -> None:
    """The policy denies by now what was approved: found at the claim."""
    async with scene.place.agent() as agent:
        call = await scene.hold(agent, "undoable")
        await scene.post("/api/pause", reason="the policy is being written")
        scene.place.told.paused = None
        await scene.place.decide("dana", call)
    denying = {"id": "denied-now", "tool": "*__undoable", "effect": "deny", "reason": "not any more"}
    scene.place.write_policy({**POLICY, "rules": [*POLICY["rules"], denying]})
    scene.place.ahead_seconds += 120  # the time to undo is over, the time to run in is not
    try:
        await scene.start_again()
        await scene.post("/api/resume")
        await scene.place.ended()
    finally:
        scene.place.write_policy(POLICY)


async def recover(scene: Scene) -> None:
    """A call was running when the gateway ended: found at the next start."""
    async with scene.place.agent() as agent:
        scene.place.arm("after send@1")
        await scene.ask(agent, "free")
        try:
            await agent.answer()
        except Died:
            await scene.place.ended()
    await scene.start_again()


async def erase(scene: Scene) -> None:
    """A call is long over, and what it carried is erased: at the next start."""
    async with scene.place.agent() as agent:
        await scene.ask(agent, "never")
        await agent.answer()
    scene.place.ahead_seconds += 40 * DAY_SECONDS
    await scene.start_again()


async def sign(scene: Scene) -> None:
    """The head of the chain is signed: at the next start."""
    await scene.start_again()


Story = Callable[[Scene], Awaitable[None]]


def _around(*names: str) -> tuple[str, ...]:
    return tuple(f"{when} {name}@1" for name in names for when in ("before", "after"))


_SENT = _around("send")
_RUN = (*_around("commit of running"), *_SENT)
_BACK = (*_around("receive"), "before outcome@1")
_VERDICT = ("before answer to reviewer@1", "after POST verdict@1")

_ALLOWED = (*_around("request", "commit of asked, running"), *_SENT)
_APPROVED = (
    *_around("commit of approval"),
    "before POST verdict@1",
    *_VERDICT,
    *_around("commit of approved"),
    "before POST verdict@2",
    "before answer to reviewer@2",
    "after POST verdict@2",
    *_RUN,
)

POINTS: Mapping[Story, tuple[str, ...]] = MappingProxyType(
    {
        allow: (*_ALLOWED, *_BACK, *_around("commit of succeeded", "answer plain")),
        deny: _around("request", "commit of asked, denied", "answer denied"),
        hold: _around("request", "commit of asked, held", "answer held"),
        approve: (*_APPROVED, *_BACK, *_around("commit of succeeded", "answer plain", "commit of told")),
        fail: (*_RUN, *_BACK, *_around("commit of failed", "answer failed", "commit of told")),
        reject: ("before POST verdict@1", *_around("commit of rejected"), *_VERDICT, *_around("answer rejected")),
        undo: (*_around("commit of undone"), *_VERDICT, *_around("answer rejected")),
        withdraw: _around("request", "commit of withdrawn", "answer withdrawn"),
        resolve: _around("POST resolve", "commit of succeeded, found out"),
        late: _around("commit of unknown", "answer unknown", "commit of succeeded, found out"),
        pause: _around("POST pause", "commit of paused"),
        resume: _around("POST resume", "commit of resumed"),
        expire: _around("commit of expired"),
        lapse: _around("commit of expired"),
        change: _around("commit of invalidated"),
        stricter: _around("commit of invalidated"),
        recover: _around("commit of unknown"),
        erase: _around("commit of erased"),
        sign: _around("sign"),
    }
)
"""At which places each story lets the gateway die."""

_WHERE_IT_DIES: Mapping[Story, tuple[str, ...]] = MappingProxyType(
    {
        allow: (*_ALLOWED, "before outcome@1", *_around("commit of unknown", "answer unknown")),
        approve: (*_APPROVED, "before outcome@1", *_around("commit of unknown", "answer unknown", "commit of told")),
    }
)
"""The same with an upstream that takes effect and dies."""


@dataclass(frozen=True)
class Case:
    """A story, the place in it where the gateway dies, and the kind of upstream."""

    story: Story
    point: str
    way: str

    def __str__(self) -> str:
        return f"{getattr(self.story, '__name__', '')}, {self.point}, {self.way}"


def cases() -> tuple[Case, ...]:
    """Every place of every story with every kind of upstream, so mixed that neighbours have little in common."""
    found = [
        Case(story, point, way)
        for story, points in POINTS.items()
        for way in WAYS
        for point in (_WHERE_IT_DIES.get(story, points) if way == "dies" else points)
    ]
    step = next(step for step in range(len(found) * 5 // 13, len(found)) if _have_no_divisor(step, len(found)))
    return tuple(found[number * step % len(found)] for number in range(len(found)))


def _have_no_divisor(one: int, other: int) -> bool:
    while other:
        one, other = other, one % other
    return one == 1
