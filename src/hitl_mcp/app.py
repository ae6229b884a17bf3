"""Builds the gateway, in order, and keeps it until it is told to stop. Only assembly stands here.

The order of a start: config and policy (nothing is touched before they are right), the state directory and its lock,
the store, what the last life left running, upstreams, then the doors: agents, control, and the page.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from hitl_mcp import __version__
from hitl_mcp.audit import SEALS_FILE, Checkpoints, Evidence, signer_of
from hitl_mcp.backups import Keeping
from hitl_mcp.catalog import SEPARATOR, Catalog
from hitl_mcp.clients import Clients
from hitl_mcp.clock import Clock
from hitl_mcp.config import Config, load_config, policy_sources
from hitl_mcp.covering import cover_of
from hitl_mcp.deadlines import Deadlines
from hitl_mcp.decider import Decider
from hitl_mcp.edits import Edits
from hitl_mcp.errors import UnresolvedSecret
from hitl_mcp.executor import Executor
from hitl_mcp.gate import Gate
from hitl_mcp.offers import Offers
from hitl_mcp.pins import Pins, open_pins
from hitl_mcp.policy import Policy, load_policy
from hitl_mcp.policy_files import PolicyFiles, Signature, signature_of
from hitl_mcp.previews import Previews
from hitl_mcp.probes import Probes
from hitl_mcp.readings import Readings
from hitl_mcp.releasing import Releasing
from hitl_mcp.render.secret import cover_with
from hitl_mcp.retention import Retention
from hitl_mcp.review import Review
from hitl_mcp.secrets import Secrets
from hitl_mcp.state_dir import RunningGateway, StateDir, bind_private_socket
from hitl_mcp.store import SqliteStore, key_from_file, open_sqlite
from hitl_mcp.surfaces.agents import (
    WELL_KNOWN,
    AgentParts,
    AgentServer,
    AgentSocket,
    AgentsOverHttp,
    Asking,
    Mode,
    OAuthDoor,
    States,
    oauth_door,
)
from hitl_mcp.surfaces.api import ApiParts, Evaluating, callback_route, control_routes, page_routes
from hitl_mcp.surfaces.doors import guarded
from hitl_mcp.surfaces.page_port import open_page
from hitl_mcp.surfaces.web import web_routes
from hitl_mcp.upstreams import SignIns, Upstreams

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 10
"""How long a stop waits for calls that are running; what still runs then is `unknown` at the next start."""


@dataclass(frozen=True)
class Written:
    """What the operator wrote, read and found right."""

    config: Config
    policy: Policy
    secrets: Secrets
    policy_looks: Signature


def read_files(config_path: Path) -> Written:
    """Read the config and its policies.

    Raises:
        ConfigError: The config cannot be used.
        PolicyError: A policy file cannot be used.
    """
    config = load_config(config_path)
    looks = signature_of(config)  # before reading: what changes from here on is read again
    policy = load_policy(policy_sources(config), config.people)
    return Written(config, policy, Secrets.from_config(config), looks)


@dataclass(frozen=True)
class Core:
    """The parts behind the doors, running."""

    written: Written
    store: SqliteStore
    upstreams: Upstreams
    sign_ins: SignIns
    catalog: Catalog
    executor: Executor
    gate: Gate
    releasing: Releasing
    review: Review
    clock: Clock
    decider: Decider
    policy_files: PolicyFiles
    pins: Pins
    keeping: Keeping


class Gateway:
    """The running gateway: where it is reached, how it is, and how it stops."""

    def __init__(
        self,
        state: StateDir,
        core: Core,
        reached: RunningGateway,
        agents_without_token: dict[str, str],
        oauth: OAuthDoor | None,
    ) -> None:
        self._state = state
        self._core = core
        self.reached = reached
        self._agents_without_token = agents_without_token
        self._oauth = oauth
        self.stopping = anyio.Event()

    def status(self) -> dict[str, Any]:
        """How everything is, as plain JSON values."""
        core = self._core
        paused, trouble = core.store.paused, core.store.trouble
        return {
            **self.reached.as_dict(),
            "version": __version__,
            "paused": {"by": paused.by, "at": paused.at, "reason": paused.reason} if paused else None,
            "store": {"broken": core.store.broken, "trouble": trouble.as_dict() if trouble else None},
            "tampered": list(core.store.tampered),
            "tampering": core.store.tampering,
            "clock_set_back_seconds": core.clock.set_back_seconds,
            "checkpoints": {"problem": core.keeping.checkpoints.problem, "doubt": core.keeping.checkpoints.doubt},
            "policy": self._policy_status(),
            "upstreams": [self._upstream_status(name) for name in core.upstreams.names()],
            "agents": [{"name": name, "problem": why} for name, why in self._agents_without_token.items()],
            "warnings": [*core.catalog.warnings, *(self._oauth.warnings if self._oauth else ())],
        }

    def _policy_status(self) -> dict[str, Any]:
        files = self._core.policy_files
        problem = {"at": files.problem.at, "findings": files.problem.findings} if files.problem else None
        return {"version": self._core.decider.policy.version, "since": files.since, "problem": problem}

    def _upstream_status(self, name: str) -> dict[str, Any]:
        upstream = self._core.upstreams.get(name)
        if upstream is None:
            return {"name": name, "state": "down", "detail": "not there", "tools": 0}
        return {
            "name": name,
            "state": upstream.state,
            "detail": upstream.detail,
            "tools": len(upstream.tools),
            "sign_in": self._core.sign_ins.link(name),
        }

    def tools(self) -> list[dict[str, Any]]:
        """Every tool that agents may call, with its schema and the rules that name it."""
        core = self._core
        names = [
            f"{upstream.name}{SEPARATOR}{tool['name']}" for upstream in core.upstreams.all() for tool in upstream.tools
        ]
        entries = (core.catalog.find_by_name(name) for name in names)
        policy = core.decider.policy
        return [
            {
                "name": entry.name,
                "upstream": entry.upstream,
                "tool": entry.tool,
                "inputSchema": entry.input_schema,
                "decided_by": [rule.id for rule in policy.concerning(entry.name).rules],
            }
            for entry in entries
            if entry is not None
        ]

    def stop_for_good(self) -> None:
        """Stop because the operator said so: bridges must not start the gateway again."""
        self._state.mark_stopped()
        self.stopping.set()


async def serve(config_path: Path, announce: Callable[[Gateway], None]) -> None:
    """Run the gateway until a signal or `hitl-mcp stop` ends it; `announce` is called once it is ready.

    Raises:
        ConfigError, PolicyError: What the operator wrote cannot be used; nothing was started.
        StateDirectoryError: The state directory is open to others, or another gateway has it.
        StoreError: The database cannot be used.
    """
    written = read_files(config_path)
    state = StateDir.for_config(written.config.path)
    state.ensure()
    with state.acquire_gateway_lock():
        state.clear_stopped()
        async with (
            _core(written, state) as core,
            anyio.create_task_group() as tasks,
        ):
            async with _gateway(state, core, tasks) as gateway:
                # What was loaded stays for life: the collector need not walk it again at every call.
                gc.collect()
                gc.freeze()
                announce(gateway)
                await _until_stopped(gateway)
                await core.executor.drain(DRAIN_SECONDS)
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def _core(written: Written, state: StateDir) -> AsyncIterator[Core]:
    clock, evidence, signer = Clock(), Evidence.of(written.config, state), signer_of(state)
    seals_file = Path(state.file(SEALS_FILE))
    async with open_sqlite(evidence.record, clock, seals_file) as store, anyio.create_task_group() as tasks:
        cover_with(cover_of(written.config, written.secrets, store.access.seals.seal))
        checkpoints = Checkpoints(store, signer)
        await checkpoints.look_back()
        left = await store.recover()
        if left:
            logger.warning("%d calls were running when the gateway last stopped: their outcome is unknown", left)
        await store.expire_due()
        sign_ins = SignIns(state)
        upstreams = Upstreams(
            written.config.upstreams, written.secrets, directory=written.config.path.parent, sign_ins=sign_ins
        )
        decider = Decider(written.policy, written.config.people, clock)
        pins = await open_pins(store)
        catalog = Catalog(upstreams, lambda: decider.policy, pins)
        executor = Executor(store, upstreams, catalog, decider, clock, tasks)
        await executor.end_grants()
        clients = Clients(written.config.clients)
        gate = Gate(store, catalog, decider, executor, tasks, clients, Offers(upstreams))
        review = Review(store, written.config.people, clock, Edits(catalog, clients, decider))
        policy_files = PolicyFiles(written.config, written.policy_looks, decider, catalog, store, clock)
        tasks.start_soon(pins.run, store)
        tasks.start_soon(upstreams.run)
        tasks.start_soon(executor.run_approved)
        tasks.start_soon(Deadlines(store, clock).run)
        tasks.start_soon(Retention(store, written.config.retention).run)
        tasks.start_soon(store.search.run)
        tasks.start_soon(checkpoints.run)
        tasks.start_soon(policy_files.run)
        readings = Readings(store, catalog, decider, executor, clock)
        tasks.start_soon(Previews(store, readings, tasks).run)
        tasks.start_soon(Probes(store, readings, clock, tasks).run)
        yield Core(
            written=written,
            store=store,
            upstreams=upstreams,
            sign_ins=sign_ins,
            catalog=catalog,
            executor=executor,
            gate=gate,
            releasing=Releasing(gate, clock),
            review=review,
            clock=clock,
            decider=decider,
            policy_files=policy_files,
            pins=pins,
            keeping=Keeping(evidence, signer, checkpoints),
        )
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await checkpoints.sign_head()


@asynccontextmanager
async def _gateway(state: StateDir, core: Core, tasks: TaskGroup) -> AsyncIterator[Gateway]:
    """Open the doors, and close them again."""
    config = core.written.config
    page_sockets, has_name = open_page(config)
    agent_path, control_path = state.prepare_socket_paths()
    host, port = page_sockets[0].getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if not has_name:
        logger.warning("somebody else listens on port %d of this machine: no passkeys at %s", port, address)
    reached = RunningGateway(
        pid=os.getpid(),
        url=config.review.public_url or (f"http://localhost:{port}" if has_name else address),
        mcp_url=f"{address}/mcp" if config.http_enabled else None,
        agent_socket=agent_path,
        control_socket=control_path,
        config=str(config.path),
    )
    tokens, without_token = _agent_tokens(core.written)
    oauth = oauth_door(config.oauth, config.people, config.review.public_url) if config.oauth else None
    gateway = Gateway(state, core, reached, without_token, oauth)
    states = States(key_from_file(Path(state.file(SEALS_FILE))), core.clock)
    agents = AgentServer(_agent_parts(core, reached.url, tasks, states))
    over_http = AgentsOverHttp(agents, tokens if config.http_enabled else {}, oauth)
    parts = ApiParts(
        store=core.store,
        review=core.review,
        people=config.people,
        clock=core.clock,
        status=gateway.status,
        tools=gateway.tools,
        stop=gateway.stop_for_good,
        stopping=gateway.stopping,
        pins=core.pins,
        public_url=reached.url,
        keeping=core.keeping,
        batch_below=config.review.batch_below,
        evaluating=Evaluating(
            core.releasing, over_http.agent_of, config.wait_seconds, lambda call_id: f"{reached.url}/#call={call_id}"
        ),
    )
    core.sign_ins.open_at(config.review.public_url or address)
    routes = [*page_routes(parts), callback_route(core.sign_ins), *web_routes()]
    if config.http_enabled:
        routes.append(Route("/mcp", endpoint=over_http))
        if oauth is not None:
            routes += [Route(WELL_KNOWN + path, endpoint=oauth.resource, methods=["GET"]) for path in ("", "/mcp")]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(over_http.running())
        page = guarded(_application(routes), port=port, public_url=config.review.public_url)
        await stack.enter_async_context(_listening(page, *page_sockets))
        control = _application(control_routes(parts))
        await stack.enter_async_context(_listening(control, bind_private_socket(control_path)))
        agent_socket = AgentSocket(agents, config.path, os.getuid())
        tasks.start_soon(agent_socket.serve, bind_private_socket(agent_path), tasks)
        state.write_gateway(reached)
        stack.callback(state.clear_gateway)
        yield gateway


def _application(routes: list[Route]) -> Starlette:
    app = Starlette(routes=routes)
    # A redirect is made of the Host header and our own scheme, which behind a proxy is the wrong one.
    app.router.redirect_slashes = False
    return app


def _agent_parts(core: Core, url: str, tasks: TaskGroup, states: States) -> AgentParts:
    config = core.written.config

    def spawn(function: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
        tasks.start_soon(function, *arguments)

    def review_url(call_id: str) -> str:
        return f"{url}/#call={call_id}"

    return AgentParts(
        gate=core.gate,
        executor=core.executor,
        catalog=core.catalog,
        upstreams=core.upstreams,
        store=core.store,
        wait_seconds=core.written.config.wait_seconds,
        review_url=review_url,
        spawn=spawn,
        states=states,
        is_named=lambda name: core.decider.policy.names(name),
        asking=Asking(
            store=core.store,
            review=core.review,
            people=config.people,
            states=states,
            clock=core.clock,
            review_url=review_url,
            modes=frozenset(Mode(name) for name in config.ask_in_client),
        ),
        releasing=core.releasing,
    )


def _agent_tokens(written: Written) -> tuple[dict[str, str], dict[str, str]]:
    """Every agent's bearer token, and why an agent has none. One token for two agents names neither."""
    resolved: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name, agent in written.config.people.agents.items():
        if agent.token is None:
            continue
        try:
            resolved[name] = written.secrets.resolve(agent.token)
        except UnresolvedSecret as error:
            problems[name] = error.message
    uses = Counter(resolved.values())
    for name, key in resolved.items():
        if uses[key] > 1:
            problems[name] = "another agent has the same token"
    for name, why in problems.items():
        logger.warning("agent %s cannot use /mcp: %s", name, why)
    return {name: key for name, key in resolved.items() if name not in problems}, problems


class _Uvicorn(uvicorn.Server):
    """Signals are the gateway's, not each server's; and it says when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _listening(app: ASGIApp, *listeners: socket.socket) -> AsyncIterator[None]:
    """Serve an app on bound sockets while this is open."""
    settings = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    server = _Uvicorn(settings)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [*listeners])
        await server.ready.wait()
        try:
            yield
        finally:
            server.should_exit = True


async def _until_stopped(gateway: Gateway) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch_signals, gateway.stopping)
        await gateway.stopping.wait()
        tasks.cancel_scope.cancel()


async def _watch_signals(stopping: anyio.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for _ in signals:
            stopping.set()
