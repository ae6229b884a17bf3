"""The suite by hand: `python -m tests.conformance [compare|direct|gate|bare] [REVISION] [--scenario NAME]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import anyio

from tests.conformance.suite import REVISIONS, Report, run_suite
from tests.conformance.targets import TARGETS, target


async def _run(name: str, revisions: tuple[str, ...], scenario: str | None) -> dict[str, Report]:
    folder = Path(tempfile.mkdtemp(prefix=f"conformance-{name}-"))
    async with target(name, folder) as url:
        reports = {revision: await run_suite(url, revision, folder / revision, scenario) for revision in revisions}
    for revision, report in reports.items():
        print(f"{name} {revision}: {report.passed.total()} passed, {len(report.failures)} failed")
    print(f"  whole results, and logs: {folder}")
    return reports


async def _show(name: str, revisions: tuple[str, ...], scenario: str | None) -> bool:
    """Run one target and print what fails, or two and print what passes direct and not through the gate."""
    if name != "compare":
        reports = await _run(name, revisions, scenario)
        lines = [
            f"{revision}: {check.scenario}: {check.id}: {check.why}"
            for revision, report in reports.items()
            for check in report.failures
        ]
    else:
        direct = await _run("direct", revisions, scenario)
        gate = await _run("gate", revisions, scenario)
        lines = [f"{revision}: {lost}" for revision in revisions for lost in direct[revision].lost_in(gate[revision])]
    print("\n".join(lines))
    return bool(lines)


def main() -> None:
    """Run, and exit with 1 where something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance")
    parser.add_argument("target", nargs="?", default="compare", choices=("compare", *TARGETS))
    parser.add_argument("revision", nargs="?", choices=REVISIONS, help="both, if none is named")
    parser.add_argument("--scenario")
    given = parser.parse_args()
    revisions = (given.revision,) if given.revision else REVISIONS
    sys.exit(1 if anyio.run(_show, given.target, revisions, given.scenario) else 0)


if __name__ == "__main__":
    main()
