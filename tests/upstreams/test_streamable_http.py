"""Calls over streamable HTTP: to the SDK's server in both eras, and to one that answers as it should not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp_types as t
import pytest
from mcp.shared.exceptions import MCPError

from hitl_mcp.config import UpstreamConfig
from hitl_mcp.errors import NotSent, OutcomeUnknown, UpstreamRefused
from hitl_mcp.upstreams import Upstream
from tests.upstreams.servers.raw_app import Breaking, RawApp
from tests.upstreams.servers.sdk_server import ToolsServer
from tests.upstreams.stage import a_call, one, running, serving, until


async def _no_discover(ctx: Any, call_next: Callable[[Any], Any]) -> Any:
    if ctx.method == "server/discover":
        raise MCPError(t.METHOD_NOT_FOUND, "Method not found")
    return await call_next(ctx)


@asynccontextmanager
async def sdk_over_http(era: str, *, as_json: bool = False) -> AsyncIterator[tuple[ToolsServer, Upstream]]:
    """The SDK's server of an era behind uvicorn, and an upstream connected to it."""
    tools = ToolsServer()
    if era == "legacy":
        tools.server.middleware.append(_no_discover)
    app = tools.server.streamable_http_app(json_response=as_json)
    with anyio.fail_after(30):
        async with serving(app) as address, one(UpstreamConfig("web", url=f"{address}/mcp")) as upstream:
            yield tools, upstream


@asynccontextmanager
async def raw_over_http(**headers: str) -> AsyncIterator[tuple[RawApp, Upstream]]:
    """The plain app and an upstream connected to it."""
    app = RawApp()
    with anyio.fail_after(30):
        async with serving(Breaking(app)) as address:
            config = UpstreamConfig("web", url=f"{address}/mcp", headers=headers)
            async with running(config, variables={"TOKEN": "t0k3n"}) as upstreams:
                assert upstreams.all()[0].state == "ready", upstreams.all()[0].detail
                yield app, upstreams.all()[0]
            app.close()


ERAS = pytest.mark.parametrize("era", ["modern", "legacy"])


@ERAS
@pytest.mark.parametrize("as_json", [False, True], ids=["events", "json"])
async def test_calls_go_there_once_and_results_come_back(era: str, as_json: bool) -> None:
    """Tools, a call, an error, a refusal and a question, over one connection of each era."""
    async with sdk_over_http(era, as_json=as_json) as (tools, upstream):
        assert next(tool for tool in upstream.tools if tool["name"] == "echo")["_meta"] == {
            "example.com/owner": "tests"
        }
        result = await upstream.send(a_call("echo", '{"text":"żółw"}', traceparent="00-1"))
        assert result["structuredContent"] == {"said": "żółw"}
        assert tools.metas[-1]["traceparent"] == "00-1"
        assert (await upstream.send(a_call("fails")))["isError"] is True
        with pytest.raises(UpstreamRefused, match="not today") as caught:
            await upstream.send(a_call("refuses"))
        assert caught.value.code == -32001
        if era == "legacy" and as_json:  # a plain JSON answer leaves the upstream no way to ask
            assert (await upstream.send(a_call("asks")))["isError"] is True
        else:
            with pytest.raises(UpstreamRefused, match="needs input"):
                await upstream.send(a_call("asks"))
        assert tools.calls == ["echo", "fails", "refuses", "asks"]


@ERAS
async def test_progress_comes_with_the_call_s_own_stream(era: str) -> None:
    """In order, all of it before the result."""
    told: list[tuple[float, float | None, str | None]] = []

    async def on_progress(done: float, total: float | None, words: str | None) -> None:
        told.append((done, total, words))

    async with sdk_over_http(era) as (_, upstream):
        await upstream.send(a_call("steps", on_progress=on_progress))
    assert told == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]


@ERAS
async def test_a_changed_list_is_read_again(era: str) -> None:
    """Announced on the upstream's own stream (legacy) or on the subscription (modern)."""
    async with sdk_over_http(era) as (_, upstream):
        before = len(upstream.tools)
        with anyio.fail_after(10):
            while len(upstream.tools) == before:
                await upstream.send(a_call("grows"))
        assert upstream.tools[-1]["name"].startswith("grown-")


@ERAS
async def test_a_cancel_reaches_the_upstream(era: str) -> None:
    """A modern one is told by closing the stream, so that its outcome stays unknown; a legacy one gets a message."""
    async with sdk_over_http(era) as (tools, upstream):
        send = a_call("waits")
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_expects_an_end, upstream, send)
                await tools.waiting.wait()
                await upstream.cancel(send.call_id)
            while "waits: cancelled" not in tools.calls:
                await upstream.send(a_call("echo", '{"text":"x"}'))
        assert upstream.state == "ready"


