"""Which tools there are, as agents see them: prefixed names, widened schemas, `hitl_reason`, and the argument check.

What a tool's definition says comes from the upstream and is passed on as it is, except for what a held call needs.
A tool that cannot be shown or checked safely is left out and reported, and costs the others nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol
from urllib.parse import unquote

import anyio
import jsonschema_rs
from mcp_types.methods import validate_server_result
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION
from pydantic import ValidationError

from hitl_mcp.calls import ToolCall
from hitl_mcp.canonical import canonical_text, check_value, digest_of
from hitl_mcp.errors import ArgumentsRefused
from hitl_mcp.limits import (
    AGENT_REASON_CHARACTERS,
    AGENT_TOOL_NAME_CHARACTERS,
    ARGUMENT_ERRORS,
    SCHEMA_BACKTRACKS,
    SCHEMA_COST,
    SCHEMA_PATTERN_BYTES,
)
from hitl_mcp.upstreams import Upstream, Upstreams, UpstreamState

__all__ = ["OUTCOME_SCHEMA", "REASON_ARGUMENT", "Catalog", "Entry", "widened", "with_reason"]

REASON_ARGUMENT = "hitl_reason"
"""The argument in which an agent may say why it wants a call; taken off before the upstream sees the call."""

SEPARATOR = "__"
"""Between upstream and tool. No upstream's name has an underscore, so a full name can be read in one way only."""

OUTCOME_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "What became of a call that did not simply run",
    "properties": {
        "status": {"type": "string"},
        "executed": {"description": "whether the tool ran; neither true nor false where nobody knows"},
        "call_id": {"type": "string"},
        "retry": {"enum": ["repeat_same", "ask_user", "never"]},
        "repeat": {"type": "boolean"},
        "expires_at": {"type": "string"},
        "review_url": {"type": "string"},
        "reasons": {"type": "array", "items": {"type": "string"}},
        "changes": {},
        "result": {},
        "message": {"type": "string"},
    },
    "required": ["status", "executed"],
}
"""The `structuredContent` of a call that was held, refused or lost."""

_NAME = re.compile(
    r"[A-Za-z0-9_.-]{1,128}\Z"
)  # SEP-986; what else could stand in a name would confuse globs and people
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_DIGEST_CHARACTERS = 10

_REASON_SCHEMA = {
    "type": "string",
    "maxLength": AGENT_REASON_CHARACTERS,
    "description": "why you want this; shown to the human reviewer as your claim",
}
_PLAIN_KEYWORDS = frozenset(
    {
        "$comment", "$defs", "$schema", "additionalProperties", "default", "definitions", "deprecated", "description",
        "examples", "properties", "required", "title", "type",
    }
)  # fmt: skip
"""What may stand at the top of a schema to which a property can be added without changing what the rest says."""

_DATA_KEYWORDS = frozenset({"const", "default", "enum", "examples"})
_SCOPING_KEYWORDS = frozenset(
    {"$id", "id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef"}
)
_SHARED_KEYWORDS = ("$defs", "definitions")
_NAMING_KEYWORDS = frozenset({*_SHARED_KEYWORDS, "dependentSchemas", "patternProperties", "properties"})
"""Keywords whose value maps names to schemas: there a name such as `default` is no keyword."""


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
        return ToolCall(
            upstream=self.upstream,
            tool=self.tool,
            name=self.name,
            arguments_json=canonical_text(arguments),
            agent=agent,
            fingerprint=self.source.fingerprint,
            definition=self.definition,
            meta_json=canonical_text(check_value(dict(meta or {}), "$._meta")),
        )


class Catalog:
    """All tools of all upstreams, in the order of their full names."""

    def __init__(self, upstreams: Upstreams, policy: Callable[[], ToolPolicy]) -> None:
        self._upstreams = upstreams
        self._policy = policy
        self._drafts: dict[str, tuple[tuple[dict[str, Any], ...], list[_Draft], list[str]]] = {}
        self._by_agent_name: dict[str, Entry] = {}
        self._by_name: dict[str, Entry] = {}
        self._news = anyio.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._tools_callbacks: list[Callable[[], None]] = []
        self.warnings: tuple[str, ...] = ()
        upstreams.on_change(self.refresh)
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
        entries: list[Entry] = []
        for upstream in self._upstreams.all():
            drafts, problems = self._drafts_of(upstream)
            warnings.extend(f"upstream `{upstream.name}`: {problem}" for problem in (*upstream.warnings, *problems))
            added = [_entry(upstream, draft, policy) for draft in drafts]
            warnings.extend(
                f"upstream `{upstream.name}`: tool `{entry.tool}` cannot be asked for a reason: its schema is composed"
                for entry in added
                if policy.requires_reason(entry.name) and not entry.needs_reason
            )
            entries.extend(added)
        kept, problems = _without_clashes(entries)
        self.warnings = (*warnings, *problems)
        self._by_agent_name = {entry.agent_name: entry for entry in kept}
        self._by_name = {entry.name: entry for entry in kept}
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


