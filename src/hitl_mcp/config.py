"""What `hitl.yaml` says: upstreams, where policies lie, where reviewers and agents come in. Reads files, opens nothing.

What a policy file says is not here (`policy`); what a secret reference leads to is not here either (`secrets`).
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hitl_mcp.calls import LIFECYCLE, Status
from hitl_mcp.documents import Document, Problem, Strict, check, one_of, read_document, refuse, refuse_all
from hitl_mcp.errors import ConfigError
from hitl_mcp.limits import BATCH_BELOW, UPSTREAM_TIMEOUT_SECONDS, WAIT_SECONDS
from hitl_mcp.oauth_config import (
    LOOPBACK,
    SCOPE,
    UpstreamOAuth,
    WrittenUpstreamOAuth,
    encrypted_address,
    known_scope,
    split_url,
)
from hitl_mcp.people import Agent, People, Reviewer
from hitl_mcp.secrets import unknown_reference
from hitl_mcp.secrets_config import SecretsConfig, WrittenSecrets
from hitl_mcp.shipped import ready_policies

__all__ = ["Config", "OAuthConfig", "PolicySource", "ReviewConfig", "UpstreamConfig", "load_config", "policy_sources"]

_UPSTREAM_NAME = re.compile(r"[a-z][a-z0-9-]{0,19}\Z")
_AGENT_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}\Z")
_REVIEWER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}\Z")
_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}\Z")

LONGEST_WAIT_SECONDS = 55
"""Clients give up after 60 s; what is left is for the answer to travel."""

MOST_APPROVALS = 1000
"""An hourly budget of more is none: it would be one approval every three seconds."""

LONGEST_TIMEOUT_SECONDS = 24 * 3600
"""A tool call that runs longer is no call; a typo of milliseconds for seconds ends here."""


ClientMode = Literal["form", "url"]
"""How a person can be asked in the agent's own client: by a form there, or by opening the review page."""

CLIENT_MODES: tuple[ClientMode, ...] = ("form", "url")
"""All of them, which are used unless the config says otherwise."""

Isolation = Literal["shared", "session"]
"""Whether all agents share an upstream's connection, or each conversation has its own."""


@dataclass(frozen=True)
class UpstreamConfig:
    """How one upstream is reached: by a command to start or a URL to connect to, never both.

    References (`${env:NAME}`) in `command`, `args`, `env`, `url` and `headers` stand as they were written. With
    `isolation` by `session` each conversation of an agent has a connection (and a process) of its own. The switches say
    what beside tools passes: what it offers (resources, prompts), and what it may ask clients for.
    """

    name: str
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    oauth: UpstreamOAuth | None = None
    timeout_seconds: float = UPSTREAM_TIMEOUT_SECONDS
    labels: Mapping[str, str] = field(default_factory=dict)
    isolation: Isolation = "shared"
    resources: bool = True
    prompts: bool = True
    sampling: bool = True
    elicitation: bool = True


@dataclass(frozen=True)
class ReviewConfig:
    """Where the review page listens, and the address that people know it by. No port: the next free one."""

    host: str = "127.0.0.1"
    port: int | None = None
    public_url: str | None = None
    batch_below: int = BATCH_BELOW


@dataclass(frozen=True)
class OAuthConfig:
    """Whose access tokens `/mcp` takes, and what must stand in them. No `jwks_url`: the issuer's metadata names it."""

    issuer: str
    audience: str
    jwks_url: str | None = None
    scopes: tuple[str, ...] = ()
    agent_claim: str = "sub"


@dataclass(frozen=True)
class PolicySource:
    """A policy file, and for a ready policy the upstream it is used for and whose role each of its roles is."""

    path: Path
    upstream: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicyUse:
    """A ready policy as the config names it: it is read once for each of its upstreams."""

    name: str
    upstreams: tuple[str, ...]
    roles: Mapping[str, str]


@dataclass(frozen=True)
class Config:
    """A config that was found right. `path` is the real path of its file, to which other paths in it are relative."""

    path: Path
    upstreams: Mapping[str, UpstreamConfig]
    policies: tuple[str | PolicyUse, ...]
    store: str = "sqlite"
    review: ReviewConfig = field(default_factory=ReviewConfig)
    http_enabled: bool = False
    oauth: OAuthConfig | None = None
    people: People = field(default_factory=People)
    clients: tuple[str, ...] = ()
    """The clients whose own tools are decided here, though they run them themselves."""
    env_file: Path | None = None
    retention: Mapping[Status, int] = field(default_factory=dict)
    """How many seconds after a call came to a final status it keeps what it carried; for ever where none is named."""
    wait_seconds: float = WAIT_SECONDS
    ask_in_client: tuple[ClientMode, ...] = CLIENT_MODES
    secrets: SecretsConfig = field(default_factory=SecretsConfig)