async def _expects_an_end(upstream: Upstream, send: Any) -> None:
    with pytest.raises((OutcomeUnknown, UpstreamRefused)):
        await upstream.send(send)


async def test_headers_carry_resolved_secrets_and_nothing_is_taken_from_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The config's headers go with every message; proxies and credentials of the environment do not count."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with raw_over_http(Authorization="Bearer ${env:TOKEN}") as (app, upstream):
        await upstream.send(a_call("echo"))
        assert {sent["authorization"] for sent in app.headers} == {"Bearer t0k3n"}
        assert {sent["mcp-session-id"] for sent in app.headers[2:]} == {"s1"}
        assert {sent["mcp-protocol-version"] for sent in app.headers[2:]} == {"2025-11-25"}
    assert app.deleted == ["s1"]


@pytest.mark.promise("R5")
@pytest.mark.parametrize(
    ("tool", "why"),
    [
        ("http-500", "HTTP 500"),
        ("http-504", "HTTP 504"),
        ("http-408", "HTTP 408"),
        ("accepted", "HTTP 202"),
        ("page", "`text/plain`"),
        ("nan", "a number that JSON does not have"),
        ("huge", "more than 16777216 bytes"),
        ("not-json", "not JSON"),
        ("packed", "packed, which was not asked for"),
        ("other-id", "another request"),
        ("ends", "its event stream ended"),
        ("huge-event", "byte limit"),
        ("breaks", "lost before it answered"),
    ],
)
async def test_an_unusable_answer_leaves_the_outcome_unknown(tool: str, why: str) -> None:
    """It may have run; it is not sent again, and the connection lives on."""
    async with raw_over_http() as (app, upstream):
        with pytest.raises(OutcomeUnknown) as caught, anyio.fail_after(10):
            await upstream.send(a_call(tool))
        assert why in caught.value.message
        assert (await upstream.send(a_call("echo")))["content"]
        assert app.calls == [tool, "echo"]


@pytest.mark.promise("R3")
@pytest.mark.parametrize(
    ("tool", "why"),
    [
        ("http-401", "HTTP 401: it wants other credentials"),
        ("http-403", "HTTP 403"),
        ("http-429", "HTTP 429"),
        ("refused", "bad"),
        ("redirect", "redirects to `/mcp`"),
        ("elsewhere", "redirects to `http://127.0.0.1:9/mcp`, which is not followed"),
    ],
)
async def test_a_refusal_is_final(tool: str, why: str) -> None:
    """The upstream did not take the call; it is not sent a second time, also not where it was redirected to."""
    async with raw_over_http() as (app, upstream):
        with pytest.raises(UpstreamRefused) as caught:
            await upstream.send(a_call(tool))
        assert why in caught.value.message
        assert "secret" not in caught.value.message
        assert app.calls == [tool]


async def test_odd_events_are_skipped_and_questions_refused() -> None:
    """Comments, garbage and answers to others pass by; a question gets an error, a ping its answer."""
    async with raw_over_http() as (app, upstream):
        assert (await upstream.send(a_call("odd-events", a=1)))["structuredContent"] == {"meta": {"a": 1}}
        with pytest.raises(UpstreamRefused, match=r"^needs input: .*`elicitation/create`.*no answer"):
            await upstream.send(a_call("asks"))
        with anyio.fail_after(10):
            while len(app.replies) < 2:
                await upstream.send(a_call("echo"))
        by_id = {reply["id"]: reply for reply in app.replies}
        assert by_id[7]["error"]["code"] == -32600
        assert by_id[8]["result"] == {}


async def test_an_event_that_nobody_asked_for_is_not_read_if_it_is_large(caplog: pytest.LogCaptureFixture) -> None:
    """No announcement is of that size; the answer after it counts."""
    async with raw_over_http() as (_, upstream):
        assert (await upstream.send(a_call("unasked")))["content"]
    assert "that nobody asked for: it was skipped" in caplog.text


async def test_a_stream_that_breaks_on_purpose_is_picked_up_again() -> None:
    """Legacy upstreams may close the stream and go on with the answer: we read on and send nothing again."""
    async with raw_over_http() as (app, upstream):
        with anyio.fail_after(10):
            assert (await upstream.send(a_call("later")))["structuredContent"] == {"resumed": True}
        assert app.calls == ["later"]


