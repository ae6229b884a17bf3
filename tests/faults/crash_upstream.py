"""An upstream whose effects are counted outside the gateway: a line in a file for each, with the id it came under.

A program on the standard library alone: `crash_upstream.py FOLDER stdio`, or `http`, and then it outlives the gateway.
How a call goes is told by what it is for: `slow:…` takes its time, `dies:…` dies of it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SLOW_SECONDS = 0.15
"""How long a slow call waits before an effect and after it: long beside everything a gateway does for a call."""

LATE_SECONDS = 1.2
"""How long `late` waits after its effect: more than the second that its upstream's `timeout` allows."""

TOOLS = ("pay", "give", "free", "never", "broken", "die", "late", "brittle", "undoable")

_SCHEMA = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}


class Upstream:
    """The tools, whatever way the messages came."""

    def __init__(self, folder: Path, way: str) -> None:
        self._folder = folder
        self._way = way

    def answer(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a message, None where it needs none."""
        number, method, params = message.get("id"), message.get("method"), message.get("params") or {}
        if method == "initialize":
            result: dict[str, Any] = {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": self._way, "version": "1"},
            }
        elif method == "tools/list":
            result = {"tools": [self._tool(name) for name in TOOLS]}
        elif method == "tools/call":
            result = self._call(str(number), params["name"], params["arguments"]["what"])
        elif number is None:
            return None
        else:
            return {"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "Method not found"}}
        return {"jsonrpc": "2.0", "id": number, "result": result}

    def _tool(self, name: str) -> dict[str, Any]:
        edition = self._folder / "edition"
        more = f" {edition.read_text()}" if name == "brittle" and edition.exists() else ""
        return {"name": name, "description": f"The tool {name}.{more}", "inputSchema": _SCHEMA}

    def _call(self, call_id: str, tool: str, what: str) -> dict[str, Any]:
        slow = SLOW_SECONDS if what.startswith("slow:") else 0
        self._wait(slow)
        if tool != "broken":
            note(self._folder, call_id, what)
        if tool == "die" or (what.startswith("dies:") and tool in ("pay", "free")):
            raise SystemExit(1)
        self._wait(LATE_SECONDS if tool == "late" else slow)
        return {"content": [{"type": "text", "text": f"done {what}"}], "isError": tool == "broken"}

    def _wait(self, seconds: float) -> None:
        if seconds:
            threading.Event().wait(seconds)


def note(folder: Path, call_id: str, what: str) -> None:
    """Take effect: one line, written whole, that outlives everyone."""
    descriptor = os.open(folder / "effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{call_id} {what}\n".encode())
    os.close(descriptor)


def over_pipes(upstream: Upstream) -> None:
    """Answer line by line, each call in a thread of its own; one that dies takes the process with it."""
    writing = threading.Lock()

    def serve(message: dict[str, Any]) -> None:
        try:
            answer = upstream.answer(message)
        except SystemExit:
            os._exit(1)
        if answer is not None:
            with writing:
                sys.stdout.write(json.dumps(answer) + "\n")
                sys.stdout.flush()

    for line in sys.stdin:
        threading.Thread(target=serve, args=(json.loads(line),), daemon=True).start()


def over_http(upstream: Upstream) -> None:
    """Answer POSTs; says its port on stdout, and ends when stdin does. One that dies cuts its connection."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            try:
                answer = upstream.answer(message)
            except SystemExit:
                self.connection.close()
                self.close_connection = True
                return
            body = json.dumps(answer).encode() if answer is not None else b""
            self.send_response(200 if body else 202)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.send_response(405)
            self.send_header("content-length", "0")
            self.end_headers()

        do_DELETE = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is told."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """The gateway dies in the middle of a request: that is what this is for."""

    with Server(("127.0.0.1", 0), Handler) as server:
        print(server.server_address[1], flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()


if __name__ == "__main__":
    chosen = Upstream(Path(sys.argv[1]), sys.argv[2])
    (over_http if sys.argv[2] == "http" else over_pipes)(chosen)
