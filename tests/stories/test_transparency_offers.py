"""What upstreams offer beside tools, through the gate: resources, prompts, completion, logs, and news of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp_types as t
import pytest
from mcp import Client, MCPError
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types.version import LATEST_HANDSHAKE_VERSION

from tests.gateways import WAIT_SECONDS
from tests.stories.citizens import Town, town
from tests.stories.doors import AGENT_KEYS, EVERY_WAY, agent_at
from tests.stories.servers.curious_server import ICON, META, dumped

UPSTREAMS = ("both", "older", "oldprog")
"""Those that offer something, in the order of the config."""


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Town]:
    """One gateway with three upstreams that offer the same kinds of things, one that may not, and one that is away."""
    apps: dict[str, Any] = {
        "both": ("both", {}),
        "older": ("legacy", {}),
        "shut": ("both", {"resources": False, "prompts": False}),
        "shutold": ("legacy", {"resources": False, "prompts": False}),
    }
    async with town(apps, {"oldprog": (("--legacy",), {})}) as made:
        yield made


async def all_pages(page: Callable[[str | None], Awaitable[Any]], key: str) -> list[Any]:
    """Every entry of a list, page after page."""
    found: list[Any] = []
    cursor = None
    for _ in range(20):
        one = await page(cursor)
        found += getattr(one, key)
        if (cursor := one.next_cursor) is None:
            return found
    raise AssertionError("the list does not end")


async def resources_of(agent: Client) -> list[t.Resource]:
    """Every resource."""
    return await all_pages(lambda cursor: agent.list_resources(cursor=cursor, cache_mode="bypass"), "resources")


async def read(agent: Client, uri: str, **more: Any) -> Any:
    """The first of a resource's contents."""
    return (await agent.read_resource(uri, cache_mode="bypass", **more)).contents[0]


# Resources.


@EVERY_WAY
async def test_all_upstreams_resources_are_listed_page_by_page(place: Town, door: str, era: str) -> None:
    """As their upstreams wrote them; one that is away and those that are switched off are simply not among them."""
    async with agent_at(place.site, door, era) as agent:
        found = await resources_of(agent)
        templates = await all_pages(lambda cursor: agent.list_resource_templates(cursor=cursor), "resource_templates")
        with pytest.raises(MCPError, match="cursor") as refused:
            await agent.list_resources(cursor="b3RoZXI=")
    expected = [[f"mem:///{name}/{one}" for one in ("1", "blob", "3", "4")] + ["shared:///same"] for name in UPSTREAMS]
    assert [one.uri for one in found] == [uri for uris in expected for uri in uris]
    first = dumped(next(one for one in found if one.uri == "mem:///both/1"))
    assert first == {
        "uri": "mem:///both/1",
        "name": "one",
        "title": "The first",
        "description": "a text",
        "mimeType": "text/plain",
        "size": 3,
        "icons": [dumped(ICON)],
        "annotations": {"audience": ["user"], "priority": 0.5},
        "_meta": META,
    }
    assert [one.uri_template for one in templates] == [f"made:///{name}/{{what}}" for name in UPSTREAMS]
    assert dumped(templates[0])["icons"] == [dumped(ICON)]
    assert refused.value.code == t.INVALID_PARAMS


@EVERY_WAY
async def test_a_resource_is_read_from_the_upstream_that_lists_it(place: Town, door: str, era: str) -> None:
    """Text, bytes, what a template makes; the client's `_meta` goes along, and the upstream's comes back."""
    async with agent_at(place.site, door, era) as agent:
        for name in UPSTREAMS:
            for uri in (f"mem:///{name}/1", f"made:///{name}/anything at all"):
                one = await read(agent, uri, meta={"example.com/x": 1})
                who, version, meta = json.loads(one.text)
                assert (who, meta, one.uri) == (name, {"example.com/x": 1}, uri)
                assert dumped(one)["_meta"] == META
                is_old = era == "legacy" or name != "both"
                assert version == (LATEST_HANDSHAKE_VERSION if is_old else era)
            blob = await read(agent, f"mem:///{name}/blob")
            assert (blob.blob, blob.mime_type) == ("AAEC", "x/y")


@EVERY_WAY
async def test_a_uri_that_two_upstreams_list_is_read_from_the_first(place: Town, door: str, era: str) -> None:
    """Both stand in the list; which one is read does not depend on who lists or asks."""
    async with agent_at(place.site, door, era) as agent:
        same = [one.name for one in await resources_of(agent) if one.uri == "shared:///same"]
        owner = json.loads((await read(agent, "shared:///same")).text)[0]
    assert same == [f"same of {name}" for name in UPSTREAMS]
    assert owner == UPSTREAMS[0]


