"""Keeps the policy in force what its files say, without a restart. How files are read is `policy.load`'s.

A good change takes effect within a second or two, and is recorded. A bad one changes nothing: the last good policy
stays in force, and status, page and health say so until the files are right again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import anyio
import anyio.to_thread

from hitl_mcp.catalog import Catalog
from hitl_mcp.clock import Clock, to_text
from hitl_mcp.config import Config, PolicySource, policy_sources
from hitl_mcp.decider import Decider
from hitl_mcp.errors import ConfigError, PolicyError, StoreError
from hitl_mcp.limits import POLICY_LOOK_SECONDS
from hitl_mcp.policy import Policy, load_policy
from hitl_mcp.store import SqliteStore

logger = logging.getLogger(__name__)

Signature = tuple[tuple[str, int, int, int], ...]
"""How the files look from outside: path, time of change, size and inode of each."""


@dataclass(frozen=True)
class PolicyProblem:
    """Why the files cannot be used as they are, since when."""

    at: str
    findings: str


def signature_of(config: Config) -> Signature:
    """How the policy files look now; where one cannot be found, how that looks is that it is not there."""
    try:
        sources = policy_sources(config)
    except ConfigError:
        return ()
    return tuple(_looks(source) for source in sources)


def _looks(source: PolicySource) -> tuple[str, int, int, int]:
    try:
        found = source.path.stat()
    except OSError:
        return str(source.path), 0, 0, 0
    return str(source.path), found.st_mtime_ns, found.st_size, found.st_ino


class PolicyFiles:
    """Looks at the policy files again and again. `loaded` is how they looked when the policy in force was read."""

    def __init__(
        self, config: Config, loaded: Signature, decider: Decider, catalog: Catalog, store: SqliteStore, clock: Clock
    ) -> None:
        self._config = config
        self._loaded = loaded
        self._decider = decider
        self._catalog = catalog
        self._store = store
        self._clock = clock
        self.since = to_text(clock.now())
        self.problem: PolicyProblem | None = None

    async def run(self) -> None:
        """Record the policy in force, then follow its files for ever."""
        await self._record(self._decider.policy)
        changing: Signature | None = None
        while True:
            await anyio.sleep(POLICY_LOOK_SECONDS)
            try:
                looks = await anyio.to_thread.run_sync(signature_of, self._config)
            except (
                OSError
            ) as error:  # such as no free descriptor: what is in force stays, and the next look may succeed
                logger.warning("the policy files cannot be looked at: %s", error)
                continue
            if looks == self._loaded:
                changing = None
            elif looks != changing:
                # An editor may be half-way: a file cut off after its first rules can be a valid, milder policy.
                changing = looks
            else:
                self._loaded, changing = looks, None
                await self._reload()

    async def _reload(self) -> None:
        try:
            policy = await anyio.to_thread.run_sync(self._read)
        except (ConfigError, PolicyError, OSError) as error:
            self.problem = PolicyProblem(to_text(self._clock.now()), str(error))
            logger.error("the policy files cannot be used; the last good policy stays in force:\n%s", error)
            await self._tell("policy-refused", str(error).partition("\n")[0])
            return
        await self._record(policy)
        self.problem = None
        if policy.version != self._decider.policy.version:
            self.since = to_text(self._clock.now())
            logger.info("the policy is now %s", policy.version)
        self._decider.policy = policy
        self._catalog.refresh()
        await self._tell("policy-loaded", policy.version)

    def _read(self) -> Policy:
        return load_policy(policy_sources(self._config), self._config.people)

    async def _record(self, policy: Policy) -> None:
        """Keep what the policy says by its hash, so that decisions can be explained when the files are long others."""
        try:
            await self._store.keep_policy(policy.version, policy.written)
        except StoreError:
            logger.exception("the policy cannot be recorded")  # then no call can be, and all are refused

    async def _tell(self, kind: str, detail: str) -> None:
        try:
            await self._store.note(kind, detail)
        except StoreError:
            logger.exception("%s cannot be recorded", kind)
