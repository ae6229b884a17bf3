"""Commands of the gateway's life: `serve`, `stdio`, `status`, `stop`."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import click

from hitl_mcp.cli.client import NoGateway, control
from hitl_mcp.cli.options import config_option, json_option, print_json
from hitl_mcp.render import plain_text
from hitl_mcp.state_dir import StateDir

STOP_SECONDS = 20
"""How long `stop` waits for the gateway to be gone: it lets running calls end first (10 s)."""


@click.command()
@config_option
@click.option("--verbose", is_flag=True, help="Log more.")
def serve(config: str, verbose: bool) -> None:
    """Run the gateway until it is stopped."""
    from hitl_mcp import app

    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    os.umask(0o077)
    # Where there is one, an event loop in C: a call is mostly small reads, writes and wake-ups of the loop.
    loop = {"use_uvloop": find_spec("uvloop") is not None}
    anyio.run(app.serve, Path(config), _announce, backend_options=loop)


def _announce(gateway: Any) -> None:
    """Say that the gateway is ready: one JSON line for programs, prose on a terminal."""
    reached = gateway.reached.as_dict()
    if not sys.stdout.isatty():
        print(json.dumps(reached), flush=True)
        return
    click.echo(f"hitl-mcp is ready (pid {reached['pid']})")
    click.echo(f"  review page   {reached['url']}   sign in with `hitl-mcp review`")
    if reached["mcp_url"]:
        click.echo(f"  agents, HTTP  {reached['mcp_url']}")
    click.echo(f"  agents, stdio hitl-mcp stdio --config {reached['config']} --agent NAME")
    for upstream in gateway.status()["upstreams"]:
        click.echo(f"  upstream      {upstream['name']}: {upstream['state']} {upstream['detail']}".rstrip())


@click.command()
@config_option
@click.option("--agent", default="agent", show_default=True, metavar="NAME", help="The agent's name in policies.")
def stdio(config: str, agent: str) -> None:
    """What an agent client launches: relays MCP between stdin/stdout and the gateway, starting one if none runs."""
    from hitl_mcp import bridge

    sys.exit(bridge.main(["--config", config, "--agent", agent]))


@click.command()
@config_option
@json_option
def status(config: str, as_json: bool) -> int:
    """Say whether the gateway runs, where it is reached, and how its upstreams are."""
    try:
        with control(config) as gateway:
            answer = gateway.get("/api/status")
    except NoGateway as error:
        if as_json:
            print_json({"running": False, "config": os.path.realpath(config)})
        else:
            click.echo(str(error))
        return 1
    if as_json:
        print_json(answer)
    else:
        _print_status(answer)
    usable = answer["store"]["trouble"] is None and answer["policy"]["problem"] is None
    usable = usable and not answer["blocked_tools"] and not answer["tampered"]
    usable = usable and answer["tampering"] is None
    healthy = usable and all(one["state"] != "down" for one in answer["upstreams"])
    return 0 if healthy else 1


def _print_status(answer: dict[str, Any]) -> None:
    click.echo(f"hitl-mcp {answer['version']} is running (pid {answer['pid']})")
    click.echo(f"  review page  {answer['url']}")
    if answer["mcp_url"]:
        click.echo(f"  agents, HTTP {answer['mcp_url']}")
    click.echo(f"  config       {answer['config']}")
    if answer["paused"]:
        click.echo(f"  PAUSED by {answer['paused']['by']} since {answer['paused']['at']}: {answer['paused']['reason']}")
    if (trouble := answer["store"]["trouble"]) is not None:
        click.echo(f"  THE RECORD CANNOT BE WRITTEN: {trouble['says']}, since {trouble['since']}")
        click.echo(f"    help: {trouble['help']}")
    if answer["tampered"]:
        click.echo(f"  TAMPERING: changed outside the gateway: {', '.join(answer['tampered'])}")
        click.echo("    help: none of them ran; `hitl-mcp audit verify` says what else was changed")
    if answer["tampering"]:
        click.echo(f"  TAMPERING: the record is not as the gateway left it: {answer['tampering']}")
        click.echo("    help: all that was open has ended; `hitl-mcp audit verify` says what does not fit")
    if (behind := answer["clock_set_back_seconds"]) > 0:
        click.echo(
            f"  THE CLOCK WAS SET BACK by {behind:.0f} s; the gateway keeps its own time until it is started again"
        )
    if (problem := answer["checkpoints"]["problem"]) is not None:
        click.echo(f"  THE RECORD IS NOT SIGNED: {problem}")
    if (doubt := answer["checkpoints"]["doubt"]) is not None:
        click.echo(f"  CANNOT TELL: {doubt}")
    if answer["policy"]["problem"]:
        click.echo(f"  THE POLICY FILES CANNOT BE USED; in force is the policy of {answer['policy']['since']}:")
        for line in answer["policy"]["problem"]["findings"].splitlines():
            click.echo(f"    {line}")
    for upstream in answer["upstreams"]:
        count = f"{upstream['tools']} tools"
        if upstream["sign_in"]:
            click.echo(f"  upstream `{upstream['name']}` wants you to sign in: open {upstream['sign_in']}")
        else:
            click.echo(f"  upstream {upstream['name']}: {upstream['state']}, {upstream['detail'] or count}")
    for stop in answer["stops"]:
        click.echo(f"  STOPPED: agent {plain_text(stop['agent'])}, until `hitl-mcp agents release`")
    for tool in answer["blocked_tools"]:
        click.echo(f"  BLOCKED {tool['name']}: {tool['state']} since it was accepted; see `hitl-mcp tools diff`")
    for agent in answer["agents"]:
        click.echo(f"  agent {agent['name']}: {agent['problem']}")
    for warning in answer["warnings"]:
        click.echo(f"  {warning}")


@click.command()
@config_option
def stop(config: str) -> int:
    """Stop the gateway; bridges do not start it again until `hitl-mcp serve` does."""
    state = StateDir.for_config(config)
    state.ensure()
    # With the start lock held no bridge is half-way through starting a gateway that would clear the marker again.
    with state.start_lock(STOP_SECONDS) or nullcontext():
        state.mark_stopped()
        if not state.gateway_is_running():
            click.echo("no gateway was running; agents will not start one until `hitl-mcp serve`")
            return 0
        with control(config) as gateway:
            gateway.post("/api/stop")
    deadline = time.monotonic() + STOP_SECONDS
    while state.gateway_is_running():
        if time.monotonic() > deadline:
            click.echo("the gateway is still ending: a call is running", err=True)
            return 3
        time.sleep(0.05)
    click.echo("the gateway is stopped")
    return 0


COMMANDS = (serve, stdio, status, stop)
