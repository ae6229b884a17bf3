"""What is doubtful in a policy that could be read, held against the tools there are. No I/O: the lists are given.

A finding is a mistake: something that can never do what its author meant. A note is only worth knowing. What is wrong
with a file by itself is found on loading, not here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from hitl_mcp.calls import Effect
from hitl_mcp.documents import Document, Place, Problem, meant
from hitl_mcp.errors import Finding
from hitl_mcp.policy.conditions import Expression, ResultCondition, problems_typed
from hitl_mcp.policy.load import Loaded
from hitl_mcp.policy.match import ToolNames, offer_parts
from hitl_mcp.policy.model import MAXIMUM_SCORE, Budget, Policy, Rule, Signal
from hitl_mcp.policy.signals import Taint
from hitl_mcp.policy.subject import declared_names

__all__ = ["KnownTools", "Report", "Tool", "check_policy", "declared_types", "expressions"]

Item = Rule | Signal | Budget

NAMES_SHOWN = 12
"""How many names a help line lists: more are no help."""

_WILD = re.compile(r"[*?]")
_IN_QUOTES = re.compile(r"\"\"\".*?\"\"\"|'''.*?'''|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
_NAMED = re.compile(r"(?<![\w.])args\s*\.\s*([A-Za-z_]\w*)\b(?!\s*\()")
_ASKED = re.compile(r"\bhas\s*\(\s*args\s*\.\s*([A-Za-z_]\w*)")
_IN_REASON = re.compile(r"\{args\.([A-Za-z_]\w*)")
_LISTED = re.compile(r"\ball_addresses_in\s*\(\s*args\s*,\s*\[([^\]]*)\]")
_TEXT = re.compile(r"\"([^\"\\]*)\"|'([^'\\]*)'")
_MEASURED = ("of", "unit")


@dataclass(frozen=True)
class Tool:
    """One tool that is known, by its full name, with its input schema where there is one."""

    name: str
    schema: dict[str, Any] | None = None


@dataclass(frozen=True)
class KnownTools:
    """The tools that are known. `listed`: upstreams all of whose tools are among them.

    `upstreams` are all there are, where somebody knows: then a policy can name one that is not there.
    """

    tools: tuple[Tool, ...] = ()
    listed: frozenset[str] = frozenset()
    upstreams: frozenset[str] | None = None

    @property
    def complete(self) -> bool:
        """Whether there is no tool beside these."""
        return bool(self.listed) and (self.upstreams is None or self.upstreams <= self.listed)

    def schema(self, name: str) -> dict[str, Any] | None:
        """The input schema of a tool, where it is known."""
        return next((tool.schema for tool in self.tools if tool.name == name), None)

    def settles(self, pattern: str) -> bool:
        """Whether everything that a glob could mean is known; of resources and prompts it never is."""
        if offer_parts(pattern) is not None:
            return False
        upstream = _upstream_of(pattern)
        return self.complete if upstream is None else upstream in self.listed


@dataclass(frozen=True)
class Report:
    """What was found; `by_default` are the tools that no rule decides."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    by_default: tuple[str, ...]


def check_policy(loaded: Loaded, known: KnownTools, ready: Collection[Path] = ()) -> Report:
    """Examine a policy. The files in `ready` serve many servers: that a rule of theirs finds nothing to do is right."""
    checking = _Checking(known)
    items = {item.id: item for item in _items(loaded.policy)}
    of_ready = {id(document) for source, document in loaded.files if source.path in ready}
    for name, (document, place) in loaded.places.items():
        if name in items:
            checking.item(items[name], document, place, ready=id(document) in of_ready)
    _bands(loaded, known)
    _grantable(loaded, known, ready=of_ready)
    for source, document in loaded.files:
        if source.path in ready:
            _does_something(loaded.policy, document, known, source.upstream)
    findings = [finding for _, document in loaded.files for finding in document.findings]
    by_default = tuple(tool.name for tool in known.tools if not loaded.policy.concerning(tool.name).rules)
    return Report(
        tuple(sorted(findings, key=lambda finding: (finding.file, finding.line, finding.column))),
        (*checking.notes, *_notes(loaded.policy, known, by_default)),
        by_default,
    )


