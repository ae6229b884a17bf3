"""`hitl-mcp agents list|stop|release`: which agents are stopped, stopping one, and letting it go on."""

from __future__ import annotations

from urllib.parse import quote

import click

from hitl_mcp.cli.client import control
from hitl_mcp.cli.options import config_option, json_option, print_json
from hitl_mcp.clock import for_people
from hitl_mcp.render import plain_text


@click.group()
def agents() -> None:
    """Agents whose calls are denied where people would be asked."""


@agents.command("list")
@config_option
@json_option
def list_agents(config: str, as_json: bool) -> None:
    """List the agents that are stopped."""
    with control(config) as gateway:
        answer = gateway.get("/api/stops")
    if as_json:
        print_json(answer)
        return
    if not answer["stops"]:
        click.echo("no agent is stopped")
    for stop in answer["stops"]:
        by = f"by {plain_text(stop['by'])} " if stop["by"] else ""
        at = f"at {for_people(stop['at'])}" if stop["at"] else ""
        reason = f": {plain_text(stop['reason'])}" if stop["reason"] else ""
        click.echo(f"{plain_text(stop['agent'])}  stopped {by}{at}{reason}")


@agents.command()
@config_option
@click.option("--reason", default="", help="Why; the agent is told it, word for word.")
@click.argument("agent")
def stop(config: str, reason: str, agent: str) -> None:
    """Deny what an agent asks for where it would be held; what the policy allows goes on."""
    with control(config) as gateway:
        gateway.post(f"/api/agents/{quote(agent, safe='')}/stop", {"reason": reason})
    click.echo(f"{plain_text(agent)}: stopped")


@agents.command()
@config_option
@click.argument("agent")
def release(config: str, agent: str) -> None:
    """Let an agent go on."""
    with control(config) as gateway:
        gateway.post(f"/api/agents/{quote(agent, safe='')}/release", {})
    click.echo(f"{plain_text(agent)}: released")


COMMANDS = (agents,)
