"""The same rendering for a terminal: plain characters in numbered rows, each behind our own gutter.

No control character is ever printed but our own colours. Rows are cut by us, before a terminal could wrap them, so
nothing a text says can stand where only we write.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from hitl_mcp.clock import for_people
from hitl_mcp.render.shown import Shown

ROWS = 1000
"""The longest rendering a terminal's scrollback surely holds; beyond it the beginning may be lost before the end."""

NARROWEST_COLUMNS = 40
"""Below this the gutter and one name leave no room for the text."""

_STYLES = {
    "key": "36",
    "string": "",
    "number": "35",
    "literal": "35",
    "punctuation": "2",
    "name": "1",
    "mark": "1;30;43",
    "white": "2",
    "note": "2;3",
    "decoded": "3",
    "heading": "1",
    "warning": "1;33",
}
_SIGNS = {"same": "    ", "gone": "  - ", "new": "  + ", "skipped": "  … "}
_Part = tuple[str, str]
"""A style's name and a text."""


def terminal_text(shown: Shown, width: int = 80, colour: bool = False) -> str:
    """A call as rows of at most `width` columns; the arguments come last, so that their end is what is seen."""
    paint = _painted if colour else _unpainted
    rows = _Rows(max(width, NARROWEST_COLUMNS))
    _put_head(rows, shown)
    _put_reasons(rows, shown)
    if shown["claim"]:
        rows.heading("What the agent says (its own claim, not checked)")
        rows.lines(shown["claim"], numbered=False)
    _put_previews(rows, shown)
    _put_outcome(rows, shown)
    rows.heading("Bound to")
    for row in shown["binding"]:
        rows.put([("note", f"{row['name']:<16}"), *_parts(row["value"])])
    if shown["meta"]:
        rows.heading("Sent along with it (_meta)")
        rows.lines(shown["meta"]["lines"])
    rows.heading(_arguments_heading(shown["arguments"]))
    rows.lines(shown["arguments"]["lines"])
    if not shown["arguments"]["whole"]:
        rows.put([("warning", "cut here: too long to be shown whole, so it cannot be approved")])
    rows.blank()
    return "\n".join("".join(map(paint, row)) for row in rows.done) + "\n"


def explanation_text(shown: Shown, width: int = 80, colour: bool = False) -> str:
    """The explanation of a decision alone, as it stands in `terminal_text`."""
    rows = _Rows(max(width, NARROWEST_COLUMNS))
    _put_explanation(rows, shown)
    paint = _painted if colour else _unpainted
    return "\n".join("".join(map(paint, row)) for row in rows.done) + "\n"


def difference_text(shown: Shown, width: int = 80, colour: bool = False) -> str:
    """What is different between two definitions of a tool, as `diff -u` would put it."""
    rows = _Rows(max(width, NARROWEST_COLUMNS))
    for line in shown["lines"]:
        sign = _SIGNS[line["sign"]]
        if line["sign"] == "skipped":
            rows.put([("note", f"{line['skipped']:,} lines are the same")], sign)
            continue
        parts = [
            (f"changed-{style}" if segment.get("changed") else style, text)
            for segment in line["segments"]
            for style, text in _parts([segment])
        ]
        indent = "  " * min(line["depth"], 8)
        rows.put(parts, f"{sign}{indent}", f"{sign}{indent}  ")
    if not shown["whole"]:
        rows.put([("warning", "cut here: the definitions are too long to be shown whole")])
    paint = _painted if colour else _unpainted
    return "\n".join("".join(map(paint, row)) for row in rows.done) + "\n"


def terminal_obstacle(shown: Shown, width: int = 80, encoding: str = "utf-8") -> str:
    """Why this terminal cannot show the call whole, so that it must not be approved there; empty if it can."""
    whole = all(part["whole"] for part in (shown["arguments"], shown["meta"]) if part)
    return _obstacle(terminal_text(shown, width), whole, width, encoding)


