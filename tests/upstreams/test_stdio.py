"""Calls over stdio to well-behaved servers in both eras: what goes there, what comes back, and who is told."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from hitl_mcp.canonical import canonical_text
from hitl_mcp.errors import NotSent, OutcomeUnknown, UpstreamRefused
from hitl_mcp.secrets import Secrets
from hitl_mcp.upstreams import Upstream, Upstreams
from tests.upstreams.stage import a_call, lines, one, raw, running, sdk, until

ERAS = pytest.mark.parametrize("era", [(), ("--legacy",)], ids=["modern", "legacy"])


@pytest.fixture(scope="module", params=[(), ("--legacy",)], ids=["modern", "legacy"])
async def tools(request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    """A well-behaved upstream of each era; started once, since importing the SDK takes a while."""
    async with one(sdk("tools", *request.param)) as upstream:
        yield upstream


@ERAS
async def test_a_call_reaches_the_tool_once_and_its_result_comes_back(era: tuple[str, ...], tmp_path: Path) -> None:
    """Definition, arguments, `_meta` and result pass unchanged in both eras."""
    async with one(sdk("tools", "--record", str(tmp_path / "calls"), *era)) as upstream:
        echo = next(tool for tool in upstream.tools if tool["name"] == "echo")
        assert echo["icons"] == [{"src": "https://example.com/echo.png", "mimeType": "image/png", "sizes": ["48x48"]}]
        assert echo["_meta"] == {"example.com/owner": "tests"}
        assert echo["annotations"] == {"readOnlyHint": True}
        result = await upstream.send(a_call("echo", '{"text":"żółw ☃"}'))
    assert result["structuredContent"] == {"said": "żółw ☃"}
    assert "io.modelcontextprotocol/serverInfo" not in result.get("_meta", {})
    assert lines(tmp_path / "calls") == ["echo"]


async def test_the_call_s_id_is_the_one_on_the_wire(tmp_path: Path) -> None:
    """The upstream sees the record's id, the very arguments, and only the `_meta` that was recorded."""
    async with one(raw("raw")) as upstream:
        send = a_call("echo", '{"a":[1,2.5,"x"]}', traceparent="00-1", progressToken="agents-own")
        seen = (await upstream.send(send))["structuredContent"]
    assert seen == {"id": send.call_id, "arguments": {"a": [1, 2.5, "x"]}, "meta": {"traceparent": "00-1"}}


async def test_definitions_are_kept_as_the_upstream_wrote_them() -> None:
    """Fields that no revision knows stay, and every page is read."""
    async with one(raw("raw")) as upstream:
        assert [tool["name"] for tool in upstream.tools] == ["echo", "second"]
        assert upstream.tools[0]["x-vendor"] == {"kept": [1, 2.5, None]}


async def test_progress_comes_in_order_and_before_the_result(tools: Upstream) -> None:
    """Whoever asked for progress has heard all of it when the result is there."""
    told: list[tuple[float, float | None, str | None]] = []

    async def on_progress(done: float, total: float | None, words: str | None) -> None:
        told.append((done, total, words))

    await tools.send(a_call("steps", on_progress=on_progress))
    assert told == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]


async def test_progress_that_makes_no_sense_is_dropped() -> None:
    """No number, no known call, half a surrogate pair: the call goes on, and what can be told is told."""
    told: list[tuple[float, float | None, str | None]] = []

    async def on_progress(done: float, total: float | None, words: str | None) -> None:
        told.append((done, total, words))
        raise RuntimeError("the agent is gone")

    async with one(raw("raw")) as upstream:
        result = await upstream.send(a_call("odd_progress", on_progress=on_progress))
    assert result["content"]
    assert told == [(1, None, None)]  # the listener failed, so the call stopped telling it


