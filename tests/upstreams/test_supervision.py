"""Upstreams that are not there, die, come back, or must not outlive the gateway; none costs another anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import pytest

from hitl_mcp.config import UpstreamConfig
from hitl_mcp.errors import NotSent, OutcomeUnknown
from hitl_mcp.secrets import Secrets
from hitl_mcp.upstreams import Upstreams
from tests.upstreams.stage import a_call, gone, lines, one, raw, running, until

ROOT = Path(__file__).resolve().parents[2]


async def test_a_missing_command_is_named_and_costs_the_others_nothing() -> None:
    """It is down from the start, says which command it wants, and the other upstream answers."""
    missing = UpstreamConfig("lost", command="no-such-command-anywhere", args=("-y",))
    async with running(missing, raw("raw")) as upstreams:
        lost, there = upstreams.all()
        assert lost.state == "down"
        assert "the command `no-such-command-anywhere` is not on the gateway's PATH" in lost.detail
        with pytest.raises(NotSent, match="upstream `lost` is down: the command `no-such-command-anywhere`"):
            await lost.send(a_call("echo"))
        assert (await there.send(a_call("echo")))["content"]


@pytest.mark.parametrize("command", ["./no-such-file", "/no/such/file", __file__])
async def test_a_path_that_cannot_be_run_is_named(command: str) -> None:
    """A path that leads nowhere, or to a file that is not executable."""
    async with running(UpstreamConfig("lost", command=command)) as upstreams:
        assert f"the command `{command}` is not an executable file" in upstreams.all()[0].detail


async def test_a_relative_command_starts_from_the_given_directory(tmp_path: Path) -> None:
    """Relative paths mean the same whoever starts the gateway."""
    script = tmp_path / "server"
    script.write_text(f"#!{sys.executable}\n" + (ROOT / "tests/upstreams/servers/raw_server.py").read_text())
    script.chmod(0o700)
    config = UpstreamConfig("here", command="./server")
    async with Upstreams({"here": config}, _no_secrets(), directory=tmp_path) as upstreams:
        with anyio.fail_after(10):
            await upstreams.settled()
        assert upstreams.all()[0].state == "ready", upstreams.all()[0].detail


async def test_an_unresolved_secret_is_named_and_no_value_is() -> None:
    """The reference stands in `detail` and in the error of a call; nothing is started with a hole in it."""
    config = raw("raw", env={"TOKEN": "${env:TOKEN_THAT_IS_NOT_SET}", "OTHER": "${env:THERE}"})
    async with running(config, variables={"THERE": "hush-hush"}) as upstreams:
        upstream = upstreams.all()[0]
        assert upstream.state == "down"
        assert "${env:TOKEN_THAT_IS_NOT_SET}" in upstream.detail
        assert "hush-hush" not in upstream.detail
        with pytest.raises(NotSent, match=r"\$\{env:TOKEN_THAT_IS_NOT_SET\}"):
            await upstream.send(a_call("echo"))


async def test_a_nul_in_the_environment_is_named_without_its_value() -> None:
    """Nothing is started, and the secret is not repeated."""
    async with running(raw("raw", env={"KEY": "${env:KEY}"}), variables={"KEY": "hush\x00hush"}) as upstreams:
        detail = upstreams.all()[0].detail
        assert "cannot be started: its arguments or environment hold a NUL character" in detail
        assert "hush" not in detail


async def test_a_program_that_ends_at_once_is_down_with_its_status() -> None:
    """What it said about it is in our log, not in what agents are told."""
    config = UpstreamConfig("brief", command=sys.executable, args=("-c", "import sys; sys.exit('my secret words')"))
    async with running(config) as upstreams:
        upstream = upstreams.all()[0]
        assert (upstream.state, upstream.detail) == ("down", "it exited with status 1")


async def test_a_program_that_is_no_mcp_server_is_down(caplog: pytest.LogCaptureFixture) -> None:
    """It answers nothing that makes sense, and then ends: the lines it wrote are skipped and logged."""
    config = UpstreamConfig("printer", command=sys.executable, args=("-c", "print('hello'); input()"))
    async with running(config) as upstreams:
        assert upstreams.all()[0].state == "down"
    assert "upstream `printer`: a line was skipped, not JSON" in caplog.text
    assert "hello" in caplog.text


async def test_an_upstream_that_dies_of_an_early_question_is_asked_the_old_way() -> None:
    """Some servers end when anything comes before the handshake: the second attempt begins with it."""
    async with running(raw("raw", "--dies-of-discover")) as upstreams:
        upstream = upstreams.all()[0]
        assert upstream.detail == "it exited with status 4"
        await until(upstream, lambda: upstream.state == "ready")
        assert (await upstream.send(a_call("echo")))["content"]


async def test_a_listing_without_end_is_cut(tmp_path: Path) -> None:
    """An upstream whose cursor never ends is read so far, and what was left out is reported."""
    async with one(raw("raw", "--endless-list")) as upstream:
        assert 0 < len(upstream.tools) <= 1000
        assert "the rest is left out" in upstream.warnings[0]


async def test_changes_are_told_once_each() -> None:
    """Whoever follows an upstream hears of every change of its state."""
    states: list[tuple[str, str]] = []
    upstreams = Upstreams({"raw": raw("raw")}, _no_secrets())
    upstream = upstreams.all()[0]
    upstreams.on_change(lambda: states.append((upstream.state, upstream.detail)))
    async with upstreams:
        with anyio.fail_after(10):
            await upstreams.settled()
        with pytest.raises(OutcomeUnknown, match="exited"):
            await upstream.send(a_call("half"))
        await until(upstream, lambda: upstream.state == "ready")
    assert states == [("ready", ""), ("down", "it exited with status 5"), ("ready", "")]


async def test_leaving_stops_the_child_and_what_it_started() -> None:
    """First its input closes; a grandchild that ignores SIGTERM gets SIGKILL."""
    async with one(raw("raw")) as upstream:
        child = (await upstream.send(a_call("pid")))["structuredContent"]
        grandchild = (await upstream.send(a_call("grandchild")))["structuredContent"]["pid"]
        assert child["group"] == child["pid"] != os.getpgid(0)
    await gone(child["pid"])
    await gone(grandchild)


async def test_leaving_stops_a_child_that_ignores_its_closed_input() -> None:
    """After 2 s it gets SIGTERM."""
    async with one(raw("raw", "--ignores-eof")) as upstream:
        child = (await upstream.send(a_call("pid")))["structuredContent"]["pid"]
    await gone(child)


async def test_a_child_dies_with_a_killed_gateway() -> None:
    """`kill -9` of the gateway leaves no child behind, not even one that does not read its input's end."""
    gateway_code = """
        import sys
        import anyio
        from tests.upstreams.stage import a_call, one, raw

        async def main():
            async with one(raw("raw", "--ignores-eof")) as upstream:
                print((await upstream.send(a_call("pid")))["structuredContent"]["pid"], flush=True)
                await anyio.sleep_forever()

        anyio.run(main)
    """
    process = await anyio.open_process(
        [sys.executable, "-c", textwrap.dedent(gateway_code)], cwd=ROOT, stderr=subprocess.PIPE
    )
    async with process:
        assert process.stdout is not None
        with anyio.fail_after(20):
            child = int(await process.stdout.receive())
        os.kill(child, 0)
        process.send_signal(signal.SIGKILL)
        await gone(child)


