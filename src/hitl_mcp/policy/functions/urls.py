"""URLs. Only what every browser and every library reads alike is taken; anything else is refused.

What may differ between readers of a URL: user names, backslashes, white space inside, escapes in the host, other
scripts, and numbers as hosts. Servers exist that check one reading and fetch another.
"""

from __future__ import annotations

import re

from hitl_mcp.limits import URL_CHARACTERS
from hitl_mcp.policy.functions.domains import checked_host

__all__ = ["url_host"]

_URL = re.compile(r"(?i:https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?(?:[/?#].*)?")
_READ_DIFFERENTLY = re.compile(r"[\x00-\x20\x7f\\]")


def url_host(url: str) -> str:
    """The host of an `http` or `https` URL, in lower case."""
    if len(url) > URL_CHARACTERS:
        raise ValueError("the URL is too long")
    found = None if _READ_DIFFERENTLY.search(url) else _URL.fullmatch(url)
    if found is None:
        raise ValueError("the text is not a plain http or https URL")
    return checked_host(found[1])
