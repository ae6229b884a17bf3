"""Which tools there are, as agents see them: prefixed names, widened schemas, `hitl_reason`, and the argument check.

What a tool's definition says comes from the upstream and is passed on as it is, except for what a held call needs. Of a
tool that changed, agents are shown what was accepted: a new definition reaches nobody before an operator saw it.
A tool that cannot be shown or checked safely is left out and reported, and costs the others nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import anyio
from mcp_types.methods import validate_server_result
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION
from pydantic import ValidationError

from hitl_mcp.calls import ToolCall, bound
from hitl_mcp.canonical import canonical_text, digest_of
from hitl_mcp.errors import ArgumentsRefused
from hitl_mcp.limits import (
    AGENT_REASON_CHARACTERS,
    AGENT_TOOL_NAME_CHARACTERS,
    DEFINITION_CHARACTERS,
    PINS_PER_UPSTREAM,
)
from hitl_mcp.pins import Pin, Pins, Proposed
from hitl_mcp.schemas import REASON_ARGUMENT, ArgumentCheck, widened, with_reason
from hitl_mcp.upstreams import Upstream, Upstreams, UpstreamState

__all__ = ["SEPARATOR", "Catalog", "Entry"]

SEPARATOR = "__"
"""Between upstream and tool. No upstream's name has an underscore, so a full name can be read in one way only."""

_NAME = re.compile(
    r"[A-Za-z0-9_.-]{1,128}\Z"
)  # SEP-986; what else could stand in a name would confuse globs and people
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_DIGEST_CHARACTERS = 10


class ToolPolicy(Protocol):
    """What the catalog asks of a policy about a tool's full name."""

    def may_hold(self, name: str) -> bool: ...

    def wants_reason(self, name: str) -> bool: ...

    def requires_reason(self, name: str) -> bool: ...


@dataclass(frozen=True)
class Entry:
    """One tool. `name` is its full name, `agent_name` what agents call it, `definition` the digest of what it is.

    `shown` is the definition that agents get; `input_schema` the upstream's own, which arguments are checked against
    once `hitl_reason` is taken off.
    """

    name: str
    agent_name: str
    upstream: str
    tool: str
    definition: str
    input_schema: dict[str, Any]
    takes_reason: bool
    needs_reason: bool
    shown: dict[str, Any]
    check: ArgumentCheck = field(repr=False, compare=False)
    source: Upstream = field(repr=False, compare=False)
    pins: Pins = field(repr=False, compare=False)

    @property
    def blocked(self) -> str | None:
        """Why no call of this tool may run, as of this moment, or None."""
        return self.pins.why_blocked(self.name)

    @property
    def labels(self) -> Mapping[str, str]:
        """What policies can ask for of its upstream."""
        return self.source.labels

    @property
    def upstream_state(self) -> UpstreamState:
        """Whether a call could be sent now; a tool stays known while its upstream is down."""
        return self.source.state

    def take_claim(self, arguments: dict[str, Any]) -> str:
        """Take the agent's `hitl_reason` off the arguments, where we added it; empty if it gave none.

        Raises:
            ArgumentsRefused: It is no text, too long, or missing where the policy asks for it.
        """
        claim = arguments.pop(REASON_ARGUMENT, "") if self.takes_reason else ""
        if not isinstance(claim, str) or len(claim) > AGENT_REASON_CHARACTERS:
            problem = f"a text of at most {AGENT_REASON_CHARACTERS} characters is needed"
            raise ArgumentsRefused(f"$.arguments.{REASON_ARGUMENT}", problem)
        if self.needs_reason and not claim.strip():
            raise ArgumentsRefused(f"$.arguments.{REASON_ARGUMENT}", "it is missing: say why you want this call")
        return claim

    def validate(self, arguments: Mapping[str, Any]) -> None:
        """Check arguments against the upstream's input schema.

        Raises:
            ArgumentsRefused: They do not fit; every error is named, with its path.
        """
        self.check(arguments)

    def call(self, arguments: Mapping[str, Any], agent: str, meta: Mapping[str, Any] | None = None) -> ToolCall:
        """A call of this tool, bound to bytes and to what the tool is now.

        Raises:
            ArgumentsRefused: `meta` is not strict JSON.
        """
        return bound(self, arguments, agent, meta, fingerprint=self.source.fingerprint, definition=self.definition)


