"""The pages that people read: what they link to is there, and the commands they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click import Context

from hitl_mcp.cli.main import hitl_mcp

ROOT = Path(__file__).resolve().parent.parent.parent

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for folder in ("docs", "examples", "policies") for page in (ROOT / folder).rglob("*.md")),
    ]
)

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SCRIPT = re.compile(r"(?<![\w/])scripts/([a-z]+)")
COMMAND = re.compile(r"^(?:\$ )?(?:\S*/)?hitl-mcp ([a-z-]+)", re.MULTILINE)


def heading_links(page: Path) -> set[str]:
    """The anchors that a page's headings make, as code hosts do."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the project finds it, and every anchor finds its heading."""
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in heading_links(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_on_the_page_exist(page: Path) -> None:
    """Every `scripts/x` and every `hitl-mcp x` that a page names can be run."""
    text = page.read_text(encoding="utf-8")
    known = set(hitl_mcp.list_commands(Context(hitl_mcp)))
    assert {name for name in SCRIPT.findall(text) if not (ROOT / "scripts" / name).exists()} == set()
    code = "\n".join([*(body for _, body in FENCE.findall(text)), *re.findall(r"`([^`\n]+)`", text)])
    assert {name for name in COMMAND.findall(code) if name not in known} == set()
