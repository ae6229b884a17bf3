"""One SQL statement under one dialect, as sqlglot parses it: its kinds, tables, calls, and what it leaves unbounded.

sqlglot is made to understand as much as it can. Here, what it understood only roughly (an expression instead of a
statement, a command it did not read) is told apart from what it knows. Importing it takes a quarter of a second.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlglot import exp
from sqlglot.dialects import Dialect
from sqlglot.errors import SqlglotError

from hitl_mcp.limits import SQL_STEPS, SQL_STEPS_PER_TOKEN
from hitl_mcp.policy.functions.sql_names import HARMLESS_FUNCTIONS, STATEMENT_WORDS, UNKNOWN_WHEN_TYPED

__all__ = ["Statement", "parsed"]

logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # it would log the text, which is an argument's value

_KINDS: dict[type, str] = {
    exp.Select: "select",
    exp.SetOperation: "select",
    exp.Values: "select",
    exp.Insert: "insert",
    exp.Update: "update",
    exp.Delete: "delete",
    exp.Merge: "merge",
    exp.Create: "create",
    exp.Into: "create",  # SELECT … INTO
    exp.Alter: "alter",
    exp.Drop: "drop",
    exp.TruncateTable: "truncate",
    exp.Grant: "grant",
    exp.Revoke: "revoke",
    exp.Copy: "copy",
    exp.LoadData: "load",
    exp.Attach: "attach",
    exp.Detach: "detach",
    exp.Pragma: "pragma",
    exp.Set: "set",
    exp.Use: "use",
    exp.Show: "show",
    exp.Describe: "describe",
    exp.Analyze: "analyze",
    exp.Kill: "kill",
    exp.Comment: "comment",
    exp.Transaction: "begin",
    exp.Commit: "commit",
    exp.Rollback: "rollback",
    exp.Lock: "lock",  # SELECT … FOR UPDATE
    exp.Execute: "execute",
    exp.Declare: "declare",
    exp.IfBlock: "if",
    exp.Refresh: "refresh",
    exp.Cache: "cache",
    exp.Uncache: "uncache",
}
_TOP = (*(kind for kind in _KINDS if kind not in (exp.Into, exp.Lock)), exp.Subquery, exp.Command)
"""What a statement can be. An expression alone (`foo bar`) is none: some database has a command of that name."""

_UNREAD_WORDS = frozenset({"select", "with", "values", "table", "from", "explain", "describe", "desc"})
"""A statement that begins so is understood or refused, never passed as a command that was not read."""

_READ_WORDS = frozenset({"show"})
"""Commands that mean the same whatever follows."""

_UNREAD = "other"
"""The kind that stands beside a command's own word when what follows was not read: it may hold any statement."""


@dataclass(frozen=True)
class Statement:
    """What is known of one statement.

    `unbounded` is None where it was not read to its end, `calls` where it is a command, which sqlglot leaves unread.
    """

    kinds: frozenset[str]
    tables: frozenset[str]
    calls: frozenset[str] | None
    unbounded: bool | None


def parsed(text: str, dialect: str, *, ended: bool) -> Statement | None:
    """A statement, or None where it is none in this dialect.

    Unless statements are surely `ended` by a `;`, a word that begins one where a name should stand is refused: T-SQL
    runs both halves of `select 1 shutdown`.
    """
    trees = _trees(text, dialect)
    nodes = [node for tree in trees if tree is not None for node in tree.walk()]
    if not ended and any(_is_statement_word(node) for node in nodes):
        raise ValueError("a name in the text begins a statement in T-SQL: name the dialect, or quote the name")
    if len(trees) != 1 or not isinstance(tree := trees[0], _TOP):
        return None
    if isinstance(tree, exp.Command):
        return _command(tree)
    if any(isinstance(node, exp.Command) for node in nodes):
        return None
    return Statement(
        kinds=frozenset(_kinds(nodes)),
        tables=frozenset(_tables(nodes)),
        calls=frozenset(_calls(nodes)),
        unbounded=None if isinstance(tree, exp.Execute) else any(_is_unbounded(node) for node in nodes),
    )


class _TooManySteps(Exception):
    """The parser goes back and forth: some nestings take it twice the time for each level."""


class _Bounded:
    """What a parser gets mixed in so that it stops. `_advance` moves it, also back to where it tries again."""

    steps = 0
    steps_most = 0

    def _advance(self, times: int = 1) -> None:
        self.steps += 1
        if self.steps > self.steps_most:
            raise _TooManySteps
        super()._advance(times)  # type: ignore[misc]


@cache
def _parser_class(dialect: str) -> type[Any]:
    return type("BoundedParser", (_Bounded, Dialect.get_or_raise(dialect).parser_class), {})


def _trees(text: str, dialect: str) -> list[exp.Expr | None]:
    """What sqlglot makes of a text; nothing where it fails, also by a fault of its own."""
    language = Dialect.get_or_raise(dialect)
    parser = _parser_class(dialect)(dialect=language)
    try:
        tokens = language.tokenize(text)
        parser.steps_most = SQL_STEPS + SQL_STEPS_PER_TOKEN * len(tokens)
        trees: list[exp.Expr | None] = parser.parse(tokens, text)
    except _TooManySteps:
        raise ValueError("the text takes too long to understand") from None
    except (SqlglotError, RecursionError, AttributeError, LookupError, TypeError, ValueError):
        return []
    if not parser.steps:
        raise ValueError("this build of sqlglot cannot be bounded")  # compiled parsers may not call what is mixed in
    return trees


