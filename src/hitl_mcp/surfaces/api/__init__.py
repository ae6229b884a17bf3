"""The review API: the page's on the TCP port, the command line's on `control.sock`. One set of endpoints, two doors.

On the TCP port a reviewer is who signed in; on the control socket, which only the gateway's own user can open, it is
always `local`. Nothing a request says changes that.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hitl_mcp.errors import HitlError
from hitl_mcp.people import LOCAL, Reviewer
from hitl_mcp.surfaces.api.callback import callback_route
from hitl_mcp.surfaces.api.endpoints import Endpoints
from hitl_mcp.surfaces.api.evaluate import EvaluateEndpoint, Evaluating
from hitl_mcp.surfaces.api.parts import ApiParts, Viewer
from hitl_mcp.surfaces.api.problems import Problem, answer_to, not_signed_in
from hitl_mcp.surfaces.api.record import RecordEndpoints
from hitl_mcp.surfaces.api.sign_in import LoginCodes, digest_of_key
from hitl_mcp.surfaces.api.tools import ToolEndpoints
from hitl_mcp.surfaces.doors import problem

__all__ = ["ApiParts", "Evaluating", "LoginCodes", "callback_route", "control_routes", "page_routes"]

_log = logging.getLogger(__name__)

_Known = Callable[[Request, Viewer], Awaitable[ASGIApp]]
_Identify = Callable[[Request], Awaitable[Viewer]]


def page_routes(parts: ApiParts) -> list[Route]:
    """The API for whoever signed in, each request with its key. To be served behind `doors.guarded`."""
    endpoints, tools = Endpoints(parts), ToolEndpoints(parts)
    identify = partial(_signed_in, parts)
    return [
        Route("/healthz", _Answer(endpoints.health), methods=["GET"]),
        Route("/api/login", _Answer(endpoints.login), methods=["POST"]),
        Route("/api/evaluate", _Answer(EvaluateEndpoint(parts.evaluating, parts.stopping).on_port), methods=["POST"]),
        *(
            Route(path, _Answer(partial(_as_viewer, identify, endpoint)), methods=[method])
            for path, method, endpoint in [*_shared(endpoints, tools), ("/api/logout", "POST", endpoints.logout)]
        ),
        Route("/api/{rest:path}", _Answer(partial(_as_viewer, identify, _nothing_here))),
    ]


def control_routes(parts: ApiParts) -> list[Route]:
    """The API for the command line: trust comes from the socket, and what is the operator's exists only here."""
    endpoints, tools = Endpoints(parts), ToolEndpoints(parts)

    async def local(http: Request) -> Viewer:
        return Viewer(parts.people.reviewer(LOCAL) or Reviewer(LOCAL), surface="cli", assurance="cli")

    record = RecordEndpoints(parts)
    only_here = [
        ("/api/audit/verify", "GET", record.verify),
        ("/api/audit/export", "GET", record.export),
        ("/api/backup", "POST", record.back_up),
        ("/api/links", "POST", endpoints.make_link),
        ("/api/stop", "POST", endpoints.stop),
        ("/api/tools", "GET", tools.list_tools),
        ("/api/tools/accept", "POST", tools.accept),
    ]
    return [
        Route("/healthz", _Answer(endpoints.health), methods=["GET"]),
        Route("/api/evaluate", _Answer(EvaluateEndpoint(parts.evaluating, parts.stopping).on_socket), methods=["POST"]),
        *(
            Route(path, _Answer(partial(_as_viewer, local, endpoint)), methods=[method])
            for path, method, endpoint in [*_shared(endpoints, tools), *only_here]
        ),
        Route("/api/{rest:path}", _Answer(partial(_as_viewer, local, _nothing_here))),
    ]


def _shared(endpoints: Endpoints, tools: ToolEndpoints) -> list[tuple[str, str, _Known]]:
    return [
        ("/api/calls", "GET", endpoints.list_calls),
        ("/api/calls/{call_id}", "GET", endpoints.get_call),
        ("/api/calls/{call_id}/shown", "GET", endpoints.show_call),
        ("/api/calls/{call_id}/verdict", "POST", endpoints.give_verdict),
        ("/api/calls/{call_id}/resolve", "POST", endpoints.resolve),
        ("/api/events", "GET", endpoints.events),
        ("/api/me", "GET", endpoints.me),
        ("/api/status", "GET", endpoints.status),
        ("/api/tools/changed", "GET", tools.changed),
        ("/api/pause", "POST", endpoints.pause),
        ("/api/resume", "POST", endpoints.resume),
        ("/api/openapi.json", "GET", endpoints.openapi),
        ("/metrics", "GET", endpoints.metrics),
    ]


class _Answer:
    """The top of this surface: an endpoint as an ASGI app, its errors as answers."""

    def __init__(self, endpoint: Callable[[Request], Awaitable[ASGIApp]]) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp
        try:
            answer = await self._endpoint(Request(scope, receive))
        except Problem as error:
            answer = error.answer()
        except HitlError as error:
            answer = answer_to(error)
        except ClientDisconnect:
            return
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            answer = problem(500, "internal", "this failed on our side; the gateway's log says how")
        await answer(scope, receive, send)


async def _as_viewer(identify: _Identify, endpoint: _Known, http: Request) -> ASGIApp:
    return await endpoint(http, await identify(http))


async def _signed_in(parts: ApiParts, http: Request) -> Viewer:
    """Whose key this request carries. Every way to fail ends here, with 401."""
    given = http.headers.getlist("authorization")
    scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not key:
        raise not_signed_in("this needs a signed-in reviewer")
    key_digest = digest_of_key(key)
    found = await parts.store.sign_in(key_digest)
    reviewer = parts.people.reviewer(found.reviewer) if found else None
    if found is None or reviewer is None:
        raise not_signed_in("this sign-in is not known, or its time is over")
    return Viewer(reviewer, "web", found.assurance, found.expires_at, key_digest)


async def _nothing_here(http: Request, viewer: Viewer) -> JSONResponse:
    return problem(404, "not_found", "there is nothing at this address", help="see /api/openapi.json")
