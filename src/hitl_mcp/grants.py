"""What a grant is, which calls it fits, and whether its giver may still give it. No I/O.

A grant approves a class of calls, not bytes: calls of one tool definition by one agent whose arguments its conditions
allow, so many and for so long. Whatever is in doubt does not fit: such a call is held, as it would be without a grant.
How grants are kept and counted stands in `store.grants`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hitl_mcp.calls import (
    Assurance,
    CallRecord,
    Effect,
    Requirement,
    Status,
    ToolCall,
    Verdict,
    VerdictKind,
    objection,
)
from hitl_mcp.canonical import canonical_text
from hitl_mcp.errors import GrantRefused
from hitl_mcp.limits import GRANT_CONDITIONS, GRANT_MINUTES, GRANT_SHAPE_PATHS, GRANT_USES, GRANT_VALUES
from hitl_mcp.people import Reviewer
from hitl_mcp.policy.functions.addresses import address_domain
from hitl_mcp.policy.functions.domains import checked_domain, checked_host
from hitl_mcp.policy.functions.numbers import number
from hitl_mcp.policy.functions.urls import url_host

Op = Literal["equals", "one_of", "starts_with", "ends_with", "at_most", "at_least", "domain_in"]

_EVERY = "*"
"""Stands for any index in the paths of a shape; a member of that name is escaped as `~2`."""

_ESCAPES = (("%2e", "."), ("%2f", "/"), ("%5c", "/"), ("\\", "/"))
"""How else what leads up in a path is written."""


@dataclass(frozen=True)
class Condition:
    """What one argument must be. `path` is a JSON pointer (RFC 6901) into the arguments, `value` a JSON value."""

    path: str
    op: Op
    value: Any


@dataclass(frozen=True)
class Wanted:
    """A grant as a reviewer asks for it: on which call that was shown, under which conditions, and how bounded."""

    call_id: str
    digest: str
    conditions: tuple[Condition, ...]
    uses: int
    minutes: int
    reason: str
    surface: str
    assurance: Assurance


@dataclass(frozen=True)
class Grant:
    """A grant as it stands: its terms, which never change, how often it was used, and why it ended.

    `call_id` and `digest` name the call it was given on. `shape` has the paths of all that this call's arguments had: a
    call that carries more is another kind of call. `roles` are those of its giver that counted.
    """

    id: str
    agent: str
    upstream: str
    tool: str
    name: str
    fingerprint: str
    definition: str
    conditions: tuple[Condition, ...]
    shape: frozenset[str]
    uses: int
    given_by: str
    roles: tuple[str, ...]
    surface: str
    assurance: Assurance
    given_at: str
    expires_at: str
    call_id: str
    digest: str
    reason: str
    used: int = 0
    ended_at: str | None = None
    ended_by: str | None = None
    ended_why: str | None = None

    def over(self, at: str) -> str | None:
        """Why it serves no further call at this time, or None."""
        if self.ended_at is not None:
            return self.ended_why or "it ended"
        if self.expires_at <= at:
            return TIME_OVER
        return USED_UP if self.used >= self.uses else None


TIME_OVER = "its time is over"
USED_UP = "it is used up"


# Which calls a grant fits.


def misfit(grant: Grant, call: ToolCall) -> str | None:
    """Why a call is not one of those that a grant is about, or None where it is.

    # INVARIANT: whatever cannot be told for certain is a misfit.
    """
    if call.runs_elsewhere or call.agent != grant.agent:
        return "it is another agent's, or runs elsewhere"
    if (call.upstream, call.tool, call.name) != (grant.upstream, grant.tool, grant.name):
        return "it is about another tool"
    if call.fingerprint != grant.fingerprint:
        return f"the upstream `{call.upstream}` is another one than when it was given"
    if call.definition != grant.definition:
        return f"the definition of `{call.name}` changed since it was given"
    return unmatched(grant.conditions, grant.shape, call.arguments_json)


def unmatched(conditions: Sequence[Condition], shape: frozenset[str], arguments_json: str) -> str | None:
    """Which condition these argument bytes do not meet, or what else they carry; None where they match."""
    arguments = json.loads(arguments_json)
    for condition in conditions:
        if not holds(condition, arguments):
            return f"`{condition.path}` is not as its condition says"
    about = frozenset(condition.path for condition in conditions)
    more = next((path for path in paths_in(arguments) if path not in shape and path not in about), None)
    return None if more is None else f"it carries `{more}`, which the call that it was given on did not"


def holds(condition: Condition, arguments: Any) -> bool:
    """Whether a condition is true of these arguments; what is absent or of another type is not."""
    try:
        return _HOLDS[condition.op](found_at(condition.path, arguments), condition.value)
    except (ValueError, KeyError, LookupError, TypeError):
        return False


def found_at(path: str, arguments: Any) -> Any:
    """The value that a JSON pointer names.

    Raises:
        LookupError: There is none.
    """
    value = arguments
    for part in path.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value[key]
        elif isinstance(value, list) and key.isascii() and key.isdigit() and str(int(key)) == key:
            value = value[int(key)]
        else:
            raise LookupError(path)
    return value


def paths_in(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all members and entries below a value; every index counts as the same."""
    if isinstance(value, dict):
        for key, inner in value.items():
            below = f"{path}/~2" if key == _EVERY else f"{path}/{_escaped(key)}"
            yield below
            yield from paths_in(inner, below)
    elif isinstance(value, list):
        for inner in value:
            yield f"{path}/{_EVERY}"
            yield from paths_in(inner, f"{path}/{_EVERY}")


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _entries(present: Any) -> list[str]:
    """One text, or the texts of a list that is not empty."""
    entries = [present] if isinstance(present, str) else present
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, str) for entry in entries):
        raise ValueError("neither a text nor a list of texts")
    return entries


