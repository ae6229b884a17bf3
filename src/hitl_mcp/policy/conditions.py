"""Conditions in CEL: compiled and type-checked once, then asked about one call at a time. No I/O.

A condition that cannot be evaluated is `Broken`, never an exception and never a guess; what follows from that is
decided in `decide`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from hitl_mcp.canonical import canonical_text
from hitl_mcp.documents import Problem
from hitl_mcp.limits import CONDITION_CHARACTERS
from hitl_mcp.policy.complaints import problems, why
from hitl_mcp.policy.expression import ShadowedName, alone, parts, reads, without
from hitl_mcp.policy.functions import FUNCTIONS
from hitl_mcp.policy.subject import Subject, declared_names, misfits
from hitl_mcp.policy.traps import traps

__all__ = [
    "ABSENT",
    "VARIABLES",
    "Broken",
    "Condition",
    "ConditionRefused",
    "Expression",
    "Facts",
    "ResultCondition",
    "Together",
    "problems_typed",
]

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

_ENVIRONMENT = cel.NewEnv(variables=_TYPES, extensions=[ext_strings.ExtStrings()], functions=FUNCTIONS)
_WITH_RESULT = cel.NewEnv(
    variables={**_TYPES, "result": cel.Type.DYN}, extensions=[ext_strings.ExtStrings()], functions=FUNCTIONS
)
_ONE_ARGUMENT = re.compile(r"args\.([A-Za-z_][A-Za-z0-9_]*)")
"""What most amounts, units and addresses are taken from."""

_WORTH_JOINING = 3
"""Fewer conditions are tested one by one."""

_NARROWED_KEPT = 64
"""Narrowed programs kept per condition: one for each set of absent arguments, which a call may choose."""


_KINDS = {"int": "a number", "double": "a number", "string": "a text", "timestamp": "a time", "list": "a list"}


@dataclass(frozen=True)
class Broken:
    """A condition could not be evaluated, and why."""

    why: str


class _Absent:
    """The type of `ABSENT`."""


ABSENT = _Absent()
"""The value of an expression that does not concern the call."""


class ConditionRefused(Exception):
    """A text is not a condition; each problem says where in the text."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


class Facts:
    """What conditions see of one call, made once per decision."""

    def __init__(self, subject: Subject, result: Mapping[str, Any] | None = None) -> None:
        self.subject = subject
        self._result = result
        self.known: Mapping[Condition, bool] = {}

    @cached_property
    def activation(self) -> Any:
        """The values of all variables."""
        subject = self.subject
        values = {
            "args": subject.arguments,
            "tool": subject.name,
            "upstream.name": subject.upstream,
            "upstream.labels": dict(subject.labels),
            "agent": subject.agent,
            "now": subject.now,
        }
        if self._result is None:
            return _ENVIRONMENT.Activation(values)
        return _WITH_RESULT.Activation({**values, "result": self._result})

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


