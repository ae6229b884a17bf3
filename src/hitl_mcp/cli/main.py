"""The commands by name, and how each ends: 0 fine, 1 a finding, 2 misuse, 3 cannot tell."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from types import MappingProxyType

import click

from hitl_mcp import __version__
from hitl_mcp.cli.client import NoGateway, Refused
from hitl_mcp.errors import ConfigError, HitlError, PolicyError, StateDirectoryError, StoreError

MISUSE, CANNOT_TELL, FINDING = 2, 3, 1


MODULES = MappingProxyType(
    {
        "serving": ("serve", "stdio", "status", "stop"),
        "reviewing": ("review", "pending", "show", "approve", "reject", "resolve", "pause", "resume"),
        "tools": ("tools",),
        "agents": ("agents",),
        "grants": ("grants",),
        "people": ("sign-ins", "passkeys"),
        "policy": ("policy",),
        "record": ("audit", "backup", "restore"),
        "trying": ("demo", "doctor"),
    }
)
"""Which module has which commands. Only the module of the command that is run is imported: all of them take as long as
most commands do."""


class _Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(name for names in MODULES.values() for name in names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for module, names in MODULES.items():
            if cmd_name in names:
                found: tuple[click.Command, ...] = import_module(f"hitl_mcp.cli.{module}").COMMANDS
                return next(command for command in found if command.name == cmd_name)
        return None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hitl-mcp")
def hitl_mcp() -> None:
    """An approval gate between AI agents and the tools that can do harm."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    try:
        code = hitl_mcp.main(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(MISUSE)
    except HitlError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(_code_of(error))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _code_of(error: HitlError) -> int:
    if isinstance(error, ConfigError | PolicyError | StateDirectoryError | StoreError):
        return MISUSE
    if isinstance(error, NoGateway):
        return CANNOT_TELL
    if isinstance(error, Refused):
        return MISUSE if error.code == 422 else FINDING
    return FINDING
