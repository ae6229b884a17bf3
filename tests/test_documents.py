"""YAML that every reader would understand the same way, and findings that point at the right place."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from hitl_mcp.documents import Document, Problem, Strict, check, one_of, read_document
from hitl_mcp.limits import DOCUMENT_BYTES
from hitl_mcp.yaml_mistakes import numbers_meant, quoted

COLUMNS = "keys of one item start in one column, the first one right after `- `"
AMBIGUOUS = "YAML readers disagree whether it is"

REFUSED = [
    # text, every finding whole
    (
        "a: 1\nb: 2\na: 3\n",
        ["doc.yaml:3:1: the key `a` stands twice\n  help: it was first written at line 1"],
    ),
    (
        'a: {b: 1, "b": 2}\n',
        ["doc.yaml:1:11: the key `b` stands twice\n  help: it was first written at line 1"],
    ),
    (
        "a: &x [1]\nb: *x\n",
        [
            "doc.yaml:1:4: anchors are not read: `&x`\n  help: write the value out",
            "doc.yaml:2:4: aliases are not read: `*x`\n  help: write the value out",
        ],
    ),
    (
        "a: !!python/object:os.system x\n",
        [
            "doc.yaml:1:4: tags are not read: `tag:yaml.org,2002:python/object:os.system`\n"
            "  help: leave the tag out; quotes make a text"
        ],
    ),
    (
        "- no\n- On\n- 0755\n- 2026-11-22\n- 22:30\n- 1_000\n- .inf\n- =\n",
        [
            *(
                f"doc.yaml:{line}:3: ambiguous value `{text}`: {AMBIGUOUS} a truth value or text\n"
                f'  help: write `"{text}"` for the text, `{truth}` for the truth value'
                for line, text, truth in [(1, "no", "false"), (2, "On", "true")]
            ),
            *(
                f"doc.yaml:{line}:3: ambiguous value `{text}`: {AMBIGUOUS} a number in another notation or text\n"
                f'  help: write `"{text}"` for the text, {number} for the number'
                for line, text, number in [
                    (3, "0755", "`755` or `493`"),
                    (5, "22:30", "`1350`"),
                    (6, "1_000", "`1000`"),
                    (7, ".inf", "plain decimal digits"),
                ]
            ),
            f"doc.yaml:4:3: ambiguous value `2026-11-22`: {AMBIGUOUS} a date or text\n"
            '  help: write `"2026-11-22"` for the text',
            f"doc.yaml:8:3: ambiguous value `=`: {AMBIGUOUS} a command of its own or text\n"
            '  help: write `"="` for the text',
        ],
    ),
    (
        "a: 9007199254740992\n",
        ["doc.yaml:1:4: the number is beyond ±9007199254740991\n  help: put it in quotes if it is text"],
    ),
    ("1: a\n", ['doc.yaml:1:1: a key must be text: `1`\n  help: put it in quotes: `"1"`']),
    ("? [a, b]\n: c\n", ["doc.yaml:1:3: a key must be text\n  help: write `key: value`"]),
    (
        "a: 1\n---\nb: 2\n",
        ["doc.yaml:2:1: a second document starts here\n  help: write one document to a file, without `---`"],
    ),
    (
        'when: "a" in args.to\n',
        ["doc.yaml:1:11: not YAML: text goes on after the closing quote\n  help: put the whole text in single quotes"],
    ),
    (
        "a: [1\n",
        ["doc.yaml:1:4: not YAML: the `[` that opens here is not closed\n  help: close it with `]`"],
    ),
]


def read(directory: Path, text: str | bytes) -> Document:
    path = directory / "doc.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path)


@pytest.fixture(autouse=True)
def _in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("text", "messages"), REFUSED)
def test_what_two_yaml_readers_could_understand_differently_is_refused(
    text: str, messages: list[str], tmp_path: Path
) -> None:
    """Every trap of YAML is found, all of them at once, each at its line and column."""
    assert sorted(map(str, read(tmp_path, text).findings)) == sorted(messages)


def test_plain_values_are_read_as_every_reader_reads_them(tmp_path: Path) -> None:
    """Decimal numbers, `true`, `false`, nothing and text mean what they say; `y` and `1e3` are text."""
    document = read(
        tmp_path,
        'a: 1\nb: -2.5\nc: true\nd: FALSE\ne:\nf: ~\ng: null\nh: text\ni: "no"\n'
        "j: [y, 1e3, 08, -0]\nk: |\n  no\nl: {}\n",
    )
    assert document.findings == []
    assert document.value == {
        "a": 1,
        "b": -2.5,
        "c": True,
        "d": False,
        "e": None,
        "f": None,
        "g": None,
        "h": "text",
        "i": "no",
        "j": ["y", "1e3", "08", 0],
        "k": "no\n",
        "l": {},
    }


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 and control characters are named, and nothing is read."""
    latin = read(tmp_path, b"a: 1\nb: caf\xe9\n")
    assert [str(finding) for finding in latin.findings] == [
        "doc.yaml:2:7: not UTF-8 text\n  help: save the file as UTF-8"
    ]
    assert latin.value is None
    bell = read(tmp_path, "a: \x07\n")
    assert [finding.message for finding in bell.findings] == [
        "not YAML: unacceptable character #x0007: control characters are not allowed"
    ]