def _command(tree: exp.Command) -> Statement | None:
    word = str(tree.this).strip().lower()
    if re.fullmatch(r"[a-z]+", word) is None or word in _UNREAD_WORDS:
        return None
    rest = tree.args.get("expression")
    read = word in _READ_WORDS or not (rest and str(rest.name if isinstance(rest, exp.Expr) else rest).strip())
    kinds = {word} if read else {word, _UNREAD}
    return Statement(frozenset(kinds), frozenset(), None, False if read else None)


def _is_statement_word(node: exp.Expr) -> bool:
    return isinstance(node, exp.Identifier) and not node.args.get("quoted") and node.name.lower() in STATEMENT_WORDS


def _kinds(nodes: list[exp.Expr]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, exp.Values) and isinstance(node.parent, exp.Insert):
            continue
        yield from (_KINDS[cls] for cls in type(node).__mro__[:2] if cls in _KINDS)  # a union is a set operation
        if isinstance(node, exp.When) and isinstance(then := node.args.get("then"), exp.Var):
            yield then.name.lower().split()[0]  # MERGE … WHEN MATCHED THEN DELETE
        if isinstance(node, exp.OnConflict) and node.expressions:
            yield "update"
        if isinstance(node, exp.Insert) and node.args.get("alternative"):
            yield str(node.args["alternative"]).lower()  # INSERT OR REPLACE


def _tables(nodes: list[exp.Expr]) -> Iterator[str]:
    for node in nodes:
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            continue
        name = node.name.lower()
        if node.db:
            yield f"{node.db}.{name}".lower()
        elif isinstance(node.parent, exp.From | exp.Join) and name in _local_names(node, nodes[0]):
            continue
        yield name


def _local_names(table: exp.Expr, statement: exp.Expr) -> set[str]:
    """What the statement's own `WITH` has named where a table is named: inside it, only what came before."""
    within = statement.args.get("with_")
    names: set[str] = set()
    if not isinstance(within, exp.With):
        return names
    for query in within.expressions:
        inside = table.find_ancestor(exp.CTE) is query
        if not inside or within.args.get("recursive"):
            names.add(query.alias.lower())
        if inside:
            break
    return names


def _calls(nodes: list[exp.Expr]) -> Iterator[str]:
    """Functions that are not known to be harmless."""
    for node in nodes:
        if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc):
            plain = isinstance(node.this, str) and not isinstance(node.parent, exp.Dot)
            if not plain or node.name.lower() not in HARMLESS_FUNCTIONS:
                yield node.name.lower()
        elif isinstance(node, exp.Func) and (
            type(node).__name__ in UNKNOWN_WHEN_TYPED or isinstance(node.parent, exp.Dot)
        ):
            yield type(node).__name__.lower()


def _is_unbounded(node: exp.Expr) -> bool:
    if isinstance(node, exp.TruncateTable):
        return True
    if isinstance(node, exp.Update | exp.Delete) and not isinstance(node.parent, exp.When):
        where = node.args.get("where")
        return where is None or not _bounds(where.this, True)
    if isinstance(node, exp.Merge):
        return not _bounds(node.args.get("on"), True)
    return False


def _bounds(condition: exp.Expr | None, wanted: bool) -> bool:
    """Whether a condition that must be `wanted` leaves any row out, as far as its form tells."""
    if condition is None:
        return False
    if isinstance(condition, exp.Paren):
        return _bounds(condition.this, wanted)
    if isinstance(condition, exp.Not):
        return _bounds(condition.this, not wanted)
    if isinstance(condition, exp.And | exp.Or):
        sides = (_bounds(condition.left, wanted), _bounds(condition.right, wanted))
        return any(sides) if isinstance(condition, exp.And) == wanted else all(sides)
    if not _names_column(condition):
        return False
    if isinstance(condition, exp.Is):  # `IS NOT NULL` is what most rows are
        return wanted != (isinstance(condition.expression, exp.Not) or bool(condition.args.get("negate")))
    if isinstance(condition, exp.Like | exp.ILike):
        pattern = condition.expression
        return not (isinstance(pattern, exp.Literal) and not pattern.name.strip("%"))
    if isinstance(condition, exp.In):
        return condition.this not in condition.expressions
    return not isinstance(condition, exp.Binary) or bool(condition.left != condition.right)


def _names_column(condition: exp.Expr) -> bool:
    """Whether a condition looks at a row: at a column that is not just what one of its subqueries selects."""
    return any(_outside_subqueries(column, condition) for column in condition.find_all(exp.Column))


def _outside_subqueries(column: exp.Expr, condition: exp.Expr) -> bool:
    node: exp.Expr | None = column
    while node is not None and node is not condition:
        if isinstance(node, exp.Where):
            return True
        if isinstance(node, exp.Select):
            return False
        node = node.parent
    return True
