"""What people write at first in a policy, or know from other policies, and what they mean by it. Only words."""

from __future__ import annotations

import re
from typing import Any

_UNITS = {
    "s": ("s", "sec", "second", 1),
    "m": ("m", "min", "minute", 60),
    "h": ("h", "hr", "hour", 3600),
    "d": ("d", "day", "day", 86400),
}


def duration(written: str) -> str:
    """What to write for a duration in another notation."""
    plain = written.replace(" ", "").lower()
    if found := re.fullmatch(r"([1-9][0-9]*)w(?:eeks?)?", plain):
        return f"write `{int(found[1]) * 7}d`; a duration is a number and a unit"
    if found := re.fullmatch(r"([1-9][0-9]*)([a-z]+?)s?", plain):
        for unit, words in _UNITS.items():
            if found[2] in words:
                return f"write `{found[1]}{unit}`; a duration is a number and a unit"
    parts = re.findall(r"([0-9]+)([smhd])", plain)
    if len(parts) > 1 and "".join(map("".join, parts)) == plain:
        least = parts[-1][1]
        total = sum(int(number) * _UNITS[unit][3] for number, unit in parts)
        if total % _UNITS[least][3] == 0:
            return f"write `{total // _UNITS[least][3]}{least}`; a duration is one number and one unit"
    return "write a number and a unit"


def limit(written: Any) -> str:
    """What to write for a limit in another notation."""
    found = (
        re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)|([A-Za-z]+)\s*([0-9]+(?:\.[0-9]+)?)", written)
        if isinstance(written, str)
        else None
    )
    if found is None:
        return "write `100`, or `{EUR: 100}` with `unit: args.currency`"
    number, unit = found[1] or found[4], found[2] or found[3]
    return f"write `{{{unit}: {number}}}` with `unit: args.currency`" if unit else f"write `{number}` without quotes"


NOT_A_GLOB = (
    (re.compile(r"\A\s|\s\Z"), "a name does not start or end with a space", "take the space out"),
    (re.compile(r"\A!"), "`!` does not exclude a tool", "name the tools that are meant, or write `unless: tool == …`"),
    (re.compile(r"\(.*\|.*\)|\{.*,.*\}|\[.+\]"), "only `*` and `?` are special in a name", "write a list of names"),
    (re.compile(r"[,\s]"), "this is one name, and no name has commas or spaces", "write a list: `[up__a, up__b]`"),
    (re.compile(r"__\.\*|\A\^|\$\Z|\\"), "this is a glob, not a pattern", "write `*` for any characters, `?` for one"),
)
"""What is written for a tool in the languages of shells and patterns, and would match nothing here."""


OTHER_BRACES = re.compile(r"\$\{[^}]*\}|\{\{[^}]*\}\}|\{\s*[A-Za-z_]\w*\s*\}")
"""How other templates name a value; here it would stay as it is."""


# Keys, and the one that is meant or where it stands
IN_ALL = {
    **dict.fromkeys(("if", "condition", "where", "match", "expression"), "when"),
    **dict.fromkeys(("except", "not", "exclude", "unless_"), "unless"),
    **dict.fromkeys(("name", "key", "rule"), "id"),
    **dict.fromkeys(("tools", "tool_name", "function"), "tool"),
    **dict.fromkeys(("message", "description", "because", "why", "text", "reasons"), "reason"),
}
IN_RULES = {
    **IN_ALL,
    **dict.fromkeys(("action", "decision", "then", "verdict", "do"), "effect"),
    **dict.fromkeys(("role", "approvers", "reviewers", "approver", "reviewer"), "roles"),
    **dict.fromkeys(("approvals", "min_reviewers", "min_approvals", "people", "votes"), "quorum"),
    **dict.fromkeys(("timeout", "ttl", "expire", "deadline", "expiry"), "expires"),
    **dict.fromkeys(("dry_run", "log_only", "monitor"), "shadow"),
    "points": "points stand in a signal, under `signals`",
    "limit": "a limit stands in a budget, under `budgets`",
}
IN_SIGNALS = {
    **IN_ALL,
    **dict.fromkeys(("weight", "score", "risk", "value"), "points"),
    **dict.fromkeys(("rate", "frequency"), "velocity"),
    **dict.fromkeys(("new", "first", "unknown"), "novelty"),
    "effect": "a signal adds points; an effect stands in a rule, or in a band",
}
IN_BUDGETS = {
    **IN_ALL,
    "currency": "unit",
    **dict.fromkeys(("amount", "of", "total"), "sum"),
    **dict.fromkeys(("max", "maximum", "limits"), "limit"),
    **dict.fromkeys(("period", "every"), "window"),
    "effect": "over",
    "when": "a budget has no condition: take what counts from the call, as in `sum: 'args.test ? 0 : args.amount'`",
}
IN_BANDS = {
    **dict.fromkeys(("min", "floor", "score", "above", "points", "at"), "from"),
    "to": "a band ends where the next one starts",
    "action": "effect",
}
IN_FILES = {
    "rule": "rules",
    "tests": "cases",
    "limits": "budgets",
    "defaults": "hold_defaults",
    **dict.fromkeys(
        ("id", "tool", "effect", "reason", "when", "unless", "points", "expect", "call"),
        "it stands in an item of a list: indent it as the keys of that item are",
    ),
}
IN_CALLS = {
    "arguments": "args",
    "params": "args",
    "input": "args",
    "name": "tool",
    "user": "agent",
    "time": "now",
}
IN_CASES = {"history": "given", "expected": "expect", "id": "name", "effect": "it stands in `expect`"}
