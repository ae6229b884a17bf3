"""The description of the API against the API: every operation of both doors, with what it allows and what it forbids.

Requests are made from the description by schemathesis, the same ones every time. For a longer run:
`HITL_OPENAPI_EXAMPLES=100 pytest tests/surfaces/test_openapi.py`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.applications import Starlette

from hitl_mcp.surfaces.api import control_routes
from hitl_mcp.surfaces.api.openapi import DOOR, description
from tests.clocks import HandClock
from tests.surfaces.desk import Desk, open_desk, serving

EXAMPLES = int(os.environ.get("HITL_OPENAPI_EXAMPLES", "4"))
"""Requests of each kind for each operation: few, since there are sixty operations at two doors."""

LEFT_OUT = {("GET", "/api/events"), ("POST", "/api/logout")}
"""A stream has no end, and who signs out asks no more; both have tests of their own."""

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@dataclass
class Doors:
    """Both doors of one gateway, with calls on record, and the key of a reviewer."""

    port: str
    control: str
    key: str
    calls: list[tuple[str, str]]


@asynccontextmanager
async def open_doors(folder: Path) -> AsyncIterator[Doors]:
    """A desk whose control routes are on a port as well, with calls that wait and calls that are over."""
    async with open_desk(folder / "hitl.db", HandClock()) as desk:
        listener = socket.create_server(("127.0.0.1", 0))
        control = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with serving(Starlette(routes=control_routes(desk.parts)), listener):
            yield Doors(desk.url, control, await desk.key("dana"), await _calls(desk))


async def _calls(desk: Desk) -> list[tuple[str, str]]:
    records = [await desk.hold({"n": number, "to": "a@example.com"}, claim="the user asked") for number in range(6)]
    records += [await desk.hold_payment({"amount": number}) for number in range(3)]
    await desk.store.withdraw(records[0].id, "builder")
    return [(record.id, record.digest) for record in records]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """Doors that all requests of this file go to, on a loop of their own."""
    folder = tmp_path_factory.mktemp("doors")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(open_doors(folder)) as opened:
        yield opened


def _operations(door: str) -> list[tuple[str, str]]:
    return [
        (method.upper(), path)
        for path, item in description()["paths"].items()
        for method, described in item.items()
        if method in ("get", "post") and described.get(DOOR, door) == door and (method.upper(), path) not in LEFT_OUT
    ]


def _requests(method: str, path: str) -> Any:
    """What is asked: what the description allows, and some of what it forbids."""
    operation = schemathesis.openapi.from_dict(description())[path][method]
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    takes_anything = operation.body or operation.query
    return st.one_of([operation.as_strategy(mode) for mode in (modes if takes_anything else modes[:1])])


def _try(method: str, path: str, base: str, headers: dict[str, str], calls: list[tuple[str, str]]) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=_requests(method, path), known=st.sampled_from([None, *calls]))
    def asked(case: Any, known: tuple[str, str] | None) -> None:
        if known is not None and "call_id" in (case.path_parameters or {}):
            case.path_parameters["call_id"] = known[0]
        if known is not None and isinstance(case.body, dict) and "digest" in case.body:
            case.body["digest"] = known[1]
        response = case.call(base_url=base, headers=headers)
        case.validate_response(response, checks=CHECKS)

    asked()


@pytest.mark.parametrize(("method", "path"), _operations("port"))
def test_what_a_reviewer_is_answered_is_described(doors: Doors, method: str, path: str) -> None:
    """No fault of ours, no answer that the description does not name, and each as its shape says."""
    _try(method, path, doors.port, {"authorization": f"Bearer {doors.key}"}, doors.calls)


@pytest.mark.parametrize(("method", "path"), _operations("socket"))
def test_what_the_command_line_is_answered_is_described(doors: Doors, method: str, path: str) -> None:
    """The same at the other door."""
    _try(method, path, doors.control, {}, doors.calls)


def test_who_is_not_signed_in_is_told_so_everywhere() -> None:
    """Every operation of the port says 401, unless it asks for no key."""
    for path, item in description()["paths"].items():
        for method in ("get", "post"):
            if method in item and item[method].get(DOOR) != "socket":
                assert "401" in item[method]["responses"], path


def test_every_shape_is_used_and_every_reference_leads_somewhere() -> None:
    """A description that programs are made from has no loose ends."""
    whole = description()
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(reference := value.get("$ref"), str):
                found.add(reference.rpartition("/")[2])
            for part in value.values():
                walk(part)
        elif isinstance(value, list):
            for part in value:
                walk(part)

    walk(whole)
    assert found == set(whole["components"]["schemas"])


def test_an_answer_that_is_not_as_described_is_found(doors: Doors) -> None:
    """The checks of this file find a field that is missing, and a status that nobody described."""
    other = json.loads(json.dumps(description()))
    other["components"]["schemas"]["Me"]["required"].append("shoe_size")
    del other["paths"]["/api/calls/{call_id}"]["get"]["responses"]["404"]
    for path, why in (("/api/me", "schema"), ("/api/calls/{call_id}", "status")):
        case = schemathesis.openapi.from_dict(other)[path]["get"].Case(path_parameters={"call_id": "c_none"})
        response = case.call(base_url=doors.control)
        with pytest.raises(FailureGroup) as found:
            case.validate_response(response, checks=CHECKS)
        assert why in str(found.value.exceptions).lower()
