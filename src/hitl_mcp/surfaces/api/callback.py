"""Where an upstream's authorization server sends a person back to after a sign-in. It knows nobody and signs nobody in.

What comes is taken only with the state of a sign-in that waits for it, once; the page says nothing of what came.
"""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from hitl_mcp.upstreams import CALLBACK_PATH, CameBack, SignIns

__all__ = ["callback_route"]

_LONGEST = 8192
"""A code, a state or an issuer; some authorization servers put whole documents into their codes."""


def callback_route(sign_ins: SignIns) -> Route:
    """The page people come back to. To be served behind `doors.guarded`."""
    return Route(CALLBACK_PATH, partial(_come_back, sign_ins), methods=["GET"])


async def _come_back(sign_ins: SignIns, http: Request) -> Response:
    if http.method != "GET":  # whoever only looks whether it is there must not use it up
        return PlainTextResponse("only GET\n", 405)
    back = _read(http)
    upstream = sign_ins.came_back(back) if back is not None else None
    if back is None or upstream is None:
        return PlainTextResponse(
            "This sign-in is not known here, was used before, or its time is over.\n"
            "`hitl-mcp status` has the link for a new one.\n",
            400,
        )
    if back.error is not None:
        return PlainTextResponse(
            f"Nobody was signed in for upstream `{upstream}`. `hitl-mcp status` has the link for another try.\n", 400
        )
    return PlainTextResponse(
        f"Thank you. You can close this page; `hitl-mcp status` shows whether upstream `{upstream}` is ready.\n"
    )


def _read(http: Request) -> CameBack | None:
    """What stands in the address, or None where something stands twice, is too long, or is not there."""
    given = http.query_params.multi_items()
    values = dict(given)
    names = [name for name, _ in given if name in ("state", "code", "iss", "error")]
    if len(set(names)) != len(names) or any(len(values[name]) > _LONGEST for name in names):
        return None
    if not values.get("state") or not (values.get("code") or values.get("error")):
        return None
    return CameBack(values["state"], values.get("code", ""), values.get("iss"), values.get("error"))
