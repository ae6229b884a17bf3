"""Which tools agents see, under which names and schemas, and which arguments pass."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import jsonschema_rs
import mcp_types as t
import pytest
from mcp_types.methods import validate_server_result

from hitl_mcp.canonical import digest_of
from hitl_mcp.catalog import Catalog, Entry
from hitl_mcp.config import UpstreamConfig
from hitl_mcp.errors import ArgumentsRefused, OutcomeUnknown
from hitl_mcp.pins import Pins
from hitl_mcp.schemas import OUTCOME_SCHEMA, REASON_ARGUMENT
from hitl_mcp.secrets import Secrets
from hitl_mcp.upstreams import Upstreams
from tests.upstreams.stage import a_call, raw, sdk, until

PLAIN: dict[str, Any] = {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}


@dataclass
class Policy:
    """A policy as the catalog sees it: full names that may be held, and full names that want a reason."""

    holds: frozenset[str] | None = frozenset()
    reasons: frozenset[str] = frozenset()
    requires: frozenset[str] = frozenset()

    def may_hold(self, name: str) -> bool:
        return self.holds is None or name in self.holds

    def wants_reason(self, name: str) -> bool:
        return name in self.reasons

    def requires_reason(self, name: str) -> bool:
        return name in self.requires


def catalog_of(tools: Mapping[str, list[dict[str, Any]]], policy: Policy | None = None) -> tuple[Catalog, Upstreams]:
    """A catalog over upstreams that were never started: only what they listed matters here."""
    configs = {name: UpstreamConfig(name, command="unused") for name in tools}
    upstreams = Upstreams(configs, Secrets({}, Path("/")))
    for upstream in upstreams.all():
        upstream.tools = tuple(tools[upstream.name])
    return Catalog(upstreams, lambda: policy or Policy(), Pins()), upstreams


def a_tool(name: str = "send", schema: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": PLAIN if schema is None else schema, **more}


def refused(entry: Entry, arguments: dict[str, Any]) -> ArgumentsRefused:
    with pytest.raises(ArgumentsRefused) as caught:
        entry.validate(arguments)
    return caught.value


# Names.


def test_tools_get_their_upstream_s_name_and_a_fixed_order() -> None:
    """Full names, sorted, whatever order the upstreams or their pages have."""
    catalog, _ = catalog_of({"web": [a_tool("get")], "mail": [a_tool("send"), a_tool("list")]})
    assert [tool["name"] for tool in catalog.tools()] == ["mail__list", "mail__send", "web__get"]
    entry = catalog.find("mail__send")
    assert entry is not None
    assert (entry.name, entry.agent_name, entry.upstream, entry.tool) == ("mail__send", "mail__send", "mail", "send")
    assert catalog.find("send") is None and catalog.find("mail__nothing") is None


def test_a_tool_with_underscores_is_read_in_one_way_only() -> None:
    """Upstream names have no underscore, so the first pair of them ends the upstream's name."""
    catalog, _ = catalog_of({"a": [a_tool("_b"), a_tool("b__c")]})
    assert [entry.tool for name in ("a___b", "a__b__c") if (entry := catalog.find(name))] == ["_b", "b__c"]


def test_a_long_name_is_shortened_for_agents_only() -> None:
    """64 characters with a digest, always the same, and told apart; policies and people see the full name."""
    names = ["x" * 80 + "a", "x" * 80 + "b"]
    catalog, _ = catalog_of({"files": [a_tool(name) for name in names]})
    entries = [catalog.find_by_name(f"files__{name}") for name in names]
    short = [entry.agent_name for entry in entries if entry]
    assert len(set(short)) == 2 and {len(name) for name in short} == {64}
    assert [tool["name"] for tool in catalog.tools()] == short
    assert [catalog.find(name) for name in short] == entries
    again, _ = catalog_of({"files": [a_tool(name) for name in reversed(names)]})
    assert [tool["name"] for tool in again.tools()] == short
    just_fits, _ = catalog_of({"files": [a_tool("y" * 57)]})
    assert just_fits.tools()[0]["name"] == "files__" + "y" * 57


