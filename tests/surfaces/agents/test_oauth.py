"""`/mcp` as an OAuth resource server: which tokens of a real issuer let whom in, and every forgery that must not."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwt.algorithms import ECAlgorithm
from starlette.responses import Response

from hitl_mcp.config import OAuthConfig
from hitl_mcp.surfaces.agents import AgentServer, AgentsOverHttp, OAuthDoor
from hitl_mcp.surfaces.agents.access_tokens import TOKEN_BYTES, AccessTokens
from hitl_mcp.surfaces.agents.issuer import AGAIN_SECONDS, FRESH_SECONDS, KEPT_SECONDS, IssuerKeys
from hitl_mcp.surfaces.agents.resource import ProtectedResource
from tests.issuers import AUDIENCE, Issuer, public_jwk, rsa_key, running_issuer, unsigned
from tests.surfaces.agents.small_server import SmallServer
from tests.surfaces.agents.test_http import HEADERS, TOKENS, WHO

SUBJECTS = {"builder": "auth0|1", "writer": "auth0|2"}
METADATA = "http://127.0.0.1:8377/.well-known/oauth-protected-resource/mcp"
NOT_READ = "it is no token that can be read"
OTHER_HEADER = "its header is not that of a token that is taken here"
NO_KEY = "it is signed with no key of the issuer's"


class Door:
    """`/mcp` in front of a small server, with a clock for the keys that is moved by hand."""

    def __init__(self, issuer: Issuer, **config: Any) -> None:
        self.issuer = issuer
        self.server = SmallServer()
        self.seconds = 1000.0
        written = OAuthConfig(**{"issuer": issuer.url, "audience": AUDIENCE, "scopes": ("mcp",), **config})
        self.keys = IssuerKeys(written, lambda: self.seconds)
        access = AccessTokens(written, self.keys, SUBJECTS)
        self.oauth = OAuthDoor(access, ProtectedResource(written, None))
        self.app = AgentsOverHttp(cast(AgentServer, self.server), TOKENS, self.oauth)

    async def knock(self, *shown: str | bytes, **more: str) -> httpx2.Response:
        """Call a tool with these bearer tokens."""
        headers: list[Any] = [
            *HEADERS.items(),
            *((b"authorization", b"Bearer " + _bytes(one)) for one in shown),
            *more.items(),
        ]
        transport = httpx2.ASGITransport(self.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8377") as http:
            return await http.post("/mcp", content=json.dumps(WHO), headers=headers)

    async def refusal(self, *shown: str | bytes) -> tuple[int, str]:
        """How somebody is refused; the server behind the door saw nothing of it."""
        before = len(self.server.calls)
        answer = await self.knock(*shown)
        assert len(self.server.calls) == before
        return answer.status_code, answer.json()["error"]["message"]


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


@asynccontextmanager
async def a_door(**config: Any) -> AsyncIterator[Door]:
    """A door with its issuer, both open."""
    async with running_issuer() as issuer:
        door = Door(issuer, **config)
        async with door.app.running():
            yield door


@pytest.fixture(scope="module")
async def standing() -> AsyncIterator[Issuer]:
    """The issuer of most tests: starting one takes longer than asking it."""
    async with running_issuer() as issuer:
        yield issuer


@pytest.fixture
async def door(standing: Issuer) -> AsyncIterator[Door]:
    """The door of most tests; it knows nothing yet."""
    standing.reset()
    opened = Door(standing)
    async with opened.app.running():
        yield opened


# Who comes in.


async def test_a_token_of_the_issuer_is_the_agent_with_its_subject(door: Door) -> None:
    """Each subject is one agent, and an agent's own bearer token works beside it."""
    assert '"text":"builder"' in (await door.knock(door.issuer.signed())).text
    assert '"text":"writer"' in (await door.knock(door.issuer.signed(sub="auth0|2"))).text
    assert '"text":"other"' in (await door.knock("k")).text


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"])
async def test_every_asymmetric_algorithm_of_the_issuers_keys_counts(door: Door, algorithm: str) -> None:
    """Keys without `alg` may be used with each algorithm of their kind."""
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}
    private: Any = rsa_key()
    if algorithm in curves:
        private = ec.generate_private_key(curves[algorithm])
    elif algorithm == "EdDSA":
        private = ed25519.Ed25519PrivateKey.generate()
    door.issuer.keys = [public_jwk("k1", private)]
    assert (await door.knock(door.issuer.signed(private, algorithm))).status_code == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": ["https://other.example", AUDIENCE]},
        {"scope": None, "scp": ["mcp"]},
        {"scope": None, "scp": "mcp"},
        {"headers": {"typ": "at+jwt"}},
        {"headers": {"kid": None}},
    ],
    ids=str,
)
async def test_what_issuers_write_differently_means_the_same(door: Door, changed: dict[str, Any]) -> None:
    """A list of audiences, `scp` for `scope`, the type of RFC 9068, and no key id where there is but one key."""
    assert (await door.knock(door.issuer.signed(**changed))).status_code == 200


