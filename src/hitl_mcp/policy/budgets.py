"""Whether a call still fits into a budget. No I/O: the store says what is spent, and takes what the call asks for.

A budget that cannot be read is exceeded.
"""

from __future__ import annotations

from dataclasses import dataclass

from hitl_mcp.calls import Mark
from hitl_mcp.policy.conditions import ABSENT, Broken, Facts
from hitl_mcp.policy.history import MILLIONTHS, About, Asking, Question, millionths_as_text
from hitl_mcp.policy.model import Budget
from hitl_mcp.policy.signals import amount_of, scope_of, unit_of, window_as_text

__all__ = ["Taken", "take"]


@dataclass(frozen=True)
class Taken:
    """What a call asks of a budget: whether that is more than is left, why, and the mark that takes it."""

    budget: Budget
    exceeded: bool
    found: str = ""
    error: str | None = None
    marks: tuple[Mark, ...] = ()


def take(budget: Budget, facts: Facts, asking: Asking) -> Taken | None:
    """Read a budget for one call; None where the call asks nothing of it."""
    amount = MILLIONTHS if budget.of is None else budget.of.value(facts)
    unit = unit_of(budget.unit, facts)
    if amount is ABSENT:
        return None
    amount = amount if budget.of is None else amount_of(amount)
    if isinstance(amount, Broken) or isinstance(unit, Broken):
        return Taken(budget, exceeded=True, error=next(bad.why for bad in (amount, unit) if isinstance(bad, Broken)))
    limit = budget.limits.get(unit)
    if limit is None:
        return Taken(budget, exceeded=True, error=f"it has no limit for `{unit}`")
    scope = scope_of(budget.per, facts)
    spent = asking.number(Question(budget.id, About.TAKEN, scope, budget.window_seconds, (unit,)))
    return Taken(
        budget,
        exceeded=spent + amount > limit,
        found=_found(budget, amount, spent, limit, unit),
        marks=(Mark(budget.id, scope, unit, amount),),
    )


def _found(budget: Budget, amount: int, spent: int, limit: int, unit: str) -> str:
    window = window_as_text(budget.window_seconds)
    if budget.of is None:
        return f"{millionths_as_text(spent)} of {millionths_as_text(limit)} calls within {window} are taken"
    asked, left, whole = (
        millionths_as_text(one) + (f" {unit}" if unit else "") for one in (amount, max(0, limit - spent), limit)
    )
    fits = "fits" if spent + amount <= limit else "does not fit"
    return f"{asked} {fits} into the {left} that are left of {whole} within {window}"
