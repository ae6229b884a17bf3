// The page: who is signed in, what is on screen, and the keys. The address after `#` says which call is open.

import { follow, get, key, post, Refused } from "./api.js";
import { CallView } from "./call.js";
import { announce, byId, el, textOf } from "./dom.js";
import { Queue } from "./queue.js";
import { atClock, setNow, tick } from "./time.js";
import { ToolsView } from "./tools.js";

const SETTLED = "approved,running,released,succeeded,failed,denied,rejected,expired,withdrawn,invalidated";
const CAME_FOR = "hitl-mcp.came-for";
const WHO = "hitl-mcp.who";
const NOTIFY = "hitl-mcp.notify";
const KEYS_OFF = "hitl-mcp.keys-off";
const READ_EVERY_MS = 250; // A busy gateway has many events a second; the lists are read at most this often.
const STATUS_EVERY_MS = 20_000;
const HELD_PAGES = 3;
const ONE_HIDDEN = "hitl-mcp.hidden-tab";

const queue = new Queue(byId("rows"));
const view = new CallView(byId("detail"), {
  decided: () => readSoon(),
  failed,
  next: () => {
    const id = queue.nextWaiting();
    location.hash = id ? `call=${encodeURIComponent(id)}` : "";
    if (!id) announce("Nothing else waits.");
  },
});

const toolsView = new ToolsView(byId("detail"));

let following = null;
let giveUpTurn = null;
let known = null; // ids of held calls already announced
let reading = null;
let readAgain = false;
let connected = false;
let linkSaid = ""; // what came of the link that led here, where that is not plain

// What the address says. A sign-in code is taken out of it before anything else happens.

function takeAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const code = said.get("login");
  if (code !== null) {
    said.delete("login");
    const rest = said.toString();
    history.replaceState(null, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
  }
  return { code, call: said.get("call"), tools: said.has("tools") };
}

async function start() {
  const { code, call } = takeAddress();
  if (call) localStorage.setItem(CAME_FOR, call);
  if (code) await signIn(code);
  if (key.get()) await enter();
  else askToSignIn(linkSaid);
}

/** Exchange a link's code. A link that does not work leaves whoever is signed in alone. */
async function signIn(code) {
  try {
    const before = localStorage.getItem(WHO);
    const { token, reviewer } = await post("api/login", { code });
    linkSaid = before && before !== reviewer ? `You are ${reviewer} now; you were ${before}.` : "";
    localStorage.setItem(WHO, reviewer);
    key.set(token);
  } catch (error) {
    linkSaid = error.status === 401 ? "That link was used before, or its time is over. Make a new one." : `Signing in failed: ${error.message}.`;
  }
}

async function enter() {
  try {
    const me = await get("api/me");
    const shown = byId("me-name").textContent; // another tab may have signed in as someone else
    if (shown && shown !== me.reviewer) linkSaid = `You are ${me.reviewer} now; you were ${shown}.`;
    byId("me-name").textContent = me.reviewer;
    byId("me-roles").textContent = me.every_role ? "(every role)" : me.roles.length ? `(${me.roles.join(", ")})` : "(no roles)";
    byId("menu").hidden = false;
    showView("review");
    const cameFor = localStorage.getItem(CAME_FOR);
    localStorage.removeItem(CAME_FOR);
    if (cameFor && !takeAddress().call) history.replaceState(null, "", `#call=${encodeURIComponent(cameFor)}`);
    openFromAddress();
    followEvents();
  } catch (error) {
    failed(error);
  }
}

function failed(error) {
  if (error instanceof Refused && error.status === 401) leave("You are not signed in, or no longer.");
  else if (error instanceof Refused) lost();
  else throw error;
}

function leave(why) {
  key.clear();
  localStorage.removeItem(WHO);
  const { call } = takeAddress();
  if (call) localStorage.setItem(CAME_FOR, call);
  askToSignIn(why);
}

function askToSignIn(why) {
  stopFollowing();
  known = null;
  byId("me-name").textContent = "";
  view.clear();
  byId("menu").hidden = true;
  byId("menu").open = false;
  byId("banners").replaceChildren();
  byId("sign-in-problem").textContent = why;
  document.title = "hitl-mcp review";
  showView("sign-in");
}

function showView(name) {
  document.body.dataset.view = name;
  byId("review").hidden = name !== "review";
  byId("sign-in").hidden = name !== "sign-in";
}

