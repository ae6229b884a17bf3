"""What is measured, running: the upstream alone, a gateway in front of it, and clients of both."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from hitl_mcp.state_dir import StateDir

ROOT = Path(__file__).resolve().parent.parent
POLICY = Path(__file__).with_name("policy.yaml")

AGENT = "bench"
KEY = "only-for-this-measurement"

WAIT_SECONDS = 1
"""The least that a config may say; what an agent waits for a held call is no work of the gateway."""

STOP_SECONDS = 20
"""How long a gateway may take to stop; it gives its upstreams seconds to go."""

UPSTREAM_COMMAND = [sys.executable, "-m", "benchmarks.upstream", "stdio"]


@dataclass(frozen=True)
class Site:
    """One config with its own state, and the commands that run with it."""

    folder: Path
    environment: dict[str, str]

    @property
    def config(self) -> Path:
        return self.folder / "hitl.yaml"

    @property
    def state(self) -> StateDir:
        return StateDir(str(self.config), str(self.folder / "s"))

    def bridge_command(self) -> list[str]:
        """`hitl-mcp stdio` as an agent client launches it: the installed command where there is one."""
        installed = Path(sys.executable).with_name("hitl-mcp")
        command = [str(installed)] if installed.exists() else [sys.executable, "-m", "hitl_mcp"]
        return [*command, "stdio", "--config", str(self.config), "--agent", AGENT]

    def stop(self) -> None:
        """End the gateway of this config, whoever started it, and wait until it is gone."""
        running = self.state.read_gateway()
        if running is None:
            return
        os.kill(running.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self.state.gateway_is_running():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the gateway {running.pid} does not end:\n{self.log()}")
            time.sleep(0.01)

    def log(self) -> str:
        """What gateways of this site logged."""
        path = Path(self.state.log_path)
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


@contextmanager
def new_site(upstream_url: str | None = None) -> Iterator[Site]:
    """Write a config in a directory of its own; at the end its gateway is stopped and the directory removed."""
    # Unix sockets need a short path, which the usual directory for temporary files is not everywhere.
    folder = Path(tempfile.mkdtemp(prefix="hb", dir="/tmp"))
    site = Site(folder, {**os.environ, "HITL_MCP_HOME": str(folder / "s"), "BENCH_KEY": KEY})
    python, *arguments = UPSTREAM_COMMAND
    local = {"command": python, "args": arguments, "env": {"PYTHONPATH": str(ROOT)}, "labels": {"env": "test"}}
    remote = {"remote": {"url": upstream_url, "labels": {"env": "test"}}} if upstream_url else {}
    written = {
        "upstreams": {"local": local, **remote},
        "policies": [str(POLICY)],
        "review": {"port": 0},
        "http": {"enabled": True},
        "agents": {AGENT: {"token": "${env:BENCH_KEY}"}},
        "reviewers": {"dana": {"roles": ["finance"]}, "erin": {"roles": ["finance"]}},
        "wait_seconds": WAIT_SECONDS,
    }
    site.config.write_text(json.dumps(written), encoding="utf-8")  # every JSON document is a YAML document
    try:
        yield site
    finally:
        site.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Gateway:
    """A running gateway, as its own first line tells it."""

    site: Site
    pid: int
    mcp_url: str
    control_socket: str


@contextmanager
def gateway(site: Site) -> Iterator[Gateway]:
    """Run `hitl-mcp serve` as an operator does."""
    command = [sys.executable, "-m", "hitl_mcp", "serve", "--config", str(site.config)]
    process = subprocess.Popen(command, env=site.environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        first = json.loads(_first_line(process))
        yield Gateway(site, first["pid"], first["mcp_url"], first["control_socket"])
    finally:
        _end(process)


@dataclass(frozen=True)
class Plain:
    """The plain shape, running (see `plain.py`)."""

    pid: int
    socket: str

    def relay_command(self) -> list[str]:
        """What an agent client would launch."""
        return [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "plain_relay.py"), self.socket]


@contextmanager
def plain_shape(site: Site) -> Iterator[Plain]:
    """Run the plain shape beside a gateway, with an upstream of its own."""
    path = str(site.folder / "plain.sock")
    command = [sys.executable, "-m", "benchmarks.plain", path]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        _first_line(process)
        yield Plain(process.pid, path)
    finally:
        _end(process)


@contextmanager
def upstream_over_http() -> Iterator[str]:
    """Run the upstream over HTTP and give its URL; the direct client and the gateway use the same one."""
    command = [sys.executable, "-m", "benchmarks.upstream", "http"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        yield str(json.loads(_first_line(process))["url"])
    finally:
        _end(process)


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    line = process.stdout.readline() if process.stdout else b""
    if not line:
        raise RuntimeError(f"`{process.args!s}` ended at once with status {process.wait()}")
    return line


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()


# Clients: the SDK's own, with its own settings, so that both sides of a comparison bear the same cost.


@asynccontextmanager
async def client_over_stdio(command: list[str], environment: dict[str, str]) -> AsyncIterator[Client]:
    """A client on a server that it starts itself."""
    parameters = StdioServerParameters(command=command[0], args=command[1:], env=environment, cwd=ROOT)
    async with Client(stdio_client(parameters)) as client:
        yield client


@asynccontextmanager
async def client_over_http(url: str, key: str | None = None) -> AsyncIterator[Client]:
    """A client on a server that runs already."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        yield client
