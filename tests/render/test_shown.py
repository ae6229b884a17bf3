"""What people are shown of a call, and the same on a terminal."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hitl_mcp.answers import call_answer
from hitl_mcp.calls import (
    RUNS_ELSEWHERE,
    CallRecord,
    Effect,
    HistoryUsed,
    Outcome,
    Preview,
    ReadingCall,
    RuleMatch,
    Status,
    Verdict,
    VerdictKind,
)
from hitl_mcp.render import (
    decision_shown,
    explanation_text,
    fits_terminal,
    shown,
    summary,
    terminal_obstacle,
    terminal_text,
)
from tests.render.records import PAYMENT, PEOPLE, record_with


def read(segments: list[dict[str, Any]]) -> str:
    """What a person reads in these segments."""
    return "".join(segment["text"] for segment in segments)


def approval(record: Any, reviewer: str) -> Verdict:
    """An approval of a record as it stands."""
    return Verdict(
        VerdictKind.APPROVE, reviewer, ("finance",), record.digest, "web", "link", "2026-11-22T14:10:00.000000Z"
    )


def test_a_call_is_shown_as_one_sentence() -> None:
    """Who asks to run what, marked like everything else that came from outside."""
    record = record_with({})
    odd = replace(record, call=replace(record.call, tool="p\u0430y"))
    assert read(shown(record, PEOPLE)["sentence"]) == "builder asks to run payments / pay"
    assert read(shown(odd, PEOPLE)["sentence"]).endswith("p⟦а U+0430 CYRILLIC SMALL LETTER A⟧y")


def test_points_add_up_to_the_score() -> None:
    """The largest comes first, and a sum over 100 says that it was capped."""
    score = shown(record_with({}), PEOPLE)["score"]
    assert [part["points"] for part in score["parts"]] == [45, 25]
    assert (score["sum"], score["score"], score["capped"]) == (70, 70, False)
    capped = shown(record_with({}, decision=replace(PAYMENT, score=60)), PEOPLE)["score"]
    assert capped["capped"]


def test_requirements_say_who_approved_and_who_still_could() -> None:
    """A quorum shows how far it is met and by whom."""
    record = record_with({})
    need = shown(replace(record, verdicts=(approval(record, "dana"),)), PEOPLE)["requirements"][0]
    assert (need["text"], need["met"], need["approved_by"], need["could"], need["done"]) == (
        "2 approvals by finance",
        1,
        ["dana"],
        ["lee"],
        False,
    )


def test_an_approval_of_other_bytes_counts_for_nothing() -> None:
    """Verdicts count only for the digest they name."""
    record = record_with({})
    stale = replace(approval(record, "dana"), digest="sha256:" + "0" * 64)
    data = shown(replace(record, verdicts=(stale,)), PEOPLE, "dana")
    assert data["requirements"][0]["met"] == 0
    assert data["verdicts"][0]["counts"] is False
    assert data["you"]["may_approve"]


def test_a_reviewer_is_told_what_they_may_do() -> None:
    """Without the role, after one's own approval, and once it is settled, Approve is not offered, and says why."""
    record = record_with({})
    assert shown(record, PEOPLE, "dana")["you"]["may_approve"]
    outsider = shown(record, PEOPLE, "sam")["you"]
    assert (outsider["may_approve"], outsider["may_reject"]) == (False, True)
    assert outsider["why_not"] == "it needs a reviewer with the role finance"
    again = shown(replace(record, verdicts=(approval(record, "dana"),)), PEOPLE, "dana")["you"]
    assert (again["may_approve"], again["approved"]) == (False, True)
    settled = shown(replace(record, status=Status.SUCCEEDED), PEOPLE, "dana")["you"]
    assert (settled["may_approve"], settled["may_reject"]) == (False, False)


def test_the_agents_claim_stands_apart_and_is_marked_too() -> None:
    """It is no part of the arguments, and its hidden characters are visible."""
    data = shown(record_with({"to": "bob"}, claim="the user\u200b asked\nme to"), PEOPLE)
    assert [read(line["segments"]) for line in data["claim"]] == ["the user⟦U+200B ZERO WIDTH SPACE⟧ asked↵", "me to"]
    assert "asked" not in json.dumps(data["arguments"])


def test_what_an_approval_is_bound_to_is_named() -> None:
    """Upstream, tool definition, policy and the call itself, each by its digest."""
    names = [row["name"] for row in shown(record_with({}), PEOPLE)["binding"]]
    assert names == ["upstream", "tool definition", "policy", "this call"]


