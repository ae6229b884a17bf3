"""What a call is, what may become of it, and the lifecycle table that everything else obeys. No I/O.

A call is what an agent asked to run. The policy gives a *decision*, people give *verdicts*, running it brings an
*outcome*. Only the store changes a status, and only along `LIFECYCLE`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Protocol

from hitl_mcp.canonical import canonical_text, check_value, digest_of
from hitl_mcp.clock import after, from_text, to_text


class Status(StrEnum):
    """Where a call stands."""

    HELD = "held"
    DENIED = "denied"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    INVALIDATED = "invalidated"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"
    RELEASED = "released"


# INVARIANT: a status changes only as written here. `None` stands for a call that has no record yet.
LIFECYCLE: dict[Status | None, frozenset[Status]] = {
    None: frozenset({Status.HELD, Status.DENIED, Status.RUNNING, Status.RELEASED}),
    Status.HELD: frozenset({Status.APPROVED, Status.REJECTED, Status.EXPIRED, Status.WITHDRAWN, Status.INVALIDATED}),
    Status.APPROVED: frozenset(
        {
            *(Status.RUNNING, Status.RELEASED),
            *(Status.REJECTED, Status.EXPIRED, Status.WITHDRAWN, Status.INVALIDATED),
        }
    ),
    Status.RUNNING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.UNKNOWN}),
    Status.UNKNOWN: frozenset({Status.SUCCEEDED, Status.FAILED}),
    Status.DENIED: frozenset(),
    Status.REJECTED: frozenset(),
    Status.EXPIRED: frozenset(),
    Status.WITHDRAWN: frozenset(),
    Status.INVALIDATED: frozenset(),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.RELEASED: frozenset(),
}

OPEN = frozenset({Status.HELD, Status.APPROVED, Status.RUNNING, Status.UNKNOWN})
"""Statuses in which an identical request gets the record that exists."""

WAITING = frozenset({Status.HELD, Status.APPROVED, Status.RUNNING})
"""Statuses in which waiting a little longer may bring news by itself."""


def may_become(old: Status | None, new: Status) -> bool:
    """Whether the lifecycle has this step."""
    return new in LIFECYCLE[old]


class Effect(StrEnum):
    """What a decision says, from the mildest to the strictest."""

    ALLOW = "allow"
    HOLD = "hold"
    DENY = "deny"

    @property
    def strictness(self) -> int:
        return _STRICTNESS[self]


_STRICTNESS = {Effect.ALLOW: 0, Effect.HOLD: 1, Effect.DENY: 2}


@dataclass(frozen=True)
class RuleMatch:
    """A rule's share in a decision. `error` is set where its condition could not be evaluated (it then restricts)."""

    id: str
    effect: Effect
    reason: str
    error: str | None = None


@dataclass(frozen=True)
class SignalMatch:
    """A signal's share in a score: 0-100 points with their reason; `error` as in `RuleMatch`."""

    id: str
    points: int
    reason: str
    error: str | None = None


Assurance = Literal["client", "cli", "link", "slack", "sso", "passkey"]
"""How strongly we know who gave a verdict."""

ASSURANCES: tuple[Assurance, ...] = ("client", "cli", "link", "slack", "sso", "passkey")
"""From the weakest, an agent's client that says somebody approved, to the strongest, a key that signs the digest."""


@dataclass(frozen=True)
class Requirement:
    """What must be met before a held call is approved: `quorum` different reviewers, each with one of `roles`.

    `id` names the rule, the budget, the band (`band-75`), or `default`. No roles means any reviewer, no surfaces any
    surface. A verdict needs at least `assurance`, and whoever is `barred` does not count: the agent's own people.
    `grantable`: its rule lets a reviewer give a grant, which then meets it for later calls.
    """

    id: str
    roles: tuple[str, ...] = ()
    quorum: int = 1
    assurance: Assurance = "client"
    barred: tuple[str, ...] = ()
    surfaces: tuple[str, ...] = ()
    grantable: bool = False


