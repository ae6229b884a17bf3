"""An OAuth issuer with real keys on a real port, for tests: its metadata, its keys, and tokens, good and forged."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.upstreams.stage import serving

AUDIENCE = "https://hitl.example.com/mcp"

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@cache
def rsa_key(name: str = "first", bits: int = 2048) -> rsa.RSAPrivateKey:
    """An RSA key; the same one for the same name, since making one takes a while."""
    return rsa.generate_private_key(65537, bits)


def public_jwk(key_id: str | None, private: Private, **more: Any) -> dict[str, Any]:
    """The public half of a key, as issuers publish it."""
    public = private.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        written = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        written = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        written = OKPAlgorithm.to_jwk(public, as_dict=True)
    written.pop("key_ops", None)
    return {**written, **({"kid": key_id} if key_id else {}), **more}


@dataclass
class Issuer:
    """What an issuer is and does; tests change it while it runs."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=lambda: [public_jwk("k1", rsa_key(), use="sig", alg="RS256")])
    metadata: dict[str, Any] | None = None
    asked: list[str] = field(default_factory=list)
    machines: dict[str, str] = field(default_factory=dict)
    """The subjects of clients that may have a token of their own, by `id:secret`."""
    instead: Response | None = None
    """What it answers everything with, if anything."""

    def reset(self) -> None:
        """Be as new, at the same address."""
        self.__dict__.update(Issuer(self.url).__dict__)

    def claims(self, **changed: Any) -> dict[str, Any]:
        """The claims of a good token; None takes one away."""
        now = int(time.time())
        good = {"iss": self.url, "aud": AUDIENCE, "sub": "auth0|1", "scope": "openid mcp", "iat": now, "exp": now + 300}
        return {name: value for name, value in {**good, **changed}.items() if value is not None}

    def signed(
        self, private: Any = None, algorithm: str = "RS256", headers: dict[str, Any] | None = None, **changed: Any
    ) -> str:
        """A token signed with a key, the issuer's own where none is given; None takes a header away."""
        key = rsa_key() if private is None else private
        written = {name: value for name, value in {"kid": "k1", **(headers or {})}.items() if value is not None}
        # Past the checks that PyJWT makes of claims when it writes a token: issuers may be wrong, too.
        return jwt.PyJWS().encode(json.dumps(self.claims(**changed)).encode(), key, algorithm, headers=written)


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token put together by hand."""
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def _metadata(issuer: str, base: str) -> dict[str, Any]:
    return {
        "issuer": issuer,
        "jwks_uri": f"{base}/keys",
        "authorization_endpoint": f"{base}/authorize",
        "token_endpoint": f"{base}/token",
        "response_types_supported": ["code"],
        "grant_types_supported": ["client_credentials"],
    }


def _who(http: Request) -> str:
    return base64.b64decode(http.headers["authorization"].partition(" ")[2]).decode()


@asynccontextmanager
async def running_issuer(path: str = "") -> AsyncIterator[Issuer]:
    """An issuer on a free port, at a path of it."""
    issuer = Issuer()

    async def answer(http: Request) -> Response:
        issuer.asked.append(http.url.path)
        if issuer.instead is not None:
            return issuer.instead
        if http.url.path == "/keys":
            return JSONResponse({"keys": issuer.keys})
        if http.url.path == f"/.well-known/oauth-authorization-server{path}":
            return JSONResponse(issuer.metadata or _metadata(issuer.url, base))
        if http.url.path == "/token":
            # A machine's own token: for the resource that it names, with the scopes it asks for.
            form = await http.form()
            wanted: dict[str, Any] = {
                "aud": form.get("resource"),
                "scope": form.get("scope"),
                "sub": issuer.machines.get(_who(http)),
            }
            token = {"access_token": issuer.signed(**wanted), "token_type": "Bearer", "expires_in": 300}
            return JSONResponse(token)
        if http.url.path == "/elsewhere":
            return RedirectResponse(f"{base}/keys")
        return Response(status_code=404)

    async with serving(Starlette(routes=[Route("/{rest:path}", answer, methods=["GET", "POST"])])) as base:
        issuer.url = base + path
        yield issuer
