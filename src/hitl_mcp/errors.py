"""Every error this project raises on purpose, grouped by whose move it is.

An error's text is written for the person who can act on it: `<where>: <what is wrong>`, then a help line.
Held, denied, rejected and expired are outcomes of a call, not errors, and do not belong here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class HitlError(Exception):
    """The base of all errors below; `help` says what to do about it, where we know."""

    def __init__(self, message: str, *, help: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.help = help

    def __str__(self) -> str:
        return f"{self.message}\n  help: {self.help}" if self.help else self.message


@dataclass(frozen=True)
class Finding:
    """One thing wrong in a file that a person wrote; `line` and `column` count from 1."""

    file: str
    line: int
    column: int
    message: str
    help: str | None = None

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}:{self.column}: {self.message}"
        return f"{text}\n  help: {self.help}" if self.help else text


class _FileError(HitlError):
    """A file that a person wrote cannot be used; carries every finding, not only the first."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)


class ConfigError(_FileError):
    """The operator's move: `hitl.yaml` is wrong."""


class PolicyError(_FileError):
    """The operator's move: a policy file is wrong."""


class StateDirectoryError(HitlError):
    """The operator's move: the state directory cannot be used as it is."""


class CallNotFound(HitlError):
    """The reviewer's or agent's move: no call has this id (or it is not theirs to see)."""

    def __init__(self, call_id: str) -> None:
        super().__init__(f"no call has the id `{call_id}`", help="list the open calls with `hitl-mcp pending`")
        self.call_id = call_id


class CallAlreadySettled(HitlError):
    """The reviewer's move: the call is past the point where this can be done; `status` is the true one."""

    def __init__(self, call_id: str, status: str, detail: str) -> None:
        super().__init__(
            f"cannot change call `{call_id}`: {detail}", help="ask the agent to call the tool again if it is needed"
        )
        self.call_id = call_id
        self.status = status


class DigestMismatch(HitlError):
    """The reviewer's move: the verdict names other bytes than the call now has."""

    def __init__(self, call_id: str, status: str) -> None:
        super().__init__(
            f"cannot decide call `{call_id}`: the digest is not the one this call has",
            help="look at the call again and decide on what it shows now",
        )
        self.call_id = call_id
        self.status = status


class NotAllowed(HitlError):
    """The reviewer's move: this person may not give this verdict."""


class GrantRefused(HitlError):
    """The reviewer's move: a grant cannot be given as it is asked for."""

    def __init__(self, message: str, help: str) -> None:
        super().__init__(message, help=help)


class GrantNotFound(HitlError):
    """The reviewer's move: no grant has this id."""

    def __init__(self, grant_id: str) -> None:
        super().__init__(f"no grant has the id `{grant_id}`", help="list them with `hitl-mcp grants list`")
        self.grant_id = grant_id


class GrantEnded(HitlError):
    """The reviewer's move: the grant is over already."""

    def __init__(self, grant_id: str, why: str) -> None:
        super().__init__(f"cannot revoke grant `{grant_id}`: {why}", help="it serves no call any more")
        self.grant_id = grant_id


class EditDenied(HitlError):
    """The reviewer's move: the policy denies the call as it was edited; nothing changed."""

    def __init__(self, call_id: str, reasons: Sequence[str]) -> None:
        why = "; ".join(reasons) or "no reason is given"
        super().__init__(
            f"cannot edit call `{call_id}`: the policy denies it like this: {why}",
            help="change it so that the policy takes it, or reject the call",
        )
        self.reasons = tuple(reasons)


class EditRefused(HitlError):
    """The reviewer's move: this call cannot be edited, or not like this; nothing changed."""

    def __init__(self, call_id: str, why: str, *, help: str = "approve it as it is, or reject it") -> None:
        super().__init__(f"cannot edit call `{call_id}`: {why}", help=help)


class NotStopped(HitlError):
    """The reviewer's move: the agent that was to be released is not stopped."""

    def __init__(self, agent: str) -> None:
        super().__init__(f"agent `{agent}` is not stopped", help="`hitl-mcp agents list` names those that are")
        self.agent = agent


class BudgetSpent(HitlError):
    """Nobody's move but time's: this reviewer approved as many calls within the hour as one may."""

    def __init__(self, reviewer: str, at_most: int, again_at: str) -> None:
        calls = "call" if at_most == 1 else "calls"
        super().__init__(
            f"`{reviewer}` approved {at_most} {calls} within the hour, which is the most",
            help=f"the next one can be approved at {again_at}, or now by another reviewer; rejecting always works",
        )
        self.again_at = again_at


class ArgumentsRefused(HitlError):
    """The agent's move: a message or its arguments cannot be read strictly; `path` says where."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class TooManyHeld(HitlError):
    """The agent's move: it has as many held calls as it may, so that this one was not taken."""

    def __init__(self, at_most: int) -> None:
        super().__init__(
            f"{at_most} calls of this agent are held already, which is the most",
            help="let people decide some of them, or take back what is no longer needed",
        )
        self.at_most = at_most


class UpstreamError(HitlError):
    """The upstream's move."""


class NotSent(UpstreamError):
    """Nothing was sent upstream, and that is certain."""


class OutcomeUnknown(UpstreamError):
    """It was sent, or may have been, and no usable answer came."""


class UpstreamRefused(UpstreamError):
    """The upstream answered with a JSON-RPC error of its own."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class StoreError(HitlError):
    """Our move: the record cannot be written or read, so nothing may run."""


class NotNow(StoreError):
    """Nobody's move, it may pass by itself: the record cannot be written now, and the next write tries again."""


class ToolNotFound(HitlError):
    """The agent's move: no upstream has a tool of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no tool is called `{name}`", help="list the tools again: they may have changed")
        self.name = name


class OtherDefinition(HitlError):
    """The operator's move: what was to be accepted is not what the tool offers."""

    def __init__(self, name: str, *, is_blocked: bool) -> None:
        what = "it offers another definition than this one" if is_blocked else "it is not blocked"
        super().__init__(f"cannot accept `{name}`: {what}", help=f"look at it again with `hitl-mcp tools diff {name}`")
        self.name = name


class UnresolvedSecret(HitlError):
    """The operator's move: `${env:…}` or `${file:…}` leads nowhere. Names the reference, never a value."""

    def __init__(self, reference: str, why: str, help: str | None = None) -> None:
        super().__init__(f"cannot resolve `{reference}`: {why}", help=help)
        self.reference = reference
