// The tools that agents use: how each stands, how often it was asked for, and how that was answered.

import { get } from "./api.js";
import { el, segments } from "./dom.js";
import { commonFigures, figure, figures, lasting, LastCalls, nameLink, percent, Sheet, statusBar, table, total, when } from "./figures.js";

const PINS = { accepted: "as accepted", new: "not seen by the gateway yet", changed: "blocked: it changed", absent: "not offered now", tampered: "blocked: what was accepted is not known any more" };
const inWords = (pin) => PINS[pin] ?? pin ?? "not a tool of an upstream";
const isBlocked = (tool) => tool.pin === "changed" || tool.pin === "tampered";

export class UsedToolsView extends Sheet {
  constructor(root, page) {
    super(root, page, "Tools");
  }

  async read() {
    const { tools } = await get("api/used-tools");
    return () => this.body.replaceChildren(
      el("h2", { class: "sentence" }, "Tools"),
      el("p", { class: "muted" }, "What agents asked for in the last seven days. ", el("a", { href: "#tools" }, "Tools that changed")),
      tools.length ? table("Figures of tools", ["Tool", "Calls", "Open", "Held", "Approvals of answers", "Answered within", "Last call"],
        tools.map((tool) => [
          el("span", {}, nameLink("used", tool), isBlocked(tool) ? el("span", { class: "pill failed" }, "blocked") : null),
          String(total(tool.by_status)), String(tool.open ?? 0), heldShare(tool), percent(tool.approval_share), lasting(tool.median_answer_seconds), when(tool.last_at),
        ])) : el("p", { class: "empty" }, "No tool was asked for yet."));
  }
}

export class UsedToolView extends Sheet {
  constructor(root, page) {
    super(root, page, "Tool");
    this.nothing = "Nobody asked for a tool of this name yet.";
    this.calls = new LastCalls("name");
  }

  async read(params) {
    const name = params.get("used");
    const [tool, showCalls] = await Promise.all([get(`api/used-tools/${encodeURIComponent(name)}`), this.calls.read(name)]);
    return () => {
      showCalls();
      const { effects = {} } = tool;
      const at = this.body.contains(document.activeElement) ? document.activeElement : null;
      this.body.replaceChildren(
        el("a", { class: "back", href: "#used" }, "‹ Tools"),
        el("div", { class: "title" }, el("h2", { class: "sentence" }, "Tool ", el("span", { class: "name" }, segments(tool.shown))),
          isBlocked(tool) ? el("span", { class: "pill failed" }, "blocked") : null),
        el("p", { class: "muted" }, `Its definition: ${inWords(tool.pin)}. `, isBlocked(tool) ? el("a", { href: "#tools" }, "See what changed") : null),
        figures(...commonFigures(tool), figure(lasting(tool.median_answer_seconds), "until an answer, in the middle")),
        el("section", { class: "card" }, el("h3", {}, "What the policy said"),
          el("p", {}, `It let ${effects.allow ?? 0} run at once, held ${effects.hold ?? 0} for people, and denied ${effects.deny ?? 0}.`),
          el("h3", {}, "How its calls stand"), statusBar(tool.by_status)),
        this.calls.node, el("p", {}, el("a", { class: "onward", href: `#queue&tool=${encodeURIComponent(name)}` }, "What of it waits")));
      at?.focus({ preventScroll: true });
    };
  }
}

function heldShare({ effects = {} }) {
  const sum = total(effects);
  return sum ? percent((effects.hold ?? 0) / sum) : "–";
}
