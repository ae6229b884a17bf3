"""What every connection with an upstream does, however its bytes travel: requests, answers, progress, questions.

A wire is a dispatcher for the MCP SDK's `ClientSession`, which negotiates over it. How bytes travel stands in
`stdio.py` and `streamable_http.py`; what they mean to the gateway in `connect.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup, TaskStatus
from mcp.shared.dispatcher import CallOptions, OnNotify, OnNotifyIntercept, OnRequest
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, INVALID_REQUEST, REQUEST_TIMEOUT

from hitl_mcp.errors import NotSent, OutcomeUnknown, UpstreamError
from hitl_mcp.limits import (
    LATE_ANSWERS,
    PROGRESS_FLUSH_SECONDS,
    PROGRESS_QUEUE_LENGTH,
    PROGRESS_TEXT_CHARACTERS,
    UPSTREAM_ERROR_CHARACTERS,
    UPSTREAM_QUESTIONS,
)
from hitl_mcp.upstreams import frames
from hitl_mcp.upstreams.asker import Question
from hitl_mcp.upstreams.ledger import Ledger, Progress
from hitl_mcp.upstreams.noise import Noise
from hitl_mcp.upstreams.results import why_unwritable

__all__ = ["ANNOUNCEMENTS", "Back", "Exchange", "LateMessage", "Wire", "WireEvents"]

logger = logging.getLogger(__name__)


ANNOUNCEMENTS = frozenset(
    {
        "notifications/resources/list_changed",
        "notifications/resources/updated",
        "notifications/prompts/list_changed",
    }
)
"""What an upstream says to everybody who wants to hear it."""

_METHOD_CHARACTERS = 100
"""What an upstream asks for, where it is told or logged: real methods are shorter."""


class WireEvents(Protocol):
    """Who is told what an upstream does by itself."""

    def tools_changed(self) -> None:
        """The tools may be others now: look again. Also said when the connection is in doubt."""

    def asked(self, method: str, during: str | None) -> None:
        """The upstream asked something that nobody answers, for the request `during` where the wire can tell."""

    def announced(self, method: str, params: dict[str, Any]) -> None:
        """The upstream said that its resources or prompts, or one resource, may be others now."""

    def lost(self, reason: str) -> None:
        """The connection is gone. Said once."""


LateMessage = Callable[[dict[str, Any]], None]
"""Takes the message that answers a request nobody waits for any more."""


@dataclass(frozen=True)
class Back:
    """The ways back to whoever a request is sent for.

    `on_late` takes an answer that comes after the wait for it ended; without it, the upstream is told to stop then.
    `on_question` answers what the upstream asks meanwhile, by method and params; without it nobody may be asked.
    `on_note` takes what it says meanwhile. `on_pause` is told that it ended its stream, to be asked again for it later.
    """

    on_late: LateMessage | None = None
    on_question: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]] | None = None
    on_note: Callable[[str, dict[str, Any]], Awaitable[None]] | None = None
    on_pause: Callable[[], Awaitable[None]] | None = None


_NOBODY = Back()

_NOTES = frozenset({"notifications/message", "notifications/elicitation/complete"})
"""What an upstream says to the client of a request, beside its progress."""


class Exchange:
    """One request of ours and the answer it waits for. `has_left` once its first byte may have been written.

    The answer of one that `is_late` still counts, though the wait for it is over. Of one that `is_called_off` the
    upstream was told that nobody wants it any more.
    """

    def __init__(self, request_id: str, method: str, on_progress: Progress | None = None, back: Back = _NOBODY) -> None:
        self.id = request_id
        self.method = method
        self.back = back
        self.has_left = False
        self.is_late = False
        self.is_called_off = False
        self.answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._on_progress = on_progress
        self._notes: deque[Callable[[], Awaitable[None]]] = deque(maxlen=PROGRESS_QUEUE_LENGTH)
        self._telling: asyncio.Task[None] | None = None
        self._is_deaf = False
        self.open_questions = 0
        self._asking: dict[str, anyio.CancelScope] = {}

    @property
    def is_over(self) -> bool:
        """Whether the answer came, or cannot come any more. A wait that was cancelled is not over for the upstream."""
        return self.answered.done() and not self.answered.cancelled()

    def settle(self, message: dict[str, Any]) -> None:
        """Hand over the answer; a second one is ignored."""
        if not self.answered.done():
            self.answered.set_result(message)
        elif self.is_late and self.back.on_late is not None:
            self.is_late = False
            self.back.on_late(message)

    def fail(self, error: BaseException) -> None:
        """End the wait without an answer."""
        if not self.answered.done():
            self.answered.set_exception(error)

    def progress(self, params: Mapping[str, Any]) -> None:
        """Pass a progress note on, in order, without ever waiting for whoever takes it."""
        done, total, text = _number(params.get("progress")), _number(params.get("total")), params.get("message")
        if self._on_progress is not None and done is not None:
            words = _relayable(text) if isinstance(text, str) else None
            self._pass_on(partial(self._on_progress, done, total, words))

    def note(self, method: str, params: dict[str, Any]) -> None:
        """Pass on what the upstream says beside its progress, in order with it."""
        if self.back.on_note is not None and why_unwritable(params) is None:
            self._pass_on(partial(self.back.on_note, method, params))

    def pause(self) -> None:
        """Pass on that the upstream ended the stream its answer comes on, behind what it said there."""
        if self.back.on_pause is not None:
            self._pass_on(self.back.on_pause)

    def _pass_on(self, note: Callable[[], Awaitable[None]]) -> None:
        self._notes.append(note)
        if self._telling is None and not self._is_deaf:
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        try:
            while self._notes:
                await self._notes.popleft()()
        except Exception:
            # Once: a call whose progress nobody takes goes on without telling it.
            logger.exception("progress of `%s` could not be passed on", self.id)
            self._is_deaf = True
            self._notes.clear()
        finally:
            self._telling = None

    @contextmanager
    def asking(self, question: str) -> Iterator[None]:
        """Have whoever is asked meanwhile asked no longer than the request lasts, or than its upstream wants it."""
        with anyio.CancelScope() as scope:
            self._asking[question] = scope
            try:
                yield
            finally:
                del self._asking[question]

    def take_back(self, question: str) -> None:
        """The upstream does not want to know any more."""
        if question in self._asking:
            self._asking[question].cancel()

    @property
    def may_ask(self) -> bool:
        """Whether the upstream may ask something, or something more."""
        return self.back.on_question is not None and self.open_questions < UPSTREAM_QUESTIONS

    async def flush(self) -> None:
        """Let the last notes go out before the answer does, but do not let a stuck reader hold it up."""
        if self._telling is not None:
            with anyio.CancelScope(shield=True):
                await asyncio.wait({self._telling}, timeout=PROGRESS_FLUSH_SECONDS)

    def wait_ended(self) -> None:
        """Nobody waits any more: from here on an answer is a late one, also one that came in this very moment."""
        self.is_late = not self.is_over or self.answered.exception() is None
        if self.is_over and self.is_late:
            self.settle(self.answered.result())

    def close(self) -> None:
        """Nothing is waited for any more."""
        if not self.answered.cancel() and not self.answered.cancelled():
            self.answered.exception()  # looked at, or asyncio logs it as forgotten
        if self._telling is not None:
            self._telling.cancel()
        for scope in self._asking.values():
            scope.cancel()


class Wire(ABC):
    """A connection that carries JSON-RPC. Implements the SDK's `Dispatcher`.

    Every frame passes the ledger right before it is written. What an upstream asks while it works on a request goes to
    whoever that was sent for, if it can be told which one it is, and is refused here otherwise.
    """

    def __init__(self, name: str, ledger: Ledger, events: WireEvents) -> None:
        self.name = name
        self._ledger = ledger
        self._events = events
        self._exchanges: dict[str, Exchange] = {}
        self._late: dict[str, Exchange] = {}
        self._noise = Noise(name)
        self._is_open = True
        self._ids = itertools.count(1)
        self._intercept: OnNotifyIntercept | None = None
        self._tasks: TaskGroup | None = None

    # Outwards.

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """`ask` as the SDK wants it of a `Dispatcher`: whatever goes wrong is an `MCPError`."""
        try:
            return await self.ask(method, params, opts)
        except UpstreamError as error:
            raise MCPError(CONNECTION_CLOSED, error.message) from None

    async def ask(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None = None,
        back: Back = _NOBODY,
    ) -> dict[str, Any]:
        """Send a request and return the result of its answer, as it came.

        Where the wait is cancelled after the request left, `on_late` gets the answer that may still come, and the
        upstream is not told to stop. Without it, it is told.

        Raises:
            MCPError: The upstream answered with an error, or not within `opts["timeout"]`.
            NotSent: It is certain that nothing was written.
            OutcomeUnknown: It was written, or may have been, and no usable answer came.
        """
        opts = opts or {}
        request_id = str(opts.get("request_id") or f"hitl-{next(self._ids)}")
        exchange = Exchange(request_id, method, opts.get("on_progress"), back)
        frame = frames.request(exchange.id, method, params)
        self._exchanges[exchange.id] = exchange
        try:
            with _limited(opts.get("timeout")):
                answer = await self._transmit(exchange, frame, opts.get("headers") or {})
                await exchange.flush()
        except TimeoutError:
            raise MCPError(REQUEST_TIMEOUT, f"no answer to `{method}` within {opts.get('timeout'):g} s") from None
        except asyncio.CancelledError:
            if back.on_late is not None and exchange.has_left and self._is_open:
                self._listen_on(exchange)
            elif opts.get("cancel_on_abandon", True):
                self._abandon(exchange)
            raise
        finally:
            del self._exchanges[exchange.id]
            exchange.close()
        return self.result_of(answer)

    def _listen_on(self, exchange: Exchange) -> None:
        """Let the answer of a call count that nobody waits for any more; the oldest of too many is given up."""
        self._late[exchange.id] = exchange
        exchange.wait_ended()
        if not exchange.is_late:
            del self._late[exchange.id]
        elif len(self._late) > LATE_ANSWERS:
            oldest = self._late.pop(next(iter(self._late)))
            oldest.is_late = False
            self._abandon(oldest)

    @abstractmethod
    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Tell the upstream something; what cannot be told is dropped."""

    @abstractmethod
    async def cancel(self, request_id: str) -> None:
        """Ask the upstream to stop a request that runs; whoever waits for its answer keeps waiting."""

    @abstractmethod
    async def _transmit(self, exchange: Exchange, frame: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        """Write a request and return the message that answers it."""

    @abstractmethod
    def _abandon(self, exchange: Exchange) -> None:
        """Tell the upstream, without waiting, that nobody waits for this answer any more."""

    @abstractmethod
    def _reply(self, frame: bytes, *, is_awaited: bool = False) -> None:
        """Answer a request of the upstream, without waiting, if that is possible; of a flood only what `is_awaited`."""

    # Inwards.

    async def run(
        self,
        on_request: OnRequest,
        on_notify: OnNotify,
        on_notify_intercept: OnNotifyIntercept | None = None,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Keep what the wire does in the background alive; part of the SDK's `Dispatcher`.

        Requests and notifications are dealt with here and not handed to the session: it would answer the same, and
        we must know that something was asked. Only its own subscription gets to see them (`on_notify_intercept`).
        """
        self._intercept = on_notify_intercept
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            task_status.started()
            try:
                await anyio.sleep_forever()
            finally:
                self._tasks = None
                tasks.cancel_scope.cancel()

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
        """Run something in the background for as long as the wire lives."""
        if self._tasks is not None:
            self._tasks.start_soon(function, *arguments)

    def _received(self, message: dict[str, Any], during: str | None = None) -> None:
        """Take a message that answers nothing, and answers on wires that carry them all in one stream."""
        method = message.get("method")
        if frames.is_answer(message):
            exchange = self._awaited(str(message.get("id")))
            if exchange is not None:
                exchange.settle(message)
        elif not isinstance(method, str):
            self._noise.did("sent a message whose method is not a text: it was skipped")
        else:
            params = message.get("params")
            params = params if isinstance(params, dict) else {}
            if "id" in message:
                self._asked(message["id"], Question(method, params), during)
            else:
                self._notified(method, params, during)

    def _awaited(self, request_id: str) -> Exchange | None:
        """The exchange that an answer belongs to, also a late one: that is its one answer."""
        return self._exchanges.get(request_id) or self._late.pop(request_id, None)

    def _awaits(self, request_ids: Iterable[str]) -> str | None:
        """The first of these ids whose answer counts, or None."""
        return next((one for one in request_ids if one in self._exchanges or one in self._late), None)

    def _asked(self, request_id: object, question: Question, during: str | None) -> None:
        if question.method == "ping":
            self._reply(frames.answer(request_id, {}))
            return
        exchange = self._whose(during)
        if exchange is not None and exchange.may_ask and why_unwritable(question.params) is None:
            exchange.open_questions += 1  # now: more may come before the task begins
            self.spawn(self._put, request_id, question, exchange)
            return
        method = _relayable(question.method, _METHOD_CHARACTERS)
        self._noise.did(f"asks for `{method}`, and nobody may answer it")
        self._events.asked(method, exchange.id if exchange is not None else None)
        self._reply(frames.refusal(request_id, INVALID_REQUEST, "nobody can be asked while a call runs"))

    async def _put(self, request_id: object, question: Question, exchange: Exchange) -> None:
        """Put a question to whoever the upstream works for, and answer it with what comes back."""
        if exchange.back.on_question is None:
            return
        reply: bytes | None = None  # and none to a question that was taken back
        try:
            with exchange.asking(_key(request_id)):
                result = await exchange.back.on_question(question.method, dict(question.params))
                reply = frames.answer(request_id, result)
        except MCPError as error:
            reply = frames.refusal(request_id, error.code, error.message)
        except Exception:
            # One question must not cost the connection, and every call on it.
            logger.exception("`%s`, asked by upstream `%s`, failed in the gateway", question.method[:100], self.name)
            reply = frames.refusal(request_id, INTERNAL_ERROR, "the gateway failed")
        finally:
            exchange.open_questions -= 1
        if reply is not None:
            self._reply(reply, is_awaited=True)

    def _whose(self, during: str | None) -> Exchange | None:
        """Which request of ours the upstream speaks of: the one on whose stream it came, or the only one there is."""
        if during is not None:
            return self._exchanges.get(during)
        waiting = [exchange for exchange in self._exchanges.values() if exchange.back is not _NOBODY]
        # The upstream still works on what nobody waits for any more: it may be that which it speaks of.
        may_be_late = any(not exchange.is_called_off for exchange in self._late.values())
        return waiting[0] if len(waiting) == 1 and not may_be_late else None

    def _call_off(self, request_id: str) -> None:
        """Note that the upstream is told to stop working on a request."""
        if (exchange := self._exchanges.get(request_id)) is not None:
            exchange.is_called_off = True

    def _notified(self, method: str, params: dict[str, Any], during: str | None) -> None:
        if method == "notifications/progress":
            exchange = self._exchanges.get(str(params.get("progressToken")))
            if exchange is not None:
                exchange.progress(params)
        elif self._intercept is not None and self._intercept(method, params):
            return
        elif method in _NOTES:
            exchange = self._whose(during)
            if exchange is not None:
                exchange.note(method, params)
        elif method == "notifications/cancelled":
            for exchange in self._exchanges.values():
                exchange.take_back(_key(params.get("requestId")))
        elif method == "notifications/tools/list_changed":
            self._events.tools_changed()
        elif method in ANNOUNCEMENTS:
            self._events.announced(method, params)

    def result_of(self, message: dict[str, Any]) -> dict[str, Any]:
        """The result in the message that answers a request.

        Raises:
            MCPError: It is an error.
            OutcomeUnknown: It is neither.
        """
        error, result = message.get("error"), message.get("result")
        if isinstance(error, dict) and "result" not in message:
            code, text = error.get("code"), error.get("message")
            raise MCPError(
                code if type(code) is int and abs(code) < 2**31 else INTERNAL_ERROR,
                _relayable(text, UPSTREAM_ERROR_CHARACTERS) if isinstance(text, str) else "an error without a message",
                error.get("data") if why_unwritable(error.get("data")) is None else None,
            )
        if isinstance(result, dict) and "error" not in message:
            return result
        raise self._unusable("it is neither a result nor an error")

    def _unusable(self, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(f"upstream `{self.name}` answered, but the answer cannot be used: {why}")

    def _gone(self, why: str) -> NotSent:
        return NotSent(f"upstream `{self.name}` cannot be reached: {why}")


def _key(request_id: object) -> str:
    """An id of the upstream's as a key: `1` and `"1"` are two ids."""
    return repr(request_id)


def _limited(seconds: float | None) -> AbstractContextManager[object]:
    """A limit only where there is one: a scope costs every call, and most have their deadline further out."""
    return nullcontext() if seconds is None else anyio.fail_after(seconds)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _relayable(text: str, limit: int = PROGRESS_TEXT_CHARACTERS) -> str:
    """A text as it can be recorded and written to an agent: not endless, and without half surrogate pairs."""
    return text[:limit].encode("utf-8", "replace").decode("utf-8")
