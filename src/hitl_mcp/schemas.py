"""What is done with the JSON schemas of tools: widened, asked for a reason, and held against arguments. No I/O.

Schemas come from upstreams and may be anything: nothing is fetched, and every check ends. Which tools there are, and
what agents see of each, stands in `catalog`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import unquote

import jsonschema_rs

from hitl_mcp.errors import ArgumentsRefused
from hitl_mcp.limits import (
    AGENT_REASON_CHARACTERS,
    ARGUMENT_ERRORS,
    SCHEMA_BACKTRACKS,
    SCHEMA_COST,
    SCHEMA_PATTERN_BYTES,
)

__all__ = ["OUTCOME_SCHEMA", "REASON_ARGUMENT", "ArgumentCheck", "widened", "with_reason"]

REASON_ARGUMENT = "hitl_reason"
"""The argument in which an agent may say why it wants a call; taken off before the upstream sees the call."""

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
        told = self.problems(arguments)
        if told:
            more = "".join(f"; {path}: {message}" for path, message in told[1:])
            raise ArgumentsRefused(told[0][0], told[0][1] + more)

    def problems(self, arguments: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Where arguments do not fit, and why; what explains most comes first."""
        if self.problem is not None:
            return (("$.arguments", f"the tool cannot be called: {self.problem}"),)
        errors = list(islice(self._validator.iter_errors(arguments), ARGUMENT_ERRORS))
        return tuple(_told(error) for error in sorted(errors, key=_rank))


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