async def test_errors_of_the_tool_and_of_the_protocol_are_told_apart(tools: Upstream) -> None:
    """`isError` is a result; a JSON-RPC error is a refusal with its code and data."""
    assert (await tools.send(a_call("fails")))["isError"] is True
    with pytest.raises(UpstreamRefused, match="not today") as caught:
        await tools.send(a_call("refuses"))
    assert (caught.value.code, caught.value.data) == (-32001, {"why": "closed"})
    assert (await tools.send(a_call("echo", '{"text":"on"}')))["structuredContent"] == {"said": "on"}


async def test_a_question_during_a_run_is_not_answered(tools: Upstream) -> None:
    """Elicitation in either era ends the run as `needs input`; the connection lives on."""
    with pytest.raises(UpstreamRefused, match=r"^needs input: "):
        await tools.send(a_call("asks"))
    assert tools.state == "ready"
    assert (await tools.send(a_call("echo", '{"text":"on"}')))["structuredContent"] == {"said": "on"}


@pytest.mark.parametrize("then", ["error", "is_error"])
async def test_a_run_that_fails_after_a_question_says_that_it_needed_input(then: str) -> None:
    """The upstream's own words stay beside it."""
    async with one(raw("raw")) as upstream:
        with pytest.raises(UpstreamRefused, match=r"^needs input: .*`elicitation/create`.*(no answer|nobody can be)"):
            await upstream.send(a_call("ask", canonical_text({"then": then})))


async def test_a_run_that_succeeds_without_its_answer_succeeded() -> None:
    """An upstream that went on by itself did what it says it did."""
    async with one(raw("raw")) as upstream:
        result = await upstream.send(a_call("ask"))
    assert "nobody can be asked" in result["content"][0]["text"]


async def test_a_changed_list_is_read_again(tools: Upstream) -> None:
    """`list_changed`, announced or subscribed to, brings the new definitions and is passed on."""
    before = len(tools.tools)
    # A subscription may open a moment after the listing: until it does, nothing is announced to it.
    with anyio.fail_after(10):
        while len(tools.tools) == before:
            await tools.send(a_call("grows"))
    assert tools.tools[-1]["name"].startswith("grown-")


async def test_a_cancel_is_passed_on_while_the_call_is_waited_for(tmp_path: Path) -> None:
    """The upstream hears of it under the call's id, and its late answer is still the answer."""
    async with one(raw("raw", "--record", str(tmp_path / "calls"), "--answers-cancelled")) as upstream:
        send = a_call("silent")
        results: list[dict[str, Any]] = []

        async def run() -> None:
            results.append(await upstream.send(send))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                while not upstream.has_sent(send.call_id):
                    await anyio.sleep(0)
                await upstream.cancel("c_unknown")
                await upstream.cancel(send.call_id)
    assert results[0]["structuredContent"] == {"stopped": True}
    assert lines(tmp_path / "calls") == ["silent", f"cancelled {send.call_id}"]


async def test_a_send_whose_wait_ends_says_whether_it_left(tmp_path: Path) -> None:
    """The upstream is told that nobody waits, other calls go on, and a late answer finds nobody."""
    async with one(raw("raw", "--record", str(tmp_path / "calls"), "--answers-cancelled")) as upstream:
        send = a_call("silent")
        with anyio.move_on_after(0.2) as wait:
            await upstream.send(send)
        assert wait.cancelled_caught
        assert upstream.has_sent(send.call_id)
        await upstream.send(a_call("echo"))
    assert lines(tmp_path / "calls") == ["silent", f"cancelled {send.call_id}", "echo"]


@pytest.mark.promise("R3")
async def test_the_same_id_is_not_sent_twice(tmp_path: Path) -> None:
    """A second send with an id that left is refused, and the upstream sees one call."""
    async with one(raw("raw", "--record", str(tmp_path / "calls"))) as upstream:
        send = a_call("echo")
        await upstream.send(send)
        with pytest.raises(NotSent, match="sent before"):
            await upstream.send(send)
    assert lines(tmp_path / "calls") == ["echo"]


