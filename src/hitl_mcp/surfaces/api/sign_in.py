"""The endpoints of signing in: by a link's code or a passkey, who one is, who is signed in, and ending that."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from webauthn import generate_authentication_options
from webauthn.helpers import options_to_json_dict
from webauthn.helpers.structs import UserVerificationRequirement

from hitl_mcp.calls import Assurance
from hitl_mcp.clock import after, to_text
from hitl_mcp.errors import NotAllowed
from hitl_mcp.limits import CHALLENGE_SECONDS, SIGN_IN_SECONDS
from hitl_mcp.passkeys import new_nonce, sign_in_statement, why_none
from hitl_mcp.people import LOCAL
from hitl_mcp.store import SignIn
from hitl_mcp.surfaces.api.bodies import AssertionBody, LinkBody, LoginBody, NothingBody, read_body
from hitl_mcp.surfaces.api.browsers import label_of
from hitl_mcp.surfaces.api.login_codes import digest_of_key, new_key
from hitl_mcp.surfaces.api.parts import ApiParts, Viewer
from hitl_mcp.surfaces.api.passkeys import answered, party_of, usable_passkeys
from hitl_mcp.surfaces.api.problems import Problem, not_signed_in

Wire = dict[str, Any]


class SignInEndpoints:
    """Signing in and out at one gateway. Who asks was found out before, but for `login` and `login_options`."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    async def login_options(self, http: Request) -> Response:
        """What a browser is to ask a passkey to sign so that it signs its reviewer in; it says whose it is itself."""
        self._not_too_many()
        await read_body(http, NothingBody)
        party, statement = party_of(self._parts), sign_in_statement(new_nonce())
        options = generate_authentication_options(
            rp_id=party.id,
            challenge=self._parts.challenges.open(statement, "", self._parts.clock.now()),
            timeout=CHALLENGE_SECONDS * 1000,
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return JSONResponse(options_to_json_dict(options))

    async def login(self, http: Request) -> Response:
        """Exchange a link's one-time code, or what a passkey signed, for a key. The key itself is not kept."""
        self._not_too_many()
        body = await read_body(http, LoginBody)
        if (body.code is None) == (body.assertion is None):
            raise Problem(422, "wrong_body", "one of `code` and `assertion` is needed")
        if body.assertion is not None:
            return await self._signed_in(http, await self._reviewer_by(body.assertion), "passkey")
        name = self._parts.login_codes.redeem(body.code or "", self._parts.clock.now())
        if name is None or self._parts.people.reviewer(name) is None:
            raise not_signed_in("this link was used before, or its time is over")
        return await self._signed_in(http, name, "link")

    async def _reviewer_by(self, body: AssertionBody) -> str:
        try:
            assertion, statement, _ = answered(self._parts, body, "", "sign-in")
            name = (await self._parts.store.passkeys.used(statement, assertion)).reviewer
        except NotAllowed as error:
            self._parts.login_codes.note_failure(self._parts.clock.now())
            raise not_signed_in(f"this passkey signs nobody in: {error.message}") from None
        if self._parts.people.reviewer(name) is None:
            raise not_signed_in("this passkey's reviewer is none any more")
        return name

    async def _signed_in(self, http: Request, name: str, assurance: Assurance) -> Response:
        key, expires_at = new_key(), to_text(after(self._parts.clock.now(), SIGN_IN_SECONDS))
        sign_in = SignIn(name, assurance, expires_at, label=label_of(http.headers.get("user-agent", "")))
        await self._parts.store.sign_ins.add(digest_of_key(key), sign_in)
        return JSONResponse({"token": key, "reviewer": name, "expires_at": expires_at})

    def _not_too_many(self) -> None:
        if self._parts.login_codes.too_many_failures(self._parts.clock.now()):
            raise Problem(429, "too_many_tries", "too many wrong codes came in the last minute")

    async def logout(self, http: Request, viewer: Viewer) -> Response:
        """Forget this sign-in."""
        if viewer.sign_in is not None:
            await self._parts.store.sign_ins.end(viewer.sign_in, f"reviewer:{viewer.reviewer.name}")
        return JSONResponse({"ok": True})

    async def me(self, http: Request, viewer: Viewer) -> Response:
        """Who is signed in here, and whether a passkey of theirs can be used."""
        why_not = why_none(self._parts.public_url) if viewer.key_digest else "the command line has no passkeys"
        return JSONResponse(
            {
                "reviewer": viewer.reviewer.name,
                "roles": sorted(viewer.reviewer.roles),
                "every_role": viewer.reviewer.every_role,
                "surface": viewer.surface,
                "assurance": viewer.assurance,
                "expires_at": viewer.expires_at,
                "sign_in": viewer.sign_in,
                "batch_below": self._parts.batch_below,
                "passkeys": {
                    "usable": why_not is None,
                    "why_not": why_not,
                    "yours": usable_passkeys(self._parts, viewer),
                },
            }
        )

    async def list_all(self, http: Request, viewer: Viewer) -> Response:
        """The sign-ins of whoever asks; an admin and the operator see everybody's."""
        found = await self._parts.store.sign_ins.of(None if viewer.is_admin else viewer.reviewer.name)
        return JSONResponse({"sign_ins": [_wire(one, viewer) for one in found]})

    async def end(self, http: Request, viewer: Viewer) -> Response:
        """End a sign-in: one's own, or for an admin anybody's. What is not yours to see is not there."""
        await read_body(http, NothingBody)
        only_of = None if viewer.is_admin else viewer.reviewer.name
        by = f"reviewer:{viewer.reviewer.name}"
        ended = await self._parts.store.sign_ins.end(http.path_params["sign_in_id"], by, only_of)
        if ended is None:
            raise Problem(404, "sign_in_not_found", "there is no such sign-in, or it is over")
        return JSONResponse({"sign_in": _wire(ended, viewer)})

    async def make_link(self, http: Request, viewer: Viewer) -> Response:
        """A one-time link that signs a reviewer in on the page. Only on the control socket."""
        name = (await read_body(http, LinkBody)).for_ or LOCAL
        if self._parts.people.reviewer(name) is None:
            raise Problem(
                422,
                "no_such_reviewer",
                f"for: `{name}` is not a reviewer",
                help="the config names them under `reviewers`",
            )
        code, expires_at = self._parts.login_codes.make(name, self._parts.clock.now())
        base = self._parts.public_url.rstrip("/")
        return JSONResponse({"url": f"{base}/#login={code}", "reviewer": name, "expires_at": to_text(expires_at)})


def _wire(sign_in: SignIn, viewer: Viewer) -> Wire:
    return {
        "id": sign_in.id,
        "reviewer": sign_in.reviewer,
        "assurance": sign_in.assurance,
        "surface": sign_in.surface,
        "label": sign_in.label,
        "created_at": sign_in.created_at,
        "last_seen_at": sign_in.last_seen_at,
        "expires_at": sign_in.expires_at,
        "current": sign_in.id == viewer.sign_in,
    }
