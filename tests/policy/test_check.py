"""What `policy check` finds in policies that load, held against tools: each message whole, with its place."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from hitl_mcp.config import PolicySource
from hitl_mcp.policy.check import Item, KnownTools, Report, Tool, check_policy, declared_types, expressions
from hitl_mcp.policy.load import Loaded, read_policy
from hitl_mcp.shipped import policy_path
from tests.policy.written import TWO_PEOPLE, unmarked

TOOL_LISTS = Path(__file__).parent / "tool_lists"

PAY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "amount": {"type": "number"},
        "to": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "urgent": {"type": "boolean"},
        "any": {},
    },
}
QUOTE: dict[str, Any] = {"type": "object", "properties": {"amount": {"type": "string"}}}
OPEN: dict[str, Any] = {"type": "object", "additionalProperties": True}
BANK = (Tool("bank__pay", PAY), Tool("bank__quote", QUOTE), Tool("bank__close", {"type": "object", "properties": {}}))
KNOWN = KnownTools((*BANK, Tool("web__fetch", OPEN)), frozenset({"bank", "web"}), frozenset({"bank", "web", "crm"}))
ALL = KnownTools(BANK, frozenset({"bank"}), frozenset({"bank"}))


def read(text: str) -> Loaded:
    """A policy; `version: 1` stands in front of it."""
    path = Path("policy.yaml")
    path.write_text("version: 1\n" + dedent(text), encoding="utf-8")
    return read_policy([PolicySource(path)], TWO_PEOPLE)


def checked(text: str, known: KnownTools = KNOWN) -> Report:
    """What is found in a policy."""
    return check_policy(read(text), known)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


RULE = "rules: [{id: a, tool: %s, effect: hold, reason: %s}]"
BOTH = '["bank__pay", "bank__quote"]'


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            RULE % ("«bank__pya", "r"),
            [
                "no tool is called `bank__pya`\n  help: did you mean `bank__pay`? its upstream's tools: "
                "`bank__close`, `bank__pay`, `bank__quote`"
            ],
        ),
        (
            RULE % ('["bank__pay", «bank__x]', "r"),
            [
                "no tool is called `bank__x`\n  help: did you mean `bank__pay`? its upstream's tools: `bank__close`, "
                "`bank__pay`, `bank__quote`"
            ],
        ),
        (
            RULE % ("«bnak__pay", "r"),
            ["no upstream is called `bnak`\n  help: did you mean `bank`? upstreams: `bank`, `crm`, `web`"],
        ),
        (
            RULE % ('«["bank__del_*", "bank__drop_*"]', "r"),
            [
                "no tool is named by `bank__del_*` or `bank__drop_*`\n  help: `hitl-mcp policy check --json` lists "
                "the names of all tools"
            ],
        ),
        (
            RULE % ("bank__pay", "r, when: '«args.amuont > 5'"),
            [
                "`bank__pay` has no argument `amuont`\n  help: did you mean `amount`? its arguments: `amount`, `any`, "
                "`note`, `tags`, `to`, `urgent`"
            ],
        ),
        (
            RULE % ("bank__pay", "r, unless: 'has(«args.urgnet) && args.urgent'"),
            [
                "`bank__pay` has no argument `urgnet`\n  help: did you mean `urgent`? its arguments: `amount`, `any`, "
                "`note`, `tags`, `to`, `urgent`"
            ],
        ),
        (
            RULE % ("bank__quote", 'r, unless: \'all_addresses_in(args, [«"recipient", "cc"], "example.com")\''),
            ["`bank__quote` has no argument `cc`\n  help: its arguments: `amount`"],
        ),
        (
            RULE % (BOTH, "'«{args.total} leaves'"),
            [
                "none of the 2 tools has an argument `total`\n  help: theirs: `amount`, `any`, `note`, `tags`, `to`, "
                "`urgent`"
            ],
        ),
        (
            RULE % ("bank__pay", "r, when: 'args.amount «> \"x\"'"),
            [
                "`>` does not take (number, text) in a condition\n  help: the tool's schema declares `amount` as "
                "`number`"
            ],
        ),
        (
            RULE % ("bank__pay", "r, when: 'args.note «> 5'"),
            ["`>` does not take (text, number) in a condition\n  help: the tool's schema declares `note` as `string`"],
        ),
        (
            RULE % ("bank__pay", "r, when: 'size«(args.urgent) > 1'"),
            ["`size` does not take (bool) in a condition\n  help: the tool's schema declares `urgent` as `boolean`"],
        ),
        (
            RULE % ("bank__pay", "r, when: 'args.tags «== \"x\"'"),
            [
                "`==` does not take (list(any), text) in a condition\n  help: the tool's schema declares `tags` as "
                "`array`"
            ],
        ),
        (
            RULE % (BOTH, "r, when: 'args.amount «== true'"),
            [
                "`==` does not take (number, bool) in a condition\n  help: the tool's schema declares `amount` as "
                "`number` or `string`"
            ],
        ),
        (
            "signals: [{id: s, tool: bank__pay, points: 5, reason: r, amount: {of: «args.sum, low: 1, high: 2}}]",
            [
                "`bank__pay` has no argument `sum`\n  help: its arguments: `amount`, `any`, `note`, `tags`, `to`, "
                "`urgent`"
            ],
        ),
        (
            "signals: [{id: s, tool: bank__pay, points: 5, reason: r, taint: {from: «web__fecth, window: 1h}}]",
            ["no tool is called `web__fecth`\n  help: did you mean `web__fetch`? its upstream's tools: `web__fetch`"],
        ),
        (
            "budgets: [{id: b, tool: bank__quote, sum: number(«args.total), limit: 1, window: 1d, over: deny}]",
            ["`bank__quote` has no argument `total`\n  help: its arguments: `amount`"],
        ),
        (
            RULE % ("bank__pay", "r, preview: {tool: «bank__qoute, args: {amount: «args.amonut}}"),
            [
                "no tool is called `bank__qoute`\n  help: did you mean `bank__quote`? its upstream's tools: "
                "`bank__close`, `bank__pay`, `bank__quote`",
                "`bank__pay` has no argument `amonut`\n  help: did you mean `amount`? its arguments: `amount`, `any`, "
                "`note`, `tags`, `to`, `urgent`",
            ],
        ),
        (
            RULE
            % (
                "bank__pay",
                "r, probe: {tool: bank__quote, args: {}, happened: result.x == «args.amonut, did_not: result.y == 1}",
            ),
            [
                "`bank__pay` has no argument `amonut`\n  help: did you mean `amount`? its arguments: `amount`, `any`, "
                "`note`, `tags`, `to`, `urgent`",
            ],
        ),
    ],
)
def test_what_can_never_do_what_it_says_is_found(text: str, messages: list[str]) -> None:
    """Each finding stands where the mistake is, and names what was probably meant."""
    plain, places = unmarked(text)
    found = [str(finding) for finding in checked(plain).findings]
    columns = [place.partition(":")[2] for place in places]
    assert found == [f"policy.yaml:2:{column}: {text}" for column, text in zip(columns, messages, strict=True)]


@pytest.mark.parametrize(
    "text",
    [
        RULE % ("bank__pay", "'{args.amount} to {args.to.name}', when: args.amount > 5 && args.amount < 7.5"),
        RULE % ("bank__pay", "r, when: 'has(args.amount) && args.amount > 5 || args.note != null'"),
        RULE % ("bank__pay", 'r, when: \'args.any > "x" || args.to == "args.nothing > 5"\''),
        RULE % ("bank__pay", 'r, when: \'args.exists(name, name == "x") && args.tags.exists(tag, tag == "a")\''),
        RULE % (BOTH, "r, when: args.amount > 5"),
        RULE % ('"bank__*"', "r, when: args.to == 'x'"),
        RULE % ("bank__pay", 'r, unless: \'all_addresses_in(args, ["to", "cc"], "example.com")\''),
        RULE % ("web__fetch", "r, when: args.whatever > 5"),
        RULE % ('"crm__*"', "r, when: args.whatever > 5"),
        RULE % ('["crm__del", "bank__pay"]', "r, when: args.whatever > 5"),
        RULE % ('"*__pay"', "r, when: 'has(args.whatever) && args.whatever > 5'"),
        RULE % ('"*__nothing_yet"', "r, when: args.whatever > 5"),
    ],
)
def test_what_may_be_right_is_no_finding(text: str) -> None:
    """A schema that leaves it open, a tool that is not known, a rule for whatever server comes: nobody can tell."""
    assert checked(text).findings == ()


def test_a_band_that_no_tool_can_reach_is_found() -> None:
    """Whoever wrote it relies on something that never happens; the most that any tool can score is named."""
    text = """\
    bands: [{from: 40, effect: hold}, {from: 75, effect: deny}]
    signals:
      - {id: a, tool: "bank__*", points: 30, reason: r}
      - {id: b, tool: bank__pay, points: 20, reason: r}
      - {id: c, tool: bank__quote, points: 40, reason: r}
    """
    places = [(finding.line, finding.column, finding.message) for finding in checked(text, ALL).findings]
    assert places == [(2, 42, "no tool can reach the band from 75: 70 points are the most, for `bank__quote`")]
    assert checked(text, KNOWN).findings == ()
    bare = checked("bands: [{from: 1, effect: deny}]", KNOWN).findings
    assert [finding.message for finding in bare] == [
        "no tool can reach the band from 1: all signals together have 0 points"
    ]
    bare = checked("bands: [{from: 1, effect: deny}]", ALL).findings
    assert [finding.message for finding in bare] == ["no tool can reach the band from 1: no signal concerns a tool"]
    none = checked("bands: [{from: 1, effect: deny}]", KnownTools((), frozenset({"bank"}))).findings
    assert [str(finding) for finding in none] == [
        "policy.yaml:2:16: no tool can reach the band from 1: no signal concerns a tool\n"
        "  help: lower `from`, or give signals more points"
    ]


def test_tools_that_no_rule_names_are_a_note() -> None:
    """The default is safe, so it is no mistake, but worth knowing. A rule that is tried out decides nothing."""
    report = checked("default: deny\n" + RULE % ("bank__pay", "r") + "\n", ALL)
    assert report.findings == ()
    assert report.by_default == ("bank__quote", "bank__close")
    assert report.notes == ("2 tools are named by no rule, so the default decides (`deny`): bank__quote, bank__close",)
    assert checked(RULE % ('"bank__*"', "r, shadow: true"), ALL).by_default == tuple(tool.name for tool in BANK)


def test_what_is_not_known_is_a_note() -> None:
    """Without tools, and for upstreams that are down, it is said what was not looked at."""
    rule = RULE % ('"*__*"', "r")
    assert checked(rule, KnownTools()).notes == (
        "no tool is known, so rules were not held against tools: give `--tools`, or start the gateway",
    )
    assert checked(rule).notes == ("the tools of `crm` are not known: what concerns them was not held against them",)
    assert checked(RULE % ('"*__pya"', "r"), ALL).notes[0] == "policy.yaml:2:23: no tool is named by `*__pya`"


def test_a_ready_policy_may_know_more_than_one_server() -> None:
    """What it says of other servers' tools is right; that it says nothing of this one is a mistake in using it."""
    path = policy_path("github.yaml")
    loaded = read_policy([PolicySource(path, "gh", {"approver": "finance"})], TWO_PEOPLE)
    tools = json.loads((TOOL_LISTS / "github.json").read_text(encoding="utf-8"))["tools"]
    github = tuple(Tool(f"gh__{tool['name']}", tool["inputSchema"]) for tool in tools)
    assert check_policy(loaded, KnownTools(github, frozenset({"gh"})), {path}).findings == ()
    loaded = read_policy([PolicySource(path, "bank", {"approver": "finance"})], TWO_PEOPLE)
    found = check_policy(loaded, ALL, {path}).findings
    assert [finding.message for finding in found] == ["none of its rules names a tool of `bank`"]


