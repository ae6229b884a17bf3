"""A day on record: a store in which everything happened once that can happen to a call."""

from __future__ import annotations

from hashlib import sha256

from hitl_mcp.calls import Asked, Mark, Outcome, Preview, Requirement, Status, VerdictKind
from hitl_mcp.canonical import digest_of
from hitl_mcp.store import Edited, PassedOn, SqliteStore, passed_on
from hitl_mcp.store.pins import Pin, keep_first_pins
from tests.samples import admit, allowed, claim, denied, held, tool_call, verdict

ASKED = Asked("conv")


async def a_day(store: SqliteStore, day: int = 0) -> dict[str, str]:
    """A record in which everything happened that can be attested; the calls by what became of them."""
    ids: dict[str, str] = {}
    spending = held(marks=(Mark("spent", "builder", "EUR", 5), Mark("spent", "builder", "USD", 7)))
    await store.keep_policy(digest_of({}), "{}")
    await keep_first_pins(store, [Pin("mail__read", "mail", "sha256:" + "6" * 64, "{}")])
    ids["allowed"] = (await admit(store, tool_call(tool="read", name="mail__read"), ASKED, allowed())).record.id
    done = Outcome(Status.SUCCEEDED, True, "2026-11-22T12:00:00.000000Z", "", None, "sha256:" + "5" * 64, 3)
    await store.settle(ids["allowed"], done, durable=False)
    ids["denied"] = (await admit(store, tool_call(tool="drop", name="mail__drop"), ASKED, denied())).record.id
    waiting = (
        await admit(store, tool_call(arguments_json=f'{{"day":{day}}}'), Asked("conv", "they asked"), held())
    ).record
    ids["ran"] = waiting.id
    await store.keep_preview(waiting.id, Preview("mail-out", "mail__look", "2026-11-22T12:00:00.000000Z", None, "{}"))
    approved = await store.add_verdict(waiting.id, verdict(waiting.digest))
    assert await claim(store, approved) is not None
    body = '{"content":[]}'
    result = (body, "sha256:" + sha256(body.encode()).hexdigest(), len(body))
    await store.settle(waiting.id, Outcome(Status.UNKNOWN, True, done.at, "no answer came"), durable=True)
    await store.hand_over(waiting.id)
    await store.resolve(waiting.id, Outcome(Status.SUCCEEDED, True, done.at, "answered late", *result), "upstream:mail")
    await store.hand_over(waiting.id)
    refused = (
        await admit(store, tool_call(arguments_json=f'{{"day":{day},"to":"b@example.com"}}'), ASKED, held())
    ).record
    ids["rejected"] = refused.id
    await store.add_verdict(refused.id, verdict(refused.digest, VerdictKind.REJECT))
    ids["held"] = (
        await admit(store, tool_call(arguments_json=f'{{"day":{day},"to":"c@example.com"}}'), ASKED, spending)
    ).record.id
    ids["edited"] = await _edited(store, day)
    await store.stops.stop("sweeper", "dana", "it asked for everything")
    await store.stops.stop("keeper", "dana", "for a moment")
    await store.stops.release("keeper", "erin")
    await store.pause("dana", "lunch")
    return ids


async def _edited(store: SqliteStore, day: int) -> str:
    """A call that a reviewer passed on, and changed twice; the second time somebody approved it already."""
    two = held(Requirement("pay", quorum=2), marks=(Mark("spent", "builder", "EUR", 2),))
    call = tool_call(arguments_json=f'{{"day":{day},"to":"d@example.com"}}')
    record = (await admit(store, call, ASKED, two)).record
    passed = PassedOn(record.digest, passed_on(record, "legal"), "dana", "theirs")
    record = await store.verdicts.pass_on(record.id, passed)
    for by, to in (("dana", "e@example.com"), ("erin", "f@example.com")):
        edited = Edited(record.digest, f'{{"day":{day},"to":"{to}"}}', lambda history: two, lambda needs: ())
        record = await store.verdicts.edit(record.id, verdict(record.digest, reviewer=by, reason="to them"), edited)
    await store.withdraw(record.id, "builder")
    return record.id
