"""The endpoints of the review API: each reads its request, calls one function, and writes what it gave."""

from __future__ import annotations

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp

from hitl_mcp.calls import Status
from hitl_mcp.clock import to_text
from hitl_mcp.limits import REVIEW_STREAMS
from hitl_mcp.render import shown
from hitl_mcp.surfaces.api.beside import beside_of
from hitl_mcp.surfaces.api.bodies import (
    EventsQuery,
    PauseBody,
    read_body,
    read_query,
)
from hitl_mcp.surfaces.api.openapi import description
from hitl_mcp.surfaces.api.parts import ApiParts, Viewer
from hitl_mcp.surfaces.api.passkeys import passkeys_status
from hitl_mcp.surfaces.api.problems import Problem
from hitl_mcp.surfaces.api.stream import EventStream
from hitl_mcp.surfaces.api.tools import blocked_tools
from hitl_mcp.surfaces.api.verdicts import stop_wire
from hitl_mcp.surfaces.api.wire import call_wire


class Endpoints:
    """What can be asked of the API, over one gateway's parts. Who asks was found out before."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._streams = 0

    # Calls.

    async def get_call(self, http: Request, viewer: Viewer) -> Response:
        """One call, whole."""
        return JSONResponse(call_wire(await self._parts.store.get(http.path_params["call_id"])))

    async def show_call(self, http: Request, viewer: Viewer) -> Response:
        """One call as people are shown it."""
        record = await self._parts.store.get(http.path_params["call_id"])
        # Arguments may be a megabyte of what has to be marked character by character: not on the event loop.
        beside = await beside_of(self._parts, record, viewer)
        name = viewer.reviewer.name
        self._parts.seeing.shown(record.digest, name, self._parts.clock.now())
        return JSONResponse(await anyio.to_thread.run_sync(shown, record, self._parts.people, name, beside))

    async def events(self, http: Request, viewer: Viewer) -> Response | ASGIApp:
        """What happens from here on, or since an event, as server-sent events."""
        last_seen = http.headers.get("last-event-id", "")
        if last_seen and not last_seen.isdecimal():
            raise Problem(422, "wrong_header", "last-event-id: not the number of an event")
        begin = read_query(http, EventsQuery).after if not last_seen else int(last_seen[:18])
        if self._streams >= REVIEW_STREAMS:
            raise Problem(429, "too_many_streams", f"{REVIEW_STREAMS} event streams are open already")
        self._streams += 1

        async def may_go_on() -> bool:
            return viewer.key_digest is None or await self._parts.store.sign_ins.find(viewer.key_digest) is not None

        return EventStream(self._parts.store, begin, may_go_on, self._parts.stopping, self._stream_ended)

    def _stream_ended(self) -> None:
        self._streams -= 1

    # The gateway.

    async def status(self, http: Request, viewer: Viewer) -> Response:
        """What `hitl-mcp status` prints, who paused, which tools are blocked, what stands open, and our time.

        Links to sign in for an upstream are the operator's, on the control socket alone.
        """
        status = dict(self._parts.status())
        if viewer.surface != "cli" and "upstreams" in status:
            status["upstreams"] = [
                {key: value for key, value in upstream.items() if key != "sign_in"} for upstream in status["upstreams"]
            ]
        return JSONResponse(
            {
                **status,
                "blocked_tools": blocked_tools(self._parts.pins),
                "stops": [stop_wire(stop) for stop in await self._parts.store.stops.all()],
                "passkeys": await passkeys_status(self._parts),
                "open": await self._parts.store.count_open(),
                "now": to_text(self._parts.clock.now()),
            }
        )

    async def pause(self, http: Request, viewer: Viewer) -> Response:
        """Stop all running until someone resumes."""
        body = await read_body(http, PauseBody)
        await self._parts.store.pause(viewer.reviewer.name, body.reason)
        return await self.status(http, viewer)

    async def resume(self, http: Request, viewer: Viewer) -> Response:
        """Let calls run again."""
        await self._parts.store.resume(viewer.reviewer.name)
        return await self.status(http, viewer)

    async def metrics(self, http: Request, viewer: Viewer) -> Response:
        """A few figures in Prometheus' text form."""
        counts = await self._parts.store.count_open()
        lines = ["# HELP hitl_calls Calls that are open, by status.", "# TYPE hitl_calls gauge"]
        for status in (Status.HELD, Status.APPROVED, Status.RUNNING, Status.UNKNOWN):
            lines.append(f'hitl_calls{{status="{status}"}} {counts.get(status, 0)}')
        lines += ["# HELP hitl_upstream_up Whether an upstream is ready.", "# TYPE hitl_upstream_up gauge"]
        for upstream in self._parts.status().get("upstreams", ()):
            lines.append(f'hitl_upstream_up{{upstream="{upstream["name"]}"}} {int(upstream["state"] == "ready")}')
        lines += ["# HELP hitl_paused Whether all running is paused.", "# TYPE hitl_paused gauge"]
        lines.append(f"hitl_paused {int(self._parts.store.paused is not None)}")
        return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    async def health(self, http: Request) -> Response:
        """Whether the gateway can do its work; asks for no sign-in, so it says no more than why not."""
        if (trouble := self._parts.store.trouble) is not None:
            why = {"why": trouble.says, "since": trouble.since, "passes": trouble.passes}
            return JSONResponse({"ok": False, **why}, 503)
        warnings = []
        if self._parts.status()["policy"]["problem"] is not None:
            warnings.append("the policy files cannot be used: the last good policy stays in force")
        if blocked := len(self._parts.pins.blocked):
            warnings.append(
                f"{blocked} {'tool is' if blocked == 1 else 'tools are'} blocked: what was accepted changed"
            )
        if tampered := len(self._parts.store.tampered):
            warnings.append(
                f"TAMPERING: the {'record' if tampered == 1 else 'records'} of {tampered} "
                f"{'call was' if tampered == 1 else 'calls were'} changed outside the gateway"
            )
        if self._parts.store.tampering is not None:
            warnings.append("TAMPERING: the record is not as the gateway left it; all that was open has ended")
        return JSONResponse({"ok": True, **({"warning": "; ".join(warnings)} if warnings else {})})

    async def openapi(self, http: Request, viewer: Viewer) -> Response:
        """The description of this API."""
        return JSONResponse(description())

    # Only on the control socket.

    async def stop(self, http: Request, viewer: Viewer) -> Response:
        """End the gateway."""
        self._parts.stop()
        return JSONResponse({"ok": True})
