"""The JSON Schema of a policy file: it is the committed one, and it says what the loader says of one key."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from textwrap import dedent
from typing import Any

import jsonschema_rs
import pytest

from hitl_mcp.documents import Strict, read_document
from hitl_mcp.errors import PolicyError
from hitl_mcp.policy import written
from hitl_mcp.policy.schema import MEANINGS, policy_schema
from hitl_mcp.shipped import ready_policies
from tests.policy.written import policy_of

COMMITTED = Path(__file__).resolve().parents[2] / "policies" / "policy.schema.json"

RULE = "rules: [{id: a, tool: up__t, effect: %s, reason: r%s}]"
SIGNAL = "signals: [{id: s, tool: up__t, points: 5, reason: r%s}]"
BUDGET = "budgets: [{id: b, tool: up__t, window: 1d, over: deny%s}]"


def fits(text: str) -> bool:
    """Whether a policy, `version: 1` put in front, is right by the schema."""
    return bool(validator().is_valid(value_of("version: 1\n" + dedent(text))))


def validator() -> Any:
    return jsonschema_rs.Draft202012Validator(policy_schema())


def value_of(text: str) -> Any:
    """A YAML text as the loader reads it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "policy.yaml")
        path.write_text(text, encoding="utf-8")
        return read_document(path).value


def test_the_committed_schema_is_current() -> None:
    """Editors read the file. To write it again: `hitl-mcp policy schema > policies/policy.schema.json`."""
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == policy_schema()


def test_it_is_a_schema_of_its_dialect() -> None:
    """The 2020-12 meta-schema has nothing against it, and every reference in it leads somewhere."""
    schema = policy_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema)
    assert validator().is_valid({"version": 1})


@pytest.mark.parametrize("name", ready_policies())
def test_every_ready_policy_fits_and_names_it(name: str) -> None:
    """The policies that people copy from show no error in an editor, and tell it where the schema is."""
    path = ready_policies()[name]
    validator().validate(read_document(path).value)
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    assert first == "# yaml-language-server: $schema=policy.schema.json"


def test_every_key_says_what_it_means() -> None:
    """Whoever points at a key in an editor is told; a key that is new needs its sentence, one that is gone loses it."""
    models = {name: model for name, model in vars(written).items() if is_written(model)}
    keys = {name: {info.alias or key for key, info in model.model_fields.items()} for name, model in models.items()}
    assert {name: set(meant) for name, meant in MEANINGS.items()} == keys


def is_written(model: object) -> bool:
    """Whether this is a part of a policy file as people write it."""
    own = isinstance(model, type) and issubclass(model, Strict) and model.__module__ == written.__name__
    return own and not getattr(model, "__name__", "_").startswith("_")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "default: deny\nhold_defaults: {expires: 24h, run_within: 90s, roles: [finance]}",
        "bands: [{from: 40, effect: hold, quorum: 2, roles: [finance]}, {from: 95, effect: deny}]",
        RULE % ("hold", ", when: args.x > 1, unless: 'has(args.y)', roles: [], quorum: 2, expires: 4h"),
        RULE % ("hold", ", require_reason: true, surfaces: [web], assurance: link"),
        RULE % ("hold", ", grantable: true, roles: [finance]"),
        RULE % ("hold", ", preview: {tool: up__read, args: {id: args.id}}"),
        RULE % ("hold", ", undo: 30s, probe: {tool: up__read, happened: result.x == 1, did_not: result.x == 2}"),
        RULE % ("allow", ", record: durable"),
        RULE % ("deny", ", shadow: true"),
        "rules: [{id: a, tool: [up__a, 'up__*'], effect: allow, reason: r}]",
        SIGNAL % "",
        SIGNAL % ", when: args.x > 1",
        SIGNAL % ", amount: {of: args.amount, low: 50, high: 5000}",
        SIGNAL % ", count: {of: args.to, low: 1, high: 20}",
        SIGNAL % ", novelty: {of: args.to}",
        SIGNAL % ", novelty: {of: args.to, per: [agent, tool], window: 90d}",
        SIGNAL % ", velocity: {window: 1h, above: 20}",
        SIGNAL % ", spend: {of: args.amount, unit: args.currency, per: agent, window: 1d, low: 1, high: 9.5}",
        SIGNAL % ", taint: {from: ['web__*'], window: 1h}",
        SIGNAL % ", rejections: {window: 1d, above: 2}",
        BUDGET % ", sum: args.amount, limit: 100",
        BUDGET % ", sum: args.amount, unit: args.currency, limit: {EUR: 100, USD: 90.5}, per: []",
        BUDGET % ", count: true, limit: 10",
        """
        rules: [{id: a, tool: up__t, effect: allow, reason: r}]
        signals: [{id: s, tool: up__t, points: 5, reason: r, velocity: {window: 1h, above: 20}}]
        cases:
          - name: runs
            call: {tool: up__t, args: {x: [1, {y: null}]}, agent: a, labels: {env: prod}, now: "2026-11-22T14:00:00Z"}
            given: {s: 3}
            expect: {effect: allow, rules: [a], signals: [], score: 0}
        """,
    ],
)
def test_a_policy_that_loads_fits(text: str) -> None:
    """Whatever the loader reads, an editor shows no error for."""
    policy_of(text)
    assert fits(text)


