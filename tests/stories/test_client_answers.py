"""What a client answers that must change nothing: empty, foreign, forged, twice, late; and what a no means.

Each is told by a real client, in both eras, through both doors, and each is checked twice: nothing ran, and the call is
still held for people, or stands as they left it.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult, ElicitRequestParams, ElicitRequestURLParams, ElicitResult

from tests.gateways import ERAS, POLICY, WAIT_SECONDS, Desk, Site, site
from tests.stories.dialogs import Answer, Person, approves, declines, filled_in, first_round, rejects
from tests.stories.doors import AGENT_KEYS, AGENTS, EVERY_WAY, agent_at, said, structured

MODERN = ERAS[1]
MODERN_DOORS = pytest.mark.parametrize("door", ["bridge", "http"])


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Site]:
    """One gateway in front of the sandbox: whoever waits, waits a second."""
    options: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}, "wait_seconds": 1}
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name, site(Path(name), **options) as made:
        await made.start()
        yield made


@pytest.fixture(scope="module")
async def addresses_only() -> AsyncIterator[Site]:
    """A gateway whose operator lets clients open the page, and nothing else."""
    options: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}, "ask_in_client": ["url"], "wait_seconds": 1}
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name, site(Path(name), **options) as made:
        await made.start()
        yield made


def mail(*words: str) -> dict[str, Any]:
    """A mail that is held, and no other test's."""
    return {"to": "carl@customer.example.org", "subject": " ".join(words), "body": "Two desks."}


async def asked_for(desk: Desk, arguments: dict[str, Any]) -> dict[str, Any]:
    """The call that was asked with these arguments."""
    return next(one for one in await desk.calls() if arguments["subject"] in one["arguments_json"])


def accepts(content: dict[str, Any] | None) -> Answer:
    """Accept, with this content."""
    return lambda asked: ElicitResult(action="accept", content=content)


def sends(**changes: Any) -> Answer:
    """Approve, with some fields changed."""
    return lambda asked: ElicitResult(action="accept", content=filled_in(asked, **{"decision": "approve", **changes}))


def leaves_out(name: str) -> Answer:
    """Approve, without one of the fields."""

    def answer(asked: ElicitRequestParams) -> ElicitResult:
        content = filled_in(asked, decision="approve")
        del content[name]
        return ElicitResult(action="accept", content=content)

    return answer


NO_VERDICTS: dict[str, Answer] = {
    "accepts without content": accepts(None),
    "accepts empty content": accepts({}),
    "fills in the defaults": lambda asked: ElicitResult(action="accept", content=filled_in(asked)),
    "declines": declines,
    "dismisses": lambda asked: ElicitResult(action="cancel"),
    "declines with an approval": lambda asked: ElicitResult(
        action="decline", content=filled_in(asked, decision="approve")
    ),
    "another call's id": sends(call="c_aaaaaaaaaaaaa"),
    "another digest": sends(digest="sha256:" + "0" * 64),
    "no such decision": sends(decision="yes"),
    "another case": sends(decision="Approve"),
    "a truth value": sends(decision=True),
    "a list": sends(decision=["approve"]),
    "a field too many": sends(remember=True),
    "no call": leaves_out("call"),
    "no digest": leaves_out("digest"),
}


@EVERY_WAY
async def test_what_is_no_verdict_only_ends_the_asking(place: Site, door: str, era: str) -> None:
    """The call stays held for people, nothing ran, and the client is not asked again right away."""
    asked = {name: mail(f"<{name}>", door, era) for name in NO_VERDICTS}  # first, so that no row breaks inside it
    told: list[tuple[str, str]] = []

    def answer(form: ElicitRequestParams) -> ElicitResult:
        return next(one for name, one in NO_VERDICTS.items() if f"<{name}>" in form.message)(form)

    person = Person(answer)
    async with agent_at(place, door, era, elicitation_callback=person) as agent, place.reviewer() as dana:

        async def ask(name: str) -> None:
            told.append((name, structured(await agent.call_tool("sandbox__send_mail", asked[name]))["status"]))

        async def ask_all() -> None:
            async with anyio.create_task_group() as tasks:
                for name in NO_VERDICTS:
                    tasks.start_soon(ask, name)

        async def have_ended() -> bool:
            calls = [await dana.call((await asked_for(dana, arguments))["id"]) for arguments in asked.values()]
            return all("asking-ended" in [event["kind"] for event in call["events"]] for call in calls)

        with anyio.fail_after(3 * WAIT_SECONDS):
            await ask_all()
            while not await have_ended():  # on a slow machine a request may end before its form is answered
                await ask_all()
        before = len(person.asked)
        await ask_all()
        assert set(told) == {(name, "held") for name in NO_VERDICTS}
        assert len(person.asked) == before >= len(NO_VERDICTS)
        for name, arguments in asked.items():
            call = await dana.call((await asked_for(dana, arguments))["id"])
            assert (name, call["status"], call["verdicts"]) == (name, "held", [])
            assert (name, [event["kind"] for event in call["events"]]) == (name, ["asked", "asking-ended"])
        assert not {one["subject"] for one in asked.values()} & {one["subject"] for _, one in place.effects()}
        assert (await dana.approve(call))["status"] == "approved"  # people can decide all the same


