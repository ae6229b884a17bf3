"""What the agent is told: every sentence of the contract stands here once, as a tool result ready to be sent.

The first words are the status and whether anything ran. Text and `structuredContent` say the same, because some
clients show a model only one of them. No authority ever stands in an answer: a review URL is an address.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

from hitl_mcp.calls import STOP_RULE, CallRecord, Status, Verdict
from hitl_mcp.canonical import canonical_text, compact_text
from hitl_mcp.clock import for_people
from hitl_mcp.pins import PIN_RULE
from hitl_mcp.policy.explanation import explained

Retry = Literal["repeat_same", "ask_user", "never"]

INSTRUCTIONS = """\
Some of these tools act on things that matter, so a gate stands in front of them. Most calls run at once. A call that \
carries risk is HELD: it is on record and people are asked, but nothing has run yet.

When a result says NOT EXECUTED, held: do not look for another way to the same effect, do not split or rephrase the \
call. Go on with other work, or call `hitl_wait` with the call_id to wait for the answer, or tell the user it waits at \
the review_url and stop. Repeating the identical call is safe: it returns the same request and never runs twice.
`hitl_status` without arguments lists what you have open and every outcome you were not told yet: call it when you \
come back to a conversation. `hitl_withdraw` takes back a held call you no longer need.
Rejected or denied means no: do not repeat it. OUTCOME UNKNOWN means it may have happened: never retry it yourself.
Where a tool has a `hitl_reason` argument, say in one sentence why you want the call: the reviewer reads it."""


CHANGES_TOLD = 50
"""Places that are named one by one where a reviewer changed a call: more is another call, and is read in the result."""

CHANGE_CHARACTERS = 500
"""Of one changed value: the agent knows what it asked for, and most of what runs."""


@dataclass(frozen=True)
class Told:
    """One status as the agent hears it: a sentence, whether it counts as an error, and what to do about asking again.

    `executed` is None where nobody knows.
    """

    message: str
    is_error: bool
    executed: bool | None
    retry: Retry


def call_answer(
    record: CallRecord, *, repeat: bool, review_url: str | None, plain_result: bool = False
) -> dict[str, Any]:
    """A tool result that says how a call stands.

    With `plain_result`, a call that succeeded is answered by the upstream's own result, as if no gate stood there:
    for the request that asked for it. Everyone else gets it under `result`.
    """
    result, changes = _stored_result(record), changes_of(record)
    if plain_result and not repeat and record.status is Status.SUCCEEDED and result is not None and not changes:
        return result
    told = tell(record, repeat=repeat)
    structured: dict[str, Any] = {
        "status": "paused" if record.decision.paused else str(record.status),
        "executed": told.executed,
        "call_id": record.id,
        "retry": told.retry,
        "repeat": True if repeat else None,
        "expires_at": record.expires_at if record.status is Status.HELD else None,
        "review_url": _address(record, review_url),
        "reasons": list(record.decision.reasons) or None,
        "changes": changes or None,
        "result": result,
        "message": _with_address(told, record, review_url),
    }
    content = [{"type": "text", "text": structured["message"]}]
    if result is not None:
        content.extend(result.get("content", ()))
    return _tool_result(content, structured, told.is_error)


def changes_of(record: CallRecord) -> list[dict[str, Any]]:
    """What reviewers changed since the agent asked: where, what stood there before, and what stands there now."""
    if not record.revisions or record.erased_at is not None:
        return []
    found = _changes("$", json.loads(record.revisions[0].arguments_json), json.loads(record.call.arguments_json))
    return list(islice(found, CHANGES_TOLD))


def _changes(path: str, before: Any, after: Any) -> Iterator[dict[str, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            child = path + (f".{key}" if key.isidentifier() else f"[{json.dumps(key, ensure_ascii=False)}]")
            if key in before and key in after:
                yield from _changes(child, before[key], after[key])
            else:
                name, value = ("before", before[key]) if key in before else ("after", after[key])
                yield {"path": child, name: _told_value(value)}
    elif canonical_text(before) != canonical_text(after):  # true is not 1
        yield {"path": path, "before": _told_value(before), "after": _told_value(after)}


def _told_value(value: Any) -> Any:
    """A value as an agent is told it; of a long one the beginning of its JSON."""
    text = canonical_text(value)
    if len(text) <= CHANGE_CHARACTERS:
        return value
    return f"{text[:CHANGE_CHARACTERS]}… ({len(text)} characters)"


def _changed(record: CallRecord) -> str:
    """What reviewers changed, in a line; nothing where nobody did."""
    if not record.revisions:
        return ""
    said = []
    for change in changes_of(record):
        before = canonical_text(change["before"]) if "before" in change else "nothing"
        after = canonical_text(change["after"]) if "after" in change else "nothing"
        said.append(f"{change['path']}: {before} → {after}")
    return "; ".join(said) or "what was changed is no longer kept"


def tell(record: CallRecord, *, repeat: bool = False) -> Told:
    """The sentence for a call as it stands."""
    told = _TELLERS[record.status](record)
    if record.revisions and record.status in (Status.HELD, Status.APPROVED, Status.RUNNING):
        said = f"{told.message} A reviewer changed what runs: {_changed(record)}."
        told = replace(told, message=said)
    if not repeat:
        return told
    again = f"{told.message} This is the record of your earlier identical request; nothing ran for this one."
    return Told(again, told.is_error, told.executed, told.retry)


def open_calls_answer(
    records: Sequence[CallRecord], too_large: Sequence[CallRecord], review_url: Callable[[CallRecord], str | None]
) -> dict[str, Any]:
    """A tool result that lists what an agent has open, unknown, or was not told yet.

    Of calls in `too_large` only the sentence is listed: their results are fetched one by one.
    """
    if not records and not too_large:
        message = "Nothing is open: no call of yours is held, running or unknown, and you were told every outcome."
        return _tool_result([{"type": "text", "text": message}], {"calls": [], "message": message}, is_error=False)
    calls: list[dict[str, Any]] = []
    results: list[str] = []
    for record in records:
        entry = call_answer(record, repeat=False, review_url=review_url(record))["structuredContent"]
        calls.append({**entry, "name": record.call.name, "arguments_json": record.call.arguments_json})
        if "result" in entry:
            # The results stand in the text too: some models are shown nothing else.
            results.append(json.dumps({"call_id": record.id, "result": entry["result"]}, ensure_ascii=False))
    for record in too_large:
        message = f"{record.status}: its result is large, call `hitl_status` with this call_id for it."
        calls.append({"status": str(record.status), "call_id": record.id, "name": record.call.name, "message": message})
    lines = [f"{entry['call_id']} {entry['name']}: {entry['message']}" for entry in calls]
    message = f"{len(calls)} of your calls are open or have news.\n" + "\n".join(lines)
    content = [{"type": "text", "text": text} for text in (message, *results)]
    return _tool_result(content, {"calls": calls, "message": message}, is_error=False)


# For a client that runs a tool itself: allowed, and then released, or denied.


def permission_allowed(record: CallRecord) -> dict[str, Any]:
    """What a client is told that asked whether it may run a released call: yes, and with exactly the stored bytes."""
    return _permission(f'{{"behavior":"allow","updatedInput":{record.call.arguments_json}}}')


def permission_denied(record: CallRecord, *, repeat: bool, review_url: str) -> dict[str, Any]:
    """What a client is told that may not run a call, or not yet."""
    message = _with_address(tell(record, repeat=repeat), record, review_url)
    return _permission(compact_text({"behavior": "deny", "message": message}))


def permission_refused(message: str) -> dict[str, Any]:
    """What a client is told whose request has no record to speak of."""
    return _permission(compact_text({"behavior": "deny", "message": f"NOT EXECUTED: {message}"}))


def evaluation(record: CallRecord, *, released: bool, repeat: bool, review_url: str) -> dict[str, Any]:
    """What a hook is told of a call: `allow` where it may run now, by this very request, and else `deny` and why."""
    told = tell(record, repeat=repeat and not released)
    return {
        "decision": "allow" if released else "deny",
        "status": "paused" if record.decision.paused else str(record.status),
        "call_id": record.id,
        "reason": _with_address(told, record, review_url),
        "review_url": _address(record, review_url),
        "retry": told.retry,
        **({"updatedInput": json.loads(record.call.arguments_json)} if released and record.revisions else {}),
    }


def _permission(text: str) -> dict[str, Any]:
    # Nothing but this one text: the client reads it as JSON, and would read anything else instead where it found it.
    return {"content": [{"type": "text", "text": text}], "isError": False}


def _address(record: CallRecord, review_url: str | None) -> str | None:
    return review_url if record.status in (Status.HELD, Status.APPROVED) else None


def _with_address(told: Told, record: CallRecord, review_url: str | None) -> str:
    address = _address(record, review_url)
    return told.message if address is None else f"{told.message} People answer at {address}"


def refusal_answer(message: str, *, call_id: str | None = None, retry: Retry = "ask_user") -> dict[str, Any]:
    """A tool result for a call that has no record to speak of: the gate could not take it, so nothing ran."""
    text = f"NOT EXECUTED: {message}"
    structured = {"status": "refused", "executed": False, "call_id": call_id, "retry": retry, "message": text}
    return _tool_result([{"type": "text", "text": text}], structured, is_error=True)


def too_many_held_answer(at_most: int) -> dict[str, Any]:
    """A tool result for a call that would be held, of an agent that has as many held calls as it may."""
    message = (
        f"{at_most} of your calls are held already, which is the most one agent may have. Tell the user; ask again "
        "once people decided on some of them, or take back with `hitl_withdraw` what is no longer needed "
        "(`hitl_status` lists them)."
    )
    return refusal_answer(message, retry="repeat_same")


def too_many_at_once(at_most: int) -> str:
    """What an agent is told of a request beyond as many as it may have in flight."""
    return (
        f"{at_most} of your requests are being worked on already, which is the most one agent may have at once. "
        "Ask again once one of them is answered."
    )


def not_changed_answer(message: str, status: str, call_id: str) -> dict[str, Any]:
    """A tool result for a request about a call that came too late; `status` is the true one."""
    structured = {"status": status, "call_id": call_id, "message": message}
    return _tool_result([{"type": "text", "text": message}], structured, is_error=True)


def too_late(answer: dict[str, Any]) -> dict[str, Any]:
    """The same answer, for a client whose user decided when everything was decided already."""
    structured = answer["structuredContent"]
    message = f"{structured['message']} What was answered in your client came too late and changed nothing."
    content = [{"type": "text", "text": message}, *answer["content"][1:]]
    return {**answer, "content": content, "structuredContent": {**structured, "message": message}}


def _tool_result(content: list[dict[str, Any]], structured: dict[str, Any], is_error: bool) -> dict[str, Any]:
    said = {key: value for key, value in structured.items() if value is not None}
    return {"content": content, "structuredContent": said, "isError": is_error}


def _stored_result(record: CallRecord) -> dict[str, Any] | None:
    if record.outcome is None or record.outcome.result_json is None:
        return None
    result: dict[str, Any] = json.loads(record.outcome.result_json)
    return result


def _why(record: CallRecord) -> str:
    why = explained(record.decision).in_a_line
    return f" Why: {why}." if why else ""


def _held(record: CallRecord) -> Told:
    until = for_people(record.expires_at or "")
    given = len({verdict.reviewer for verdict in record.verdicts})
    so_far = f" {given} approved so far, more are needed." if given else ""
    if record.call.runs_elsewhere:
        message = (
            f"NOT EXECUTED, held as {record.id} until {until}: people decide on it.{_why(record)}{so_far} "
            "Repeating the identical call asks for this same request, and runs it once it is approved. Do other work "
            "meanwhile, or tell the user and stop."
        )
        return Told(message, is_error=False, executed=False, retry="repeat_same")
    message = (
        f"NOT EXECUTED, held as {record.id} until {until}: people decide on it.{_why(record)}{so_far} "
        "Repeating the identical call returns this same request. Do other work, call `hitl_wait` with this call_id, "
        "or tell the user and stop."
    )
    return Told(message, is_error=False, executed=False, retry="repeat_same")


def _approved(record: CallRecord) -> Told:
    if record.call.runs_elsewhere:
        undo = f" from {for_people(record.starts_at)} on" if record.decision.undo_seconds else ""
        message = (
            f"NOT EXECUTED YET: {record.id} was approved. Repeat the identical call{undo}, by "
            f"{for_people(record.run_by or '')} at the latest: it is then released to you, once, and runs."
        )
        return Told(message, is_error=False, executed=False, retry="repeat_same")
    message = (
        f"NOT EXECUTED YET: {record.id} was approved and is starting, by {for_people(record.run_by or '')} at the "
        "latest. Call `hitl_wait` with this call_id for the outcome."
    )
    return Told(message, is_error=False, executed=False, retry="repeat_same")


def _running(record: CallRecord) -> Told:
    message = (
        f"RUNNING: {record.id} has been running since {for_people(record.changed_at)}. Call `hitl_wait` with this "
        "call_id for the outcome; do not send it again."
    )
    return Told(message, is_error=False, executed=None, retry="repeat_same")


def _denied(record: CallRecord) -> Told:
    if record.decision.paused:
        message = f"NOT EXECUTED, {'; '.join(record.decision.reasons)}. Tell the user; ask again once it is resumed."
        return Told(message, is_error=True, executed=False, retry="ask_user")
    if any(rule.id == STOP_RULE for rule in record.decision.rules):
        message = (
            f"NOT EXECUTED, {'; '.join(record.decision.reasons)}. What of yours people would be asked about is denied "
            "until a reviewer releases you; what the policy allows still runs. Tell the user and stop."
        )
        return Told(message, is_error=True, executed=False, retry="ask_user")
    if any(rule.id == PIN_RULE for rule in record.decision.rules):
        why = "; ".join(record.decision.reasons)
        message = f"NOT EXECUTED, denied: {why}. Tell the user; ask again once that is done."
        return Told(message, is_error=True, executed=False, retry="ask_user")
    by = ", ".join(explained(record.decision).denied_by)
    named = f" ({by})" if by else ""
    message = (
        f"NOT EXECUTED, denied by policy{named}.{_why(record)} Do not repeat it or reach the same effect another way; "
        "change the call so that it complies, or tell the user."
    )
    return Told(message, is_error=True, executed=False, retry="never")


def _rejected(record: CallRecord) -> Told:
    verdict = record.rejection
    said = f' They said: "{verdict.reason}"' if verdict and verdict.reason else " They gave no reason."
    in_client = verdict is not None and verdict.assurance == "client"
    who = "in your own client" if in_client else f"by a human reviewer{_role(verdict)}"
    message = (
        f"NOT EXECUTED, rejected {who}.{said} Do not repeat this call, split it, or "
        "reach the same effect another way; tell the user."
    )
    return Told(message, is_error=True, executed=False, retry="never")


def _role(verdict: Verdict | None) -> str:
    return f" ({', '.join(verdict.roles)})" if verdict and verdict.roles else ""


def _closed(ending: str, retry: Retry = "ask_user") -> Callable[[CallRecord], Told]:
    def teller(record: CallRecord) -> Told:
        message = f"NOT EXECUTED, {record.status}: {record.closed_reason}. {ending}"
        return Told(message, is_error=True, executed=False, retry=retry)

    return teller


def _succeeded(record: CallRecord) -> Told:
    if record.outcome is not None and record.outcome.was_found_out:
        first = "EXECUTED WITH CHANGES" if record.revisions else "EXECUTED"
        changed = f" A human reviewer had changed it: {_changed(record)}." if record.revisions else ""
        message = (
            f"{first}: {record.id} was sent once, and {record.outcome.detail}.{changed} Do not ask for the same again."
        )
        return Told(message, is_error=False, executed=True, retry="never")
    at, detail = (for_people(record.outcome.at), record.outcome.detail) if record.outcome else ("", "")
    # A detail says how we learned of it where nobody was there to be given the result.
    given = f"How we know: {detail}; its result is not kept." if detail else "Its result was given when it ran."
    given = "Its result is no longer kept." if record.erased_at is not None else given
    kept = "Its result follows." if _stored_result(record) is not None else given
    if record.revisions:
        message = (
            f"EXECUTED WITH CHANGES: {record.id} ran once, as a human reviewer changed it, and succeeded at {at}. "
            f"{_changed(record)}. {kept} Do not re-issue the original: people did not want it to run as it was."
        )
        return Told(message, is_error=False, executed=True, retry="never")
    message = f"EXECUTED: {record.id} ran once and succeeded at {at}. {kept} Do not ask for the same again."
    return Told(message, is_error=False, executed=True, retry="never")


def _failed(record: CallRecord) -> Told:
    outcome = record.outcome
    if outcome is not None and not outcome.executed:
        message = f"NOT EXECUTED, failed: nothing was sent, because {outcome.detail}."
        return Told(message, is_error=True, executed=False, retry="ask_user")
    detail = outcome.detail if outcome else "no detail"
    if outcome is not None and outcome.was_found_out:
        message = f"FAILED: {record.id} was sent once, and {detail}. Ask the user before you try again."
        return Told(message, is_error=True, executed=False, retry="ask_user")
    first = "EXECUTED WITH CHANGES, failed" if record.revisions else "EXECUTED, failed"
    changed = f" A human reviewer had changed it: {_changed(record)}." if record.revisions else ""
    message = f"{first}: {record.id} was sent once, and {detail}.{changed} Ask the user before you try again."
    return Told(message, is_error=True, executed=True, retry="ask_user")


def _unknown(record: CallRecord) -> Told:
    detail = record.outcome.detail if record.outcome else "no answer came"
    changed = f" It was sent as a human reviewer changed it: {_changed(record)}." if record.revisions else ""
    message = (
        f"OUTCOME UNKNOWN: {record.id} was sent and may have happened: {detail}.{changed} Do not retry it; a person is "
        "looking. Tell the user."
    )
    return Told(message, is_error=True, executed=None, retry="never")


def _released(record: CallRecord) -> Told:
    changed = f" A human reviewer changed what runs: {_changed(record)}." if record.revisions else ""
    message = (
        f"RELEASED{' WITH CHANGES' if record.revisions else ''}: {record.id} was released at "
        f"{for_people(record.changed_at)}, once, to the client that asked for it and runs it itself.{changed} What "
        "came of it is not known here: the client's own result says it."
    )
    return Told(message, is_error=False, executed=None, retry="never")


_TELLERS: dict[Status, Callable[[CallRecord], Told]] = {
    Status.HELD: _held,
    Status.APPROVED: _approved,
    Status.RUNNING: _running,
    Status.DENIED: _denied,
    Status.REJECTED: _rejected,
    Status.EXPIRED: _closed("Ask the user before asking again."),
    Status.WITHDRAWN: _closed("It can no longer be approved; ask again if it is still needed."),
    Status.INVALIDATED: _closed("Nothing ran. Tell the user, and ask again if it is still needed."),
    Status.SUCCEEDED: _succeeded,
    Status.FAILED: _failed,
    Status.UNKNOWN: _unknown,
    Status.RELEASED: _released,
}