def difference_obstacle(shown: Shown, width: int = 80, encoding: str = "utf-8") -> str:
    """Why this terminal cannot show a difference whole, so that it must not be accepted there; empty if it can."""
    return _obstacle(difference_text(shown, width), shown["whole"], width, encoding)


def _obstacle(text: str, whole: bool, width: int, encoding: str) -> str:
    if not whole:
        return "it is too long to be shown whole"
    if width < NARROWEST_COLUMNS:
        return f"the terminal is narrower than {NARROWEST_COLUMNS} columns"
    if text.count("\n") > ROWS:
        return f"it is longer than {ROWS:,} rows"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return f"the terminal's encoding `{encoding}` cannot express it"
    return ""


def fits_terminal(shown: Shown, width: int = 80, encoding: str = "utf-8") -> bool:
    """Whether a terminal shows the call whole; where it does not, `approve` refuses."""
    return not terminal_obstacle(shown, width, encoding)


class _Rows:
    """Rows while they are being put together; every row starts with our gutter."""

    def __init__(self, width: int) -> None:
        self.done: list[list[_Part]] = []
        self._width = width

    def blank(self) -> None:
        if self.done and self.done[-1]:
            self.done.append([])

    def heading(self, text: str) -> None:
        self.blank()
        self.done.append([("heading", text)])

    def put(self, parts: Sequence[_Part], first: str = "  ", later: str = "    ") -> None:
        """Add parts as one row or, where they are too long, as several."""
        gutter = first
        for cut in _cut(parts, self._width - max(len(first), len(later)) * 2):
            self.done.append([("note", gutter), *cut])
            gutter = later

    def lines(self, lines: Sequence[Shown], numbered: bool = True) -> None:
        digits = len(str(len(lines)))
        number = 0
        for line in lines:
            number += not line["continued"]
            label = f"{number:>{digits}}" if numbered and not line["continued"] else " " * digits
            bar = "┊" if line["continued"] or not numbered else "│"
            # Nesting is capped so that depth alone cannot squeeze the text out of the row.
            inside = "  " * min(line["depth"], 8) + ("  " if line["continued"] and numbered else "")
            indent = f" {bar} {inside}"
            self.put(_parts(line["segments"]), f"  {label}{indent}", f"  {' ' * digits} ┊ {inside}")


def _cut(parts: Sequence[_Part], columns: int) -> Iterator[list[_Part]]:
    """Parts into rows of at most `columns`; a mark stays in one piece where it can."""
    row: list[_Part] = []
    used = 0
    for style, text in parts:
        if style in ("mark", "note") and used and used + _width(text) > columns >= _width(text):
            yield row
            row, used = [], 0
        start = 0
        for place, character in enumerate(text):
            needed = _width(character)
            if used + needed > columns and not unicodedata.category(character).startswith("M"):
                row.append((style, text[start:place]))
                yield row
                row, used, start = [], 0, place
            used += needed
        row.append((style, text[start:]))
    yield row


