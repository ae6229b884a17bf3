"""How an upstream's `oauth` is written in `hitl.yaml`, and the checks that all OAuth keys share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, model_validator

from hitl_mcp.documents import Problem, Strict, refuse, refuse_all
from hitl_mcp.secrets import unknown_reference

__all__ = ["UpstreamOAuth", "WrittenUpstreamOAuth"]

LOOPBACK = ("127.0.0.1", "::1", "localhost")

SCOPE = re.compile(r"[!#-\[\]-~]{1,100}\Z")

Grant = Literal["authorization_code", "client_credentials"]
"""Whether a person signs in once, or the gateway itself is the one that signs in."""


@dataclass(frozen=True)
class UpstreamOAuth:
    """How the gateway gets an access token for an upstream. `client_secret` stands as it was written."""

    grant: Grant = "authorization_code"
    issuer: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    scopes: tuple[str, ...] = ()


def split_url(url: str) -> SplitResult | None:
    """A URL's parts, or None where it is no HTTP URL."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        return None
    return parts if usable else None


def encrypted_address(
    key: str, why: str = "whoever changes its answer is every agent"
) -> Callable[[str | None], str | None]:
    """The check of an issuer's address, or of one beside it."""

    def usable(url: str | None) -> str | None:
        """Kept as it is written: an issuer's name is compared letter for letter, a slash at its end included."""
        parts = split_url(url) if url is not None else None
        if url is None:
            return None
        if parts is None or parts.fragment or parts.username is not None or (parts.query and key == "issuer"):
            raise refuse(f"`{key}` is not an address", "write `https://id.example.com`, as the issuer calls itself")
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise refuse(f"`{key}` is not encrypted", f"write `https://…`: {why}")
        return url

    return usable


def known_scope(name: str) -> str:
    """The check of one scope."""
    if not SCOPE.match(name):
        raise refuse(f"not a scope: `{name}`", "write each scope by itself: `[mcp, read]`")
    return name


def _usable_text(text: str | None) -> str | None:
    if text is not None and not text.strip():
        raise refuse("the text is empty")
    if text is not None and (odd := unknown_reference(text)):
        raise refuse(f"unknown reference `{odd[0]}`", odd[1])
    return text


class WrittenUpstreamOAuth(Strict):
    """As it is written."""

    noun: ClassVar[str] = "an upstream's `oauth`"
    grant: Grant = "authorization_code"
    issuer: Annotated[str | None, AfterValidator(encrypted_address("issuer", "secrets are sent there"))] = None
    client_id: Annotated[str | None, AfterValidator(_usable_text)] = None
    client_secret: Annotated[str | None, AfterValidator(_usable_text)] = None
    scopes: list[Annotated[str, AfterValidator(known_scope)]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _whole(self) -> WrittenUpstreamOAuth:
        problems = []
        if self.grant == "client_credentials" and not (self.client_id and self.client_secret):
            advice = "write them as the authorization server gave them, the secret as `${env:NAME}`"
            problems.append(Problem("`client_credentials` needs `client_id` and `client_secret`", advice))
        elif self.client_secret and not self.client_id:
            problems.append(Problem("`client_secret` without `client_id`", "write both, or neither"))
        if self.client_secret and not self.issuer:
            advice = "write the authorization server's address: the secret is sent to it alone"
            problems.append(Problem("`client_secret` needs `issuer`", advice))
        if problems:
            raise refuse_all(problems)
        return self

    def meant(self) -> UpstreamOAuth:
        """What it says."""
        return UpstreamOAuth(self.grant, self.issuer, self.client_id, self.client_secret, tuple(self.scopes))
