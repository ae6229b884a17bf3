"""How heavy the page is: all of it together, as it is served."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.testclient import TestClient

from hitl_mcp.surfaces.web import web_routes

PAGE_BYTES = 150 * 1024
"""On a phone at a bad place, a page of this size is there within seconds."""


def test_the_whole_page_weighs_less_than_150_kilobytes() -> None:
    """Every file of it, as a browser gets it; nothing is loaded from elsewhere."""
    with TestClient(Starlette(routes=web_routes())) as client:
        weights = {}
        for route in web_routes():
            with client.stream("GET", route.path, headers={"accept-encoding": "gzip"}) as answer:
                assert answer.status_code == 200
                weights[route.path] = len(b"".join(answer.iter_raw()))
    assert sum(weights.values()) < PAGE_BYTES, weights
    assert len(weights) > 10