Answer = int | tuple[str, ...]
"""What history said when it was asked: a number of calls, an amount in millionths, or which values are known."""


@dataclass(frozen=True)
class HistoryUsed:
    """What a signal or a budget was told of earlier calls, kept so that the decision can be made again years later."""

    item: str
    about: str
    answer: Answer


@dataclass(frozen=True)
class ReadingCall:
    """A reading call that a rule asks for beside a call: a tool's full name and its arguments.

    `error` says why there are no arguments.
    """

    rule: str
    name: str
    arguments_json: str = "{}"
    error: str | None = None


@dataclass(frozen=True)
class Probe:
    """A reading call that may tell what became of a call of unknown outcome, and how its result is read (CEL)."""

    call: ReadingCall
    happened: str
    did_not: str


@dataclass(frozen=True)
class Preview:
    """What came of a preview: the upstream's own result, or why there is none. `call_id` is the call that it was."""

    rule: str
    name: str
    at: str
    call_id: str | None = None
    result_json: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Mark:
    """What a call leaves for the history that signals and budgets ask later.

    `item` is the signal or budget that counts it, `scope` whose account it is on, `value` the unit of an amount or the
    digest of a value, `amount` in millionths.
    """

    item: str
    scope: str
    value: str = ""
    amount: int = 0


@dataclass(frozen=True)
class Decision:
    """What the policy says of one call, with everything that made it so. `policy` is the policy's version.

    `rules` has the rules and budgets that matched, `shadows` the rules that would have if they were enforced. `durable`
    asks that the record of an allowed call be flushed, too. `marks` go to the store beside the decision, not in it.
    """

    effect: Effect
    score: int
    policy: str
    reasons: tuple[str, ...] = ()
    rules: tuple[RuleMatch, ...] = ()
    signals: tuple[SignalMatch, ...] = ()
    band: str | None = None
    requirements: tuple[Requirement, ...] = ()
    expires_in_seconds: int = 24 * 3600
    run_within_seconds: int = 3600
    undo_seconds: int = 0
    paused: bool = False
    shadows: tuple[RuleMatch, ...] = ()
    history: tuple[HistoryUsed, ...] = ()
    durable: bool = False
    previews: tuple[ReadingCall, ...] = ()
    probes: tuple[Probe, ...] = ()
    marks: tuple[Mark, ...] = field(default=(), compare=False)


class VerdictKind(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True)
class Verdict:
    """What a reviewer said of the bytes that `digest` names, with the roles held at that time.

    `considered_seconds` passed since the reviewer was first shown these bytes; None where nobody knows.
    `assertion_json` is what a verdict by passkey is signed with; it is kept beside the verdict, and not read with it.
    """

    kind: VerdictKind
    reviewer: str
    roles: tuple[str, ...]
    digest: str
    surface: str
    assurance: Assurance
    at: str
    reason: str = ""
    considered_seconds: float | None = None
    assertion_json: str = field(default="", compare=False, repr=False)


def objection(verdict: Verdict, requirement: Requirement) -> str | None:
    """Why an approval does not count towards a requirement, or None where it does."""
    if verdict.reviewer in requirement.barred:
        return f"`{verdict.reviewer}` is one of the agent's own people"
    if requirement.roles and set(requirement.roles).isdisjoint(verdict.roles):
        return f"`{verdict.reviewer}` has none of the roles it needs"
    if ASSURANCES.index(verdict.assurance) < ASSURANCES.index(requirement.assurance):
        return f"`{verdict.assurance}` does not say surely enough who approves: it needs `{requirement.assurance}`"
    if requirement.surfaces and verdict.surface not in requirement.surfaces:
        return f"it is not answered through `{verdict.surface}`"
    # INVARIANT: nobody is known behind a client's word, so it is neither one of several people nor apart from any.
    if verdict.assurance == "client" and (requirement.quorum > 1 or requirement.barred):
        return "what the agent's own client says stands for no second person, and for nobody else's"
    return None


