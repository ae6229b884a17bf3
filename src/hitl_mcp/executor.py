"""The one place that runs a tool: check, claim, send once, record.

An allowed call arrives with its `running` record already committed. An approved call is found in the store, checked
against what its reviewers saw, claimed by one guarded update, and only then sent. Nothing is ever sent a second time.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import Any, Literal

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from hitl_mcp.calls import CallEvent, CallRecord, Effect, Outcome, Status
from hitl_mcp.canonical import canonical_text
from hitl_mcp.catalog import Catalog, Entry
from hitl_mcp.clock import Clock, from_text, to_text
from hitl_mcp.decider import Decider
from hitl_mcp.errors import NotNow, NotSent, OutcomeUnknown, StoreError, TooManyHeld, UpstreamRefused
from hitl_mcp.grants import Grant
from hitl_mcp.limits import CANCEL_ANSWER_SECONDS
from hitl_mcp.offers import Offer, Offers, as_tool_result, method_of
from hitl_mcp.policy.history import History
from hitl_mcp.store import Feed, FeedBehind, LastLook, SqliteStore
from hitl_mcp.upstreams import Asker, Send, Upstream, Upstreams, patient, resting

logger = logging.getLogger(__name__)

LARGE_RESULT_BYTES = 1024 * 1024
"""Of more than this the digest is taken beside the event loop, which is free meanwhile."""

Progress = Callable[[float, float | None, str | None], Awaitable[None]]


@dataclass(eq=False)
class Run:
    """A request on its way through the gate, for whoever asked it.

    `recorded` is set once `record` (or `error`) is there; `finished` once an allowed call ended; `news` then, too, and
    by whoever has something else to say to who waits for it. An allowed call's
    result lives only here, never in the store. `limit_seconds` is how long it may take where that is less than usual.
    `asker` is the client that waits for it, and may be asked what the upstream wants to know meanwhile.
    """

    recorded: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    record: CallRecord | None = None
    repeat: bool = False
    error: StoreError | TooManyHeld | None = None
    outcome: Outcome | None = None
    result: dict[str, Any] | None = None
    refusal: UpstreamRefused | None = None
    cancel_requested: bool = False
    limit_seconds: float | None = None
    asker: Asker | None = None
    sending: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def starts_now(self) -> bool:
        """Whether the policy allowed this very request, so that it runs without anyone being asked."""
        return self.record is not None and not self.repeat and self.record.status is Status.RUNNING


class Executor:
    """Runs allowed and approved calls in the gateway's own task group, whoever is still waiting for them."""

    def __init__(
        self,
        store: SqliteStore,
        upstreams: Upstreams,
        catalog: Catalog,
        decider: Decider,
        clock: Clock,
        tasks: TaskGroup,
    ) -> None:
        self._store = store
        self._upstreams = upstreams
        self._offers = Offers(upstreams)
        self._catalog = catalog
        self._decider = decider
        self._clock = clock
        self._tasks = tasks
        self._in_hand: set[str] = set()
        self._sending: set[str] = set()
        self._one_less = anyio.Event()
        self._news = anyio.Event()
        self._progress: dict[str, list[Progress]] = {}

    # Allowed calls.

    async def run_allowed(self, run: Run) -> None:
        """Send a call whose `running` record was just committed, and settle it."""
        record = run.record
        if record is None:
            return
        try:
            if run.cancel_requested:
                run.outcome = self._unsent("cancelled before it was sent")
            else:
                await self._send(record, run)
            if run.outcome is not None:
                await self._store.settle(record.id, _without_result(run.outcome), durable=False)
        except NotNow:
            # It ran, and the agent is told how at once; the record follows as soon as it can be written.
            self._tasks.start_soon(self._settle_later, record.id, run.outcome)
        except Exception:
            # It ran, and the agent is told how; what cannot be written stays `running` and is `unknown` at boot.
            logger.exception("call %s: the outcome cannot be written", record.id)
        finally:
            run.finished.set()
            run.news.set()

    async def _settle_later(self, call_id: str, outcome: Outcome | None) -> None:
        if outcome is not None:
            try:
                await self._settle_in_time(call_id, _without_result(outcome), durable=False)
            except StoreError:
                logger.exception("call %s: the outcome cannot be written", call_id)

    async def _settle_in_time(self, call_id: str, outcome: Outcome, *, durable: bool) -> None:
        """Write what a call brought, and where it cannot be written now, as soon as it can."""
        while True:
            try:
                await self._store.settle(call_id, outcome, durable=durable)
            except NotNow:
                logger.warning("call %s: its outcome cannot be written yet", call_id)
                await self._store.after_failure()
            else:
                return

    def cancel(self, run: Run) -> None:
        """Pass the agent's cancel of an allowed call on to the upstream, which may still answer for 5 s."""
        if not run.cancel_requested and not run.finished.is_set():
            run.cancel_requested = True
            self._tasks.start_soon(self._pass_cancel, run)

    async def _pass_cancel(self, run: Run) -> None:
        upstream = self._upstreams.get(run.record.call.upstream) if run.record else None
        if run.record is not None and upstream is not None:
            await upstream.cancel(run.record.id)
        with anyio.move_on_after(CANCEL_ANSWER_SECONDS):
            await run.finished.wait()
        run.sending.cancel()

    # Approved calls.

    async def run_approved(self) -> None:
        """Run approved calls as they appear, for ever: those the last life left, then each as it is approved."""
        self._catalog.on_change(self._look_again)
        with self._store.follow(_may_let_something_run) as feed:
            self._tasks.start_soon(self._wake, feed)
            while True:
                self._news = anyio.Event()
                try:
                    page = await self._store.list_calls({Status.APPROVED}, limit=1000)
                except StoreError:
                    logger.exception("the approved calls cannot be read")
                    await self._store.after_failure()
                    continue
                for record in reversed(page.calls):
                    if self._may_start(record):
                        self._in_hand.add(record.id)
                        self._tasks.start_soon(self._run_one, record)
                with anyio.move_on_after(self._seconds_to_next_start(page.calls)):
                    await self._news.wait()

    def _seconds_to_next_start(self, approved: Iterable[CallRecord]) -> float | None:
        """How long until the first approval that could still be undone stands; None where there is no such."""
        now = self._clock.now()
        waits = [(from_text(record.starts_at) - now).total_seconds() for record in approved]
        return min((seconds for seconds in waits if seconds > 0), default=None)

    def _look_again(self) -> None:
        self._news.set()

    async def _wake(self, feed: Feed) -> None:
        while True:
            with suppress(FeedBehind):
                await feed.next()
            self._look_again()

    def _may_start(self, record: CallRecord) -> bool:
        """Whether to try now; a call that must wait stays approved, for as long as its `run_by` allows.

        # INVARIANT: what an agent's own client runs is never ours to run, whatever an upstream may be called today.
        """
        if record.call.runs_elsewhere:
            return False
        upstream = self._upstreams.get(record.call.upstream)
        waits_for_upstream = upstream is not None and upstream.state != "ready"
        if record.id in self._in_hand or self._store.paused is not None or waits_for_upstream:
            return False
        return record.starts_at <= to_text(self._clock.now())

    async def _run_one(self, record: CallRecord) -> None:
        try:
            claimed = await self._store.claim(record, partial(self._last_look, record), self._decider.stands)
            if claimed is None:
                self._look_again()  # it changed since it was read, or a pause came in between and may be over again
            else:
                run = Run(record=claimed)
                await self._send(claimed, run)
                if run.outcome is not None:
                    await self._settle_in_time(claimed.id, run.outcome, durable=True)
        except NotNow:
            # Nothing was sent: the claim was refused. It stays approved, and is tried again for as long as it may run.
            logger.warning("call %s: it cannot be claimed yet", record.id)
            await self._store.after_failure()
            self._look_again()
        except Exception:
            logger.exception("call %s: the record cannot be written", record.id)
        finally:
            self._in_hand.discard(record.id)

    async def end_grants(self) -> int:
        """At boot: end the grants whose giver or upstream is another one in the config of today."""
        return await self._store.grants.end_where(lambda grant: self._decider.stands(grant, ()) or self._another(grant))

    def _another(self, grant: Grant) -> str | None:
        upstream = self._upstreams.get(grant.upstream)
        same = upstream is not None and upstream.fingerprint == grant.fingerprint
        return None if same else f"the upstream `{grant.upstream}` is another one than when it was given"

    def _known(self, name: str) -> Entry | Offer | None:
        return self._catalog.find_by_name(name) or self._offers.find(name)

    def _why_invalid(self, record: CallRecord) -> str | None:
        """Why an approved call is no longer what was shown, or None."""
        call = record.call
        entry = self._known(call.name)
        upstream = self._upstreams.get(call.upstream)
        if upstream is None or upstream.fingerprint != call.fingerprint:
            return f"the upstream `{call.upstream}` is another one than was shown"
        if entry is None:
            return f"the tool `{call.name}` is no longer there"
        if entry.blocked is not None:
            return entry.blocked
        if entry.definition != call.definition:
            return f"the definition of `{call.name}` changed since it was shown"
        return None

    def _last_look(self, record: CallRecord, history: History) -> LastLook:
        """Check an approved call and decide it again, as the claim takes it. Runs on the store's thread."""
        reason, entry = self._why_invalid(record), self._known(record.call.name)
        if reason is not None or entry is None:
            return LastLook(reason or f"the tool `{record.call.name}` is no longer there")
        return self._decider.look_again(entry, record, history)

    # Sending.

    async def drain(self, seconds: float) -> None:
        """Wait until nothing is running, at most this long."""
        with anyio.move_on_after(seconds):
            while self._sending:
                self._one_less = anyio.Event()
                await self._one_less.wait()

    async def _send(self, record: CallRecord, run: Run) -> None:
        """Send a call whose `running` record is committed, once, and leave in `run` what came of it."""
        upstream = self._upstreams.get(record.call.upstream)
        if upstream is None:
            run.outcome = self._unsent(f"there is no upstream `{record.call.upstream}`")
            return
        seconds = min(upstream.config.timeout_seconds, run.limit_seconds or upstream.config.timeout_seconds)
        run.sending.deadline = anyio.current_time() + seconds
        self._sending.add(record.id)
        try:
            with run.sending:
                await self._answer(upstream, record, run)
        finally:
            self._sending.discard(record.id)
            self._one_less.set()
        if run.sending.cancelled_caught:
            why = "cancelled, and no answer came" if run.cancel_requested else f"no answer within {seconds:g} s"
            left = upstream.has_sent(record.id)
            run.outcome = self._outcome(Status.UNKNOWN, why) if left else self._unsent(why)

    async def _answer(self, upstream: Upstream, record: CallRecord, run: Run) -> None:
        call = record.call
        send = Send(
            call_id=record.id,
            tool=call.tool,
            arguments_json=call.arguments_json,
            meta=json.loads(call.meta_json),
            method=method_of(call),
            conversation=record.asked.conversation,
            asker=patient(run.asker, run.sending) if run.asker is not None else None,
            on_progress=self._tell_progress(record.id),
            on_late=partial(self._answered_late, record),
        )
        try:
            answer = await upstream.send(send)
            run.result = answer if send.method == "tools/call" else as_tool_result(answer)
            run.outcome = await self._outcome_of(run.result)
        except NotSent as error:
            run.outcome = self._unsent(error.message)
        except UpstreamRefused as error:
            run.refusal = error
            run.outcome = await self._outcome_of(error)
        except OutcomeUnknown as error:
            run.outcome = self._outcome(Status.UNKNOWN, error.message)
        except Exception:
            # Whatever else went wrong, it may have gone wrong after the send.
            logger.exception("call %s: running it failed", record.id)
            run.outcome = self._outcome(Status.UNKNOWN, "the gateway failed while it ran")

    async def _outcome_of(self, answer: dict[str, Any] | UpstreamRefused) -> Outcome:
        """What an upstream's answer says became of a call. No cancel comes between the answer and this."""
        if isinstance(answer, UpstreamRefused):
            refused = {"content": [{"type": "text", "text": answer.message}], "isError": True}
            return await self._with_result(self._outcome(Status.FAILED, answer.message), refused)
        if answer.get("isError") is True:
            return await self._with_result(self._outcome(Status.FAILED, "the tool answered with an error"), answer)
        return await self._with_result(self._outcome(Status.SUCCEEDED, ""), answer)

    async def _with_result(self, outcome: Outcome, result: dict[str, Any]) -> Outcome:
        """An outcome with what was answered. A large answer is taken in steps, between which others have their turn."""
        async with resting():
            text = canonical_text(result)
            body = text.encode("utf-8")
        if len(body) > LARGE_RESULT_BYTES:
            with anyio.CancelScope(shield=True):
                digest = await anyio.to_thread.run_sync(_digest, body)
        else:
            digest = _digest(body)
        return replace(outcome, result_json=text, result_digest=digest, result_bytes=len(body))

    # Late answers.

    def _answered_late(self, record: CallRecord, answer: dict[str, Any] | UpstreamRefused) -> None:
        self._tasks.start_soon(self._settle_late, record, answer)

    async def _settle_late(self, record: CallRecord, answer: dict[str, Any] | UpstreamRefused) -> None:
        """Settle a call of unknown outcome by the answer to its very send, which came when nobody waited any more."""
        outcome = await self._outcome_of(answer)
        outcome = replace(outcome, detail=": ".join(filter(None, ("the upstream answered late", outcome.detail))))
        if record.decision.effect is Effect.ALLOW:
            outcome = _without_result(outcome)
        try:
            with anyio.move_on_after(CANCEL_ANSWER_SECONDS):  # it may have come before `unknown` was written
                while record.status is Status.RUNNING:
                    record = await self._store.wait_for_change(record.id, record.version, CANCEL_ANSWER_SECONDS)
            settled = await self._store.resolve(record.id, outcome, f"upstream:{record.call.upstream}")
            logger.info("call %s was answered late%s", record.id, "" if settled else ": it was settled already")
        except StoreError:
            logger.exception("call %s: its late answer cannot be recorded", record.id)

    def _unsent(self, detail: str) -> Outcome:
        return Outcome(Status.FAILED, executed=False, at=to_text(self._clock.now()), detail=detail)

    def _outcome(self, status: Literal[Status.SUCCEEDED, Status.FAILED, Status.UNKNOWN], detail: str) -> Outcome:
        return Outcome(status=status, executed=True, at=to_text(self._clock.now()), detail=detail)

    # Progress.

    @contextmanager
    def progress_of(self, call_id: str, listener: Progress) -> Iterator[None]:
        """Pass a call's progress to `listener` while this is open, from whichever run sends it."""
        listeners = self._progress.setdefault(call_id, [])
        listeners.append(listener)
        try:
            yield
        finally:
            listeners.remove(listener)
            if not listeners:
                self._progress.pop(call_id, None)

    def _tell_progress(self, call_id: str) -> Progress:
        async def tell(progress: float, total: float | None, message: str | None) -> None:
            for listener in tuple(self._progress.get(call_id, ())):
                await listener(progress, total, message)

        return tell


def _digest(body: bytes) -> str:
    return "sha256:" + sha256(body).hexdigest()


def _may_let_something_run(event: CallEvent) -> bool:
    return event.status is Status.APPROVED or event.kind == "resumed"


def _without_result(outcome: Outcome) -> Outcome:
    """Of allowed calls only the digest and size of the result are kept."""
    return replace(outcome, result_json=None)
