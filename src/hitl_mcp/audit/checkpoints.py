"""Signed heads of the chain, in a file outside the database: proof that the record was once complete up to there.

A checkpoint attests only what was flushed to disk before, so that a power cut never looks like somebody's cut. Who can
read the signing key can sign anything: to be proof against the gateway's own user, copies of the file must leave the
machine.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hitl_mcp.calls import CallEvent
from hitl_mcp.canonical import canonical_bytes, canonical_text
from hitl_mcp.errors import StoreError
from hitl_mcp.store import FeedBehind, SqliteStore
from hitl_mcp.store.intact import SignedHead
from hitl_mcp.store.seals import key_from_file

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0
"""The longest time that events stand unsigned while the gateway runs: what a thief of the database's end can take."""

SIGNED_AT_ONCE = frozenset({"running", "rejected", "withdrawn", "invalidated", "grant-revoked", "grant-ended"})
"""The events after which an approval or a grant is used up or taken back: whoever takes these from the record could
have a call run twice, or run though somebody said no."""

TAIL_BYTES = 64 * 1024
"""How much of the file's end is read for its newest line: some 250 lines, of which the last is nearly always good."""


@dataclass(frozen=True)
class Checkpoint:
    """A head as it was signed. `restored` says that the record went back to it; `valid` that its signature fits."""

    number: int
    hash: str
    at: str
    restored: bool = False
    valid: bool = True


class Signer:
    """Signs heads with the key in a file, and appends them to another."""

    def __init__(self, key_file: Path, checkpoints_file: Path) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(key_from_file(key_file))
        self._file = checkpoints_file
        public_file = key_file.with_suffix(".pub")
        if not public_file.exists():
            _write_private(public_file, os.O_CREAT | os.O_TRUNC, self.public_key.hex() + "\n")

    @property
    def public_key(self) -> bytes:
        """The key that others verify with: 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, number: int, head: str, at: str, *, restored: bool = False) -> None:
        """Append a signed head; when this returns it is on disk.

        Raises:
            OSError: The file cannot be written.
        """
        _append(self._file, self.line(number, head, at, restored=restored))

    def newest(self) -> tuple[SignedHead | None, int]:
        """The newest head in the file that this key signed, and how many whole lines after it it did not sign.

        Raises:
            OSError: The file is there, and cannot be read.
        """
        others = 0
        for line in reversed(_last_lines(self._file)):
            checkpoint = _checkpoint(line, self._key.public_key())
            if checkpoint.valid:
                return SignedHead(checkpoint.number, checkpoint.hash, checkpoint.at), others
            others += 1
        return None, others

    def line(self, number: int, head: str, at: str, *, restored: bool = False) -> str:
        """A signed head as it stands in the file."""
        said = _said(number, head, at, restored)
        return canonical_text({**said, "signature": self._key.sign(canonical_bytes(said)).hex()}) + "\n"


def _said(number: int, head: str, at: str, restored: bool) -> dict[str, Any]:
    return {"v": 1, "number": number, "hash": head, "at": at, "restored": restored}


def _write_private(path: Path, flags: int, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _append(path: Path, line: str) -> None:
    """Add a line; when this returns it is on disk, also where the file was not there before."""
    is_new = not path.exists()
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read()
        # What a crash or a full disk left half-written would make one broken line with this one.
        torn = len(tail) - (tail.rfind(b"\n") + 1)
        file.seek(size - torn)
        file.truncate()
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _last_lines(path: Path) -> list[str]:
    """The last whole lines of the file; none where there is none."""
    if not path.exists():
        return []
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        lines = file.read().split(b"\n")
    first = 1 if size > TAIL_BYTES else 0
    return [line.decode(errors="replace") for line in lines[first:-1]]


class Checkpoints:
    """Signs the head of the chain while the gateway runs, whenever there is a new one.

    `problem` says why it cannot be signed, `doubt` what could not be told of the record when the gateway started.
    """

    def __init__(self, store: SqliteStore, signer: Signer) -> None:
        self._store = store
        self._signer = signer
        self._signed = 0
        self._signing = anyio.Lock()
        self.problem: str | None = None
        self.doubt: str | None = None

    async def look_back(self) -> None:
        """At a start, before anything else: hold the record against the head that was signed last.

        A record that was rolled back or rewritten is reported as tampering, and all that was open in it ends. Without
        the checkpoint nobody can tell: that is said, and nothing ends, for a lost file is no tampering.
        """
        newest, doubt = None, None
        try:
            newest, others = await anyio.to_thread.run_sync(self._signer.newest)
            if others:
                doubt = f"the last {others} checkpoints have signatures that do not fit"
        except OSError as error:
            doubt = f"the checkpoints cannot be read: {error.strerror}"
        found = await self._store.look_back(newest)
        if doubt is None and found.signed > (newest.number if newest is not None else 0):
            doubt = f"event {found.signed} was signed, and its checkpoint is gone"
        for finding in found.findings:
            logger.error("TAMPERING: %s; %d open calls ended", finding, found.ended)
        if doubt is not None:
            self.doubt = f"{doubt}: nobody can tell whether the record was rolled back"
            await self._store.note("checkpoints-doubted", self.doubt)
            logger.warning("%s", self.doubt)

    async def run(self) -> None:
        """Sign the head now, then again and again while there are new events, for ever."""
        while True:
            with self._store.follow(_is_signed_at_once) as pressing, suppress(FeedBehind):
                with self._store.follow() as news:
                    await self.sign_head()
                    await news.next()
                await pressing.next(timeout_seconds=CHECKPOINT_SECONDS)

    async def sign_head(self) -> None:
        """Sign the newest event, if there is one that is not signed; what goes wrong is told, and tried again later."""
        async with self._signing:
            try:
                number, head, at = await self._store.flushed_head(self._signed)
                if number > self._signed:
                    await anyio.to_thread.run_sync(self._signer.sign, number, head, at)
                    self._signed = number
                self.problem = None
            except (StoreError, OSError) as error:
                self.problem = str(error)
                logger.exception("the head of the record cannot be signed")


def _is_signed_at_once(event: CallEvent) -> bool:
    return event.kind in SIGNED_AT_ONCE


def read_public_key(text: str) -> Ed25519PublicKey:
    """The key in a `.pub` file.

    Raises:
        ValueError: There is none in it.
    """
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text.strip()))


def read_checkpoints(lines: Iterable[str], key: Ed25519PublicKey) -> list[Checkpoint]:
    """The checkpoints of a file, each with whether its signature fits.

    A last line without its end was being written when the power went: it is left out.
    """
    return [_checkpoint(line, key) for line in lines if line.endswith("\n")]


def number_of(line: str) -> int:
    """Up to which event a line of the file attests the record; 0 where it is none."""
    try:
        return int(json.loads(line)["number"])
    except (ValueError, KeyError, TypeError):
        return 0


def _checkpoint(line: str, key: Ed25519PublicKey) -> Checkpoint:
    try:
        read = json.loads(line)
        said = _said(read["number"], read["hash"], read["at"], read["restored"])
        key.verify(bytes.fromhex(read["signature"]), canonical_bytes(said))
        return Checkpoint(read["number"], read["hash"], read["at"], read["restored"] is True)
    except (ValueError, KeyError, TypeError, InvalidSignature):
        return Checkpoint(0, "", "", valid=False)
