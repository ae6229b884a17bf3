"""YAML that people write, read strictly and with the position of every word, and checked against a pydantic model.

Whatever two YAML readers could understand differently is refused here: duplicate keys, aliases, tags, `no` for
false, `0755`, bare dates. What a config or a policy means is decided in their own modules, not here.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from hitl_mcp.errors import Finding
from hitl_mcp.limits import DEPTH_LEVELS, DOCUMENT_BYTES, SAFE_INTEGER
from hitl_mcp.yaml_mistakes import comment_that_cuts, mistake, numbers_meant, odd_space, place_in_source, written_at

__all__ = [
    "Document",
    "Model",
    "Place",
    "Problem",
    "Strict",
    "check",
    "display_name",
    "meant",
    "one_of",
    "read_document",
    "refuse",
    "refuse_all",
]

Place = tuple[str | int, ...]
"""Where a value stands in a document: keys and indices from the top."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads ten times faster where it is there
_DECIMAL_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)\Z")
_DECIMAL_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+([eE][-+]?[0-9]+)?\Z")
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True)
class _Span:
    """Where a node starts and how it is written; lines and columns count from 1."""

    line: int
    column: int
    style: str | None = None
    flow: bool = False


@dataclass(frozen=True)
class Problem:
    """Something wrong with a value; `at` is the line and column inside its text, from 1, where that is known.

    `below`: what of a mapping is wrong, by its keys.
    """

    message: str
    help: str | None = None
    at: tuple[int, int] | None = None
    below: Place = ()


@dataclass
class Document:
    """What a file says, where each of its values stands, and everything found wrong with it so far.

    `value` holds plain dicts, lists, texts, numbers, truth values and None; it is None where nothing could be read.
    `repeats`: help lines may repeat what is written; a config may hold secrets, a policy does not.
    """

    file: str
    value: Any = None
    repeats: bool = False
    findings: list[Finding] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list, repr=False)
    _values: dict[Place, _Span] = field(default_factory=dict, repr=False)
    _keys: dict[Place, _Span] = field(default_factory=dict, repr=False)
    _refused: set[Place] = field(default_factory=set, repr=False)
    _ambiguous: dict[Place, Finding] = field(default_factory=dict, repr=False)

    def where(self, place: Sequence[str | int] = ()) -> tuple[int, int]:
        """Line and column of the value at a place, or of the nearest value above it."""
        for length in range(len(place), -1, -1):
            if span := self._values.get(tuple(place[:length])):
                return span.line, span.column
        return 1, 1

    def where_key(self, place: Sequence[str | int]) -> tuple[int, int]:
        """Line and column of the key that names a value."""
        span = self._keys.get(tuple(place))
        return (span.line, span.column) if span else self.where(place)

    def find(self, place: Sequence[str | int], message: str, advice: str | None = None) -> None:
        """Add a finding at a value, unless something was already found wrong with that very value."""
        if not self._already_refused(tuple(place)):
            self._add(self.where(place), message, advice)

    def find_key(self, place: Sequence[str | int], message: str, advice: str | None = None) -> None:
        """Add a finding at the key that names a value."""
        if not self._already_refused(tuple(place)):
            self._add(self.where_key(place), message, advice)

    def find_problem(self, place: Place, problem: Problem) -> None:
        """Add a finding at a value, or where in its text the problem is.

        Whoever reads the value knows better than YAML what an ambiguous one was meant for.
        """
        place += problem.below
        if not problem.at:
            self.forget_ambiguity(place)
        if not self._already_refused(place):
            at = self._inside(place, problem.at) if problem.at else self.where(place)
            self._add(at, problem.message, problem.help)

    def forget_ambiguity(self, place: Place) -> None:
        """Take back that a value is ambiguous: there is more to say about it."""
        if (ambiguous := self._ambiguous.pop(place, None)) is not None:
            self._refused.discard(place)
            self.findings.remove(ambiguous)

    def _already_refused(self, place: Place) -> bool:
        return any(place[:length] in self._refused for length in range(len(place) + 1))

    def _add(self, at: tuple[int, int], message: str, advice: str | None) -> None:
        finding = Finding(self.file, at[0], at[1], message, advice)
        if finding not in self.findings:
            self.findings.append(finding)

    def _inside(self, place: Place, at: tuple[int, int]) -> tuple[int, int]:
        """A position inside a text as a position in the file."""
        span = self._values.get(place)
        text: Any = self.value
        try:
            for part in place:
                text = text[part]
        except (KeyError, IndexError, TypeError):
            text = None
        if span is None or not isinstance(text, str) or min(at) < 1:
            return self.where(place)
        before = text.split("\n")[: at[0] - 1]
        offset = sum(len(line) + 1 for line in before) + at[1] - 1
        return place_in_source(self._lines, (span.line, span.column), span.style, text, offset)

    def quoted(self, place: Sequence[str | int]) -> str | None:
        """The help line for what should be one text: its key with all of it in quotes."""
        line, column = self.where(place)
        return written_at(self._lines, line, column) if self.repeats else None


