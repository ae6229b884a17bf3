"""Decisions alone: the processor time of deciding a call under a large policy, and the time to load that policy.

Nothing is sent here. Where earlier calls matter, a real store answers what happened before.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from hitl_mcp.calls import Answer, Asked, Decision, ToolCall
from hitl_mcp.canonical import canonical_text
from hitl_mcp.clock import Clock
from hitl_mcp.config import PolicySource
from hitl_mcp.people import People
from hitl_mcp.policy import Policy, Subject, decide, load_policy
from hitl_mcp.policy.history import History, Question
from hitl_mcp.store import SqliteStore
from hitl_mcp.store.sqlite import open_sqlite

TOOLS = 100
EACH = 10
"""Rules and signals that concern one tool: 1,000 of each in the policy."""

EARLIER_CALLS = 500
"""Calls of one agent on record before the first round, in every window that is asked about."""

LOADS = 3
"""Rounds that load the policy too, which takes as long as thousands of decisions."""

TOOL = "up0__pay"

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"amount": {"type": "number"}, "to": {"type": "string"}, "currency": {"type": "string"}},
}

WITH_HISTORY = f"""
  - {{id: burst, tool: {TOOL}, points: 5, velocity: {{per: [agent, tool], window: 1h, above: 100000}}, reason: a burst}}
  - {{id: new-to, tool: {TOOL}, points: 5, novelty: {{of: args.to, per: agent, window: 90d}}, reason: a new receiver}}
  - id: spent
    tool: {TOOL}
    points: 5
    spend: {{of: args.amount, per: agent, window: 1d, low: 1000000, high: 9000000, unit: args.currency}}
    reason: much was spent
budgets:
  - id: daily
    tool: {TOOL}
    sum: args.amount
    unit: args.currency
    limit: {{EUR: 100000000}}
    per: agent
    window: 1d
    over: deny
    reason: the budget is spent
