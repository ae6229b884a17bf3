"""The questions that a client can put to whoever sits before it, and what its answers say. Nothing is decided here.

A form shows what the review page shows, whole, or it is not made. It carries its call's id and digest as constants that
must come back to the letter, so that no answer counts for another call or for other bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from hitl_mcp.calls import CallRecord, VerdictKind
from hitl_mcp.render.shown import Shown, plain_text
from hitl_mcp.render.terminal import terminal_obstacle, terminal_text

ELICIT = "elicitation/create"
"""The method by which a client is asked, in both eras."""

FORM_COLUMNS = 72
"""Narrower than any dialog was seen to be; what a dialog wraps itself would leave our gutter."""

FORM_CHARACTERS = 4000
"""A mail of a page with its reasons. Clients cut longer messages, each at a length of its own."""

FORM_ROWS = 80
"""What a tall window shows at once: the arguments stand last, and a dialog that scrolls hides its end."""

FORMS_SINCE, ADDRESSES_SINCE = "2025-06-18", "2025-11-25"
"""The revisions of the protocol from which on clients can be shown a form, and sent to an address."""


class Mode(StrEnum):
    """How a client asks: by a form that it shows itself, or by opening the review page."""

    FORM = "form"
    URL = "url"


class Said(StrEnum):
    """What the answer to a question says. Only the first two are verdicts."""

    APPROVE = "approve"
    REJECT = "reject"
    OPENED = "agreed to open the page"
    DECLINED = "declined"
    CANCELLED = "dismissed"
    NOTHING = "answered without a decision"

    @property
    def verdict(self) -> VerdictKind | None:
        """The verdict it is, if it is one."""
        return VerdictKind(self.value) if self in (Said.APPROVE, Said.REJECT) else None


def modes_of(capabilities: Mapping[str, Any], version: str) -> frozenset[Mode]:
    """In which ways a client of this revision says it can ask; a bare `elicitation: {}` means forms."""
    declared = capabilities.get("elicitation")
    if not isinstance(declared, Mapping):
        return frozenset()
    modes = set()
    if ("form" in declared or "url" not in declared) and version >= FORMS_SINCE:
        modes.add(Mode.FORM)
    if "url" in declared and version >= ADDRESSES_SINCE:
        modes.add(Mode.URL)
    return frozenset(modes)


def form_for(record: CallRecord, shown: Shown, version: str) -> dict[str, Any] | None:
    """The parameters of a form about this call; None where it cannot be shown whole."""
    text = terminal_text(shown, FORM_COLUMNS).rstrip("\n")
    if terminal_obstacle(shown, FORM_COLUMNS) or len(text) > FORM_CHARACTERS or text.count("\n") >= FORM_ROWS:
        return None
    message = f"Run this? Nothing of it has run yet. Declining leaves it to the review page.\n\n{_fenced(text)}"
    schema = {
        "type": "object",
        "properties": {
            # No default: nothing is decided by a client that fills forms in.
            "decision": {
                "type": "string",
                "title": "Decision",
                "description": "approve runs exactly this, once; reject ends it",
                "enum": [VerdictKind.APPROVE.value, VerdictKind.REJECT.value],
            },
            "call": _constant("Call", record.id),
            "digest": _constant("Digest of what is shown", record.digest),
        },
        "required": ["decision", "call", "digest"],
    }
    mode = {"mode": Mode.FORM.value} if version >= ADDRESSES_SINCE else {}
    return {**mode, "message": message, "requestedSchema": schema}


def address_for(record: CallRecord, url: str, elicitation_id: str | None) -> dict[str, Any]:
    """The parameters of a question that sends the person to the review page, where they sign in themselves."""
    what = f"{plain_text(record.call.upstream)} / {plain_text(record.call.tool)}"
    message = f"{plain_text(record.call.agent)} asks to run {what}. It is held as {record.id}: open the page to decide."
    return {
        "mode": Mode.URL.value,
        "message": message,
        "url": url,
        **({"elicitationId": elicitation_id} if elicitation_id is not None else {}),
    }


def said_by(answer: Any, mode: Mode, record: CallRecord) -> Said:
    """What a client's answer says about this call. Whatever is not exactly an answer to our form says nothing."""
    action = answer.get("action") if isinstance(answer, Mapping) else None
    if action == "decline":
        return Said.DECLINED
    if action == "cancel":
        return Said.CANCELLED
    if action != "accept":
        return Said.NOTHING
    if mode is Mode.URL:
        return Said.OPENED
    content = answer.get("content")
    for said in (Said.APPROVE, Said.REJECT):
        if content == {"decision": said.value, "call": record.id, "digest": record.digest}:
            return said
    return Said.NOTHING


def _constant(title: str, value: str) -> dict[str, Any]:
    # Forms have no `const`; a choice of one is the same, and filled in it costs the person nothing.
    return {"type": "string", "title": title, "enum": [value], "default": value}


def _fenced(text: str) -> str:
    """The text so that a client which reads Markdown shows it as it is: no text inside can end the fence."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
