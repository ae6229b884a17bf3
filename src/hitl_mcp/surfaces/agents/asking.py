"""Asking whoever sits before an agent's client about a held call: by a form there, or by opening the review page.

The row is the authority and asking only a doorbell: people can answer on every other surface meanwhile, and an answer
from the client goes through the one door for verdicts like any other, with the least assurance. What is not a verdict
ends the asking and nothing else. How questions look stands in `forms.py`.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from hitl_mcp.calls import ASKING_ENDED, CallRecord, Status, Verdict, VerdictKind, unmet
from hitl_mcp.clock import Clock, after, to_text
from hitl_mcp.errors import BudgetSpent, CallAlreadySettled, CallNotFound, DigestMismatch, NotAllowed, StoreError
from hitl_mcp.limits import READING_SECONDS
from hitl_mcp.people import People, client_of
from hitl_mcp.render.shown import shown
from hitl_mcp.review import Given, Review
from hitl_mcp.store import SqliteStore
from hitl_mcp.surfaces.agents.asked import ClientRequest
from hitl_mcp.surfaces.agents.forms import ELICIT, Mode, Said, address_for, form_for, modes_of, said_by
from hitl_mcp.surfaces.agents.states import Opened, States, refuse_state
from hitl_mcp.surfaces.agents.waiting import Ticker, wait_for_answer

logger = logging.getLogger(__name__)

SURFACE = "client"
"""The name of this surface, as a verdict and a policy have it."""

QUESTION = "approval"
"""The key of our question among those that a client is asked; it is asked once in a chain or a task."""

ASK_AGAIN_SECONDS = 600
"""After a question that brought no verdict, the same client is not asked about the call for as long as a rejected one
is not asked again: who said no to a dialog is not to be worn down."""


@dataclass(frozen=True)
class Question:
    """A question as it is put: how, with which parameters, and by which of our askings."""

    mode: Mode
    params: dict[str, Any]
    nonce: str


@dataclass(frozen=True)
class AfterAsking:
    """A call after its client answered; `late` where the answer was a verdict that came too late to count."""

    record: CallRecord
    repeat: bool
    late: bool


@dataclass(frozen=True)
class Asking:
    """Asks clients, in the ways that the operator allows (`modes`), and takes their answers."""

    store: SqliteStore
    review: Review
    people: People
    states: States
    clock: Clock
    review_url: Callable[[str], str]
    modes: frozenset[Mode]
    _pushed: set[str] = field(default_factory=set)

    # Clients that are asked while their request waits: those with a handshake.

    async def wait(self, asked: ClientRequest, record: CallRecord, seconds: float, ticker: Ticker) -> CallRecord:
        """The call once it is settled, or as it stands when the time is over; the client is asked meanwhile."""
        if asked.ask is None or asked.is_modern or record.id in self._pushed:
            return await wait_for_answer(self.store, record, seconds, ticker)
        opened: list[str] = []
        failure: StoreError | None = None
        self._pushed.add(record.id)
        try:
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._push, asked, record, opened)
                try:
                    record = await wait_for_answer(self.store, record, seconds, ticker)
                except StoreError as error:
                    failure = error
                beside.cancel_scope.cancel()  # whoever still looks at the question sees it close
        finally:
            self._pushed.discard(record.id)
        if failure is not None:
            raise failure
        if opened and record.status is not Status.HELD:
            await asked.tell("notifications/elicitation/complete", {"elicitationId": opened[0]})
        return record

    async def _push(self, asked: ClientRequest, record: CallRecord, opened: list[str]) -> None:
        try:
            question = await self.question(asked, record)
            if question is None:
                return
            answer = await self._answer_to(question, asked, record)
            if answer is None:
                return
            said, _ = await self.take(record, question.mode, question.nonce, answer)
            if said is Said.OPENED:
                opened.append(question.params["elicitationId"])
        except StoreError:
            logger.exception("call %s: its client cannot be asked", record.id)

    async def _answer_to(self, question: Question, asked: ClientRequest, record: CallRecord) -> Any:
        """What the client answers, of whatever shape; None where it could not be asked."""
        if asked.ask is None:
            return None
        try:
            return await asked.ask(ELICIT, question.params)
        except ValidationError:
            return {}  # an answer, though none that says anything
        except MCPError as error:
            logger.warning("call %s: its client cannot be asked: %s", record.id, error)
            return None

    # Clients that are asked by the answer itself, and come back.

    async def input_required(self, asked: ClientRequest, record: CallRecord, *, repeat: bool) -> dict[str, Any] | None:
        """What a modern client is answered first, where it can be asked; its user has as long as the call has."""
        question = await self.question(asked, record) if asked.is_modern else None
        if question is None:
            return None
        kind = f"{QUESTION}:{question.mode}" + (":repeat" if repeat else "")
        return {
            "resultType": "input_required",
            "inputRequests": {QUESTION: {"method": ELICIT, "params": question.params}},
            "requestState": self.states.seal(asked, kind, record.id, question.nonce),
        }

    def is_ours(self, opened: Opened) -> bool:
        """Whether a state goes with one of our questions."""
        return opened.kind.split(":")[0] == QUESTION

    async def answered(self, asked: ClientRequest, opened: Opened) -> AfterAsking:
        """Take what a modern client brought back; nobody is asked again in this chain.

        Raises:
            MCPError: The record was restored meanwhile from a backup that does not have the call.
        """
        _, mode, *more = opened.kind.split(":")
        try:
            record, late = await self.store.get(opened.call_id), False
        except CallNotFound:
            refuse_state("its call is not on record")
        if QUESTION in asked.answers:
            answer = asked.answers[QUESTION]
            said, counted = await self.take(record, Mode(mode), opened.nonce, answer)
            late = said.verdict is not None and not counted
            record = await self.store.get(opened.call_id)
        return AfterAsking(record, repeat=bool(more), late=late)

    # Both.

    async def question(self, asked: ClientRequest, record: CallRecord) -> Question | None:
        """What this client is asked about a call, if anything: a form before an address, since it settles more."""
        modes = modes_of(asked.capabilities, asked.version) & self.modes
        if record.status is not Status.HELD or not modes:
            return None
        record = await self._previewed(record.id)
        if record.status is not Status.HELD or self._asked_lately(record):
            return None
        nonce = secrets.token_hex(8)
        if Mode.FORM in modes and could_approve(record):
            params = form_for(record, shown(record, self.people), asked.version)
            if params is not None:
                return Question(Mode.FORM, params, nonce)
        if Mode.URL in modes:
            elicitation_id = None if asked.is_modern else f"{record.id}.{nonce}"
            return Question(Mode.URL, address_for(record, self.review_url(record.id), elicitation_id), nonce)
        return None

    async def take(self, record: CallRecord, mode: Mode, nonce: str, answer: Any) -> tuple[Said, bool]:
        """Take an answer: what it says, and whether a verdict in it counted.

        # INVARIANT: one question brings one verdict or none. What ended an asking is on record, and a verdict counts
        # only while the call is held: neither a restart nor a second answer changes that.
        """
        said = said_by(answer, mode, record)
        now = await self.store.get(record.id)
        client = client_of(record.call.agent)
        if now.status is not Status.HELD or self.has_ended(now, nonce):
            logger.info("call %s: its client %s, too late", record.id, said)
            return said, False
        if said.verdict is None:
            await self.store.end_asking(record.id, client.name, f"{said} {_asking(nonce)}")
            return said, False
        given = Given(said.verdict, record.digest, client.name, surface=SURFACE, assurance="client")
        try:
            await self.review.give_verdict(record.id, given)
        except (BudgetSpent, CallAlreadySettled, DigestMismatch, NotAllowed) as error:
            logger.info("call %s: what its client answered does not count: %s", record.id, error.message)
            return said, False
        return said, True

    async def _previewed(self, call_id: str) -> CallRecord:
        """The call as it is on record, with what its previews brought: people are shown it, so it is waited for."""
        record = await self.store.get(call_id)
        with anyio.move_on_after(READING_SECONDS):
            while record.status is Status.HELD and len(record.previews) < len(record.decision.previews):
                record = await self.store.wait_for_change(record.id, record.version, READING_SECONDS)
        return record

    def has_ended(self, record: CallRecord, nonce: str) -> bool:
        """Whether this asking brought an answer that was no verdict."""
        return any(event.kind == ASKING_ENDED and event.detail.endswith(_asking(nonce)) for event in record.events)

    def _asked_lately(self, record: CallRecord) -> bool:
        since = to_text(after(self.clock.now(), -ASK_AGAIN_SECONDS))
        return any(event.kind == ASKING_ENDED and event.at > since for event in record.events)


def could_approve(record: CallRecord) -> bool:
    """Whether an approval in the agent's own client would be all that is missing."""
    name = client_of(record.call.agent).name
    approval = Verdict(VerdictKind.APPROVE, name, (), record.digest, SURFACE, "client", at="")
    return not unmet(record.decision.requirements, (*record.verdicts, approval), record.digest)


def _asking(nonce: str) -> str:
    return f"(asking {nonce})"