def display_name(path: Path) -> str:
    """A path as messages name it: from the working directory where it lies below that, else as it is."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def read_document(path: Path, *, absent: str | None = None, repeats: bool = False) -> Document:
    """Read a YAML file strictly. Never raises for what the file says: see `Document.findings`.

    `absent` is the help line for a file that cannot be read; `repeats` as in `Document`.
    """
    document = Document(display_name(path), repeats=repeats)
    try:
        with path.open("rb") as stream:
            raw = stream.read(DOCUMENT_BYTES + 1)
    except OSError as error:
        document.find((), f"cannot be read: {(error.strerror or str(error)).lower()}", absent)
        return document
    if len(raw) > DOCUMENT_BYTES:
        document.find((), f"the file is larger than {DOCUMENT_BYTES} bytes", "split it into several files")
        return document
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = (raw.count(b"\n", 0, error.start) + 1, error.start - raw.rfind(b"\n", 0, error.start))
        document._add(at, "not UTF-8 text", "save the file as UTF-8")
        return document
    document._lines = text.splitlines()
    try:
        document.value = _Composer(document, text).compose()
    except yaml.MarkedYAMLError as error:
        _add_syntax_error(document, error)
    except yaml.YAMLError as error:
        document._add((1, 1), f"not YAML: {str(error).splitlines()[0].lower()}", None)
    return document


def _add_syntax_error(document: Document, error: yaml.MarkedYAMLError) -> None:
    mark = error.problem_mark or error.context_mark
    if mark is None or isinstance(error, _TooDeep):
        at = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        document._add(at, f"not YAML: {error.problem or error.context}", None)
        return
    opened = error.context_mark
    found = mistake(
        document._lines,
        (mark.line + 1, mark.column + 1),
        (opened.line + 1, opened.column + 1) if opened else None,
        str(error.problem or error.context),
    )
    advice = found.help if document.repeats or not found.repeats else "put the whole text in single quotes"
    document._add((found.line, found.column), found.message, advice)


_WRITE_OUT = "write the value out"


class _TooDeep(yaml.MarkedYAMLError):
    """Nesting that no config needs; it ends the reading, as a syntax error does."""


class _Composer:
    """Turns the events of one YAML document into plain values, noting where each stands."""

    def __init__(self, document: Document, text: str) -> None:
        self.document = document
        self.anchors: set[str] = set()
        self.events: Iterator[Any] = iter(yaml.parse(text, Loader=_Loader))

    def compose(self) -> Any:
        next(self.events)  # the stream starts
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return None
        value = self._node(next(self.events), ())
        next(self.events)  # the document ends
        after = next(self.events)
        if isinstance(after, yaml.DocumentStartEvent):
            self._refuse(after, (), "a second document starts here", "write one document to a file, without `---`")
        return value

    def _refuse(self, event: Any, place: Place, message: str, advice: str) -> None:
        self.document._add((event.start_mark.line + 1, event.start_mark.column + 1), message, advice)
        self.document._refused.add(place)

    def _node(self, event: Any, place: Place) -> Any:
        mark = event.start_mark
        scalar = isinstance(event, yaml.ScalarEvent)
        flow = bool(getattr(event, "flow_style", False))
        self.document._values[place] = _Span(mark.line + 1, mark.column + 1, event.style if scalar else None, flow)
        if len(place) > DEPTH_LEVELS:
            raise _TooDeep(problem=f"nested deeper than {DEPTH_LEVELS} levels", problem_mark=mark)
        if isinstance(event, yaml.AliasEvent):
            advice = _WRITE_OUT if event.anchor in self.anchors else self._as_text(event, _WRITE_OUT)
            self._refuse(event, place, f"aliases are not read: `*{event.anchor}`", advice)
            return None
        if event.anchor is not None:
            self.anchors.add(event.anchor)
            advice = self._as_text(event, _WRITE_OUT) if scalar else _WRITE_OUT
            self._refuse(event, place, f"anchors are not read: `&{event.anchor}`", advice)
        if event.tag is not None:
            advice = "leave the tag out; quotes make a text"
            if not event.tag.startswith("tag:"):
                advice = self._as_text(event, advice)
            self._refuse(event, place, f"tags are not read: `{event.tag}`", advice)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(place)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(place)
        return self._scalar(event, place) if event.implicit[0] and not event.style else event.value

    def _as_text(self, event: Any, otherwise: str) -> str:
        """What to write where `*`, `&` or `!` was only the first character of a text."""
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        meant = written_at(self.document._lines, line, column) if self.document.repeats else None
        return meant or otherwise

    def _sequence(self, place: Place) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*place, len(items))))
        return items

    def _mapping(self, place: Place) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event, place)
            below = (*place, key)
            mark = event.start_mark
            if known := self.document._keys.get(below):
                # The first one stays; the second is read for what else may be wrong with it, and dropped.
                advice = f"it was first written at line {known.line}"
                self._refuse(event, below, f"the key `{key}` stands twice", advice)
                self._node(next(self.events), (*place, f"\x00{mark.line}:{mark.column}"))
                continue
            self.document._keys[below] = _Span(mark.line + 1, mark.column + 1)
            members[key] = self._node(next(self.events), below)
        return members

    def _key(self, event: Any, place: Place) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            odd = f"\x00{event.start_mark.line}:{event.start_mark.column}"
            self._node(event, (*place, odd))
            self._refuse(event, (*place, odd), "a key must be text", "write `key: value`")
            return odd
        value = self._node(event, (*place, event.value))
        if not isinstance(value, str):
            advice = f'put it in quotes: `"{event.value}"`'
            self._refuse(event, (*place, event.value), f"a key must be text: `{event.value}`", advice)
        return str(event.value)

    def _scalar(self, event: Any, place: Place) -> Any:
        text: str = event.value
        if odd := odd_space(text):
            self._refuse(event, place, f"an invisible character at the end of a text: {odd}", "delete it, or quote it")
        if text in _NOTHING:
            return None
        if text in _TRUTH:
            return _TRUTH[text]
        if _DECIMAL_INTEGER.match(text):
            if len(text) <= 17 and abs(number := int(text)) <= SAFE_INTEGER:
                return number
            self._refuse(event, place, f"the number is beyond ±{SAFE_INTEGER}", "put it in quotes if it is text")
            return text
        if _DECIMAL_FLOAT.match(text) and math.isfinite(float(text)):
            return float(text)
        if meaning := _older_meaning(text):
            message = f"ambiguous value `{text}`: YAML readers disagree whether it is {meaning[0]} or text"
            self._refuse(event, place, message, meaning[1])
            self.document._ambiguous[place] = self.document.findings[-1]
        elif cut := comment_that_cuts(self.document._lines, event.end_mark.line + 1, event.end_mark.column + 1, text):
            at = (event.end_mark.line + 1, cut)
            message = "a comment cuts this text: ` #` starts one"
            whole = written_at(self.document._lines, at[0], event.start_mark.column + 1, with_comment=True)
            apart = "put a space after `#` where a comment is meant"
            advice = f"{whole}; {apart}" if whole and self.document.repeats else f"put the text in quotes; {apart}"
            self.document._add(at, message, advice)
            self.document._refused.add(place)
        return text


def _older_meaning(text: str) -> tuple[str, str] | None:
    """What YAML 1.1 makes of a plain word that other versions read otherwise, and how to write it plainly."""
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], [])
    tag = next((tag for tag, pattern in resolvers if pattern.match(text)), None)
    quoted = f'write `"{text}"` for the text'
    if tag is None:
        return None
    kind = tag.rpartition(":")[2]
    if kind == "bool":
        truth = "true" if text.lower() in ("yes", "on") else "false"
        return "a truth value", f"{quoted}, `{truth}` for the truth value"
    if kind == "timestamp":
        return "a date", quoted
    if kind in ("int", "float"):
        numbers = " or ".join(f"`{number}`" for number in numbers_meant(text))
        return "a number in another notation", f"{quoted}, {numbers or 'plain decimal digits'} for the number"
    return "a command of its own", quoted


# ---------------------------------------------------------------------------------------------------------------
# Words that were probably meant


def meant(word: str, words: Iterable[str]) -> str | None:
    """The one of `words` that was probably meant by `word`, if any is near enough."""
    return next(iter(difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)), None)


def one_of(word: str, words: Iterable[str], what: str) -> str:
    """The help line for a word that is none of `words`: what was probably meant, and all there is."""
    known = list(words)
    near = meant(word, known)
    everything = ", ".join(f"`{item}`" for item in known) if known else "none"
    return f"did you mean `{near}`? {what} are {everything}" if near else f"{what} are {everything}"


# ---------------------------------------------------------------------------------------------------------------
# Models


class Strict(BaseModel):
    """The base of everything a person writes: no key that is not known, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)
    noun: ClassVar[str] = "this mapping"
    example: ClassVar[str] = ""
    """How it is written, for who writes a text or a number in its place."""
    mistaken: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Keys that people write and that are not there: the one they mean, or a sentence that says where it stands."""


Model = TypeVar("Model", bound=Strict)


def refuse(message: str, advice: str | None = None, *below: str) -> PydanticCustomError:
    """The error for a validator to raise, in our own words; `below`: the key of a mapping that it is about."""
    return refuse_all([Problem(message, advice, below=below)])


def refuse_all(problems: Sequence[Problem]) -> PydanticCustomError:
    """The error for a field validator to raise where a value has several problems."""
    return PydanticCustomError("refused", "refused", {"problems": problems})


def check(document: Document, model: type[Model], place: Place = ()) -> Model | None:
    """Read the value at a place as a model. All that does not fit is added to the document's findings, at once."""
    value = document.value
    if value is None and not place:
        if not document.findings:
            document.find((), "the file is empty", f"{model.noun} needs {_needed_by(model)}")
        return None
    for part in place:
        value = value[part]
    try:
        return model.model_validate(value)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _add_detail(document, model, place, detail)
        return None