async def test_the_subject_may_be_another_claim() -> None:
    """For machines, some issuers write who it is as `client_id` or `azp` only."""
    async with a_door(agent_claim="azp") as door:
        assert '"text":"writer"' in (await door.knock(door.issuer.signed(azp="auth0|2"))).text
        assert await door.refusal(door.issuer.signed()) == (401, "the token lacks `azp`")


# Who does not.


LONG_AGO, FAR_OFF = 1_000_000_000, 9_000_000_000
"""Seconds since 1970: in 2001, and in 2255. Not by the clock: a test is named the same every time."""

FORGED_CLAIMS = [
    ({"aud": "https://other.example/mcp"}, "the token is for another audience"),
    ({"aud": AUDIENCE + "/"}, "the token is for another audience"),
    ({"aud": [AUDIENCE, 1]}, "the token is for another audience"),
    ({"aud": {AUDIENCE: 1}}, "the token is for another audience"),
    ({"aud": None}, "the token lacks `aud`"),
    ({"iss": "https://evil.example"}, "the token is of another issuer"),
    ({"iss": None}, "the token lacks `iss`"),
    ({"iss": ["https://evil.example"]}, "the token is of another issuer"),
    ({"exp": LONG_AGO}, "the token has expired"),
    ({"exp": None}, "the token lacks `exp`"),
    ({"exp": "never"}, NOT_READ),
    ({"exp": float("inf")}, NOT_READ),
    ({"exp": [1]}, NOT_READ),
    ({"nbf": FAR_OFF}, "the token is not valid yet"),
    ({"iat": FAR_OFF}, "the token is not valid yet"),
    ({"sub": None}, "the token lacks `sub`"),
]


@pytest.mark.parametrize(("changed", "why"), FORGED_CLAIMS, ids=str)
async def test_a_signed_token_with_a_wrong_claim_is_refused(door: Door, changed: dict[str, Any], why: str) -> None:
    """The issuer's own signature, and yet: another audience or issuer, its time over or not come, a claim missing."""
    assert await door.refusal(door.issuer.signed(**changed)) == (401, why)


@pytest.mark.parametrize("suffix", ["/", "x", ".evil.example", "?"])
async def test_the_issuer_is_compared_letter_for_letter(door: Door, suffix: str) -> None:
    """An issuer whose name begins like ours is another one."""
    token = door.issuer.signed(iss=door.issuer.url + suffix)
    assert await door.refusal(token) == (401, "the token is of another issuer")


async def test_a_little_time_is_left_for_clocks_that_differ(door: Door) -> None:
    """Ten seconds past its end a token still counts."""
    assert (await door.knock(door.issuer.signed(exp=int(time.time()) - 10))).status_code == 200


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "hs256", "RS257", "ES256K", "RSA-OAEP"])
async def test_an_unsigned_token_or_another_algorithm_is_refused(door: Door, algorithm: str) -> None:
    """With a signature or without."""
    for signature in (b"", b"x" * 256):
        forged = unsigned({"alg": algorithm, "kid": "k1", "typ": "JWT"}, door.issuer.claims(), signature)
        assert await door.refusal(forged) == (401, NO_KEY)


async def test_the_public_key_is_no_shared_secret(door: Door) -> None:
    """HS256 with any form of the public key as its secret, which everyone knows: the oldest confusion of keys."""
    public = rsa_key().public_key()
    forms = serialization.PublicFormat
    secrets = [
        public.public_bytes(serialization.Encoding.PEM, forms.SubjectPublicKeyInfo),
        public.public_bytes(serialization.Encoding.DER, forms.SubjectPublicKeyInfo),
        public.public_bytes(serialization.Encoding.PEM, forms.PKCS1),
        json.dumps(door.issuer.keys[0]).encode(),
    ]
    for key_id in ("k1", None):
        header = {"alg": "HS256", "typ": "JWT", **({"kid": key_id} if key_id else {})}
        for secret in secrets:
            signing_input = unsigned(header, door.issuer.claims()).rpartition(".")[0]
            signature = hmac.digest(secret, signing_input.encode(), "sha256")
            forged = unsigned(header, door.issuer.claims(), signature)
            assert await door.refusal(forged) == (401, NO_KEY)


