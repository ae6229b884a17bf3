"""What compiles and cannot be meant: times without a zone, patterns that are none, what is always or never true.

Looks at the checked expression, never at the text alone, and at one expression by itself: what tools have is `check`'s.
"""

from __future__ import annotations

import json
import math
import re
import zoneinfo
from collections.abc import Callable, Iterator
from functools import cache

from hitl_mcp.documents import Problem, meant
from hitl_mcp.limits import SAFE_INTEGER
from hitl_mcp.policy.complaints import FORMS, place
from hitl_mcp.policy.expression import Part, with_text

__all__ = ["traps"]

Evaluate = Callable[[bytes | str], str | None]
"""Why a part that depends on no call, or a text in CEL, cannot be evaluated; None where it can."""

_RANGES = {
    "getHours": (0, 23, "the hours of a day"),
    "getMinutes": (0, 59, "the minutes of an hour"),
    "getDayOfWeek": (0, 6, "0 is Sunday, 6 is Saturday"),
    "getDate": (1, 31, "the days of a month"),
    "getDayOfMonth": (0, 30, "the first day is 0; `getDate` counts from 1"),
    "getDayOfYear": (0, 365, "the first day is 0"),
    "getMonth": (0, 11, "January is 0, December is 11"),
    "getFullYear": None,
}
"""What a time is asked for that is another thing in another zone, and between which numbers the answer is."""

_SAMPLES = {
    "matches": (0, "a"),
    "sql_kinds": (0, "select 1"),
    "sql_tables": (0, "select 1 from a"),
    "sql_unbounded": (0, "select 1"),
    "path_within": (0, "/"),
    "path_has": (0, "a"),
    "domain_within": (0, "example.com"),
    "glob": (1, "a"),
}
"""The part of a call that comes from the agent, and a text for it that is certainly right: then an error is ours."""

_SAMPLE_CURES = {
    "matches": "patterns are RE2: without look-ahead and back-references, and `*` alone is none",
    "path_within": "a root is an absolute path: `/srv/shared`",
}

_CONSTANT_CURES = {"duration": FORMS["duration"], "timestamp": FORMS["timestamp"]}
_ZERO_IN_FRONT = re.compile(r"(?<![\w.])0[0-9]")
_OFFSET = re.compile(r"[-+][01][0-9]:[0-5][0-9]\Z")
_ZONES = "a zone is named like `Europe/Berlin`, `America/New_York` or `UTC`"
_MIRRORED = {"_<_": "_>_", "_<=_": "_>=_", "_>_": "_<_", "_>=_": "_<=_", "_==_": "_==_", "_!=_": "_!=_"}


def traps(text: str, whole: Part, evaluate: Evaluate) -> list[Problem]:
    """Everything in an expression that cannot be meant, in the order of the text."""
    found = list(_found(text, whole, evaluate))
    return sorted(dict.fromkeys(found), key=lambda problem: problem.at or (0, 0))


def _found(text: str, whole: Part, evaluate: Evaluate) -> Iterator[Problem]:
    for part in whole.all():
        if part.kind == "constant":
            yield from _number(text, part)
        elif part.kind == "call":
            yield from _zone(text, part, evaluate)
            yield from _range(text, part)
            yield from _membership(text, part)
            yield from _index(text, part)
            yield from _sample(text, part, evaluate)
    yield from _constants(text, whole, evaluate)
    yield from _settled(text, whole)


# Times


def _zone(text: str, call: Part, evaluate: Evaluate) -> Iterator[Problem]:
    if call.word not in _RANGES or _is_duration(call):
        return
    if len(call.parts) == 1:
        message = f"a time of day without a zone: `{call.word}()` would be that of UTC"
        yield Problem(message, f'write `{call.word}("Europe/Berlin")`, or `{call.word}("UTC")`', _at_name(text, call))
        return
    zone = call.parts[-1]
    if any(part.kind == "name" and part.word == "args" for part in zone.all()):
        message = "the agent would choose the time zone: it comes from an argument"
        yield Problem(message, f'write `{call.word}("Europe/Berlin")`', place(text, zone.offset))
    elif isinstance(zone.value, str) and not _is_zone(zone.value, evaluate):
        yield Problem(f"unknown time zone `{zone.value}`", _zone_meant(zone.value), place(text, zone.offset))


def _is_duration(call: Part) -> bool:
    target = call.parts[0]
    return target.kind == "call" and (target.word == "duration" or target.word == "_-_")


def _is_zone(written: str, evaluate: Evaluate) -> bool:
    """What CEL knows on this machine; it takes nothing at all for UTC."""
    named = bool(re.match(r"[A-Za-z]", written)) or bool(_OFFSET.match(written))
    return named and evaluate(f'timestamp("2026-01-01T00:00:00Z").getHours({json.dumps(written)})') is None


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones() | {"UTC"})


def _zone_meant(written: str) -> str:
    word = written.replace(" ", "_").casefold()
    short = {zone.casefold().rpartition("/")[2]: zone for zone in sorted(_zones(), reverse=True)}
    near = meant(word, {zone.casefold() for zone in _zones()}) if "/" in word else None
    names = {zone.casefold(): zone for zone in _zones()}
    found = short.get(word) or names.get(near or "")
    return f"did you mean `{found}`? {_ZONES}" if found else _ZONES