def test_a_long_help_line_is_cut() -> None:
    """Of many names the first dozen stand there; the nearest is named whatever its place."""
    many = tuple(Tool(f"bank__tool_{number:02}") for number in range(14))
    found = checked(RULE % ("bank__tool_l3", "r"), KnownTools(many, frozenset({"bank"}))).findings
    listed = ", ".join(f"`bank__tool_{number:02}`" for number in range(12))
    assert str(found[0].help).startswith("did you mean `bank__tool_")
    assert str(found[0].help).endswith(f"its upstream's tools: {listed}, …")
    nothing = checked(RULE % ("bank__tool", "r"), KnownTools((), frozenset({"bank"}))).findings
    assert [finding.help for finding in nothing] == ["its upstream's tools: none"]


def test_findings_are_in_the_order_of_the_file() -> None:
    """Whoever mends them goes from top to bottom."""
    text = """\
    signals: [{id: s, tool: bank__nope, points: 1, reason: r}]
    rules:
      - {id: a, tool: bank__gone, effect: hold, reason: r}
      - {id: b, tool: bank__pay, effect: hold, reason: "{args.x}", when: args.y == 1}
    """
    places = [(finding.line, finding.column) for finding in checked(text, ALL).findings]
    assert places == sorted(places)
    assert [line for line, _ in places] == [2, 4, 5, 5]


