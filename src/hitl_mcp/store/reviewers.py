"""What the verdicts tell of those who gave them: how many approvals within the hour, and how a week of them looks."""

from __future__ import annotations

from dataclasses import dataclass

from hitl_mcp.calls import Verdict, VerdictKind
from hitl_mcp.clock import after, for_people, from_text, to_text
from hitl_mcp.errors import BudgetSpent
from hitl_mcp.store.access import Access, Life
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction

HOUR_SECONDS = 3600
WEEK_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class Answered:
    """One verdict of a week: by whom, whether it approved, and how long they had looked, where that is known."""

    reviewer: str
    approved: bool
    considered_seconds: float | None


def check_budget(txn: Transaction, life: Life, verdict: Verdict, at_most: int | None) -> BudgetSpent | None:
    """Why this verdict is one approval too many within the hour, or None. Rejections always pass.

    # INVARIANT: counted in the transaction that writes the verdict: two at once never both take the last one.
    """
    if at_most is None or verdict.kind is not VerdictKind.APPROVE:
        return None
    query = {"reviewer": verdict.reviewer, "since": to_text(after(life.now, -HOUR_SECONDS)), "at_most": at_most}
    row = txn.connection.execute(sql("approval_before_budget"), query).fetchone()
    if row is None:
        return None
    return BudgetSpent(verdict.reviewer, at_most, for_people(to_text(after(from_text(row["at"]), HOUR_SECONDS))))


@dataclass(frozen=True)
class ReviewersRead:
    """Reads what the verdicts tell of reviewers."""

    access: Access

    async def approvals_left(self, reviewer: str, at_most: int) -> int:
        """How many approvals a reviewer has left within the hour."""
        since = to_text(after(self.access.clock.now(), -HOUR_SECONDS))
        rows = await self.access.rows("approvals_since", {"reviewer": reviewer, "since": since})
        return max(0, at_most - int(rows[0]["count"]))

    async def week(self) -> list[Answered]:
        """Every verdict of the last seven days, by reviewer, the oldest first."""
        since = to_text(after(self.access.clock.now(), -WEEK_SECONDS))
        rows = await self.access.rows("verdicts_since", {"since": since}, long=True)
        approve = VerdictKind.APPROVE
        return [Answered(row["reviewer"], row["kind"] == approve, row["considered_seconds"]) for row in rows]
