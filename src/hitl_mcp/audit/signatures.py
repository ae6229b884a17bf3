"""The signatures of passkeys in a record or an export: which keys there were, and whether each verdict's is good.

Only the public keys that stand in the record are asked. Whose they are, it says itself: compare their fingerprints with
what the reviewers see on their own page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hitl_mcp.errors import NotAllowed
from hitl_mcp.passkeys import Assertion, verdict_statement, verified
from hitl_mcp.store import chain
from hitl_mcp.store.chain import Row
from hitl_mcp.store.passkeys import ADDED, ADDED_COLUMNS, REMOVED, REMOVED_COLUMNS, RESET, Keyring, of_added, of_removed

_VERDICT = ("call_id", "digest", "kind", "reviewer")


@dataclass
class Signatures:
    """The passkeys known so far, and how many verdicts were found to be signed with them."""

    ring: Keyring = field(default_factory=Keyring)
    good: int = 0

    def check(self, verdict: Mapping[str, Any] | Row, assertion_json: str | None) -> str | None:
        """Whether a verdict that says it is signed by a passkey is; says what is wrong, if something is."""
        if verdict["assurance"] != "passkey":
            return None
        call_id, digest, kind, reviewer = (str(verdict[name]) for name in _VERDICT)
        try:
            assertion = Assertion.from_json(assertion_json or "")
            passkey = self.ring.keys.get(assertion.credential)
            if passkey is None or passkey.reviewer != reviewer:
                return f"the verdict of `{reviewer}` is signed by no passkey of theirs that is told of here"
            if verdict["at"] > self.ring.ended.get(passkey.id, verdict["at"]):
                return f"the verdict of `{reviewer}` is signed by a passkey that was removed before"
            verified(assertion, passkey, verdict_statement(call_id, digest, kind, reviewer, assertion.nonce))
        except NotAllowed as refusal:
            return f"the verdict of `{reviewer}` is not signed: {refusal.message}"
        self.good += 1
        return None

    def as_dict(self) -> list[dict[str, str]]:
        """The keys, as a report names them."""
        keys = sorted(self.ring.keys.values(), key=lambda one: (one.reviewer, one.created_at))
        return [{"reviewer": one.reviewer, "fingerprint": one.fingerprint, "since": one.created_at} for one in keys]


# In an export.


def exported_passkey(row: Row) -> dict[str, Any]:
    """What an export tells of a passkey that was added."""
    return {column: row[column] for column in ADDED_COLUMNS}


def exported_removal(row: Row) -> dict[str, Any]:
    """What an export tells of a passkey that was removed."""
    return {column: row[column] for column in REMOVED_COLUMNS}


def exported_problems(signatures: Signatures, line: Mapping[str, Any], facts: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with what a line of an export tells beside its event."""
    event = line["event"]
    try:
        if event["kind"] == RESET:
            signatures.ring.reset(event["detail"].partition(": ")[0], event["at"])
        elif event["kind"] == ADDED:
            passkey = line["passkey"]
            same = of_added(passkey) == facts.get("passkey")
            yield from _said(signatures.ring.add(passkey) if same else "its passkey is not the one it attests")
        elif event["kind"] == REMOVED:
            removal = line["removal"]
            same = of_removed(removal) == facts.get("removal")
            yield from _said(signatures.ring.end(removal) if same else "the end of its passkey is not what it attests")
        if (verdict := line.get("verdict")) is not None:
            yield from _said(_of_verdict(signatures, verdict, line.get("assertion_json"), facts))
    except (KeyError, TypeError, ValueError) as error:
        yield f"what it tells of people cannot be read: {error}"


def _of_verdict(
    signatures: Signatures, verdict: Mapping[str, Any], assertion_json: str | None, facts: Mapping[str, str]
) -> str | None:
    if chain.of_verdict(verdict) != facts.get("verdict"):
        return "its verdict is not the one it attests"
    if assertion_json is not None and chain.of_text(assertion_json) != facts.get("assertion"):
        return "its assertion is not the one it attests"
    return signatures.check(verdict, assertion_json)


def _said(problem: str | None) -> tuple[str, ...]:
    return (problem,) if problem is not None else ()
