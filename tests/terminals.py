"""Running a command as a person does: on a real terminal, answering what it asks."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass

from tests.gateways import WAIT_SECONDS, Site


@dataclass(frozen=True)
class Shown:
    """What stood on the terminal in the end, and how the command ended."""

    text: str
    code: int


def on_terminal(site: Site, *arguments: str, answer: str = "", columns: int = 100) -> Shown:
    """Run a command of ours with a terminal as its stdin, stdout and stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    command = [sys.executable, "-m", "hitl_mcp", *arguments, "--config", str(site.config)]
    environment = {key: value for key, value in site.environment.items() if key not in ("COLUMNS", "LINES")}
    environment["BROWSER"] = "false"  # a browser that never opens: `review` then says what it would have opened
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    os.write(ours, answer.encode())
    text = bytearray()
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # Linux says EIO when the other end is gone
            break
        if not read:
            break
        text += read
    os.close(ours)
    return Shown(text.decode("utf-8", "replace"), process.wait(WAIT_SECONDS))
