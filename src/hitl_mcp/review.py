"""The one door for verdicts: every surface gives them here, and nowhere else is a verdict made.

It says who the reviewer is and with which roles; whether the verdict counts is the store's to decide, in the same
transaction that writes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hitl_mcp.calls import Assurance, CallRecord, Outcome, Requirement, Status, Stop, Verdict, VerdictKind
from hitl_mcp.clock import Clock, to_text
from hitl_mcp.edits import Edits, Fit, Problem
from hitl_mcp.errors import ArgumentsRefused, EditRefused, NotAllowed
from hitl_mcp.grants import Grant, Wanted
from hitl_mcp.limits import VERDICT_REASON_CHARACTERS
from hitl_mcp.people import People, Reviewer, client_of
from hitl_mcp.store import Edited, PassedOn, Planned, SqliteStore, already_settled, passed_on


@dataclass(frozen=True)
class Given:
    """A verdict as a surface hands it in: what was said of the bytes that `digest` names, by whom and where."""

    kind: VerdictKind
    digest: str
    reviewer: str
    surface: str
    assurance: Assurance
    reason: str = ""
    assertion_json: str = field(default="", repr=False)
    considered_seconds: float | None = None
    arguments_json: str | None = None
    """The arguments that are approved in place of those that were shown."""
    stop: bool = False
    """Whether a rejection stops the agent, too."""


@dataclass(frozen=True)
class Tried:
    """What an edit would make of a call: what is wrong with it, or what the policy and people would say of it."""

    problems: tuple[Problem, ...]
    planned: Planned | None


@dataclass(frozen=True)
class Passing:
    """A call that a reviewer passes on to a role, and why."""

    digest: str
    role: str
    reviewer: str
    reason: str = ""


@dataclass(frozen=True)
class Found:
    """What a person found out about a call whose outcome was unknown: whether it happened, and how they know."""

    happened: bool
    evidence: str
    reviewer: str
    surface: str


class Review:
    """Takes verdicts from every surface."""

    def __init__(self, store: SqliteStore, people: People, clock: Clock, edits: Edits | None = None) -> None:
        self._store = store
        self._people = people
        self._clock = clock
        self._edits = edits

    async def give_verdict(self, call_id: str, given: Given) -> CallRecord:
        """Write a verdict and return the call as it now stands; when it returns, the verdict is on disk.

        Raises:
            CallNotFound: No call has this id.
            CallAlreadySettled: The call can no longer be decided; `status` is the true one.
            DigestMismatch: The reviewer was shown other bytes than the call has.
            NotAllowed: This person is no reviewer, or has no role this call asks for.
            BudgetSpent: This person approved as many calls within the hour as one may.
            ArgumentsRefused, EditRefused, EditDenied: It is an edit, and cannot be taken.
        """
        record = await self._store.get(call_id)
        reviewer = self._client(given, record) if given.assurance == "client" else self._reviewer(given.reviewer)
        verdict = Verdict(
            kind=given.kind,
            reviewer=reviewer.name,
            roles=reviewer.roles_for(record.decision.requirements),
            digest=given.digest,
            surface=given.surface,
            assurance=given.assurance,
            at=to_text(self._clock.now()),
            reason=given.reason[:VERDICT_REASON_CHARACTERS],
            assertion_json=given.assertion_json,
            considered_seconds=given.considered_seconds,
        )
        at_most = self._people.budget_of(reviewer.name)
        if given.arguments_json is None:
            return await self._store.verdicts.add(call_id, verdict, at_most, stop=given.stop)
        if given.kind is not VerdictKind.APPROVE or given.assurance == "client":
            raise EditRefused(call_id, "only a reviewer's approval changes arguments")
        edited = self._edited(record, given.digest, given.arguments_json, reviewer)
        if not isinstance(edited, Edited):
            more = "".join(f"; {one.path}: {one.message}" for one in edited[1:])
            raise ArgumentsRefused(edited[0].path, edited[0].message + more)
        return await self._store.verdicts.edit(call_id, verdict, edited, at_most)

    async def try_edit(self, call_id: str, digest: str, arguments_json: str, reviewer: str) -> Tried:
        """What an edit would make of a call; nothing is changed by asking.

        Raises:
            CallNotFound, CallAlreadySettled, DigestMismatch, NotAllowed: As `give_verdict`.
            EditRefused: It cannot be edited, or not like this.
        """
        record = await self._store.get(call_id)
        if record.status is not Status.HELD:
            raise already_settled(record)
        edited = self._edited(record, digest, arguments_json, self._reviewer(reviewer))
        if not isinstance(edited, Edited):
            return Tried(edited, None)
        return Tried((), await self._store.verdicts.try_edit(call_id, edited))

    def _edited(
        self, record: CallRecord, digest: str, arguments_json: str, reviewer: Reviewer
    ) -> Edited | tuple[Problem, ...]:
        if self._edits is None:
            raise EditRefused(record.id, "no tools are known here")
        fit = self._edits.fit(record, arguments_json)
        return Edited(digest, fit.arguments_json, fit.decide, reviewer.roles_for) if isinstance(fit, Fit) else fit

    async def pass_on(self, call_id: str, passing: Passing) -> CallRecord:
        """Ask a role, too, beside what the policy asks for; what was approved before still counts.

        Raises:
            CallNotFound, CallAlreadySettled, DigestMismatch: As `give_verdict`.
            NotAllowed: Nobody has this role who may approve it, or this person is no reviewer.
        """
        by = self._reviewer(passing.reviewer)
        record = await self._store.get(call_id)
        if record.status is not Status.HELD:
            raise already_settled(record)
        need: Requirement = passed_on(record, passing.role)
        if not self._people.can_meet(need):
            raise NotAllowed(
                f"cannot pass call `{call_id}` on to `{passing.role}`: nobody has this role who may approve it",
                help="choose a role that the config gives to a reviewer",
            )
        reason = passing.reason[:VERDICT_REASON_CHARACTERS]
        return await self._store.verdicts.pass_on(call_id, PassedOn(passing.digest, need, by.name, reason))

    async def stop_agent(self, agent: str, reviewer: str, reason: str) -> Stop:
        """Deny what an agent asks for where it would be held, until it is released; what is held already stays."""
        return await self._store.stops.stop(agent, self._reviewer(reviewer).name, reason[:VERDICT_REASON_CHARACTERS])

    async def release_agent(self, agent: str, reviewer: str) -> None:
        """Let an agent go on. Raises `NotStopped` where it is not stopped."""
        await self._store.stops.release(agent, self._reviewer(reviewer).name)

    async def resolve(self, call_id: str, found: Found) -> CallRecord:
        """Settle a call of unknown outcome by what a person found out; return it as it now stands.

        Raises:
            CallNotFound: No call has this id.
            CallAlreadySettled: Its outcome is not unknown; `status` is the true one.
            NotAllowed: This person is no reviewer.
        """
        reviewer = self._reviewer(found.reviewer)
        happened = "it happened" if found.happened else "it did not happen"
        outcome = Outcome(
            status=Status.SUCCEEDED if found.happened else Status.FAILED,
            executed=True,
            at=to_text(self._clock.now()),
            detail=f"{happened}, as {reviewer.name} found: {found.evidence[:VERDICT_REASON_CHARACTERS]}",
        )
        if not await self._store.resolve(call_id, outcome, f"reviewer:{reviewer.name}"):
            raise already_settled(await self._store.get(call_id))
        return await self._store.get(call_id)

    async def give_grant(self, wanted: Wanted, giver: str) -> Grant:
        """Give a grant on a held call; raises as `store.grants.give`."""
        return await self._store.grants.give(wanted, self._reviewer(giver))

    async def revoke_grant(self, grant_id: str, by: str, reason: str) -> Grant:
        """End a grant; any reviewer may. Raises as `store.grants.revoke`."""
        return await self._store.grants.revoke(grant_id, self._reviewer(by).name, reason)

    def _client(self, given: Given, record: CallRecord) -> Reviewer:
        """Who answers where the agent's own client asks: never one of the people, whatever the client says."""
        client = client_of(record.call.agent)
        if given.reviewer != client.name:
            raise NotAllowed(f"`{given.reviewer}` is not the client that asked for call `{record.id}`")
        return client

    def _reviewer(self, name: str) -> Reviewer:
        reviewer = self._people.reviewer(name)
        if reviewer is None:
            raise NotAllowed(f"`{name}` is not a reviewer", help="the config names reviewers under `reviewers`")
        return reviewer
