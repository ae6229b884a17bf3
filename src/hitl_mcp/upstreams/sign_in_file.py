"""What is kept of one upstream's sign-in over a restart: a file in the state directory. Nothing is asked for here."""

from __future__ import annotations

import logging
import os
import re

import anyio.to_thread
from mcp.client.auth import OAuthTokenError
from mcp.client.auth.oauth2 import OAuthContext
from mcp.shared.auth import OAuthClientInformationFull, OAuthMetadata, OAuthToken, ProtectedResourceMetadata
from pydantic import BaseModel, ValidationError

from hitl_mcp.limits import SECRET_BYTES
from hitl_mcp.state_dir import StateDir

__all__ = ["SignInFile"]

logger = logging.getLogger(__name__)

_SENDABLE = re.compile(r"[\x21-\x7e]+\Z")


class _Content(BaseModel):
    """The file. `bound_to` is the upstream as the config has it: for another one, nothing in it holds."""

    bound_to: str
    tokens: OAuthToken | None = None
    expires_at: float | None = None
    client: OAuthClientInformationFull | None = None
    metadata: OAuthMetadata | None = None
    resource: ProtectedResourceMetadata | None = None
    authorization_server: str | None = None


class SignInFile:
    """The SDK's token storage, which also keeps what the SDK forgets: until when a token is good, and whose it is.

    Without that an expired token would be sent as a good one after a restart, and the refresh token to whoever has
    the upstream's address.
    """

    def __init__(
        self, state_dir: StateDir, upstream: str, bound_to: str, registered: OAuthClientInformationFull | None
    ) -> None:
        """`registered` is the client that the config names; it is not written."""
        self._state_dir = state_dir
        self._upstream = upstream
        self._name = f"oauth-{upstream}.json"
        self._registered = registered
        self._content = _Content(bound_to=bound_to)
        self._context: OAuthContext | None = None

    def restore(self, context: OAuthContext) -> None:
        """Read the file into a context, where it is there and for this upstream; from now on `context` is kept."""
        self._context = context
        found = self._read()
        if found is not None:
            self._content = found
        content = self._content
        context.current_tokens, context.token_expiry_time = content.tokens, content.expires_at
        context.client_info = self._registered or content.client
        context.oauth_metadata = content.metadata
        context.protected_resource_metadata = content.resource
        context.auth_server_url = content.authorization_server

    async def get_tokens(self) -> OAuthToken | None:
        return self._content.tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self._registered or self._content.client

    async def set_tokens(self, tokens: OAuthToken) -> None:
        if not _SENDABLE.match(tokens.access_token):
            # What the HTTP library says of such a header would repeat it.
            if self._context is not None:
                self._context.clear_tokens()
            raise OAuthTokenError("the access token cannot be sent as a header")
        await self.save()

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        await self.save()

    async def save(self) -> None:
        """Write what the context holds. A file that cannot be written costs a sign-in at the next start, no more."""
        if (context := self._context) is None:
            return
        self._content = _Content(
            bound_to=self._content.bound_to,
            tokens=context.current_tokens,
            expires_at=context.token_expiry_time,
            client=None if self._registered else context.client_info,
            metadata=context.oauth_metadata,
            resource=context.protected_resource_metadata,
            authorization_server=context.auth_server_url,
        )
        written = self._content.model_dump_json(exclude_none=True).encode()
        try:
            await anyio.to_thread.run_sync(self._write, written)
        except OSError as error:
            why = (error.strerror or "unknown error").lower()
            logger.warning(
                "upstream `%s`: its sign-in ends with this gateway, it cannot be kept: %s", self._upstream, why
            )

    def _write(self, written: bytes) -> None:
        draft = self._name + ".draft"
        with os.fdopen(self._state_dir.open_private(draft, os.O_WRONLY | os.O_TRUNC), "wb") as file:
            file.write(written)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self._state_dir.file(draft), self._state_dir.file(self._name))

    def _read(self) -> _Content | None:
        """The file's content, or None; of a broken one nothing is said but that it is, since it holds secrets."""
        try:
            with open(os.open(self._state_dir.file(self._name), os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                content = _Content.model_validate_json(file.read(_AT_MOST_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, ValidationError):
            logger.warning("upstream `%s`: what was kept of its sign-in cannot be read", self._upstream)
            return None
        is_usable = content.tokens is None or _SENDABLE.match(content.tokens.access_token)
        return content if is_usable and content.bound_to == self._content.bound_to else None


_AT_MOST_BYTES = 16 * SECRET_BYTES
"""Two tokens, a client and two documents of an authorization server; what is longer was not written here."""
