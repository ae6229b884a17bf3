"""Domain names and hosts as they are compared: ASCII, lower case, no final dot. Nothing is looked up.

Names in other scripts are refused unless written in their ASCII form (`xn--…`): what looks alike is not equal.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from hitl_mcp.limits import DOMAIN_CHARACTERS
from hitl_mcp.policy.functions.lists import texts

__all__ = ["checked_domain", "checked_host", "domain_within", "host_private"]

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LOOKS_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
"""Hosts that resolvers and browsers read as IPv4 addresses: `127.1`, `2130706433`, `0x7f.1` (WHATWG URL standard)."""

_PRIVATE_ENDINGS = ("localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "private")
_PRIVATE_SUFFIXES = tuple(f".{ending}" for ending in (*_PRIVATE_ENDINGS, "home.arpa"))
"""Names that are only ever given out inside a network (RFC 6761, 6762, 8375; `internal` is reserved by ICANN)."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def checked_domain(text: str) -> str:
    """A domain name in lower case."""
    name = text.lower() if text.isascii() else ""
    if len(name) > DOMAIN_CHARACTERS or _DOMAIN.fullmatch(name) is None or _LOOKS_NUMERIC.fullmatch(name):
        raise ValueError("it is not a plain domain name")
    return name


def checked_host(text: str) -> str:
    """A domain name in lower case, or an IP address in its usual form, without brackets."""
    address = _address(text)
    return checked_domain(text) if address is None else str(address)


def domain_within(domain: str, domains: str | list[Any]) -> bool:
    """Whether a domain is one of some domains or below one of them. An IP address is below none."""
    wanted = [checked_domain(entry) for entry in texts(domains, "domain")]
    host = checked_host(domain)
    return any(host == entry or host.endswith(f".{entry}") for entry in wanted)


def host_private(host: str) -> bool:
    """Whether a host stands for this machine or its own network, as far as the name tells."""
    address = _address(host)
    if address is not None:
        return not all(_is_public(each) for each in (address, *_carried(address)))
    name = checked_domain(host)
    return "." not in name or name.endswith(_PRIVATE_SUFFIXES)


def _address(text: str) -> _Address | None:
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "%" in text or (":" not in inner and inner is not text):
        return None  # a zone, or brackets around something else
    if ":" not in inner and not inner[-1:].isdigit():
        return None  # the common case, without the cost of an exception
    try:
        return ipaddress.ip_address(inner)
    except ValueError:
        return None


def _carried(address: _Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 address that an IPv6 address leads to: mapped, 6to4 or NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    embedded = [address.ipv4_mapped, address.sixtofour]
    if address in _NAT64:
        embedded.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in embedded if each is not None]


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address in _NAT64):
        return True  # what it carries is looked at on its own
    return address.is_global and not address.is_multicast
