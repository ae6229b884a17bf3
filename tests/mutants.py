"""Runs the mutants that mutmut has made, and prints how many the tests killed. `scripts/mutate` starts it; not a test.

mutmut changes the code and notes which tests reach which function. Its own runner starts pytest for each mutant, which
takes hours; here the tests are collected once, and each mutant is a fork in which those that reach it run, the quickest
first. What runs while a module is imported is done before any fork: such mutants get a process of their own.
"""

from __future__ import annotations

import fnmatch
import gc
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WORKPLACE = ROOT / "mutants"
ACTIVE = "MUTANT_UNDER_TEST"
"""The variable by which mutmut's code knows which mutant it is."""

TESTS_SECONDS = 4.0
"""Of the tests that reach a function, the quickest are run up to so long. More could only kill more."""

PROCESSOR_SECONDS = 30
"""For one mutant: several times what all of its tests take, for those that never end."""

SURVIVED, KILLED, UNREACHED, ENDLESS = 0, 1, 33, -24
"""As mutmut writes them down, so that `mutmut results` and `mutmut show` can be asked."""


@dataclass
class Module:
    """One changed module, and what came of each of its mutants; None is not known yet."""

    path: Path
    written: dict[str, dict[str, int | None]] = field(init=False)

    def __post_init__(self) -> None:
        self.written = json.loads(self.path.read_text(encoding="utf-8"))

    @property
    def outcomes(self) -> dict[str, int | None]:
        return self.written["exit_code_by_key"]

    def save(self) -> None:
        self.path.write_text(json.dumps(self.written, indent=4), encoding="utf-8")


def modules() -> list[Module]:
    return [Module(path) for path in sorted((WORKPLACE / "src").rglob("*.py.meta"))]


def active(mutant: str) -> str:
    """A mutant as the changed code calls it."""
    return mutant.replace(".__init__.", ".")


def function_of(mutant: str) -> str:
    return active(mutant).rpartition("__mutmut_")[0]


class Forks:
    """A pytest plugin that runs no test itself: for each mutant a fork runs the tests that reach it."""

    def __init__(self, todo: list[tuple[Module, str]], processes: int) -> None:
        self.todo, self.processes = todo, processes
        stats = json.loads((WORKPLACE / "mutmut-stats.json").read_text(encoding="utf-8"))
        self.reaching: dict[str, list[str]] = stats["tests_by_mangled_function_name"]
        self.seconds: dict[str, float] = stats["duration_by_test"]
        self.running: dict[int, tuple[Module, str]] = {}

    def pytest_configure(self) -> None:
        """A property that fails has failed: the smallest example is not looked for."""
        from hypothesis import Phase, settings

        settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate), database=None, deadline=None)
        settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os._exit(KILLED)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        import_module("sqlglot.dialects")  # slow, and otherwise each fork would do it
        import_module("hitl_mcp.policy.functions.sql_statements")
        gc.collect()
        gc.freeze()
        for number, (module, mutant) in enumerate(self.todo):
            chosen = self._tests(mutant, items)
            if not chosen:
                module.outcomes[mutant] = UNREACHED
                continue
            while len(self.running) >= self.processes:
                self._reap()
            if (child := os.fork()) == 0:
                _run(mutant, chosen)
            self.running[child] = (module, mutant)
            if number % 100 == 0:
                print(f"{number} of {len(self.todo)}", file=sys.stderr, flush=True)
                self._save()
        while self.running:
            self._reap()
        self._save()
        return True

    def _save(self) -> None:
        for module in {id(module): module for module, _ in self.todo}.values():
            module.save()

    def _tests(self, mutant: str, items: dict[str, pytest.Item]) -> list[pytest.Item]:
        names = sorted(self.reaching.get(function_of(mutant), []), key=lambda name: self.seconds.get(name, 0.0))
        chosen: list[pytest.Item] = []
        spent = 0.0
        for name in names:
            spent += self.seconds.get(name, 0.0)
            if name in items and (spent <= TESTS_SECONDS or not chosen):
                chosen.append(items[name])
        return chosen

    def _reap(self) -> None:
        child, status = os.wait()
        module, mutant = self.running.pop(child)
        code = os.waitstatus_to_exitcode(status)
        module.outcomes[mutant] = code if code in (SURVIVED, KILLED) else ENDLESS if code == -signal.SIGPROF else None


