"""What may be sent to the API: bodies and query parameters, read strictly, unknown fields refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from hitl_mcp.calls import Status
from hitl_mcp.canonical import parse_strict
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

PAGE_CALLS_MOST = 200
"""The longest page of a listing: four ordinary ones."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class VerdictBody(_Strict):
    """What a reviewer says of the bytes that `digest` names."""

    verdict: Literal["approve", "reject"]
    digest: str = Field(min_length=1, max_length=200)
    reason: Reason = ""


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


class LoginBody(_Strict):
    """The one-time code of a link."""

    code: str = Field(min_length=1, max_length=200)


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
    wait_seconds: float | None = Field(default=None, ge=0, le=EVALUATION_WAIT_SECONDS)


class ListQuery(BaseModel):
    """Which calls to list: `q` is a text that they hold, `brief` leaves out arguments, events and results."""

    model_config = ConfigDict(extra="forbid")

    status: list[Status] = []
    agent: str | None = None
    q: str | None = Field(default=None, min_length=1, max_length=200)
    cursor: str | None = Field(default=None, pattern=r"^[0-9]{1,18}$")
    limit: int = Field(default=PAGE_CALLS, ge=1, le=PAGE_CALLS_MOST)
    brief: bool = False


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
    if path == "arguments_json" and first["type"] == "extra_forbidden":
        return Problem(
            422,
            "no_edits",
            "arguments_json: edits are not available yet",
            help="reject the call and say what to change",
        )
    what = "no such field" if first["type"] == "extra_forbidden" else first["msg"][:1].lower() + first["msg"][1:]
    return Problem(422, f"wrong_{where}", f"{path}: {what}")