def counts_for(verdict: Verdict, requirement: Requirement) -> bool:
    """Whether a verdict is an approval that counts towards a requirement."""
    return verdict.kind is VerdictKind.APPROVE and objection(verdict, requirement) is None


def approvals_for(requirement: Requirement, verdicts: Iterable[Verdict], digest: str) -> tuple[str, ...]:
    """The different reviewers whose approval of exactly these bytes counts towards a requirement, in order."""
    names: dict[str, None] = {}
    for verdict in verdicts:
        if verdict.digest == digest and counts_for(verdict, requirement):
            names.setdefault(verdict.reviewer)
    return tuple(names)


def unmet(requirements: Sequence[Requirement], verdicts: Sequence[Verdict], digest: str) -> tuple[Requirement, ...]:
    """The requirements that these verdicts do not meet yet."""
    return tuple(
        requirement
        for requirement in requirements
        if len(approvals_for(requirement, verdicts, digest)) < requirement.quorum
    )


@dataclass(frozen=True)
class ToolCall:
    """What an agent asked to run, bound to bytes. Everything here is covered by `digest_for`.

    `arguments_json` and `meta_json` are canonical JSON; `fingerprint` identifies the upstream's command or URL,
    `definition` the tool's full definition as it was shown.
    """

    upstream: str
    tool: str
    name: str
    arguments_json: str
    agent: str
    fingerprint: str
    definition: str
    meta_json: str = "{}"

    @property
    def runs_elsewhere(self) -> bool:
        """Whether the agent's own client runs it, so that it is decided here and `released`, never sent."""
        return self.fingerprint == RUNS_ELSEWHERE


RUNS_ELSEWHERE = "elsewhere"
"""The `fingerprint` of a call that no upstream runs; an upstream's is always a digest."""


class Named(Protocol):
    """What has a name among upstreams' tools, whoever runs it."""

    @property
    def upstream(self) -> str: ...

    @property
    def tool(self) -> str: ...

    @property
    def name(self) -> str: ...


def bound(
    tool: Named,
    arguments: Mapping[str, Any],
    agent: str,
    meta: Mapping[str, Any] | None,
    *,
    fingerprint: str,
    definition: str,
) -> ToolCall:
    """A call of a tool by an agent, bound to bytes.

    Raises:
        ArgumentsRefused: `meta` is not strict JSON.
    """
    return ToolCall(
        upstream=tool.upstream,
        tool=tool.tool,
        name=tool.name,
        arguments_json=canonical_text(arguments),
        agent=agent,
        fingerprint=fingerprint,
        definition=definition,
        meta_json=canonical_text(check_value(dict(meta or {}), "$._meta")),
    )


TRACE_KEYS = frozenset({"traceparent", "tracestate", "baggage"})
"""What of a held call's `_meta` is kept (W3C trace context); the rest is meant for a request that is long over."""


def as_kept(call: ToolCall) -> ToolCall:
    """The call as it is kept for later: its `_meta` without what only mattered to the request."""
    meta = json.loads(call.meta_json)
    return replace(call, meta_json=canonical_text({key: meta[key] for key in meta if key in TRACE_KEYS}))


def digest_for(call: ToolCall, policy: str) -> str:
    """The digest a verdict names: upstream and its fingerprint, tool and definition, bytes, agent, policy version."""
    return digest_of(
        {
            "v": 1,
            "upstream": call.upstream,
            "fingerprint": call.fingerprint,
            "tool": call.tool,
            "definition": call.definition,
            "arguments": call.arguments_json,
            "meta": call.meta_json,
            "agent": call.agent,
            "policy": policy,
        }
    )


def request_key_for(call: ToolCall) -> str:
    """What makes two requests the same: agent, upstream, tool and argument bytes as they were asked."""
    return digest_of([call.agent, call.upstream, call.tool, call.arguments_json])


@dataclass(frozen=True)
class Asked:
    """How a call came to us, beside what it is: for display and for the policy, never for identity.

    `claim` is the agent's own `hitl_reason`. `conversation` groups one agent connection over its reconnects.
    """

    conversation: str
    claim: str = ""


