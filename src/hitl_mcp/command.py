"""The `hitl-mcp` command. Only chooses who gets the arguments; what the commands do does not belong here.

`stdio` is started by an agent client for each of its sessions, so nothing of the other commands may be imported on
the way to it.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line of this process and return its exit code (most commands exit with theirs by themselves)."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["stdio"]:
        from hitl_mcp import bridge

        return bridge.main(arguments[1:])
    from hitl_mcp import cli

    cli.main(arguments)
    return 0
