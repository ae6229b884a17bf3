"""The paths that look through calls: lists, the queue, searches, what stands around a call, agents and tools."""

from __future__ import annotations

from hitl_mcp.surfaces.api.bodies import ListQuery, QueueQuery
from hitl_mcp.surfaces.api.openapi.shapes import (
    CALL_ID,
    COUNT,
    NUMBER_OR_NULL,
    TEXT,
    TEXT_OR_NULL,
    TIME_OR_NULL,
    Schema,
    Subject,
    closed,
    in_path,
    list_of,
    operation,
    or_null,
    ref,
)

_PATHS: Schema = {
    "/api/calls": {
        "get": operation(
            "Calls, the newest first; `sort=urgency` or `mine`: those that wait, the most urgent first; "
            "`reviewer`: those that somebody answered, the last answer first",
            422,
            answer="CallPage",
            query=ListQuery,
        )
    },
    "/api/calls/{call_id}/context": {
        "parameters": [CALL_ID],
        "get": operation("What stands around a call, to decide it by", 404, answer="Context"),
    },
    "/api/queue": {
        "get": operation(
            "What waits, in figures: by agent, by tool, and folded by what is alike",
            422,
            answer="Queue",
            query=QueueQuery,
        )
    },
    "/api/agents": {"get": operation("A week of each agent", answer=closed(agents=list_of(ref("AgentFigures"))))},
    "/api/agents/{name}": {
        "parameters": [in_path("name")],
        "get": operation("A week of one agent", 404, answer="AgentFigures"),
    },
    "/api/used-tools": {
        "get": operation("A week of each tool that was asked for", answer=closed(tools=list_of(ref("ToolFigures"))))
    },
    "/api/used-tools/{name}": {
        "parameters": [in_path("name")],
        "get": operation("A week of one tool", 404, answer="ToolFigures"),
    },
}

_COUNTS: Schema = {"type": "object", "additionalProperties": COUNT}
_NAME: Schema = list_of(ref("Segment"))
_HEAP: Schema = {"calls": COUNT, "highest": COUNT, "soonest": TIME_OR_NULL}
_FIGURES: Schema = {
    "name": TEXT,
    "shown": _NAME,
    "days": COUNT,
    "by_status": _COUNTS,
    "by_answer": {**_COUNTS, "description": "how calls were answered: by people, by the policy alone, or by a grant"},
    "approval_share": NUMBER_OR_NULL,
    "open": COUNT,
    "last_at": TIME_OR_NULL,
}

_SCHEMAS: Schema = {
    "CallPage": closed(
        {
            "looked_back_to": {
                **TIME_OR_NULL,
                "description": "how far a search came that ended before it had looked at everything; `next` goes on",
            }
        },
        calls={
            "anyOf": [list_of(ref("Call")), list_of(ref("CallRow"))],
            "description": "rows where `brief` asks for them",
        },
        next={**TEXT_OR_NULL, "description": "the cursor of the page after this one"},
    ),
    "Context": closed(
        before=list_of(ref("CallRow")),
        after=list_of(ref("CallRow")),
        similar=list_of(ref("CallRow")),
        similar_counts=_COUNTS,
        new={**list_of(_NAME), "description": "sentences, as segments"},
    ),
    "Queue": closed(
        **_HEAP,
        agents=list_of(closed(name=TEXT, shown=_NAME, **_HEAP)),
        tools=list_of(closed(name=TEXT, shown=_NAME, **_HEAP)),
        alike=list_of(closed(same=TEXT, first=or_null(ref("CallRow")), **_HEAP)),
    ),
    "AgentFigures": closed(
        **_FIGURES,
        owner=TEXT_OR_NULL,
        stopped=or_null(ref("Stop")),
    ),
    "ToolFigures": closed(
        **_FIGURES,
        upstream=TEXT,
        pin=TEXT_OR_NULL,
        effects=_COUNTS,
        median_answer_seconds=NUMBER_OR_NULL,
    ),
}

SUBJECT = Subject(_PATHS, _SCHEMAS)
