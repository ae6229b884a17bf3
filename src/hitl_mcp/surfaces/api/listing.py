"""The endpoints that look through calls: lists, the queue, searches, and what agents and tools come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hitl_mcp.calls import CallRecord, Stop
from hitl_mcp.people import Reviewer
from hitl_mcp.render import agent_shown, tool_shown
from hitl_mcp.store import Figures, Heap, Queue, Wanted, WrongCursor
from hitl_mcp.surfaces.api.bodies import ListQuery, QueueQuery, read_query
from hitl_mcp.surfaces.api.parts import ApiParts, Viewer
from hitl_mcp.surfaces.api.problems import Problem
from hitl_mcp.surfaces.api.verdicts import stop_wire
from hitl_mcp.surfaces.api.wire import call_wire

Wire = dict[str, Any]

FIGURE_DAYS = 7


class ListingEndpoints:
    """What can be looked through at one gateway. Who asks was found out before."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    async def list_calls(self, http: Request, viewer: Viewer) -> Response:
        """Calls as they are asked for, a page at a time: the newest first, or what waits by urgency."""
        query = read_query(http, ListQuery)
        try:
            answer, records = await self._page(query, viewer.reviewer)
        except WrongCursor as error:
            raise Problem(422, "wrong_query", f"cursor: {error.message}") from None
        # Marking what lists show takes a fraction of a millisecond a call: a page of them is not for the event loop.
        calls = await anyio.to_thread.run_sync(_wires, records, query.brief)
        return JSONResponse({"calls": calls, **answer})

    async def _page(self, query: ListQuery, reviewer: Reviewer) -> tuple[Wire, tuple[CallRecord, ...]]:
        store, wanted = self._parts.store, _wanted(query)
        if query.sort == "urgency" or query.mine:
            if query.q is not None or query.reviewer is not None or set(query.status) - {"held"}:
                raise Problem(
                    422,
                    "wrong_query",
                    "sort: only calls that wait have an urgency",
                    help="leave out `q`, `reviewer`, `status`",
                )
            page = await store.listing.by_urgency(wanted, reviewer if query.mine else None, query.cursor, query.limit)
            return {"next": page.next}, page.calls
        if query.q is not None:
            found = await store.search.find(wanted, query.q, query.cursor, query.limit)
            return {"next": found.next, "looked_back_to": found.looked_back_to}, found.calls
        page = await store.listing.newest(wanted, query.cursor, query.limit)
        return {"next": page.next}, page.calls

    async def queue(self, http: Request, viewer: Viewer) -> Response:
        """What waits, in figures: by agent, by tool, and folded by what is alike, each with its most urgent call."""
        query = read_query(http, QueueQuery)
        wanted = Wanted(agent=query.agent, name=query.name, upstream=query.upstream)
        may = viewer.reviewer if query.mine else None
        queue = await self._parts.store.listing.queue(wanted, may, query.limit)
        return JSONResponse(await anyio.to_thread.run_sync(_queue, queue))

    async def agents(self, http: Request, viewer: Viewer) -> Response:
        """What each agent asked for in a week, and how that was answered."""
        stops = await self._stops()
        return JSONResponse({"agents": [self._agent(one, stops) for one in await self._parts.store.around.agents()]})

    async def agent(self, http: Request, viewer: Viewer) -> Response:
        """The same of one agent."""
        name = http.path_params["name"]
        if name not in self._parts.people.agents and not await self._parts.store.around.is_known("agents", name):
            raise Problem(404, "agent_not_found", "no agent of this name has asked for anything")
        return JSONResponse(self._agent((await self._parts.store.around.agents([name]))[0], await self._stops()))

    async def _stops(self) -> dict[str, Stop]:
        return {stop.agent: stop for stop in await self._parts.store.stops.all()}

    async def used_tools(self, http: Request, viewer: Viewer) -> Response:
        """How often each tool was asked for in a week, and how that was answered."""
        return JSONResponse({"tools": [self._tool(one) for one in await self._parts.store.around.tools()]})

    async def used_tool(self, http: Request, viewer: Viewer) -> Response:
        """The same of one tool."""
        name = http.path_params["name"]
        if not await self._parts.store.around.is_known("tools", name):
            raise Problem(404, "tool_not_found", "nobody has asked for a tool of this name")
        return JSONResponse(self._tool((await self._parts.store.around.tools([name]))[0]))

    def _agent(self, one: Figures, stops: Mapping[str, Stop]) -> Wire:
        stop = stops.get(one.name)
        agent = self._parts.people.agents.get(one.name)
        return {
            **_figures(one),
            "shown": agent_shown(one.name),
            "owner": agent.owner if agent else None,
            "stopped": stop_wire(stop) if stop is not None else None,
        }

    def _tool(self, one: Figures) -> Wire:
        pins = self._parts.pins
        return {
            **_figures(one),
            "shown": _tool(one.name),
            "upstream": one.name.partition("__")[0],
            "pin": pins.state(one.name) if pins.find(one.name) else None,
            "effects": one.effects,
            "median_answer_seconds": one.median_answer_seconds,
        }


def _wires(records: tuple[CallRecord, ...], brief: bool) -> list[Wire]:
    return [call_wire(record, brief=brief) for record in records]


def _wanted(query: ListQuery) -> Wanted:
    return Wanted(
        statuses=frozenset(query.status) if query.status else None,
        agent=query.agent,
        name=query.name,
        upstream=query.upstream,
        reviewer=query.reviewer,
        since=query.since,
        until=query.until,
    )


def _figures(one: Figures) -> Wire:
    return {
        "name": one.name,
        "days": FIGURE_DAYS,
        "by_status": one.by_status,
        "by_answer": one.by_answer,
        "approval_share": one.approval_share,
        "open": one.open,
        "last_at": one.last_at,
    }


def _queue(queue: Queue) -> Wire:
    return {
        **_heap(queue.all),
        "agents": [{"name": one.common, "shown": agent_shown(one.common), **_heap(one)} for one in queue.agents],
        "tools": [{"name": one.common, "shown": _tool(one.common), **_heap(one)} for one in queue.tools],
        "alike": [
            {"same": one.common, **_heap(one), "first": call_wire(one.first, brief=True) if one.first else None}
            for one in queue.alike
        ],
    }


def _heap(one: Heap) -> Mapping[str, Any]:
    return {"calls": one.calls, "highest": one.highest, "soonest": one.soonest}


def _tool(name: str) -> list[Wire]:
    upstream, _, tool = name.partition("__")
    return tool_shown(upstream, tool)
