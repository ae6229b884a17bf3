"""The command line: a client of the gateway's control socket, and the commands that need no gateway."""

from hitl_mcp.cli.main import main

__all__ = ["main"]