def expressions(item: Item) -> Iterator[tuple[Place, Expression]]:
    """The expressions of a rule, a signal or a budget, each with its place below that item."""
    found: list[tuple[Place, Expression | None]] = []
    if isinstance(item, Budget):
        found += [(("sum",), item.of), (("unit",), item.unit)]
    else:
        found += [(("when",), item.when), (("unless",), item.unless)]
    if isinstance(item, Signal) and item.measure is not None:
        kind = type(item.measure).__name__.lower()
        found += [((kind, key), getattr(item.measure, key, None)) for key in _MEASURED]
    if isinstance(item, Rule) and item.preview is not None:
        found += [(("preview", "args", name), one) for name, one in item.preview.arguments.items()]
    if isinstance(item, Rule) and item.probe is not None:
        found += [(("probe", "args", name), one) for name, one in item.probe.call.arguments.items()]
        found += [(("probe", "happened"), item.probe.happened), (("probe", "did_not"), item.probe.did_not)]
    yield from ((place, one) for place, one in found if one is not None)


def declared_types(schema: dict[str, Any] | None, name: str) -> tuple[str, ...]:
    """The types that a tool's schema declares for an argument; empty where it leaves any open."""
    declared = (schema or {}).get("properties", {})
    return _types_of(declared.get(name)) if isinstance(declared, dict) else ()


def _types_of(declared: Any) -> tuple[str, ...]:
    if not isinstance(declared, dict):
        return ()
    wanted = declared.get("type")
    choices = declared.get("anyOf") or declared.get("oneOf")
    if wanted is None and isinstance(choices, list):
        each = [_types_of(choice) for choice in choices]
        return tuple(kind for kinds in each for kind in kinds) if all(each) else ()
    return tuple(kind for kind in (wanted if isinstance(wanted, list) else [wanted]) if isinstance(kind, str))


def _items(policy: Policy) -> Iterator[Item]:
    yield from policy.rules
    yield from policy.signals
    yield from policy.budgets


class _Checking:
    """Holds one item after another against the tools; what it finds is added to the item's document."""

    def __init__(self, known: KnownTools) -> None:
        self.known = known
        self.notes: list[str] = []

    def item(self, item: Item, document: Document, place: Place, *, ready: bool) -> None:
        """Look at one rule, signal or budget."""
        if not ready:
            self._tools(document, (*place, "tool"), item.tools)
            if isinstance(item, Signal) and isinstance(item.measure, Taint):
                self._tools(document, (*place, "taint", "from"), item.measure.sources)
            for key in ("preview", "probe"):
                self._reading(document, (*place, key))
        patterns = [pattern for _, pattern in _patterns(document, (*place, "tool"))]
        matched = [tool for tool in self.known.tools if item.tools.match(tool.name)]
        if not matched or not all(self.known.settles(pattern) for pattern in patterns):
            return
        for below, expression in expressions(item):
            if not ready:
                self._arguments(document, (*place, *below), _names(expression, _is_general(patterns)), matched)
            self._types(document, (*place, *below), expression, matched)
        if not ready:
            self._reason(document, (*place, "reason"), item.reason, matched)

    def _tools(self, document: Document, place: Place, names: ToolNames) -> None:
        """Each upstream and each tool that is named in full must be there, and of all globs one must find a tool."""
        known, settled = self.known, []
        for at, pattern in _patterns(document, place):
            upstream = _upstream_of(pattern)
            if upstream is not None and known.upstreams is not None and upstream not in known.upstreams:
                advice = _near(upstream, known.upstreams, "upstreams")
                document.find(at, f"no upstream is called `{upstream}`", advice)
                return
            settled.append(known.settles(pattern))
            if settled[-1] and not _WILD.search(pattern) and not any(tool.name == pattern for tool in known.tools):
                siblings = [tool.name for tool in known.tools if _upstream_of(tool.name) == upstream]
                document.find(at, f"no tool is called `{pattern}`", _near(pattern, siblings, "its upstream's tools"))
                return
        if not all(settled) or any(names.match(tool.name) for tool in known.tools):
            return
        patterns = [pattern for _, pattern in _patterns(document, place)]
        message = f"no tool is named by {' or '.join(f'`{pattern}`' for pattern in patterns[:NAMES_SHOWN])}"
        if _is_general(patterns):  # written for whatever server comes
            line, column = document.where(place)
            self.notes.append(f"{document.file}:{line}:{column}: {message}")
        else:
            document.find(place, message, "`hitl-mcp policy check --json` lists the names of all tools")

    def _reading(self, document: Document, place: Place) -> None:
        """The tool that a preview or a probe reads with."""
        if place[-1] in _value(document, place[:-1]):
            names = [pattern for _, pattern in _patterns(document, (*place, "tool"))]
            self._tools(document, (*place, "tool"), ToolNames(names))

    def _arguments(self, document: Document, place: Place, named: _Named, tools: list[Tool]) -> None:
        """An argument that none of the tools has: the condition would never see it."""
        theirs = _arguments_of(tools)
        if theirs is None:
            return
        for name in sorted(named.names - theirs):
            at = _position(named.text, rf"(?<![\w.])args\s*(?:\.\s*|\[\s*[\"']){re.escape(name)}\b")
            document.find_problem(place, _lacking(name, theirs, tools, at))
        for listed in _LISTED.finditer(named.text):
            names = {double or single for double, single in _TEXT.findall(listed[1])}
            if names and names.isdisjoint(theirs):
                at = _at(named.text, listed.start(1))
                document.find_problem(place, _lacking(min(names), theirs, tools, at))

    def _reason(self, document: Document, place: Place, reason: str, tools: list[Tool]) -> None:
        theirs = _arguments_of(tools)
        if theirs is None or "reason" not in _value(document, place[:-1]):
            return
        for name in sorted(set(_IN_REASON.findall(reason)) - theirs):
            at = _position(reason, rf"\{{args\.{re.escape(name)}")
            document.find_problem(place, _lacking(name, theirs, tools, at))

    def _types(self, document: Document, place: Place, expression: Expression, tools: list[Tool]) -> None:
        """What no declared type of an argument can be used for, at any of the tools."""
        if isinstance(expression, ResultCondition):
            return  # it is mostly about a result, and nobody declares that
        for name in sorted(expression.reads):
            known = [(tool, declared_names(tool.schema)) for tool in tools]
            owners = [tool for tool, names in known if names is None or name in names]
            declared = [declared_types(tool.schema, name) for tool in owners]
            if not owners or not all(declared):
                continue
            kinds = sorted({kind for kinds in declared for kind in kinds} - {"null"})
            found = [problems_typed(expression.text, name, kind) for kind in kinds]
            for problem in found[0] if found else ():
                everywhere = all(problem.at in {one.at for one in other} for other in found)
                if everywhere and "null_type" not in problem.message:
                    says = " or ".join(f"`{kind}`" for kind in kinds)
                    advice = f"the tool's schema declares `{name}` as {says}"
                    document.find_problem(place, Problem(_in_words(problem.message), advice, problem.at))