@EVERY_WAY
async def test_a_rejection_in_the_form_ends_the_call(place: Site, door: str, era: str) -> None:
    """Whoever says reject means it: nothing runs, and the agent is told that its own client said no."""
    asked = mail("no", door, era)
    async with agent_at(place, door, era, elicitation_callback=Person(rejects)) as agent:
        told = await agent.call_tool("sandbox__send_mail", asked)
    assert (told.is_error, structured(told)["status"]) == (True, "rejected")
    assert said(told).startswith("NOT EXECUTED, rejected in your own client.")
    assert ("send_mail", asked) not in place.effects()


@EVERY_WAY
async def test_the_page_answers_while_the_form_is_open(place: Site, door: str, era: str) -> None:
    """Dana rejects on the page: a legacy client's dialog closes; a modern one's late answer is told so. Nothing ran."""
    asked, told = mail("late", door, era), list[CallToolResult]()
    person = Person(slow=era != MODERN)
    async with place.reviewer() as dana, agent_at(place, door, era, elicitation_callback=person) as agent:
        if era == MODERN:
            form = await first_round(agent, "sandbox__send_mail", asked)
            await dana.decide(await asked_for(dana, asked), "reject", "wrong customer")
            told.append(await form.goes_on(approves(form.form)))
        else:
            async with anyio.create_task_group() as tasks:

                async def ask() -> None:
                    told.append(await agent.call_tool("sandbox__send_mail", asked))

                tasks.start_soon(ask)
                await person.is_asked()
                await dana.decide(await asked_for(dana, asked), "reject", "wrong customer")
            assert person.closed == 1
        call = await asked_for(dana, asked)
    assert "NOT EXECUTED, rejected by a human reviewer" in said(told[0])
    assert ("came too late and changed nothing" in said(told[0])) == (era == MODERN)
    assert said(told[0]) == structured(told[0])["message"]
    assert [verdict["reviewer"] for verdict in call["verdicts"]] == ["dana"]
    assert ("send_mail", asked) not in place.effects()


@EVERY_WAY
async def test_a_dialog_that_nobody_answers_holds_nothing_up(place: Site, door: str, era: str) -> None:
    """A legacy client's dialog closes with its call, and opens again while the agent waits; a modern one's stays."""
    person, asked = Person(slow=True), mail("silent", door, era)
    async with agent_at(place, door, era, elicitation_callback=person) as agent:
        if era == MODERN:
            form = await first_round(agent, "sandbox__send_mail", asked)
        else:
            held = structured(await agent.call_tool("sandbox__send_mail", asked))
            assert (held["status"], person.closed) == ("held", 1)
        listed = await agent.call_tool("hitl_status", {})
        assert any(asked["subject"] in call["arguments_json"] for call in structured(listed)["calls"])
        assert ("send_mail", asked) not in place.effects()
        person.slow = False
        if era == MODERN:
            assert set(structured(await form.goes_on(approves(form.form)))) == {"id"}
        else:
            told = structured(await agent.call_tool("hitl_wait", {"call_id": held["call_id"]}))
            assert (told["status"], len(person.asked)) == ("succeeded", 2)
    assert place.effects().count(("send_mail", asked)) == 1


# Modern clients carry the question's state, and may carry it wrongly.


@MODERN_DOORS
async def test_an_answer_without_its_state_is_a_fresh_question(place: Site, door: str) -> None:
    """Nobody was asked yet, so what comes along is no answer to anything."""
    asked = mail("forged", door)
    async with agent_at(place, door, MODERN, elicitation_callback=Person()) as agent, place.reviewer() as dana:
        forged = ElicitResult(action="accept", content={"decision": "approve"})
        await first_round(agent, "sandbox__send_mail", asked, input_responses={"approval": forged})
        assert (await asked_for(dana, asked))["status"] == "held"
    assert ("send_mail", asked) not in place.effects()


