"""Ids of calls are no secrets to be found out: another agent's call answers like one that does not exist."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.attacks.at_doors import opened
from tests.gateways import ERAS, OUTSIDE, WAIT_SECONDS, Site, site
from tests.stories.doors import AGENTS, structured

OWN_TOOLS = ("hitl_wait", "hitl_status", "hitl_withdraw")


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Site]:
    """One gateway in front of the sandbox."""
    options: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}, "wait_seconds": 1}
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name, site(Path(name), **options) as made:
        await made.start()
        yield made


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("door", ["bridge", "socket", "http"])
async def test_a_foreign_id_and_an_unknown_one_are_answered_byte_for_byte_alike(
    place: Site, door: str, era: str
) -> None:
    """But for the id that was asked for; and the foreign call stands as it stood."""
    async with place.agent("owner") as owner, place.reviewer() as dana:
        held = structured(await owner.call_tool("sandbox__send_mail", {**OUTSIDE, "body": f"{door} {era}"}))
        foreign: str = held["call_id"]
        unknown = "c_" + "a" * (len(foreign) - 2)
        before = await dana.call(foreign)
        async with opened(place, door, era) as way:
            for tool in OWN_TOOLS:
                answers = []
                for call_id in (foreign, unknown):
                    with anyio.fail_after(WAIT_SECONDS):
                        answers.append(json.dumps(await way.call(tool, {"call_id": call_id})))
                assert foreign in answers[0]
                assert answers[0].replace(foreign, unknown) == answers[1]
                assert "not_found" in answers[1]
            assert foreign not in json.dumps(await way.call("hitl_status", {}))
        assert await dana.call(foreign) == before