async def test_upstreams_are_known_by_what_is_started_not_by_secrets() -> None:
    """The fingerprint changes with command, arguments and address, and with nothing else."""

    def fingerprint(config: UpstreamConfig) -> str:
        return Upstreams({config.name: config}, _no_secrets(), directory=Path("/srv")).all()[0].fingerprint

    config = UpstreamConfig("a", command="npx", args=("-y", "files"), env={"KEY": "1"}, labels={"env": "prod"})
    same = UpstreamConfig("b", command="npx", args=("-y", "files"), env={"KEY": "2"}, timeout_seconds=5)
    assert fingerprint(config) == fingerprint(same)
    others = [
        UpstreamConfig("a", command="npx", args=("-y", "other")),
        UpstreamConfig("a", command="npx", args=("-y files",)),
        UpstreamConfig("a", url="https://a.example/mcp"),
        UpstreamConfig("a", url="https://b.example/mcp", headers={"Authorization": "x"}),
    ]
    assert len({fingerprint(one) for one in (config, *others)}) == 5


async def test_nothing_is_sent_where_an_upstream_is_down(tmp_path: Path) -> None:
    """A call to an upstream that is down is refused, and reaches it neither then nor when it is back."""
    async with one(raw("raw", "--record", str(tmp_path / "calls"))) as upstream:
        with pytest.raises(OutcomeUnknown, match="exited"):
            await upstream.send(a_call("half"))
        with pytest.raises(NotSent):
            await upstream.send(a_call("echo"))
        await until(upstream, lambda: upstream.state == "ready")
        await upstream.send(a_call("second"))
    assert lines(tmp_path / "calls") == ["half", "second"]


@pytest.mark.parametrize("logs", ["taken", "refused"])
async def test_an_upstream_that_is_back_hears_again_from_which_level_its_log_is_wanted(
    tmp_path: Path, logs: str
) -> None:
    """It starts with a level of its own; one that refuses is used all the same."""
    async with one(raw("raw", "--record", str(tmp_path / "calls"), "--logs", logs)) as upstream:
        await upstream.set_log_level("error")
        with pytest.raises(OutcomeUnknown, match="exited"):
            await upstream.send(a_call("half"))
        await until(upstream, lambda: upstream.state == "ready")
        await upstream.send(a_call("second"))
        await upstream.set_log_level("info")
    assert lines(tmp_path / "calls") == ["logs error", "half", "logs error", "second", "logs info"]


async def test_an_upstream_that_keeps_no_log_is_told_of_no_level(tmp_path: Path) -> None:
    """It would not know what is meant."""
    async with one(raw("raw", "--record", str(tmp_path / "calls"))) as upstream:
        await upstream.set_log_level("error")
        await upstream.send(a_call("second"))
    assert lines(tmp_path / "calls") == ["second"]


def _no_secrets() -> Secrets:
    return Secrets({}, Path("/"))
