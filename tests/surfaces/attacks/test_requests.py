"""What whoever reaches the port can send that a browser would not, or only when it is tricked: byte by byte."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from hitl_mcp.calls import CallRecord, Status
from tests.clocks import HandClock
from tests.surfaces.desk import Desk, open_desk

SECRET = "MARK-7719"

PATIENCE_SECONDS = 3
"""How long an attack waits for more; the gateway answers what it answers at all in milliseconds."""


@dataclass
class Port:
    """The gateway's port, a held call, and the key of a reviewer."""

    desk: Desk
    record: CallRecord
    key: str

    def written(self, text: str) -> bytes:
        """What an attack writes, with what it knows put in."""
        body = f'{{"verdict":"approve","digest":"{self.record.digest}"}}'
        known = {
            "PORT": str(self.desk.port),
            "KEY": self.key,
            "ID": self.record.id,
            "BODY": body,
            "LENGTH": str(len(body)),
            "VERDICT": f"/api/calls/{self.record.id}/verdict",
        }
        for name, value in known.items():
            text = text.replace(f"<{name}>", value)
        return text.replace("\n", "\r\n").encode("latin-1")

    async def say(self, text: str) -> str:
        """Send these bytes, and read until the gateway has no more to say."""
        async with await anyio.connect_tcp("127.0.0.1", self.desk.port) as stream:
            await stream.send(self.written(text))
            answer = b""
            with anyio.move_on_after(
                PATIENCE_SECONDS
            ):  # some requests never end; what they said by then is what counts
                try:
                    while True:
                        answer += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    pass
            return answer.decode("latin-1")


@pytest.fixture(scope="module")
async def port(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Port]:
    """One gateway for all of this file; nothing changes on it."""
    folder: Path = tmp_path_factory.mktemp("port")
    async with open_desk(folder / "hitl.db", HandClock()) as desk:
        record = await desk.hold({"note": SECRET})
        yield Port(desk, record, await desk.key("dana"))


OURS = "Host: 127.0.0.1:<PORT>\n"
KEY = "Authorization: Bearer <KEY>\n"
JSON = "Content-Type: application/json\nContent-Length: <LENGTH>\n"
READ = "GET /api/calls HTTP/1.1\n"
DECIDE = "POST <VERDICT> HTTP/1.1\n"
CLOSE = "Connection: close\n"


def reading(headers: str, host: str = OURS) -> str:
    """A request that would read the calls, but for one thing."""
    return f"{READ}{host}{KEY}{CLOSE}{headers}\n"


def deciding(headers: str, host: str = OURS) -> str:
    """A request that would approve the call, but for one thing."""
    return f"{DECIDE}{host}{KEY}{JSON}{CLOSE}{headers}\n<BODY>"


