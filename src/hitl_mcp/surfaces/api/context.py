"""The endpoint of what stands around one call: its conversation, calls like it, and what is new about it."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hitl_mcp.calls import CallRecord
from hitl_mcp.render import what_is_new
from hitl_mcp.store import Neighbourhood
from hitl_mcp.surfaces.api.parts import ApiParts, Viewer
from hitl_mcp.surfaces.api.wire import call_wire

Wire = dict[str, Any]


class ContextEndpoint:
    """What the page asks beside a call. Who asks was found out before."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    async def context(self, http: Request, viewer: Viewer) -> Response:
        """What its agent did before and after, how calls like it were answered, and what is new about it."""
        record = await self._parts.store.get(http.path_params["call_id"])
        around = await self._parts.store.around.call(record)
        return JSONResponse(await anyio.to_thread.run_sync(_wire, record, around))


def _wire(record: CallRecord, around: Neighbourhood) -> Wire:
    return {
        "before": [call_wire(one, brief=True) for one in around.before],
        "after": [call_wire(one, brief=True) for one in around.after],
        "similar": [call_wire(one, brief=True) for one in around.similar],
        "similar_counts": dict(around.similar_counts),
        "new": [] if record.erased_at else what_is_new(record.call, around.earlier, all_earlier=around.all_earlier),
    }
