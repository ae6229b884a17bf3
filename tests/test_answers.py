"""Every sentence an agent is told, whole. A word changed here is a change of the contract with models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hitl_mcp.answers import (
    call_answer,
    evaluation,
    open_calls_answer,
    permission_allowed,
    permission_denied,
    permission_refused,
    refusal_answer,
    too_late,
    too_many_at_once,
    too_many_held_answer,
)
from hitl_mcp.calls import (
    RUNS_ELSEWHERE,
    Asked,
    CallRecord,
    Outcome,
    Requirement,
    Status,
    VerdictKind,
    digest_for,
    request_key_for,
)
from hitl_mcp.policy import decide
from tests.policy.written import policy_of, subject_of
from tests.samples import POLICY, allowed, denied, held, tool_call, verdict

NOW = "2026-11-22T12:00:00.000000Z"
LATER = "2026-11-22T12:10:00.000000Z"
URL = "http://127.0.0.1:8377/#call=c_1"
RESULT = {"content": [{"type": "text", "text": "sent"}], "structuredContent": {"id": 7}}


def record(status: Status, **changes: Any) -> CallRecord:
    """A call as it stands in this status."""
    values: dict[str, Any] = {
        "id": "c_1",
        "version": 1,
        "status": status,
        "call": tool_call(),
        "asked": Asked("conv"),
        "digest": digest_for(tool_call(), POLICY),
        "request_key": request_key_for(tool_call()),
        "decision": held(),
        "created_at": NOW,
        "changed_at": NOW,
        "expires_at": LATER,
        "run_by": LATER,
    }
    return CallRecord(**{**values, **changes})


def outcome(status: Status, **changes: Any) -> Outcome:
    """What running brought."""
    values: dict[str, Any] = {"status": status, "executed": True, "at": NOW, "result_digest": "sha256:" + "3" * 64}
    return Outcome(**{**values, **changes})


TWO_A_DAY = policy_of("""
    bands: [{from: 60, effect: deny}]
    signals: [{id: risky, tool: bank__pay, points: 60, reason: risky}]
    rules: [{id: runs, tool: bank__pay, effect: allow, reason: work}]
    budgets: [{id: two, tool: bank__pay, count: true, limit: 2, window: 1d, over: deny, reason: enough}]