async def test_a_shared_secret_among_the_issuers_keys_is_not_used(door: Door) -> None:
    """Nor a private key, one for encryption, one that is short, or one that is no key at all."""
    curve, short = ec.generate_private_key(ec.SECP256R1()), rsa_key("short", 1024)
    curve_jwk = public_jwk("k1", curve)
    refused: list[Any] = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256"},
        {**ECAlgorithm.to_jwk(curve, as_dict=True), "kid": "k1", "key_ops": ["verify"]},
        {**curve_jwk, "use": "enc"},
        {**curve_jwk, "key_ops": ["encrypt"]},
        {**curve_jwk, "key_ops": 5},
        {**curve_jwk, "x": 5},
        {**curve_jwk, "alg": "HS256"},
        {**curve_jwk, "x": "AAAA"},
        {**curve_jwk, "crv": "secp256k1"},
        public_jwk("k1", short),
        {"kid": "k1"},
        "k1",
    ]
    door.issuer.keys = [*refused, public_jwk("k2", rsa_key())]
    assert await door.refusal(door.issuer.signed(curve, "ES256")) == (401, NO_KEY)
    assert (await door.knock(door.issuer.signed(headers={"kid": "k2"}))).status_code == 200


async def test_a_key_signs_only_with_its_own_algorithm(door: Door) -> None:
    """What the key says counts, not what the token says: RS512 with a key for RS256, RS256 with a curve's id."""
    door.issuer.keys.append(public_jwk("curve", ec.generate_private_key(ec.SECP256R1())))
    assert await door.refusal(door.issuer.signed(algorithm="RS512")) == (401, NO_KEY)
    assert await door.refusal(door.issuer.signed(headers={"kid": "curve"})) == (401, NO_KEY)


async def test_without_a_key_id_nothing_is_guessed(door: Door) -> None:
    """Where two keys fit, a token must say which; a wrong guess would only look like a forgery."""
    door.issuer.keys.append(public_jwk("k2", rsa_key("new")))
    assert await door.refusal(door.issuer.signed(headers={"kid": None})) == (401, NO_KEY)


async def test_a_key_of_another_issuer_is_none_of_this_one(door: Door) -> None:
    """Under the id of our key the signature is wrong; under its own id there is no such key, whatever it carries."""
    theirs = rsa_key("theirs")
    assert await door.refusal(door.issuer.signed(theirs)) == (401, "the signature is wrong")
    async with running_issuer() as other:
        other.keys = [public_jwk("k9", theirs)]
        pointing = {"kid": "k9", "jku": f"{other.url}/keys", "jwk": other.keys[0], "x5u": f"{other.url}/keys"}
        assert await door.refusal(door.issuer.signed(theirs, headers=pointing)) == (401, NO_KEY)
        assert other.asked == []


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"typ": "logout+jwt"}, "it is no access token"),
        ({"crit": ["exp"], "exp": 1}, NOT_READ),
        ({"b64": True}, OTHER_HEADER),
        ({"crit": ["b64"], "b64": True}, OTHER_HEADER),
        ({"kid": ["k1"]}, NOT_READ),
        ({"kid": {"k1": 1}}, NOT_READ),
        ({"alg": ["RS256"]}, OTHER_HEADER),
        ({"alg": None}, OTHER_HEADER),
    ],
    ids=str,
)
async def test_a_header_that_asks_for_more_is_refused(door: Door, headers: dict[str, Any], why: str) -> None:
    """Extensions that must be understood, another kind of token, ids that are none."""
    forged = unsigned({"alg": "RS256", "kid": "k1", **headers}, door.issuer.claims(), b"x" * 256)
    assert await door.refusal(forged) == (401, why)


@pytest.mark.parametrize(
    "text",
    [b"a.b.c", b"..", b"....", b"e30.e30.e30", b"WWWW.WWWW.WWWW.WWWW.WWWW", b"x" * 200, b"\xff.\xff.\xff"],
)
async def test_what_is_no_token_is_refused(door: Door, text: bytes) -> None:
    """Whatever it looks like."""
    assert (await door.refusal(text))[0] == 401


async def test_a_changed_token_is_refused(door: Door) -> None:
    """Every part is signed but the signature, and that fits nothing else."""
    good = door.issuer.signed()
    head, _, signature = good.split(".")
    _, other, _ = door.issuer.signed(sub="auth0|2").split(".")
    assert await door.refusal(f"{head}.{other}.{signature}") == (401, "the signature is wrong")
    assert await door.refusal(f"{head}.{other}.") == (401, "the signature is wrong")