def _add_detail(document: Document, model: type[Strict], base: Place, detail: ErrorDetails) -> None:
    inner: Place = tuple(detail["loc"])
    place = base + inner
    kind, given = detail["type"], detail["input"]
    above = _model_at(model, inner[:-1])
    if kind == "extra_forbidden":
        key = str(place[-1])
        document.find_key(place, f"unknown key `{key}` in {above.noun}", _key_meant(document, above, place))
    elif kind == "missing":
        message = f"missing key `{place[-1]}` in {above.noun}"
        document.find(place[:-1], message, f"{above.noun} needs {_needed_by(above)}")
    elif kind == "refused":
        for problem in detail["ctx"]["problems"]:
            document.find_problem(place, problem)
    elif kind == "literal_error" and isinstance(given, str):
        words = re.findall(r"'([^']*)'", str(detail["ctx"]["expected"]))
        document.forget_ambiguity(place)
        document.find(place, *_word_meant(_label(place), given, words))
    else:
        wanted = _WANTED.get(kind)
        message = f"must be {wanted}, not {_kind_of(given)}" if wanted else detail["msg"].lower()
        example = _model_at(model, inner).example if kind == "model_type" else ""
        advice = f"write `{example}`" if example else _cure(document, place, kind, given)
        document.find(place, f"`{_label(place)}` {message}" if place else message, advice)


