"""From YAML files to a policy, or to everything that is wrong with them. The only part of the policy that reads files.

What one file may say stands in `written`; here is what several files mean together and whether the configured people
can do what is asked of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hitl_mcp.calls import ASSURANCES, Assurance, Effect, Requirement
from hitl_mcp.canonical import canonical_text, digest_of
from hitl_mcp.config import PolicySource
from hitl_mcp.documents import Document, Place, Strict, check, meant, one_of, read_document
from hitl_mcp.errors import Finding, PolicyError
from hitl_mcp.people import LOCAL, People
from hitl_mcp.policy.history import Per, in_millionths
from hitl_mcp.policy.match import ToolNames
from hitl_mcp.policy.model import Band, Budget, Case, Clocks, Policy, ProbeAsked, ReadingAsked, Rule, Signal
from hitl_mcp.policy.ready import used_for
from hitl_mcp.policy.signals import (
    Amount,
    Count,
    Measure,
    Novelty,
    Rejections,
    Scale,
    Spend,
    Taint,
    Velocity,
)
from hitl_mcp.policy.written import (
    PolicyFile,
    WrittenBand,
    WrittenBudget,
    WrittenCase,
    WrittenHoldDefaults,
    WrittenProbe,
    WrittenReading,
    WrittenRule,
    WrittenSignal,
)

__all__ = ["OF_HOLDS", "Loaded", "load_policy", "read_policy"]

_STAND_ONCE = ("default", "hold_defaults", "bands")
"""Keys that say something of the whole policy, so that two files cannot each mean their own."""

OF_HOLDS = (
    *("roles", "quorum", "expires", "run_within", "undo", "assurance", "separate", "surfaces", "preview"),
    "grantable",
)
"""Keys that mean something only where a call is held."""

_SUREST: dict[str, Assurance] = {"client": "client", "cli": "cli", "web": "passkey"}
"""How surely it can be known at best who answers through a surface."""

_LEAVE_OUT = "leave it out, or write `effect: hold`"


@dataclass(frozen=True)
class Loaded:
    """A policy with the files it was read from, and where each rule, signal, budget and band stands, by its id."""

    policy: Policy
    files: tuple[tuple[PolicySource, Document], ...]
    places: Mapping[str, tuple[Document, Place]]


def load_policy(sources: Sequence[PolicySource], people: People) -> Policy:
    """Read the files of a policy as one.

    Raises:
        PolicyError: Something in them is wrong; it carries every finding of every file.
    """
    return read_policy(sources, people).policy


def read_policy(sources: Sequence[PolicySource], people: People) -> Loaded:
    """As `load_policy`, with what was read kept beside the policy, for whoever examines it further."""
    documents = [used_for(read_document(source.path, repeats=True), source) for source in sources]
    reading = _Reading(people)
    policy = reading.merged(documents)
    findings = [finding for document in documents for finding in sorted(document.findings, key=_position)]
    if findings:
        raise PolicyError(findings)
    return Loaded(policy, tuple(zip(sources, documents, strict=True)), reading.places)


def _position(finding: Finding) -> tuple[int, int]:
    return finding.line, finding.column


class _Reading:
    """One reading of all files: what was seen so far, and what everything is measured by."""

    def __init__(self, people: People) -> None:
        self.people = people
        self.default = Effect.HOLD
        self.defaults = WrittenHoldDefaults()
        self.places: dict[str, tuple[Document, Place]] = {}
        self._ids: dict[str, str] = {}
        self._once: dict[str, str] = {}
        self._named: list[tuple[Document, Place, str]] = []

    def merged(self, documents: Sequence[Document]) -> Policy:
        """The policy that all files make together; only good for use where nothing was found."""
        for document in documents:
            self._whole_policy(document)
        said = sorted((_counted(document.value) for document in documents), key=canonical_text)
        policy = Policy(
            version=digest_of(said),
            written=canonical_text(said),
            default=self.default,
            requirement=Requirement("default", tuple(self.defaults.roles)),
            clocks=Clocks(self.defaults.expires, self.defaults.run_within),
            bands=self._all_bands(documents),
            signals=_each(documents, "signals", WrittenSignal, self._signal),
            rules=_each(documents, "rules", WrittenRule, self._rule),
            budgets=_each(documents, "budgets", WrittenBudget, self._budget),
            cases=_each(documents, "cases", WrittenCase, self._case),
        )
        self._known_ids()
        self._known_answers(policy)
        return policy

    def _whole_policy(self, document: Document) -> None:
        content = check(document, PolicyFile)
        if content is None:
            return
        for key in _STAND_ONCE:
            self._stands_once(document, key, written=key in content.model_fields_set)
        if "default" in content.model_fields_set:
            self.default = Effect(content.default)
        if "hold_defaults" in content.model_fields_set:
            self.defaults = content.hold_defaults
            self._known_roles(document, ("hold_defaults", "roles"), content.hold_defaults.roles)

    # What stands once, and what is different everywhere

    def _stands_once(self, document: Document, key: str, *, written: bool) -> None:
        if not written:
            return
        if elsewhere := self._once.get(key):
            document.find_key((key,), f"`{key}` already stands in {elsewhere}", "keep it in one file")
        else:
            self._once[key] = _at(document, document.where_key((key,)))

    def _new_id(self, document: Document, place: Place, name: str) -> None:
        self.places.setdefault(name, (document, place))
        if elsewhere := self._ids.get(name):
            document.find((*place, "id"), f"the id `{name}` is already used at {elsewhere}", "give each its own id")
        else:
            self._ids[name] = _at(document, document.where((*place, "id")))

    # Rules, signals, bands

    def _rule(self, document: Document, place: Place, written: WrittenRule) -> Rule:
        self._new_id(document, place, written.id)
        given = written.model_fields_set
        effect = Effect(written.effect)
        if effect is not Effect.HOLD:
            _nothing_of_holds(document, place, given, f"a rule whose effect is `{effect.value}`")
        if effect is not Effect.ALLOW and "record" in given:
            advice = (
                "what people approve is always flushed" if effect is Effect.HOLD else "what is denied is always flushed"
            )
            document.find_key(
                (*place, "record"), f"`record` means nothing in a rule whose effect is `{effect.value}`", advice
            )
        roles = written.roles if "roles" in given else self.defaults.roles
        requirement = Requirement(
            *(written.id, tuple(roles), written.quorum, written.assurance),
            surfaces=tuple(written.surfaces),
            grantable=written.grantable,
        )
        if why := _never_granted(requirement):
            document.find_key((*place, "grantable"), *why)
        if effect is Effect.HOLD and not written.shadow:
            if unmet := _never_approved(requirement, separate=written.separate):
                document.find_key((*place, "surfaces"), *unmet)
            what = f"rule `{written.id}`"
            self._can_be_met(document, place, requirement, what, roles_written="roles" in given)
            if written.separate:
                self._can_be_met_apart(document, place, requirement, what)
        clocks = Clocks(
            written.expires if "expires" in given else self.defaults.expires,
            written.run_within if "run_within" in given else self.defaults.run_within,
        )
        if written.undo >= clocks.run_within_seconds:
            message = "what is approved could never start: `undo` is not shorter than `run_within`"
            document.find_key((*place, "undo"), message, "an approval can be undone for some seconds or minutes")
        return Rule(
            id=written.id,
            tools=ToolNames(written.tool),
            effect=effect,
            reason=written.reason,
            requirement=requirement,
            when=written.when,
            unless=written.unless,
            clocks=clocks,
            separate=written.separate,
            durable=written.record == "durable",
            shadow=written.shadow,
            require_reason=written.require_reason,
            undo_seconds=written.undo,
            preview=_reading(written.preview) if written.preview else None,
            probe=_probe(written.probe) if written.probe else None,
        )

    def _signal(self, document: Document, place: Place, written: WrittenSignal) -> Signal:
        self._new_id(document, place, written.id)
        return Signal(
            id=written.id,
            tools=ToolNames(written.tool),
            points=written.points,
            reason=written.reason,
            when=written.when,
            unless=written.unless,
            measure=_measure(written),
        )

    def _budget(self, document: Document, place: Place, written: WrittenBudget) -> Budget:
        self._new_id(document, place, written.id)
        given, over = written.model_fields_set, Effect(written.over)
        roles = written.roles if "roles" in given else self.defaults.roles
        requirement = Requirement(written.id, tuple(roles), written.quorum)
        if over is Effect.HOLD:
            what = f"budget `{written.id}`"
            self._can_be_met(document, place, requirement, what, roles_written="roles" in given)
        else:
            _nothing_of_holds(
                document, place, given, "a budget with `over: deny`", "leave it out, or write `over: hold`"
            )
        return Budget(
            id=written.id,
            tools=ToolNames(written.tool),
            limits=written.limit,
            per=Per(tuple(written.per)),
            window_seconds=written.window,
            over=over,
            reason=written.reason,
            requirement=requirement,
            of=written.sum,
            unit=written.unit,
            clocks=Clocks(self.defaults.expires, self.defaults.run_within),
        )

    def _case(self, document: Document, place: Place, written: WrittenCase) -> Case:
        """A case; the ids it names are looked up when all files are read."""
        line, column = document.where(place)
        self._named += [
            (document, (*place, "expect", key, index), id)
            for key in ("rules", "signals")
            for index, id in enumerate(getattr(written.expect, key))
        ]
        self._named += [(document, (*place, "given", id), id) for id in written.given]
        call, expect = written.call, written.expect
        return Case(
            name=written.name or f"{document.file}:{line}:{column}",
            file=document.file,
            line=line,
            tool=call.tool,
            arguments=call.args,
            agent=call.agent,
            owner=call.owner,
            labels=call.labels,
            now=call.now,
            given=written.given,
            effect=Effect(expect.effect),
            rules=tuple(expect.rules),
            signals=tuple(expect.signals),
            score=expect.score,
        )

    def _known_ids(self) -> None:
        """What cases name must be there, or a case would pass for a rule that was renamed."""
        for document, place, id in self._named:
            if id not in self._ids:
                document.find(place, f"nothing has the id `{id}`", _near(id, self._ids))
                continue
            key, stands = place[-2], self.places[id][1][0]
            if key != "given" and (key == "signals") is not (stands == "signals"):
                other = "signals" if stands == "signals" else "rules"
                message = f"`{id}` stands under `{stands}`: it is never among a case's `{key}`"
                document.find(place, message, f"write it in `{other}`")

    def _known_answers(self, policy: Policy) -> None:
        """What a case gives must be what history could say, or the case would quietly give nothing."""
        items: list[Rule | Signal | Budget] = [*policy.rules, *policy.signals, *policy.budgets]
        known = {item.id: item for item in items}
        for document, place, id in self._named:
            if place[-2] == "given" and id in known and (wrong := _no_answer(known[id], _written_at(document, place))):
                document.find(place, *wrong)

    def _all_bands(self, documents: Sequence[Document]) -> tuple[Band, ...]:
        """The bands from the lowest to the highest. A score is in one of them: more points must never mean less."""
        found: list[tuple[Band, Document, Place]] = []
        for document in documents:
            for _, place, written in _items(document, "bands", WrittenBand):
                found.append((self._band(document, place, written), document, place))
                self.places.setdefault(f"band-{written.floor}", (document, place))
        found.sort(key=lambda one: one[0].floor)
        for (below, _, _), (band, document, place) in itertools.pairwise(found):
            if band.floor == below.floor:
                document.find((*place, "from"), f"two bands start at {band.floor}", "give each score one meaning")
            elif _milder(band, below):
                advice = "more points must ask for as much or more: raise `effect` or `quorum`, or name `roles`"
                document.find(place, f"the band from {band.floor} is milder than the band from {below.floor}", advice)
        return tuple(band for band, _, _ in found)

    def _band(self, document: Document, place: Place, written: WrittenBand) -> Band:
        given = written.model_fields_set
        roles = written.roles if "roles" in given else self.defaults.roles
        requirement = Requirement(f"band-{written.floor}", tuple(roles), written.quorum)
        if written.effect == "hold":
            what = f"the band from {written.floor}"
            self._can_be_met(document, place, requirement, what, roles_written="roles" in given)
        else:
            _nothing_of_holds(document, place, given, f"a band whose effect is `{written.effect}`")
        return Band(written.floor, Effect(written.effect), requirement)

    # People

    def _can_be_met_apart(self, document: Document, place: Place, requirement: Requirement, what: str) -> None:
        """`separate` must be possible whoever asks: an agent of each owner, and one that nobody is named for."""
        owners = {agent.owner for agent in self.people.agents.values() if agent.owner is not None} | {LOCAL}
        for owner in sorted(owners):
            if not self.people.can_meet(replace(requirement, barred=(owner,))):
                document.find_key(
                    (*place, "separate"),
                    f"{what} cannot be approved where `{owner}` owns the agent: too few others could answer",
                    "name more people under `reviewers` in the config",
                )
                return

    def _known_roles(self, document: Document, place: Place, roles: Sequence[str]) -> bool:
        if not self.people.reviewers:  # `local` then has every role
            return True
        known = sorted(self.people.roles())
        for index, role in enumerate(roles):
            if role not in known:
                document.find((*place, index), f"no reviewer has the role `{role}`", one_of(role, known, "their roles"))
        return set(roles) <= set(known)

    def _can_be_met(
        self, document: Document, place: Place, requirement: Requirement, what: str, *, roles_written: bool
    ) -> None:
        if roles_written and not self._known_roles(document, (*place, "roles"), requirement.roles):
            return
        if self.people.can_meet(requirement) or not set(requirement.roles) <= self._every_role(requirement):
            return
        able = next(
            count
            for count in range(requirement.quorum - 1, -1, -1)
            if count == 0 or self.people.can_meet(Requirement(requirement.id, requirement.roles, count))
        )
        roles = f" with the role {' or '.join(f'`{role}`' for role in requirement.roles)}" if requirement.roles else ""
        document.find(
            (*place, "quorum"),
            f"{what} asks for {requirement.quorum} reviewers{roles}, and there {'is' if able == 1 else 'are'} {able}",
            "name more people under `reviewers` in the config, or lower `quorum`",
        )

    def _every_role(self, requirement: Requirement) -> frozenset[str]:
        return self.people.roles() if self.people.reviewers else frozenset(requirement.roles)


def _items(document: Document, key: str, model: type[Item]) -> Iterator[tuple[Document, Place, Item]]:
    """The items of a list that can be read, each with its place; the others are findings."""
    items = document.value.get(key) if isinstance(document.value, dict) else None
    for index in range(len(items) if isinstance(items, list) else 0):
        place = (key, index)
        if (item := check(document, model, place)) is not None:
            yield document, place, item


def _counted(content: object) -> object:
    """What of a file makes the policy another one: all but its cases, which decide nothing."""
    return {key: value for key, value in content.items() if key != "cases"} if isinstance(content, dict) else content


Item = TypeVar("Item", bound=Strict)
Made = TypeVar("Made")


def _each(
    documents: Sequence[Document], key: str, model: type[Item], make: Callable[[Document, Place, Item], Made]
) -> tuple[Made, ...]:
    """What is made of every item of a list, over all files."""
    return tuple(make(*one) for document in documents for one in _items(document, key, model))


def _measure(written: WrittenSignal) -> Measure | None:
    """What a signal measures, as it is read from calls."""
    if (amount := written.amount) is not None:
        return Amount(amount.of, Scale(amount.low, amount.high))
    if (count := written.count) is not None:
        return Count(count.of, Scale(count.low, count.high))
    if (novelty := written.novelty) is not None:
        return Novelty(novelty.of, Per(tuple(novelty.per)), novelty.window)
    if (velocity := written.velocity) is not None:
        return Velocity(Per(tuple(velocity.per)), velocity.window, velocity.above)
    if (spend := written.spend) is not None:
        return Spend(spend.of, spend.unit, Per(tuple(spend.per)), spend.window, Scale(spend.low, spend.high))
    if (taint := written.taint) is not None:
        return Taint(ToolNames(taint.sources), taint.window)
    if (rejections := written.rejections) is not None:
        return Rejections(Per(tuple(rejections.per)), rejections.window, rejections.above)
    return None


def _reading(written: WrittenReading) -> ReadingAsked:
    return ReadingAsked(written.tool, written.args)


def _probe(written: WrittenProbe) -> ProbeAsked:
    return ProbeAsked(_reading(written), written.happened, written.did_not)


def _written_at(document: Document, place: Place) -> object:
    value: Any = document.value
    for part in place:
        value = value[part]
    return value


def _no_answer(item: Rule | Signal | Budget, given: object) -> tuple[str, str] | None:
    """What is wrong with an answer of history that a case gives; None where it is one."""
    asks = item if isinstance(item, Budget) else item.measure if isinstance(item, Signal) else None
    if isinstance(asks, Velocity | Rejections) or (isinstance(asks, Budget) and asks.of is None):
        fits = isinstance(given, int) and not isinstance(given, bool) and given >= 0
        return None if fits else ("this must be a number of earlier calls", f"write `{item.id}: 20`")
    if isinstance(asks, Budget | Spend):
        sums = list(given.values()) if isinstance(given, dict) and asks.unit is not None else [given]
        if sums and all(in_millionths(one) is not None for one in sums):
            return None
        example = "{EUR: 100}" if asks.unit is not None else "100"
        return "this must be the sum of earlier calls", f"write `{item.id}: {example}`"
    if isinstance(asks, Taint):
        return None if isinstance(given, bool) else ("this must be `true` or `false`", f"write `{item.id}: true`")
    if isinstance(asks, Novelty):
        return None if isinstance(given, list) else ("this must be the known values", f"write `{item.id}: [a, b]`")
    return f"`{item.id}` asks nothing of history", "leave it out; `given` answers what looks at earlier calls"


def _near(id: str, ids: Iterable[str]) -> str:
    near = meant(id, ids)
    if id == "default" or id.startswith("band-"):
        return "what the default and a band do shows in `effect` and `score`"
    return f"did you mean `{near}`?" if near else "write the id of a rule, a signal or a budget"


def _at(document: Document, position: tuple[int, int]) -> str:
    return f"{document.file}:{position[0]}:{position[1]}"


def _nothing_of_holds(document: Document, place: Place, given: set[str], what: str, advice: str = _LEAVE_OUT) -> None:
    for key in OF_HOLDS:
        if key in given:
            document.find_key((*place, key), f"`{key}` means nothing in {what}", advice)


def _never_approved(need: Requirement, *, separate: bool) -> tuple[str, str] | None:
    """Why nobody who answers through the surfaces that a rule itself names could meet it."""
    if not need.surfaces:
        return None
    surest = max((_SUREST[name] for name in need.surfaces), key=ASSURANCES.index)
    if ASSURANCES.index(surest) < ASSURANCES.index(need.assurance):
        told = " or ".join(f"`{name}`" for name in need.surfaces)
        message = f"nobody could approve this: what comes through {told} is never as sure as `{need.assurance}`"
        return message, f"add `web` to `surfaces`, or write `assurance: {surest}`"
    if surest == "client" and (need.roles or need.quorum > 1 or separate):
        message = (
            "nobody could approve this: in the agent's own client nobody has a role, or is known to be someone else"
        )
        return message, "add `web` or `cli` to `surfaces`, or leave out `roles`, `quorum` and `separate`"
    return None


def _never_granted(need: Requirement) -> tuple[str, str] | None:
    """Why what a rule itself asks for can never be met by a grant, where it is said to be grantable."""
    if not need.grantable:
        return None
    if need.quorum > 1:
        what = "a grant is one person's: it never meets a `quorum` above 1"
        return what, "leave out `grantable`, or write `quorum: 1`"
    if need.assurance == "passkey":
        message = "a passkey signs one call: a grant never meets `assurance: passkey`"
        return message, "leave out `grantable`, or ask for `link`"
    if need.surfaces and set(need.surfaces) <= {"client"}:
        return "no grant is given in the agent's own client", "leave out `grantable`, or add `web` to `surfaces`"
    return None


def _milder(band: Band, below: Band) -> bool:
    if band.effect is not below.effect:
        return band.effect.strictness < below.effect.strictness
    if band.effect is Effect.DENY:
        return False
    asked, asked_below = band.requirement, below.requirement
    return asked.quorum < asked_below.quorum or bool(asked_below.roles and not asked.roles)
