"""What the CEL compiler complains of, in words for people who write policies: where, what, and what was meant.

Only about texts that do not compile. What compiles and cannot be meant stands in `traps`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hitl_mcp.documents import Problem, meant, one_of
from hitl_mcp.limits import SAFE_INTEGER
from hitl_mcp.policy.functions import NAMES, advice
from hitl_mcp.policy.reasons import legible

__all__ = ["FORMS", "place", "problems", "start_of", "why"]

_PROBLEM = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_STATUS = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
_ESCAPE = re.compile(r"\\(?![abfnrtv\\?\"'`xXuU0-3])(.)")
_NO_FIELDS = re.compile(r"expression of type '([^']*)' cannot be the operand of a select operation")
_NO_OVERLOAD = re.compile(r"found no matching overload for '([^']*)' applied to '([^']*)'")

_PIECE = re.compile(
    r"""(?P<text>[rR]?(?:\"\"\".*?\"\"\"|'''.*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<comment>//[^\n]*)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*|`[^`\n]*`)
    |(?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?u?)
    |(?P<sign>!==|===|<>|=~|\?\?|\?\.|[!=<>]=|&&|\|\||\S)
    |(?P<odd>[^\x00-\x7f])""",
    re.VERBOSE | re.DOTALL,
)

_SIGNS = {
    "=": "write `==`",
    "===": "write `==`",
    "!==": "write `!=`",
    "<>": "write `!=`",
    "&": "write `&&`",
    "|": "write `||`",
    "=~": 'write `args.x.matches("pattern")`',
    "~": 'write `args.x.matches("pattern")`',
    ";": "leave it out",
    "#": "a comment in a condition starts with `//`",
    "$": "write `args.x`, without a sign in front",
    "??": "write `has(args.x) ? args.x : …`",
    "?.": "write `has(args.x) && args.x.y == …`",
    "@": "write `args.x`, without a sign in front",
}
"""Signs of other languages, and what to write here."""

_WORDS = {
    "and": "write `&&`",
    "or": "write `||`",
    "not": "write `!`, and brackets around what it is about: `!(args.x in [1, 2])`",
    "is": "write `==`",
    "like": 'write `args.x.contains("part")`, or `glob("a*", args.x)`',
    "between": "write `args.x >= 1 && args.x <= 2`",
    "contains": 'write `args.x.contains("part")`',
    "includes": 'write `args.x.contains("part")`',
    "matches": 'write `args.x.matches("pattern")`',
    "starts": 'write `args.x.startsWith("a")`',
    "startswith": 'write `args.x.startsWith("a")`',
    "ends": 'write `args.x.endsWith("a")`',
    "endswith": 'write `args.x.endsWith("a")`',
    "equals": "write `==`",
    "if": "write only what must be true, or `a ? b : c`",
    "then": "write only what must be true, or `a ? b : c`",
    "else": "write only what must be true, or `a ? b : c`",
    "for": "write `args.list.all(x, …)` or `args.list.exists(x, …)`",
    "lambda": "write `args.list.all(x, …)` or `args.list.exists(x, …)`",
}
"""Words of other languages, and what to write here."""

_TOO_LARGE = "no argument is that large; put it in quotes if it is text"
_RESERVED_FIELDS = frozenset({"in", "true", "false", "null"})

_ODD = {
    "\u201c": '"',
    "\u201d": '"',
    "\u201e": '"',
    "\u00ab": '"',
    "\u00bb": '"',
    "\u2018": "'",
    "\u2019": "'",
    "\u2260": "!=",
    "\u2265": ">=",
    "\u2264": "<=",
    "\u2212": "-",
    "\u2013": "-",
    "\u2014": "-",
    "\u00d7": "*",
    "\u00f7": "/",
    "\u2227": "&&",
    "\u2228": "||",
    "\u00ac": "!",
}
"""Characters that word processors and other keyboards write, and what CEL has for them."""

_FUNCTIONS_ELSEWHERE = {
    "len": "size",
    "length": "size",
    "count": "size",
    "lower": "lowerAscii",
    "tolower": "lowerAscii",
    "tolowercase": "lowerAscii",
    "upper": "upperAscii",
    "toupper": "upperAscii",
    "touppercase": "upperAscii",
    "any": "exists",
    "some": "exists",
    "every": "all",
    "include": "contains",
    "includes": "contains",
    "isset": "has",
    "defined": "has",
    "match": "matches",
    "regex": "matches",
    "test": "matches",
    "strip": "trim",
    "float": "double",
    "str": "string",
    "tostring": "string",
}
"""What other languages call the functions of this one."""

_NAMES_ELSEWHERE = {
    "True": "true",
    "TRUE": "true",
    "False": "false",
    "FALSE": "false",
    "None": "null",
    "nil": "null",
    "NULL": "null",
    "Null": "null",
    "undefined": "null",
    "params": "args",
    "arguments": "args",
    "parameters": "args",
    "input": "args",
    "call": "args",
    "user": "agent",
    "server": "upstream.name",
    "upstream": "upstream.name",
    "labels": "upstream.labels",
    "env": "upstream.labels.env",
    "time": "now",
    "today": "now",
    "date": "now",
}
"""What people call the names of conditions at first."""

FORMS = {
    "number": "number(args.amount)",
    "address_domain": "address_domain(args.to)",
    "all_addresses_in": 'all_addresses_in(args, ["to", "cc"], "example.com")',
    "domain_within": 'domain_within(url_host(args.url), "example.com")',
    "path_within": 'path_within(args.path, "/srv/shared")',
    "path_has": 'path_has(args.path, [".env", "*.pem"])',
    "glob": 'glob("report-*", args.name)',
    "sql_kinds": "sql_kinds(args.sql)",
    "sql_tables": "sql_tables(args.sql)",
    "sql_unbounded": "sql_unbounded(args.sql)",
    "argv": "argv(args.command)",
    "shell_commands": "shell_commands(args.command)",
    "url_host": "url_host(args.url)",
    "host_private": "host_private(url_host(args.url))",
    "startsWith": 'args.x.startsWith("a")',
    "endsWith": 'args.x.endsWith("a")',
    "contains": 'args.x.contains("a")',
    "matches": 'args.x.matches("pattern")',
    "lowerAscii": "args.x.lowerAscii()",
    "upperAscii": "args.x.upperAscii()",
    "trim": "args.x.trim()",
    "split": 'args.x.split(",")',
    "replace": 'args.x.replace("a", "b")',
    "size": "size(args.x)",
    "has": "has(args.x)",
    "all": 'args.list.all(x, x != "a")',
    "exists": 'args.list.exists(x, x == "a")',
    "exists_one": 'args.list.exists_one(x, x == "a")',
    "filter": 'args.list.filter(x, x != "a")',
    "map": "args.list.map(x, x.name)",
    "getHours": 'now.getHours("Europe/Berlin")',
    "getMinutes": 'now.getMinutes("Europe/Berlin")',
    "getDayOfWeek": 'now.getDayOfWeek("Europe/Berlin")',
    "getDate": 'now.getDate("Europe/Berlin")',
    "getDayOfMonth": 'now.getDayOfMonth("Europe/Berlin")',
    "getDayOfYear": 'now.getDayOfYear("Europe/Berlin")',
    "getMonth": 'now.getMonth("Europe/Berlin")',
    "getFullYear": 'now.getFullYear("Europe/Berlin")',
    "duration": 'duration("90m")',
    "timestamp": 'timestamp("2026-11-22T14:00:00Z")',
    "int": "int(args.x)",
    "double": "double(args.x)",
    "string": "string(args.x)",
    "type": "type(args.x)",
}
"""How a function is written, for those that people call with other arguments."""


@dataclass(frozen=True)
class _Piece:
    kind: str
    text: str
    start: int


def problems(message: str, text: str, variables: Sequence[str]) -> list[Problem]:
    """The compiler's complaints with their positions, in our words."""
    complaints = [((int(line), int(column)), _STATUS.sub("", what)) for line, column, what in _PROBLEM.findall(message)]
    if any(what.startswith("Syntax error") for _, what in complaints):
        # One slip makes the compiler stumble several times: only the first is told, and in our words if we know it.
        known = next(_slips(text), None)
        first = next((_syntax(at, what) for at, what in complaints if min(at) > 0 and "<<nil>>" not in what), None)
        return [known or first or Problem("not a condition")]
    found = list(dict.fromkeys(_problem(at, what, text, variables) for at, what in complaints))
    if any("(x, " in str(problem.help) for problem in found):
        found = [problem for problem in found if not re.match(r"unknown name `\w+`", problem.message)]
    return found or [Problem(f"not a condition: {why(message)}")]


def why(message: str) -> str:
    """An evaluation error of the library in words for the people who read the decision."""
    text = _STATUS.sub("", message)
    if found := re.fullmatch(r'Key not found in map : "(.*)"', text, re.DOTALL):
        return f"there is no `{legible(found[1])}`"
    if found := re.fullmatch(r"No matching overloads found : (.*?)(\(.*\))", text, re.DOTALL):
        return f"`{found[1].strip('_').lstrip('@')}` does not take {legible(found[2])}"
    return legible(text[:1].lower() + text[1:])


def place(text: str, offset: int) -> tuple[int, int]:
    """An offset in a text as line and column, from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def start_of(name: str, at: tuple[int, int], text: str) -> tuple[int, int]:
    """Where a name begins; the compiler points at the dot or the parenthesis in it."""
    lines = text.split("\n")
    start = lines[at[0] - 1].rfind(name, 0, at[1] + len(name)) if 0 < at[0] <= len(lines) else -1
    return (at[0], start + 1) if start >= 0 else at


# ---------------------------------------------------------------------------------------------------------------
# Texts that cannot be read


def _slips(text: str) -> Iterator[Problem]:
    """What is written as it would be elsewhere, in the order of the text."""
    pieces = [_Piece(str(one.lastgroup), one[0], one.start()) for one in _PIECE.finditer(text)]
    pieces = [piece for piece in pieces if piece.kind != "comment"]
    nothing = _Piece("end", "", len(text))
    for index, piece in enumerate(pieces):
        before = pieces[index - 1] if index else nothing
        after = pieces[index + 1] if index + 1 < len(pieces) else nothing
        found = _slip(piece, before, after)
        if found is None and piece.text == "in" and before.text != "." and after.text == "(":
            found = _list_in_parentheses(text, after)
        if found is None and piece.kind == "number" and before.text not in ("[", "(", ","):
            found = _grouped(text, piece)
        if found is not None:
            message, cure, offset = found
            yield Problem(message, cure, place(text, offset))


_Slip = tuple[str, str | None, int]


def _slip(piece: _Piece, before: _Piece, after: _Piece) -> _Slip | None:
    if piece.kind == "text":
        return _escaped(piece)
    if piece.kind == "number":
        return _number(piece, after)
    if not piece.text.isascii():
        return _odd(piece)
    if piece.kind == "word":
        return _word(piece, before, after)
    if piece.text in ("'", '"'):
        other = '"' if piece.text == "'" else "'"
        cure = f"close it; a text that holds `{piece.text}` goes into `{other}`"
        return f"the `{piece.text}` that opens here is not closed", cure, piece.start
    if piece.text in _SIGNS:
        return f"`{piece.text}` means nothing in a condition", _SIGNS[piece.text], piece.start
    if piece.text == "{" and after.text in ("{", "args"):
        return "braces around a name", "write `args.x` without braces", piece.start
    if piece.text == "." and after.text in _RESERVED_FIELDS:
        return f"`{after.text}` is a word of CEL", f'write `args["{after.text}"]`', after.start
    return None


def _escaped(piece: _Piece) -> _Slip | None:
    found = None if piece.text[0] in "rR" else _ESCAPE.search(piece.text)
    if found is None:
        return None
    return f"`{found[0]}` means nothing in a text", f"write `r{piece.text}`", piece.start + found.start()


def _number(piece: _Piece, after: _Piece) -> _Slip | None:
    end = piece.start + len(piece.text)
    if after.start == end and after.kind == "word" and re.fullmatch(r"[_0-9]+", after.text):
        return "digits are not grouped", f"write `{piece.text}{after.text.replace('_', '')}`", piece.start
    if after.start == end and after.text == ".":
        return "a number ends in a point", f"write `{piece.text}.0`", piece.start
    if after.kind == "word" and after.text not in ("in", *_WORDS):
        return f"`{after.text}` after a number", "write the number alone", after.start
    return None


def _odd(piece: _Piece) -> _Slip:
    character = next(one for one in piece.text if not one.isascii())
    start = piece.start + piece.text.index(character)
    named = f"U+{ord(character):04X} {unicodedata.name(character, 'unnamed').lower()}"
    shown = f"`{character}` ({named})" if character.isprintable() and not character.isspace() else named
    if character in _ODD:
        return f"{shown} means nothing in a condition", f"write `{_ODD[character]}`", start
    if not character.isalnum():
        return f"{shown} means nothing in a condition", "delete it, or write a plain space", start
    cure = 'names are `a` to `z`, `A` to `Z`, `0` to `9` and `_`; another argument is `args["größe"]`'
    return f"{shown} cannot be in a name", cure, start


def _word(piece: _Piece, before: _Piece, after: _Piece) -> _Slip | None:
    word = piece.text.lower()
    if word not in _WORDS or before.text == "." or (after.text in ("(", ".") and word != "not"):
        return None
    return f"`{piece.text}` is no operator", _WORDS[word], piece.start


def _grouped(text: str, piece: _Piece) -> _Slip | None:
    found = re.match(r"[0-9]{1,3}(,[0-9]{3})+(?![0-9])", text[piece.start :])
    return ("digits are not grouped", f"write `{found[0].replace(',', '')}`", piece.start) if found else None


def _list_in_parentheses(text: str, opening: _Piece) -> _Slip | None:
    found = re.match(r"\(([^()\[\]]*,[^()\[\]]*)\)", text[opening.start :])
    return ("a list stands in `[…]`", f"write `[{found[1].strip()}]`", opening.start) if found else None


def _syntax(at: tuple[int, int], what: str) -> Problem:
    """A complaint about the grammar that none of the known slips explains."""
    what = re.sub(r" expecting \{?.*$", "", what).removeprefix("Syntax error: ")
    if what == "mismatched input '<EOF>'":
        return Problem("not a condition: it ends too early", at=at)
    if found := re.match(r"missing '(.)' at '<EOF>'", what):
        return Problem(f"not a condition: `{found[1]}` is missing at the end", at=at)
    if found := re.match(r"(?:extraneous|mismatched) input '(.*)'|no viable alternative at input '(.*)'", what):
        return Problem(f"not a condition: `{found[1] or found[2]}` does not belong here", at=at)
    if found := re.match(r"token recognition error at: '(.*)'", what):
        return Problem(f"not a condition: `{found[1].strip()}` does not belong here", at=at)
    return Problem(f"not a condition: {what[:1].lower() + what[1:]}", at=at)


# ---------------------------------------------------------------------------------------------------------------
# Texts that can be read and mean nothing


def _problem(at: tuple[int, int], what: str, text: str, variables: Sequence[str]) -> Problem:
    if found := re.match(r"undeclared reference to '([^']*)'", what):
        name, at = found[1], start_of(found[1], at, text)
        if re.search(rf"\b{re.escape(name)}\s*\(", text):
            return _unknown_function(name, at)
        return Problem(f"unknown name `{name}` in a condition", _name_meant(name, at, text, variables), at)
    if found := _NO_OVERLOAD.match(what):
        name = found[1].strip("_").lstrip("@")
        types = found[2].replace("google.protobuf.Timestamp", "time").replace("google.protobuf.Duration", "duration")
        cure = _types_meant(name, types[1:-1], at, text)
        return Problem(f"`{name}` does not take {types} in a condition", cure, at)
    if found := _NO_FIELDS.match(what):
        kind = {"string": "a text", "google.protobuf.Timestamp": "a time"}.get(found[1], f"a value of type {found[1]}")
        cure = 'write `now.getHours("Europe/Berlin")`' if "Timestamp" in found[1] else None
        return Problem(f"{kind} has no fields", cure, at)
    if what == "invalid int literal":
        return Problem(f"the number is beyond ±{SAFE_INTEGER}", _TOO_LARGE, at)
    if "has() argument" in what:
        return Problem("`has` asks for a field", 'write `has(args.name)`, or `"my-name" in args`', at)
    return _syntax(at, what)


def _unknown_function(name: str, at: tuple[int, int]) -> Problem:
    if name in FORMS:
        return Problem(f"`{name}` does not take these arguments in a condition", f"write `{FORMS[name]}`", at)
    message = f"unknown function `{name}` in a condition"
    if name in _WORDS:
        return Problem(message, _WORDS[name], at)
    if name == "now":
        return Problem(message, "write `now`, without brackets", at)
    known = _FUNCTIONS_ELSEWHERE.get(name.lower().replace("_", "")) or meant(name, (*NAMES, *FORMS))
    return Problem(message, f"did you mean `{known}`? write `{FORMS[known]}`" if known else advice(name), at)


def _name_meant(name: str, at: tuple[int, int], text: str, variables: Sequence[str]) -> str:
    """The help line for a name that there is not."""
    before = text.split("\n")[at[0] - 1][: at[1] - 1]
    if dashed := re.search(r"args\.([\w-]*-)$", before):
        return f'an argument with `-` in its name is `args["{dashed[1]}{name}"]`'
    first, _, rest = name.partition(".")
    if first == "upstream" and rest and meant(rest.partition(".")[0], ("name", "labels")) is None:
        return f"did you mean `upstream.labels.{rest}`? {one_of('', variables, 'names')}"
    known = _NAMES_ELSEWHERE.get(first) if first != "upstream" or not rest else None
    if known in ("true", "false", "null"):
        return f"write `{known}`"
    everything = one_of("", variables, "names")
    if known:
        return f"did you mean `{known}`? {everything}"
    if re.search(r"(?:[=!]=|\bin\s*\[|,)\s*$", before) and "." not in name and meant(name, variables) is None:
        return f'a text stands in quotes: `"{name}"`; {everything}'
    near = meant(".".join(name.split(".")[:2]), variables) or meant(first, variables)
    if near is None and not rest:
        return f"an argument is `args.{name}`; {everything}"
    return f"did you mean `{near}`? {everything}" if near else everything


def _types_meant(name: str, types: str, at: tuple[int, int], text: str) -> str | None:
    """The help line for an operator or a function that stands between values of other types."""
    left, _, right = types.partition(", ")
    comparing = name in ("==", "!=", "<", "<=", ">", ">=")
    if name == "in":
        return _membership_meant(left, right, at, text)
    if name in FORMS:
        return f"write `{FORMS[name]}`"
    if comparing and "time" in (left, right) and "string" in (left, right):
        return 'write `timestamp("2026-11-22T14:00:00Z")` for a time'
    if name in ("<", "<=", ">", ">=") and left == "bool":
        return "comparisons do not chain: write `1 < args.x && args.x < 5`"
    if {left, right} <= {"int", "double", "uint"}:
        return "one is whole and one is not: write `2.0`, or `double(…)` around the other"
    if comparing and types.startswith("map"):
        return 'write which label: `upstream.labels.env == "prod"`'
    if comparing and left.startswith("list") and right == "string":
        return 'write `"a" in …` for one entry, `== ["a"]` for the whole list'
    if comparing and {left, right} == {"int", "string"}:
        numeric = re.search(r"[\"']-?[0-9.]+[\"']", text.split("\n")[at[0] - 1])
        return "write the number without quotes" if numeric else "write the text in quotes, the number without"
    if comparing and "null_type" in (left, right):
        return "it is never null: ask `has(…)` whether something is there"
    return None


def _membership_meant(left: str, right: str, at: tuple[int, int], text: str) -> str | None:
    if left == "bool":
        return "`!` belongs to what stands right behind it: write `!(args.x in [1, 2])`"
    if right == "string":
        row = text.split("\n")[at[0] - 1]
        part = re.search(r"(\"[^\"]*\"|'[^']*'|[\w.]+)\s*$", row[: at[1] - 1])
        whole = re.match(r"in\s+([\w.]+)", row[at[1] - 1 :])
        cure = f"{whole[1]}.contains({part[1]})" if part and whole else 'args.x.contains("part")'
        return f"`in` asks a list: write `{cure}` for a part of a text"
    if right in ("int", "double"):
        return "`in` asks a list: write `[1, 2]`"
    return None
