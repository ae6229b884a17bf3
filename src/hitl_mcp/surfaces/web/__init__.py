"""The review page: static files, served as they are. It knows nothing but the API, which it calls like any client."""

from __future__ import annotations

import gzip
import re
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""No inline script or style, nothing from elsewhere, no frame, no form; and no string ever becomes markup."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_IMPORT = re.compile(rb'^import [^;]*? from "\./([\w.-]+)";$', re.MULTILINE)


def web_routes() -> list[Route]:
    """One route for each file of the page; its addresses are relative, so a prefix before it does not matter."""
    contents = {file.name: file.read_bytes() for file in (files(__name__) / "static").iterdir()}
    return [_route(name, contents[name], _preloads(contents)) for name in sorted(contents)]


def _route(name: str, content: bytes, preloads: str) -> Route:
    packed = gzip.compress(content, mtime=0)
    headers = {"content-security-policy": PAGE_POLICY, "vary": "accept-encoding"}
    if name == "index.html":
        headers["link"] = preloads
    media_type = _TYPES["." + name.rpartition(".")[2]]

    async def file(http: Request) -> Response:
        if "gzip" in http.headers.get("accept-encoding", ""):
            return Response(packed, media_type=media_type, headers={**headers, "content-encoding": "gzip"})
        return Response(content, media_type=media_type, headers=headers)

    return Route("/" if name == "index.html" else f"/{name}", file, methods=["GET"])


def _preloads(contents: dict[str, bytes]) -> str:
    """Every module that the first one needs: asked for at once, and not one round trip after another."""
    needed, left = ["app.js"], ["app.js"]
    while left:
        for found in _IMPORT.findall(contents[left.pop()]):
            name = found.decode()
            if name not in needed:
                needed.append(name)
                left.append(name)
    return ", ".join(f"<{name}>; rel=modulepreload" for name in needed)
