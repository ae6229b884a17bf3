"""The state directory of one config: where it is, who may read it, its locks, sockets and marker.

The gateway, the bridge and the commands all find each other through this directory, so what they must agree on
stands here and nowhere else. What is kept *in* the files (the database, the keys) does not belong here.

Standard library only, and little of it: the bridge imports this module each time an agent client starts it, and
`pathlib`, `dataclasses` and `tempfile` each cost more than everything below. So paths are `str`, and what is rarely
needed is imported where it is needed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import pwd
import socket
import stat
import time

TYPE_CHECKING = False  # importing `typing` only to learn this costs the bridge's start 5 ms
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, NoReturn

HOME_VARIABLE = "HITL_MCP_HOME"
"""Names the directory that holds the state directories, one per config, in place of the one in the home."""

SOCKET_PATH_BYTES = 100
"""The longest socket path we bind: the smallest `sun_path` in use holds 104 bytes (macOS), Linux 108."""

SHORT_PATHS = "/tmp"  # noqa: S108 - only ever holds a fresh 0700 directory with a random name
"""Where sockets go whose path would be too long: `$TMPDIR` may itself be long, and clients strip environments."""

LOCK_RETRY_SECONDS = 0.5
"""How long a gateway tries for its lock: whoever asks `gateway_is_running` holds it for some microseconds."""

SOCKET_BACKLOG = 128
"""Connections the kernel keeps until they are accepted: more agents than start at once on one machine."""


class RunningGateway:
    """Where a running gateway is reached: the content of `gateway.json`, and what `serve` prints."""

    __slots__ = ("agent_socket", "config", "control_socket", "mcp_url", "pid", "url")

    def __init__(
        self, pid: int, url: str, mcp_url: str | None, agent_socket: str, control_socket: str, config: str
    ) -> None:
        self.pid = pid
        self.url = url
        self.mcp_url = mcp_url
        self.agent_socket = agent_socket
        self.control_socket = control_socket
        self.config = config

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values, in the order of the design."""
        return {
            "url": self.url,
            "mcp_url": self.mcp_url,
            "agent_socket": self.agent_socket,
            "control_socket": self.control_socket,
            "pid": self.pid,
            "config": self.config,
        }

    @classmethod
    def from_dict(cls, value: Any) -> RunningGateway | None:
        """Read what `as_dict` wrote; None when it is anything else."""
        if not isinstance(value, dict):
            return None
        pid, mcp_url = value.get("pid"), value.get("mcp_url")
        texts = [value.get(key) for key in ("url", "agent_socket", "control_socket", "config")]
        if type(pid) is not int or not all(isinstance(text, str) for text in texts):
            return None
        url, agent_socket, control_socket, config = (str(text) for text in texts)
        return cls(pid, url, mcp_url if isinstance(mcp_url, str) else None, agent_socket, control_socket, config)


