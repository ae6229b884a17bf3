"""What a modern client carries from a question to its answer: sealed, so that only we can have written it.

A state says what was asked and of which call, and nothing else. It is no permission and can be shown again as often as
a client likes: whether an answer still changes anything is for the store to say. How questions look is not known here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import mcp_types as types
from mcp.server.request_state import AESGCMRequestStateCodec, InvalidRequestState
from mcp.shared.exceptions import MCPError

from hitl_mcp.canonical import compact_text, digest_of
from hitl_mcp.clock import Clock, after, to_text
from hitl_mcp.surfaces.agents.asked import ClientRequest

logger = logging.getLogger(__name__)

STATE_SECONDS = 24 * 3600
"""As long as people have for a held call where nothing else is written: a form may stay open that long."""

_FORMAT = 1
"""Which form of state this is; a gateway that writes another one refuses ours."""


@dataclass(frozen=True)
class Opened:
    """What a client was asked: which kind of question, of which call, and by which of our own askings."""

    kind: str
    call_id: str
    nonce: str


class States:
    """Seals states under a key that survives restarts, and knows them again."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._codec = AESGCMRequestStateCodec([key])
        self._clock = clock

    def seal(self, asked: ClientRequest, kind: str, call_id: str, nonce: str, *, method: str = "tools/call") -> str:
        """A state that only this agent can bring back, with this same request, for a day."""
        claims = {
            "v": _FORMAT,
            "kind": kind,
            "call": call_id,
            "nonce": nonce,
            "until": to_text(after(self._clock.now(), STATE_SECONDS)),
            **_bound_to(asked, method),
        }
        return self._codec.seal(compact_text(claims).encode())

    def open(self, asked: ClientRequest, text: str, *, method: str = "tools/call") -> Opened:
        """Take a state that came back with a request apart.

        Raises:
            MCPError: We did not write it, it belongs to another agent or another request, or it is too old.
        """
        if not isinstance(text, str):
            refuse_state("not a text")
        try:
            claims: dict[str, Any] = json.loads(self._codec.unseal(text))
        except InvalidRequestState as error:
            refuse_state(str(error))
        if claims.get("v") != _FORMAT:
            refuse_state("another format")
        bound = _bound_to(asked, method)
        if {key: claims.get(key) for key in bound} != bound:
            refuse_state("another request")
        if not to_text(self._clock.now()) < claims["until"]:
            refuse_state("expired")
        return Opened(claims["kind"], claims["call"], claims["nonce"])


def _bound_to(asked: ClientRequest, method: str) -> Mapping[str, str]:
    """What must be the same when the answer comes: who asks, and for what with which arguments."""
    params = asked.params
    name = params.get("uri") if method == "resources/read" else params.get("name")
    arguments = digest_of(dict(params.get("arguments") or {}))
    return {"agent": asked.caller.agent, "method": method, "name": str(name), "arguments": arguments}


def refuse_state(why: str) -> NoReturn:
    """As the SDK refuses; the reason stands in the log only.

    Raises:
        MCPError: Always.
    """
    logger.warning("a client came back with a state that is refused: %s", why)
    raise MCPError(types.INVALID_PARAMS, "Invalid or expired requestState", {"reason": "invalid_request_state"})