function openFromAddress() {
  const { call, tools } = takeAddress();
  document.body.dataset.pane = call || tools ? "call" : "list";
  queue.select(call);
  toolsView.close();
  if (call) view.open(call).catch(failed);
  else {
    view.clear();
    if (tools) toolsView.open().catch(failed);
    queue.sort();
  }
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
  } else navigator.locks.request(ONE_HIDDEN, { ifAvailable: true }, (turn) => (turn ? new Promise((done) => { giveUpTurn = done; }) : stopFollowing()));
}

function followEvents() {
  stopFollowing();
  following = new AbortController();
  follow({
    signal: following.signal,
    onready: () => {
      setConnected(true);
      readSoon();
      view.refresh().catch(failed);
      toolsView.refresh().catch(failed);
    },
    onevent: (event) => {
      readSoon();
      if (event.call_id === view.id) view.refresh().catch(failed);
      if (event.kind.startsWith("tool-")) toolsView.refresh().catch(failed);
    },
    onlost: lost,
  }).catch(failed);
}

function lost() {
  setConnected(false);
}

function setConnected(value) {
  connected = value;
  byId("live").dataset.state = value ? "live" : "lost";
  byId("live-text").textContent = value ? "Live" : "Reconnecting";
  if (!value) showBanners({});
}

function readSoon() {
  if (reading) readAgain = true;
  else reading = read().catch(failed).finally(() => {
    setTimeout(() => {
      reading = null;
      if (readAgain) readSoon();
      readAgain = false;
    }, READ_EVERY_MS);
  });
}

async function read() {
  const list = (query) => get(`api/calls?brief=true&${query}`);
  const [status, held, unknown, recent] = await Promise.all([
    get("api/status"), readHeld(list), list("status=unknown&limit=50"), list(`status=${SETTLED}&limit=50`),
  ]);
  if (document.body.dataset.view !== "review") return;
  setNow(status.now);
  queue.update({ held, unknown: unknown.calls, recent: recent.calls });
  tick(document);
  showBanners(status);
  const waiting = status.open.held ?? 0;
  document.title = waiting ? `(${waiting}) hitl-mcp review` : "hitl-mcp review";
  tellOfNew(held);
}

async function readHeld(list) {
  const calls = [];
  let cursor = "";
  for (let page = 0; page < HELD_PAGES && cursor !== null; page += 1) {
    const answer = await list(`status=held&limit=200${cursor ? `&cursor=${cursor}` : ""}`);
    calls.push(...answer.calls);
    cursor = answer.next;
  }
  return calls;
}

function recordTrouble({ says, help, passes, since }) {
  const until = passes ? "calls are refused until that passes" : "nothing runs until it is started again";
  return `The gateway cannot write its record: ${until}. Since ${atClock(since)} ${says}. What to do: ${help}.`;
}

function showBanners({ paused, upstreams = [], store, policy, tampered, tampering, checkpoints, blocked_tools: blocked = [], open = {} }) {
  const rows = [];
  if (linkSaid) rows.push(["link", linkSaid]);
  if (!connected) rows.push(["lost", "Connection lost. What you see may be out of date; trying again."]);
  if (store?.trouble) rows.push(["bad", recordTrouble(store.trouble)]);
  if (tampered?.length) rows.push(["bad", `Tampering: the record of ${tampered.join(", ")} was changed outside the gateway. Nothing of it ran.`]);
  if (tampering) rows.push(["bad", `Tampering: the record is not as the gateway left it: ${tampering}. All that was open has ended.`]);
  if (checkpoints?.doubt) rows.push(["bad", `Cannot tell: ${checkpoints.doubt}.`]);
  if (policy?.problem) rows.push(["bad", `The policy files cannot be used: the policy of ${atClock(policy.since)} stays in force. ${policy.problem.findings.split("\n")[0]}`]);
  if (blocked.length) rows.push(["bad", `Blocked, being no longer as accepted: ${blocked.map((tool) => tool.name).join(", ")}. `, el("a", { href: "#tools" }, "See what changed")]);
  if (paused) rows.push(["paused", `Paused by ${paused.by}${paused.reason ? `: ${paused.reason}` : ""}. Nothing runs until someone resumes.`]);
  if (open.unknown) rows.push(["unknown", `${open.unknown} ${open.unknown === 1 ? "call has" : "calls have"} an unknown outcome: it may have happened. Check at the upstream.`]);
  const down = upstreams.filter((upstream) => upstream.state === "down");
  if (down.length) rows.push(["down", `Not reachable: ${down.map((upstream) => upstream.name).join(", ")}.`]);
  byId("banners").replaceChildren(...rows.map(([kind, text, link]) => el("p", { class: `banner ${kind}` }, text, link)));
}

