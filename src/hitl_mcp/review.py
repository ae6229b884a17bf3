"""The one door for verdicts: every surface gives them here, and nowhere else is a verdict made.

It says who the reviewer is and with which roles; whether the verdict counts is the store's to decide, in the same
transaction that writes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from hitl_mcp.calls import Assurance, CallRecord, Outcome, Status, Verdict, VerdictKind
from hitl_mcp.clock import Clock, to_text
from hitl_mcp.errors import NotAllowed
from hitl_mcp.limits import VERDICT_REASON_CHARACTERS
from hitl_mcp.people import People, Reviewer, client_of
from hitl_mcp.store import SqliteStore, already_settled


@dataclass(frozen=True)
class Given:
    """A verdict as a surface hands it in: what was said of the bytes that `digest` names, by whom and where."""

    kind: VerdictKind
    digest: str
    reviewer: str
    surface: str
    assurance: Assurance
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

    def __init__(self, store: SqliteStore, people: People, clock: Clock) -> None:
        self._store = store
        self._people = people
        self._clock = clock

    async def give_verdict(self, call_id: str, given: Given) -> CallRecord:
        """Write a verdict and return the call as it now stands; when it returns, the verdict is on disk.

        Raises:
            CallNotFound: No call has this id.
            CallAlreadySettled: The call can no longer be decided; `status` is the true one.
            DigestMismatch: The reviewer was shown other bytes than the call has.
            NotAllowed: This person is no reviewer, or has no role this call asks for.
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
        )
        return await self._store.add_verdict(call_id, verdict)

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