def _in_words(message: str) -> str:
    for ours, theirs in (("number", r"\b(?:int|double)\b"), ("text", r"\bstring\b"), ("any", r"\bdyn\b")):
        message = re.sub(theirs, ours, message)
    return message


class _Named(NamedTuple):
    """An expression's text, and the arguments that it names."""

    text: str
    names: set[str]


def _names(expression: Expression, general: bool) -> _Named:
    """The arguments an expression names, also those it only asks for: a misspelt `has(args.x)` is never true.

    A rule for whatever server comes asks so on purpose: there what is asked for may be lacking.
    """
    blank = _IN_QUOTES.sub(lambda found: " " * len(found[0]), expression.text)
    names = {*expression.reads, *_NAMED.findall(blank)}
    return _Named(expression.text, names.difference(_ASKED.findall(blank)) if general else names)


def _is_general(patterns: list[str]) -> bool:
    """Whether globs are about tools of any upstream."""
    return all(_upstream_of(pattern) is None for pattern in patterns)


def _arguments_of(tools: Iterable[Tool]) -> set[str] | None:
    """All arguments that some of the tools have; None where the schema of one does not tell."""
    names: set[str] = set()
    for tool in tools:
        declared = declared_names(tool.schema)
        if declared is None:
            return None
        names |= declared
    return names


def _lacking(name: str, theirs: set[str], tools: list[Tool], at: tuple[int, int]) -> Problem:
    who = f"`{tools[0].name}` has no" if len(tools) == 1 else f"none of the {len(tools)} tools has an"
    return Problem(
        f"{who} argument `{name}`", _near(name, theirs, "its arguments" if len(tools) == 1 else "theirs"), at
    )


def _near(word: str, words: Iterable[str], what: str) -> str:
    known = sorted(words)
    near = meant(word, known)
    listed = ", ".join(f"`{one}`" for one in known[:NAMES_SHOWN]) + (", …" if len(known) > NAMES_SHOWN else "")
    everything = f"{what}: {listed or 'none'}"
    return f"did you mean `{near}`? {everything}" if near else everything


def _position(text: str, pattern: str) -> tuple[int, int]:
    found = re.search(pattern, text)
    return _at(text, found.start()) if found else (1, 1)


