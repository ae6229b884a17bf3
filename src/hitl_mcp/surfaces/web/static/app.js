// The page: who is signed in, which view is open, and following the gateway. Each view is a module of its own.
//
// A view is a class over a root element that nobody else writes to:
//
//   constructor(root, page)  made once, when it is first needed. `page` is what it may ask of the page:
//                              page.failed(error)  takes every error that the view does not show itself (a 401 signs out)
//                              page.decided()      something was done here: lists and counts look again
//                              page.next()         goes to the next call that waits
//                              page.me()           `GET /api/me` as it was answered: reviewer, roles, every_role
//   open(params)             the address names it. `params` is the address after `#` as URLSearchParams; it may come again
//                            with others while the view is open. Shows that it loads, then what there is, or why not
//   refresh()                something happened at the gateway that may concern it, or the connection is back: look again,
//                            and leave alone what somebody writes, chose, folded or scrolled
//   close()                  another view comes: end timers and dialogs, forget what was shown
//   keys                     optional: {key: [what it does, function]}; works while the view is open, and stands in the help
//
// `open` and `refresh` may be async; what they throw goes to `page.failed`. A view tells nobody else what to show:
// it changes the address. Its module is named in VIEWS below, and loaded when it is first opened.

import { follow, get, key, post, Refused } from "./api.js";
import { showBanners } from "./banners.js";
import { CallView } from "./call.js";
import { byId, announce, el } from "./dom.js";
import { listenToKeys, openHelp } from "./keys.js";
import { tellOfNew, toggleNotify, showNotify } from "./notify.js";
import { Queue } from "./queue.js";
import { setNow, tick } from "./time.js";

const CAME_FOR = "hitl-mcp.came-for";
const WHO = "hitl-mcp.who";
const READ_EVERY_MS = 250; // A busy gateway has many events a second; everything is read at most this often.
const FIGURES_EVERY_MS = 5_000; // Figures over many calls: as often as anybody can read them.
const STATUS_EVERY_MS = 20_000;
const ONE_HIDDEN = "hitl-mcp.hidden-tab";

const page = { failed, decided: () => readSoon(), next: goNext, me: () => me };
const queue = new Queue(byId("queue"), page);

// `pane`: the list (`list`), a call beside it (`call`), something else beside it (`beside`), or a page alone (`page`).
// `nav` is what the navigation marks, `concerns` which events ask for another look, `every` how often at most.
const VIEWS = {
  queue: { pane: "list", nav: "queue", title: "", view: queue, root: byId("queue"), every: READ_EVERY_MS },
  history: { pane: "list", nav: "history", title: "History", load: async () => (await import("./history.js")).HistoryView },
  call: { pane: "call", title: "", view: new CallView(byId("detail"), page), every: READ_EVERY_MS, concerns: (event, view) => event.call_id === view.id },
  batch: { pane: "beside", title: "Several calls", load: async () => (await import("./batch.js")).BatchView },
  agents: { pane: "page", nav: "agents", title: "Agents", load: async () => (await import("./agents.js")).AgentsView },
  agent: { pane: "page", nav: "agents", title: "Agent", load: async () => (await import("./agents.js")).AgentView },
  used: { pane: "page", nav: "used", title: "Tools", load: async () => (await import("./used.js")).UsedToolsView },
  tool: { pane: "page", nav: "used", title: "Tool", load: async () => (await import("./used.js")).UsedToolView },
  tools: { pane: "page", nav: "used", title: "Tools that changed", load: async () => (await import("./tools.js")).ToolsView, concerns: (event) => event.kind.startsWith("tool-") },
  grants: { pane: "page", nav: "grants", title: "Grants", load: async () => (await import("./grants.js")).GrantsView },
  you: { pane: "page", nav: "you", title: "You", load: async () => (await import("./you.js")).YouView, concerns: () => false },
  pace: { pane: "page", nav: "you", title: "Pace", load: async () => (await import("./pace.js")).PaceView },
};

let following = null;
let giveUpTurn = null;
let me = null;
let open = null; // the entry of VIEWS that the address names
let lane = VIEWS.queue; // what the list's place shows
let turn = 0;
let cameByLink = false; // only then a passkey is offered: once, and nothing waits for it
let linkSaid = ""; // what came of the link that led here, where that is not plain
let status = {};

// What the address says. A sign-in code is taken out of it before anything else happens.

