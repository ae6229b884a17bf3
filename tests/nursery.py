"""Gateways that start at once: forked from a process that has imported already what each of them would import.

Importing is most of what a start costs, and tests start hundreds. What is forked runs the same command as `python -m
hitl_mcp` does, with its own environment, files and folder. Stories about how processes start themselves (autostart,
crashes under a bridge, services) start real ones.

Run as a program it is that process: it reads what to fork from the socket it is given, and answers with the pid.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_ROOT = Path(__file__).resolve().parent.parent
_MESSAGE_BYTES = 1 << 20


class Forked:
    """A process that was forked, as `subprocess.Popen` would show it to whoever only waits for it and reads it."""

    def __init__(self, pid: int, stdout: IO[bytes]) -> None:
        self.pid = pid
        self.stdout = stdout
        self._handle = os.pidfd_open(pid)

    def kill(self) -> None:
        """End it as a crash does."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended.

        Raises:
            subprocess.TimeoutExpired: It did not in time.
        """
        if self._handle < 0:
            return
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        if not poll.poll(None if timeout is None else timeout * 1000):
            raise subprocess.TimeoutExpired("a forked gateway", timeout or 0)
        os.close(self._handle)
        self._handle = -1


class Nursery:
    """The parent of what is forked, started with the first of them and ended with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def start(self, arguments: Sequence[str], environment: dict[str, str], log: IO[bytes]) -> Forked:
        """Fork `hitl-mcp` with these arguments; its stdin is empty, its stdout a pipe, its stderr the log."""
        reading, writing = os.pipe()
        message = {"arguments": list(arguments), "environment": environment, "folder": str(Path.cwd())}
        with self._lock, open(os.devnull, "rb") as nothing:
            door = self._door()
            socket.send_fds(door, [json.dumps(message).encode()], [nothing.fileno(), writing, log.fileno()])
            pid = int(door.recv(64))
        os.close(writing)
        return Forked(pid, os.fdopen(reading, "rb"))

    def _door(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.nursery", str(theirs.fileno())], cwd=_ROOT, pass_fds=[theirs.fileno()]
                )
            atexit.register(process.wait, 60)
            atexit.register(self._socket.close)  # runs first: it reads the end, and ends
        return self._socket


nursery = Nursery()
"""The one of this process."""


def _serve(door: socket.socket) -> None:
    """Fork what is asked for until nobody asks any more; who has ended is gone at once."""
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        message, files, _, _ = socket.recv_fds(door, _MESSAGE_BYTES, 3)
        if not message:
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            door.close()
            _become(json.loads(message), files)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        for file in files:
            os.close(file)
        door.send(str(pid).encode())


def _reap(number: int, frame: object) -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _become(message: dict[str, object], files: list[int]) -> None:
    """Be the process that was asked for, to its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    environment, arguments = message["environment"], message["arguments"]
    code = 1
    try:
        if isinstance(environment, dict) and isinstance(arguments, list):
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(str(message["folder"]))
            sys.argv = ["hitl-mcp", *arguments]
            code = command.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    import gc

    import hitl_mcp.app
    import hitl_mcp.cli.serving  # noqa: F401 - imported here, so that nobody forked has to
    from hitl_mcp import command

    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