def load_config(path: Path) -> Config:
    """Read a config.

    Raises:
        ConfigError: Something in it is wrong; it carries every finding.
    """
    document = read_document(path, absent="`--config` names another file")
    written = check(document, _Written)
    _check_names(document)
    if written:
        _check_clients(document, written)
        _check_tokens(document, written.agents)
        _check_oauth(document, written)
        policies = _policies(document, written)
    if document.findings or written is None:
        raise ConfigError(sorted(document.findings, key=lambda finding: (finding.line, finding.column)))
    real, page = path.resolve(), written.review
    return Config(
        path=real,
        upstreams=MappingProxyType({name: _upstream(name, one) for name, one in written.upstreams.items()}),
        policies=policies,
        store=written.store if written.store == "sqlite" else str(real.parent / Path(written.store).expanduser()),
        review=ReviewConfig(page.host, page.port, page.public_url, page.batch_below),
        http_enabled=written.http.enabled,
        oauth=_oauth(written.http.oauth),
        people=People(
            agents={name: Agent(name, one.token, one.owner, one.subject) for name, one in written.agents.items()},
            reviewers={
                name: Reviewer(name, frozenset(one.roles), approvals_per_hour=one.approvals_per_hour)
                for name, one in written.reviewers.items()
            },
            approvals_per_hour=page.approvals_per_hour,
        ),
        clients=tuple(written.clients),
        env_file=real.parent / Path(written.env_file).expanduser() if written.env_file else None,
        retention=MappingProxyType({Status(name): seconds for name, seconds in written.retention.items()}),
        wait_seconds=written.wait_seconds,
        ask_in_client=tuple(written.ask_in_client),
        secrets=written.secrets.meant(),
    )


def policy_sources(config: Config) -> list[PolicySource]:
    """The policy files that a config names, each once, in the order of their names; then the ready ones it uses.

    Raises:
        ConfigError: One of its globs finds no file.
    """
    found: dict[Path, Path] = {}
    used: list[PolicySource] = []
    missing: list[int] = []
    ready = ready_policies()
    for index, named in enumerate(config.policies):
        if isinstance(named, PolicyUse):
            used += [PolicySource(ready[named.name], upstream, named.roles) for upstream in named.upstreams]
            continue
        names = glob.glob(str(Path(named).expanduser()), root_dir=config.path.parent, recursive=True)
        files = [file for file in (config.path.parent / name for name in names) if file.is_file()]
        found |= {file.resolve(): file for file in files}
        if not files:
            missing.append(index)
    if missing:
        document = read_document(config.path)
        for index in missing:
            message = f"no policy file is found by `{config.policies[index]}`"
            document.find(("policies", index), message, "paths are relative to the config file")
        raise ConfigError(document.findings)
    return [*(PolicySource(path) for path in sorted(found.values())), *used]


# ---------------------------------------------------------------------------------------------------------------
# How it is written. Names are checked apart, so that a finding stands at the name.


def _references_known(text: str) -> str:
    if odd := unknown_reference(text):
        raise refuse(f"unknown reference `{odd[0]}`", odd[1])
    return text


def _not_empty(text: str) -> str:
    if not text.strip():
        raise refuse("the text is empty")
    return text


def _loopback(host: str) -> str:
    if host not in LOOPBACK:
        raise refuse(
            f"`host` is not a loopback address: `{host}`",
            "keep `127.0.0.1`, put a TLS proxy in front, and name its address as `public_url`",
        )
    return host


def _port(port: int | None) -> int | None:
    if port is not None and not 0 <= port <= 65535:
        raise refuse(f"`port` out of range: `{port}`", "a port is 1 to 65535; 0 picks a free one")
    return port


def _public_url(url: str | None) -> str | None:
    if url is None:
        return None
    parts = split_url(url)
    if parts is None or parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        raise refuse("`public_url` is not an address", "write scheme and host only: `https://hitl.example.com`")
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise refuse("`public_url` is not encrypted", "write `https://…`, and let a proxy in front do the TLS")
    return url.rstrip("/")


def _upstream_url(url: str) -> str:
    if "${" not in url and split_url(url) is None:
        raise refuse("`url` is not an HTTP address", "write `https://host/path`")
    return url


def _no_reference(text: str) -> str:
    if "${" in text:
        raise refuse("no reference is looked up here", "write the text itself: it is no secret")
    return text


