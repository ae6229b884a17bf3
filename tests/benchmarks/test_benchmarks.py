"""The benchmark runs, small, and writes its figures. How fast anything is is no matter of a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

MEASURED = {
    ("stdio", "a call, one at a time"),
    ("stdio", "32 at once"),
    ("HTTP", "a call, one at a time"),
    ("HTTP", "32 at once"),
    ("held", "from the call until a reviewer's page knows of it"),
    ("held", "from the call to `held`, without the wait of 1 s"),
    ("start", "`hitl-mcp stdio`, gateway running: first answer"),
    ("start", "`hitl-mcp stdio`, no gateway: first answer"),
    ("decide", "10 rules and 10 signals of 1,000, processor time"),
    ("decide", "the same with velocity, novelty, spend and a budget, processor time"),
    ("decide", "what the store takes to answer them, processor time"),
    ("decide", "deciding, of the gateway's processor time a call"),
    ("decide", "loading 1,000 rules and 1,000 signals"),
    ("record", "a call recorded against unrecorded, one at a time"),
    ("record", "a call recorded on disk against unrecorded, one at a time"),
    ("record", "recorded against unrecorded, 32 at once"),
    ("record", "recorded on disk against unrecorded, 32 at once"),
    ("record", "recorded against unrecorded, 256 at once"),
    ("record", "recorded on disk against unrecorded, 256 at once"),
    ("record", "a held call on disk, 32 writers at once against one alone, median"),
    ("record", "its rows alone by a commit each, 32 writers at once against one alone, median"),
}

SEARCHED = {
    ("2,000 records", "a hold beside a search against alone, median"),
    ("2,000 records", "a hold beside a search against alone, p99"),
    ("2,000 records", "the queue beside a search against alone"),
    ("2,000 records", "a search that finds nothing"),
    ("2,000 records", "size on disk"),
}


def test_a_small_run_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    """One round of two calls gives every figure, and what the figures depend on."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--rounds", "1", "--calls", "2", "--json", str(figures)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stderr
    written = json.loads(figures.read_text(encoding="utf-8"))
    assert written["settings"]["rounds"] == 1
    assert {"cores", "python", "packages", "at"} <= written["machine"].keys()
    measured = {(one["group"], one["name"]): one for one in written["figures"]}
    assert measured.keys() >= MEASURED
    assert all(one["gateway"] > 0 and one["rounds"] == 1 for one in measured.values())
    assert all(measured["stdio", name]["plain_ratio"] > 0 for name in ("a call, one at a time", "32 at once"))
    assert all(f"| {group}: {name}" in ran.stdout for group, name in MEASURED)


def test_a_search_over_many_records_is_measured_on_a_database_that_is_removed_afterwards(tmp_path: Path) -> None:
    """The group that takes minutes runs only where it is named, here with few records, and leaves no file behind."""
    figures, scratch = tmp_path / "figures.json", tmp_path / "scratch"
    scratch.mkdir()
    size = ["--rounds", "1", "--calls", "2", "--records", "2000"]
    command = [sys.executable, "-m", "benchmarks", "--only", "million", *size, "--json", str(figures)]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    measured = {(one["group"], one["name"]): one for one in json.loads(figures.read_text(encoding="utf-8"))["figures"]}
    assert measured.keys() == SEARCHED
    assert all(one["gateway"] > 0 for one in measured.values())
    assert not list(scratch.iterdir())


def test_a_run_of_no_rounds_is_refused() -> None:
    """Counts below one are misuse, said before anything is started."""
    command = [sys.executable, "-m", "benchmarks", "--rounds", "0"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 2
    assert "at least 1" in ran.stderr