@EVERY_WAY
async def test_a_resource_that_is_not_there_says_so(place: Town, door: str, era: str) -> None:
    """In the upstream's own words where it is its; those of a switched-off upstream are nobody's."""
    async with agent_at(place.site, door, era) as agent:
        with pytest.raises(MCPError) as refused:
            await read(agent, "made:///older/none")
        assert (refused.value.code, refused.value.message) == (-32002, "no such resource here")
        assert refused.value.data == {"uri": "made:///older/none"}
        for uri in ("mem:///nobody/1", "mem:///shut/1", "made:///shut/x", "mem:///away/1"):
            with pytest.raises(MCPError, match="no upstream lists this resource") as refused:
                await read(agent, uri)
            assert refused.value.code == (-32002 if era == "legacy" else t.INVALID_PARAMS)


async def test_how_long_an_answer_may_be_kept_is_the_upstreams_word(place: Town) -> None:
    """Modern clients are told its caching hints, of what is read and of each page."""
    async with place.site.http_agent(AGENT_KEYS["remote"], "2026-07-28") as agent:
        one = await agent.read_resource("mem:///both/1", cache_mode="bypass")
        assert (one.ttl_ms, one.cache_scope) == (60_000, "public")
        cursor, hints = None, {}
        while (page := await agent.list_resources(cursor=cursor, cache_mode="bypass")).next_cursor:
            hints[page.resources[0].uri] = (page.ttl_ms, page.cache_scope)
            cursor = page.next_cursor
        assert hints["mem:///both/1"] == (60_000, "public")


# Prompts and completion.


@EVERY_WAY
async def test_prompts_carry_their_upstreams_name_and_are_got_from_it(place: Town, door: str, era: str) -> None:
    """Otherwise they are as they were written."""
    async with agent_at(place.site, door, era) as agent:
        prompts = await all_pages(lambda cursor: agent.list_prompts(cursor=cursor, cache_mode="bypass"), "prompts")
        assert [one.name for one in prompts] == [f"{name}__greet" for name in UPSTREAMS]
        assert dumped(prompts[0]) == {
            "name": "both__greet",
            "title": "Greet",
            "arguments": [{"name": "about", "description": "what of", "required": True}],
            "icons": [dumped(ICON)],
            "_meta": META,
        }
        for name in UPSTREAMS:
            got = await agent.get_prompt(f"{name}__greet", {"about": "ships"})
            assert got.description == "a greeting"
            assert dumped(got.messages[0])["content"]["text"] == f"{name}: greet {{'about': 'ships'}}"
        for unknown in ("nobody__greet", "shut__greet", "greet", "both__"):
            with pytest.raises(MCPError, match="no upstream has a prompt"):
                await agent.get_prompt(unknown)


@EVERY_WAY
async def test_arguments_are_completed_by_the_upstream_they_are_for(place: Town, door: str, era: str) -> None:
    """Of a prompt by its own name, of a template as it is written."""
    async with agent_at(place.site, door, era) as agent:
        for name in UPSTREAMS:
            for ref, about in (
                (t.PromptReference(name=f"{name}__greet"), "greet"),
                (t.ResourceTemplateReference(uri=f"made:///{name}/{{what}}"), f"made:///{name}/{{what}}"),
            ):
                done = await agent.complete(ref, {"name": "a", "value": "b"})
                assert dumped(done.completion) == {"values": [f"{name} {about} a=b"], "total": 1, "hasMore": False}


# News.


async def subscribe(agent: Client, uri: str) -> None:
    """As clients with a handshake do; the SDK says that this is over."""
    with pytest.warns(MCPDeprecationWarning):
        await agent.subscribe_resource(uri)


