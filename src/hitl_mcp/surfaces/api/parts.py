"""What the review API is made of: the parts it calls, and who is calling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from hitl_mcp.backups import Keeping
from hitl_mcp.calls import Assurance, CallRecord
from hitl_mcp.canonical import canonical_text
from hitl_mcp.clock import Clock
from hitl_mcp.limits import BATCH_BELOW
from hitl_mcp.passkeys import Challenges
from hitl_mcp.people import People, Reviewer
from hitl_mcp.pins import Pins
from hitl_mcp.review import Review
from hitl_mcp.seeing import Seeing
from hitl_mcp.store import SqliteStore
from hitl_mcp.surfaces.api.evaluate import Evaluating
from hitl_mcp.surfaces.api.login_codes import LoginCodes


@dataclass(frozen=True)
class ApiParts:
    """The parts of one gateway that the API talks to.

    `status` gives what `hitl-mcp status --json` prints; of it the API reads `upstreams` (each a `name` and `state`).
    `public_url` is the address people use. Setting `stopping` ends every event stream. `login_codes` is shared by
    both doors of one gateway. `tools` gives every tool that agents may call: its names, its input schema, and the rules
    that name it; `pins` knows which of them are blocked.
    """

    store: SqliteStore
    review: Review
    people: People
    status: Callable[[], Mapping[str, Any]]
    stop: Callable[[], None]
    clock: Clock
    public_url: str
    stopping: anyio.Event
    pins: Pins
    tools: Callable[[], list[dict[str, Any]]] = list
    keeping: Keeping | None = None
    evaluating: Evaluating | None = None
    batch_below: int = BATCH_BELOW
    seeing: Seeing = field(default_factory=Seeing, repr=False)
    login_codes: LoginCodes = field(default_factory=LoginCodes, repr=False)
    challenges: Challenges = field(default_factory=Challenges, repr=False)

    def schema_of(self, record: CallRecord) -> str | None:
        """The input schema of a call's tool as JSON text, so that no number in it is read on the way."""
        if record.call.runs_elsewhere:
            return None
        tool = next((tool for tool in self.tools() if tool["name"] == record.call.name), None)
        return canonical_text(tool["inputSchema"]) if tool else None

    def considered_seconds(self, digest: str, viewer: Viewer) -> float | None:
        """How long ago whoever calls was first shown the bytes of this digest; None where nobody knows."""
        return self.seeing.considered_seconds(digest, viewer.reviewer.name, self.clock.now())


@dataclass(frozen=True)
class Viewer:
    """Who is calling the API, and how we know. `key_digest` is that of the key of `sign_in`; both are None on the
    control socket. `assurance` is what a verdict is worth by that alone: nobody's passkey signs it.
    """

    reviewer: Reviewer
    surface: str
    assurance: Assurance
    expires_at: str | None = None
    key_digest: str | None = None
    sign_in: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether this is who may see and end everybody's sign-ins: an admin, or the operator at the terminal."""
        return self.surface == "cli" or self.reviewer.is_admin
