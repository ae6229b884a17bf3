"""The endpoints about tools: how each stands, what changed in those that are blocked, and accepting that."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hitl_mcp.pins import Blocked, Pins
from hitl_mcp.render import difference_shown, plain_text
from hitl_mcp.surfaces.api.bodies import AcceptBody, ChangedQuery, read_body, read_query
from hitl_mcp.surfaces.api.parts import ApiParts, Viewer

Wire = dict[str, Any]


class ToolEndpoints:
    """What can be asked about tools, over one gateway's parts. Who asks was found out before."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    async def list_tools(self, http: Request, viewer: Viewer) -> Response:
        """The tools that agents may call, with their schemas and the rules that name them, and how each stands.

        `absent` are tools that were accepted once and that no upstream offers now.
        """
        pins, tools = self._parts.pins, self._parts.tools()
        offered = {tool["name"] for tool in tools}
        absent = [{"name": pin.name, "upstream": pin.upstream} for pin in pins.all() if pin.name not in offered]
        return JSONResponse(
            {
                "tools": [{**tool, **_standing(pins, tool["name"])} for tool in tools],
                "absent": [{**tool, **_standing(pins, tool["name"]), "state": "absent"} for tool in absent],
            }
        )

    async def changed(self, http: Request, viewer: Viewer) -> Response:
        """The tools that are blocked, each with what is different from what was accepted.

        With `whole`, also both definitions to the byte, as strings.
        """
        query = read_query(http, ChangedQuery)
        pins = self._parts.pins
        blocked = [one for _, one in sorted(pins.blocked.items())]
        # Definitions may be long, and are marked character by character: not on the event loop.
        tools = [await anyio.to_thread.run_sync(_change, pins, one, query.whole) for one in blocked]
        return JSONResponse({"tools": tools})

    async def accept(self, http: Request, viewer: Viewer) -> Response:
        """Accept what a blocked tool offers now; `digest` is what was shown."""
        body = await read_body(http, AcceptBody)
        pin = await self._parts.pins.accept(self._parts.store, body.name, body.digest, viewer.reviewer.name)
        return JSONResponse({"name": pin.name, **_standing(self._parts.pins, pin.name)})


def blocked_tools(pins: Pins) -> list[Wire]:
    """The tools that are blocked, in the order of names, as the status names them."""
    return [{"name": name, **_standing(pins, name)} for name in sorted(pins.blocked)]


def _standing(pins: Pins, name: str) -> Wire:
    """How a tool stands: what was accepted, when and by whom, and what it offers now where that is another thing."""
    pin, blocked = pins.find(name), pins.blocked.get(name)
    if pin is None:
        return {"state": "new", "accepted": None, "accepted_at": None, "accepted_by": None, "offered": None}
    return {
        "state": pins.state(name),
        "accepted": pin.definition,
        "accepted_at": pin.accepted_at or None,
        "accepted_by": pin.accepted_by,
        "offered": blocked.offer.definition if blocked else None,
        "changed_at": pin.changed_at if blocked else None,
    }


def _change(pins: Pins, blocked: Blocked, whole: bool) -> Wire:
    pin, offer = blocked.pin, blocked.offer
    before = pin.definition_json if pin.intact else None  # what was altered is nothing to compare with
    exact = {"accepted_json": before, "offered_json": offer.definition_json}
    return {
        "name": pin.name,
        "upstream": pin.upstream,
        **_standing(pins, pin.name),
        "accepted_by": plain_text(pin.accepted_by),
        "reason": blocked.reason,
        "difference": difference_shown(before, offer.definition_json),
        **(exact if whole else {}),
    }
