"""`hitl-mcp stdio`: what an agent client launches. Whole lines, between its stdin and stdout and the gateway.

The bridge outlives the gateway: when that is stopped, killed or restarted, the client keeps its connection, and is
told the truth about what was in flight. It decides nothing, runs nothing and keeps nothing on disk.

Of what passes it reads `id`, `method` and whether an answer came, and beyond that only what it cannot do without:

- `params.name` of a `tools/call`: `hitl_wait` and `hitl_status` only read and are asked again, other calls never;
- `params.requestId` of `notifications/cancelled`: a cancelled request gets no answer;
- `params.uri` of `resources/subscribe` and `resources/unsubscribe`, to know which subscriptions stand;
- `params._meta`: whether a request is of the modern era, whose results need a `resultType`, and which
  `subscriptions/listen` an acknowledgement is for.

Standard library only, and one thread: a client starts this for each of its sessions and waits for it. Finding and
starting a gateway stands in `autostart`.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import sys
import time
from collections import deque

from hitl_mcp import limits
from hitl_mcp.autostart import GatewayUnavailable, Search, serve_command, state_directory_error
from hitl_mcp.bridge_frames import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    Frame,
    Lines,
    TooLong,
    answered,
    cancelled_line,
    error_body,
    fields,
    frame_of,
    id_key,
    lost_answer,
    read_message,
)
from hitl_mcp.state_dir import StateDir

TYPE_CHECKING = False  # as in state_dir
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

USAGE = "usage: hitl-mcp stdio [--config hitl.yaml] [--agent NAME]"

SUBSCRIPTION_META = "io.modelcontextprotocol/subscriptionId"
"""In `params._meta` of what a gateway sends for a `subscriptions/listen`: that request's id."""

STDIN, STDOUT = 0, 1

READ_BYTES = 65536
"""What is read at once: what a pipe holds on Linux."""

SETTLED_SECONDS = 10
"""A connection that lasted this long was no failed start: the next start does not wait."""

LOOK_FOR_RETURN_SECONDS = 1.0
"""How often a bridge without a gateway looks whether one came back, so that subscriptions go on by themselves."""


class Standing:
    """What a new gateway must be told before the client's next frame means to it what it meant to the old one."""

    def __init__(self) -> None:
        self.handshake: Frame | None = None
        self.initialized: Frame | None = None
        self._log_level: Frame | None = None
        self._subscriptions: dict[str, Frame] = {}
        self.listens: dict[str, Frame] = {}

    def note_answer(self, frame: Frame, has_error: bool) -> None:
        """Remember what a request that was answered left standing."""
        self.listens.pop(frame.key, None)
        if has_error:
            return
        if frame.method == "initialize":
            self.handshake = frame
        elif frame.method == "logging/setLevel":
            self._log_level = frame
        elif frame.method == "resources/subscribe":
            self._subscriptions[str(frame.params.get("uri"))] = frame
        elif frame.method == "resources/unsubscribe":
            self._subscriptions.pop(str(frame.params.get("uri")), None)

    def settings(self) -> list[Frame]:
        """The requests to repeat after the handshake; their answers are not for the client."""
        level = [self._log_level] if self._log_level else []
        return [*level, *self._subscriptions.values()]


