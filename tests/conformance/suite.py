"""Runs the conformance suite by its command, and reads what it found. What is compared with what stands elsewhere."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from tests.needs import needed

REVISIONS = ("2025-11-25", "2026-07-28")
"""The revisions of the protocol whose requirements the suite has."""

RUN_SECONDS = 90
"""A run of one revision takes four seconds."""

PASSED = "SUCCESS"

BY_CHANCE = frozenset(
    {
        ("tasks-capability-negotiation", "sep-2663-server-rejects-undeclared-client"),
        ("tasks-dispatch-and-envelope", "sep-2663-legacy-task-param-ignored"),
        ("tasks-dispatch-and-envelope", "tasks-immediate-result-shortcut"),
        ("tasks-dispatch-and-envelope", "tasks-result-type-complete-on-non-task-responses"),
        ("tasks-lifecycle", "tasks-sync-tool-call"),
    }
)
"""Checks, none of them scored, that the everything server passes by chance and that say nothing of the gate.

They call tools which that server has not. The SDK answers such a call with a result, which is what they look for; the
gate, as the revision says, with an error.
"""

_SCENARIO = re.compile(r"server-(?P<name>.+)-\d{4}-\d\d-\d\dT[\d-]+Z")


@dataclass(frozen=True)
class Check:
    """One thing that a scenario looked at."""

    scenario: str
    id: str
    status: str
    why: str

    @property
    def is_good(self) -> bool:
        """Whether there is nothing to say against it, not even that something is recommended."""
        return self.status in (PASSED, "INFO")

    @property
    def has_failed(self) -> bool:
        """Whether the suite counts it as a failure."""
        return self.status == "FAILURE"


@dataclass(frozen=True)
class Report:
    """What a run of the suite found."""

    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.has_failed)

    @property
    def passed(self) -> Counter[tuple[str, str]]:
        """How often each check passed: some are made several times in a scenario."""
        return Counter((check.scenario, check.id) for check in self.checks if check.status == PASSED)

    def lost_in(self, other: Report) -> list[str]:
        """What passed here and does not pass there, one line each, with what is said of it there."""
        lines = []
        for (scenario, id), times in sorted((self.passed - other.passed).items()):
            if (scenario, id) in BY_CHANCE:
                continue
            whys = {check.why for check in other.checks if (check.scenario, check.id) == (scenario, id) and check.why}
            whys = whys or {check.why for check in other.failures if check.scenario == scenario}
            often = f" ×{times}" if times > 1 else ""
            lines.append(f"{scenario}: {id}{often}: {'; '.join(sorted(whys)) or 'not made'}")
        return lines


async def run_suite(url: str, revision: str, folder: Path, scenario: str | None = None) -> Report:
    """Run every scenario that a revision requires of servers, or one of them; `folder` is new and is filled."""
    what = ["--scenario", scenario, "--spec-version", revision] if scenario else ["--requirements", revision]
    command = [str(needed("node")), str(needed("conformance-suite")), "server", "--url", url, *what, "-o", str(folder)]
    with anyio.fail_after(RUN_SECONDS):
        run = await anyio.run_process(command, check=False, env={**os.environ, "NO_COLOR": "1"})
    report = Report(tuple(check for path in sorted(folder.glob("*/checks.json")) for check in _checks(path)))
    if not report.checks:
        raise AssertionError(f"the suite checked nothing:\n{run.stdout.decode()}\n{run.stderr.decode()}")
    return report


def _checks(path: Path) -> list[Check]:
    named = _SCENARIO.fullmatch(path.parent.name)
    if named is None:
        raise AssertionError(f"the suite names its results otherwise: `{path.parent.name}`")
    checks: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return [Check(named["name"], made["id"], made["status"], made.get("errorMessage", "")) for made in checks]
