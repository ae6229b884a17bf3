"""Paths on a real file system: where links lead counts as much as what is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from hitl_mcp.limits import PATH_CHARACTERS
from hitl_mcp.policy.functions.paths import path_has, path_within


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """`shared` with a file and links out of it, beside `secret`; `alias` is a link to `shared`."""
    (tmp_path / "shared" / "sub").mkdir(parents=True)
    (tmp_path / "secret" / ".ssh").mkdir(parents=True)
    (tmp_path / "shared" / "file").write_text("")
    (tmp_path / "shared" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "shared" / "relative-out").symlink_to("../secret")
    (tmp_path / "shared" / "inside").symlink_to("sub")
    (tmp_path / "shared" / "loop").symlink_to("loop")
    (tmp_path / "shared" / "dangling").symlink_to(tmp_path / "secret" / "not-yet")
    (tmp_path / "shared" / "plain").symlink_to(tmp_path / "secret" / ".ssh")
    (tmp_path / "alias").symlink_to(tmp_path / "shared")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("shared/file", "shared", True),
        ("shared/new/not/there", "shared", True),
        ("shared/inside/x", "shared", True),
        ("shared/out", "shared", False),
        ("shared/out/x", "shared", False),
        ("shared/relative-out/x", "shared", False),
        ("shared/sub/../out/x", "shared", False),
        ("shared/inside/../out/x", "shared", False),
        ("shared/dangling", "shared", False),
        ("shared/plain", "shared", False),
        # Written, this is inside; followed link by link it is not: `out/..` is not `shared`.
        ("shared/out/../secret/x", "shared", False),
        ("shared/out/../file", "shared", False),
        # A root that is a link: what is below it by name is below it in truth.
        ("alias/file", "alias", True),
        ("alias/out/x", "alias", False),
        # By another name the folder is the same, but the path as written is not below it.
        ("alias/file", "shared", False),
        ("shared/file", "alias", False),
        ("secret/x", "shared", False),
    ],
)
def test_a_path_is_within_only_as_written_and_with_links_followed(
    folders: Path, path: str, root: str, expected: bool
) -> None:
    """A link out of the folder is out of it, wherever it stands in the path, and whether or not its end exists."""
    assert path_within(f"{folders}/{path}", f"{folders}/{root}") is expected


def test_a_circle_of_links_ends(folders: Path) -> None:
    """A link to itself is some answer in finite time; no one can open it."""
    assert path_within(f"{folders}/shared/loop/x", f"{folders}/shared") in (True, False)


def test_one_of_several_roots_holds_the_path_in_both_readings(folders: Path) -> None:
    """Inside one root as written and inside another in truth is inside neither."""
    roots = [f"{folders}/shared", f"{folders}/secret"]
    assert path_within(f"{folders}/secret/x", roots)
    assert not path_within(f"{folders}/shared/out/x", roots)


def test_a_name_behind_a_link_is_found(folders: Path) -> None:
    """A harmless name that leads to a forbidden one has the forbidden one."""
    assert path_has(f"{folders}/shared/plain/config", ".ssh")
    assert path_has(f"{folders}/shared/out/.ssh", ".ssh")
    assert not path_has(f"{folders}/shared/file", ".ssh")


def test_a_path_longer_than_any_is_refused() -> None:
    """The bound of the file system is ours."""
    with pytest.raises(ValueError, match="empty or too long"):
        path_within("/srv/" + "a" * PATH_CHARACTERS, "/srv")
