"""Authenticators: one in plain Python that signs what it is asked to, also wrongly, and the one in a browser."""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from playwright.async_api import CDPSession, Page

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40
"""Flags of authenticator data (WebAuthn, section 6.1)."""


def encoded(raw: bytes) -> str:
    """Unpadded base64url."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """What `encoded` made."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Key:
    """A passkey outside of any browser; `sign_count` goes up with each use, as `steps` says."""

    origin: str
    rp_id: str = "localhost"
    flags: int = PRESENT | VERIFIED
    sign_count: int = 0
    steps: int = 1
    private: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    id: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def made(self, options: dict[str, Any], **said: Any) -> dict[str, Any]:
        """What a browser answers that was told to make it."""
        numbers = self.private.public_key().public_numbers()
        key = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        attested = bytes(16) + len(self.id).to_bytes(2, "big") + self.id + cbor2.dumps(key)
        statement = {"fmt": "none", "attStmt": {}, "authData": self._data(self.flags | ATTESTED) + attested}
        client_data = self._client_data("webauthn.create", options["challenge"], said)
        response = {"clientDataJSON": encoded(client_data), "attestationObject": encoded(cbor2.dumps(statement))}
        return {"id": encoded(self.id), "response": response}

    def signed(self, options: dict[str, Any], **said: Any) -> dict[str, Any]:
        """What a browser answers that was told to have it sign."""
        self.sign_count += self.steps
        data = self._data(self.flags)
        client_data = self._client_data("webauthn.get", options["challenge"], said)
        signature = self.private.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(SHA256()))
        parts = {"clientDataJSON": client_data, "authenticatorData": data, "signature": signature}
        return {"id": encoded(self.id), "response": {name: encoded(part) for name, part in parts.items()}}

    def _data(self, flags: int) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest() + bytes([flags]) + self.sign_count.to_bytes(4, "big")

    def _client_data(self, kind: str, challenge: str, said: dict[str, Any]) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin, **said}).encode()


@dataclass
class Virtual:
    """A virtual authenticator in a real browser."""

    cdp: CDPSession
    id: str

    @classmethod
    async def plug_into(cls, page: Page) -> Virtual:
        """Give a page's browser an authenticator that always finds its user present and verified."""
        cdp = await page.context.new_cdp_session(page)
        await cdp.send("WebAuthn.enable")
        return await cls(cdp, "").beside("internal")

    async def beside(self, transport: str) -> Virtual:
        """Another one in the same browser."""
        options = {
            "protocol": "ctap2",
            "transport": transport,
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        added = await self.cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        return Virtual(self.cdp, added["authenticatorId"])

    async def user_is_verified(self, verified: bool) -> None:
        """Whether the user shows the right finger from now on."""
        await self.cdp.send("WebAuthn.setUserVerified", {"authenticatorId": self.id, "isUserVerified": verified})
