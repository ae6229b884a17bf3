"""What the page of a call shows beside its record: gathered here, one line for each part that knows something."""

from __future__ import annotations

from hitl_mcp.calls import CallRecord
from hitl_mcp.grants import may_grant, why_not_grantable
from hitl_mcp.render import Beside
from hitl_mcp.surfaces.api.parts import ApiParts, Viewer
from hitl_mcp.surfaces.api.passkeys import usable_passkeys


async def beside_of(parts: ApiParts, record: CallRecord, viewer: Viewer) -> Beside:
    """What stands beside a call for whoever looks at it."""
    name = viewer.reviewer.name
    at_most = parts.people.budget_of(name)
    return Beside(
        looking=parts.seeing.others(record.id, name, parts.clock.now()),
        budget_left=await parts.store.reviewers.approvals_left(name, at_most) if at_most is not None else None,
        surface=viewer.surface,
        assurance=viewer.assurance,
        passkeys=usable_passkeys(parts, viewer),
        schema_json=parts.schema_of(record),
        stopped=await parts.store.stops.of(record.call.agent),
        grantable=why_not_grantable(record),
        may_grant=may_grant(record, viewer.reviewer, viewer.surface, viewer.assurance),
    )