def _run(mutant: str, chosen: list[pytest.Item]) -> None:
    """In the fork: the tests, one after the other; the first that fails ends it."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.environ[ACTIVE] = active(mutant)
    signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
    try:
        for item, following in zip(chosen, [*chosen[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    except BaseException:  # whatever a mutant throws through pytest, it has been noticed
        os._exit(KILLED)
    os._exit(SURVIVED)


def _pytest(plugins: list[object], *more: str) -> int:
    """Run pytest on the changed code, with the tests that pyproject.toml names for this."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    os.chdir(WORKPLACE)
    sys.path[:0] = [str(WORKPLACE / "src"), str(WORKPLACE)]
    options = ["--rootdir=.", "--tb=no", "-q", "-p", "no:xdist", *config["pytest_add_cli_args"], *more]
    return int(pytest.main([*options, *config["pytest_add_cli_args_test_selection"]], plugins=plugins))


def imported() -> None:
    """Print the functions that run while the changed modules are imported."""
    sys.path.insert(0, str(WORKPLACE / "src"))
    for path in sorted((WORKPLACE / "src").rglob("*.py.meta")):
        import_module(".".join(path.relative_to(WORKPLACE / "src").parts).removesuffix(".py.meta"))
    print("\n".join(sorted(import_module("mutmut.state").state()._stats)))


def _alone(mutant: str) -> int | None:
    """Run a mutant in a process that imports our code under it."""
    environment = {**os.environ, ACTIVE: active(mutant)}
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--alone"], env=environment, capture_output=True, timeout=10 * PROCESSOR_SECONDS
        )
    except subprocess.TimeoutExpired:
        return ENDLESS
    return SURVIVED if done.returncode == 0 else KILLED


def run(patterns: list[str]) -> None:
    """Run the mutants that the patterns name, or all that are not known yet."""
    known = modules()
    environment = {**os.environ, ACTIVE: "stats"}
    listed = subprocess.run(
        [sys.executable, __file__, "--imported"], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    early = set(listed.stdout.split())
    wanted = [
        (module, mutant)
        for module in known
        for mutant, outcome in module.outcomes.items()
        if (any(fnmatch.fnmatch(mutant, pattern) for pattern in patterns) if patterns else outcome is None)
    ]
    later = [(module, mutant) for module, mutant in wanted if function_of(mutant) not in early]
    os.environ[ACTIVE] = ""
    processes = os.cpu_count() or 1
    _pytest([Forks(later, processes)], "-s")
    alone = [(module, mutant) for module, mutant in wanted if function_of(mutant) in early]
    print(f"{len(alone)} in processes of their own", file=sys.stderr, flush=True)
    with ThreadPoolExecutor(processes) as threads:
        outcomes = threads.map(_alone, [mutant for _, mutant in alone])
        for (module, mutant), outcome in zip(alone, outcomes, strict=True):
            module.outcomes[mutant] = outcome
    for module in known:
        module.save()


def table() -> int:
    """Print the figures as docs/testing.md shows them; 1 where something is not known."""
    found: dict[str, Counter[str]] = {}
    for module in modules():
        words = {SURVIVED: "survived", UNREACHED: "survived", KILLED: "killed", ENDLESS: "killed"}
        counted = Counter(words.get(code, "?") if code is not None else "?" for code in module.outcomes.values())
        if counted:
            found[str(module.path.relative_to(WORKPLACE / "src" / "hitl_mcp")).removesuffix(".meta")] = counted
    found["all"] = sum(found.values(), Counter())
    print("| module | mutants | killed | % |\n|---|---|---|---|")
    for name, counted in found.items():
        killed, of = counted["killed"], counted["killed"] + counted["survived"]
        print(f"| {name} | {of} | {killed} | {100 * killed / of if of else 0:.1f} |")
    if unknown := found["all"]["?"]:
        print(f"{unknown} mutants were not run, or could not be", file=sys.stderr)
    return 1 if unknown else 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--imported"]:
            imported()
        case ["--alone"]:
            sys.exit(_pytest([], "-x"))
        case ["--table"]:
            sys.exit(table())
        case patterns:
            run(patterns)
            sys.exit(table())
