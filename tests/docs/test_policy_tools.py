"""The page on the policy tools: what it shows is what the commands print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hitl_mcp.cli.main import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "policy-tools.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_examples_on_the_page_are_real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command, run on the two files of the page, prints exactly what stands below it."""
    blocks = FENCE.findall(PAGE.read_text(encoding="utf-8"))
    policy, tools = (next(text for kind, text in blocks if kind == wanted) for wanted in ("yaml", "json"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    Path("policy.yaml").write_text(policy, encoding="utf-8")
    Path("bank.json").write_text(tools, encoding="utf-8")
    examples = [text.removeprefix("$ ").partition("\n") for kind, text in blocks if kind == "console"]
    assert [shlex.split(command)[2] for command, _, _ in examples] == ["check", "test", "explain"]
    for command, _, wanted in examples:
        arguments = shlex.split(command)[1:]
        if "explain" in arguments:  # the page mends the mistake that the first two have shown
            mended = Path("policy.yaml").read_text(encoding="utf-8").replace("reciever", "receiver")
            Path("policy.yaml").write_text(mended, encoding="utf-8")
        with pytest.raises(SystemExit):
            main(arguments)
        assert capsys.readouterr().out == wanted
