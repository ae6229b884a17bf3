"""Speaks to the gateway over its control socket. Whoever can open the socket is its operator; no secret is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2

from hitl_mcp.errors import HitlError
from hitl_mcp.state_dir import StateDir

TIMEOUT_SECONDS = 30
"""For any answer of the gateway: each is a few reads and one write."""


class NoGateway(HitlError):
    """The operator's move: no gateway runs for this config."""


class Refused(HitlError):
    """The gateway answered with an error; `code` is the HTTP status, `body` what it said."""

    def __init__(self, code: int, body: Mapping[str, Any]) -> None:
        error = body.get("error") or {}
        super().__init__(str(error.get("message", f"the gateway answered {code}")), help=error.get("help"))
        self.code = code
        self.body = body


class ControlClient:
    """The API of the review page, over the control socket."""

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Read from the API.

        Raises:
            Refused: The gateway answered with an error.
        """
        return self._answer(self._http.get(path, params=query))

    def lines(self, path: str, **query: str) -> Iterator[str]:
        """Read lines from the API, however many; raises as `get`."""
        with self._http.stream("GET", path, params=query, timeout=None) as response:
            if response.status_code >= 400:
                response.read()
                self._answer(response)
            yield from response.iter_lines()

    def get_slowly(self, path: str) -> dict[str, Any]:
        """As `get`, for what may take as long as it takes."""
        return self._answer(self._http.get(path, timeout=None))

    def post_slowly(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """As `post`, for what may take as long as it takes."""
        return self._answer(self._http.post(path, json=dict(body), timeout=None))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write through the API; raises as `get`."""
        return self._answer(self._http.post(path, json=dict(body or {})))

    def _answer(self, response: httpx2.Response) -> dict[str, Any]:
        try:
            body = response.json()
        except json.JSONDecodeError:
            body = {}
        if response.status_code >= 400:
            raise Refused(response.status_code, body)
        return dict(body)


@contextmanager
def control(config: str) -> Iterator[ControlClient]:
    """A client of the gateway that runs for this config.

    Raises:
        NoGateway: None runs, or it does not answer.
    """
    state = StateDir.for_config(config)
    running = state.read_gateway()
    if running is None:
        raise NoGateway(f"no gateway runs for `{config}`", help="start one with `hitl-mcp serve`")
    transport = httpx2.HTTPTransport(uds=running.control_socket)
    with httpx2.Client(transport=transport, base_url="http://control", timeout=TIMEOUT_SECONDS) as http:
        try:
            yield ControlClient(http)
        except httpx2.TransportError as error:
            raise NoGateway(f"the gateway for `{config}` does not answer: {error}", help="see its log") from error
