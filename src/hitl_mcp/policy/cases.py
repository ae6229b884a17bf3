"""Runs the cases that stand beside the rules: does the policy say of each call what was written down? No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hitl_mcp.calls import Answer, Decision
from hitl_mcp.canonical import digest_of
from hitl_mcp.policy.decide import decide
from hitl_mcp.policy.history import About, History, Question, in_millionths
from hitl_mcp.policy.model import Case, Policy
from hitl_mcp.policy.subject import Subject

__all__ = ["CaseResult", "Schemas", "given_history", "run_case", "unexercised"]

Schemas = Callable[[str], dict[str, Any] | None]
"""The input schema of a tool by its full name, where it is known."""


@dataclass(frozen=True)
class CaseResult:
    """What the policy said of a case, and where that is not what was expected."""

    case: Case
    decision: Decision
    problems: tuple[str, ...]


def run_case(policy: Policy, case: Case, schemas: Schemas = lambda name: None) -> CaseResult:
    """Decide the call of a case and compare."""
    decision = decide(policy, _subject(case, schemas), given_history(case.given))
    return CaseResult(case, decision, tuple(_problems(case, decision)))


def unexercised(policy: Policy, results: list[CaseResult]) -> tuple[str, ...]:
    """The ids of rules, signals and budgets that matched in no case, in the order they were written."""
    seen = {match.id for result in results for match in (*result.decision.rules, *result.decision.shadows)}
    seen |= {match.id for result in results for match in result.decision.signals}
    ids = [rule.id for rule in policy.rules]
    ids += [signal.id for signal in policy.signals]
    ids += [budget.id for budget in policy.budgets]
    return tuple(id for id in ids if id not in seen)


def _subject(case: Case, schemas: Schemas) -> Subject:
    upstream, _, tool = case.tool.partition("__")
    return Subject(
        upstream=upstream,
        labels=case.labels,
        tool=tool,
        name=case.tool,
        arguments=dict(case.arguments),
        agent=case.agent,
        now=case.now,
        input_schema=schemas(case.tool),
        owner=case.owner,
    )


def _problems(case: Case, decision: Decision) -> list[str]:
    problems = []
    if decision.effect is not case.effect:
        problems.append(f"the policy says `{decision.effect}`, not `{case.effect}`: {'; '.join(decision.reasons)}")
    matched = {match.id for match in (*decision.rules, *decision.shadows)}
    problems += [f"rule `{id}` did not match" for id in case.rules if id not in matched]
    scored = {match.id for match in decision.signals}
    problems += [f"signal `{id}` added nothing" for id in case.signals if id not in scored]
    if case.score is not None and decision.score != case.score:
        points = ", ".join(f"{match.id} +{match.points}" for match in decision.signals) or "no signal"
        problems.append(f"the score is {decision.score}, not {case.score}: {points}")
    return problems


def given_history(given: Mapping[str, Any]) -> History:
    """History as a case writes it: for each signal or budget what it is told, and nothing for the others."""

    def answer(question: Question) -> Answer:
        told = given.get(question.item)
        if question.about is About.KNOWN:
            return tuple(digest_of(value) for value in told) if isinstance(told, list) else ()
        if isinstance(told, dict):
            told = told.get(question.values[0] if question.values else "")
        if question.about in (About.SPENT, About.TAKEN):
            return in_millionths(told) or 0
        return int(told) if isinstance(told, int) else 0

    return answer