class Expression:
    """A text in CEL that gives a value: what an amount, a unit or an address is taken from.

    `constant`: it says the same of every call.

    Raises:
        ConditionRefused: The text does not compile.
    """

    _environment = _ENVIRONMENT
    _variables = VARIABLES

    def __init__(self, text: str) -> None:
        if len(text) > CONDITION_CHARACTERS:
            raise ConditionRefused(Problem(f"a condition is longer than {CONDITION_CHARACTERS} characters"))
        try:
            self._program = self._environment.compile(text)
        except RuntimeError as error:
            raise ConditionRefused(*problems(str(error), text, self._variables)) from None
        self.text = text
        self._checked: bytes = self._program.serialize()
        try:
            self.reads = reads(self._checked)
        except ShadowedName:
            raise ConditionRefused(Problem("`args` cannot also be the name of a macro's own variable")) from None
        self._one_argument = found[1] if (found := _ONE_ARGUMENT.fullmatch(text.strip())) else None
        whole = parts(self._checked)
        if trapped := traps(text, whole, self._cannot) or self._unfit():
            raise ConditionRefused(*trapped)
        self.constant = whole.constant

    def _unfit(self) -> list[Problem]:
        """What is wrong with the whole; any value will do here."""
        return []

    def _cannot(self, part: bytes | str) -> str | None:
        """Why a part that depends on no call, or a text, cannot be evaluated."""
        if isinstance(part, str):
            program = self._environment.compile(part)
        else:
            program = self._environment.deserialize(alone(self._checked, part))
        outcome = _run(program, self._environment.Activation({}))
        return outcome.why if isinstance(outcome, Broken) else None

    @property
    def gives(self) -> str:
        """The type of what it gives, as CEL calls it; `dyn` where only the call tells."""
        return str(self._program.return_type().name().lower())

    def value(self, facts: Facts) -> Any:
        """The value as plain JSON, `Broken` where there is none, or `ABSENT`.

        `ABSENT` where it takes an argument that the tool does not have and the call does not carry: then whatever
        asks for the value does not concern the call.
        """
        if broken := self._misfit(facts):
            return broken
        if self._one_argument in facts.subject.arguments:
            return facts.subject.arguments[self._one_argument]  # nothing to evaluate
        result = _result(self._program, facts)
        if isinstance(result, Broken):
            return ABSENT if self.reads and facts.lacking(self.reads) else result
        value = result.plain_value()
        try:
            canonical_text(value)
        except (TypeError, ValueError):  # a time, bytes, a fraction of nothing: not what a call could carry
            return Broken("it gives what no argument can be")
        return value

    def _misfit(self, facts: Facts) -> Broken | None:
        if facts.misfits and (broken := sorted(self.reads & facts.misfits.keys())):
            return Broken(facts.misfits[broken[0]])
        return None


class Condition(Expression):
    """One `when` or `unless`.

    Raises:
        ConditionRefused: The text does not compile, or does not give true or false.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._narrowed: dict[frozenset[str], Any] = {}

    def _unfit(self) -> list[Problem]:
        kind = self._program.return_type()
        if kind not in (cel.Type.BOOL, cel.Type.DYN):
            name = kind.name().lower().partition("<")[0]  # of `list<dyn>` only what it is
            says = _KINDS.get(name, f"`{name}`")
            return [Problem(f"a condition must give true or false, not {says}", "compare it: `… == …`, `… > …`")]
        return []

    def test(self, facts: Facts) -> bool | Broken:
        """Whether the condition is true of a call.

        Statements about arguments that the tool does not have, and the call does not carry, are left out. They are
        tried first: what `has()` or another part of the condition has settled without them stays settled.
        """
        if (known := facts.known.get(self)) is not None:
            return known
        if broken := self._misfit(facts):
            return broken
        outcome = _truth(self._program, facts)
        if isinstance(outcome, Broken) and self.reads and (lacking := facts.lacking(self.reads)):
            return _truth(self._without(lacking), facts)
        return outcome

    def _without(self, lacking: frozenset[str]) -> Any:
        program = self._narrowed.get(lacking)
        if program is None:
            if len(self._narrowed) >= _NARROWED_KEPT:
                self._narrowed.clear()
            program = self._narrowed[lacking] = self._environment.deserialize(without(self._checked, lacking))
        return program


_DECLARED = {
    "integer": (cel.Type.INT, cel.Type.DOUBLE),
    "number": (cel.Type.INT, cel.Type.DOUBLE),
    "string": (cel.Type.STRING,),
    "boolean": (cel.Type.BOOL,),
    "array": (cel.Type.List(cel.Type.DYN),),
    "object": (cel.Type.Map(cel.Type.STRING, cel.Type.DYN),),
}
"""The types of JSON Schema as CEL sees their values; a number may come as either."""


def problems_typed(text: str, name: str, declared: str) -> list[Problem]:
    """What the compiler finds wrong with a text where the argument `name` has a type of JSON Schema.

    A number counts as wrong only where both of its kinds are; a type that is not known here is never wrong.
    """
    # The library takes an argument declared by its full path for its value, also inside `has()`.
    asked = re.compile(rf"\bhas\s*\(\s*args\s*\.\s*{re.escape(name)}\s*\)")
    text = asked.sub(lambda found: "true".ljust(len(found[0])), text)
    found = [_typed(f"args.{name}", declared, kind, text) for kind in range(len(_DECLARED.get(declared, ())))]
    return (
        [problem for problem in found[0] if all(problem.at in {one.at for one in other} for other in found)]
        if found
        else []
    )


def _typed(name: str, declared: str, kind: int, text: str) -> list[Problem]:
    try:
        _environment_typed(name, declared, kind).compile(text)
    except RuntimeError as error:
        return problems(str(error), text, VARIABLES)
    return []


@lru_cache(maxsize=1024)
def _environment_typed(name: str, declared: str, kind: int) -> Any:
    types = {**_TYPES, name: _DECLARED[declared][kind]}
    return cel.NewEnv(variables=types, extensions=[ext_strings.ExtStrings()], functions=FUNCTIONS)


class ResultCondition(Condition):
    """What a reading call's `result` says, beside everything that a condition may name."""

    _environment = _WITH_RESULT
    _variables = (*VARIABLES, "result")


