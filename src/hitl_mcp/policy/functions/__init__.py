"""The functions that conditions can call: which there are, and how CEL calls them. No function itself.

Each takes values and gives a value, or raises `ValueError`; CEL makes an evaluation error of that, which fails closed.
A message says what was wrong and never repeats a value. An overload is chosen by the type of each value when a
condition is evaluated (`DYN` as a parameter never matches), so each function lists the types it takes, and others are
errors. A text reaches a function only up to its first NUL, and the reader of arguments refuses NUL before any policy
sees one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from cel_expr_python import cel

from hitl_mcp.documents import meant
from hitl_mcp.policy.functions.addresses import address_domain, all_addresses_in
from hitl_mcp.policy.functions.domains import domain_within, host_private
from hitl_mcp.policy.functions.globs import glob
from hitl_mcp.policy.functions.numbers import number
from hitl_mcp.policy.functions.paths import path_has, path_within
from hitl_mcp.policy.functions.shell import argv, shell_commands
from hitl_mcp.policy.functions.sql import sql_kinds, sql_tables, sql_unbounded
from hitl_mcp.policy.functions.urls import url_host

__all__ = ["FUNCTIONS", "NAMES", "advice"]

_TEXT, _BOOL, _ANY = cel.Type.STRING, cel.Type.BOOL, cel.Type.DYN
_WORDS = cel.Type.List(_TEXT)
_MAP = cel.Type.Map(_TEXT, _ANY)
_TYPES = {
    "bool": _BOOL,
    "double": cel.Type.DOUBLE,
    "int": cel.Type.INT,
    "list": _WORDS,
    "lists": cel.Type.List(_WORDS),
    "map": _MAP,
    "text": _TEXT,
    "any": _ANY,
}


def _declared(function: Callable[..., Any], gives: str, *signatures: str) -> cel.FunctionDecl:
    """A function as CEL knows it: a name, and one overload for each list of types it takes."""
    name = function.__name__

    @wraps(function)
    def call(*values: Any) -> Any:
        try:
            return function(*values)
        except ValueError as error:
            raise ValueError(f"`{name}` refuses: {error}") from None

    return cel.FunctionDecl(
        name,
        [
            cel.Overload(
                "_".join([name, *signature.split()]),
                return_type=_TYPES[gives],
                parameters=[_TYPES[kind] for kind in signature.split()],
                impl=call,
            )
            for signature in signatures
        ],
    )


FUNCTIONS = [
    # Declared as of any type: CEL's checker would refuse to compare a double with `500`. It is always a double.
    _declared(number, "any", "int", "double", "text"),
    _declared(address_domain, "text", "text"),
    _declared(all_addresses_in, "bool", "map list text", "map list list"),
    _declared(domain_within, "bool", "text text", "text list"),
    _declared(path_within, "bool", "text text", "text list"),
    _declared(path_has, "bool", "text text", "text list"),
    _declared(glob, "bool", "text text", "list text"),
    _declared(sql_kinds, "list", "text", "text text"),
    _declared(sql_tables, "list", "text", "text text"),
    _declared(sql_unbounded, "bool", "text", "text text"),
    _declared(argv, "list", "text", "list"),
    _declared(shell_commands, "lists", "text"),
    _declared(url_host, "text", "text"),
    _declared(host_private, "bool", "text"),
]

NAMES = {
    "number": "a number, or a text that is exactly one, as a double",
    "address_domain": "the domain of exactly one mail address",
    "all_addresses_in": "whether all mail addresses in the named arguments are in these domains",
    "domain_within": "whether a domain is one of these or below one",
    "path_within": "whether an absolute path stays in these folders, links followed",
    "path_has": "whether one of a path's names matches one of these globs",
    "glob": "whether one of these globs matches a whole text",
    "sql_kinds": "the kinds of all statements in an SQL text",
    "sql_tables": "the tables that an SQL text names",
    "sql_unbounded": "whether an SQL text changes a table without a bound",
    "argv": "the words of one simple command",
    "shell_commands": "the simple commands of a shell line, each as its words",
    "url_host": "the host of a http or https URL",
    "host_private": "whether a host is this machine or inside its network, as far as its name tells",
}
"""Each function with one line of what it gives."""

_BUILT_IN_NAMES = """
all bool bytes charAt contains double duration dyn endsWith exists exists_one filter format getDate getDayOfMonth
getDayOfWeek getDayOfYear getFullYear getHours getMilliseconds getMinutes getMonth getSeconds has indexOf int join
lastIndexOf lowerAscii map matches quote replace reverse size split startsWith string substring timestamp trim type uint
upperAscii
"""
"""CEL's own functions and macros, and those of its extension for texts."""


def advice(name: str) -> str:
    """The help line for a function that there is not."""
    near = meant(name, (*NAMES, *_BUILT_IN_NAMES.split()))
    ours = "functions beside CEL's own are " + ", ".join(f"`{each}`" for each in NAMES)
    return f"did you mean `{near}`? {ours}" if near else ours
