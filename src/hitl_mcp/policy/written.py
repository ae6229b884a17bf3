"""How a policy file is written: its keys, and what may stand at each. What the values mean together is `load`'s.

Kept as it is written, so that a finding can name the place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from hitl_mcp.calls import Assurance
from hitl_mcp.documents import Strict, one_of, refuse, refuse_all
from hitl_mcp.limits import CONDITION_CHARACTERS, POLICY_CLOCK_SECONDS, POLICY_REASON_CHARACTERS
from hitl_mcp.policy import meant
from hitl_mcp.policy.conditions import Condition, ConditionRefused, Expression, ResultCondition
from hitl_mcp.policy.history import LARGEST_AMOUNT, in_millionths
from hitl_mcp.policy.match import names_no_upstream, offer_parts
from hitl_mcp.policy.model import MAXIMUM_SCORE, Clocks
from hitl_mcp.policy.reasons import misplaced_braces

__all__ = [
    "MEASURES",
    "PolicyFile",
    "WrittenBand",
    "WrittenBudget",
    "WrittenCase",
    "WrittenHoldDefaults",
    "WrittenRule",
    "WrittenSignal",
]

_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_ONE_TOOL = re.compile(r"[a-z][a-z0-9-]*__[^*?]+\Z")
_RESERVED_ID = re.compile(r"default\Z|band-[0-9]+\Z")

_PER = ("agent", "tool", "upstream")
_PER_WORDS = ", ".join(f"`{word}`" for word in _PER)

MOST_CALLS = 1_000_000
"""More calls than any window of a velocity signal is about."""

QUORUM_PEOPLE = 20
"""The most people one call may need; far above any real quorum, and a bound on what `can_meet` is asked."""


def _duration(value: Any) -> Any:
    found = _DURATION.match(value) if isinstance(value, str) else None
    if found is None:
        raise refuse(f"not a duration: `{value}`", f"{meant.duration(str(value))}: `90s`, `30m`, `24h`, `7d`")
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
    for sign, message, advice in meant.NOT_A_GLOB:
        if sign.search(pattern):
            raise refuse(f"{message}: `{pattern}`", advice)
    if not pattern:
        raise refuse("no tool is named", "write a full name, `<upstream>__<tool>`, or a glob with `*` and `?`")
    if names_no_upstream(pattern):
        raise refuse(f"no upstream is named in `{pattern}`", f"write the full name, such as `*__{pattern}`")
    return pattern


def _one_call(name: str) -> str:
    """What a case is about: one tool, or one resource or prompt."""
    is_one_offer = offer_parts(name) is not None and "*" not in name and "?" not in name
    return name if is_one_offer else _one_tool(name)


def _one_tool(name: str) -> str:
    if not names_no_upstream(name) and not _ONE_TOOL.match(name):
        raise refuse(f"not one tool: `{name}`", "write a full name, `<upstream>__<tool>`, without `*` and `?`")
    return _tool(name)


def _reason(text: str) -> str:
    if not text.strip():
        raise refuse("the reason is empty", "say why in one sentence: reviewers and agents read it")
    if len(text) > POLICY_REASON_CHARACTERS:
        raise refuse(f"the reason is longer than {POLICY_REASON_CHARACTERS} characters", "say it in one sentence")
    if odd := misplaced_braces(text):
        raise refuse(f"not a place for an argument: `{odd}`", "write `{args.name}`, or `{args.name.inner}`")
    if found := meant.OTHER_BRACES.search(text):
        name = found[0].strip("${ }").removeprefix("args.")
        raise refuse(f"not a place for an argument: `{found[0]}`", f"write `{{args.{name}}}`")
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


_ASK = "ask about `args`, `tool`, `upstream`, `agent` or `now`, or leave the key out"


def _compiled(text: Any) -> Condition:
    if isinstance(text, bool):
        raise refuse("this is the same for every call", _ASK)
    if not isinstance(text, str) or not text.strip():
        raise refuse("a condition must be text", "write a CEL expression, or leave the key out")
    try:
        condition = Condition(text)
    except ConditionRefused as refused:
        raise refuse_all(refused.problems) from None
    if condition.constant:
        raise refuse("this is the same for every call", _ASK)
    return condition


def _of_result(text: Any) -> ResultCondition:
    if not isinstance(text, str) or not text.strip():
        raise refuse(
            "a condition must be text", "write what the result must say: `result.structuredContent.paid == true`"
        )
    try:
        return ResultCondition(text)
    except ConditionRefused as refused:
        raise refuse_all(refused.problems) from None


def _expression(text: Any) -> Expression:
    if not isinstance(text, str) or not text.strip():
        raise refuse("this must be an expression", "write where the value stands in the call: `args.amount`")
    try:
        return Expression(text)
    except ConditionRefused as refused:
        raise refuse_all(refused.problems) from None


def _of_call(text: Any) -> Expression:
    """What differs from call to call."""
    expression = _expression(text)
    if expression.constant:
        raise refuse("this is the same for every call", "write where the value stands in the call: `args.amount`")
    return expression


def _amount(text: Any) -> Expression:
    expression = _of_call(text)
    if expression.gives not in ("int", "double", "uint", "dyn"):
        raise refuse(f"an amount must be a number, not {_GIVES.get(expression.gives, 'this')}", "write `args.amount`")
    return expression


def _unit(text: Any) -> Expression:
    if isinstance(text, str) and re.fullmatch(r"[A-Z]{2,5}", text):
        raise refuse(
            f"`{text}` is no part of a call", f"write `args.currency`, or `'\"{text}\"'` for one unit everywhere"
        )
    expression = _expression(text)
    if expression.gives not in ("string", "dyn"):
        raise refuse(f"a unit must be a text, not {_GIVES.get(expression.gives, 'this')}", "write `args.currency`")
    return expression


_GIVES = {
    "bool": "true or false",
    "string": "a text",
    "int": "a number",
    "double": "a number",
    "timestamp": "a time",
    "duration": "a duration",
}
"""The types of CEL in words."""


def _per(value: Any) -> Any:
    """One word or a list of them, as a list without repetitions, in one order."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise refuse(
            "`per` must be a word or a list of words", f"the words are {_PER_WORDS}; `[]` is all calls together"
        )
    for word in words:
        if word not in _PER:
            raise refuse(f"unknown word `{word}` in `per`", one_of(word, _PER, "words"))
    return [word for word in _PER if word in words]


