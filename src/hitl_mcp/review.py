"""The one door for verdicts: every surface gives them here, and nowhere else is a verdict made.

It says who the reviewer is and with which roles; whether the verdict counts is the store's to decide, in the same
transaction that writes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from hitl_mcp.calls import Assurance, CallRecord, Verdict, VerdictKind
from hitl_mcp.clock import Clock, to_text
from hitl_mcp.errors import NotAllowed
from hitl_mcp.limits import VERDICT_REASON_CHARACTERS
from hitl_mcp.people import People
from hitl_mcp.store import SqliteStore


@dataclass(frozen=True)
class Given:
    """A verdict as a surface hands it in: what was said of the bytes that `digest` names, by whom and where."""

    kind: VerdictKind
    digest: str
    reviewer: str
    surface: str
    assurance: Assurance
    reason: str = ""


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
        reviewer = self._people.reviewer(given.reviewer)
        if reviewer is None:
            raise NotAllowed(
                f"`{given.reviewer}` is not a reviewer", help="the config names reviewers under `reviewers`"
            )
        record = await self._store.get(call_id)
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
