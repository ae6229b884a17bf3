"""The paths of calls: listing and reading them, and what people say of them."""

from __future__ import annotations

from hitl_mcp.calls import ASSURANCES, Effect, Status, VerdictKind
from hitl_mcp.surfaces.api.bodies import ResolveBody, VerdictBody, VerdictOptionsBody
from hitl_mcp.surfaces.api.openapi.shapes import (
    CALL_ID,
    COUNT,
    FLAG,
    NUMBER_OR_NULL,
    TEXT,
    TEXT_OR_NULL,
    TIME,
    TIME_OR_NULL,
    Schema,
    Subject,
    closed,
    list_of,
    on_port,
    one_of,
    operation,
    or_null,
    ref,
)

LEFT_OUT_OF_ROWS = frozenset({"arguments_json", "events", "previews", "told", "revisions"})
"""What `brief` leaves out of a call."""

_PATHS: Schema = {
    "/api/calls/{call_id}": {"parameters": [CALL_ID], "get": operation("One call", 404, answer="Call")},
    "/api/calls/{call_id}/shown": {
        "parameters": [CALL_ID],
        "get": operation("One call as people are shown it: lines of typed segments", 404),
    },
    "/api/calls/{call_id}/verdict": {
        "parameters": [CALL_ID],
        "post": operation("Approve, also with edits, or reject", 404, 409, answer="Call", body="VerdictBody"),
    },
    "/api/calls/{call_id}/verdict/options": {
        "parameters": [CALL_ID],
        "post": on_port(
            operation(
                "What to ask a passkey to sign for a verdict (WebAuthn's request options)",
                *(404, 409),
                answer="SigningOptions",
                body="VerdictOptionsBody",
            )
        ),
    },
    "/api/calls/{call_id}/resolve": {
        "parameters": [CALL_ID],
        "post": operation("Say what became of a call of unknown outcome", 404, 409, answer="Call", body="ResolveBody"),
    },
}


def _match(**more: Schema) -> Schema:
    return closed(id=TEXT, reason=TEXT, error=TEXT_OR_NULL, **more)


_EVENT = closed(
    number=COUNT,
    call_id=TEXT,
    version=COUNT,
    kind=TEXT,
    status=or_null(ref("Status")),
    at=TIME,
    by=TEXT,
    detail=TEXT,
)

_VERDICT = closed(
    verdict=one_of(*VerdictKind),
    reviewer=TEXT,
    roles=list_of(TEXT),
    digest=TEXT,
    surface=TEXT,
    assurance=one_of(*ASSURANCES),
    at=TIME,
    reason=TEXT,
    considered_seconds={**NUMBER_OR_NULL, "description": "since this reviewer was first shown these bytes"},
)

_REVISION = closed(
    number=COUNT,
    arguments_json={"type": "string", "description": "the exact bytes before this edit"},
    digest=TEXT,
    edited_by=TEXT,
    edited_at=TIME,
    reason=TEXT,
)

_REQUIREMENT = closed(
    id=TEXT,
    roles=list_of(TEXT),
    quorum=COUNT,
    met=COUNT,
    approved_by=list_of(TEXT),
    assurance=one_of(*ASSURANCES),
    not_by=list_of(TEXT),
    surfaces=list_of(TEXT),
    grantable=FLAG,
)

_PREVIEW = closed(rule=TEXT, name=TEXT, at=TIME, call_id=TEXT_OR_NULL, result_json=TEXT_OR_NULL, problem=TEXT_OR_NULL)

_OUTCOME = closed(
    {"result_json": {**TEXT_OR_NULL, "description": "the tool's own answer; left out of rows"}},
    status=one_of("succeeded", "failed", "unknown"),
    executed=FLAG,
    at=TIME,
    detail=TEXT,
    result_digest=TEXT_OR_NULL,
    result_bytes={"type": ["integer", "null"]},
)

_SUMMARY = closed(
    sentence=list_of(ref("Segment")),
    what=list_of(ref("Segment")),
    agent=list_of(ref("Segment")),
    preview=list_of(ref("Segment")),
    headline=TEXT,
    missing=COUNT,
    progress=list_of(closed(met=COUNT, quorum=COUNT)),
    critical=FLAG,
)

_SEGMENT = closed({"rtl": FLAG, "changed": FLAG}, kind=TEXT, text=TEXT)

_CALL: Schema = {
    "id": TEXT,
    "version": COUNT,
    "status": ref("Status"),
    "upstream": TEXT,
    "tool": TEXT,
    "name": TEXT,
    "arguments_json": {"type": "string", "description": "the exact bytes that run"},
    "digest": {"type": "string", "description": "what a verdict must name"},
    "agent": TEXT,
    "runs_elsewhere": {"type": "boolean", "description": "the agent's own client runs it: it is `released`"},
    "score": {"type": "integer", "minimum": 0, "maximum": 100},
    "decision": one_of(*Effect),
    "band": TEXT_OR_NULL,
    "policy": TEXT,
    "signals": list_of(_match(points=COUNT)),
    "rules": list_of(_match(effect=one_of(*Effect))),
    "reasons": list_of(TEXT),
    "shadows": list_of(_match(effect=one_of(*Effect))),
    "told": list_of(closed(item=TEXT, about=TEXT, answer={"type": ["integer", "array"], "items": TEXT})),
    "requirements": list_of(_REQUIREMENT),
    "created_at": TIME,
    "changed_at": TIME,
    "expires_at": TIME_OR_NULL,
    "run_by": TIME_OR_NULL,
    "claim": {"type": "string", "description": "what the agent says of why; its own claim"},
    "conversation": TEXT,
    "closed_reason": TEXT,
    "erased_at": {**TEXT_OR_NULL, "description": "when retention erased what the call carried"},
    "repeat_of": TEXT_OR_NULL,
    "grant": {**TEXT_OR_NULL, "description": "the grant that approved it, so that no person did"},
    "revisions": list_of(_REVISION),
    "verdicts": list_of(_VERDICT),
    "previews": list_of(_PREVIEW),
    "outcome": or_null(_OUTCOME),
    "events": list_of(ref("Event")),
    "summary": {**_SUMMARY, "description": "one row of a list, as segments"},
}

_SCHEMAS: Schema = {
    "Status": one_of(*Status),
    "Segment": _SEGMENT,
    "Event": _EVENT,
    "Call": closed(**_CALL),
    "CallRow": closed(
        **{name: shape for name, shape in _CALL.items() if name not in LEFT_OUT_OF_ROWS},
        same={**TEXT_OR_NULL, "description": "what waiting calls of one tool with like arguments have in common"},
    ),
}

SUBJECT = Subject(_PATHS, _SCHEMAS, (VerdictBody, ResolveBody, VerdictOptionsBody))
