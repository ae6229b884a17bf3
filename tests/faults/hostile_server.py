"""An upstream that misbehaves in the one way it was started for, over stdio or HTTP, on the standard library alone.

Every call leaves a line in the record file first: what happened is counted there, outside the gateway.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.hostile_acts import BEHAVIOURS, Behaviour, Call, Talk, tools
from tests.faults.hostile_http import EVENTS_TYPE

# The two transports.


class Pipe(Talk):
    """Lines on stdout."""

    def frame(self, raw: bytes) -> None:
        self.write(raw + b"\n")

    def write(self, raw: bytes) -> None:
        while raw:
            raw = raw[os.write(1, raw) :]

    def die(self) -> None:
        os._exit(3)


class Post(Talk):
    """Events in the answer to one POST."""

    def __init__(self, there: socket.socket) -> None:
        self._there = there
        self._is_open = False

    def frame(self, raw: bytes) -> None:
        if not self._is_open:
            self._is_open = True
            self.write(f"HTTP/1.1 200 OK\r\n{EVENTS_TYPE}\r\nmcp-session-id: s1\r\n\r\n".encode())
        self.write(b"data: " + raw + b"\n\n")

    def write(self, raw: bytes) -> None:
        if not raw.startswith(b"HTTP/1.1") and not self._is_open:
            self.write(f"HTTP/1.1 200 OK\r\n{EVENTS_TYPE}\r\n\r\n".encode() + b"data: ")
        self._is_open = True
        self._there.sendall(raw)

    def die(self) -> None:
        self._there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._there.close()


def obey(behaviour: Behaviour, record: Path, message: dict[str, Any], talk: Talk) -> None:
    """Answer a message as a good upstream does, but for the one thing."""
    method, call = message.get("method"), Call(talk, message.get("id"), message.get("params") or {})
    if call.id is None:
        return
    if method == "tools/call":
        with record.open("a") as file:
            file.write(f"effect {call.params.get('arguments', {}).get('number')}\n")
    stages = {"initialize": "initialize", "tools/list": "list", "tools/call": "call"}
    if behaviour.stage in ("start", stages.get(str(method))):
        behaviour.act(call)
    elif method == "initialize":
        info = {"serverInfo": {"name": "hostile", "version": "1"}, "capabilities": {"tools": {"listChanged": True}}}
        call.say({"jsonrpc": "2.0", "id": call.id, "result": {"protocolVersion": "2025-11-25", **info}})
    elif method == "tools/list":
        call.say({"jsonrpc": "2.0", "id": call.id, "result": {"tools": tools()}})
    elif method == "tools/call":
        call.answer()
    else:
        call.error("what?", -32601)


def serve_stdio(behaviour: Behaviour, record: Path) -> None:
    with record.open("a") as file:
        file.write(f"pid {os.getpid()}\n")
    if behaviour.stage == "start":
        behaviour.act(Call(Pipe(), None, {}))
    for line in sys.stdin:
        obey(behaviour, record, json.loads(line), Pipe())


def requests(there: socket.socket) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The one request of a connection: its method, its path and its message."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        piece = there.recv(65536)
        if not piece:
            return
        raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    length = next((int(field.split(":")[1]) for field in fields if field.lower().startswith("content-length:")), 0)
    while len(body) < length:
        body += there.recv(65536)
    method, path, _ = first.split(" ", 2)
    yield method, path, json.loads(body) if body else {}


def serve_connection(there: socket.socket, folder: Path) -> None:
    with there:
        try:
            for method, path, message in requests(there):
                name, record = path.strip("/").split("/")
                if method != "POST":
                    there.sendall(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                elif "id" not in message:
                    there.sendall(b"HTTP/1.1 202 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                else:
                    obey(BEHAVIOURS[name], folder / record, message, Post(there))
        except OSError:  # the gateway has hung up
            return


def serve_http(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        print(listening.getsockname()[1], flush=True)
        threading.Thread(target=end_with_the_test, daemon=True).start()
        while True:
            there, _ = listening.accept()
            threading.Thread(target=serve_connection, args=(there, folder), daemon=True).start()


def end_with_the_test() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        serve_stdio(BEHAVIOURS[sys.argv[2]], Path(sys.argv[3]))
    else:
        serve_http(Path(sys.argv[2]))
