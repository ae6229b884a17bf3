"""Start a server that somebody else wrote, ask for its tools, and keep the list as it was sent. Run by hand, no test.

    python -m tests.policy.tool_lists.dump NAME --server PACKAGE --version VERSION --from npm|PyPI -- COMMAND...

The list is written to NAME.json beside this file, all pages of it. A server that wants a key in its environment is
given one in front of the command: `env KEY=none COMMAND...`. Only listing is asked for; no tool is called. What
descriptions say of the machine they were made on is taken out with `--forget PATTERN`.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters

HERE = Path(__file__).resolve().parent

WAIT_SECONDS = 60
"""How long a server may take to start and to list: some load a browser first."""

MOST_BYTES = 200_000
"""Longer lists say nothing more about a policy, and everyone who clones this carries them."""


async def listed(command: list[str]) -> list[dict[str, Any]]:
    """Every tool of a server that this command starts, as the server wrote it."""
    tools: list[dict[str, Any]] = []
    cursor: str | None = None
    with anyio.fail_after(WAIT_SECONDS):
        async with Client(StdioServerParameters(command=command[0], args=command[1:]), mode="legacy") as client:
            while True:
                page = await client.list_tools(cursor=cursor)
                tools += [tool.model_dump(mode="json", by_alias=True, exclude_unset=True) for tool in page.tools]
                cursor = page.next_cursor
                if cursor is None:
                    return tools


def main() -> None:
    """Read the command line, and write one list."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("name")
    reader.add_argument("--server", required=True, help="the package's name")
    reader.add_argument("--version", required=True, help="the package's exact version")
    reader.add_argument("--from", required=True, dest="registry", choices=["npm", "PyPI"])
    reader.add_argument("--forget", action="append", default=[], help="a regular expression, for descriptions")
    reader.add_argument("command", nargs="+")
    given = reader.parse_args()
    tools = anyio.run(listed, given.command)
    for tool in tools:
        for pattern in given.forget:
            tool["description"] = re.sub(pattern, "", tool.get("description", ""))
    kept = {"server": given.server, "version": given.version, "from": given.registry, "tools": tools}
    text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
    if len(text.encode()) > MOST_BYTES:
        raise SystemExit(f"{len(text.encode())} bytes are more than the {MOST_BYTES} that are kept")
    (HERE / f"{given.name}.json").write_text(text, encoding="utf-8")
    print(f"{given.name}: {given.server} {given.version}, {len(tools)} tools, {len(text.encode())} bytes")


if __name__ == "__main__":
    main()
