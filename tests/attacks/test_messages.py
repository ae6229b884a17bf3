"""Every message of the corpus at every door in both eras: an error under its id, or exactly what was written."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.attacks.at_doors import GOOD, Answer, opened
from tests.attacks.messages import MESSAGES, Answered, Passed, Refused, Then, Unanswered
from tests.gateways import ERAS, WAIT_SECONDS, Site, site
from tests.stories.doors import AGENTS
from tests.upstreams import stage

POLICY: dict[str, Any] = {
    "version": 1,
    "default": "hold",
    "rules": [{"id": "echo", "tool": "raw__echo", "effect": "allow", "reason": "it says what it was given"}],
}

GOOD_EVERY = 8
"""After how many messages a good call is made, beside those after which nothing comes back."""


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Site]:
    """One gateway before an upstream that echoes what reaches it, and writes down each call."""
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name:
        folder = Path(name)
        command = ["-I", "-S", str(stage.RAW_SERVER), "--record", str(folder / "reached")]
        upstreams = {"raw": {"command": sys.executable, "args": command}}
        with site(folder, POLICY, upstreams=upstreams, agents=AGENTS, http={"enabled": True}) as made:
            await made.start()
            yield made


def wrong(then: Then, answer: Answer | None) -> str | None:
    """What is wrong with what came back for a message, if anything is."""
    if isinstance(then, Unanswered):
        return None if answer is None else f"something came back: {answer}"
    if answer is None:
        return "nothing came back"
    if json.dumps(answer["id"]) != json.dumps(then.id):
        return f"it came back as {answer['id']!r}: {answer}"
    if isinstance(then, Answered):
        return None
    if isinstance(then, Refused):
        codes = then.codes or (answer.get("error", {}).get("code"),)
        return None if "error" in answer and answer["error"]["code"] in codes else f"not refused so: {answer}"
    try:
        reached = answer["result"]["structuredContent"]["arguments"]
    except KeyError:
        return f"it did not pass: {answer}"
    return None if written(reached) == written(then.arguments) else f"it was changed: {reached}"


def written(value: Any) -> str:
    """A value so that 1 and 1.0 differ; objects have no order."""
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("door", ["bridge", "socket", "http"])
async def test_every_message_is_refused_by_name_or_passes_value_for_value(place: Site, door: str, era: str) -> None:
    """Nothing is dropped, changed or left without an answer, nothing refused runs, and good calls work in between."""
    findings: list[str] = []
    async with opened(place, door, era) as way:
        for number, message in enumerate(MESSAGES):
            then = message.expected(door, era)
            # After what nothing comes back for, the next answer must be that of the call that follows.
            is_followed = isinstance(then, Unanswered) or number % GOOD_EVERY == 0
            before = len(ran(place))
            try:
                with anyio.fail_after(WAIT_SECONDS):
                    found = wrong(then, await way.put(message))
                    good = await way.call("raw__echo", {}) if is_followed else None
            except TimeoutError:
                findings.append(f"{message.name}: no answer")
                break
            if good is not None and (good["id"] != GOOD or "result" not in good):
                found = f"{found or ''} and then came {good}"
            if len(ran(place)) != before + isinstance(then, Passed) + is_followed:
                found = f"{found or ''} and it ran"
            if found:
                findings.append(f"{message.name}: {found:.300}")
    assert not findings, "\n".join(["", *findings])


def ran(place: Site) -> list[str]:
    """Every call that reached the upstream."""
    path = place.folder / "reached"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
