#!/usr/bin/env python3
"""A PreToolUse hook of Claude Code: asks hitl-mcp whether one of its own tools may run. It runs nothing itself.

Claude Code starts it before a tool, with the tool's name and input as JSON on stdin, and reads the answer as JSON from
stdout. It needs Python 3.9 and nothing else.

A hook that merely fails lets the tool run. So whatever goes wrong here denies: with the reason where there is one, and
with exit code 2 for the rest.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import pwd
import socket
import sys
from typing import Any

ANSWER_SECONDS = 10
"""How long the gateway may take beside waiting for people. With `--wait` it must stay below the hook's `timeout`."""


class Denied(Exception):
    """The tool must not run, and why."""


class GatewayConnection(http.client.HTTPConnection):
    """HTTP over the gateway's control socket, which only its own user can open."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("hitl-mcp", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def main() -> None:
    """Read the request, ask, and print the answer as Claude Code expects it."""
    options = read_options()
    try:
        asked = read_request(sys.stdin.buffer.read())
        told = ask(options, asked)
        decision, reason = ("allow" if told["decision"] == "allow" else "deny"), str(told["reason"])
        changed = {"updatedInput": told["updatedInput"]} if decision == "allow" and "updatedInput" in told else {}
    except Denied as error:
        decision, reason, changed = "deny", f"NOT EXECUTED: {error}", {}
    output = {
        "hookEventName": "PreToolUse",
        "permissionDecision": decision,
        "permissionDecisionReason": reason,
        **changed,  # what a reviewer made of it, which runs in place of what was asked
    }
    print(json.dumps({"hookSpecificOutput": output}))


def read_options() -> argparse.Namespace:
    """What the operator wrote into the hook's command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", required=True, help="the hitl.yaml of the gateway")
    parser.add_argument("--agent", required=True, help="the agent's name, as in `hitl-mcp stdio --agent`")
    parser.add_argument("--client", default="claude-code", help="as named under `clients` in the config")
    parser.add_argument("--wait", type=float, default=45, metavar="SECONDS", help="how long to wait for people")
    return parser.parse_args()


def read_request(raw: bytes) -> dict[str, Any]:
    """What Claude Code says it is about to run."""
    try:
        asked = json.loads(raw.decode("utf-8"), object_pairs_hook=without_doubles)
    except ValueError as error:
        raise Denied(f"the hook was given something that is not plain JSON: {error}") from None
    if not isinstance(asked, dict) or not isinstance(asked.get("tool_name"), str):
        raise Denied("the hook was given no tool to ask about")
    return asked


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, unless a key stands in it twice: two readers could take two different calls from it."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands twice")
    return members


def ask(options: argparse.Namespace, asked: dict[str, Any]) -> dict[str, Any]:
    """Ask the gateway; returns what it says of this call."""
    body = {
        "client": options.client,
        "tool": asked["tool_name"],
        "arguments": asked.get("tool_input", {}),
        "agent": options.agent,
        "wait_seconds": options.wait,
        "takes_updated_input": True,
    }
    if isinstance(asked.get("session_id"), str) and asked["session_id"]:
        body["conversation"] = asked["session_id"][:200]
    gateway = GatewayConnection(control_socket(options.config), options.wait + ANSWER_SECONDS)
    try:
        gateway.request("POST", "/api/evaluate", json.dumps(body), {"Content-Type": "application/json"})
        answer = gateway.getresponse()
        told = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise unreachable(options.config, f"it does not answer: {error}") from None
    finally:
        gateway.close()
    if answer.status != 200:
        problem = told.get("error", {})
        raise Denied("; ".join(problem[key] for key in ("message", "help") if key in problem))
    return dict(told)


def control_socket(config: str) -> str:
    """Where the gateway of this config is reached, as it wrote it down when it started."""
    home = os.environ.get("HITL_MCP_HOME")
    base = home or os.path.join(pwd.getpwuid(os.getuid()).pw_dir, ".local", "state", "hitl-mcp")
    digest = hashlib.sha256(os.fsencode(os.path.realpath(config))).hexdigest()[:12]
    try:
        with open(os.path.join(base, digest, "gateway.json"), encoding="utf-8") as file:
            return str(json.load(file)["control_socket"])
    except (OSError, ValueError, KeyError):
        raise unreachable(config, "none runs for this config") from None


def unreachable(config: str, why: str) -> Denied:
    """Nobody decides, so nothing runs."""
    start = f"hitl-mcp serve --config {config}"
    return Denied(f"hitl-mcp cannot be asked, {why}. Tell the user to start it with `{start}`, then try again.")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(f"NOT EXECUTED: the hook of hitl-mcp failed: {error!r}", file=sys.stderr)
        sys.exit(2)
