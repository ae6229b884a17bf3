"""Commands of whoever answers: `review`, `pending`, `show`, `approve`, `reject`, `resolve`, `pause`, `resume`."""

from __future__ import annotations

import shutil
import sys
import webbrowser
from typing import Any

import click

from hitl_mcp.cli.client import ControlClient, control
from hitl_mcp.cli.options import config_option, json_option, print_json
from hitl_mcp.clock import for_people
from hitl_mcp.errors import HitlError
from hitl_mcp.render import plain_text, terminal_obstacle, terminal_text

OPEN_STATUSES = ("held", "approved", "running", "unknown")
PIPE_COLUMNS = 100
"""The width of what is not shown on a terminal."""


@click.command()
@config_option
@click.option("--for", "name", default=None, metavar="NAME", help="The reviewer who signs in with the link.")
@click.option("--print-link", is_flag=True, help="Print a one-time login link and open nothing.")
def review(config: str, name: str | None, print_link: bool) -> int:
    """Open the review page, signed in by a one-time link."""
    on_terminal = sys.stdout.isatty()
    if print_link and not on_terminal:
        # A link signs in whoever holds it; what is not a terminal may be an agent's tool, a log or a pipe.
        raise HitlError("a login link is printed to a terminal only", help="run this command in a terminal yourself")
    with control(config) as gateway:
        link = gateway.post("/api/links", {"for": name} if name else {})
    if print_link:
        click.echo(link["url"])
        return 0
    if webbrowser.open(link["url"]):
        click.echo(
            f"opened the review page for {link['reviewer']}; the link works once, until {link['expires_at'][:19]}Z"
        )
        return 0
    if not on_terminal:
        raise HitlError("no browser could be opened", help="run `hitl-mcp review --print-link` in a terminal")
    click.echo(f"no browser could be opened; this link works once, until {link['expires_at'][:19]}Z:")
    click.echo(link["url"])
    return 0


@click.command()
@config_option
@json_option
def pending(config: str, as_json: bool) -> None:
    """List the calls that wait for people, run, or have an unknown outcome."""
    with control(config) as gateway:
        answers = [gateway.get("/api/calls", status=status) for status in OPEN_STATUSES]
    calls = [call for answer in answers for call in answer["calls"]]
    if as_json:
        print_json({"calls": calls, "next": None})
        return
    if not calls:
        click.echo("nothing is open")
    for call in calls:
        click.echo(_row(call))


def _row(call: dict[str, Any]) -> str:
    met = ", ".join(f"{need['id']} {need['met']}/{need['quorum']}" for need in call["requirements"])
    until = f" until {for_people(call['expires_at'])}" if call["status"] == "held" and call["expires_at"] else ""
    name, agent = plain_text(call["name"]), plain_text(call["agent"])
    return f"{call['id']}  {call['status']}{until}  score {call['score']:>3}  {agent}  {name}  {met}".rstrip()


@click.command()
@config_option
@json_option
@click.argument("call_id")
def show(config: str, as_json: bool, call_id: str) -> None:
    """Show a call whole: what would run, why people are asked, and what was decided."""
    with control(config) as gateway:
        if as_json:
            print_json(gateway.get(f"/api/calls/{call_id}"))
            return
        shown = gateway.get(f"/api/calls/{call_id}/shown")
    print_shown(shown)


@click.command()
@config_option
@click.option("--reason", default="", help="Why; it stands in the record.")
@click.option("--yes", is_flag=True, help="Do not ask; only together with --digest.")
@click.option("--digest", default=None, help="The digest of what you looked at; anything else is refused.")
@click.argument("call_id")
def approve(config: str, reason: str, yes: bool, digest: str | None, call_id: str) -> int:
    """Show a call and approve exactly what was shown."""
    if yes and digest is None:
        raise click.UsageError("--yes needs --digest: it names the bytes you approve without being shown them")
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: look with `show`, then use --yes --digest")
    with control(config) as gateway:
        if not yes:
            shown = gateway.get(f"/api/calls/{call_id}/shown")
            digest = digest or shown["digest"]
            print_shown(shown)
            refuse_what_is_not_shown_whole(shown)
            if not click.confirm(f"Approve {call_id}, exactly as shown?", default=False):
                click.echo("not approved; it stays as it is")
                return 1
        answer = _verdict(gateway, call_id, {"verdict": "approve", "digest": digest, "reason": reason})
    click.echo(_after(answer))
    return 0


@click.command()
@config_option
@click.option("--reason", default="", help="Why; the agent is told.")
@click.argument("call_id")
def reject(config: str, reason: str, call_id: str) -> int:
    """Reject a call; the agent is told your reason."""
    with control(config) as gateway:
        digest = gateway.get(f"/api/calls/{call_id}")["digest"]
        answer = _verdict(gateway, call_id, {"verdict": "reject", "digest": digest, "reason": reason})
    click.echo(_after(answer))
    return 0


@click.command()
@config_option
@click.option("--happened/--did-not", default=None, help="What became of it.")
@click.option("--evidence", required=True, metavar="TEXT", help="How you know; it stands in the record.")
@click.argument("call_id")
def resolve(config: str, happened: bool | None, evidence: str, call_id: str) -> int:
    """Say what became of a call of unknown outcome; the agent is told."""
    if happened is None:
        raise click.UsageError("say what became of it: --happened or --did-not")
    if not evidence.strip():
        raise click.UsageError("--evidence is empty: say how you know")
    with control(config) as gateway:
        answer = gateway.post(f"/api/calls/{call_id}/resolve", {"happened": happened, "evidence": evidence})
    click.echo(f"{answer['id']}: {answer['status']}")
    return 0


@click.command()
@config_option
@click.option("--reason", default="", help="Why; agents and reviewers are told.")
def pause(config: str, reason: str) -> None:
    """Stop everything: nothing is run until `resume`; calls already running end by themselves."""
    with control(config) as gateway:
        gateway.post("/api/pause", {"reason": reason})
    click.echo("paused: nothing runs until `hitl-mcp resume`")


@click.command()
@config_option
def resume(config: str) -> None:
    """Let calls run again."""
    with control(config) as gateway:
        gateway.post("/api/resume")
    click.echo("resumed")


def _verdict(gateway: ControlClient, call_id: str, body: dict[str, Any]) -> dict[str, Any]:
    return gateway.post(f"/api/calls/{call_id}/verdict", body)


def _after(call: dict[str, Any]) -> str:
    missing = [f"{need['id']} {need['met']} of {need['quorum']}" for need in call["requirements"]]
    if call["status"] == "held":
        return f"{call['id']}: your approval counts, and it needs more people ({', '.join(missing)})"
    return f"{call['id']}: {call['status']}"


def print_shown(shown: dict[str, Any]) -> None:
    """Print a call whole."""
    colour = sys.stdout.isatty()
    click.echo(terminal_text(shown, _columns(), colour), nl=False)


def refuse_what_is_not_shown_whole(shown: dict[str, Any]) -> None:
    """Refuse to go on where this terminal did not show the call whole."""
    obstacle = terminal_obstacle(shown, _columns(), sys.stdout.encoding or "ascii")
    if obstacle:
        raise HitlError(
            f"cannot approve call `{shown['id']}` here: {obstacle}", help="open the review page: `hitl-mcp review`"
        )


def _columns() -> int:
    return shutil.get_terminal_size((PIPE_COLUMNS, 24)).columns


COMMANDS = (review, pending, show, approve, reject, resolve, pause, resume)