class News:
    """What a client hears, in the way of its era."""

    def __init__(self, era: str, uris: tuple[str, ...]) -> None:
        self.heard: list[str] = []
        self._is_legacy = era == "legacy"
        self._uris = uris
        self.options: dict[str, Any] = {"message_handler": self._hear} if self._is_legacy else {}

    async def _hear(self, message: object) -> None:
        if isinstance(message, t.ResourceUpdatedNotification):
            self.heard.append(message.params.uri)
        elif isinstance(message, t.ResourceListChangedNotification):
            self.heard.append("resources")
        elif isinstance(message, t.PromptListChangedNotification):
            self.heard.append("prompts")

    @asynccontextmanager
    async def listening(self, agent: Client) -> AsyncIterator[None]:
        """Listen to everything, and to these resources, while the context is open."""
        if self._is_legacy:
            for uri in self._uris:
                await subscribe(agent, uri)
            yield
            for uri in self._uris:
                with pytest.warns(MCPDeprecationWarning):
                    await agent.unsubscribe_resource(uri)
            return
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._listen, agent)
            yield
            tasks.cancel_scope.cancel()

    async def _listen(self, agent: Client, *, task_status: Any) -> None:
        async with agent.listen(
            resources_list_changed=True, prompts_list_changed=True, resource_subscriptions=self._uris
        ) as subscription:
            task_status.started()
            async for event in subscription:
                kind = type(event).__name__
                lists = {"ResourcesListChanged": "resources", "PromptsListChanged": "prompts"}
                self.heard.append(lists.get(kind) or event.uri)  # type: ignore[union-attr]

    async def includes(self, what: str) -> None:
        """Wait until it was heard."""
        with anyio.fail_after(WAIT_SECONDS):
            while what not in self.heard:
                await anyio.sleep(0)


@EVERY_WAY
async def test_clients_hear_of_changes_in_the_way_of_their_era(place: Town, door: str, era: str) -> None:
    """Changed lists reach everybody who listens, a changed resource whoever subscribed to it."""
    uris = tuple(f"mem:///{name}/1" for name in UPSTREAMS)
    news = News(era, uris)
    async with agent_at(place.site, door, era, **news.options) as agent, news.listening(agent):
        for name in UPSTREAMS:
            for what in ("resources", "prompts", f"mem:///{name}/1"):
                news.heard.clear()
                await agent.call_tool(f"{name}__changes", {"what": f"mem:///{name}/3"})  # nobody subscribed to this one
                await agent.call_tool(f"{name}__changes", {"what": what})
                await news.includes(what)
                assert f"mem:///{name}/3" not in news.heard
    for name in ("oldprog", "older"):
        await place.hears(name, "unsubscribed", f"mem:///{name}/1")


@EVERY_WAY
async def test_of_what_is_switched_off_no_client_hears(place: Town, door: str, era: str) -> None:
    """Whatever the upstream announces."""
    news = News(era, ())
    async with agent_at(place.site, door, era, **news.options) as agent, news.listening(agent):
        for name in ("shut", "shutold"):
            await agent.call_tool(f"{name}__changes", {"what": "prompts"})
        await agent.call_tool("older__changes", {"what": "resources"})
        await news.includes("resources")
        assert "prompts" not in news.heard


async def test_a_client_that_goes_away_takes_its_subscriptions_along(place: Town) -> None:
    """The upstream need not say any more what nobody hears; another client's subscription stays."""
    uri = "mem:///older/4"
    async with agent_at(place.site, "bridge", "legacy") as stays:
        await subscribe(stays, uri)
        async with agent_at(place.site, "bridge", "legacy") as goes:
            await subscribe(goes, uri)
        async with (
            agent_at(place.site, "bridge", "2026-07-28") as listens,
            listens.listen(resource_subscriptions=[uri]),
        ):
            pass
        await stays.list_tools()
        assert ["unsubscribed", uri] not in place.heard("older")
    await place.hears("older", "unsubscribed", uri)
    assert place.heard("older").count(["subscribed", uri]) == 1


# Logs.


@EVERY_WAY
async def test_the_log_of_a_call_reaches_its_client_from_the_level_it_wants(place: Town, door: str, era: str) -> None:
    """By `logging/setLevel` in the older era, by the level of each call in the newer one; nobody else hears it."""
    heard: list[tuple[str, Any]] = []
    others: list[Any] = []

    async def hear(line: t.LoggingMessageNotificationParams) -> None:
        heard.append((line.level, line.data))

    async def overhear(line: t.LoggingMessageNotificationParams) -> None:
        others.append(line)

    options: dict[str, Any] = {"logging_callback": hear}
    if era != "legacy":
        options["log_level"] = "warning"
    async with (
        agent_at(place.site, "bridge", "legacy", logging_callback=overhear),
        agent_at(place.site, door, era, **options) as agent,
    ):
        if era == "legacy":
            with pytest.warns(MCPDeprecationWarning):
                await agent.set_logging_level("warning")
            assert place.apps["older"].levels[-1] in ("debug", "warning")
        for name in UPSTREAMS:
            heard.clear()
            await agent.call_tool(f"{name}__logs", {})
            assert heard == [(level, {"said": level}) for level in ("warning", "error")]
    assert others == []
