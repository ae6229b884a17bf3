"""Options that commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def config_option(function: F) -> F:
    """`--config`, with the default every command has."""
    return click.option(
        "--config", default="hitl.yaml", show_default=True, metavar="FILE", help="The gateway's config file."
    )(function)


def json_option(function: F) -> F:
    """`--json`, for commands that print data."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def print_json(value: Any) -> None:
    """One line of JSON on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False))
