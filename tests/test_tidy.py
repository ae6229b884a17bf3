"""What keeps the code tidy and no linter checks: the order of rooms, sizes, names, and habits of tests.

A finding names file and line. Where a rule must give way, the reason stands in a table here, not in the code.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "hitl_mcp"

_ORDER = """
errors limits clock canonical likeness calls people passkeys yaml_mistakes documents secrets shipped oauth_config
secrets_config config state_dir
bridge_frames autostart bridge
policy grants store audit backups pins upstreams schemas catalog clients offers decider policy_files executor readings
previews probes deadlines retention edits review seeing gate releasing
answers render covering surfaces app setup cli command __main__
"""
ROOMS = tuple(_ORDER.split())
"""The rooms from low to high: each imports its own or a lower one. `bridge` is low since it knows nearly nothing."""

STANDARD_LIBRARY_ONLY = ("bridge", "state_dir")
"""Rooms that agents wait for at every start: importing them may pull in nothing but Python itself and each other."""

FUNCTION_LINES = 70
MODULE_LINES = 600
PARAMETERS = 6  # keyword-only ones count too: a long call is hard to read either way
GATE_LINES = 60  # one screen of code; imports, blank lines, comments and docstrings are not counted

FORBIDDEN_NAMES = re.compile(r"(Manager|Service|Helper|Utils?)$|^(utils?|helpers?|managers?|services?)$")
VAGUE_FUNCTIONS = re.compile(r"^_?handle_")
BARE_NAMES = frozenset({"request", "session", "token", "task"})
"""MCP, HTTP and Slack each mean something else by these words."""

CATCHES_EVERYTHING = {
    "executor.py:_answer": "the run loop: whatever fails after the send makes the outcome unknown, never silent",
    "executor.py:_run_one": "one approved call's fault must not end the gateway; unsettled is `unknown` at boot",
    "executor.py:run_allowed": "the same for an allowed call, whose asker is answered all the same",
    "store/writer.py:_step": "the writer thread: one member's fault goes to its caller and must not take the batch",
    "surfaces/agents/eras.py:_by_the_sdk": "the same top, for what is no call",
    "surfaces/agents/server.py:_relayed_answer": "the same, for what is passed on",
    "surfaces/agents/server.py:_result": "the top of a surface: an agent is told that we failed, never how",
    "surfaces/agents/socket.py:_connection": "the top of a surface: one agent's connection must not end the gateway",
    "surfaces/api/__init__.py:__call__": "the top of a surface: an HTTP request always gets an answer",
    "upstreams/legs.py:_serve": "the top of one conversation's connection: a fault there costs the others nothing",
    "upstreams/mcp_servers.py:_keep_access": "the same for its sign-in, without the traceback, which may hold secrets",
    "upstreams/mcp_servers.py:_keep_up": "the loop that restarts one upstream: a fault there costs the others nothing",
    "upstreams/wire.py:_put": "one question that goes wrong must not cost the connection and every call on it",
    "upstreams/wire.py:_tell": "progress is told to an agent that may be gone; the call it belongs to goes on",
}
"""Where `except Exception` may stand (`module.py:function`), and why there. It logs the traceback or passes it on."""


@dataclass(frozen=True)
class Source:
    """A Python file, read once."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    def at(self, node: ast.AST) -> str:
        return f"{self.name}:{getattr(node, 'lineno', 1)}"

    @property
    def room(self) -> str:
        """The room a file of the package is in; the package's own `__init__` is below all."""
        first = self.path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        return "" if first == "__init__" else first


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """Every Python file in these folders."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    texts = [(path, path.read_text(encoding="utf-8")) for path in paths if "node_modules" not in path.parts]
    return tuple(Source(path, text, ast.parse(text)) for path, text in texts)


def functions(source: Source) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file."""
    return (node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imports(nodes: Iterable[ast.AST]) -> Iterator[tuple[ast.AST, str]]:
    """What these nodes import, by its full dotted name; of `from hitl_mcp import x`, both names."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "hitl_mcp":
            yield from ((node, f"hitl_mcp.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node, node.module or "."


def room_of(module: str) -> str | None:
    """The room of an imported module; None for what is not ours, or stands in no room (`__version__`)."""
    parts = module.split(".")
    known = parts[0] == "hitl_mcp" and len(parts) > 1 and not parts[1].startswith("__version__")
    return parts[1] if known else None


def report(findings: Iterable[str]) -> None:
    """Fail with every finding, one a line."""
    found = list(findings)
    assert not found, "\n" + "\n".join(found)


def test_every_room_is_in_the_table() -> None:
    """A new module gets its place in the order when its first line is written; a removed one leaves the table."""
    assert {source.room for source in sources("src")} - {""} == set(ROOMS)


def test_rooms_import_only_lower_rooms() -> None:
    """Every import, also one inside a function or for types alone, points to the same room or a lower one."""
    order = {room: place for place, room in enumerate(ROOMS)}
    report(
        f"{source.at(node)}: `{source.room}` imports `{room}`, which is above it"
        for source in sources("src")
        for node, module in imports(ast.walk(source.tree))
        if (room := room_of(module)) and order.get(room, -1) > order.get(source.room, -1)
    )


def test_imports_are_absolute() -> None:
    """Relative imports would hide which room an import leads to."""
    report(
        f"{source.at(node)}: relative import"
        for source in sources("src")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom) and node.level
    )


def test_surfaces_never_import_one_another() -> None:
    """The agents' door, the API and the page share what lies below them and beside them, not each other's code."""
    folder = PACKAGE / "surfaces"
    surfaces = {path.name for path in folder.iterdir() if (path / "__init__.py").exists()}
    assert {"agents", "api", "web"} <= surfaces
    report(
        f"{source.at(node)}: imports the surface `{other}`"
        for source in sources("src/hitl_mcp/surfaces")
        for node, module in imports(ast.walk(source.tree))
        if module.startswith("hitl_mcp.surfaces.") and (other := module.split(".")[2]) in surfaces
        if source.path.relative_to(folder).parts[0] != other
    )


@pytest.mark.parametrize("room", STANDARD_LIBRARY_ONLY)
def test_what_agents_wait_for_needs_only_the_standard_library(room: str) -> None:
    """Importing the room in a bare interpreter loads no package from outside Python, and none of our heavy rooms."""
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c",
         f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import hitl_mcp.{room}; print(*sys.modules)"],
        capture_output=True, text=True, timeout=10,
    )  # fmt: skip
    assert loaded.returncode == 0, loaded.stderr
    tops = {name.split(".")[0] for name in loaded.stdout.split()} - {"hitl_mcp", "__main__"}
    assert tops <= sys.stdlib_module_names


def test_functions_and_modules_stay_short() -> None:
    """At most 70 lines a function and 600 a module, everywhere."""
    everywhere = sources("src", "tests", "examples", "benchmarks")
    report(
        f"{source.at(node)}: `{node.name}` has {lines} lines"
        for source in everywhere
        for node in functions(source)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    )
    report(f"{s.name}: {lines} lines" for s in everywhere if (lines := s.text.count("\n") + 1) > MODULE_LINES)


def test_functions_take_few_parameters() -> None:
    """At most six, `self` not counted; then a frozen dataclass."""

    def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        named = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        own = named[:1] in (["self"], ["cls"])
        return len(named) - own + len(node.args.kwonlyargs)

    report(
        f"{source.at(node)}: `{node.name}` takes {count}"
        for source in sources("src", "examples")
        for node in functions(source)
        if (count := parameters(node)) > PARAMETERS
    )


def test_the_gate_fits_one_screen() -> None:
    """`gate.py` is the promise that one can read at a glance what happens to a call."""
    path = PACKAGE / "gate.py"
    code: set[int] = set()
    with path.open("rb") as file:
        for piece in tokenize.tokenize(file.readline):
            if piece.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING):
                code.update(range(piece.start[0], piece.end[0] + 1))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.stmt) and (is_text or isinstance(node, ast.Import | ast.ImportFrom)):
            code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    assert len(code) <= GATE_LINES


def test_nothing_is_protected_by_assert() -> None:
    """`python -O` removes asserts, and with them whatever they guarded."""
    report(
        f"{source.at(node)}: assert"
        for source in sources("src", "examples")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assert)
    )


def test_every_module_says_what_belongs_in_it() -> None:
    """A module docstring is where a newcomer learns whether a line belongs there. An empty file needs none."""
    report(
        f"{source.name}: no docstring"
        for source in sources("src", "tests", "examples", "benchmarks")
        if source.tree.body and not ast.get_docstring(source.tree)
    )


def test_names_say_something() -> None:
    """No Manager, Service, Helper or utils; no `handle_x`; no bare word that MCP and HTTP both use."""

    def names(source: Source) -> Iterator[tuple[ast.AST, str]]:
        yield source.tree, source.path.stem
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield node, node.name

    report(
        f"{source.at(node)}: `{name}`"
        for source in sources("src", "examples")
        for node, name in names(source)
        if FORBIDDEN_NAMES.search(name) or (not isinstance(node, ast.ClassDef) and VAGUE_FUNCTIONS.match(name))
    )
    report(
        f"{source.at(inner)}: `{name}` alone: say whose"
        for source in sources("src", "examples")
        for node in functions(source)
        for inner in ast.walk(node)
        if (name := _bound_name(inner)) in BARE_NAMES
    )


def _bound_name(node: ast.AST) -> str | None:
    if isinstance(node, ast.arg):
        return node.arg
    return node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None


def test_everything_is_caught_only_at_the_top() -> None:
    """`except Exception` stands where the table above says and nowhere else; a handler that raises on is fine."""
    found = {
        f"{source.path.relative_to(PACKAGE).as_posix()}:{node.name}"
        for source in sources("src")
        for node in functions(source)
        for handler in ast.walk(node)
        if isinstance(handler, ast.ExceptHandler) and _catches_everything(handler)
    }
    assert found == set(CATCHES_EVERYTHING)


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in _EVERYTHING) for kind in caught)


_EVERYTHING = {"Exception", "BaseException", "BaseExceptionGroup", "ExceptionGroup"}


def test_every_test_says_what_it_shows() -> None:
    """A test's docstring states the behaviour, so that a failure reads as a broken promise."""
    report(
        f"{source.at(node)}: `{node.name}` has no docstring"
        for source in sources("tests")
        for node in functions(source)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    )


def test_no_test_sleeps() -> None:
    """A test waits for what happens, bounded by `anyio.fail_after`, never for time to pass.

    In a campaign of faults the moment in which something strikes is a part of the fault.
    """
    report(
        f"{source.at(node)}: {ast.unparse(node)}"
        for source in sources("tests")
        if not source.name.startswith("tests/faults/")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and _sleeps(node)
    )


def _sleeps(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    yields_only = [ast.unparse(argument) for argument in call.args] in (["0"], ["0.0"])
    return name == "sleep" and not yields_only


def test_no_test_replaces_our_own_code() -> None:
    """No mocks: a test that needs another clock or upstream uses a real one that it can steer."""
    report(
        f"{source.at(node)}: `{module}`"
        for source in sources("tests")
        for node, module in imports(ast.walk(source.tree))
        if module.split(".")[0] in {"mock", "pytest_mock"} or module.startswith("unittest")
    )
    report(
        f"{source.at(node)}: {ast.unparse(node)}"
        for source in sources("tests")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"monkeypatch.setattr", "monkeypatch.setitem"}
    )


def test_lock_files_name_no_registry() -> None:
    """Versions and digests are the same everywhere; where they are fetched from is each machine's own matter."""
    assert "://" not in (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert '"resolved"' not in (ROOT / "tests" / "npm" / "package-lock.json").read_text(encoding="utf-8")


def test_no_file_names_a_place_on_one_machine() -> None:
    """Paths of whoever wrote a file mean nothing to whoever reads it."""
    places = re.compile(r"/(?:work|root)/|/home/(?!you/)\w+/|/Users/\w+/")
    folders = ("src", "tests", "examples", "policies", "benchmarks", "docs", "scripts", ".ci")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix not in {".png", ".pyc"}]
    report(
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in (*paths, *ROOT.glob("*.*"))
        if path.is_file() and "node_modules" not in path.parts
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="ignore").splitlines(), 1)
        if places.search(line)
    )