# From a definition to an entry.


@dataclass(frozen=True)
class _Draft:
    """A tool as its upstream defines it, found fit to be shown."""

    name: str
    definition: dict[str, Any]
    digest: str
    check: ArgumentCheck


def _drafts(upstream: str, tools: Iterable[dict[str, Any]]) -> tuple[list[_Draft], list[str]]:
    drafts: dict[str, _Draft] = {}
    problems: list[str] = []
    for tool in tools:
        problem = _why_left_out(tool)
        if problem is not None:
            problems.append(f"tool `{json.dumps(tool['name'])[1:-1][:60]}` is left out: {problem}")
            continue
        check = ArgumentCheck(tool["inputSchema"])
        if check.problem is not None:
            problems.append(f"tool `{tool['name']}` cannot be called: {check.problem}")
        draft = _Draft(tool["name"], tool, digest_of(tool), check)
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


def _entry(upstream: Upstream, draft: _Draft, policy: ToolPolicy) -> Entry:
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
    )


def _agent_name(name: str) -> str:
    """The full name, or its beginning with a digest where it is too long for agents."""
    if len(name) <= AGENT_TOOL_NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{name[: AGENT_TOOL_NAME_CHARACTERS - _DIGEST_CHARACTERS - 1]}_{digest}"


def _without_clashes(entries: Iterable[Entry]) -> tuple[list[Entry], list[str]]:
    """Leave out all tools whose names differ in nothing but case, or not at all: nobody could tell which is meant."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.agent_name.casefold(), []).append(entry)
    problems = [
        f"upstream `{group[0].upstream}`: tools {', '.join(f'`{entry.tool}`' for entry in group)} are left out: "
        "their names are alike"
        for group in groups.values()
        if len(group) > 1
    ]
    kept = [group[0] for group in groups.values() if len(group) == 1]
    return sorted(kept, key=lambda entry: entry.name), problems


# Schemas that agents get.


def with_reason(schema: Mapping[str, Any], *, required: bool = False) -> dict[str, Any] | None:
    """An input schema with `hitl_reason` as one more property; None where adding it could change what it says."""
    properties = schema.get("properties")
    is_plain = all(keyword in _PLAIN_KEYWORDS or keyword.startswith("x-") for keyword in schema)
    if schema.get("type") != "object" or not isinstance(properties, dict) or not is_plain:
        return None
    needed = schema.get("required") or []
    if REASON_ARGUMENT in properties or REASON_ARGUMENT in needed:
        return None
    asked = {**schema, "properties": {**properties, REASON_ARGUMENT: _REASON_SCHEMA}}
    return {**asked, "required": [*needed, REASON_ARGUMENT]} if required else asked


def widened(schema: object) -> dict[str, Any] | None:
    """An output schema that takes the upstream's result or our outcome; None where it cannot be moved safely.

    Definitions move to the top, where references to them still lead; other local references are led to where the
    rest now stands. What names itself or refers elsewhere cannot be moved.
    """
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return None
    try:
        moved = _moved(schema)
    except (_Immovable, RecursionError):
        return None
    top = {key: moved.pop(key) for key in ("$schema", *_SHARED_KEYWORDS) if key in moved}
    return {"type": "object", **top, "anyOf": [moved, OUTCOME_SCHEMA]}


class _Immovable(Exception):
    """A schema that means something else when it stands elsewhere."""


def _moved(value: Any) -> Any:
    if isinstance(value, list):
        return [_moved(item) for item in value]
    if not isinstance(value, dict):
        return value
    moved: dict[str, Any] = {}
    for key, item in value.items():
        if key in _SCOPING_KEYWORDS and isinstance(item, str | bool):
            raise _Immovable
        if key == "$ref" and isinstance(item, str):
            moved[key] = _moved_reference(item)
        elif key in _NAMING_KEYWORDS and isinstance(item, dict):
            moved[key] = {name: _moved(schema) for name, schema in item.items()}
        else:
            moved[key] = item if key in _DATA_KEYWORDS else _moved(item)
    return moved


def _moved_reference(reference: str) -> str:
    if reference != "#" and not reference.startswith("#/"):
        raise _Immovable
    if reference.startswith(tuple(f"#/{keyword}/" for keyword in _SHARED_KEYWORDS)):
        return reference
    return "#/anyOf/0" + reference[1:]


# Checking arguments.


class ArgumentCheck:
    """An input schema, compiled once. Fetches nothing, and matches patterns in bounded time.

    `problem` says why a schema cannot be used; then every call is refused: arguments that nobody can check are not
    passed on.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self.problem = _why_too_costly(schema)
        if self.problem is not None:
            return
        try:
            self._validator = jsonschema_rs.validator_for(
                schema,
                mask="the value",
                offline=True,
                validate_formats=False,
                pattern_options=jsonschema_rs.FancyRegexOptions(
                    backtrack_limit=SCHEMA_BACKTRACKS, size_limit=SCHEMA_PATTERN_BYTES
                ),
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            reason = getattr(error, "message", "") or str(error).partition("\n")[0]
            self.problem = f"its input schema cannot be used: {reason}"

    def __call__(self, arguments: Mapping[str, Any]) -> None:
        if self.problem is not None:
            raise ArgumentsRefused("$.arguments", f"the tool cannot be called: {self.problem}")
        errors = list(islice(self._validator.iter_errors(arguments), ARGUMENT_ERRORS))
        if errors:
            told = [_told(error) for error in sorted(errors, key=_rank)]
            more = "".join(f"; {path}: {message}" for path, message in told[1:])
            raise ArgumentsRefused(told[0][0], told[0][1] + more)


def _rank(error: jsonschema_rs.ValidationError) -> tuple[int, bool]:
    """What is nearest to the top explains most, and there what is missing."""
    return len(error.instance_path), not isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required)


