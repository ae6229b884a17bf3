"""The policy commands as people and CI use them: what they print, and how they end."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from textwrap import dedent
from typing import Any
from xml.etree import ElementTree

import anyio
import anyio.to_thread
import pytest

from hitl_mcp.cli.main import main
from hitl_mcp.policy.schema import policy_schema
from tests.gateways import WAIT_SECONDS, Site, site

POLICY = """\
version: 1
bands: [{from: 40, effect: hold}]
signals:
  - {id: amount, tool: bank__pay, points: 80, amount: {of: args.amount, low: 50, high: 5000}, reason: much}
rules:
  - {id: small, tool: bank__pay, effect: allow, when: args.amount <= 500, reason: small change}
  - {id: quotes, tool: bank__quote, effect: allow, reason: reading}
cases:
  - {call: {tool: bank__pay, args: {amount: 40}}, expect: {effect: allow, rules: [small]}}
  - {name: much, call: {tool: bank__pay, args: {amount: 600}}, expect: {effect: hold, score: 43}}
"""
TOOLS = {
    "server": "bank",
    "tools": [
        {"name": "pay", "inputSchema": {"type": "object", "properties": {"amount": {"type": "number"}}}},
        {"name": "quote", "inputSchema": {"type": "object", "properties": {}}},
    ],
}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `policy …` in a folder with a policy and a saved tool list; gives the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    Path("bank.yaml").write_text(POLICY, encoding="utf-8")
    Path("tools.json").write_text(json.dumps(TOOLS), encoding="utf-8")

    def ran(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["policy", *arguments])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return ran


def write(name: str, text: str) -> None:
    """Write a file in the folder of the test."""
    Path(name).write_text(dedent(text), encoding="utf-8")


def test_a_policy_in_order_is_fine(run: Run) -> None:
    """Exit 0, and what it was held against is said."""
    assert run("check", "bank.yaml", "--tools", "bank=tools.json") == (
        0,
        "nothing found in 1 file, against 2 tools\n",
        "",
    )


def test_a_finding_names_its_place_and_exits_with_one(run: Run) -> None:
    """File, line, column, what is wrong and what was meant; a file that does not load is a finding as well."""
    write("bank.yaml", POLICY.replace("args.amount <= 500", "args.amuont <= 500"))
    assert run("check", "bank.yaml", "--tools", "bank=tools.json")[:2] == (
        1,
        "bank.yaml:6:55: `bank__pay` has no argument `amuont`\n"
        "  help: did you mean `amount`? its arguments: `amount`\n"
        "1 finding in 1 file, against 2 tools\n",
    )
    write("bank.yaml", POLICY.replace("effect: allow", "effect: alow"))
    code, text, _ = run("check", "bank.yaml")
    assert (code, text.splitlines()[:2]) == (
        1,
        ["bank.yaml:6:42: unknown effect `alow`", "  help: did you mean `allow`? effects are `allow`, `hold`, `deny`"],
    )


def test_findings_come_as_json_too(run: Run) -> None:
    """Programs get the places as numbers, and of each tool what decides it."""
    write("bank.yaml", POLICY.replace("bank__quote", "bank__qoute"))
    code, text, _ = run("check", "bank.yaml", "--tools", "bank=tools.json", "--json")
    found = json.loads(text)
    assert code == 1
    assert [(one["file"], one["line"], one["column"]) for one in found["findings"]] == [("bank.yaml", 7, 24)]
    assert found["by_default"] == ["bank__quote"]
    assert found["tools"][0] == {
        "name": "bank__pay",
        "rules": ["small"],
        "signals": ["amount"],
        "budgets": [],
        "reachable_score": 80,
    }


def test_a_note_is_no_finding_unless_ci_wants_it(run: Run) -> None:
    """A tool that no rule names is held by the default: safe, but a pipeline may want to know."""
    write("bank.yaml", POLICY.replace("bank__quote", "bank__pay"))
    code, text, _ = run("check", "bank.yaml", "--tools", "bank=tools.json")
    assert (code, text.splitlines()[0]) == (
        0,
        "note: 1 tool is named by no rule, so the default decides (`hold`): bank__quote",
    )
    assert run("check", "bank.yaml", "--tools", "bank=tools.json", "--strict")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "none.yaml"], "there is no file `none.yaml`"),
        (["check", "--use", "githbu"], "did you mean `github`?"),
        (["check", "--use", "cautious"], "whose tools is `cautious` for? write `--upstream NAME`"),
        (["check", "bank.yaml", "--tools", "tools.json"], "whose tools are these? write `--tools NAME=tools.json`"),
        (["check", "bank.yaml", "--tools", "bank=bank.yaml"], "not JSON"),
        (["check", "bank.yaml", "--tools", "bank=none.json"], "cannot read `none.json`"),
        (["check"], "hitl.yaml:1:1: cannot be read"),
        (["test", "bank.yaml", "--junit", "no/such/folder.xml"], "cannot write `no/such/folder.xml`"),
        (["explain", "bank.yaml"], "name one call"),
        (["explain", "bank.yaml", "--tool", "bank__pay", "--call", "c.json"], "name one call"),
        (["explain", "bank.yaml", "--call", "none.json"], "cannot read `none.json`"),
        (["explain", "bank.yaml", "--tool", "bank__pay", "--args", "{amount: 1}"], "--args: not JSON"),
        (["explain", "bank.yaml", "--tool", "pay"], "no upstream is named in `pay`"),
        (["explain", "bank.yaml", "--call", "tools.json"], "unknown key `server` in a call"),
    ],
)
def test_misuse_says_what_to_do(run: Run, arguments: list[str], says: str) -> None:
    """Exit 2, nothing on stdout, and the way out on stderr."""
    code, text, error = run(*arguments)
    assert (code, text, says in error) == (2, "", True), error


def test_cases_pass_and_what_none_exercises_is_named(run: Run) -> None:
    """Coverage is a note: rules nobody tries are rules nobody knows; CI may make it a finding."""
    assert run("test", "bank.yaml") == (0, "note: no case exercises `quotes`\n2 of 2 cases passed\n", "")
    assert run("test", "bank.yaml", "--strict")[0] == 1


def test_a_case_that_fails_says_what_was_expected_and_what_came(run: Run) -> None:
    """Its place first, as compilers write it, so that editors jump there; JUnit for CI says the same."""
    write("bank.yaml", POLICY.replace("score: 43", "score: 40, rules: [small]"))
    code, text, _ = run("test", "bank.yaml", "--junit", "out.xml")
    message = "rule `small` did not match; the score is 43, not 40: amount +43"
    assert (code, text.splitlines()[0]) == (1, f"bank.yaml:10: much: {message}")
    suite = ElementTree.parse("out.xml").getroot()[0]  # noqa: S314  # what we wrote ourselves
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("bank.yaml", "2", "1")
    failed = suite[1]
    assert (failed.get("name"), failed.get("file"), failed.get("line")) == ("much", "bank.yaml", "10")
    assert [(one.tag, one.get("message")) for one in failed] == [("failure", message)]
    code, text, _ = run("test", "bank.yaml", "--json")
    case = json.loads(text)["cases"][1]
    assert (code, case["passed"], case["score"], case["effect"]) == (1, False, 43, "hold")


def test_a_ready_policy_is_tested_by_its_name(run: Run) -> None:
    """Its tools are read as those of the upstream it would be used for."""
    code, text, _ = run("test", "--use", "github", "--upstream", "gh")
    assert code == 0, text
    assert text.endswith("cases passed\n")


def test_cases_of_ready_policies_are_left_out_beside_own_rules(run: Run) -> None:
    """They hold for the ready policy alone: an operator's own rule may well be stricter."""
    write(
        "hitl.yaml",
        """\
        upstreams: {gh: {command: "true"}, bank: {command: "true"}}
        policies: [bank.yaml, {use: github, upstream: gh}]
        """,
    )
    code, text, _ = run("test")
    assert code == 0, text
    assert "cases of ready policies left out: `--use NAME` runs them" in text
    assert text.endswith("2 of 2 cases passed\n")
    code, text, _ = run("check", "--tools", "bank=tools.json")
    assert (code, "note: the tools of `gh` are not known" in text) == (0, True)


