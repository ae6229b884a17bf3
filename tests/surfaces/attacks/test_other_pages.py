"""What another page in the reviewer's browser can do: nothing. Each attempt is made from two foreign sites."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.surfaces.attacks.stage import Stage, on_stage

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> AsyncIterator[Stage]:
    """One reviewer, one gateway and one foreign page for all of this file; nothing changes on it."""
    folder: Path = tmp_path_factory.mktemp("stage")
    async with on_stage(folder, browser) as set_up:
        yield set_up


POST = """const url = `${knows.base}/api/calls/${knows.id}/verdict`;
const send = async (options) => { const answer = await fetch(url, {method: "POST", body: knows.body, ...options});
  tell(`${answer.type} ${answer.status} ${await answer.text()}`); };
"""
FORM = """const make = (tag, values) => Object.assign(document.createElement(tag), values);
const frame = make("iframe", {name: "sink"}); document.body.append(frame);
const submit = (values, fields) => { const form = make("form", {method: "POST", target: "sink", ...values});
  for (const [name, value] of fields) form.append(make("input", {name, value})); document.body.append(form);
  return new Promise((done) => { frame.onload = () => done(form.remove()); form.submit(); }); };
const url = `${knows.base}/api/calls/${knows.id}/verdict`;
"""
LOAD = """const load = (tag, values) => new Promise((done) => {
  const node = Object.assign(document.createElement(tag), values);
  node.onload = () => done(tell(`loaded ${node.contentDocument?.body?.innerText ?? ""}`));
  node.onerror = () => done(tell("refused")); document.body.append(node); });
