"""Sign-ins at upstreams' authorization servers that wait for a person: where they stand, and how they come back.

No OAuth is spoken here (`oauth`). The links are for the operator's terminal alone, and no agent is told of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio

from hitl_mcp.limits import SIGN_IN_SECONDS
from hitl_mcp.state_dir import StateDir

__all__ = ["CALLBACK_PATH", "CameBack", "SignIns"]

CALLBACK_PATH = "/oauth/callback"
"""Where on the review page's port an authorization server sends people back to."""


@dataclass(frozen=True)
class CameBack:
    """What an authorization server sent a person back with; `error` where it says that nobody signed in."""

    state: str
    code: str = field(default="", repr=False)
    issuer: str | None = None
    error: str | None = None


@dataclass(eq=False)
class _Waiting:
    upstream: str
    link: str
    came: anyio.Event = field(default_factory=anyio.Event)
    back: CameBack | None = None


class SignIns:
    """The sign-ins of one gateway, and the state directory in which what they brought is kept."""

    def __init__(self, state_dir: StateDir) -> None:
        self.state_dir = state_dir
        self._waiting: dict[str, _Waiting] = {}
        self._redirect_uri = ""
        self._is_open = anyio.Event()

    def open_at(self, review_url: str) -> None:
        """Say at which address people come back."""
        self._redirect_uri = review_url + CALLBACK_PATH
        self._is_open.set()

    async def redirect_uri(self) -> str:
        """Where people come back, once that is known."""
        await self._is_open.wait()
        return self._redirect_uri

    def link(self, upstream: str) -> str | None:
        """Where a person signs in for this upstream, while one has to."""
        return next((one.link for one in self._waiting.values() if one.upstream == upstream), None)

    def ask(self, upstream: str, state: str, link: str) -> None:
        """Have a person open `link`; `state` is how the answer is known, once."""
        self._waiting[state] = _Waiting(upstream, link)

    async def answer(self, state: str) -> CameBack | None:
        """Wait for what a person came back with; None when nobody came in time, and then the link is void."""
        waiting = self._waiting[state]
        try:
            with anyio.move_on_after(SIGN_IN_SECONDS):
                await waiting.came.wait()
            return waiting.back
        finally:
            self._waiting.pop(state, None)

    def came_back(self, back: CameBack) -> str | None:
        """Take what a person came back with; return for which upstream, or None where nobody waits for this state.

        INVARIANT: a state is taken once, and by the flow that made it.
        """
        waiting = self._waiting.pop(back.state, None)
        if waiting is None:
            return None
        waiting.back = back
        waiting.came.set()
        return waiting.upstream
