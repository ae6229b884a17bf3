"""The paths of people: signing in and out, who one is, sign-ins and passkeys."""

from __future__ import annotations

from hitl_mcp.calls import ASSURANCES
from hitl_mcp.surfaces.api.bodies import EnrolBody, LinkBody, LoginBody, NothingBody, RemovalBody, ResetBody
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
    in_path,
    list_of,
    on_port,
    on_socket,
    one_of,
    operation,
    ref,
    without_sign_in,
)

_PATHS: Schema = {
    "/api/login": {
        "post": on_port(
            without_sign_in(
                operation(
                    "Exchange a one-time code, or what a passkey signed", 429, answer="SignedIn", body="LoginBody"
                )
            )
        )
    },
    "/api/login/options": {
        "post": on_port(
            without_sign_in(
                operation(
                    "What to ask a passkey to sign so that it signs its reviewer in",
                    429,
                    answer="SigningOptions",
                    body="NothingBody",
                )
            )
        )
    },
    "/api/logout": {"post": on_port(operation("Forget this sign-in", answer="Done"))},
    "/api/me": {"get": operation("Who is signed in", answer="Me")},
    "/api/sign-ins": {"get": operation("Your sign-ins; an admin sees everybody's", answer="SignIns")},
    "/api/sign-ins/{sign_in_id}/end": {
        "parameters": [in_path("sign_in_id")],
        "post": operation("End a sign-in", 404, answer=closed(sign_in=ref("SignIn")), body="NothingBody"),
    },
    "/api/passkeys": {
        "get": operation("Your passkeys", answer="Passkeys"),
        "post": on_port(
            operation(
                "Take a new passkey, or what one that is there signed for it", 409, answer="Enrolled", body="EnrolBody"
            )
        ),
    },
    "/api/passkeys/options": {
        "post": on_port(
            operation("What to tell a browser so that it makes a passkey", answer="CreationOptions", body="NothingBody")
        )
    },
    "/api/passkeys/{passkey_id}/remove": {
        "parameters": [in_path("passkey_id")],
        "post": on_port(
            operation("Take a passkey away, once one signed that", 404, answer="Removed", body="RemovalBody")
        ),
    },
    "/api/passkeys/reset": {
        "post": on_socket(
            operation(
                "Take all passkeys of a reviewer away", answer=closed(reviewer=TEXT, removed=COUNT), body="ResetBody"
            )
        )
    },
    "/api/calls/{call_id}/looking": {
        "parameters": [CALL_ID],
        "post": operation(
            "Say that you have this call open; who else has", 404, answer=closed(also=list_of(TEXT)), body="NothingBody"
        ),
    },
    "/api/reviewers/pace": {
        "get": operation("How fast and how uniformly you answered this week; an admin sees everybody", answer="Pace")
    },
    "/api/links": {
        "post": on_socket(
            operation(
                "A one-time sign-in link", answer=closed(url=TEXT, reviewer=TEXT, expires_at=TIME), body="LinkBody"
            )
        )
    },
}

_SCHEMAS: Schema = {
    "Done": closed(ok={"const": True}),
    "SignedIn": closed(token=TEXT, reviewer=TEXT, expires_at=TIME),
    "Me": closed(
        reviewer=TEXT,
        roles=list_of(TEXT),
        every_role=FLAG,
        surface=TEXT,
        assurance=one_of(*ASSURANCES),
        expires_at=TIME_OR_NULL,
        sign_in=TEXT_OR_NULL,
        batch_below={**COUNT, "description": "points below which calls may be answered together"},
        passkeys=closed(usable=FLAG, why_not=TEXT_OR_NULL, yours=COUNT),
    ),
    "SignIn": closed(
        id=TEXT,
        reviewer=TEXT,
        assurance=one_of(*ASSURANCES),
        surface=TEXT,
        label=TEXT,
        created_at=TIME,
        last_seen_at=TIME,
        expires_at=TIME,
        current=FLAG,
    ),
    "SignIns": closed(sign_ins=list_of(ref("SignIn"))),
    "Passkey": closed(
        id=TEXT,
        reviewer=TEXT,
        label=TEXT,
        fingerprint=TEXT,
        created_at=TIME,
        last_used_at=TIME_OR_NULL,
        confirmed_by=TEXT_OR_NULL,
        made_for=TEXT,
        usable=FLAG,
    ),
    "Passkeys": closed(passkeys=list_of(ref("Passkey"))),
    "Enrolled": {"anyOf": [closed(passkey=ref("Passkey")), closed(confirm=ref("SigningOptions"))]},
    "Removed": {"anyOf": [ref("Passkeys"), closed(confirm=ref("SigningOptions"))]},
    "Pace": closed(
        reviewers=list_of(
            closed(
                reviewer=TEXT,
                approvals=COUNT,
                rejections=COUNT,
                median_seconds=NUMBER_OR_NULL,
                fastest_seconds=NUMBER_OR_NULL,
                under_5_seconds=COUNT,
                share_approved={"type": "number", "minimum": 0, "maximum": 1},
                longest_streak=COUNT,
            )
        )
    ),
    "SigningOptions": {
        "type": "object",
        "description": "WebAuthn's PublicKeyCredentialRequestOptionsJSON",
        "properties": {"challenge": TEXT, "rpId": TEXT, "timeout": COUNT},
        "required": ["challenge", "rpId"],
    },
    "CreationOptions": {
        "type": "object",
        "description": "WebAuthn's PublicKeyCredentialCreationOptionsJSON",
        "properties": {"challenge": TEXT, "rp": {"type": "object"}, "user": {"type": "object"}},
        "required": ["challenge", "rp", "user"],
    },
}

SUBJECT = Subject(_PATHS, _SCHEMAS, (LoginBody, NothingBody, EnrolBody, RemovalBody, ResetBody, LinkBody))
