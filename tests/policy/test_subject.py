"""Arguments that are not of the type their schema declares. What a tool lacks is told in test_conditions.py."""

from __future__ import annotations

from typing import Any

import pytest

from hitl_mcp.policy.subject import misfits


def test_one_of_several_types_is_enough() -> None:
    """Where none fits, all are named; what is no type at all is left out."""
    schema = {"properties": {"a": {"type": ["string", "null", 5]}, "b": {"type": "string"}}}
    assert misfits({"a": None, "b": "x", "c": 1}, schema) == {}
    assert misfits({"b": "x", "a": 5}, schema).keys() == {"a"}
    assert misfits({"a": 5, "b": 5}, schema) == {
        "a": "the argument `a` is not of the type its schema declares: `string`, `null`",
        "b": "the argument `b` is not of the type its schema declares: `string`",
    }


@pytest.mark.parametrize(
    "schema", [None, {}, {"properties": []}, {"properties": {"a": True}}, {"properties": {"a": {"type": {}}}}]
)
def test_a_schema_that_declares_no_types_finds_nothing(schema: dict[str, Any] | None) -> None:
    """Types are for the schema to say; odd schemas are no reason to fail."""
    assert misfits({"a": 1}, schema) == {}
