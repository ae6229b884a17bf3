"""An OAuth issuer's public keys: where they are, fetched and kept for a while. What a token must say is not here.

Nothing that an agent sends decides where we connect: the config names the issuer, and the issuer its keys.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from hitl_mcp import __version__
from hitl_mcp.config import OAuthConfig
from hitl_mcp.errors import HitlError

__all__ = ["IssuerKeys", "IssuerUnreachable", "SigningKey"]

logger = logging.getLogger(__name__)

FETCH_SECONDS = 5
"""For the metadata and the keys together: an agent's request waits meanwhile."""

ANSWER_BYTES = 256 * 1024
"""What an issuer may send; the largest key sets in use have about 10 KiB."""

KEYS = 100
"""Keys of one issuer that are looked at; issuers have two or three."""

FRESH_SECONDS = 600
"""How long keys are used without asking again: so long a key that the issuer took back may still count."""

KEPT_SECONDS = 3600
"""How long they are used at most, where the issuer cannot be reached meanwhile."""

AGAIN_SECONDS = 30
"""Between two fetches because of a key that is not known, or after one that failed: anyone can make up key ids."""

RSA_BITS = 2048
"""The shortest RSA key that RFC 7518 admits."""

_BY_TYPE = {
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "EC P-256": frozenset({"ES256"}),
    "EC P-384": frozenset({"ES384"}),
    "EC P-521": frozenset({"ES512"}),
    "OKP Ed25519": frozenset({"EdDSA"}),
}
"""What each kind of key may have signed. Asymmetric ones only: with a shared secret, whoever checks can also sign."""

_PRIVATE = frozenset({"d", "k", "p", "q", "dp", "dq", "qi", "oth"})


class IssuerUnreachable(HitlError):
    """The issuer's move: its keys cannot be had, so nobody's token can be checked."""


@dataclass(frozen=True)
class SigningKey:
    """A public key, and the algorithms with which it may have signed: the key says so, never the token."""

    id: str | None
    algorithms: frozenset[str]
    public: Any


