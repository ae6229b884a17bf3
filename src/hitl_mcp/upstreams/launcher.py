"""What stands between the gateway and a stdio upstream on Linux: it starts the program, and ends all of it.

Run as a program of its own, by path, on the standard library alone (`launch.py` says how). Nothing of the gateway is
imported here, and nothing but ending processes is done here.

Everything the program starts stays below this process, also what leaves its group or session or loses its parent: the
kernel hands such orphans to the nearest `subreaper`. So when the gateway asks (SIGTERM), when it dies, however it
dies (the kernel sends SIGHUP then), or when the program ends, nothing of it is left behind.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

LOOK_AGAIN_SECONDS = 0.02
"""How often those that are to end are signalled again: meanwhile they may have started others."""

LAST_TRY_SECONDS = 5
"""How long processes that got SIGKILL may take; what is left then belongs to others, or hangs in the kernel."""

WAITED_FOR = {signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT}


def main(gateway: int, grace_seconds: float, program: str, argv: list[str]) -> None:
    """Run the program until it ends or must, then end what is left of it, then end the same way."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGHUP)
    if os.getppid() != gateway:  # it died before the kernel knew whom to tell
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
    us = os.getpid()
    child = os.fork()
    if child == 0:
        become(libc, us, program, argv)
    let_go_of_pipes()
    end_as(end_all(child, wait_for_end(child), gateway, grace_seconds))


def become(libc: ctypes.CDLL, launcher: int, program: str, argv: list[str]) -> None:
    """Become the program, as if the gateway had started it: what Python did to signals is undone."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:
        os._exit(1)
    os.setsid()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITED_FOR)
    try:
        os.execv(program, argv)  # noqa: S606 - no shell is wanted: this is the config's command
    except OSError as error:
        os.write(2, f"cannot run {program}: {error.strerror}\n".encode())
        os._exit(127)


def let_go_of_pipes() -> None:
    """The pipes are the program's alone: only so does each side learn that the other closed them."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for pipe in (0, 1, 2):
        os.dup2(nowhere, pipe)


def wait_for_end(child: int) -> int | None:
    """Return how the program ended, or None where it is to be ended."""
    while signal.sigwait(WAITED_FOR) == signal.SIGCHLD:
        status = reaped(child)
        if status is not None:
            return status
    return None


def end_all(child: int, status: int | None, gateway: int, grace_seconds: float) -> int | None:
    """End whatever is left: it is asked first and has so long, unless the gateway is gone. Returns how the child ended.

    It is looked for again until nothing is left, since it may start others meanwhile.
    """
    began, is_asked = time.monotonic(), False
    while True:
        found = reaped(child)
        status = found if found is not None else status
        waited = time.monotonic() - began
        left = descendants()
        if not left or waited > grace_seconds + LAST_TRY_SECONDS:
            return status
        if os.getppid() != gateway or waited > grace_seconds:
            signal_each(left, signal.SIGKILL)
        elif not is_asked:
            signal_each(left, signal.SIGTERM)
            is_asked = True
        signal.sigtimedwait(WAITED_FOR, LOOK_AGAIN_SECONDS)


def reaped(child: int) -> int | None:
    """Take every process that ended off the kernel's list; return how the program ended, if it is among them."""
    status = None
    with suppress(ChildProcessError):
        while True:
            pid, how = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                status = how
    return status


def signal_each(processes: list[int], number: int) -> None:
    """Signal processes that may be gone by now, or no longer ours to signal."""
    for pid in processes:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def descendants() -> list[int]:
    """Every process below this one that has not ended, as the kernel has it now."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b") ")[2].split()[:2]
                if state not in (b"Z", b"X"):
                    children.setdefault(int(parent), []).append(int(name))
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def end_as(status: int | None) -> None:
    """End with the program's own status, by the same signal where it was a signal."""
    if status is None:
        os._exit(0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with suppress(OSError, ValueError):  # SIGKILL has no handler to take away
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4:])
