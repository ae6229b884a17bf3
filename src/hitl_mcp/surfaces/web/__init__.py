"""The review page: static files, served as they are. It knows nothing but the API, which it calls like any client."""

from __future__ import annotations

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


def web_routes() -> list[Route]:
    """One route for each file of the page; its addresses are relative, so a prefix before it does not matter."""
    folder = files(__name__) / "static"
    routes = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        path = "/" if file.name == "index.html" else f"/{file.name}"
        routes.append(_route(path, file.read_bytes(), _TYPES["." + file.name.rpartition(".")[2]]))
    return routes


def _route(path: str, content: bytes, media_type: str) -> Route:
    async def file(http: Request) -> Response:
        return Response(content, media_type=media_type, headers={"content-security-policy": PAGE_POLICY})

    return Route(path, file, methods=["GET"])
