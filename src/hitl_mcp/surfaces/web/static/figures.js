// Figures about what an agent did or how a tool was used: the same few parts on four pages.

import { get, Refused } from "./api.js";
import { el, segments } from "./dom.js";
import { Rows, sync } from "./rows.js";
import { atClock, inWords } from "./time.js";

const STATUS_ORDER = ["held", "approved", "running", "unknown", "succeeded", "failed", "released", "rejected", "denied", "expired", "withdrawn", "invalidated"];
const LAST_CALLS = 20;

export const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`);

export const total = (counts = {}) => Object.values(counts).reduce((sum, count) => sum + count, 0);

/** A figure with what it counts. */
export const figure = (value, what, extra = null) => el("div", { class: "figure" }, el("dt", {}, what), el("dd", {}, String(value), extra));

export const figures = (...list) => el("dl", { class: "figures" }, ...list.filter(Boolean));

export function commonFigures(data) {
  const { by_answer: answers = {} } = data;
  return [
    figure(total(data.by_status), `calls in ${data.days ?? 7} days`),
    figure(data.open ?? 0, "open now"),
    figure(answers.approved ?? 0, "approved by people"),
    figure(answers.rejected ?? 0, "rejected by people"),
    figure(percent(data.approval_share), "of the answers were approvals"),
  ];
}

/** How calls ended, as a bar and in words. */
export function statusBar(counts = {}) {
  const sum = total(counts);
  const there = STATUS_ORDER.filter((status) => counts[status]);
  if (!sum) return el("p", { class: "muted" }, "No calls in these days.");
  return el("div", {},
    el("div", { class: "bar-status", "aria-hidden": "true" }, ...there.map((status) => el("span", { class: status, "--points": String((counts[status] / sum) * 100) }))),
    el("ul", { class: "legend" }, ...there.map((status) => el("li", {}, el("span", { class: `swatch ${status}`, "aria-hidden": "true" }), `${status} ${counts[status]}`))));
}

/** A table whose first column is a link. */
export function table(caption, heads, rows) {
  return el("div", { class: "table", tabindex: "0", role: "region", "aria-label": caption }, el("table", {},
    el("caption", { class: "sr" }, caption),
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows.map(([first, ...others]) => el("tr", {}, el("th", { scope: "row" }, first), ...others.map((cell) => el("td", {}, cell)))))));
}

export const nameLink = (kind, data) => el("a", { href: `#${kind}=${encodeURIComponent(data.name)}` }, segments(data.shown));

export const when = (text) => (text ? el("time", { datetime: text, title: text }, atClock(text)) : "–");

export const lasting = (seconds) => (seconds === null || seconds === undefined ? "–" : inWords(seconds * 1000));

/** The last calls of an agent or of a tool, their links kept while they stay. */
export class LastCalls {
  constructor(name) {
    this.name = name;
    this.rows = new Rows();
    this.list = el("ul", {});
    this.node = el("section", { class: "card group flush" });
  }

  async read(value) {
    const query = `${this.name}=${encodeURIComponent(value)}`;
    const { calls, next } = await get(`api/calls?brief=true&limit=${LAST_CALLS}&${query}`);
    return () => {
      sync(this.list, calls.map((call) => this.rows.item(call)));
      this.node.replaceChildren(el("div", { class: "card-head" }, el("h3", {}, "Last calls"),
        el("a", { class: "button quiet", href: `#history?${query}` }, next ? "All of them" : "In the history")),
      calls.length ? this.list : el("p", { class: "muted" }, "There was none."));
    };
  }
}

/**
 * A page that reads something and shows it: loading, what there is, or why not. `read(params)` gives a function that
 * puts it on screen; what is on screen stays when a later reading fails.
 */
export class Sheet {
  constructor(root, page, title) {
    this.page = page;
    this.turn = 0;
    this.title = title;
    this.nothing = "There is nothing here.";
    this.body = el("div", { class: "sheet" });
    root.replaceChildren(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, this.body));
  }

  async open(params) {
    this.params = params;
    this.isFilled = false;
    this.body.replaceChildren(this.heading(), el("p", { class: "empty" }, "Loading…"));
    await this.refresh();
  }

  async refresh() {
    const turn = (this.turn += 1);
    try {
      const show = await this.read(this.params);
      if (turn !== this.turn) return;
      show();
      this.isFilled = true;
    } catch (error) {
      if (!(error instanceof Refused) || error.status === 401) throw error;
      if (turn !== this.turn || (this.isFilled && error.status !== 404)) return void (error.status === 0 && this.page.failed(error));
      const text = error.status === 404 ? this.nothing : error.status === 0 ? "No answer came from the gateway. It is tried again." : `This cannot be shown: ${error.message}.`;
      this.body.replaceChildren(this.heading(), el("p", { class: "empty", role: "alert" }, text));
    }
  }

  heading() {
    return el("h2", { class: "sentence" }, this.title);
  }

  close() {
    this.turn += 1;
    this.body.replaceChildren();
  }
}
