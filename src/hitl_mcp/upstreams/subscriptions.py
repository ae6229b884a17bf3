"""How a connection hears of changes: of what its upstream lists, and of single resources, in the words of its era."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import anyio
from mcp.client.subscriptions import SubscriptionLost, listen
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

from hitl_mcp.errors import UpstreamError
from hitl_mcp.limits import RESTART_BACKOFF_SECONDS, WATCH_SECONDS

if TYPE_CHECKING:
    from hitl_mcp.upstreams.connect import Connection

__all__ = ["Subscriptions"]

logger = logging.getLogger(__name__)


class Subscriptions:
    """Those of one connection; what is heard is handed to it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._watched: dict[str, anyio.CancelScope] = {}

    async def listen(self) -> None:
        """Stay subscribed to changes of what is listed, for ever, where the upstream is modern and offers it."""
        mcp_session = self._connection.live_session()
        wanted = self._wanted_news() if self._connection.is_modern else {}
        if not wanted:
            return
        failures = 0
        while self._connection.lost_because is None:
            try:
                async with listen(mcp_session, **wanted) as subscription:
                    async for event in subscription:
                        failures = 0
                        self._heard(event)
            except (MCPError, SubscriptionLost) as error:
                logger.info("upstream `%s`: the subscription ended: %s", self._connection.name, error)
            await anyio.sleep(RESTART_BACKOFF_SECONDS[min(failures, len(RESTART_BACKOFF_SECONDS) - 1)])
            failures += 1
            self._connection.tools_changed()  # what was announced in between was not heard

    def _wanted_news(self) -> dict[str, Any]:
        offered = self._connection.live_session().server_capabilities
        kinds = {
            "tools_list_changed": offered and offered.tools,
            "resources_list_changed": self._connection.config.resources and offered and offered.resources,
            "prompts_list_changed": self._connection.config.prompts and offered and offered.prompts,
        }
        return {kind: True for kind, capability in kinds.items() if capability and capability.list_changed}

    def _heard(self, event: ServerEvent) -> None:
        if isinstance(event, ToolsListChanged):
            self._connection.tools_changed()
        elif isinstance(event, ResourcesListChanged):
            self._connection.announced("notifications/resources/list_changed", {})
        elif isinstance(event, PromptsListChanged):
            self._connection.announced("notifications/prompts/list_changed", {})
        elif isinstance(event, ResourceUpdated):
            self._connection.announced("notifications/resources/updated", {"uri": event.uri})

    # Resources that are watched.

    async def watch(self, uri: str) -> None:
        """Have the upstream say when this resource changes.

        Raises:
            MCPError: The upstream refused.
            UpstreamError: It cannot be reached, or gave no usable answer.
        """
        if self._connection.is_modern:
            started = anyio.Event()
            scope = self._watched[uri] = anyio.CancelScope()  # now: it may be taken back before the task begins
            self._connection.live_wire().spawn(self._listen_to, uri, scope, started)
            with anyio.move_on_after(WATCH_SECONDS):
                await started.wait()
        else:
            await self._connection.ask("resources/subscribe", {"uri": uri})

    async def _listen_to(self, uri: str, scope: anyio.CancelScope, started: anyio.Event) -> None:
        with scope:
            try:
                async with listen(self._connection.live_session(), resource_subscriptions=[uri]) as subscription:
                    started.set()
                    async for event in subscription:
                        self._heard(event)
            except (MCPError, SubscriptionLost) as error:
                logger.info(
                    "upstream `%s`: it does not say any more when a resource changes: %s", self._connection.name, error
                )
            finally:
                started.set()
                if self._watched.get(uri) is scope:
                    del self._watched[uri]

    def unwatch(self, uri: str) -> None:
        """Do not hear of this resource any more."""
        if uri in self._watched:
            self._watched[uri].cancel()
        elif not self._connection.is_modern:
            self._connection.live_wire().spawn(self._unwatch, uri)

    async def _unwatch(self, uri: str) -> None:
        try:
            await self._connection.ask("resources/unsubscribe", {"uri": uri})
        except (MCPError, UpstreamError) as error:
            logger.info("upstream `%s`: it did not take back a subscription: %s", self._connection.name, error)

    async def watch_all(self, uris: Iterable[str]) -> None:
        """As `watch`, after the connection before this one was lost."""
        for uri in uris:
            try:
                await self.watch(uri)
            except (MCPError, UpstreamError) as error:
                logger.warning(
                    "upstream `%s`: it does not say any more when a resource changes: %s", self._connection.name, error
                )
