"""States that clients carry: ours alone, bound to who was asked what, and good for a day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError
from mcp_types import INVALID_PARAMS

from hitl_mcp.store import key_from_file
from hitl_mcp.surfaces.agents.asked import Caller, ClientRequest
from hitl_mcp.surfaces.agents.states import STATE_SECONDS, Opened, States
from tests.clocks import HandClock

KEY = b"k" * 32
OPENED = Opened("approval", "c_7f3k2m9x4q", "0a1b")


async def _nothing(*_: Any) -> None:
    """What a client is told here goes nowhere."""


def asked(**changes: Any) -> ClientRequest:
    """A call as it came from a modern client; `changes` replace parameters."""
    params = {"name": "mail__send", "arguments": {"to": "a@example.com", "copies": 2}, **changes}
    return ClientRequest(Caller("builder", "conv"), 1, "2026-07-28", params, _nothing, _nothing)


def sealed(states: States, **options: Any) -> str:
    """A state that goes with `asked()`."""
    return states.seal(asked(), OPENED.kind, OPENED.call_id, OPENED.nonce, **options)


def refused(states: States, request: ClientRequest, state: str, **options: Any) -> None:
    """Check that a state is refused, as the SDK does it."""
    with pytest.raises(MCPError) as found:
        states.open(request, state, **options)
    assert (found.value.error.code, found.value.error.data) == (INVALID_PARAMS, {"reason": "invalid_request_state"})


def test_a_state_says_what_was_asked_after_a_restart_too(tmp_path: Path) -> None:
    """The key lies in a file: another life of the gateway opens what this one sealed."""
    state = sealed(States(key_from_file(tmp_path / "seals.key"), HandClock()))
    assert States(key_from_file(tmp_path / "seals.key"), HandClock()).open(asked(), state) == OPENED


def test_a_state_can_be_read_by_nobody_else() -> None:
    """Neither the call's id nor the agent's name stands in it."""
    state = sealed(States(KEY, HandClock()))
    assert not any(word in state for word in (OPENED.call_id, OPENED.nonce, "builder"))


@pytest.mark.parametrize(
    "other",
    [
        asked(name="mail__delete"),
        asked(arguments={"to": "a@example.com"}),
        asked(arguments={"to": "a@example.com", "copies": "2"}),
        asked(arguments=None),
        replace(asked(), caller=Caller("rival", "conv")),
    ],
    ids=["tool", "arguments", "type", "none", "agent"],
)
def test_a_state_belongs_to_its_request(other: ClientRequest) -> None:
    """With another tool, other arguments, or from another agent it is refused."""
    states = States(KEY, HandClock())
    refused(states, other, sealed(states))


def test_a_state_belongs_to_its_method() -> None:
    """What went with a call does not go with a prompt of the same name."""
    states = States(KEY, HandClock())
    refused(states, asked(), sealed(states), method="prompts/get")
    prompt = sealed(states, method="prompts/get")
    assert states.open(asked(), prompt, method="prompts/get") == OPENED


def test_a_state_of_a_resource_is_bound_to_its_address() -> None:
    """A resource has no name: its URI stands for it."""
    states = States(KEY, HandClock())
    state = states.seal(asked(uri="a://1"), *("input", "c_1", "n"), method="resources/read")
    assert states.open(asked(uri="a://1"), state, method="resources/read").kind == "input"
    refused(states, asked(uri="a://2"), state, method="resources/read")


def test_a_state_is_good_for_a_day() -> None:
    """A form may stay open that long; then the question is asked anew."""
    clock = HandClock()
    states = States(KEY, clock)
    state = sealed(states)
    clock.forward(STATE_SECONDS - 1)
    assert states.open(asked(), state) == OPENED
    clock.forward(1)
    refused(states, asked(), state)


DAMAGES: dict[str, Callable[[str], Any]] = {
    "cut": lambda state: state[:-1],
    "longer": lambda state: state + "A",
    "changed": lambda state: state[:40] + ("A" if state[40] != "A" else "B") + state[41:],
    "empty": lambda state: "",
    "garbage": lambda state: "v1.AAAA",
    "not a text": lambda state: {"state": state},
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_a_state_that_we_did_not_write_is_refused(damage: Callable[[str], Any]) -> None:
    """Whatever a client makes of it, it is ours to the letter or nothing."""
    states = States(KEY, HandClock())
    refused(states, asked(), damage(sealed(states)))


def test_a_state_under_another_key_is_refused() -> None:
    """The key of another gateway opens nothing here."""
    refused(States(b"x" * 32, HandClock()), asked(), sealed(States(KEY, HandClock())))
