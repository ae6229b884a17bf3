"""What may be sent to the API: bodies and query parameters, read strictly, unknown fields refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from hitl_mcp.calls import Status
from hitl_mcp.canonical import parse_strict
from hitl_mcp.clock import to_text
from hitl_mcp.errors import ArgumentsRefused
from hitl_mcp.limits import (
    DEPTH_LEVELS,
    EVALUATION_WAIT_SECONDS,
    PAGE_CALLS,
    REVIEW_BODY_BYTES,
    VERDICT_REASON_CHARACTERS,
)
from hitl_mcp.surfaces.api.problems import Problem

Body = TypeVar("Body", bound=BaseModel)
Reason = Annotated[str, Field(max_length=VERDICT_REASON_CHARACTERS)]
Digest = Annotated[str, Field(min_length=1, max_length=200)]

BATCH_CALLS = 50
"""Calls answered together: more, and nobody reads them."""

ENCODED_CHARACTERS = 16 * 1024
"""One part of what an authenticator says, as base64url: some hundred bytes, a few thousand where keys are large."""

CREDENTIAL_ID_CHARACTERS = 1364
"""The longest id of a passkey, 1023 bytes (WebAuthn, section 4), as base64url."""

PAGE_CALLS_MOST = 200
"""The longest page of a listing: four ordinary ones."""


Moment = Annotated[str, Field(max_length=40), AfterValidator(lambda text: _as_moment(text))]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Encoded = Annotated[str, Field(max_length=ENCODED_CHARACTERS, pattern=r"^[A-Za-z0-9_-]*$")]
CredentialId = Annotated[str, Field(min_length=1, max_length=CREDENTIAL_ID_CHARACTERS, pattern=r"^[A-Za-z0-9_-]+$")]


Transport = Literal["ble", "cable", "hybrid", "internal", "nfc", "usb"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _AssertionResponse(_Strict):
    clientDataJSON: Encoded
    authenticatorData: Encoded
    signature: Encoded
    userHandle: Encoded | None = None


class AssertionBody(_Strict):
    """What a passkey signed, as WebAuthn's JSON writes it: base64url."""

    id: CredentialId
    rawId: CredentialId | None = None
    type: Literal["public-key"] = "public-key"
    response: _AssertionResponse


class _CredentialResponse(_Strict):
    clientDataJSON: Encoded
    attestationObject: Encoded
    transports: list[Transport] = Field(default_factory=list, max_length=8)


class CredentialBody(_Strict):
    """A passkey that a browser made."""

    id: CredentialId
    rawId: CredentialId | None = None
    type: Literal["public-key"] = "public-key"
    response: _CredentialResponse


class VerdictBody(_Strict):
    """What a reviewer says of the bytes that `digest` names; with `arguments_json`, that these are to run instead."""

    verdict: Literal["approve", "reject"]
    digest: Digest
    reason: Reason = ""
    arguments_json: str | None = None
    stop: bool = False
    assertion: AssertionBody | None = None


class EditBody(_Strict):
    """Other arguments for a held call, to see what would be made of them."""

    digest: Digest
    arguments_json: str


class ReassignBody(_Strict):
    """The role that is to be asked, too, and why."""

    digest: Digest
    role: str = Field(min_length=1, max_length=40)
    reason: Reason = ""


class BatchedCall(_Strict):
    """One call of several, and the bytes that were shown of it."""

    id: str = Field(min_length=1, max_length=200)
    digest: Digest


class BatchBody(_Strict):
    """One verdict on several calls of one tool."""

    verdict: Literal["approve", "reject"]
    reason: Reason = ""
    calls: list[BatchedCall] = Field(min_length=1, max_length=BATCH_CALLS)


class ResolveBody(_Strict):
    """What a reviewer found out about a call of unknown outcome, and how."""

    happened: bool
    evidence: str = Field(min_length=1, max_length=VERDICT_REASON_CHARACTERS)


class BackupBody(_Strict):
    """Where a backup goes."""

    path: str = Field(min_length=1, max_length=4096)


class PauseBody(_Strict):
    """Why everything is paused."""

    reason: Reason = ""


class EnrolBody(_Strict):
    """A new passkey, or what one that there is signed so that it is taken."""

    credential: CredentialBody | None = None
    assertion: AssertionBody | None = None


class RemovalBody(_Strict):
    """Nothing, to be told what to sign; then what was signed."""

    assertion: AssertionBody | None = None


class ResetBody(_Strict):
    """Whose passkeys are all taken away."""

    reviewer: str = Field(min_length=1, max_length=200)


class VerdictOptionsBody(_Strict):
    """The verdict that a passkey is to sign, and the digest it will count for."""

    verdict: Literal["approve", "reject"]
    digest: str = Field(min_length=1, max_length=200)


class NothingBody(_Strict):
    """No field at all."""


