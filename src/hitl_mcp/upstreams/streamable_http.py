"""A wire over streamable HTTP: one POST for each message, answers as JSON or as an event stream.

Beside the SDK's own client because there one broken POST ends every other call in flight, an error page looks like
the upstream's own error, and a redirect sends a call again. Here each call stands alone, and what came back decides
between refused and unknown.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

import anyio
import httpcore2
import httpx2
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types import INVALID_REQUEST
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from hitl_mcp import __version__
from hitl_mcp.errors import HitlError, OutcomeUnknown
from hitl_mcp.limits import (
    RESTART_BACKOFF_SECONDS,
    UNASKED_BYTES,
    UPSTREAM_CONNECT_SECONDS,
    UPSTREAM_IDLE_SECONDS,
    UPSTREAM_MESSAGE_BYTES,
    UPSTREAM_QUESTIONS,
    UPSTREAM_RESUMES,
    UPSTREAM_STOP_SECONDS,
)
from hitl_mcp.upstreams import frames
from hitl_mcp.upstreams.ledger import Ledger
from hitl_mcp.upstreams.pace import Pace, PacedNetwork, PacedStream
from hitl_mcp.upstreams.wire import Exchange, Wire, WireEvents

__all__ = ["Endpoint", "HttpWire", "http_client", "open_http"]

logger = logging.getLogger(__name__)

_SESSION_HEADER = "mcp-session-id"
_NOTHING_WRITTEN = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
"""What httpx2 raises before the first byte of a request is written."""


@functools.cache
def _tls() -> ssl.SSLContext:
    """One for all upstreams: making it takes 18 ms."""
    return httpx2.create_ssl_context()


def http_client(url: str, ledger: Ledger) -> httpx2.AsyncClient:
    """The one client of an upstream. It follows no redirect, and takes nothing from the environment.

    Answers have no timeout here: whoever runs a call owns its deadline.
    """

    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it would log every address, with the secrets in it

    pace = Pace()

    async def release(outgoing: httpx2.Request) -> None:
        """The last stop before the transport: what stands in the body now is what is written."""
        body = await outgoing.aread()
        if body:
            ledger.release(body)

    async def read_slowly(incoming: httpx2.Response) -> None:
        """Read it at our pace, as it stands: unpacking would let a few bytes become gigabytes."""
        if incoming.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            incoming.headers["content-type"] = "packed, which was not asked for"
            del incoming.headers["content-encoding"]
        if isinstance(incoming.stream, httpx2.AsyncByteStream):
            incoming.stream = PacedStream(incoming.stream, pace)

    return httpx2.AsyncClient(
        transport=_Transport(url, pace),
        event_hooks={"request": [release], "response": [read_slowly]},
        timeout=httpx2.Timeout(None, connect=UPSTREAM_CONNECT_SECONDS, write=UPSTREAM_CONNECT_SECONDS),
        headers={"user-agent": f"hitl-mcp/{__version__}", "accept-encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
    )


class _Transport(httpx2.AsyncHTTPTransport):
    """The library's own, on connections that are read at our pace, which it has no option for."""

    def __init__(self, url: str, pace: Pace) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            # Anything but a plain http address gets checked TLS, a reference to a secret too.
            ssl_context=None if url.startswith("http://") else _tls(),
            max_connections=None,
            keepalive_expiry=UPSTREAM_IDLE_SECONDS,
            network_backend=PacedNetwork(pace),
        )


class Credentials(Protocol):
    """Headers that let requests in, and change while a connection lives."""

    def headers(self) -> Mapping[str, str]:
        """Those of a request that is sent now."""

    def refused(self, sent: str | None) -> None:
        """A request with this `authorization` was not let in."""


@dataclass(frozen=True)
class Endpoint:
    """Where an upstream is, with the headers its config names, secrets resolved."""

    url: httpx2.URL
    headers: Mapping[str, str]
    credentials: Credentials | None = None


@asynccontextmanager
async def open_http(
    endpoint: Endpoint, client: httpx2.AsyncClient, name: str, ledger: Ledger, events: WireEvents
) -> AsyncIterator[HttpWire]:
    """A wire to an endpoint; leaving the context ends the upstream's session, but no call that still runs."""
    wire = HttpWire(name, ledger, events, client, endpoint)
    try:
        yield wire
    finally:
        wire.close()
        with anyio.move_on_after(UPSTREAM_STOP_SECONDS, shield=True):
            await wire.end_session()


