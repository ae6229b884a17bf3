"""Looks for what would keep the gateway from working, or weakens it, and says how to mend each. Changes nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx2

from hitl_mcp.app import Written, read_files
from hitl_mcp.config import UpstreamConfig
from hitl_mcp.errors import ConfigError, HitlError, PolicyError, StateDirectoryError, UnresolvedSecret
from hitl_mcp.state_dir import RunningGateway, StateDir

Grade = Literal["fine", "note", "wrong"]

STATUS_SECONDS = 5
"""How long a running gateway may take to say how it is."""


@dataclass(frozen=True)
class Finding:
    """What one check found. A `note` is nothing broken, but something to know; only `wrong` counts as a finding."""

    check: str
    grade: Grade
    text: str
    fix: str = ""

    @property
    def fine(self) -> bool:
        return self.grade != "wrong"

    @property
    def mark(self) -> str:
        return {"fine": "ok  ", "note": "note", "wrong": "BAD "}[self.grade]

    def as_dict(self) -> dict[str, str]:
        """The same for `--json`."""
        return {"check": self.check, "grade": self.grade, "text": self.text, "fix": self.fix}


async def examine(config: str) -> list[Finding]:
    """Run every check, in the order in which one would mend."""
    findings: list[Finding] = []
    written = _files(config, findings)
    state = _state_directory(config, findings)
    status = await _gateway(state, findings) if state else None
    findings.extend(_sqlite(state))
    if written is not None:
        findings.extend(_upstreams(written, status))
        findings.extend(_agents(written))
    findings.append(_same_user())
    return findings


def _files(config: str, findings: list[Finding]) -> Written | None:
    try:
        written = read_files(Path(config))
    except (ConfigError, PolicyError) as error:
        findings.append(Finding("config", "wrong", str(error), "mend what is named above"))
        return None
    findings.append(Finding("config", "fine", f"{written.config.path} and its policies are right"))
    return written


def _state_directory(config: str, findings: list[Finding]) -> StateDir | None:
    state = StateDir.for_config(config)
    if not os.path.lexists(state.path):
        findings.append(Finding("state directory", "fine", f"{state.path} is made at the first start"))
        return None
    try:
        state.ensure()
    except StateDirectoryError as error:
        findings.append(Finding("state directory", "wrong", error.message, error.help or ""))
        return None
    findings.append(Finding("state directory", "fine", f"{state.path} is closed to others"))
    return state


async def _gateway(state: StateDir, findings: list[Finding]) -> dict[str, Any] | None:
    """Whether it runs, whether its sockets answer, and what it says of itself."""
    if not state.gateway_is_running():
        how = "`hitl-mcp serve` starts it" if state.is_stopped() else "it starts with the first agent"
        findings.append(Finding("gateway", "note", f"not running; {how}"))
        return None
    running = state.read_gateway()
    if running is None:
        text = "a gateway holds the lock, but does not say where it is reached"
        findings.append(Finding("gateway", "wrong", text, "stop that process, then `hitl-mcp serve`"))
        return None
    gone = _missing_socket(running)
    if gone is not None:
        findings.append(Finding("sockets", "wrong", f"a socket is gone: {gone}", "restart the gateway"))
        return None
    transport = httpx2.AsyncHTTPTransport(uds=running.control_socket)
    try:
        async with httpx2.AsyncClient(transport=transport, timeout=STATUS_SECONDS) as http:
            status: dict[str, Any] = (await http.get("http://control/api/status")).json()
    except (httpx2.TransportError, ValueError) as error:
        findings.append(Finding("sockets", "wrong", f"control.sock does not answer: {error}", "restart the gateway"))
        return None
    findings.append(Finding("gateway", "fine", f"running as process {running.pid}, at {running.url}"))
    if (trouble := status["store"]["trouble"]) is not None:
        findings.append(Finding("record", "wrong", f"it cannot be written: {trouble['says']}", trouble["help"]))
    if names := [f"`{tool['name']}`" for tool in status["blocked_tools"]]:
        text = f"blocked, being no longer as accepted: {', '.join(names)}"
        findings.append(Finding("tools", "wrong", text, "`hitl-mcp tools diff`, then `hitl-mcp tools accept`"))
    if status["paused"]:
        findings.append(Finding("pause", "note", f"paused by {status['paused']['by']}", "`hitl-mcp resume`"))
    return status


def _missing_socket(running: RunningGateway) -> str | None:
    return next((path for path in (running.agent_socket, running.control_socket) if not os.path.exists(path)), None)


def _sqlite(state: StateDir | None) -> Iterator[Finding]:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < (3, 37):
        yield Finding(
            "sqlite", "wrong", f"version {version} has no STRICT tables", "use a Python with SQLite 3.37 or later"
        )
        return
    yield Finding("sqlite", "fine", f"version {version}, one writing connection")
    database = Path(state.file("hitl.db")) if state else None
    if state is None or database is None or not database.exists() or state.gateway_is_running():
        return  # a live database belongs to its gateway alone
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        answer = str(error)
    finally:
        connection.close()
    if answer == "ok":
        yield Finding("database", "fine", "reads back whole")
    else:
        yield Finding("database", "wrong", f"damaged: {answer}", f"move {database} away, or put a copy in its place")


def _upstreams(written: Written, status: dict[str, Any] | None) -> Iterator[Finding]:
    states = {one["name"]: one for one in status["upstreams"]} if status else {}
    for name, config in written.config.upstreams.items():
        check = f"upstream {name}"
        live = states.get(name)
        if live is not None and live["state"] == "ready":
            yield Finding(check, "fine", f"ready, {live['tools']} tools")
            continue
        problem = _problem(config, written)
        if problem is not None:
            yield Finding(check, "wrong", *problem)
        elif live is not None:
            fix = "see the gateway's log; it is tried again by itself"
            yield Finding(check, "wrong", f"{live['state']}: {live['detail']}", fix)
        else:
            yield Finding(check, "fine", "its command and secrets are there; not started to look further")


def _problem(config: UpstreamConfig, written: Written) -> tuple[str, str] | None:
    for text in (*config.env.values(), *config.headers.values(), config.url or "", *config.args):
        try:
            written.secrets.resolve(text)
        except UnresolvedSecret as error:
            return error.message, error.help or "set it where the gateway starts, or in the config's `env_file`"
        except HitlError as error:
            return error.message, error.help or ""
    command = config.command
    if command is not None and shutil.which(command, path=config.env.get("PATH", os.environ.get("PATH"))) is None:
        inside = written.config.path.parent / command
        if not os.access(inside, os.X_OK):
            return f"the command `{command}` is not found", "install it, or write its full path in the config"
    return None


def _agents(written: Written) -> Iterator[Finding]:
    for name, agent in written.config.people.agents.items():
        if agent.token is None:
            continue
        try:
            written.secrets.resolve(agent.token)
        except UnresolvedSecret as error:
            yield Finding(f"agent {name}", "wrong", f"cannot use /mcp: {error.message}", error.help or "")


def _same_user() -> Finding:
    """R7: what runs as the gateway's own user can defeat it. Nothing can be checked here, so it is said."""
    who = "root" if os.getuid() == 0 else f"user {os.getuid()}"
    text = f"agents that run as {who}, like this gateway, can change its state directory: holds are advice to them"
    fix = "run the gateway as a user of its own, and let agents reach it over /mcp with a token"
    return Finding("same-user agents", "note", text, fix)
