"""Nothing of an upstream is left behind, whatever it started and however the gateway, the program or both end."""

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
from hitl_mcp.errors import OutcomeUnknown
from tests.upstreams.stage import a_call, gone, one, raw, running, until

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has subreapers")

WRAPPER = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"


def wrapped(*options: str) -> UpstreamConfig:
    """The server behind a program that only starts it, as `npx` does, and waits for it."""
    config = raw("raw", *options)
    return UpstreamConfig(
        "raw", command=sys.executable, args=("-I", "-S", "-c", WRAPPER, str(config.command), *config.args)
    )


async def _pid_of(upstream: object, tool: str) -> int:
    return int((await upstream.send(a_call(tool)))["structuredContent"]["pid"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("tool", ["pid", "grandchild", "escapes"])
async def test_a_killed_gateway_leaves_nothing_of_a_wrapped_upstream(tool: str) -> None:
    """Not the server that the wrapper started, nor what it started, nor what left its session and lost its parent."""
    gateway_code = f"""
        import anyio
        from tests.upstreams.stage import a_call, one
        from tests.upstreams.test_launcher import wrapped

        async def main():
            async with one(wrapped("--ignores-eof")) as upstream:
                print((await upstream.send(a_call("{tool}")))["structuredContent"]["pid"], flush=True)
                await anyio.sleep_forever()

        anyio.run(main)
    """
    command = [sys.executable, "-c", textwrap.dedent(gateway_code)]
    process = await anyio.open_process(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    async with process:
        assert process.stdout is not None
        with anyio.fail_after(20):
            left = int(await process.stdout.receive())
        os.kill(left, 0)
        process.send_signal(signal.SIGKILL)
        await gone(left)


async def test_leaving_stops_what_left_the_session() -> None:
    """A daemon that the upstream made, which ignores SIGTERM, ends with it."""
    async with one(wrapped()) as upstream:
        escaped = await _pid_of(upstream, "escapes")
    await gone(escaped)


async def test_what_a_program_started_ends_with_it() -> None:
    """It died by itself, and is started again: nothing of its former life runs beside it."""
    async with one(raw("raw")) as upstream:
        escaped, server = await _pid_of(upstream, "escapes"), await _pid_of(upstream, "pid")
        os.kill(server, signal.SIGKILL)
        await gone(escaped)
        await until(upstream, lambda: upstream.state == "ready")
        assert await _pid_of(upstream, "pid") != server


async def test_how_the_program_ended_is_told() -> None:
    """Its status or its signal, as if the gateway had started it."""
    async with one(raw("raw")) as upstream:
        os.kill(await _pid_of(upstream, "pid"), signal.SIGKILL)
        await until(upstream, lambda: upstream.state == "down")
        assert upstream.detail == "it was ended by SIGKILL"
        await until(upstream, lambda: upstream.state == "ready")
        with pytest.raises(OutcomeUnknown, match="it exited with status 5"):
            await upstream.send(a_call("half"))


async def test_a_file_that_is_no_program_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is executable, and the kernel does not know how to run it."""
    caplog.set_level("INFO", "hitl_mcp")
    (tmp_path / "server").write_bytes(b"\x00\x01")
    (tmp_path / "server").chmod(0o700)
    async with running(UpstreamConfig("odd", command=str(tmp_path / "server"))) as upstreams:
        assert upstreams.all()[0].detail == "it exited with status 127"
    assert "cannot run" in caplog.text