HOSTS = {
    "a name of the attacker that leads here": "evil.example:<PORT>",
    "a name below one of ours": "localhost.evil.example:<PORT>",
    "our name with a dot behind it": "localhost.:<PORT>",
    "our name before an at": "127.0.0.1:<PORT>@evil.example",
    "our name behind an at": "evil@127.0.0.1:<PORT>",
    "another port": "127.0.0.1:1",
    "no port": "127.0.0.1",
    "no name": "",
    "any address": "0.0.0.0:<PORT>",
    "the address as a number": "2130706433:<PORT>",
    "the address in short": "127.1:<PORT>",
    "the address in the newer form": "[::ffff:127.0.0.1]:<PORT>",
    "two names in one": "127.0.0.1:<PORT>, evil.example",
    "a path behind it": "127.0.0.1:<PORT>/api",
}
ORIGINS = {
    "nowhere": "null",
    "another site": "https://evil.example",
    "a name that begins like ours": "http://127.0.0.1:<PORT>.evil.example",
    "a name that ends like ours": "http://evil127.0.0.1:<PORT>",
    "ours by another name than was asked for": "http://localhost:<PORT>",
    "ours with TLS": "https://127.0.0.1:<PORT>",
    "ours in capitals": "HTTP://127.0.0.1:<PORT>",
    "ours with a slash": "http://127.0.0.1:<PORT>/",
    "a file": "file://",
    "an extension": "chrome-extension://abcdef",
    "two at once": "http://127.0.0.1:<PORT> http://evil.example",
    "nothing at all": "",
}
REFUSED = {
    **{f"host: {name}": deciding("", f"Host: {host}\n") for name, host in HOSTS.items()},
    **{f"origin: {name}": deciding(f"Origin: {origin}\n") for name, origin in ORIGINS.items()},
    "two hosts": deciding("Host: 127.0.0.1:<PORT>\n"),
    "two hosts, the second false": deciding("Host: evil.example\n"),
    "no host at all": f"POST <VERDICT> HTTP/1.0\n{KEY}{JSON}\n<BODY>",
    "an address of another host": "POST http://evil.example<VERDICT> HTTP/1.1\nHost: evil.example\n"
    f"{KEY}{JSON}{CLOSE}\n<BODY>",
    "two origins": deciding("Origin: http://127.0.0.1:<PORT>\nOrigin: http://evil.example\n"),
    "from another site, as the browser says": deciding("Sec-Fetch-Site: cross-site\n"),
    "from the same site, another port": deciding("Sec-Fetch-Site: same-site\n"),
    "typed by hand, as the browser says": deciding("Sec-Fetch-Site: none\n"),
    "a name a proxy would have passed on": deciding("X-Forwarded-Host: 127.0.0.1:<PORT>\n", "Host: evil.example\n"),
    "two keys, the first true": deciding("Authorization: Bearer none\n"),
    "the key as a password": f"{DECIDE}{OURS}Authorization: Basic <KEY>\n{JSON}{CLOSE}\n<BODY>",
    "the key in a cookie": f"{DECIDE}{OURS}Cookie: hitl-mcp.key=<KEY>; Authorization=Bearer <KEY>\n"
    f"{JSON}{CLOSE}\n<BODY>",
    "the key in the address": f"POST <VERDICT>?token=<KEY>&access_token=<KEY> HTTP/1.1\n{OURS}{JSON}{CLOSE}\n<BODY>",
    "no key, and a true user in a header": deciding("X-Forwarded-User: dana\nX-Remote-User: dana\n").replace(KEY, ""),
    "two lengths": deciding("Content-Length: 3\n"),
    "a length and chunks": deciding("Transfer-Encoding: chunked\n"),
    "chunks by another name": f"{DECIDE}{OURS}{KEY}Transfer-Encoding: xchunked\n{CLOSE}\n<BODY>",
    "a header that goes on": deciding("X-One: two\n Authorization: Bearer <KEY>\n").replace(KEY, ""),
    "a header with a blank before its colon": deciding("").replace("Authorization:", "Authorization :"),
    "a line that ends in half": deciding("X-One: two\rHost: evil.example\n"),
    "a second request behind the first, without a key": f"{reading('').replace(KEY, '').replace(CLOSE, '')}"
    f"{DECIDE}{OURS}{JSON}{CLOSE}\n<BODY>",
    "a request within the body of another": f"POST /api/login HTTP/1.1\n{OURS}Content-Length: 4\n{CLOSE}\n"
    f"code{DECIDE}{OURS}{KEY}{JSON}\n<BODY>",
    "a method in a header": reading("X-HTTP-Method-Override: POST\n").replace("/api/calls", "<VERDICT>"),
    "a method in the address": f"GET <VERDICT>?_method=POST HTTP/1.1\n{OURS}{KEY}{CLOSE}\n",
    "a method of another kind": deciding("").replace("POST ", "PUT "),
    "a method in small letters": deciding("").replace("POST ", "post "),
    "asking what is allowed": deciding("Origin: http://evil.example\nAccess-Control-Request-Method: POST\n").replace(
        "POST ", "OPTIONS ", 1
    ),
    "a tunnel": f"CONNECT 127.0.0.1:22 HTTP/1.1\n{OURS}{CLOSE}\n",
    "tracing": f"TRACE /api/calls HTTP/1.1\n{OURS}{KEY}{CLOSE}\n",
    "an upgrade": reading(
        "Upgrade: websocket\nConnection: upgrade\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: x\n"
    ).replace(KEY, ""),
}
PATHS = {
    "two slashes": "//api/calls/<ID>/verdict",
    "a slash behind it": "<VERDICT>/",
    "encoded slashes": "/api%2fcalls%2f<ID>%2fverdict",
    "dots": "/api/calls/../calls/<ID>/verdict",
    "encoded dots": "/api/calls/%2e%2e/calls/<ID>/verdict",
    "a backslash": "/api\\calls\\<ID>\\verdict",
    "capitals": "/API/calls/<ID>/verdict",
    "a parameter": "<VERDICT>;digest=1",
    "a zero": "<VERDICT>%00",
    "a line break": "<VERDICT>%0d%0aX-One:%20two",
    "stopping the gateway": "/api/stop",
    "a link for oneself": "/api/links",
    "accepting a tool": "/api/tools/accept",
    "a backup": "/api/backup",
    "the record": "/api/audit/export",
    "stopping it by dots": "/api/calls/<ID>/../../stop",
    "stopping it by encoded dots": "/api/calls/%2e%2e%2fstop",
    "a file above the page": "/../../etc/passwd",
    "a file above the page, encoded": "/%2e%2e/%2e%2e/etc/passwd",
    "a file behind one of the page's": "/app.js/../../config.py",
    "a file of the state": "/hitl.db",
    "the environment": "/.env",
}


