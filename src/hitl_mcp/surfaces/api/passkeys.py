"""The endpoints of passkeys: enrol, list, remove and reset them, and ask one to sign a verdict.

What a passkey signed is looked up here by its challenge, which is good once, in time, and for the sign-in that asked.
What it is worth is found out in the store, in the transaction that relies on it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from webauthn import generate_authentication_options, generate_registration_options
from webauthn.helpers import options_to_json_dict
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from hitl_mcp.calls import Assurance, VerdictKind
from hitl_mcp.clock import after, to_text
from hitl_mcp.errors import NotAllowed
from hitl_mcp.limits import CHALLENGE_SECONDS
from hitl_mcp.passkeys import (
    Assertion,
    NewPasskey,
    Passkey,
    RelyingParty,
    Statement,
    confirmation_statement,
    decoded,
    enrolled,
    enrolment_statement,
    new_nonce,
    removal_statement,
    verdict_statement,
    why_none,
)
from hitl_mcp.surfaces.api.bodies import (
    AssertionBody,
    CredentialBody,
    EnrolBody,
    NothingBody,
    RemovalBody,
    ResetBody,
    VerdictOptionsBody,
    read_body,
)
from hitl_mcp.surfaces.api.browsers import label_of
from hitl_mcp.surfaces.api.parts import ApiParts, Viewer
from hitl_mcp.surfaces.api.problems import Problem

RESETS_SHOWN_SECONDS = 7 * 24 * 3600
"""How long everybody is shown that somebody's passkeys were taken away: a week, so that a weekend hides nothing."""

ALGORITHMS = (
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
)
"""What a passkey may sign with, what everybody can check first; some of Windows have keys of the last kind alone."""

Wire = dict[str, Any]


def party_of(parts: ApiParts) -> RelyingParty:
    """Whom the passkeys of this page are made for.

    Raises:
        NotAllowed: Browsers have none for a page at this address.
    """
    party = RelyingParty.at(parts.public_url)
    if party is None:
        raise NotAllowed(
            f"there are no passkeys here: {why_none(parts.public_url)}",
            help="the operator gives the page a name with `review.public_url`",
        )
    return party


def answered(parts: ApiParts, body: AssertionBody, holder: str, purpose: str) -> tuple[Assertion, Statement, Any]:
    """What a passkey signed, the statement of ours that it stands for, and what was kept about that.

    Raises:
        NotAllowed: Nobody here asked for it, it was used before, or another page asked.
    """
    data, origin = body.response.clientDataJSON, party_of(parts).origin
    statement, about = parts.challenges.take(data, holder, purpose, origin, parts.clock.now())
    assertion = Assertion(
        credential=body.id,
        authenticator_data=body.response.authenticatorData,
        client_data=data,
        signature=body.response.signature,
        nonce=str(statement["nonce"]),
    )
    return assertion, statement, about


def assured(
    parts: ApiParts, viewer: Viewer, call_id: str, kind: VerdictKind, body: AssertionBody | None
) -> tuple[Assurance, str]:
    """The assurance of a verdict, and the signed assertion that it is kept with.

    Without one it is what the sign-in itself is worth. Whether the signature is good for the digest that the verdict
    names is found out when it is written.

    Raises:
        NotAllowed: The assertion was not asked for here, for another call, or for another verdict.
    """
    if body is None:
        return viewer.assurance, ""
    assertion, statement, _ = answered(parts, body, _holder(viewer), "verdict")
    if (statement["call_id"], statement["verdict"], statement["reviewer"]) != (call_id, kind, viewer.reviewer.name):
        raise NotAllowed(
            "the passkey signed another verdict than this one", help="look at the call again and sign what it shows now"
        )
    return "passkey", assertion.to_json()


async def passkeys_status(parts: ApiParts) -> Wire:
    """What everybody should know of anybody's passkeys: the operator took some away, or some are not our own."""
    since = to_text(after(parts.clock.now(), -RESETS_SHOWN_SECONDS))
    passkeys = parts.store.passkeys
    return {"resets": await passkeys.resets(since), "tampered": list(passkeys.tampered)}


def usable_passkeys(parts: ApiParts, viewer: Viewer) -> int:
    """How many passkeys whoever looks could sign with, here and now."""
    party = RelyingParty.at(parts.public_url) if viewer.key_digest is not None else None
    if party is None:
        return 0
    known, name = parts.store.passkeys.known(), viewer.reviewer.name
    return sum(one.reviewer == name and one.removed_at is None and one.rp_id == party.id for one in known)


