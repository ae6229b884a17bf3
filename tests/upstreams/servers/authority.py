"""An authorization server, and a door in front of an MCP server that takes its tokens; both on real ports."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass
class Authority:
    """What it knows and does; tests change it while it runs."""

    url: str = ""
    lifetime_seconds: int = 3600
    secret_of: dict[str, str] = field(default_factory=dict)
    """The secrets of clients that were registered beforehand."""
    refresh_with: Response | None = None
    """What it answers a refresh with instead, if anything."""
    good: set[str] = field(default_factory=set)
    """Access tokens that are let in."""
    given: list[str] = field(default_factory=list)
    """Every secret that was ever given out: tokens of both kinds, codes, clients' secrets."""
    grants: Counter[str] = field(default_factory=Counter)
    """How many tokens were asked for, by grant."""
    registered: list[dict[str, Any]] = field(default_factory=list)
    authorized: list[dict[str, str]] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)
    _refreshing: set[str] = field(default_factory=set)
    _news: anyio.Event = field(default_factory=anyio.Event)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/oauth-authorization-server", self._metadata),
                Route("/register", self._register, methods=["POST"]),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
            ]
        )

    async def until_asked(self, grant: str, times: int) -> None:
        """Wait until tokens were asked for this often by this grant."""
        with anyio.fail_after(10):
            while self.grants[grant] < times:
                await self._news.wait()

    def revoke(self) -> None:
        """Take everything back."""
        self.good.clear()
        self._refreshing.clear()

    def _secret(self, kind: str) -> str:
        made = f"{kind}-{secrets.token_urlsafe(12)}"
        self.given.append(made)
        return made

    async def _metadata(self, http: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "registration_endpoint": f"{self.url}/register",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def _register(self, http: Request) -> Response:
        asked = await http.json()
        made = {**asked, "client_id": secrets.token_hex(4), "client_secret": self._secret("client")}
        self.secret_of[made["client_id"]] = made["client_secret"]
        self.registered.append(made)
        return JSONResponse({**made, "token_endpoint_auth_method": "client_secret_basic"}, 201)

    async def _authorize(self, http: Request) -> Response:
        """Everybody who comes here says yes."""
        asked = dict(http.query_params)
        self.authorized.append(asked)
        code = self._secret("code")
        self._codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"], "iss": self.url})
        return RedirectResponse(f"{asked['redirect_uri']}?{back}", 302)

    async def _token(self, http: Request) -> Response:
        form = dict(parse_qsl((await http.body()).decode()))
        grant = form["grant_type"]
        answer = self._answer(grant, form, http.headers.get("authorization", ""))
        self.grants[grant] += 1
        self._news.set()
        self._news = anyio.Event()
        return answer

    def _answer(self, grant: str, form: dict[str, str], credentials: str) -> Response:
        client, _, secret = base64.b64decode(credentials.removeprefix("Basic ")).decode().partition(":")
        if self.secret_of.get(client, "") != unquote(secret) or not secret:
            return JSONResponse({"error": "invalid_client"}, 401)
        if grant == "refresh_token" and self.refresh_with is not None:
            return self.refresh_with
        if grant == "refresh_token" and form["refresh_token"] not in self._refreshing:
            return JSONResponse({"error": "invalid_grant"}, 400)
        if grant == "authorization_code" and not self._fits(form):
            return JSONResponse({"error": "invalid_grant"}, 400)
        self._refreshing.discard(form.get("refresh_token", ""))
        made: dict[str, Any] = {"access_token": self._secret("access"), "token_type": "bearer"}
        made["expires_in"] = self.lifetime_seconds
        self.good.add(made["access_token"])
        if grant != "client_credentials":
            made["refresh_token"] = self._secret("refresh")
            self._refreshing.add(made["refresh_token"])
        return JSONResponse(made)

    def _fits(self, form: dict[str, str]) -> bool:
        asked = self._codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return (
            asked is not None
            and asked["redirect_uri"] == form["redirect_uri"]
            and asked["client_id"] == form["client_id"]
            and asked["code_challenge"] == challenge
        )


@dataclass
class Door:
    """Lets requests in that carry a good token of the authority, and counts the calls that came, let in or not."""

    app: ASGIApp
    authority: Authority
    url: str = ""
    calls: list[bool] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    """The tokens that came, good or not."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif "/.well-known/" in scope["path"]:
            answer: Response = PlainTextResponse("not here", 404)
            if scope["path"] == "/.well-known/oauth-protected-resource/mcp":
                answer = JSONResponse({"resource": f"{self.url}/mcp", "authorization_servers": [self.authority.url]})
            await answer(scope, receive, send)
        else:
            await self._guarded(scope, receive, send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        given = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        is_good = given in self.authority.good
        self.seen.add(given)
        if body and json.loads(body).get("method") == "tools/call":
            self.calls.append(is_good)
        is_read = False

        async def again() -> Any:
            nonlocal is_read
            if is_read:
                return await receive()
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        where = f'Bearer resource_metadata="{self.url}/.well-known/oauth-protected-resource/mcp"'
        refusal = PlainTextResponse("who is there?", 401, {"www-authenticate": where})
        await (self.app if is_good else refusal)(scope, again, send)