def _word_meant(label: str, given: str, words: Sequence[str]) -> tuple[str, str]:
    """What to say of a word that is none of those that may stand there."""
    name = label.partition("[")[0]
    what, where = (name, "") if name == label and not name.startswith("over") else ("word", f" in `{name}`")
    other = _WORDS_ELSEWHERE.get(given.lower())
    if other in words:
        everything = ", ".join(f"`{word}`" for word in words)
        return f"unknown {what} `{given}`{where}", f"did you mean `{other}`? {what}s are {everything}"
    return f"unknown {what} `{given}`{where}", one_of(given, words, f"{what}s")


_WORDS_ELSEWHERE = {
    **dict.fromkeys(("ask", "approve", "approval", "review", "confirm", "escalate", "require_approval"), "hold"),
    **dict.fromkeys(("block", "reject", "refuse", "forbid", "never"), "deny"),
    **dict.fromkeys(("permit", "accept", "run", "pass", "always"), "allow"),
}
"""What other policy languages call the effects of this one."""


def _key_meant(document: Document, model: type[Strict], place: Place) -> str:
    """The help line for a key that there is not."""
    key, keys = str(place[-1]), _keys_of(model)
    if not re.match(r"[A-Za-z_][\w -]*\Z", key):
        line, column = document.where_key(place)
        whole = written_at(document._lines, line, max(1, column - 2)) if document.repeats else None
        return f"a comma ends a text without quotes: {whole or 'put the whole text in quotes'}"
    other = model.mistaken.get(key.lower().replace("-", "_"))
    if other is not None and other not in keys:
        return other
    if other is None:
        return one_of(key, keys, "its keys")
    return f"did you mean `{other}`? its keys are {', '.join(f'`{each}`' for each in keys)}"