def _range(text: str, call: Part) -> Iterator[Problem]:
    """A number that no time gives: months and days of the week count from 0."""
    if call.word not in (*_MIRRORED, "@in") or len(call.parts) != 2:
        return
    left, right = call.parts
    operator = call.word
    if operator != "@in" and right.kind == "call" and right.word in _RANGES:
        left, right, operator = right, left, _MIRRORED[operator]
    bounds = _RANGES.get(left.word) if left.kind == "call" else None
    if bounds is None or _is_duration(left):
        return
    least, most, meaning = bounds
    numbers = right.parts if operator == "@in" else (right,)
    for number in numbers:
        value = number.value
        if not isinstance(value, int) or least <= value <= most or (value == most + 1 and operator == "_<_"):
            continue
        message = f"`{left.word}` gives {least} to {most}, never `{value}`"
        yield Problem(message, meaning, place(text, number.offset))


# Numbers and places


def _number(text: str, part: Part) -> Iterator[Problem]:
    value = part.value
    if isinstance(value, bytes):
        advice = "leave the `b` in front out"
        yield Problem("no argument is bytes: it would never be equal", advice, place(text, part.offset))
    if isinstance(value, int | float) and not isinstance(value, bool):
        if math.isinf(value) or (isinstance(value, int) and abs(value) > SAFE_INTEGER):
            advice = "no argument is that large; put it in quotes if it is text"
            yield Problem(f"the number is beyond ±{SAFE_INTEGER}", advice, place(text, part.offset))
        elif _ZERO_IN_FRONT.search(text) and (found := re.match(r"-?0[0-9]+", text[part.offset :])):
            advice = f"write `{int(found[0])}`"
            yield Problem(f"a number with a zero in front: `{found[0]}`", advice, place(text, part.offset))


def _index(text: str, call: Part) -> Iterator[Problem]:
    index = call.parts[1].value if call.word == "_[_]" and len(call.parts) == 2 else None
    if isinstance(index, int) and not isinstance(index, bool) and index < 0:
        advice = "the first is `[0]`, the last `args.list[size(args.list) - 1]`"
        yield Problem(f"no list has an entry `{index}`", advice, place(text, call.parts[1].offset))


def _membership(text: str, call: Part) -> Iterator[Problem]:
    if call.word == "@in" and call.parts[0].kind == "call" and call.parts[0].word == "!_":
        message = "`!` belongs to what stands right behind it, not to `in`"
        yield Problem(message, "write `!(args.x in [1, 2])`", place(text, call.parts[0].offset))


# What can be evaluated without a call


def _constants(text: str, part: Part, evaluate: Evaluate) -> Iterator[Problem]:
    """Each smallest part that says the same of every call and fails at it."""
    inside = [problem for inner in part.parts for problem in _constants(text, inner, evaluate)]
    yield from inside
    if not inside and part.kind == "call" and part.constant and (why := evaluate(part.raw)):
        cure = _CONSTANT_CURES.get(part.word)
        yield Problem(f"it can never be evaluated: {why}", f"write `{cure}`" if cure else None, _at_name(text, part))


def _sample(text: str, call: Part, evaluate: Evaluate) -> Iterator[Problem]:
    index, sample = _SAMPLES.get(call.word, (-1, ""))
    if not 0 <= index < len(call.parts) or call.parts[index].constant:
        return
    others = [part for place_in_call, part in enumerate(call.parts) if place_in_call != index]
    if others and all(part.constant for part in others) and (why := evaluate(with_text(call, index, sample))):
        cure = _SAMPLE_CURES.get(call.word, f"write `{FORMS[call.word]}`" if call.word in FORMS else None)
        yield Problem(f"it can never be evaluated: {why}", cure, place(text, others[0].offset))


# What is settled before any call is seen


def _settled(text: str, part: Part) -> Iterator[Problem]:
    """`x != 1 || x != 2` is true of everything, `x == 1 && x == 2` of nothing."""
    if part.kind == "call" and part.word in ("_||_", "_&&_"):
        comparison, always = ("_!=_", "true") if part.word == "_||_" else ("_==_", "false")
        seen: dict[str, object] = {}
        for one in _joined(part, part.word):
            if one.word != comparison or len(one.parts) != 2:
                continue
            left, right = one.parts if one.parts[1].kind == "constant" else reversed(one.parts)
            if right.kind != "constant" or left.constant:
                continue
            if seen.get(_as_text(left), right.value) != right.value:
                cure = "`&&`, or `!(… in [a, b])`" if part.word == "_||_" else "`||`, or `… in [a, b]`"
                yield Problem(
                    f"this is always {always}: nothing is two things at once", f"write {cure}", _at_name(text, one)
                )
            seen[_as_text(left)] = right.value
    for inner in part.parts:
        if inner.word != part.word or part.word not in ("_||_", "_&&_"):
            yield from _settled(text, inner)
        else:
            for below in _joined(inner, part.word):
                yield from _settled(text, below)


def _joined(part: Part, operator: str) -> Iterator[Part]:
    """What an operator joins, however it is grouped."""
    if part.kind == "call" and part.word == operator:
        for inner in part.parts:
            yield from _joined(inner, operator)
    else:
        yield part


def _as_text(part: Part) -> str:
    inner = ", ".join(_as_text(each) for each in part.parts)
    return f"{part.kind} {part.word} {part.value!r} ({inner})"


def _at_name(text: str, call: Part) -> tuple[int, int]:
    """Where what is called is written; the compiler's place is the operator, or the parenthesis behind the name."""
    start = text.rfind(call.word, 0, call.offset + 1)
    return place(text, start if start >= 0 else call.offset)
