"""Servers that others wrote, and some that do not work, all behind one gateway: from npm, from PyPI, over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import SERVER_INFO_META_KEY, CallToolResult, Tool

from tests.gateways import WAIT_SECONDS, Desk, Site, site
from tests.needs import needed
from tests.stories.doors import AGENTS, EVERY_WAY, Progress, agent_at, into, said, structured
from tests.stories.servers import crm_server
from tests.upstreams import stage

pytestmark = [pytest.mark.needs("filesystem-server", "everything-server", "git")]

CRM_KEY = "the-crm-s-own-key"

ON_LOOPBACK = """data:text/javascript,
import net from "node:net";
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  this.once("listening", () => console.log("PORT " + this.address().port));
  return listen.call(this, { port: 0, host: "127.0.0.1" }, ...rest);
};"""
"""Loaded into Node before a server that would listen on every address, at a port that must be chosen for it."""

POLICY: dict[str, Any] = {
    "version": 1,
    "default": "hold",
    "rules": [
        {
            "id": "reads",
            "tool": [
                *(f"files__{name}" for name in ("read_text_file", "list_*", "search_files", "get_file_info")),
                *(f"git__git_{name}" for name in ("status", "log", "show")),
                *(f"everything__{name}" for name in ("echo", "get-*", "trigger-long-running-operation")),
                *("time__*", "crm__find_customer", "frail__*"),
            ],
            "effect": "allow",
            "reason": "reading changes nothing",
        },
    ],
}

BROKEN: dict[str, Any] = {
    "missing": {"command": "no-such-program-anywhere"},
    "keyless": {"command": sys.executable, "args": ["-c", ""], "env": {"KEY": "${env:HITL_TEST_NOT_SET}"}},
    "headless": {"url": "http://127.0.0.1:9/mcp", "headers": {"X-Key": "${env:HITL_TEST_NOT_SET_EITHER}"}},
}
"""Upstreams that can never start, and what of each must be named to whoever looks for it."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """What the servers work on: a shared folder, a repository, and their own small files."""
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name:
        made = Path(name).resolve()
        (made / "shared").mkdir()
        (made / "shared" / "notes.txt").write_text("żółw ☃\n", encoding="utf-8")
        yield made


@pytest.fixture(scope="module")
def repository(folder: Path) -> Path:
    """A repository with one commit, and a change that is staged for the next."""
    path = folder / "repository"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch", "main")
    git(path, "config", "user.name", "Tess")
    git(path, "config", "user.email", "tess@example.com")
    for text, message in (("one", "first"), ("two", None)):
        (path / "file.txt").write_text(text, encoding="utf-8")
        git(path, "add", "file.txt")
        if message:
            git(path, "commit", "--quiet", "--message", message)
    return path


def git(repository: Path, *arguments: str) -> str:
    """Run git in a repository and return what it prints."""
    command = [str(needed("git")), "-C", str(repository), "-c", "commit.gpgsign=false", *arguments]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    return ran.stdout.strip()


@contextmanager
def listening(*command: str | Path, marker: str = "") -> Iterator[int]:
    """A server over HTTP in a process of its own; gives the port that it prints after `marker`."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={})
    try:
        if process.stdout is None:
            raise AssertionError("there is no pipe to read from")
        lines = (line.strip() for line in process.stdout if line.startswith(marker))
        yield int(next(lines).removeprefix(marker))
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def everything_url() -> Iterator[str]:
    """The reference server that exercises the whole protocol, over streamable HTTP."""
    program = needed("everything-server")
    with listening(needed("node"), "--import", ON_LOOPBACK, program, "streamableHttp", marker="PORT ") as port:
        yield f"http://127.0.0.1:{port}/mcp"


@pytest.fixture(scope="module")
def crm_url(folder: Path) -> Iterator[str]:
    """The SDK's own server class in uvicorn, which wants a key."""
    with listening(sys.executable, crm_server.__file__, folder / "customers", CRM_KEY) as port:
        yield f"http://127.0.0.1:{port}/mcp"


