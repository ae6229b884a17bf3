"""The one renderer: what people are shown of a call, on the page and on a terminal. Pure; no I/O, no decisions."""

from hitl_mcp.render.around import agent_shown, tool_shown, what_is_new
from hitl_mcp.render.granted import condition_shown, grant_shown, suggestion_shown
from hitl_mcp.render.marks import Segment
from hitl_mcp.render.shown import (
    Shown,
    decision_shown,
    difference_shown,
    edit_shown,
    headline,
    plain_text,
    shown,
    summary,
)
from hitl_mcp.render.standing import Beside
from hitl_mcp.render.terminal import (
    difference_obstacle,
    difference_text,
    explanation_text,
    fits_terminal,
    terminal_obstacle,
    terminal_text,
)

__all__ = [
    "Beside",
    "Segment",
    "Shown",
    "agent_shown",
    "condition_shown",
    "decision_shown",
    "difference_obstacle",
    "difference_shown",
    "difference_text",
    "edit_shown",
    "explanation_text",
    "fits_terminal",
    "grant_shown",
    "headline",
    "plain_text",
    "shown",
    "suggestion_shown",
    "summary",
    "terminal_obstacle",
    "terminal_text",
    "tool_shown",
    "what_is_new",
]
