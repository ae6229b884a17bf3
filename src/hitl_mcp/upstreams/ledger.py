"""Which calls may leave this process, and the check of the very bytes that do. No I/O.

Whatever writes to an upstream asks here first, with the bytes in hand. Nothing else in the project stands between a
recorded call and the tool.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, LOG_LEVEL_META_KEY, PROTOCOL_VERSION_META_KEY

from hitl_mcp.canonical import canonical_bytes, canonical_text
from hitl_mcp.errors import NotSent, UpstreamRefused
from hitl_mcp.limits import SENT_IDS
from hitl_mcp.upstreams.asker import Asker

__all__ = ["HOP_KEYS", "LateAnswer", "Ledger", "Progress", "Send", "without_hop_keys"]

Progress = Callable[[float, float | None, str | None], Awaitable[None]]
"""Takes the progress of a call: how far, of what total, and a text."""

LateAnswer = Callable[[dict[str, Any] | UpstreamRefused], None]
"""Takes, at once and without waiting, the answer to a call that nobody waited for any more."""

_CALL = "tools/call"

HOP_KEYS = frozenset(
    {
        PROTOCOL_VERSION_META_KEY,
        CLIENT_INFO_META_KEY,
        CLIENT_CAPABILITIES_META_KEY,
        LOG_LEVEL_META_KEY,
        "progressToken",
        "progress_token",
    }
)
"""What in a `_meta` belongs to one connection and is never passed on."""


@dataclass(frozen=True)
class Send:
    """One call to be sent: the id of its record, and exactly what the record says.

    `method` is another one for what is read and no tool. `asker` is the client that waits for it and may be asked
    meanwhile; nobody is for a call that people approved.
    """

    call_id: str
    tool: str
    arguments_json: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    method: str = _CALL
    conversation: str = ""
    asker: Asker | None = None
    on_progress: Progress | None = None
    on_late: LateAnswer | None = None


@dataclass(frozen=True)
class Leaving:
    """A call, or what its upstream asked for before it goes on, under the id of the request that brings it."""

    id: str
    send: Send
    answers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, Any]:
        """What stands in its params beside the arguments and the `_meta`."""
        return {"name": self.send.tool, **self.answers}


class Ledger:
    """The calls on their way out, and those that left."""

    def __init__(self) -> None:
        self._registered: dict[str, Leaving] = {}
        self._sent: dict[str, bool] = {}

    @contextmanager
    def registered(self, send: Send) -> Iterator[None]:
        """Let this call leave, once, while the context is open.

        Raises:
            NotSent: A call with this id is on its way, or left before.
        """
        with self._let_out(Leaving(send.call_id, send)):
            yield

    @contextmanager
    def continued(self, send: Send, rounds: int, answers: Mapping[str, Any]) -> Iterator[str]:
        """Let a call that left bring what its upstream asked for, once, under the request id that is given.

        This is how the protocol goes on with a call (`input_required`): the same call again, with `inputResponses` and
        the `requestState` of the upstream. `rounds` counts them, from 1.

        Raises:
            NotSent: The call never left, or this round did before.
        """
        if not self.has_sent(send.call_id):
            raise NotSent(f"call `{send.call_id}` cannot go on: it never left")
        with self._let_out(Leaving(f"{send.call_id}.{rounds}", send, answers)):
            yield f"{send.call_id}.{rounds}"

    @contextmanager
    def _let_out(self, leaving: Leaving) -> Iterator[None]:
        if leaving.id in self._registered or leaving.id in self._sent:
            raise NotSent(f"call `{leaving.id}` was sent before: a call is sent once")
        self._registered[leaving.id] = leaving
        try:
            yield
        finally:
            del self._registered[leaving.id]

    @contextmanager
    def reading(self, send: Send) -> Iterator[None]:
        """Let something be read, once, while the context is open; from here on it counts as sent.

        Raises:
            NotSent: What has this id was sent before.
        """
        with self._let_out(Leaving(send.call_id, send)):
            self._note_sent(send.call_id)
            yield

    def has_sent(self, call_id: str) -> bool:
        """Whether the bytes of this call were handed to a connection, and may have been written."""
        return self._sent.get(call_id, False)

    def held_back(self, call_id: str) -> None:
        """Note that a connection wrote not one byte of a call that was let out. Its id stays used."""
        if call_id in self._sent:
            self._sent[call_id] = False

    def release(self, frame: bytes) -> None:
        """Let these bytes leave, or refuse. To be called right before they are written, with what is written.

        INVARIANT: a `tools/call` leaves only for a registered call, once, with exactly its tool, arguments and
        `_meta`. A frame must be canonical JSON: then no reader can find anything else in it than we do.

        Raises:
            NotSent: Nothing may be written.
        """
        message = _canonical(frame)
        if message.get("method") != _CALL:
            return
        call_id = message.get("id")
        leaving = self._registered.get(call_id) if isinstance(call_id, str) else None
        if leaving is None:
            raise NotSent("a call without a record was about to be sent", help="this is a fault in hitl-mcp: report it")
        if leaving.id in self._sent:
            raise NotSent(f"call `{leaving.id}` was about to be sent a second time")
        says_the_same = _says_the_same(message.get("params"), leaving)
        if not says_the_same or frame.removesuffix(b"\n") != _as_recorded(message, leaving):
            raise NotSent(
                f"call `{leaving.id}`: what was about to be sent is not what is on record",
                help="this is a fault in hitl-mcp: report it",
            )
        self._note_sent(leaving.id)

    def _note_sent(self, call_id: str) -> None:
        self._sent[call_id] = True
        if len(self._sent) > SENT_IDS:
            del self._sent[next(iter(self._sent))]


def without_hop_keys(meta: Mapping[str, Any]) -> dict[str, Any]:
    """A `_meta` less what belongs to the connection it travels on."""
    return {key: value for key, value in meta.items() if key not in HOP_KEYS}


def _canonical(frame: bytes) -> dict[str, Any]:
    try:
        message = json.loads(frame)
        same = canonical_bytes(message) == frame.removesuffix(b"\n")
    except (ValueError, RecursionError):
        same = False
    if not same or not isinstance(message, dict):
        raise NotSent("a message that is not canonical JSON was about to be sent")
    return message


def _says_the_same(params: object, leaving: Leaving) -> bool:
    if not isinstance(params, dict) or not params.keys() <= {"arguments", "_meta", *leaving.params}:
        return False
    meta = params.get("_meta", {})
    return (
        _same({key: params.get(key) for key in leaving.params}, leaving.params)
        and isinstance(meta, dict)
        and _same(without_hop_keys(meta), without_hop_keys(leaving.send.meta))
    )


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return canonical_bytes(one) == canonical_bytes(other) if one or other else True


def _as_recorded(message: dict[str, Any], leaving: Leaving) -> bytes:
    """The frame as it must be: the arguments as they are stored, byte for byte, in the place of the message's own.

    What stands around them is canonical and the same on both sides: so where the frames are equal, the arguments are.
    """
    params = message["params"]
    meta = f'"_meta":{canonical_text(params["_meta"])},' if "_meta" in params else ""
    around = f'{{"id":{canonical_text(message["id"])},"jsonrpc":"2.0","method":"{_CALL}","params":{{{meta}"arguments":'
    rest = canonical_text(leaving.params)[1:-1]  # their names all come after `arguments`
    return f"{around}{leaving.send.arguments_json},{rest}}}}}".encode()
