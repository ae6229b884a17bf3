"""What the review API is made of: the parts it calls, and who is calling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from hitl_mcp.backups import Keeping
from hitl_mcp.calls import Assurance
from hitl_mcp.clock import Clock
from hitl_mcp.people import People, Reviewer
from hitl_mcp.pins import Pins
from hitl_mcp.review import Review
from hitl_mcp.store import SqliteStore
from hitl_mcp.surfaces.api.evaluate import Evaluating
from hitl_mcp.surfaces.api.sign_in import LoginCodes


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
    login_codes: LoginCodes = field(default_factory=LoginCodes, repr=False)


@dataclass(frozen=True)
class Viewer:
    """Who is calling the API, and how we know. `key_digest` is the sign-in's, None on the control socket."""

    reviewer: Reviewer
    surface: str
    assurance: Assurance
    expires_at: str | None = None
    key_digest: str | None = None
