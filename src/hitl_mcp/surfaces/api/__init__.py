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
from hitl_mcp.surfaces.api.context import ContextEndpoint
from hitl_mcp.surfaces.api.endpoints import Endpoints
from hitl_mcp.surfaces.api.evaluate import EvaluateEndpoint, Evaluating
from hitl_mcp.surfaces.api.grants import GrantEndpoints
from hitl_mcp.surfaces.api.listing import ListingEndpoints
from hitl_mcp.surfaces.api.login_codes import LoginCodes, digest_of_key
from hitl_mcp.surfaces.api.parts import ApiParts, Viewer
from hitl_mcp.surfaces.api.passkeys import PasskeyEndpoints
from hitl_mcp.surfaces.api.problems import Problem, answer_to, not_signed_in
from hitl_mcp.surfaces.api.record import RecordEndpoints
from hitl_mcp.surfaces.api.seeing import SeeingEndpoints
from hitl_mcp.surfaces.api.sign_in import SignInEndpoints
from hitl_mcp.surfaces.api.tools import ToolEndpoints
from hitl_mcp.surfaces.api.verdicts import VerdictEndpoints
from hitl_mcp.surfaces.doors import problem

__all__ = ["ApiParts", "Evaluating", "LoginCodes", "callback_route", "control_routes", "page_routes"]

_log = logging.getLogger(__name__)

_Known = Callable[[Request, Viewer], Awaitable[ASGIApp]]
_Identify = Callable[[Request], Awaitable[Viewer]]