""")
OF_A_CLIENT = tool_call(
    upstream="claude-code", tool="Bash", name="claude-code__Bash", fingerprint=RUNS_ELSEWHERE, definition=RUNS_ELSEWHERE
)
REJECTED = verdict("d", VerdictKind.REJECT, reason='not "this" account', roles=("finance",))
CASES = [
    (
        record(Status.HELD),
        "NOT EXECUTED, held as c_1 until 2026-11-22T12:10:00Z: people decide on it. Why: leaves the company. Repeating "
        "the identical call returns this same request. Do other work, call `hitl_wait` with this call_id, or tell the "
        f"user and stop. People answer at {URL}",
        {"isError": False, "executed": False, "retry": "repeat_same", "expires_at": LATER, "review_url": URL},
    ),
    (
        record(Status.HELD, decision=held(Requirement("pay", quorum=2)), verdicts=(verdict("d"),)),
        "NOT EXECUTED, held as c_1 until 2026-11-22T12:10:00Z: people decide on it. Why: leaves the company. 1 "
        "approved so far, more are needed. Repeating the identical call returns this same request. Do other work, call "
        f"`hitl_wait` with this call_id, or tell the user and stop. People answer at {URL}",
        {"isError": False, "executed": False, "retry": "repeat_same"},
    ),
    (
        record(Status.APPROVED),
        "NOT EXECUTED YET: c_1 was approved and is starting, by 2026-11-22T12:10:00Z at the latest. Call `hitl_wait` "
        f"with this call_id for the outcome. People answer at {URL}",
        {"isError": False, "executed": False, "retry": "repeat_same"},
    ),
    (
        record(Status.RUNNING),
        "RUNNING: c_1 has been running since 2026-11-22T12:00:00Z. Call `hitl_wait` with this call_id for the outcome; "
        "do not send it again.",
        {"isError": False, "retry": "repeat_same"},
    ),
    (
        record(Status.DENIED, decision=denied()),
        "NOT EXECUTED, denied by policy (rule `no-delete`). Why: nothing is ever deleted. Do not repeat it or reach "
        "the same effect another way; change the call so that it complies, or tell the user.",
        {"isError": True, "executed": False, "retry": "never"},
    ),
    (
        record(Status.DENIED, decision=decide(TWO_A_DAY, subject_of(), lambda _: 2 * 10**6)),
        "NOT EXECUTED, denied by policy (budget `two`, band `band-60`). Why: enough (2 of 2 calls within 1d are taken) "
        "(budget `two`); a score of 60 points means deny: it is in the band from 60. Risk 60 = 60 of 100 points: +60: "
        "risky (signal `risky`). Do not repeat it or reach the same effect another way; change the call so that it "
        "complies, or tell the user.",
        {"isError": True, "executed": False, "retry": "never"},
    ),
    (
        record(Status.REJECTED, verdicts=(REJECTED,)),
        'NOT EXECUTED, rejected by a human reviewer (finance). They said: "not "this" account" Do not repeat this '
        "call, split it, or reach the same effect another way; tell the user.",
        {"isError": True, "executed": False, "retry": "never"},
    ),
    (
        record(Status.REJECTED, verdicts=(verdict("d", VerdictKind.REJECT),)),
        "NOT EXECUTED, rejected by a human reviewer. They gave no reason. Do not repeat this call, split it, or reach "
        "the same effect another way; tell the user.",
        {"isError": True, "executed": False, "retry": "never"},
    ),
    (
        record(Status.REJECTED, verdicts=(verdict("d", VerdictKind.REJECT, assurance="client"),)),
        "NOT EXECUTED, rejected in your own client. They gave no reason. Do not repeat this call, split it, or reach "
        "the same effect another way; tell the user.",
        {"isError": True, "executed": False, "retry": "never"},
    ),
    (
        record(Status.EXPIRED, closed_reason="no one decided in time"),
        "NOT EXECUTED, expired: no one decided in time. Ask the user before asking again.",
        {"isError": True, "executed": False, "retry": "ask_user"},
    ),
    (
        record(Status.EXPIRED, closed_reason="approved, but it could not run in time"),
        "NOT EXECUTED, expired: approved, but it could not run in time. Ask the user before asking again.",
        {"isError": True, "executed": False, "retry": "ask_user"},
    ),
    (
        record(Status.WITHDRAWN, closed_reason="the agent withdrew it"),
        "NOT EXECUTED, withdrawn: the agent withdrew it. It can no longer be approved; ask again if it is still "
        "needed.",
        {"isError": True, "executed": False, "retry": "ask_user"},
    ),
    (
        record(Status.INVALIDATED, closed_reason="the definition of `mail__send` changed since it was shown"),
        "NOT EXECUTED, invalidated: the definition of `mail__send` changed since it was shown. Nothing ran. Tell the "
        "user, and ask again if it is still needed.",
        {"isError": True, "executed": False, "retry": "ask_user"},
    ),
    (
        record(Status.SUCCEEDED, outcome=outcome(Status.SUCCEEDED, result_json=json.dumps(RESULT))),
        "EXECUTED: c_1 ran once and succeeded at 2026-11-22T12:00:00Z. Its result follows. Do not ask for the same "
        "again.",
        {"isError": False, "executed": True, "retry": "never", "result": RESULT},
    ),
    (
        record(Status.FAILED, outcome=outcome(Status.FAILED, detail="the tool answered with an error")),
        "EXECUTED, failed: c_1 was sent once, and the tool answered with an error. Ask the user before you try again.",
        {"isError": True, "executed": True, "retry": "ask_user"},
    ),
    (
        record(Status.FAILED, outcome=outcome(Status.FAILED, executed=False, detail="the upstream `mail` is down")),
        "NOT EXECUTED, failed: nothing was sent, because the upstream `mail` is down.",
        {"isError": True, "executed": False, "retry": "ask_user"},
    ),
    (
        record(Status.UNKNOWN, outcome=outcome(Status.UNKNOWN, detail="no answer within 60 s")),
        "OUTCOME UNKNOWN: c_1 was sent and may have happened: no answer within 60 s. Do not retry it; a person is "
        "looking. Tell the user.",
        {"isError": True, "retry": "never"},
    ),
    (
        record(Status.HELD, call=OF_A_CLIENT),
        "NOT EXECUTED, held as c_1 until 2026-11-22T12:10:00Z: people decide on it. Why: leaves the company. Repeating "
        "the identical call asks for this same request, and runs it once it is approved. Do other work meanwhile, or "
        f"tell the user and stop. People answer at {URL}",
        {"isError": False, "executed": False, "retry": "repeat_same", "expires_at": LATER, "review_url": URL},
    ),
    (
        record(Status.APPROVED, call=OF_A_CLIENT),
        "NOT EXECUTED YET: c_1 was approved. Repeat the identical call, by 2026-11-22T12:10:00Z at the latest: it is "
        f"then released to you, once, and runs. People answer at {URL}",
        {"isError": False, "executed": False, "retry": "repeat_same"},
    ),
    (
        record(Status.APPROVED, call=OF_A_CLIENT, decision=held(undo_seconds=30)),
        "NOT EXECUTED YET: c_1 was approved. Repeat the identical call from 2026-11-22T12:00:30Z on, by "
        f"2026-11-22T12:10:00Z at the latest: it is then released to you, once, and runs. People answer at {URL}",
        {"isError": False, "executed": False, "retry": "repeat_same"},
    ),
    (
        record(Status.RELEASED, call=OF_A_CLIENT),
        "RELEASED: c_1 was released at 2026-11-22T12:00:00Z, once, to the client that asked for it and runs it itself. "
        "What came of it is not known here: the client's own result says it.",
        {"isError": False, "retry": "never"},
    ),
]


@pytest.mark.parametrize(("stands", "message", "facts"), CASES, ids=[message[:50] for _, message, _ in CASES])
def test_every_status_is_told_in_these_words(stands: CallRecord, message: str, facts: dict[str, Any]) -> None:
    """The text and the structured content say the same, the facts beside it are right, and nothing else is said."""
    answer = call_answer(stands, repeat=False, review_url=URL)
    structured = answer["structuredContent"]
    assert answer["content"][0] == {"type": "text", "text": message}
    assert structured["message"] == message
    assert {"status": structured["status"], "call_id": structured["call_id"]} == {
        "status": str(stands.status),
        "call_id": "c_1",
    }
    assert {key: {**structured, "isError": answer["isError"]}[key] for key in facts} == facts
    assert ("executed" in structured) == ("executed" in facts)
    assert "repeat" not in structured
    json.dumps(answer, allow_nan=False)


def test_every_status_has_a_case() -> None:
    """No status is told in words that no test has read."""
    assert {stands.status for stands, _, _ in CASES} == set(Status)


def test_a_paused_gateway_is_told_as_such() -> None:
    """It is neither a denial of this call nor a promise that it runs later."""
    decision = denied().__class__(
        effect=denied().effect, score=0, policy=POLICY, reasons=("paused by dana at T: incident",), paused=True
    )
    answer = call_answer(record(Status.DENIED, decision=decision), repeat=False, review_url=None)
    assert answer["content"][0]["text"] == (
        "NOT EXECUTED, paused by dana at T: incident. Tell the user; ask again once it is resumed."
    )
    assert (answer["isError"], answer["structuredContent"]["status"]) == (True, "paused")


def test_a_repeat_says_that_nothing_ran_for_it() -> None:
    """The agent must not count two payments where there was one."""
    stands = record(Status.SUCCEEDED, outcome=outcome(Status.SUCCEEDED, result_json=json.dumps(RESULT)))
    answer = call_answer(stands, repeat=True, review_url=None, plain_result=True)
    assert answer["structuredContent"]["repeat"] is True
    assert answer["structuredContent"]["result"] == RESULT
    assert answer["content"][0]["text"].endswith(
        "This is the record of your earlier identical request; nothing ran for this one."
    )
    assert answer["content"][1:] == RESULT["content"]


def test_the_request_that_asked_gets_the_upstreams_own_result() -> None:
    """Approved while it waited: the answer is the upstream's, as if no gate stood there."""
    stands = record(Status.SUCCEEDED, outcome=outcome(Status.SUCCEEDED, result_json=json.dumps(RESULT)))
    assert call_answer(stands, repeat=False, review_url=None, plain_result=True) == RESULT


