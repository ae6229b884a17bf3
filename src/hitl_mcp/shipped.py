"""Where the files that come with the project are: the ready policies, and the examples people copy.

They stand in `policies/` and `examples/` at the root of a checkout, and in `_shipped/` inside an installed package.
Only finding them belongs here; reading them is their readers' work.
"""

from __future__ import annotations

from pathlib import Path

from hitl_mcp.errors import HitlError

_PACKAGE = Path(__file__).resolve().parent


def policy_path(name: str) -> Path:
    """The ready policy of this name, such as `cautious.yaml`.

    Raises:
        HitlError: The installation lacks this file.
    """
    return _shipped("policies", name)


def ready_policies() -> dict[str, Path]:
    """Every ready policy by the name it is used by: `{use: github}`."""
    folder = _shipped("policies", ".")
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def example_path(name: str) -> Path:
    """The file or folder of this name under `examples/`, such as `sandbox/server.py`.

    Raises:
        HitlError: The installation lacks this file.
    """
    return _shipped("examples", name)


def _shipped(folder: str, name: str) -> Path:
    # An installed package holds its own copy, which wins. A checkout is `<root>/src/hitl_mcp`.
    for root in (_PACKAGE / "_shipped", _PACKAGE.parent.parent):
        path = root / folder / name
        if path.exists():
            return path
    raise HitlError(f"cannot find `{folder}/{name}`, which comes with hitl-mcp", help="install hitl-mcp again")
