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

from hitl_mcp.canonical import canonical_bytes, canonical_text
from hitl_mcp.errors import StoreError
from hitl_mcp.store import FeedBehind, SqliteStore
from hitl_mcp.store.seals import key_from_file

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0
"""The longest time that events stand unsigned while the gateway runs: what a thief of the database's end can take."""


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
        _write_private(self._file, os.O_CREAT | os.O_APPEND, self.line(number, head, at, restored=restored))

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


class Checkpoints:
    """Signs the head of the chain while the gateway runs, whenever there is a new one."""

    def __init__(self, store: SqliteStore, signer: Signer) -> None:
        self._store = store
        self._signer = signer
        self._signed = 0
        self.problem: str | None = None

    async def run(self) -> None:
        """Sign the head now, then again and again while there are new events, for ever."""
        while True:
            with self._store.follow() as feed, suppress(FeedBehind):
                await self.sign_head()
                await feed.next()
            await anyio.sleep(CHECKPOINT_SECONDS)

    async def sign_head(self) -> None:
        """Sign the newest event, if there is one that is not signed; what goes wrong is told, and tried again later."""
        try:
            number, head, at = await self._store.flushed_head()
            if number > self._signed:
                await anyio.to_thread.run_sync(self._signer.sign, number, head, at)
                self._signed = number
            self.problem = None
        except (StoreError, OSError) as error:
            self.problem = str(error)
            logger.exception("the head of the record cannot be signed")


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
