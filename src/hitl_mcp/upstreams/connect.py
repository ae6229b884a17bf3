"""One live connection with an upstream: negotiated, its tools listed, its calls sent. Supervision is not done here."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import anyio
import httpx2
import mcp_types
from mcp import ClientSession
from mcp.client.subscriptions import SubscriptionLost, listen
from mcp.shared.dispatcher import CallOptions, ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    encode_header_value,
    find_invalid_x_mcp_header,
    mcp_param_headers,
    x_mcp_header_map,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from hitl_mcp import __version__
from hitl_mcp.config import UpstreamConfig
from hitl_mcp.errors import NotSent, OutcomeUnknown, UpstreamError, UpstreamRefused
from hitl_mcp.limits import RESTART_BACKOFF_SECONDS, TOOL_PAGES, TOOLS_PER_UPSTREAM
from hitl_mcp.secrets import Secrets
from hitl_mcp.upstreams.launch import launch_for
from hitl_mcp.upstreams.ledger import Ledger, Send, without_hop_keys
from hitl_mcp.upstreams.results import NEEDS_INPUT, checked_result
from hitl_mcp.upstreams.stdio import open_stdio
from hitl_mcp.upstreams.streamable_http import Endpoint, open_http
from hitl_mcp.upstreams.wire import LateMessage, Wire

__all__ = ["Connection", "Listing", "Way", "connect"]

logger = logging.getLogger(__name__)

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*\Z")

_WE = mcp_types.Implementation(name="hitl-mcp", version=__version__)


@dataclass(frozen=True)
class Way:
    """All it takes to reach an upstream. `client` is there for upstreams with a `url`."""

    config: UpstreamConfig
    secrets: Secrets
    ledger: Ledger
    directory: Path
    client: httpx2.AsyncClient | None


@dataclass(frozen=True)
class Listing:
    """The tools an upstream offers, as it wrote them, and what was wrong with the list."""

    tools: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]


@asynccontextmanager
async def connect(way: Way, on_lost: Callable[[Connection], None]) -> AsyncIterator[Connection]:
    """Open a connection; it is usable once `Connection.negotiate` returned. `on_lost` is called when it is lost.

    Raises:
        UpstreamError: The upstream cannot be reached.
        HitlError: A secret that the config refers to cannot be resolved.
    """
    connection = Connection(way.config.name, way.ledger, on_lost)
    async with _open_wire(way, connection) as wire, ClientSession(dispatcher=wire, client_info=_WE) as mcp_session:
        connection.opened(wire, mcp_session)
        yield connection


@asynccontextmanager
async def _open_wire(way: Way, connection: Connection) -> AsyncIterator[Wire]:
    config = way.config
    if way.client is None:
        launch = launch_for(config, way.secrets, way.directory)
        async with open_stdio(launch, config.name, way.ledger, connection) as wire:
            yield wire
    else:
        async with open_http(
            _endpoint(config, way.secrets), way.client, config.name, way.ledger, connection
        ) as http_wire:
            yield http_wire


def _endpoint(config: UpstreamConfig, secrets: Secrets) -> Endpoint:
    """Where to send, checked here: what the HTTP library says of a bad value would repeat the secret in it."""
    headers = {name: secrets.resolve(text) for name, text in config.headers.items()}
    for name, value in headers.items():
        if not _HEADER_NAME.match(name) or not _HEADER_VALUE.match(value):
            raise UpstreamError(
                f"the header `{name}` cannot be sent: it is no header, or its value holds a control character",
                help="a secret from a file may have more than one line",
            )
    try:
        url = httpx2.URL(secrets.resolve(config.url or ""))
        is_http = url.scheme in ("http", "https") and bool(url.host)
    except httpx2.InvalidURL:
        is_http = False
    if not is_http:
        raise UpstreamError(f"`{config.url}` is not an http address")
    return Endpoint(url, headers)


class Connection:
    """A negotiated connection. Hears from the wire what the upstream does by itself (`WireEvents`)."""

    def __init__(self, name: str, ledger: Ledger, on_lost: Callable[[Connection], None]) -> None:
        self._name = name
        self._ledger = ledger
        self._on_lost = on_lost
        self._wire: Wire | None = None
        self._session: ClientSession | None = None
        self._headers_of: dict[str, dict[tuple[str, ...], str]] = {}
        self._questions: dict[str, str] = {}
        self._running: set[str] = set()
        self._news = anyio.Event()
        self.lost_because: str | None = None
        self.dies_of_discover = False

    def opened(self, wire: Wire, mcp_session: ClientSession) -> None:
        """What `connect` opened."""
        self._wire, self._session = wire, mcp_session

    # What the wire tells.

    def tools_changed(self) -> None:
        self._news.set()

    def lost(self, reason: str) -> None:
        self.lost_because = reason
        self._on_lost(self)
        self._news.set()

    def asked(self, method: str, during: str | None) -> None:
        for call_id in self._running if during is None else self._running & {during}:
            self._questions[call_id] = method

    async def news(self) -> None:
        """Return when the tools may have changed or the connection was lost."""
        await self._news.wait()
        self._news = anyio.Event()

    # Negotiation and listing.

    async def negotiate(self, *, modern: bool = True) -> None:
        """Agree on a protocol revision: ask as a modern client first, and fall back to the older handshake.

        An upstream that ends when it is asked something before the handshake (older Rust servers do) leaves
        `dies_of_discover` set: connect again, and do not ask `modern` first.

        Raises:
            MCPError: The connection was lost, or the upstream answers in no way that we can work with.
            ValidationError, RuntimeError: Its answer to the handshake cannot be used.
        """
        mcp_session = self._live_session()
        if not modern:
            await mcp_session.initialize()
            return
        try:
            await mcp_session.discover()
        except (MCPError, ValidationError, RuntimeError):
            self.dies_of_discover = self.lost_because is not None
            if self.dies_of_discover:
                raise
            await self._shake_hands(mcp_session)

    async def _shake_hands(self, mcp_session: ClientSession) -> None:
        try:
            await mcp_session.initialize()
        except MCPError as error:
            if error.code != mcp_types.UNSUPPORTED_PROTOCOL_VERSION:
                raise
            await mcp_session.discover()  # it says it is modern: it was only slow to answer the first question

    async def list_tools(self) -> Listing:
        """List all tools, as the upstream wrote them.

        Raises:
            MCPError: The upstream refused to list.
            UpstreamError: The connection was lost, or the listing cannot be read.
        """
        found: list[Any] = []
        warnings: list[str] = []
        cursor: object = None
        for _ in range(TOOL_PAGES):
            page = await self._page({} if cursor is None else {"cursor": cursor})
            tools = page.get("tools")
            if not isinstance(tools, list):
                raise UpstreamError("its list of tools cannot be read: `tools` is not a list")
            found.extend(tools)
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str) or len(found) > TOOLS_PER_UPSTREAM:
                break
        if isinstance(cursor, str) or len(found) > TOOLS_PER_UPSTREAM:
            warnings.append(f"more than {TOOLS_PER_UPSTREAM} tools or {TOOL_PAGES} pages: the rest is left out")
        return self._kept(found[:TOOLS_PER_UPSTREAM], warnings)

    async def _page(self, params: dict[str, Any]) -> dict[str, Any]:
        capabilities = self._live_session().server_capabilities
        try:
            return await self._request("tools/list", params)
        except MCPError as error:
            # Asked even where no tools were announced: some servers forget to announce them.
            if error.code == mcp_types.METHOD_NOT_FOUND and (capabilities is None or capabilities.tools is None):
                return {"tools": []}
            raise

    def _kept(self, found: list[Any], warnings: list[str]) -> Listing:
        """Leave out what is no tool, and for a modern upstream what its revision says to leave out."""
        tools: list[dict[str, Any]] = []
        self._headers_of = {}
        for tool in found:
            if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
                warnings.append("an entry without a name is left out")
                continue
            if self._is_modern:
                if (problem := find_invalid_x_mcp_header(tool.get("inputSchema"))) is not None:
                    warnings.append(f"tool `{tool['name']}` is left out: {problem}")
                    continue
                self._headers_of[tool["name"]] = x_mcp_header_map(tool.get("inputSchema"))
            tools.append(tool)
        return Listing(tuple(tools), tuple(warnings))

    async def subscribe(self) -> None:
        """Stay subscribed to changes of the tools, for ever, where the upstream is modern and offers it."""
        mcp_session = self._live_session()
        offered = mcp_session.server_capabilities and mcp_session.server_capabilities.tools
        if not self._is_modern or not offered or not offered.list_changed:
            return
        failures = 0
        while self.lost_because is None:
            try:
                async with listen(mcp_session, tools_list_changed=True) as subscription:
                    async for _ in subscription:
                        failures = 0
            except (MCPError, SubscriptionLost) as error:
                logger.info("upstream `%s`: the subscription ended: %s", self._name, error)
            await anyio.sleep(RESTART_BACKOFF_SECONDS[min(failures, len(RESTART_BACKOFF_SECONDS) - 1)])
            failures += 1
            self.tools_changed()  # what was announced in between was not heard

    # Calls.

    async def call(self, send: Send) -> dict[str, Any]:
        """Send one call and return its result. As `Upstream.send`."""
        arguments = _arguments(send)
        meta = without_hop_keys(send.meta)
        options: CallOptions = {"request_id": send.call_id}
        if send.on_progress is not None:
            meta["progressToken"] = send.call_id
            options["on_progress"] = cast(ProgressFnT, send.on_progress)
        params = {"name": send.tool, "arguments": arguments, **({"_meta": meta} if meta else {})}
        self._running.add(send.call_id)
        try:
            with self._ledger.registered(send):
                result = await self._request("tools/call", params, options, self._late_message(send))
        except MCPError as error:
            raise self._refusal(error, self._questions.get(send.call_id)) from None
        finally:
            self._running.discard(send.call_id)
            question = self._questions.pop(send.call_id, None)
        result = checked_result(result, self._name)
        if question is not None and result.get("isError") is True:
            words = next((block["text"] for block in result["content"] if block["type"] == "text"), "no reason given")
            raise UpstreamRefused(mcp_types.INVALID_REQUEST, f"{self._wanted(question)}: {words}", {"result": result})
        return result

    async def cancel(self, call_id: str) -> None:
        """Ask the upstream to stop a call that runs."""
        if self._wire is not None and call_id in self._running:
            await self._wire.cancel(call_id)

    def _late_message(self, send: Send) -> LateMessage | None:
        """What to do with an answer that comes after the wait for it ended; an unusable one changes nothing."""
        on_late = send.on_late
        if on_late is None:
            return None

        def take(message: dict[str, Any]) -> None:
            try:
                on_late(checked_result(self._live_wire().result_of(message), self._name))
            except MCPError as error:
                on_late(self._refusal(error, None))
            except UpstreamRefused as error:
                on_late(error)
            except OutcomeUnknown as error:
                logger.warning("call %s: it was answered late, and %s", send.call_id, error.message)

        return take

    def _refusal(self, error: MCPError, question: str | None) -> UpstreamRefused:
        if error.code == mcp_types.URL_ELICITATION_REQUIRED:
            question = question or "elicitation/create"
        if error.code == mcp_types.HEADER_MISMATCH:
            self.tools_changed()  # it knows another schema than we do
        text = f"{self._wanted(question)}: {error.message}" if question is not None else error.message
        return UpstreamRefused(error.code, text, error.data)

    def _wanted(self, question: str) -> str:
        return f"{NEEDS_INPUT}: upstream `{self._name}` asked for `{question}` while this ran, and nobody may answer it"

    # Requests.

    async def _request(
        self,
        method: str,
        params: dict[str, Any],
        options: CallOptions | None = None,
        on_late: LateMessage | None = None,
    ) -> dict[str, Any]:
        """Send a request with what its era wants on it, and return the raw result, which the session would sieve."""
        wire = self._live_wire()
        if self.lost_because is not None:
            raise NotSent(f"upstream `{self._name}` cannot be reached: {self.lost_because}")
        options = options or {}
        options["headers"] = self._stamp(method, params)
        return await wire.ask(method, params, options, on_late)

    def _stamp(self, method: str, params: dict[str, Any]) -> dict[str, str]:
        version = self._live_session().protocol_version or ""
        headers = {MCP_PROTOCOL_VERSION_HEADER: version}
        if not self._is_modern:
            return headers
        params.setdefault("_meta", {}).update(
            {
                mcp_types.PROTOCOL_VERSION_META_KEY: version,
                mcp_types.CLIENT_INFO_META_KEY: {"name": _WE.name, "version": _WE.version},
                mcp_types.CLIENT_CAPABILITIES_META_KEY: {},
            }
        )
        headers[MCP_METHOD_HEADER] = method
        if method == "tools/call":
            headers[MCP_NAME_HEADER] = encode_header_value(params["name"])
            headers.update(mcp_param_headers(self._headers_of.get(params["name"], {}), params["arguments"]))
        return headers

    @property
    def _is_modern(self) -> bool:
        return self._live_session().protocol_version in MODERN_PROTOCOL_VERSIONS

    def _live_wire(self) -> Wire:
        if self._wire is None:
            raise NotSent(f"upstream `{self._name}` cannot be reached: it was not opened")
        return self._wire

    def _live_session(self) -> ClientSession:
        if self._session is None:
            raise UpstreamError(f"upstream `{self._name}` is not connected")
        return self._session


def _arguments(send: Send) -> dict[str, Any]:
    try:
        arguments = json.loads(send.arguments_json)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise NotSent(f"call `{send.call_id}`: its arguments are not a JSON object")
    return arguments