def test_a_file_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    """A missing file is told like everything else that is wrong with a file, with the caller's help."""
    document = read_document(tmp_path / "none.yaml", absent="write one")
    assert [str(finding) for finding in document.findings] == [
        "none.yaml:1:1: cannot be read: no such file or directory\n  help: write one"
    ]


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    """A file larger than the limit is refused before it is parsed."""
    document = read(tmp_path, "a: " + "x" * DOCUMENT_BYTES)
    assert [str(finding) for finding in document.findings] == [
        "doc.yaml:1:1: the file is larger than 1048576 bytes\n  help: split it into several files"
    ]
    assert document.value is None


@pytest.mark.parametrize("text", ["[" * 70 + "]" * 70, "{a: " * 70 + "1" + "}" * 70])
def test_deep_nesting_ends_the_reading(text: str, tmp_path: Path) -> None:
    """A file nested deeper than any config needs is refused at the level that is too deep."""
    document = read(tmp_path, text)
    assert [finding.message for finding in document.findings] == ["not YAML: nested deeper than 64 levels"]
    assert document.value is None


def test_many_aliases_cannot_grow(tmp_path: Path) -> None:
    """The YAML bomb that doubles a list line by line is refused without being unfolded."""
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    document = read(tmp_path, "\n".join(lines))
    assert len(document.findings) == 40 + 2 * 39
    assert document.value["a39"] == [None, None]


def test_positions_are_those_of_the_text_a_person_sees(tmp_path: Path) -> None:
    """A byte order mark and characters of several bytes do not shift columns."""
    document = read(tmp_path, "\ufeffé: {ö: [ü, {x: 1}]}\n".encode())
    assert document.where(("é", "ö", 1, "x")) == (1, 16)
    assert document.where_key(("é", "ö", 1, "x")) == (1, 13)
    assert document.where(("é", "missing", 3)) == (1, 4)


class Leaf(Strict):
    noun: ClassVar[str] = "a leaf"
    id: str
    count: int = 0
    share: float = 0
    kind: Literal["green", "brown"] = "green"


class Tree(Strict):
    noun: ClassVar[str] = "a tree"
    leaves: list[Leaf]
    names: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    root: Leaf | None = None


KEYS = "its keys are `id`, `count`, `share`, `kind`"

SHAPES = [
    (
        "leaves: [{id: a, kind: gren}]",
        "doc.yaml:1:24: unknown kind `gren`\n  help: did you mean `green`? kinds are `green`, `brown`",
    ),
    (
        "leaves: [{id: a, knd: x}]",
        f"doc.yaml:1:18: unknown key `knd` in a leaf\n  help: did you mean `kind`? {KEYS}",
    ),
    ("leaves: [{id: a, zzz: x}]", f"doc.yaml:1:18: unknown key `zzz` in a leaf\n  help: {KEYS}"),
    (
        "leaves: []\nroot: {cuont: x, id: a}",
        f"doc.yaml:2:8: unknown key `cuont` in a leaf\n  help: did you mean `count`? {KEYS}",
    ),
    ("leaves: [{count: 1}]", "doc.yaml:1:10: missing key `id` in a leaf\n  help: a leaf needs `id`"),
    ("names: {}", "doc.yaml:1:1: missing key `leaves` in a tree\n  help: a tree needs `leaves`"),
    ("leaves: [{id: 7}]", "doc.yaml:1:15: `id` must be text, not a number\n  help: put it in quotes"),
    ("leaves: [{id: }]", "doc.yaml:1:15: `id` must be text, not nothing"),
    ("leaves: [{id: [a]}]", "doc.yaml:1:15: `id` must be text, not a list"),
    ("leaves: [{id: a, count: true}]", "doc.yaml:1:25: `count` must be a whole number, not a truth value"),
    ("leaves: [{id: a, count: 1.5}]", "doc.yaml:1:25: `count` must be a whole number, not a number"),
    ("leaves: [{id: a, share: x}]", "doc.yaml:1:25: `share` must be a number, not text"),
    ("leaves: {}", "doc.yaml:1:9: `leaves` must be a list, not a mapping\n  help: start each entry with `- `"),
    ("leaves: [a]", "doc.yaml:1:10: `leaves[0]` must be a mapping (`key: value`), not text"),
    ("leaves: []\nnames: [a]", "doc.yaml:2:8: `names` must be a mapping (`key: value`), not a list"),
    ("leaves: [{id: a, kind: [x]}]", "doc.yaml:1:24: `kind` must be one of its words, not a list"),
    ("- a", "doc.yaml:1:1: must be a mapping (`key: value`), not a list"),
    ("", "doc.yaml:1:1: the file is empty\n  help: a tree needs `leaves`"),
    ("# only a comment\n", "doc.yaml:1:1: the file is empty\n  help: a tree needs `leaves`"),
]


