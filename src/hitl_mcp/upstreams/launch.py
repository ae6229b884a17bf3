"""How a stdio upstream's process is started: its command, its environment, and that it dies with the gateway. POSIX."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mcp.client.stdio import get_default_environment

from hitl_mcp.config import UpstreamConfig
from hitl_mcp.errors import UpstreamError
from hitl_mcp.limits import UPSTREAM_STOP_SECONDS
from hitl_mcp.secrets import Secrets

__all__ = ["Launch", "launch_for"]

_ALSO_INHERITED = ("LANG", "LANGUAGE", "TMPDIR", "TZ")
"""Beside the MCP SDK's list: without a locale, a temporary directory or a time zone programs behave differently."""

_LAUNCHER = Path(__file__).with_name("launcher.py")
"""A program of its own, since a `preexec_fn` runs Python in a copy of a process with several threads. It costs some
30 ms at the start of an upstream, and a few megabytes while it runs."""


@dataclass(frozen=True)
class Launch:
    """A command ready to be started. `command` is how the config writes it, `environment` all the process gets.

    Where it `ends_itself`, a launcher stands in between that ends everything the program started.
    """

    command: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    ends_itself: bool


def launch_for(config: UpstreamConfig, secrets: Secrets, directory: Path) -> Launch:
    """Resolve a stdio upstream's secrets and find its program.

    Raises:
        UpstreamError: There is no such program.
        HitlError: A secret that the config refers to cannot be resolved; the error names it.
    """
    environment = _environment() | {name: secrets.resolve(text) for name, text in config.env.items()}
    command = secrets.resolve(config.command or "")
    arguments = tuple(secrets.resolve(text) for text in config.args)
    program = _program(command, environment, directory)
    if program is None:
        where = "is not an executable file" if os.sep in command else "is not on the gateway's PATH"
        raise UpstreamError(f"the command `{config.command}` {where}", help="install it, or write its full path")
    ends_itself = sys.platform.startswith("linux") and bool(sys.executable)
    argv = (command, *arguments)
    started = _launched(program, argv) if ends_itself else (program, *arguments)
    return Launch(config.command or "", started, environment, directory, ends_itself)


def _environment() -> dict[str, str]:
    inherited = dict(get_default_environment())
    for name, value in os.environ.items():
        if name in _ALSO_INHERITED or name.startswith("LC_"):
            inherited[name] = value
    return inherited


def _program(command: str, environment: Mapping[str, str], directory: Path) -> str | None:
    if os.sep not in command:
        return shutil.which(command, path=environment.get("PATH", os.defpath))
    path = directory / Path(command).expanduser()
    return str(path) if path.is_file() and os.access(path, os.X_OK) else None


def _launched(program: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    ours = (str(os.getpid()), str(UPSTREAM_STOP_SECONDS))
    return (sys.executable, "-I", "-S", str(_LAUNCHER), *ours, program, *argv)
