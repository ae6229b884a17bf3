"""When a client is asked, and what is on record of it: over a real store, with a client that answers by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import MCPError
from pydantic import ValidationError

from hitl_mcp.audit import Evidence
from hitl_mcp.calls import Asked, CallRecord, Preview, ReadingCall, Requirement, Status, Verdict, VerdictKind
from hitl_mcp.canonical import canonical_text
from hitl_mcp.people import People
from hitl_mcp.review import Given, Review
from hitl_mcp.store import SqliteStore, open_sqlite
from hitl_mcp.surfaces.agents.asked import Caller, ClientRequest
from hitl_mcp.surfaces.agents.asking import ASK_AGAIN_SECONDS, Asking, could_approve
from hitl_mcp.surfaces.agents.forms import Mode, Said
from hitl_mcp.surfaces.agents.states import Opened, States
from hitl_mcp.surfaces.agents.waiting import Ticker
from tests.clocks import HandClock
from tests.render.records import record_with
from tests.samples import admit, held, tool_call

WAIT_SECONDS = 10
BOTH: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}}


@dataclass
class Post:
    """An asking over a store, with its clock."""

    asking: Asking
    clock: HandClock

    @property
    def store(self) -> SqliteStore:
        return self.asking.store

    async def hold(self, *needs: Requirement, body: str = "hello", **changes: Any) -> CallRecord:
        """A held call."""
        call = tool_call(arguments_json=canonical_text({"to": "a@example.com", "body": body}))
        return (await admit(self.store, call, Asked("conv"), held(*needs, **changes))).record

    async def kinds(self, record: CallRecord) -> list[str]:
        """The events of a call."""
        return [event.kind for event in (await self.store.get(record.id)).events]

    async def wait(self, request: ClientRequest, record: CallRecord, seconds: float = 5) -> CallRecord:
        """Wait as a call does."""
        with anyio.fail_after(WAIT_SECONDS):
            return await self.asking.wait(request, record, seconds, Ticker(_nothing))

    async def approve(self, record: CallRecord) -> None:
        """Approve a call at the terminal."""
        given = Given(VerdictKind.APPROVE, record.digest, "local", surface="cli", assurance="cli")
        await self.asking.review.give_verdict(record.id, given)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Post]:
    """A desk with an empty store."""
    clock, people = HandClock(), People()
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        review, states = Review(store, people, clock), States(b"k" * 32, clock)
        asking = Asking(store, review, people, states, clock, lambda call_id: f"http://x/#{call_id}", frozenset(Mode))
        yield Post(asking, clock)


async def _nothing(*_: Any) -> None:
    """What a client is told here goes nowhere."""


@dataclass
class Hand:
    """A legacy client whose user answers by hand."""

    answer: Any
    asked: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    told: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    async def ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append((method, params))
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: dict[str, Any] = await self.answer(params)
        return answer

    async def tell(self, method: str, params: Mapping[str, Any]) -> None:
        self.told.append((method, params))

    def client(self, capabilities: Mapping[str, Any] = BOTH) -> ClientRequest:
        """A request of this client."""
        params = {"name": "mail__send", "arguments": {}}
        caller = Caller("builder", "conv")
        return ClientRequest(caller, 1, "2025-11-25", params, _nothing, self.tell, self.ask, capabilities=capabilities)


def modern(capabilities: Mapping[str, Any] = BOTH) -> ClientRequest:
    """A request of a modern client."""
    params = {"name": "mail__send", "arguments": {}}
    caller = Caller("builder", "conv")
    return ClientRequest(caller, 1, "2026-07-28", params, _nothing, _nothing, None, capabilities=capabilities)


# When.


@pytest.mark.parametrize(
    ("needs", "could"),
    [
        ((Requirement("a"),), True),
        ((Requirement("a"), Requirement("b")), True),
        ((Requirement("a", roles=("finance",)),), False),
        ((Requirement("a", quorum=2),), False),
        ((Requirement("a", assurance="cli"),), False),
        ((Requirement("a", barred=("local",)),), False),
        ((Requirement("a", surfaces=("web",)),), False),
        ((Requirement("a"), Requirement("b", roles=("finance",))), False),
    ],
)
def test_a_client_could_approve_what_needs_no_more_than_its_word(needs: tuple[Requirement, ...], could: bool) -> None:
    """One requirement beyond it, and a form would be in vain."""
    assert could_approve(record_with({}, decision=held(*needs))) is could


def test_a_client_could_give_the_last_approval_that_is_missing() -> None:
    """What others approved already is not asked for again."""
    record = record_with({}, decision=held(Requirement("a"), Requirement("b", roles=("finance",))))
    paid = Verdict(VerdictKind.APPROVE, "dana", ("finance",), record.digest, "web", "link", at="")
    assert could_approve(replace(record, verdicts=(paid,)))
    assert not could_approve(replace(record, verdicts=(replace(paid, digest="sha256:other"),)))


async def test_a_form_comes_before_an_address_and_an_address_before_nothing(desk: Post) -> None:
    """Whatever the client can, the operator allows, the requirements admit and a dialog can show."""
    plain = await desk.hold()
    strict = await desk.hold(Requirement("a", assurance="link"), body="strict")
    long = await desk.hold(body="word " * 1000)
    forms: dict[str, Any] = {"elicitation": {}}
    addresses: dict[str, Any] = {"elicitation": {"url": {}}}
    asked = [
        await mode_of(desk.asking, record, declared)
        for declared in (BOTH, forms, addresses)
        for record in (plain, strict, long)
    ]
    assert asked == [Mode.FORM, Mode.URL, Mode.URL, Mode.FORM, None, None, Mode.URL, Mode.URL, Mode.URL]
    assert await mode_of(desk.asking, plain, {}) is None
    assert await mode_of(replace(desk.asking, modes=frozenset()), plain) is None
    assert await mode_of(replace(desk.asking, modes=frozenset({Mode.URL})), plain) is Mode.URL


async def mode_of(asking: Asking, record: CallRecord, declared: Mapping[str, Any] = BOTH) -> Mode | None:
    """How a modern client that declares this is asked about a call, if it is."""
    question = await asking.question(modern(declared), record)
    return question.mode if question else None


async def test_a_form_waits_for_the_previews_that_people_are_shown(desk: Post) -> None:
    """What the page would show a moment later stands in the form, too."""
    record = await desk.hold(previews=(ReadingCall("mail-out", "mail__quote"),))
    questions: list[Any] = []

    async def ask() -> None:
        questions.append(await desk.asking.question(modern(), record))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        result = '{"content":[{"text":"it reaches 40 people","type":"text"}]}'
        await desk.store.keep_preview(record.id, Preview("mail-out", "mail__quote", record.created_at, None, result))
    assert "it reaches 40 people" in questions[0].params["message"]


async def test_a_client_that_said_nothing_is_asked_again_after_a_while(desk: Post) -> None:
    """Not at once, or a dialog wears people down; not never, or a slip of the finger were for good."""
    record = await desk.hold()
    await desk.asking.take(record, Mode.FORM, "1a2b", {"action": "decline"})
    assert await mode_of(desk.asking, record) is None
    desk.clock.forward(ASK_AGAIN_SECONDS)
    assert await mode_of(desk.asking, record) is Mode.FORM


# What comes of it.


async def test_an_answer_that_is_no_verdict_is_on_record(desk: Post) -> None:
    """Who was asked and what they said stands among the events; the chain has it, and the call stays held."""
    record = await desk.hold()
    said, counted = await desk.asking.take(record, Mode.FORM, "1a2b", {"action": "decline"})
    now = await desk.store.get(record.id)
    assert (said, counted, now.status, now.verdicts) == (Said.DECLINED, False, Status.HELD, ())
    assert [(event.kind, event.by, event.detail) for event in now.events[1:]] == [
        ("asking-ended", "client:builder", "declined (asking 1a2b)")
    ]


async def test_the_record_with_askings_and_client_verdicts_verifies(desk: Post, tmp_path: Path) -> None:
    """Events and verdicts of this surface are linked and attested like any others."""
    record = await desk.hold()
    await desk.asking.take(record, Mode.FORM, "1a2b", {"action": "decline"})
    await desk.asking.take(record, Mode.FORM, "3c4d", approval_of(record))
    assert (await desk.store.get(record.id)).status is Status.APPROVED
    assert Evidence(tmp_path / "hitl.db").verify().findings == []


async def test_an_asking_that_ended_takes_no_second_answer(desk: Post) -> None:
    """A decline is not taken back by the same question; another asking is not ended by it."""
    record = await desk.hold()
    await desk.asking.take(record, Mode.FORM, "1a2b", {"action": "decline"})
    assert (await desk.asking.take(record, Mode.FORM, "1a2b", approval_of(record)))[1] is False
    assert (await desk.store.get(record.id)).status is Status.HELD
    assert (await desk.asking.take(record, Mode.FORM, "3c4d", approval_of(record)))[1] is True
    assert (await desk.store.get(record.id)).status is Status.APPROVED


@pytest.mark.parametrize("decision", ["approve", "reject"])
async def test_a_late_answer_does_not_undo_what_people_said(desk: Post, decision: str) -> None:
    """Approved at the terminal, with time to undo it: a client's answer is late, and changes nothing."""
    record = await desk.hold(undo_seconds=60)
    await desk.approve(record)
    before = await desk.store.get(record.id)
    said, counted = await desk.asking.take(record, Mode.FORM, "1a2b", approval_of(record, decision))
    assert (said.verdict is not None, counted) == (True, False)
    assert await desk.store.get(record.id) == before