@pytest.mark.parametrize(("text", "message"), SHAPES)
def test_what_does_not_fit_is_told_in_the_words_of_the_file(text: str, message: str, tmp_path: Path) -> None:
    """Each kind of misfit names the key, what is there and what is wanted, never the value of another type."""
    document = read(tmp_path, text)
    assert check(document, Tree) is None
    assert [str(finding) for finding in document.findings] == [message]


def test_all_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    """One reading finds a trap of YAML, an unknown key and a wrong type, and says nothing twice."""
    document = read(tmp_path, "leaves: [{id: no, count: 0755}, {id: a, knd: 1}]\nnames: {x: 1}\n")
    assert check(document, Tree) is None
    assert [
        (finding.line, finding.column) for finding in sorted(document.findings, key=lambda f: (f.line, f.column))
    ] == [
        (1, 15),
        (1, 26),
        (1, 41),
        (2, 12),
    ]


def test_a_part_can_be_read_on_its_own(tmp_path: Path) -> None:
    """A model can be held against one place of the file, and findings stand where the file has them."""
    document = read(tmp_path, "rest: 1\nleaves:\n  - {id: a, count: 3}\n  - {id: b, cnt: 3}\n")
    first = check(document, Leaf, ("leaves", 0))
    assert first == Leaf(id="a", count=3)
    assert check(document, Leaf, ("leaves", 1)) is None
    assert [str(finding) for finding in document.findings] == [
        "doc.yaml:4:13: unknown key `cnt` in a leaf\n"
        "  help: did you mean `count`? its keys are `id`, `count`, `share`, `kind`"
    ]


INSIDE = [
    ("t: abc def", (1, 5), (1, 8)),
    ('t: "abc def"', (1, 5), (1, 9)),
    ("t: 'abc def'", (1, 5), (1, 9)),
    ("t: |\n    abc\n    def", (2, 2), (3, 6)),
    ("t: |\n\n    abc\n    def", (3, 2), (4, 6)),
    ("t: >\n    abc\n    def", (1, 6), (3, 6)),
    ("t: >\n    abc\n\n    def", (2, 1), (4, 5)),
    ('t: "abc\n  def"', (1, 6), (2, 4)),
    ("t: 'a ''b'' c'", (1, 7), (1, 13)),
    ('t: "a \\"b\\" \\u00e9 c"', (1, 9), (1, 20)),
    ('t: "abc\\\n  def"', (1, 5), (2, 4)),
    ("t: abc\n  def", (1, 6), (2, 4)),
    ("t: abc", (1, 4), (1, 7)),
    ("t: abc", (-1, -1), (1, 4)),
]


@pytest.mark.parametrize(("text", "inside", "expected"), INSIDE)
def test_a_place_inside_a_text_is_found_in_the_file(
    text: str, inside: tuple[int, int], expected: tuple[int, int], tmp_path: Path
) -> None:
    """A line and column of a text become those of the file, whatever quotes and line breaks it is written with."""
    document = read(tmp_path, text)
    document.find_problem(("t",), Problem("here", at=inside))
    assert [(finding.line, finding.column) for finding in document.findings] == [expected]


@pytest.mark.parametrize(
    ("word", "words", "line"),
    [
        ("alow", ["allow", "deny"], "did you mean `allow`? words are `allow`, `deny`"),
        ("xyz", ["allow", "deny"], "words are `allow`, `deny`"),
        ("xyz", [], "words are none"),
    ],
)
def test_the_nearest_word_is_offered_with_all_there_are(word: str, words: list[str], line: str) -> None:
    """A help line names what was probably meant, where something is near, and every choice."""
    assert one_of(word, words, "words") == line