class Catalog:
    """All tools of all upstreams, in the order of their full names."""

    def __init__(self, upstreams: Upstreams, policy: Callable[[], ToolPolicy], pins: Pins) -> None:
        self._upstreams = upstreams
        self._policy = policy
        self._pins = pins
        self._drafts: dict[str, tuple[tuple[dict[str, Any], ...], list[_Draft], list[str]]] = {}
        self._accepted: dict[Pin, _Draft] = {}
        self._by_agent_name: dict[str, Entry] = {}
        self._by_name: dict[str, Entry] = {}
        self._news = anyio.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._tools_callbacks: list[Callable[[], None]] = []
        self.warnings: tuple[str, ...] = ()
        upstreams.on_change(self.refresh)
        pins.on_accept(self.refresh)
        self.refresh()

    def tools(self) -> list[dict[str, Any]]:
        """The definitions that agents get."""
        return [entry.shown for entry in self._by_agent_name.values()]

    def find(self, agent_name: str) -> Entry | None:
        """The tool that agents call by this name, or None."""
        return self._by_agent_name.get(agent_name)

    def find_by_name(self, name: str) -> Entry | None:
        """The tool of this full name, or None."""
        return self._by_name.get(name)

    async def until_ready(self, name: str, seconds: float) -> None:
        """Wait until the tool of this full name could be called, at most so long once all upstreams were tried."""
        await self._upstreams.settled()
        with anyio.move_on_after(seconds):
            while (entry := self.find_by_name(name)) is not None and entry.upstream_state != "ready":
                self._news = anyio.Event()
                await self._news.wait()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, at once and without waiting, when tools or the state of an upstream changed."""
        self._callbacks.append(callback)

    def on_tools_change(self, callback: Callable[[], None]) -> None:
        """As `on_change`, but only when what `tools` returns changed."""
        self._tools_callbacks.append(callback)

    def refresh(self) -> None:
        """Take in what upstreams offer and what the policy says now. Called on every change of an upstream."""
        before = self.tools()
        policy = self._policy()
        warnings: list[str] = []
        listed: list[_Listed] = []
        for upstream in self._upstreams.all():
            drafts, problems = self._drafts_of(upstream)
            warnings.extend(f"upstream `{upstream.name}`: {problem}" for problem in (*upstream.warnings, *problems))
            listed.extend(_Listed(upstream, draft) for draft in drafts)
        kept, clashes = _without_clashes(listed)
        refused = self._pins.take_in({one.name: one.offer for one in kept})
        if refused:
            which = f"`{min(refused)}`" + (f" and {len(refused) - 1:,} more" if len(refused) > 1 else "")
            warnings.append(f"left out: {which}: their upstream has shown more than {PINS_PER_UPSTREAM:,} tools by now")
        entries = [self._entry(one, policy) for one in kept if one.name not in refused]
        warnings.extend(
            f"upstream `{entry.upstream}`: tool `{entry.tool}` cannot be asked for a reason: its schema is composed"
            for entry in entries
            if policy.requires_reason(entry.name) and not entry.needs_reason
        )
        self.warnings = (*warnings, *clashes)
        self._by_agent_name = {entry.agent_name: entry for entry in entries}
        self._by_name = {entry.name: entry for entry in entries}
        self._news.set()
        for callback in self._callbacks:
            callback()
        if self.tools() != before:
            for callback in self._tools_callbacks:
                callback()

    def _drafts_of(self, upstream: Upstream) -> tuple[list[_Draft], list[str]]:
        """What does not depend on the policy is worked out once for each listing."""
        known = self._drafts.get(upstream.name)
        if known is None or known[0] is not upstream.tools:
            drafts, problems = _drafts(upstream.name, upstream.tools)
            known = self._drafts[upstream.name] = (upstream.tools, drafts, problems)
        return known[1], known[2]

    def _entry(self, listed: _Listed, policy: ToolPolicy) -> Entry:
        pin = self._pins.find(listed.name)
        if pin is None or (pin.intact and pin.definition == listed.draft.digest):
            return _entry(listed.upstream, listed.draft, policy, self._pins)
        if pin not in self._accepted:
            self._accepted = {kept: draft for kept, draft in self._accepted.items() if kept.name != pin.name}
            self._accepted[pin] = _accepted_draft(listed.draft.name, pin)
        return _entry(listed.upstream, self._accepted[pin], policy, self._pins)


# From a definition to an entry.


@dataclass(frozen=True)
class _Draft:
    """A tool as its upstream defines it, found fit to be shown; `text` is its definition as canonical JSON."""

    name: str
    definition: dict[str, Any]
    digest: str
    text: str
    check: ArgumentCheck

    @classmethod
    def of(cls, tool: dict[str, Any]) -> _Draft:
        return cls(tool["name"], tool, digest_of(tool), canonical_text(tool), ArgumentCheck(tool["inputSchema"]))


class _Listed(NamedTuple):
    """A tool as its upstream offers it now."""

    upstream: Upstream
    draft: _Draft

    @property
    def name(self) -> str:
        return f"{self.upstream.name}{SEPARATOR}{self.draft.name}"

    @property
    def offer(self) -> Proposed:
        return Proposed(self.upstream.name, self.draft.digest, self.draft.text)


def _accepted_draft(name: str, pin: Pin) -> _Draft:
    """The definition that was accepted; where nobody knows it any more, one that says nothing."""
    tool = json.loads(pin.definition_json) if pin.intact else None
    if tool is None or _why_left_out(tool) is not None:
        text = "Blocked: an operator has to look at this tool before it can be called."
        tool = {"name": name, "description": text, "inputSchema": {"type": "object"}}
    return _Draft.of(tool)


def _drafts(upstream: str, tools: Iterable[dict[str, Any]]) -> tuple[list[_Draft], list[str]]:
    drafts: dict[str, _Draft] = {}
    problems: list[str] = []
    for tool in tools:
        problem = _why_left_out(tool)
        if problem is not None:
            problems.append(f"tool `{json.dumps(tool['name'])[1:-1][:60]}` is left out: {problem}")
            continue
        draft = _Draft.of(tool)
        if draft.check.problem is not None:
            problems.append(f"tool `{tool['name']}` cannot be called: {draft.check.problem}")
        if drafts.setdefault(draft.digest, draft) is not draft:
            problems.append(f"tool `{tool['name']}` is listed twice")
    return list(drafts.values()), problems


def _why_left_out(tool: dict[str, Any]) -> str | None:
    """What keeps a definition from being pinned by its digest, named, or relayed to agents of every revision."""
    try:
        text = canonical_text(tool)
        text.encode("utf-8")
    except (ValueError, RecursionError):
        return "its definition is not JSON that can be passed on"
    if len(text) > DEFINITION_CHARACTERS:
        return f"its definition is longer than {DEFINITION_CHARACTERS:,} characters"
    if _NUL.search(text):
        return "its definition holds a NUL character"
    if not _NAME.match(tool["name"]):
        return "its name has other characters than letters, digits, `_`, `.` and `-`, or more than 128"
    return _why_not_relayable({key: value for key, value in tool.items() if key != "outputSchema"})


def _why_not_relayable(shown: dict[str, Any]) -> str | None:
    listing = {"tools": [shown], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    try:
        for revision in (LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION):
            validate_server_result("tools/list", revision, listing)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"`{'.'.join(str(step) for step in first['loc'][2:])}`: {first['msg'].lower()}"
    except ValueError:  # nested deeper than the SDK writes
        return "its definition is nested too deep"
    return None


def _entry(upstream: Upstream, draft: _Draft, policy: ToolPolicy, pins: Pins) -> Entry:
    name = f"{upstream.name}{SEPARATOR}{draft.name}"
    schema = draft.definition["inputSchema"]
    needed = policy.requires_reason(name)
    asked_for_reason = with_reason(schema, required=needed) if needed or policy.wants_reason(name) else None
    shown = {**draft.definition, "name": _agent_name(name), "inputSchema": asked_for_reason or schema}
    output = shown.pop("outputSchema", None)
    if output is not None and policy.may_hold(name):
        output = widened(output)
    if output is not None and _why_not_relayable({**shown, "outputSchema": output}) is None:
        shown["outputSchema"] = output
    return Entry(
        name=name,
        agent_name=shown["name"],
        upstream=upstream.name,
        tool=draft.name,
        definition=draft.digest,
        input_schema=schema,
        takes_reason=asked_for_reason is not None,
        needs_reason=needed and asked_for_reason is not None,
        shown=shown,
        check=draft.check,
        source=upstream,
        pins=pins,
    )


def _agent_name(name: str) -> str:
    """The full name, or its beginning with a digest where it is too long for agents."""
    if len(name) <= AGENT_TOOL_NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{name[: AGENT_TOOL_NAME_CHARACTERS - _DIGEST_CHARACTERS - 1]}_{digest}"


def _without_clashes(listed: Iterable[_Listed]) -> tuple[list[_Listed], list[str]]:
    """Leave out all tools whose names differ in nothing but case, or not at all: nobody could tell which is meant."""
    groups: dict[str, list[_Listed]] = {}
    for one in listed:
        groups.setdefault(_agent_name(one.name).casefold(), []).append(one)
    problems = [
        f"upstream `{group[0].upstream.name}`: tools {', '.join(f'`{one.draft.name}`' for one in group)} are left out: "
        "their names are alike"
        for group in groups.values()
        if len(group) > 1
    ]
    kept = [group[0] for group in groups.values() if len(group) == 1]
    return sorted(kept, key=lambda one: one.name), problems