def _told(error: jsonschema_rs.ValidationError) -> tuple[str, str]:
    path = "$.arguments" + "".join(_step(step) for step in error.instance_path)
    match error.kind:
        case jsonschema_rs.ValidationErrorKind.Required(property=missing):
            return path + _step(missing), "it is missing"
        case jsonschema_rs.ValidationErrorKind.AdditionalProperties(unexpected=[first, *_]):
            return path + _step(first), "the tool has no such argument"
    return path, error.message


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() else f"[{json.dumps(step)}]"


def _why_too_costly(schema: Mapping[str, Any]) -> str | None:
    try:
        cost = _Cost(schema).total
    except RecursionError:
        return "its input schema is nested too deep"
    return None if cost <= SCHEMA_COST else "its input schema refers to itself so often that no check would end"


class _Cost:
    """How many schema positions one value can be held against: the schema with every local reference written out.

    A reference back to where it stands counts once, since each further round needs a deeper value.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._known: dict[int, int] = {}
        self.total = self._of(schema)

    def _of(self, node: Any) -> int:
        if not isinstance(node, dict | list):
            return 0
        if id(node) not in self._known:
            self._known[id(node)] = 1  # what a reference back to here finds
            self._known[id(node)] = 1 + sum(self._of(child) for child in self._children(node))
        return self._known[id(node)]

    def _children(self, node: dict[str, Any] | list[Any]) -> Iterator[Any]:
        if isinstance(node, list):
            yield from node
            return
        for key, item in node.items():
            if key == "$ref" and isinstance(item, str):
                yield self._target(item)
            elif key in _NAMING_KEYWORDS and isinstance(item, dict):
                yield from () if key in _SHARED_KEYWORDS else item.values()
            elif key not in _DATA_KEYWORDS:
                yield item

    def _target(self, reference: str) -> Any:
        node: Any = self._root if reference.startswith("#") else None
        for part in unquote(reference[1:]).split("/")[1:]:
            step = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and step.isdigit() and int(step) < len(node):
                node = node[int(step)]
            else:
                node = node.get(step) if isinstance(node, dict) else None
        return node
