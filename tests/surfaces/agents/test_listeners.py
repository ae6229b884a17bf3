"""Who is told of changes, and how often."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
from mcp.server.session import ServerSession
from mcp.shared.subscriptions import ResourcesListChanged

from hitl_mcp.secrets import Secrets
from hitl_mcp.surfaces.agents.asked import Caller, ClientRequest
from hitl_mcp.surfaces.agents.listeners import Listeners
from hitl_mcp.surfaces.agents.relay import Relay
from hitl_mcp.upstreams import Upstreams


class Reader:
    """The SDK's end of a client that was told, and reads, or does not."""

    def __init__(self, *, reads: bool = True) -> None:
        self.told = 0
        self._reads = reads
        self.hears = anyio.Event()

    async def send_resource_list_changed(self) -> None:
        """As the SDK's session has it."""
        self.told += 1
        self.hears.set()
        if not self._reads:
            await anyio.sleep_forever()


async def no_rule(asked: ClientRequest, name: str, params: dict[str, Any]) -> dict[str, Any]:
    """No rule names anything here."""
    raise AssertionError(name)


@asynccontextmanager
async def listening(*readers: Reader) -> AsyncIterator[Listeners]:
    """Those that are told, while these clients are connected."""
    relay = Relay(Upstreams({}, Secrets({}, Path("/"))), lambda name: False, no_rule)
    async with anyio.create_task_group() as tasks:
        listeners = Listeners(relay, lambda *work: tasks.start_soon(*work) and None)
        callers = [Caller("builder", str(number)) for number, _ in enumerate(readers)]
        with ExitStack() as stack:
            for caller, reader in zip(callers, readers, strict=True):
                caller.legacy_session = cast(ServerSession, reader)
                stack.enter_context(listeners.connected(caller))
            yield listeners
        tasks.cancel_scope.cancel()


async def test_of_a_flood_of_the_same_news_clients_hear_a_few_times() -> None:
    """The last one says it all, and one that does not read has it before it already. The others still hear."""
    reader, stuck = Reader(), Reader(reads=False)
    with anyio.fail_after(20):
        async with listening(stuck, reader) as listeners:
            for _ in range(3):
                reader.hears = anyio.Event()
                for _ in range(1000):
                    listeners.tell(ResourcesListChanged())
                await reader.hears.wait()
    assert reader.told == 3
    assert stuck.told == 1