def test_a_listing_says_everything_in_text_and_in_structure() -> None:
    """A model that is shown only one of them knows the same, results included; large ones are fetched one by one."""
    done = record(Status.SUCCEEDED, outcome=outcome(Status.SUCCEEDED, result_json=json.dumps(RESULT)))
    answer = open_calls_answer([record(Status.HELD), done], [record(Status.FAILED)], lambda one: URL)
    calls = answer["structuredContent"]["calls"]
    text = "\n".join(block["text"] for block in answer["content"])
    assert [call["status"] for call in calls] == ["held", "succeeded", "failed"]
    assert all(call["message"] in text and call["name"] in text for call in calls)
    assert json.dumps({"call_id": "c_1", "result": RESULT}) in text
    assert "large" in calls[2]["message"]
    assert answer["isError"] is False


def test_an_empty_listing_says_that_nothing_is_open() -> None:
    """Silence would leave the agent guessing."""
    answer = open_calls_answer([], [], lambda one: None)
    assert answer["structuredContent"]["calls"] == []
    assert answer["content"][0]["text"].startswith("Nothing is open")


def test_a_call_that_could_not_be_recorded_was_not_executed() -> None:
    """Without a record nothing runs, and the agent hears exactly that first."""
    answer = refusal_answer("the record cannot be written: disk full")
    assert answer["content"][0]["text"] == "NOT EXECUTED: the record cannot be written: disk full"
    assert (answer["isError"], answer["structuredContent"]["executed"]) == (True, False)