@pytest.mark.parametrize(
    "text",
    [
        "default: allow",
        "defualt: hold",
        "hold_defaults: {expires: 0h}",
        "hold_defaults: {expires: 24}",
        "bands: [{from: 101, effect: hold}]",
        "bands: [{from: 40, effect: allow}]",
        "bands: [{from: 40, effect: deny, quorum: 2}]",
        "bands: {from: 40, effect: hold}",
        RULE % ("alow", ""),
        RULE % ("hold", ", quorum: 0"),
        RULE % ("hold", ", quorum: 1.5"),
        RULE % ("allow", ", roles: [finance]"),
        RULE % ("deny", ", preview: {tool: up__read}"),
        RULE % ("hold", ", record: durable"),
        RULE % ("hold", ", when: null"),
        RULE % ("hold", ", when: true"),
        RULE % ("hold", ", surfaces: [fax]"),
        RULE % ("hold", ", owner: me"),
        "rules: [{id: default, tool: up__t, effect: hold, reason: r}]",
        "rules: [{id: band-40, tool: up__t, effect: hold, reason: r}]",
        "rules: [{id: 'a b', tool: up__t, effect: hold, reason: r}]",
        "rules: [{id: a, tool: [], effect: hold, reason: r}]",
        "rules: [{id: a, tool: up__t, effect: hold, reason: ' '}]",
        "rules: [{id: a, tool: up__t, effect: hold}]",
        SIGNAL % ", amount: {of: args.amount, low: 0, high: 5000}",
        SIGNAL % ", amount: {of: args.amount, low: 50}",
        SIGNAL % ", amount: null",
        SIGNAL % ", amount: {of: args.a, low: 1, high: 2}, count: {of: args.a, low: 1, high: 2}",
        SIGNAL % ", velocity: {window: 1h}",
        SIGNAL % ", novelty: {of: args.to, per: person}",
        "signals: [{id: s, tool: up__t, points: 101, reason: r}]",
        BUDGET % ", limit: 100",
        BUDGET % ", sum: args.amount, count: true, limit: 100",
        BUDGET % ", count: false, limit: 100",
        BUDGET % ", sum: args.amount, limit: {EUR: 100}",
        BUDGET % ", sum: args.amount, unit: args.currency, limit: 100",
        BUDGET % ", sum: args.amount, limit: -1",
        BUDGET % ", sum: args.amount, limit: 100, roles: [finance]",
        "cases: [{call: {tool: up__t}, expect: {effect: run}}]",
        "cases: [{call: {args: {}}, expect: {effect: hold}}]",
    ],
)
def test_what_is_wrong_with_one_key_does_not_fit(text: str) -> None:
    """The editor refuses it as one types, and so does the loader."""
    assert not fits(text)
    with pytest.raises(PolicyError):
        policy_of(text)