def _width(text: str) -> int:
    """Columns at most: terminals differ on ambiguous characters, and too much only wraps early."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(character) in "WFA" else 1 for character in text)


def _parts(segments: Iterable[Shown]) -> list[_Part]:
    parts: list[_Part] = []
    for segment in segments:
        if segment.get("rtl"):  # terminals reorder these or not: fenced in, they move nothing else
            parts += [("mark", "⟦right-to-left⟧"), (segment["kind"], segment["text"]), ("mark", "⟦end⟧")]
        else:
            parts.append((segment["kind"], segment["text"]))
    return parts


def _put_head(rows: _Rows, shown: Shown) -> None:
    rows.put(_parts(shown["sentence"]), "", "  ")
    rows.put([("warning" if shown["status"] == "unknown" else "plain", shown["headline"])])
    times = [f"asked {for_people(shown['created_at'])}"]
    if shown["status"] == "held" and shown["expires_at"]:
        times.append(f"expires {for_people(shown['expires_at'])}")
    if shown["status"] == "approved" and shown["run_by"]:
        times.append(f"must start by {for_people(shown['run_by'])}")
    rows.put([("note", f"{shown['id']}, {', '.join(times)}")])
    if shown["owner"]:
        rows.put([("note", f"the agent belongs to {shown['owner']}")])
    if shown["closed_reason"]:
        rows.lines(shown["closed_reason"], numbered=False)
    if shown["erased"]:
        rows.put([("note", shown["erased"])])


def _put_explanation(rows: _Rows, shown: Shown) -> None:
    """Why a decision is as it is: the sentence, the points, and what was tried out or known beside them."""
    explanation, score = shown["explanation"], shown["score"]
    rows.put(_parts(explanation["sentence"]))
    for reason in explanation["also"]:
        rows.put([("plain", "also: "), *_parts(reason)])
    for part in score["parts"]:
        rows.put([("number", f"{part['points']:>4} "), ("name", part["id"]), ("plain", ": "), *_with_error(part)])
    sum_of = f" (the sum is {score['sum']})" if score["capped"] else ""
    rows.put([("number", f"{score['score']:>4} "), ("plain", f"of 100 points{sum_of}")])
    for shadow in explanation["shadows"]:
        rows.put([("note", "tried out: "), *_parts(shadow)])
    for told in explanation["told"]:
        rows.put([("note", "known before: "), *_parts(told)])


def _put_reasons(rows: _Rows, shown: Shown) -> None:
    rows.heading("Why people are asked" if shown["requirements"] else "What the policy said")
    _put_explanation(rows, shown)
    for need in shown["requirements"]:
        names = f" ({', '.join(need['approved_by'])})" if need["approved_by"] else ""
        rows.put([("plain", f"needs {need['text']}, for {need['id']}: {need['met']} so far{names}")])
    for verdict in shown["verdicts"]:
        said = f"{verdict['verdict']} at {for_people(verdict['at'])} by "
        rows.put([("plain", said), *_parts(verdict["reviewer"])])
        if verdict["reason"]:
            rows.lines(verdict["reason"], numbered=False)


def _with_error(part: Shown) -> list[_Part]:
    if not part["error"]:
        return _parts(part["reason"])
    return [*_parts(part["reason"]), ("warning", " (could not be evaluated: "), *_parts(part["error"]), ("plain", ")")]


def _put_previews(rows: _Rows, shown: Shown) -> None:
    for preview in shown["previews"]:
        rows.heading("Preview, as the upstream says")
        rows.put([("note", "by "), *_parts(preview["name"])])
        if preview["waiting"]:
            rows.put([("note", "it is being asked for")])
        if preview["problem"]:
            rows.lines(preview["problem"], numbered=False)
        if preview["result"]:
            rows.lines(preview["result"])


def _put_outcome(rows: _Rows, shown: Shown) -> None:
    outcome = shown["outcome"]
    if not outcome:
        return
    sent = "it was sent" if outcome["executed"] else "nothing was sent"
    rows.heading(f"Outcome: {outcome['status']}, {sent}, {for_people(outcome['at'])}")
    if outcome["detail"]:
        rows.lines(outcome["detail"], numbered=False)
    if outcome["result"]:
        rows.lines(outcome["result"])
    elif outcome["result_bytes"] is not None:
        rows.put([("note", f"its result of {outcome['result_bytes']:,} bytes is not shown here")])


def _arguments_heading(arguments: Shown) -> str:
    marks = arguments["marks"]
    odd = f"; {marks:,} marked ⟦ ⟧: invisible, or passing for another character" if marks else ""
    return f"Arguments, {arguments['bytes']:,} bytes{odd}"


def _painted(part: _Part) -> str:
    style, text = part
    changed = style.startswith("changed-")
    code = ";".join(filter(None, (_STYLES.get(style.removeprefix("changed-"), ""), "1;4" if changed else "")))
    return f"\x1b[{code}m{text}\x1b[0m" if code and text else text


def _unpainted(part: _Part) -> str:
    return part[1]
