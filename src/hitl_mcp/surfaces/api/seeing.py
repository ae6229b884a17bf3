"""The endpoints about the people who look: who has a call open now, and how fast and uniformly each of them answers."""

from __future__ import annotations

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hitl_mcp.seeing import pace
from hitl_mcp.surfaces.api.bodies import NothingBody, read_body
from hitl_mcp.surfaces.api.parts import ApiParts, Viewer


class SeeingEndpoints:
    """What reviewers are told of one another, and of themselves."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    async def looking(self, http: Request, viewer: Viewer) -> Response:
        """Say that this reviewer has the call open; the answer names who else has."""
        await read_body(http, NothingBody)
        record = await self._parts.store.get(http.path_params["call_id"])
        name = viewer.reviewer.name
        return JSONResponse({"also": list(self._parts.seeing.look(record.id, name, self._parts.clock.now()))})

    async def pace(self, http: Request, viewer: Viewer) -> Response:
        """How the last seven days of verdicts look, by reviewer: all of them for admins, else one's own."""
        week = await self._parts.store.reviewers.week()
        figures = await anyio.to_thread.run_sync(pace, week)
        if not viewer.is_admin:
            figures = [one for one in figures if one["reviewer"] == viewer.reviewer.name]
        return JSONResponse({"reviewers": figures})
