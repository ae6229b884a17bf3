"""Who asks (agents) and who answers (reviewers), as the config names them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hitl_mcp.calls import Requirement

LOCAL = "local"
"""The one reviewer that every verdict from the command line belongs to."""

ADMIN = "admin"
"""The role of those who look after the others: they see and end everybody's sign-ins."""

CLIENT_PREFIX = "client:"
"""What stands before an agent's name where its own client answered. No reviewer in a config has a `:` in the name."""


@dataclass(frozen=True)
class Agent:
    """Who asks. `owner` is the person whose agent it is, `token` what it shows over HTTP.

    `subject` is what the access tokens of the configured OAuth issuer call it.
    """

    name: str
    token: str | None = field(default=None, repr=False)
    owner: str | None = None
    subject: str | None = None


@dataclass(frozen=True)
class Reviewer:
    """Who answers. `every_role` is set for `local` where no reviewers are configured."""

    name: str
    roles: frozenset[str] = frozenset()
    every_role: bool = False
    approvals_per_hour: int | None = None

    @property
    def is_admin(self) -> bool:
        """Whether this reviewer looks after the others: has the role `admin`."""
        return self.every_role or ADMIN in self.roles

    def roles_for(self, requirements: Iterable[Requirement]) -> tuple[str, ...]:
        """The roles this reviewer brings to a verdict on these requirements."""
        if not self.every_role:
            return tuple(sorted(self.roles))
        asked = {role for requirement in requirements for role in requirement.roles}
        return tuple(sorted(self.roles | asked))


def client_of(agent: str) -> Reviewer:
    """Whoever answers in an agent's own client: it says so of itself, so no role goes with it."""
    return Reviewer(CLIENT_PREFIX + agent)


@dataclass(frozen=True)
class People:
    """Everyone the config names.

    With no reviewers configured there is one, `local`, with every role. With some configured, `local` is still the
    name of whoever answers from the command line, with the roles the config gives that name (none if it gives none).
    `approvals_per_hour` is for whoever has no number of their own.
    """

    agents: Mapping[str, Agent] = field(default_factory=dict)
    reviewers: Mapping[str, Reviewer] = field(default_factory=dict)
    approvals_per_hour: int | None = None

    def reviewer(self, name: str) -> Reviewer | None:
        """The reviewer of this name, or None."""
        if name in self.reviewers:
            return self.reviewers[name]
        return Reviewer(LOCAL, every_role=not self.reviewers) if name == LOCAL else None

    def budget_of(self, name: str) -> int | None:
        """How many calls whoever has this name may approve within an hour; None: as many as there are.

        What an agent's own client says has the budget that everyone has, too.
        """
        own = self.reviewers[name].approvals_per_hour if name in self.reviewers else None
        return own if own is not None else self.approvals_per_hour

    def owner_of(self, agent: str) -> str | None:
        """Whose agent this is, where the config says so."""
        return self.agents[agent].owner if agent in self.agents else None

    def everyone(self) -> tuple[Reviewer, ...]:
        """All who could give a verdict."""
        local = self.reviewer(LOCAL)
        others = tuple(reviewer for name, reviewer in sorted(self.reviewers.items()) if name != LOCAL)
        return (*others, local) if local else others

    def can_meet(self, requirement: Requirement) -> bool:
        """Whether enough different reviewers exist who could meet this requirement."""
        able = [
            reviewer
            for reviewer in self.everyone()
            if (reviewer.every_role or not requirement.roles or not reviewer.roles.isdisjoint(requirement.roles))
            and reviewer.name not in requirement.barred
        ]
        return len(able) >= requirement.quorum

    def roles(self) -> frozenset[str]:
        """Every role that some configured reviewer has."""
        return frozenset(role for reviewer in self.reviewers.values() for role in reviewer.roles)