def test_values_are_kept_whole(tmp_path: Path) -> None:
    """Long texts, escapes and nesting come out as they were written."""
    written: dict[str, Any] = {"a": ["é😀", {"b": "x" * 1000}], "c": "line\nbreak"}
    document = read(tmp_path, 'a: [é😀, {b: "' + "x" * 1000 + '"}]\nc: "line\\nbreak"\n')
    assert (document.value, document.findings) == (written, [])


def test_a_file_that_may_hold_secrets_is_never_repeated(tmp_path: Path) -> None:
    """Help lines show the quoted form of what is written only where the reader of the file says that they may."""
    text = 'a: "hunter2" goes on\n'
    path = tmp_path / "doc.yaml"
    path.write_text(text, encoding="utf-8")
    assert [finding.help for finding in read_document(path).findings] == ["put the whole text in single quotes"]
    assert [finding.help for finding in read_document(path, repeats=True).findings] == [
        "write `a: '\"hunter2\" goes on'`"
    ]
    for text in ("a: !hunter2\n", "a: *hunter2\n", "a: see #hunter2\n", "leaves: hunter2\n", "a: {hunter2} x\n"):
        document = read(tmp_path, text)
        check(document, Tree)
        assert not any("hunter2" in str(finding.help) for finding in document.findings)


MISTAKES = [
    # text, line and column, message, help
    ("a: x\n b: y\n", "2:2: not YAML: this starts in column 2, and what it would belong to in column 1", COLUMNS),
    ("a:\n\t- b\n", "2:1: not YAML: a tab in the indentation", "indent with spaces"),
    ("a:b\nc: d\n", "1:3: not YAML: there is no space after the colon", "write `a: b`"),
    ("a:\n  -b: c\n   d: e\n", "2:4: not YAML: there is no space after the dash", "write `- b: c`"),
    ("a: {b: 'x\n", "1:8: not YAML: the `'` that opens here is not closed", "close it with `'`"),
    ("a: [x, {b: c]\n", "1:13: not YAML: did not find expected ',' or '}'", None),
    ('a: "x\\q"\n', "1:6: not YAML: `\\q` means nothing in double quotes", "write `a: 'x\\q'`"),
    ("a: x\nb:\u00a0c\n", "2:3: not YAML: a character that looks like none: U+00A0 no-break space", "delete it"),
    (
        "a: b: c\n",
        "1:5: not YAML: `: ` in a text without quotes makes a key of what stands before it",
        'write `a: "b: c"`',
    ),
    (
        "{a: b: c}\n",
        "1:6: not YAML: `: ` in a text without quotes makes a key of what stands before it",
        'write `a: "b: c"`',
    ),
    ('a: ["b" "c"]\n', "1:9: not YAML: there is no comma between two texts", "write `,` between them"),
    ("a: 'it's'\n", "1:8: not YAML: text goes on after the closing quote", 'write `a: "it\'s"`'),
    ("- a\nb\n", "2:1: not YAML: this line is no `key: value`", "write a colon and a value after it"),
]


@pytest.mark.parametrize(("text", "said", "cure"), MISTAKES)
def test_what_no_reader_reads_is_told_as_it_was_meant(text: str, said: str, cure: str | None, tmp_path: Path) -> None:
    """A slip of YAML is named where it is, with the form that works, instead of what the parser expected."""
    path = tmp_path / "doc.yaml"
    path.write_text(text, encoding="utf-8")
    (finding,) = read_document(path, repeats=True).findings
    assert f"{finding.line}:{finding.column}: {finding.message}" == said
    if cure is not None:
        assert finding.help == cure


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0755", ["755", "493"]),
        ("02", ["2"]),
        ("089", ["89"]),
        ("+7", ["7"]),
        ("-0b11", ["-3"]),
        ("0x1F", ["31"]),
        ("1_000", ["1000"]),
        ("-1:30", ["-90"]),
        ("1:30:00", ["5400"]),
        ("x", []),
        (".inf", []),
    ],
)
def test_a_number_in_an_old_notation_is_given_in_plain_digits(text: str, numbers: list[str]) -> None:
    """Octal is given beside decimal, since nobody knows which was meant; sixties are multiplied out."""
    assert numbers_meant(text) == numbers


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("a b", None, '"a b"'),
        ('a "b"', None, "'a \"b\"'"),
        ("it's", None, '"it\'s"'),
        ("a\\d", "reason", "'a\\d'"),
        ("!args.x", "when", "'!args.x'"),
        ("args.x == 'a'", "when", "'args.x == \"a\"'"),
        ('args.x == "it\'s"', "when", "'args.x == \"it''s\"'"),
    ],
)
def test_a_text_is_quoted_as_yaml_reads_it(text: str, key: str | None, expected: str) -> None:
    """Conditions go into single quotes, since their own texts take double ones; other texts into the plainest."""
    assert quoted(text, key) == expected