def test_an_unknown_outcome_says_that_it_may_have_happened() -> None:
    """Nobody can mistake it for a failure."""
    outcome = Outcome(Status.UNKNOWN, True, "2026-11-22T14:11:00.000000Z", "the connection was lost")
    data = shown(record_with({}, status=Status.UNKNOWN, outcome=outcome), PEOPLE)
    assert "may have happened" in data["headline"]
    assert data["outcome"]["executed"] is True


def test_a_summary_is_short_and_says_what_it_left_out() -> None:
    """A row of the queue shows a start, and how much more there is."""
    row = summary(record_with({"body": "x" * 1000}))
    assert read(row["preview"]).endswith("⟦851 more⟧")
    assert row["missing"] == 2


def test_the_terminal_shows_every_character_behind_our_own_gutter() -> None:
    """Every row fits the width and starts with what only we write; with the gutters off, the text is all there."""
    record = record_with({"body": "line one\nline two " + "word " * 200, "n": 9007199254740991})
    data = shown(record, PEOPLE)
    text = terminal_text(data, 60)
    assert all(len(row) <= 60 for row in text.splitlines())
    rows = text.partition("Arguments,")[2].splitlines()[1:]
    inside = "".join(row.split("│", 1)[-1].split("┊", 1)[-1].strip() for row in rows)
    wanted = "".join(read(line["segments"]) for line in data["arguments"]["lines"])
    assert inside.replace(" ", "") == wanted.replace(" ", "")


def test_the_terminal_is_sent_no_control_character() -> None:
    """Whatever stands in the call, only our own colour codes carry an escape."""
    nasty = "\x1b]0;owned\x07\x1b[2J\r\u202e\u009b31m"
    record = record_with({"a": nasty}, claim=nasty)
    data = shown(replace(record, call=replace(record.call, tool=nasty)), PEOPLE)
    plain = terminal_text(data, 80).replace("\n", "")
    assert plain.isprintable()
    coloured = terminal_text(data, 80, colour=True)
    assert "\x1b[" in coloured and "\x1b]" not in coloured and "\x1b[2J" not in coloured


def test_right_to_left_text_is_fenced_in_on_a_terminal() -> None:
    """Terminals reorder such text or not; either way nothing beside it moves."""
    text = terminal_text(shown(record_with({"a": "pay שלום 500"}), PEOPLE))
    assert "pay ⟦right-to-left⟧שלום⟦end⟧ 500" in text


@pytest.mark.parametrize(
    ("arguments", "width", "encoding", "reason"),
    [
        ({"a": "\n-".join(map(str, range(1200)))}, 80, "utf-8", "longer than 1,000 rows"),
        ({"a": ["\u202e\u200b" * 3] * 20_000}, 80, "utf-8", "too long to be shown whole"),
        ({"a": "b"}, 80, "ascii", "encoding `ascii` cannot express it"),
        ({"a": "b"}, 20, "utf-8", "narrower than 40 columns"),
    ],
)
def test_a_terminal_that_cannot_show_it_whole_is_told_so(
    arguments: Any, width: int, encoding: str, reason: str
) -> None:
    """What does not fit a surface cannot be approved there."""
    data = shown(record_with(arguments), PEOPLE)
    assert reason in terminal_obstacle(data, width, encoding)
    assert not fits_terminal(data, width, encoding)


def test_an_ordinary_call_fits_a_terminal() -> None:
    """Nothing stands in the way of approving it there."""
    assert fits_terminal(shown(record_with({"amount": 5000, "to": "bob@example.com"}), PEOPLE))


