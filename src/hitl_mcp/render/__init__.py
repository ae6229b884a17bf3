"""The one renderer: what people are shown of a call, on the page and on a terminal. Pure; no I/O, no decisions."""

from hitl_mcp.render.marks import Segment
from hitl_mcp.render.shown import Shown, decision_shown, difference_shown, headline, plain_text, shown, summary
from hitl_mcp.render.terminal import (
    difference_obstacle,
    difference_text,
    explanation_text,
    fits_terminal,
    terminal_obstacle,
    terminal_text,
)

__all__ = [
    "Segment",
    "Shown",
    "decision_shown",
    "difference_obstacle",
    "difference_shown",
    "difference_text",
    "explanation_text",
    "fits_terminal",
    "headline",
    "plain_text",
    "shown",
    "summary",
    "terminal_obstacle",
    "terminal_text",
]