def _subject(text: str | None) -> str | None:
    return text if text is None else _no_reference(_not_empty(text))


def _claim(name: str) -> str:
    if not SCOPE.match(name):
        raise refuse(f"not a claim: `{name}`", "write the name of one claim: `sub`, `azp`, `client_id`")
    return name


def _role(name: str) -> str:
    if not _ROLE.match(name):
        raise refuse(f"not a role: `{name}`", "a role is 1 to 40 letters, digits, `.`, `_` and `-`")
    return name


def _between(least: float, most: float, key: str) -> AfterValidator:
    def within(seconds: float) -> float:
        if not least <= seconds <= most:
            raise refuse(f"`{key}` out of range: `{seconds:g}`", f"`{key}` is {least:g} to {most:g} seconds")
        return seconds

    return AfterValidator(within)


_FINAL_STATUSES = tuple(str(status) for status in Status if not LIFECYCLE[status])

_STORES = "write `sqlite`, or a path such as `./hitl.db`"


def _store(text: str) -> str:
    kind = text.partition("://")[0]
    if kind in ("postgres", "postgresql"):
        raise refuse(f"the store `{kind}` is not available yet", _STORES)
    if "://" in text or (text != "sqlite" and not {"/", "."} & set(text)):
        raise refuse(f"unknown store `{kind}`", _STORES)
    return text


def _policies_named(value: Any) -> Any:
    if value is None or value == []:
        raise refuse(
            "no policy is named",
            'write `policies: ["policy.yaml"]`, or to start with `policies: [{use: cautious, upstream: NAME}]`',
        )
    return value


Text = Annotated[str, AfterValidator(_not_empty), AfterValidator(_references_known)]
Value = Annotated[str, AfterValidator(_references_known)]
Seconds = Annotated[float, _between(0.001, LONGEST_TIMEOUT_SECONDS, "timeout")]


def _approvals(number: int | None) -> int | None:
    if number is not None and not 1 <= number <= MOST_APPROVALS:
        raise refuse(
            f"`approvals_per_hour` out of range: `{number}`",
            f"write 1 to {MOST_APPROVALS}; who may approve nothing at all gets no role that a rule asks for",
        )
    return number


def _points(number: int) -> int:
    if not 0 <= number <= 100:
        raise refuse(f"`batch_below` out of range: `{number}`", "points are 0 to 100; 0 answers every call by itself")
    return number


Approvals = Annotated[int | None, AfterValidator(_approvals)]


_AGE = re.compile(r"[1-9][0-9]{0,4}d")


def _age(value: Any) -> Any:
    """How long something is kept, in seconds: whole days, since a repeated call is answered from it for one."""
    if not isinstance(value, str) or not _AGE.fullmatch(value):
        raise refuse(f"not a number of days: `{value}`", "write how many days it is kept: `30d`")
    return int(value[:-1]) * 24 * 3600


def _final(ages: dict[str, int]) -> dict[str, int]:
    for status in ages:
        if status not in _FINAL_STATUSES:
            advice = one_of(status, _FINAL_STATUSES, "final statuses")
            raise refuse(f"`{status}` is no final status", advice, status)
    return ages


class _Upstream(Strict):
    noun: ClassVar[str] = "an upstream"
    command: Text = ""
    args: list[Value] = Field(default_factory=list)
    env: dict[str, Value] = Field(default_factory=dict)
    url: Annotated[Text, AfterValidator(_upstream_url)] = ""
    headers: dict[str, Value] = Field(default_factory=dict)
    oauth: WrittenUpstreamOAuth | None = None
    timeout: Seconds = UPSTREAM_TIMEOUT_SECONDS
    labels: dict[str, str] = Field(default_factory=dict)
    isolation: Isolation = "shared"
    resources: bool = True
    prompts: bool = True
    sampling: bool = True
    elicitation: bool = True
    # What clients write beside `command` or `url`; it says nothing new, but pasting it must not be an error.
    type: Literal["stdio", "http", "streamable-http"] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> _Upstream:
        if bool(self.command) == bool(self.url):
            both = "both" if self.command else "neither"
            raise refuse(
                f"an upstream has `command` or `url`, and this has {both}",
                "write `command` for a program to start, `url` for a server to connect to",
            )
        way, other = ("command", ("headers", "oauth")) if self.command else ("url", ("args", "env"))
        problems = [
            Problem(f"`{key}` does not go with `{way}`", "leave it out")
            for key in other
            if key in self.model_fields_set
        ]
        if self.type and (self.type == "stdio") != (way == "command"):
            problems.append(Problem(f"type `{self.type}` does not go with `{way}`", "leave `type` out"))
        if self.oauth is not None and any(name.lower() == "authorization" for name in self.headers):
            problems.append(Problem("`oauth` and a header `Authorization`", "leave one of them out"))
        if self.oauth is not None and "${" in self.url:
            problems.append(Problem("a reference in `url` beside `oauth`", "write it out: sign-in links repeat it"))
        if problems:
            raise refuse_all(problems)
        return self


