"""Access tokens of an OAuth issuer: who shows one, if it is good. No key is fetched here (`issuer`).

A token is a signed JWT. The signature is checked by PyJWT, with a key and an algorithm that the issuer's keys admit;
nothing that a token says of itself widens that.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import jwt

from hitl_mcp.config import OAuthConfig
from hitl_mcp.errors import HitlError
from hitl_mcp.surfaces.agents.issuer import IssuerKeys

__all__ = ["AccessTokens", "NotThisToken", "ScopeMissing", "UnknownSubject"]

logger = logging.getLogger(__name__)

TOKEN_BYTES = 16 * 1024
"""One access token; those with many claims have 2 or 3 KiB."""

LEEWAY_SECONDS = 30
"""How far the issuer's clock and ours may differ."""

_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""What a token's header may call it: an ID token or a logout token of the same issuer is no access token."""

_WHY = (
    (jwt.ExpiredSignatureError, "the token has expired"),
    (jwt.ImmatureSignatureError, "the token is not valid yet"),
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.InvalidIssuerError, "the token is of another issuer"),
    (jwt.InvalidSignatureError, "the signature is wrong"),
    (jwt.InvalidAlgorithmError, "the algorithm is not one that is taken"),
)


class NotThisToken(HitlError):
    """The agent's move: the token is no good; the message may be told to whoever showed it."""


class ScopeMissing(HitlError):
    """The agent's move: the token is good, and does not go far enough."""


class UnknownSubject(HitlError):
    """The operator's move: the token is good, and no agent of the config is its subject."""


class AccessTokens:
    """Says which agent a token of the configured issuer belongs to."""

    def __init__(self, config: OAuthConfig, keys: IssuerKeys, subjects: Mapping[str, str]) -> None:
        self._config = config
        self._keys = keys
        self._agents = {subject: agent for agent, subject in subjects.items()}

    @property
    def problem(self) -> str | None:
        """Why the issuer's keys could not be had when they were last fetched, if so."""
        return self._keys.problem

    async def agent_of(self, shown: bytes) -> str:
        """The agent whose token this is.

        Raises:
            NotThisToken: It is no token of the issuer for this audience, or its time is over.
            ScopeMissing: It lacks a scope.
            UnknownSubject: It belongs to nobody whom the config names.
            IssuerUnreachable: The issuer's keys cannot be had, so it cannot be told.
        """
        claims = await self._checked(shown)
        missing = [scope for scope in self._config.scopes if scope not in _scopes(claims)]
        if missing:
            raise ScopeMissing(f"the token lacks the scope `{missing[0]}`")
        subject = claims[self._config.agent_claim]
        agent = self._agents.get(subject) if isinstance(subject, str) else None
        if agent is None:
            logger.warning("refused a good token: no agent has the subject %.200a", subject)
            raise UnknownSubject(
                f"the token is good, but no agent is configured for its `{self._config.agent_claim}`",
                help='the operator writes it to the config: `agents: {NAME: {subject: "…"}}`',
            )
        return agent

    async def _checked(self, shown: bytes) -> dict[str, Any]:
        """The claims of a token whose signature, issuer, audience and times are right."""
        if len(shown) > TOKEN_BYTES:
            raise NotThisToken(f"the token has more than {TOKEN_BYTES} bytes")
        try:
            header = jwt.get_unverified_header(shown)
            key_id, algorithm = header.get("kid"), header.get("alg")
            if str(header.get("typ", "JWT")).lower() not in _TYPES:
                raise NotThisToken("it is no access token")
            if not isinstance(algorithm, str) or "crit" in header or "b64" in header:
                raise NotThisToken("its header is not that of a token that is taken here")
            key = await self._keys.matching(key_id, algorithm)
            if key is None:
                raise NotThisToken("it is signed with no key of the issuer's")
            return jwt.decode(
                shown,
                key.public,
                algorithms=sorted(key.algorithms),
                audience=self._config.audience,
                issuer=self._config.issuer,
                leeway=LEEWAY_SECONDS,
                options={
                    "require": ["exp", "iss", "aud", self._config.agent_claim],
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.MissingRequiredClaimError as error:
            raise NotThisToken(f"the token lacks `{error.claim}`") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            why = next((words for kind, words in _WHY if isinstance(error, kind)), "it is no token that can be read")
            raise NotThisToken(why) from None


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """What a token goes for: `scope` as RFC 9068 has it, else `scp`, which some issuers write instead."""
    written = claims.get("scope", claims.get("scp"))
    if isinstance(written, str):
        return frozenset(written.split(" "))
    return frozenset(one for one in written if isinstance(one, str)) if isinstance(written, list) else frozenset()
