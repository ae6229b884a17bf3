"""The sentences of a decision: reasons with a call's values in them, and how matches are put into words. No I/O.

Everything a person or an agent reads as "why" is worded here; how it is shown belongs to the surfaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hitl_mcp.calls import Effect, RuleMatch, SignalMatch
from hitl_mcp.canonical import canonical_text
from hitl_mcp.limits import SHOWN_VALUE_CHARACTERS

__all__ = [
    "allow_failed",
    "by_band",
    "by_budget",
    "by_default",
    "by_rule",
    "by_signal",
    "filled",
    "legible",
    "misplaced_braces",
    "with_found",
]

_PLACEHOLDER = re.compile(r"\{args((?:\.[A-Za-z_][A-Za-z0-9_]*)+)\}")
_MEANT_AS_PLACEHOLDER = re.compile(r"\{\s*args\b[^}]*\}?")

_DETAIL_CHARACTERS = 200
"""A condition or an error inside a sentence: enough for any condition one writes on a line."""


def filled(reason: str, arguments: Mapping[str, Any]) -> str:
    """A reason with each `{args.x}` replaced by that argument as canonical JSON; one that is not there stays as it is.

    Strings keep their quotes and unprintable characters are escaped, so that a value cannot pass for our own words.
    """
    if "{" not in reason:
        return reason
    return _PLACEHOLDER.sub(lambda found: _shown(found, arguments), reason)


def misplaced_braces(reason: str) -> str | None:
    """The first thing in a reason that was meant as `{args.x}` but is not written so."""
    return next(
        (found[0] for found in _MEANT_AS_PLACEHOLDER.finditer(reason) if not _PLACEHOLDER.fullmatch(found[0])), None
    )


def _shown(found: re.Match[str], arguments: Mapping[str, Any]) -> str:
    value: Any = arguments
    for key in found[1][1:].split("."):
        if not isinstance(value, dict) or key not in value:
            return found[0]
        value = value[key]
    return legible(canonical_text(value), SHOWN_VALUE_CHARACTERS)


def legible(text: str, limit_characters: int = _DETAIL_CHARACTERS) -> str:
    """A text within a limit, its unprintable characters (line breaks, bidi and zero-width too) escaped."""
    start = text[: limit_characters + 1]
    escaped = "".join(character if character.isprintable() else _escaped(character) for character in start)
    return escaped if len(escaped) <= limit_characters else escaped[: limit_characters - 1] + "…"


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\u{{{code:x}}}"


def by_rule(id: str, effect: Effect, reason: str, bound: str, error: str | None) -> str:
    """A rule's sentence. A refusal names the rule and its condition, so that the agent can comply."""
    if error is not None:
        return f"{reason} (rule `{id}` applies because it could not be evaluated: {error})"
    if effect is Effect.DENY:
        return f"{reason} (rule `{id}`{': ' if bound else ''}{legible(' '.join(bound.split()))})"
    return reason


def by_budget(match: RuleMatch) -> str:
    """An exceeded budget's sentence, with what is left, so that the agent can comply."""
    if match.error is not None:
        return f"{match.reason} (budget `{match.id}` cannot be read: {match.error})"
    return f"{match.reason} (budget `{match.id}`)"


def with_found(reason: str, found: str) -> str:
    """A reason with what was found in the call or in its history."""
    return f"{reason} ({legible(found)})" if found else reason


def allow_failed(id: str, error: str) -> str:
    """The sentence for a rule that would allow the call if it could be evaluated."""
    return f"rule `{id}` does not allow this because it could not be evaluated: {error}"


def by_default(effect: Effect, *, other: bool) -> str:
    """The sentence for a call that no rule matches, or no other than broken ones."""
    if effect is Effect.ALLOW:
        return "no rule matches this, and resources and prompts pass then"
    return f"no {'other ' if other else ''}rule matches this call, and then the policy says {effect.value}"


def by_band(score: int, floor: int, effect: Effect, bounds: Sequence[str] = ()) -> str:
    """The sentence for a score that means more than nothing; of a refusal, what adds points, so that one can comply."""
    sentence = f"a score of {score} points means {effect.value}: it is in the band from {floor}"
    return f"{sentence} (points are added by {legible('; '.join(bounds))})" if bounds else sentence


def by_signal(signal: SignalMatch) -> str:
    """A signal's sentence, with its points as people add them up."""
    sentence = f"+{signal.points}: {signal.reason}"
    return f"{sentence} (in full, because it could not be evaluated: {signal.error})" if signal.error else sentence
