"""Commands about the record as a whole: `audit verify|export`, `backup`, `restore`."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

import anyio
import click

from hitl_mcp.cli.client import NoGateway, control
from hitl_mcp.cli.options import config_option, json_option, print_json
from hitl_mcp.clock import Clock, for_people
from hitl_mcp.render import plain_text
from hitl_mcp.state_dir import StateDir

EXIT_CODES = {"fine": 0, "broken": 1, "cannot tell": 3}


@click.group()
def audit() -> None:
    """Verify the record, or write it out."""


@audit.command()
@config_option
@json_option
@click.option("--checkpoints", "signed", default=None, metavar="FILE", help="Signed heads to hold FILE against.")
@click.option("--public-key", default=None, metavar="FILE", help="The key they were signed with (`audit.pub`).")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False))
def verify(config: str, as_json: bool, signed: str | None, public_key: str | None, file: str | None) -> int:
    """Say whether the record is whole and unchanged, and up to where that is proven.

    Without FILE: the record of this gateway. FILE is a backup, a copy of a database, or an export. Ends with 0 where
    all is fine, 1 where something is broken, 3 where it cannot be told whether the end was cut off.
    """
    if (signed is None) != (public_key is None):
        raise click.UsageError("--checkpoints and --public-key go together")
    if file is None and signed is not None:
        raise click.UsageError("--checkpoints goes with a FILE")
    report = _verify_file(Path(file), signed, public_key) if file is not None else _verify_gateway(config)
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    return EXIT_CODES[report["answer"]]


def _verify_gateway(config: str) -> dict[str, Any]:
    try:
        with control(config) as gateway:
            return gateway.get_slowly("/api/audit/verify")
    except NoGateway:
        return _offline(config)


def _offline(config: str) -> dict[str, Any]:
    """Verify the gateway's own database while no gateway runs; nobody may start one meanwhile."""
    from hitl_mcp.audit import Evidence
    from hitl_mcp.config import load_config

    state = StateDir.for_config(config)
    state.ensure()
    with state.acquire_gateway_lock():
        return Evidence.of(load_config(Path(config)), state).verify().as_dict()


def _verify_file(file: Path, signed: str | None, public_key: str | None) -> dict[str, Any]:
    from hitl_mcp.audit import Evidence

    if signed is None or public_key is None:
        return Evidence.beside(file).verify().as_dict()
    return Evidence(file, Path(signed), Path(public_key)).verify().as_dict()


def _print_report(report: dict[str, Any]) -> None:
    events, calls = f"{report['events']} events", f"{report['calls']} calls"
    said = {
        "fine": f"fine: {events} and {calls} are as they were written",
        "broken": f"BROKEN: {events}, {calls}",
        "cannot tell": f"cannot tell: {events} and {calls} fit together, and no checkpoint says where the record ended",
    }
    click.echo(said[report["answer"]])
    for finding in report["findings"]:
        click.echo(f"  {finding}")
    if report["more_findings"]:
        click.echo(f"  and {report['more_findings']} more")
    if report["attested"] is not None:
        at = for_people(report["attested_at"])
        click.echo(f"  complete up to event {report['attested']}, as was signed at {at}")
        if report["unsigned"]:
            click.echo(f"  after it stand {report['unsigned']} events; whether there were more, nobody can tell")
    if report["signed_verdicts"]:
        click.echo(f"  signed by passkeys, and the signatures are good: {report['signed_verdicts']} verdicts")
        for key in report["passkeys"]:
            click.echo(f"    {key['fingerprint']}  {plain_text(key['reviewer'])}, since {for_people(key['since'])}")
    if report["head"]:
        click.echo(f"  head: {report['head']}")


@audit.command()
@config_option
@click.option("--after", default=0, metavar="N", help="Begin after this event.")
@click.option("--payloads", is_flag=True, help="With arguments, claims, decisions in full, and results.")
@click.option("-o", "--output", default=None, metavar="FILE", help="A new file (0600); else stdout.")
def export(config: str, after: int, payloads: bool, output: str | None) -> int:
    """Write the record as lines of JSON, in the order of its chain."""
    with control(config) as gateway, _new_file(output) if output else nullcontext(sys.stdout) as out:
        for line in gateway.lines("/api/audit/export", after=str(after), payloads=str(payloads).lower()):
            out.write(line + "\n")
    return 0


def _new_file(name: str) -> TextIO:
    try:
        return open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{name}: cannot be made: {error.strerror}") from error


@click.command()
@config_option
@click.argument("file", type=click.Path())
def backup(config: str, file: str) -> int:
    """Copy the record of the running gateway to a new FILE, with what proves it beside it."""
    with control(config) as gateway:
        kept = gateway.post_slowly("/api/backup", {"path": os.path.abspath(file)})
    click.echo(f"{file}: {kept['events']} events, {kept['bytes']} bytes; keep the files beside it with it")
    return 0


@click.command()
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def restore(config: str, yes: bool, file: str) -> int:
    """Put a backup in the place of the database, which is kept under another name.

    What was held or approved in the backup ends: it may have been decided, or have run, since.
    """
    from hitl_mcp import backups
    from hitl_mcp.audit import SEALS_FILE, Evidence, signer_of
    from hitl_mcp.config import load_config

    if not yes and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: use --yes")
    written, state = load_config(Path(config)), StateDir.for_config(config)
    state.ensure()
    with state.acquire_gateway_lock():
        database = Evidence.of(written, state).record
        if not yes and not click.confirm(f"Put {file} in the place of {database}?", default=False):
            click.echo("nothing was changed")
            return 1
        place = backups.Place(database, Path(state.file(SEALS_FILE)), signer_of(state))
        restored = anyio.run(backups.restore, Path(file), place, Clock())
    click.echo(f"restored {restored.report.events} events and {restored.report.calls} calls")
    if restored.report.answer != "fine":
        click.echo("  no checkpoint lies beside the backup: whether its end was cut off, nobody can tell")
    if restored.ended:
        click.echo(f"  {restored.ended} calls were held or approved in it, and are invalidated: ask for them again")
    if restored.set_aside:
        click.echo(f"  the database that was there is now {restored.set_aside}")
    return 0


COMMANDS = (audit, backup, restore)
