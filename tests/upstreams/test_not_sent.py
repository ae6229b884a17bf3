"""Calls of which not one byte was written: that is certain on both transports, and said."""

from __future__ import annotations

import datetime
import json
import os
import select
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hitl_mcp.canonical import canonical_text
from hitl_mcp.errors import NotSent
from hitl_mcp.upstreams.ledger import Ledger, Send
from hitl_mcp.upstreams.streamable_http import Endpoint, HttpWire, http_client, open_http
from hitl_mcp.upstreams.wire import Back
from tests.upstreams.stage import a_call, free_socket, lines, one, raw


class Nobody:
    """Whom a wire tells what happens."""

    def tools_changed(self) -> None: ...

    def asked(self, method: str, during: str | None) -> None: ...

    def announced(self, method: str, params: dict[str, Any]) -> None: ...

    def lost(self, reason: str) -> None: ...


@asynccontextmanager
async def a_wire(url: str, ledger: Ledger) -> AsyncIterator[HttpWire]:
    async with (
        http_client(url, ledger) as client,
        open_http(Endpoint(httpx2.URL(url), {}), client, "web", ledger, Nobody()) as wire,
    ):
        yield wire


async def _call(wire: HttpWire, ledger: Ledger, send: Send) -> None:
    params = {"name": send.tool, "arguments": json.loads(send.arguments_json)}
    with ledger.registered(send):
        await wire.ask("tools/call", params, {"request_id": send.call_id}, Back(lambda message: None))


@contextmanager
def speaking(words: bytes) -> Iterator[int]:
    """A port where somebody says these words to whoever comes, which is no TLS."""
    with free_socket() as listening:
        if words:

            def speak() -> None:
                there, _ = listening.accept()
                with there:
                    there.sendall(words)
                    there.recv(1024)

            threading.Thread(target=speak, daemon=True).start()
        yield listening.getsockname()[1]


@pytest.mark.promise("R5")
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_refused_connection_is_certainly_not_sent(scheme: str) -> None:
    """Nobody listens there: the call is `NotSent`, and has not left."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else can take it
        url = f"{scheme}://127.0.0.1:{taken.getsockname()[1]}/mcp"
        await _is_not_sent(url)


async def test_an_address_without_a_host_is_certainly_not_sent() -> None:
    """The name cannot be resolved: nobody may ever be called that (RFC 6761)."""
    await _is_not_sent("http://nowhere.invalid/mcp")


async def test_a_server_that_speaks_no_tls_gets_nothing() -> None:
    """The handshake fails before anything of ours was sent."""
    with speaking(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        await _is_not_sent(f"https://127.0.0.1:{port}/mcp")


async def test_a_server_that_hangs_up_during_the_handshake_gets_nothing() -> None:
    """No certificate was even shown."""
    with speaking(b"\x15\x03\x03\x00\x02\x02\x28") as port:
        await _is_not_sent(f"https://127.0.0.1:{port}/mcp")


async def test_a_server_whose_certificate_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    """It is not whom the config names, so it is shown nothing."""
    with _tls_server(tmp_path) as port:
        await _is_not_sent(f"https://127.0.0.1:{port}/mcp")


async def _is_not_sent(url: str) -> None:
    ledger, send = Ledger(), a_call("pay")
    async with a_wire(url, ledger) as wire:
        with pytest.raises(NotSent, match="upstream `web` cannot be reached"), anyio.fail_after(10):
            await _call(wire, ledger, send)
        assert not ledger.has_sent(send.call_id)
        with pytest.raises(NotSent, match="sent before"), ledger.registered(send):
            pass


async def test_a_call_whose_connection_hangs_is_certainly_not_sent() -> None:
    """Somebody accepts and never says who it is: when the wait ends, the call has not left, and cannot any more."""
    ledger, send = Ledger(), a_call("pay")
    with speaking(b"") as port:
        async with a_wire(f"https://127.0.0.1:{port}/mcp", ledger) as wire:
            with anyio.move_on_after(0.2) as wait:
                await _call(wire, ledger, send)
            assert wait.cancelled_caught
            assert not ledger.has_sent(send.call_id)


@pytest.mark.promise("R5")
async def test_a_child_that_died_before_the_first_byte_got_nothing(tmp_path: Path) -> None:
    """We have not heard of its death yet: the write finds out, and it is certain that nothing went in."""
    async with one(raw("raw", "--record", str(tmp_path / "calls"))) as upstream:
        pid = (await upstream.send(a_call("pid")))["structuredContent"]["pid"]
        ended = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        select.select([ended], [], [], 10)
        os.close(ended)
        send = a_call("echo")
        with pytest.raises(NotSent, match="cannot be reached"):
            await upstream.send(send)
        assert not upstream.has_sent(send.call_id)
    assert lines(tmp_path / "calls") == ["pid"]


async def test_a_call_that_waits_for_a_full_pipe_is_certainly_not_sent(tmp_path: Path) -> None:
    """The child does not read, so the second call is not written at all."""
    async with one(raw("raw", "--record", str(tmp_path / "calls"))) as upstream:
        first = a_call("stops_reading")
        large = a_call("echo", canonical_text({"text": "x" * 900_000}))
        waiting = a_call("echo")
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(upstream.send, first)
                while lines(tmp_path / "calls") != ["stops_reading"]:
                    await anyio.sleep(0)
                tasks.start_soon(upstream.send, large)
                while not upstream.has_sent(large.call_id):
                    await anyio.sleep(0)
                with anyio.move_on_after(0.1) as wait:
                    await upstream.send(waiting)
                assert wait.cancelled_caught
                tasks.cancel_scope.cancel()
        assert upstream.has_sent(large.call_id)
        assert not upstream.has_sent(waiting.call_id)


@contextmanager
def _tls_server(folder: Path) -> Iterator[int]:
    """A port with a certificate that it made for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with free_socket() as listening:

        def accept() -> None:
            there, _ = listening.accept()
            with there:
                try:
                    context.wrap_socket(there, server_side=True)
                except ssl.SSLError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
