"""The paths of the gateway as a whole: its state, its events, its tools, and its record."""

from __future__ import annotations

from hitl_mcp.calls import Status
from hitl_mcp.surfaces.api.bodies import (
    AcceptBody,
    BackupBody,
    ChangedQuery,
    EvaluateBody,
    EventsQuery,
    ExportQuery,
    PauseBody,
)
from hitl_mcp.surfaces.api.openapi.shapes import (
    COUNT,
    FLAG,
    TEXT,
    TEXT_OR_NULL,
    TIME,
    TIME_OR_NULL,
    Schema,
    Subject,
    closed,
    list_of,
    on_socket,
    one_of,
    operation,
    or_null,
    ref,
    without_sign_in,
)

_PATHS: Schema = {
    "/healthz": {"get": without_sign_in(operation("Whether the gateway can do its work", answer="Health"))},
    "/metrics": {"get": operation("A few figures for Prometheus", answer=TEXT, media="text/plain")},
    "/api/evaluate": {
        "post": {
            **operation(
                "Whether a tool that an agent's client runs itself may run now; waits for people where they are asked. "
                "`agent` is named on control.sock, and nowhere else",
                *(404, 429),
                answer="Evaluation",
                body="EvaluateBody",
            ),
            "security": [{"agent": []}],
        }
    },
    "/api/events": {
        "get": operation(
            "Server-sent events: `ready`, then `call` for each event; `Last-Event-ID` resumes, and `reset` says that "
            "there is too much to tell, or that the record is another one: read it again",
            *(422, 429),
            answer=TEXT,
            query=EventsQuery,
            media="text/event-stream",
        )
    },
    "/api/status": {"get": operation("How the gateway is", answer="GatewayStatus")},
    "/api/pause": {"post": operation("Stop all running", answer="GatewayStatus", body="PauseBody")},
    "/api/resume": {"post": operation("Let calls run again", answer="GatewayStatus")},
    "/api/openapi.json": {"get": operation("This description", answer={"type": "object"})},
    "/api/tools": {
        "get": on_socket(operation("The tools, the rules that name them, and how each stands", answer="Tools"))
    },
    "/api/tools/changed": {
        "get": operation(
            "The tools that are blocked, and what changed in them", 422, answer="ChangedTools", query=ChangedQuery
        )
    },
    "/api/tools/accept": {
        "post": on_socket(
            operation("Accept what a blocked tool offers", 404, 409, answer="ToolStanding", body="AcceptBody")
        )
    },
    "/api/audit/verify": {
        "get": on_socket(operation("Whether the record is whole and unchanged", 404, answer={"type": "object"}))
    },
    "/api/audit/export": {
        "get": on_socket(
            operation(
                "The record as lines of JSON", 404, 422, answer=TEXT, query=ExportQuery, media="application/jsonl"
            )
        )
    },
    "/api/backup": {
        "post": on_socket(
            operation(
                "Copy the record to a new file",
                404,
                answer=closed(path=TEXT, events=COUNT, bytes=COUNT),
                body="BackupBody",
            )
        )
    },
    "/api/stop": {"post": on_socket(operation("End the gateway", answer="Done"))},
}

_STANDING: Schema = {
    "state": one_of("new", "accepted", "changed", "tampered", "absent"),
    "accepted": TEXT_OR_NULL,
    "accepted_at": TIME_OR_NULL,
    "accepted_by": TEXT_OR_NULL,
    "offered": TEXT_OR_NULL,
}

_CHANGED_AT: Schema = {"changed_at": TIME_OR_NULL}

_DIFFERENCE = closed(
    lines=list_of(closed(sign=TEXT, depth=COUNT, skipped={}, segments=list_of(ref("Segment")))),
    gone=COUNT,
    new=COUNT,
    whole=FLAG,
    bytes=COUNT,
)

_SCHEMAS: Schema = {
    "Health": closed({"warning": TEXT, "why": TEXT, "since": TIME, "passes": FLAG}, ok=FLAG),
    "Evaluation": closed(
        {
            "call_id": TEXT,
            "review_url": {**TEXT_OR_NULL, "description": "where people answer, while they can"},
            "retry": one_of("repeat_same", "ask_user", "never"),
            "updatedInput": {"type": "object", "description": "what a reviewer made of it: this must run instead"},
        },
        decision=one_of("allow", "deny"),
        status=one_of(*Status, "paused"),
        reason={"type": "string", "description": "what the agent is to be told"},
    ),
    "GatewayStatus": {
        "type": "object",
        "properties": {
            "version": TEXT,
            "paused": or_null(closed(by=TEXT, at=TIME, reason=TEXT)),
            "open": {
                "type": "object",
                "additionalProperties": COUNT,
                "description": "how many calls stand open, by status",
            },
            "stops": list_of(ref("Stop")),
            "blocked_tools": list_of({"type": "object", "properties": {"name": TEXT, **_STANDING}}),
            "upstreams": list_of({"type": "object", "properties": {"name": TEXT, "state": TEXT, "detail": TEXT}}),
            "now": TIME,
        },
        "required": ["paused", "open", "blocked_tools", "now"],
    },
    "ToolStanding": closed(_CHANGED_AT, name=TEXT, **_STANDING),
    "Tools": closed(
        tools=list_of(
            closed(
                _CHANGED_AT,
                name=TEXT,
                upstream=TEXT,
                tool=TEXT,
                inputSchema={"type": ["object", "boolean"]},
                decided_by=list_of(TEXT),
                **_STANDING,
            )
        ),
        absent=list_of(closed(_CHANGED_AT, name=TEXT, upstream=TEXT, **_STANDING)),
    ),
    "ChangedTools": closed(
        tools=list_of(
            closed(
                {**_CHANGED_AT, "accepted_json": TEXT_OR_NULL, "offered_json": TEXT},
                name=TEXT,
                upstream=TEXT,
                reason=TEXT,
                difference=_DIFFERENCE,
                **_STANDING,
            )
        )
    ),
    "Error": closed(
        error=closed(
            {
                "help": TEXT,
                "status": {**ref("Status"), "description": "the true status of a call"},
                "call": ref("Call"),
            },
            code={"type": "string", "description": "for programs"},
            message={"type": "string", "description": "for people"},
        )
    ),
}

SUBJECT = Subject(_PATHS, _SCHEMAS, (PauseBody, AcceptBody, BackupBody, EvaluateBody))
