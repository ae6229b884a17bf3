"""A reviewer's desk on an ordinary day: calls in many states, for what looks at the page as a whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hitl_mcp.calls import Effect, HistoryUsed, Outcome, Preview, ReadingCall, RuleMatch, Status, VerdictKind
from tests.samples import claim, held, verdict
from tests.surfaces.desk import PAYMENT, Desk
from tests.surfaces.seats import HARD


async def a_full_desk(desk: Desk) -> dict[str, str]:
    """Calls in many states, as on an ordinary day; gives the ids of some."""
    for number, kind in enumerate((VerdictKind.REJECT, VerdictKind.APPROVE, VerdictKind.APPROVE)):
        record = await desk.hold({"to": f"team{number}@example.com", "subject": "Weekly notes"})
        reason = "Send it to the team list instead." if kind is VerdictKind.REJECT else ""
        await desk.store.add_verdict(record.id, verdict(record.digest, kind, "lee", reason=reason))
        if kind is VerdictKind.APPROVE:
            await claim(desk.store, await desk.store.get(record.id))
            done: Any = Status.UNKNOWN if number == 1 else Status.SUCCEEDED
            detail = "the connection to the upstream was lost" if number == 1 else ""
            result = None if number == 1 else '{"content":[{"text":"sent","type":"text"}],"isError":false}'
            outcome = Outcome(done, True, "2026-11-22T12:00:03.000000Z", detail, result, result and "sha256:x", 60)
            await desk.store.settle(record.id, outcome, durable=True)
    hard = await desk.hold({name: HARD[name] for name in ("bidi", "blob", "number", "text")}, claim="routine")
    body = "Hi all,\n\nthe notes are attached.\n\n- budget\n- dates\n"
    await desk.hold({"to": ["team@example.com"], "subject": "Notes", "body": body})
    payment = await desk.hold(
        {
            "amount": 5000,
            "currency": "EUR",
            "iban": "DE89 3704 0044 0532 0130 00",
            "reference": "Invoice 2026-1142",
            "to": "Müller GmbH <rechnung@m\u0443eller.example>",
        },
        replace(
            PAYMENT,
            previews=(ReadingCall("payments", "payments__quote", '{"amount":5000}'),),
            shadows=(RuleMatch("new-suppliers", Effect.DENY, "suppliers are entered by people first"),),
            history=(HistoryUsed("first-time", "known", ()), HistoryUsed("daily", "taken", 120_500_000)),
        ),
        claim="Dana asked me to pay the invoice from Müller GmbH before noon.",
        upstream="payments",
        tool="pay",
        name="payments__pay",
    )
    quote = '{"content":[{"text":"5,000.00 EUR and 3.50 EUR of fees leave the account `main`.","type":"text"}]}'
    at = "2026-11-22T12:00:01.000000Z"
    await desk.store.keep_preview(payment.id, Preview("payments", "payments__quote", at, "c_quote", quote))
    approval = verdict(payment.digest, reviewer="lee", roles=("finance",), reason="I know this supplier.")
    await desk.store.add_verdict(payment.id, approval)
    return {"payment": payment.id, "hard": hard.id}


async def batch_of(desk: Desk, count: int = 3) -> list[str]:
    """Harmless calls of one tool that wait, few points each; gives their ids."""
    records = [
        await desk.hold({"to": f"member{number}@example.com", "subject": "Minutes"}, held(score=10))
        for number in range(count)
    ]
    return [record.id for record in records]