class HeldLock:
    """An exclusive lock on a file, held until released or until the process ends, however it ends."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """Give the lock up; doing so twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> HeldLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class StateDir:
    """The state directory of one config. Nothing is created or checked before `ensure` or `ensure_directory`."""

    __slots__ = ("_base", "config", "path")

    def __init__(self, config: str, base: str) -> None:
        self.config = os.path.realpath(config)
        """The real path of `hitl.yaml`; two names of one file share one gateway."""
        self._base = base
        digest = hashlib.sha256(os.fsencode(self.config)).hexdigest()
        self.path = os.path.join(base, digest[:12])

    @classmethod
    def for_config(cls, config: str | os.PathLike[str]) -> StateDir:
        """The state directory that belongs to this config.

        Raises:
            StateDirectoryError: `$HITL_MCP_HOME` is no absolute path, or this user has no home to fall back on.
        """
        return cls(os.fspath(config), _base_directory())

    def file(self, name: str) -> str:
        """The path of a file in the directory."""
        return os.path.join(self.path, name)

    @property
    def log_path(self) -> str:
        """Where a gateway that a bridge started writes what it has to say."""
        return self.file("gateway.log")

    # -- who may read it ----------------------------------------------------------------------------------------

    def ensure_directory(self) -> None:
        """Make the directory if it is not there, and see that it is ours alone.

        Raises:
            StateDirectoryError: It is a link, belongs to someone else, is open to others or cannot be made.
        """
        try:
            os.makedirs(os.path.dirname(self._base), exist_ok=True)
            for directory in (self._base, self.path):
                _make_private_directory(directory)
        except OSError as error:
            _refuse(f"state directory `{self.path}`: cannot be made: {_cause(error)}", f"set `${HOME_VARIABLE}`")
        _check_directory(self.path, "state directory")

    def ensure(self) -> None:
        """As `ensure_directory`, and see that every file in it is ours alone, too.

        Raises:
            StateDirectoryError: Something in it is a link, belongs to someone else or is open to others.
        """
        self.ensure_directory()
        with os.scandir(self.path) as entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # the database's side files come and go while a gateway runs
                _check_ours_alone(entry.path, "state file", found)

    def open_private(self, name: str, flags: int) -> int:
        """Open a file of the directory, 0600 when this creates it, and return its descriptor; links are refused."""
        return os.open(self.file(name), flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    # -- one gateway --------------------------------------------------------------------------------------------

    def acquire_gateway_lock(self) -> HeldLock:
        """Become the one gateway of this config, for as long as the lock is held.

        What a gateway that died left behind (its `gateway.json`, its short socket directory) is cleared away.

        Raises:
            StateDirectoryError: Another gateway holds the lock; the text names its process.
        """
        fd = self.open_private("gateway.lock", os.O_RDWR)
        give_up_at = time.monotonic() + LOCK_RETRY_SECONDS
        while not _try_lock(fd, fcntl.LOCK_EX):
            if time.monotonic() > give_up_at:
                holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(fd)
                _refuse(
                    f"state directory `{self.path}`: a gateway for `{self.config}` is running: process {holder}",
                    "use that one (`hitl-mcp status` says where it is), or end it with `hitl-mcp stop`",
                )
            time.sleep(0.01)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
        self._clear_leftovers()
        return HeldLock(fd)

    def gateway_is_running(self) -> bool:
        """Whether some process holds the gateway's lock now. It may not listen yet, or no longer."""
        try:
            fd = os.open(self.file("gateway.lock"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            # Shared, so that two processes that ask at the same time do not take each other for a gateway.
            return not _try_lock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def read_gateway(self) -> RunningGateway | None:
        """Where the running gateway is reached; None when none runs, whatever a dead one left written."""
        if not self.gateway_is_running():
            return None
        return self._read_gateway_file()

    def write_gateway(self, gateway: RunningGateway) -> None:
        """Tell everyone where this gateway is reached; call it once the sockets accept, holding the lock."""
        draft = f"gateway.json.{os.getpid()}"
        with os.fdopen(self.open_private(draft, os.O_WRONLY | os.O_TRUNC), "w", encoding="utf-8") as file:
            json.dump(gateway.as_dict(), file)
        os.replace(self.file(draft), self.file("gateway.json"))

    def clear_gateway(self) -> None:
        """Take back what `write_gateway` told, and remove the sockets; call it holding the lock."""
        self._clear_leftovers()

    # -- starting and stopping ----------------------------------------------------------------------------------

    def start_lock(self, wait_seconds: float = 0) -> HeldLock | None:
        """Take the lock under which a gateway is started or stopped; None when someone else keeps it that long.

        A bridge holds it from before it looks until the gateway it started answers. `stop` holds it while it sets
        the marker and ends the gateway, so that no start is half-way while the marker appears.
        """
        fd = self.open_private("start.lock", os.O_RDWR)
        give_up_at = time.monotonic() + wait_seconds
        while not _try_lock(fd, fcntl.LOCK_EX):
            if time.monotonic() >= give_up_at:
                os.close(fd)
                return None
            time.sleep(0.02)
        return HeldLock(fd)

    def mark_stopped(self) -> None:
        """Leave word that the operator stopped the gateway, so that no bridge starts it again."""
        os.close(self.open_private("stopped", os.O_WRONLY))

    def clear_stopped(self) -> None:
        """Take that word back; `serve` does, once it holds the gateway's lock."""
        _unlink(self.file("stopped"))

    def is_stopped(self) -> bool:
        """Whether the operator stopped the gateway and has not started it since."""
        return os.path.lexists(self.file("stopped"))

    # -- sockets ------------------------------------------------------------------------------------------------

    def prepare_socket_paths(self) -> tuple[str, str]:
        """Where to bind the agents' and the control socket; call it holding the gateway's lock.

        In the directory, or in a fresh private one with a short name when a path there would not fit.
        """
        directory = self.path
        if len(os.fsencode(self.file("control.sock"))) > SOCKET_PATH_BYTES:
            import tempfile

            directory = tempfile.mkdtemp(prefix="hitl-", dir=SHORT_PATHS)
        return os.path.join(directory, "agent.sock"), os.path.join(directory, "control.sock")

    def _read_gateway_file(self) -> RunningGateway | None:
        try:
            with open(self.file("gateway.json"), encoding="utf-8") as file:
                return RunningGateway.from_dict(json.load(file))
        except (FileNotFoundError, ValueError):
            return None

    def _clear_leftovers(self) -> None:
        # INVARIANT: only the holder of the gateway's lock comes here, so these sockets serve no one.
        gateway = self._read_gateway_file()
        paths = {self.file("agent.sock"), self.file("control.sock")}
        if gateway is not None:
            paths |= {gateway.agent_socket, gateway.control_socket}
        for path in paths:
            if _is_socket(path):
                _unlink(path)
        for directory in {os.path.dirname(path) for path in paths} - {self.path}:
            try:
                os.rmdir(directory)
            except OSError:
                continue  # not empty, or gone: nothing of ours is lost
        _unlink(self.file("gateway.json"))


def bind_private_socket(path: str) -> socket.socket:
    """Bind a Unix socket that only this user can connect to, and listen on it; it does not block.

    A socket file that a dead gateway left at the path is replaced, any other file is not.

    Raises:
        StateDirectoryError: The path cannot be bound, or its directory is open to others.
    """
    directory = os.path.dirname(path)
    try:
        _check_directory(directory, "socket directory")
        if _is_socket(path):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        _refuse(f"socket `{path}`: cannot be bound: {_cause(error)}", None)
    try:
        _narrow_before_bind(listener)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(SOCKET_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        _refuse(f"socket `{path}`: cannot be bound: {_cause(error)}", None)
    return listener


def _narrow_before_bind(listener: socket.socket) -> None:
    """Have the socket file made 0600, never wider for a moment; the umask is the whole process's, so not by that."""
    try:
        os.fchmod(listener.fileno(), 0o600)
    except OSError:
        return  # Linux only; elsewhere the 0700 directory alone protects it until it is chmodded


def is_private_directory(path: str) -> bool:
    """Whether this is a directory (no link to one) that is ours and closed to everyone else."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def quoted(path: str) -> str:
    """A path as it is written in a command that a person copies."""
    import shlex

    return shlex.quote(path)


def _base_directory() -> str:
    named = os.environ.get(HOME_VARIABLE)
    if named:
        if not os.path.isabs(named):
            _refuse(f"`${HOME_VARIABLE}`: not an absolute path `{named}`", "write the whole path, from `/` on")
        return os.path.normpath(named)
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        _refuse(
            f"state directory: user {os.getuid()} has no home in the password database",
            f"name a directory in `${HOME_VARIABLE}`",
        )
    return os.path.join(home, ".local", "state", "hitl-mcp")


def _make_private_directory(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return  # also when another process made it just now; either way it is checked next


def _check_directory(path: str, what: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) and not stat.S_ISLNK(found.st_mode):
        _refuse(f"{what} `{path}`: is not a directory", f"move it away: `mv {quoted(path)} {quoted(path)}.old`")
    _check_ours_alone(path, what, found)


def _check_ours_alone(path: str, what: str, found: os.stat_result) -> None:
    """Refuse what someone else could read, change or swap for something of theirs."""
    if stat.S_ISLNK(found.st_mode):
        _refuse(
            f"{what} `{path}`: is a symbolic link: it could be pointed elsewhere", f"remove it: `rm {quoted(path)}`"
        )
    if found.st_uid != os.getuid():
        _refuse(
            f"{what} `{path}`: belongs to user {found.st_uid}, not to user {os.getuid()} who runs this",
            f"run this as that user, or give it over: `chown -R {os.getuid()} {quoted(path)}`",
        )
    if found.st_mode & 0o077:
        right = "700" if stat.S_ISDIR(found.st_mode) else "600"
        _refuse(
            f"{what} `{path}`: open to others: its mode is {stat.S_IMODE(found.st_mode):o}",
            f"close it: `chmod {right} {quoted(path)}`",
        )


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _cause(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _refuse(message: str, help: str | None) -> NoReturn:
    from hitl_mcp.errors import StateDirectoryError

    raise StateDirectoryError(message, help=help)
