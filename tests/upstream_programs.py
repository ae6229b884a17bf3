"""Upstreams that behave as a test needs: they wait, hang, or fail on command. Effects are lines in a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

SOURCE = """
# An MCP server by hand, on the standard library alone, so that tests do not wait for the SDK to be imported.
import json, os, sys, threading, time
from pathlib import Path

folder = Path(sys.argv[1])
writing = threading.Lock()
WHAT = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}
TOOLS = {
    "slow": "Take effect, then answer once the file `go` is there.",
    "read": "Answer at once.",
    "die": "Take effect, then die without an answer.",
    "steps": "Report progress three times, then answer.",
}
PAY = {
    "type": "object",
    "properties": {"amount": {"type": "number"}, "currency": {"type": "string"}, "to": {"type": "string"}},
    "required": ["amount", "currency"],
}


def send(**message):
    with writing:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\\n")
        sys.stdout.flush()


def note(what):
    with (folder / "effects").open("a") as file:
        file.write(what + "\\n")


def call(number, tool, what, progress):
    if tool != "read":
        note(what)
    if tool == "die":
        os._exit(1)
    while tool == "slow" and not (folder / "go").exists():
        time.sleep(0.005)
    for step in (1, 2, 3) if tool == "steps" and progress is not None else ():
        params = {"progressToken": progress, "progress": step, "total": 3, "message": f"step {step}"}
        send(method="notifications/progress", params=params)
    send(id=number, result={"content": [{"type": "text", "text": f"done {what}"}]})


for line in sys.stdin:
    message = json.loads(line)
    number, method, params = message.get("id"), message.get("method"), message.get("params") or {}
    if method == "initialize":
        capabilities = {"tools": {"listChanged": False}}
        info = {"name": "slow", "version": "1"}
        version = params["protocolVersion"]
        send(id=number, result={"protocolVersion": version, "capabilities": capabilities, "serverInfo": info})
    elif method == "tools/list":
        tools = [{"name": name, "description": text, "inputSchema": WHAT} for name, text in TOOLS.items()]
        tools.append({"name": "pay", "description": "Take effect; to nobody is an error.", "inputSchema": PAY})
        send(id=number, result={"tools": tools})
    elif method == "tools/call":
        progress = (params.get("_meta") or {}).get("progressToken")
        given = params["arguments"]
        if params["name"] == "pay":
            refused = given.get("to") == "nobody"
            if not refused:
                note(f"{given['amount']} {given['currency']}")
            send(id=number, result={"content": [{"type": "text", "text": "paid"}], "isError": refused})
            continue
        arguments = (number, params["name"], given["what"], progress)
        threading.Thread(target=call, args=arguments, daemon=True).start()
    elif number is not None:
        send(id=number, error={"code": -32601, "message": "Method not found"})
"""


def slow_upstream(folder: Path) -> dict[str, Any]:
    """The `upstreams:` entry of a server with tools `slow`, `read`, `die`, `steps` and `pay`."""
    program = folder / "slow_server.py"
    program.write_text(SOURCE, encoding="utf-8")
    return {"command": sys.executable, "args": [str(program), str(folder)]}


def effects(folder: Path) -> list[str]:
    """Every effect that `slow`, `die`, `steps` or `pay` had, in order."""
    path = folder / "effects"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def let_go(folder: Path) -> None:
    """Let `slow` answer."""
    (folder / "go").touch()


SLOW_POLICY: dict[str, Any] = {
    "version": 1,
    "default": "hold",
    "rules": [
        {"id": "reads", "tool": ["slow__read", "slow__steps"], "effect": "allow", "reason": "reading"},
        {
            "id": "held",
            "tool": ["slow__slow", "slow__die"],
            "effect": "hold",
            "reason": "it acts",
            "when": "!args.what.startsWith('free')",
        },
        {
            "id": "free",
            "tool": ["slow__slow", "slow__die"],
            "effect": "allow",
            "reason": "told so",
            "when": "args.what.startsWith('free')",
        },
    ],
}
