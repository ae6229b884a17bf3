"""Finding the gateway of a config, or starting one, in small steps that never block.

What the bridge says to a gateway once it is connected does not belong here, nor what it tells its client meanwhile.
Standard library only, as `bridge.py` says.
"""

from __future__ import annotations

import os
import socket
import sys

from hitl_mcp.limits import GATEWAY_LOG_BYTES
from hitl_mcp.state_dir import HeldLock, StateDir, is_private_directory, quoted

TYPE_CHECKING = False  # as in state_dir
if TYPE_CHECKING:
    from collections.abc import Sequence

LOOK_AGAIN_SECONDS = 0.02
"""The pause between two looks for a gateway that is starting: a tenth of the shortest start."""

CONNECT_SECONDS = 1.0
"""How long one connection may take; a Unix socket only makes us wait when its queue is full."""

REPORT_CHARACTERS = 4000
"""How much of what a failed start printed is passed on; a config error with all its findings is shorter."""


class GatewayUnavailable(Exception):
    """No gateway, and why, written for the person who reads it in the agent client."""

    def __init__(self, reason: str, *, exit_code: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.exit_code = exit_code


def serve_command(config: str) -> list[str]:
    """How a gateway is started: this Python, without its working directory on the path.

    `-P`, because agents write in the directory their client runs in, and a `yaml.py` there must not become part of
    the gateway.
    """
    return [sys.executable, "-P", "-m", "hitl_mcp", "serve", "--config", config]


class Search:
    """One search for a gateway: `step` until it connects or raises, then `close`.

    Exactly one of several bridges that search at once starts a gateway; the others wait for that one.
    """

    def __init__(self, state: StateDir, command: Sequence[str], *, deadline: float, start_at: float = 0) -> None:
        self.deadline = deadline
        self.look_at: float = 0
        self._state = state
        self._command = command
        self._start_at = start_at
        self._lock: HeldLock | None = None
        self._started: _StartedGateway | None = None

    @property
    def started_one(self) -> bool:
        """Whether this search had to start a gateway."""
        return self._started is not None

    def step(self, now: float) -> socket.socket | None:
        """Look once: a connected socket, or None when it is worth looking again at `look_at`.

        Raises:
            GatewayUnavailable: There is none, and looking again would not help.
        """
        try:
            return self._step(now)
        except state_directory_error() as error:
            raise GatewayUnavailable(str(error), exit_code=2) from None
        except OSError as error:
            where = error.filename or self._state.path
            cause = (error.strerror or str(error)).lower()
            raise GatewayUnavailable(f"cannot look for a gateway: `{where}`: {cause}", exit_code=2) from None

    def watch_fd(self) -> int | None:
        """A descriptor that turns readable when the gateway that was started here ends."""
        return self._started.alive_fd if self._started else None

    def close(self) -> None:
        """Let go of the start lock; a gateway that was started stays."""
        if self._started is not None:
            self._started.close()
            self._started = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _step(self, now: float) -> socket.socket | None:
        self.look_at = now + LOOK_AGAIN_SECONDS
        self._check_config()
        self._state.ensure_directory()
        gateway = self._state.read_gateway()
        connected = _connect(gateway.agent_socket) if gateway else None
        if connected is not None:
            return connected
        if self._state.is_stopped():
            raise GatewayUnavailable(self._stopped_text(), exit_code=0)
        if not self._state.gateway_is_running():
            self._start_or_wait(now)
        if now >= self.deadline:
            raise GatewayUnavailable(self._silent_text(), exit_code=2)
        return None

    def _start_or_wait(self, now: float) -> None:
        if self._started is not None:
            if self._started.has_ended():
                raise GatewayUnavailable(self._failed_text(self._started), exit_code=2)
            return
        if now < self._start_at:
            return
        self._lock = self._lock or self._state.start_lock()
        if self._lock is None or self._state.gateway_is_running() or self._state.is_stopped():
            return  # someone else is at it; the next look tells what came of it
        self._started = _StartedGateway(self._state, self._command)

    def _check_config(self) -> None:
        if not os.path.isfile(self._state.config):
            raise GatewayUnavailable(
                f"config `{self._state.config}`: no such file\n"
                "  help: name it with `--config`, best as a whole path: clients choose the working directory",
                exit_code=2,
            )

    def _stopped_text(self) -> str:
        return (
            "the gateway was stopped by its operator, so nothing was sent and nothing ran\n"
            f"  help: start it again with `hitl-mcp serve --config {quoted(self._state.config)}`"
        )

    def _silent_text(self) -> str:
        return (
            f"no gateway for `{self._state.config}` answered in time, so nothing was sent and nothing ran\n"
            f"  help: see `hitl-mcp doctor` and `{self._state.log_path}`, then ask again"
        )

    def _failed_text(self, started: _StartedGateway) -> str:
        report = started.report() or f"it said nothing; see `{self._state.log_path}`"
        return f"the gateway could not start, so nothing was sent and nothing ran:\n{report}"


class _StartedGateway:
    """A gateway started here: a process of its own session, which outlives this one and is nobody's child.

    Clients end their servers with everything below them, found by group or by parent; so it has neither in common
    with us. As nobody's child it cannot be waited for: it holds one end of a pipe, which closes when it ends.
    """

    def __init__(self, state: StateDir, command: Sequence[str]) -> None:
        self._log_path = state.log_path
        log_fd = _open_log(state)
        self._report_from = os.fstat(log_fd).st_size
        self.alive_fd, held_fd = os.pipe()
        os.set_blocking(self.alive_fd, False)
        pid = os.fork()
        if pid == 0:
            _become(command, log_fd, held_fd, os.path.dirname(state.config))
        os.close(log_fd)
        os.close(held_fd)
        os.waitpid(pid, 0)

    def has_ended(self) -> bool:
        """Whether it is gone."""
        try:
            return os.read(self.alive_fd, 1) == b""
        except BlockingIOError:
            return False

    def report(self) -> str:
        """The end of what it printed."""
        with open(self._log_path, "rb") as file:
            file.seek(max(self._report_from, os.fstat(file.fileno()).st_size - 4 * REPORT_CHARACTERS))
            return file.read().decode("utf-8", "replace").strip()[-REPORT_CHARACTERS:]

    def close(self) -> None:
        os.close(self.alive_fd)


def _become(command: Sequence[str], log_fd: int, held_fd: int, directory: str) -> None:
    """In a forked child: start the command in a session of its own, with nothing of ours open. Never returns.

    Forking is safe because the bridge has one thread. The working directory is the config's, so that a relative
    path in it means the same, whichever client was the first.
    """
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        nothing_fd = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing_fd, 0)
        os.dup2(log_fd, 1)
        os.dup2(log_fd, 2)
        os.dup2(held_fd, 3)
        os.set_inheritable(3, True)  # dup2 leaves it as it was when it already is number 3
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        os.chdir(directory)
        os.execv(command[0], list(command))  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(2, f"cannot start `{command[0]}`: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _open_log(state: StateDir) -> int:
    """The log, opened to append; a long one is put aside first, in place of the one put aside before."""
    flags = os.O_WRONLY | os.O_APPEND
    fd = state.open_private("gateway.log", flags)
    if os.fstat(fd).st_size <= GATEWAY_LOG_BYTES:
        return fd
    os.close(fd)
    os.replace(state.log_path, state.file("gateway.log.1"))
    return state.open_private("gateway.log", flags)


def _connect(path: str) -> socket.socket | None:
    if not is_private_directory(os.path.dirname(path)):
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(CONNECT_SECONDS)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    connection.setblocking(False)
    return connection


def state_directory_error() -> type[Exception]:
    """The error of `state_dir`, imported only when something was raised: it costs 15 ms of every start otherwise."""
    from hitl_mcp.errors import StateDirectoryError

    return StateDirectoryError
