"""The endpoints of grants: try one on earlier calls, give it, list them, revoke one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hitl_mcp.calls import CallRecord
from hitl_mcp.canonical import parse_strict
from hitl_mcp.clock import to_text
from hitl_mcp.errors import ArgumentsRefused, CallAlreadySettled, DigestMismatch
from hitl_mcp.grants import Condition, Grant, Op, Wanted, check_conditions, shape_of, suggested, unmatched
from hitl_mcp.limits import GRANT_CONDITIONS, GRANT_LOOK_BACK_CALLS, VERDICT_REASON_CHARACTERS
from hitl_mcp.render import condition_shown, grant_shown, plain_text, suggestion_shown
from hitl_mcp.store.listing import Wanted as CallsWanted
from hitl_mcp.surfaces.api.bodies import read_body, read_query
from hitl_mcp.surfaces.api.parts import ApiParts, Viewer
from hitl_mcp.surfaces.api.problems import Problem, answer_to
from hitl_mcp.surfaces.api.wire import call_wire

Wire = dict[str, Any]
_Id = Annotated[str, Field(min_length=1, max_length=200)]
_Reason = Annotated[str, Field(max_length=VERDICT_REASON_CHARACTERS)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ConditionBody(_Strict):
    """What one argument must be: a value, or its JSON text, which no JavaScript number has come near."""

    path: str = Field(max_length=2000)
    op: Op
    value: Any = None
    value_json: str | None = Field(default=None, max_length=20_000)

    @model_validator(mode="after")
    def _one_value(self) -> ConditionBody:
        if ("value" in self.model_fields_set) is (self.value_json is not None):
            raise ValueError("write either `value` or `value_json`")
        return self

    def condition(self) -> Condition:
        """The condition it means."""
        if self.value_json is None:
            return Condition(self.path, self.op, self.value)
        try:
            return Condition(self.path, self.op, parse_strict(self.value_json))
        except ArgumentsRefused as error:
            raise Problem(422, "grant_refused", f"the value for `{self.path}` is no JSON: {error.message}") from None


_Conditions = Annotated[list[ConditionBody], Field(max_length=GRANT_CONDITIONS)]


class GrantCheckBody(_Strict):
    """Conditions to try on earlier calls; without any, those that only this very call meets."""

    call_id: _Id
    conditions: _Conditions | None = None


class GrantBody(_Strict):
    """A grant, on the held call that `digest` names."""

    call_id: _Id
    digest: _Id
    conditions: _Conditions
    uses: int
    minutes: int
    reason: _Reason = ""


class RevokeBody(_Strict):
    """Why a grant is revoked."""

    reason: _Reason = ""


class GrantsQuery(BaseModel):
    """Which grants to list: those that serve calls, or those that ended."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["live", "ended"] = "live"


class GrantEndpoints:
    """What can be asked about grants. Who asks was found out before."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    async def list_grants(self, http: Request, viewer: Viewer) -> Response:
        """The grants that serve calls, or those that ended, newest first."""
        live = read_query(http, GrantsQuery).state == "live"
        grants = await self._parts.store.grants.list(live=live)
        return JSONResponse({"grants": [self._wire(grant) for grant in grants]})

    async def check(self, http: Request, viewer: Viewer) -> Response:
        """What a grant would have matched of the last calls of the tool by this agent, and how its conditions read."""
        body = await read_body(http, GrantCheckBody)
        record = await self._parts.store.get(body.call_id)
        shape, first = shape_of(record.call.arguments_json), suggested(record.call.arguments_json)
        conditions = first if body.conditions is None else tuple(one.condition() for one in body.conditions)
        check_conditions(conditions)
        wanted = CallsWanted(name=record.call.name, agent=record.call.agent)
        page = await self._parts.store.listing.newest(wanted, limit=GRANT_LOOK_BACK_CALLS)
        earlier = [one for one in page.calls if one.erased_at is None]

        def tried() -> Wire:
            problem = unmatched(conditions, shape, record.call.arguments_json)
            matched = [one for one in earlier if unmatched(conditions, shape, one.call.arguments_json) is None]
            return {
                "of": len(earlier),
                "matched": [call_wire(one, brief=True) for one in matched],
                "problem": plain_text(problem) if problem is not None else None,
                "conditions": [condition_shown(condition) for condition in conditions],
                **({"suggested": _suggestions(record, first)} if body.conditions is None else {}),
            }

        # A hundred calls may be a hundred megabytes: not on the event loop.
        return JSONResponse(await anyio.to_thread.run_sync(tried))

    async def give(self, http: Request, viewer: Viewer) -> Response:
        """Give a grant; the call it is given on stays held."""
        body = await read_body(http, GrantBody)
        wanted = Wanted(
            call_id=body.call_id,
            digest=body.digest,
            conditions=tuple(one.condition() for one in body.conditions),
            uses=body.uses,
            minutes=body.minutes,
            reason=body.reason,
            surface=viewer.surface,
            assurance=viewer.assurance,
        )
        try:
            return JSONResponse(self._wire(await self._parts.review.give_grant(wanted, viewer.reviewer.name)))
        except (CallAlreadySettled, DigestMismatch) as error:
            return answer_to(error, call=call_wire(await self._parts.store.get(body.call_id)))

    async def revoke(self, http: Request, viewer: Viewer) -> Response:
        """End a grant, and what it approved and has not started."""
        body = await read_body(http, RevokeBody)
        grant = await self._parts.review.revoke_grant(http.path_params["grant_id"], viewer.reviewer.name, body.reason)
        return JSONResponse(self._wire(grant))

    def _wire(self, grant: Grant) -> Wire:
        return grant_wire(grant, to_text(self._parts.clock.now()))


def _suggestions(record: CallRecord, first: tuple[Condition, ...]) -> list[Wire]:
    return [suggestion_shown(record.call.name, condition) for condition in first]


def grant_wire(grant: Grant, at: str) -> Wire:
    """A grant as the API writes it, at this time."""
    over = grant.over(at)
    return {
        "id": grant.id,
        "state": "live" if over is None else "ended",
        "name": grant.name,
        "upstream": grant.upstream,
        "tool": grant.tool,
        "agent": grant.agent,
        "conditions": [{"path": one.path, "op": one.op, "value": one.value} for one in grant.conditions],
        "uses": grant.uses,
        "used": grant.used,
        "given_by": grant.given_by,
        "given_at": grant.given_at,
        "expires_at": grant.expires_at,
        "ended_at": grant.ended_at or (grant.expires_at if over is not None else None),
        "ended_by": grant.ended_by,
        "ended_why": over,
        "call_id": grant.call_id,
        "reason": grant.reason,
        "surface": grant.surface,
        "assurance": grant.assurance,
        "shown": grant_shown(grant),
    }
