"""What upstreams offer beside tools, passed on as it is: resources, prompts, completion, and their logs' level.

A resource keeps its URI, and it is found out whose it is; a prompt's name begins with its upstream's, as a tool's does.
What may pass is said by the config's switches and by the policy's rules for `resource:` and `prompt:`.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any, get_args

import anyio
import anyio.lowlevel
import mcp_types as types
from mcp.shared.exceptions import MCPError
from mcp_types.methods import validate_server_result
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION
from pydantic import ValidationError

from hitl_mcp.catalog import SEPARATOR
from hitl_mcp.errors import UpstreamError
from hitl_mcp.limits import LIST_SECONDS, PAGE_ENTRIES, TOOL_PAGES
from hitl_mcp.surfaces.agents.asked import ClientRequest
from hitl_mcp.surfaces.agents.questions import Dialogue
from hitl_mcp.surfaces.agents.uris import Directory
from hitl_mcp.upstreams import Upstream, Upstreams

logger = logging.getLogger(__name__)

LEVELS_KEPT = 1000
"""Conversations whose log level is remembered; the oldest is forgotten first, and hears everything then."""

_ENTRIES_IN_A_TURN = 50
"""Entries of a list that are checked in one go: a millisecond or two."""

CallOffer = Callable[[ClientRequest, str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Reads an offer, by its full name and its params, as a call that is decided and recorded."""

_LISTS = {
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}
"""Under which key each list has its entries."""