@MODERN_DOORS
async def test_a_state_belongs_to_its_request_and_its_agent(place: Site, door: str) -> None:
    """With other arguments, changed, made up, or from another agent, it is refused, and no call is made of it."""
    asked = mail("state", door)
    async with (
        agent_at(place, door, MODERN, elicitation_callback=Person()) as agent,
        place.http_agent(AGENT_KEYS["rival"], MODERN, elicitation_callback=Person()) as rival,
        place.reviewer() as dana,
    ):
        form = await first_round(agent, "sandbox__send_mail", asked)
        approval = {"approval": approves(form.form)}
        before = len(await dana.calls())
        for client, changes, state in (
            (agent, {"body": "Twenty desks."}, form.state),
            (agent, {}, f"{form.state}A"),
            (agent, {}, "v1.nothing"),
            (agent, {}, ""),
            (rival, {}, form.state),
        ):
            with pytest.raises(MCPError) as refused:
                await client.session.call_tool(
                    "sandbox__send_mail",
                    {**asked, **changes},
                    input_responses=approval,  # type: ignore[arg-type]
                    request_state=state,
                    allow_input_required=True,
                )
            assert refused.value.error.code == INVALID_PARAMS
            assert refused.value.error.data == {"reason": "invalid_request_state"}
        assert len(await dana.calls()) == before
        assert (await asked_for(dana, asked))["status"] == "held"
    assert ("send_mail", asked) not in place.effects()


@MODERN_DOORS
async def test_an_answer_is_good_once(place: Site, door: str) -> None:
    """Replayed after the call ran, it tells of the same run; a second answer after a decline counts for nothing."""
    asked, declined = mail("replay", door), mail("second thoughts", door)
    async with agent_at(place, door, MODERN, elicitation_callback=Person()) as agent, place.reviewer() as dana:
        form = await first_round(agent, "sandbox__send_mail", asked)
        assert set(structured(await form.goes_on(approves(form.form)))) == {"id"}
        replayed = await form.goes_on(approves(form.form))
        assert (structured(replayed)["status"], structured(replayed)["executed"]) == ("succeeded", True)

        form = await first_round(agent, "sandbox__send_mail", declined)
        assert structured(await form.goes_on(ElicitResult(action="decline")))["status"] == "held"
        second = await form.goes_on(approves(form.form))
        assert structured(second)["status"] == "held"
        assert (await asked_for(dana, declined))["verdicts"] == []
    assert place.effects().count(("send_mail", asked)) == 1
    assert ("send_mail", declined) not in place.effects()


@MODERN_DOORS
async def test_an_answer_to_one_call_says_nothing_of_another(place: Site, door: str) -> None:
    """The content of one form, brought with the state of another, approves neither."""
    one, other = mail("one", door), mail("other", door)
    async with agent_at(place, door, MODERN, elicitation_callback=Person()) as agent, place.reviewer() as dana:
        shown = await first_round(agent, "sandbox__send_mail", one)
        meant = await first_round(agent, "sandbox__send_mail", other)
        assert structured(await meant.goes_on(approves(shown.form)))["status"] == "held"
        assert [(await asked_for(dana, asked))["status"] for asked in (one, other)] == ["held", "held"]
    assert not {asked["subject"] for _, asked in place.effects()} & {one["subject"], other["subject"]}


@MODERN_DOORS
async def test_a_client_that_comes_back_without_an_answer_is_told_how_it_stands(place: Site, door: str) -> None:
    """No round without an end: it waits like anyone, and is told that the call is held."""
    asked = mail("empty-handed", door)
    async with agent_at(place, door, MODERN, elicitation_callback=Person()) as agent:
        form = await first_round(agent, "sandbox__send_mail", asked)
        assert structured(await form.goes_on(None))["status"] == "held"
        assert set(structured(await form.goes_on(approves(form.form)))) == {"id"}  # the question is still good


@MODERN_DOORS
async def test_a_question_outlives_the_gateway_and_so_does_its_end(short_dir: Path, door: str) -> None:
    """The gateway is killed and started again: a form that was open is still good, one that was declined never is."""
    options: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}, "wait_seconds": 1}
    with site(short_dir, POLICY, **options) as place:
        await place.start()
        async with agent_at(place, door, MODERN, elicitation_callback=Person()) as agent:
            still_open = await first_round(agent, "sandbox__send_mail", mail("open"))
            declined = await first_round(agent, "sandbox__send_mail", mail("declined"))
            await declined.goes_on(ElicitResult(action="decline"))
        await place.kill()
        await place.start()
        async with agent_at(place, door, MODERN, elicitation_callback=Person()) as agent:
            told = await replace(still_open, client=agent).goes_on(approves(still_open.form))
            assert structured(told) == {"id": "s1"}
            told = await replace(declined, client=agent).goes_on(approves(declined.form))
            assert structured(told)["status"] == "held"
        assert place.effects() == [("send_mail", mail("open"))]


# A page that is opened is not an approval.


@EVERY_WAY
async def test_agreeing_to_open_the_page_approves_nothing(addresses_only: Site, door: str, era: str) -> None:
    """Where the operator allows addresses only, no form is shown, and what a client accepts is to open a page."""
    person, asked = Person(), mail("url", door, era)
    async with agent_at(addresses_only, door, era, elicitation_callback=person) as agent:
        told = await agent.call_tool("sandbox__send_mail", asked)
    assert structured(told)["status"] == "held"
    assert [type(question) for question in person.asked] == [ElicitRequestURLParams]
    assert addresses_only.effects() == []
