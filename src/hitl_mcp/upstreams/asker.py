"""The client for which something is sent to an upstream: what it can do, and how it is asked and told. No I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST, LoggingLevel

from hitl_mcp.config import UpstreamConfig
from hitl_mcp.limits import QUESTION_SECONDS

__all__ = ["Asker", "Question", "declared_for", "declared_to_all", "is_wanted", "patient", "why_not_asked"]


@dataclass(frozen=True)
class Question:
    """What an upstream asks while it works on something: the method and params of its request, as it wrote them."""

    method: str
    params: Mapping[str, Any]


AskClient = Callable[[Mapping[str, Question]], Awaitable[dict[str, Any]]]
"""Asks the client some questions at once, and returns its result for each, by the same keys.

Raises `MCPError` where the client cannot be asked, or answers with an error.
"""

TellClient = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Passes a notification on to the client, by method and params."""


@dataclass(frozen=True)
class Asker:
    """A client that waits while something runs for it, and can be asked meanwhile.

    `capabilities` are those it declared, in the protocol's words; `log_level` the level from which on it wants to hear
    an upstream's log, or None where it wants none of it. `end_stream` has the client, where it can, wait without a
    stream for a while, as the upstream has us.
    """

    is_modern: bool
    capabilities: Mapping[str, Any]
    log_level: str | None
    ask: AskClient
    tell: TellClient
    end_stream: Callable[[], Awaitable[None]] | None = None


_LEVELS: tuple[str, ...] = get_args(LoggingLevel)
"""From `debug` to `emergency`."""

_KINDS = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
"""Which capability of a client each question is answered by."""


def patient(asker: Asker, limit: anyio.CancelScope) -> Asker:
    """The same client; while it is asked something, the time that its upstream has until this limit stands still."""
    waiting = 0
    seconds_left = 0.0

    async def ask(questions: Mapping[str, Question]) -> dict[str, Any]:
        nonlocal waiting, seconds_left
        if waiting == 0:
            seconds_left = limit.deadline - anyio.current_time()
        waiting += 1
        limit.deadline = anyio.current_time() + seconds_left + QUESTION_SECONDS
        try:
            with anyio.move_on_after(QUESTION_SECONDS):
                return await asker.ask(questions)
            raise MCPError(INVALID_REQUEST, f"nobody answered within {QUESTION_SECONDS} s")
        finally:
            waiting -= 1
            if waiting == 0:
                limit.deadline = anyio.current_time() + seconds_left

    return replace(asker, ask=ask)


def declared_for(asker: Asker, config: UpstreamConfig) -> dict[str, Any]:
    """What an upstream is told that the client can be asked: as it declared it, less what the config forbids."""
    declared = {kind: asker.capabilities.get(kind) for kind in _relayed(config)}
    return {kind: how for kind, how in declared.items() if isinstance(how, dict)}


def declared_to_all(config: UpstreamConfig) -> dict[str, Any]:
    """What an upstream is told that has one connection for all clients, which may or may not be able to do it.

    No roots: they are one client's, and an upstream that took them for everybody's would open them to all.
    """
    ways: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {}}
    return {kind: ways[kind] for kind in _relayed(config) if kind in ways}


def why_not_asked(question: Question, asker: Asker, config: UpstreamConfig) -> MCPError | None:
    """Why a client cannot be asked this, as the error that its upstream gets, or None."""
    kind = _KINDS.get(question.method)
    if kind is None:
        return MCPError(INVALID_REQUEST, "no client is asked this here")
    if kind not in _relayed(config):
        return MCPError(INVALID_REQUEST, f"the gateway's config forbids `{question.method}`")
    declared = asker.capabilities.get(kind)
    if not isinstance(declared, dict) or not _has_mode(declared, question):
        return MCPError(INVALID_REQUEST, f"the client does not support `{question.method}`")
    return None


def is_wanted(level: object, wanted_from: str | None) -> bool:
    """Whether a line of an upstream's log, of this level, is one that the client wants to hear."""
    if wanted_from not in _LEVELS or level not in _LEVELS:
        return False
    return _LEVELS.index(str(level)) >= _LEVELS.index(wanted_from)


def _relayed(config: UpstreamConfig) -> list[str]:
    switches = {"elicitation": config.elicitation, "sampling": config.sampling, "roots": True}
    return [kind for kind, is_on in switches.items() if is_on]


def _has_mode(declared: Mapping[str, Any], question: Question) -> bool:
    if question.method != "elicitation/create":
        return True
    if question.params.get("mode") == "url":
        return declared.get("url") is not None
    return declared.get("form") is not None or declared.get("url") is None  # `{}` means forms
