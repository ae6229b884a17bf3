"""Lists of several upstreams as one, and what one of them does wrong costs the others nothing."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hitl_mcp.config import UpstreamConfig
from hitl_mcp.limits import PAGE_ENTRIES, TOOL_PAGES
from hitl_mcp.surfaces.agents.asked import Caller, ClientRequest
from hitl_mcp.surfaces.agents.relay import Relay
from tests.upstreams.stage import running, serving

LIST = "resources/list"


class Shelf:
    """An older upstream in plain ASGI whose list is these pages, each as it is written here; None is no answer ever."""

    def __init__(self, *pages: list[Any] | None, endless: bool = False, offers: bool = True) -> None:
        self._pages = pages
        self.timeout_seconds = 0.5 if None in pages else 30.0
        self._endless = endless
        self._offers = offers
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.app = Starlette(routes=[Route("/mcp", self._answer, methods=["GET", "POST", "DELETE"])])

    async def _answer(self, incoming: Request) -> Response:
        if incoming.method != "POST":
            return Response(status_code=405)
        message = await incoming.json()
        if "id" not in message:
            return Response(status_code=202)
        result = await self._result(message["method"], message.get("params") or {})
        if result is None:
            error = {"code": -32601, "message": "Method not found"}
            return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": error})
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})

    async def _result(self, method: str, params: Mapping[str, Any]) -> dict[str, Any] | None:
        self.asked.append((method, params))
        match method:
            case "initialize":
                capabilities: dict[str, Any] = {"resources": {}} if self._offers else {}
                return {
                    "protocolVersion": "2025-11-25",
                    "capabilities": capabilities,
                    "serverInfo": {"name": "shelf", "version": "1"},
                }
            case "tools/list":
                return {"tools": []}
            case "resources/list":
                return await self._page(int(params.get("cursor", 0)))
            case "resources/templates/list":
                return {"resourceTemplates": []}
            case "resources/read":
                return {"contents": [{"uri": params["uri"], "text": "read"}]}
        return None

    async def _page(self, number: int) -> dict[str, Any] | None:
        if self._endless:
            return {"resources": [], "nextCursor": str(number + 1)}
        entries = self._pages[number]
        if entries is None:
            await anyio.sleep_forever()
        more = {"nextCursor": str(number + 1)} if number + 1 < len(self._pages) else {}
        return {"resources": entries, **more}


def entry(name: str) -> dict[str, Any]:
    """A resource."""
    return {"uri": f"mem:///{name}", "name": name}


def asks(**params: Any) -> ClientRequest:
    """A request of a client with a handshake, which nobody asks anything."""

    async def report(progress: float, total: float | None, message: str | None) -> None:
        raise AssertionError(message)

    async def tell(method: str, params: Mapping[str, Any]) -> None:
        raise AssertionError(method)

    return ClientRequest(Caller("builder", "conv"), 1, "2025-11-25", params, report, tell)


async def nothing_is_named(asked: ClientRequest, name: str, params: dict[str, Any]) -> dict[str, Any]:
    """No rule names anything here."""
    raise AssertionError(name)


@asynccontextmanager
async def relay_of(**shelves: Shelf) -> AsyncIterator[Relay]:
    """A relay in front of these upstreams, in this order."""
    async with AsyncExitStack() as stack:
        stack.enter_context(anyio.fail_after(30))
        configs = [
            UpstreamConfig(
                name,
                url=f"{await stack.enter_async_context(serving(shelf.app))}/mcp",
                timeout_seconds=shelf.timeout_seconds,
            )
            for name, shelf in shelves.items()
        ]
        upstreams = await stack.enter_async_context(running(*configs))
        yield Relay(upstreams, lambda name: False, nothing_is_named)


async def names_of(relay: Relay) -> list[list[str]]:
    """The names on each page that a client gets."""
    pages, cursor = [], None
    for _ in range(20):
        page = await relay.page(LIST, asks(**({"cursor": cursor} if cursor else {})))
        pages.append([one["name"] for one in page["resources"]])
        cursor = page.get("nextCursor")
        if cursor is None:
            return pages
    raise AssertionError("the list does not end")


async def test_one_upstreams_pages_follow_the_others() -> None:
    """Each page is one of theirs; empty ones are passed over, and one that offers nothing is never asked."""
    shelves = {
        "a": Shelf([entry("1"), entry("2")], [], [entry("3")]),
        "b": Shelf([]),
        "none": Shelf(offers=False),
        "c": Shelf([entry("4")], [entry("5")], []),
    }
    async with relay_of(**shelves) as relay:
        assert await names_of(relay) == [["1", "2"], ["3"], ["4"], ["5"], []]
    assert LIST not in [method for method, _ in shelves["none"].asked]


async def test_where_nobody_offers_anything_the_list_is_empty() -> None:
    """It is a list all the same."""
    async with relay_of(none=Shelf(offers=False)) as relay:
        assert await relay.page(LIST, asks()) == {"resources": []}


@pytest.mark.parametrize(
    "entries",
    [
        [{"name": "no address"}, entry("1")],
        [entry("1"), {"uri": 5, "name": "x"}],
        ["text", entry("1"), None],
        [{**entry("0"), "size": "large"}, entry("1")],
        [{**entry("0"), "annotations": {"priority": "high"}}, entry("1")],
    ],
    ids=str,
)
async def test_an_entry_that_cannot_be_passed_on_is_left_out(entries: list[Any]) -> None:
    """One wrong entry would else cost the client the whole list."""
    async with relay_of(a=Shelf(entries), b=Shelf([entry("2")])) as relay:
        assert await names_of(relay) == [["1"], ["2"]]


async def test_what_one_upstream_does_not_answer_costs_the_others_nothing() -> None:
    """Neither an error, nor a list that is none, nor silence: each has its timeout."""
    odd: Any = {"no": "list"}
    shelves = {"silent": Shelf(None), "odd": Shelf(odd), "good": Shelf([entry("1")])}
    async with relay_of(**shelves) as relay:
        assert await names_of(relay) == [["1"]]
        assert (await relay.read(asks(uri="mem:///1")))["contents"][0]["text"] == "read"
    assert [method for method, _ in shelves["good"].asked].count("resources/read") == 1
    assert not [params for shelf in ("silent", "odd") for method, params in shelves[shelf].asked if "uri" in params]


async def test_a_page_in_the_middle_that_is_not_answered_is_an_error() -> None:
    """Else the client would take half a list for the whole of it."""
    async with relay_of(a=Shelf([entry("1")], None), b=Shelf([entry("2")])) as relay:
        first = await relay.page(LIST, asks())
        with pytest.raises(MCPError, match="upstream `a` gave no answer to `resources/list` within"):
            await relay.page(LIST, asks(cursor=first["nextCursor"]))


async def test_empty_pages_without_end_do_not_hold_a_client_for_ever() -> None:
    """After so many it gets an empty page, and may go on by itself."""
    shelf = Shelf(endless=True)
    async with relay_of(a=shelf, b=Shelf([entry("1")])) as relay:
        page = await relay.page(LIST, asks())
    assert page["resources"] == []
    assert page["nextCursor"]
    assert [method for method, _ in shelf.asked].count(LIST) == TOOL_PAGES


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "żółw", "W10=", "[]", base64.urlsafe_b64encode(b'["z", "1"]').decode(), "bnVsbA==", "WzEsMiwzXQ=="],
)
async def test_a_cursor_that_is_none_of_the_lists_is_refused(cursor: str) -> None:
    """Whatever it is; and one of an upstream that is not there any more is none either."""
    async with relay_of(a=Shelf([entry("1")])) as relay:
        with pytest.raises(MCPError, match="none of this list") as refused:
            await relay.page(LIST, asks(cursor=cursor))
    assert refused.value.code == INVALID_PARAMS


async def test_whose_a_resource_is_does_not_depend_on_the_page_that_was_asked_for_first() -> None:
    """A client can begin a list in its middle: it must not choose so by which upstream's rules it reads."""
    first = Shelf([entry("same")])
    async with relay_of(a=first, b=Shelf([entry("same")])) as relay:
        begins_at_b = base64.urlsafe_b64encode(b'["b", null]').decode()
        assert (await relay.page(LIST, asks(cursor=begins_at_b)))["resources"] == [entry("same")]
        assert (await relay.read(asks(uri="mem:///same")))["contents"][0]["text"] == "read"
    assert "resources/read" in [method for method, _ in first.asked]


async def test_a_list_that_breaks_off_costs_no_other_upstreams_resources() -> None:
    """It is read from another one, also where the broken list comes first."""
    shelves = {"a": Shelf([entry("1")], None), "b": Shelf([entry("2")])}
    async with relay_of(**shelves) as relay:
        assert (await relay.read(asks(uri="mem:///2")))["contents"][0]["text"] == "read"
        assert (await relay.read(asks(uri="mem:///1")))["contents"][0]["text"] == "read"


async def test_a_page_with_very_many_entries_is_cut() -> None:
    """Each of them is checked, and no agent reads so many."""
    async with relay_of(a=Shelf([entry(str(number)) for number in range(PAGE_ENTRIES + 1)])) as relay:
        assert len((await relay.page(LIST, asks()))["resources"]) == PAGE_ENTRIES
