"""What passkeys sign and what is made of what browsers say, whatever they say."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitl_mcp.clock import Clock
from hitl_mcp.errors import NotAllowed
from hitl_mcp.limits import CHALLENGE_SECONDS, OPEN_CHALLENGES
from hitl_mcp.passkeys import (
    Assertion,
    Challenges,
    NewPasskey,
    Passkey,
    RelyingParty,
    challenge_of,
    counts_up,
    enrolled,
    enrolment_statement,
    new_nonce,
    sign_in_statement,
    verdict_statement,
    verified,
)
from tests.surfaces.authenticators import encoded

ORIGIN = "http://localhost:8377"
PARTY = RelyingParty("localhost", ORIGIN)
DANAS = Passkey("AAAA", "dana", "", "localhost", "Chrome on Linux", "")
NOW = Clock().now()

cbor = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.binary(max_size=40) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.integers(-4, 4) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=12,
)


cose = st.fixed_dictionaries(
    {1: st.sampled_from([1, 2, 3, 7]), 3: st.sampled_from([-7, -8, -257, -48, 0])},
    optional={-1: st.integers(-1, 8) | cbor, -2: st.binary(min_size=32, max_size=32) | cbor, -3: st.binary() | cbor},
)


def client_data(kind: str, challenge: bytes, **said: Any) -> str:
    """What a browser would say."""
    return encoded(json.dumps({"type": kind, "challenge": encoded(challenge), "origin": ORIGIN, **said}).encode())


def test_the_challenge_is_the_hash_of_what_is_signed_in_words() -> None:
    """Anybody can make it again from the record, without a word of our code."""
    said = verdict_statement("c_7f3k", "sha256:12", "approve", "dana", "bm9uY2U")
    text = (
        '{"call_id":"c_7f3k","digest":"sha256:12","nonce":"bm9uY2U","purpose":"verdict","reviewer":"dana","v":1,'
        '"verdict":"approve"}'
    )
    assert challenge_of(said) == hashlib.sha256(text.encode()).digest()


@given(data=st.binary(max_size=200), key=cbor | cose, authenticator=st.binary(max_size=120), raw=st.binary(max_size=60))
def test_whatever_a_browser_says_it_is_a_passkey_or_refused(
    data: bytes, key: Any, authenticator: bytes, raw: bytes
) -> None:
    """No shape of attestation, authenticator data or key gets further, or raises anything else."""
    said = enrolment_statement("dana", new_nonce())
    right = client_data("webauthn.create", challenge_of(said))
    flags = hashlib.sha256(b"localhost").digest() + bytes([0x45]) + bytes(4) + bytes(16)
    shaped = flags + len(raw).to_bytes(2, "big") + raw + cbor2.dumps(key)
    for told, attestation in (
        (encoded(data), {"fmt": "none", "attStmt": {}, "authData": shaped}),
        (right, {"fmt": "none", "attStmt": {}, "authData": shaped}),
        (right, {"fmt": "packed", "attStmt": key, "authData": shaped}),
        (right, {"fmt": "none", "attStmt": {}, "authData": authenticator}),
        (right, key),
    ):
        new = NewPasskey(encoded(raw), told, encoded(cbor2.dumps(attestation)))
        with suppress(NotAllowed):  # a key of the right shape is one; nothing else may be raised
            assert enrolled(new, said, PARTY, DANAS).id == encoded(raw)
    with pytest.raises(NotAllowed):
        enrolled(NewPasskey("AAAA", right, encoded(data)), said, PARTY, DANAS)


@given(
    data=st.binary(max_size=200),
    authenticator=st.binary(max_size=120),
    signature=st.binary(max_size=80),
    key=cbor | cose,
)
def test_whatever_is_said_to_be_signed_is_refused_without_a_signature(
    data: bytes, authenticator: bytes, signature: bytes, key: Any
) -> None:
    """Also with a stored key that is none."""
    said = sign_in_statement(new_nonce())
    passkey = Passkey("AAAA", "dana", encoded(cbor2.dumps(key)), "localhost", "", "")
    right = client_data("webauthn.get", challenge_of(said))
    shaped = hashlib.sha256(b"localhost").digest() + bytes([0x05]) + bytes(4)
    for told, parts in ((encoded(data), authenticator), (right, authenticator), (right, shaped)):
        with pytest.raises(NotAllowed):
            verified(Assertion("AAAA", encoded(parts), told, encoded(signature)), passkey, said)


@pytest.mark.parametrize(
    "told",
    ["", "!", encoded(b"[]"), encoded(b'{"challenge":[]}'), encoded(b'{"challenge":{}}'), encoded(b"[" * 12_000)],
    ids=["empty", "no-base64", "list", "list-challenge", "object-challenge", "deep"],
)
def test_an_answer_to_nothing_is_refused(told: str) -> None:
    """Whatever stands in it."""
    with pytest.raises(NotAllowed, match="not asked to be signed here"):
        Challenges().take(told, "holder", "sign-in", ORIGIN, NOW)


def test_a_challenge_is_good_once_in_time_for_its_holder_its_purpose_and_its_page() -> None:
    """Everything else is refused, and what was refused is used up."""
    challenges = Challenges()

    def opened(**changes: Any) -> tuple[str, str, str, str, Any]:
        challenge = challenges.open(sign_in_statement(new_nonce()), "dana's", NOW)
        told = client_data("webauthn.get", challenge, **changes.pop("said", {}))
        right = {"told": told, "holder": "dana's", "purpose": "sign-in", "origin": ORIGIN, "now": NOW, **changes}
        return right["told"], right["holder"], right["purpose"], right["origin"], right["now"]

    good = opened()
    assert challenges.take(*good)[0]["purpose"] == "sign-in"
    late = NOW + timedelta(seconds=CHALLENGE_SECONDS)
    for wrong in (
        good,
        opened(holder="lee's"),
        opened(purpose="verdict"),
        opened(origin="http://localhost:3000"),
        opened(said={"origin": "http://localhost:3000"}),
        opened(now=late),
    ):
        with pytest.raises(NotAllowed):
            challenges.take(*wrong)
    first = opened()
    for _ in range(OPEN_CHALLENGES):
        opened()
    with pytest.raises(NotAllowed):
        challenges.take(*first)


@pytest.mark.parametrize(
    ("last", "now", "fine"), [(0, 0, True), (0, 1, True), (5, 6, True), (5, 5, False), (5, 0, False)]
)
def test_a_sign_count_goes_up_or_is_not_kept_at_all(last: int, now: int, fine: bool) -> None:
    """As WebAuthn says it (section 6.1.1)."""
    passkey = Passkey("AAAA", "dana", "", "localhost", "", "", sign_count=last)
    assert counts_up(passkey, now) is fine