class LoginBody(_Strict):
    """The one-time code of a link, or what a passkey signed."""

    code: str | None = Field(default=None, min_length=1, max_length=200)
    assertion: AssertionBody | None = None


class AcceptBody(_Strict):
    """The digest of what a tool offers now, as it was shown to whoever accepts it."""

    name: str = Field(min_length=1, max_length=200)
    digest: str = Field(min_length=1, max_length=200)


class LinkBody(_Strict):
    """Whom a link signs in; null is `local`."""

    for_: str | None = Field(default=None, alias="for", max_length=200)


class EvaluateBody(_Strict):
    """A tool that a client would run itself. One of `arguments` and `arguments_json` is there; both mean the same."""

    client: str = Field(min_length=1, max_length=40)
    tool: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    arguments: dict[str, Any] | None = None
    arguments_json: str | None = None
    agent: str | None = None
    conversation: str | None = Field(default=None, min_length=1, max_length=200)
    takes_updated_input: bool = False
    wait_seconds: float | None = Field(default=None, ge=0, le=EVALUATION_WAIT_SECONDS)


class ListQuery(BaseModel):
    """Which calls to list: `q` is a text that they hold, `brief` leaves out arguments, events and results.

    `mine` are those that wait and that whoever asks may still approve; they come by urgency.
    """

    model_config = ConfigDict(extra="forbid")

    status: list[Status] = []
    agent: Name | None = None
    name: Name | None = None
    upstream: Name | None = None
    reviewer: Name | None = None
    since: Moment | None = None
    until: Moment | None = None
    q: str | None = Field(default=None, min_length=1, max_length=200)
    sort: Literal["newest", "urgency"] = "newest"
    mine: bool = False
    cursor: str | None = Field(default=None, pattern=r"^[0-9A-Za-z_:,.~-]{1,100}$")
    limit: int = Field(default=PAGE_CALLS, ge=1, le=PAGE_CALLS_MOST)
    brief: bool = False


class QueueQuery(BaseModel):
    """Which of the calls that wait are counted, and how many kinds of them are told of."""

    model_config = ConfigDict(extra="forbid")

    agent: Name | None = None
    name: Name | None = None
    upstream: Name | None = None
    mine: bool = False
    limit: int = Field(default=PAGE_CALLS, ge=1, le=PAGE_CALLS_MOST)


class ChangedQuery(BaseModel):
    """Whether both definitions of each tool are wanted to the byte, beside what is different."""

    model_config = ConfigDict(extra="forbid")

    whole: bool = False


class ExportQuery(BaseModel):
    """After which event an export begins, and whether what calls carried is in it."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(default=0, ge=0, le=2**53)
    payloads: bool = False


class EventsQuery(BaseModel):
    """After which event the stream goes on."""

    model_config = ConfigDict(extra="forbid")

    after: int | None = Field(default=None, ge=0, le=2**53)


def _as_moment(text: str) -> str:
    """A day or a time as the record writes it; a day begins at midnight in UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return to_text(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise ValueError("not a day or a time, as 2026-11-23 or 2026-11-23T14:00:00Z") from None


async def read_body(http: Request, model: type[Body], *, limit_bytes: int = REVIEW_BODY_BYTES) -> Body:
    """The body of a request as `model`; an empty one is `{}`.

    Raises:
        Problem: 413 where it is too long, 422 where it is not what is expected.
    """
    raw = await _raw_body(http, limit_bytes)
    if raw and http.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(422, "wrong_body", "the body must be JSON", help="send `content-type: application/json`")
    try:
        # One level more than a value has that stands in the body.
        value = parse_strict(raw or b"{}", limit_bytes=limit_bytes, depth_levels=DEPTH_LEVELS + 1)
        return model.model_validate(value)
    except ArgumentsRefused as error:
        raise Problem(422, "wrong_body", error.message) from None
    except ValidationError as error:
        raise _wrong("body", error) from None


def read_query(http: Request, model: type[Body]) -> Body:
    """The query parameters of a request as `model`; a list may be repeated or separated by commas.

    Raises:
        Problem: 422 where they are not what is expected.
    """
    values: dict[str, Any] = {}
    for name in http.query_params:
        given = [part for value in http.query_params.getlist(name) for part in value.split(",")]
        values[name] = given if model.model_fields.get(name) and name == "status" else http.query_params[name]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _wrong("query", error) from None


async def _raw_body(http: Request, limit_bytes: int) -> bytes:
    raw = bytearray()
    async for chunk in http.stream():
        raw += chunk
        if len(raw) > limit_bytes:
            raise Problem(413, "too_large", f"the body is more than {limit_bytes} bytes")
    return bytes(raw)


def _wrong(where: str, error: ValidationError) -> Problem:
    """Name the first thing that is wrong. The value itself stays out: it may be a secret."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"]) or where
    what = "no such field" if first["type"] == "extra_forbidden" else first["msg"][:1].lower() + first["msg"][1:]
    return Problem(422, f"wrong_{where}", f"{path}: {what}")