def test_an_agent_that_has_too_much_open_hears_what_and_what_to_do() -> None:
    """Nothing ran, and the same may be asked again: that is another thing than a refusal of the call itself."""
    held_answer = too_many_held_answer(200)
    message = (
        "NOT EXECUTED: 200 of your calls are held already, which is the most one agent may have. Tell the user; ask "
        "again once people decided on some of them, or take back with `hitl_withdraw` what is no longer needed "
        "(`hitl_status` lists them)."
    )
    assert held_answer == {
        "content": [{"type": "text", "text": message}],
        "structuredContent": {"status": "refused", "executed": False, "retry": "repeat_same", "message": message},
        "isError": True,
    }
    assert too_many_at_once(64) == (
        "64 of your requests are being worked on already, which is the most one agent may have at once. Ask again once "
        "one of them is answered."
    )


def test_an_allowed_call_whose_result_is_gone_says_so() -> None:
    """Results of allowed calls are not kept; asking for one later is answered honestly."""
    stands = record(Status.SUCCEEDED, decision=allowed(), outcome=outcome(Status.SUCCEEDED))
    answer = call_answer(stands, repeat=False, review_url=None)
    assert "Its result was given when it ran." in answer["content"][0]["text"]
    assert "result" not in answer["structuredContent"]


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (
            Status.SUCCEEDED,
            "EXECUTED: c_1 was sent once, and it happened, as dana found: receipt 7. Do not ask for the same",
        ),
        (
            Status.FAILED,
            "FAILED: c_1 was sent once, and it happened, as dana found: receipt 7. Ask the user before you",
        ),
    ],
)
def test_what_a_person_found_out_is_told_in_their_words(status: Status, told: str) -> None:
    """Nobody heard the tool's answer: the agent is told who found out what became of the call, and how."""
    found = outcome(status, detail="it happened, as dana found: receipt 7", result_digest=None)
    assert call_answer(record(status, outcome=found), repeat=False, review_url=None)["content"][0]["text"].startswith(
        told
    )