def _equals(present: Any, value: Any) -> bool:
    return canonical_text(present) == canonical_text(value)


def _one_of(present: Any, value: list[Any]) -> bool:
    entries = present if isinstance(present, list) else [present]
    return bool(entries) and all(any(_equals(entry, one) for one in value) for entry in entries)


def _starts_with(present: Any, value: str) -> bool:
    return all(_begins(entry, value) for entry in _entries(present))


def _begins(text: str, value: str) -> bool:
    """Whether a text begins so. A path must not lead up again, and the host of a URL is compared whole."""
    if "://" in value and url_host(text) != url_host(value):
        return False
    return text.startswith(value) and not _leads_up(text)


def _leads_up(path: str) -> bool:
    """Whether a part of a path goes back up, so that the path does not end where it begins."""
    plain = path.lower()
    for written, meant in _ESCAPES:
        plain = plain.replace(written, meant)
    return any(part.strip().startswith("..") for part in plain.split("/"))


def _ends_with(present: Any, value: str) -> bool:
    return all(_ends(entry, value) for entry in _entries(present))


def _ends(text: str, value: str) -> bool:
    """Whether a text ends so. What has an `@` must be one bare address; a domain is compared by its parts."""
    if "@" not in text:
        return text.endswith(value)
    domain = address_domain(text)
    if "@" in value:
        return text.endswith(value)
    return domain == value or domain.endswith(value if value.startswith(".") else f".{value}")


def _at_most(present: Any, value: float) -> bool:
    """A negative amount is not a small one."""
    amount = _number(present)
    return amount <= value and (amount >= 0 or value < 0)


def _at_least(present: Any, value: float) -> bool:
    return _number(present) >= value


def _number(present: Any) -> float:
    if isinstance(present, bool) or not isinstance(present, int | float | str):
        raise ValueError("no number")
    return number(present)


def _domain_in(present: Any, value: str | list[str]) -> bool:
    domains = {checked_domain(domain) for domain in _entries(value)}
    return all(_host(entry) in domains for entry in _entries(present))


