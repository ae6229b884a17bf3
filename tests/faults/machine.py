"""A call's life in every order, with crashes between the steps and in the middle of them, held against a small model.

The store is the real one, the clock is moved by hand. A crash is a copy of the database's files as they lie, opened in
place of the original. What a crash of the whole gateway leaves is told by `crashpoints` and `kills`.
"""

from __future__ import annotations

import asyncio
import shutil
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from hitl_mcp.audit import open_for_reading, verify_database
from hitl_mcp.calls import OPEN, Asked, CallRecord, Effect, Outcome, Requirement, Status, VerdictKind
from hitl_mcp.clock import after
from hitl_mcp.errors import CallAlreadySettled, CallNotFound, DigestMismatch, EditDenied, HitlError
from hitl_mcp.store import Edited, LastLook, SqliteStore, open_sqlite
from tests.clocks import HandClock
from tests.faults.campaign import Campaign, Tally
from tests.faults.crash_checks import read_calls
from tests.samples import admit, allowed, denied, held, tool_call, verdict

EXPIRES_SECONDS, RUN_WITHIN_SECONDS, UNDO_SECONDS, AGE_SECONDS = 6000, 3000, 30, 9000

REVIEWERS = ("dana", "erin", "fred")

ERASED = (Status.SUCCEEDED, Status.DENIED, Status.REJECTED, Status.EXPIRED)

OPEN_TO_PEOPLE = (Status.HELD, Status.APPROVED)

ENDED = Literal[Status.SUCCEEDED, Status.FAILED, Status.UNKNOWN]

ENDS: tuple[ENDED, ...] = (Status.SUCCEEDED, Status.FAILED, Status.UNKNOWN)

_APPROVED = ("somebody_approves", "somebody_approves")
_RUN = (*_APPROVED, "the_executor_claims")

DOINGS: tuple[tuple[str, ...], ...] = (
    ("somebody_approves",),
    ("somebody_rejects",),
    ("somebody_edits",),
    ("somebody_stops_the_agent", "calls_come_and_one_is_released"),
    ("the_agent_withdraws",),
    ("a_check_fails",),
    ("the_executor_claims",),
    ("the_upstream_answers", "the_outcome_is_handed_over"),
    ("the_same_is_asked_again", "the_outcome_is_handed_over"),
    ("somebody_resolves", "the_upstream_answers"),
    (*_APPROVED, "somebody_rejects"),
    ("somebody_approves", "somebody_edits", "somebody_approves", "the_executor_claims"),
    (*_APPROVED, "the_last_look_refuses"),
    (*_APPROVED, "somebody_pauses", "the_executor_claims"),
    ("somebody_resumes", "the_executor_claims"),
    _RUN,
    (*_RUN, "the_upstream_answers"),
    (*_RUN, "the_upstream_answers", "somebody_resolves"),
)
"""What may happen to a call, one after the other: single steps, and ways through a life that chance seldom finds."""


@dataclass(frozen=True)
class Expected:
    """What must be true of a call: the model, in which every step of the lifecycle is a line or two."""

    status: Status
    since: datetime
    quorum: int = 0
    undo_seconds: int = 0
    approvals: frozenset[str] = frozenset()
    of_earlier_bytes: tuple[str, ...] = ()
    edits: int = 0
    rejected_by: str | None = None
    claims: int = 0
    is_told: bool = False
    is_erased: bool = False

    def becomes(self, status: Status, now: datetime, **changes: Any) -> Expected:
        return replace(self, status=status, since=now, **changes)

    @property
    def deadline(self) -> datetime | None:
        seconds = {Status.HELD: EXPIRES_SECONDS, Status.APPROVED: RUN_WITHIN_SECONDS}.get(self.status)
        return after(self.since, seconds) if seconds is not None else None

    def looked_at(self, now: datetime) -> Expected:
        """A call past its time expires when anybody looks at it to change it."""
        late = self.deadline is not None and self.deadline <= now
        return self.becomes(Status.EXPIRED, now) if late else self

    def approved(self, by: str, now: datetime) -> Expected:
        approvals = self.approvals | {by}
        if len(approvals) < self.quorum:
            return replace(self, approvals=approvals)
        return self.becomes(Status.APPROVED, now, approvals=approvals)

    def edited(self, by: str, now: datetime) -> Expected:
        """Whoever edits approves, and nobody else has approved these bytes yet."""
        earlier = (*self.of_earlier_bytes, *self.approvals)
        return replace(self, edits=self.edits + 1, of_earlier_bytes=earlier, approvals=frozenset()).approved(by, now)

    def may_start(self, now: datetime) -> bool:
        return self.status is Status.APPROVED and now >= after(self.since, self.undo_seconds)

    def recovered(self, now: datetime) -> Expected:
        """As it is once a gateway has started after a crash."""
        return self.becomes(Status.UNKNOWN, now) if self.status is Status.RUNNING else self


