"""How a policy file is written: its keys, and what may stand at each. What the values mean together is `load`'s.

Kept as it is written, so that a finding can name the place.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from hitl_mcp.documents import Strict, refuse, refuse_all
from hitl_mcp.limits import POLICY_CLOCK_SECONDS, POLICY_REASON_CHARACTERS
from hitl_mcp.policy.conditions import Condition, ConditionRefused
from hitl_mcp.policy.match import names_no_upstream
from hitl_mcp.policy.model import MAXIMUM_SCORE, Clocks
from hitl_mcp.policy.reasons import misplaced_braces

__all__ = ["PolicyFile", "WrittenBand", "WrittenHoldDefaults", "WrittenRule", "WrittenSignal"]

_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_RESERVED_ID = re.compile(r"default\Z|band-[0-9]+\Z")

QUORUM_PEOPLE = 20
"""The most people one call may need; far above any real quorum, and a bound on what `can_meet` is asked."""


def _duration(value: Any) -> Any:
    found = _DURATION.match(value) if isinstance(value, str) else None
    if found is None:
        raise refuse(f"not a duration: `{value}`", "write a number and a unit: `90s`, `30m`, `24h`, `7d`")
    seconds = int(found[1]) * _SECONDS[found[2]]
    if seconds > POLICY_CLOCK_SECONDS:
        raise refuse(f"too long: `{value}`", "nothing waits longer than `365d`")
    return seconds


def _id(value: str) -> str:
    if not _ID.match(value):
        raise refuse(f"not an id: `{value}`", "an id has 1 to 64 letters, digits, `-`, `_` and `.`, and no spaces")
    if _RESERVED_ID.match(value):
        raise refuse(f"the id `{value}` is taken", "`default` and `band-…` name what the policy itself asks for")
    return value


def _tools(value: Any) -> Any:
    """One glob or a list of them, as a list. A finding about the only one stands where it is written."""
    if isinstance(value, str):
        return [_tool(value)]
    if not isinstance(value, list) or not value:
        raise refuse("no tool is named", "write a full name, `<upstream>__<tool>`, or a glob with `*` and `?`")
    return value


def _tool(pattern: str) -> str:
    if names_no_upstream(pattern):
        raise refuse(f"no upstream is named in `{pattern}`", f"write the full name, such as `*__{pattern}`")
    return pattern


def _reason(text: str) -> str:
    if not text.strip():
        raise refuse("the reason is empty", "say why in one sentence: reviewers and agents read it")
    if len(text) > POLICY_REASON_CHARACTERS:
        raise refuse(f"the reason is longer than {POLICY_REASON_CHARACTERS} characters", "say it in one sentence")
    if odd := misplaced_braces(text):
        raise refuse(f"not a place for an argument: `{odd}`", "write `{args.name}`, or `{args.name.inner}`")
    return text


def _whole(least: int, most: int, what: str) -> AfterValidator:
    def within(number: int) -> int:
        if not least <= number <= most:
            raise refuse(f"{what} out of range: `{number}`", f"{what} is a whole number from {least} to {most}")
        return number

    return AfterValidator(within)


def _supported(version: int) -> int:
    if version != 1:
        raise refuse(f"unknown version `{version}`", "this hitl-mcp reads `version: 1`")
    return version


def _no_allow(value: Any) -> Any:
    if value == "allow":
        raise refuse(
            "`default` cannot be `allow`: a call that no rule names must not run unseen",
            "write `hold` or `deny`, and a rule with `effect: allow` for what may run",
        )
    return value


def _compiled(text: Any) -> Condition:
    if not isinstance(text, str) or not text.strip():
        raise refuse("a condition must be text", "write a CEL expression, or leave the key out")
    try:
        return Condition(text)
    except ConditionRefused as refused:
        raise refuse_all(refused.problems) from None


Duration = Annotated[int, BeforeValidator(_duration)]
Id = Annotated[str, AfterValidator(_id)]
Tools = Annotated[list[Annotated[str, AfterValidator(_tool)]], BeforeValidator(_tools)]
Reason = Annotated[str, AfterValidator(_reason)]
Quorum = Annotated[int, _whole(1, QUORUM_PEOPLE, "`quorum`")]
Points = Annotated[int, _whole(0, MAXIMUM_SCORE, "`points`")]
Floor = Annotated[int, _whole(0, MAXIMUM_SCORE, "`from`")]
Compiled = Annotated[Condition | None, BeforeValidator(_compiled)]

# Nothing here may be null: an emptied `when:` must not turn a conditional allow into an unconditional one. What is not
# written has the default below; `model_fields_set` tells the two apart.


class WrittenHoldDefaults(Strict):
    """What a hold asks for where the rule itself does not say."""

    noun: ClassVar[str] = "`hold_defaults`"
    expires: Duration = Clocks().expires_in_seconds
    run_within: Duration = Clocks().run_within_seconds
    roles: list[str] = Field(default_factory=list)


class WrittenBand(Strict):
    """What a score means from here on."""

    noun: ClassVar[str] = "a band"
    floor: Floor = Field(alias="from")
    effect: Literal["hold", "deny"]
    roles: list[str] = Field(default_factory=list)
    quorum: Quorum = 1


class WrittenSignal(Strict):
    """A reason that adds points."""

    noun: ClassVar[str] = "a signal"
    id: Id
    tool: Tools
    points: Points
    reason: Reason
    when: Compiled = None


class WrittenRule(Strict):
    """What happens to some calls."""

    noun: ClassVar[str] = "a rule"
    id: Id
    tool: Tools
    effect: Literal["allow", "hold", "deny"]
    reason: Reason
    when: Compiled = None
    unless: Compiled = None
    roles: list[str] = Field(default_factory=list)
    quorum: Quorum = 1
    expires: Duration = Clocks().expires_in_seconds
    run_within: Duration = Clocks().run_within_seconds


class PolicyFile(Strict):
    """One file of a policy. What its lists hold is read item by item, so that one bad item hides no other."""

    noun: ClassVar[str] = "a policy file"
    version: Annotated[int, AfterValidator(_supported)]
    default: Annotated[Literal["hold", "deny"], BeforeValidator(_no_allow)] = "hold"
    hold_defaults: WrittenHoldDefaults = WrittenHoldDefaults()
    bands: list[Any] = Field(default_factory=list)
    signals: list[Any] = Field(default_factory=list)
    rules: list[Any] = Field(default_factory=list)
