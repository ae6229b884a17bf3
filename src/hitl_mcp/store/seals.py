"""Seals: what the gateway wrote itself and will rely on later, told apart from what somebody edited in the database.

A seal is an HMAC under a key that lies in a file of its own, outside the database. It stops whoever can write to the
database but cannot read the state directory. What is sealed, and when that is looked at, stands in `steps`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from hitl_mcp.canonical import compact_text
from hitl_mcp.errors import StoreError

KEY_BYTES = 32
"""As long as the digest that HMAC-SHA256 gives (RFC 2104, section 3)."""

Part = str | int | float | None


class Seals:
    """Makes seals under one key, and knows them again."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def from_file(cls, path: Path) -> Seals:
        """The seals of the key in this file; made and raises as `key_from_file`."""
        return cls(key_from_file(path))

    def seal(self, *parts: Part) -> str:
        """The seal of these parts, in this order."""
        return hmac.new(self._key, compact_text(parts).encode(), hashlib.sha256).hexdigest()

    def fits(self, seal: str, *parts: Part) -> bool:
        """Whether this seal was made of exactly these parts."""
        return hmac.compare_digest(seal.encode(), self.seal(*parts).encode())


def key_from_file(path: Path) -> bytes:
    """The key of `KEY_BYTES` in this file, which is made (0600) where it is missing.

    Raises:
        StoreError: The file cannot be read or made, or holds no key.
    """
    try:
        key = _key_in(path)
    except OSError as error:
        raise StoreError(
            f"{path}: the key cannot be read: {error.strerror}", help="give the file to the gateway's own user, 0600"
        ) from error
    if len(key) != KEY_BYTES:
        raise StoreError(
            f"{path}: holds no key of {KEY_BYTES} bytes",
            help="restore the file; without it what is held and approved now cannot be trusted any more",
        )
    return key


def _key_in(path: Path) -> bytes:
    try:
        return _read(path)
    except FileNotFoundError:
        # Written beside and renamed: a crash leaves a whole key or none.
        fresh = path.with_name(path.name + ".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return _read(path)


def _read(path: Path) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read(KEY_BYTES + 1)
