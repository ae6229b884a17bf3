"""The paths of what people say of calls: edits tried, calls passed on, several answered at once, agents stopped."""

from __future__ import annotations

from hitl_mcp.calls import ASSURANCES, Effect
from hitl_mcp.surfaces.api.bodies import BatchBody, EditBody, NothingBody, PauseBody, ReassignBody
from hitl_mcp.surfaces.api.openapi.shapes import (
    CALL_ID,
    COUNT,
    FLAG,
    TEXT,
    TEXT_OR_NULL,
    TIME_OR_NULL,
    Schema,
    Subject,
    closed,
    in_path,
    list_of,
    one_of,
    operation,
    or_null,
    ref,
)

_PATHS: Schema = {
    "/api/calls/{call_id}/edit": {
        "parameters": [CALL_ID],
        "post": operation("What an edit would make of a held call", 404, 409, answer="TriedEdit", body="EditBody"),
    },
    "/api/calls/{call_id}/reassign": {
        "parameters": [CALL_ID],
        "post": operation("Pass a held call on to a role", 404, 409, answer="Call", body="ReassignBody"),
    },
    "/api/verdicts": {
        "post": operation("One verdict on several calls of one tool", answer="BatchResults", body="BatchBody"),
    },
    "/api/stops": {"get": operation("The agents that are stopped", answer=closed(stops=list_of(ref("Stop"))))},
    "/api/agents/{name}/stop": {
        "parameters": [in_path("name")],
        "post": operation(
            "Deny what an agent asks for where it would be held", answer=closed(stopped=ref("Stop")), body="PauseBody"
        ),
    },
    "/api/agents/{name}/release": {
        "parameters": [in_path("name")],
        "post": operation("Let an agent go on", 404, answer=closed(stopped={"type": "null"}), body="NothingBody"),
    },
}

_MATCH = {"id": TEXT, "reason": TEXT, "error": TEXT_OR_NULL}

_NEED = closed(
    id=TEXT,
    roles=list_of(TEXT),
    quorum=COUNT,
    assurance=one_of(*ASSURANCES),
    not_by=list_of(TEXT),
    surfaces=list_of(TEXT),
)

_SCHEMAS: Schema = {
    "Stop": closed(
        agent=TEXT,
        by=TEXT,
        at=TIME_OR_NULL,
        reason=TEXT,
        call_id={**TEXT_OR_NULL, "description": "the call that was rejected then"},
    ),
    "TriedEdit": closed(
        problems=list_of(closed(path=TEXT, message=TEXT)),
        digest={**TEXT_OR_NULL, "description": "what the approval will count for; null where it cannot be approved"},
        decision=or_null(
            closed(
                effect=one_of(*Effect),
                score=COUNT,
                band=TEXT_OR_NULL,
                signals=list_of(closed(points=COUNT, **_MATCH)),
                rules=list_of(closed(effect=one_of(*Effect), **_MATCH)),
                reasons=list_of(TEXT),
                requirements=list_of(_NEED),
            )
        ),
        changes={"type": ["object", "null"], "description": "the difference, line by line, as people are shown it"},
        critical={"type": ["object", "null"], "description": "what to type before it is approved, and why"},
        requirements=list_of({"type": "object", "description": "as of `shown`, of the call as it would then be"}),
        you={"type": ["object", "null"], "description": "what your approval of that would be, as of `shown`"},
        schema={**TEXT_OR_NULL, "description": "the tool's input schema, as JSON text"},
    ),
    "BatchResults": closed(
        results=list_of(
            closed({"call": ref("Call"), "error": {"type": "object", "description": "as of `Error`"}}, id=TEXT, ok=FLAG)
        )
    ),
}

SUBJECT = Subject(_PATHS, _SCHEMAS, (EditBody, ReassignBody, BatchBody, NothingBody, PauseBody))
