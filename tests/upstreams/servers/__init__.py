"""Upstreams to test against: one written with the MCP SDK, one that says exactly what a test wants."""