@pytest.fixture(scope="module")
async def place(folder: Path, repository: Path, everything_url: str, crm_url: str) -> AsyncIterator[Site]:
    """One gateway in front of all of them."""
    launcher = folder / "launcher"
    frail = f"exec {sys.executable} {stage.SDK_SERVER} --record {folder / 'frail'}"
    launcher.write_text(f"#!/bin/sh\n{frail}\n", encoding="utf-8")
    launcher.chmod(0o700)
    (folder / ".env").write_text(f"CRM_KEY={CRM_KEY}\n", encoding="utf-8")
    (folder / ".env").chmod(0o600)
    upstreams = {
        "files": {"command": str(needed("node")), "args": [str(needed("filesystem-server")), str(folder / "shared")]},
        "git": {"command": sys.executable, "args": ["-m", "mcp_server_git", "--repository", str(repository)]},
        "time": {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]},
        "everything": {"url": everything_url},
        "crm": {"url": crm_url, "headers": {"Authorization": "Bearer ${env:CRM_KEY}"}},
        "frail": {"command": "./launcher"},
        **BROKEN,
    }
    options: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}, "wait_seconds": 1, "env_file": ".env"}
    with site(folder, POLICY, upstreams=upstreams, **options) as made:
        await made.start()
        yield made


async def held(agent: Client, name: str, arguments: dict[str, Any]) -> str:
    """Ask for a call that is held, and give its id."""
    answer = structured(await agent.call_tool(name, arguments))
    assert (answer["status"], answer["executed"]) == ("held", False)
    return str(answer["call_id"])


async def run_once(agent: Client, dana: Desk, call_id: str) -> dict[str, Any]:
    """Have a held call approved; gives what the upstream answered."""
    await dana.approve(await dana.call(call_id))
    assert (await dana.until(call_id, "succeeded", "failed", "unknown"))["status"] == "succeeded"
    result: dict[str, Any] = structured(await agent.call_tool("hitl_status", {"call_id": call_id}))["result"]
    return result


async def state_of(place: Site, name: str) -> dict[str, Any]:
    """How `status` shows an upstream."""
    shown = await anyio.to_thread.run_sync(place.run, "status", "--json")
    assert shown.returncode == 1, shown.stderr  # some upstreams are down
    upstreams: list[dict[str, Any]] = json.loads(shown.stdout)["upstreams"]
    return next(upstream for upstream in upstreams if upstream["name"] == name)


# Servers that work.