"""


def policy_text(*, remembers: bool) -> str:
    """A policy of 1,000 rules and 1,000 signals with conditions; where it remembers, three signals ask for history."""
    lines = ["version: 1", "rules:"]
    for number in range(TOOLS * EACH):
        tool, place = f"up{number // EACH}__*", number % EACH
        when = "" if place == 0 else f", when: 'args.amount > {10000 + number}.0 && args.to.startsWith(\"x{place}\")'"
        lines.append(
            f"  - {{id: r{number}, tool: {tool}, effect: {'hold' if place else 'allow'}{when}, reason: it is so}}"
        )
    lines.append("signals:")
    for number in range(TOOLS * EACH):
        if remembers and number < 3:
            continue
        tool, low = f"up{number // EACH}__*", 1000 * (number % EACH)
        lines.append(f"  - {{id: s{number}, tool: {tool}, points: 3, when: args.amount > {low}.0, reason: it is much}}")
    return "\n".join(lines) + (WITH_HISTORY if remembers else "\n")


class Decisions:
    """Decides and loads, round by round."""

    def __init__(self, plain: Policy, remembering: Policy, store: SqliteStore, path: Path) -> None:
        self._plain, self._remembering, self._store, self._path = plain, remembering, store, path
        self._plainly = Figure("decide", "10 rules and 10 signals of 1,000, processor time", "µs")
        self._by_history = Figure("decide", "the same with velocity, novelty, spend and a budget, processor time", "µs")
        self._queries = Figure("decide", "what the store takes to answer them, processor time", "µs")
        self._load = Figure("decide", "loading 1,000 rules and 1,000 signals", "s")
        self._numbers = count()

    @property
    def figures(self) -> list[Figure]:
        return [self._plainly, self._by_history, self._queries, self._load]

    def shares(self, gateway_ms: Figure) -> list[Figure]:
        """What deciding is of the gateway's whole processor time for a call, in the rounds that measured both."""
        found = []
        for name, figure in (("deciding", self._plainly), ("deciding with history", self._by_history)):
            rounds = zip(figure.gateway, gateway_ms.gateway, strict=False)
            shares = [micros / (millis * 1000) * 100 for micros, millis in rounds if millis]
            found.append(Figure("decide", f"{name}, of the gateway's processor time a call", "%", gateway=shares))
        return found

    async def warm_up(self) -> None:
        """See that the policy decides as it should, and fill the record with earlier calls."""
        decision = decide(self._plain, self._subject())
        if len(decision.rules) != 1 or len(decision.signals) != 2:
            raise RuntimeError(f"the large policy decides `{decision}`: this would measure something else")
        for _ in range(EARLIER_CALLS):
            await self._remembered()

    async def round(self, calls: int) -> None:
        """Decide so many calls each way; the first rounds load the policy too."""
        subjects = [self._subject() for _ in range(calls)]
        self._plainly.gateway.append(_micros([_cpu_seconds(lambda s=s: decide(self._plain, s)) for s in subjects]))  # type: ignore[misc]
        taken = await self._remembered(calls)
        self._by_history.gateway.append(_micros([alone for alone, _ in taken]))
        self._queries.gateway.append(_micros([whole - alone for alone, whole in taken]))
        if len(self._load.gateway) < LOADS:
            began = time.process_time()
            load_policy([PolicySource(self._path)], People())
            self._load.gateway.append(time.process_time() - began)

    async def _remembered(self, times: int = 1) -> list[tuple[float, float]]:
        """Have a call admitted, deciding it so often: seconds of a decision alone, and with the store's answers."""
        subject = self._subject()
        taken: list[tuple[float, float]] = []

        def decided(history: History) -> Decision:
            said: dict[tuple[str, str], Answer] = {}

            def noted(question: Question) -> Answer:
                return said.setdefault((question.item, question.about), history(question))

            decision = decide(self._remembering, subject, noted)
            taken.extend(self._both_ways(subject, lambda asked: said[asked.item, asked.about], history, times))
            return decision

        call = ToolCall("up0", "pay", TOOL, canonical_text(subject.arguments), subject.agent, "f", "d")
        await self._store.admit(call, Asked("benchmark"), decided, durable=False)
        return taken

    def _both_ways(self, subject: Subject, told: History, history: History, times: int) -> list[tuple[float, float]]:
        """Seconds of deciding by what is known already, and by asking: each in a loop of its own."""
        alone = [_cpu_seconds(lambda: decide(self._remembering, subject, told)) for _ in range(times)]
        whole = [_cpu_seconds(lambda: decide(self._remembering, subject, history)) for _ in range(times)]
        return list(zip(alone, whole, strict=True))

    def _subject(self) -> Subject:
        number = next(self._numbers)
        return Subject(
            upstream="up0",
            labels={"env": "test"},
            tool="pay",
            name=TOOL,
            arguments={"amount": 1500.5, "to": f"receiver {number % 50}", "currency": "EUR", "note": number},
            agent="bench",
            now=datetime.now(UTC),
            input_schema=SCHEMA,
        )


def _cpu_seconds(run: Callable[[], object]) -> float:
    began = time.thread_time()
    run()
    return time.thread_time() - began


def _micros(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1e6


@asynccontextmanager
async def decisions() -> AsyncIterator[Decisions]:
    """Both policies, loaded, and a store of their own."""
    with tempfile.TemporaryDirectory() as folder:
        plain, remembering = Path(folder, "plain.yaml"), Path(folder, "remembering.yaml")
        plain.write_text(policy_text(remembers=False), encoding="utf-8")
        remembering.write_text(policy_text(remembers=True), encoding="utf-8")
        policies = [load_policy([PolicySource(path)], People()) for path in (plain, remembering)]
        async with open_sqlite(Path(folder, "calls.db"), Clock()) as store:
            yield Decisions(policies[0], policies[1], store, plain)