@dataclass(frozen=True)
class Outcome:
    """What running a call brought. `result_json` is the upstream's own answer, kept for approved calls only.

    `executed` is False only where it is certain that nothing was sent.
    """

    status: Literal[Status.SUCCEEDED, Status.FAILED, Status.UNKNOWN]
    executed: bool
    at: str
    detail: str = ""
    result_json: str | None = None
    result_digest: str | None = None
    result_bytes: int | None = None

    @property
    def was_found_out(self) -> bool:
        """Whether nobody heard the tool's answer, and a person or a probe found out what became of the call."""
        return self.executed and self.status is not Status.UNKNOWN and self.result_digest is None


@dataclass(frozen=True)
class Revision:
    """A call as it was before a reviewer edited it: its bytes, what was decided on them, and who edited it when.

    `number` counts from 1, what the agent asked. Once what the call carried is erased, `arguments_json` is `null`.
    """

    number: int
    arguments_json: str
    digest: str
    decision: Decision
    expires_at: str
    edited_by: str
    edited_at: str
    reason: str = ""


STOP_RULE = "stopped by a reviewer"
"""What stands for a rule's id where a call is denied because its agent is stopped. No rule can be called so."""


@dataclass(frozen=True)
class Stop:
    """An agent whose calls are denied where they would be held, until a reviewer releases it; by whom and why.

    `call_id` is the call that was rejected then, or empty.
    """

    agent: str
    by: str
    at: str
    reason: str
    call_id: str = ""


ASKING_ENDED = "asking-ended"
"""The kind of event that says: the agent's client was asked, and what it answered is no verdict."""


@dataclass(frozen=True)
class CallEvent:
    """One step on record. `number` grows over all calls; `by` is who or what made the step.

    Pausing and resuming are events of no call: `call_id` is empty and `status` None.
    """

    number: int
    call_id: str
    version: int
    kind: str
    status: Status | None
    at: str
    by: str
    detail: str = ""


@dataclass(frozen=True)
class CallRecord:
    """A call as it stands in the store. `version` grows with every change; times are `clock.to_text`.

    `grant` is the grant that approved it, so that no person did. `revisions` are what edits replaced, oldest first.
    """

    id: str
    version: int
    status: Status
    call: ToolCall
    asked: Asked
    digest: str
    request_key: str
    decision: Decision
    created_at: str
    changed_at: str
    expires_at: str | None = None
    run_by: str | None = None
    handed_over_at: str | None = None
    repeat_of: str | None = None
    closed_reason: str = ""
    erased_at: str | None = None
    was_resolved: bool = False
    grant: str | None = None
    likeness: str | None = field(default=None, compare=False)
    verdicts: tuple[Verdict, ...] = ()
    outcome: Outcome | None = None
    events: tuple[CallEvent, ...] = field(default=())
    previews: tuple[Preview, ...] = field(default=())
    revisions: tuple[Revision, ...] = field(default=(), compare=False)

    @property
    def starts_at(self) -> str:
        """From when on an approved call may run: until then its approval can be undone."""
        return to_text(after(from_text(self.changed_at), self.decision.undo_seconds))

    @property
    def awaits_its_agent(self) -> bool:
        """Whether it is approved and nothing more happens until its agent asks for it again and runs it itself."""
        return self.status is Status.APPROVED and self.call.runs_elsewhere

    @property
    def was_held(self) -> bool:
        """Whether people were asked: such a record answers identical calls, an allowed one never does."""
        return self.decision.effect is Effect.HOLD

    @property
    def may_be_news(self) -> bool:
        """Whether its end may come while the agent is not there to hear it, so that it has to be told."""
        return self.was_held or self.was_resolved

    @property
    def rejection(self) -> Verdict | None:
        """The verdict that rejected this call, if one did."""
        return next((verdict for verdict in self.verdicts if verdict.kind is VerdictKind.REJECT), None)