@EVERY_WAY
async def test_all_upstreams_answer_at_once_behind_one_gateway(place: Site, door: str, era: str) -> None:
    """Four transports and two protocol eras behind it, and each is reached from every door in either era."""
    asked: dict[str, dict[str, Any]] = {
        "files__read_text_file": {"path": str(place.folder / "shared" / "notes.txt")},
        "git__git_log": {"repo_path": str(place.folder / "repository"), "max_count": 1},
        "time__convert_time": {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"},
        "everything__get-sum": {"a": 2, "b": 40},
        "crm__find_customer": {"name": "Zofia"},
    }
    answers: dict[str, CallToolResult] = {}

    async def ask(agent: Client, name: str) -> None:
        answers[name] = await agent.call_tool(name, asked[name])

    async with agent_at(place, door, era) as agent:
        assert asked.keys() <= {tool.name for tool in (await agent.list_tools()).tools}
        async with anyio.create_task_group() as tasks:
            for name in asked:
                tasks.start_soon(ask, agent, name)
    assert said(answers["files__read_text_file"]) == "żółw ☃\n"
    assert "first" in said(answers["git__git_log"])
    assert structured(answers["time__convert_time"])["time_difference"] == "+9.0h"
    assert "42" in said(answers["everything__get-sum"])
    assert structured(answers["crm__find_customer"]) == {"name": "Zofia", "city": "Gdańsk"}


@EVERY_WAY
async def test_an_agent_behind_the_gate_sees_what_one_beside_it_sees(
    place: Site, everything_url: str, door: str, era: str
) -> None:
    """Definitions and answers of a server that nobody here wrote are the same with and without the gate."""
    calls: dict[str, dict[str, Any]] = {
        "echo": {"message": "<b>&\u202e\U0001f40d</b>"},
        "get-tiny-image": {},
        "get-annotated-message": {"messageType": "error", "includeImage": True},
        "get-structured-content": {"location": "Chicago"},
        "get-resource-links": {"count": 2},
        "get-resource-reference": {"resourceType": "Text", "resourceId": 1},
    }
    async with Client(streamable_http_client(everything_url)) as beside, agent_at(place, door, era) as behind:
        there = {tool.name: as_written(tool) for tool in (await beside.list_tools()).tools}
        here = {tool.name: as_written(tool) for tool in (await behind.list_tools()).tools}
        for name, arguments in calls.items():
            prefixed = f"everything__{name}"
            if era != "legacy":
                there[name].pop("execution", None)  # a field that the newer protocol no longer has
            assert here[prefixed] == {**there[name], "name": prefixed}
            one, other = await beside.call_tool(name, arguments), await behind.call_tool(prefixed, arguments)
            assert without_times(as_written(one)) == without_times(as_written(other))


def as_written(model: Tool | CallToolResult) -> dict[str, Any]:
    """A model as JSON has it, without what belongs to the hop to the gateway."""
    written = model.model_dump(by_alias=True, mode="json", exclude_none=True, exclude={"result_type"})
    meta = {key: value for key, value in written.pop("_meta", {}).items() if key != SERVER_INFO_META_KEY}
    return {**written, **({"_meta": meta} if meta else {})}


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    """The same answer less the text that says when it was made."""
    resources = [block["resource"] for block in result["content"] if block["type"] == "resource"]
    for resource in resources:
        resource.pop("text")
    return result


async def test_a_servers_own_refusal_is_the_agents_answer(place: Site) -> None:
    """A path outside the shared folder: the policy lets it through, and the server's own words come back."""
    async with place.agent() as agent:
        answer = await agent.call_tool("files__read_text_file", {"path": "/etc/hostname"})
    assert answer.is_error
    assert "Access denied" in said(answer)


@EVERY_WAY
async def test_progress_of_a_third_party_server_is_passed_on(place: Site, door: str, era: str) -> None:
    """Every step is heard before the answer."""
    heard: list[Progress] = []
    steps = {"duration": 0.03, "steps": 3}
    async with agent_at(place, door, era) as agent:
        await agent.call_tool("everything__trigger-long-running-operation", steps, progress_callback=into(heard))
    assert [(done, total) for done, total, _ in heard] == [(1, 3), (2, 3), (3, 3)]


async def test_a_commit_is_held_and_made_once(place: Site, repository: Path) -> None:
    """Until it is approved there is no commit; afterwards there is one, also when the agent asks again."""
    asked = {"repo_path": str(repository), "message": "second"}
    async with place.agent() as agent, place.reviewer() as dana:
        call_id = await held(agent, "git__git_commit", asked)
        assert git(repository, "log", "--format=%s") == "first"
        result = await run_once(agent, dana, call_id)
        assert "committed successfully" in result["content"][0]["text"]
        (repository / "file.txt").write_text("three", encoding="utf-8")
        git(repository, "add", "file.txt")
        again = structured(await agent.call_tool("git__git_commit", asked))
    assert (again["repeat"], again["call_id"], again["status"]) == (True, call_id, "succeeded")
    assert git(repository, "log", "--format=%s") == "second\nfirst"
    assert git(repository, "status", "--porcelain") == "M  file.txt"


async def test_a_rejected_commit_is_never_made(place: Site, repository: Path) -> None:
    """The reviewer's no is the agent's answer, and the repository stays as it is."""
    before = git(repository, "rev-parse", "HEAD")
    async with place.agent() as agent, place.reviewer() as dana:
        call_id = await held(agent, "git__git_commit", {"repo_path": str(repository), "message": "wrong"})
        await dana.decide(await dana.call(call_id), "reject", "not on main")
        told = await agent.call_tool("hitl_wait", {"call_id": call_id})
    assert told.is_error
    assert '"not on main"' in said(told)
    assert git(repository, "rev-parse", "HEAD") == before


async def test_a_held_call_runs_once_at_a_server_over_http(place: Site) -> None:
    """A switch that turns back on the second press shows that an approved call pressed it once."""
    async with place.agent() as agent, place.agent("other") as other, place.reviewer() as dana:
        call_id = await held(agent, "everything__toggle-simulated-logging", {})
        first = await run_once(agent, dana, call_id)
        again = structured(await agent.call_tool("everything__toggle-simulated-logging", {}))
        assert (again["repeat"], again["result"]) == (True, first)
        second = await run_once(other, dana, await held(other, "everything__toggle-simulated-logging", {}))
    assert first["content"][0]["text"].startswith("Started")
    assert second["content"][0]["text"].startswith("Stopped")


async def test_the_gateway_shows_an_upstream_its_own_key_and_no_other(place: Site, crm_url: str) -> None:
    """The key from the config opens it; it stands in no answer, no listing, and no log."""
    async with httpx2.AsyncClient() as http:
        assert (await http.post(crm_url, json={})).status_code == 401
    async with place.http_agent("remote-key") as agent, place.reviewer() as dana:
        call_id = await held(agent, "crm__move_customer", {"name": "Zofia", "city": "Łódź"})
        assert not (place.folder / "customers").exists()
        result = await run_once(agent, dana, call_id)
        shown = (await dana.http.get(f"/api/calls/{call_id}/shown")).text
        call = json.dumps(await dana.call(call_id))
    assert result["structuredContent"] == {"name": "Zofia", "city": "Łódź"}
    assert (place.folder / "customers").read_text(encoding="utf-8") == '["Zofia", "\\u0141\\u00f3d\\u017a"]\n'
    assert all(CRM_KEY not in text for text in (shown, call, place.log()))


# Servers that do not.


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("missing", "`no-such-program-anywhere`"),
        ("keyless", "`${env:HITL_TEST_NOT_SET}`"),
        ("headless", "`${env:HITL_TEST_NOT_SET_EITHER}`"),
    ],
)
async def test_an_upstream_that_cannot_start_is_named_with_what_it_lacks(place: Site, name: str, named: str) -> None:
    """In `status`, and to the agent that asks for one of its tools; its connection lives on."""
    shown = await state_of(place, name)
    assert (shown["state"], shown["tools"]) == ("down", 0)
    assert named in shown["detail"]
    async with place.agent() as agent:
        with pytest.raises(MCPError) as refused:
            await agent.call_tool(f"{name}__act", {})
        assert refused.value.code == -32602
        assert f"no tool is called `{name}__act`" in refused.value.message
        assert named in refused.value.message
        assert not (await agent.call_tool("time__get_current_time", {"timezone": "UTC"})).is_error


