"""The stage of page attacks: a reviewer signed in with a call before her, and beside it pages of somebody else.

The other pages stand on another port of the same machine, under both of its names: the closest a foreign page gets.
They know the gateway's address, the held call's id and digest, and even the reviewer's key.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from hitl_mcp.calls import CallRecord, Status
from tests.clocks import HandClock
from tests.surfaces.desk import Desk, open_desk, serving
from tests.surfaces.seats import Seat, seat_at

SECRET = "MARK-7719: the arguments of a held call"
"""What no other page may ever read."""

EMPTY = "<!doctype html><title>harmless</title><body></body>"


@dataclass
class Stage:
    """What an attack has before it."""

    desk: Desk
    dana: Seat
    evil: Page
    evil_port: int
    record: CallRecord
    key: str
    heard: list[str] = field(default_factory=list)

    @property
    def knows(self) -> dict[str, str]:
        """What every attack knows."""
        return {
            "base": self.desk.url,
            "other": self.desk.url.replace("127.0.0.1", "localhost"),
            "evil": f"http://127.0.0.1:{self.evil_port}",
            "id": self.record.id,
            "digest": self.record.digest,
            "key": self.key,
            "body": f'{{"verdict":"approve","digest":"{self.record.digest}"}}',
        }

    def places(self) -> list[str]:
        """Where the attacker's page stands: another port under either name, which for a browser are two sites."""
        return [f"http://{name}:{self.evil_port}/" for name in ("127.0.0.1", "localhost")]

    def opened(self) -> list[Page]:
        """The windows that attacks opened."""
        return [page for page in self.evil.context.pages if page not in (self.dana.page, self.evil)]

    async def try_from(self, place: str, script: str) -> str:
        """Run an attacker's script in a page of theirs; what it could read comes back."""
        for page in self.opened():
            await page.close()
        await self.evil.goto(
            place
        )  # anew: a browser opens six connections to one place, and attacks leave some hanging
        return str(await self.evil.evaluate(TRYING % script, self.knows))

    async def nothing_came_of_it(self, read: str = "") -> None:
        """Nothing was read, decided, stopped or signed; and nothing reached the attacker's server."""
        now = await self.desk.store.get(self.record.id)
        assert (now.status, now.version, now.verdicts) == (Status.HELD, self.record.version, ())
        assert self.desk.store.paused is None and self.desk.stopped == []
        assert await self.signed_in() == 1
        for said in (read, *self.heard):
            assert "MARK-7719" not in said
        for said in self.heard:
            assert self.key not in said

    async def signed_in(self) -> int:
        """How many sign-ins there are."""
        async with self.desk.program(headers={"authorization": f"Bearer {self.key}"}) as http:
            answer = (await http.get("/api/sign-ins")).raise_for_status()
        return len(answer.json()["sign_ins"])


TRYING = """async (knows) => {
  const told = [];
  const tell = (what) => told.push(String(what));
  const patience = new Promise((done) => setTimeout(done, 1500));
  try { await Promise.race([(async () => { %s })(), patience]); } catch (error) { tell(error.name); }
  return told.join("\\n");
}"""
"""An attack may wait for what never comes: the browser refuses many things without saying so."""


@asynccontextmanager
async def on_stage(folder: Path, browser: Browser) -> AsyncIterator[Stage]:
    """The stage, set once for a whole file of attacks."""
    heard: list[str] = []

    async def anything(http: Request) -> HTMLResponse:
        heard.append(f"{http.method} {http.url} {dict(http.headers)} {(await http.body()).decode('utf-8', 'replace')}")
        return HTMLResponse(EMPTY)

    listener = socket.create_server(("127.0.0.1", 0))
    routes = [Route("/{rest:path}", anything, methods=["GET", "POST", "PUT", "OPTIONS"])]
    async with open_desk(folder / "hitl.db", HandClock()) as desk:
        record = await desk.hold({"note": SECRET})
        async with serving(Starlette(routes=routes), listener), seat_at(desk, browser) as dana:
            await dana.sign_in("dana", f"&call={record.id}")
            await dana.ready_to_approve()
            key = str(await dana.page.evaluate("localStorage.getItem('hitl-mcp.key')"))
            evil = await dana.page.context.new_page()
            port = listener.getsockname()[1]
            await evil.goto(f"http://127.0.0.1:{port}/")
            yield Stage(desk, dana, evil, port, record, key, heard)


async def refused_by(http: Any) -> str:
    """The code of a refusal."""
    return str(http.json()["error"]["code"])