class Lives(RuleBasedStateMachine):
    """Takes calls through their lives. Subclassed with a folder of its own and the tally it counts in."""

    folder: ClassVar[Path]
    tally: ClassVar[Tally]
    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.clock = HandClock()
        self.model: dict[str, Expected] = {}
        self.paused = False
        self.is_stopped = False
        self.asked = 0
        self.lives = 0
        self.place = self.folder / f"machine-{self.tally.counts['histories']}"
        self.tally.count("histories")
        self._open()

    # The store and its crashes.

    def _open(self) -> None:
        self.place.mkdir(exist_ok=True)
        self.stack = AsyncExitStack()
        opening = open_sqlite(self._file(), self.clock)
        self.store: SqliteStore = self.loop.run(self.stack.enter_async_context(opening))
        self.loop.run(self.store.recover())

    def _file(self) -> Path:
        return self.place / f"{self.lives}.db"

    def _copy_as_it_lies(self) -> None:
        """What is left of the database if this process ends now becomes the next one."""
        left = self._file()
        self.lives += 1
        with closing(open_for_reading(left)) as reader:
            # Whoever reads keeps the log from being begun anew while it is copied.
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM settings").fetchone()
            shutil.copyfile(left, self._file())
            shutil.copyfile(f"{left}-wal", f"{self._file()}-wal")
        shutil.copyfile(f"{left}.key", f"{self._file()}.key")

    def _reopen(self) -> None:
        self.loop.run(self.stack.aclose())
        self._open()
        now = self.clock.now()
        self.model = {call_id: call.looked_at(now).recovered(now) for call_id, call in self.model.items()}

    def teardown(self) -> None:
        self.loop.run(self.stack.aclose())
        self.loop.close()
        shutil.rmtree(self.place)

    @rule(crashes=st.booleans())
    def the_gateway_ends(self, crashes: bool) -> None:
        """By itself, or in the middle of its life; it is started again."""
        self.tally.count("crashes between steps" if crashes else "restarts")
        if crashes:
            self._copy_as_it_lies()
        self._reopen()

    @rule(
        call_id=calls, ticks=st.integers(0, 3), what=st.sampled_from(("approve", "edit", "claim", "settle", "withdraw"))
    )
    def the_gateway_crashes_in_the_middle(self, call_id: str, ticks: int, what: str) -> None:
        """The step is in the record, whole, or it is not."""
        self.tally.count("crashes in the middle of a step")
        before, now = self.model[call_id].looked_at(self.clock.now()), self.clock.now()
        record = self._get(call_id)
        steps: dict[str, tuple[Callable[[], Awaitable[object]], bool, Callable[[], Expected]]] = {
            "approve": (
                lambda: self.store.add_verdict(call_id, verdict(record.digest, reviewer="gina")),
                before.status is Status.HELD and "gina" not in before.approvals,
                lambda: before.approved("gina", now),
            ),
            "edit": (
                lambda: self.store.verdicts.edit(call_id, verdict(record.digest, reviewer="gina"), self._edit(record)),
                before.status is Status.HELD,
                lambda: before.edited("gina", now),
            ),
            "claim": (
                lambda: self.store.claim(record, lambda history: LastLook(None)),
                before.may_start(now) and not self.paused,
                lambda: before.becomes(Status.RUNNING, now, claims=before.claims + 1),
            ),
            "settle": (
                lambda: self.store.settle(call_id, _outcome(Status.FAILED, record), durable=False),
                before.status is Status.RUNNING,
                lambda: before.becomes(Status.FAILED, now),
            ),
            "withdraw": (
                lambda: self.store.withdraw(call_id, "builder"),
                before.status in OPEN_TO_PEOPLE,
                lambda: before.becomes(Status.WITHDRAWN, now),
            ),
        }
        step, is_possible, changed = steps[what]

        async def cut_off() -> None:
            stepping = asyncio.ensure_future(step())
            for _ in range(ticks):
                await asyncio.sleep(0)
            self._copy_as_it_lies()
            await asyncio.gather(stepping, return_exceptions=True)

        self.loop.run(cut_off())
        self._reopen()
        possible = [before, changed()] if is_possible else [before]
        possible = [one.recovered(now) for one in possible]
        found = read_calls(self._file())[call_id]
        fitting = [one for one in possible if not _differences(one, found)]
        assert fitting, (what, possible, found)
        self.tally.count("steps that a crash took back", is_possible and fitting[0] == possible[0])
        self.model[call_id] = fitting[0]

    # What agents do.

    @initialize(target=calls)
    def some_calls_are_held(self) -> Any:
        return multiple(*(self.a_call_is_held(quorum, undo) for quorum in (1, 2) for undo in (0, UNDO_SECONDS)))

    @rule(target=calls, chance=st.integers(0, 5))
    def calls_come(self, chance: int) -> Any:
        """One that is held always; another that is not."""
        one = self.a_call_is_held(1 + chance % 2, UNDO_SECONDS if chance > 3 else 0)
        return multiple(one, self.a_call_is_denied() if chance == 0 else self.a_call_is_allowed())

    def a_call_is_held(self, quorum: int, undo: int) -> str:
        needs = Requirement("mail-out", quorum=quorum)
        decision = held(
            needs, expires_in_seconds=EXPIRES_SECONDS, run_within_seconds=RUN_WITHIN_SECONDS, undo_seconds=undo
        )
        call = Expected(Status.HELD, self.clock.now(), quorum=quorum, undo_seconds=undo)
        return self._ask(decision, call)

    def a_call_is_allowed(self) -> str:
        return self._ask(allowed(), Expected(Status.RUNNING, self.clock.now(), claims=1))

    def a_call_is_denied(self) -> str:
        return self._ask(denied(), Expected(Status.DENIED, self.clock.now()))

    def _ask(self, decision: Any, call: Expected) -> str:
        self.asked += 1
        asking = admit(self.store, tool_call(arguments_json=f'{{"n":{self.asked}}}'), Asked("conv"), decision)
        admission = self.loop.run(asking)
        assert not admission.repeat
        # Whatever is asked in a pause is denied; of a stopped agent, whatever people would be asked about.
        refused = self.paused or (self.is_stopped and call.status is Status.HELD)
        self.model[admission.record.id] = replace(call, status=Status.DENIED, claims=0) if refused else call
        return admission.record.id

    def the_same_is_asked_again(self, call_id: str, chance: int) -> None:
        """While a call that people are asked about is open, the same request gets it, and no second one."""
        call = self.model[call_id].looked_at(self.clock.now())
        record = self._get(call_id)
        if record.decision.effect is not Effect.HOLD or call.status not in OPEN or call.is_erased:
            return
        first = record.revisions[0].arguments_json if record.revisions else record.call.arguments_json
        asking = admit(self.store, replace(record.call, arguments_json=first), Asked("conv"), record.decision)
        admission = self.loop.run(asking)
        assert (admission.repeat, admission.record.id) == (True, call_id)

    def the_agent_withdraws(self, call_id: str, chance: int) -> None:
        if chance % 3 == 0:  # what is not this agent's does not exist for it, and nothing comes of asking
            assert isinstance(self._try(self.store.withdraw(call_id, "somebody")), CallNotFound)
            return
        call, now = self._look(call_id), self.clock.now()
        tried = self._try(self.store.withdraw(call_id, "builder"))
        if call.status in OPEN_TO_PEOPLE:
            assert isinstance(tried, CallRecord)
            self.model[call_id] = call.becomes(Status.WITHDRAWN, now)
        else:
            assert isinstance(tried, CallAlreadySettled)

    def the_outcome_is_handed_over(self, call_id: str, chance: int) -> None:
        self.loop.run(self.store.hand_over(call_id))
        self.model[call_id] = replace(self.model[call_id], is_told=True)

    # What people do.

    def somebody_approves(self, call_id: str, chance: int) -> None:
        by, sees = REVIEWERS[chance % 3], "something else" if chance == 3 else "it"
        call = self._look(call_id)
        digest = self._get(call_id).digest if sees == "it" else "sha256:" + "9" * 64
        tried = self._try(self.store.add_verdict(call_id, verdict(digest, reviewer=by)))
        if call.status is Status.HELD and sees != "it":
            assert isinstance(tried, DigestMismatch)
        elif call.status is Status.HELD and by not in call.approvals:
            assert isinstance(tried, CallRecord)
            self.model[call_id] = call.approved(by, self.clock.now())
            self.tally.count("approvals")
        else:
            assert isinstance(tried, CallAlreadySettled)

    def somebody_rejects(self, call_id: str, chance: int) -> None:
        by = REVIEWERS[chance % 3]
        call = self._look(call_id)
        tried = self._try(
            self.store.add_verdict(call_id, verdict(self._get(call_id).digest, VerdictKind.REJECT, reviewer=by))
        )
        if call.status in OPEN_TO_PEOPLE:
            assert isinstance(tried, CallRecord)
            approvals = call.approvals - {by}
            self.model[call_id] = call.becomes(Status.REJECTED, self.clock.now(), approvals=approvals, rejected_by=by)
        else:
            assert isinstance(tried, CallAlreadySettled)

    def somebody_edits(self, call_id: str, chance: int) -> None:
        """Other bytes, approved by who wrote them and by nobody else; or nothing, where the policy denies them."""
        by, is_denied = REVIEWERS[chance % 3], chance == 4
        call, record = self._look(call_id), self._get(call_id)
        said = verdict(record.digest, reviewer=by)
        tried = self._try(self.store.verdicts.edit(call_id, said, self._edit(record, is_denied=is_denied)))
        if call.status is not Status.HELD:
            assert isinstance(tried, CallAlreadySettled)
        elif is_denied:
            assert isinstance(tried, EditDenied)
        else:
            assert isinstance(tried, CallRecord)
            self.model[call_id] = call.edited(by, self.clock.now())
            self.tally.count("edits")

    def _edit(self, record: CallRecord, *, is_denied: bool = False) -> Edited:
        self.asked += 1
        decided = denied() if is_denied else record.decision
        return Edited(record.digest, f'{{"n":{self.asked}}}', lambda history: decided, lambda needs: ())

    def somebody_stops_the_agent(self, call_id: str, chance: int) -> None:
        self.loop.run(self.store.stops.stop("builder", "dana", "enough"))
        self.is_stopped = True
        self.tally.count("stops")

    def calls_come_and_one_is_released(self, call_id: str, chance: int) -> None:
        """While the agent is stopped, what people would be asked about is denied, and what runs by itself runs."""
        self.a_call_is_held(1, 0)
        self.a_call_is_allowed()
        self.loop.run(self.store.stops.release("builder", "dana"))
        self.is_stopped = False

    def somebody_resolves(self, call_id: str, chance: int) -> None:
        happened = chance % 2 == 0
        call, status = self.model[call_id], Status.SUCCEEDED if happened else Status.FAILED
        outcome = Outcome(status, happened, "2026-11-22T12:00:00.000000Z", "looked")  # type: ignore[arg-type]
        assert self.loop.run(self.store.resolve(call_id, outcome, "reviewer:dana")) is (call.status is Status.UNKNOWN)
        if call.status is Status.UNKNOWN:
            self.model[call_id] = call.becomes(status, self.clock.now(), is_told=False)
            self.tally.count("unknown calls resolved")

    def somebody_pauses(self, call_id: str, chance: int) -> None:
        self.loop.run(self.store.pause("dana", "lunch"))
        self.paused = True

    def somebody_resumes(self, call_id: str, chance: int) -> None:
        self.loop.run(self.store.resume("dana"))
        self.paused = False

    # What the gateway does.

    def the_executor_claims(self, call_id: str, chance: int) -> None:
        """At most once, and only what is approved, past its time to undo, and not paused."""
        call, record, now = self._look(call_id), self._get(call_id), self.clock.now()
        claimed = self.loop.run(self.store.claim(record, lambda history: LastLook(None)))
        again = self.loop.run(self.store.claim(record, lambda history: LastLook(None)))
        assert ((claimed is not None), again) == (call.may_start(now) and not self.paused, None)
        if claimed is not None:
            self.model[call_id] = call.becomes(Status.RUNNING, now, claims=call.claims + 1)
            self.tally.count("claims")

    def the_last_look_refuses(self, call_id: str, chance: int) -> None:
        call, now = self._look(call_id), self.clock.now()
        assert self.loop.run(self.store.claim(self._get(call_id), lambda history: LastLook("no more"))) is None
        if call.may_start(now) and not self.paused:
            self.model[call_id] = call.becomes(Status.INVALIDATED, now)

    def a_check_fails(self, call_id: str, chance: int) -> None:
        call = self._look(call_id)
        self.loop.run(self.store.invalidate(call_id, "its tool changed"))
        if call.status in OPEN_TO_PEOPLE:
            self.model[call_id] = call.becomes(Status.INVALIDATED, self.clock.now())

    def the_upstream_answers(self, call_id: str, chance: int) -> None:
        """Only what runs is settled, and only once: a second answer changes nothing."""
        status, durable = ENDS[chance % 3], chance % 2 == 0
        call = self.model[call_id]
        outcome = _outcome(status, self._get(call_id))
        first = self.loop.run(self.store.settle(call_id, outcome, durable=durable))
        second = self.loop.run(self.store.settle(call_id, outcome, durable=durable))
        assert (first, second) == (call.status is Status.RUNNING, False)
        if first:
            self.model[call_id] = call.becomes(status, self.clock.now())
            self.tally.count("outcomes")

    @rule(
        seconds=st.sampled_from((UNDO_SECONDS, 1, RUN_WITHIN_SECONDS, EXPIRES_SECONDS, AGE_SECONDS)),
        sweeps=st.sampled_from(("nothing", "expiry", "retention", "both")),
    )
    def time_goes_by(self, seconds: int, sweeps: str) -> None:
        """And the clocks are looked at, or not yet."""
        self.clock.forward(seconds)
        if sweeps in ("expiry", "both"):
            self.what_is_due_expires()
        for status in ERASED if sweeps in ("retention", "both") else ():
            self.retention_sweeps(status)

    def what_is_due_expires(self) -> None:
        now = self.clock.now()
        swept = {call_id: call.looked_at(now) for call_id, call in self.model.items()}
        ended = sum(swept[call_id] != call for call_id, call in self.model.items())
        assert self.loop.run(self.store.expire_due()) == ended
        self.model = swept
        self.tally.count("calls expired by the clock", ended)

    def retention_sweeps(self, status: Status) -> None:
        due = {
            call_id
            for call_id, call in self.model.items()
            if call.status is status and not call.is_erased and after(call.since, AGE_SECONDS) <= self.clock.now()
        }
        erased, more = 0, True
        while more:
            batch = self.loop.run(self.store.erase_batch(status, AGE_SECONDS))
            erased, more = erased + batch.erased, batch.more
        assert erased == len(due)
        for call_id in due:
            self.model[call_id] = replace(self.model[call_id], is_erased=True)
        self.tally.count("calls erased", erased)

    # All of these.

    @rule(doings=st.lists(st.tuples(calls, st.sampled_from(DOINGS), st.integers(0, 7)), min_size=2, max_size=6))
    def things_happen(self, doings: list[tuple[str, tuple[str, ...], int]]) -> None:
        self.happen(doings)

    @rule(doings=st.lists(st.tuples(calls, st.sampled_from(DOINGS), st.integers(0, 7)), min_size=2, max_size=6))
    def more_happens(self, doings: list[tuple[str, tuple[str, ...], int]]) -> None:
        """A rule of its own, so that chance finds it as often as what ends a life."""
        self.happen(doings)

    def happen(self, doings: list[tuple[str, tuple[str, ...], int]]) -> None:
        """Do these steps one after the other."""
        for call_id, doing, chance in doings:
            for number, step in enumerate(doing):
                getattr(self, step)(call_id, chance + number)
                self.every_call_is_as_the_model_says()

    # What is true after every step.

    @invariant()
    def every_call_is_as_the_model_says(self) -> None:
        self.tally.count("steps")
        assert (self.store.paused is not None) is self.paused
        calls = read_calls(self._file())
        for call_id, call in self.model.items():
            assert not (wrong := _differences(call, calls[call_id])), (wrong, call, calls[call_id])

    @invariant()
    def the_chain_verifies(self) -> None:
        with closing(open_for_reading(self._file())) as connection:
            report = verify_database(connection)
        assert not report.findings, report.findings
        assert report.unlinked == 0

    def _get(self, call_id: str) -> CallRecord:
        return self.loop.run(self.store.get(call_id))

    def _look(self, call_id: str) -> Expected:
        """The call as it is once somebody has looked at it to change it."""
        self.model[call_id] = self.model[call_id].looked_at(self.clock.now())
        return self.model[call_id]

    def _try(self, step: Any) -> object:
        """What a step gave, or why it was refused."""

        async def trying() -> object:
            try:
                return await step
            except HitlError as refusal:
                return refusal

        return self.loop.run(trying())