async def test_an_oversized_or_deep_token_is_refused_before_it_is_read(door: Door) -> None:
    """A token is a few KiB; this one is not even taken apart, and the issuer is not asked for it."""
    assert await door.refusal(door.issuer.signed(more="x" * TOKEN_BYTES)) == (
        401,
        f"the token has more than {TOKEN_BYTES} bytes",
    )
    assert door.issuer.asked == []
    deep = "W1tb" * 4000  # [[[…
    assert (await door.refusal(f"{deep}.e30.x"))[0] == 401


async def test_only_one_authorization_header_counts(door: Door) -> None:
    """Two are refused, also where one is good; so are other schemes, and a token in the address."""
    good = door.issuer.signed()
    for shown in ((good, good), (good, "k"), ("x", good)):
        assert (await door.refusal(*shown))[0] == 401
    assert (await door.knock(authorization=f"Basic {good}")).status_code == 401
    assert (await door.knock(**{"x-authorization": f"Bearer {good}"})).status_code == 401


async def test_a_good_token_of_nobody_in_the_config_is_refused(door: Door) -> None:
    """403, with what the operator can do; nothing makes an agent of a subject but the config."""
    for subject in ("auth0|3", "builder", "AUTH0|1", "auth0|1 "):
        answer = await door.knock(door.issuer.signed(sub=subject))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "unknown_agent")
        assert "agents: {NAME: {subject" in answer.json()["error"]["help"]
    assert door.server.calls == []


@pytest.mark.parametrize("written", [None, "", "openid", "mcp2", "mcp,openid", {"mcp": 1}, [["mcp"]]], ids=str)
async def test_a_token_without_the_scope_is_refused(door: Door, written: Any) -> None:
    """403 names the scope, so that a client can ask for it."""
    answer = await door.knock(door.issuer.signed(scope=written))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")
    assert answer.headers["www-authenticate"] == (
        'Bearer error="insufficient_scope", error_description="the token lacks the scope `mcp`", '
        f'scope="mcp", resource_metadata="{METADATA}"'
    )
    assert door.server.calls == []


async def test_who_shows_nothing_is_told_where_to_ask(door: Door) -> None:
    """Clients find the issuer by the challenge; with a bad token it says what was wrong, too."""
    nothing, bad = await door.knock(), await door.knock("x")
    assert nothing.headers["www-authenticate"] == f'Bearer scope="mcp", resource_metadata="{METADATA}"'
    assert bad.headers["www-authenticate"].startswith(f'Bearer error="invalid_token", error_description="{NOT_READ}"')
    assert (nothing.json()["error"]["code"], bad.json()["error"]["code"]) == ("not_signed_in", "invalid_token")


# The issuer's keys.


async def test_keys_are_fetched_once_and_kept(door: Door) -> None:
    """By the issuer's metadata; a second token asks nobody."""
    for _ in range(3):
        assert (await door.knock(door.issuer.signed())).status_code == 200
    assert door.issuer.asked == ["/.well-known/oauth-authorization-server", "/keys"]


async def test_an_issuer_with_a_path_has_its_metadata_where_the_standards_say() -> None:
    """RFC 8414 puts the path behind; where that is not there, OpenID Connect puts it in front."""
    async with running_issuer("/realms/a") as issuer:
        door = Door(issuer)
        async with door.app.running():
            assert (await door.knock(issuer.signed())).status_code == 200
        assert issuer.asked == ["/.well-known/oauth-authorization-server/realms/a", "/keys"]


async def test_a_new_key_counts_at_once(door: Door) -> None:
    """An issuer that rotates its keys needs no restart; the old key ends when the keys are fetched."""
    assert (await door.knock(door.issuer.signed())).status_code == 200
    new = rsa_key("new")
    door.issuer.keys = [public_jwk("k2", new)]
    assert (await door.knock(door.issuer.signed(new, headers={"kid": "k2"}))).status_code == 200
    assert (await door.refusal(door.issuer.signed()))[0] == 401


async def test_made_up_key_ids_do_not_flood_the_issuer(door: Door) -> None:
    """However many come, it is asked once, and once more when half a minute has passed."""
    assert (await door.knock(door.issuer.signed())).status_code == 200
    for number in range(10):
        assert await door.refusal(door.issuer.signed(headers={"kid": f"x{number}"})) == (401, NO_KEY)
    assert door.issuer.asked.count("/keys") == 2
    door.seconds += AGAIN_SECONDS
    assert await door.refusal(door.issuer.signed(headers={"kid": "x"})) == (401, NO_KEY)
    assert door.issuer.asked.count("/keys") == 3


