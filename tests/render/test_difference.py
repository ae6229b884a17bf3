"""What is different between two definitions: every character of both accounted for, and an end to it."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from hitl_mcp.canonical import canonical_text
from hitl_mcp.limits import DEFINITION_CHARACTERS, DIFF_LINES
from hitl_mcp.render import difference_obstacle, difference_shown, difference_text
from hitl_mcp.render.difference import Difference, difference

TOOL: dict[str, Any] = {
    "name": "pay",
    "description": "Pay money.\nIn EUR.",
    "inputSchema": {"type": "object", "properties": {"to": {"type": "string"}, "amount": {"type": "number"}}},
}


def text(**changes: Any) -> str:
    """The tool's definition, with changes."""
    return canonical_text({**TOOL, **changes})


def side(found: Difference, *signs: str) -> str:
    """What the lines of these signs stand for, joined."""
    return "".join(segment.source for one in found.lines if one.sign in signs for segment in one.line.segments)


@pytest.mark.parametrize(
    "after",
    [
        text(),
        text(description="Pay money.\nIn USD."),
        text(description="Pay\u200b money.\n\u202eIn EUR.\n\n\nevil"),
        text(description=""),
        text(inputSchema={}),
        text(inputSchema={"type": "object", "properties": {"to": {"type": "string"}, "bcc": {"type": "string"}}}),
        text(annotations={"destructiveHint": False}),
        "{}",
    ],
)
def test_both_definitions_can_be_read_off_to_the_last_character(after: str) -> None:
    """What went and what stayed is the one, what came and what stayed the other."""
    for old, new in ((text(), after), (after, text())):
        found = difference(old, new)
        assert found.whole
        if not any(one.sign == "skipped" for one in found.lines):
            assert side(found, "same", "gone") == old
            assert side(found, "same", "new") == new
    assert side(difference(None, after), "new") == after


def test_in_a_line_that_changed_what_changed_stands_out() -> None:
    """A description is one long line: what was put into it must not have to be searched for."""
    found = difference(text(description="It sends a mail."), text(description="It sends a mail to us, too."))
    changed = [
        "".join(segment.text for place, segment in enumerate(one.line.segments) if place in one.changed)
        for one in found.lines
        if one.sign in ("gone", "new")
    ]
    assert changed == ["", " to us, too"]


def test_what_is_the_same_is_left_out_but_for_what_stands_around() -> None:
    """Three lines on each side, and the number of those between."""
    many = {f"a{number:03}": number for number in range(100)}
    found = difference(canonical_text(many), canonical_text({**many, "a050": "x"}))
    assert [one.sign for one in found.lines] == ["skipped", *["same"] * 3, "gone", "new", *["same"] * 3, "skipped"]
    assert found.lines[0].skipped + found.lines[-1].skipped == 102 - 7
    assert found.whole


def test_what_is_too_long_says_so() -> None:
    """Lines beyond the bound are cut off and characters beyond it not compared; neither counts as shown whole."""
    grown = canonical_text({f"a{number}": number for number in range(DIFF_LINES + 100)})
    found = difference("{}", grown)
    assert (len(found.lines), found.whole) == (DIFF_LINES, False)
    shown = difference_shown("{}", "[" + "1" * DEFINITION_CHARACTERS + "]")
    assert (shown["lines"], shown["whole"]) == ([], False)
    assert "cut here" in difference_text(shown)
    assert difference_obstacle(shown) == "it is too long to be shown whole"


@pytest.mark.parametrize("alike", [2, 40, 99])
def test_lines_that_are_all_alike_take_no_long_time(alike: int) -> None:
    """Matching is quadratic at worst, and an upstream chooses the lines."""
    chooses = random.Random(alike)  # noqa: S311
    old, new = ([str(chooses.randrange(alike)) for _ in range(DIFF_LINES - 10)] for _ in range(2))
    started = time.monotonic()
    difference(canonical_text(old), canonical_text(new))
    assert time.monotonic() - started < 5


def test_a_terminal_gets_no_character_that_could_mislead() -> None:
    """Marks stand for what is hidden, rows are cut by us, and the sign stands in front of every row."""
    shown = difference_shown(text(), text(description="Pay\u202e\u200b\x1b money.\nIn EUR." + " long" * 60))
    printed = difference_text(shown, width=60)
    assert not set(printed) & set("\u202e\u200b\x1b")
    assert "U+202E" in printed and max(map(len, printed.splitlines())) <= 60
    rows = [row for row in printed.splitlines() if " long long" in row]
    assert len(rows) > 3 and all(row.startswith("  + ") for row in rows)
    assert "\x1b[" in difference_text(shown, colour=True)
    assert difference_obstacle(shown, width=60) == "" and "narrower" in difference_obstacle(shown, width=20)
    assert "encoding" in difference_obstacle(shown, encoding="ascii")
