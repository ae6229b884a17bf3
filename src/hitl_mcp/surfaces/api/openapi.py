"""The description of the API, for `/api/openapi.json`. Written by hand beside the endpoints; a test compares them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from hitl_mcp import __version__
from hitl_mcp.calls import ASSURANCES, Effect, Status, VerdictKind
from hitl_mcp.surfaces.api.bodies import (
    AcceptBody,
    BackupBody,
    ChangedQuery,
    EvaluateBody,
    EventsQuery,
    ExportQuery,
    LinkBody,
    ListQuery,
    LoginBody,
    PauseBody,
    ResolveBody,
    VerdictBody,
)

Schema = dict[str, Any]

CONTROL_ONLY = frozenset(
    {
        *("/api/links", "/api/stop", "/api/tools", "/api/tools/accept"),
        *("/api/audit/verify", "/api/audit/export", "/api/backup"),
    }
)
"""Paths that exist on the control socket alone."""

TCP_ONLY = frozenset({"/api/login", "/api/logout"})
"""Paths that exist on the TCP port alone."""

_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_TIME: Schema = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
_COUNT: Schema = {"type": "integer", "minimum": 0}


def description() -> Schema:
    """OpenAPI 3.1 for both doors; each path says where it exists."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hitl-mcp review API",
            "version": __version__,
            "description": "What reviewers do with held calls. On the TCP port every request carries the key of a "
            "signed-in reviewer; on control.sock the socket itself is the proof, and the reviewer is `local`.",
        },
        "security": [{"reviewer": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "reviewer": {"type": "http", "scheme": "bearer"},
                "agent": {"type": "http", "scheme": "bearer", "description": "as for `/mcp`"},
            },
            "schemas": {**_schemas(), **_bodies()},
        },
    }


def _paths() -> Schema:
    call = {"name": "call_id", "in": "path", "required": True, "schema": _TEXT}
    return {
        "/healthz": {"get": {**_operation("Whether the gateway can do its work", 200, 503), "security": []}},
        "/metrics": {"get": _operation("A few figures for Prometheus", 200, media="text/plain")},
        "/api/login": {
            "post": {
                **_operation("Exchange a one-time code", 200, 401, 413, 422, 429, body="LoginBody"),
                "security": [],
            }
        },
        "/api/logout": {"post": _operation("Forget this sign-in", 200)},
        "/api/me": {"get": _operation("Who is signed in", 200, answer="Me")},
        "/api/calls": {"get": _operation("Calls, newest first", 200, 422, answer="CallPage", query=ListQuery)},
        "/api/calls/{call_id}": {"parameters": [call], "get": _operation("One call", 200, 404, answer="Call")},
        "/api/calls/{call_id}/shown": {
            "parameters": [call],
            "get": _operation("One call as people are shown it: lines of typed segments", 200, 404),
        },
        "/api/calls/{call_id}/verdict": {
            "parameters": [call],
            "post": _operation(
                "Approve or reject", 200, 403, 404, 409, 413, 422, 503, answer="Call", body="VerdictBody"
            ),
        },
        "/api/calls/{call_id}/resolve": {
            "parameters": [call],
            "post": _operation(
                "Say what became of a call of unknown outcome",
                *(200, 403, 404, 409, 413, 422, 503),
                answer="Call",
                body="ResolveBody",
            ),
        },
        "/api/evaluate": {"post": _evaluate()},
        "/api/events": {
            "get": _operation(
                "Server-sent events: `ready`, then `call` for each event; `Last-Event-ID` resumes",
                *(200, 422, 429),
                query=EventsQuery,
                media="text/event-stream",
            )
        },
        "/api/status": {"get": _operation("How the gateway is", 200)},
        "/api/pause": {"post": _operation("Stop all running", 200, 413, 422, 503, body="PauseBody")},
        "/api/resume": {"post": _operation("Let calls run again", 200, 503)},
        "/api/openapi.json": {"get": _operation("This description", 200)},
        "/api/tools": {"get": _operation("The tools, the rules that name them, and how each stands", 200)},
        "/api/tools/changed": {
            "get": _operation("The tools that are blocked, and what changed in them", 200, 422, query=ChangedQuery)
        },
        "/api/tools/accept": {
            "post": _operation("Accept what a blocked tool offers", 200, 404, 409, 413, 422, 503, body="AcceptBody")
        },
        "/api/audit/verify": {"get": _operation("Whether the record is whole and unchanged", 200)},
        "/api/audit/export": {
            "get": _operation("The record as lines of JSON", 200, 422, query=ExportQuery, media="application/jsonl")
        },
        "/api/backup": {"post": _operation("Copy the record to a new file", 200, 413, 422, 503, body="BackupBody")},
        "/api/links": {"post": _operation("A one-time sign-in link", 200, 413, 422, body="LinkBody")},
        "/api/stop": {"post": _operation("End the gateway", 200)},
    }


def _evaluate() -> Schema:
    asked = _operation(
        "Whether a tool that an agent's client runs itself may run now; waits for people where they are asked. "
        "`agent` is named on control.sock, and nowhere else",
        *(200, 401, 413, 422, 429, 503),
        answer="Evaluation",
        body="EvaluateBody",
    )
    return {**asked, "security": [{"agent": []}]}


_ANSWERS = {
    200: "done",
    401: "not signed in",
    403: "this person may not do this, or the request came through a wrong door",
    404: "no such call or tool",
    409: "the call is settled, or has another digest: `status` is the true one and `call` the call as it stands; "
    "or the tool offers another definition",
    413: "the body is too large",
    422: "the body, a parameter or a header is not what is expected",
    429: "too many at once",
    503: "the gateway cannot do this now",
}


