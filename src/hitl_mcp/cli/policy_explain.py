"""`policy explain`: why a call is decided as it is, and what would change that. The other commands are in `policy`."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import click
from pydantic import Field

from hitl_mcp.calls import (
    Answer,
    Decision,
    Effect,
    HistoryUsed,
    Requirement,
    RuleMatch,
    SignalMatch,
)
from hitl_mcp.canonical import parse_strict
from hitl_mcp.cli.client import control
from hitl_mcp.cli.options import json_option, print_json
from hitl_mcp.cli.policy_sources import PolicyAsked, Sources, policy_options, read_sources
from hitl_mcp.documents import Document, check
from hitl_mcp.errors import ArgumentsRefused, ConfigError, PolicyError
from hitl_mcp.policy.cases import given_history
from hitl_mcp.policy.explain import Change, Crossing, ExplainedCall, Part
from hitl_mcp.policy.explain import explain as explain_call
from hitl_mcp.policy.explanation import explained
from hitl_mcp.policy.history import About, History, Question
from hitl_mcp.policy.load import read_policy
from hitl_mcp.policy.signals import window_as_text
from hitl_mcp.policy.subject import Subject
from hitl_mcp.policy.written import WrittenCaseCall
from hitl_mcp.render import decision_shown, explanation_text, plain_text

PIPE_COLUMNS = 100
"""The width of what is not shown on a terminal."""

_CALL_ID = re.compile(r"c_[A-Za-z0-9]+\Z")


class _WrittenCall(WrittenCaseCall):
    """A call to explain, as a file or the command line writes it; `given` is what history says, as in a case."""

    noun: ClassVar[str] = "a call"
    given: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class _Result:
    """What is known of one decision; `call` is None where only the record can speak, and `note` says why."""

    name: str
    decision: Decision
    call: ExplainedCall | None = None
    note: str = ""


@click.command()
@policy_options
@click.option("--call", "call_file", metavar="FILE", help='A call as JSON: {"tool": …, "args": {…}, "given": {…}}.')
@click.option("--tool", metavar="NAME", help="The full name of a tool, to type a call with --args.")
@click.option("--args", "arguments", default="{}", metavar="JSON", help="The arguments, with --tool.")
@click.option("--agent", metavar="NAME", help="Who asks, with --tool.")
@json_option
def explain(asked: PolicyAsked, as_json: bool, **typed: str | None) -> int:
    """Say why a call is decided as it is, and what would change that.

    A call on record is named by its id in place of FILE, one to try by --call or --tool.
    """
    ids = [name for name in asked.files if _CALL_ID.match(name) and not Path(name).exists()]
    asked = replace(asked, files=tuple(name for name in asked.files if name not in ids))
    if len(ids) + bool(typed["call_file"]) + bool(typed["tool"]) != 1:
        raise click.UsageError("name one call: its id, or `--call FILE`, or `--tool NAME --args JSON`")
    result = _on_record(asked, ids[0]) if ids else _tried(asked, typed)
    if as_json:
        print_json(_as_json(result))
    else:
        _print(result)
    return 0


# A call that is tried.


def _tried(asked: PolicyAsked, typed: dict[str, str | None]) -> _Result:
    call = _call_in_file(typed["call_file"]) if typed["call_file"] else _call_typed(typed)
    sources = read_sources(asked)
    policy = read_policy(sources.files, sources.people).policy
    written = call.model_fields_set
    upstream, _, tool = call.tool.partition("__")
    subject = Subject(
        upstream=upstream,
        labels=call.labels if "labels" in written else sources.labels(upstream),
        tool=tool,
        name=call.tool,
        arguments=call.args,
        agent=call.agent,
        now=call.now if "now" in written else datetime.now(UTC),
        input_schema=sources.known.schema(call.tool),
        owner=call.owner if "owner" in written else sources.people.owner_of(call.agent),
    )
    result = explain_call(policy, subject, given_history(call.given))
    return _Result(call.tool, result.decision, result, _unknown_tool(sources, call.tool))


def _unknown_tool(sources: Sources, name: str) -> str:
    if any(tool.name == name for tool in sources.known.tools):
        return ""
    return f"the schema of `{name}` is not known: an argument it lacks cannot be told from one that is missing"


def _call_in_file(file: str) -> _WrittenCall:
    try:
        raw = Path(file).read_bytes()
    except OSError as error:
        raise click.UsageError(f"cannot read `{file}`: {(error.strerror or str(error)).lower()}") from error
    return _call(file, _json(file, raw))


def _call_typed(typed: dict[str, str | None]) -> _WrittenCall:
    value = {"tool": typed["tool"], "args": _json("--args", typed["arguments"] or "{}")}
    return _call("the call", {**value, **({"agent": typed["agent"]} if typed["agent"] else {})})


def _json(where: str, text: str | bytes) -> Any:
    try:
        return parse_strict(text)
    except ArgumentsRefused as error:
        raise click.UsageError(f"{where}: not JSON: {error}") from error


def _call(where: str, value: Any) -> _WrittenCall:
    document = Document(where, value)
    call = check(document, _WrittenCall)
    if call is None or document.findings:
        raise PolicyError(document.findings)
    return call


# A call on record.


def _on_record(asked: PolicyAsked, call_id: str) -> _Result:
    """The decision as it is stored, and what every rule made of it where the policy is still the same."""
    with control(asked.config) as gateway:
        call = gateway.get(f"/api/calls/{call_id}")
    decision = _decision(call)
    if call["erased_at"] is not None:
        return _Result(call["name"], decision, note="what it carried was erased: this is what is left on record")
    try:
        sources = read_sources(replace(asked, files=(), use=()))
        policy = read_policy(sources.files, sources.people).policy
    except (ConfigError, PolicyError):
        return _Result(call["name"], decision, note="the policy files cannot be read now: this is what is on record")
    if policy.version != decision.policy:
        return _Result(call["name"], decision, note="the policy has changed since: this is what is on record")
    subject = Subject(
        upstream=call["upstream"],
        labels=sources.labels(call["upstream"]),
        tool=call["tool"],
        name=call["name"],
        arguments=parse_strict(call["arguments_json"]),
        agent=call["agent"],
        now=datetime.fromisoformat(call["created_at"]),
        input_schema=sources.known.schema(call["name"]),
        owner=sources.people.owner_of(call["agent"]),
    )
    again = explain_call(policy, subject, _as_told(decision.history))
    if (again.decision.effect, again.decision.score) != (decision.effect, decision.score):
        return _Result(call["name"], decision, note="tools or config have changed since: this is what is on record")
    return _Result(call["name"], decision, again)


def _as_told(used: Iterable[HistoryUsed]) -> History:
    """What history said to a decision, said again; what it did not ask then never happened."""
    told = {(one.item, one.about): one.answer for one in used}

    def answer(question: Question) -> Answer:
        nothing: Answer = () if question.about is About.KNOWN else 0
        return told.get((question.item, question.about.value), nothing)

    return answer


def _decision(call: dict[str, Any]) -> Decision:
    """The decision of a call, as the API writes it."""
    told = [(one["item"], one["about"], one["answer"]) for one in call["told"]]
    return Decision(
        effect=Effect(call["decision"]),
        score=call["score"],
        policy=call["policy"],
        reasons=tuple(call["reasons"]),
        rules=_matches(call["rules"]),
        signals=tuple(SignalMatch(one["id"], one["points"], one["reason"], one["error"]) for one in call["signals"]),
        band=call["band"],
        requirements=tuple(
            Requirement(need["id"], tuple(need["roles"]), need["quorum"], grantable=need["grantable"])
            for need in call["requirements"]
        ),
        shadows=_matches(call["shadows"]),
        history=tuple(HistoryUsed(*one[:2], tuple(one[2]) if isinstance(one[2], list) else one[2]) for one in told),
    )


def _matches(rows: list[dict[str, Any]]) -> tuple[RuleMatch, ...]:
    return tuple(RuleMatch(row["id"], Effect(row["effect"]), row["reason"], row["error"]) for row in rows)


# How it is told.


def _as_json(result: _Result) -> dict[str, Any]:
    decision, explanation = result.decision, explained(result.decision)
    return {
        "tool": result.name,
        "decision": decision.effect,
        "sentence": explanation.sentence,
        "reasons": explanation.why,
        "score": decision.score,
        "sum": explanation.total,
        "band": decision.band,
        "signals": [asdict(match) for match in explanation.points],
        "rules": [asdict(match) for match in decision.rules],
        "shadows": [asdict(match) for match in decision.shadows],
        "told": [asdict(used) for used in decision.history],
        "requirements": [asdict(need) for need in decision.requirements],
        "parts": [asdict(part) for part in result.call.parts] if result.call else None,
        "without": [asdict(change) for change in result.call.without] if result.call else None,
        "changed": [asdict(change) for change in result.call.changed] if result.call else None,
        "crossings": [asdict(crossing) for crossing in result.call.crossings] if result.call else None,
        "note": result.note or None,
    }


def _print(result: _Result) -> None:
    decision = result.decision
    width = shutil.get_terminal_size((PIPE_COLUMNS, 24)).columns
    click.echo(explanation_text(decision_shown(decision), width, sys.stdout.isatty()), nl=False)
    for need in decision.requirements:
        by = " or ".join(need.roles) or "anyone"
        granted = ", or a grant" if need.grantable else ""
        click.echo(f"  needs {need.quorum} by {plain_text(by)}, for {plain_text(need.id)}{granted}")
    if result.call and decision.effect is Effect.HOLD:
        expires, within = decision.expires_in_seconds, decision.run_within_seconds
        click.echo(f"  people have {window_as_text(expires)}, then it must start within {window_as_text(within)}")
    if result.call:
        _print_call(result.name, result.call)
    if result.note:
        click.echo(f"note: {plain_text(result.note)}")


def _print_call(name: str, call: ExplainedCall) -> None:
    _section(f"What names {name}", (_part_line(part) for part in call.parts))
    _section("What would change it", (_change_line(change) for change in (*call.without, *call.changed)))
    for argument in dict.fromkeys(crossing.argument for crossing in call.crossings):
        lines = (_crossing_line(crossing) for crossing in call.crossings if crossing.argument == argument)
        _section(f"Where {argument} crosses into a band", lines)


def _section(title: str, lines: Iterable[str]) -> None:
    rows = [plain_text(line) for line in lines]
    if rows:
        click.echo(f"\n{plain_text(title)}")
        click.echo("\n".join(f"  {row}" for row in rows))


def _part_line(part: Part) -> str:
    says = f", {part.points} of {part.most} points" if part.kind == "signal" else f" says {part.effect}"
    kind = "rule (tried out)" if part.kind == "shadow" else part.kind
    return f"{'yes' if part.counts else 'no ':<4}{kind} `{part.id}`{says}: {part.reason}; {part.why}"


def _crossing_line(crossing: Crossing) -> str:
    counted = f" ({crossing.counted})" if crossing.counted else ""
    below = f"; {crossing.below} below" if crossing.below is not crossing.effect else ""
    return f"from {crossing.value:,}{counted} on: {crossing.effect} ({crossing.score} points, {crossing.band}){below}"


def _change_line(change: Change) -> str:
    return f"{change.what}: {change.effect} ({change.score} points{f', {change.band}' if change.band else ''})"
