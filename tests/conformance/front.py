"""What stands between the suite and the gateway's `/mcp`, and does what the suite cannot: no more than is named here.

- It shows the bearer token of an agent.
- It calls tools and prompts of the one upstream by the names that the suite knows, without the upstream's prefix.
- It goes by its own name in `Host` and `Origin`, as every reverse proxy; other names pass as they come.

All else passes byte for byte, and streams pass as they come.
"""

from __future__ import annotations

import base64
import binascii
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import uvicorn
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"content-length"})
"""Headers that belong to one connection."""

OWN = "hitl_"
"""How the names of the gateway's own tools begin."""

LISTS = ("tools", "prompts")
"""What is listed by prefixed names."""


class Front:
    """An ASGI app in front of one gateway. `port` is its own; `prefix` is the upstream's, or empty."""

    def __init__(self, mcp_url: str, key: str, prefix: str, port: int, http: httpx2.AsyncClient) -> None:
        self._url = httpx2.URL(mcp_url)
        self._key = key
        self._prefix = prefix
        self._own = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost")}
        self._http = http

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await Request(scope, receive).body()
        headers = [(name, self._named(name, value)) for name, value in scope["headers"] if name not in HOP]
        headers.append((b"authorization", f"Bearer {self._key}".encode()))
        asked = httpx2.Request(scope["method"], self._url, headers=headers, content=self._asked(body) if body else None)
        answer = await self._http.send(asked, stream=True)
        response = StreamingResponse(self._answered(answer), status_code=answer.status_code)
        response.raw_headers = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in HOP]
        try:
            await response(scope, receive, send)
        finally:
            await answer.aclose()

    def _named(self, name: bytes, value: bytes) -> bytes:
        if name in (b"host", b"origin"):
            scheme, separator, place = value.rpartition(b"//")
            return scheme + separator + self._url.netloc if place in self._own else value
        return self._prefixed_header(value) if name == b"mcp-name" else value

    def _prefixed_header(self, value: bytes) -> bytes:
        """`Mcp-Name` with the prefix, where it names a tool or a prompt; what is written in base64 stays so."""
        if b"://" in value:
            return value
        if not value.startswith(b"=?base64?"):
            return self._prefixed(value.decode("latin-1")).encode("latin-1")
        try:
            name = base64.b64decode(value[len(b"=?base64?") : -len(b"?=")], validate=True)
        except binascii.Error:
            return value
        return b"=?base64?" + base64.b64encode(self._prefix.encode() + name) + b"?="

    def _prefixed(self, name: str) -> str:
        """A name as the gateway knows it; its own tools have no prefix."""
        bare = name.lstrip()
        return name if bare.startswith(OWN) else name.removesuffix(bare) + self._prefix + bare

    def _asked(self, body: bytes) -> bytes:
        """A request with prefixed names."""
        try:
            message = json.loads(body)
            method, params = message["method"], message["params"]
            named = params["ref"] if method == "completion/complete" else params
            if method in ("tools/call", "prompts/get") or named.get("type") == "ref/prompt":
                named["name"] = self._prefixed(named["name"])
                return json.dumps(message, ensure_ascii=False).encode()
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # not ours to judge
        return body

    async def _answered(self, answer: httpx2.Response) -> AsyncIterator[bytes]:
        """What comes back, as it comes; of lists, which come whole, each line or the whole body is looked at."""
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            yield self._listed(await answer.aread())
            return
        begun = b""
        async for part in answer.aiter_raw():
            *lines, begun = (begun + part).split(b"\n")
            for line in lines:
                yield _in_event(line, self._listed) + b"\n"
        yield begun

    def _listed(self, body: bytes) -> bytes:
        """A list of tools or prompts by their names without the prefix."""
        try:
            message = json.loads(body)
            entries = [entry for kind in LISTS for entry in message["result"].get(kind, ())]
        except (ValueError, KeyError, TypeError, AttributeError):
            return body
        for entry in entries:
            entry["name"] = entry["name"].removeprefix(self._prefix)
        return json.dumps(message, ensure_ascii=False).encode() if entries else body


def _in_event(line: bytes, change: Callable[[bytes], bytes]) -> bytes:
    data = b"data: "
    return (
        data + change(line[len(data) :].rstrip(b"\r")) + line[len(line.rstrip(b"\r")) :]
        if line.startswith(data)
        else line
    )


@asynccontextmanager
async def front(mcp_url: str, key: str, prefix: str = "") -> AsyncIterator[str]:
    """A front before a gateway's `/mcp` while this is open; its own URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]
    options: dict[str, Any] = {"lifespan": "off", "log_level": "warning", "access_log": False}
    async with httpx2.AsyncClient(timeout=None) as http, anyio.create_task_group() as serving:
        server = uvicorn.Server(uvicorn.Config(Front(mcp_url, key, prefix, port, http), **options))
        serving.start_soon(server.serve, [listener])
        try:
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            server.force_exit = True
            server.should_exit = True
