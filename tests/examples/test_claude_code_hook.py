"""The PreToolUse hook as Claude Code runs it: a process of its own, JSON in, JSON out, in front of a real gateway."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from hitl_mcp.config import load_config, policy_sources
from hitl_mcp.policy import load_policy
from hitl_mcp.policy.cases import run_case, unexercised
from hitl_mcp.shipped import example_path
from tests.gateways import WAIT_SECONDS, Site, site

HOOK = example_path("claude-code/pre_tool_use.py")

POLICY = {
    "version": 1,
    "default": "hold",
    "rules": [
        {"id": "reading", "tool": "claude-code__Read", "effect": "allow", "reason": "reading changes nothing"},
        {"id": "shell", "tool": "claude-code__Bash", "effect": "hold", "reason": "it runs a command"},
        {"id": "stays", "tool": "claude-code__Rm", "effect": "deny", "reason": "nothing is deleted"},
    ],
}


@pytest.fixture
def hooked_site(short_dir: Path) -> Iterator[Site]:
    """A gateway that decides Claude Code's own tools, and has no upstream."""
    with site(short_dir, POLICY, upstreams={}, clients=["claude-code"]) as made:
        yield made


async def run_hook(
    place: Site, tool: str = "Bash", *options: str, raw: bytes | None = None, **tool_input: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run the hook to its end, with what Claude Code writes on its stdin."""
    asked = {
        "session_id": "s-1",
        "hook_event_name": "PreToolUse",
        "permission_mode": "default",
        "cwd": "/srv/project",
        "tool_name": tool,
        "tool_input": tool_input,
        "tool_use_id": "toolu_1",
    }
    # Isolated and without site-packages: it needs nothing but Python.
    command = [sys.executable, "-I", "-S", str(HOOK), "--config", str(place.config), "--agent", "builder", *options]
    stdin = raw if raw is not None else json.dumps(asked).encode()

    def run() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, input=stdin, capture_output=True, env=place.environment, timeout=60)

    return await anyio.to_thread.run_sync(run)


def answer_of(done: subprocess.CompletedProcess[bytes]) -> tuple[str, str]:
    """Decision and reason, of an answer that has exactly the shape that Claude Code reads."""
    assert (done.returncode, done.stderr) == (0, b"")
    said = json.loads(done.stdout)
    output = said["hookSpecificOutput"]
    assert set(said) == {"hookSpecificOutput"}
    assert set(output) == {"hookEventName", "permissionDecision", "permissionDecisionReason"}
    assert output["hookEventName"] == "PreToolUse"
    return output["permissionDecision"], output["permissionDecisionReason"]


async def test_the_hook_allows_and_denies_as_the_policy_says(hooked_site: Site) -> None:
    """Both are on record under the agent's name; the denial names its rule."""
    await hooked_site.start()
    allowed = answer_of(await run_hook(hooked_site, "Read", file_path="/srv/project/a"))
    denied = answer_of(await run_hook(hooked_site, "Rm", path="/"))
    assert (allowed[0], allowed[1][:9]) == ("allow", "RELEASED:")
    assert (denied[0], "denied by policy (rule `stays`)" in denied[1]) == ("deny", True)
    async with hooked_site.reviewer() as dana:
        calls = await dana.calls()
    assert [(call["status"], call["agent"], call["name"], call["conversation"]) for call in calls] == [
        ("denied", "builder", "claude-code__Rm", "s-1"),
        ("released", "builder", "claude-code__Read", "s-1"),
    ]


@pytest.mark.promise("R7")
async def test_what_the_hook_holds_is_released_once_after_people_approved_it(hooked_site: Site) -> None:
    """Denied as held; approved; the same command again is allowed; and once more is held anew. Over a restart."""
    await hooked_site.start()
    command: dict[str, Any] = {"command": "make release", "timeout": 120000}
    first = answer_of(await run_hook(hooked_site, "Bash", "--wait", "0", **command))
    assert (first[0], first[1][:27]) == ("deny", "NOT EXECUTED, held as c_" + first[1][24:27])
    assert "Repeating the identical call asks for this same request" in first[1]
    async with hooked_site.reviewer() as dana:
        held = await dana.held()
        assert held["arguments_json"] == '{"command":"make release","timeout":120000}'
        assert (await dana.approve(held))["status"] == "approved"
    await hooked_site.kill()
    await hooked_site.start()
    second = answer_of(await run_hook(hooked_site, "Bash", "--wait", "0", **command))
    third = answer_of(await run_hook(hooked_site, "Bash", "--wait", "0", **command))
    assert (second[0], second[1][:9]) == ("allow", "RELEASED:")
    assert (third[0], third[1][:21]) == ("deny", "NOT EXECUTED, held as")
    async with hooked_site.reviewer() as dana:
        call = await dana.call(held["id"])
        assert (call["status"], call["outcome"]) == ("released", None)
        assert await dana.calls(status="unknown") == []


async def test_a_hook_that_waits_allows_as_soon_as_somebody_approves(hooked_site: Site) -> None:
    """Who is quick is never told that it is held."""
    await hooked_site.start()
    answers: list[tuple[str, str]] = []

    async def ask() -> None:
        answers.append(answer_of(await run_hook(hooked_site, "Bash", "--wait", "40", command="make")))

    async with hooked_site.reviewer() as dana:
        with anyio.fail_after(WAIT_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await dana.approve(await dana.held())
    assert answers[0][0] == "allow"


async def test_without_a_gateway_the_hook_denies_and_says_what_to_do(hooked_site: Site) -> None:
    """Never started, and killed without a word: in both cases nothing may run."""
    start = f"Tell the user to start it with `hitl-mcp serve --config {hooked_site.config}`, then try again."
    never = answer_of(await run_hook(hooked_site, "Read", file_path="/a"))
    assert never == ("deny", f"NOT EXECUTED: hitl-mcp cannot be asked, none runs for this config. {start}")
    await hooked_site.start()
    gateway = hooked_site.started[0]
    gateway.kill()
    gateway.wait(WAIT_SECONDS)
    decision, reason = answer_of(await run_hook(hooked_site, "Read", file_path="/a"))
    assert (decision, reason[:53]) == ("deny", "NOT EXECUTED: hitl-mcp cannot be asked, it does not a")
    assert reason.endswith(start)


BROKEN = [
    (b"", "not plain JSON"),
    (b"{", "not plain JSON"),
    (b'{"tool_name":"Read","tool_name":"Bash","tool_input":{}}', "a key stands twice"),
    (b'{"tool_input":{}}', "no tool to ask about"),
    (b'{"tool_name":"Read","tool_input":{"a":"\\ud800"}}', "$.arguments.a: the text holds half of a surrogate pair"),
    (b'{"tool_name":"Read","tool_input":[1]}', "arguments: input should be a valid dictionary"),
    (b'{"tool_name":"a b","tool_input":{}}', "tool: string should match pattern"),
]


async def test_whatever_is_wrong_with_the_request_denies(hooked_site: Site) -> None:
    """No input makes the hook fail in a way that would let the tool run, and nothing of it is on record."""
    await hooked_site.start()
    for raw, why in BROKEN:
        decision, reason = answer_of(await run_hook(hooked_site, raw=raw))
        assert (decision, why in reason) == ("deny", True), reason
    unnamed = answer_of(await run_hook(hooked_site, "Read", "--client", "codex", file_path="/a"))
    assert (unnamed[0], "the own tools of `codex` are not decided here" in unnamed[1]) == ("deny", True)
    misused = await run_hook(hooked_site, "Read", "--wait", "soon")
    assert (misused.returncode, misused.stdout) == (2, b"")
    async with hooked_site.reviewer() as dana:
        assert await dana.calls() == []


async def test_a_hook_that_breaks_blocks(hooked_site: Site) -> None:
    """An exit code other than 2 would let the tool run: here a gateway answers with something that is no answer."""
    state = Path(hooked_site.state.path)
    state.mkdir(parents=True)
    (state / "gateway.json").write_text('{"control_socket": null}', encoding="utf-8")
    decision, _ = answer_of(await run_hook(hooked_site, "Read", file_path="/a"))
    assert decision == "deny"
    (state / "gateway.json").write_text("[]", encoding="utf-8")
    broken = await run_hook(hooked_site, "Read", file_path="/a")
    assert (broken.returncode, broken.stdout) == (2, b"")
    assert b"NOT EXECUTED: the hook of hitl-mcp failed" in broken.stderr


def test_the_snippets_that_are_copied_are_right() -> None:
    """The settings name the hook and block when it fails; the config loads; the policy does what its cases say."""
    settings = json.loads(example_path("claude-code/settings.json").read_text(encoding="utf-8"))
    [entry] = settings["hooks"]["PreToolUse"]
    [hook] = entry["hooks"]
    assert (entry["matcher"], hook["type"], hook["onFailure"]) == ("*", "command", "block")
    assert "pre_tool_use.py --config " in hook["command"]
    assert hook["command"].endswith(" || exit 2")
    assert hook["timeout"] > 45 + 10  # what the hook waits by itself, and what the gateway may take
    config = load_config(example_path("claude-code/hitl.yaml"))
    assert config.clients == ("claude-code",)
    policy = load_policy(policy_sources(config), config.people)
    results = [run_case(policy, case) for case in policy.cases]
    assert [result.problems for result in results] == [()] * len(results)
    assert unexercised(policy, results) == ()
