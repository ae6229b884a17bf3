"""The sandbox upstream as tests use it: how to start it, and what really happened in it, read from outside."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from hitl_mcp.shipped import example_path

SERVER = example_path("sandbox/server.py")


def command(database: Path) -> dict[str, Any]:
    """How to start the sandbox on this state file, as an MCP client or an `upstreams:` entry writes it."""
    return {"command": sys.executable, "args": [str(SERVER)], "env": {"SANDBOX_DB": str(database)}}


def effects(database: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every change that happened, in order, as tool and arguments. Read from the file, past all of our code."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as connection:
        rows = connection.execute("SELECT tool, args FROM effects ORDER BY id").fetchall()
    return [(tool, json.loads(args)) for tool, args in rows]