@pytest.mark.parametrize(
    ("declared", "types"),
    [
        ({"type": "number"}, ("number",)),
        ({"type": ["string", "null"]}, ("string", "null")),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, ("integer", "null")),
        ({"oneOf": [{"type": "string"}, {"type": ["array", "null"]}]}, ("string", "array", "null")),
        ({"anyOf": [{"type": "integer"}, {}]}, ()),
        ({"enum": ["a"]}, ()),
        (True, ()),
        (None, ()),
    ],
)
def test_declared_types_are_read_where_a_schema_is_plain(declared: Any, types: tuple[str, ...]) -> None:
    """Unions too, as tools made from Python write them; what leaves any type open has none."""
    assert declared_types({"properties": {"x": declared}}, "x") == types
    assert declared_types({"properties": declared}, "y") == ()
    assert declared_types(None, "x") == ()


def test_every_expression_of_an_item_is_known_by_its_place() -> None:
    """So that none is left unread, whatever else stands beside it."""
    loaded = read(
        """\
        signals:
          - id: s
            tool: bank__pay
            points: 5
            reason: r
            when: args.urgent
            unless: args.any == 1
            spend: {of: args.amount, unit: args.to, window: 1h, low: 1, high: 2}
          - {id: t, tool: bank__pay, points: 5, reason: r, when: args.urgent}
        rules:
          - id: a
            tool: bank__pay
            effect: hold
            reason: r
            when: args.urgent
            unless: args.any == 1
            preview: {tool: bank__quote, args: {amount: args.amount, to: args.to}}
            probe: {tool: bank__quote, args: {note: args.note}, happened: result.x == 1, did_not: result.x == 2}
        budgets: [{id: b, tool: bank__pay, sum: args.amount, unit: args.to, limit: {EUR: 1}, window: 1d, over: deny}]
        """
    ).policy
    items: tuple[Item, ...] = (*loaded.signals, *loaded.rules, *loaded.budgets)
    assert {item.id: [(".".join(map(str, place)), one.text) for place, one in expressions(item)] for item in items} == {
        "s": [
            ("when", "args.urgent"),
            ("unless", "args.any == 1"),
            ("spend.of", "args.amount"),
            ("spend.unit", "args.to"),
        ],
        "t": [("when", "args.urgent")],
        "a": [
            ("when", "args.urgent"),
            ("unless", "args.any == 1"),
            ("preview.args.amount", "args.amount"),
            ("preview.args.to", "args.to"),
            ("probe.args.note", "args.note"),
            ("probe.happened", "result.x == 1"),
            ("probe.did_not", "result.x == 2"),
        ],
        "b": [("sum", "args.amount"), ("unit", "args.to")],
    }


