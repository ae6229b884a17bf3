"""Calls that run on while their clients were asked something: of too many, whose is given up."""

from __future__ import annotations

import secrets
from typing import Any, cast

from hitl_mcp.executor import Executor
from hitl_mcp.surfaces.agents.asked import Caller, ClientRequest
from hitl_mcp.surfaces.agents.questions import PARKED_CALLS, Dialogue, Parked
from hitl_mcp.surfaces.agents.states import States
from tests.clocks import HandClock


def asked_by(agent: str) -> ClientRequest:
    """A modern client's call."""

    async def nothing(*_: Any) -> None:
        raise AssertionError

    return ClientRequest(Caller(agent, "c"), 1, "2026-07-28", {"name": "u__t", "inputResponses": {}}, nothing, nothing)


async def test_an_agent_that_parks_very_many_calls_costs_only_its_own() -> None:
    """The oldest of its own is given up; another agent's, parked before all of them, goes on."""
    states = States(secrets.token_bytes(32), HandClock())
    parked = Parked(states, cast(Executor, None))  # these calls never ran: there is nothing to cancel
    texts: dict[str, Any] = {}
    for call_id, agent in [("c_other", "other"), *((f"c_{one}", "flood") for one in range(PARKED_CALLS + 1))]:
        asked = asked_by(agent)
        texts[call_id] = (asked, parked.park(Dialogue(asked, None), call_id)["requestState"])
    found = {call_id: parked.resumed(asked, states.open(asked, text)) for call_id, (asked, text) in texts.items()}
    assert [call_id for call_id, dialogue in found.items() if dialogue is None] == ["c_0"]
