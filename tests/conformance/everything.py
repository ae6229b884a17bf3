"""The SDK's everything server, which the conformance suite is made for: unpacked from the SDK's source, and run."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc

from tests.gateways import WAIT_SECONDS, free_port
from tests.needs import needed

PACKAGE = "examples/servers/everything-server/mcp_everything_server"
"""Where it stands in the SDK's source."""


@asynccontextmanager
async def everything_server(folder: Path) -> AsyncIterator[str]:
    """The server on a loopback port, and its URL; `folder` is where it is unpacked to."""
    _unpack(folder)
    port = free_port()
    log = (folder / "everything.log").open("wb")
    with log:
        process = subprocess.Popen(  # noqa: ASYNC220 – it starts at once, and is not waited for
            [sys.executable, "-m", "mcp_everything_server", "--port", str(port), "--log-level", "WARNING"],
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdout=log,
            stderr=log,
        )
    try:
        await _listens(port, process)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


def _unpack(folder: Path) -> None:
    with tarfile.open(needed("sdk-source")) as archive:
        for member in archive:
            top, _, path = member.name.partition("/")
            if path.startswith(f"{PACKAGE}/") and top.startswith("mcp-"):
                member.name = path.removeprefix(f"{PACKAGE.rpartition('/')[0]}/")
                archive.extract(member, folder, filter="data")


async def _listens(port: int, process: subprocess.Popen[bytes]) -> None:
    with anyio.fail_after(WAIT_SECONDS):
        while process.poll() is None:
            try:
                await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
                return
            except OSError:
                await anyio.sleep(0)
    raise AssertionError(f"the everything server ended with {process.returncode}")
