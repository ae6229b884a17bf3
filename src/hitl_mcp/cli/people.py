"""Commands of the operator about reviewers: who is signed in, and which passkeys they have."""

from __future__ import annotations

import sys
from typing import Any

import click

from hitl_mcp.cli.client import control
from hitl_mcp.cli.options import config_option, json_option, print_json
from hitl_mcp.clock import for_people
from hitl_mcp.render import plain_text


@click.group("sign-ins")
def sign_ins() -> None:
    """See who is signed in at the review page, and end that."""


@sign_ins.command("list")
@config_option
@json_option
def list_sign_ins(config: str, as_json: bool) -> None:
    """List every sign-in: whose, from where, and when it was last seen."""
    with control(config) as gateway:
        answer = gateway.get("/api/sign-ins")
    if as_json:
        print_json(answer)
        return
    if not answer["sign_ins"]:
        click.echo("nobody is signed in")
    for one in answer["sign_ins"]:
        click.echo(_sign_in_row(one))


def _sign_in_row(one: dict[str, Any]) -> str:
    seen, until = for_people(one["last_seen_at"]), for_people(one["expires_at"])
    return (
        f"{one['id']}  {plain_text(one['reviewer'])}  by {one['assurance']}  {one['label']}  seen {seen}  until {until}"
    )


@sign_ins.command("end")
@config_option
@click.argument("sign_in_id")
def end_sign_in(config: str, sign_in_id: str) -> None:
    """End a sign-in, and the pages that are open with it."""
    with control(config) as gateway:
        ended = gateway.post(f"/api/sign-ins/{sign_in_id}/end")["sign_in"]
    click.echo(f"{ended['id']} of {plain_text(ended['reviewer'])} is over")


@click.group()
def passkeys() -> None:
    """See which passkeys the reviewers have, and take them away from one who lost his."""


@passkeys.command("list")
@config_option
@json_option
def list_passkeys(config: str, as_json: bool) -> None:
    """List every passkey with its fingerprint, which its reviewer sees on the page."""
    with control(config) as gateway:
        answer = gateway.get("/api/passkeys")
    if as_json:
        print_json(answer)
        return
    if not answer["passkeys"]:
        click.echo("nobody has a passkey")
    for one in answer["passkeys"]:
        click.echo(_passkey_row(one))


def _passkey_row(one: dict[str, Any]) -> str:
    how = f"confirmed by {one['confirmed_by']}" if one["confirmed_by"] else "at first sight"
    used = f"used {for_people(one['last_used_at'])}" if one["last_used_at"] else "not used yet"
    since = f"since {for_people(one['created_at'])}, {how}"
    return (
        f"{one['fingerprint']}  {plain_text(one['reviewer'])}  {one['label']}  for {one['made_for']}  {since}  {used}"
    )


@passkeys.command()
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("name")
def reset(config: str, yes: bool, name: str) -> int:
    """Take all passkeys of NAME away; with the next sign-in by a link NAME may add a first one again.

    It stands on record, and every reviewer is shown for a week that it was done.
    """
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: use --yes")
    if not yes and not click.confirm(f"Take all passkeys of {name} away?", default=False):
        click.echo("nothing was changed")
        return 1
    with control(config) as gateway:
        answer = gateway.post("/api/passkeys/reset", {"reviewer": name})
    click.echo(f"{answer['removed']} passkeys of {name} are gone; every reviewer is shown that")
    return 0


COMMANDS = (sign_ins, passkeys)