def _operation(
    summary: str,
    *statuses: int,
    answer: str | None = None,
    body: str | None = None,
    query: type[BaseModel] | None = None,
    media: str = "application/json",
) -> Schema:
    done: Schema = {"schema": {"$ref": f"#/components/schemas/{answer}"} if answer else {}}
    problem = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    operation: Schema = {
        "summary": summary,
        "responses": {
            str(status): {
                "description": _ANSWERS[status],
                "content": {media: done} if status == 200 else problem,
            }
            for status in sorted({*statuses, 401, 403})
        },
    }
    if body:
        reference = {"$ref": f"#/components/schemas/{body}"}
        operation["requestBody"] = {"content": {"application/json": {"schema": reference}}}
    if query:
        properties = query.model_json_schema(ref_template="#/components/schemas/{model}")["properties"]
        operation["parameters"] = [
            {"name": name, "in": "query", "schema": schema, "explode": True} for name, schema in properties.items()
        ]
    return operation


def _bodies() -> Schema:
    return {
        model.__name__: model.model_json_schema(ref_template="#/components/schemas/{model}")
        for model in (VerdictBody, ResolveBody, PauseBody, LoginBody, LinkBody, AcceptBody, BackupBody, EvaluateBody)
    }


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def _list_of(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _schemas() -> Schema:
    return {
        "Status": {"type": "string", "enum": [*Status]},
        "Me": _object(
            reviewer=_TEXT,
            roles=_list_of(_TEXT),
            every_role={"type": "boolean"},
            surface=_TEXT,
            assurance=_TEXT,
            expires_at=_TIME_OR_NULL,
        ),
        "CallPage": _object(calls=_list_of({"$ref": "#/components/schemas/Call"}), next=_TEXT_OR_NULL),
        "Call": _call(),
        "Evaluation": _object(
            decision={"enum": ["allow", "deny"]},
            status={"enum": [*Status, "paused"]},
            call_id=_TEXT,
            reason={"type": "string", "description": "what the agent is to be told"},
            review_url={**_TEXT_OR_NULL, "description": "where people answer, while they can"},
            retry={"enum": ["repeat_same", "ask_user", "never"]},
        ),
        "Event": _object(
            number=_COUNT,
            call_id=_TEXT,
            version=_COUNT,
            kind=_TEXT,
            status={"type": ["string", "null"]},
            at=_TIME,
            by=_TEXT,
            detail=_TEXT,
        ),
        "Error": _object(error=_object(code=_TEXT, message=_TEXT, help=_TEXT, status=_TEXT, call={"type": "object"})),
    }


def _call() -> Schema:
    match = _object(id=_TEXT, reason=_TEXT, error=_TEXT_OR_NULL)
    return _object(
        id=_TEXT,
        version=_COUNT,
        status={"$ref": "#/components/schemas/Status"},
        upstream=_TEXT,
        tool=_TEXT,
        name=_TEXT,
        arguments_json={"type": "string", "description": "the exact bytes that run; left out by `brief`"},
        digest={"type": "string", "description": "what a verdict must name"},
        agent=_TEXT,
        runs_elsewhere={"type": "boolean", "description": "the agent's own client runs it: it is `released`"},
        score={"type": "integer", "minimum": 0, "maximum": 100},
        decision={"type": "string", "enum": [*Effect]},
        band=_TEXT_OR_NULL,
        policy=_TEXT,
        signals=_list_of({**match, "properties": {**match["properties"], "points": _COUNT}}),
        rules=_list_of({**match, "properties": {**match["properties"], "effect": {"enum": [*Effect]}}}),
        reasons=_list_of(_TEXT),
        shadows=_list_of({**match, "properties": {**match["properties"], "effect": {"enum": [*Effect]}}}),
        told=_list_of(_object(item=_TEXT, about=_TEXT, answer={"type": ["integer", "array"], "items": _TEXT})),
        requirements=_list_of(
            _object(
                id=_TEXT,
                roles=_list_of(_TEXT),
                quorum=_COUNT,
                met=_COUNT,
                approved_by=_list_of(_TEXT),
                assurance={"enum": [*ASSURANCES]},
                not_by=_list_of(_TEXT),
                surfaces=_list_of(_TEXT),
            )
        ),
        created_at=_TIME,
        changed_at=_TIME,
        expires_at=_TIME_OR_NULL,
        run_by=_TIME_OR_NULL,
        claim={"type": "string", "description": "what the agent says of why; its own claim"},
        conversation=_TEXT,
        closed_reason=_TEXT,
        erased_at={**_TEXT_OR_NULL, "description": "when retention erased what the call carried"},
        repeat_of=_TEXT_OR_NULL,
        verdicts=_list_of(
            _object(
                verdict={"enum": [*VerdictKind]},
                reviewer=_TEXT,
                roles=_list_of(_TEXT),
                digest=_TEXT,
                surface=_TEXT,
                assurance=_TEXT,
                at=_TIME,
                reason=_TEXT,
            )
        ),
        previews=_list_of(
            _object(
                rule=_TEXT,
                name=_TEXT,
                at=_TIME,
                call_id=_TEXT_OR_NULL,
                result_json=_TEXT_OR_NULL,
                problem=_TEXT_OR_NULL,
            )
        ),
        outcome={"type": ["object", "null"]},
        events=_list_of({"$ref": "#/components/schemas/Event"}),
        summary={"type": "object", "description": "one row of a list, as segments"},
    )