def test_a_typed_call_is_explained(run: Run) -> None:
    """The decision, the points, every rule that names the tool, what would change it, and where a band begins."""
    code, text, error = run(
        "explain", "bank.yaml", "--tool", "bank__pay", "--args", '{"amount": 600}', "--tools", "bank=tools.json"
    )
    assert (code, error) == (0, "")
    assert text == dedent("""\
      Held: no rule matches this call, and then the policy says hold
      also: a score of 43 points means hold: it is in the band from 40
        43 amount: much
        43 of 100 points
      needs 1 by anyone, for band-40
      needs 1 by anyone, for default
      people have 1d, then it must start within 1h

    What names bank__pay
      no  rule `small` says allow: small change; `when` is false: `args.amount <= 500`
      yes signal `amount`, 43 of 80 points: much; `args.amount` is 600; points from 50 on, all of them at 5,000

    Where args.amount crosses into a band
      from 486 on: hold (40 points, band-40); allow below
    """)


def test_a_call_in_a_file_says_what_history_gives(run: Run) -> None:
    """As a case does; JSON has the same explanation for programs."""
    budget = "budgets: [{id: daily, tool: bank__pay, sum: args.amount, limit: 100, window: 1d, over: deny}]\n"
    write("bank.yaml", POLICY + budget)
    write("call.json", '{"tool": "bank__pay", "args": {"amount": 40}, "given": {"daily": 70}, "agent": "builder"}')
    code, text, _ = run("explain", "bank.yaml", "--call", "call.json", "--json")
    told = json.loads(text)
    assert (code, told["decision"], told["sum"], told["score"]) == (0, "deny", 0, 0)
    assert told["sentence"] == (
        "Denied: the budget does not allow it (40 does not fit into the 30 that are left of 100 within 1d) "
        "(budget `daily`)"
    )
    assert [change["what"] for change in told["without"]] == ["without budget `daily`"]
    assert [change["what"] for change in told["changed"]] == ["with `args.amount` 30"]
    assert told["told"] == [{"item": "daily", "about": "taken", "answer": 70_000_000}]
    assert "the schema of `bank__pay` is not known" in told["note"]


