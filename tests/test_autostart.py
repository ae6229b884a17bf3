"""`hitl-mcp stdio` as a process: how it finds or starts a gateway, when it does not, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from hitl_mcp.state_dir import StateDir
from tests.wire import Gateway, client

pytestmark = pytest.mark.anyio

SERVE = """
import json, os, signal, socket, sys, threading
from hitl_mcp.state_dir import RunningGateway, StateDir, bind_private_socket
signal.alarm(60)  # no test leaves one behind
state = StateDir.for_config(sys.argv[1])
with open(sys.argv[2], "a") as starts:
    starts.write(f"{os.getpid()}\\n")
lock = state.acquire_gateway_lock()
paths = state.prepare_socket_paths()
listener = bind_private_socket(paths[0])
listener.setblocking(True)
state.write_gateway(RunningGateway(os.getpid(), "http://x", None, *paths, state.config))
facts = {"pid": os.getpid(), "session": os.getsid(0), "parent": os.getppid(), "stdin": os.read(0, 1).decode(),
         "directory": os.getcwd(), "given": os.environ.get("GIVEN"), "stray": os.path.exists("/proc/self/fd/7")}

def serve(connection):
    with connection, connection.makefile("rwb", buffering=0) as file:
        file.readline()
        file.write(b'{"hitl": 1, "ok": true}\\n')
        for line in file:
            asked = json.loads(line)
            if "id" in asked:
                answer = {"jsonrpc": "2.0", "id": asked["id"], "result": facts}
                file.write(json.dumps(answer).encode() + b"\\n")

while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
"""


@pytest.fixture
def state(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    monkeypatch.setenv("HITL_MCP_HOME", str(short_dir / "home"))
    (short_dir / "hitl.yaml").write_text("{}\n")
    return StateDir.for_config(short_dir / "hitl.yaml")


@pytest.fixture
def serve_command(state: StateDir, short_dir: Path) -> Iterator[list[str]]:
    """A command that serves as a gateway would; what it started is ended after the test."""
    script = short_dir / "serve.py"
    script.write_text(SERVE)
    starts = short_dir / "starts"
    starts.touch()
    yield [sys.executable, str(script), state.config, str(starts)]
    for pid in starts.read_text().split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue


def write_private(path: str, text: str) -> None:
    Path(path).touch(0o600)
    Path(path).write_text(text)


def starts_of(command: list[str]) -> list[int]:
    return [int(pid) for pid in Path(command[-1]).read_text().split()]


async def test_bridges_that_race_start_one_gateway(state: StateDir, serve_command: list[str]) -> None:
    """Four at once: one starts it, the others wait for that one."""
    async with (
        client(state, command=serve_command) as one,
        client(state, command=serve_command) as two,
        client(state, command=serve_command) as three,
        client(state, command=serve_command) as four,
    ):
        agents = (one, two, three, four)
        for agent in agents:
            await agent.send("ping", 1)
        pids = {(await agent.read())["result"]["pid"] for agent in agents}
        assert pids == set(starts_of(serve_command))
        assert len(pids) == 1
        for agent in agents:
            assert await agent.ended() == (0, "")


async def test_a_started_gateway_is_detached(state: StateDir, short_dir: Path, serve_command: list[str]) -> None:
    """A session of its own, not the bridge's child, nothing on stdin, the environment passed on, its log private."""
    async with client(state, command=serve_command, GIVEN="yes") as agent:
        await agent.send("ping", 1)
        facts = (await agent.read())["result"]
        assert facts["session"] not in {os.getsid(0), agent.process.pid}
        assert facts["parent"] != agent.process.pid
        assert facts["stdin"] == ""
        assert facts["given"] == "yes"
        assert facts["directory"] == str(short_dir)
        assert not facts["stray"]
        assert os.stat(state.log_path).st_mode & 0o777 == 0o600
        assert await agent.ended() == (0, "")
    os.kill(facts["pid"], 0)  # it outlives the bridge


async def test_a_killed_gateway_is_started_again_under_a_live_agent(state: StateDir, serve_command: list[str]) -> None:
    """The handshake is repeated, unheard, and the next request is answered."""
    async with client(state, command=serve_command) as agent:
        await agent.send("initialize", 1)
        first = (await agent.read())["result"]["pid"]
        await agent.send("notifications/initialized")
        os.kill(first, signal.SIGKILL)
        await agent.send("tools/list", 2)
        answer = await agent.read()
        assert answer["id"] == 2
        assert answer["result"]["pid"] == starts_of(serve_command)[-1] != first
        assert len(starts_of(serve_command)) == 2


