"""What `docs/clients.md` gives people to paste: it parses as its client's format, and starts what we have."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
import yaml

from hitl_mcp import bridge
from hitl_mcp.limits import AGENT_HELD_CALLS, AGENT_REQUESTS, DEPTH_LEVELS, MESSAGE_BYTES, WAIT_SECONDS
from tests.docs.test_pages import FENCE, ROOT, heading_links

PAGE = ROOT / "docs" / "clients.md"
TEXT = PAGE.read_text(encoding="utf-8")
PARSERS: dict[str, Any] = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}

NO_CLIENTS = ("What its user sees", "What an agent may send", "Where this was read")
"""Headings that are no client's name."""

ENTRIES_IN = ("mcpServers", "servers", "context_servers", "mcp_servers", "extensions")
"""The keys under which clients have their servers."""

URL_IN = ("url", "httpUrl", "serverUrl", "uri")
"""The keys under which they have a server's address."""


def sections() -> dict[str, str]:
    """The text of each client's section, by its heading."""
    _, *parts = re.split(r"^## (.+)$", TEXT, flags=re.MULTILINE)
    return {heading: text for heading, text in zip(parts[::2], parts[1::2], strict=True) if heading not in NO_CLIENTS}


def entries(text: str) -> list[dict[str, Any]]:
    """Every server's entry in the snippets of a section."""
    parsed = [PARSERS[language](body) for language, body in FENCE.findall(text)]
    return [entry for written in parsed for key in ENTRIES_IN for entry in written.get(key, {}).values()]


ALL = [(client, entry) for client, text in sections().items() for entry in entries(text)]


def test_every_client_of_the_table_has_its_section_and_every_section_its_row() -> None:
    """The table's links are the sections, in their order."""
    rows = re.findall(r"^\| \[([^\]]+)\]\(#([^)]+)\)", TEXT, re.MULTILINE)
    assert [name for name, _ in rows] == list(sections())
    assert {anchor for _, anchor in rows} <= heading_links(PAGE)


def test_snippets_are_found() -> None:
    """At least one for stdio and one for HTTP of most clients, so that the tests below look at something."""
    assert len(ALL) >= 15


@pytest.mark.parametrize(("client", "entry"), [pair for pair in ALL if not any(key in pair[1] for key in URL_IN)])
def test_a_stdio_entry_starts_our_bridge(client: str, entry: dict[str, Any]) -> None:
    """Its command is ours, with the options that the bridge takes, and each value as it must be."""
    assert entry.get("command", entry.get("cmd")) == "hitl-mcp", client
    first, *options = entry["args"]
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert (first, given.pop("--config")) == ("stdio", "/etc/hitl/hitl.yaml"), client
    assert re.fullmatch("[a-z][a-z0-9-]{0,39}", given.pop("--agent")), client
    assert given == {}, client
    assert all(option in bridge.USAGE for option in options[::2]), client


@pytest.mark.parametrize(("client", "entry"), [pair for pair in ALL if any(key in pair[1] for key in URL_IN)])
def test_an_http_entry_leads_to_mcp_with_a_token(client: str, entry: dict[str, Any]) -> None:
    """At the port that a gateway has if nothing else is written, and in a header or by the name of a variable."""
    assert [entry[key] for key in URL_IN if key in entry] == ["http://127.0.0.1:8377/mcp"], client
    shown = entry.get("headers", {}).get("Authorization", "")
    assert shown.startswith("Bearer ") or entry.get("bearer_token_env_var") == "BUILDER_TOKEN", client


def test_the_page_names_the_limits_as_they_are() -> None:
    """The seconds that people compare with their client's limit, and what an agent may send."""
    assert f"`wait_seconds` ({WAIT_SECONDS:g})" in TEXT
    for what in (
        f"| one message | {MESSAGE_BYTES // 1024**2} MiB |",
        f"| arguments | {DEPTH_LEVELS} levels deep |",
        f"| requests in flight, over all its connections | {AGENT_REQUESTS} |",
        f"| held calls | {AGENT_HELD_CALLS} |",
    ):
        assert what in TEXT
