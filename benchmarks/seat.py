"""The reviewer's seat over a full store: what each request of the page takes the gateway, and the first paint."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread
import httpx2
import uvicorn
from starlette.applications import Starlette

from benchmarks.figures import Figure
from benchmarks.filled import fill
from hitl_mcp.clock import Clock
from hitl_mcp.people import People, Reviewer
from hitl_mcp.pins import open_pins
from hitl_mcp.review import Review
from hitl_mcp.store import SqliteStore, open_sqlite
from hitl_mcp.surfaces.api import ApiParts, control_routes, page_routes
from hitl_mcp.surfaces.doors import guarded
from hitl_mcp.surfaces.web import web_routes
from tests import needs

WAITING = 10_000

PEOPLE = People(reviewers={"dana": Reviewer("dana", frozenset({"finance", "admin"}))})

SETTLED = "approved,running,released,succeeded,failed,denied,rejected,expired,withdrawn,invalidated"

QUEUE = (
    "/api/me",
    "/api/status",
    "/api/calls?brief=true&status=held&sort=urgency&limit=50",
    "/api/calls?brief=true&status=unknown&limit=50",
    f"/api/calls?brief=true&status={SETTLED}&limit=20",
)
"""What the page asks for when it opens."""

CALL = ("/api/calls/{id}/shown", "/api/calls/{id}/context")
"""What it asks for when a call is opened."""

LISTS = (
    "/api/queue?limit=50",
    "/api/calls?brief=true&status=rejected&agent=agent-3&limit=50",
    "/api/calls?brief=true&name=local__pay&limit=50",
    "/api/calls?brief=true&reviewer=dana&limit=50",
    "/api/agents",
    "/api/used-tools",
)
"""The queue in figures, for filters and groups; pages of the history, of the agents and of the tools."""

SEARCHES = {
    "a title that one call has": "note 123456",
    "words that no call holds": "a text that no call holds",
    "a word that every call holds": "customer",
    "letters that stand in every call, and in no call together": "desksandlamps",
    "a number that few calls hold": '"amount":4711',
}

PAINTS = 5

PAINT = (
    "() => new Promise(done => { const look = () => { const [paint] = performance.getEntriesByName("
    "'first-contentful-paint'); paint ? done(paint.startTime) : requestAnimationFrame(look); }; look(); })"
)


@dataclass
class Seat:
    """A gateway's page over one store, on a port and on a control socket that is none."""

    url: str
    control: httpx2.AsyncClient
    figures: list[Figure] = field(default_factory=list)

    async def measure(self, group: str, rounds: int) -> None:
        """Ask for everything, so many times."""
        held = (await self.control.get("/api/calls?status=held&sort=urgency&limit=1")).json()["calls"][0]["id"]
        pages = {
            "the queue, all that the page asks for": QUEUE,
            "a call, all that the page asks for": tuple(path.format(id=held) for path in CALL),
            **{path.partition("?")[0] + " " + path.partition("?")[2]: (path,) for path in (*QUEUE, *LISTS)},
        }
        for name, paths in pages.items():
            figure = Figure(group, name, "ms")
            for _ in range(rounds):
                figure.gateway.append(sum([await self._asked(path) for path in paths]))
            self.figures.append(figure)
        for name, text in SEARCHES.items():
            figure = Figure(group, f"a search: {name}", "ms")
            for _ in range(rounds):
                figure.gateway.append(await self._asked("/api/calls?brief=true", q=text))
            self.figures.append(figure)

    async def _asked(self, path: str, **query: str) -> float:
        """Milliseconds of one request, from the first byte in to the last byte out; no network is between."""
        url = httpx2.URL(path)
        began = time.perf_counter()
        answer = await self.control.get(url.copy_merge_params(query) if query else url)
        taken = (time.perf_counter() - began) * 1000
        if answer.status_code != 200:
            raise RuntimeError(f"{path} answered {answer.status_code}: this would measure something else")
        return taken

    async def paint(self, group: str) -> None:
        """The first contentful paint of the page, and until the queue stands in it, in this machine's Chromium."""
        if needs.chromium() is None:
            return
        from playwright.async_api import async_playwright

        first, filled = Figure(group, "first paint of the page", "ms"), Figure(group, "until the queue is there", "ms")
        link = (await self.control.post("/api/links", json={"for": "dana"})).json()["url"]
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=needs.needed("chromium"), args=["--no-sandbox"])
            page = await browser.new_page()
            await page.goto(link)
            await page.wait_for_selector("a.row")
            for _ in range(PAINTS):
                began = time.perf_counter()
                await page.goto(f"{self.url}/?{time.monotonic_ns()}")
                first.gateway.append(float(await page.evaluate(PAINT)))
                await page.wait_for_selector("a.row")
                filled.gateway.append((time.perf_counter() - began) * 1000)
            await browser.close()
        self.figures += [first, filled]


@asynccontextmanager
async def seat_over(store: SqliteStore, clock: Clock) -> AsyncIterator[Seat]:
    """Serve the page over a store until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    parts = ApiParts(
        store=store,
        review=Review(store, PEOPLE, clock),
        people=PEOPLE,
        status=lambda: {"upstreams": [], "paused": None, "policy": {"problem": None}},
        stop=lambda: None,
        clock=clock,
        public_url=f"http://localhost:{port}",
        stopping=anyio.Event(),
        pins=await open_pins(store),
    )
    app = guarded(Starlette(routes=[*page_routes(parts), *web_routes()]), port=port, public_url=None)
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
    )
    async with AsyncExitStack() as stack:
        transport = httpx2.ASGITransport(Starlette(routes=control_routes(parts)))
        control = await stack.enter_async_context(httpx2.AsyncClient(transport=transport, base_url="http://control"))
        with listener:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server._serve, [listener])
                yield Seat(f"http://localhost:{port}", control)
                parts.stopping.set()
                server.should_exit = True


async def take_in(store: SqliteStore) -> float:
    """Have everything searched quickly; returns the seconds of work a thousand calls."""
    await store.search.begin()
    began = time.perf_counter()
    while await store.search.take_in():
        pass
    with suppress(OSError):
        await store.search.flush()
    return time.perf_counter() - began


async def measure(rounds: int, records: int, path: Path | None = None) -> list[Figure]:
    """Make the database, measure, and remove it; one that lies at `path` already is measured and stays."""
    group = f"{WAITING:,} waiting, {records:,} settled"
    with tempfile.TemporaryDirectory() as folder:
        database = path or Path(folder, "calls.db")
        clock = Clock()
        if path is None or not path.exists():
            async with open_sqlite(database, clock):
                pass
            await anyio.to_thread.run_sync(fill, database, records, min(WAITING, records))
        async with open_sqlite(database, clock) as store:
            taken = Figure(group, "taking a call into the files for searching", "µs")
            taken.gateway.append(await take_in(store) / records * 1_000_000)
            files = [file for file in database.parent.glob("calls.db*/*") if file.is_file()]
            size = Figure(group, "files for searching", "MiB")
            size.gateway.append(sum(file.stat().st_size for file in files) / 2**20)
            async with seat_over(store, clock) as seat:
                await seat.measure(group, rounds)
                await seat.paint(group)
            return [taken, size, *seat.figures]


def table_of(figures: Sequence[Figure]) -> str:
    """The figures as plain lines."""
    return "\n".join(f"{one.as_dict()['gateway']:10.1f} {one.unit}  {one.name}" for one in figures)