def test_a_finding_in_a_condition_of_several_lines_stands_in_its_line() -> None:
    """A name is found where it is used, not where a longer name holds it."""
    text = """\
    rules:
      - id: a
        tool: bank__pay
        effect: hold
        reason: r
        when: |-
          args.amount > 5
            && args.to != "amuont"
            && args.amuont > 6
      - {id: b, tool: bank__pay, effect: hold, reason: r, when: 'args.to != "xs.nt" && args["nt"] > 5'}
    """
    places = [(finding.line, finding.column, finding.message) for finding in checked(text).findings]
    assert places == [
        (10, 12, "`bank__pay` has no argument `amuont`"),
        (11, 84, "`bank__pay` has no argument `nt`"),
    ]


def test_a_tool_that_a_probe_reads_with_must_be_there() -> None:
    """As that of a preview."""
    probe = "probe: {tool: bank__x, args: {}, happened: result.x == 1, did_not: result.y == 1}"
    (finding,) = checked(RULE % ("bank__pay", f"r, {probe}")).findings
    assert finding.message == "no tool is called `bank__x`"


def test_a_type_that_one_owner_leaves_open_says_nothing_of_the_next_argument() -> None:
    """Each argument is looked at by itself; a tool without it does not count."""
    report = checked(RULE % (BOTH, "r, when: 'args.any > 5 && args.urgent > 5'"))
    assert [finding.message for finding in report.findings] == ["`>` does not take (bool, number) in a condition"]


