// Telling of new calls: to screen readers, and by the browser's notifications where somebody asked for them by a click.

import { announce, byId, textOf } from "./dom.js";

const NOTIFY = "hitl-mcp.notify";
const EACH = 3; // More new calls than this at once are told as a number: a chatty page is not listened to.

let known = null; // ids of held calls already told of

/** Tell of the calls that were not there before; `null` forgets what was. */
export function tellOfNew(held) {
  const fresh = known && held ? held.filter((call) => !known.has(call.id)) : [];
  known = held && new Set([...(known ?? []), ...held.map((call) => call.id)]);
  if (fresh.length > EACH) {
    announce(`${fresh.length} new calls wait.`);
    if (document.hidden) notify(fresh[0], `${fresh.length} calls`);
    return;
  }
  if (fresh.length) announce(`New: ${fresh.map(inWords).join("; ")}`);
  if (document.hidden) fresh.forEach((call) => notify(call, inWords(call)));
}

const inWords = (call) => `${textOf(call.summary.sentence)}, ${call.score} points`;

function notify(call, what) {
  if (!localStorage.getItem(NOTIFY)) return;
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

export async function toggleNotify() {
  if (localStorage.getItem(NOTIFY)) localStorage.removeItem(NOTIFY);
  else if (!("Notification" in window)) announce("This browser has no notifications.");
  else if ((await Notification.requestPermission()) === "granted") localStorage.setItem(NOTIFY, "yes");
  else announce("The browser does not allow notifications from this page.");
  showNotify();
}

export function showNotify() {
  const on = Boolean(localStorage.getItem(NOTIFY));
  byId("notify").textContent = on ? "Stop notifying me" : "Notify me of new calls";
  byId("notify").setAttribute("aria-pressed", String(on));
}
