// Several calls of one tool answered together: each listed whole before it is approved, each with a record of its own.

import { get, post } from "./api.js";
import { Armed, whenSeen } from "./arming.js";
import { announce, el, lines, segments, textOf } from "./dom.js";
import { tick } from "./time.js";

const AT_ONCE = 4; // A browser opens six connections to one place; one is the stream.
const MOST = 50;

export class BatchView {
  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.keys = { a: ["approve them", () => this.send("approve")] };
    this.turn = 0;
  }

  async open(params) {
    this.close();
    const turn = (this.turn += 1);
    this.root.replaceChildren(el("p", { class: "empty" }, "Loading the calls…"));
    const ids = [...new Set((params.get("batch") ?? "").split(",").filter(Boolean))].slice(0, MOST);
    try {
      const calls = await loadAll(ids);
      if (turn === this.turn) this.build(calls);
    } catch (error) {
      if (error.status === 401) throw error;
      if (turn === this.turn) this.root.replaceChildren(el("p", { class: "empty", role: "alert" }, `These calls cannot be shown: ${error.message}.`));
    }
  }

  /** What is listed stays as it was read: the gateway says of each call whether the answer still fits it. */
  refresh() {}

  close() {
    this.turn += 1;
    this.armed?.end();
    this.stopLooking?.();
    this.armed = null;
    this.calls = [];
    this.isBusy = false;
    this.isDone = false;
    this.seen = false;
    this.root.replaceChildren();
  }

  build(all) {
    const limit = this.page.me()?.batch_below ?? 0;
    const judged = all.map((call) => [call, whyNot(call, all[0], limit)]);
    this.calls = judged.filter(([, why]) => !why).map(([call]) => call);
    const left = judged.filter(([, why]) => why);
    this.hint = el("p", { class: "part-hint", role: "status" });
    this.reason = el("textarea", { id: "batch-reason", rows: "2", maxlength: "2000" });
    this.reject = el("button", { type: "button", class: "reject", onclick: () => this.send("reject") }, `Reject ${this.calls.length}`);
    this.approve = el("button", { type: "button", class: "approve", onclick: () => this.send("approve") }, `Approve ${this.calls.length}`, el("kbd", { "aria-hidden": "true" }, "a"));
    const end = el("div", { class: "end" });
    this.cards = new Map(this.calls.map((call) => [call.id, card(call)]));
    this.sheet = el("div", { class: "sheet" }, el("a", { class: "back", href: "#" }, "‹ All calls"),
      el("h2", { class: "sentence" }, this.calls.length ? `${this.calls.length} calls, answered together` : "None of these calls can be answered together"),
      el("p", { class: "muted" }, "Each is approved or rejected by itself, and stands on record by itself."),
      left.length ? el("section", { class: "card" }, el("h3", {}, "Left out"), el("ul", { class: "notes" }, ...left.map(([call, why]) =>
        el("li", {}, el("a", { href: `#call=${encodeURIComponent(call.id)}` }, textOf(call.sentence)), `: ${why}.`)))) : null,
      el("div", {}, ...this.cards.values(), end),
      this.calls.length ? el("div", { class: "reason" }, el("label", { for: "batch-reason" }, "A reason, where they are rejected. The agent is told it, word for word."), this.reason) : null);
    const scroller = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Calls to be answered together" }, this.sheet);
    this.root.replaceChildren(scroller, el("div", { class: "actions" }, this.hint, this.calls.length ? el("div", { class: "buttons" }, this.reject, this.approve) : null));
    this.armed = new Armed(this.approve);
    this.stopLooking = whenSeen(end, scroller, () => {
      this.seen = true;
      this.show();
    });
    this.show();
    tick(this.root);
    scroller.focus({ preventScroll: true });
  }

  show() {
    const open = this.calls.length > 0 && !this.isBusy && !this.isDone;
    this.armed.setAble(open && this.seen);
    this.reject.setAttribute("aria-disabled", String(!open));
    this.hint.textContent = this.isBusy ? "Sending…" : this.isDone || !this.calls.length ? this.hint.textContent : this.seen ? "" : "Read to the end of the list to approve.";
  }

  async send(verdict) {
    if (!this.armed || !this.calls.length || this.isBusy || this.isDone || (verdict === "approve" && !this.armed.isReady())) return;
    const { turn } = this;
    this.isBusy = true;
    this.show();
    const reason = verdict === "reject" ? this.reason.value.trim() : "";
    try {
      const { results } = await post("api/verdicts", { verdict, reason, calls: this.calls.map(({ id, digest }) => ({ id, digest })) });
      if (turn !== this.turn) return;
      this.isDone = true;
      this.tell(verdict, results);
    } catch (error) {
      if (error.status === 401) return this.page.failed(error);
      if (turn === this.turn) this.hint.textContent = error.status === 0 ? "No answer came, so nobody knows what was recorded. Look at the list." : `Not recorded: ${error.message}.`;
      announce(this.hint.textContent);
    } finally {
      if (turn === this.turn) {
        this.isBusy = false;
        this.show();
      }
      this.page.decided();
    }
  }

  tell(verdict, results) {
    const done = results.filter((result) => result.ok).length;
    for (const { id, ok, call, error } of results) {
      const text = ok ? (call?.status === "held" ? "Recorded. It needs more people." : verdict === "approve" ? "Approved." : "Rejected.") : `Not recorded: ${error.message}.`;
      this.cards.get(id)?.append(el("p", { class: ok ? "headline" : "problem" }, text));
    }
    this.hint.textContent = `${done} of ${results.length} ${verdict === "approve" ? "approved" : "rejected"}.`;
    announce(this.hint.textContent);
  }
}

async function loadAll(ids) {
  const found = new Map();
  const waiting = [...ids];
  const one = async () => {
    for (let id = waiting.shift(); id; id = waiting.shift()) {
      try {
        found.set(id, await get(`api/calls/${encodeURIComponent(id)}/shown`));
      } catch (error) {
        if (error.status !== 404) throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  return ids.map((id) => found.get(id)).filter(Boolean);
}

/** Why a call is answered by itself; empty where it may be answered with the others. */
function whyNot(call, first, limit) {
  if (call.status !== "held") return `it is ${call.status}`;
  if (!call.you.may_approve) return `you cannot approve it: ${call.you.why_not}`;
  if (call.score.score >= limit) return `it has ${call.score.score} points`;
  if (textOf(call.sentence.slice(-3)) !== textOf(first.sentence.slice(-3))) return "it is of another tool";
  if (!call.arguments.whole || !(call.meta?.whole ?? true)) return "it cannot be shown whole";
  return call.arguments.marks || call.arguments.decoded_marks ? "characters in it are marked" : "";
}

function card(call) {
  return el("section", { class: "card arguments" },
    el("div", { class: "card-head" }, el("h3", {}, segments(call.sentence)), el("span", { class: "muted" }, `${call.score.score} points`),
      call.expires_at ? el("span", { class: "muted", "data-until": call.expires_at }) : null, el("a", { class: "button quiet", href: `#call=${encodeURIComponent(call.id)}` }, "Open it alone")),
    lines(call.arguments.lines, { numbered: true }),
    call.meta ? el("div", { class: "meta" }, el("h4", {}, "Sent along with it (_meta)"), lines(call.meta.lines, { numbered: true })) : null,
    call.claim ? el("p", { class: "claimed" }, el("span", { class: "warn" }, "its own claim, not checked"), " ", lines(call.claim)) : null);
}
