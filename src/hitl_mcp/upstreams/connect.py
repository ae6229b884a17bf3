"""One live connection with an upstream: negotiated, its tools listed, its calls sent. Supervision is not done here."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import anyio
import httpx2
import mcp_types
from mcp import ClientSession
from mcp.shared.dispatcher import CallOptions, ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
    find_invalid_x_mcp_header,
    mcp_param_headers,
    x_mcp_header_map,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from hitl_mcp import __version__
from hitl_mcp.canonical import compact_text
from hitl_mcp.config import UpstreamConfig
from hitl_mcp.errors import NotSent, OutcomeUnknown, UpstreamError, UpstreamRefused
from hitl_mcp.limits import (
    INPUT_ROUNDS,
    LIST_SECONDS,
    MESSAGE_BYTES,
    STATE_ONLY_PAUSE_SECONDS,
    TOOL_PAGES,
    TOOLS_PER_UPSTREAM,
    UPSTREAM_QUESTIONS,
)
from hitl_mcp.secrets import Secrets
from hitl_mcp.upstreams.asker import Asker, Question, declared_for, is_wanted, why_not_asked
from hitl_mcp.upstreams.launch import launch_for
from hitl_mcp.upstreams.ledger import HOP_KEYS, Ledger, Send, without_hop_keys
from hitl_mcp.upstreams.oauth import Access
from hitl_mcp.upstreams.pace import resting
from hitl_mcp.upstreams.results import NEEDS_INPUT, checked_result, why_unwritable, without_hop
from hitl_mcp.upstreams.stdio import open_stdio
from hitl_mcp.upstreams.streamable_http import Endpoint, open_http
from hitl_mcp.upstreams.subscriptions import Subscriptions
from hitl_mcp.upstreams.wire import Back, LateMessage, Wire

__all__ = ["Connection", "ConnectionEvents", "Listing", "Way", "connect", "endpoint_of"]

logger = logging.getLogger(__name__)

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*\Z")

_ANSWERS = frozenset({"inputResponses", "requestState"})

_WE = mcp_types.Implementation(name="hitl-mcp", version=__version__)


@dataclass(frozen=True)
class Way:
    """All it takes to reach an upstream. `client` is there for those with a `url`, `access` for those with `oauth`."""

    config: UpstreamConfig
    secrets: Secrets
    ledger: Ledger
    directory: Path
    client: httpx2.AsyncClient | None
    access: Access | None = None


@dataclass(frozen=True)
class Listing:
    """The tools an upstream offers, as it wrote them, and what was wrong with the list."""

    tools: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]


@asynccontextmanager
async def connect(way: Way, events: ConnectionEvents, declared: Mapping[str, Any]) -> AsyncIterator[Connection]:
    """Open a connection; it is usable once `Connection.negotiate` returned.

    `declared` are the capabilities that an upstream with a handshake is told of, as those of the client.

    Raises:
        UpstreamError: The upstream cannot be reached.
        HitlError: A secret that the config refers to cannot be resolved.
    """
    connection = Connection(way.config, way.ledger, events, declared)
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
        endpoint = replace(endpoint_of(config, way.secrets), credentials=way.access)
        async with open_http(endpoint, way.client, config.name, way.ledger, connection) as http_wire:
            yield http_wire


def endpoint_of(config: UpstreamConfig, secrets: Secrets) -> Endpoint:
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


class ConnectionEvents(Protocol):
    """Who is told what happens on a connection, and knows what all of an upstream's connections are for."""

    @property
    def log_level(self) -> str | None:
        """From which level on somebody wants to hear the upstream's log; None where nobody said."""

    def lost(self, connection: Connection) -> None:
        """It is gone. Said once."""

    def tools_changed(self, connection: Connection) -> None:
        """The tools may be others now, as it was said on this connection."""

    def announced(self, method: str, params: dict[str, Any]) -> None:
        """Resources or prompts may be others now, as the upstream's notification says."""

    def unattributed(self) -> None:
        """The upstream asked something that could not be put to anybody: several calls ran that it could be for."""


