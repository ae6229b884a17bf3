"""Every mistake that the page shows, and many more: the whole message, with its place.

The examples are data: docs/policy-mistakes.md, and cases/mistakes.txt in the same form. Each is one line or more of a
policy, followed by what is said of it, marked with an arrow.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hitl_mcp.config import PolicySource
from hitl_mcp.errors import PolicyError
from hitl_mcp.policy import load_policy
from tests.policy.written import TWO_PEOPLE

ROOT = Path(__file__).resolve().parents[2]
RULE = {"id": "id: a", "tool": "tool: up__t", "effect": "effect: hold", "reason": "reason: r"}
FILE = ("rules", "bands", "signals", "budgets", "cases", "default", "hold_defaults", "tests")
ARROW = "\u2192 "


def examples(text: str) -> list[tuple[str, str]]:
    """What is written and what is said, in the order of the text."""
    blocks = [block for block in re.split(r"\n\n+", text.strip("\n")) if block.lstrip().partition(" ")[0] != "#"]
    found = []
    for block in blocks:
        lines = block.split("\n")
        said = [line.removeprefix(ARROW) for line in lines if line.startswith(ARROW)]
        written = [line for line in lines if not line.startswith(ARROW)]
        found.append(("\n".join(written), "\n".join(said)))
    return found


def of_page() -> list[tuple[str, str]]:
    """The examples of the page."""
    page = (ROOT / "docs" / "policy-mistakes.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return [example for block in blocks for example in examples(block)]


def of_file() -> list[tuple[str, str]]:
    """The examples that would make the page too long."""
    return examples((ROOT / "tests" / "policy" / "cases" / "mistakes.txt").read_text(encoding="utf-8"))


def policy_with(written: str) -> str:
    """The policy in which an example stands."""
    key = re.match(r"\w+", written)
    if key is not None and key[0] in FILE:
        return f"version: 1\n{written}\n"
    lines = {**RULE, (key[0] if key else ""): written}
    body = "\n".join(lines.values()).replace("\n", "\n    ")
    return f"version: 1\nrules:\n  - {body}\n"


@pytest.mark.parametrize(("written", "said"), [*of_page(), *of_file()])
def test_a_mistake_is_told_with_its_place_and_its_cure(
    written: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Line, column, what is wrong, and what to write: the whole message is what the page says."""
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(policy_with(written), encoding="utf-8")
    with pytest.raises(PolicyError) as refused:
        load_policy([PolicySource(Path("policy.yaml"))], TWO_PEOPLE)
    lines = [line.strip().removeprefix("policy.yaml:") for line in str(refused.value).split("\n")]
    assert "\n".join(lines) == said


def test_every_example_is_told_once() -> None:
    """An example on the page is not repeated among the others, and both have many."""
    page, others = [written for written, _ in of_page()], [written for written, _ in of_file()]
    assert len(set(page + others)) == len(page) + len(others)
    assert len(page) > 90
    assert len(others) > 150


def cures() -> list[tuple[str, str]]:
    """The help lines that give the whole line to write instead."""
    found = []
    for written, said in [*of_page(), *of_file()]:
        key = re.match(r"[a-z]+", written)
        cure = re.search(rf"write `({key[0] if key else '-'}: .*?)`(?:$|; )", said, re.MULTILINE)
        if cure is not None and "\n" not in written and key is not None and key[0] not in FILE:
            found.append((written, cure[1]))
    return found


@pytest.mark.parametrize(("written", "cure"), cures())
def test_what_is_said_to_be_written_can_be_read(written: str, cure: str, tmp_path: Path) -> None:
    """The quoted form is YAML, and nothing of what was written is lost in it."""
    path = tmp_path / "policy.yaml"
    path.write_text(policy_with(cure), encoding="utf-8")
    try:
        load_policy([PolicySource(path)], TWO_PEOPLE)
    except PolicyError as refused:
        assert "not YAML" not in str(refused)
        assert "ambiguous" not in str(refused)
    kept = re.sub(r"[^\w]", "", cure).replace("argsxmatchesrd", "argsxmatchesd")
    assert kept == re.sub(r"[^\w]", "", written)
