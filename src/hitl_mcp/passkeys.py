"""Passkeys: what a reviewer's key signs, whether a signature is good, and the challenges that are open. No I/O.

A verdict by passkey signs the digest itself: the challenge is the hash of a statement that names the call, the
digest, the verdict, the reviewer and a nonce of ours. With the public key, statement and assertion are all that anybody
needs to check it later. Where passkeys are kept is no matter of this module (see `store/passkeys.py`).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from webauthn import verify_authentication_response, verify_registration_response
from webauthn.helpers import (
    decode_credential_public_key,
    decoded_public_key_to_cryptography,
    parse_client_data_json,
)
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import AttestationFormat

from hitl_mcp.canonical import canonical_bytes, canonical_text
from hitl_mcp.clock import after
from hitl_mcp.errors import NotAllowed
from hitl_mcp.limits import CHALLENGE_SECONDS, OPEN_CHALLENGES, OPEN_SIGN_IN_CHALLENGES

Statement = Mapping[str, str | int]
"""What a passkey is asked to sign, in words: it signs the hash of its canonical JSON."""

_NONCE_BYTES = 32
"""256 bits: no two challenges are ever the same."""

_FINGERPRINT_DIGITS = 16
"""64 bits of a key's hash: what people compare by eye, in four groups."""

_MISSHAPEN = (WebAuthnException, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)
"""What the library raises for what no authenticator sends: some of its parsers trust the shape of CBOR."""


def encoded(raw: bytes) -> str:
    """Bytes as unpadded base64url, as WebAuthn writes them in JSON."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """Bytes from unpadded base64url.

    Raises:
        ValueError: It is none.
    """
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


@dataclass(frozen=True)
class RelyingParty:
    """Whom passkeys are made for: `id`, a host's name, and the one `origin` at which the page is asked to use them."""

    id: str
    origin: str

    @classmethod
    def at(cls, url: str) -> RelyingParty | None:
        """The relying party of the page at this address; None where browsers have no passkeys: see `why_none`."""
        parts = urlsplit(url)
        return cls(parts.hostname or "", f"{parts.scheme}://{parts.netloc}".lower()) if why_none(url) is None else None


def why_none(url: str) -> str | None:
    """Why passkeys cannot be used with the page at this address, or None where they can."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return f"passkeys need a name, and `{host}` is a number"
    if parts.scheme != "https" and host != "localhost":
        return "passkeys need `https`"
    return None


@dataclass(frozen=True)
class Passkey:
    """A reviewer's passkey. `id` (the credential's) and `public_key` (COSE) are base64url.

    `confirmed_by` is the passkey that confirmed it by signing `confirmation_json`; None for a reviewer's first one,
    which was taken on the word of a sign-in. `transports` is how a browser reaches it, separated by commas.
    Once removed it signs nothing any more; what it signed before stands.
    """

    id: str
    reviewer: str
    public_key: str
    rp_id: str
    label: str
    created_at: str
    transports: str = ""
    confirmed_by: str | None = None
    confirmation_json: str = ""
    removed_at: str | None = None
    removed_by: str | None = None
    removal_json: str = ""
    sign_count: int = 0
    last_used_at: str | None = None

    @property
    def fingerprint(self) -> str:
        """What people compare: the first digits of the public key's hash."""
        digits = hashlib.sha256(self.public_key.encode()).hexdigest()[:_FINGERPRINT_DIGITS]
        return "-".join(digits[start : start + 4] for start in range(0, _FINGERPRINT_DIGITS, 4))