def _host(text: str) -> str:
    if "://" in text:
        return url_host(text)
    return address_domain(text) if "@" in text else checked_host(text)


_HOLDS = {
    "equals": _equals,
    "one_of": _one_of,
    "starts_with": _starts_with,
    "ends_with": _ends_with,
    "at_most": _at_most,
    "at_least": _at_least,
    "domain_in": _domain_in,
}


# What may be given.


def check_terms(wanted: Wanted) -> None:
    """Refuse terms that are out of bounds, or that no value could meet.

    Raises:
        GrantRefused: They cannot be; it says why.
    """
    if not 1 <= wanted.uses <= GRANT_USES:
        raise GrantRefused(f"`uses` is out of range: `{wanted.uses}`", f"a grant serves 1 to {GRANT_USES} calls")
    if not 1 <= wanted.minutes <= GRANT_MINUTES:
        raise GrantRefused(f"`minutes` is out of range: `{wanted.minutes}`", f"a grant lasts 1 to {GRANT_MINUTES}")
    check_conditions(wanted.conditions)


def check_conditions(conditions: Sequence[Condition]) -> None:
    """Refuse conditions that mean nothing; raises as `check_terms`."""
    if len(conditions) > GRANT_CONDITIONS:
        raise GrantRefused(f"there are more than {GRANT_CONDITIONS} conditions", "say it with fewer")
    for condition in conditions:
        if not condition.path.startswith("/"):
            raise GrantRefused(f"`{condition.path}` is no path", "write a JSON pointer, such as `/to`")
        if (advice := _unfit_value(condition)) is not None:
            raise GrantRefused(f"the value for `{condition.path}` does not go with `{condition.op}`", advice)


def _unfit_value(condition: Condition) -> str | None:
    """What a value must be for its operator, where it is not that."""
    value = condition.value
    match condition.op:
        case "starts_with" | "ends_with":
            return None if isinstance(value, str) and value else "write a text that is not empty"
        case "at_most" | "at_least":
            plain = isinstance(value, int | float) and not isinstance(value, bool)
            return None if plain else "write a number"
        case "one_of":
            return None if _is_list(value) else f"write a list of 1 to {GRANT_VALUES} texts, numbers or `true`/`false`"
        case "domain_in":
            return None if _are_domains(value) else "write a domain such as `example.com`, or a list of them"
    return None


def _is_list(value: Any) -> bool:
    scalars = isinstance(value, list) and all(not isinstance(one, dict | list) for one in value)
    return scalars and 1 <= len(value) <= GRANT_VALUES


def _are_domains(value: Any) -> bool:
    try:
        domains = _entries(value)
        return len(domains) <= GRANT_VALUES and all(bool(checked_domain(domain)) for domain in domains)
    except ValueError:
        return False


def shape_of(arguments_json: str) -> frozenset[str]:
    """The paths of all that arguments have.

    Raises:
        GrantRefused: They are too many.
    """
    shape = frozenset(paths_in(json.loads(arguments_json)))
    if len(shape) > GRANT_SHAPE_PATHS:
        raise GrantRefused("the call has too many arguments for a grant", "approve calls like this one by one")
    return shape


def ungrantable(requirements: Iterable[Requirement]) -> str | None:
    """Why no grant meets these requirements of a held call, as a sentence, or None where one could."""
    needs = tuple(requirements)
    if not needs:
        return "nothing asks for people here, so that there is nothing a grant could meet"
    for need in needs:
        if not need.grantable:
            return f"`{need.id}` asks for people and does not say `grantable: true`"
        if need.quorum > 1:
            return f"`{need.id}` asks for {need.quorum} people, and a grant is one person's"
        if need.assurance == "passkey":
            return f"`{need.id}` asks for a passkey, which signs one call and no grant"
    return None