async def test_a_stopped_gateway_is_not_started(state: StateDir, serve_command: list[str]) -> None:
    """The client is told who stopped it and how it is started; when it is back, the same bridge goes on."""
    state.ensure()
    state.mark_stopped()
    async with client(state, command=serve_command) as agent:
        for id in (1, 2):
            await agent.send("tools/call", id, name="x")
            error = await agent.error()
            assert "stopped by its operator" in error
            assert f"hitl-mcp serve --config {state.config}" in error
        assert starts_of(serve_command) == []
        state.clear_stopped()
        async with Gateway(state, None) as gateway:
            await agent.send("ping", 3)
            connection = await gateway.connection()
            await connection.answer(await connection.read())
            assert (await agent.read())["id"] == 3
            code, said = await agent.ended()
        assert code == 0
        assert said.count("stopped by its operator") == 1


async def test_a_gateway_that_is_stopped_under_an_agent_stays_stopped(
    state: StateDir, serve_command: list[str]
) -> None:
    """The bridge notices the end of its connection and does not undo what the operator did."""
    async with client(state, command=serve_command) as agent:
        async with Gateway(state, None) as gateway:
            await gateway.connection()
            state.mark_stopped()
        await agent.send("tools/list", 1)
        assert "stopped by its operator" in await agent.error()
        assert starts_of(serve_command) == []


async def test_a_bridge_without_a_request_finds_the_gateway_that_came_back(state: StateDir) -> None:
    """Subscriptions would be silent otherwise until the client happens to ask for something."""
    state.ensure()
    state.mark_stopped()
    async with client(state) as agent:
        await agent.send("ping", 1)
        assert "stopped" in await agent.error()
        async with Gateway(state, None) as gateway:
            assert (await gateway.connection()).greeting["agent"] == "builder"


async def test_why_a_gateway_could_not_start_is_told_to_the_client(state: StateDir) -> None:
    """What it printed reaches the client and stderr; what earlier starts printed does not."""
    state.ensure()
    write_private(state.log_path, "an earlier start\n")
    complaint = "hitl.yaml:3:1: unknown key `upstream`\n  help: did you mean `upstreams`?"
    command = [sys.executable, "-c", f"import sys; sys.exit({complaint!r})"]
    async with client(state, command=command) as agent:
        await agent.send("initialize", 1)
        error = await agent.error()
        assert error == f"the gateway could not start, so nothing was sent and nothing ran:\n{complaint}"
        code, said = await agent.ended()
        assert code == 2
        assert said == f"hitl-mcp stdio: {error}\n"


async def test_a_start_is_tried_again_with_the_next_request(
    state: StateDir, short_dir: Path, serve_command: list[str]
) -> None:
    """The operator repairs the config; the client need not be restarted for that."""
    broken = short_dir / "broken"
    broken.touch()
    write_private(serve_command[1], f"import os, sys\nif os.path.exists({str(broken)!r}): sys.exit('broken')\n" + SERVE)
    async with client(state, command=serve_command) as agent:
        await agent.send("ping", 1)
        assert "broken" in await agent.error()
        broken.unlink()
        await agent.send("ping", 2)
        assert (await agent.read())["result"]["pid"] == starts_of(serve_command)[0]


async def test_a_command_that_cannot_be_run_is_named(state: StateDir) -> None:
    """It is reported like any failed start."""
    async with client(state, command=["/no/such/python"]) as agent:
        await agent.send("ping", 1)
        assert "cannot start `/no/such/python`" in await agent.error()


async def test_a_state_directory_that_is_open_to_others_is_told_to_the_client(
    state: StateDir, serve_command: list[str]
) -> None:
    """The repair stands in the answer, and nothing is started beside what others can read."""
    state.ensure()
    os.chmod(state.path, 0o750)
    async with client(state, command=serve_command) as agent:
        await agent.send("initialize", 1)
        assert f"chmod 700 {state.path}" in await agent.error()
        assert (await agent.ended())[0] == 2
    assert starts_of(serve_command) == []


async def test_a_config_that_is_not_there_is_named(state: StateDir) -> None:
    """No gateway is started for it, and no state directory made."""
    os.unlink(state.config)
    async with client(state) as agent:
        await agent.send("initialize", 1)
        assert f"config `{state.config}`: no such file" in await agent.error()
    assert not os.access(state.path, os.F_OK)