def test_a_client_that_may_run_a_call_gets_exactly_the_stored_bytes() -> None:
    """What was decided is what runs: numbers keep their spelling, and nothing stands beside the one text."""
    call = tool_call(arguments_json='{"command":"ä","n":1.0}', fingerprint=RUNS_ELSEWHERE)
    assert permission_allowed(record(Status.RELEASED, call=call)) == {
        "content": [{"type": "text", "text": '{"behavior":"allow","updatedInput":{"command":"ä","n":1.0}}'}],
        "isError": False,
    }


def test_a_client_that_may_not_run_a_call_is_told_why_in_the_same_words() -> None:
    """The message is the one that every surface gives, and says that repeating asks the same."""
    stands = record(Status.HELD, call=OF_A_CLIENT)
    answer = permission_denied(stands, repeat=True, review_url=URL)
    message = call_answer(stands, repeat=True, review_url=URL)["structuredContent"]["message"]
    assert answer["content"] == [{"type": "text", "text": json.dumps({"behavior": "deny", "message": message},
                                                                      separators=(",", ":"))}]  # fmt: skip
    assert "asks for this same request, and runs it once it is approved" in message
    refused = permission_refused("no tool is called `x`")["content"][0]["text"]
    assert json.loads(refused) == {"behavior": "deny", "message": "NOT EXECUTED: no tool is called `x`"}


@pytest.mark.parametrize(
    ("stands", "released", "said"),
    [
        (record(Status.RELEASED, call=OF_A_CLIENT), True, ("allow", "released", None, "never", "RELEASED: c_1 was")),
        (record(Status.RELEASED, call=OF_A_CLIENT), False, ("deny", "released", None, "never", "RELEASED: c_1 was")),
        (record(Status.HELD, call=OF_A_CLIENT), False, ("deny", "held", URL, "repeat_same", "NOT EXECUTED, held as")),
        (record(Status.REJECTED), False, ("deny", "rejected", None, "never", "NOT EXECUTED, rejected by a human")),
        (record(Status.DENIED, decision=denied()), False, ("deny", "denied", None, "never", "NOT EXECUTED, denied by")),
    ],
)
def test_a_hook_is_told_whether_this_very_request_may_run(
    stands: CallRecord, released: bool, said: tuple[str, str, str | None, str, str]
) -> None:
    """`allow` only to the request that was given the call: a released one may be another's."""
    told = evaluation(stands, released=released, repeat=True, review_url=URL)
    assert (told["decision"], told["status"], told["review_url"], told["retry"]) == said[:4]
    assert told["reason"].startswith(said[4])
    assert told["call_id"] == "c_1"
    assert ("nothing ran for this one" in told["reason"]) is not released


def test_a_late_answer_from_a_client_is_told_so() -> None:
    """The answer says how the call stands, and that what the client's user said changed nothing; twice, as always."""
    expired = record(Status.EXPIRED, closed_reason="no one decided in time")
    told = too_late(call_answer(expired, repeat=False, review_url=URL))
    message = (
        "NOT EXECUTED, expired: no one decided in time. Ask the user before asking again. What was answered in your "
        "client came too late and changed nothing."
    )
    assert told["content"] == [{"type": "text", "text": message}]
    assert told["structuredContent"]["message"] == message
    assert (told["structuredContent"]["status"], told["isError"]) == ("expired", True)