@dataclass(frozen=True)
class Assertion:
    """What an authenticator answered, as base64url, and the nonce of the statement that it answered to."""

    credential: str
    authenticator_data: str
    client_data: str
    signature: str
    nonce: str = ""

    def to_json(self) -> str:
        """As it is kept."""
        return canonical_text({"v": 1, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Assertion:
        """Read what `to_json` wrote.

        Raises:
            NotAllowed: It is no such thing.
        """
        try:
            stored = json.loads(text)
            version, kept = stored.pop("v"), cls(**stored)
            if version != 1 or not all(isinstance(value, str) for value in stored.values()):
                raise ValueError("not an assertion")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise NotAllowed("what should be a passkey's signature is none") from None
        return kept


# What is signed.


def verdict_statement(call_id: str, digest: str, verdict: str, reviewer: str, nonce: str) -> Statement:
    """What a verdict by passkey signs: exactly these bytes of exactly this call, said by this reviewer."""
    said = {"call_id": call_id, "digest": digest, "verdict": verdict, "reviewer": reviewer}
    return {"v": 1, "purpose": "verdict", **said, "nonce": nonce}


def confirmation_statement(reviewer: str, credential: str, public_key: str, nonce: str) -> Statement:
    """What a reviewer's passkey signs so that a further one is taken: its id and its key."""
    said = {"reviewer": reviewer, "credential": credential, "public_key": public_key}
    return {"v": 1, "purpose": "add-passkey", **said, "nonce": nonce}


def removal_statement(reviewer: str, credential: str, nonce: str) -> Statement:
    """What a reviewer's passkey signs so that one of them is removed."""
    return {"v": 1, "purpose": "remove-passkey", "reviewer": reviewer, "credential": credential, "nonce": nonce}


def enrolment_statement(reviewer: str, nonce: str) -> Statement:
    """What a new passkey is made with."""
    return {"v": 1, "purpose": "enrol", "reviewer": reviewer, "nonce": nonce}


def sign_in_statement(nonce: str) -> Statement:
    """What a passkey signs to sign its reviewer in: who that is, nobody knows before."""
    return {"v": 1, "purpose": "sign-in", "nonce": nonce}


def challenge_of(statement: Statement) -> bytes:
    """The challenge that stands for a statement: the SHA-256 of its canonical JSON."""
    return hashlib.sha256(canonical_bytes(dict(statement))).digest()


def new_nonce() -> str:
    """A fresh nonce, as base64url."""
    return encoded(secrets.token_bytes(_NONCE_BYTES))


# Whether a signature is good.


def verified(assertion: Assertion, passkey: Passkey, statement: Statement, origin: str | None = None) -> int:
    """Check that a passkey signed a statement, its user verified by the authenticator; gives its new sign count.

    `origin` is the page's, where that is known; a check after the fact asks only that it was one of the relying
    party's.

    Raises:
        NotAllowed: It did not.
    """
    try:
        said = parse_client_data_json(decoded(assertion.client_data))
        expected = origin if origin is not None else _one_of(passkey.rp_id, said.origin)
        if said.cross_origin:
            raise ValueError("asked for inside of another page")
        found = verify_authentication_response(
            credential={
                "id": assertion.credential,
                "rawId": assertion.credential,
                "type": "public-key",
                "response": {
                    "clientDataJSON": assertion.client_data,
                    "authenticatorData": assertion.authenticator_data,
                    "signature": assertion.signature,
                },
            },
            expected_challenge=challenge_of(statement),
            expected_rp_id=passkey.rp_id,
            expected_origin=expected,
            credential_public_key=decoded(passkey.public_key),
            credential_current_sign_count=0,  # whether it went up is looked at where it is kept
            require_user_verification=True,
        )
    except _MISSHAPEN as error:
        raise NotAllowed(
            f"the passkey's signature is not good for this: {str(error)[:1].lower()}{str(error)[1:]}",
            help="look at it again and sign what it shows now",
        ) from None
    if assertion.credential != passkey.id:
        raise NotAllowed("the signature is another passkey's")
    return found.new_sign_count


def counts_up(passkey: Passkey, sign_count: int) -> bool:
    """Whether a sign count may follow the last one. An authenticator that keeps none always says 0."""
    return sign_count == passkey.sign_count == 0 or sign_count > passkey.sign_count


def _one_of(rp_id: str, origin: Any) -> str:
    """An origin of a relying party: encrypted or on this machine, its host that party's or below it."""
    parts = urlsplit(origin)
    host = parts.hostname or ""
    if (parts.scheme != "https" and host != "localhost") or (host != rp_id and not host.endswith(f".{rp_id}")):
        raise ValueError(f"`{origin}` is not a page of `{rp_id}`")
    return str(origin)


@dataclass(frozen=True)
class NewPasskey:
    """What a browser says of a passkey that it made."""

    id: str
    client_data: str
    attestation: str
    transports: tuple[str, ...] = ()


def enrolled(new: NewPasskey, statement: Statement, party: RelyingParty, passkey: Passkey) -> Passkey:
    """`passkey` with the id and key that a browser made for us, its user verified.

    Raises:
        NotAllowed: It was not made for us, not now, or not by a verified user.
    """
    try:
        if parse_client_data_json(decoded(new.client_data)).cross_origin:
            raise ValueError("made inside of another page")
        found = verify_registration_response(
            credential={
                "id": new.id,
                "rawId": new.id,
                "type": "public-key",
                "response": {"clientDataJSON": new.client_data, "attestationObject": new.attestation},
            },
            expected_challenge=challenge_of(statement),
            expected_rp_id=party.id,
            expected_origin=party.origin,
            require_user_verification=True,
        )
        # Nobody asked for more; what a statement of a maker of authenticators is worth, we do not judge.
        if (
            found.fmt not in (AttestationFormat.NONE, AttestationFormat.PACKED)
            or encoded(found.credential_id) != new.id
        ):
            raise ValueError("it is attested in a way that was not asked for")
        decoded_public_key_to_cryptography(decode_credential_public_key(found.credential_public_key))
    except _MISSHAPEN as error:
        raise NotAllowed(
            f"this passkey cannot be taken: {str(error)[:1].lower()}{str(error)[1:]}", help="make it again on the page"
        ) from None
    key = encoded(found.credential_public_key)
    return replace(
        passkey,
        id=new.id,
        public_key=key,
        rp_id=party.id,
        sign_count=found.sign_count,
        transports=",".join(new.transports),
    )


# What is open.


@dataclass(frozen=True)
class _Open:
    statement: Statement
    until: datetime
    about: Any


@dataclass(eq=False)
class Challenges:
    """The challenges that were given out and not answered yet, each bound to the sign-in that asked for it.

    In memory only: a restart makes them void. `""` holds those of people who are not signed in yet.
    """

    _open: dict[str, dict[str, _Open]] = field(default_factory=dict)

    def open(self, statement: Statement, holder: str, now: datetime, about: Any = None) -> bytes:
        """A challenge for a statement. Of too many open ones of the same holder the oldest goes."""
        for name in [name for name, theirs in self._open.items() if all(one.until <= now for one in theirs.values())]:
            del self._open[name]
        held = self._open.setdefault(holder, {})
        while len(held) >= (OPEN_CHALLENGES if holder else OPEN_SIGN_IN_CHALLENGES):
            del held[next(iter(held))]
        challenge = challenge_of(statement)
        held[encoded(challenge)] = _Open(statement, after(now, CHALLENGE_SECONDS), about)
        return challenge

    def take(self, client_data: str, holder: str, purpose: str, origin: str, now: datetime) -> tuple[Statement, Any]:
        """The statement whose challenge was answered, and what was kept about it: the first time, in time, to its
        holder, through the page at `origin`.

        Raises:
            NotAllowed: There is none.
        """
        try:
            said = json.loads(decoded(client_data))
            found = self._open.get(holder, {}).pop(said["challenge"], None)
            if said["origin"] != origin:
                # Any page on this machine may ask a passkey made for `localhost`: what it was given is worthless.
                found = None
        except (ValueError, KeyError, TypeError, RecursionError):
            found = None
        if found is None or found.until <= now or found.statement["purpose"] != purpose:
            raise NotAllowed(
                "this was not asked to be signed here, was signed before, or its time is over", help="try it again"
            )
        return found.statement, found.about