async def nothing_came_of_it(port: Port, answer: str) -> None:
    """Nothing was read, decided or stopped."""
    now = await port.desk.store.get(port.record.id)
    assert (now.status, now.version, now.verdicts) == (Status.HELD, port.record.version, ())
    assert port.desk.store.paused is None and port.desk.stopped == []
    assert SECRET not in answer and port.key not in answer
    assert "root:" not in answer and "access-control-allow" not in answer.lower()


@pytest.mark.parametrize("said", REFUSED.values(), ids=REFUSED)
async def test_a_request_that_is_not_quite_right_is_refused(port: Port, said: str) -> None:
    """Even with the reviewer's own key in it: no 2xx answer, and nothing moved."""
    answer = await port.say(said)
    await nothing_came_of_it(port, answer)
    for status in (line.split()[1] for line in answer.splitlines() if line.startswith("HTTP/1.1 ")):
        assert status[0] in "45"


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
async def test_an_address_that_only_looks_like_another_leads_nowhere(port: Port, path: str) -> None:
    """What is the operator's alone is not on this port, and no spelling of a path gets around that."""
    key = "" if "verdict" in path.lower() else KEY  # with a key, another spelling of the true path is the true path
    for method in ("POST", "GET"):
        answer = await port.say(f"{method} {path} HTTP/1.1\n{OURS}{key}{JSON}{CLOSE}\n<BODY>")
        await nothing_came_of_it(port, answer)
        assert answer[9:10] in "345"


async def test_the_same_request_without_a_fault_approves(port: Port, tmp_path: Path) -> None:
    """The control: what all of these differ from does go through, or they would show nothing."""
    async with open_desk(tmp_path / "hitl.db", HandClock()) as desk:
        other = Port(desk, await desk.hold({"note": SECRET}), await desk.key("dana"))
        assert "200 OK" in (await other.say(reading(""))).splitlines()[0]
        assert "200 OK" in (await other.say(deciding("Origin: http://127.0.0.1:<PORT>\n"))).splitlines()[0]
        assert (await desk.store.get(other.record.id)).status is Status.APPROVED
