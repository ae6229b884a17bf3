"""Commands of the operator about tools: `tools list`, `diff`, `accept`."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import click

from hitl_mcp.cli.client import ControlClient, control
from hitl_mcp.cli.options import config_option, json_option, print_json
from hitl_mcp.clock import for_people
from hitl_mcp.errors import HitlError
from hitl_mcp.pins import FIRST_SIGHT
from hitl_mcp.render import difference_obstacle, difference_text, plain_text

PIPE_COLUMNS = 100
"""The width of what is not shown on a terminal."""

BLOCKED = frozenset({"changed", "tampered"})


@click.group()
def tools() -> None:
    """See which tools there are, what changed in them, and accept that."""


@tools.command("list")
@config_option
@json_option
def list_tools(config: str, as_json: bool) -> int:
    """List every tool with how it stands: accepted, new, changed, tampered or absent. Exit 1 where one is blocked."""
    with control(config) as gateway:
        answer = gateway.get("/api/tools")
    everything = [*answer["tools"], *answer["absent"]]
    if as_json:
        print_json(answer)
    else:
        for tool in sorted(everything, key=lambda tool: str(tool["name"])):
            click.echo(_row(tool))
        if not everything:
            click.echo("there are no tools")
    return int(any(tool["state"] in BLOCKED for tool in everything))


def _row(tool: dict[str, Any]) -> str:
    since = f"since {for_people(tool['accepted_at'])}" if tool["accepted_at"] else "not written yet"
    by = f", {_by_whom(tool)}" if tool["accepted_by"] else ""
    changed = f"; changed {for_people(tool['changed_at'])}" if tool.get("changed_at") else ""
    return f"{tool['state']:<9} {tool['name']}  accepted {since}{by}{changed}"


def _by_whom(tool: dict[str, Any]) -> str:
    by = tool["accepted_by"]
    return f"at {by}" if by == FIRST_SIGHT else f"by {plain_text(by)}"


@tools.command()
@config_option
@json_option
@click.argument("name", required=False)
def diff(config: str, as_json: bool, name: str | None) -> int:
    """Show what changed in NAME, or in every tool that is blocked. Exit 1 where something did."""
    with control(config) as gateway:
        changed = _changed(gateway, (name,) if name else (), whole=as_json)
    if as_json:
        print_json({"tools": [{key: tool[key] for key in tool if key != "difference"} for tool in changed]})
        return int(bool(changed))
    for tool in changed:
        _print_change(tool)
    if not changed:
        click.echo(f"`{name}` is as it was accepted" if name else "every tool is as it was accepted")
    return int(bool(changed))


@tools.command()
@config_option
@click.option("--all", "every", is_flag=True, help="Every tool that is blocked, one after the other.")
@click.option("--yes", is_flag=True, help="Do not ask; only for one tool, together with --digest.")
@click.option("--digest", default=None, help="The digest of the new definition you looked at; any other is refused.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def accept(config: str, every: bool, yes: bool, digest: str | None, names: tuple[str, ...]) -> int:
    """Show what changed in a tool and accept exactly that; from then on it can be called again."""
    if every == bool(names):
        raise click.UsageError("name the tools to accept, or write `--all`")
    if digest is not None and len(names) != 1:
        raise click.UsageError("--digest is of one tool: name it")
    if yes and digest is None:
        raise click.UsageError("--yes needs --digest: it names the definition you accept without being shown it")
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: look with `tools diff`, then use --yes --digest")
    with control(config) as gateway:
        if yes:
            return _send(gateway, names[0], str(digest))
        changed = _changed(gateway, names)
        if not changed:
            click.echo("nothing to accept: what you named is as it was accepted")
        return max((_asked(gateway, tool, digest) for tool in changed), default=0)


def _asked(gateway: ControlClient, tool: dict[str, Any], digest: str | None) -> int:
    """Show one change and ask; what was asked about is what is accepted, whatever the tool offers by then."""
    name = tool["name"]
    if digest is not None and digest != tool["offered"]:
        raise HitlError(f"cannot accept `{name}`: it offers another definition than this one", help="look at it again")
    _print_change(tool)
    if obstacle := difference_obstacle(tool["difference"], _columns(), sys.stdout.encoding or "ascii"):
        raise HitlError(
            f"cannot accept `{name}` here: {obstacle}",
            help="read both definitions in `hitl-mcp tools diff --json`, then use --yes --digest",
        )
    if not click.confirm(f"Accept {name}, exactly as shown?", default=False):
        click.echo("not accepted; it stays blocked")
        return 1
    return _send(gateway, name, tool["offered"])


def _send(gateway: ControlClient, name: str, digest: str) -> int:
    gateway.post("/api/tools/accept", {"name": name, "digest": digest})
    click.echo(f"{name}: accepted")
    return 0


def _changed(gateway: ControlClient, names: tuple[str, ...], *, whole: bool = False) -> list[dict[str, Any]]:
    """The blocked tools of these names, or all; a name that no tool has is misuse."""
    answer = gateway.get("/api/tools")
    known = {tool["name"] for tool in (*answer["tools"], *answer["absent"])}
    for name in names:
        if name not in known:
            raise click.UsageError(f"no tool is called `{name}`: `hitl-mcp tools list` names them all")
    changed = gateway.get("/api/tools/changed", **({"whole": "true"} if whole else {}))["tools"]
    return [tool for tool in changed if not names or tool["name"] in names]


def _print_change(tool: dict[str, Any]) -> None:
    click.echo(f"{tool['name']}: {tool['reason']}")
    if tool["state"] == "tampered":
        click.echo("  what was accepted is not known any more, so all that it offers is shown as new")
    else:
        click.echo(f"  - accepted {for_people(tool['accepted_at'])} {_by_whom(tool)}  {tool['accepted']}")
    since = f" since {for_people(tool['changed_at'])}" if tool["changed_at"] else ""
    click.echo(f"  + offered{since}  {tool['offered']}")
    click.echo(difference_text(tool["difference"], _columns(), sys.stdout.isatty()))


def _columns() -> int:
    return shutil.get_terminal_size((PIPE_COLUMNS, 24)).columns


COMMANDS = (tools,)
"""What `main` adds."""
