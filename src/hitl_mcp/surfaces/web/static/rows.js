// One call as one row of a list, and how rows are put on screen without disturbing those that stay.

import { el, segments } from "./dom.js";
import { atClock, tick } from "./time.js";

const STATUS_WORDS = {
  held: "held", approved: "approved", running: "running", unknown: "outcome unknown", succeeded: "ran", failed: "failed",
  denied: "denied", rejected: "rejected", expired: "expired", withdrawn: "withdrawn", invalidated: "no longer valid",
  released: "released, the agent runs it itself",
};

function noteOf(call) {
  const { missing } = call.summary;
  if (call.status === "held") return missing > 1 || call.verdicts.length ? `needs ${missing} more` : "needs approval";
  if (call.status === "succeeded" && call.decision === "allow") return "ran, allowed by the policy";
  if (call.status === "succeeded" && call.grant) return "ran on a grant";
  return call.runs_elsewhere && call.status === "approved" ? "approved, until the agent asks again" : STATUS_WORDS[call.status];
}

function partsOf(call) {
  return [
    el("span", { class: "score", "--score": String(call.score) }, el("span", { class: "sr" }, "score "), String(call.score)),
    el("span", { class: "what" }, call.summary.critical && call.status === "held" ? el("strong", { class: "critical" }, "critical") : null, segments(call.summary.what)),
    call.status === "held" && call.expires_at ? el("span", { class: "when", "data-until": call.expires_at })
      : el("time", { class: "when", datetime: call.changed_at }, atClock(call.changed_at)),
    el("span", { class: "who" }, segments(call.summary.agent), el("span", { class: "state" }, noteOf(call))),
    el("span", { class: "preview" }, segments(call.summary.preview)),
  ];
}

/** Rows by id: an element lives as long as its row does, so that focus, and a press that has begun, stay with it. */
export class Rows {
  constructor() {
    this.made = new Map();
    this.current = null;
  }

  /** The link to a call; made anew inside only where what it says has changed. */
  link(call) {
    let made = this.made.get(call.id);
    if (!made) {
      made = { node: el("a", { href: `#call=${encodeURIComponent(call.id)}`, "data-id": call.id }), said: "" };
      this.made.set(call.id, made);
    }
    const said = `${call.version} ${call.status} ${new Date().toDateString()}`;
    if (made.said !== said) {
      made.said = said;
      made.node.className = `row ${call.status}${call.summary.critical ? " is-critical" : ""}`;
      made.node.replaceChildren(...partsOf(call));
      tick(made.node);
    }
    mark(made.node, call.id === this.current);
    return made.node;
  }

  /** A call as an item of a list, with what else belongs to it before and after the link. */
  item(call, before = [], after = []) {
    const link = this.link(call);
    const made = this.made.get(call.id);
    made.item ??= el("li", {});
    sync(made.item, [...before, link, ...after].filter(Boolean));
    return made.item;
  }

  /** Something of a call's item that lives as long as the item. */
  once(call, name, make) {
    const made = this.made.get(call.id);
    return (made[name] ??= make());
  }

  select(id) {
    this.current = id;
    for (const [one, { node }] of this.made) mark(node, one === id);
  }

  /** Forget the rows that are not on the list any more. */
  keep(ids) {
    for (const id of this.made.keys()) if (!ids.has(id)) this.made.delete(id);
  }
}

function mark(node, current) {
  if (current) node.setAttribute("aria-current", "true");
  else node.removeAttribute("aria-current");
}

/** Make `nodes` the children of `parent`; those that are there already are not touched. */
export function sync(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.childNodes]) if (!wanted.has(child)) child.remove();
  nodes.forEach((node, place) => {
    if (parent.childNodes[place] !== node) parent.insertBefore(node, parent.childNodes[place] ?? null);
  });
}

/** Move the focus along the rows of a list. */
export function moveFocus(root, step, current) {
  const links = [...root.querySelectorAll("a.row")].filter((link) => link.checkVisibility());
  if (!links.length) return;
  const focused = links.indexOf(document.activeElement);
  const from = focused >= 0 ? focused : links.findIndex((link) => link.dataset.id === current);
  const to = from < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(Math.max(from + step, 0), links.length - 1);
  links[to].focus();
  links[to].scrollIntoView({ block: "nearest" });
}
