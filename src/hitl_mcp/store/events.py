"""Writing an event: numbered, linked to the one before, and left to be published after the commit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from hitl_mcp.calls import CallEvent, Status
from hitl_mcp.canonical import compact_text
from hitl_mcp.store import chain
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction

SEALS = "seals"
"""Who ends a call whose seal does not fit: it was changed outside the gateway."""

NOTHING: Mapping[str, str] = MappingProxyType({})


class Step(NamedTuple):
    """What an event says, beside its number and its call."""

    version: int
    kind: str
    status: Status | None
    at: str
    by: str
    detail: str = ""


def put_event(txn: Transaction, call_id: str, step: Step, facts: Mapping[str, str] = NOTHING) -> CallEvent:
    """Write an event; `facts` are digests of what its step wrote beside it (see `chain`).

    # INVARIANT: the head is read and its successor written in one transaction of the one writer: the chain cannot fork.
    """
    head = txn.connection.execute(sql("head")).fetchone()
    number, previous = (head[0] + 1, head[1]) if head else (1, chain.GENESIS)
    columns = (number, call_id, *step, compact_text(facts) if facts else "")
    txn.connection.execute(sql("insert_event"), (*columns, chain.link(previous, columns)))
    event = CallEvent(number, call_id, *step)
    txn.events.append(event)
    return event
