"""A site for each story."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateways import Site, site
from tests.upstream_programs import SLOW_POLICY, slow_upstream


@pytest.fixture
def sandbox_site(short_dir: Path) -> Iterator[Site]:
    """The sandbox behind the gate: reads run, mail and payments are held, deletions are denied."""
    with site(short_dir, agents={"remote": {"token": "remote-key"}}, http={"enabled": True}) as made:
        yield made


@pytest.fixture
def slow_site(short_dir: Path) -> Iterator[Site]:
    """An upstream whose calls take effect first and answer when the test lets them."""
    upstreams = {"slow": slow_upstream(short_dir)}
    agents = {"remote": {"token": "remote-key"}}
    with site(short_dir, SLOW_POLICY, upstreams=upstreams, agents=agents, http={"enabled": True}) as made:
        yield made