def why_not_grantable(record: CallRecord) -> str | None:
    """Why nobody can give a grant on this call, as a sentence, or None where somebody could."""
    if record.status is not Status.HELD or record.decision.effect is not Effect.HOLD:
        return "a grant is given on a call that is held"
    if record.call.runs_elsewhere:
        return "the agent's own program runs it, whose definition of the tool is not known here"
    return ungrantable(record.decision.requirements)


def unmet_by(given: Verdict, requirements: Iterable[Requirement]) -> str | None:
    """Why what a giver of a grant says does not meet these requirements, or None where it meets them all."""
    needs = tuple(requirements)
    if (why := ungrantable(needs)) is not None:
        return why
    return next((why for need in needs if (why := objection(given, need)) is not None), None)


def may_grant(record: CallRecord, giver: Reviewer, surface: str, assurance: Assurance) -> bool:
    """Whether this reviewer could give a grant on this call now."""
    return why_not_grantable(record) is None and giving_refused(record, giver, surface, assurance) is None


def giving_refused(record: CallRecord, giver: Reviewer, surface: str, assurance: Assurance) -> str | None:
    """Why this reviewer can give no grant on a call: only who could approve it alone can, and never a client."""
    needs = record.decision.requirements
    given = Verdict(
        kind=VerdictKind.APPROVE,
        reviewer=giver.name,
        roles=giver.roles_for(needs),
        digest=record.digest,
        surface=surface,
        assurance=assurance,
        at=record.created_at,
    )
    return "no grant is given in the agent's own client" if assurance == "client" else unmet_by(given, needs)


def counted_roles(giver: Reviewer, requirements: Iterable[Requirement]) -> tuple[str, ...]:
    """The roles of a giver that requirements ask for: those that a grant depends on."""
    asked = {role for need in requirements for role in need.roles}
    return tuple(sorted(asked.intersection(giver.roles_for(requirements))))


def given_by(grant: Grant, giver: Reviewer, requirements: Iterable[Requirement]) -> Verdict:
    """What a grant says for its giver, as requirements judge it: with the roles that the giver has now."""
    needs = tuple(requirements)
    return Verdict(
        kind=VerdictKind.APPROVE,
        reviewer=grant.given_by,
        roles=giver.roles_for(needs),
        digest=grant.digest,
        surface=grant.surface,
        assurance=grant.assurance,
        at=grant.given_at,
    )


def giver_lost(grant: Grant, giver: Reviewer | None) -> str | None:
    """Why a grant ends with what became of its giver, or None. `giver` is who has the name now."""
    if giver is None:
        return f"`{grant.given_by}`, who gave it, is no reviewer any more"
    if giver.every_role:
        return None
    lost = sorted(set(grant.roles) - giver.roles)
    return f"`{grant.given_by}`, who gave it, has no longer the role `{lost[0]}`" if lost else None


def why_not_served(grant: Grant, giver: Reviewer | None, requirements: Sequence[Requirement]) -> str | None:
    """Why a grant does not meet what is asked now; no requirements ask only that its giver still counts."""
    lost = giver_lost(grant, giver)
    if lost is not None or giver is None:
        return lost
    return unmet_by(given_by(grant, giver, requirements), requirements) if requirements else None


# What a dialog begins with.


def suggested(arguments_json: str) -> tuple[Condition, ...]:
    """Conditions that only this very call meets, one for each value: whoever gives a grant loosens them.

    Where values are many, one for each argument.
    """
    arguments = json.loads(arguments_json)
    values = tuple(_values_in(arguments, ""))
    if len(values) > GRANT_CONDITIONS and isinstance(arguments, dict):
        values = tuple((f"/{_escaped(key)}", value) for key, value in arguments.items())
    return tuple(Condition(path, "equals", value) for path, value in values if path)[:GRANT_CONDITIONS]


def _values_in(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What is no object, or an empty one; a list is one value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _values_in(inner, f"{path}/{_escaped(key)}")
    else:
        yield path, value
