// The tools that are blocked: what changed in each since it was accepted. Accepting is the operator's, at the terminal.

import { get, Refused } from "./api.js";
import { el, segments } from "./dom.js";
import { atClock } from "./time.js";

const SIGNS = { same: " ", gone: "−", new: "+", skipped: "…" };
const FIRST_SIGHT = "first sight"; // who accepted what nobody was asked about
const WORDS = { gone: "gone: ", new: "new: " };

export class ToolsView {
  constructor(root) {
    this.root = root;
    this.isOpen = false;
  }

  close() {
    this.isOpen = false;
  }

  async open() {
    if (this.isOpen) return;
    this.isOpen = true;
    this.root.replaceChildren(el("p", { class: "empty" }, "Loading what changed…"));
    await this.refresh();
  }

  /** Look again: a tool may have been accepted, or another one have changed. */
  async refresh() {
    if (!this.isOpen) return;
    try {
      const { tools } = await get("api/tools/changed");
      if (this.isOpen) this.show(tools);
    } catch (error) {
      if (error instanceof Refused && error.status === 401) throw error;
      if (this.isOpen) this.root.replaceChildren(el("p", { class: "empty", role: "alert" }, `This cannot be shown: ${error.message}.`));
    }
  }

  show(tools) {
    const text = tools.length
      ? "Nobody can call these tools until an operator accepts what they are now. Agents are still shown what was accepted."
      : "Every tool is as it was accepted.";
    this.root.replaceChildren(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Tools that changed" },
      el("div", { class: "sheet" },
        el("a", { class: "back", href: "#" }, "‹ All calls"),
        el("h2", { class: "sentence" }, "Tools that changed"), el("p", { class: "muted" }, text),
        ...tools.map(card))));
  }
}

function card(tool) {
  const { difference } = tool;
  const said = tool.accepted_at ? `Accepted ${atClock(tool.accepted_at)}, ${tool.accepted_by === FIRST_SIGHT ? "at first sight" : `by ${tool.accepted_by}`}` : "Accepted";
  const since = tool.changed_at ? ` Changed ${atClock(tool.changed_at)}.` : "";
  const facts = tool.state === "tampered" ? "What was accepted is not known any more: all that it offers is shown as new." : `${said}.${since}`;
  return el("section", { class: "card change" },
    el("div", { class: "card-head" }, el("h3", {}, tool.name), el("span", { class: "pill failed" }, tool.state),
      el("span", { class: "muted" }, `${difference.gone} gone, ${difference.new} new`)),
    el("p", { class: "muted" }, facts),
    el("div", { class: "lines diff" }, ...difference.lines.map(line)),
    difference.whole ? null : el("p", { class: "warn" }, "Cut here: the definitions are too long to be shown whole."),
    el("p", { class: "muted" }, "To accept exactly this, on the gateway's machine:"),
    el("pre", { tabindex: "0" }, el("code", {}, `hitl-mcp tools accept ${tool.name}`)));
}

function line({ sign, depth, skipped, segments: list }) {
  return el("div", { class: `line ${sign}`, "--depth": String(Math.min(depth, 12)) },
    el("span", { class: "no", "aria-hidden": "true" }, SIGNS[sign]),
    el("span", { class: "tx" }, WORDS[sign] ? el("span", { class: "sr" }, WORDS[sign]) : null,
      sign === "skipped" ? el("span", { class: "s note" }, `${skipped} lines are the same`) : segments(list)));
}