@pytest.mark.parametrize(
    "name", ["", "a b", "a/b", "a*", "zażółć", "a\u202eb", "a\nb", "x" * 129, "a\x00b", "\ud800"], ids=ascii
)
def test_a_name_that_could_mislead_is_left_out_and_reported(name: str) -> None:
    """Globs, people and clients must read a name as it is; the other tools stay."""
    catalog, _ = catalog_of({"mail": [a_tool(name), a_tool("send")]})
    assert [tool["name"] for tool in catalog.tools()] == ["mail__send"]
    assert len(catalog.warnings) == 1 and catalog.warnings[0].startswith("upstream `mail`: tool `")
    assert "\n" not in catalog.warnings[0] and catalog.warnings[0].isascii()


def test_names_that_differ_in_case_only_are_all_left_out() -> None:
    """Nobody could tell which of them a policy or a person means."""
    catalog, _ = catalog_of({"mail": [a_tool("Send"), a_tool("send"), a_tool("list")]})
    assert [tool["name"] for tool in catalog.tools()] == ["mail__list"]
    assert catalog.find_by_name("mail__send") is None
    assert "tools `Send`, `send` are left out: their names are alike" in catalog.warnings[0]


def test_a_tool_listed_twice_is_one_tool_unless_its_definitions_differ() -> None:
    """The same entry on two pages is harmless; two definitions under one name are not."""
    catalog, _ = catalog_of({"mail": [a_tool(), a_tool()]})
    assert len(catalog.tools()) == 1 and "is listed twice" in catalog.warnings[0]
    catalog, _ = catalog_of({"mail": [a_tool(), a_tool(description="another")]})
    assert catalog.tools() == [] and "are left out" in catalog.warnings[0]


# Definitions.


def test_a_definition_is_passed_on_as_it_is() -> None:
    """Everything but the name; the digest covers all of it, also what no revision knows."""
    tool = a_tool(
        title="Send", description="sends \u202e text", annotations={"destructiveHint": True}, _meta={"a": 1},
        icons=[{"src": "https://example.com/i.png"}], outputSchema=PLAIN, execution={"taskSupport": "optional"},
        vendor={"x": 18446744073709551615},
    )  # fmt: skip
    catalog, _ = catalog_of({"mail": [tool]})
    assert catalog.tools() == [{**tool, "name": "mail__send"}]
    entry = catalog.find("mail__send")
    assert entry is not None
    assert entry.definition == digest_of(tool)
    assert entry.input_schema == PLAIN and not entry.takes_reason


@pytest.mark.parametrize(
    "tool",
    [
        a_tool(schema={"type": "object", "properties": {"n": {"maximum": float("inf")}}}),
        a_tool(description="a\x00b"),
        a_tool(description="half \ud800"),
        a_tool(schema={"type": "array"}),
        a_tool(schema={}),
        {"name": "send"},
        a_tool(annotations={"readOnlyHint": "perhaps"}),
        a_tool(icons="none"),
        a_tool(_meta=json.loads('{"a":' * 300 + "1" + "}" * 300)),
        a_tool(description="x" * 256 * 1024),
    ],
    ids=["infinity", "NUL", "surrogate", "array", "no type", "no schema", "annotations", "icons", "deep", "long"],
)
def test_a_definition_that_cannot_be_relayed_is_left_out_and_costs_the_others_nothing(tool: dict[str, Any]) -> None:
    """One bad definition would make the whole listing fail in the client."""
    catalog, _ = catalog_of({"mail": [tool, a_tool("list")], "web": [a_tool("get")]})
    assert [shown["name"] for shown in catalog.tools()] == ["mail__list", "web__get"]
    assert "tool `send` is left out: " in catalog.warnings[0]


def test_backslashes_in_a_text_are_not_a_nul() -> None:
    """A description may talk about `\\u0000`."""
    catalog, _ = catalog_of({"mail": [a_tool(description="writes \\u0000 as \\\\u0000")]})
    assert len(catalog.tools()) == 1


def test_an_output_schema_that_older_agents_cannot_read_is_dropped() -> None:
    """A result may be any JSON for modern upstreams; older revisions know objects only."""
    catalog, _ = catalog_of({"mail": [a_tool(outputSchema={"type": "array"})]})
    assert "outputSchema" not in catalog.tools()[0]


# Widened output schemas.


