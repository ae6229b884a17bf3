"""Upstreams that write garbage, too much, too deep, twice or nothing: outcomes stay honest, the rest goes on."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from hitl_mcp.errors import OutcomeUnknown, UpstreamRefused
from hitl_mcp.limits import UPSTREAM_ERROR_CHARACTERS, UPSTREAM_LOG_LINES_PER_SECOND
from hitl_mcp.upstreams.stdio import Lines
from tests.upstreams.stage import a_call, one, raw, running


async def test_garbage_between_messages_is_skipped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Banners, batches and half messages cost nothing; what they said is logged with its controls visible."""
    caplog.set_level("INFO", "hitl_mcp")
    async with one(raw("raw")) as upstream:
        assert (await upstream.send(a_call("garbage")))["content"]
        assert (await upstream.send(a_call("echo")))["content"]
    assert "Starting up ..." in caplog.text
    assert "words on \\x1b[31mstderr\\x1b[0m \\u202e" in caplog.text
    assert "\x1b" not in caplog.text


@pytest.mark.promise("R5")
@pytest.mark.parametrize(
    ("tool", "why"),
    [
        ("endless", "a line of more than 16777216 bytes"),
        ("nan", "a number that JSON does not have"),
        ("surrogate", "surrogate"),
        ("not_utf8", "not JSON"),
        ("deep", "nested too deep"),
        ("shapeless", "`content`"),
        ("neither", "neither a result nor an error"),
        ("mark_of_words", "`isError` is neither true nor false"),
        ("many_parts", "more than 250000 parts"),
        ("half", "it exited with status 5"),
    ],
)
async def test_an_unusable_answer_leaves_the_outcome_unknown_at_once(tool: str, why: str) -> None:
    """The call ran, perhaps; nobody waits for a deadline to learn that its answer is of no use."""
    async with one(raw("raw")) as upstream:
        with pytest.raises(OutcomeUnknown) as caught, anyio.fail_after(10):
            await upstream.send(a_call(tool))
        assert why in caught.value.message
        if tool != "half":
            assert (await upstream.send(a_call("echo")))["content"]


async def test_the_first_answer_counts_and_a_strange_one_meets_nobody() -> None:
    """An answer to an id nobody waits for, and a second answer, are dropped."""
    async with one(raw("raw")) as upstream:
        assert (await upstream.send(a_call("twice")))["structuredContent"] == {"which": "first"}
        assert (await upstream.send(a_call("echo")))["structuredContent"]["arguments"] == {}


async def test_what_is_large_or_unknown_but_json_passes() -> None:
    """Integers beyond 2^53 and unknown fields are the tool's own business; the connection's own keys are not."""
    async with one(raw("raw")) as upstream:
        result = await upstream.send(a_call("hop"))
    assert result["unknown"] == 2**70
    assert result["_meta"] == {"example.com/kept": 1}


async def test_an_error_that_cannot_be_written_down_is_told_as_far_as_it_can() -> None:
    """Half a pair and NaN would keep it from being recorded; a text without end would be told to an agent whole."""
    async with one(raw("raw")) as upstream:
        with pytest.raises(UpstreamRefused) as caught:
            await upstream.send(a_call("odd_error"))
    assert caught.value.message.startswith("half ? and xxx")
    assert len(caught.value.message) == UPSTREAM_ERROR_CHARACTERS
    assert (caught.value.code, caught.value.data) == (-32603, None)


async def test_a_large_answer_passes_and_what_nobody_asked_for_is_not_even_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Brackets inside of texts are no parts; an answer to nobody and a note of that size are skipped."""
    async with one(raw("raw")) as upstream:
        result = await upstream.send(a_call("large"))
        assert len(result["structuredContent"]["text"]) == 900_000
        assert (await upstream.send(a_call("unasked")))["content"]
    assert caplog.text.count("more than 262144 bytes that nobody asked for") == 2


async def test_questions_fill_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """So many lines a second, cut and visible; the call says what it wanted, in short."""
    began = int(time.monotonic())
    async with one(raw("raw")) as upstream:
        with pytest.raises(UpstreamRefused) as caught:
            await upstream.send(a_call("asks_much"))
    assert len(caught.value.message) < 300
    seconds = int(time.monotonic()) - began + 1
    assert caplog.text.count("asks for `odd\\x1b/") <= seconds * UPSTREAM_LOG_LINES_PER_SECOND
    assert "\x1b" not in caplog.text


async def test_the_last_answer_of_a_dying_upstream_counts() -> None:
    """It answered and ended in one breath: the answer was still in the pipe."""
    async with one(raw("raw")) as upstream:
        assert (await upstream.send(a_call("last_words")))["content"]


async def test_an_upstream_that_stops_reading_is_lost() -> None:
    """Its input is closed, so nothing could reach it any more: it is restarted, its running call is unknown."""
    async with one(raw("raw")) as upstream:
        with pytest.raises(OutcomeUnknown), anyio.fail_after(10):
            await upstream.send(a_call("deaf"))


async def test_a_flood_delays_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of noisy lines cost the other upstream nothing, the log little, and the call itself nothing."""
    caplog.set_level("INFO", "hitl_mcp")
    async with running(raw("loud"), raw("calm")) as upstreams:
        loud, calm = upstreams.all()
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loud.send, a_call("flood"))
                for _ in range(20):
                    assert (await calm.send(a_call("echo")))["content"]
        assert (await loud.send(a_call("echo")))["content"]
    assert caplog.text.count("noise") < 1500


def test_lines_are_cut_from_any_chunks() -> None:
    """However the bytes arrive, lines come whole; of one that is too long only its ends are kept, and it is marked."""
    stream = b"one\n\ntwo\n" + b"x" * 100 + b"\nthree\nunfinished"
    for size in (1, 2, 7, 1000):
        lines = Lines(20)
        cut: list[Any] = []
        for start in range(0, len(stream), size):
            cut.extend(lines.cut(stream[start : start + size]))
        assert [line for line, whole in cut if whole] == [b"one", b"", b"two", b"three"]
        assert [len(line) <= 40 for line, whole in cut if not whole] == [True]


def test_the_ends_of_a_line_that_is_too_long_survive() -> None:
    """That is where the id stands that tells whose answer it was."""
    lines = Lines(100)
    [(line, whole)] = [*lines.cut(b'{"id": "c_1", ' + b"x" * 500), *lines.cut(b"y" * 500 + b'"id": "c_2"}\n')]
    assert not whole
    assert line.startswith(b'{"id": "c_1"') and line.endswith(b'"id": "c_2"}')
