"""What is offered in place of a notation that is not ours."""

from __future__ import annotations

import pytest

from hitl_mcp.policy.meant import duration, limit


@pytest.mark.parametrize(
    ("written", "cure"),
    [
        ("2 weeks", "write `14d`; a duration is a number and a unit"),
        ("90 min", "write `90m`; a duration is a number and a unit"),
        ("1h30m", "write `90m`; a duration is one number and one unit"),
        ("1d2h30m", "write `1590m`; a duration is one number and one unit"),
        ("1h90m30s", "write `9030s`; a duration is one number and one unit"),
        ("1m2h", "write a number and a unit"),
        ("soon", "write a number and a unit"),
    ],
)
def test_a_duration_is_offered_in_its_smallest_unit(written: str, cure: str) -> None:
    """Where it has a whole number of them."""
    assert duration(written) == cure


@pytest.mark.parametrize(
    ("written", "cure"),
    [
        ("100", "write `100` without quotes"),
        ("100 EUR", "write `{EUR: 100}` with `unit: args.currency`"),
        ("eur 12.50", "write `{eur: 12.50}` with `unit: args.currency`"),
        (["100"], "write `100`, or `{EUR: 100}` with `unit: args.currency`"),
    ],
)
def test_a_limit_is_offered_with_its_unit(written: object, cure: str) -> None:
    """In whatever case and order they were written."""
    assert limit(written) == cure
