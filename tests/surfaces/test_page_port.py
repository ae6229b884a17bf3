"""The review page's port: on both of this machine's loopback addresses, so that `localhost` leads to nobody else."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from hitl_mcp.config import Config, load_config
from hitl_mcp.errors import ConfigError
from hitl_mcp.surfaces.page_port import open_page


def config_of(folder: Path, review: str) -> Config:
    """A config with this under `review`."""
    path = folder / "hitl.yaml"
    (folder / "policy.yaml").write_text("version: 1\ndefault: hold\n", encoding="utf-8")
    path.write_text(f"upstreams: {{}}\npolicies: [policy.yaml]\nreview: {review}\n", encoding="utf-8")
    return load_config(path)


def has_both() -> bool:
    """Whether this machine has the other loopback address, too."""
    try:
        with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_page_has_its_port_on_both_loopback_addresses(tmp_path: Path, host: str) -> None:
    """Whichever the config names, and nobody can take the other one afterwards."""
    sockets, alone = open_page(config_of(tmp_path, f"{{host: {host}, port: 0}}"))
    with ExitStack() as stack:
        for one in sockets:
            stack.enter_context(closing(one))
        ports = {one.getsockname()[1] for one in sockets}
        hosts = {one.getsockname()[0] for one in sockets}
        assert alone and len(ports) == 1
        assert hosts == ({"127.0.0.1", "::1"} if has_both() else {"127.0.0.1"})
        for name in hosts:
            with pytest.raises(OSError):
                socket.create_server((name, *ports), family=socket.AF_INET6 if ":" in name else socket.AF_INET)


def test_a_squatter_on_the_other_address_is_noticed(tmp_path: Path) -> None:
    """With a port that the config names the page opens on the address that is free, and is not called `localhost`."""
    if not has_both():
        pytest.skip("this machine has no ::1")
    with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)) as squatter:
        port = squatter.getsockname()[1]
        sockets, alone = open_page(config_of(tmp_path, f"{{port: {port}}}"))
        with closing(sockets[0]):
            assert (len(sockets), alone) == (1, False)
        with closing(socket.create_server(("127.0.0.1", port))), pytest.raises(ConfigError, match="cannot listen"):
            open_page(config_of(tmp_path, f"{{port: {port}}}"))


def test_without_a_port_in_the_config_a_squatted_one_is_passed_over(tmp_path: Path) -> None:
    """The next one that is free on both addresses is taken."""
    if not has_both():
        pytest.skip("this machine has no ::1")
    with ExitStack() as stack:
        first, _ = open_page(config_of(tmp_path, "{}"))
        for one in first:
            stack.enter_context(closing(one))
        port = first[0].getsockname()[1]
        first[1].close()
        first[0].close()
        stack.enter_context(closing(socket.create_server(("::1", port), family=socket.AF_INET6)))
        second, alone = open_page(config_of(tmp_path, "{}"))
        for one in second:
            stack.enter_context(closing(one))
        assert alone and second[0].getsockname()[1] != port
