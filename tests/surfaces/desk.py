"""A reviewer's desk: the real API and page over a real store, on a real port, without agents and upstreams."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from hitl_mcp.calls import Asked, CallRecord, Decision, Effect, Requirement, RuleMatch, SignalMatch
from hitl_mcp.canonical import canonical_text
from hitl_mcp.clock import Clock
from hitl_mcp.people import Agent, People, Reviewer
from hitl_mcp.pins import open_pins
from hitl_mcp.review import Review
from hitl_mcp.store import SqliteStore, open_sqlite
from hitl_mcp.surfaces.api import ApiParts, control_routes, page_routes
from hitl_mcp.surfaces.doors import guarded
from hitl_mcp.surfaces.web import web_routes
from tests.samples import admit, held, tool_call

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loading certificates takes longer than most tests
AGENT_KEY = "the-key-of-an-agent"

PEOPLE = People(
    agents={"builder": Agent("builder", token=AGENT_KEY, owner="dana")},
    reviewers={
        "dana": Reviewer("dana", frozenset({"finance", "admin"})),
        "lee": Reviewer("lee", frozenset({"finance"})),
        "sam": Reviewer("sam", frozenset({"support"})),
    },
)

PAYMENT = held(
    Requirement("payments", ("finance",), 2),
    score=70,
    rules=(RuleMatch("payments", Effect.HOLD, "money leaves the company"),),
    reasons=("money leaves the company",),
    signals=(
        SignalMatch("irreversible", 45, "a payment cannot be undone"),
        SignalMatch("amount", 25, "5000 EUR is paid out"),
    ),
    band="band-40",
    expires_in_seconds=4 * 3600,
)


NOON = "2026-11-22T12:00:00.000000Z"
"""Since when the policy is in force."""


@dataclass
class Desk:
    """The running thing, and what a test does at it."""

    store: SqliteStore
    parts: ApiParts
    port: int
    control: httpx2.AsyncClient
    stopped: list[str] = field(default_factory=list)
    upstreams: list[dict[str, str]] = field(default_factory=list)
    policy_problem: dict[str, str] | None = None
    tools: list[dict[str, Any]] = field(default_factory=list)
    named: bool = False

    @property
    def url(self) -> str:
        return f"http://{'localhost' if self.named else '127.0.0.1'}:{self.port}"

    async def hold(
        self, arguments: Any, decision: Decision | None = None, claim: str = "", **changes: Any
    ) -> CallRecord:
        """Put a call before the reviewers: a mail, unless `changes` say otherwise."""
        call = tool_call(arguments_json=canonical_text(arguments), **changes)
        return (await admit(self.store, call, Asked("conversation-1", claim), decision or held())).record

    async def hold_payment(self, arguments: Any, claim: str = "", **changes: Any) -> CallRecord:
        """Put a payment before the reviewers; it needs two of finance."""
        names = {"upstream": "payments", "tool": "pay", "name": "payments__pay", **changes}
        return await self.hold(arguments, PAYMENT, claim, **names)

    async def link(self, reviewer: str) -> str:
        """A one-time sign-in link, as `hitl-mcp review` makes it."""
        answer = await self.control.post("/api/links", json={"for": reviewer})
        return str(answer.json()["url"])

    async def key(self, reviewer: str) -> str:
        """Sign a reviewer in and give the key."""
        code = (await self.link(reviewer)).partition("#login=")[2]
        async with self.program() as client:
            return str((await client.post("/api/login", json={"code": code})).json()["token"])

    @asynccontextmanager
    async def signed_in(self, reviewer: str) -> AsyncIterator[httpx2.AsyncClient]:
        """A program that talks to the API as a reviewer."""
        headers = {"authorization": f"Bearer {await self.key(reviewer)}"}
        async with self.program(headers=headers) as client:
            yield client

    def program(self, **options: Any) -> httpx2.AsyncClient:
        """A program that talks to the port, as many connections at once as it likes."""
        limits = httpx2.Limits(max_connections=None)
        return httpx2.AsyncClient(base_url=self.url, verify=_NO_TLS, limits=limits, **options)


class _Server(uvicorn.Server):
    def __init__(self, app: Any) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=2))
        self.ready = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def open_desk(
    database: Path, clock: Clock, public_url: str | None = None, prefix: str = "", named: bool = False
) -> AsyncIterator[Desk]:
    """Serve the API and the page over a new store until the block ends; `prefix` as a proxy would put before it.

    With `named` it is known as `localhost`, which passkeys need.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    if named:
        public_url = f"http://localhost:{port}"
    if prefix:
        public_url = f"http://127.0.0.1:{port}{prefix}"
    async with open_sqlite(database, clock) as store:
        parts = ApiParts(
            store=store,
            review=Review(store, PEOPLE, clock),
            people=PEOPLE,
            status=lambda: {
                "upstreams": desk.upstreams,
                "paused": _pause(store),
                "store": {
                    "broken": store.broken,
                    "trouble": store.trouble.as_dict() if store.trouble else None,
                },
                "policy": {"version": "sha256:0", "since": NOON, "problem": desk.policy_problem},
            },
            stop=lambda: desk.stopped.append("stop"),
            tools=lambda: desk.tools,
            pins=await open_pins(store),
            clock=clock,
            public_url=public_url or f"http://127.0.0.1:{port}",
            stopping=anyio.Event(),
        )
        control = httpx2.ASGITransport(Starlette(routes=control_routes(parts)))
        async with httpx2.AsyncClient(transport=control, base_url="http://control", verify=_NO_TLS) as control_client:
            desk = Desk(store, parts, port, control_client, named=named)
            app = Starlette(routes=[*page_routes(parts), *web_routes()])
            whole = guarded(app, port=port, public_url=public_url)
            async with serving(Starlette(routes=[Mount(prefix, whole)]) if prefix else whole, listener):
                yield desk
                parts.stopping.set()


@asynccontextmanager
async def serving(app: Any, listener: socket.socket) -> AsyncIterator[None]:
    """Serve an app on a bound socket until the block ends."""
    server = _Server(app)
    with listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server._serve, [listener])
            await server.ready.wait()
            try:
                yield
            finally:
                server.should_exit = True


def _pause(store: SqliteStore) -> dict[str, str] | None:
    pause = store.paused
    return {"by": pause.by, "at": pause.at, "reason": pause.reason} if pause else None
