"""The state directory: where it is, who may read it, and that there is one gateway for it at a time."""

from __future__ import annotations

import hashlib
import os
import pwd
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hitl_mcp.errors import StateDirectoryError
from hitl_mcp.state_dir import RunningGateway, StateDir, bind_private_socket


@pytest.fixture
def config(short_dir: Path) -> Path:
    path = short_dir / "hitl.yaml"
    path.write_text("{}\n")
    return path


@pytest.fixture
def state(short_dir: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    monkeypatch.setenv("HITL_MCP_HOME", str(short_dir / "home"))
    return StateDir.for_config(config)


def reached(state: StateDir, **other: str) -> RunningGateway:
    sockets = {"agent_socket": state.file("agent.sock"), "control_socket": state.file("control.sock"), **other}
    return RunningGateway(os.getpid(), "http://127.0.0.1:1", None, config=state.config, **sockets)


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


# -- where it is


def test_the_directory_is_in_the_home_of_the_password_database(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients strip and change environments; neither `$HOME` nor an XDG variable moves the directory."""
    monkeypatch.delenv("HITL_MCP_HOME", raising=False)
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.setenv("XDG_STATE_HOME", "/nowhere/state")
    digest = hashlib.sha256(os.fsencode(config)).hexdigest()[:12]
    home = pwd.getpwuid(os.getuid()).pw_dir
    assert StateDir.for_config(config).path == f"{home}/.local/state/hitl-mcp/{digest}"


def test_two_names_of_one_config_share_a_directory(
    state: StateDir, config: Path, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is chosen by the real path: a link and a relative name mean the same gateway."""
    link = short_dir / "link.yaml"
    link.symlink_to(config)
    monkeypatch.chdir(short_dir)
    assert StateDir.for_config(link).path == StateDir.for_config("hitl.yaml").path == state.path
    assert StateDir.for_config(link).config == str(config)


def test_two_configs_under_one_named_home_get_two_directories(state: StateDir, short_dir: Path) -> None:
    """`$HITL_MCP_HOME` holds the directories, one for each config; it is not itself one."""
    other = StateDir.for_config(short_dir / "other.yaml")
    assert os.path.dirname(other.path) == os.path.dirname(state.path) == str(short_dir / "home")
    assert other.path != state.path


def test_a_relative_named_home_is_refused(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would mean another directory for each working directory, and so two gateways for one config."""
    monkeypatch.setenv("HITL_MCP_HOME", "state")
    with pytest.raises(StateDirectoryError, match="not an absolute path `state`"):
        StateDir.for_config(config)


# -- who may read it


def test_the_directory_is_made_for_its_owner_alone(state: StateDir) -> None:
    """It and the directory around it are 0700, and making it twice is fine."""
    state.ensure()
    state.ensure()
    assert mode(state.path) == mode(os.path.dirname(state.path)) == 0o700


@pytest.mark.parametrize("wide", [0o750, 0o701, 0o720])
def test_a_directory_that_is_open_to_others_is_refused(state: StateDir, wide: int) -> None:
    """The refusal names the command that repairs it, and repairs nothing by itself."""
    state.ensure()
    os.chmod(state.path, wide)
    with pytest.raises(StateDirectoryError, match="open to others") as refused:
        state.ensure_directory()
    assert refused.value.help == f"close it: `chmod 700 {state.path}`"
    assert mode(state.path) == wide


@pytest.mark.parametrize("wide", [0o640, 0o604, 0o620])
def test_a_file_that_is_open_to_others_is_refused(state: StateDir, wide: int) -> None:
    """Every file counts, not only those we know: a copied database is as secret as the database."""
    state.ensure()
    copy = Path(state.file("copy of hitl.db"))
    copy.touch(0o600)
    state.ensure()
    copy.chmod(wide)
    with pytest.raises(StateDirectoryError, match="open to others") as refused:
        state.ensure()
    assert refused.value.help == f"close it: `chmod 600 '{copy}'`"
    assert mode(copy) == wide


def test_a_link_in_place_of_the_directory_is_refused(state: StateDir, short_dir: Path) -> None:
    """Even one to a private directory of our own: who made the link can point it elsewhere later."""
    elsewhere = short_dir / "elsewhere"
    elsewhere.mkdir(0o700)
    os.mkdir(os.path.dirname(state.path), 0o700)
    os.symlink(elsewhere, state.path)
    with pytest.raises(StateDirectoryError, match="symbolic link"):
        state.ensure_directory()
    assert not list(elsewhere.iterdir())


def test_a_link_in_place_of_a_file_is_refused(state: StateDir, short_dir: Path) -> None:
    """Neither read as ours nor written through."""
    state.ensure()
    target = short_dir / "target"
    target.touch(0o600)
    os.symlink(target, state.file("gateway.lock"))
    with pytest.raises(StateDirectoryError, match="symbolic link"):
        state.ensure()
    with pytest.raises(OSError, match="symbolic links"):
        state.acquire_gateway_lock()
    assert target.read_bytes() == b""


def test_a_file_in_place_of_the_directory_is_refused(state: StateDir) -> None:
    """It says so, instead of failing at the first file."""
    os.mkdir(os.path.dirname(state.path), 0o700)
    Path(state.path).touch(0o600)
    with pytest.raises(StateDirectoryError, match="not a directory"):
        state.ensure_directory()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory to someone else")
def test_a_directory_of_someone_else_is_refused(state: StateDir) -> None:
    """Whoever owns it can read it at any time, whatever its mode says now."""
    state.ensure()
    os.chown(state.path, 4242, 4242)
    with pytest.raises(StateDirectoryError, match="belongs to user 4242"):
        state.ensure_directory()


def test_every_file_made_here_is_for_its_owner_alone(state: StateDir) -> None:
    """Locks, the marker, `gateway.json` and sockets are 0600 under the widest umask."""
    before = os.umask(0)
    try:
        state.ensure()
        with state.acquire_gateway_lock(), state.start_lock() or pytest.fail("the start lock is free"):
            listener = bind_private_socket(state.prepare_socket_paths()[0])
            state.write_gateway(reached(state))
            state.mark_stopped()
            names = sorted(os.listdir(state.path))
            assert names == ["agent.sock", "gateway.json", "gateway.lock", "start.lock", "stopped"]
            assert {mode(state.file(name)) for name in names} == {0o600}
            listener.close()
    finally:
        os.umask(before)


# -- one gateway


def test_a_second_gateway_is_refused_and_told_of_the_first(state: StateDir) -> None:
    """The first keeps its lock and what it told the others."""
    state.ensure()
    with state.acquire_gateway_lock():
        state.write_gateway(reached(state))
        with pytest.raises(StateDirectoryError, match=f"is running: process {os.getpid()}"):
            state.acquire_gateway_lock()
        assert state.read_gateway() is not None


def test_asking_whether_one_runs_keeps_no_gateway_from_starting(state: StateDir) -> None:
    """Those who ask share the lock, so they neither take each other for a gateway nor leave it held."""
    state.ensure()
    assert not state.gateway_is_running()
    lock = state.acquire_gateway_lock()
    assert state.gateway_is_running()
    lock.release()
    assert not state.gateway_is_running()


def test_what_a_dead_gateway_left_written_is_not_believed(state: StateDir) -> None:
    """`gateway.json` counts only while its writer's lock is held; the next gateway clears it away."""
    state.ensure()
    script = (
        "import os, sys; from hitl_mcp.state_dir import *\n"
        "state = StateDir.for_config(sys.argv[1]); lock = state.acquire_gateway_lock()\n"
        "paths = state.prepare_socket_paths(); listener = bind_private_socket(paths[0])\n"
        "state.write_gateway(RunningGateway(os.getpid(), 'http://x', None, *paths, state.config))\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, state.config], check=False)
    assert os.path.exists(state.file("gateway.json"))
    assert state.read_gateway() is None
    with state.acquire_gateway_lock():
        assert state.read_gateway() is None
        assert not os.path.exists(state.file("agent.sock"))


def test_what_is_written_is_read_again(state: StateDir) -> None:
    """Each field comes back as it went in, and is gone once the gateway takes it back."""
    state.ensure()
    with state.acquire_gateway_lock():
        state.write_gateway(reached(state))
        found = state.read_gateway()
        assert found is not None
        assert found.as_dict() == reached(state).as_dict()
        state.clear_gateway()
        assert state.read_gateway() is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": true}', '{"pid": 1, "url": 2}'])
def test_a_broken_gateway_file_means_no_gateway(state: StateDir, content: str) -> None:
    """Whoever reads it never fails on what it holds."""
    state.ensure()
    with state.acquire_gateway_lock():
        Path(state.file("gateway.json")).write_text(content)
        assert state.read_gateway() is None


def test_the_start_lock_is_had_by_one_at_a_time(state: StateDir) -> None:
    """Whoever does not get it is told at once, and gets it when it is free again."""
    state.ensure()
    first = state.start_lock()
    assert first is not None
    assert state.start_lock() is None
    first.release()
    second = state.start_lock(wait_seconds=1)
    assert second is not None
    second.release()


def test_the_marker_of_a_stop_stays_until_it_is_cleared(state: StateDir) -> None:
    """Setting and clearing it twice is fine."""
    state.ensure()
    assert not state.is_stopped()
    state.mark_stopped()
    state.mark_stopped()
    assert state.is_stopped()
    state.clear_stopped()
    state.clear_stopped()
    assert not state.is_stopped()


# -- sockets


def test_a_socket_that_a_dead_gateway_left_is_replaced(state: StateDir) -> None:
    """Binding does not fail on it, and connections reach the new one."""
    state.ensure()
    path, _ = state.prepare_socket_paths()
    bind_private_socket(path).close()
    with bind_private_socket(path) as listener, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        accepted, _ = listener.accept()
        accepted.close()


def test_a_file_in_place_of_a_socket_is_kept(state: StateDir) -> None:
    """Binding is refused; what lies there is someone's and stays."""
    state.ensure()
    path = Path(state.prepare_socket_paths()[0])
    path.write_text("mine")
    path.chmod(0o600)
    with pytest.raises(StateDirectoryError, match="cannot be bound"):
        bind_private_socket(str(path))
    assert path.read_text() == "mine"


def test_no_socket_is_bound_where_others_could_replace_it(state: StateDir) -> None:
    """The directory of a socket is as private as the socket."""
    state.ensure()
    os.chmod(state.path, 0o770)
    with pytest.raises(StateDirectoryError, match="open to others"):
        bind_private_socket(state.file("agent.sock"))
    assert not os.path.exists(state.file("agent.sock"))


def test_a_long_path_moves_the_sockets_to_a_short_private_directory(
    short_dir: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gateway.json` says where they are; they go when the gateway goes, and after a crash with the next one."""
    monkeypatch.setenv("HITL_MCP_HOME", str(short_dir / ("long" * 25)))
    state = StateDir.for_config(config)
    state.ensure()
    lock = state.acquire_gateway_lock()
    agent_socket, control_socket = state.prepare_socket_paths()
    directory = os.path.dirname(agent_socket)
    assert len(agent_socket) < 100
    assert directory == os.path.dirname(control_socket) != state.path
    assert mode(directory) == 0o700
    bind_private_socket(agent_socket).close()
    state.write_gateway(reached(state, agent_socket=agent_socket, control_socket=control_socket))
    lock.release()  # as if it had crashed: nothing was cleared
    with state.acquire_gateway_lock():
        assert not os.path.exists(directory)