class _Review(Strict):
    noun: ClassVar[str] = "`review`"
    host: Annotated[str, AfterValidator(_loopback)] = LOOPBACK[0]
    port: Annotated[int | None, AfterValidator(_port)] = None
    public_url: Annotated[str | None, AfterValidator(_public_url)] = None
    approvals_per_hour: Approvals = None
    batch_below: Annotated[int, AfterValidator(_points)] = BATCH_BELOW


class _OAuth(Strict):
    noun: ClassVar[str] = "`oauth`"
    issuer: Annotated[str, AfterValidator(encrypted_address("issuer"))]
    audience: Annotated[str, AfterValidator(_not_empty), AfterValidator(_no_reference)]
    jwks_url: Annotated[str | None, AfterValidator(encrypted_address("jwks_url"))] = None
    scopes: list[Annotated[str, AfterValidator(known_scope)]] = Field(default_factory=list)
    agent_claim: Annotated[str, AfterValidator(_claim)] = "sub"


class _Http(Strict):
    noun: ClassVar[str] = "`http`"
    enabled: bool = False
    oauth: _OAuth | None = None


class _Agent(Strict):
    noun: ClassVar[str] = "an agent"
    token: Text | None = None
    owner: str | None = None
    subject: Annotated[str | None, AfterValidator(_subject)] = None


class _Reviewer(Strict):
    noun: ClassVar[str] = "a reviewer"
    roles: list[Annotated[str, AfterValidator(_role)]] = Field(default_factory=list)
    approvals_per_hour: Approvals = None


_ITS_UPSTREAM = "write `upstream: NAME`, or `upstream: [NAME, NAME]`: whose tools it is for"


def _used_for(value: Any) -> Any:
    """One upstream or a list of them, as a list."""
    if value is None or value == []:
        raise refuse("no upstream is named", _ITS_UPSTREAM)
    return [value] if isinstance(value, str) else value


class _Use(Strict):
    noun: ClassVar[str] = "a ready policy that is used"
    use: str
    upstream: Annotated[list[str], BeforeValidator(_used_for)] = Field(default_factory=list)
    roles: dict[str, str] = Field(default_factory=dict)


class _Written(Strict):
    noun: ClassVar[str] = "a config"
    upstreams: dict[str, _Upstream]
    policies: Annotated[list[Any], BeforeValidator(_policies_named)] = Field(default=None, validate_default=True)
    store: Annotated[str, AfterValidator(_store)] = "sqlite"
    review: _Review = _Review()
    http: _Http = _Http()
    agents: dict[str, _Agent] = Field(default_factory=dict)
    clients: list[str] = Field(default_factory=list)
    reviewers: dict[str, _Reviewer] = Field(default_factory=dict)
    retention: Annotated[dict[str, Annotated[int, BeforeValidator(_age)]], AfterValidator(_final)] = Field(
        default_factory=dict
    )
    env_file: Annotated[str, AfterValidator(_not_empty)] = ""
    ask_in_client: list[ClientMode] = Field(default_factory=lambda: [*CLIENT_MODES])
    wait_seconds: Annotated[float, _between(1, LONGEST_WAIT_SECONDS, "wait_seconds")] = WAIT_SECONDS
    secrets: WrittenSecrets = WrittenSecrets()


def _policies(document: Document, written: _Written) -> tuple[str | PolicyUse, ...]:
    """The policies that are named: globs of files, and ready policies."""
    named: list[str | PolicyUse] = []
    for index, item in enumerate(written.policies):
        place = ("policies", index)
        if isinstance(item, str) and item:
            named.append(item)
        elif not isinstance(item, dict):
            document.find(
                place,
                "not a policy: a file or a ready one is named",
                "write `mine.yaml`, or `{use: cautious, upstream: NAME}`",
            )
        elif (use := check(document, _Use, place)) is not None:
            _known_use(document, place, use, written)
            named.append(PolicyUse(use.use, tuple(use.upstream), MappingProxyType(use.roles)))
    return tuple(named)


