// The list: what waits, what nobody knows the outcome of, and what was settled lately.
// Rows never move by themselves: new calls wait behind a button until they are asked for.

import { el, segments, textOf } from "./dom.js";
import { atClock, millisecondsTo } from "./time.js";

const STATUS_WORDS = {
  held: "held", approved: "approved", running: "running", unknown: "outcome unknown", succeeded: "ran", failed: "failed",
  denied: "denied", rejected: "rejected", expired: "expired", withdrawn: "withdrawn", invalidated: "no longer valid",
  released: "released, the agent runs it itself",
};

export class Queue {
  constructor(root) {
    this.root = root;
    this.calls = new Map();
    this.order = null; // the ids of the waiting rows as they stand on screen
    this.current = null;
    this.filter = "";
    this.stale = false;
    root.addEventListener("pointerleave", () => this.stale && this.render());
  }

  /** Take in what the gateway says; rows already there keep their place. */
  update({ held, unknown, recent }) {
    const known = this.order ?? [];
    const kept = known.map((id) => this.calls.get(id)).filter(Boolean);
    this.calls = new Map([...kept, ...recent, ...unknown, ...held].map((call) => [call.id, call]));
    this.held = held.map((call) => call.id);
    this.unknown = unknown.map((call) => call.id);
    this.recent = recent.map((call) => call.id);
    const shownAndWaiting = known.some((id) => this.calls.get(id)?.status === "held");
    if (!this.order || !shownAndWaiting) this.order = this.byUrgency();
    this.render();
  }

  /** Put the waiting calls in order again, with the new ones. Only when someone asks, or nobody looks. */
  sort() {
    if (!this.held) return;
    this.order = this.byUrgency();
    this.render();
  }

  byUrgency() {
    const urgency = (id) => {
      const call = this.calls.get(id);
      return (call.expires_at ? millisecondsTo(call.expires_at) : Infinity) / Math.max(call.score, 1);
    };
    return [...this.held].sort((one, other) => urgency(one) - urgency(other));
  }

  get fresh() {
    return (this.held ?? []).filter((id) => !this.order.includes(id));
  }

  select(id) {
    this.current = id;
    for (const link of this.root.querySelectorAll("a.row")) {
      if (link.dataset.id === id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  setFilter(text) {
    this.filter = text.trim().toLowerCase();
    this.render();
  }

  /** The call after the open one that still waits, if any. */
  nextWaiting() {
    const waiting = this.order.filter((id) => this.calls.get(id)?.status === "held" && id !== this.current);
    const after = this.order.slice(this.order.indexOf(this.current) + 1).find((id) => waiting.includes(id));
    return after ?? waiting[0] ?? this.fresh[0] ?? null;
  }

  /** Move the focus along the rows. */
  move(step) {
    const links = [...this.root.querySelectorAll("a.row")];
    if (!links.length) return;
    const focused = links.indexOf(document.activeElement);
    const from = focused >= 0 ? focused : links.findIndex((link) => link.dataset.id === this.current);
    const to = from < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(Math.max(from + step, 0), links.length - 1);
    links[to].focus();
    links[to].scrollIntoView({ block: "nearest" });
  }

  render() {
    if (!this.order) return;
    const focused = document.activeElement?.dataset?.id;
    const inOrder = new Set(this.order);
    const parts = [this.waiting()];
    const unknown = this.unknown.filter((id) => !inOrder.has(id));
    if (unknown.length) parts.push(this.section("unknown", "Outcome unknown", unknown));
    // While a pointer is over the list its lower part stays as it is, too.
    this.stale = this.root.matches(":hover") && this.lower !== undefined;
    if (!this.stale) this.lower = this.recent.filter((id) => !inOrder.has(id) && !unknown.includes(id));
    const lower = this.lower.filter((id) => this.calls.has(id));
    if (lower.length) parts.push(this.section("recent", "Recently settled", lower));
    const scrolled = this.root.scrollTop;
    this.root.replaceChildren(...parts);
    this.root.scrollTop = scrolled;
    if (focused) this.root.querySelector(`a.row[data-id="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  waiting() {
    const fresh = this.fresh.length;
    const count = this.order.filter((id) => this.calls.get(id)?.status === "held").length + fresh;
    const show = el("button", { type: "button", class: "show-new", onclick: () => this.sort() }, `Show ${fresh} new`);
    const section = this.section("waiting", count ? `Waiting for people (${count})` : "Waiting for people", this.order, fresh ? show : null);
    if (!this.order.length) {
      section.append(el("p", { class: "empty" }, "Nothing waits for you. New calls appear here by themselves."));
    }
    return section;
  }

  section(name, title, ids, extra = null) {
    const rows = ids.map((id) => this.calls.get(id)).filter((call) => this.matches(call)).map((call) => this.row(call));
    return el(
      "section",
      { class: `group ${name}` },
      el("div", { class: "group-head" }, el("h2", {}, title), extra),
      el("ul", {}, ...rows.map((row) => el("li", {}, row))),
    );
  }

  matches(call) {
    return !this.filter || `${textOf(call.summary.what)} ${textOf(call.summary.agent)}`.toLowerCase().includes(this.filter);
  }

  row(call) {
    const held = call.status === "held";
    const when = held && call.expires_at
      ? el("span", { class: "when", "data-until": call.expires_at })
      : el("span", { class: "when" }, atClock(call.changed_at));
    const missing = call.summary.missing;
    const note = held
      ? missing > 1 || call.verdicts.length ? `needs ${missing} more` : "needs approval"
      : call.decision === "allow" && call.status === "succeeded" ? "ran, allowed by the policy"
      : call.runs_elsewhere && call.status === "approved" ? "approved, until the agent asks again" : STATUS_WORDS[call.status];
    return el(
      "a",
      { class: `row ${call.status}`, href: `#call=${encodeURIComponent(call.id)}`, "data-id": call.id, "aria-current": call.id === this.current && "true" },
      el("span", { class: "score", "--score": String(call.score) }, el("span", { class: "sr" }, "score "), String(call.score)),
      el("span", { class: "what" }, segments(call.summary.what)),
      when,
      el("span", { class: "who" }, segments(call.summary.agent), el("span", { class: "state" }, note)),
      el("span", { class: "preview" }, segments(call.summary.preview)),
    );
  }
}
