"""Commands about the policy: `policy check`, `test`, `schema`; `explain` stands in `policy_explain`.

They read files by themselves and need no gateway; where one runs, it is asked for its tools. Their thinking stands in
`hitl_mcp.policy`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree import ElementTree

import click

from hitl_mcp.cli.options import json_option, print_json
from hitl_mcp.cli.policy_explain import explain
from hitl_mcp.cli.policy_sources import PolicyAsked, Sources, policy_options, read_sources
from hitl_mcp.errors import PolicyError
from hitl_mcp.policy.cases import CaseResult, run_case, unexercised
from hitl_mcp.policy.check import Report, check_policy
from hitl_mcp.policy.load import Loaded, read_policy
from hitl_mcp.policy.schema import policy_schema
from hitl_mcp.render import plain_text


@click.group()
def policy() -> None:
    """Check, explain and test the policy, before it decides anything."""


@policy.command()
@policy_options
@click.option("--strict", is_flag=True, help="Notes are findings, too: for CI.")
@json_option
def check(asked: PolicyAsked, strict: bool, as_json: bool) -> int:
    """Look for mistakes in FILEs, or in all files of the config: by themselves, and held against the tools."""
    sources = read_sources(asked)
    try:
        loaded = read_policy(sources.files, sources.people)
    except PolicyError as error:
        report, tools = Report(error.findings, (), ()), []
    else:
        report = check_policy(loaded, sources.known, sources.ready)
        tools = [_tool_row(loaded, tool.name) for tool in sources.known.tools]
    if as_json:
        findings = [asdict(finding) for finding in report.findings]
        print_json({"findings": findings, "notes": report.notes, "by_default": report.by_default, "tools": tools})
    else:
        _print_report(report, sources)
    return int(bool(report.findings) or (strict and bool(report.notes)))


def _tool_row(loaded: Loaded, name: str) -> dict[str, Any]:
    concerned = loaded.policy.concerning(name)
    return {
        "name": name,
        "rules": [rule.id for rule in concerned.rules],
        "signals": [signal.id for signal in concerned.signals],
        "budgets": [budget.id for budget in concerned.budgets],
        "reachable_score": loaded.policy.reachable_score(name),
    }


def _print_report(report: Report, sources: Sources) -> None:
    for finding in report.findings:
        click.echo(str(finding))
    for note in report.notes:
        click.echo(f"note: {plain_text(note)}")
    found = _many(len(report.findings), "finding") if report.findings else "nothing found"
    against = f", against {_many(len(sources.known.tools), 'tool')}" if sources.known.tools else ""
    click.echo(f"{found} in {_many(len(sources.files), 'file')}{against}")


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


# Cases.


@dataclass(frozen=True)
class _Tested:
    """What the cases of some files gave. `left_out`: cases of ready policies, which only hold for those alone."""

    results: list[CaseResult]
    left_out: int
    unexercised: tuple[str, ...]

    @property
    def failed(self) -> list[CaseResult]:
        return [result for result in self.results if result.problems]


@policy.command()
@policy_options
@click.option("--junit", metavar="FILE", help="Also write the results as JUnit XML, for CI.")
@click.option("--strict", is_flag=True, help="What no case exercises is a finding, too: for CI.")
@json_option
def test(asked: PolicyAsked, junit: str | None, strict: bool, as_json: bool) -> int:
    """Run the cases that stand in FILEs, or in all files of the config."""
    sources = read_sources(asked)
    tested = _run(read_policy(sources.files, sources.people), sources)
    if junit:
        _write_junit(tested.results, junit)
    if as_json:
        print_json({"cases": [_case_row(one) for one in tested.results], "unexercised": tested.unexercised})
    else:
        _print_tested(tested)
    return int(bool(tested.failed) or (strict and bool(tested.unexercised)))


def _run(loaded: Loaded, sources: Sources) -> _Tested:
    # A case holds for the files it stands in: beside an operator's own rules a ready policy may well be stricter.
    everything = {document.file for _, document in loaded.files}
    own = {document.file for source, document in loaded.files if source.path not in sources.ready} or everything
    cases = [case for case in loaded.policy.cases if case.file in own]
    results = [run_case(loaded.policy, case, sources.known.schema) for case in cases]
    asked_for = [id for id in unexercised(loaded.policy, results) if loaded.places[id][0].file in own]
    return _Tested(results, len(loaded.policy.cases) - len(cases), tuple(asked_for))


def _case_row(result: CaseResult) -> dict[str, Any]:
    case, decision = result.case, result.decision
    return {
        "name": case.name,
        "file": case.file,
        "line": case.line,
        "passed": not result.problems,
        "problems": result.problems,
        "effect": decision.effect,
        "score": decision.score,
    }


def _print_tested(tested: _Tested) -> None:
    for result in tested.failed:
        case = result.case
        name = "" if case.name.startswith(f"{case.file}:") else f" {plain_text(case.name)}:"
        click.echo(f"{case.file}:{case.line}:{name} {plain_text('; '.join(result.problems))}")
    if tested.left_out:
        click.echo(f"note: {_many(tested.left_out, 'case')} of ready policies left out: `--use NAME` runs them")
    if tested.unexercised:
        click.echo(f"note: no case exercises {', '.join(f'`{id}`' for id in tested.unexercised)}")
    passed = len(tested.results) - len(tested.failed)
    click.echo(f"{passed} of {_many(len(tested.results), 'case')} passed" if tested.results else "there are no cases")


def _write_junit(results: Iterable[CaseResult], file: str) -> None:
    """The results as CI systems read them: one suite for each policy file."""
    top = ElementTree.Element("testsuites", name="hitl-mcp policy test")
    by_file: dict[str, list[CaseResult]] = {}
    for result in results:
        by_file.setdefault(result.case.file, []).append(result)
    for name, cases in by_file.items():
        failures = str(sum(bool(result.problems) for result in cases))
        suite = ElementTree.SubElement(top, "testsuite", name=name, tests=str(len(cases)), failures=failures)
        for result in cases:
            title = {"name": plain_text(result.case.name), "classname": name}
            row = ElementTree.SubElement(suite, "testcase", {**title, "file": name, "line": str(result.case.line)})
            if result.problems:
                message = plain_text("; ".join(result.problems))
                ElementTree.SubElement(row, "failure", message=message).text = f"{name}:{result.case.line}: {message}"
    try:
        ElementTree.ElementTree(top).write(file, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise click.UsageError(f"cannot write `{file}`: {(error.strerror or str(error)).lower()}") from error


# The schema.


@policy.command()
def schema() -> None:
    """Print the JSON Schema of a policy file, for editors."""
    click.echo(json.dumps(policy_schema(), indent=2, ensure_ascii=False))


policy.add_command(explain)

COMMANDS = (policy,)
