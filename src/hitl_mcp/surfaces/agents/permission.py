"""`hitl_permission`: asks whether a tool that a client runs itself may run, in the shape that Claude Code expects.

Claude Code names it with `--permission-prompt-tool` and calls it where it would ask a person. Every way to fail denies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from hitl_mcp.answers import permission_allowed, permission_denied, permission_refused
from hitl_mcp.calls import CallRecord
from hitl_mcp.errors import ArgumentsRefused, StoreError, ToolNotFound, TooManyHeld
from hitl_mcp.gate import AgentCall
from hitl_mcp.releasing import Releasing
from hitl_mcp.surfaces.agents.asked import ClientRequest
from hitl_mcp.surfaces.agents.waiting import Ticker

logger = logging.getLogger(__name__)

NAME = "hitl_permission"

TOOL: dict[str, Any] = {
    "name": NAME,
    "title": "Ask whether a tool of the client may run",
    "description": "For the client's own program, not for you: it asks here before it runs one of its own tools.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "tool_name": {"type": "string", "description": "the client's tool that would run"},
            "input": {"type": "object", "description": "what it would run with"},
            "tool_use_id": {"type": "string", "description": "the client's own id of this use; it is not kept"},
        },
        "required": ["tool_name", "input"],
    },
    "annotations": {"readOnlyHint": False, "destructiveHint": False, "openWorldHint": False},
}


async def permission(
    releasing: Releasing, asked: ClientRequest, seconds: float, review_url: Callable[[str], str]
) -> dict[str, Any]:
    """Answer one request: allowed where this very request was given the call, denied with the reason otherwise.

    It is asked for the first client that the config names. `review_url` gives the address where people answer a call.

    Raises:
        ArgumentsRefused: This is not the shape that clients ask in.
    """
    tool, arguments = asked.arguments.get("tool_name"), asked.arguments.get("input")
    if not isinstance(tool, str):
        raise ArgumentsRefused("$.arguments.tool_name", "the name of a tool is needed")
    if not isinstance(arguments, dict):
        raise ArgumentsRefused("$.arguments.input", "an object is needed")
    ticker = Ticker(asked.report)

    async def tick(record: CallRecord) -> None:
        await ticker.tick(f"{record.id}: {record.status}, waiting for people")

    call = AgentCall(
        agent=asked.caller.agent,
        conversation=asked.caller.conversation,
        name=f"{releasing.clients[0]}__{tool}",
        arguments=arguments,
        meta={},
    )
    try:
        answered = await releasing.ask(call, seconds, tick, takes_changes=True)
    except (ArgumentsRefused, ToolNotFound, TooManyHeld) as error:
        return permission_refused(error.message)
    except StoreError as error:
        logger.exception("a call was refused because the record cannot be written")
        return permission_refused(error.message)
    if answered.released:
        return permission_allowed(answered.record)
    return permission_denied(answered.record, repeat=answered.repeat, review_url=review_url(answered.record.id))
