"""What tests need from outside: it is here, and where it is not, nobody overlooks that."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from playwright.async_api import Browser

from tests import needs
from tests.conftest import SLOW_FILES

ROOT = needs.TESTS.parent


@pytest.mark.needs("chromium")
async def test_the_browser_shows_a_page(browser: Browser) -> None:
    """The Chromium of this machine starts, and runs what a page says."""
    page = await browser.new_page()
    await page.set_content("<title>one</title><script>document.title = 'two'</script>")
    assert await page.title() == "two"
    await page.close()


@pytest.mark.needs("filesystem-server")
def test_the_servers_from_npm_are_here() -> None:
    """Node runs, and the filesystem server is where tests look for it."""
    version = subprocess.run([needs.needed("node"), "--version"], capture_output=True, text=True, timeout=10)
    assert version.stdout.startswith("v")
    assert needs.needed("filesystem-server").exists()


@pytest.mark.parametrize(("ci", "exit_code", "says"), [("", 0, "1 skipped"), ("true", 1, "1 error")])
def test_what_cannot_run_is_skipped_aloud_and_fails_in_ci(ci: str, exit_code: int, says: str) -> None:
    """Without a browser the summary says what is missing and what to do; with `CI=true` the run fails."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/test_needs.py", "-k", "browser_shows", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=os.environ | {"CI": ci, "HITL_TEST_CHROMIUM": "/nowhere/chromium"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (run.returncode, says in run.stdout) == (exit_code, True), run.stdout
    assert "chromium is not here: install Chromium" in run.stdout


def test_a_need_that_nobody_knows_is_an_error() -> None:
    """A mistyped mark would otherwise never skip, or always."""
    with pytest.raises(KeyError):
        needs.missing("chromiun")


def test_something_missing_names_the_mark_that_was_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixture used without its mark says which mark the test lacks."""
    monkeypatch.setenv("HITL_TEST_CHROMIUM", "/nowhere/chromium")
    with pytest.raises(LookupError, match=r"needs\('chromium'\)"):
        needs.needed("chromium")


def test_the_files_that_begin_first_are_there() -> None:
    """A slow file that was renamed would begin last again, and nobody would notice."""
    assert [name for name in SLOW_FILES if not (ROOT / name).exists()] == []
    assert len(set(SLOW_FILES)) == len(SLOW_FILES)