async def test_an_upstream_that_dies_is_restarted_and_costs_the_others_nothing(place: Site) -> None:
    """Lost with a call: unknown. Down: its tools stay listed, nothing is sent, and the cause is named. Then it works.

    What another upstream is asked in between is answered as ever.
    """
    launcher = place.folder / "launcher"
    async with place.agent() as agent:
        assert said(await agent.call_tool("frail__echo", {"text": "one"})) == "one"
        launcher.rename(place.folder / "moved")
        lost = await agent.call_tool("frail__dies", {})
        assert (lost.is_error, structured(lost)["status"]) == (True, "unknown")
        assert said(lost).startswith("OUTCOME UNKNOWN")

        with anyio.fail_after(WAIT_SECONDS):
            while "launcher" not in (await state_of(place, "frail"))["detail"]:
                assert not (await agent.call_tool("time__get_current_time", {"timezone": "UTC"})).is_error
        assert "frail__echo" in {tool.name for tool in (await agent.list_tools()).tools}
        unsent = await agent.call_tool("frail__echo", {"text": "two"})
        assert (unsent.is_error, structured(unsent)["executed"]) == (True, False)
        assert said(unsent).startswith("NOT EXECUTED, failed: nothing was sent, because upstream `frail` is down:")
        assert "`./launcher`" in said(unsent)

        (place.folder / "moved").rename(launcher)
        with anyio.fail_after(WAIT_SECONDS):
            while (again := await agent.call_tool("frail__echo", {"text": "three"})).is_error:
                await anyio.sleep(0)
        assert said(again) == "three"
    assert (place.folder / "frail").read_text(encoding="utf-8").splitlines() == ["echo", "dies", "echo"]