def test_a_tool_that_may_be_held_may_answer_with_our_outcome() -> None:
    """Its schema takes the upstream's result or ours; a tool that is never held keeps its own."""
    tools = [a_tool("send", outputSchema=PLAIN), a_tool("list", outputSchema=PLAIN), a_tool("free")]
    catalog, _ = catalog_of({"mail": tools}, Policy(holds=frozenset({"mail__send", "mail__free"})))
    shown = {tool["name"]: tool.get("outputSchema") for tool in catalog.tools()}
    assert shown["mail__list"] == PLAIN and shown["mail__free"] is None
    validator = jsonschema_rs.validator_for(shown["mail__send"] or False)
    assert validator.is_valid({"to": "a"})
    assert validator.is_valid({"status": "held", "executed": False, "call_id": "c_1", "reasons": ["r"]})
    assert not validator.is_valid({"to": 1}) and not validator.is_valid({"status": "held"})


# The agent's reason.


def test_a_reason_is_asked_for_where_the_policy_wants_one() -> None:
    """The agent sees one more property; arguments are still checked against the upstream's own schema."""
    catalog, _ = catalog_of({"mail": [a_tool(), a_tool("list")]}, Policy(reasons=frozenset({"mail__send"})))
    send, other = catalog.find("mail__send"), catalog.find("mail__list")
    assert send is not None and other is not None
    assert send.takes_reason and not other.takes_reason
    asked = send.shown["inputSchema"]
    assert asked["properties"][REASON_ARGUMENT]["type"] == "string" and asked["required"] == ["to"]
    assert send.input_schema == PLAIN
    assert other.shown["inputSchema"] == PLAIN
    send.validate({"to": "a"})


def test_a_claim_is_taken_off_where_it_was_asked_for() -> None:
    """It leaves the arguments for the record; what is no text, or endless, is refused; elsewhere it is an argument."""
    catalog, _ = catalog_of({"mail": [a_tool(), a_tool("list")]}, Policy(reasons=frozenset({"mail__send"})))
    send, other = catalog.find("mail__send"), catalog.find("mail__list")
    assert send is not None and other is not None
    arguments = {"to": "a", REASON_ARGUMENT: "because"}
    assert send.take_claim(arguments) == "because" and arguments == {"to": "a"}
    assert send.take_claim(arguments) == ""
    for bad in (5, None, "x" * 2001):
        with pytest.raises(ArgumentsRefused) as caught:
            send.take_claim({REASON_ARGUMENT: bad})
        assert caught.value.path == "$.arguments.hitl_reason"
    arguments = {REASON_ARGUMENT: "mine"}
    assert other.take_claim(arguments) == "" and arguments == {REASON_ARGUMENT: "mine"}


@pytest.mark.parametrize("arguments", [{"to": "a"}, {"to": "a", REASON_ARGUMENT: " "}])
def test_a_reason_that_the_policy_requires_must_be_given(arguments: dict[str, Any]) -> None:
    """The schema that agents get says so, and a call without it is refused with the path."""
    catalog, _ = catalog_of({"mail": [a_tool()]}, Policy(requires=frozenset({"mail__send"})))
    send = catalog.find("mail__send")
    assert send is not None
    assert send.shown["inputSchema"]["required"] == ["to", REASON_ARGUMENT]
    with pytest.raises(ArgumentsRefused) as caught:
        send.take_claim(arguments)
    assert str(caught.value).startswith("$.arguments.hitl_reason: it is missing: say why you want this call")
    assert send.take_claim({"to": "a", REASON_ARGUMENT: "asked to"}) == "asked to"


def test_a_tool_that_cannot_be_asked_for_a_reason_is_reported() -> None:
    """A composed schema takes no further argument: the operator is told that the rule asks in vain."""
    composed = {"type": "object", "anyOf": [{"required": ["to"]}, {"required": ["cc"]}]}
    catalog, _ = catalog_of({"mail": [a_tool(schema=composed)]}, Policy(requires=frozenset({"mail__send"})))
    send = catalog.find("mail__send")
    assert send is not None
    assert send.take_claim({}) == ""
    assert catalog.warnings == ("upstream `mail`: tool `send` cannot be asked for a reason: its schema is composed",)