async def test_a_key_that_was_taken_back_counts_no_longer(door: Door) -> None:
    """After ten minutes the keys are asked for again, also where every token names a known one."""
    assert (await door.knock(door.issuer.signed())).status_code == 200
    door.issuer.keys = [public_jwk("k2", rsa_key("new"))]
    door.seconds += FRESH_SECONDS
    assert await door.refusal(door.issuer.signed()) == (401, NO_KEY)


TOO_LARGE = b'{"keys":"' + b"x" * 300_000 + b'"}'


@pytest.mark.parametrize(
    ("instead", "why"),
    [
        (Response(status_code=500), "it answers with HTTP 500"),
        (Response(status_code=302, headers={"location": "http://127.0.0.1:1/"}), "it answers with HTTP 302"),
        (Response(status_code=404), "it has no metadata: write `jwks_url`"),
        (Response(b"<html>"), "its answer is not JSON"),
        (Response(b"[" * 100_000), "its answer is not JSON"),
        (Response(b"[]"), "its answer is no JSON object"),
        (Response(TOO_LARGE), "its answer has more than 262144 bytes"),
        (Response(b"{}", headers={"content-encoding": "gzip"}), "its answer is packed, which was not asked for"),
        (Response(b'{"issuer":"https://evil.example"}'), "its metadata is of another issuer, `https://evil.example`"),
    ],
    ids=["500", "redirect", "404", "page", "deep", "list", "large", "packed", "other-issuer"],
)
async def test_without_the_issuers_keys_nobody_comes_in(door: Door, instead: Response, why: str) -> None:
    """503 says so, since a new token would not help; own bearer tokens work on. No redirect is followed."""
    door.issuer.instead = instead
    answer = await door.knock(door.issuer.signed())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert answer.json()["error"]["code"] == "issuer_unreachable"
    assert answer.json()["error"]["message"] == f"the keys of `{door.issuer.url}` cannot be had: {why}"
    assert door.server.calls == []
    assert (await door.knock("k")).status_code == 200


async def test_an_issuer_that_comes_back_is_asked_again_after_a_while(door: Door) -> None:
    """And not for each token meanwhile; `status` warns as long as it is away."""
    door.issuer.instead = Response(status_code=500)
    for _ in range(3):
        assert (await door.refusal(door.issuer.signed()))[0] == 503
    assert len(door.issuer.asked) == 1
    assert door.oauth.warnings == (f"the keys of `{door.issuer.url}` cannot be had: it answers with HTTP 500",)
    door.issuer.instead = None
    door.seconds += AGAIN_SECONDS
    assert (await door.knock(door.issuer.signed())).status_code == 200
    assert not door.oauth.warnings


async def test_keys_outlive_a_short_failure_of_the_issuer_and_no_long_one(door: Door) -> None:
    """Known keys count for an hour; then it cannot be told any more whether they still stand."""
    assert (await door.knock(door.issuer.signed())).status_code == 200
    door.issuer.instead = Response(status_code=500)
    door.seconds += FRESH_SECONDS
    assert (await door.knock(door.issuer.signed())).status_code == 200
    door.seconds += KEPT_SECONDS - FRESH_SECONDS
    assert (await door.refusal(door.issuer.signed()))[0] == 503


async def test_an_issuer_that_is_not_there_lets_nobody_in() -> None:
    """No connection at all is the same as no keys."""
    async with running_issuer() as gone:
        token = gone.signed()
    door = Door(gone)
    async with door.app.running():
        assert (await door.refusal(token))[0] == 503


async def test_metadata_leads_nowhere_but_to_an_encrypted_address(door: Door) -> None:
    """An issuer's keys over plain HTTP on another host would be whoever's is on the way."""
    for address in ("http://evil.example/keys", "file:///etc/passwd", "//x", "", 7):
        door.issuer.metadata = {"issuer": door.issuer.url, "jwks_uri": address}
        status, why = await door.refusal(door.issuer.signed())
        assert (status, why.partition("had: ")[2]) == (
            503,
            "its metadata names no address of its keys that can be used",
        )
        door.seconds += AGAIN_SECONDS


async def test_an_address_of_the_keys_in_the_config_needs_no_metadata() -> None:
    """For issuers that publish none."""
    async with running_issuer() as issuer:
        door = Door(issuer, jwks_url=f"{issuer.url}/keys")
        async with door.app.running():
            assert (await door.knock(issuer.signed())).status_code == 200
        assert issuer.asked == ["/keys"]
