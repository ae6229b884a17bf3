"""`hitl-mcp grants list|give|revoke`: permissions for calls like one that was shown."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from hitl_mcp.cli.client import control
from hitl_mcp.cli.options import config_option, json_option, print_json
from hitl_mcp.cli.reviewing import print_shown, refuse_what_is_not_shown_whole
from hitl_mcp.clock import for_people
from hitl_mcp.render import plain_text

OPS = ("equals", "one_of", "starts_with", "ends_with", "at_most", "at_least", "domain_in")
"""As the API calls them."""


@click.group()
def grants() -> None:
    """Permissions that reviewers gave for calls like one they saw."""


@grants.command("list")
@config_option
@json_option
@click.option("--ended", is_flag=True, help="Those that serve no call any more.")
def list_grants(config: str, as_json: bool, ended: bool) -> None:
    """List the grants that serve calls."""
    with control(config) as gateway:
        answer = gateway.get("/api/grants", state="ended" if ended else "live")
    if as_json:
        print_json(answer)
        return
    if not answer["grants"]:
        click.echo("no grant has ended" if ended else "there is no grant: every held call waits for people")
    for grant in answer["grants"]:
        _print_grant(grant)


@grants.command()
@config_option
@json_option
@click.option(
    *("--when", "conditions"),
    type=(str, click.Choice(OPS), str),
    multiple=True,
    metavar="PATH OP VALUE",
    help="What an argument must be, such as `/to ends_with @example.com`; VALUE is JSON, or else a text.",
)
@click.option("--uses", type=int, default=10, show_default=True, help="How many calls it serves.")
@click.option("--minutes", type=int, default=60, show_default=True, help="How long it lasts.")
@click.option("--reason", default="", help="Why; it stands in the record.")
@click.option("--approve", is_flag=True, help="Approve the call itself, too.")
@click.option("--yes", is_flag=True, help="Do not ask; only together with --digest.")
@click.option("--digest", default=None, help="The digest of what you looked at; anything else is refused.")
@click.argument("call_id")
def give(
    config: str,
    as_json: bool,
    conditions: tuple[tuple[str, str, str], ...],
    call_id: str,
    **given: Any,
) -> int:
    """Show a held call, and let later calls like it run.

    Its operators: equals, one_of, starts_with, ends_with, at_most, at_least, domain_in.
    """
    if given["yes"] and given["digest"] is None:
        raise click.UsageError("--yes needs --digest: it names the call that you give it on without being shown it")
    if not given["yes"] and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: look with `show`, then use --yes --digest")
    terms = [{"path": path, "op": op, "value_json": _json(op, value)} for path, op, value in conditions]
    with control(config) as gateway:
        if not given["yes"]:
            shown = gateway.get(f"/api/calls/{call_id}/shown")
            given["digest"] = given["digest"] or shown["digest"]
            print_shown(shown)
            refuse_what_is_not_shown_whole(shown)
            tried = gateway.post("/api/grants/check", {"call_id": call_id, "conditions": terms})
            _print_tried(tried)
            if not click.confirm(
                f"Let up to {given['uses']} such calls run for {given['minutes']} min?", default=False
            ):
                click.echo("not given; the call stays as it is")
                return 1
        body = {
            "call_id": call_id,
            "conditions": terms,
            **{key: given[key] for key in ("digest", "uses", "minutes", "reason")},
        }
        grant = gateway.post("/api/grants", body)
        if given["approve"]:
            verdict = {"verdict": "approve", "digest": given["digest"], "reason": given["reason"]}
            gateway.post(f"/api/calls/{call_id}/verdict", verdict)
    if as_json:
        print_json(grant)
    else:
        _print_grant(grant)
    return 0


@grants.command()
@config_option
@click.option("--reason", default="", help="Why; it stands in the record.")
@click.argument("grant_id")
def revoke(config: str, reason: str, grant_id: str) -> None:
    """End a grant, and what it approved and has not started."""
    with control(config) as gateway:
        gateway.post(f"/api/grants/{grant_id}/revoke", {"reason": reason})
    click.echo(f"{grant_id}: revoked")


def _json(op: str, value: str) -> str:
    """A value as JSON text: as it is where it is JSON, else as a text. What only texts go with is always one."""
    if op in ("starts_with", "ends_with"):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return json.dumps(value)
    return value


def _print_tried(tried: dict[str, Any]) -> None:
    for condition in tried["conditions"]:
        click.echo(f"  {_text(condition)}")
    click.echo(
        f"It would have matched {len(tried['matched'])} of the last {tried['of']} calls of this tool by this agent."
    )
    if tried["problem"]:
        click.echo(f"It would not serve this very call: {plain_text(tried['problem'])}")


def _print_grant(grant: dict[str, Any]) -> None:
    shown = grant["shown"]
    until = f"until {for_people(grant['expires_at'])}" if grant["state"] == "live" else "ended"
    click.echo(
        f"{grant['id']}  {until}  {grant['used']}/{grant['uses']}  {_text(shown['agent'])}  {_text(shown['tool'])}"
    )
    for condition in shown["conditions"]:
        click.echo(f"    {_text(condition)}")
    if shown["ended_why"]:
        click.echo(f"    ended: {_text(shown['ended_why'])}")


def _text(segments: list[dict[str, Any]]) -> str:
    return "".join(segment["text"] for segment in segments)


COMMANDS = (grants,)