def approval_of(record: CallRecord, decision: str = "approve") -> dict[str, Any]:
    """The answer that decides on this call."""
    return {"action": "accept", "content": {"decision": decision, "call": record.id, "digest": record.digest}}


async def test_a_state_of_a_call_that_is_not_on_record_is_refused(desk: Post) -> None:
    """A restored backup may not know a call that was held since: its question is over, and nothing else happens."""
    with pytest.raises(MCPError) as refused:
        await desk.asking.answered(modern(), Opened("approval:form", "c_aaaaaaaaaaaaa", "1a2b"))
    assert refused.value.error.data == {"reason": "invalid_request_state"}


# Clients that are asked while they wait.


async def test_a_question_is_taken_back_when_people_answer_elsewhere(desk: Post) -> None:
    """The dialog closes, the wait ends, and nothing of the question is left."""
    record, closed, looks = await desk.hold(), [], anyio.Event()

    async def look(params: Mapping[str, Any]) -> dict[str, Any]:
        looks.set()
        try:
            await anyio.sleep_forever()
        finally:
            closed.append(params)
        return {}

    hand, after = Hand(look), list[CallRecord]()

    async def wait() -> None:
        after.append(await desk.wait(hand.client(), record))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await looks.wait()
        await desk.store.withdraw(record.id, "builder")
    assert (after[0].status, len(closed), len(hand.asked)) == (Status.WITHDRAWN, 1, 1)
    assert await desk.kinds(record) == ["asked", "withdrawn"]