@dataclass
class _Cursor:
    """How far an event stream was read, for picking it up again."""

    last_id: str = ""
    pause_seconds: float = 1
    events: int = 0
    is_broken: bool = False

    def note(self, event: httpx2.ServerSentEvent) -> None:
        self.events += 1
        self.last_id = event.id or self.last_id
        if event.retry is not None:
            self.pause_seconds = min(max(event.retry / 1000, 0), RESTART_BACKOFF_SECONDS[-1])


class HttpWire(Wire):
    """JSON-RPC over POSTs to one endpoint."""

    def __init__(
        self, name: str, ledger: Ledger, events: WireEvents, client: httpx2.AsyncClient, endpoint: Endpoint
    ) -> None:
        super().__init__(name, ledger, events)
        self._client = client
        self._endpoint = endpoint
        self._session: str | None = None
        self._version: str | None = None
        self._posts: dict[str, asyncio.Task[dict[str, Any]]] = {}
        self._answering = 0
        self._is_lost = False

    # Outwards.

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        await self._post_quietly(frames.notification(method, params), (opts or {}).get("headers") or {})
        if method == "notifications/initialized" and self._tasks is not None:
            self._tasks.start_soon(self._follow)

    async def cancel(self, request_id: str) -> None:
        """Modern upstreams are told by closing the stream their answer would come on, so that none can come."""
        self._call_off(request_id)
        post = self._posts.get(request_id)
        if self._is_modern and post is not None:
            post.cancel()
        elif not self._is_modern:
            params = {"requestId": request_id, "reason": "the agent cancelled it"}
            await self._post_quietly(frames.notification("notifications/cancelled", params), {})

    def close(self) -> None:
        """Listen for no late answer any more. Calls that are waited for go on."""
        self._is_open = False
        for request_id in self._late:
            self._posts[request_id].cancel()
        self._late.clear()

    async def end_session(self) -> None:
        """Tell a legacy upstream that its session is over."""
        if self._session is not None and not self._is_lost:
            with suppress(httpx2.HTTPError):
                await self._client.delete(self._endpoint.url, headers=self._headers({}))

    async def _transmit(self, exchange: Exchange, frame: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        if exchange.method == "initialize":
            self._version = None
        else:
            self._version = headers.get(MCP_PROTOCOL_VERSION_HEADER, self._version)
        if exchange.method != "tools/call":
            return await self._post(exchange, frame, headers)
        # In a task of its own: the wait may end before the answer comes.
        post = self._posts[exchange.id] = asyncio.create_task(self._post(exchange, frame, headers))
        post.add_done_callback(functools.partial(self._posted, exchange))
        return await exchange.answered

    async def _post(self, exchange: Exchange, frame: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        async def trace(step: str, _: object) -> None:
            """Called by the connection on its way: nothing is written before it says so here."""
            if step == "http11.send_request_headers.started":
                if exchange.answered.done():
                    raise self._gone("nobody waits for the answer any more")
                exchange.has_left = True

        try:
            with self._told_apart():
                async with self._stream("POST", self._headers(headers), frame, {"trace": trace}) as response:
                    return await self._answer(response, exchange)
        finally:
            if not exchange.has_left:
                self._ledger.held_back(exchange.id)

    def _posted(self, exchange: Exchange, post: asyncio.Task[dict[str, Any]]) -> None:
        del self._posts[exchange.id]
        self._late.pop(exchange.id, None)
        if post.cancelled() and not exchange.has_left:
            exchange.fail(self._gone("the call was cancelled before it was sent"))
        elif post.cancelled():
            exchange.fail(OutcomeUnknown(f"upstream `{self.name}` was told to stop, and gives no answer after that"))
        elif (error := post.exception()) is not None:
            exchange.fail(error)
        else:
            exchange.settle(post.result())

    def _abandon(self, exchange: Exchange) -> None:
        if not exchange.has_left:  # and it will not: the connection may still come about, but finds nobody waiting
            self._ledger.held_back(exchange.id)
            return
        post = self._posts.get(exchange.id)
        if post is not None:
            post.cancel()  # a modern upstream is told by this alone
        if not self._is_modern and self._tasks is not None:
            self._tasks.start_soon(self.cancel, exchange.id)

    def _reply(self, frame: bytes, *, is_awaited: bool = False) -> None:
        if (is_awaited or self._answering < UPSTREAM_QUESTIONS) and self._tasks is not None:
            self._answering += 1
            self._tasks.start_soon(self._reply_with, frame)

    async def _reply_with(self, frame: bytes) -> None:
        try:
            await self._post_quietly(frame, {})
        finally:
            self._answering -= 1

    async def _post_quietly(self, frame: bytes, headers: Mapping[str, str]) -> None:
        try:
            with self._told_apart():
                async with self._stream("POST", self._headers(headers), frame) as response:
                    if response.status_code >= 400:
                        logger.warning("upstream `%s`: HTTP %d to a notification", self.name, response.status_code)
        except HitlError as error:
            logger.warning("upstream `%s`: a notification did not arrive: %s", self.name, error.message)

    @asynccontextmanager
    async def _stream(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[httpx2.Response]:
        async with self._client.stream(
            method,
            self._endpoint.url,
            content=body,
            headers=dict(headers),
            extensions=dict(extensions) if extensions else None,
        ) as response:
            if response.status_code == 401 and self._endpoint.credentials is not None:
                self._endpoint.credentials.refused(headers.get("authorization"))
            yield response

    @contextmanager
    def _told_apart(self) -> Iterator[None]:
        """Turn what httpx2 raises into what it means for a call: certainly not sent, or perhaps."""
        try:
            yield
        except _NOTHING_WRITTEN as error:
            self._events.tools_changed()  # in doubt: the next listing tells whether it is still there
            raise self._gone(str(error).lower() or type(error).__name__) from None
        except httpx2.HTTPError as error:
            self._events.tools_changed()
            why = str(error).lower() or type(error).__name__
            raise OutcomeUnknown(f"upstream `{self.name}` was lost before it answered: {why}") from None

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        headers.update(self._endpoint.headers)
        if self._endpoint.credentials is not None:
            headers.update(self._endpoint.credentials.headers())
        if self._session is not None:
            headers[_SESSION_HEADER] = self._session
        if self._version is not None:
            headers[MCP_PROTOCOL_VERSION_HEADER] = self._version
        return {**headers, **more}

    @property
    def _is_modern(self) -> bool:
        return self._version in MODERN_PROTOCOL_VERSIONS

    # Inwards.

    async def _answer(self, response: httpx2.Response, exchange: Exchange) -> dict[str, Any]:
        if response.status_code >= 300:
            return await self._refused(response, exchange)
        if exchange.method == "initialize":
            self._session = response.headers.get(_SESSION_HEADER)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            return await self._from_events(response, exchange)
        if kind == "application/json" and response.status_code == 200:
            message = self._parsed(await self._body(response))
            if frames.is_answer(message) and str(message.get("id")) == exchange.id:
                return message
            raise self._unusable("it answers another request")
        raise self._unusable(f"HTTP {response.status_code} with `{kind or 'no content'}`")

    async def _refused(self, response: httpx2.Response, exchange: Exchange) -> dict[str, Any]:
        """The upstream's own JSON-RPC error if the body is one, else what the status says.

        Raises:
            MCPError: It did not take the request.
            OutcomeUnknown: A call may have run: who says 5xx may be a proxy that lost patience.
        """
        status = response.status_code
        if status < 400:
            where = response.headers.get("location", "").partition("?")[0]
            raise MCPError(INVALID_REQUEST, f"it redirects to `{where}`, which is not followed: write that as `url`")
        with suppress(HitlError):
            message = self._parsed(await self._body(response))
            if isinstance(message.get("error"), dict) and message.get("id") in (exchange.id, None):
                return message
        if status == 404 and self._session is not None:
            self._lose("it ended the session")
        if exchange.method == "tools/call" and (status >= 500 or status == 408):
            raise OutcomeUnknown(f"upstream `{self.name}` answered HTTP {status}: the call may have run")
        raise MCPError(INVALID_REQUEST, f"HTTP {status}{_hint(status, self._endpoint.credentials)}")

    async def _body(self, response: httpx2.Response) -> bytes:
        pieces, size_bytes = [], 0
        async for piece in response.aiter_bytes():
            size_bytes += len(piece)
            if size_bytes > UPSTREAM_MESSAGE_BYTES:
                raise self._unusable(f"it has more than {UPSTREAM_MESSAGE_BYTES} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def _parsed(self, raw: bytes | str) -> dict[str, Any]:
        try:
            return frames.parse(raw)
        except frames.Garbage as error:
            raise self._unusable(str(error)) from None

    async def _from_events(self, response: httpx2.Response, exchange: Exchange) -> dict[str, Any]:
        cursor = _Cursor()
        answer = await self._read(response, cursor, exchange)
        resumes = 0
        while answer is None and cursor.last_id and resumes < UPSTREAM_RESUMES and not self._is_modern:
            resumes += 1
            if not cursor.is_broken:
                exchange.pause()
            await anyio.sleep(cursor.pause_seconds)
            with suppress(httpx2.HTTPError):
                async with self._stream("GET", self._headers(_resuming(cursor))) as again:
                    if again.status_code == 200:
                        answer = await self._read(again, cursor, exchange)
        if answer is None:
            raise OutcomeUnknown(f"upstream `{self.name}` was lost before it answered: its event stream ended")
        return answer

    async def _read(
        self, response: httpx2.Response, cursor: _Cursor, exchange: Exchange | None = None
    ) -> dict[str, Any] | None:
        """Take what a stream brings until the answer to `exchange` comes; None where the stream ends before."""
        source = httpx2.EventSource(response, max_event_size=UPSTREAM_MESSAGE_BYTES).__aiter__()
        async with aclosing(cast(AsyncGenerator[httpx2.ServerSentEvent], source)) as events:
            try:
                async for event in events:
                    cursor.note(event)
                    message = self._from_event(event, exchange)
                    if message is not None:
                        return message
            except httpx2.SSEError as error:
                raise self._unusable(str(error).lower()) from None
            except httpx2.HTTPError as error:
                cursor.is_broken = True
                logger.info("upstream `%s`: an event stream broke: %s", self.name, error)
        return None

    def _from_event(self, event: httpx2.ServerSentEvent, exchange: Exchange | None) -> dict[str, Any] | None:
        """The message in an event if it answers `exchange`; what it says beside that is taken care of."""
        if event.event != "message" or not event.data:
            return None
        is_large = len(event.data) > UNASKED_BYTES
        if is_large and (exchange is None or exchange.id not in frames.ids_in(event.data.encode("utf-8", "replace"))):
            self._noise.did(f"sent an event of {len(event.data)} characters that nobody asked for: it was skipped")
            return None
        try:
            message = frames.parse(event.data)
        except frames.Garbage as error:
            self._noise.did(f"sent an event that was skipped: {error}")
            if exchange is not None and exchange.id in frames.ids_in(event.data.encode("utf-8", "replace")):
                raise self._unusable(str(error)) from None
            return None
        if frames.is_answer(message):
            return message if exchange is not None and message.get("id") == exchange.id else None
        self._received(message, exchange.id if exchange is not None else None)
        return None

    async def _follow(self) -> None:
        """Keep a legacy upstream's own stream open, which brings `list_changed`; many offer none."""
        cursor, failures = _Cursor(), 0
        while not self._is_lost:
            seen = cursor.events
            try:
                async with self._stream("GET", self._headers(_resuming(cursor))) as response:
                    if response.status_code == 404 and self._session is not None:
                        self._lose("it ended the session")
                    if response.status_code != 200:
                        return
                    await self._read(response, cursor)
            except httpx2.HTTPError as error:
                logger.info("upstream `%s`: its own stream broke: %s", self.name, error)
            except OutcomeUnknown as error:
                logger.warning("%s", error.message)
            failures = failures + 1 if cursor.events == seen else 0
            pause = RESTART_BACKOFF_SECONDS[min(failures, len(RESTART_BACKOFF_SECONDS) - 1)]
            await anyio.sleep(max(pause, cursor.pause_seconds))
            self._events.tools_changed()  # what was announced in between was not heard

    def _lose(self, reason: str) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._events.lost(reason)


def _resuming(cursor: _Cursor) -> dict[str, str]:
    headers = {"accept": "text/event-stream"}
    return {**headers, "last-event-id": cursor.last_id} if cursor.last_id else headers


def _hint(status: int, credentials: Credentials | None) -> str:
    if status not in (401, 403):
        return ""
    return ": it wants other credentials in `headers`" if credentials is None else ": it did not take the access token"
