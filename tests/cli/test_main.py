"""Which commands there are: the table says what the modules say, and one command does not load the others."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from importlib import import_module

import click

import hitl_mcp.cli
from hitl_mcp.cli.main import MODULES
from hitl_mcp.cli.main import hitl_mcp as top


def test_every_command_of_every_module_is_in_the_table() -> None:
    """Each module of the room with `COMMANDS` is named with just these, and found by its name."""
    found = {}
    for module in pkgutil.iter_modules(hitl_mcp.cli.__path__):
        commands = getattr(import_module(f"hitl_mcp.cli.{module.name}"), "COMMANDS", ())
        if commands:
            found[module.name] = tuple(command.name for command in commands)
    assert found == dict(MODULES)
    context = click.Context(top)
    names = [name for commands in MODULES.values() for name in commands]
    assert top.list_commands(context) == sorted(names)
    assert [command.name for name in names if (command := top.get_command(context, name))] == names
    assert top.get_command(context, "nonsense") is None


def test_a_command_that_asks_the_gateway_loads_no_other() -> None:
    """`status` and `pending` are run often, by people and by programs: not the gateway, its store, or MCP."""
    asks = "import sys, click; from hitl_mcp.cli.main import hitl_mcp as top; "
    asks += "[top.get_command(click.Context(top), name) for name in ('status', 'pending')]; "
    asks += "print(*{'hitl_mcp.cli.policy', 'hitl_mcp.store', 'hitl_mcp.app', 'mcp'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