class IssuerKeys:
    """The keys of one issuer."""

    def __init__(self, config: OAuthConfig, seconds: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._seconds = seconds
        self._lock = anyio.Lock()
        self._keys: tuple[SigningKey, ...] = ()
        self._fetched_at = self._wanted_at = self._failed_at = -float("inf")
        self.problem: str | None = None

    async def matching(self, key_id: str | None, algorithm: str) -> SigningKey | None:
        """The key that a token's header names, or None where the issuer has none such.

        A token without a key id can only be of the one key that fits.

        Raises:
            IssuerUnreachable: The issuer's keys cannot be had.
        """
        async with self._lock:
            now = self._seconds()
            is_old = now - self._fetched_at >= FRESH_SECONDS
            if is_old:
                await self._fetch_unless_just_failed(now)
            found = self._find(key_id, algorithm)
            if found is None and not is_old and now - self._wanted_at >= AGAIN_SECONDS:
                self._wanted_at = now
                await self._fetch_unless_just_failed(now)
                found = self._find(key_id, algorithm)
            return found

    def _find(self, key_id: str | None, algorithm: str) -> SigningKey | None:
        fitting = [key for key in self._keys if algorithm in key.algorithms and key_id in (None, key.id)]
        return fitting[0] if len(fitting) == 1 else None

    async def _fetch_unless_just_failed(self, now: float) -> None:
        if now - self._failed_at >= AGAIN_SECONDS:
            try:
                with anyio.fail_after(FETCH_SECONDS):
                    self._keys = await self._fetched()
                self._fetched_at, self.problem = now, None
            except TimeoutError:
                self._failed(now, f"it did not answer within {FETCH_SECONDS} s")
            except IssuerUnreachable as error:
                self._failed(now, error.message)
        if now - self._fetched_at >= KEPT_SECONDS:
            raise IssuerUnreachable(self.problem or "the issuer's keys are too old")

    def _failed(self, now: float, why: str) -> None:
        self._failed_at, self.problem = now, f"the keys of `{self._config.issuer}` cannot be had: {why}"
        logger.warning("%s", self.problem)

    # Fetching.

    async def _fetched(self) -> tuple[SigningKey, ...]:
        async with httpx2.AsyncClient(
            headers={
                "user-agent": f"hitl-mcp/{__version__}",
                "accept": "application/json",
                "accept-encoding": "identity",
            },
            timeout=FETCH_SECONDS,
            follow_redirects=False,
            trust_env=False,
        ) as http:
            url = self._config.jwks_url or await self._keys_url(http)
            answer = await _json_at(http, url)
        written = answer.get("keys") if answer is not None else None
        if not isinstance(written, list):
            raise IssuerUnreachable("it answers with no set of keys")
        read = (_signing_key(key) for key in written[:KEYS] if isinstance(key, dict))
        usable = tuple(key for key in read if key is not None)
        if not usable:
            raise IssuerUnreachable("none of its keys can be used")
        return usable

    async def _keys_url(self, http: httpx2.AsyncClient) -> str:
        """Where the issuer's metadata says that its keys are (RFC 8414, else OpenID Connect Discovery)."""
        issuer = self._config.issuer
        for url in _metadata_urls(issuer):
            metadata = await _json_at(http, url)
            if metadata is None:
                continue
            if metadata.get("issuer") != issuer:
                raise IssuerUnreachable(f"its metadata is of another issuer, `{str(metadata.get('issuer'))[:200]}`")
            keys_url = metadata.get("jwks_uri")
            if not isinstance(keys_url, str) or not _as_safe_as(keys_url, issuer):
                raise IssuerUnreachable("its metadata names no address of its keys that can be used")
            return keys_url
        raise IssuerUnreachable("it has no metadata: write `jwks_url`")


def _metadata_urls(issuer: str) -> tuple[str, str]:
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    return (
        f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{path}",
        f"{parts.scheme}://{parts.netloc}{path}/.well-known/openid-configuration",
    )


def _as_safe_as(url: str, issuer: str) -> bool:
    """Whether an address is TLS; or, for an issuer on this machine without it, on the very same address."""
    try:
        parts, own = urlsplit(url), urlsplit(issuer)
    except ValueError:
        return False
    return (parts.scheme == "https" and bool(parts.hostname)) or (
        own.scheme == "http" and (parts.scheme, parts.netloc) == (own.scheme, own.netloc)
    )


async def _json_at(http: httpx2.AsyncClient, url: str) -> dict[str, Any] | None:
    """The JSON object at an address, or None where there is nothing."""
    try:
        async with http.stream("GET", url) as response:
            if 400 <= response.status_code < 500:
                return None
            if response.status_code != 200:
                raise IssuerUnreachable(f"it answers with HTTP {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise IssuerUnreachable("its answer is packed, which was not asked for")
            raw = bytearray()
            async for piece in response.aiter_raw():
                raw += piece
                if len(raw) > ANSWER_BYTES:
                    raise IssuerUnreachable(f"its answer has more than {ANSWER_BYTES} bytes")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise IssuerUnreachable(str(error).lower() or type(error).__name__) from None
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        raise IssuerUnreachable("its answer is not JSON") from None
    if not isinstance(answer, dict):
        raise IssuerUnreachable("its answer is no JSON object")
    return answer


def _signing_key(written: Mapping[str, Any]) -> SigningKey | None:
    """A key for checking signatures, or None for anything else: an unknown one, a secret, one for encryption."""
    kind = " ".join(str(written[part]) for part in ("kty", "crv") if part in written)
    algorithms = _BY_TYPE.get(kind, frozenset())
    if "alg" in written:
        algorithms &= {str(written["alg"])}
    operations = written.get("key_ops", ["verify"])
    is_for_signatures = written.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    if not algorithms or not is_for_signatures or _PRIVATE & set(written):
        return None
    try:
        public = jwt.PyJWK(dict(written), sorted(algorithms)[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError, OverflowError):
        return None
    key_id = written.get("kid")
    if isinstance(public, RSAPublicKey) and public.key_size < RSA_BITS:
        return None
    return SigningKey(key_id if isinstance(key_id, str) else None, algorithms, public)