# Arguments.


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}},
        {"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
        {"type": "object", "properties": {"a": {"type": "text"}}},
        {"type": "object", "properties": {"a": {"pattern": "["}}},
        {"type": "object", "properties": {"a": {"pattern": "((a{1000}){1000}){1000}"}}},
        {"type": "object", "$schema": "https://example.com/my-own-dialect"},
    ],
    ids=["http", "file", "nowhere", "type", "pattern", "vast pattern", "dialect"],
)
def test_a_schema_that_cannot_be_used_refuses_every_call_and_is_reported(schema: dict[str, Any]) -> None:
    """Nothing is fetched; arguments that nobody can check are not passed on."""
    catalog, _ = catalog_of({"mail": [a_tool(schema=schema)]})
    entry = catalog.find("mail__send")
    assert entry is not None
    assert "the tool cannot be called: its input schema cannot be used" in str(refused(entry, {}))
    assert "tool `send` cannot be called" in catalog.warnings[0]


# Changes.


def test_of_a_changed_tool_agents_keep_seeing_what_was_accepted() -> None:
    """Its schema, too: arguments are held against what agents were shown. Nobody is told of what they cannot see."""
    other = {"type": "object", "properties": {"copy_to": {"type": "string"}}, "required": ["copy_to"]}
    catalog, upstreams = catalog_of({"mail": [a_tool(), a_tool("list")]})
    shown, told = catalog.tools(), []
    catalog.on_tools_change(lambda: told.append("tools"))
    (mail,) = upstreams.all()
    mail.tools = (a_tool(schema=other, description="poisoned"), a_tool("list"))
    catalog.refresh()
    entry = catalog.find("mail__send")
    assert entry is not None and entry.blocked is not None
    assert (catalog.tools(), told) == (shown, [])
    assert (entry.definition, entry.input_schema) == (digest_of(a_tool()), PLAIN)
    assert "$.arguments.to: it is missing" in str(refused(entry, {"copy_to": "evil"}))
    mail.tools = (a_tool(), a_tool("list"))
    catalog.refresh()
    entry = catalog.find("mail__send")
    assert entry is not None and entry.blocked is None


def test_a_tool_that_is_left_out_is_not_pinned() -> None:
    """Only what agents were shown can have been accepted."""
    catalog, upstreams = catalog_of({"mail": [a_tool("Send"), a_tool("send"), a_tool("a b")]})
    assert catalog.tools() == []
    (mail,) = upstreams.all()
    mail.tools = (a_tool("send", description="the only one now"),)
    catalog.refresh()
    entry = catalog.find("mail__send")
    assert entry is not None and entry.blocked is None


def test_the_policy_is_asked_again_on_refresh() -> None:
    """A reloaded policy changes what agents see, and they are told; the same policy tells nobody."""
    policy = Policy()
    catalog, _ = catalog_of({"mail": [a_tool(outputSchema=PLAIN)]}, policy)
    told: list[str] = []
    catalog.on_change(lambda: told.append("change"))
    catalog.on_tools_change(lambda: told.append("tools"))
    catalog.refresh()
    assert told == ["change"]
    policy.holds = None
    catalog.refresh()
    assert told == ["change", "change", "tools"]
    assert catalog.tools()[0]["outputSchema"]["anyOf"][1] == OUTCOME_SCHEMA


async def test_the_catalog_follows_real_upstreams() -> None:
    """It fills when they are ready, keeps what a dead one offered, and says which is down."""
    configs = {config.name: config for config in (raw("plain"), sdk("tools"))}
    upstreams = Upstreams(configs, Secrets({}, Path("/")))
    catalog = Catalog(upstreams, lambda: Policy(holds=None), Pins())
    assert catalog.tools() == []
    changed = anyio.Event()
    catalog.on_tools_change(changed.set)
    async with upstreams:
        with anyio.fail_after(10):
            await upstreams.settled()
            await changed.wait()
        names = [tool["name"] for tool in catalog.tools()]
        assert "plain__echo" in names and "tools__echo" in names
        entry, plain = catalog.find("plain__echo"), upstreams.get("plain")
        assert entry is not None and plain is not None
        states: list[str] = [entry.upstream_state]
        with pytest.raises(OutcomeUnknown, match="exited"):
            await plain.send(a_call("half"))
        states.append(entry.upstream_state)
        assert states == ["ready", "down"] and catalog.find("plain__echo") == entry
        assert [tool["name"] for tool in catalog.tools()] == names
        await until(plain, lambda: plain.state == "ready")
        listing = {"tools": catalog.tools(), "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        for revision in ("2025-06-18", "2025-11-25", "2026-07-28"):
            validate_server_result("tools/list", revision, listing)
        t.ListToolsResult.model_validate(listing, by_name=False)
