"""Where references to secrets lead, and that no error says what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from hitl_mcp.config import load_config
from hitl_mcp.errors import ConfigError, UnresolvedSecret
from hitl_mcp.limits import SECRET_BYTES
from hitl_mcp.secrets import Secrets, unknown_reference


@pytest.fixture(autouse=True)
def _in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def secrets_of(env: str | bytes | None = None, mode: int = 0o600) -> Secrets:
    """The secrets of a config beside which this env file stands."""
    line = "env_file: .env\n" if env is not None else ""
    Path("hitl.yaml").write_text(f"upstreams: {{}}\npolicies: [p.yaml]\n{line}", encoding="utf-8")
    if env is not None:
        Path(".env").write_bytes(env if isinstance(env, bytes) else env.encode())
        Path(".env").chmod(mode)
    return Secrets.from_config(load_config(Path("hitl.yaml")))


def test_a_reference_becomes_what_it_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables and files stand for their values inside any text; other text stays as it is."""
    monkeypatch.setenv("A_KEY", "alpha")
    (tmp_path / "key.txt").write_text("beta\n")
    secrets = secrets_of()
    assert secrets.resolve("Bearer ${env:A_KEY}/${file:key.txt}/${env:A_KEY}") == "Bearer alpha/beta/alpha"
    assert secrets.resolve(f"${{file:{tmp_path}/key.txt}}") == "beta"
    assert secrets.resolve("plain $A_KEY ${A_KEY} {env:A_KEY}") == "plain $A_KEY ${A_KEY} {env:A_KEY}"


def test_a_secret_is_not_read_again_for_references(tmp_path: Path) -> None:
    """What a secret holds is taken as it is, even where it looks like a reference."""
    (tmp_path / "key.txt").write_text("${env:HOME}")
    assert secrets_of().resolve("${file:key.txt}") == "${env:HOME}"


def test_the_env_file_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients strip environments, so what the env file says counts first; what it lacks comes from outside."""
    monkeypatch.setenv("BOTH", "outside")
    monkeypatch.setenv("OUTSIDE", "outside")
    secrets = secrets_of("BOTH=inside\n")
    assert secrets.resolve("${env:BOTH} ${env:OUTSIDE}") == "inside outside"


def test_an_env_file_is_read_as_people_write_it() -> None:
    """Comments, `export`, quotes and blanks are what they are elsewhere."""
    secrets = secrets_of(
        "\ufeff# a comment\n\nA=1\nexport B = two words # and a comment\n"
        "C='single # kept'\nD=\"double\"  # gone\nE=a=b#c\r\n"
    )
    assert [secrets.resolve(f"${{env:{name}}}") for name in "ABCDE"] == [
        "1",
        "two words",
        "single # kept",
        "double",
        "a=b#c",
    ]


UNRESOLVED = [
    ("${env:NOT_THERE}", "it is not set\n  help: set it in the env file, or where the gateway starts"),
    ("${env:EMPTY}", "it is empty\n  help: give it a value, or take the reference out"),
    (
        "${file:none.txt}",
        "the file cannot be read: no such file or directory\n  help: the path is relative to the config file",
    ),
    ("${file:folder}", "the file cannot be read: is a directory\n  help: the path is relative to the config file"),
    ("${file:binary}", "the file is not text, or its path is none"),
    ("${file:a\x00b}", "the file is not text, or its path is none"),
    ("${file:large}", "the file is larger than 65536 bytes"),
    ("${file:empty}", "it is empty\n  help: give it a value, or take the reference out"),
]


@pytest.mark.parametrize(("reference", "why"), UNRESOLVED)
def test_a_reference_that_leads_nowhere_is_named(reference: str, why: str, tmp_path: Path) -> None:
    """The error names the reference and why, and never a value; an empty secret is none."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_text("x" * (SECRET_BYTES + 1))
    (tmp_path / "empty").write_text("\n")
    secrets = secrets_of("EMPTY=\nOTHER=hush\n")
    with pytest.raises(UnresolvedSecret) as unresolved:
        secrets.resolve(f"${{env:OTHER}} {reference}")
    assert str(unresolved.value) == f"cannot resolve `{reference}`: {why}"
    assert unresolved.value.reference == reference


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_an_env_file_that_others_can_read_is_refused(mode: int) -> None:
    """The file must be its owner's alone; the message is the fix."""
    with pytest.raises(ConfigError) as refused:
        secrets_of("A=hush\n", mode)
    assert str(refused.value) == (
        f"hitl.yaml:3:11: the env file `.env` is open to others: its mode is `{mode:04o}`\n  help: chmod 600 .env"
    )


def test_an_env_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A missing env file is told where it is named."""
    Path("hitl.yaml").write_text("upstreams: {}\npolicies: [p.yaml]\nenv_file: none.env\n")
    with pytest.raises(ConfigError) as refused:
        Secrets.from_config(load_config(Path("hitl.yaml")))
    assert str(refused.value) == "hitl.yaml:3:11: the env file `none.env` cannot be read: no such file or directory"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "A=1\nhush\n1B=x\nC='hush\nD='a' b\n",
            "\n".join(
                f".env:{line}:1: not a `NAME=value` line\n  help: quotes must be closed on the line"
                for line in (2, 3, 4, 5)
            ),
        ),
        ("A=1\nA=2\n", ".env:2:1: the name `A` stands twice\n  help: keep one of the two"),
        (b"A=\xff\n", "hitl.yaml:3:11: the env file `.env` is not UTF-8 text"),
        ("A=" + "x" * SECRET_BYTES, "hitl.yaml:3:11: the env file `.env` is larger than 65536 bytes"),
    ],
)
def test_an_env_file_that_cannot_be_understood_is_refused(content: str | bytes, message: str) -> None:
    """Every bad line is told by its number, without what it says."""
    with pytest.raises(ConfigError) as refused:
        secrets_of(content)
    assert str(refused.value) == message
    assert "hush" not in str(refused.value)


def test_secrets_do_not_show_themselves() -> None:
    """Printing where secrets lead shows none of them."""
    secrets = secrets_of("KEY=hush\n")
    assert secrets.resolve("${env:KEY}") == "hush"
    assert "hush" not in repr(secrets) + str(secrets)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("${env:A} and ${file:/a b/c}", None),
        ("$A and {env:A}", None),
        ("${A}", "${A}"),
        ("${env:}", "${env:}"),
        ("${env:A-B}", "${env:A-B}"),
        ("${file:}", "${file:}"),
        ("${input:key}", "${input:key}"),
        ("x${env:A", "${env:A"),
        ("${}", "${}"),
    ],
)
def test_what_is_no_reference_is_noticed(text: str, reference: str | None) -> None:
    """A reference written in another program's way would be sent as it stands, so it is found at once."""
    found = unknown_reference(text)
    assert (found[0] if found else None) == reference