# -- its end


async def test_answers_in_flight_are_delivered_after_the_client_closed_stdin(state: StateDir) -> None:
    """`printf … | hitl-mcp stdio` gets its answer; then the bridge ends."""
    async with Gateway(state, None) as gateway, client(state) as agent:
        await agent.send("ping", 1)
        connection = await gateway.connection()
        asked = await connection.read()
        agent.stdin.close()
        await connection.answer(asked)
        assert (await agent.read())["id"] == 1
        assert await agent.ended() == (0, "")
        assert await connection.reader.read() == b""


async def test_a_client_that_is_gone_starts_no_gateway(state: StateDir, serve_command: list[str]) -> None:
    """A gateway that dies after the client left is not started again for nobody."""
    async with client(state, command=serve_command) as agent:
        async with Gateway(state, None) as gateway:
            await agent.send("tools/list", 1)
            await (await gateway.connection()).read()
            agent.stdin.close()
            await agent.stdin.wait_closed()
        assert await agent.process.wait() == 0
    assert starts_of(serve_command) == []


async def test_a_client_that_left_with_a_last_message_starts_no_gateway(
    state: StateDir, serve_command: list[str]
) -> None:
    """Its end stands behind that message in the pipe, and the gateway's end is seen as soon."""
    async with client(state, command=serve_command) as agent:
        async with Gateway(state, None) as gateway:
            await agent.send("tools/list", 1)
            await (await gateway.connection()).read()
            agent.process.send_signal(signal.SIGSTOP)
            await agent.send("notifications/initialized")
            agent.stdin.close()
            await agent.stdin.wait_closed()
        agent.process.send_signal(signal.SIGCONT)
        assert await agent.process.wait() == 0
    assert starts_of(serve_command) == []


async def test_a_terminated_bridge_ends_at_once(state: StateDir) -> None:
    """Whatever is in flight; the gateway goes on."""
    async with Gateway(state, None) as gateway, client(state) as agent:
        await agent.send("tools/call", 1, name="x")
        connection = await gateway.connection()
        await connection.read()
        agent.process.terminate()
        assert await agent.process.wait() == -signal.SIGTERM
        assert await connection.reader.read() == b""


# -- the command


def run_command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hitl_mcp", "stdio", *arguments]
    return subprocess.run(command, input="", capture_output=True, text=True, cwd=cwd, timeout=10, check=False)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--agent", "Builder"], "not a name `Builder`"),
        (["--agent=9"], "not a name `9`"),
        (["--agent", "a" * 41], "not a name"),
        (["--agent"], "no value for `--agent`"),
        (["--agents", "x"], "unknown option `--agents`"),
        (["hitl.yaml"], "unknown option `hitl.yaml`"),
    ],
)
def test_wrong_arguments_are_misuse(state: StateDir, arguments: list[str], complaint: str) -> None:
    """Exit code 2 and a usage line on stderr; stdout stays the protocol's, and nothing is made."""
    ended = run_command(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert complaint in ended.stderr
    assert "usage: hitl-mcp stdio" in ended.stderr
    assert not os.path.exists(os.path.dirname(state.path))


async def test_the_command_takes_hitl_yaml_of_the_working_directory(state: StateDir, short_dir: Path) -> None:
    """And the agent's name is `agent` where none is given."""
    async with Gateway(state, None) as gateway:
        ended = await anyio.to_thread.run_sync(lambda: run_command(cwd=short_dir))
        greeting = (await gateway.connection()).greeting
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        assert (greeting["config"], greeting["agent"]) == (state.config, "agent")


def test_the_bridge_imports_nothing_slow() -> None:
    """A client waits for each start: what costs milliseconds to import is not on the way to the first byte."""
    script = textwrap.dedent("""
        import sys
        before = set(sys.modules)
        import hitl_mcp.command, hitl_mcp.bridge
        print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))
        print(*sorted(name for name in sys.modules if name.startswith("hitl_mcp.")))
        print(*sorted({"asyncio", "argparse", "dataclasses", "pathlib", "subprocess", "tempfile", "threading",
                       "typing", "inspect", "logging", "shlex", "contextlib"} & (set(sys.modules) - before)))
    """)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    others, ours, slow = ended.stdout.split("\n")[:3]
    assert others == "hitl_mcp"
    assert ours.split() == [
        f"hitl_mcp.{name}" for name in ("autostart", "bridge", "bridge_frames", "command", "limits", "state_dir")
    ]
    assert slow == ""