"""

DECIDING = {
    "fetch with JSON and the stolen key": POST
    + 'await send({headers: {"content-type": "application/json", authorization: `Bearer ${knows.key}`}});',
    "fetch as plain text": POST + 'await send({headers: {"content-type": "text/plain"}});',
    "fetch as plain text, not reading the answer": POST + 'await send({mode: "no-cors"});',
    "fetch as a form": POST
    + 'await send({mode: "no-cors", headers: {"content-type": "application/x-www-form-urlencoded"}});',
    "fetch as multipart": POST
    + 'const data = new FormData(); data.set("verdict", "approve"); await send({mode: "no-cors", body: data});',
    "fetch without any content type": POST + 'await send({mode: "no-cors", body: new Blob([knows.body])});',
    "fetch as a content type beside JSON": POST + 'await send({headers: {"content-type": "application/json+x"}});',
    "fetch that outlives its page": POST + 'await send({mode: "no-cors", keepalive: true});',
    "fetch with credentials": POST + 'await send({mode: "no-cors", credentials: "include"});',
    "fetch to the machine's other name": POST
    + 'await fetch(url.replace("127.0.0.1", "localhost"), {method: "POST", mode: "no-cors", body: knows.body});',
    "fetch with another method": POST
    + 'for (const method of ["PUT", "PATCH", "DELETE"]) await send({method}).catch((error) => tell(error.name));',
    "a method hidden in a header": POST + 'await send({headers: {"x-http-method-override": "POST"}});',
    "a method hidden in the address": "await fetch(`${knows.base}/api/calls/${knows.id}/verdict?_method=POST"
    '&verdict=approve&digest=${knows.digest}&token=${knows.key}`, {mode: "no-cors"});',
    "the key in the address": "const answer = await fetch(`${knows.base}/api/calls?access_token=${knows.key}`);"
    " tell(await answer.text());",
    "XMLHttpRequest with credentials": POST
    + """await new Promise((done) => { const http = new XMLHttpRequest(); http.withCredentials = true;
      http.onloadend = () => done(tell(http.responseText)); http.open("POST", url); http.send(knows.body); });""",
    "a beacon as text": POST + "navigator.sendBeacon(url, knows.body);",
    "a beacon as JSON": POST + 'navigator.sendBeacon(url, new Blob([knows.body], {type: "application/json"}));',
    "a form": FORM + 'await submit({action: url}, [["verdict", "approve"], ["digest", knows.digest]]);',
    "a form as multipart": FORM
    + """await submit({action: url, enctype: "multipart/form-data"},
      [["verdict", "approve"], ["digest", knows.digest]]);""",
    "a form that writes JSON": FORM
    + """await submit({action: url, enctype: "text/plain"},
      [[knows.body.slice(0, -1) + ',"reason":"', '"}']]);""",
    "a form that writes JSON to pause, log out and stop": FORM
    + """for (const path of ["/api/pause", "/api/logout", "/api/stop", "/api/agents/builder/stop", "/api/verdicts"])
      await submit({action: knows.base + path, enctype: "text/plain"}, [['{"reason":"', '"}']]);""",
    "a form that gets": FORM + 'await submit({action: url, method: "GET"}, [["verdict", "approve"]]);',
    "a form into a named window": FORM
    + """const form = make("form", {action: url, method: "POST", target: "review", enctype: "text/plain"});
      form.append(make("input", {name: knows.body, value: ""})); document.body.append(form); form.submit();""",
    "an image of an address that would decide": LOAD
    + """for (const path of ["verdict", "looking", "resolve"])
      await load("img", {src: `${knows.base}/api/calls/${knows.id}/${path}`});""",
    "guessing sign-in codes": """for (let guess = 0; guess < 40; guess += 1)
      await fetch(`${knows.base}/api/login`, {method: "POST", mode: "no-cors", body: `{"code":"${guess}"}`});""",
}
"""What would decide something if it got through."""

READING = {
    "fetch of a call": "tell(await (await fetch(`${knows.base}/api/calls/${knows.id}`)).text());",
    "fetch with the stolen key": """tell(await (await fetch(`${knows.base}/api/calls/${knows.id}/shown`,
      {headers: {authorization: `Bearer ${knows.key}`}})).text());""",
    "fetch that asks for nothing special": """tell(await (await fetch(`${knows.base}/api/calls`,
      {mode: "no-cors"})).text());""",
    "fetch that pretends to be a navigation": """tell(await (await fetch(`${knows.base}/api/calls`,
      {mode: "same-origin"})).text());""",
    "the health of the gateway": "tell(await (await fetch(`${knows.base}/healthz`)).text());",
    "the API's description": "tell(await (await fetch(`${knows.base}/api/openapi.json`)).text());",
    "calls as a script": LOAD + 'await load("script", {src: `${knows.base}/api/calls`});',
    "the page's code as a module": LOAD + 'await load("script", {src: `${knows.base}/app.js`, type: "module"});',
    "the page's code as a script": LOAD + 'await load("script", {src: `${knows.base}/api.js`});',
    "the page's style, and its rules": LOAD
    + """await load("link", {rel: "stylesheet", href: `${knows.base}/style.css`});
      tell(document.styleSheets[0]?.cssRules.length);""",
    "prefetching": LOAD
    + """for (const rel of ["prefetch", "preload", "modulepreload", "prerender"])
      load("link", {rel, as: "fetch", href: `${knows.base}/api/calls`});
      tell(performance.getEntriesByType("resource").map((one) => one.encodedBodySize).join());""",
    "an EventSource": """await new Promise((done) => { const source = new EventSource(`${knows.base}/api/events`);
      source.onmessage = (event) => done(tell(event.data)); source.onerror = () => done(source.close()); });""",
    "the event stream with the stolen key": """const answer = await fetch(`${knows.base}/api/events`,
      {headers: {authorization: `Bearer ${knows.key}`}});
      tell(new TextDecoder().decode((await answer.body.getReader().read()).value));""",
    "a WebSocket": """await new Promise((done) => {
      const socket = new WebSocket(`${knows.base.replace("http", "ws")}/api/events`);
      socket.onopen = () => done(tell("MARK-7719 open")); socket.onerror = () => done(); });""",
    "a worker of the page's code": "new Worker(`${knows.base}/app.js`);",
    "a worker that imports it": """const code = `importScripts("${knows.base}/api.js"); postMessage("MARK-7719 in")`;
      await new Promise((done) => { const worker = new Worker(URL.createObjectURL(new Blob([code])));
      worker.onmessage = (event) => done(tell(event.data)); worker.onerror = () => done(); });""",
    "a service worker of the page's code": "await navigator.serviceWorker.register(`${knows.base}/app.js`);",
    "what is stored": """tell(JSON.stringify({...localStorage}) + JSON.stringify({...sessionStorage}) + document.cookie
      + JSON.stringify(await indexedDB.databases()) + JSON.stringify(await caches.keys()));
      if (localStorage.getItem("hitl-mcp.key")) tell("MARK-7719 key");""",
    "a frame": LOAD + 'await load("iframe", {src: `${knows.base}/#call=${knows.id}`});',
    "a frame of the API": LOAD + 'await load("iframe", {src: `${knows.base}/api/calls`});',
    "a frame without credentials": LOAD + 'await load("iframe", {src: knows.base, credentialless: true});',
    "a sandboxed frame": LOAD
    + """const frame = document.createElement("iframe"); frame.sandbox = "allow-scripts allow-same-origin allow-forms";
      frame.src = knows.base; document.body.append(frame); await new Promise((done) => { frame.onload = done; });
      tell(frame.contentDocument?.body?.innerText);""",
    "an object and an embed": LOAD
    + """await load("object", {data: knows.base, type: "text/html"});
      await load("embed", {src: knows.base, type: "text/html"});""",
    "a frame within a frame of nowhere": """const frame = document.createElement("iframe");
      frame.srcdoc = `<iframe src="${knows.base}/#call=${knows.id}"></iframe>`; document.body.append(frame);
      await new Promise((done) => { frame.onload = done; });
      tell(frame.contentDocument.querySelector("iframe").contentDocument?.body?.innerText);""",
    "fetch from nowhere": """const frame = document.createElement("iframe"); frame.sandbox = "allow-scripts";
      const heard = new Promise((done) => addEventListener("message", (event) => done(tell(event.data))));
      frame.srcdoc = `<script>fetch("${knows.base}/api/calls", {headers: {authorization: "Bearer ${knows.key}"}})
        .then((answer) => answer.text()).catch((error) => error.name)
        .then((said) => parent.postMessage(said, "*"))<\\/script>`;
      document.body.append(frame); await heard;""",
    "fetch from a data address": """const frame = document.createElement("iframe");
      const heard = new Promise((done) => addEventListener("message", (event) => done(tell(event.data))));
      frame.src = "data:text/html," + encodeURIComponent(`<script>fetch("${knows.base}/api/calls/${knows.id}")
        .then((answer) => answer.text()).catch((error) => error.name)
        .then((said) => parent.postMessage(said, "*"))<\\/script>`);
      document.body.append(frame); await heard;""",
    "a channel of the same name": """const heard = new Promise((done) => {
      for (const name of ["hitl-mcp", "hitl-mcp.key", "key"])
      new BroadcastChannel(name).onmessage = (event) => done(tell(event.data)); });
      for (const name of ["hitl-mcp"]) new BroadcastChannel(name).postMessage({key: "give"});
      await Promise.race([heard, new Promise((done) => setTimeout(done, 100))]);""",
    "the lock of hidden tabs": """await navigator.locks.request("hitl-mcp.hidden-tab", {ifAvailable: true}, () => {});
      tell(JSON.stringify(await navigator.locks.query()));""",
}
"""What would read something if it got through."""


@pytest.mark.parametrize("attack", [*DECIDING.values(), *READING.values()], ids=[*DECIDING, *READING])
async def test_another_page_achieves_nothing_with(stage: Stage, attack: str) -> None:
    """From another port of this machine, under either of its names: nothing is read, nothing decided."""
    for place in stage.places():
        read = await stage.try_from(place, attack)
        await stage.nothing_came_of_it(read)


FROM_A_FILE = (
    "fetch with JSON and the stolen key",
    "fetch as plain text",
    "a beacon as text",
    "a form",
    "a form that writes JSON to pause, log out and stop",
    "guessing sign-in codes",
    "fetch of a call",
    "fetch with the stolen key",
    "calls as a script",
    "the page's code as a module",
)


@pytest.mark.parametrize("attack", FROM_A_FILE)
async def test_a_page_on_disk_achieves_nothing_with(stage: Stage, tmp_path: Path, attack: str) -> None:
    """An attachment that was saved and opened: it has no site, and calls itself `null`."""
    page = tmp_path / "invoice.html"
    page.write_text("<!doctype html><title>harmless</title><body></body>", encoding="utf-8")
    await stage.nothing_came_of_it(await stage.try_from(page.as_uri(), {**DECIDING, **READING}[attack]))


OPENING = """const opened = window.open(`${knows.base}/#call=${knows.id}`, "review");
for (let turn = 0; turn < 60 && !opened.closed; turn += 1) await new Promise((done) => setTimeout(done, 20));
tell(`closed ${opened.closed}`);
"""
"""Waits until the window left the empty page that it begins with, which is still the attacker's."""