function takeAddress() {
  const said = new URLSearchParams(location.hash.slice(1).replace("?", "&"));
  const code = said.get("login");
  if (code !== null) {
    said.delete("login");
    const rest = said.toString().replace(/=(?=&|$)/g, "");
    history.replaceState(null, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
  }
  const named = [...said.keys()].find((one) => Object.hasOwn(VIEWS, one)) ?? "queue";
  return { code, params: said, name: named === "used" && said.get("used") ? "tool" : named };
}

async function start() {
  const { code } = takeAddress();
  rememberPlace();
  if (code) await signIn(code);
  if (key.get()) await enter();
  else askToSignIn(linkSaid);
}

function rememberPlace() {
  if (takeAddress().name !== "queue") localStorage.setItem(CAME_FOR, location.hash);
}

/** Exchange a link's code. A link that does not work leaves whoever is signed in alone. */
async function signIn(code) {
  try {
    const before = localStorage.getItem(WHO);
    const { token, reviewer } = await post("api/login", { code });
    linkSaid = before && before !== reviewer ? `You are ${reviewer} now; you were ${before}.` : "";
    localStorage.setItem(WHO, reviewer);
    key.set(token);
    cameByLink = true;
  } catch (error) {
    linkSaid = error.status === 401 ? "That link was used before, or its time is over. Make a new one." : `Signing in failed: ${error.message}.`;
  }
}

async function enter() {
  try {
    const said = await get("api/me");
    if (me && me.reviewer !== said.reviewer) linkSaid = `You are ${said.reviewer} now; you were ${me.reviewer}.`; // in another tab
    me = said;
    byId("me-name").textContent = me.reviewer;
    byId("me-roles").textContent = me.every_role ? "(every role)" : me.roles.length ? `(${me.roles.join(", ")})` : "(no roles)";
    byId("menu").hidden = false;
    showPart("review");
    const cameFor = localStorage.getItem(CAME_FOR);
    localStorage.removeItem(CAME_FOR);
    if (cameFor && takeAddress().name === "queue") history.replaceState(null, "", cameFor);
    openFromAddress().catch(failed);
    followEvents();
  } catch (error) {
    failed(error);
  }
}

/** Sign in by a passkey: no link, and no name to type. */
async function signInByPasskey() {
  const button = byId("sign-in-passkey");
  button.setAttribute("disabled", "");
  try {
    const { token, reviewer } = await (await import("./passkeys.js")).signIn();
    localStorage.setItem(WHO, reviewer);
    key.set(token);
    await enter();
  } catch (error) {
    byId("sign-in-problem").textContent = error.message;
  } finally {
    button.removeAttribute("disabled");
  }
}

function failed(error) {
  if (error instanceof Refused && error.status === 401) leave("You are not signed in, or no longer.");
  else if (error instanceof Refused) setConnected(false);
  else throw error;
}

function leave(why) {
  key.clear();
  localStorage.removeItem(WHO);
  rememberPlace();
  askToSignIn(why);
}

function askToSignIn(why) {
  stopFollowing();
  turn += 1;
  me = null;
  tellOfNew(null);
  byId("me-name").textContent = "";
  for (const entry of Object.values(VIEWS)) entry.view?.close();
  open = null;
  byId("menu").hidden = true;
  byId("menu").open = false;
  byId("banners").replaceChildren();
  byId("sign-in-problem").textContent = why;
  byId("sign-in-by-passkey").hidden = !window.PublicKeyCredential || /^[\d.]+$|:/.test(location.hostname); // they need a name
  document.title = "Sign in · hitl-mcp review";
  showPart("sign-in");
}

function showPart(name) {
  document.body.dataset.view = name;
  byId("review").hidden = name !== "review";
  byId("nav").hidden = name !== "review";
  byId("sign-in").hidden = name !== "sign-in";
}

// Which view is open.

async function openFromAddress() {
  const { name, params } = takeAddress();
  const entry = VIEWS[name];
  const mine = (turn += 1);
  byId("menu").open = false;
  if (!entry.view) await make(entry, name);
  if (mine !== turn || !entry.view) return;
  const before = open;
  open = entry;
  if (before && before !== entry && before !== lane) before.view.close();
  if (entry.pane === "list") setLane(entry);
  if (entry.pane === "beside") setLane(VIEWS.queue); // chosen there
  document.body.dataset.pane = entry.pane;
  for (const other of Object.values(VIEWS)) if (other.root) other.root.hidden = other !== entry && other !== lane;
  for (const link of byId("nav").querySelectorAll("a")) {
    if (link.dataset.view === (entry.nav ?? lane.nav)) link.setAttribute("aria-current", entry.nav ? "page" : "true");
    else link.removeAttribute("aria-current");
  }
  lane.view.select(name === "call" ? params.get("call") : null);
  showTitle();
  try {
    await entry.view.open(params);
  } catch (error) {
    failed(error);
  }
  if (mine === turn && before && entry !== lane && entry.root) entry.root.querySelector("[tabindex]")?.focus({ preventScroll: true });
}

/** Load a view's module, and make it over a root of its own. */
async function make(entry, name) {
  const inList = entry.pane === "list";
  const root = el("div", { class: inList ? "lane" : "view", id: inList ? name : `view-${name}`, hidden: true });
  try {
    const View = await entry.load();
    if (entry.view) return;
    entry.root = root;
    byId(inList ? "list" : "page").append(root);
    entry.view = new View(root, page);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // that is how browsers say that a module did not come
    setConnected(false);
    announce("This part of the page could not be loaded.");
  }
}

/** The list and the history take turns in one place; a call may be open beside either. The list is kept: it knows what is next. */
function setLane(entry) {
  if (lane === entry) return;
  if (lane.view !== queue) lane.view.close();
  lane = entry;
  readSoon();
}

function goNext() {
  const id = queue.nextWaiting();
  location.hash = id ? `call=${encodeURIComponent(id)}` : "";
  if (!id) announce("Nothing else waits.");
}

// Following the gateway: subscribe first, then read.

function stopFollowing() {
  following?.abort();
  following = null;
}

/**
 * A browser opens six connections to one place at most, and every link opens a tab: of the hidden tabs one keeps
 * following, for notifications; the others look now and then, and follow again when they are seen.
 */
function onVisibility() {
  if (document.body.dataset.view !== "review" || !navigator.locks) return;
  if (!document.hidden) {
    giveUpTurn?.();
    if (!following) followEvents();
  } else navigator.locks.request(ONE_HIDDEN, { ifAvailable: true }, (mine) => (mine ? new Promise((done) => { giveUpTurn = done; }) : stopFollowing()));
}

function followEvents() {
  stopFollowing();
  following = new AbortController();
  follow({
    signal: following.signal,
    onready: () => {
      setConnected(true);
      readSoon();
      look(open);
    },
    onevent: (event) => {
      readSoon();
      if (!open?.concerns || open.concerns(event, open.view)) look(open);
    },
    onlost: () => setConnected(false),
  }).catch(failed);
}

/** Have an open view look again, at most every so often. */
function look(entry) {
  if (!entry || entry === lane) return;
  entry.soon ??= atMost(async () => entry === open && (await entry.view.refresh()), entry.every ?? FIGURES_EVERY_MS);
  entry.soon();
}

/** What runs `run` at once, and again after `every` milliseconds if it was asked for meanwhile. */
function atMost(run, every) {
  let busy = false;
  let again = false;
  return function soon() {
    if (busy) return void (again = true);
    busy = true;
    run().catch(failed).finally(() => setTimeout(() => {
      busy = false;
      if (again) soon();
      again = false;
    }, every));
  };
}

const readSoon = atMost(read, READ_EVERY_MS);

async function read() {
  if (document.body.dataset.view !== "review") return;
  // The first time one after the other: rows are put in order by the gateway's clock.
  if (status.now) await Promise.all([readStatus(), lane.view.refresh()]);
  else {
    await readStatus();
    await lane.view.refresh();
  }
  if (document.body.dataset.view !== "review") return;
  tick(document);
  const offer = cameByLink && me?.passkeys?.usable && !me.passkeys.yours && Boolean(window.PublicKeyCredential);
  showBanners({ ...status, offer }, linkSaid);
  showTitle();
  if (lane.view === queue) tellOfNew(queue.held);
}

async function readStatus() {
  status = await get("api/status");
  setNow(status.now);
}

function setConnected(value) {
  byId("live").dataset.state = value ? "live" : "lost";
  byId("live-text").textContent = value ? "Live" : "Reconnecting";
  if (!value) showBanners({ lost: true }, linkSaid);
}

function showTitle() {
  const waiting = status.open?.held ?? 0;
  const title = open?.title ? `${open.title} · hitl-mcp review` : "hitl-mcp review";
  document.title = waiting ? `(${waiting}) ${title}` : title;
  byId("nav-waiting").textContent = waiting ? String(waiting) : "";
}

// Signing out, and what is always there.

async function signOut() {
  await post("api/logout").catch(() => {});
  leave("You are signed out.");
}

listenToKeys({
  isOn: () => document.body.dataset.view === "review",
  tables: () => [lane.view.keys, open && open !== lane ? open.view.keys : null],
});
document.addEventListener("click", (event) => {
  if (!byId("menu").contains(event.target)) byId("menu").open = false;
});
byId("notify").addEventListener("click", toggleNotify);
byId("help-open").addEventListener("click", openHelp);
byId("sign-out").addEventListener("click", signOut);
byId("sign-in-passkey").addEventListener("click", signInByPasskey);
window.addEventListener("hashchange", () => (new URLSearchParams(location.hash.slice(1)).has("login") ? start() : key.get() && openFromAddress()));
window.addEventListener("storage", (event) => key.isName(event.key) && (event.newValue ? enter() : askToSignIn("You signed out in another tab.")));
setInterval(() => tick(document), 1000);
setInterval(() => document.body.dataset.view === "review" && readSoon(), STATUS_EVERY_MS);
document.addEventListener("visibilitychange", onVisibility);
showNotify();
start();