class Relay:
    """Passes requests on that are no calls."""

    def __init__(self, upstreams: Upstreams, is_named: Callable[[str], bool], call: CallOffer) -> None:
        """`is_named` tells by the full name of an offer whether the policy has rules for it; `call` reads it then."""
        self._upstreams = upstreams
        self._is_named = is_named
        self._call = call
        self._directory = Directory(upstreams.names())
        self._looked_at: set[str] = set()
        self._levels: OrderedDict[str, str] = OrderedDict()

    # Lists.

    async def page(self, method: str, asked: ClientRequest) -> dict[str, Any]:
        """One page of what all upstreams list together, one upstream after the other.

        Raises:
            MCPError: The cursor is none of ours.
        """
        offering = self._offering(method)
        index, cursor = _position(asked.params.get("cursor"), offering)
        key = _LISTS[method]
        empty = 0
        while index < len(offering):
            upstream = offering[index]
            page = await self._page(upstream, method, asked, cursor)
            cursor = page.get("nextCursor") if isinstance(page.get("nextCursor"), str) else None
            following = index if cursor is not None else index + 1
            entries = await self._shown(upstream, method, page.get(key))
            empty += 1
            if entries or following >= len(offering) or empty >= TOOL_PAGES:
                rest = {name: value for name, value in page.items() if name not in (key, "nextCursor")}
                more = _cursor(offering[following].name, cursor) if following < len(offering) else None
                return {**rest, key: entries, **({"nextCursor": more} if more else {})}
            index = following
        return {key: []}

    async def _page(self, upstream: Upstream, method: str, asked: ClientRequest, cursor: str | None) -> dict[str, Any]:
        """A page of one upstream; an empty one where it gives none, so that it costs the others nothing."""
        params = {**_meta(asked), **({"cursor": cursor} if cursor is not None else {})}
        problem = MCPError(
            types.INTERNAL_ERROR, f"upstream `{upstream.name}` gave no answer to `{method}` within {LIST_SECONDS} s"
        )
        with anyio.move_on_after(LIST_SECONDS):
            try:
                return await self._send(upstream, method, params, asked)
            except MCPError as error:
                problem = error
        if cursor is not None:
            raise problem
        logger.warning("upstream `%s` did not answer `%s`: %s", upstream.name, method, problem.message)
        return {}

    async def _shown(self, upstream: Upstream, method: str, entries: object) -> list[dict[str, Any]]:
        """The entries as agents see them; one that cannot be passed on is left out, and so are those of a flood."""
        listed = entries if isinstance(entries, list) else []
        if len(listed) > PAGE_ENTRIES:
            logger.warning("upstream `%s`: a page of `%s` is cut at %d entries", upstream.name, method, PAGE_ENTRIES)
        shown = []
        for number, entry in enumerate(listed[:PAGE_ENTRIES]):
            if number % _ENTRIES_IN_A_TURN == 0:
                await anyio.lowlevel.checkpoint()  # checking them all takes long, and calls of others go on meanwhile
            if method == "prompts/list" and isinstance(entry, dict):
                entry = {**entry, "name": f"{upstream.name}{SEPARATOR}{entry.get('name')}"}
            if not _is_relayable(method, entry):
                logger.warning("upstream `%s`: an entry of `%s` cannot be passed on", upstream.name, method)
                continue
            self._directory.learn(upstream.name, entry)
            shown.append(entry)
        return shown

    # One of them.

    async def read(self, asked: ClientRequest) -> dict[str, Any]:
        """`resources/read`.

        Raises:
            MCPError: There is no such resource, or its upstream refused.
        """
        uri = str(asked.params["uri"])
        upstream = await self._owner(asked, uri)
        name = f"resource:{upstream.name}:{uri}"
        if self._is_named(name):
            return await self._call(asked, name, {"uri": uri})
        return await self._send(upstream, "resources/read", _as_asked(asked), asked)

    async def prompt(self, asked: ClientRequest) -> dict[str, Any]:
        """`prompts/get`.

        Raises:
            MCPError: There is no such prompt, or its upstream refused.
        """
        upstream, name = self._prompt_of(asked.name)
        full_name = f"prompt:{upstream.name}:{name}"
        if self._is_named(full_name):
            arguments = {"arguments": dict(asked.arguments)} if asked.arguments else {}
            return await self._call(asked, full_name, {"name": name, **arguments})
        return await self._send(upstream, "prompts/get", {**_as_asked(asked), "name": name}, asked)

    async def complete(self, asked: ClientRequest) -> dict[str, Any]:
        """`completion/complete`, of a prompt's argument or a resource template's.

        Raises:
            MCPError: There is no such prompt or template, or its upstream refused.
        """
        about: Mapping[str, Any] = asked.params["ref"]
        if about.get("type") == "ref/prompt":
            upstream, name = self._prompt_of(str(about.get("name")))
            about = {**about, "name": name}
        else:
            upstream = await self._owner(asked, str(about.get("uri")))
        return await self._send(upstream, "completion/complete", {**_as_asked(asked), "ref": dict(about)}, asked)

    async def _owner(self, asked: ClientRequest, uri: str) -> Upstream:
        """Whose resource this is: found in what they list, which is asked for where it is not known yet."""
        offering = self._offering("resources/list")
        if len(offering) == 1:
            return offering[0]
        # Once they were all looked at, so that the order of the config counts, and not who was asked for a list first.
        new = [upstream for upstream in offering if upstream.name not in self._looked_at]
        await self._learn(new, asked)
        name = self._directory.owner_of(uri)
        if name is None and not new:
            await self._learn(offering, asked)
            name = self._directory.owner_of(uri)
        found = next((upstream for upstream in offering if upstream.name == name), None)
        if found is None:
            code = types.INVALID_PARAMS if asked.is_modern else _RESOURCE_NOT_FOUND
            raise MCPError(code, "no upstream lists this resource", {"uri": uri})
        return found

    async def _learn(self, upstreams: list[Upstream], asked: ClientRequest) -> None:
        """Look at what they list, at all of them at once: one that does not answer must not hold up the others."""
        async with anyio.create_task_group() as tasks:
            for upstream in upstreams:
                for method in ("resources/list", "resources/templates/list"):
                    tasks.start_soon(self._learn_from, upstream, method, asked)
        self._looked_at.update(upstream.name for upstream in upstreams)

    async def _learn_from(self, upstream: Upstream, method: str, asked: ClientRequest) -> None:
        cursor: str | None = None
        with anyio.move_on_after(LIST_SECONDS):
            for _ in range(TOOL_PAGES):
                try:
                    page = await self._page(upstream, method, asked, cursor)
                except MCPError as error:
                    logger.warning("upstream `%s`: its list breaks off: %s", upstream.name, error.message)
                    return
                await self._shown(upstream, method, page.get(_LISTS[method]))
                cursor = page.get("nextCursor") if isinstance(page.get("nextCursor"), str) else None
                if cursor is None:
                    return

    def _prompt_of(self, shown: str) -> tuple[Upstream, str]:
        upstream_name, _, name = shown.partition(SEPARATOR)
        upstream = next((one for one in self._offering("prompts/list") if one.name == upstream_name), None)
        if upstream is None or not name:
            raise MCPError(types.INVALID_PARAMS, f"no upstream has a prompt `{shown[:100]}`")
        return upstream, name

    def _offering(self, method: str) -> list[Upstream]:
        """The upstreams that offer this kind of thing now, and whose config lets it pass."""
        kind = method.partition("/")[0]
        found = []
        for upstream in self._upstreams.all():
            offered = upstream.capabilities
            is_on = upstream.config.prompts if kind == "prompts" else upstream.config.resources
            if is_on and offered is not None and getattr(offered, kind) is not None:
                found.append(upstream)
        return found

    # Subscriptions.

    @asynccontextmanager
    async def subscribed(self, asked: ClientRequest, uris: list[str]) -> AsyncIterator[None]:
        """Have upstreams say when one of these resources changes, while the context is open."""
        with ExitStack() as taken:
            for uri in uris:
                upstream = await self.subscribe(asked, uri)
                taken.callback(upstream.unsubscribe, uri)
            yield

    async def subscribe(self, asked: ClientRequest, uri: str) -> Upstream:
        """Have the upstream of a resource say when it changes; whoever asks for that takes it back there.

        Raises:
            MCPError: There is no such resource, or its upstream refused.
        """
        upstream = await self._owner(asked, uri)
        try:
            await upstream.subscribe(uri)
        except UpstreamError as error:
            raise MCPError(types.INTERNAL_ERROR, error.message) from None
        return upstream

    def forget(self, upstream: Upstream) -> None:
        """Its resources changed: whose is whose is found out anew."""
        self._directory.forget(upstream.name)

    # Roots.

    async def roots_changed(self, conversation: str) -> None:
        """Tell the upstreams that know this client's roots that they are others now."""
        async with anyio.create_task_group() as tasks:
            for upstream in self._upstreams.all():
                tasks.start_soon(upstream.roots_changed, conversation)

    # Logs.

    def log_level_of(self, asked: ClientRequest) -> str | None:
        """From which level on this client wants to hear the log; one with a handshake hears all until it says so."""
        return asked.log_level if asked.is_modern else self._levels.get(asked.caller.conversation, "debug")

    async def set_level(self, asked: ClientRequest) -> None:
        """`logging/setLevel`: upstreams that know it are told the lowest level that anybody asked for."""
        self._levels[asked.caller.conversation] = str(asked.params["level"])
        self._levels.move_to_end(asked.caller.conversation)
        if len(self._levels) > LEVELS_KEPT:
            self._levels.popitem(last=False)
        lowest = min(self._levels.values(), key=_LEVELS.index)
        async with anyio.create_task_group() as tasks:
            for upstream in self._upstreams.all():
                tasks.start_soon(upstream.set_log_level, lowest)

    # Sending.

    async def _send(
        self, upstream: Upstream, method: str, params: dict[str, Any], asked: ClientRequest
    ) -> dict[str, Any]:
        asker = Dialogue(asked, self.log_level_of(asked), parks=False).asker
        try:
            return await upstream.request(method, params, asker, asked.caller.conversation)
        except UpstreamError as error:
            raise MCPError(types.INTERNAL_ERROR, error.message) from None


