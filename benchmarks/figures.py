"""From rounds to figures: medians, ratios within a round, the table and the JSON. It measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Figure:
    """One thing that was measured, round by round; `direct` and `plain` are empty where there is none."""

    group: str
    name: str
    unit: str
    direct: list[float] = field(default_factory=list)
    gateway: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)

    def of(self, side: str) -> list[float]:
        """The values of `direct`, `plain` or `gateway`, to add to."""
        return {"direct": self.direct, "plain": self.plain, "gateway": self.gateway}[side]

    @property
    def ratios(self) -> list[float]:
        """Each round against the direct calls of the same round, so that what slows both cancels out."""
        return [gateway / direct for gateway, direct in zip(self.gateway, self.direct, strict=False)]

    @property
    def plain_ratios(self) -> list[float]:
        """The plain shape against the same direct calls."""
        return [plain / direct for plain, direct in zip(self.plain, self.direct, strict=False)]

    def as_dict(self) -> dict[str, Any]:
        """The figure as it is written down."""
        return {
            "group": self.group,
            "name": self.name,
            "unit": self.unit,
            "rounds": len(self.gateway),
            "direct": _median(self.direct),
            "plain": _median(self.plain),
            "gateway": _median(self.gateway),
            "plain_ratio": _median(self.plain_ratios),
            "ratio": _median(self.ratios),
            "ratio_quartiles": _quartiles(self.ratios),
        }


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 4) if values else None


def _quartiles(values: Sequence[float]) -> list[float] | None:
    if len(values) < 2:
        return None
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return [round(first, 4), round(third, 4)]


HEADS = ("what", "unit", "direct", "plain shape", "gateway", "plain ratio", "ratio", "quartiles", "rounds")


def table(figures: Iterable[Figure]) -> str:
    """The figures as a Markdown table that is also aligned for a terminal."""
    rows = [HEADS, *(_row(figure.as_dict()) for figure in figures if figure.gateway)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _row(figure: dict[str, Any]) -> tuple[str, ...]:
    quartiles = figure["ratio_quartiles"] if figure["ratio"] is not None else None
    return (
        f"{figure['group']}: {figure['name']}",
        figure["unit"],
        _number(figure["direct"]),
        _number(figure["plain"]),
        _number(figure["gateway"]),
        _ratio(figure["plain_ratio"]),
        _ratio(figure["ratio"]),
        f"{quartiles[0]:.2f}–{quartiles[1]:.2f}" if quartiles else "–",
        str(figure["rounds"]),
    )


def _ratio(value: float | None) -> str:
    return f"{value:.2f}" if value is not None else "–"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