def _known_use(document: Document, place: tuple[str, int], use: _Use, written: _Written) -> None:
    ready = ready_policies()
    if use.use not in ready:
        document.find((*place, "use"), f"no ready policy is called `{use.use}`", one_of(use.use, ready, "they"))
    if not use.upstream:
        document.find(place, f"`{use.use}` is used for no upstream", _ITS_UPSTREAM)
    for index, name in enumerate(use.upstream):
        if name not in (*written.upstreams, *written.clients):
            message = f"no upstream is called `{name}`"
            document.find((*place, "upstream", index), message, one_of(name, written.upstreams, "they"))
        elif name in use.upstream[:index]:
            document.find((*place, "upstream", index), f"`{name}` is named twice", "name each upstream once")
    known = sorted({role for one in written.reviewers.values() for role in one.roles})
    for role, mapped in use.roles.items():
        if known and mapped not in known:
            message = f"no reviewer has the role `{mapped}`"
            document.find((*place, "roles", role), message, one_of(mapped, known, "their roles"))


def _upstream(name: str, written: _Upstream) -> UpstreamConfig:
    return UpstreamConfig(
        name=name,
        command=written.command or None,
        args=tuple(written.args),
        env=MappingProxyType(written.env),
        url=written.url or None,
        headers=MappingProxyType(written.headers),
        oauth=written.oauth.meant() if written.oauth else None,
        timeout_seconds=written.timeout,
        labels=MappingProxyType(written.labels),
        isolation=written.isolation,
        resources=written.resources,
        prompts=written.prompts,
        sampling=written.sampling,
        elicitation=written.elicitation,
    )


def _oauth(written: _OAuth | None) -> OAuthConfig | None:
    if written is None:
        return None
    return OAuthConfig(written.issuer, written.audience, written.jwks_url, tuple(written.scopes), written.agent_claim)


_NAMES = {
    "upstreams": (_UPSTREAM_NAME, "an upstream's name is 1 to 20 of `a-z`, `0-9` and `-`, a letter first"),
    "agents": (_AGENT_NAME, "an agent's name is 1 to 40 of `a-z`, `0-9` and `-`, a letter first"),
    "reviewers": (_REVIEWER_NAME, "a reviewer's name is 1 to 64 letters, digits, `.`, `_`, `@`, `+` and `-`"),
}
"""How the names under each key look. A reviewer's has no `:`, since `client:…` marks what a client said."""


def _check_names(document: Document) -> None:
    for key, (shape, advice) in _NAMES.items():
        members = document.value.get(key) if isinstance(document.value, dict) else None
        seen: dict[str, str] = {}
        for name in members if isinstance(members, dict) else ():
            if not shape.match(name):
                document.find_key((key, name), f"not a name for {key}: `{name}`", advice)
            elif (twin := seen.setdefault(name.casefold(), name)) != name:
                document.find_key((key, name), f"`{name}` and `{twin}` cannot be told apart", "give each its own name")


def _check_clients(document: Document, written: _Written) -> None:
    """A client's name stands before its tools as an upstream's does, so it has the same shape and is another one."""
    shape, _ = _NAMES["upstreams"]
    for index, name in enumerate(written.clients):
        place = ("clients", index)
        if not shape.match(name):
            advice = "a client's name is 1 to 20 of `a-z`, `0-9` and `-`, a letter first"
            document.find(place, f"not a name for clients: `{name}`", advice)
        elif name in written.upstreams:
            document.find(place, f"`{name}` is an upstream", "give the client another name: rules could not tell them")
        elif name in written.clients[:index]:
            document.find(place, f"`{name}` is named twice", "name each client once")


def _check_tokens(document: Document, agents: Mapping[str, _Agent]) -> None:
    """A token says which agent is calling, so two agents cannot share one."""
    seen: dict[str, str] = {}
    for name, agent in agents.items():
        if agent.token and (other := seen.setdefault(agent.token, name)) != name:
            document.find(("agents", name, "token"), f"`{name}` has the token of `{other}`", "give each agent its own")


def _check_oauth(document: Document, written: _Written) -> None:
    """A subject says which agent is calling, as a token does; it means nothing without an issuer."""
    if written.http.oauth is not None and not written.http.enabled:
        document.find_key(
            ("http", "oauth"), "`oauth` does nothing here: `/mcp` is off", "write `enabled: true` beside it"
        )
    seen: dict[str, str] = {}
    for name, agent in written.agents.items():
        place = ("agents", name, "subject")
        if agent.subject is None:
            continue
        if written.http.oauth is None:
            document.find(
                place, f"`{name}` has a subject, and no issuer is named", "name it: `http: {oauth: {issuer: …}}`"
            )
        if (other := seen.setdefault(agent.subject, name)) != name:
            document.find(place, f"`{name}` has the subject of `{other}`", "give each agent its own")
