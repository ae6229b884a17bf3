// The list: what waits, what nobody knows the outcome of, and what was settled lately.
// Rows never move by themselves: new calls wait behind a button until they are asked for.

import { get } from "./api.js";
import { Choosing } from "./choosing.js";
import { el, segments, textOf } from "./dom.js";
import { Filters } from "./filters.js";
import { moveFocus, Rows, sync } from "./rows.js";
import { millisecondsTo } from "./time.js";

const SETTLED = "approved,running,released,succeeded,failed,denied,rejected,expired,withdrawn,invalidated";
const PAGE = 50;
const PAGES_MOST = 5; // Nobody reads further down than this; the filters find the rest.
const LATELY = 20;
const FLOOD = 4;
const HEAPS = 50; // agents and tools that have calls waiting, counted by the gateway

export class Queue {
  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.rows = new Rows();
    this.unfolded = new Set();
    this.forget();
    this.filters = new Filters({ narrow: () => this.readAgain(), look: () => this.sort(), count: () => this.refresh().catch(page.failed) });
    this.choosing = new Choosing({ changed: () => this.render(), limit: () => page.me()?.batch_below ?? 0 });
    this.list = el("div", { class: "rows", id: "rows", "data-arrows": true, onpointerleave: () => this.stale && this.render() });
    this.parts = { waiting: part("waiting"), unknown: part("unknown"), recent: part("recent") };
    this.showNew = el("button", { type: "button", class: "show-new", onclick: () => this.sort() });
    this.showMore = el("button", { type: "button", class: "show-more", onclick: () => this.readFurther() });
    this.empty = el("p", { class: "empty" });
    root.replaceChildren(this.filters.node, this.list, this.choosing.node);
    this.keys = {
      j: ["next call in the list (there also ↓)", () => moveFocus(this.list, 1, this.rows.current)],
      k: ["previous call (there also ↑)", () => moveFocus(this.list, -1, this.rows.current)],
      n: ["show new calls", () => this.sort()],
      x: ["choose several to answer together; the call with the focus", () => this.choosing.toggle(this.calls.get(document.activeElement?.dataset.id))],
      "/": ["filter", () => this.filters.focus()],
    };
  }

  forget() {
    this.calls = new Map();
    this.order = null; // what stands on screen: groups of the ids of calls, each with those that are alike
    this.held = [];
    this.heaps = null;
    this.pages = 1;
    this.more = false;
    this.lower = undefined;
  }

  async open(params) {
    this.filters.take(params);
    this.sort();
  }

  close() {
    this.forget();
    this.choosing.end();
    this.list.replaceChildren();
  }

  select(id) {
    this.rows.select(id);
  }

  // Reading.

  /** Take in what the gateway says; rows already there keep their place. */
  async refresh() {
    const { filters } = this;
    const asked = filters.query();
    const list = (query) => get(`api/calls?brief=true&${query}${asked}`);
    const none = { calls: [], next: null };
    const [held, unknown, recent, heaps] = await Promise.all([
      filters.wants("held") ? this.readHeld(list) : [],
      filters.wants("unknown") ? list("status=unknown&limit=50") : none,
      filters.wants("settled") ? list(`status=${SETTLED}&limit=${LATELY}`) : none,
      filters.isOpen || filters.groups ? get(`api/queue?limit=${HEAPS}${asked}${filters.mine.checked ? "&mine=true" : ""}`) : null,
    ]);
    if (asked !== filters.query()) return;
    this.heaps = heaps;
    const known = this.ids();
    const kept = known.map((id) => this.calls.get(id)).filter(Boolean);
    this.calls = new Map([...kept, ...recent.calls, ...unknown.calls, ...held].map((call) => [call.id, call]));
    this.held = held;
    this.unknown = unknown.calls.map((call) => call.id);
    this.recent = recent.calls.map((call) => call.id);
    this.choosing.keep(this.calls);
    const shownAndWaiting = known.some((id) => this.calls.get(id)?.status === "held");
    if (!this.order || !shownAndWaiting) this.arrange();
    this.render();
  }

  async readHeld(list) {
    const calls = [];
    let cursor = "";
    for (let page = 0; page < this.pages && cursor !== null; page += 1) {
      const answer = await list(`status=held&sort=urgency${this.filters.mine.checked ? "&mine=true" : ""}&limit=${PAGE}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
      calls.push(...answer.calls);
      cursor = answer.next;
    }
    this.more = cursor !== null;
    return [...new Map(calls.map((call) => [call.id, call])).values()]; // between two pages one may have moved
  }

  /** Read anew, as after another filter: what stands there makes room. */
  readAgain() {
    this.order = null;
    this.pages = 1;
    this.refresh().catch(this.page.failed);
  }

  async readFurther() {
    this.pages += 1;
    const before = new Set(this.ids());
    try {
      await this.refresh();
    } catch (error) {
      return this.page.failed(error);
    }
    this.arrange([...before]);
    this.render();
    this.list.querySelector(`a.row[data-id="${CSS.escape(this.ids().find((id) => !before.has(id)) ?? "")}"]`)?.focus();
  }

  // The order on screen.

  /** Put the waiting calls in order again, with the new ones. Only when someone asks, or nobody looks. */
  sort() {
    if (!this.order) return;
    this.arrange();
    this.render();
  }

  /** By urgency (little time left, many points), grouped, those that are alike folded. `first` stay where they are. */
  arrange(first = []) {
    const kept = new Set(first);
    const shown = [...first.map((id) => this.calls.get(id)), ...byUrgency(this.held.filter((call) => !kept.has(call.id)))].filter((call) => this.filters.matches(call, this.page.me()));
    const groups = new Map();
    for (const call of shown) {
      const { key, title, href } = this.filters.groupOf(call);
      if (!groups.has(key)) groups.set(key, { key, title, href, calls: [] });
      groups.get(key).calls.push(call);
    }
    this.order = [...groups.values()].map(({ calls, ...group }) => ({ ...group, folds: foldsOf(calls) }));
    for (const heap of this.filters.heapsOf(this.heaps)) { // further down than what was read
      if (!groups.has(heap.name)) this.order.push({ ...this.filters.groupNamed(heap.name, heap.shown), folds: [] });
    }
    this.arranged = new Set(this.held.map((call) => call.id));
  }

  ids() {
    return (this.order ?? []).flatMap((group) => group.folds.flat());
  }

  /** Calls that wait and came after the list was put in order. */
  get fresh() {
    return this.held.filter((call) => !this.arranged.has(call.id) && this.filters.matches(call, this.page.me()));
  }

  /** The call after the open one that still waits, if any. */
  nextWaiting() {
    const open = this.rows.current;
    const order = this.ids();
    const waiting = order.filter((id) => this.calls.get(id)?.status === "held" && id !== open);
    const after = order.slice(order.indexOf(open) + 1).find((id) => waiting.includes(id));
    return after ?? waiting[0] ?? this.fresh[0]?.id ?? null;
  }

  // On screen.

  render() {
    if (!this.order) return;
    const inOrder = new Set(this.ids());
    const matching = (ids) => ids.map((id) => this.calls.get(id)).filter((call) => call && !inOrder.has(call.id) && this.filters.matches(call, this.page.me()));
    this.renderWaiting();
    const unknown = matching(this.unknown);
    fill(this.parts.unknown, "Outcome unknown", [], unknown.map((call) => this.rows.item(call)));
    // While a pointer is over the list its lower part stays as it is, too.
    this.stale = this.list.matches(":hover") && this.lower !== undefined;
    if (!this.stale) this.lower = this.recent.filter((id) => !this.unknown.includes(id));
    const lower = matching(this.lower);
    fill(this.parts.recent, "Recently settled", [], lower.map((call) => this.rows.item(call)));
    const { waiting } = this.parts;
    sync(this.list, [this.filters.wants("held") ? waiting : null, unknown.length ? this.parts.unknown : null, lower.length ? this.parts.recent : null].filter(Boolean));
    this.rows.keep(new Set(this.calls.keys()));
    this.filters.offer(this.calls.values(), this.heaps);
  }

  renderWaiting() {
    const fresh = this.fresh.length;
    const count = this.ids().filter((id) => this.calls.get(id)?.status === "held").length + fresh;
    this.showNew.textContent = `Show ${fresh} new`;
    this.showMore.textContent = this.pages < PAGES_MOST ? "Show more" : "";
    const title = count ? `Waiting for people (${count}${this.more ? " and more" : ""})` : "Waiting for people";
    const items = this.order.flatMap((group) => [group.title ? this.subhead(group) : null, ...group.folds.map((fold) => this.foldOf(fold))]).filter(Boolean);
    const extra = [fresh ? this.showNew : null, this.choosing.button].filter(Boolean);
    fill(this.parts.waiting, title, extra, items);
    const { isNarrow } = this.filters;
    this.empty.textContent = items.length ? (this.more && this.pages >= PAGES_MOST ? "More wait than can be read here. The filters show the rest." : "")
      : isNarrow ? "Nothing that waits is like this." : "Nothing waits for you. New calls appear here by themselves.";
    if (this.more && this.pages < PAGES_MOST) this.parts.waiting.append(this.showMore);
    else this.showMore.remove();
    if (this.empty.textContent) this.parts.waiting.append(this.empty);
    else this.empty.remove();
  }

  /** The name of a group, how many of it wait, and a way to see them alone. */
  subhead({ key, title, href, folds }) {
    const count = this.filters.heapsOf(this.heaps).find((heap) => heap.name === key)?.calls ?? folds.flat().length;
    return el("li", { class: "subhead" }, el("h3", {}, el("a", { href }, segments(title))), el("span", { class: "muted" }, `${count} waiting`),
      count > folds.flat().length ? el("button", { type: "button", class: "quiet", onclick: () => this.filters.narrowTo(key) }, "Show them") : null);
  }

  item(call, after = []) {
    this.rows.link(call);
    const box = this.choosing.isOn ? this.rows.once(call, "box", () => this.choosing.boxFor(call.id)) : null;
    if (box) this.choosing.show(box, call);
    return this.rows.item(call, [box], after);
  }

  /** Calls that are alike: the first, and the others behind a button. */
  foldOf(ids) {
    const [first, ...others] = ids.map((id) => this.calls.get(id));
    if (!others.length) return this.item(first);
    this.rows.link(first);
    const open = this.unfolded.has(first.id);
    const button = this.rows.once(first, "fold", () => el("button", { type: "button", class: "quiet fold-alike", onclick: () => {
      if (!this.unfolded.delete(first.id)) this.unfolded.add(first.id);
      this.render();
    } }));
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? "Fold those alike" : `${others.length} more alike`;
    const alike = this.rows.once(first, "alike", () => el("ul", { class: "alike" }));
    sync(alike, open ? others.map((call) => this.item(call)) : []);
    return this.item(first, [button, open ? alike : null]);
  }
}

/** The same again is folded, and a flood of calls that differ in numbers only; a few of these stand by themselves. */
function foldsOf(calls) {
  const alike = new Map();
  for (const call of calls) alike.set(call.same, (alike.get(call.same) ?? 0) + 1);
  const folds = new Map();
  for (const call of calls) {
    const name = alike.get(call.same) >= FLOOD ? call.same : `${call.same} ${textOf(call.summary.preview)}`;
    if (!folds.has(name)) folds.set(name, []);
    folds.get(name).push(call.id);
  }
  return [...folds.values()];
}

function byUrgency(calls) {
  const urgency = (call) => (call.expires_at ? millisecondsTo(call.expires_at) : Infinity) / Math.max(call.score, 1);
  return calls.map((call) => [urgency(call), call]).sort(([one], [other]) => one - other || 0).map(([, call]) => call);
}

function part(name) {
  return el("section", { class: `group ${name}` }, el("div", { class: "group-head" }, el("h2", {})), el("ul", {}));
}

/** Put items into a part of the list. */
function fill(node, title, extra, items) {
  const [head, list] = node.children;
  if (head.firstChild.textContent !== title) head.firstChild.textContent = title;
  sync(head, [head.firstChild, ...extra]);
  sync(list, items);
}