function tellOfNew(held) {
  const fresh = known ? held.filter((call) => !known.has(call.id)) : [];
  known = new Set(held.map((call) => call.id));
  for (const call of fresh) {
    const what = `${textOf(call.summary.sentence)}, ${call.score} points`;
    announce(`New: ${what}`);
    if (localStorage.getItem(NOTIFY) && document.hidden) notify(call, what);
  }
}

// Notifications: asked for by a click, never on load.

function notify(call, what) {
  try {
    const notification = new Notification("A call waits for you", { body: what, tag: call.id });
    notification.addEventListener("click", () => {
      window.focus();
      location.hash = `call=${encodeURIComponent(call.id)}`;
      notification.close();
    });
  } catch {
    localStorage.removeItem(NOTIFY); // some phones only allow them from installed apps
    showNotify();
  }
}

async function toggleNotify() {
  if (localStorage.getItem(NOTIFY)) localStorage.removeItem(NOTIFY);
  else if (!("Notification" in window)) announce("This browser has no notifications.");
  else if ((await Notification.requestPermission()) === "granted") localStorage.setItem(NOTIFY, "yes");
  else announce("The browser does not allow notifications from this page.");
  showNotify();
}

function showNotify() {
  const on = Boolean(localStorage.getItem(NOTIFY));
  byId("notify").textContent = on ? "Stop notifying me" : "Notify me of new calls";
  byId("notify").setAttribute("aria-pressed", String(on));
}

// Keys.

const KEYS = {
  j: () => queue.move(1),
  k: () => queue.move(-1),
  a: () => view.sendApproval(),
  r: () => view.askRejection(),
  v: () => view.toggleRaw(),
  n: () => queue.sort(),
  "/": () => byId("filter").focus(),
  "?": () => openHelp(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || document.body.dataset.view !== "review") return;
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") return escape();
  if (event.target.closest("input, textarea")) return;
  if (["ArrowDown", "ArrowUp"].includes(event.key) && byId("rows").contains(document.activeElement)) {
    event.preventDefault();
    return queue.move(event.key === "ArrowDown" ? 1 : -1);
  }
  if (KEYS[event.key] && !localStorage.getItem(KEYS_OFF)) {
    event.preventDefault();
    KEYS[event.key]();
  }
}

function escape() {
  if (byId("menu").open) byId("menu").open = false;
  else if (byId("filter").value) {
    byId("filter").value = "";
    queue.setFilter("");
  } else if (document.activeElement === byId("filter")) byId("filter").blur();
  else if (location.hash) location.hash = "";
}

function openHelp() {
  byId("menu").open = false;
  byId("keys-on").checked = !localStorage.getItem(KEYS_OFF);
  byId("help").showModal();
}

async function signOut() {
  await post("api/logout").catch(() => {});
  leave("You are signed out.");
}

document.addEventListener("keydown", onKey);
document.addEventListener("click", (event) => {
  if (!byId("menu").contains(event.target)) byId("menu").open = false;
});
byId("filter").addEventListener("input", (event) => queue.setFilter(event.target.value));
byId("notify").addEventListener("click", toggleNotify);
byId("help-open").addEventListener("click", openHelp);
byId("help-close").addEventListener("click", () => byId("help").close());
byId("keys-on").addEventListener("change", (event) => (event.target.checked ? localStorage.removeItem(KEYS_OFF) : localStorage.setItem(KEYS_OFF, "yes")));
byId("sign-out").addEventListener("click", signOut);
window.addEventListener("hashchange", () => (new URLSearchParams(location.hash.slice(1)).has("login") ? start() : key.get() && openFromAddress()));
window.addEventListener("storage", (event) => key.isName(event.key) && (event.newValue ? enter() : askToSignIn("You signed out in another tab.")));
setInterval(() => tick(document), 1000);
setInterval(() => document.body.dataset.view === "review" && readSoon(), STATUS_EVERY_MS);
document.addEventListener("visibilitychange", onVisibility);
showNotify();
start();
