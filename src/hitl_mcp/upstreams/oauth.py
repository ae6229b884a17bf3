"""The access token of one HTTP upstream: got by the MCP SDK's OAuth client, kept, and renewed before it ends.

All of it happens beside the calls, over a client of its own on a request that only reads: the SDK sends a request
again once it has a token, and a call must never be sent again. The calls' client gets the header, no more.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2
from mcp.client.auth import (
    AuthorizationCodeResult,
    OAuthClientProvider,
    OAuthFlowError,
    OAuthRegistrationError,
    OAuthTokenError,
)
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.auth.utils import issuers_match
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata
from mcp.shared.inbound import MCP_METHOD_HEADER, MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import LATEST_MODERN_VERSION
from pydantic import AnyUrl

from hitl_mcp import __version__
from hitl_mcp.canonical import digest_of
from hitl_mcp.config import UpstreamConfig
from hitl_mcp.errors import UpstreamError
from hitl_mcp.limits import (
    OAUTH_BYTES,
    OAUTH_SECONDS,
    RENEW_BEFORE_SECONDS,
    RENEWAL_WAIT_SECONDS,
    RESTART_BACKOFF_SECONDS,
)
from hitl_mcp.oauth_config import LOOPBACK, UpstreamOAuth
from hitl_mcp.secrets import Secrets
from hitl_mcp.upstreams.sign_in_file import SignInFile
from hitl_mcp.upstreams.sign_ins import SignIns
from hitl_mcp.upstreams.streamable_http import Endpoint

__all__ = ["Access"]

logger = logging.getLogger(__name__)

_ENDED = 1.0
"""When a token ended that the SDK is to renew: long ago."""

_LOOK_AGAIN_SECONDS = 60
"""How often the clock is looked at: a machine that slept has lost time that a timer does not know of."""

_ENDED_FOR_GOOD = frozenset({"invalid_grant", "invalid_client", "unauthorized_client"})
"""What an authorization server says to a refresh token that it will never take again (RFC 6749, 5.2)."""

WANTS_PERSON = "it wants a person to sign in: `hitl-mcp status` on the gateway's machine says where"


class _NotRenewed(OAuthFlowError):
    """A refresh did not bring a token; `is_final` where no later one will."""

    def __init__(self, status: int, is_final: bool) -> None:
        super().__init__(f"HTTP {status}")
        self.is_final = is_final


class _Scopes(OAuthClientMetadata):
    """Asks for the scopes that the config names, whatever the SDK reads from the upstream's answers."""

    def __setattr__(self, name: str, value: object) -> None:
        if name != "scope":
            super().__setattr__(name, value)


class _Kept(OAuthClientProvider):
    """The SDK's provider, with all that is kept put back, and tokens that outlive a failed refresh."""

    file: SignInFile
    issuer: str | None = None

    async def start(self) -> None:
        """Read what is kept."""
        await self._initialize()

    async def _initialize(self) -> None:
        await super()._initialize()
        self.file.restore(self.context)

    def _select_authorization_server(self, advertised: list[str]) -> str:
        if self.issuer is None:
            return super()._select_authorization_server(advertised)
        for server in advertised:
            if issuers_match(server, self.issuer):
                return server
        raise OAuthFlowError("it names another authorization server than `issuer`")

    async def _perform_authorization(self) -> httpx2.Request:
        metadata = self.context.oauth_metadata
        if self.issuer is not None and (metadata is None or not issuers_match(str(metadata.issuer), self.issuer)):
            raise OAuthFlowError("its authorization server is not the one that `issuer` names")
        return await super()._perform_authorization()

    async def _take_refreshed(self, response: httpx2.Response) -> bool:
        before = self.context.current_tokens
        if response.status_code != 200:
            raise _NotRenewed(response.status_code, _error_code(await response.aread()) in _ENDED_FOR_GOOD)
        if not await super()._handle_refresh_response(response):
            self.context.current_tokens = before
            self._initialized = True
            raise _NotRenewed(response.status_code, False)
        return True

    _handle_refresh_response = _take_refreshed  # as the SDK calls it


class _Machine(_Kept, ClientCredentialsOAuthProvider):
    """The gateway signs in by itself."""