def page_routes(parts: ApiParts) -> list[Route]:
    """The API for whoever signed in, each request with its key. To be served behind `doors.guarded`."""
    endpoints, tools = Endpoints(parts), ToolEndpoints(parts)
    sign_in, passkeys = SignInEndpoints(parts), PasskeyEndpoints(parts)
    identify = partial(_signed_in, parts)
    only_here = [
        ("/api/logout", "POST", sign_in.logout),
        ("/api/passkeys", "POST", passkeys.enrol),
        ("/api/passkeys/options", "POST", passkeys.options),
        ("/api/passkeys/{passkey_id}/remove", "POST", passkeys.remove),
        ("/api/calls/{call_id}/verdict/options", "POST", passkeys.verdict_options),
    ]
    return [
        Route("/healthz", _Answer(endpoints.health), methods=["GET"]),
        Route("/api/login", _Answer(sign_in.login), methods=["POST"]),
        Route("/api/login/options", _Answer(sign_in.login_options), methods=["POST"]),
        Route("/api/evaluate", _Answer(EvaluateEndpoint(parts.evaluating, parts.stopping).on_port), methods=["POST"]),
        *(
            Route(path, _Answer(partial(_as_viewer, identify, endpoint)), methods=[method])
            for path, method, endpoint in [
                *_shared(endpoints, tools),
                *_verdicts(parts),
                *_grants(parts),
                *_people(parts),
                *_looking_through(parts),
                *only_here,
            ]
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
        ("/api/links", "POST", SignInEndpoints(parts).make_link),
        ("/api/passkeys/reset", "POST", PasskeyEndpoints(parts).reset),
        ("/api/stop", "POST", endpoints.stop),
        ("/api/tools", "GET", tools.list_tools),
        ("/api/tools/accept", "POST", tools.accept),
    ]
    return [
        Route("/healthz", _Answer(endpoints.health), methods=["GET"]),
        Route("/api/evaluate", _Answer(EvaluateEndpoint(parts.evaluating, parts.stopping).on_socket), methods=["POST"]),
        *(
            Route(path, _Answer(partial(_as_viewer, local, endpoint)), methods=[method])
            for path, method, endpoint in [
                *_shared(endpoints, tools),
                *_verdicts(parts),
                *_grants(parts),
                *_people(parts),
                *_looking_through(parts),
                *only_here,
            ]
        ),
        Route("/api/{rest:path}", _Answer(partial(_as_viewer, local, _nothing_here))),
    ]


def _shared(endpoints: Endpoints, tools: ToolEndpoints) -> list[tuple[str, str, _Known]]:
    return [
        ("/api/calls/{call_id}", "GET", endpoints.get_call),
        ("/api/calls/{call_id}/shown", "GET", endpoints.show_call),
        ("/api/events", "GET", endpoints.events),
        ("/api/status", "GET", endpoints.status),
        ("/api/tools/changed", "GET", tools.changed),
        ("/api/pause", "POST", endpoints.pause),
        ("/api/resume", "POST", endpoints.resume),
        ("/api/openapi.json", "GET", endpoints.openapi),
        ("/metrics", "GET", endpoints.metrics),
    ]


def _verdicts(parts: ApiParts) -> list[tuple[str, str, _Known]]:
    verdicts = VerdictEndpoints(parts)
    return [
        ("/api/calls/{call_id}/verdict", "POST", verdicts.give_verdict),
        ("/api/calls/{call_id}/edit", "POST", verdicts.try_edit),
        ("/api/calls/{call_id}/reassign", "POST", verdicts.reassign),
        ("/api/calls/{call_id}/resolve", "POST", verdicts.resolve),
        ("/api/verdicts", "POST", verdicts.give_verdicts),
        ("/api/stops", "GET", verdicts.list_stops),
        ("/api/agents/{name}/stop", "POST", verdicts.stop_agent),
        ("/api/agents/{name}/release", "POST", verdicts.release_agent),
    ]


def _grants(parts: ApiParts) -> list[tuple[str, str, _Known]]:
    grants = GrantEndpoints(parts)
    return [
        ("/api/grants", "GET", grants.list_grants),
        ("/api/grants", "POST", grants.give),
        ("/api/grants/check", "POST", grants.check),
        ("/api/grants/{grant_id}/revoke", "POST", grants.revoke),
    ]


def _looking_through(parts: ApiParts) -> list[tuple[str, str, _Known]]:
    listing = ListingEndpoints(parts)
    return [
        ("/api/calls", "GET", listing.list_calls),
        ("/api/calls/{call_id}/context", "GET", ContextEndpoint(parts).context),
        ("/api/queue", "GET", listing.queue),
        ("/api/agents", "GET", listing.agents),
        ("/api/agents/{name:path}", "GET", listing.agent),
        ("/api/used-tools", "GET", listing.used_tools),
        ("/api/used-tools/{name:path}", "GET", listing.used_tool),
    ]


def _people(parts: ApiParts) -> list[tuple[str, str, _Known]]:
    sign_in, seeing = SignInEndpoints(parts), SeeingEndpoints(parts)
    return [
        ("/api/calls/{call_id}/looking", "POST", seeing.looking),
        ("/api/reviewers/pace", "GET", seeing.pace),
        ("/api/me", "GET", sign_in.me),
        ("/api/sign-ins", "GET", sign_in.list_all),
        ("/api/sign-ins/{sign_in_id}/end", "POST", sign_in.end),
        ("/api/passkeys", "GET", PasskeyEndpoints(parts).list_all),
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
    found = await parts.store.sign_ins.find(key_digest)
    reviewer = parts.people.reviewer(found.reviewer) if found else None
    if found is None or reviewer is None:
        raise not_signed_in("this sign-in is not known, or its time is over")
    await parts.store.sign_ins.seen(key_digest, found)
    # A passkey proves who signed in, not what was said later: a verdict is worth one only where it is signed itself.
    assurance = "link" if found.assurance == "passkey" else found.assurance
    return Viewer(reviewer, "web", assurance, found.expires_at, key_digest, found.id)


async def _nothing_here(http: Request, viewer: Viewer) -> JSONResponse:
    return problem(404, "not_found", "there is nothing at this address", help="see /api/openapi.json")
