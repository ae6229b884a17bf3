"""The official conformance suite: the gate is as good a server as the one behind it, in both revisions."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conformance.everything import everything_server
from tests.conformance.suite import REVISIONS, Check, Report, run_suite
from tests.conformance.targets import gateway_alone, through_the_gate

pytestmark = [pytest.mark.needs("conformance-suite", "sdk-source")]

DIRECT_PASSES = {"2025-11-25": 84, "2026-07-28": 169}
"""Checks that the everything server of this SDK passes; with fewer, something is wrong with the run."""

ALONE = {
    "2025-11-25": ("server-initialize", "ping", "tools-list", "dns-rebinding-protection", "server-session-lifecycle"),
    "2026-07-28": ("tools-list", "dns-rebinding-protection", "http-header-validation"),
}
"""Scenarios that any server passes, whatever stands behind it."""


@pytest.fixture(scope="module")
async def everything(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The everything server; its URL."""
    async with everything_server(tmp_path_factory.mktemp("everything")) as url:
        yield url


@pytest.fixture(scope="module")
async def gate(everything: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The same server behind a gateway that lets every call pass; the gateway's URL."""
    async with through_the_gate(tmp_path_factory.mktemp("gate"), everything) as url:
        yield url


@pytest.fixture(scope="module")
async def alone(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A gateway's own endpoint, which has none of the suite's tools."""
    async with gateway_alone(tmp_path_factory.mktemp("alone")) as url:
        yield url


@pytest.mark.parametrize("revision", REVISIONS)
async def test_whatever_passes_direct_passes_through_the_gate(
    everything: str, gate: str, revision: str, tmp_path: Path
) -> None:
    """Check by check: not one that the server passes by itself is lost when the gate stands before it."""
    direct = await run_suite(everything, revision, tmp_path / "direct")
    gated = await run_suite(gate, revision, tmp_path / "gate")
    assert direct.passed.total() >= DIRECT_PASSES[revision]
    lost = direct.lost_in(gated)
    assert not lost, "\n".join(["", *lost])


@pytest.mark.parametrize("revision", REVISIONS)
async def test_the_gateways_own_endpoint_passes_what_is_asked_of_every_server(
    alone: str, revision: str, tmp_path: Path
) -> None:
    """The handshake, `ping`, false names, routing headers, sessions and the list of tools, with none of the suite's."""
    report = await run_suite(alone, revision, tmp_path / "alone")
    asked = [check for check in report.checks if check.scenario in ALONE[revision]]
    assert {check.scenario for check in asked} == set(ALONE[revision])
    assert [f"{check.scenario}: {check.id}: {check.why}" for check in asked if not check.is_good] == []


def test_a_check_that_is_lost_is_named_with_its_reason() -> None:
    """Once for each scenario and check; one that passes more often elsewhere, or fails in both, is not lost."""
    here = Report((Check("a", "x", "SUCCESS", ""), Check("a", "x", "SUCCESS", ""), Check("b", "y", "FAILURE", "no")))
    there = Report(
        (Check("a", "x", "SUCCESS", ""), Check("a", "x", "FAILURE", "not so"), Check("c", "z", "SUCCESS", ""))
    )
    assert here.lost_in(there) == ["a: x: not so"]
    assert here.lost_in(here) == []
    assert here.lost_in(Report(())) == ["a: x ×2: not made"]


def test_the_everything_server_is_of_the_sdk_that_runs() -> None:
    """The source that is fetched for it is of the same version as the package that is installed."""
    pinned = (Path(__file__).parent / "sdk.txt").read_text(encoding="utf-8")
    assert re.findall(r"^mcp==(\S+)", pinned, re.MULTILINE) == [version("mcp")]
