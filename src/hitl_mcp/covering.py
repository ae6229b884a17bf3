"""What the config says is secret, as the cover that is laid over everything people are shown.

Covered by themselves, beside what `secrets` names, are credentials by their place: what references in an upstream's
headers, an agent's token and an OAuth client's secret lead to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from hitl_mcp.config import Config
from hitl_mcp.errors import UnresolvedSecret
from hitl_mcp.render.secret import Cover
from hitl_mcp.secrets import Secrets

FINGERPRINT_DIGITS = 12
"""48 bits: two secrets of one company do not meet by chance, and the digits can still be compared by eye."""

_REFERENCE = re.compile(r"\$\{(?:env|file):[^}]+\}")


def cover_of(config: Config, secrets: Secrets, seal: Callable[..., str]) -> Cover:
    """The cover over what this config names; `seal` makes the keyed digest that fingerprints are cut from."""
    values = {value for text in _named(config) for value in _values(text, secrets)}
    return Cover(config.secrets.arguments, frozenset(values), lambda value: seal("secret", value)[:FINGERPRINT_DIGITS])


def _named(config: Config) -> Iterator[str]:
    yield from config.secrets.values
    for upstream in config.upstreams.values():
        yield from upstream.headers.values()
        if upstream.oauth is not None and upstream.oauth.client_secret is not None:
            yield upstream.oauth.client_secret
    yield from (agent.token for agent in config.people.agents.values() if agent.token is not None)


def _values(text: str, secrets: Secrets) -> Iterator[str]:
    """What the references in a text lead to; one that leads nowhere is told about where it is used."""
    for reference in _REFERENCE.findall(text):
        try:
            yield secrets.resolve(reference)
        except UnresolvedSecret:
            continue
