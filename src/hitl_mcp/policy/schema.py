"""The JSON Schema of a policy file, for editors that complete and check as one types. Made from `written`, no I/O.

It says what one key may hold and which keys go together. What several items mean together, whether a condition
compiles, and who can answer is found on loading only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from hitl_mcp.policy.load import OF_HOLDS
from hitl_mcp.policy.written import (
    MEASURES,
    PolicyFile,
    WrittenBand,
    WrittenBudget,
    WrittenCase,
    WrittenRule,
    WrittenSignal,
)

__all__ = ["MEANINGS", "policy_schema"]

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_LISTS = {
    "bands": WrittenBand,
    "signals": WrittenSignal,
    "rules": WrittenRule,
    "budgets": WrittenBudget,
    "cases": WrittenCase,
}

_TOOL = "full tool names, `<upstream>__<tool>`, or globs with `*` and `?`; in a ready policy without the upstream"
_WHEN = "a condition in CEL over `args`, `tool`, `upstream`, `agent` and `now`: it counts only where this is true"
_UNLESS = "a condition in CEL: it does not count where this is true"
_OF = "where the value stands in the call, in CEL: `args.amount`"
_PER = "whose calls are counted together: `agent`, `tool`, `upstream`, several of them, or `[]` for all calls"
_WINDOW = "how far back, such as `90s`, `30m`, `24h`, `7d`"
_LOW = "up to here no points; between, they grow with the logarithm"
_HIGH = "from here on all points"
_ROLES = "who must approve: people with any of these; `[]` is anyone. Not written: as in `hold_defaults`"
_QUORUM = "how many different people must approve. Not written: 1"
_ID = "its name in decisions and on record: letters, digits, `-`, `_`, `.`"
_REASON = "why, in one sentence for reviewers and the agent; `{args.amount}` becomes that argument's value"

MEANINGS: Mapping[str, Mapping[str, str]] = {
    "PolicyFile": {
        "version": "the version of this language",
        "default": "what happens to a call that no rule matches. Not written: `hold`",
        "hold_defaults": "what holds ask for that do not say it themselves",
        "bands": "what a score of 0 to 100 means, beside the rules",
        "signals": "reasons that add points to a call's score",
        "rules": "what happens to which calls: the strictest that matches wins, in whatever order they stand",
        "budgets": "what calls may add up to within a time",
        "cases": "calls and what the policy must say of them; `hitl-mcp policy test` runs them",
    },
    "WrittenHoldDefaults": {
        "expires": "how long people have. Not written: `24h`",
        "run_within": "how long an approval stays good. Not written: `1h`",
        "roles": "who must approve: people with any of these. Not written: anyone",
    },
    "WrittenBand": {
        "from": "the lowest score of the band; it reaches to the next one",
        "effect": "what a score in it means",
        "roles": _ROLES,
        "quorum": _QUORUM,
    },
    "WrittenSignal": {
        "id": _ID,
        "tool": _TOOL,
        "points": "the points it adds, in full or as its measure says",
        "reason": _REASON,
        "when": _WHEN,
        "unless": _UNLESS,
        "amount": "points that grow with a number in the call",
        "count": "points that grow with how many entries a list has",
        "novelty": "points for a value with which no approved call has succeeded yet",
        "velocity": "points for many calls within a time",
        "spend": "points that grow with what calls add up to within a time",
        "taint": "points after this agent called tools that may have brought in untrusted or secret content",
        "rejections": "points after people rejected calls",
    },
    "WrittenAmount": {"of": _OF, "low": _LOW, "high": _HIGH},
    "WrittenCount": {"of": _OF, "low": _LOW, "high": _HIGH},
    "WrittenNovelty": {"of": _OF, "per": f"{_PER}. Not written: `agent`", "window": f"{_WINDOW}. Not written: `90d`"},
    "WrittenVelocity": {
        "per": f"{_PER}. Not written: `[agent, tool]`",
        "window": _WINDOW,
        "above": "it counts when there are more calls than this, the call itself included",
    },
    "WrittenSpend": {
        "of": _OF,
        "unit": "where the unit stands, in CEL: `args.currency`; each unit is added up apart",
        "per": f"{_PER}. Not written: all calls",
        "window": _WINDOW,
        "low": _LOW,
        "high": _HIGH,
    },
    "WrittenTaint": {"from": _TOOL, "window": _WINDOW},
    "WrittenRejections": {
        "per": f"{_PER}. Not written: `agent`",
        "window": _WINDOW,
        "above": "it counts when people rejected more calls than this. Not written: 0",
    },
    "WrittenBudget": {
        "id": _ID,
        "tool": _TOOL,
        "sum": "where the amount stands in the call, in CEL: `args.amount`",
        "count": "calls are counted instead of an amount",
        "unit": "where the unit stands, in CEL: `args.currency`",
        "limit": "what calls may add up to: a number, or with `unit` one for each: `{EUR: 100}`",
        "per": f"{_PER}. Not written: all calls",
        "window": _WINDOW,
        "over": "what happens to a call that does not fit any more",
        "reason": _REASON,
        "roles": _ROLES,
        "quorum": _QUORUM,
    },
    "WrittenRule": {
        "id": _ID,
        "tool": _TOOL,
        "effect": "`allow` runs the call, `hold` asks people, `deny` refuses it",
        "reason": _REASON,
        "when": _WHEN,
        "unless": _UNLESS,
        "roles": _ROLES,
        "quorum": _QUORUM,
        "expires": "how long people have. Not written: as in `hold_defaults`",
        "run_within": "how long an approval stays good. Not written: as in `hold_defaults`",
        "undo": "how long an approval can be taken back before the call starts. Not written: it starts at once",
        "assurance": "how surely we must know who approved, the weakest that counts. Not written: `client`",
        "separate": "the people whose agent it is do not count as approvers",
        "surfaces": "where it may be approved. Not written: wherever the assurance is enough",
        "grantable": "reviewers may give grants: bounded permissions that approve later calls like the one they saw",
        "require_reason": "the agent must say why it wants the call",
        "record": "`durable`: the record of an allowed call is flushed to disk before it runs",
        "shadow": "tried out: recorded, but not enforced",
        "preview": "a reading call whose result is shown to the people who decide",
        "probe": "a reading call that may tell what became of a call whose outcome is unknown",
    },
    "WrittenReading": {
        "tool": "the tool to read with; the policy must allow that call by itself",
        "args": "its arguments, each in CEL over the held call: `{amount: args.amount}`",
    },
    "WrittenProbe": {
        "tool": "the tool to read with; the policy must allow that call by itself",
        "args": "its arguments, each in CEL over the call: `{id: args.id}`",
        "happened": "what its `result` says where the call happened, in CEL: `result.structuredContent.paid == true`",
        "did_not": "what its `result` says where the call did not happen, in CEL",
    },
    "WrittenCase": {
        "name": "what the case shows, for its report",
        "call": "the call to decide",
        "given": "what history says, by the id of a signal or a budget; what is not given never happened",
        "expect": "what the policy must say of it",
    },
    "WrittenCaseCall": {
        "tool": "the tool's full name, `<upstream>__<tool>`; in a ready policy without the upstream",
        "args": "its arguments",
        "agent": "who asks. Not written: `agent`",
        "owner": "whose agent it is",
        "labels": "the labels of the upstream",
        "now": "when it is asked, with a zone. Not written: a Sunday afternoon",
    },
    "WrittenExpect": {
        "effect": "the decision",
        "rules": "ids of rules and budgets that must be among those that matched",
        "signals": "ids of signals that must be among those that added points",
        "score": "the score, exactly",
    },
}
"""What each key means, for whoever points at it in an editor; by the model that has it."""


def policy_schema() -> Schema:
    """The JSON Schema of one policy file."""
    models = [(model, "validation") for model in (PolicyFile, *_LISTS.values())]
    _, made = models_json_schema(models, ref_template="#/$defs/{model}")  # type: ignore[arg-type]
    parts: dict[str, Schema] = {name: _plain(part) for name, part in made["$defs"].items()}
    for name, keys in MEANINGS.items():
        for key, meaning in keys.items():
            parts[name]["properties"][key]["description"] = meaning
    for key, model in _LISTS.items():
        parts["PolicyFile"]["properties"][key]["items"] = {"$ref": f"#/$defs/{model.__name__}"}
    for name, together in _TOGETHER.items():
        parts[name]["allOf"] = together
    for part in parts.values():
        part["description"] = part["description"].partition(". ")[0].rstrip(".")
    file = parts.pop("PolicyFile")
    named = {_name(name): part for name, part in sorted(parts.items())}
    return {"$schema": DIALECT, "title": "a policy of hitl-mcp", **_renamed(file), "$defs": _renamed(named)}


def _none_of(*keys: str) -> Schema:
    return {"not": {"anyOf": [{"required": [key]} for key in keys]}}


def _only(key: str, value: str, *keys: str) -> Schema:
    """Keys that go with one value of another key only."""
    return {"if": {"properties": {key: {"not": {"const": value}}}}, "then": _none_of(*keys)}


_TOGETHER: Mapping[str, list[Schema]] = {
    "WrittenSignal": [{"oneOf": [*({"required": [key]} for key in MEASURES), _none_of(*MEASURES)]}],
    "WrittenRule": [_only("effect", "hold", *OF_HOLDS), _only("effect", "allow", "record")],
    "WrittenBand": [_only("effect", "hold", "roles", "quorum")],
    "WrittenBudget": [
        _only("over", "hold", "roles", "quorum"),
        {"oneOf": [{"required": ["sum"]}, {"required": ["count"]}]},
        {
            "if": {"properties": {"limit": {"type": "object"}}},
            "then": {"required": ["unit"]},
            "else": _none_of("unit"),
        },
    ],
}
"""Which keys go together, as `written` and `load` see to it."""


def _plain(value: Any) -> Any:
    """A schema without what people do not write: titles, defaults in our own units, and `null`, which is never read."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {key: one for key, one in value.items() if key not in ("title", "default")}
    choices = kept.pop("anyOf", None)
    if choices is not None:
        choices = [_plain(choice) for choice in choices if choice != {"type": "null"}]
        kept = {**choices[0], **kept} if len(choices) == 1 else {**kept, "anyOf": choices}
    return {
        key: {name: _plain(one) for name, one in inner.items()} if key == "properties" else _plain(inner)
        for key, inner in kept.items()
    }


def _name(model: str) -> str:
    return model.removeprefix("Written").lower()


def _renamed(value: Any) -> Any:
    """The same with references to the names that editors show."""
    if isinstance(value, list):
        return [_renamed(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: f"#/$defs/{_name(one.rpartition('/')[2])}" if key == "$ref" and isinstance(one, str) else _renamed(one)
        for key, one in value.items()
    }
