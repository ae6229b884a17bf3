// The keyboard: single keys, where to go, and the help that is made from the very tables that the keys are looked up in.

import { byId, el } from "./dom.js";

const OFF = "hitl-mcp.keys-off";
const GO_MS = 1500; // How long `g` waits for the key that says where to.
const PLACES = { q: ["", "queue"], h: ["history", "history"], a: ["agents", "agents"], t: ["used", "tools"], g: ["grants", "grants"], y: ["you", "you"] };

let asked = { isOn: () => false, tables: () => [] };
let goUntil = 0;

/** `isOn()`: whether keys count now; `tables()`: the `keys` of what is open. */
export function listenToKeys(given) {
  asked = given;
  document.addEventListener("keydown", onKey);
  byId("help-close").addEventListener("click", () => byId("help").close());
  byId("keys-on").addEventListener("change", (event) => (event.target.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "yes")));
}

/** Places that are in the navigation now. */
const places = () => Object.entries(PLACES).filter(([, [hash]]) => byId("nav").querySelector(`a[href="#${hash}"]:not([hidden])`));

function table() {
  return Object.assign({}, ...asked.tables(), { "?": ["this help", openHelp] });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !asked.isOn() || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") return escape(event);
  if (event.target.closest("input, textarea, select")) return;
  const going = performance.now() < goUntil;
  goUntil = 0;
  const arrow = ["ArrowDown", "ArrowUp"].includes(event.key) && event.target.closest("[data-arrows]");
  const name = arrow ? (event.key === "ArrowDown" ? "j" : "k") : event.key;
  if (!arrow && localStorage.getItem(OFF)) return;
  const place = going && places().find(([letter]) => letter === name);
  const [, press] = table()[name] ?? [];
  if (place) location.hash = place[1][0];
  else if (name === "g") goUntil = performance.now() + GO_MS;
  else if (!press) return;
  else press();
  event.preventDefault();
}

/** Close the menu, clear and leave a field, go back: the nearest of these. */
function escape(event) {
  const field = event.target.closest("input, textarea, select");
  if (byId("menu").open) {
    byId("menu").open = false;
    byId("menu").querySelector("summary").focus();
  } else if (field?.value && field.type === "search") {
    field.value = "";
    field.dispatchEvent(new Event("input", { bubbles: true }));
  } else if (field) field.blur();
  else if (asked.tables().some((keys) => keys?.Escape)) asked.tables().findLast((keys) => keys?.Escape).Escape[1]();
  else if (location.hash) location.hash = "";
}

export function openHelp() {
  const row = (names, what) => el("div", {}, el("dt", {}, ...names.map((name) => el("kbd", {}, name))), el("dd", {}, what));
  byId("help-keys").replaceChildren(
    ...Object.entries(table()).map(([name, [what]]) => row([name === "Escape" ? "Esc" : name], what)),
    row(["Enter"], "open what the focus is on"),
    ...places().map(([letter, [, what]]) => row(["g", letter], `go to ${what}`)),
  );
  byId("menu").open = false;
  byId("keys-on").checked = !localStorage.getItem(OFF);
  byId("help").showModal();
}