class Link:
    """One connection to a gateway: greeted, then told what stands (`Standing`), then open for the client's frames."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.connection = connection
        self.lines = Lines(limits.GATEWAY_LINE_BYTES)
        self.greeted = False
        self.open = False
        self.opened_at = now
        self.unsent: deque[Frame] = deque()
        self.unsent_bytes = 0
        self._sent_of_first = 0
        self.takes_more = True
        """False once sending failed. What it said before it went is still read."""
        self.questions: dict[str, Any] = {}
        """What the gateway asked the client over this connection and has no answer to, by key; the value is the id."""
        self.silent: set[str] = set()
        """Keys of repeated requests, whose answer the client already has."""
        self.silent_acknowledgements: set[str] = set()

    def queue(self, frame: Frame) -> None:
        self.unsent.append(frame)
        self.unsent_bytes += len(frame.line) + 1

    def send(self) -> None:
        """Send what the socket takes now; a frame leaves `unsent` only when its last byte went."""
        while self.unsent and self.takes_more:
            data = self.unsent[0].line + b"\n"
            try:
                self._sent_of_first += self.connection.send(memoryview(data)[self._sent_of_first :])
            except BlockingIOError:
                return
            except OSError:
                self.takes_more = False
                return
            if self._sent_of_first == len(data):
                self._sent_of_first = 0
                self.unsent_bytes -= len(data)
                self.unsent.popleft().forget_line_of_call()


class Bridge:
    """The relay for one agent client. `run` returns the exit code once the client is gone."""

    def __init__(
        self,
        state: StateDir,
        agent: str,
        *,
        command: Sequence[str] | None = None,
        wait_seconds: float = limits.GATEWAY_START_SECONDS,
    ) -> None:
        self._state = state
        self._command = command or serve_command(state.config)
        self._wait_seconds = wait_seconds
        self._greeting = {"hitl": 1, "config": state.config, "agent": agent, "conversation": os.urandom(16).hex()}
        self._client_lines = Lines(limits.CLIENT_LINE_BYTES)
        self._for_client = bytearray()
        self._waiting: deque[Frame] = deque()
        self._waiting_bytes = 0
        self._in_flight: dict[str, Frame] = {}
        self._standing = Standing()
        self._search: Search | None = None
        self._link: Link | None = None
        self._quick_ends = 0
        self._give_up_at: float | None = None
        self._exit_code = 0
        self._said = ""
        self._look_for_return_at: float | None = None

    def run(self) -> int:
        """Relay until the client closes stdin or stops reading stdout."""
        self._search_again()
        try:
            while not self._is_done():
                self._turn()
        except ConnectionError:
            return 0  # the client is gone, and with it everyone who could want an answer
        finally:
            self._drop_link()
            self._end_search()
        return self._exit_code

    def _is_done(self) -> bool:
        if self._give_up_at is None:
            return False
        if time.monotonic() >= self._give_up_at:
            return True
        if self._for_client:
            return False
        if self._link is None and self._search is None:
            return True
        unsent = self._link is not None and self._link.unsent
        return not (self._in_flight or self._waiting or unsent)

    def _turn(self) -> None:
        now = time.monotonic()
        self._look_for_gateway(now)
        self._flush()
        link = self._link
        readers, writers = self._interests(link)
        readable, _, _ = select.select(readers, writers, [], self._pause(now))
        if STDIN in readable:
            self._from_client()
        if link is not None and link.connection in readable:
            self._from_gateway(link)
        self._flush()

    def _interests(self, link: Link | None) -> tuple[list[int | socket.socket], list[int | socket.socket]]:
        readers: list[int | socket.socket] = []
        writers: list[int | socket.socket] = []
        if self._takes_from_client():
            readers.append(STDIN)
        if self._for_client:
            writers.append(STDOUT)
        if link is not None and self._client_reads():
            readers.append(link.connection)
        if link is not None and link.unsent and link.takes_more:
            writers.append(link.connection)
        return readers, writers

    def _client_reads(self) -> bool:
        return len(self._for_client) < limits.RELAY_BUFFER_BYTES

    def _takes_from_client(self) -> bool:
        held_bytes = self._waiting_bytes + (self._link.unsent_bytes if self._link else 0)
        return self._give_up_at is None and self._client_reads() and held_bytes < limits.RELAY_BUFFER_BYTES

    def _pause(self, now: float) -> float | None:
        moments = [self._give_up_at, self._look_for_return_at]
        if self._search is not None:
            moments.append(self._search.deadline if self._link else self._search.look_at)
        return min((max(0, moment - now) for moment in moments if moment is not None), default=None)

    def _flush(self) -> None:
        # The client's end may block, so never more than what a writable pipe is sure to take.
        while self._for_client and select.select([], [STDOUT], [], 0)[1]:
            written = os.write(STDOUT, self._for_client[: select.PIPE_BUF])
            del self._for_client[:written]
        if self._link is not None:
            self._link.send()

    # -- the client's side --------------------------------------------------------------------------------------

    def _from_client(self) -> None:
        data = os.read(STDIN, READ_BYTES)
        for line in self._client_lines.feed(data or b"\n"):  # a last line may lack its newline
            if isinstance(line, TooLong):
                text = f"a message of more than {limits.CLIENT_LINE_BYTES} bytes was refused, so nothing ran"
                self._answer(line, error_body(INVALID_REQUEST, text))
            else:
                self._take_from_client(line)
        if not data:
            self._give_up_at = time.monotonic() + limits.LAST_ANSWERS_SECONDS

    def _take_from_client(self, line: bytes) -> None:
        frame = frame_of(line)
        if frame.is_answer:
            self._take_clients_answer(frame)
        elif frame.method == "notifications/cancelled":
            self._take_cancel(frame)
        elif frame.method == "notifications/initialized":
            self._take_initialized(frame)
        elif self._link is not None and self._link.open:
            self._send(self._link, frame)
        elif self._search is not None or frame.is_request:
            self._wait(frame)
            self._search_again()

    def _take_clients_answer(self, frame: Frame) -> None:
        # INVARIANT: an answer reaches only the connection whose question it answers. Another connection's questions
        # may carry the same id, and a "yes" must never meet a question that was not asked.
        if self._link is not None and self._link.questions.pop(frame.key, None) is not None:
            self._link.queue(frame)

    def _take_cancel(self, frame: Frame) -> None:
        key = id_key(frame.params.get("requestId"))
        self._in_flight.pop(key, None)
        self._standing.listens.pop(key, None)
        self._set_waiting([other for other in self._waiting if not (other.is_request and other.key == key)])
        if self._link is not None and self._link.open:
            self._link.queue(frame)

    def _take_initialized(self, frame: Frame) -> None:
        self._standing.initialized = frame
        if self._link is not None and self._link.open:
            self._link.queue(frame)
        elif self._standing.handshake is None:
            self._wait(frame)  # else it goes out with the handshake

    def _send(self, link: Link, frame: Frame) -> None:
        if frame.is_request:
            self._in_flight[frame.key] = frame
        link.queue(frame)

    def _wait(self, frame: Frame) -> None:
        self._waiting.append(frame)
        self._waiting_bytes += len(frame.line)

    def _set_waiting(self, frames: Sequence[Frame]) -> None:
        self._waiting = deque(frames)
        self._waiting_bytes = sum(len(frame.line) for frame in frames)

    def _answer(self, frame: Frame | TooLong, body: dict[str, Any]) -> None:
        answer = {"jsonrpc": "2.0", "id": frame.id, **body}
        self._for_client += json.dumps(answer).encode() + b"\n"

    # -- the gateway's side -------------------------------------------------------------------------------------

    def _from_gateway(self, link: Link) -> None:
        try:
            data = link.connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # A gateway that ends after its client left is started again for nobody.
            while self._takes_from_client() and select.select([STDIN], [], [], 0)[0]:
                self._from_client()
            self._lost(link)
            return
        for line in link.lines.feed(data):
            if isinstance(line, TooLong):
                self._lost(link)
            else:
                self._take_from_gateway(link, line)
            if self._link is not link:
                return

    def _take_from_gateway(self, link: Link, line: bytes) -> None:
        answer = answered(line) if link.greeted else None
        if answer is not None:
            if self._take_answer(link, *answer):
                self._for_client += line + b"\n"
            return
        message = read_message(line) or {}
        if not link.greeted:
            self._take_greeting(link, message)
        elif "method" in message:
            if self._is_for_client(link, message):
                self._for_client += line + b"\n"
        elif self._take_answer(link, id_key(message.get("id")), "error" in message):
            self._for_client += line + b"\n"

    def _is_for_client(self, link: Link, message: dict[str, Any]) -> bool:
        """Note a question or notification of the gateway; False for an acknowledgement that the client already has."""
        method, params = message["method"], fields(message.get("params"))
        if message.get("id") is not None:
            link.questions[id_key(message["id"])] = message["id"]
        elif method == "notifications/cancelled":
            link.questions.pop(id_key(params.get("requestId")), None)
        elif method == "notifications/subscriptions/acknowledged":
            key = id_key(fields(params.get("_meta")).get(SUBSCRIPTION_META))
            if key in link.silent_acknowledgements:
                link.silent_acknowledgements.discard(key)
                return False
            if key in self._in_flight:
                self._standing.listens[key] = self._in_flight.pop(key)
        return True

    def _take_answer(self, link: Link, key: str, has_error: bool) -> bool:
        """Note an answer of the gateway; False for one that the client already has."""
        handshake = self._standing.handshake
        if key in link.silent:
            link.silent.discard(key)
            if not link.open and handshake is not None and handshake.key == key:
                self._take_second_handshake(link, has_error)
            return False
        frame = self._in_flight.pop(key, None) or self._standing.listens.get(key)
        if frame is not None:
            self._standing.note_answer(frame, has_error)
        return True

    def _take_greeting(self, link: Link, message: dict[str, Any]) -> None:
        link.greeted = True
        handshake = self._standing.handshake
        if message.get("hitl") != 1 or message.get("ok") is not True:
            cause = message.get("error") if isinstance(message.get("error"), str) else "it gave no reason"
            self._no_gateway(f"the gateway refused this connection, so nothing was sent and nothing ran: {cause}", 2)
        elif handshake is not None:
            link.silent.add(handshake.key)
            link.queue(handshake)
        else:
            self._opened(link)

    def _take_second_handshake(self, link: Link, has_error: bool) -> None:
        if has_error:
            self._no_gateway(
                "the gateway was replaced by one that does not continue this connection, so nothing was sent and "
                "nothing ran\n  help: restart this server in the client",
                2,
            )
            return
        if self._standing.initialized is not None:
            link.queue(self._standing.initialized)
        for frame in self._standing.settings():
            link.silent.add(frame.key)
            link.queue(frame)
        self._opened(link)

    def _opened(self, link: Link) -> None:
        """From here on the client's frames go to this gateway, those that waited first."""
        link.open = True
        link.opened_at = time.monotonic()
        self._end_search()
        self._exit_code = 0
        self._said = ""
        for frame in self._standing.listens.values():
            link.silent_acknowledgements.add(frame.key)
            link.queue(frame)
        for frame in self._waiting:
            self._send(link, frame)
        self._set_waiting([])

    # -- when the gateway goes, and none comes ------------------------------------------------------------------

    def _lost(self, link: Link) -> None:
        """The connection ended: ask again what only reads, and say of everything else what can be said of it."""
        self._drop_link()
        if not link.open:
            return  # the search goes on
        in_flight, self._in_flight = list(self._in_flight.values()), {}
        # INVARIANT: a frame whose last byte we kept was never a whole line to the gateway, so it was not acted on.
        unsent = [frame for frame in link.unsent if not (frame.is_answer or self._is_repetition(frame))]
        again = [frame for frame in in_flight if frame.may_be_asked_again and frame not in unsent]
        self._set_waiting([*again, *unsent, *self._waiting])
        for frame in in_flight:
            if not frame.may_be_asked_again and frame not in unsent:
                self._answer(frame, lost_answer(frame))
        for question in link.questions.values():
            self._for_client += cancelled_line(question)
        lasted_seconds = time.monotonic() - link.opened_at
        self._quick_ends = self._quick_ends + 1 if lasted_seconds < SETTLED_SECONDS else 0
        self._search_again()

    def _is_repetition(self, frame: Frame) -> bool:
        standing = self._standing
        if frame is standing.initialized:
            return standing.handshake is not None
        return frame in standing.settings() or frame in standing.listens.values()

    def _look_for_gateway(self, now: float) -> None:
        if self._look_for_return_at is not None and now >= self._look_for_return_at:
            self._look_for_return_at = now + LOOK_FOR_RETURN_SECONDS
            if self._is_one_running():
                self._search_again()
        search = self._search
        if search is None:
            return
        if self._link is not None:
            if now >= search.deadline:
                self._no_gateway("the gateway did not answer in time, so nothing was sent and nothing ran", 2)
        elif now >= search.look_at:
            try:
                connection = search.step(now)
            except GatewayUnavailable as error:
                self._no_gateway(error.reason, error.exit_code)
                return
            if connection is not None:
                self._link = Link(connection, now)
                self._link.queue(Frame(json.dumps(self._greeting).encode()))

    def _search_again(self) -> None:
        if self._search is not None or self._give_up_at is not None:
            return
        now = time.monotonic()
        pauses = (0.0, *limits.RESTART_BACKOFF_SECONDS[:-1])
        start_at = now + pauses[min(self._quick_ends, len(pauses) - 1)]
        self._search = Search(self._state, self._command, deadline=now + self._wait_seconds, start_at=start_at)
        self._look_for_return_at = None

    def _no_gateway(self, reason: str, exit_code: int) -> None:
        """Give up for now: answer what waits. The next request looks again, for people repair what was wrong."""
        self._drop_link()
        self._end_search()
        self._exit_code = exit_code
        if reason != self._said:
            self._said = reason
            _say(reason)
        for frame in self._waiting:
            if frame.is_request:
                self._answer(frame, error_body(INTERNAL_ERROR, reason))
        self._set_waiting([])
        if not self._is_one_running():
            self._look_for_return_at = time.monotonic() + LOOK_FOR_RETURN_SECONDS

    def _is_one_running(self) -> bool:
        try:
            return self._state.gateway_is_running()
        except OSError:
            return False  # the next search says what is wrong

    def _drop_link(self) -> None:
        if self._link is not None:
            self._link.connection.close()
            self._link = None

    def _end_search(self) -> None:
        if self._search is not None:
            self._search.close()
            self._search = None


