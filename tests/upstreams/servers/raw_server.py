"""An upstream in plain Python that says exactly what a test wants said, well-formed or not. 2025-11-25 only.

The tool's name picks what it does; every call leaves its name in the file that `--record` names.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

TOOL: dict[str, Any] = {"inputSchema": {"type": "object"}}
TOOLS = [
    {"name": "echo", **TOOL, "x-vendor": {"kept": [1, 2.5, None]}, "annotations": {"destructiveHint": True}},
    {"name": "second", **TOOL},
]


held_back: list[str] = []


def say(message: dict[str, Any] | str) -> None:
    sys.stdout.write((message if isinstance(message, str) else json.dumps(message)) + "\n")
    sys.stdout.flush()


def result(call_id: Any, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call_id, "result": {"content": [{"type": "text", "text": "ok"}], **more}}


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"in": value}
    return value


def ask(call_id: Any, arguments: dict[str, Any]) -> None:
    """Ask something, wait for the answer, then end as the arguments say."""
    say({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": {"message": "Sure?"}})
    answer = json.loads(sys.stdin.readline())
    told = {"type": "text", "text": json.dumps(answer.get("error", {}).get("message"))}
    match arguments.get("then"):
        case "error":
            say({"jsonrpc": "2.0", "id": call_id, "error": {"code": -32000, "message": "no answer"}})
        case "is_error":
            say({"jsonrpc": "2.0", "id": call_id, "result": {"content": [told], "isError": True}})
        case _:
            say({"jsonrpc": "2.0", "id": call_id, "result": {"content": [told]}})


def flood(call_id: Any) -> None:
    """Noise on both streams, and a flood of announcements, before the answer."""
    for number in range(3000):
        say(f"noise {number}")
        print(f"more noise {number}", file=sys.stderr)
        say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    say(result(call_id))


def call(call_id: Any, name: str, arguments: dict[str, Any], meta: dict[str, Any]) -> None:
    token = meta.get("progressToken")
    progress = {"jsonrpc": "2.0", "method": "notifications/progress"}
    match name:
        case "echo":
            say(result(call_id, structuredContent={"arguments": arguments, "meta": meta, "id": call_id}))
        case "garbage":
            print("words on \x1b[31mstderr\x1b[0m \u202e", file=sys.stderr, flush=True)
            say("Starting up ...")
            say("[1, 2]")
            say('{"jsonrpc": "2.0", "method": 5}')
            say(result(call_id))
        case "endless":
            say(result(call_id, structuredContent={"much": "x" * (17 * 1024 * 1024)}))
        case "nan":
            say(result(call_id, structuredContent={"value": float("nan")}))
        case "surrogate":
            say(json.dumps(result(call_id, structuredContent={"half": "\ud800"})))
        case "not_utf8":
            body = b'{"jsonrpc": "2.0", "id": %s, "result": {"content": [], "x": "\xff"}}\n'
            sys.stdout.buffer.write(body % json.dumps(call_id).encode())
            sys.stdout.buffer.flush()
        case "deep":
            say(result(call_id, structuredContent=nested(200)))
        case "shapeless":
            say({"jsonrpc": "2.0", "id": call_id, "result": {"content": "words"}})
        case "neither":
            say({"jsonrpc": "2.0", "id": call_id})
        case "twice":
            say(result("somebody else"))
            say(result(call_id, structuredContent={"which": "first"}))
            say(result(call_id, structuredContent={"which": "second"}))
        case "hop":
            meta = {"io.modelcontextprotocol/serverInfo": {"name": "x", "version": "1"}, "example.com/kept": 1}
            say(result(call_id, _meta=meta, resultType="complete", unknown=2**70))
        case "odd_progress":
            for told in ({"progress": 1}, {"progress": "2"}, {"progress": 3, "total": 4, "message": "m\ud800"}):
                say({**progress, "params": {"progressToken": token, **told}})
            say({**progress, "params": {"progressToken": "another", "progress": 9}})
            say(result(call_id))
        case "ask":
            ask(call_id, arguments)
        case "flood":
            flood(call_id)
        case "pid":
            say(result(call_id, structuredContent={"pid": os.getpid(), "group": os.getpgid(0)}))
        case "grandchild":
            code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
            )
            assert child.stdout is not None
            child.stdout.readline()
            say(result(call_id, structuredContent={"pid": child.pid}))
        case "escapes":
            # As daemons do: a session of its own, and a parent that ends.
            sleeper = "import os, signal; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True)"
            code = f"import os\nif os.fork() == 0:\n    os.setsid(); {sleeper}; signal.pause()"
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
            )
            assert child.stdout is not None
            say(result(call_id, structuredContent={"pid": int(child.stdout.readline())}))
        case "stops_reading":
            signal.pause()
        case _:
            odd_call(call_id, name, arguments)


def odd_call(call_id: Any, name: str, arguments: dict[str, Any]) -> None:
    """Answers that cannot be used or come late, and the plain answer of every other tool."""
    match name:
        case "half":
            sys.stdout.write('{"jsonrpc": "2.0", "id": ')
            sys.stdout.flush()
            os._exit(5)
        case "last_words":
            say(result(call_id))
            os._exit(6)
        case "deaf":
            os.close(0)
            signal.pause()
        case "mark_of_words":
            say(result(call_id, isError="no"))
        case "odd_error":
            error = '{"code": true, "message": "half \\ud800 and %s", "data": {"n": NaN}}' % ("x" * 50_000)
            say(f'{{"jsonrpc": "2.0", "id": {json.dumps(call_id)}, "error": {error}}}')
        case "many_parts":
            say(result(call_id, structuredContent={"parts": [[]] * 300_000}))
        case "large":
            say(result(call_id, structuredContent={"text": "[,{" * 300_000, "id": "c_other"}))
        case "unasked":
            say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 300_000}})
            say(result("c_nobody", structuredContent={"text": "x" * 300_000}))
            say(result(call_id))
        case "asks_much":
            for number in range(500):
                say({"jsonrpc": "2.0", "id": number, "method": f"odd\x1b/{number}" + "x" * 1000, "params": {}})
            say({"jsonrpc": "2.0", "id": call_id, "error": {"code": 1, "message": "no"}})
        case "silent":
            held_back.append(call_id)
        case "release":
            for earlier in held_back:
                say(result(earlier, structuredContent={"late": arguments.get("late", "yes")}))
                say(result(earlier, structuredContent={"late": "a second answer"}))
            say(result(call_id))
        case "release_errors":
            for earlier in held_back:
                say({"jsonrpc": "2.0", "id": earlier, "error": {"code": -32000, "message": "no money"}})
            say(result(call_id))
        case "release_garbage":
            for earlier in held_back:
                say({"jsonrpc": "2.0", "id": earlier})
                say(result(earlier))
            say(result(call_id))
        case _:
            say(result(call_id))


def serve(asked: argparse.Namespace) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        params = message.get("params", {})
        match message.get("method"):
            case "initialize":
                logs: dict[str, Any] = {"logging": {}} if asked.logs else {}
                version = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {"listChanged": True}, **logs}}
                info = {"serverInfo": {"name": "raw", "version": "1"}}
                say({"jsonrpc": "2.0", "id": message["id"], "result": {**version, **info}})
            case "server/discover":
                if asked.dies_of_discover:
                    os._exit(4)
                say({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "what?"}})
            case "tools/list":
                page = int(params.get("cursor", 0))
                more = {"nextCursor": str(page + 1)} if asked.endless_list or page + 1 < len(TOOLS) else {}
                listed = [TOOLS[page % len(TOOLS)]]
                say({"jsonrpc": "2.0", "id": message["id"], "result": {"tools": listed, **more}})
            case "tools/call":
                note(asked.record, params["name"])
                call(message["id"], params["name"], params.get("arguments", {}), params.get("_meta", {}))
            case "logging/setLevel":
                note(asked.record, f"logs {params['level']}")
                if asked.logs == "refused":
                    refused = {"code": -32603, "message": "not now"}
                    say({"jsonrpc": "2.0", "id": message["id"], "error": refused})
                else:
                    say({"jsonrpc": "2.0", "id": message["id"], "result": {}})
            case "notifications/cancelled":
                note(asked.record, f"cancelled {params['requestId']}")
                if asked.answers_cancelled:
                    say(result(params["requestId"], structuredContent={"stopped": True}))


def note(record: Path | None, line: str) -> None:
    if record is not None:
        with record.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", type=Path)
    parser.add_argument("--dies-of-discover", action="store_true")
    parser.add_argument("--endless-list", action="store_true")
    parser.add_argument("--answers-cancelled", action="store_true")
    parser.add_argument("--ignores-eof", action="store_true")
    parser.add_argument("--logs", choices=("taken", "refused"))
    options = parser.parse_args()
    serve(options)
    while options.ignores_eof:
        signal.pause()
