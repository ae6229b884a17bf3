"""What the policy is asked about: one call, and what its tool's schema says of the arguments. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["Subject", "declared_names", "misfits"]


_ANNOTATIONS = ("$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "examples", "default")
_FLAT = frozenset({"type", "properties", "required", "additionalProperties", *_ANNOTATIONS})
"""Keywords at the top of a schema that leave no doubt where arguments are described: in `properties`."""


@dataclass(frozen=True)
class Subject:
    """One call as the policy sees it.

    `tool` is the upstream's own name of the tool, `name` the full one (`<upstream>__<tool>`) that policies use.
    `arguments` are the parsed argument bytes, `input_schema` the tool's schema where it has one, `now` has a zone.
    `owner` is whose agent it is, where the config says so.
    """

    upstream: str
    labels: Mapping[str, str]
    tool: str
    name: str
    arguments: dict[str, Any]
    agent: str
    now: datetime
    input_schema: dict[str, Any] | None = None
    owner: str | None = None


def declared_names(schema: dict[str, Any] | None) -> frozenset[str] | None:
    """The names of all arguments a tool has, or None where its schema does not tell.

    A condition on an argument that a tool lacks does not concern the tool, so "lacks" must be certain:

    - `properties` without `additionalProperties` counts as the whole list. JSON Schema would allow more names, but
      nearly every tool is written this way, and the call itself is looked at too: an argument it carries counts.
    - `additionalProperties: false` says so outright, also where there are no `properties`.
    - `additionalProperties: true`, or a schema, says that there are names nobody lists; and so may `$ref`, `allOf`,
      any keyword unknown here, or a schema without `properties`. Then nothing is known to be lacking, and conditions
      fail closed.
    """
    if not isinstance(schema, dict) or schema.get("type", "object") != "object" or not _FLAT.issuperset(schema):
        return None
    closed = schema.get("additionalProperties") is False
    properties = schema.get("properties", {} if closed else None)
    required = schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        return None
    if "additionalProperties" in schema and not closed:
        return None
    return frozenset(properties) | {name for name in required if isinstance(name, str)}


def misfits(arguments: Mapping[str, Any], schema: dict[str, Any] | None) -> dict[str, str]:
    """The arguments that are not of the type their schema declares, and what is wrong with each."""
    properties = (schema or {}).get("properties")
    found: dict[str, str] = {}
    if not isinstance(properties, dict):
        return found
    for name, value in arguments.items():
        declared = properties.get(name)
        wanted = declared.get("type") if isinstance(declared, dict) else None
        if type(value) is _PLAINLY.get(wanted if isinstance(wanted, str) else ""):
            continue  # nearly always
        types = [kind for kind in (wanted if isinstance(wanted, list) else [wanted]) if isinstance(kind, str)]
        if types and not any(_is_of(value, kind) for kind in types):
            found[name] = f"the argument `{name}` is not of the type its schema declares: `{'`, `'.join(types)}`"
    return found


_PLAINLY: dict[str, type] = {"string": str, "boolean": bool, "object": dict, "array": list, "integer": int}
"""Types of JSON Schema whose values are always of one type here."""


def _is_of(value: object, kind: str) -> bool:
    if kind in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return kind == "number" or isinstance(value, int) or value.is_integer()  # 5.0 is an integer to JSON Schema
    return isinstance(value, _OTHERS.get(kind, object))


_OTHERS: dict[str, type] = {"string": str, "boolean": bool, "object": dict, "array": list, "null": type(None)}
