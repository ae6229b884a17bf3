"""Whose a resource is, as far as lists have told."""

from __future__ import annotations

import pytest

from hitl_mcp.limits import KNOWN_RESOURCES
from hitl_mcp.surfaces.agents.uris import Directory


def directory(**listed: list[str]) -> Directory:
    """What was seen, by upstream; what holds a `{` is a template."""
    made = Directory()
    for upstream, entries in listed.items():
        for entry in entries:
            made.learn(upstream, {"uriTemplate" if "{" in entry else "uri": entry, "name": "n"})
    return made


def test_a_resource_belongs_to_whoever_listed_it_first() -> None:
    """Also where another lists the same later, or has a template that it fits."""
    known = directory(a=["mem:///1"], b=["mem:///1", "mem:///2", "mem:///{id}"])
    assert [known.owner_of(f"mem:///{one}") for one in ("1", "2", "3")] == ["a", "b", "b"]
    assert known.owner_of("mem:///{id}") == "b"
    assert known.owner_of("other:///1") is None


@pytest.mark.parametrize(
    ("template", "fits", "fits_not"),
    [
        ("file:///{+path}", ["file:///a", "file:///a/b", "file:///"], ["files:///a", "file://"]),
        ("db://{table}/rows/{id}", ["db://t/rows/1", "db:///rows/"], ["db://t/rows", "db://t/cols/1"]),
        ("x://{a}.txt", ["x://b.txt", "x://.txt"], ["x://b.md", "x://b.txt.gz"]),
        ("ab{x}ba", ["abba", "abcba"], ["aba", "ab"]),
        ("a{x}b{y}b", ["abb", "a-b-b"], ["ab", "a-b"]),
        ("plain:///{", ["plain:///{"], ["plain:///", "plain:///x"]),
        ("{all}", ["anything"], []),
    ],
)
def test_a_template_s_owner_is_found_for_what_it_may_make(template: str, fits: list[str], fits_not: list[str]) -> None:
    """By what stands around its variable parts; a piece is not counted twice."""
    known = directory(a=[template])
    assert [known.owner_of(uri) for uri in fits] == ["a"] * len(fits)
    assert [known.owner_of(uri) for uri in fits_not] == [None] * len(fits_not)


def test_of_several_templates_the_one_that_says_most_counts() -> None:
    """`file:///{+path}` fits a log as well, but says less of it."""
    known = directory(a=["file:///{+path}"], b=["file:///logs/{name}"])
    assert known.owner_of("file:///logs/today") == "b"
    assert known.owner_of("file:///other") == "a"


def test_what_changed_is_forgotten_of_that_upstream_only() -> None:
    """And learned anew, from whoever lists it then."""
    known = directory(a=["mem:///1", "mem:///a/{x}"], b=["mem:///2"])
    known.forget("a")
    assert [known.owner_of(one) for one in ("mem:///1", "mem:///a/x", "mem:///2")] == [None, None, "b"]
    known.learn("b", {"uri": "mem:///1"})
    assert known.owner_of("mem:///1") == "b"


def test_what_is_no_resource_is_not_learned() -> None:
    """Prompts have no address, and an address that is no text is none."""
    known = Directory()
    for entry in ({"name": "p"}, {"uri": 1}, {"uriTemplate": None}):
        known.learn("a", entry)
    assert known.owner_of("p") is None


def test_the_oldest_of_too_many_is_forgotten() -> None:
    """It is asked for again when somebody wants it."""
    known = Directory()
    for number in range(KNOWN_RESOURCES + 1):
        known.learn("a", {"uri": f"mem:///{number}"})
    assert known.owner_of("mem:///0") is None
    assert known.owner_of("mem:///1") == known.owner_of(f"mem:///{KNOWN_RESOURCES}") == "a"


def test_what_one_upstream_lists_pushes_out_nothing_of_another() -> None:
    """However much it lists: else a resource would be whosever list is the longest."""
    known = directory(a=["mem:///of a", "a:///{x}"])
    for number in range(KNOWN_RESOURCES + 1):
        known.learn("b", {"uri": f"mem:///{number}"})
        known.learn("b", {"uriTemplate": f"mem:///{number}/{{x}}"})
    assert known.owner_of("mem:///of a") == known.owner_of("a:///1") == "a"


def test_the_order_of_the_upstreams_counts_and_not_who_was_seen_first() -> None:
    """So that nobody can choose, by what is listed first, from whom a resource is read, and by which rule."""
    known = Directory(("a", "b"))
    for upstream in ("b", "a"):
        known.learn(upstream, {"uri": "mem:///1"})
    assert known.owner_of("mem:///1") == "a"
