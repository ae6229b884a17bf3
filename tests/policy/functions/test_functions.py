"""Every function of conditions against its table of cases, asked through CEL as a policy asks it.

The cases are data: `tests/policy/cases/functions/NAME.yaml`. What needs links or a whole policy is tested beside.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cel_expr_python import cel

from hitl_mcp.limits import (
    COMMAND_CHARACTERS,
    DOMAIN_CHARACTERS,
    FUNCTION_ENTRIES,
    GLOB_TEXT_CHARACTERS,
    NUMBER_CHARACTERS,
    PATH_CHARACTERS,
    URL_CHARACTERS,
)
from hitl_mcp.policy.functions import FUNCTIONS, NAMES, advice
from hitl_mcp.policy.functions.addresses import address_domain
from hitl_mcp.policy.functions.domains import domain_within, host_private
from hitl_mcp.policy.functions.globs import glob
from hitl_mcp.policy.functions.numbers import number
from hitl_mcp.policy.functions.paths import path_has
from hitl_mcp.policy.functions.shell import argv, shell_commands
from hitl_mcp.policy.functions.urls import url_host

CASES = Path(__file__).parent.parent / "cases" / "functions"
ADVERSARIAL_CASES = 20

_ENVIRONMENT = cel.NewEnv(variables={"of": cel.Type.DYN}, functions=FUNCTIONS)


def cases(name: str) -> list[dict[str, Any]]:
    """The cases of one function."""
    found: list[dict[str, Any]] = yaml.safe_load((CASES / f"{name}.yaml").read_text(encoding="utf-8"))
    return found


def every_case() -> list[Any]:
    """All cases as parameters, named after the function and the case."""
    return [pytest.param(name, case, id=f"{name}: {case['name']}") for name in NAMES for case in cases(name)]


def asked(name: str, values: list[Any]) -> tuple[str, Any]:
    """The type and the value that CEL gives for a function of these values, which it learns only when evaluating."""
    call = ", ".join(f"of[{index}]" for index in range(len(values)))
    program = _ENVIRONMENT.compile(f"{name}({call})")
    result = program.eval(_ENVIRONMENT.Activation({"of": values}))
    return result.type().name(), result.plain_value() if result.type() != cel.Type.ERROR else result.value()


@pytest.mark.parametrize(("name", "case"), every_case())
def test_a_function_gives_what_it_says_or_refuses(name: str, case: dict[str, Any]) -> None:
    """What is not exactly what the function takes is an error for CEL, never a value."""
    kind, value = asked(name, case["of"])
    if "refuses" in case:
        assert kind == "ERROR"
        assert case["refuses"] in value
    else:
        assert kind != "ERROR", value
        assert value == case["gives"]


REFUSALS = {
    "a command is empty",
    "a name in the text begins a statement in T-SQL: name the dialect, or quote the name",
    "a redirection stands inside a word",
    "a statement in it is not understood",
    "a statement in it is not understood to its end",
    "a word begins with `=`, which some shells replace",
    "a word has letters in it that can pass for others",
    "addresses must be a text or a list of texts",
    "databases read the text differently: a quote, comment or sign in it is not plain SQL",
    "each address must be a text",
    "each domain must be a text",
    "each glob must be a text",
    "each root must be a text",
    "each word must be a text",
    "it is not a plain domain name",
    "the address is too long",
    "the command has something in it that a shell treats specially, or an open quote",
    "the command is a shell statement, not a program",
    "the command is more than one simple command",
    "the command sets a variable",
    "the dialect is none of postgres, mysql, sqlite, tsql",
    "the list does not begin with a program",
    "the number has more digits than a double keeps",
    "the number is beyond 2^53",
    "the number is not finite, or beyond 2^53",
    "the path has invisible characters or escapes in it",
    "the path is empty or too long",
    "the path is not an absolute one with `/` as separator",
    "the text is not a plain decimal number, such as 12 or -3.50",
    "the text is not a plain http or https URL",
    "the text is not exactly one bare address, such as name@domain.example",
    "the text takes too long to understand",
    "there is no address in the call",
    "there is no domain in the list",
    "there is no glob in the list",
    "there is no name in the list",
    "there is no root in the list",
    "there is no statement in the text",
    "there is no word in the list",
}
"""What the refusals in the tables say, whole: people and agents read them."""


def test_every_refusal_names_the_function_and_says_one_of_these_sentences() -> None:
    """The tables of cases name a part of each; none is worded in another way, and none is without a case."""
    said = set()
    for name in NAMES:
        for case in cases(name):
            kind, value = asked(name, case["of"])
            if kind == "ERROR" and "No matching overloads" not in value:
                before, _, sentence = value.partition(" refuses: ")
                assert before == f"OUT_OF_RANGE: `{name}`"
                said.add(sentence)
    assert said == REFUSALS


@pytest.mark.parametrize(
    ("function", "longest", "refusal"),
    [
        (
            lambda text: glob("*", text),
            "x" * GLOB_TEXT_CHARACTERS,
            f"the text is longer than {GLOB_TEXT_CHARACTERS} characters",
        ),
        (number, "1." + "0" * (NUMBER_CHARACTERS - 2), "the text is not a plain decimal number, such as 12 or -3.50"),
        (lambda text: address_domain(f"{text}@a.b"), "x" * 64, "the address is too long"),
        (lambda text: domain_within(text, "b"), "a." * (DOMAIN_CHARACTERS // 2) + "b", "it is not a plain domain name"),
        (lambda text: path_has(text, "*"), "/" + "x" * (PATH_CHARACTERS - 1), "the path is empty or too long"),
        (argv, "x" * COMMAND_CHARACTERS, f"the command is longer than {COMMAND_CHARACTERS} characters"),
        (url_host, "http://a.b/" + "x" * (URL_CHARACTERS - 11), "the URL is too long"),
    ],
)
def test_a_text_at_its_limit_is_read_and_one_character_more_refused(
    function: Callable[[str], object], longest: str, refusal: str
) -> None:
    """Each limit counts what is allowed."""
    function(longest)
    with pytest.raises(ValueError, match=f"^{re.escape(refusal)}$"):
        function(longest + longest[-1])


def test_a_list_at_its_limit_is_read_and_one_entry_more_refused() -> None:
    """For functions that take lists."""
    assert glob(["x"] * FUNCTION_ENTRIES, "x")
    with pytest.raises(ValueError, match=f"^there are more than {FUNCTION_ENTRIES} in the list$"):
        glob(["x"] * (FUNCTION_ENTRIES + 1), "x")


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("[::1]", True),
        ("::ffff:8.8.8.8", False),
        ("::ffff:10.0.0.1", True),
        ("64:ff9b::808:808", False),
        ("64:ff9b::a00:1", True),
        ("2002:808:808::1", False),
        ("2002:a00:1::1", True),
    ],
)
def test_an_address_is_as_private_as_the_one_it_carries(host: str, private: bool) -> None:
    """Mapped, translated and tunnelled addresses lead to the IPv4 address in them."""
    assert host_private(host) is private


@pytest.mark.parametrize("host", ["[::1", "::1]", "[8.8.8.8", "é.example"])
def test_half_a_pair_of_brackets_is_no_host(host: str) -> None:
    """And neither is a name in another script."""
    with pytest.raises(ValueError, match=r"^it is not a plain domain name$"):
        host_private(host)


@pytest.mark.parametrize("url", ["http://a.b/x y", "http://a.b/\\x", "http://a.b/\x7f", "http://a.b\t/"])
def test_a_url_that_programs_read_differently_is_refused(url: str) -> None:
    """Blanks, backslashes and controls, wherever they stand."""
    with pytest.raises(ValueError, match=r"^the text is not a plain http or https URL$"):
        url_host(url)


@pytest.mark.parametrize("name", NAMES)
def test_every_function_has_many_adversarial_cases(name: str) -> None:
    """At least twenty for each, all with different names and inputs."""
    written = cases(name)
    assert len(written) >= ADVERSARIAL_CASES
    assert len({case["name"] for case in written}) == len(written)
    assert len({repr(case["of"]) for case in written}) == len(written)


def test_names_and_functions_are_the_same_set() -> None:
    """Each function that CEL knows has its line, and the other way round; each table of cases belongs to one."""
    for name in NAMES:
        assert any(_takes(name, count) for count in (1, 2, 3))
    assert len(NAMES) == len(FUNCTIONS)
    assert {path.stem for path in CASES.glob("*.yaml")} == set(NAMES)


def _takes(name: str, count: int) -> bool:
    try:
        _ENVIRONMENT.compile(f"{name}({', '.join(['of'] * count)})")
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("numbr", "number"), ("sqlkinds", "sql_kinds"), ("startswith", "startsWith"), ("argvs", "argv")],
)
def test_an_unknown_function_is_told_with_the_one_that_was_meant(wrong: str, meant: str) -> None:
    """Our names and those of CEL itself; and then all of ours."""
    assert advice(wrong) == f"did you mean `{meant}`? {OURS}"


OURS = (
    "functions beside CEL's own are `number`, `address_domain`, `all_addresses_in`, `domain_within`, `path_within`, "
    "`path_has`, `glob`, `sql_kinds`, `sql_tables`, `sql_unbounded`, `argv`, `shell_commands`, `url_host`, "
    "`host_private`"
)


def test_an_unknown_function_like_no_other_is_told_what_there_is() -> None:
    """Where nothing is near, nothing is guessed."""
    assert advice("qqqqqq") == OURS


def test_an_error_never_repeats_a_value() -> None:
    """A value may be a secret; the message says what is wrong with it."""
    for name in NAMES:
        for case in cases(name):
            kind, value = asked(name, case["of"])
            secrets = [given for given in case["of"] if isinstance(given, str) and len(given) > 8]
            assert kind != "ERROR" or not any(given in value for given in secrets), value


def test_words_are_what_a_shell_makes_of_them() -> None:
    """Each command that is read as words is given to a real `sh`, which must find the same words."""
    commands = [case["of"][0] for case in cases("argv") if "gives" in case and isinstance(case["of"][0], str)]
    assert len(commands) > 10
    for command in commands:
        shown = subprocess.run(
            ["/bin/sh", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True, timeout=10
        )
        assert shown.stdout.decode().split("\0")[:-1] == argv(command)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (">/dev/null ls", [["ls"]]),
        ("ls 2>&1", [["ls"]]),
        (" \tX x X\t ", [["X", "x", "X"]]),
        ("'a\\\\b' \"a\\\\b\"", [["a\\\\b", "a\\b"]]),
        ("'' ls", None),
        ("|| ls", None),
        ("ls\n", None),
        ("ls;", None),
    ],
)
def test_a_line_is_read_as_a_shell_reads_it(line: str, words: list[list[str]] | None) -> None:
    """Blanks around it count for nothing, a line break does; quotes keep what is in them."""
    if words is None:
        with pytest.raises(ValueError, match=r"^(a command is empty|the command has something in it )"):
            shell_commands(line)
    else:
        assert shell_commands(line) == words


def test_a_simple_command_redirects_nothing() -> None:
    """Not even to nowhere; and no word of a list holds a NUL."""
    with pytest.raises(ValueError, match=r"^the command is more than one simple command$"):
        argv("ls 2>&1")
    with pytest.raises(ValueError, match=r"^the list does not begin with a program$"):
        argv(["ls", "a\x00b"])
