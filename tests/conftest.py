"""What every test may use, and how a run treats what it cannot run. Fixtures of one room stand beside its tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from playwright.async_api import Browser, async_playwright

from tests import needs

SLOW_FILES = (
    "tests/policy/test_reference.py",
    "tests/stories/test_record.py",
    "tests/stories/test_held_calls.py",
    "tests/stories/test_crashes.py",
    "tests/cli/test_tools.py",
    "tests/stories/test_processes.py",
    "tests/cli/test_commands.py",
    "tests/stories/test_agents_door.py",
    "tests/benchmarks/test_benchmarks.py",
    "tests/test_shipped.py",
    "tests/faults/test_power.py",
    "tests/faults/test_hostile.py",
    "tests/faults/test_crashpoints.py",
)
"""What takes longest, longest first. These begin first: a slow file that begins last is waited for alone."""

# How long an example takes to make or to try says how busy the machine is, and nothing of what is tried.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests run on asyncio, as the gateway does; for the whole run, so that the browser can be shared."""
    return "asyncio"


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A private directory with a path short enough for Unix sockets (pytest's own `tmp_path` is too long)."""
    path = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def chromium_path() -> Path:
    """The browser of this machine; a test that uses it is marked `@pytest.mark.needs("chromium")`."""
    return needs.needed("chromium")


@pytest.fixture(scope="session")
async def browser(chromium_path: Path) -> AsyncIterator[Browser]:
    """One real headless Chromium for the whole run; each test opens its own context in it."""
    async with async_playwright() as playwright:
        # Containers run tests as root, where Chromium's own sandbox does not start.
        running = await playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        yield running
        await running.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first; and skip, with its reason, each test whose needs this machine does not meet."""
    places = {name: place for place, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))
    for item in items:
        for marker in item.iter_markers("needs"):
            for name in marker.args:
                if reason := needs.missing(name):
                    item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing is skipped: a test that cannot run there has failed."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"in CI everything must run: {why}"
    return report
