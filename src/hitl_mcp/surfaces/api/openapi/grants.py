"""The paths of grants: trying, giving, listing and revoking them."""

from __future__ import annotations

from typing import get_args

from hitl_mcp.calls import ASSURANCES
from hitl_mcp.grants import Op
from hitl_mcp.surfaces.api.grants import GrantBody, GrantCheckBody, GrantsQuery, RevokeBody
from hitl_mcp.surfaces.api.openapi.shapes import (
    COUNT,
    TEXT,
    TEXT_OR_NULL,
    TIME,
    TIME_OR_NULL,
    Schema,
    Subject,
    closed,
    in_path,
    list_of,
    one_of,
    operation,
    ref,
)

_PATHS: Schema = {
    "/api/grants": {
        "get": operation("Grants, newest first", 422, answer="GrantList", query=GrantsQuery),
        "post": operation(
            "Give a grant on a held call: later calls like it run without people, so many and for so long",
            *(404, 409),
            answer="Grant",
            body="GrantBody",
        ),
    },
    "/api/grants/check": {
        "post": operation(
            "What a grant would have matched of the last calls of the tool; without `conditions`, what to begin with",
            404,
            answer="GrantCheck",
            body="GrantCheckBody",
        )
    },
    "/api/grants/{grant_id}/revoke": {
        "parameters": [in_path("grant_id")],
        "post": operation("End a grant", 404, 409, answer="Grant", body="RevokeBody"),
    },
}

_GRANT = closed(
    id=TEXT,
    state=one_of("live", "ended"),
    name=TEXT,
    upstream=TEXT,
    tool=TEXT,
    agent=TEXT,
    conditions=list_of(closed(path=TEXT, op=one_of(*get_args(Op)), value={})),
    uses=COUNT,
    used=COUNT,
    given_by=TEXT,
    given_at=TIME,
    expires_at=TIME,
    ended_at=TIME_OR_NULL,
    ended_by=TEXT_OR_NULL,
    ended_why=TEXT_OR_NULL,
    call_id={"type": "string", "description": "the held call that it was given on"},
    reason=TEXT,
    surface=TEXT,
    assurance=one_of(*ASSURANCES),
    shown={"type": "object", "description": "its words as segments"},
)

_SCHEMAS: Schema = {
    "Grant": _GRANT,
    "GrantList": closed(grants=list_of(ref("Grant"))),
    "GrantCheck": closed(
        {"suggested": {"type": "array", "description": "conditions that only this very call meets"}},
        of=COUNT,
        matched=list_of(ref("CallRow")),
        problem={**TEXT_OR_NULL, "description": "why it would not serve the very call that it is given on"},
        conditions={"type": "array", "description": "each condition in words, as segments"},
    ),
}

SUBJECT = Subject(_PATHS, _SCHEMAS, (GrantBody, GrantCheckBody, RevokeBody))
