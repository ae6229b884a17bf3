"""Errors as the API says them: one shape, a code that programs can read, and the true status of a call."""

from __future__ import annotations

from starlette.responses import JSONResponse

from hitl_mcp.errors import (
    ArgumentsRefused,
    BudgetSpent,
    CallAlreadySettled,
    CallNotFound,
    DigestMismatch,
    EditDenied,
    EditRefused,
    GrantEnded,
    GrantNotFound,
    GrantRefused,
    HitlError,
    NotAllowed,
    NotStopped,
    OtherDefinition,
    StoreError,
    ToolNotFound,
    TooManyHeld,
)
from hitl_mcp.surfaces.doors import problem


class Problem(Exception):
    """A request that cannot be answered as it was meant; the surface turns it into an answer."""

    def __init__(self, status: int, code: str, message: str, *, help: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.help = help

    def answer(self) -> JSONResponse:
        """This problem as an HTTP answer."""
        return problem(self.status, self.code, self.message, **({"help": self.help} if self.help else {}))


_STATUS: dict[type[HitlError], tuple[int, str]] = {
    CallNotFound: (404, "call_not_found"),
    CallAlreadySettled: (409, "call_settled"),
    DigestMismatch: (409, "other_digest"),
    NotAllowed: (403, "not_allowed"),
    ToolNotFound: (404, "tool_not_found"),
    OtherDefinition: (409, "other_definition"),
    ArgumentsRefused: (422, "wrong_body"),
    GrantRefused: (422, "grant_refused"),
    GrantNotFound: (404, "grant_not_found"),
    GrantEnded: (409, "grant_ended"),
    TooManyHeld: (429, "too_many_held"),
    EditDenied: (409, "edit_denied"),
    EditRefused: (422, "edit_refused"),
    NotStopped: (404, "not_stopped"),
    BudgetSpent: (429, "budget_spent"),
    StoreError: (503, "store_unavailable"),
}


def answer_to(error: HitlError, **more: object) -> JSONResponse:
    """An error of ours as an HTTP answer; `more` is added, such as the call as it really stands."""
    kind = next((kind for kind in type(error).__mro__ if kind in _STATUS), None)
    status, code = _STATUS[kind] if kind is not None else (500, "internal")
    if isinstance(error, CallAlreadySettled | DigestMismatch):
        more["status"] = error.status
    if isinstance(error, EditDenied):
        more["reasons"] = list(error.reasons)
    if error.help:
        more["help"] = error.help
    return problem(status, code, error.message, **more)


def not_signed_in(message: str) -> Problem:
    """Who is not signed in gets this, whatever was asked."""
    return Problem(401, "not_signed_in", message, help="make a sign-in link with `hitl-mcp review`")
