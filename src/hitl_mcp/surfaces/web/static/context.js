// What stands around a call: what is new about it, what its agent did before and after, and calls like it.

import { get, Refused } from "./api.js";
import { el, segments } from "./dom.js";
import { atClock } from "./time.js";

const ANSWERS = {
  held: "held", approved: "approved", running: "running", unknown: "outcome unknown", succeeded: "ran", failed: "failed", denied: "denied",
  rejected: "rejected", expired: "expired", withdrawn: "withdrawn", invalidated: "no longer valid", released: "released",
};
const WAIT_MS = 300; // It mostly comes sooner; after this the call is shown without it, and a place is kept.

/** What the gateway knows around a call, or null. */
export async function contextOf(id) {
  try {
    return await get(`api/calls/${encodeURIComponent(id)}/context`);
  } catch (error) {
    if (error instanceof Refused && error.status === 401) throw error;
    return null;
  }
}

/** What `promise` gives, or undefined if that takes noticeably long. */
export const soon = (promise) => Promise.race([promise, new Promise((resolve) => setTimeout(resolve, WAIT_MS))]);

/** What is new, under the sentence. Made late, it fills the place that was kept for it and no more. */
export function newsOf(context) {
  if (context === undefined) return el("p", { class: "news late muted" }, "Looking up what is new about it…");
  if (!context) return null;
  const said = context.new.map((text) => el("li", {}, typeof text === "string" ? text : segments(text)));
  return said.length ? el("div", { class: "news" }, el("strong", {}, "New: "), el("ul", {}, ...said)) : null;
}

export function contextCards(context) {
  if (!context) return [];
  const { before, after, similar } = context;
  const cards = [];
  if (similar.length) {
    const counts = Object.entries(context.similar_counts).filter(([, count]) => count).map(([name, count]) => `${count} ${name}`);
    cards.push(card("Calls like this one", counts.join(", "), rows(similar)));
  }
  if (before.length || after.length) {
    cards.push(card("In this conversation", "", [...rows(before), el("li", { class: "here" }, "this call"), ...rows(after)]));
  }
  return cards;
}

const card = (title, note, items) => el("section", { class: "card around" },
  el("div", { class: "card-head" }, el("h3", {}, title), note ? el("span", { class: "muted" }, note) : null), el("ul", {}, ...items));

const rows = (calls) => calls.map((call) => el("li", {}, el("a", { href: `#call=${encodeURIComponent(call.id)}` },
  el("time", { class: "muted", datetime: call.created_at }, atClock(call.created_at)), el("span", { class: "what" }, segments(call.summary.what)),
  el("span", { class: `answer ${call.status}` }, answered(call)), el("span", { class: "preview" }, segments(call.summary.preview)))));

function answered(call) {
  const word = ANSWERS[call.status];
  if (call.decision === "allow") return `${word}, by the policy alone`;
  const who = call.verdicts.at(-1)?.reviewer;
  return call.grant ? `${word}, on a grant` : who ? `${word}, by ${who}` : word;
}