def test_a_decision_is_explained_alike_on_page_terminal_and_to_agents() -> None:
    """The sentence, the points, what was only tried out and what history said: from one place, in each look."""
    decision = replace(
        PAYMENT,
        reasons=("money leaves the company", "a score of 70 points means hold: it is in the band from 40"),
        shadows=(RuleMatch("later", Effect.DENY, "too much\u202e"),),
        history=(HistoryUsed("daily", "taken", 12_500_000),),
    )
    record = record_with({}, decision=decision)
    data = shown(record, PEOPLE)
    explanation = data["explanation"]
    assert read(explanation["sentence"]) == "Held: money leaves the company"
    assert [read(one) for one in explanation["also"]] == ["a score of 70 points means hold: it is in the band from 40"]
    assert "U+202E" in read(explanation["shadows"][0])
    assert [read(one) for one in explanation["told"]] == ["`daily`: 12.5 before this call"]
    rows = [row.strip() for row in terminal_text(data, 120).splitlines()]
    assert rows[rows.index("Why people are asked") :][1:8] == [
        "Held: money leaves the company",
        "also: a score of 70 points means hold: it is in the band from 40",
        "45 irreversible: a payment cannot be undone",
        "25 amount: 5000 EUR is paid out",
        "70 of 100 points",
        "tried out: rule `later` would say deny: too much⟦U+202E RIGHT-TO-LEFT OVERRIDE⟧",
        "known before: `daily`: 12.5 before this call",
    ]
    agents = call_answer(record, repeat=False, review_url=None)["structuredContent"]["message"]
    assert (
        "Why: money leaves the company; a score of 70 points means hold: it is in the band from 40. Risk 45 + 25 = 70 "
        "of 100 points: +45: a payment cannot be undone (signal `irreversible`); +25: 5000 EUR is paid out (signal "
        "`amount`)." in agents
    )
    assert "too much" not in agents and "12.5" not in agents
    assert explanation_text(decision_shown(decision), 120) in terminal_text(data, 120)


def previewed(asked: ReadingCall) -> CallRecord:
    """A call whose rule asks for this preview."""
    return record_with({}, decision=replace(PAYMENT, previews=(asked,)))


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        ('{"content":[{"type":"text","text":"3 rows\\nwill go"}],"isError":false}', ["3 rows↵", "will go"]),
        ('{"content":[{"type":"text","text":"a\\u202eb"}]}', ["a⟦U+202E RIGHT-TO-LEFT OVERRIDE⟧b"]),
        ('{"content":[{"type":"text","text":"x"}],"structuredContent":{"rows":3}}', None),
        ('{"content":[{"type":"text","text":"x","annotations":{"a":1}}]}', None),
        ('{"content":[{"type":"image","data":"aGk=","mimeType":"image/png"}]}', None),
        ('{"content":[]}', None),
    ],
)
def test_a_preview_reads_as_text_only_where_it_is_nothing_else(result: str, lines: list[str] | None) -> None:
    """Whatever else the upstream answered is shown as the JSON it is; nothing of it is left out."""
    asked = ReadingCall("pay", "bank__quote", '{"a":1}')
    preview = Preview("pay", "bank__quote", "2026-11-22T12:00:00.000000Z", "c_x", result)
    (card,) = shown(replace(previewed(asked), previews=(preview,)), PEOPLE)["previews"]
    texts = ["".join(segment["text"] for segment in line["segments"]) for line in card["result"]]
    assert texts == lines if lines is not None else texts[0] == "{"


def test_a_preview_that_is_not_there_says_why() -> None:
    """Until it is there, it is being asked for; a failure is told in the place of its result."""
    asked = ReadingCall("pay", "bank__quote", error="there is no `to`")
    record = previewed(asked)
    assert shown(record, PEOPLE)["previews"][0]["waiting"]
    failed = Preview("pay", "bank__quote", "2026-11-22T12:00:00.000000Z", problem="no answer within 5 s")
    (card,) = shown(replace(record, previews=(failed,)), PEOPLE)["previews"]
    assert (card["waiting"], card["result"], card["arguments"]) == (False, None, None)
    assert card["problem"][0]["segments"][0]["text"] == "no answer within 5 s"


def test_a_call_that_the_agents_own_program_runs_is_shown_as_such() -> None:
    """Approved it waits for its agent; released nobody knows what came of it; and it is bound to no upstream."""
    record = record_with({"command": "make"})
    elsewhere = replace(record, call=replace(record.call, fingerprint=RUNS_ELSEWHERE, definition=RUNS_ELSEWHERE))
    approved = shown(replace(elsewhere, status=Status.APPROVED), PEOPLE)
    released = shown(replace(elsewhere, status=Status.RELEASED), PEOPLE)
    assert approved["headline"] == (
        "Approved; it is released when the agent asks for it again, and the agent's own program runs it"
    )
    assert released["headline"] == (
        "Released: the agent's own program runs it itself, and what came of it is not known here"
    )
    assert (released["outcome"], released["runs_elsewhere"]) == (None, True)
    assert [row["name"] for row in released["binding"]] == ["runs", "policy", "this call"]
    assert "in the agent's own program, not here" in terminal_text(released)
    assert [row["name"] for row in shown(record, PEOPLE)["binding"]][:2] == ["upstream", "tool definition"]