class Connection:
    """A negotiated connection. Hears from the wire what the upstream does by itself (`WireEvents`)."""

    def __init__(
        self, config: UpstreamConfig, ledger: Ledger, events: ConnectionEvents, declared: Mapping[str, Any]
    ) -> None:
        self.config = config
        self.name = config.name
        self._ledger = ledger
        self._events = events
        self._declared = declared
        self._wire: Wire | None = None
        self._session: ClientSession | None = None
        self._headers_of: dict[str, dict[tuple[str, ...], str]] = {}
        self._questions: dict[str, str] = {}
        self._running: set[str] = set()
        self.subscriptions = Subscriptions(self)
        self._news = anyio.Event()
        self.lost_because: str | None = None
        self.dies_of_discover = False

    def opened(self, wire: Wire, mcp_session: ClientSession) -> None:
        """What `connect` opened."""
        self._wire, self._session = wire, mcp_session

    # What the wire tells.

    def tools_changed(self) -> None:
        self._news.set()
        self._events.tools_changed(self)

    def lost(self, reason: str) -> None:
        self.lost_because = reason
        self._events.lost(self)
        self._news.set()

    def asked(self, method: str, during: str | None) -> None:
        for call_id in self._running if during is None else self._running & {during}:
            self._questions[call_id] = method
        if during is None and len(self._running) > 1:
            self._events.unattributed()

    def announced(self, method: str, params: dict[str, Any]) -> None:
        self._events.announced(method, params)

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
        await self._negotiate(self.live_session(), modern)
        await self.tell_log_level()

    async def _negotiate(self, mcp_session: ClientSession, modern: bool) -> None:
        if not modern:
            await self._initialize(mcp_session)
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
            await self._initialize(mcp_session)
        except MCPError as error:
            if error.code != mcp_types.UNSUPPORTED_PROTOCOL_VERSION:
                raise
            await mcp_session.discover()  # it says it is modern: it was only slow to answer the first question

    async def _initialize(self, mcp_session: ClientSession) -> None:
        """The handshake, in our own words: the session's own has no place for other clients' capabilities."""
        who = {"name": _WE.name, "version": _WE.version}
        params = {"protocolVersion": LATEST_HANDSHAKE_VERSION, "capabilities": self._declared, "clientInfo": who}
        answer = await self.live_wire().send_raw_request("initialize", params, {"cancel_on_abandon": False})
        agreed = mcp_types.InitializeResult.model_validate(answer, by_name=False)
        if agreed.protocol_version not in HANDSHAKE_PROTOCOL_VERSIONS:
            raise RuntimeError(f"it speaks `{agreed.protocol_version}`, a revision of the protocol that we do not know")
        mcp_session.adopt(agreed)
        await self.live_wire().notify(
            "notifications/initialized", None, {"headers": {MCP_PROTOCOL_VERSION_HEADER: agreed.protocol_version}}
        )

    async def tell_log_level(self) -> None:
        """Say from which level on the log is wanted, to an upstream with a handshake; others hear it with each call."""
        level, capabilities = self._events.log_level, self.capabilities
        if level is None or self.is_modern or capabilities is None or capabilities.logging is None:
            return
        try:
            with anyio.move_on_after(LIST_SECONDS):
                await self.ask("logging/setLevel", {"level": level})
        except (MCPError, UpstreamError) as error:
            logger.warning("upstream `%s` did not take the log level: %s", self.name, error)

    async def tell_roots_changed(self) -> None:
        """Say that the client's roots are others now, where this connection is one client's that said it would tell."""
        roots = self._declared.get("roots")
        if self.is_modern or not isinstance(roots, dict) or roots.get("listChanged") is not True:
            return
        headers = {MCP_PROTOCOL_VERSION_HEADER: self.live_session().protocol_version or ""}
        with anyio.move_on_after(LIST_SECONDS):
            await self.live_wire().notify("notifications/roots/list_changed", None, {"headers": headers})

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
        capabilities = self.live_session().server_capabilities
        try:
            return await self.ask("tools/list", params)
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
            if self.is_modern:
                if (problem := find_invalid_x_mcp_header(tool.get("inputSchema"))) is not None:
                    warnings.append(f"tool `{tool['name']}` is left out: {problem}")
                    continue
                self._headers_of[tool["name"]] = x_mcp_header_map(tool.get("inputSchema"))
            tools.append(tool)
        return Listing(tuple(tools), tuple(warnings))

    # Calls.

    async def call(self, send: Send) -> dict[str, Any]:
        """Send one call and return its result. As `Upstream.send`."""
        arguments = _arguments(send)
        if send.method != "tools/call":
            return await self._read(send, arguments)
        meta = without_hop_keys(send.meta)
        options: CallOptions = {"request_id": send.call_id}
        if send.on_progress is not None:
            meta["progressToken"] = send.call_id
            options["on_progress"] = cast(ProgressFnT, send.on_progress)
        params = {"name": send.tool, "arguments": arguments, **({"_meta": meta} if meta else {})}
        self._running.add(send.call_id)
        try:
            with self._ledger.registered(send):
                result = await self.ask("tools/call", params, options, self._back(send), send.asker)
            result = await self._answered(send, params, result)
        except MCPError as error:
            raise self._refusal(error, self._questions.get(send.call_id)) from None
        finally:
            self._running.discard(send.call_id)
            question = self._questions.pop(send.call_id, None)
        async with resting():
            result = checked_result(result, self.name)
        if question is not None and send.asker is None and result.get("isError") is True:
            words = next((block["text"] for block in result["content"] if block["type"] == "text"), "no reason given")
            raise UpstreamRefused(mcp_types.INVALID_REQUEST, f"{self._wanted(question)}: {words}", {"result": result})
        return result

    async def _read(self, send: Send, params: dict[str, Any]) -> dict[str, Any]:
        """Read something that is no tool, and return it as the upstream wrote it. As `Upstream.send`."""
        meta = without_hop_keys(send.meta)
        if meta:
            params = {**params, "_meta": meta}
        try:
            with self._ledger.reading(send):
                result = await self.ask(send.method, params)
        except MCPError as error:
            raise self._refusal(error, None) from None
        kind = result.get("resultType", "complete")
        problem = why_unwritable(result) if kind == "complete" else f"its kind is `{kind!s:.40}`"
        if problem is not None:
            raise OutcomeUnknown(f"upstream `{self.name}` answered, but the answer cannot be used: {problem}")
        return without_hop(result)

    async def _answered(self, send: Send, params: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """Go on with a call for as long as its upstream asks for something first, and its client gives it."""
        rounds = 0
        while result.get("resultType") == "input_required" and send.asker is not None and rounds < INPUT_ROUNDS:
            rounds += 1
            answers = await self._inputs(result, send.asker)
            with self._ledger.continued(send, rounds, answers) as request_id:
                again = {key: value for key, value in params.items() if key not in _ANSWERS}
                meta = {key: value for key, value in (params.get("_meta") or {}).items() if key not in HOP_KEYS}
                options: CallOptions = {"request_id": request_id}
                if send.on_progress is not None:
                    meta["progressToken"] = request_id
                    options["on_progress"] = cast(ProgressFnT, send.on_progress)
                again = {**again, **answers, **({"_meta": meta} if meta else {})}
                try:
                    result = await self.ask("tools/call", again, options, self._back(send), send.asker)
                except NotSent as error:
                    # Its first request did leave, and nobody knows what the upstream did before it asked.
                    raise OutcomeUnknown(f"it was sent, and could not go on: {error.message}") from None
        return result

    async def _inputs(self, result: dict[str, Any], asker: Asker) -> dict[str, Any]:
        """What the same request brings when it is sent again: the answers to what was asked, and the state with it."""
        asked = result.get("inputRequests")
        questions = {
            key: Question(str(one.get("method")), params if isinstance(params := one.get("params"), dict) else {})
            for key, one in (asked if isinstance(asked, dict) else {}).items()
            if isinstance(one, dict)
        }
        if len(questions) > UPSTREAM_QUESTIONS:
            raise MCPError(mcp_types.INVALID_REQUEST, f"it asks {len(questions)} things at once")
        for question in questions.values():
            if (problem := why_not_asked(question, asker, self.config)) is not None:
                raise problem
        if why_unwritable(result) is not None or len(compact_text(result)) > MESSAGE_BYTES:
            raise MCPError(mcp_types.INVALID_REQUEST, "what it asks cannot be passed on")
        more = {"inputResponses": await asker.ask(questions)} if questions else {}
        if not questions:
            await anyio.sleep(STATE_ONLY_PAUSE_SECONDS)  # it only wants to be asked again
        state = result.get("requestState")
        return {**more, **({"requestState": state} if isinstance(state, str) else {})}

    def _back(self, send: Send) -> Back:
        """The ways back to whoever a call is sent for."""
        asker = send.asker
        if asker is None:
            return Back(on_late=self._late_message(send))
        return Back(
            self._late_message(send), partial(self._put, asker), partial(self._passed_on, asker), asker.end_stream
        )

    async def _put(self, asker: Asker, method: str, params: dict[str, Any]) -> dict[str, Any]:
        question = Question(method, params)
        if (problem := why_not_asked(question, asker, self.config)) is not None:
            raise problem
        if method == "roots/list" and not self.is_modern and "roots" not in self._declared:
            raise MCPError(mcp_types.INVALID_REQUEST, "no client's roots are for an upstream that all clients share")
        answer = (await asker.ask({"question": question}))["question"]
        return cast(dict[str, Any], answer)

    async def _passed_on(self, asker: Asker, method: str, params: dict[str, Any]) -> None:
        if method != "notifications/message" or is_wanted(params.get("level"), asker.log_level):
            await asker.tell(method, params)

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
                on_late(checked_result(self.live_wire().result_of(message), self.name))
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
        return f"{NEEDS_INPUT}: upstream `{self.name}` asked for `{question}` while this ran, and nobody may answer it"

    # Requests.

    async def request(self, method: str, params: dict[str, Any], asker: Asker) -> dict[str, Any]:
        """Send anything that is no tool call for a client, and return the result as the upstream wrote it.

        Raises:
            MCPError: The upstream refused.
            UpstreamError: It cannot be reached, or gave no usable answer.
        """
        back = Back(None, partial(self._put, asker), partial(self._passed_on, asker), asker.end_stream)
        result = await self.ask(method, params, None, back, asker)
        rounds = 0
        while result.get("resultType") == "input_required" and not asker.is_modern and rounds < INPUT_ROUNDS:
            rounds += 1
            again = {key: value for key, value in params.items() if key not in _ANSWERS}
            result = await self.ask(method, {**again, **await self._inputs(result, asker)}, None, back, asker)
        if (problem := why_unwritable(result)) is not None:
            raise UpstreamError(f"upstream `{self.name}` answered, but the answer cannot be used: {problem}")
        return without_hop(result)

    async def ask(
        self,
        method: str,
        params: dict[str, Any],
        options: CallOptions | None = None,
        back: Back | None = None,
        asker: Asker | None = None,
    ) -> dict[str, Any]:
        """Send a request with what its era wants on it, and return the raw result, which the session would sieve."""
        wire = self.live_wire()
        if self.lost_because is not None:
            raise NotSent(f"upstream `{self.name}` cannot be reached: {self.lost_because}")
        options = options or {}
        options["headers"] = self._stamp(method, params, asker)
        return await wire.ask(method, params, options, *([back] if back is not None else []))

    def _stamp(self, method: str, params: dict[str, Any], asker: Asker | None) -> dict[str, str]:
        version = self.live_session().protocol_version or ""
        headers = {MCP_PROTOCOL_VERSION_HEADER: version}
        if not self.is_modern:
            return headers
        envelope: dict[str, Any] = {
            mcp_types.PROTOCOL_VERSION_META_KEY: version,
            mcp_types.CLIENT_INFO_META_KEY: {"name": _WE.name, "version": _WE.version},
            mcp_types.CLIENT_CAPABILITIES_META_KEY: declared_for(asker, self.config) if asker is not None else {},
        }
        if asker is not None and asker.log_level is not None:
            envelope[mcp_types.LOG_LEVEL_META_KEY] = asker.log_level
        params["_meta"] = {**(params.get("_meta") or {}), **envelope}
        headers[MCP_METHOD_HEADER] = method
        named = params.get(NAME_BEARING_METHODS.get(method, ""))
        if isinstance(named, str):
            headers[MCP_NAME_HEADER] = encode_header_value(named)
        if method == "tools/call":
            headers.update(mcp_param_headers(self._headers_of.get(params["name"], {}), params["arguments"]))
        return headers

    @property
    def capabilities(self) -> mcp_types.ServerCapabilities | None:
        """What the upstream says it offers."""
        return self.live_session().server_capabilities

    @property
    def is_modern(self) -> bool:
        """Whether a revision without handshake was agreed on."""
        return self.live_session().protocol_version in MODERN_PROTOCOL_VERSIONS

    def live_wire(self) -> Wire:
        """What carries it."""
        if self._wire is None:
            raise NotSent(f"upstream `{self.name}` cannot be reached: it was not opened")
        return self._wire

    def live_session(self) -> ClientSession:
        """The SDK's session on it."""
        if self._session is None:
            raise UpstreamError(f"upstream `{self.name}` is not connected")
        return self._session


def _arguments(send: Send) -> dict[str, Any]:
    try:
        arguments = json.loads(send.arguments_json)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise NotSent(f"call `{send.call_id}`: its arguments are not a JSON object")
    return arguments
