"""What the policy commands read: which files, whose people, which tools. The commands themselves stand in `policy`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from hitl_mcp.calls import Requirement
from hitl_mcp.canonical import parse_strict
from hitl_mcp.cli.client import NoGateway, control
from hitl_mcp.cli.options import config_option
from hitl_mcp.config import Config, PolicySource, load_config, policy_sources
from hitl_mcp.documents import one_of
from hitl_mcp.errors import ArgumentsRefused
from hitl_mcp.limits import UPSTREAM_MESSAGE_BYTES
from hitl_mcp.people import People
from hitl_mcp.policy.check import KnownTools, Tool
from hitl_mcp.shipped import ready_policies

__all__ = ["PolicyAsked", "Sources", "policy_options", "read_sources"]


@dataclass(frozen=True)
class PolicyAsked:
    """Which policy a command is about: files or ready ones by name, else those of the config."""

    files: tuple[str, ...]
    use: tuple[str, ...]
    upstream: str | None
    tools: tuple[str, ...]
    config: str
    config_written: bool

    @property
    def by_config(self) -> bool:
        """Whether it is the policy of a config, in which ready policies are only used."""
        return not self.files and not self.use


@dataclass(frozen=True)
class Sources:
    """The files of a policy, and what they are held against. `ready` are files that somebody else wrote."""

    files: list[PolicySource]
    people: People
    config: Config | None
    known: KnownTools
    ready: frozenset[Path] = field(default_factory=frozenset)

    def labels(self, upstream: str) -> Mapping[str, str]:
        """The labels of an upstream in the config."""
        known = self.config.upstreams.get(upstream) if self.config else None
        return known.labels if known else {}


@dataclass(frozen=True)
class _Anyone(People):
    """Where no config says who answers, nothing can be said about whether they can."""

    def can_meet(self, requirement: Requirement) -> bool:
        return True


def policy_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments and options that say which policy; the command gets them as one `PolicyAsked`."""

    @wraps(function)
    @click.pass_context
    def command(context: click.Context, /, **options: Any) -> Any:
        written = context.get_parameter_source("config") is not ParameterSource.DEFAULT
        names = ("files", "use", "upstream", "tools", "config")
        asked = PolicyAsked(**{name: options.pop(name) for name in names}, config_written=written)
        return function(asked, **options)

    described = [
        click.argument("files", nargs=-1, metavar="[FILE]..."),
        click.option("--use", multiple=True, metavar="NAME", help="A ready policy, such as `github`."),
        click.option("--upstream", metavar="NAME", help="The upstream that ready policies are read for."),
        click.option(
            "--tools",
            multiple=True,
            metavar="[NAME=]FILE",
            help="A saved tool list, as JSON, of the upstream NAME; otherwise a running gateway is asked.",
        ),
        config_option,
    ]
    for describe in reversed(described):
        command = describe(command)
    return command


def read_sources(asked: PolicyAsked) -> Sources:
    """Find the files and the tools that a command is about.

    Raises:
        ConfigError: The config cannot be used.
    """
    config = load_config(Path(asked.config)) if asked.by_config or asked.config_written else None
    known = _saved(asked, config) if asked.tools else _live(asked.config, config)
    if asked.by_config and config is not None:
        ready = frozenset(ready_policies().values())
        return Sources(policy_sources(config), config.people, config, known, ready)
    used = _ready(asked.use)
    if used and asked.upstream is None:
        raise click.UsageError(f"whose tools is `{asked.use[0]}` for? write `--upstream NAME`")
    files = [PolicySource(path, asked.upstream) for path in (*_files(asked.files), *used)]
    return Sources(files, config.people if config else _Anyone(), config, known, frozenset(used))


def _files(names: tuple[str, ...]) -> list[Path]:
    for name in names:
        if not Path(name).is_file():
            raise click.UsageError(f"there is no file `{name}`")
    return [Path(name) for name in names]


def _ready(names: tuple[str, ...]) -> list[Path]:
    ready = ready_policies()
    for name in names:
        if name not in ready:
            raise click.UsageError(f"no ready policy is called `{name}`: {one_of(name, ready, 'they')}")
    return [ready[name] for name in names]


def _saved(asked: PolicyAsked, config: Config | None) -> KnownTools:
    """The tools of saved lists, each for the upstream it is said to stand for."""
    tools: list[Tool] = []
    listed: set[str] = set()
    only = list(config.upstreams) if config else []
    for named in asked.tools:
        name, apart, file = named.partition("=")
        if not apart:
            name, file = asked.upstream or (only[0] if len(only) == 1 else ""), named
        if not name:
            raise click.UsageError(f"whose tools are these? write `--tools NAME={file}`")
        tools += [Tool(f"{name}__{one['name']}", one.get("inputSchema")) for one in _tools_in(file)]
        listed.add(name)
    return KnownTools(tuple(tools), frozenset(listed), _tool_sources(config) if config else None)


def _tools_in(file: str) -> list[dict[str, Any]]:
    try:
        content = parse_strict(Path(file).read_bytes(), limit_bytes=UPSTREAM_MESSAGE_BYTES)
    except OSError as error:
        raise click.UsageError(f"cannot read `{file}`: {(error.strerror or str(error)).lower()}") from error
    except ArgumentsRefused as error:
        raise click.UsageError(f"{file}: not JSON: {error}") from error
    tools = content.get("tools") if isinstance(content, dict) else content
    if not isinstance(tools, list) or not all(isinstance(one, dict) and "name" in one for one in tools):
        raise click.UsageError(f'{file}: not a list of tools: `{{"tools": [{{"name": …, "inputSchema": …}}]}}`')
    return tools


def _tool_sources(config: Config) -> frozenset[str]:
    """Whatever may stand before `__`: upstreams, and clients, whose own tools nobody lists."""
    return frozenset((*config.upstreams, *config.clients))


def _live(path: str, config: Config | None) -> KnownTools:
    """What a running gateway knows; nothing where none runs or no config says which."""
    if config is None:
        return KnownTools()
    upstreams = _tool_sources(config)
    try:
        with control(path) as gateway:
            status, answer = gateway.get("/api/status"), gateway.get("/api/tools")
    except NoGateway:
        return KnownTools(upstreams=upstreams)
    tools = tuple(Tool(one["name"], one["inputSchema"]) for one in answer["tools"])
    ready = frozenset(one["name"] for one in status["upstreams"] if one["state"] == "ready")
    return KnownTools(tools, ready, upstreams)