def _limits(value: Any) -> Any:
    """A number, or numbers by unit, as amounts in millionths by unit."""
    if isinstance(value, Mapping):
        if not value:
            raise refuse("no limit is written", "write one for each unit: `{EUR: 100}`")
        return {str(unit): _limit(number) for unit, number in value.items()}
    return {"": _limit(value)}


def _limit(number: Any) -> int:
    amount = in_millionths(number)
    if amount is None and isinstance(number, int | float) and not isinstance(number, bool):
        message = "a limit cannot be negative" if number < 0 else "a limit this large is none"
        raise refuse(f"{message}: `{number}`", f"a limit is from 0 to {LARGEST_AMOUNT}")
    if amount is None:
        raise refuse("a limit must be a number", meant.limit(number))
    return amount


def _something(value: Any) -> Any:
    """Refuses an emptied key: it must not turn a growing signal into none, or a sum into a count."""
    if value is None:
        raise refuse("nothing is written here", "leave the key out, or write what it is about")
    return value


def _only_true(value: Any) -> Any:
    if value is not True:
        raise refuse("`count` is `true` or not there", "write `count: true` for a number of calls, `sum` for an amount")
    return value


def _above_nothing(number: float) -> float:
    if in_millionths(number) in (None, 0):
        raise refuse(f"out of range: `{number:g}`", "a signal grows from `low`, above 0, to `high`")
    return number


def _moment(value: Any) -> Any:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise refuse("not a time with a zone", 'write `"2026-11-22T14:00:00Z"`')
    return moment


_CEL = {"type": "string", "pattern": r"\S", "maxLength": CONDITION_CHARACTERS}
_GLOB = {"type": "string", "minLength": 1}
_PER_WORD = {"enum": list(_PER)}
_LIMIT = {"type": "number", "minimum": 0}