def test_the_schema_is_printed(run: Run) -> None:
    """Ready to be saved where an editor finds it."""
    code, text, _ = run("schema")
    assert (code, json.loads(text)) == (0, policy_schema())


# With a gateway.


@pytest.fixture(scope="module")
async def office() -> AsyncIterator[Site]:
    """A gateway with the sandbox's tools."""
    rules: list[dict[str, Any]] = [
        {"id": "pays", "tool": "sandbox__pay", "effect": "hold", "reason": "money"},
        {"id": "mail", "tool": "sandbox__send_mail", "effect": "hold", "when": 'args.too == "a"', "reason": "mail"},
    ]
    signal = {"id": "amount", "tool": "sandbox__pay", "points": 60, "reason": "{args.amount} is paid"}
    measure = {"of": "args.amount", "low": 10, "high": 1000}
    policy = {"version": 1, "default": "hold", "rules": rules, "signals": [{**signal, "amount": measure}]}
    folder = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))
    with site(folder, reviewers={}, policy=policy) as made:
        await made.start()
        async with made.control() as control:
            with anyio.fail_after(WAIT_SECONDS):
                while (await control.get("/api/status")).json()["upstreams"][0]["state"] != "ready":
                    await anyio.sleep(0)
        yield made
    shutil.rmtree(folder)


async def ran(office: Site, *arguments: str) -> tuple[int, str]:
    """A command beside the gateway."""
    done = await anyio.to_thread.run_sync(lambda: office.run("policy", *arguments))
    assert done.stderr == ""
    return done.returncode, done.stdout