async def test_a_second_request_for_the_same_call_opens_no_second_dialog(desk: Post) -> None:
    """One question is enough while it is open."""
    record, answered = await desk.hold(), anyio.Event()

    async def reject_later(params: Mapping[str, Any]) -> dict[str, Any]:
        await answered.wait()
        return approval_of(record, "reject")

    first, second = Hand(reject_later), Hand(reject_later)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.wait, first.client(), record)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(desk.wait, second.client(), record)
        await anyio.wait_all_tasks_blocked()
        answered.set()
    assert (len(first.asked), len(second.asked)) == (1, 0)


async def test_a_client_that_cannot_ask_after_all_changes_nothing(desk: Post) -> None:
    """It declared what it cannot do: the call waits for people, and no asking is on record."""
    record = await desk.hold()
    hand = Hand(MCPError(-32601, "Method not found"))
    assert (await desk.wait(hand.client(), record, seconds=0.05)).status is Status.HELD
    assert (len(hand.asked), await desk.kinds(record)) == (1, ["asked"])


async def test_an_answer_of_no_shape_ends_the_asking(desk: Post) -> None:
    """What the SDK does not take for an answer was one, and said nothing."""
    record = await desk.hold()
    hand = Hand(ValidationError.from_exception_data("answer", []))
    assert (await desk.wait(hand.client(), record, seconds=0.2)).status is Status.HELD
    assert await desk.kinds(record) == ["asked", "asking-ended"]


async def test_a_client_is_told_that_the_page_was_used(desk: Post) -> None:
    """It opened the address; once people decided, it hears that it can close what it shows meanwhile."""
    record, opened = await desk.hold(Requirement("a", assurance="cli")), anyio.Event()

    async def open_page(params: Mapping[str, Any]) -> dict[str, Any]:
        opened.set()
        return {"action": "accept"}

    hand, after = Hand(open_page), list[CallRecord]()

    async def wait() -> None:
        after.append(await desk.wait(hand.client(), record, seconds=0.5))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await opened.wait()
        while "asking-ended" not in await desk.kinds(record):
            await anyio.sleep(0)
        await desk.approve(record)
    ((_, question),) = hand.asked
    assert after[0].status is Status.APPROVED
    assert hand.told == [("notifications/elicitation/complete", {"elicitationId": question["elicitationId"]})]
