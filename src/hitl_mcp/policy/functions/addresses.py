"""Mail addresses. An entry is exactly one bare address, or it is refused: what a mail program would make of a list, a
display name or a comment is not ours to guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hitl_mcp.limits import ADDRESS_CHARACTERS
from hitl_mcp.policy.functions.domains import checked_domain
from hitl_mcp.policy.functions.lists import texts

__all__ = ["address_domain", "all_addresses_in"]

_ATOM = r"[A-Za-z0-9_+'=&~-]+"
_LOCAL_PART = re.compile(rf"(?!-){_ATOM}(?:\.{_ATOM})*")
"""Less than RFC 5322 allows. Left out: quotes; `%` and `!`, by which a relay sends on to another domain; a `-` in
front, which sendmail would take for an option."""

_LOCAL_PART_CHARACTERS = 64
"""RFC 5321, section 4.5.3.1.1."""


def address_domain(text: str) -> str:
    """The domain of exactly one bare address, in lower case."""
    local, _, domain = text.partition("@")
    if len(text) > ADDRESS_CHARACTERS or len(local) > _LOCAL_PART_CHARACTERS:
        raise ValueError("the address is too long")
    if _LOCAL_PART.fullmatch(local) is None or "." not in domain:
        raise ValueError("the text is not exactly one bare address, such as name@domain.example")
    return checked_domain(domain)


def all_addresses_in(arguments: dict[str, Any], names: list[Any], domains: str | list[Any]) -> bool:
    """Whether all addresses in the named arguments are in one of the domains themselves, not below them.

    An argument that is absent or null is skipped. No address at all is refused: nothing is known then.
    """
    wanted = {checked_domain(domain) for domain in texts(domains, "domain")}
    found = [address_domain(entry) for name in texts(names, "name") for entry in _entries(arguments.get(name))]
    if not found:
        raise ValueError("there is no address in the call")
    return wanted.issuperset(found)


def _entries(value: Any) -> Iterator[str]:
    if value is None or value == []:
        return
    if not isinstance(value, str | list):
        raise ValueError("addresses must be a text or a list of texts")
    yield from texts(value, "address")
