"""What agents get of a tool's schemas, and which arguments pass."""

from __future__ import annotations

import time
from typing import Any

import jsonschema_rs
import pytest

from hitl_mcp.errors import ArgumentsRefused
from hitl_mcp.schemas import REASON_ARGUMENT, ArgumentCheck, widened, with_reason

PLAIN: dict[str, Any] = {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}


def refused(schema: dict[str, Any], arguments: dict[str, Any]) -> ArgumentsRefused:
    """The refusal of arguments that do not fit."""
    with pytest.raises(ArgumentsRefused) as caught:
        ArgumentCheck(schema)(arguments)
    return caught.value


def test_references_still_lead_where_they_led() -> None:
    """Definitions move to the top; what refers to the schema itself or into it follows it."""
    tree = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "leaf": {"$ref": "#/$defs/leaf"},
            "same": {"$ref": "#/properties/leaf"},
            "children": {"type": "array", "items": {"$ref": "#"}},
            "default": {"$ref": "#/properties/leaf"},
            "old": {"$ref": "#/definitions/old"},
            "enum": {"enum": [{"$ref": "not a reference"}]},
        },
        "$defs": {"leaf": {"type": "string", "minLength": 2}, "root": {"$ref": "#"}},
        "definitions": {"old": {"$ref": "#/$defs/leaf"}},
        "additionalProperties": False,
    }
    wide = widened(tree)
    assert wide is not None
    assert wide["$defs"]["leaf"] == tree["$defs"]["leaf"]  # type: ignore[index]
    before, after = jsonschema_rs.validator_for(tree), jsonschema_rs.validator_for(wide)
    for value in (
        {"leaf": "ok"}, {"leaf": "x"}, {"same": "ok"}, {"same": 1}, {"old": "x"}, {"old": "ok"}, {"other": 1},
        {"children": [{"leaf": "ok"}, {"children": []}]}, {"children": [{"leaf": "x"}]}, {"children": [3]},
        {"default": "x"}, {"enum": {"$ref": "not a reference"}},
    ):  # fmt: skip
        assert after.is_valid(value) is before.is_valid(value), value
    assert after.is_valid({"status": "held", "executed": False})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "$id": "https://example.com/x"},
        {"type": "object", "properties": {"a": {"$anchor": "here"}}},
        {"type": "object", "properties": {"a": {"$ref": "#here"}}},
        {"type": "object", "properties": {"a": {"$ref": "https://example.com/x"}}},
        {"type": "object", "properties": {"a": {"$dynamicRef": "#x"}}},
        {"type": "object", "$defs": {"a": {"items": [{"$ref": "other.json"}]}}},
        {"type": "array"},
        {"anyOf": [{"type": "object"}]},
        True,
    ],
)
def test_a_schema_that_cannot_be_moved_is_dropped(schema: Any) -> None:
    """What names itself, refers elsewhere or is no object: an agent gets no schema rather than a wrong one."""
    assert widened(schema) is None


def test_a_property_called_like_a_keyword_is_only_a_property() -> None:
    """`$id` as the name of a property says nothing about the schema."""
    assert (
        widened({"type": "object", "properties": {"$id": {"type": "string"}, "$ref": {"type": "string"}}}) is not None
    )


@pytest.mark.parametrize(
    "change",
    [
        {"anyOf": [{"required": ["to"]}]},
        {"$ref": "#/$defs/x"},
        {"patternProperties": {"^h": {"type": "integer"}}},
        {"propertyNames": {"maxLength": 3}},
        {"minProperties": 1},
        {"unevaluatedProperties": False},
        {"dependentRequired": {}},
        {"properties": None},
        {"properties": {REASON_ARGUMENT: {"type": "integer"}}},
        {"required": [REASON_ARGUMENT]},
        {"type": ["object", "null"]},
    ],
)
def test_a_reason_is_not_asked_for_where_that_could_change_the_schema(change: dict[str, Any]) -> None:
    """Only a plain list of properties can take one more without meaning something else."""
    assert with_reason({**PLAIN, **change}) is None


def test_a_closed_schema_takes_a_reason() -> None:
    """`additionalProperties: false` concerns other names than the one that was added."""
    assert with_reason({**PLAIN, "additionalProperties": False, "x-vendor": 1, "$defs": {}}) is not None


def test_arguments_that_fit_pass() -> None:
    """Nothing is said, and nothing is changed."""
    ArgumentCheck(PLAIN)({"to": "ann", "more": [1, None]})


def test_every_error_is_named_with_its_path_and_no_value() -> None:
    """The first path is the one nearest to the top; what was sent is not repeated."""
    schema = {
        "type": "object",
        "properties": {
            "to": {"type": "array", "items": {"type": "string"}},
            "odd name": {"enum": ["a", "b"]},
            "deep": {"type": "object", "properties": {"n": {"minimum": 3}}},
        },
        "required": ["subject"],
        "additionalProperties": False,
    }
    arguments = {"to": ["a", "my secret", 5], "odd name": "my secret", "deep": {"n": 1}, "extra": "my secret"}
    error = refused(schema, arguments)
    assert error.path == "$.arguments.subject"
    for expected in (
        "$.arguments.subject: it is missing",
        '$.arguments["odd name"]: the value is not one of',
        "$.arguments.to[2]: the value is not of type",
        "$.arguments.deep.n: the value is less than the minimum of 3",
        "$.arguments.extra: the tool has no such argument",
    ):
        assert expected in str(error)
    assert "my secret" not in str(error)


def test_a_schema_that_doubles_at_every_step_is_refused_quickly() -> None:
    """References that nest would keep one check busy for hours."""
    defs: dict[str, Any] = {"d0": {"type": "string"}}
    for step in range(1, 60):
        defs[f"d{step}"] = {"properties": {"default": {"allOf": [{"$ref": f"#/$defs/d{step - 1}"}] * 2}}}
    started = time.monotonic()
    error = refused({"type": "object", "$defs": defs, "properties": {"a": {"$ref": "#/$defs/d59"}}}, {"a": {}})
    assert "no check would end" in str(error)
    assert time.monotonic() - started < 5


def test_a_schema_that_refers_to_itself_is_fine() -> None:
    """Trees are common; every further round needs a deeper value."""
    schema: dict[str, Any] = {"type": "object", "properties": {"in": {"$ref": "#"}, "n": {"type": "integer"}}}
    ArgumentCheck(schema)({"in": {"in": {"n": 1}}})
    assert refused(schema, {"in": {"in": {"n": "x"}}}).path == "$.arguments.in.in.n"


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(?!x)(a+)+$", r"^(a|a)*\1?$"])
def test_a_pattern_cannot_take_long(pattern: str) -> None:
    """One that would backtrack for ever answers at once, and what it cannot decide it refuses."""
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}
    started = time.monotonic()
    assert refused(schema, {"a": "a" * 5000 + "!"}).path == "$.arguments.a"
    assert time.monotonic() - started < 5
    ArgumentCheck(schema)({"a": "aa"})