def _outcome(status: ENDED, record: CallRecord) -> Outcome:
    """An outcome; the result of a call that people approved is kept."""
    if status is Status.UNKNOWN:
        return Outcome(status, True, "2026-11-22T12:00:00.000000Z", "no answer came")
    body = '{"content":[]}'
    kept = body if record.was_held else None
    result = ("sha256:" + sha256(body.encode()).hexdigest(), len(body))
    return Outcome(status, True, "2026-11-22T12:00:00.000000Z", "", kept, *result)


def _differences(call: Expected, found: dict[str, Any]) -> list[str]:
    """In what a record is not what it must be."""
    given = Counter((one["reviewer"], one["kind"]) for one in found["verdicts"])
    wanted = Counter((name, "approve") for name in (*call.approvals, *call.of_earlier_bytes))
    if call.rejected_by is not None:
        wanted[call.rejected_by, "reject"] += 1
    kinds = Counter(event["kind"] for event in found["events"])
    has_ended = call.status in (Status.SUCCEEDED, Status.FAILED, Status.UNKNOWN)
    told = [
        ("status", found["status"] == call.status),
        ("verdicts", given == wanted),
        ("edits", kinds["edited"] == call.edits),
        ("claims", kinds["running"] + (found["effect"] == "allow") == call.claims),
        ("handed over", (found["handed_over_at"] is not None) is call.is_told),
        ("erased", (found["erased_at"] is not None, kinds["erased"]) == (call.is_erased, call.is_erased)),
        ("arguments", (found["arguments_json"] == "null") is call.is_erased),
        ("outcome", (found["outcome_at"] is not None) is has_ended),
    ]
    return [what for what, is_right in told if not is_right]


BROKEN = "a history that breaks the model"


def run(rounds: int, seed_number: int, folder: Path) -> Tally:
    """Play so many histories of some dozens of steps each."""
    tally = Tally()
    tally.never(BROKEN)
    machine = seed(seed_number)(type("Here", (Lives,), {"folder": folder, "tally": tally}))
    chosen = settings(
        max_examples=rounds,
        stateful_step_count=16,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    try:
        run_state_machine_as_test(machine, settings=chosen)
    except Exception as error:
        notes = "\n".join(getattr(error, "__notes__", ()))
        tally.breach(BROKEN, f"seed {seed_number}: {''.join(traceback.format_exception_only(error))}\n{notes}")
    return tally


CAMPAIGN = Campaign(
    "machine", "a call's life in every order, with crashes between and within its steps", short=20, long=2_000, run=run
)
