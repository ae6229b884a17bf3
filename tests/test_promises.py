"""The promises and their tests hold each other: no sentence without a test, no claim of a promise without a sentence.

Ids are read from the files, not from the run, so that the check says the same whichever tests are selected.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.promises import CITIZEN, PROMISES, SEAT, Promise, Sentence

TESTS = Path(__file__).resolve().parent

SENTENCES = [
    pytest.param(sentence, id=f"{promise.name}-{number}")
    for promise in PROMISES
    for number, sentence in enumerate(promise.sentences, 1)
]


@cache
def claims() -> dict[str, frozenset[str]]:
    """Every test there is, by its id, with the promises that it says it shows."""
    return {
        f"tests/{path.relative_to(TESTS).as_posix()}::{node.name}": frozenset(_promises_of(node))
        for path in sorted(TESTS.rglob("test_*.py"))
        if "node_modules" not in path.parts
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def _promises_of(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for mark in test.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.promise":
            yield from (ast.literal_eval(argument) for argument in mark.args)


def test_there_are_the_seven_promises() -> None:
    """R1 to R7, in order, each with a headline and at least one sentence, none written twice."""
    assert [promise.name for promise in PROMISES] == [f"R{number}" for number in range(1, 8)]
    texts = [sentence.text for promise in PROMISES for sentence in promise.sentences]
    assert all(promise.headline and promise.sentences for promise in PROMISES)
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_every_sentence_is_shown_by_tests_that_exist(sentence: Sentence) -> None:
    """Only a sentence that is for later as a whole has no test; then it says what brings it."""
    assert bool(sentence.tests) != sentence.wholly_later, f"nothing shows: {sentence.text}"
    assert sentence.later or not sentence.wholly_later
    assert set(sentence.tests) <= set(claims()), "the sentence names tests that do not exist"
    assert {later.work for later in sentence.later} <= {CITIZEN, SEAT}


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name)
def test_a_promise_and_its_tests_name_each_other(promise: Promise) -> None:
    """The tests listed under a promise are exactly those marked with it."""
    listed = {test for sentence in promise.sentences for test in sentence.tests}
    marked = {test for test, promises in claims().items() if promise.name in promises}
    assert listed == marked


def test_no_test_claims_a_promise_that_is_not_made() -> None:
    """A mistyped mark would claim nothing, silently."""
    claimed = {name for promises in claims().values() for name in promises}
    assert claimed <= {promise.name for promise in PROMISES}
