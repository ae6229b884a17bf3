"""The review page's port: taken on this machine's loopback addresses, and nowhere else.

Browsers use passkeys only at a name, which for a page on this machine is `localhost`. That name means two addresses,
and a browser may try either first: whoever had the port on the other would be given sign-in codes. So both are taken.
"""

from __future__ import annotations

import errno
import socket

from hitl_mcp.config import Config
from hitl_mcp.errors import ConfigError, Finding

DEFAULT_PORT = 8377
"""The review page's port where the config writes none; if it is taken, the next free one."""

PORTS_TRIED = 50
"""How many ports after the default one are tried, and how many free ones where the config writes 0."""

_BACKLOG = 128
"""Connections that wait to be taken: uvicorn's own is larger, and a page needs a handful."""

_OTHER = {"127.0.0.1": "::1", "::1": "127.0.0.1"}

_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
"""The machine has no such address, so nobody can have the port there either."""


def open_page(config: Config) -> tuple[list[socket.socket], bool]:
    """The listening sockets, the one that is named first; and whether `localhost` leads to nobody else.

    Raises:
        ConfigError: The port, or every one that may be tried, is taken.
    """
    wanted = config.review.port
    ports = (
        range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED) if wanted is None else [wanted] * (1 if wanted else PORTS_TRIED)
    )
    kept: list[socket.socket] | None = None
    problem = ""
    for port in ports:
        try:
            first = _bind(config.review.host, port)
        except OSError as error:
            problem = error.strerror or str(error)
            continue
        sockets, alone = _with_other(first)
        if alone:
            if kept is not None:
                _close(kept)
            return sockets, True
        if kept is None:
            kept = sockets
        else:
            _close(sockets)
    if kept is not None:
        return kept, False
    where = (
        f"port {wanted}" if wanted is not None else f"every port from {DEFAULT_PORT} to {DEFAULT_PORT + PORTS_TRIED}"
    )
    finding = Finding(str(config.path), 1, 1, f"cannot listen on {where}: {problem}", "write `review: {port: 0}`")
    raise ConfigError([finding])


def _with_other(first: socket.socket) -> tuple[list[socket.socket], bool]:
    """A socket, and one on the same port of the other loopback address; whether nobody else has that one."""
    host, port = first.getsockname()[:2]
    try:
        return [first, _bind(_OTHER[host], port)], True
    except OSError as error:
        return [first], error.errno in _NOT_HERE


def _close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
