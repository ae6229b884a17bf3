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
from hitl_mcp.secrets import Secrets

__all__ = ["Launch", "launch_for"]

_ALSO_INHERITED = ("LANG", "LANGUAGE", "TMPDIR", "TZ")
"""Beside the MCP SDK's list: without a locale, a temporary directory or a time zone programs behave differently."""

# What stands between the gateway and the upstream's program on Linux. It asks the kernel to kill this process when
# the gateway's thread that started it ends, makes sure that has not happened already, undoes what Python did to the
# signals, and becomes the program. As a program of its own it costs some 20 ms; a `preexec_fn` would cost nothing,
# but runs Python in a copy of a process with several threads, between fork and exec, and rules out vfork.
_LAUNCHER = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
try:
    os.execv(sys.argv[2], sys.argv[3:])
except OSError as error:
    print("cannot run " + sys.argv[2] + ": " + error.strerror, file=sys.stderr)
    os._exit(127)
"""


@dataclass(frozen=True)
class Launch:
    """A command ready to be started. `command` is how the config writes it, `environment` all the process gets."""

    command: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path


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
    return Launch(config.command or "", _dying_with_us(program, (command, *arguments)), environment, directory)


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


def _dying_with_us(program: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    if not sys.platform.startswith("linux") or not sys.executable:
        return (program, *argv[1:])
    return (sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), program, *argv)