class Access:
    """What one upstream's calls need to be let in, and how it is with it. `run` keeps it; the rest tells or waits."""

    def __init__(
        self, config: UpstreamConfig, secrets: Secrets, sign_ins: SignIns, changed: Callable[[], None]
    ) -> None:
        """`changed` is called, at once, when `problem` or `wants_person` is another one."""
        self.problem = "it has no access token yet"
        self.wants_person = False
        self._config = config
        self._oauth = config.oauth or UpstreamOAuth()
        self._secrets = secrets
        self._sign_ins = sign_ins
        self._changed = changed
        self._held = ""
        self._good_until = 0.0
        self._was_refused = False
        self._news = anyio.Event()
        self._state = ""

    # For the connections.

    def headers(self) -> Mapping[str, str]:
        """What a request carries now."""
        return {"authorization": f"Bearer {self._held}"} if self._held else {}

    def refused(self, sent: str | None) -> None:
        """Said when the upstream did not let a request in that carried this: renewed, if it is still what we hold."""
        if sent == f"Bearer {self._held}" and not self._was_refused:
            self._was_refused = True
            self._tell("the upstream does not take its access token any more")

    @property
    def is_usable(self) -> bool:
        """Whether requests can be expected to be let in."""
        return bool(self._held) and not self._was_refused and time.time() < self._good_until

    async def usable(self) -> None:
        """Return when it is."""
        while not self.is_usable:
            await self._news.wait()

    async def renewed(self) -> bool:
        """Wait a little for a renewal that is under way; return whether it is usable."""
        with anyio.move_on_after(RENEWAL_WAIT_SECONDS):
            await self.usable()
        return self.is_usable

    def _tell(self, problem: str, wants_person: bool = False) -> None:
        self.problem, self.wants_person = problem, wants_person
        self._news.set()
        self._news = anyio.Event()
        self._changed()

    # Getting and renewing.

    async def run(self, endpoint: Endpoint) -> None:
        """Have an access token and renew it in time, for ever.

        Raises:
            UnresolvedSecret: `client_secret` leads nowhere.
        """
        # It would log tracebacks with what authorization servers say, where tokens and codes may stand.
        logging.getLogger("mcp.client.auth").setLevel(logging.CRITICAL)
        provider = await self._provider(endpoint)
        await provider.start()
        self._hold(provider)
        failures = 0
        async with _client(endpoint) as client:
            while True:
                if self._due_at(provider) > time.time():
                    failures = 0
                    await self._until_due(provider)
                    continue
                if not await self._obtain(provider, client, endpoint):
                    await anyio.sleep(RESTART_BACKOFF_SECONDS[min(failures, len(RESTART_BACKOFF_SECONDS) - 1)])
                    failures += 1

    async def _until_due(self, provider: _Kept) -> None:
        """Return when something is to be done, or might be."""
        if self._was_refused:
            return
        with anyio.move_on_after(min(max(self._due_at(provider) - time.time(), 0), _LOOK_AGAIN_SECONDS)):
            await self._news.wait()

    def _due_at(self, provider: _Kept) -> float:
        if not self._held or self._was_refused:
            return 0
        tokens = provider.context.current_tokens
        lifetime = tokens.expires_in if tokens is not None and tokens.expires_in else 0
        return self._good_until - (min(RENEW_BEFORE_SECONDS, lifetime / 4) if self._renews(provider) else 0)

    def _renews(self, provider: _Kept) -> bool:
        """Whether a new token is to be had without a person."""
        return isinstance(provider, _Machine) or provider.context.can_refresh_token()

    def _hold(self, provider: _Kept) -> None:
        context = provider.context
        if context.current_tokens is None:
            self._held = ""
            return
        self._held, self._was_refused = context.current_tokens.access_token, False
        self._good_until = context.token_expiry_time or math.inf
        if self.is_usable:
            self._tell("")

    async def _obtain(self, provider: _Kept, client: httpx2.AsyncClient, endpoint: Endpoint) -> bool:
        """Renew the token, or sign in anew; return whether there is one now that the upstream takes."""
        context = provider.context
        await self._prepare(provider)
        expiry = context.token_expiry_time
        if context.current_tokens is not None and self._renews(provider):
            context.token_expiry_time = _ENDED
        before = context.current_tokens
        try:
            status = await _probe(client, endpoint, provider)
        except _NotRenewed as error:
            context.token_expiry_time = expiry
            await self._give_up(provider, error)
            return error.is_final
        except (OAuthFlowError, httpx2.HTTPError, UpstreamError, ValueError) as error:
            if context.current_tokens is before:
                context.token_expiry_time = expiry
            await self._failed(provider, _why(error))
            return False
        if context.current_tokens is None:
            await self._failed(provider, f"it asked for no sign-in: HTTP {status}")
            return False
        if status in (401, 403):
            await self._failed(
                provider, f"it does not take the token that its authorization server gave: HTTP {status}"
            )
            return False
        await provider.file.save()
        self._hold(provider)
        return self.is_usable

    async def _prepare(self, provider: _Kept) -> None:
        """Have the client that the config names, or none where the one registered earlier waits at another address."""
        context = provider.context
        client, wanted = await provider.file.get_client_info(), context.client_metadata.redirect_uris
        if client is not None and wanted and not self._renews(provider):
            client = client if set(wanted) <= set(client.redirect_uris or wanted) else None
        context.client_info = client

    async def _give_up(self, provider: _Kept, error: _NotRenewed) -> None:
        """After a refresh that failed: forget what is void for good, and keep everything else."""
        if error.is_final:
            provider.context.clear_tokens()
            await provider.file.save()
            self._held = ""
        else:
            self._say(f"its access token could not be renewed: the authorization server answered {error}")

    async def _failed(self, provider: _Kept, why: str) -> None:
        if self.wants_person and provider.context.current_tokens is None:
            # The authorization server may have forgotten a client that it once registered, and tells the person only.
            provider.context.client_info = None
            await provider.file.save()
        self._say(why)

    def _say(self, why: str) -> None:
        logger.warning("upstream `%s`: %s", self._config.name, why)
        self._tell(why)

    # Signing in.

    async def _provider(self, endpoint: Endpoint) -> _Kept:
        oauth, url = self._oauth, str(endpoint.url)
        secret = self._secrets.resolve(oauth.client_secret) if oauth.client_secret else None
        scope = " ".join(oauth.scopes) or None
        provider: _Kept
        if oauth.grant == "client_credentials":
            file = self._file(self._registered(secret, None))
            provider = _Machine(url, file, oauth.client_id or "", secret or "", scope=scope, issuer=oauth.issuer)
        else:
            redirect_uri = AnyUrl(await self._sign_ins.redirect_uri())
            kind: Literal["native", "web"] = "native" if redirect_uri.host in LOOPBACK else "web"
            metadata = OAuthClientMetadata(
                redirect_uris=[redirect_uri], client_name="hitl-mcp", scope=scope, application_type=kind
            )
            file = self._file(self._registered(secret, redirect_uri))
            provider = _Kept(url, metadata, file, partial(self._ask, endpoint), self._answer)
        if scope is not None:
            provider.context.client_metadata = _Scopes(**provider.context.client_metadata.model_dump())
        provider.file, provider.issuer = file, oauth.issuer
        return provider

    def _registered(self, secret: str | None, redirect_uri: AnyUrl | None) -> OAuthClientInformationFull | None:
        """The client that the config names, if it names one."""
        if self._oauth.client_id is None:
            return None
        return OAuthClientInformationFull(
            redirect_uris=[redirect_uri] if redirect_uri is not None else None,
            client_id=self._oauth.client_id,
            client_secret=secret,
            token_endpoint_auth_method="client_secret_basic" if secret else "none",
            issuer=self._oauth.issuer,
        )

    def _file(self, registered: OAuthClientInformationFull | None) -> SignInFile:
        oauth = self._oauth
        bound_to = digest_of(
            {
                "url": self._config.url,
                "grant": oauth.grant,
                "issuer": oauth.issuer,
                "client_id": oauth.client_id,
                "scopes": list(oauth.scopes),
            }
        )
        return SignInFile(self._sign_ins.state_dir, self._config.name, bound_to, registered)

    async def _ask(self, endpoint: Endpoint, link: str) -> None:
        """Called by the SDK: a person has to open this."""
        state = parse_qs(urlsplit(link).query).get("state", [""])[-1]
        if not state or not link.isascii() or not link.isprintable():
            raise OAuthFlowError("the address to sign in at is none")
        _check_address(endpoint.url, httpx2.URL(link))
        self._state = state
        self._sign_ins.ask(self._config.name, state, link)
        logger.warning("upstream `%s`: %s", self._config.name, WANTS_PERSON)
        self._tell(WANTS_PERSON, wants_person=True)

    async def _answer(self) -> AuthorizationCodeResult:
        """Called by the SDK next: what the person came back with."""
        back = await self._sign_ins.answer(self._state)
        if back is None:
            raise OAuthFlowError("nobody signed in in time")
        if back.error is not None or not back.code:
            raise OAuthFlowError("the authorization server sent the person back without a sign-in")
        return AuthorizationCodeResult(code=back.code, state=back.state, iss=back.issuer)


