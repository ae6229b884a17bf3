"""Which answers to a call can be recorded and handed on."""

from __future__ import annotations

from typing import Any

import pytest

from hitl_mcp.errors import OutcomeUnknown, UpstreamRefused
from hitl_mcp.upstreams.results import checked_result


def test_a_result_is_handed_on_as_it_was_sent() -> None:
    """Fields nobody knows, large integers and the order of keys survive."""
    sent: dict[str, Any] = {"zeta": [2**70, None], "content": [{"type": "text", "text": "a", "x": 1}], "isError": True}
    assert checked_result(sent, "up") == sent
    assert list(checked_result(sent, "up")) == list(sent)


def test_what_belongs_to_the_connection_is_taken_off() -> None:
    """The upstream's name and envelope end here; the rest of its `_meta` goes on."""
    hop = {"io.modelcontextprotocol/serverInfo": {"name": "x"}, "progressToken": 1}
    assert checked_result({"content": [], "_meta": hop}, "up") == {"content": []}
    kept = checked_result({"content": [], "_meta": {**hop, "example.com/a": 1}}, "up")
    assert kept["_meta"] == {"example.com/a": 1}


def test_a_question_instead_of_a_result_is_a_refusal() -> None:
    """Nobody answers for a run, so it ends with the words by which people recognise it."""
    with pytest.raises(UpstreamRefused, match=r"^needs input: "):
        checked_result({"resultType": "input_required", "requestState": "s"}, "up")


@pytest.mark.promise("R5")
@pytest.mark.parametrize(
    ("result", "why"),
    [
        ({"content": [], "structuredContent": {"a": float("nan")}}, "a number that JSON does not have"),
        ({"content": [], "structuredContent": {"a": float("-inf")}}, "a number that JSON does not have"),
        ({"content": [{"type": "text", "text": "\ud800"}]}, "surrogate"),
        ({"content": "words"}, "`content`"),
        ({"structuredContent": {}}, "`content`"),
        ({"content": [{"type": "hologram"}]}, "`content.0"),
        ({"content": [], "isError": "perhaps"}, "`isError`"),
        ({"resultType": "task", "taskId": "t"}, "its kind is `task`"),
    ],
)
def test_an_answer_that_cannot_be_used_leaves_the_outcome_unknown(result: dict[str, Any], why: str) -> None:
    """The tool may well have run: what cannot be recorded or relayed is not called a failure."""
    with pytest.raises(OutcomeUnknown, match="cannot be used") as caught:
        checked_result(result, "up")
    assert why in caught.value.message


@pytest.mark.parametrize("levels", [120, 200, 2000])
def test_nesting_is_bounded_where_the_sdk_could_not_write_it(levels: int) -> None:
    """Deep enough for any real result, shallow enough that relaying it cannot fail."""
    value: Any = {}
    for _ in range(levels):
        value = [value] if levels % 2 else {"in": value}
    result = {"content": [], "structuredContent": {"value": value}}
    if levels < 128:
        assert checked_result(result, "up") is result
    else:
        with pytest.raises(OutcomeUnknown, match="nested too deep"):
            checked_result(result, "up")


def test_many_brackets_in_a_text_are_not_depth() -> None:
    """A long list of shallow values, or code in a text, is fine."""
    result = {"content": [{"type": "text", "text": "[{" * 5000}], "structuredContent": {"a": [[1]] * 500}}
    assert checked_result(result, "up") is result
