"""The files that come with the project are found, in a checkout and in a package that has no development tools."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from hitl_mcp.errors import HitlError
from hitl_mcp.shipped import example_path, policy_path

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a fresh environment that holds the built wheel and what it needs to run, nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / "bin"
    wheel = next(folder.glob("hitl_mcp-*.whl"))
    lock = ROOT / "requirements.lock"
    run(programs / "python", "-m", "pip", "install", "--quiet", "--constraint", str(lock), str(wheel))
    return programs


def run(*command: str | Path, **env: str) -> str:
    """Run a program that must succeed, away from the checkout, and return what it prints."""
    clean = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(command, env=clean | env, cwd="/", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_checkout_finds_its_own_folders() -> None:
    """Next to the code, the files are those that are edited."""
    assert example_path("sandbox/server.py") == ROOT / "examples" / "sandbox" / "server.py"
    assert policy_path("cautious.yaml") == ROOT / "policies" / "cautious.yaml"


def test_a_file_that_is_missing_is_named() -> None:
    """A broken installation says what it lacks and what to do."""
    with pytest.raises(HitlError, match=r"cannot find `policies/none\.yaml`") as caught:
        policy_path("none.yaml")
    assert "install hitl-mcp again" in str(caught.value)


def test_the_wheel_carries_policies_and_examples_and_no_more(installed: Path) -> None:
    """An installed package finds its copies, and puts no `tests` or `examples` beside other packages."""
    program = (
        "import hitl_mcp, importlib.util as u; from hitl_mcp.shipped import *;"
        "print(policy_path('cautious.yaml')); print(example_path('demo/hitl.yaml'));"
        "print(u.find_spec('tests'), u.find_spec('examples'), u.find_spec('pytest'))"
    )
    policy, example, others = run(installed / "python", "-c", program).splitlines()
    assert policy.endswith("hitl_mcp/_shipped/policies/cautious.yaml")
    assert example.endswith("hitl_mcp/_shipped/examples/demo/hitl.yaml")
    assert others == "None None None"


def test_the_wheel_plays_the_demo(installed: Path, short_dir: Path) -> None:
    """From an installed package, without a checkout or development packages, the whole story runs as decided."""
    run(installed / "hitl-mcp", "demo", "--auto", HITL_MCP_HOME=str(short_dir))