@pytest.mark.promise("R3")
async def test_arguments_that_are_not_canonical_are_not_sent(tmp_path: Path) -> None:
    """What leaves is canonical, so a record that is not cannot be what leaves: nothing does."""
    async with one(raw("raw", "--record", str(tmp_path / "calls"))) as upstream:
        for text in ('{"b":1,"a":2}', '{"a": 1}', "[]", "{", '{"a":1,"a":2}'):
            with pytest.raises(NotSent):
                await upstream.send(a_call("echo", text))
        await upstream.send(a_call("second"))
    assert lines(tmp_path / "calls") == ["second"]


async def test_many_calls_at_once_each_get_their_own_answer(tools: Upstream) -> None:
    """Thirty-two at a time, answers by id, none mixed up."""
    answers: dict[str, Any] = {}

    async def run(number: int) -> None:
        result = await tools.send(a_call("echo", canonical_text({"text": str(number)})))
        answers[str(number)] = result["structuredContent"]["said"]

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for number in range(32):
                tasks.start_soon(run, number)
    assert answers == {str(number): str(number) for number in range(32)}


async def test_a_large_call_waits_for_a_slow_reader(tools: Upstream) -> None:
    """A megabyte of arguments passes through a pipe of 64 KiB, several at once."""
    arguments_json = canonical_text({"text": "x" * 900_000})
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(tools.send, a_call("echo", arguments_json))


@pytest.mark.promise("R5")
@ERAS
async def test_an_upstream_that_dies_during_a_call_leaves_its_outcome_unknown(era: tuple[str, ...]) -> None:
    """The call is not sent again; the upstream is restarted and takes the next one."""
    async with one(sdk("tools", *era)) as upstream:
        with pytest.raises(OutcomeUnknown, match="it exited with status 3"):
            await upstream.send(a_call("dies"))
        assert upstream.state == "down"
        assert upstream.detail == "it exited with status 3"
        with pytest.raises(NotSent, match="upstream `tools` is down: it exited with status 3"):
            await upstream.send(a_call("echo", '{"text":"x"}'))
        assert {tool["name"] for tool in upstream.tools} >= {"echo"}
        await until(upstream, lambda: upstream.state == "ready")
        assert (await upstream.send(a_call("echo", '{"text":"on"}')))["structuredContent"] == {"said": "on"}


async def test_children_get_an_allow_listed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the config names with its secrets resolved, what programs need to run, and nothing else of ours."""
    monkeypatch.setenv("SECRET_OF_THE_GATEWAY", "hush")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("LC_MESSAGES", "C.UTF-8")
    monkeypatch.setenv("TZ", "UTC")
    config = sdk("tools", env={"KEY": "Bearer ${env:KEY_OF_THE_UPSTREAM}"})
    async with running(config, variables={"KEY_OF_THE_UPSTREAM": "k1"}) as upstreams:
        upstream = upstreams.all()[0]
        environment = json.loads((await upstream.send(a_call("environment")))["content"][0]["text"])
    assert environment["KEY"] == "Bearer k1"
    assert environment["LC_MESSAGES"] == "C.UTF-8"
    assert environment["PATH"] == os.environ["PATH"]
    allowed = {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "LANGUAGE", "TMPDIR", "TZ", "KEY"}
    assert {name for name in environment if not name.startswith("LC_")} <= allowed


async def test_nothing_is_sent_before_an_upstream_is_ready() -> None:
    """Before the first attempt ended, and after the last, that nothing was sent is certain."""
    upstreams = Upstreams({"raw": raw("raw")}, Secrets({}, Path("/")))
    upstream, send = upstreams.all()[0], a_call("echo")
    with pytest.raises(NotSent, match="upstream `raw` is starting"):
        await upstream.send(send)
    async with upstreams:
        with anyio.fail_after(10):
            await upstreams.settled()
    with pytest.raises(NotSent):
        await upstream.send(send)
    assert not upstream.has_sent(send.call_id)
