"""What is said of a condition that does not compile. The common mistakes, whole, are data: see test_mistakes.py."""

from __future__ import annotations

import pytest

from hitl_mcp.policy.complaints import place, start_of, why
from hitl_mcp.policy.conditions import Condition, ConditionRefused


def refused(text: str) -> list[tuple[str, str | None, tuple[int, int] | None]]:
    """What is wrong with a condition: the message, the help, and the line and column in it."""
    with pytest.raises(ConditionRefused) as found:
        Condition(text)
    return [(problem.message, problem.help, problem.at) for problem in found.value.problems]


@pytest.mark.parametrize(
    ("text", "message", "cure", "at"),
    [
        ("args.x > 1\n  && args.y = 2", "`=` means nothing in a condition", "write `==`", (2, 13)),
        ("// it's so\nargs.x = 1", "`=` means nothing in a condition", "write `==`", (2, 8)),
        ("1 = args.x", "`=` means nothing in a condition", "write `==`", (1, 3)),
        # What is right in one place is not the slip that another place has.
        ("args.x in [1,000] and 1", "`and` is no operator", "write `&&`", (1, 19)),
        ("args.x > f(1,000) and 1", "`and` is no operator", "write `&&`", (1, 19)),
        ("args.x in [5,1,000] and 1", "`and` is no operator", "write `&&`", (1, 21)),
        ("args.x > 1 in 2 and", "`and` is no operator", "write `&&`", (1, 17)),
        ("args.x > 5 or true", "`or` is no operator", "write `||`", (1, 12)),
        ("args.or > 5 and 1", "`and` is no operator", "write `&&`", (1, 13)),
        ("or(1) and 1", "`and` is no operator", "write `&&`", (1, 7)),
        ("and.x and 1", "`and` is no operator", "write `&&`", (1, 7)),
        (r"args.x == r'\d' and 1", "`and` is no operator", "write `&&`", (1, 17)),
        (r"args.x == R'\d' and 1", "`and` is no operator", "write `&&`", (1, 17)),
        (r"args.x == 'rd\d'", r"`\d` means nothing in a text", r"write `r'rd\d'`", (1, 14)),
        ("args.x > 1,000", "digits are not grouped", "write `1000`", (1, 10)),
        ("args.x > 1_000", "digits are not grouped", "write `1000`", (1, 10)),
        ("args.x in (1, 2)", "a list stands in `[…]`", "write `[1, 2]`", (1, 11)),
        ("args.in (1, 2) &", "`in` is a word of CEL", 'write `args["in"]`', (1, 6)),
        ("{{args.x}} > 1", "braces around a name", "write `args.x` without braces", (1, 1)),
        ("{args.x} > 1", "braces around a name", "write `args.x` without braces", (1, 1)),
        (
            "args.x \u00a0> 1",
            "U+00A0 no-break space means nothing in a condition",
            "delete it, or write a plain space",
            (1, 8),
        ),
        (
            "args.x > \ue000 1",
            "U+E000 unnamed means nothing in a condition",
            "delete it, or write a plain space",
            (1, 10),
        ),
        (
            "args.xéyé > 1",
            "`é` (U+00E9 latin small letter e with acute) cannot be in a name",
            'names are `a` to `z`, `A` to `Z`, `0` to `9` and `_`; another argument is `args["größe"]`',
            (1, 7),
        ),
        # No slip that is known: the first thing that the compiler stumbled over.
        ("args.x > 5 5", "not a condition: `5` does not belong here", None, (1, 12)),
        ("args.x ==", "not a condition: it ends too early", None, (1, 10)),
        ("", "not a condition: it ends too early", None, (1, 1)),
        ("args.x > (1", "not a condition: `)` is missing at the end", None, (1, 12)),
        ("args.x > (1, 2", "not a condition: `,` does not belong here", None, (1, 12)),
        ("args.x ! 1", "not a condition: `!` does not belong here", None, (1, 8)),
        ("args.x \\ 1", "not a condition: `\\` does not belong here", None, (1, 8)),
        ("'a' 'b'", "not a condition: `'b'` does not belong here", None, (1, 5)),
    ],
)
def test_of_a_text_that_cannot_be_read_the_first_slip_is_told(
    text: str, message: str, cure: str | None, at: tuple[int, int]
) -> None:
    """Where it stands, in which line; and nothing of what follows from it."""
    assert refused(text) == [(message, cure, at)]


def test_each_unknown_name_is_told_where_it_stands() -> None:
    """On its own line, at its first letter, and each time it is written."""
    found = refused("args.x > 1 &&\nargs.y > 1 &&\n  lenn(args.x) > 1 && lenn(args.y) > nope")
    assert [(message, at) for message, _, at in found] == [
        ("unknown function `lenn` in a condition", (3, 3)),
        ("unknown function `lenn` in a condition", (3, 23)),
        ("unknown name `nope` in a condition", (3, 38)),
    ]


@pytest.mark.parametrize(
    ("offset", "at"), [(0, (1, 1)), (2, (1, 3)), (3, (2, 1)), (4, (2, 2)), (7, (4, 1)), (8, (4, 2))]
)
def test_an_offset_is_a_line_and_a_column(offset: int, at: tuple[int, int]) -> None:
    """Both from 1; an empty line is one."""
    assert place("ab\ncd\n\ne", offset) == at
    assert place("\nab", 1) == (2, 1)


@pytest.mark.parametrize(
    ("at", "start"),
    [((1, 5), (1, 1)), ((1, 13), (1, 9)), ((2, 8), (2, 3)), ((2, 1), (2, 1)), ((0, 4), (0, 4)), ((3, 1), (3, 1))],
)
def test_a_name_begins_where_it_is_last_written_before_the_place(at: tuple[int, int], start: tuple[int, int]) -> None:
    """The compiler points behind it; what is not there stays where the compiler points."""
    assert start_of("name", at, "name(1) name(2)\n  name(3) name(4)") == start


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ('NOT_FOUND: Key not found in map : "x"', "there is no `x`"),
        ('NOT_FOUND: Key not found in map : "a\nb"', "there is no `a\\u000ab`"),
        ("UNKNOWN: No matching overloads found : _>_(string, int64)", "`>` does not take (string, int64)"),
        ("UNKNOWN: No matching overloads found : @in(int64, string)", "`in` does not take (int64, string)"),
        ("UNKNOWN: No matching overloads found : size(a\nb)", "`size` does not take (a\\u000ab)"),
        ("Divide by zero [INVALID_ARGUMENT]", "divide by zero"),
    ],
)
def test_an_error_of_the_library_is_put_into_words(message: str, words: str) -> None:
    """Without its codes, on one line."""
    assert why(message) == words