def main(arguments: Sequence[str]) -> int:
    """Run `hitl-mcp stdio` with these arguments and return its exit code."""
    if not {"-h", "--help"}.isdisjoint(arguments):
        _say(USAGE)
        return 0
    options = {"--config": "hitl.yaml", "--agent": "agent"}
    rest = [part for argument in arguments for part in (argument.split("=", 1) if argument[:2] == "--" else [argument])]
    for name, value in zip(rest[::2], rest[1::2], strict=False):
        if name not in options:
            return _misuse(f"unknown option `{name}`")
        options[name] = value
    if len(rest) % 2:
        return _misuse(f"no value for `{rest[-1]}`" if rest[-1] in options else f"unknown option `{rest[-1]}`")
    if not re.fullmatch("[a-z][a-z0-9-]{0,39}", options["--agent"]):
        return _misuse(f"`--agent`: not a name `{options['--agent']}`: up to 40 of a-z, 0-9 and -, a letter first")
    try:
        return Bridge(StateDir.for_config(options["--config"]), options["--agent"]).run()
    except state_directory_error() as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        return 130


def _misuse(text: str) -> int:
    _say(f"{text}\n  help: {USAGE}")
    return 2


def _say(text: str) -> None:
    """Tell whoever reads stderr. Not `print`: where stderr is closed that would write into the protocol."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"hitl-mcp stdio: {text}\n")
        sys.stderr.flush()
    except OSError:
        return
