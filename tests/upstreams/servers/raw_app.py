"""An HTTP upstream in plain ASGI that answers exactly as a test wants: statuses, redirects, broken and odd streams.

2025-11-25 with a session. The tool's name picks what happens; `calls` tells what arrived.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

SESSION = {"mcp-session-id": "s1"}
TOOL = {"name": "echo", "inputSchema": {"type": "object"}}


def result(call_id: Any, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call_id, "result": {"content": [{"type": "text", "text": "ok"}], **more}}


def event(message: dict[str, Any] | str, **fields: Any) -> str:
    data = message if isinstance(message, str) else json.dumps(message)
    return "".join(f"{name}: {value}\n" for name, value in fields.items()) + f"data: {data}\n\n"


class RawApp:
    """The upstream and what reached it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.replies: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.waiting = anyio.Event()
        self.let_go = anyio.Event()
        self.closing = anyio.Event()
        self._announced = anyio.Event()
        self.sessions_end = False
        self.tools = [TOOL]
        self._late: dict[str, dict[str, Any]] = {}
        self.app = Starlette(routes=[Route("/mcp", self._any, methods=["GET", "POST", "DELETE"])])

    def announce(self) -> None:
        """Say on the stream for announcements that the tools changed."""
        self._announced.set()

    def close(self) -> None:
        """End every stream that is open, so that the server can end."""
        self.closing.set()
        self._announced.set()

    async def _any(self, incoming: Request) -> Response:
        self.headers.append(dict(incoming.headers))
        if incoming.method == "DELETE":
            self.deleted.append(incoming.headers["mcp-session-id"])
            return Response(status_code=204)
        if incoming.method == "GET":
            return self._stream(incoming)
        message = await incoming.json()
        match message.get("method"):
            case "initialize":
                version = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {"listChanged": True}}}
                body = {**version, "serverInfo": {"name": "raw", "version": "1"}}
                return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": body}, headers=SESSION)
            case "server/discover":
                return PlainTextResponse("Bad Request: no session", status_code=400)
            case "tools/list":
                return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": {"tools": self.tools}})
            case "tools/call":
                return await self._call(message["id"], message["params"])
            case "notifications/cancelled":
                self.calls.append(f"cancelled {message['params']['requestId']}")
            case None:
                self.replies.append(message)
        return Response(status_code=202)

    def _stream(self, incoming: Request) -> Response:
        last = incoming.headers.get("last-event-id")
        if last is not None and last in self._late:
            return self._events(event(self._late[last]))

        async def announcements() -> AsyncIterator[str]:
            while not self.closing.is_set():
                await self._announced.wait()
                self._announced = anyio.Event()
                yield event({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})

        return StreamingResponse(announcements(), media_type="text/event-stream")

    def _events(self, *texts: str) -> Response:
        async def stream() -> AsyncIterator[str]:
            for text in texts:
                yield text

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def _call(self, call_id: str, params: dict[str, Any]) -> Response:
        name = params["name"]
        self.calls.append(name)
        if self.sessions_end:
            return PlainTextResponse("Session not found", status_code=404)
        if name.startswith("http-"):
            return PlainTextResponse("<h1>no</h1>", status_code=int(name[5:]))
        answers: dict[str, Callable[[], Response]] = {
            "redirect": lambda: RedirectResponse("/mcp", status_code=307),
            "elsewhere": lambda: RedirectResponse("http://127.0.0.1:9/mcp?secret=1", status_code=308),
            "accepted": lambda: Response(status_code=202),
            "page": lambda: PlainTextResponse("<html>"),
            "nan": lambda: Response(
                json.dumps(result(call_id, structuredContent={"a": float("nan")})), media_type="application/json"
            ),
            "huge": lambda: Response(b" " * (17 * 1024 * 1024), media_type="application/json"),
            "packed": lambda: Response(
                gzip.compress(json.dumps(result(call_id)).encode()),
                headers={"content-encoding": "gzip"}, media_type="application/json",
            ),
            "unasked": lambda: self._events(
                event({"method": "x", "params": {"much": "x" * 300_000}}), event(result(call_id))
            ),
            "not-json": lambda: Response(b"{", media_type="application/json"),
            "other-id": lambda: JSONResponse(result("c_other")),
            "refused": lambda: JSONResponse(
                {"jsonrpc": "2.0", "id": call_id, "error": {"code": -32602, "message": "bad"}}, status_code=400
            ),
            "ends": lambda: self._events(event({"jsonrpc": "2.0", "method": "notifications/message"})),
            "huge-event": lambda: self._events("data: " + "x" * (17 * 1024 * 1024) + "\n\n"),
            "odd-events": lambda: self._events(
                ": comment\n\n", event("no json"), event(result("c_other")), "event: ping\ndata: {}\n\n",
                event(result(call_id, structuredContent={"meta": params.get("_meta")})),
            ),
            "asks": lambda: self._events(
                event({"jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": {}}),
                event({"jsonrpc": "2.0", "id": 8, "method": "ping"}),
                event({"jsonrpc": "2.0", "id": call_id, "error": {"code": -32000, "message": "no answer"}}),
            ),
        }  # fmt: skip
        if name == "later":
            self._late["e1"] = result(call_id, structuredContent={"resumed": True})
            return self._events(event("", id="e1", retry=1))
        if name == "holds":
            self.waiting.set()
            await self.let_go.wait()
        if name == "waits":
            self.waiting.set()
            await self.closing.wait()
        return answers.get(name, lambda: JSONResponse(result(call_id)))()


class Breaking:
    """The same app, but a call to `breaks` finds its connection cut in the middle of the answer."""

    def __init__(self, raw: RawApp) -> None:
        self._raw = raw

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._raw.app(scope, receive, send)
            return
        incoming = await receive()

        read_again = iter([incoming])

        async def again() -> dict[str, Any]:
            return next(read_again, None) or await receive()

        if json.loads(incoming["body"]).get("params", {}).get("name") != "breaks":
            await self._raw.app(scope, again, send)
            return
        self._raw.calls.append("breaks")
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"jsonrpc"', "more_body": True})
        raise ConnectionResetError
