"""Conditions in CEL: compiled and type-checked once, then asked about one call at a time. No I/O.

A condition that cannot be evaluated is `Broken`, never an exception and never a guess; what follows from that is
decided in `decide`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from hitl_mcp.documents import Problem, one_of
from hitl_mcp.limits import CONDITION_CHARACTERS
from hitl_mcp.policy.expression import ShadowedName, reads, without
from hitl_mcp.policy.reasons import legible
from hitl_mcp.policy.subject import Subject, declared_names, misfits

__all__ = ["VARIABLES", "Broken", "Condition", "ConditionRefused", "Facts"]

_TYPES = {
    "args": cel.Type.DYN,
    "tool": cel.Type.STRING,
    "upstream.name": cel.Type.STRING,
    "upstream.labels": cel.Type.Map(cel.Type.STRING, cel.Type.STRING),
    "agent": cel.Type.STRING,
    "now": cel.Type.TIMESTAMP,
}
VARIABLES = tuple(_TYPES)
"""What a condition may name."""

_ENVIRONMENT = cel.NewEnv(variables=_TYPES, extensions=[ext_strings.ExtStrings()])
_PROBLEM = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_STATUS = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")

_NARROWED_KEPT = 64
"""Narrowed programs kept per condition: one for each set of absent arguments, which a call may choose."""


@dataclass(frozen=True)
class Broken:
    """A condition could not be evaluated, and why."""

    why: str


class ConditionRefused(Exception):
    """A text is not a condition; each problem says where in the text."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


class Facts:
    """What conditions see of one call, made once per decision."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @cached_property
    def activation(self) -> Any:
        """The values of all variables."""
        subject = self.subject
        return _ENVIRONMENT.Activation(
            {
                "args": subject.arguments,
                "tool": subject.name,
                "upstream.name": subject.upstream,
                "upstream.labels": dict(subject.labels),
                "agent": subject.agent,
                "now": subject.now,
            }
        )

    @cached_property
    def misfits(self) -> dict[str, str]:
        """What is wrong with arguments that are not of their declared type; nearly always nothing."""
        return misfits(self.subject.arguments, self.subject.input_schema)

    @cached_property
    def _declared(self) -> frozenset[str] | None:
        return declared_names(self.subject.input_schema)

    def lacking(self, names: frozenset[str]) -> frozenset[str]:
        """Those of the arguments that the tool does not have and the call does not carry."""
        return frozenset() if self._declared is None else names.difference(self._declared, self.subject.arguments)


class Condition:
    """One `when` or `unless`.

    Raises:
        ConditionRefused: The text does not compile, or does not give true or false.
    """

    def __init__(self, text: str) -> None:
        if len(text) > CONDITION_CHARACTERS:
            raise ConditionRefused(Problem(f"a condition is longer than {CONDITION_CHARACTERS} characters"))
        try:
            self._program = _ENVIRONMENT.compile(text)
        except RuntimeError as error:
            raise ConditionRefused(*_problems(str(error), text)) from None
        kind = self._program.return_type()
        if kind not in (cel.Type.BOOL, cel.Type.DYN):
            raise ConditionRefused(Problem(f"a condition must give true or false, not `{kind.name().lower()}`"))
        self.text = text
        self._checked: bytes = self._program.serialize()
        try:
            self._reads = reads(self._checked)
        except ShadowedName:
            raise ConditionRefused(Problem("`args` cannot also be the name of a macro's own variable")) from None
        self._narrowed: dict[frozenset[str], Any] = {}

    def test(self, facts: Facts) -> bool | Broken:
        """Whether the condition is true of a call.

        Statements about arguments that the tool does not have, and the call does not carry, are left out. They are
        tried first: what `has()` or another part of the condition has settled without them stays settled.
        """
        if facts.misfits and (broken := sorted(self._reads & facts.misfits.keys())):
            return Broken(facts.misfits[broken[0]])
        outcome = _outcome(self._program, facts)
        if isinstance(outcome, Broken) and self._reads and (lacking := facts.lacking(self._reads)):
            return _outcome(self._without(lacking), facts)
        return outcome

    def _without(self, lacking: frozenset[str]) -> Any:
        program = self._narrowed.get(lacking)
        if program is None:
            if len(self._narrowed) >= _NARROWED_KEPT:
                self._narrowed.clear()
            program = self._narrowed[lacking] = _ENVIRONMENT.deserialize(without(self._checked, lacking))
        return program


def _outcome(program: Any, facts: Facts) -> bool | Broken:
    """Run a program. The library returns errors as values whose content is a text, so only the truth values count."""
    try:
        result = program.eval(facts.activation)
        value = result.value()
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        # Raised, not returned, where the library stops a run (its iteration budget) or cannot take a value.
        return Broken(_why(str(error)))
    if value is True:
        return True
    if value is False:
        return False
    kind = result.type()
    if kind in (cel.Type.ERROR, cel.Type.UNKNOWN):
        return Broken(_why(str(value)))
    return Broken(f"it gives `{kind.name().lower()}`, not true or false")


def _why(message: str) -> str:
    """An evaluation error of the library in words for the people who read the decision."""
    text = _STATUS.sub("", message)
    if found := re.fullmatch(r'Key not found in map : "(.*)"', text, re.DOTALL):
        return f"there is no `{legible(found[1])}`"
    if found := re.fullmatch(r"No matching overloads found : (.*?)(\(.*\))", text, re.DOTALL):
        return f"`{found[1].strip('_').lstrip('@')}` does not take {legible(found[2])}"
    return legible(text[:1].lower() + text[1:])


def _problems(message: str, text: str) -> list[Problem]:
    """The compiler's complaints with their positions, in our words."""
    found = (_problem((int(line), int(column)), what, text) for line, column, what in _PROBLEM.findall(message))
    return list(dict.fromkeys(found)) or [Problem(f"not a condition: {_why(message)}")]


def _start_of(name: str, at: tuple[int, int], text: str) -> tuple[int, int]:
    """Where a name begins; the compiler points at the dot or the parenthesis in it."""
    lines = text.split("\n")
    start = lines[at[0] - 1].rfind(name, 0, at[1] + len(name)) if 0 < at[0] <= len(lines) else -1
    return (at[0], start + 1) if start >= 0 else at


def _problem(at: tuple[int, int], what: str, text: str) -> Problem:
    what = _STATUS.sub("", what)
    if found := re.match(r"undeclared reference to '([^']*)'", what):
        at = _start_of(found[1], at, text)
        if re.search(rf"\b{re.escape(found[1])}\s*\(", text):
            return Problem(f"unknown function `{found[1]}` in a condition", at=at)
        return Problem(f"unknown name `{found[1]}` in a condition", one_of(found[1], VARIABLES, "names"), at)
    if found := re.match(r"found no matching overload for '([^']*)' applied to '([^']*)'", what):
        return Problem(f"`{found[1].strip('_').lstrip('@')}` does not take {found[2]} in a condition", at=at)
    what = re.sub(r" expecting \{?.*$", "", what).removeprefix("Syntax error: ")
    if what == "mismatched input '<EOF>'":
        return Problem("not a condition: it ends too early", at=at)
    return Problem(f"not a condition: {what[:1].lower() + what[1:]}", at=at)