async def test_a_running_gateway_is_asked_for_its_tools(office: Site) -> None:
    """Without saved lists the files are held against what the upstreams have now."""
    code, text = await ran(office, "check", "--json")
    found = json.loads(text)
    assert code == 1
    assert [one["message"] for one in found["findings"]] == ["`sandbox__send_mail` has no argument `too`"]
    assert found["findings"][0]["help"].startswith("did you mean `to`?")
    assert {"sandbox__pay", "sandbox__list_mail"} <= {tool["name"] for tool in found["tools"]}
    async with office.control() as control:
        tools = (await control.get("/api/tools")).json()["tools"]
    pay = next(tool for tool in tools if tool["name"] == "sandbox__pay")
    assert (pay["upstream"], pay["tool"], pay["decided_by"]) == ("sandbox", "pay", ["pays"])
    assert "amount" in pay["inputSchema"]["properties"]


async def test_a_call_on_record_is_explained_as_it_was_decided(office: Site) -> None:
    """The stored points add up to the stored score, and while the policy is the same, every part of it is there."""
    async with office.agent() as agent:
        payment = {"to": "Bella", "amount": 100, "currency": "EUR", "note": ""}
        held = await agent.call_tool("sandbox__pay", payment)
    call_id = str((held.structured_content or {})["call_id"])
    code, text = await ran(office, "explain", call_id, "--json")
    told = json.loads(text)
    async with office.reviewer("local") as desk:
        stored = await desk.call(call_id)
    assert (code, told["sentence"], told["note"]) == (0, "Held: money", None)
    assert sum(signal["points"] for signal in told["signals"]) == told["sum"] == told["score"] == stored["score"] == 30
    assert {part["id"]: part["counts"] for part in told["parts"]} == {"pays": True, "amount": True}
    assert [change["what"] for change in told["without"]] == []
    code, text = await ran(office, "explain", call_id)
    assert (code, text.splitlines()[:3]) == (0, ["  Held: money", "    30 amount: 100 is paid", "    30 of 100 points"])
    office.rewrite_policy(lambda policy: policy["rules"][0].update(reason="much money"))
    code, text = await ran(office, "explain", call_id)
    assert (code, text.splitlines()[0]) == (0, "  Held: money")
    assert text.endswith("note: the policy has changed since: this is what is on record\n")


async def test_an_unknown_call_is_a_finding_and_no_gateway_is_cannot_tell(office: Site, short_dir: Path) -> None:
    """As with the other commands that ask for a call on record."""
    unknown = await anyio.to_thread.run_sync(lambda: office.run("policy", "explain", "c_nothing"))
    assert (unknown.returncode, "no call has the id `c_nothing`" in unknown.stderr) == (1, True)
    with site(short_dir) as quiet:
        asked = await anyio.to_thread.run_sync(lambda: quiet.run("policy", "explain", "c_nothing"))
    assert (asked.returncode, "start one with `hitl-mcp serve`" in asked.stderr) == (3, True)


OF_CLIENTS = """\
version: 1
rules:
  - {id: shell, tool: claude-code__Bash, effect: hold, reason: it runs a command}
  - {id: other, tool: codex__shell, effect: hold, reason: it runs a command}
"""


def test_rules_for_clients_own_tools_are_held_against_the_clients_of_the_config(run: Run) -> None:
    """A client that the config names is known, though nobody lists its tools; another one is a mistake."""
    Path("clients.yaml").write_text(OF_CLIENTS, encoding="utf-8")
    config = "upstreams: {bank: {command: bank}}\nclients: [claude-code]\npolicies: [clients.yaml]\n"
    Path("hitl.yaml").write_text(config, encoding="utf-8")
    code, out, err = run("check", "--tools", "bank=tools.json")
    assert (code, err) == (1, "")
    assert "clients.yaml:4:23: no upstream is called `codex`" in out
    assert "no upstream is called `claude-code`" not in out
    assert "the tools of `claude-code` are not known: what concerns them was not held against them" in out
