"""A gateway in front of upstreams that ask and offer everything, of each era and over each transport."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import mcp_types as t
from mcp.client import ClientRequestContext

from tests.gateways import WAIT_SECONDS, Site, free_port, site
from tests.stories.doors import AGENTS
from tests.stories.servers import curious_server
from tests.stories.servers.curious_server import Curious, over_http
from tests.upstreams.stage import serving

ROOT = Path(__file__).resolve().parents[2]

POLICY: dict[str, Any] = {
    "version": 1,
    "default": "hold",
    "rules": [
        {"id": "free", "tool": "*__*", "effect": "allow", "reason": "the tests ask for it"},
        {
            "id": "told",
            "tool": "*__ask",
            "effect": "hold",
            "when": "'held' in args",
            "roles": ["finance"],
            "reason": "it says so",
        },
    ],
}


@dataclass
class Town:
    """The gateway, and the upstreams that can be looked into from here: those over HTTP by name, programs by record."""

    site: Site
    apps: dict[str, Curious] = field(default_factory=dict)

    def heard(self, name: str) -> list[list[Any]]:
        """What an upstream noted: what it was answered, and what it was told to stop."""
        if name in self.apps:
            return list(self.apps[name].heard)
        path = self.site.folder / f"{name}.record"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def hears(self, name: str, *note: Any) -> None:
        """Wait until an upstream noted this."""
        with anyio.fail_after(WAIT_SECONDS):
            while list(note) not in self.heard(name):
                await anyio.sleep(0)


def program(folder: Path, name: str, *options: str, **more: Any) -> dict[str, Any]:
    """The curious server as a program, as the config wants it."""
    args = [curious_server.__file__, name, "--record", str(folder / f"{name}.record"), *options]
    return {"command": sys.executable, "args": args, "env": {"PYTHONPATH": str(ROOT)}, **more}


@asynccontextmanager
async def town(
    apps: dict[str, tuple[str, dict[str, Any]]], programs: dict[str, tuple[tuple[str, ...], dict[str, Any]]]
) -> AsyncIterator[Town]:
    """A gateway with these upstreams: apps by name, with era and config; programs by name, with options and config."""
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name:
        folder = Path(name)
        upstreams: dict[str, Any] = {
            one: program(folder, one, *given, **more) for one, (given, more) in programs.items()
        }
        curious = {one: Curious(one) for one in apps}
        async with AsyncExitStack() as stack:
            for one, (era, more) in apps.items():
                address = await stack.enter_async_context(serving(over_http(curious[one], era)))
                upstreams[one] = {"url": f"{address}/mcp", **more}
            upstreams["away"] = {"url": f"http://127.0.0.1:{free_port()}/mcp"}
            options: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}, "wait_seconds": 1}
            with site(folder, POLICY, upstreams=upstreams, **options) as made:
                await made.start()
                yield Town(made, curious)


@dataclass
class Owner:
    """Whoever sits before a client that can be asked everything: what was asked, and what is answered."""

    name: str
    asked: list[Any] = field(default_factory=list)
    looks: anyio.Event = field(default_factory=anyio.Event)
    answers: anyio.Event = field(default_factory=anyio.Event)

    def options(self) -> dict[str, Any]:
        """A client's options."""
        self.answers.set()
        return {
            "elicitation_callback": self.elicit,
            "sampling_callback": self.sample,
            "list_roots_callback": self.roots,
        }

    async def elicit(self, context: ClientRequestContext, asked: t.ElicitRequestParams) -> t.ElicitResult:
        """Fill in a form, or agree to open a page."""
        await self._looked(asked)
        is_form = isinstance(asked, t.ElicitRequestFormParams)
        return t.ElicitResult(action="accept", content={"size": self.name} if is_form else None)

    async def sample(self, context: ClientRequestContext, asked: t.CreateMessageRequestParams) -> t.CreateMessageResult:
        """Have a model write something."""
        await self._looked(asked)
        words = t.TextContent(text=f"a poem by {self.name}")
        return t.CreateMessageResult(role="assistant", content=words, model="m", stop_reason="endTurn")

    async def roots(self, context: ClientRequestContext) -> t.ListRootsResult:
        """Name the folder."""
        await self._looked("roots")
        return t.ListRootsResult(roots=[t.Root.model_validate({"uri": f"file:///home/{self.name}"})])

    async def _looked(self, asked: Any) -> None:
        self.asked.append(asked)
        self.looks.set()
        await self.answers.wait()

    def answer_to(self, kind: str) -> dict[str, Any]:
        """What reaches the upstream."""
        answers: dict[str, dict[str, Any]] = {
            "form": {"action": "accept", "content": {"size": self.name}},
            "link": {"action": "accept"},
            "sample": {
                "role": "assistant",
                "content": {"type": "text", "text": f"a poem by {self.name}"},
                "model": "m",
                "stopReason": "endTurn",
            },
            "roots": {"roots": [{"uri": f"file:///home/{self.name}"}]},
        }
        return answers[kind]