WINDOWS = {
    "reaching into an opened window": """for (const name of ["document", "localStorage", "eval", "name", "frames"])
      try { tell(`${name} ${opened[name] && opened[name].body?.innerText}`); } catch (error) { tell(error.name); }
      try { tell(opened.localStorage.getItem("hitl-mcp.key")); } catch (error) { tell(error.name); }""",
    "sending an opened window to a script": """try { opened.location = "javascript:localStorage.clear()"; }
      catch (error) {}""",
    "messages to an opened window": """for (const origin of ["*", knows.base])
      opened.postMessage({verdict: "approve", digest: knows.digest, type: "approve", call: knows.id}, origin);""",
    "an opened window by its name": 'window.open("javascript:localStorage.clear()", "review");',
    "closing and opening anew": """opened.close();
      window.open(`${knows.base}/#call=${knows.id}&verdict=approve`, "review");""",
}


@pytest.mark.parametrize("attack", WINDOWS.values(), ids=WINDOWS)
async def test_an_opened_window_is_out_of_reach(stage: Stage, attack: str) -> None:
    """The opener policy cuts the tie: whoever opened the page holds a closed window, and the page has no opener."""
    async with stage.evil.context.expect_page() as opened:
        read = await stage.try_from(stage.places()[1], OPENING + attack)
    await opened.value
    assert read.startswith("closed true")
    reached = [page for page in stage.opened() if page.url.startswith(stage.desk.url)]
    assert reached
    for page in reached:
        await page.wait_for_selector("button.approve")
        assert await page.evaluate("[window.opener, window.name].join()") == ","
        assert await page.evaluate("localStorage.getItem('hitl-mcp.key')") == stage.key
        await page.close()
    await stage.nothing_came_of_it(read)