def test_the_schema_of_a_known_tool_is_found_by_its_full_name() -> None:
    """And of no other tool."""
    assert KNOWN.schema("bank__quote") == QUOTE
    assert KNOWN.schema("bank__nope") is None


def test_a_band_at_the_highest_score_is_reached() -> None:
    """From 20 on, with 20 points."""
    text = "bands: [{from: 20, effect: hold}]\nsignals: [{id: s, tool: bank__pay, points: 20, reason: r}]\n"
    assert checked(text, ALL).findings == ()


def test_one_tool_that_no_rule_names_is_one() -> None:
    """In words, too; and of a ready policy for another server it is said what to do."""
    report = checked(RULE % ('["bank__pay", "bank__quote"]', "r"), ALL)
    assert report.notes == ("1 tool is named by no rule, so the default decides (`hold`): bank__close",)
    path = policy_path("github.yaml")
    loaded = read_policy([PolicySource(path, "bank", {"approver": "finance"})], TWO_PEOPLE)
    (finding,) = check_policy(loaded, ALL, {path}).findings
    assert str(finding).endswith(
        "none of its rules names a tool of `bank`\n  help: use the ready policy that is made for this server"
    )
    elsewhere = KnownTools((Tool("gh__x"),), frozenset({"gh"}), frozenset({"gh", "bank"}))
    again = read_policy([PolicySource(path, "bank", {"approver": "finance"})], TWO_PEOPLE)
    assert check_policy(again, elsewhere, {path}).findings == ()


GRANTABLE = "{id: a, tool: bank__pay, effect: hold, grantable: true, reason: r}"


@pytest.mark.parametrize(
    ("beside", "because"),
    [
        ("{id: all, tool: 'bank__*', effect: hold, reason: r}", "rule `all`"),
        ("{id: none, tool: bank__pay, effect: deny, reason: r}", "rule `none`"),
        ("{id: some, tool: bank__pay, effect: hold, when: args.amount > 5, reason: r}", None),
        ("{id: runs, tool: bank__pay, effect: allow, reason: r}", None),
        ("{id: too, tool: bank__pay, effect: hold, grantable: true, reason: r}", None),
        ("{id: tried, tool: bank__pay, effect: hold, shadow: true, reason: r}", None),
        ("{id: other, tool: bank__quote, effect: hold, reason: r}", None),
    ],
)
def test_a_grant_that_another_rule_always_stands_in_the_way_of(beside: str, because: str | None) -> None:
    """It could never serve a call, so that `grantable` does not say what its author meant."""
    findings = checked(f"rules: [{GRANTABLE}, {beside}]", ALL).findings
    expected = [f"`grantable` can never matter: a grant would serve none of these calls, because of {because}"]
    assert [finding.message for finding in findings] == (expected if because else [])


def test_a_band_that_every_score_is_in_stands_in_the_way_of_every_grant() -> None:
    """Also where no tool is known; a band that starts higher does not."""
    (finding,) = checked(f"bands: [{{from: 0, effect: hold}}]\nrules: [{GRANTABLE}]", KnownTools()).findings
    assert finding.message.endswith("because of the band from 0")
    signal = "signals: [{id: s, tool: bank__pay, points: 20, reason: r}]"
    assert checked(f"bands: [{{from: 20, effect: hold}}]\n{signal}\nrules: [{GRANTABLE}]", KnownTools()).findings == ()
