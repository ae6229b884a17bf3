"""Upstreams of the stories: one that uses everything a tool may say, one over HTTP."""
