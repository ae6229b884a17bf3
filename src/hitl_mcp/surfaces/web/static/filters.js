// What of the queue is shown, and how it is grouped. Agent, tool and status are asked of the gateway; the rest is looked for here.

import { el, textOf } from "./dom.js";

const GROUP = "hitl-mcp.group";
const STATUSES = { "": "all", held: "waiting", unknown: "outcome unknown", settled: "settled lately" };
const GROUPS = { "": "by urgency", agent: "by agent", tool: "by tool" };

export class Filters {
  /** `narrow()`: the gateway must be asked anew; `look()`: what is here must be put in order anew; `count()`: heaps are wanted. */
  constructor({ narrow, look, count }) {
    this.text = "";
    this.known = { agent: new Map(), tool: new Map() };
    this.search = el("input", {
      id: "filter", type: "search", placeholder: "Filter by agent or tool", "aria-label": "Filter by agent or tool", autocomplete: "off", spellcheck: "false",
      oninput: () => {
        this.text = this.search.value.trim().toLowerCase();
        look();
      },
    });
    const field = (name, label, choices, changed) => {
      const select = el("select", { id: `filter-${name}`, onchange: () => {
        this.count();
        changed();
      } }, ...Object.entries(choices).map(([value, text]) => el("option", { value }, text)));
      this[name] = select;
      return el("label", { for: select.id }, el("span", {}, label), select);
    };
    this.mine = el("input", { type: "checkbox", id: "filter-mine", onchange: () => {
      this.count();
      narrow();
    } });
    this.toggle = el("button", { type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": "filter-fields", onclick: () => {
      this.fields.hidden = !this.fields.hidden;
      this.toggle.setAttribute("aria-expanded", String(this.isOpen));
      if (this.isOpen) count();
    } });
    this.fields = el("div", { class: "fields", hidden: true, id: "filter-fields" },
      field("status", "Status", STATUSES, narrow), field("agent", "Agent", { "": "any" }, narrow), field("tool", "Tool", { "": "any" }, narrow),
      field("group", "Order", GROUPS, () => {
        localStorage.setItem(GROUP, this.group.value);
        narrow();
      }),
      el("label", { class: "check", for: "filter-mine" }, this.mine, "Only what I may approve"));
    this.node = el("div", { class: "filter" }, el("div", { class: "filter-line" }, this.search, this.toggle), this.fields);
    this.group.value = localStorage.getItem(GROUP) ?? "";
    if (this.group.selectedIndex < 0) this.group.value = "";
    this.count();
  }

  focus() {
    this.search.focus();
  }

  count() {
    const used = [this.status.value, this.agent.value, this.tool.value, this.mine.checked].filter(Boolean).length;
    this.toggle.textContent = used ? `Filters (${used})` : "Filters";
  }

  /** What an address says: `#queue&agent=…&tool=…`. */
  take(params) {
    if (!params?.has("queue")) return;
    for (const name of ["agent", "tool"]) {
      const value = params.get(name) ?? "";
      this.add(name, value, value);
      if (this[name].value === value) continue;
      this[name].value = value;
      this[name].dispatchEvent(new Event("change"));
    }
  }

  /** What to ask the gateway for, beside the status. */
  query() {
    const { agent, tool } = this;
    return (agent.value ? `&agent=${encodeURIComponent(agent.value)}` : "") + (tool.value ? `&name=${encodeURIComponent(tool.value)}` : "");
  }

  wants(part) {
    return !this.status.value || this.status.value === part;
  }

  get isOpen() {
    return !this.fields.hidden;
  }

  /** `agent`, `tool`, or nothing. */
  get groups() {
    return this.group.value;
  }

  /** Of what the gateway counted, what the list is grouped by. */
  heapsOf(heaps) {
    return (this.groups && heaps?.[`${this.groups}s`]) || [];
  }

  narrowTo(name) {
    const select = this[this.groups];
    this.add(this.groups, name, name);
    select.value = name;
    select.dispatchEvent(new Event("change"));
  }

  get isNarrow() {
    return Boolean(this.text || this.query() || this.mine.checked || this.status.value);
  }

  matches(call, me) {
    const text = () => `${textOf(call.summary.what)} ${textOf(call.summary.agent)}`.toLowerCase();
    return (!this.text || text().includes(this.text)) && (!this.mine.checked || mayApprove(call, me)); // an answer of one's own counts at once
  }

  groupOf(call) {
    if (this.groups === "agent") return this.groupNamed(call.agent, call.summary.agent);
    return this.groups === "tool" ? this.groupNamed(call.name, call.summary.what) : { key: "", title: null };
  }

  groupNamed(key, title) {
    return { key, title, href: `#${this.groups === "agent" ? "agent" : "used"}=${encodeURIComponent(key)}` };
  }

  /** Have agents and tools that were seen, or of which something waits, among the choices. */
  offer(calls, heaps) {
    for (const name of ["agent", "tool"]) for (const heap of heaps?.[`${name}s`] ?? []) this.add(name, heap.name, textOf(heap.shown));
    for (const call of calls) {
      this.add("agent", call.agent, textOf(call.summary.agent));
      this.add("tool", call.name, textOf(call.summary.what));
    }
  }

  add(name, value, text) {
    if (!value || this.known[name].has(value)) return;
    this.known[name].set(value, text);
    const option = el("option", { value }, text);
    const after = [...this[name].options].find((other) => other.value && other.text > text);
    this[name].insertBefore(option, after ?? null);
  }
}

/** Whether an approval of this reviewer would count in something that is still open. */
export function mayApprove(call, me) {
  return call.status === "held" && Boolean(me) && call.requirements.some((need) => need.met < need.quorum
    && !need.approved_by.includes(me.reviewer) && !need.not_by.includes(me.reviewer)
    && (me.every_role || !need.roles.length || need.roles.some((role) => me.roles.includes(role))));
}