def _at(text: str, offset: int) -> tuple[int, int]:
    """An offset in a text as line and column."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _value(document: Document, place: Place) -> dict[str, Any]:
    value: Any = document.value
    for part in place:
        value = value[part]
    return cast(dict[str, Any], value)


def _patterns(document: Document, place: Place) -> list[tuple[Place, str]]:
    """The globs as written, each with its place."""
    written: Any = _value(document, place)
    if isinstance(written, str):
        return [(place, written)]
    return [((*place, index), pattern) for index, pattern in enumerate(written)]


def _upstream_of(pattern: str) -> str | None:
    """The upstream that a glob names outright."""
    if (offer := offer_parts(pattern)) is not None:
        return None if _WILD.search(offer.upstream) else offer.upstream
    upstream, apart, _ = pattern.partition("__")
    return upstream if apart and not _WILD.search(upstream) else None


def _bands(loaded: Loaded, known: KnownTools) -> None:
    """A band above every score that can be: whoever wrote it relies on something that never happens."""
    policy = loaded.policy
    if known.complete:
        most, who = max(((policy.reachable_score(tool.name), tool.name) for tool in known.tools), default=(0, ""))
        limit = f"{most} points are the most, for `{who}`" if most else "no signal concerns a tool"
    else:
        most = min(MAXIMUM_SCORE, sum(signal.points for signal in policy.signals))
        limit = f"all signals together have {most} points"
    for band in policy.bands:
        if band.floor > most:
            document, place = loaded.places[band.id]
            message = f"no tool can reach the band from {band.floor}: {limit}"
            document.find((*place, "from"), message, "lower `from`, or give signals more points")


def _grantable(loaded: Loaded, known: KnownTools, ready: Collection[int]) -> None:
    """A rule whose grants never serve a call: something else always holds or denies the same calls, and is not met."""
    for rule in loaded.policy.rules:
        document, place = loaded.places[rule.id]
        if not rule.requirement.grantable or rule.shadow or id(document) in ready:
            continue
        tools = [tool.name for tool in known.tools if rule.tools.match(tool.name)]
        settled = all(known.settles(pattern) for _, pattern in _patterns(document, (*place, "tool")))
        others = [_always_strict(loaded.policy, name) for name in tools] if settled else []
        others = others or [_strict_band(loaded.policy)]
        if all(others):
            which = ", ".join(sorted({str(other) for other in others}))
            message = f"`grantable` can never matter: a grant would serve none of these calls, because of {which}"
            document.find_key((*place, "grantable"), message, "leave it out, or narrow what else holds these calls")


def _always_strict(policy: Policy, name: str) -> str | None:
    """What is asked of every call of a tool that no grant meets, or None."""
    for rule in policy.concerning(name).rules:
        met_by_grant = rule.effect is Effect.ALLOW or (rule.effect is Effect.HOLD and rule.requirement.grantable)
        if rule.unconditional and not met_by_grant:
            return f"rule `{rule.id}`"
    return _strict_band(policy)


def _strict_band(policy: Policy) -> str | None:
    """The band that every score is in, where there is such: it holds or denies every call."""
    return f"the band from {policy.bands[0].floor}" if policy.bands and policy.bands[0].floor == 0 else None


def _does_something(policy: Policy, document: Document, known: KnownTools, upstream: str | None) -> None:
    """A ready policy none of whose rules names a tool was meant for another server."""
    judged = upstream in known.listed if upstream is not None else known.complete
    ids = {str(rule.get("id")) for rule in _value(document, ()).get("rules", ())}
    rules = [rule for rule in policy.rules if rule.id in ids]
    if judged and rules and not any(rule.tools.match(tool.name) for rule in rules for tool in known.tools):
        where = f"of `{upstream}`" if upstream else "that is known"
        document.find(
            (), f"none of its rules names a tool {where}", "use the ready policy that is made for this server"
        )


def _notes(policy: Policy, known: KnownTools, by_default: tuple[str, ...]) -> Iterator[str]:
    if not known.listed:
        yield "no tool is known, so rules were not held against tools: give `--tools`, or start the gateway"
    for upstream in sorted((known.upstreams or frozenset()) - known.listed) if known.listed else ():
        yield f"the tools of `{upstream}` are not known: what concerns them was not held against them"
    if by_default:
        listed = ", ".join(by_default)
        many = "1 tool is" if len(by_default) == 1 else f"{len(by_default)} tools are"
        yield f"{many} named by no rule, so the default decides (`{policy.default}`): {listed}"
