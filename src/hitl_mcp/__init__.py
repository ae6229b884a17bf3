"""hitl-mcp: an approval gate between AI agents and the tools that can do harm."""

__version__ = "0.1.0"
