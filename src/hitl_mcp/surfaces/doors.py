"""What every HTTP request on the TCP port passes first: exact Host, exact Origin, and headers on every answer.

No credentials are checked here; each surface has its own. A web page in the reviewer's browser reaches this port
like any program, so what the browser says about where a request comes from is checked to the letter.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_OWN_PORTS = {"http": ":80", "https": ":443"}
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
"""Sent with every answer that does not set the same header itself."""


def guarded(app: ASGIApp, *, port: int, public_url: str | None) -> ASGIApp:
    """The whole TCP port behind exact Host and Origin checks; `public_url` is the address behind a proxy, if any."""
    return _Doors(app, port, public_url)


def problem(status: int, code: str, message: str, /, **more: object) -> JSONResponse:
    """An error as this gateway's HTTP surfaces write it."""
    return JSONResponse({"error": {"code": code, "message": message, **more}}, status)


class _Doors:
    """Refuses a request that another page, or a false name for this machine, brought here."""

    def __init__(self, app: ASGIApp, port: int, public_url: str | None) -> None:
        public = urlsplit((public_url or "").lower())
        local = {f"{name}:{port}" for name in _LOOPBACK} | (set(_LOOPBACK) if port == 80 else set())
        self._app = app
        self._hosts = local | _with_and_without_port(public.scheme, public.netloc)
        self._origins: dict[str, set[str]] = {f"http://{name}": {name} for name in local}
        if public.netloc:  # a proxy may pass the Host header on or write its own
            self._origins[f"{public.scheme}://{public.netloc}"] = self._hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                extra = [header for header in HEADERS if header[0] not in present]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        reason = self._refusal(Headers(scope=scope), scope["method"])
        if reason is not None:
            await problem(403, "wrong_door", reason)(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers, method: str) -> str | None:
        hosts = [host.lower() for host in headers.getlist("host")]
        origins = headers.getlist("origin")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return "the Host header names another place"
        if origins and (len(origins) > 1 or hosts[0] not in self._origins.get(origins[0], ())):
            return "the request comes from another origin"
        # Programs send no Sec-Fetch-Site, browsers always do. A link on another site may be followed to the page.
        site = headers.get("sec-fetch-site", "same-origin")
        if site != "same-origin" and (method not in _SAFE_METHODS or headers.get("sec-fetch-dest") != "document"):
            return "the request comes from another site"
        return None


def _with_and_without_port(scheme: str, netloc: str) -> set[str]:
    """Browsers leave a scheme's own port out of the Host header; proxies sometimes put it back."""
    if not netloc:
        return set()
    own = _OWN_PORTS.get(scheme, "")
    bare = netloc.removesuffix(own)
    return {netloc, bare} if netloc != bare or ":" in netloc.rpartition("]")[2] else {netloc, netloc + own}