async def test_guessed_codes_keep_nobody_out(stage: Stage) -> None:
    """The guesses of another page never reach the count that ends guessing: a true link still works."""
    await stage.try_from(stage.places()[0], DECIDING["guessing sign-in codes"])
    async with stage.desk.program() as http:
        code = (await stage.desk.link("lee")).partition("#login=")[2]
        answer = await http.post("/api/login", json={"code": code})
        assert answer.status_code == 200
        headers = {"authorization": f"Bearer {answer.json()['token']}"}
        assert (await http.post("/api/logout", json={}, headers=headers)).status_code == 200
    await stage.nothing_came_of_it()


async def test_a_click_on_another_page_reaches_no_button(stage: Stage) -> None:
    """Framed under a transparent cover, the page shows nothing that could be clicked."""
    await stage.evil.goto(stage.places()[0])
    await stage.evil.evaluate(
        """url => { const frame = document.createElement("iframe"); frame.src = url;
          frame.style = "position:fixed;inset:0;width:100vw;height:100vh;opacity:.01";
          document.body.append(frame); }""",
        f"{stage.desk.url}/#call={stage.record.id}",
    )
    await stage.evil.mouse.click(1190, 765)
    assert [await frame.locator("button").count() for frame in stage.evil.frames] == [0, 0]
    await stage.nothing_came_of_it()
