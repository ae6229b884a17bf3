"""The endpoints of what people say of calls: verdicts, edits, passing on, several at once, and stopping an agent."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, NamedTuple

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hitl_mcp.calls import CallRecord, Stop, VerdictKind
from hitl_mcp.errors import CallAlreadySettled, CallNotFound, DigestMismatch, EditDenied, HitlError
from hitl_mcp.people import People
from hitl_mcp.render import Beside, edit_shown
from hitl_mcp.review import Found, Given, Passing, Tried
from hitl_mcp.surfaces.api.beside import beside_of
from hitl_mcp.surfaces.api.bodies import (
    BatchBody,
    BatchedCall,
    EditBody,
    NothingBody,
    PauseBody,
    ReassignBody,
    ResolveBody,
    VerdictBody,
    read_body,
)
from hitl_mcp.surfaces.api.parts import ApiParts, Viewer
from hitl_mcp.surfaces.api.passkeys import assured
from hitl_mcp.surfaces.api.problems import Problem, answer_to
from hitl_mcp.surfaces.api.wire import call_wire, decision_wire

Wire = dict[str, Any]


class VerdictEndpoints:
    """What can be said of calls, over one gateway's parts."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    async def give_verdict(self, http: Request, viewer: Viewer) -> Response:
        """Hand a verdict to the one door for verdicts; the answer is the call as it then stands."""
        body = await read_body(http, VerdictBody)
        call_id, kind = http.path_params["call_id"], VerdictKind(body.verdict)
        if body.arguments_json is not None and kind is not VerdictKind.APPROVE:
            raise Problem(422, "wrong_body", "arguments_json: only an approval changes arguments")
        if body.stop and kind is not VerdictKind.REJECT:
            raise Problem(422, "wrong_body", "stop: only a rejection stops the agent")
        assurance, assertion_json = assured(self._parts, viewer, call_id, kind, body.assertion)
        given = Given(
            kind=kind,
            digest=body.digest,
            reviewer=viewer.reviewer.name,
            surface=viewer.surface,
            assurance=assurance,
            reason=body.reason,
            assertion_json=assertion_json,
            considered_seconds=self._parts.considered_seconds(body.digest, viewer),
            arguments_json=body.arguments_json,
            stop=body.stop,
        )
        return await self._answer(call_id, lambda: self._parts.review.give_verdict(call_id, given))

    async def try_edit(self, http: Request, viewer: Viewer) -> Response:
        """What an edit would make of a call; nothing is changed by asking."""
        body = await read_body(http, EditBody)
        call_id = http.path_params["call_id"]
        try:
            tried = await self._parts.review.try_edit(call_id, body.digest, body.arguments_json, viewer.reviewer.name)
        except (CallAlreadySettled, DigestMismatch) as error:
            return answer_to(error, call=call_wire(await self._parts.store.get(call_id)))
        record = await self._parts.store.get(call_id)
        beside = await beside_of(self._parts, record, viewer)
        editor = Editor(self._parts.people, viewer.reviewer.name, beside)
        return JSONResponse(
            {**await anyio.to_thread.run_sync(_tried_wire, tried, editor), "schema": beside.schema_json}
        )

    async def reassign(self, http: Request, viewer: Viewer) -> Response:
        """Ask a role, too; the answer is the call as it then stands."""
        body = await read_body(http, ReassignBody)
        call_id = http.path_params["call_id"]
        passing = Passing(body.digest, body.role, viewer.reviewer.name, body.reason)
        return await self._answer(call_id, lambda: self._parts.review.pass_on(call_id, passing))

    async def resolve(self, http: Request, viewer: Viewer) -> Response:
        """Hand over what a person found out about a call of unknown outcome; the answer is the call as it then is."""
        body = await read_body(http, ResolveBody)
        call_id = http.path_params["call_id"]
        found = Found(body.happened, body.evidence, viewer.reviewer.name, viewer.surface)
        return await self._answer(call_id, lambda: self._parts.review.resolve(call_id, found))

    async def _answer(self, call_id: str, act: Any) -> Response:
        try:
            return JSONResponse(call_wire(await act()))
        except (CallAlreadySettled, DigestMismatch, EditDenied) as error:
            return answer_to(error, call=call_wire(await self._parts.store.get(call_id)))

    # Several at once.

    async def give_verdicts(self, http: Request, viewer: Viewer) -> Response:
        """One verdict on each of several calls of one tool, none of them risky; each is its own record."""
        body = await read_body(http, BatchBody)
        ids = [one.id for one in body.calls]
        if len(set(ids)) < len(ids):
            raise Problem(422, "wrong_body", "calls: a call is named twice")
        found = {call_id: await self._found(call_id) for call_id in ids}
        self._check_batch([record for record in found.values() if record is not None])
        results = [await self._one_of_batch(body, one, viewer) for one in body.calls]
        return JSONResponse({"results": results})

    async def _found(self, call_id: str) -> CallRecord | None:
        try:
            return await self._parts.store.get(call_id)
        except CallNotFound:
            return None

    def _check_batch(self, records: list[CallRecord]) -> None:
        names = sorted({record.call.name for record in records})
        if len(names) > 1:
            raise Problem(
                *(422, "mixed_batch", f"calls: they are of {len(names)} tools: `{names[0]}` and `{names[1]}`"),
                help="answer the calls of one tool together",
            )
        below = self._parts.batch_below
        for record in records:
            if record.decision.score >= below:
                raise Problem(
                    *(422, "over_the_band", f"calls: `{record.id}` has {record.decision.score} points"),
                    help=f"only calls below {below} points are answered together (`review.batch_below`)",
                )

    async def _one_of_batch(self, body: BatchBody, one: BatchedCall, viewer: Viewer) -> Wire:
        given = Given(
            kind=VerdictKind(body.verdict),
            digest=one.digest,
            reviewer=viewer.reviewer.name,
            surface=viewer.surface,
            assurance=viewer.assurance,
            reason=body.reason,
            considered_seconds=self._parts.considered_seconds(one.digest, viewer),
        )
        try:
            record = await self._parts.review.give_verdict(one.id, given)
        except HitlError as error:
            said = json.loads(bytes(answer_to(error).body))
            return {"id": one.id, "ok": False, "error": said["error"]}
        return {"id": one.id, "ok": True, "call": call_wire(record)}

    # Agents that are stopped.

    async def list_stops(self, http: Request, viewer: Viewer) -> Response:
        """The agents that are stopped."""
        return JSONResponse({"stops": [stop_wire(stop) for stop in await self._parts.store.stops.all()]})

    async def stop_agent(self, http: Request, viewer: Viewer) -> Response:
        """Deny what an agent asks for from here on where it would be held."""
        body = await read_body(http, PauseBody)
        agent, name = http.path_params["name"], viewer.reviewer.name
        return JSONResponse({"stopped": stop_wire(await self._parts.review.stop_agent(agent, name, body.reason))})

    async def release_agent(self, http: Request, viewer: Viewer) -> Response:
        """Let an agent go on."""
        await read_body(http, NothingBody)
        await self._parts.review.release_agent(http.path_params["name"], viewer.reviewer.name)
        return JSONResponse({"stopped": None})


def stop_wire(stop: Stop) -> Wire:
    """An agent that is stopped, as the API writes it."""
    return {
        "agent": stop.agent,
        "by": stop.by,
        "at": stop.at or None,
        "reason": stop.reason,
        "call_id": stop.call_id or None,
    }


class Editor(NamedTuple):
    """Who tries an edit, and what stands beside the call for them."""

    people: People
    name: str
    beside: Beside


def _tried_wire(tried: Tried, editor: Editor) -> Wire:
    problems = [{"path": one.path, "message": one.message} for one in tried.problems]
    planned = tried.planned
    if planned is None:
        nothing: Wire = {"changes": None, "critical": None, "requirements": [], "you": None}
        return {"problems": problems, "digest": None, "decision": None, **nothing}
    denied = planned.decided.effect == "deny"
    edited = replace(planned.edited, decision=planned.decided) if denied else planned.edited
    return {
        "problems": problems,
        "digest": None if denied else planned.digest,
        "decision": {**decision_wire(edited.decision), "effect": planned.decided.effect},
        **edit_shown(planned.record, edited, *editor),
    }