class Together:
    """Many conditions as one program, since a run costs more than what it evaluates. Changes no result.

    A list with an error in it is an error: where one of them fails, each is tested by itself.
    """

    def __init__(self, conditions: Iterable[Condition]) -> None:
        self._conditions = tuple(dict.fromkeys(conditions))
        self._reads = frozenset[str]().union(*(condition.reads for condition in self._conditions))
        self._programs: dict[frozenset[str], tuple[tuple[Condition, ...], Any]] = {}

    def results(self, facts: Facts) -> dict[Condition, bool]:
        """What the conditions say of a call that reads no argument it lacks; nothing where one cannot be evaluated."""
        if len(self._conditions) < _WORTH_JOINING:
            return {}
        present = self._reads.intersection(facts.subject.arguments)
        if facts.misfits:
            present = present.difference(facts.misfits)
        joined = self._programs.get(present)
        if joined is None:
            if len(self._programs) >= _NARROWED_KEPT:
                self._programs.clear()
            joined = self._programs[present] = self._joined(present)
        conditions, program = joined
        if program is None or isinstance(result := _result(program, facts), Broken):
            return {}
        values = zip(conditions, result.plain_value(), strict=True)
        return {condition: value for condition, value in values if isinstance(value, bool)}

    def _joined(self, present: frozenset[str]) -> tuple[tuple[Condition, ...], Any]:
        conditions = tuple(condition for condition in self._conditions if condition.reads <= present)
        try:
            # Each stands on lines of its own, so that a comment in one ends there.
            return conditions, _ENVIRONMENT.compile("[" + ",\n".join(f"({one.text}\n)" for one in conditions) + "]")
        except RuntimeError:  # too much for one program
            return conditions, None


def _truth(program: Any, facts: Facts) -> bool | Broken:
    """What a condition gives: only the two truth values count."""
    result = _result(program, facts)
    if isinstance(result, Broken):
        return result
    value = result.value()
    if value is True:
        return True
    if value is False:
        return False
    return Broken(f"it gives `{result.type().name().lower()}`, not true or false")


def _result(program: Any, facts: Facts) -> Any:
    try:
        return _run(program, facts.activation)
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:  # a value it cannot take
        return Broken(why(str(error)))


def _run(program: Any, activation: Any) -> Any:
    """Run a program. The library returns errors as values whose content is a text: here they are `Broken`."""
    try:
        result = program.eval(activation)
        kind = result.type()
        if kind in (cel.Type.ERROR, cel.Type.UNKNOWN):
            return Broken(why(str(result.value())))
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        # Raised, not returned, where the library stops a run (its iteration budget) or cannot take a value.
        return Broken(why(str(error)))
    return result