_RESOURCE_NOT_FOUND = -32002
"""As the revisions before 2026-07-28 say it."""

_LEVELS: tuple[str, ...] = get_args(types.LoggingLevel)


def _as_asked(asked: ClientRequest) -> dict[str, Any]:
    """The client's params with nothing of this hop in them."""
    return {**{key: value for key, value in asked.params.items() if key != "_meta"}, **_meta(asked)}


def _meta(asked: ClientRequest) -> dict[str, Any]:
    return {"_meta": asked.meta} if asked.meta else {}


def _is_relayable(method: str, entry: object) -> bool:
    page = {_LISTS[method]: [entry], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    try:
        for revision in (LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION):
            validate_server_result(method, revision, page)
    except (ValidationError, ValueError):
        return False
    return True


def _cursor(upstream: str, cursor: str | None) -> str:
    return base64.urlsafe_b64encode(json.dumps([upstream, cursor]).encode()).decode()


def _position(cursor: object, offering: list[Upstream]) -> tuple[int, str | None]:
    """Where a list goes on: at which upstream, and at which of its own cursors."""
    if cursor is None:
        return 0, None
    try:
        name, theirs = json.loads(base64.urlsafe_b64decode(str(cursor)))
        index = [upstream.name for upstream in offering].index(name)
    except (ValueError, TypeError, binascii.Error):
        raise MCPError(types.INVALID_PARAMS, "$.params.cursor: it is none of this list") from None
    return index, theirs if isinstance(theirs, str) else None
