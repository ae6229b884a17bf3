// The history: every call there was, searched by the gateway. What is looked for stands in the address, to be sent to others.

import { get } from "./api.js";
import { announce, el } from "./dom.js";
import { moveFocus, Rows, sync } from "./rows.js";
import { atClock } from "./time.js";

const PAGE = 50;
const STATUSES = {
  "": "any", held: "waiting", approved: "approved", running: "running", succeeded: "ran and succeeded", failed: "failed", unknown: "outcome unknown",
  rejected: "rejected", denied: "denied by the policy", expired: "expired", withdrawn: "withdrawn", invalidated: "no longer valid", released: "released",
};
const FIELDS = ["q", "status", "agent", "name", "reviewer", "since", "until"];

export class HistoryView {
  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.rows = new Rows();
    this.asked = null;
    this.forget();
    this.inputs = {};
    this.list = el("div", { class: "rows", "data-arrows": true });
    this.head = el("h2", {}, "History");
    this.showNew = el("button", { type: "button", class: "show-new", hidden: true, onclick: () => this.begin() });
    this.items = el("ul", {});
    this.empty = el("p", { class: "empty" });
    this.showMore = el("button", { type: "button", class: "show-more", onclick: () => this.readFurther().catch(page.failed) });
    this.list.append(el("section", { class: "group found" }, el("div", { class: "group-head" }, this.head, this.showNew), this.items, this.empty, this.showMore));
    root.replaceChildren(this.form(), this.list);
    this.keys = {
      j: ["next call in the list (there also ↓)", () => moveFocus(this.list, 1, this.rows.current)],
      k: ["previous call (there also ↑)", () => moveFocus(this.list, -1, this.rows.current)],
      n: ["show new calls", () => !this.showNew.hidden && this.begin()],
      "/": ["search", () => this.inputs.q.focus()],
    };
  }

  forget() {
    this.calls = new Map();
    this.order = [];
    this.next = null;
    this.lookedTo = null;
  }

  form() {
    const field = (name, label, input) => {
      this.inputs[name] = input;
      input.id = `history-${name}`;
      input.addEventListener("change", () => this.ask());
      return el("label", { for: input.id }, el("span", {}, label), input);
    };
    const text = () => el("input", { type: "text", autocomplete: "off", spellcheck: "false", maxlength: "200" });
    const search = el("input", { type: "search", id: "history-q", placeholder: "Search in the arguments", "aria-label": "Search in the arguments", autocomplete: "off", spellcheck: "false", maxlength: "200" });
    this.inputs.q = search;
    search.addEventListener("change", () => this.ask());
    search.addEventListener("keydown", (event) => event.key === "Enter" && this.ask());
    search.addEventListener("search", () => this.ask());
    const fields = el("div", { class: "fields", hidden: true, id: "history-fields" },
      field("status", "Status", el("select", {}, ...Object.entries(STATUSES).map(([value, label]) => el("option", { value }, label)))),
      field("reviewer", "Answered by", text()), field("agent", "Agent", text()), field("name", "Tool, as upstream__tool", text()),
      field("since", "From", el("input", { type: "date" })), field("until", "To, with that day", el("input", { type: "date" })));
    this.toggle = el("button", { type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": "history-fields", onclick: () => {
      fields.hidden = !fields.hidden;
      this.toggle.setAttribute("aria-expanded", String(!fields.hidden));
    } }, "Filters");
    this.fields = fields;
    return el("div", { class: "filter", role: "search", "aria-label": "History" }, el("div", { class: "filter-line" }, search, this.toggle), fields);
  }

  /** Put what is looked for into the address; the rest follows from there. */
  ask() {
    const said = new URLSearchParams(FIELDS.map((name) => [name, this.inputs[name].value.trim()]).filter(([, value]) => value)).toString();
    const hash = said ? `#history?${said}` : "#history";
    if (location.hash !== hash) location.hash = hash;
  }

  async open(params) {
    for (const name of FIELDS) if (this.inputs[name] !== document.activeElement) this.inputs[name].value = params.get(name) ?? "";
    const used = FIELDS.slice(1).filter((name) => params.get(name)).length;
    this.toggle.textContent = used ? `Filters (${used})` : "Filters";
    const asked = this.query(params);
    if (asked === this.asked) return;
    this.asked = asked;
    this.empty.textContent = "Searching…";
    await this.begin();
  }

  close() {
    this.asked = null;
    this.forget();
    sync(this.items, []);
  }

  select(id) {
    this.rows.select(id);
  }

  query(params) {
    const said = new URLSearchParams();
    for (const name of FIELDS) if (params.get(name)) said.set(name, params.get(name));
    // Days are those of whoever looks; the gateway knows moments only.
    if (said.has("since")) said.set("since", moment(said.get("since"), 0));
    if (said.has("until")) said.set("until", moment(said.get("until"), 1));
    for (const name of ["since", "until"]) if (said.get(name) === "") said.delete(name);
    return said.toString();
  }

  async begin() {
    this.forget();
    this.showNew.hidden = true;
    await this.readFurther().catch(this.page.failed);
    if (this.asked !== null && document.hasFocus()) announce(this.order.length ? `${this.order.length}${this.next ? " and more" : ""} found` : "Nothing found");
  }

  read(cursor) {
    return get(`api/calls?brief=true&limit=${PAGE}${this.asked ? `&${this.asked}` : ""}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
  }

  async readFurther() {
    const { asked } = this;
    try {
      const answer = await this.read(this.next);
      if (asked !== this.asked) return;
      this.take(answer.calls);
      this.next = answer.next;
      this.lookedTo = answer.looked_back_to;
      this.problem = "";
    } catch (error) {
      if (asked !== this.asked) return;
      if (error.status === 401 || error.status === 0) throw error;
      this.problem = `The gateway cannot search for this: ${error.message}.`;
    } finally {
      if (asked === this.asked) this.render();
    }
  }

  /** What happened meanwhile: rows say how their calls stand now; calls that came wait behind a button. */
  async refresh() {
    if (this.asked === null || this.problem) return;
    const { asked } = this;
    const answer = await this.read("");
    if (asked !== this.asked) return;
    for (const call of answer.calls) if (this.calls.has(call.id)) this.calls.set(call.id, call);
    const fresh = answer.calls.filter((call) => !this.calls.has(call.id)).length;
    if (!this.order.length && fresh) this.take(answer.calls);
    this.showNew.hidden = !fresh || !this.order.length;
    this.showNew.textContent = `Show ${fresh} new`;
    this.render();
  }

  take(calls) {
    for (const call of calls) {
      if (!this.calls.has(call.id)) this.order.push(call.id);
      this.calls.set(call.id, call);
    }
  }

  render() {
    sync(this.items, this.order.map((id) => this.rows.item(this.calls.get(id))));
    this.rows.keep(new Set(this.order));
    this.showMore.hidden = !this.next;
    this.showMore.textContent = this.lookedTo ? "Look further back" : "Show more";
    const so = this.order.length ? "" : this.asked ? "Nothing is like this." : "No call was made yet.";
    this.empty.textContent = this.problem || (this.lookedTo ? `Looked back to ${atClock(this.lookedTo)} so far.` : so);
    this.empty.hidden = !this.empty.textContent;
  }
}

function moment(day, plus) {
  const [year, month, date] = day.split("-").map(Number);
  const found = new Date(year, month - 1, date + plus);
  return Number.isNaN(found.getTime()) ? "" : found.toISOString();
}