async def test_a_session_that_ended_is_begun_again() -> None:
    """The refused call is not sent again; the next one finds a new session."""
    async with raw_over_http() as (app, upstream):
        app.sessions_end = True
        with pytest.raises(UpstreamRefused, match="HTTP 404"):
            await upstream.send(a_call("echo"))
        assert (upstream.state, upstream.detail) == ("down", "it ended the session")
        app.sessions_end = False
        await until(upstream, lambda: upstream.state == "ready")
        await upstream.send(a_call("second"))
        assert app.calls == ["echo", "second"]


async def test_a_change_announced_on_its_own_stream_is_heard() -> None:
    """The stream that a legacy upstream keeps open for announcements is listened to."""
    async with raw_over_http() as (app, upstream):
        app.tools = [*app.tools, {"name": "new", "inputSchema": {"type": "object"}}]
        app.announce()
        await until(upstream, lambda: len(upstream.tools) == 2)


async def test_one_call_that_breaks_costs_the_others_nothing() -> None:
    """Another call that runs at the same time gets its answer."""
    async with raw_over_http() as (app, upstream):
        send = a_call("waits")
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_expects_cancellation, upstream, send)
                await app.waiting.wait()
                with pytest.raises(OutcomeUnknown):
                    await upstream.send(a_call("breaks"))
                assert (await upstream.send(a_call("echo")))["content"]
                assert upstream.has_sent(send.call_id)
                tasks.cancel_scope.cancel()
        with anyio.fail_after(10):
            while f"cancelled {send.call_id}" not in app.calls:
                await upstream.send(a_call("echo"))


async def _expects_cancellation(upstream: Upstream, send: Any) -> None:
    with pytest.raises(anyio.get_cancelled_exc_class()):
        await upstream.send(send)
    await anyio.lowlevel.checkpoint()


async def test_an_upstream_that_is_away_is_down_until_it_is_back() -> None:
    """Nobody listens: calls are certainly not sent. Once it listens, it is ready."""
    app = RawApp()
    async with serving(app.app) as address:
        port = int(address.rpartition(":")[2])
    async with running(UpstreamConfig("web", url=f"http://127.0.0.1:{port}/mcp")) as upstreams:
        upstream = upstreams.all()[0]
        assert upstream.state == "down"
        assert upstream.detail.startswith("it cannot be reached: ")
        with pytest.raises(NotSent, match="upstream `web` is down: it cannot be reached"):
            await upstream.send(a_call("echo"))
        assert app.calls == []
        async with serving(app.app, port):
            await until(upstream, lambda: upstream.state == "ready")
            assert (await upstream.send(a_call("echo")))["content"]
            app.close()
        # It went away without a word; the first call finds out, and is certainly not sent.
        with pytest.raises((NotSent, OutcomeUnknown)):
            await upstream.send(a_call("echo"))
        await until(upstream, lambda: upstream.state == "down")
    assert app.calls.count("echo") == 1


async def test_arguments_named_in_headers_are_mirrored() -> None:
    """`x-mcp-header` of a modern upstream: the server compares header and body, and finds them the same."""
    async with sdk_over_http("modern") as (tools, upstream):
        await upstream.send(a_call("echo", json.dumps({"text": "a\nb"}, separators=(",", ":"))))
        assert tools.calls == ["echo"]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (UpstreamConfig("web", url="ftp://127.0.0.1/mcp"), "`ftp://127.0.0.1/mcp` is not an http address"),
        (UpstreamConfig("web", url="${env:TOKEN}"), "`${env:TOKEN}` is not an http address"),
        (UpstreamConfig("web", url="http://127.0.0.1:9/mcp", headers={"X": "${env:LINES}"}), "the header `X` cannot"),
        (UpstreamConfig("web", url="http://127.0.0.1:9/mcp", headers={"a b": "x"}), "the header `a b` cannot"),
        (UpstreamConfig("web", url="http://127.0.0.1:9/mcp", headers={"X": "${env:NONE}"}), "${env:NONE}"),
    ],
)
async def test_what_cannot_be_sent_is_named_without_its_secret(config: UpstreamConfig, why: str) -> None:
    """An address or header that is none keeps the upstream down, and what it contained is not repeated."""
    async with running(config, variables={"TOKEN": "hush-hush", "LINES": "hush-hush\nmore"}) as upstreams:
        upstream = upstreams.all()[0]
        assert upstream.state == "down"
        assert why in upstream.detail
        assert "hush" not in upstream.detail