class _Bounded(httpx2.AsyncByteStream):
    """An answer that ends: within so many bytes, and so much time."""

    def __init__(self, body: httpx2.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size_bytes, ends_at = 0, anyio.current_time() + OAUTH_SECONDS
        async for piece in self._body:
            size_bytes += len(piece)
            if size_bytes > OAUTH_BYTES or anyio.current_time() > ends_at:
                raise httpx2.ReadError("the answer does not end")
            yield piece

    async def aclose(self) -> None:
        await self._body.aclose()


def _client(endpoint: Endpoint) -> httpx2.AsyncClient:
    """For probes and authorization servers. What the SDK asks has none of a client's own settings: hooks set them."""
    timeout = httpx2.Timeout(OAUTH_SECONDS)

    async def check(outgoing: httpx2.Request) -> None:
        _check_address(endpoint.url, outgoing.url)
        outgoing.extensions = {**outgoing.extensions, "timeout": timeout.as_dict()}
        outgoing.headers["accept-encoding"] = "identity"

    async def bound(incoming: httpx2.Response) -> None:
        if incoming.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise UpstreamError("an answer to its sign-in is packed, which was not asked for")
        if isinstance(incoming.stream, httpx2.AsyncByteStream):
            incoming.stream = _Bounded(incoming.stream)

    return httpx2.AsyncClient(
        event_hooks={"request": [check], "response": [bound]},
        timeout=timeout,
        headers={"user-agent": f"hitl-mcp/{__version__}"},
        follow_redirects=False,
        trust_env=False,
    )


def _check_address(upstream: httpx2.URL, url: httpx2.URL) -> None:
    """Nothing of a sign-in goes unencrypted over a network, but to the upstream itself where the config has it so.

    Raises:
        UpstreamError: It would.
    """
    is_local = url.host in LOOPBACK and upstream.host in LOOPBACK
    if url.scheme != "https" and not (
        url.scheme == "http" == upstream.scheme and (is_local or url.host == upstream.host)
    ):
        raise UpstreamError(f"its sign-in leads to an address that is not encrypted: `{url.scheme}://{url.host}`")


async def _probe(client: httpx2.AsyncClient, endpoint: Endpoint, provider: _Kept) -> int:
    """Ask the upstream what it is, and let the SDK do whatever that takes; the status of the last answer."""
    method = "server/discover"
    meta = {
        "io.modelcontextprotocol/protocolVersion": LATEST_MODERN_VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    frame = {"jsonrpc": "2.0", "id": "sign-in", "method": method, "params": {"_meta": meta}}
    headers = {
        **endpoint.headers,
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        MCP_PROTOCOL_VERSION_HEADER: LATEST_MODERN_VERSION,
        MCP_METHOD_HEADER: method,
    }
    body = json.dumps(frame).encode()
    async with client.stream("POST", endpoint.url, content=body, headers=headers, auth=provider) as answer:
        return answer.status_code


def _error_code(body: bytes) -> str:
    """The `error` in what an authorization server refuses with (RFC 6749, 5.2)."""
    try:
        said = json.loads(body)
    except ValueError:
        return ""
    return str(said.get("error", "")) if isinstance(said, dict) else ""


def _why(error: Exception) -> str:
    """What went wrong, in words that repeat nothing secret: those of the libraries may hold what was sent."""
    if isinstance(error, UpstreamError):
        return error.message
    if isinstance(error, OAuthRegistrationError):
        return "its authorization server did not register us: register a client there, and write its `client_id`"
    if isinstance(error, OAuthTokenError):
        return "its authorization server gave no usable access token"
    if isinstance(error, OAuthFlowError):
        return f"its sign-in came to nothing: {str(error)[:200]}"
    if isinstance(error, httpx2.HTTPError):
        return "it, or its authorization server, cannot be reached for the sign-in"
    return "what its authorization server says cannot be read"