def _schema(**keywords: Any) -> WithJsonSchema:
    """What the validators in front of it ask for, as editors read it; see `schema`."""
    return WithJsonSchema(keywords)


def _or_list(item: dict[str, Any], least: int) -> WithJsonSchema:
    return _schema(anyOf=[item, {"type": "array", "items": item, "minItems": least}])


def _range(least: int, most: int) -> WithJsonSchema:
    return _schema(type="integer", minimum=least, maximum=most)


Duration = Annotated[int, BeforeValidator(_duration), _schema(type="string", pattern="^[1-9][0-9]{0,8}[smhd]$")]
Id = Annotated[
    str,
    AfterValidator(_id),
    _schema(type="string", pattern="^(?!(default|band-[0-9]+)$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),
]
Tools = Annotated[list[Annotated[str, AfterValidator(_tool)]], BeforeValidator(_tools), _or_list(_GLOB, 1)]
Reason = Annotated[
    str, AfterValidator(_reason), _schema(type="string", pattern=r"\S", maxLength=POLICY_REASON_CHARACTERS)
]
Quorum = Annotated[int, _whole(1, QUORUM_PEOPLE, "`quorum`"), _range(1, QUORUM_PEOPLE)]
Points = Annotated[int, _whole(0, MAXIMUM_SCORE, "`points`"), _range(0, MAXIMUM_SCORE)]
Floor = Annotated[int, _whole(0, MAXIMUM_SCORE, "`from`"), _range(0, MAXIMUM_SCORE)]
Score = Annotated[int, _whole(0, MAXIMUM_SCORE, "`score`"), _range(0, MAXIMUM_SCORE)]
_written = BeforeValidator(_something)
Calls = Annotated[int, _whole(0, MOST_CALLS, "`above`"), _range(0, MOST_CALLS)]
Compiled = Annotated[Condition | None, BeforeValidator(_compiled), WithJsonSchema(_CEL)]
OfResult = Annotated[ResultCondition, BeforeValidator(_of_result), WithJsonSchema(_CEL)]
Value = Annotated[Expression, BeforeValidator(_expression), WithJsonSchema(_CEL)]
ValueOf = Annotated[Expression, BeforeValidator(_of_call), WithJsonSchema(_CEL)]
AmountOf = Annotated[Expression, BeforeValidator(_amount), WithJsonSchema(_CEL)]
Unit = Annotated[Expression, BeforeValidator(_unit), WithJsonSchema(_CEL)]
PerWords = Annotated[list[str], BeforeValidator(_per), _or_list(_PER_WORD, 0)]
Limits = Annotated[
    dict[str, int],
    BeforeValidator(_limits),
    _schema(anyOf=[_LIMIT, {"type": "object", "additionalProperties": _LIMIT, "minProperties": 1}]),
]
Positive = Annotated[float, AfterValidator(_above_nothing), _schema(type="number", exclusiveMinimum=0)]
Moment = Annotated[datetime, BeforeValidator(_moment), _schema(type="string", format="date-time")]

# Nothing here may be null: an emptied `when:` must not turn a conditional allow into an unconditional one. What is not
# written has the default below; `model_fields_set` tells the two apart.


class WrittenHoldDefaults(Strict):
    """What a hold asks for where the rule itself does not say."""

    noun: ClassVar[str] = "`hold_defaults`"
    example: ClassVar[str] = "hold_defaults: {expires: 24h, roles: []}"
    expires: Duration = Clocks().expires_in_seconds
    run_within: Duration = Clocks().run_within_seconds
    roles: list[str] = Field(default_factory=list)


class WrittenBand(Strict):
    """What a score means from here on."""

    noun: ClassVar[str] = "a band"
    mistaken: ClassVar[Mapping[str, str]] = meant.IN_BANDS
    example: ClassVar[str] = "{from: 40, effect: hold}"
    floor: Floor = Field(alias="from")
    effect: Literal["hold", "deny"]
    roles: list[str] = Field(default_factory=list)
    quorum: Quorum = 1


class _Scaled(Strict):
    """Something that grows from `low` to `high`."""

    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.low >= self.high:
            raise refuse(
                f"`low` is not below `high`: `{self.low:g}`, `{self.high:g}`",
                "no points at `low`, all at `high`",
                "low",
            )
        return self


class WrittenAmount(_Scaled):
    """Points that grow with a number in the call."""

    noun: ClassVar[str] = "`amount`"
    example: ClassVar[str] = "amount: {of: args.amount, low: 50, high: 5000}"
    of: AmountOf


class WrittenCount(_Scaled):
    """Points that grow with the entries of a list in the call."""

    noun: ClassVar[str] = "`count`"
    example: ClassVar[str] = "count: {of: args.to, low: 1, high: 50}"
    of: ValueOf


class WrittenNovelty(Strict):
    """Points for a value that no approved call had."""

    noun: ClassVar[str] = "`novelty`"
    example: ClassVar[str] = "novelty: {of: args.to}"
    of: ValueOf
    per: PerWords = Field(default_factory=lambda: ["agent"])
    window: Duration = 90 * 86400


class WrittenVelocity(Strict):
    """Points for many calls."""

    noun: ClassVar[str] = "`velocity`"
    example: ClassVar[str] = "velocity: {window: 1h, above: 20}"
    per: PerWords = Field(default_factory=lambda: ["agent", "tool"])
    window: Duration
    above: Calls


class WrittenSpend(_Scaled):
    """Points that grow with what calls add up to."""

    noun: ClassVar[str] = "`spend`"
    example: ClassVar[str] = "spend: {of: args.amount, window: 1d, low: 50, high: 5000}"
    of: AmountOf
    unit: Unit | None = None
    per: PerWords = Field(default_factory=list)
    window: Duration


class WrittenTaint(Strict):
    """Points after the agent read what may steer it."""

    noun: ClassVar[str] = "`taint`"
    example: ClassVar[str] = 'taint: {from: "web__*", window: 1h}'
    sources: Tools = Field(alias="from")
    window: Duration


class WrittenRejections(Strict):
    """Points after people rejected calls."""

    noun: ClassVar[str] = "`rejections`"
    example: ClassVar[str] = "rejections: {window: 1d, above: 2}"
    per: PerWords = Field(default_factory=lambda: ["agent"])
    window: Duration
    above: Calls = 0


class WrittenSignal(Strict):
    """A reason that adds points."""

    noun: ClassVar[str] = "a signal"
    mistaken: ClassVar[Mapping[str, str]] = meant.IN_SIGNALS
    id: Id
    tool: Tools
    points: Points
    reason: Reason
    when: Compiled = None
    unless: Compiled = None
    amount: Annotated[WrittenAmount | None, _written] = None
    count: Annotated[WrittenCount | None, _written] = None
    novelty: Annotated[WrittenNovelty | None, _written] = None
    velocity: Annotated[WrittenVelocity | None, _written] = None
    spend: Annotated[WrittenSpend | None, _written] = None
    taint: Annotated[WrittenTaint | None, _written] = None
    rejections: Annotated[WrittenRejections | None, _written] = None

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        given = [key for key in MEASURES if key in self.model_fields_set]
        if len(given) > 1:
            both = " and ".join(f"`{key}`" for key in given)
            raise refuse(f"a signal measures one thing, not {both}", "make a signal of each", given[1])
        return self


MEASURES = ("amount", "count", "novelty", "velocity", "spend", "taint", "rejections")
"""What a signal may measure; without any it adds its points in full."""


class WrittenBudget(Strict):
    """What calls may add up to."""

    noun: ClassVar[str] = "a budget"
    mistaken: ClassVar[Mapping[str, str]] = meant.IN_BUDGETS
    id: Id
    tool: Tools
    sum: Annotated[AmountOf | None, _written] = None
    count: Annotated[bool, BeforeValidator(_only_true), _schema(const=True)] = False
    unit: Annotated[Unit | None, _written] = None
    limit: Limits
    per: PerWords = Field(default_factory=list)
    window: Duration
    over: Literal["hold", "deny"]
    reason: Reason = "the budget does not allow it"
    roles: list[str] = Field(default_factory=list)
    quorum: Quorum = 1

    @model_validator(mode="after")
    def _one_sum(self) -> Self:
        if (self.sum is None) is not self.count:
            raise refuse(
                "a budget needs either `sum` or `count`", "write `sum: args.amount`, or `count: true` for calls"
            )
        by_unit = set(self.limit) != {""}
        if self.unit is not None and not by_unit:
            raise refuse("the limit names no unit", "write `limit: {EUR: 100}`, or leave `unit` out", "limit")
        if self.unit is None and by_unit:
            advice = "write `unit: args.currency`, or one number as `limit`"
            raise refuse("the limit is by unit, and nothing says which unit a call has", advice, "limit")
        if self.unit is not None and self.sum is None:
            raise refuse("calls have no unit", "leave `unit` out, and write `limit: 100`", "unit")
        return self


class WrittenReading(Strict):
    """A reading call whose result reviewers see."""

    noun: ClassVar[str] = "`preview`"
    example: ClassVar[str] = "preview: {tool: payments__quote, args: {amount: args.amount}}"
    tool: Annotated[str, AfterValidator(_one_tool)]
    args: dict[str, Value] = Field(default_factory=dict)


class WrittenProbe(WrittenReading):
    """A reading call that tells whether a call of unknown outcome happened."""

    noun: ClassVar[str] = "`probe`"
    example: ClassVar[str] = "probe: {tool: payments__find, happened: result.isError == false, did_not: …}"
    happened: OfResult
    did_not: OfResult


class WrittenRule(Strict):
    """What happens to some calls."""

    noun: ClassVar[str] = "a rule"
    mistaken: ClassVar[Mapping[str, str]] = meant.IN_RULES
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
    undo: Duration = 0
    assurance: Assurance = "client"
    separate: bool = False
    surfaces: list[Literal["web", "cli", "client"]] = Field(default_factory=list)
    grantable: bool = False
    require_reason: bool = False
    record: Literal["normal", "durable"] = "normal"
    shadow: bool = False
    preview: Annotated[WrittenReading | None, _written] = None
    probe: Annotated[WrittenProbe | None, _written] = None


class WrittenCaseCall(Strict):
    """The call that a case is about."""

    noun: ClassVar[str] = "the call of a case"
    mistaken: ClassVar[Mapping[str, str]] = meant.IN_CALLS
    example: ClassVar[str] = "call: {tool: payments__pay, args: {amount: 5}}"
    tool: Annotated[str, AfterValidator(_one_call)]
    args: dict[str, Any] = Field(default_factory=dict)
    agent: str = "agent"
    owner: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    now: Moment = datetime(2026, 11, 22, 14, tzinfo=UTC)


class WrittenExpect(Strict):
    """What a case expects: the effect, and rules and signals that must be among those that matched."""

    noun: ClassVar[str] = "`expect`"
    example: ClassVar[str] = "expect: {effect: hold}"
    effect: Literal["allow", "hold", "deny"]
    rules: list[str] = Field(default_factory=list)
    signals: list[str] = Field(default_factory=list)
    score: Score | None = None


class WrittenCase(Strict):
    """A call and what the policy must say of it. `given` is what history says to signals and budgets."""

    noun: ClassVar[str] = "a case"
    mistaken: ClassVar[Mapping[str, str]] = meant.IN_CASES
    name: str | None = None
    call: WrittenCaseCall
    given: dict[str, Any] = Field(default_factory=dict)
    expect: WrittenExpect


class PolicyFile(Strict):
    """One file of a policy. What its lists hold is read item by item, so that one bad item hides no other."""

    noun: ClassVar[str] = "a policy file"
    mistaken: ClassVar[Mapping[str, str]] = meant.IN_FILES
    version: Annotated[int, AfterValidator(_supported), _schema(const=1)]
    default: Annotated[Literal["hold", "deny"], BeforeValidator(_no_allow)] = "hold"
    hold_defaults: WrittenHoldDefaults = WrittenHoldDefaults()
    bands: list[Any] = Field(default_factory=list)
    signals: list[Any] = Field(default_factory=list)
    rules: list[Any] = Field(default_factory=list)
    budgets: list[Any] = Field(default_factory=list)
    cases: list[Any] = Field(default_factory=list)