def _cure(document: Document, place: Place, kind: str, given: object) -> str | None:
    """What to write where a value of another type stands and its notation is the reason."""
    span = document._values.get(place)
    if kind == "string_type":
        if isinstance(given, int | float):
            return "put it in quotes"
        if isinstance(given, dict | list) and span is not None and span.flow:
            return document.quoted(place)
    if isinstance(given, str):
        if kind in ("int_type", "float_type") and _DECIMAL_INTEGER.match(given):
            return "write the number without quotes"
        if kind == "bool_type" and given in _TRUTH:
            return f"write `{str(_TRUTH[given]).lower()}` without quotes"
        if kind == "list_type":
            return f"write a list: `{place[-1]}: [{given}]`" if document.repeats and place else "write `[…]` around it"
    if kind == "list_type" and isinstance(given, dict):
        return "start each entry with `- `"
    if kind == "list_type" and given is None:
        return "leave the key out, or write `[]`"
    return None


_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "`true` or `false`",
    "list_type": "a list",
    "dict_type": "a mapping (`key: value`)",
    "model_type": "a mapping (`key: value`)",
    "literal_error": "one of its words",
}
"""What pydantic's errors ask for, in words for people who write YAML."""


def _kind_of(value: object) -> str:
    """What a value is, without saying it: it may be a secret."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "a mapping"


def _label(place: Place) -> str:
    """The last key of a place, with the indices that follow it: `args[1]`."""
    label = ""
    for part in reversed(place):
        if isinstance(part, str):
            return part + label
        label = f"[{part}]" + label
    return label


def _model_at(model: type[Strict], place: Place) -> type[Strict]:
    """The model that describes the mapping at a place."""
    found: Any = model
    for part in place:
        if _is_model(found):
            info = _keys_of(found).get(str(part))
            found = info.annotation if info else None
        else:
            found = next(reversed(get_args(found)), None)  # what a list or a mapping holds
        if get_origin(found) in (Union, types.UnionType):
            found = next(choice for choice in get_args(found) if choice is not types.NoneType)
    return found if _is_model(found) else Strict


def _keys_of(model: type[Strict]) -> dict[str, FieldInfo]:
    """A model's fields by the keys that people write."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _needed_by(model: type[Strict]) -> str:
    return ", ".join(f"`{key}`" for key, info in _keys_of(model).items() if info.is_required())


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Strict)
