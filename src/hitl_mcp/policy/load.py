"""From YAML files to a policy, or to everything that is wrong with them. The only part of the policy that reads files.

What one file may say stands in `written`; here is what several files mean together and whether the configured people
can do what is asked of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from hitl_mcp.calls import Effect, Requirement
from hitl_mcp.canonical import canonical_text, digest_of
from hitl_mcp.documents import Document, Model, Place, check, one_of, read_document
from hitl_mcp.errors import Finding, PolicyError
from hitl_mcp.people import People
from hitl_mcp.policy.match import ToolNames
from hitl_mcp.policy.model import Band, Clocks, Policy, Rule, Signal
from hitl_mcp.policy.written import PolicyFile, WrittenBand, WrittenHoldDefaults, WrittenRule, WrittenSignal

__all__ = ["load_policy"]

_STAND_ONCE = ("default", "hold_defaults", "bands")
"""Keys that say something of the whole policy, so that two files cannot each mean their own."""

_OF_HOLDS = ("roles", "quorum", "expires", "run_within")
"""Keys that mean something only where a call is held."""

_LEAVE_OUT = "leave it out, or write `effect: hold`"


def load_policy(paths: Sequence[Path], people: People) -> Policy:
    """Read the files of a policy as one.

    Raises:
        PolicyError: Something in them is wrong; it carries every finding of every file.
    """
    documents = [read_document(path) for path in paths]
    policy = _Reading(people).merged(documents)
    findings = [finding for document in documents for finding in sorted(document.findings, key=_position)]
    if findings:
        raise PolicyError(findings)
    return policy


def _position(finding: Finding) -> tuple[int, int]:
    return finding.line, finding.column


class _Reading:
    """One reading of all files: what was seen so far, and what everything is measured by."""

    def __init__(self, people: People) -> None:
        self.people = people
        self.default = Effect.HOLD
        self.defaults = WrittenHoldDefaults()
        self._ids: dict[str, str] = {}
        self._once: dict[str, str] = {}

    def merged(self, documents: Sequence[Document]) -> Policy:
        """The policy that all files make together; only good for use where nothing was found."""
        for document in documents:
            self._whole_policy(document)
        return Policy(
            version=digest_of(sorted(canonical_text(document.value) for document in documents)),
            default=self.default,
            requirement=Requirement("default", tuple(self.defaults.roles)),
            clocks=Clocks(self.defaults.expires, self.defaults.run_within),
            bands=self._all_bands(documents),
            signals=tuple(
                self._signal(*one) for document in documents for one in _items(document, "signals", WrittenSignal)
            ),
            rules=tuple(self._rule(*one) for document in documents for one in _items(document, "rules", WrittenRule)),
        )

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
        roles = written.roles if "roles" in given else self.defaults.roles
        requirement = Requirement(written.id, tuple(roles), written.quorum)
        if effect is Effect.HOLD:
            self._can_be_met(document, place, requirement, f"rule `{written.id}`", roles_written="roles" in given)
        return Rule(
            id=written.id,
            tools=ToolNames(written.tool),
            effect=effect,
            reason=written.reason,
            requirement=requirement,
            when=written.when,
            unless=written.unless,
            clocks=Clocks(
                written.expires if "expires" in given else self.defaults.expires,
                written.run_within if "run_within" in given else self.defaults.run_within,
            ),
        )

    def _signal(self, document: Document, place: Place, written: WrittenSignal) -> Signal:
        self._new_id(document, place, written.id)
        return Signal(written.id, ToolNames(written.tool), written.points, written.reason, written.when)

    def _all_bands(self, documents: Sequence[Document]) -> tuple[Band, ...]:
        """The bands from the lowest to the highest. A score is in one of them: more points must never mean less."""
        found: list[tuple[Band, Document, Place]] = []
        for document in documents:
            for _, place, written in _items(document, "bands", WrittenBand):
                found.append((self._band(document, place, written), document, place))
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


def _items(document: Document, key: str, model: type[Model]) -> Iterator[tuple[Document, Place, Model]]:
    """The items of a list that can be read, each with its place; the others are findings."""
    items = document.value.get(key) if isinstance(document.value, dict) else None
    for index in range(len(items) if isinstance(items, list) else 0):
        place = (key, index)
        if (item := check(document, model, place)) is not None:
            yield document, place, item


def _at(document: Document, position: tuple[int, int]) -> str:
    return f"{document.file}:{position[0]}:{position[1]}"


def _nothing_of_holds(document: Document, place: Place, given: set[str], what: str) -> None:
    for key in _OF_HOLDS:
        if key in given:
            document.find_key((*place, key), f"`{key}` means nothing in {what}", _LEAVE_OUT)


def _milder(band: Band, below: Band) -> bool:
    if band.effect is not below.effect:
        return band.effect.strictness < below.effect.strictness
    if band.effect is Effect.DENY:
        return False
    asked, asked_below = band.requirement, below.requirement
    return asked.quorum < asked_below.quorum or bool(asked_below.roles and not asked.roles)