class PasskeyEndpoints:
    """Passkeys at one gateway. Who asks was found out before."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    async def list_all(self, http: Request, viewer: Viewer) -> Response:
        """The passkeys of whoever asks; on the control socket everybody's."""
        found = await self._parts.store.passkeys.of(None if viewer.surface == "cli" else viewer.reviewer.name)
        return JSONResponse({"passkeys": self._wire(found)})

    async def options(self, http: Request, viewer: Viewer) -> Response:
        """What a browser is told to make a passkey with."""
        await read_body(http, NothingBody)
        party, name = party_of(self._parts), viewer.reviewer.name
        challenge = self._open(enrolment_statement(name, new_nonce()), viewer)
        options = generate_registration_options(
            rp_id=party.id,
            rp_name="hitl-mcp",
            user_name=name,
            user_id=hashlib.sha256(f"hitl-mcp:{name}".encode()).digest(),
            challenge=challenge,
            timeout=CHALLENGE_SECONDS * 1000,
            attestation=AttestationConveyancePreference.NONE,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
            supported_pub_key_algs=[*ALGORITHMS],
            exclude_credentials=_descriptors(await self._parts.store.passkeys.of(name)),
        )
        return JSONResponse(options_to_json_dict(options))

    async def enrol(self, http: Request, viewer: Viewer) -> Response:
        """Take a new passkey. A further one is taken when one that there is has signed that, too."""
        body = await read_body(http, EnrolBody)
        passkeys = self._parts.store.passkeys
        if body.credential is None:
            if body.assertion is None:
                raise Problem(422, "wrong_body", "one of `credential` and `assertion` is needed")
            assertion, _, passkey = answered(self._parts, body.assertion, _holder(viewer), "add-passkey")
            return self._taken(await passkeys.add(passkey, assertion))
        passkey = self._made(http, viewer, body.credential)
        name = viewer.reviewer.name
        there = await passkeys.of(name)
        if not there:
            return self._taken(await passkeys.add(passkey, None))
        said = confirmation_statement(name, passkey.id, passkey.public_key, new_nonce())
        return JSONResponse({"confirm": self._asking(there, self._open(said, viewer, passkey))})

    def _made(self, http: Request, viewer: Viewer, body: CredentialBody) -> Passkey:
        """The passkey that a browser made when it was told to."""
        party, data = party_of(self._parts), body.response.clientDataJSON
        now, label = self._parts.clock.now(), label_of(http.headers.get("user-agent", ""))
        statement, _ = self._parts.challenges.take(data, _holder(viewer), "enrol", party.origin, now)
        new = NewPasskey(body.id, data, body.response.attestationObject, tuple(body.response.transports))
        return enrolled(new, statement, party, Passkey("", viewer.reviewer.name, "", party.id, label, ""))

    async def remove(self, http: Request, viewer: Viewer) -> Response:
        """Take one of one's passkeys away, once one of them has signed that."""
        body = await read_body(http, RemovalBody)
        name, passkey_id = viewer.reviewer.name, http.path_params["passkey_id"]
        there = await self._parts.store.passkeys.of(name)
        if all(one.id != passkey_id for one in there):
            raise Problem(404, "passkey_not_found", "you have no such passkey, or it was removed")
        if body.assertion is None:
            challenge = self._open(removal_statement(name, passkey_id, new_nonce()), viewer)
            return JSONResponse({"confirm": self._asking(there, challenge)})
        assertion, _, _ = answered(self._parts, body.assertion, _holder(viewer), "remove-passkey")
        await self._parts.store.passkeys.remove(name, passkey_id, assertion)
        return JSONResponse({"passkeys": self._wire(await self._parts.store.passkeys.of(name))})

    async def reset(self, http: Request, viewer: Viewer) -> Response:
        """Take all passkeys of a reviewer away. Only on the control socket; every reviewer is shown it."""
        name = (await read_body(http, ResetBody)).reviewer
        gone = await self._parts.store.passkeys.reset(name)
        return JSONResponse({"reviewer": name, "removed": len(gone)})

    async def verdict_options(self, http: Request, viewer: Viewer) -> Response:
        """What a browser is to ask a passkey to sign for a verdict: this call, this digest, this verdict, once.

        `digest` is what the verdict will count for: with edits that of the edited call.
        """
        body = await read_body(http, VerdictOptionsBody)
        record = await self._parts.store.get(http.path_params["call_id"])
        party_of(self._parts)
        there = await self._parts.store.passkeys.of(viewer.reviewer.name)
        said = verdict_statement(record.id, body.digest, body.verdict, viewer.reviewer.name, new_nonce())
        return JSONResponse(self._asking(there, self._open(said, viewer)))

    def _open(self, statement: Statement, viewer: Viewer, about: Any = None) -> bytes:
        return self._parts.challenges.open(statement, _holder(viewer), self._parts.clock.now(), about)

    def _asking(self, there: tuple[Passkey, ...], challenge: bytes) -> Wire:
        """What a browser is to ask one of these passkeys to sign."""
        party = party_of(self._parts)
        usable = tuple(one for one in there if one.rp_id == party.id)
        if not usable:
            raise NotAllowed("you have no passkey here", help="add one on the page, under your name")
        options = generate_authentication_options(
            rp_id=party.id,
            challenge=challenge,
            timeout=CHALLENGE_SECONDS * 1000,
            allow_credentials=_descriptors(usable),
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return options_to_json_dict(options)

    def _taken(self, passkey: Passkey) -> Response:
        return JSONResponse({"passkey": self._wire((passkey,))[0]})

    def _wire(self, passkeys: tuple[Passkey, ...]) -> list[Wire]:
        party = RelyingParty.at(self._parts.public_url)
        fingerprints = {one.id: one.fingerprint for one in self._parts.store.passkeys.known()}
        return [
            {
                "id": one.id,
                "reviewer": one.reviewer,
                "label": one.label,
                "fingerprint": one.fingerprint,
                "created_at": one.created_at,
                "last_used_at": one.last_used_at,
                "confirmed_by": fingerprints.get(one.confirmed_by) if one.confirmed_by else None,
                "made_for": one.rp_id,
                "usable": party is not None and one.rp_id == party.id,
            }
            for one in passkeys
        ]


def _holder(viewer: Viewer) -> str:
    """The sign-in that challenges are bound to.

    Raises:
        NotAllowed: There is none, as on the control socket: there is no browser there.
    """
    if viewer.key_digest is None:
        raise NotAllowed("passkeys are used on the review page", help="`hitl-mcp review` opens it")
    return viewer.key_digest


def _descriptors(passkeys: tuple[Passkey, ...]) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(
            id=decoded(one.id),
            transports=[AuthenticatorTransport(name) for name in one.transports.split(",") if name] or None,
        )
        for one in passkeys
    ]
