"""The relay of the plain shape: bytes between stdin/stdout and a Unix socket, on the standard library alone.

Started as `python -I -S plain_relay.py SOCKET`.
"""

from __future__ import annotations

import os
import select
import socket
import sys

CHUNK_BYTES = 65536


def relay(path: str) -> None:
    """Pass bytes on in both directions until one side ends."""
    gateway = socket.socket(socket.AF_UNIX)
    gateway.connect(path)
    ways = {0: gateway.fileno(), gateway.fileno(): 1}
    while True:
        ready, _, _ = select.select(list(ways), [], [])
        for source in ready:
            data = os.read(source, CHUNK_BYTES)
            if not data:
                return
            while data:
                data = data[os.write(ways[source], data) :]


if __name__ == "__main__":
    relay(sys.argv[1])
