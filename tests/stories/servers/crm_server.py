"""An upstream over streamable HTTP in a process of its own: the SDK's `MCPServer` in uvicorn.

Prints its port, then serves. Whoever does not show the key that it is given gets 401. Effects are lines in a file.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp_types import ToolAnnotations
from pydantic import BaseModel
from starlette.responses import PlainTextResponse


class Customer(BaseModel):
    """One row."""

    name: str
    city: str


def build(effects: Path) -> MCPServer[Any]:
    """The server with its two tools."""
    server: MCPServer[Any] = MCPServer("crm", log_level="ERROR")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def find_customer(name: str) -> Customer:
        """Look a customer up."""
        return Customer(name=name, city="Gdańsk")

    @server.tool()
    def move_customer(name: str, city: str) -> Customer:
        """Change where a customer lives."""
        with effects.open("a") as file:
            file.write(json.dumps([name, city]) + "\n")
        return Customer(name=name, city=city)

    return server


def keyed(app: Any, key: str) -> Any:
    """The app behind a bearer token."""

    async def guard(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and headers.get(b"authorization") != f"Bearer {key}".encode():
            await PlainTextResponse("no", 401)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return guard


if __name__ == "__main__":
    app = keyed(build(Path(sys.argv[1])).streamable_http_app(), sys.argv[2])
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
