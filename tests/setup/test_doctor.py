"""The doctor names what is wrong and how to mend it, and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hitl_mcp.setup.doctor import Finding, examine
from tests.gateways import Site, site


async def wrong(made: Site) -> dict[str, Finding]:
    """What the doctor finds wrong, by check."""
    return {finding.check: finding for finding in await examine(str(made.config)) if not finding.fine}


@pytest.fixture(autouse=True)
def own_state(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State directories of this test's own."""
    monkeypatch.setenv("HITL_MCP_HOME", str(short_dir / "s"))


async def test_a_fresh_config_has_nothing_wrong_and_nothing_is_made(short_dir: Path) -> None:
    """Before the first start there is only advice, and looking leaves no trace."""
    with site(short_dir) as made:
        findings = await examine(str(made.config))
        assert [finding for finding in findings if not finding.fine] == []
        assert {finding.check for finding in findings} >= {"config", "state directory", "sqlite", "same-user agents"}
        assert not (short_dir / "s").exists()


@pytest.mark.parametrize(
    ("config", "check", "says"),
    [
        ({"upstreams": {"gone": {"command": "no-such-command"}}}, "upstream gone", "`no-such-command` is not found"),
        (
            {"upstreams": {"crm": {"url": "http://x/", "headers": {"A": "${env:NOPE}"}}}},
            "upstream crm",
            "`${env:NOPE}`",
        ),
        ({"agents": {"builder": {"token": "${env:NOPE}"}}}, "agent builder", "cannot use /mcp"),
        ({"review": {"port": "many"}}, "config", "hitl.yaml:"),
    ],
    ids=["command", "secret", "agent", "config"],
)
async def test_what_is_wrong_is_named(short_dir: Path, config: dict[str, Any], check: str, says: str) -> None:
    """Each fault is found where it stands, with a fix."""
    with site(short_dir, {"version": 1, "default": "hold"}, **config) as made:
        found = (await wrong(made))[check]
        assert says in found.text
        assert found.fix or "help:" in found.text


async def test_a_state_directory_open_to_others_is_found(short_dir: Path) -> None:
    """The fix is the command to type."""
    with site(short_dir) as made:
        made.state.ensure()
        Path(made.state.path).chmod(0o755)
        assert "chmod 700" in (await wrong(made))["state directory"].fix


async def test_a_damaged_database_is_found_while_no_gateway_runs(short_dir: Path) -> None:
    """It says damaged, and leaves the file as it is."""
    with site(short_dir) as made:
        made.state.ensure()
        database = Path(made.state.file("hitl.db"))
        database.write_bytes(b"no database" * 1000)
        database.chmod(0o600)
        assert "damaged" in (await wrong(made))["database"].text
        assert database.read_bytes() == b"no database" * 1000


async def test_findings_print_as_json(short_dir: Path) -> None:
    """Programs read the same as people; a finding exits with 1."""
    with site(short_dir, upstreams={"gone": {"command": "no-such-command"}}) as made:
        done = made.run("doctor", "--json")
    checks = json.loads(done.stdout)["checks"]
    assert (done.returncode, {check["grade"] for check in checks} >= {"wrong", "note"}) == (1, True)
