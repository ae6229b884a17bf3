// Choosing several calls of one tool from the list, to answer them together. Which may be is the gateway's to say.

import { announce, el, textOf } from "./dom.js";

const MOST = 50; // as many as the gateway takes in one answer

export class Choosing {
  /** `limit()` is the score below which calls may be answered together; 0 where they never may. */
  constructor({ changed, limit }) {
    this.changed = changed;
    this.limit = limit;
    this.isOn = false;
    this.chosen = new Map();
    this.button = el("button", { type: "button", class: "quiet choose", "aria-pressed": "false", onclick: () => this.switch(!this.isOn) }, "Choose", el("span", { class: "sr" }, " several"));
    this.told = el("p", { role: "status" });
    this.go = el("a", { class: "button" }, "Review them together");
    this.node = el("div", { class: "chosen", hidden: true }, this.told, el("div", { class: "buttons-small" },
      el("button", { type: "button", class: "quiet", onclick: () => this.switch(false) }, "Cancel"), this.go));
  }

  switch(on) {
    this.isOn = on && this.limit() > 0;
    this.chosen.clear();
    this.tell();
    this.changed();
  }

  end() {
    this.isOn = false;
    this.chosen.clear();
    this.tell();
  }

  /** By the keyboard: the first time it begins, then each time it chooses or leaves out `call`. */
  toggle(call) {
    if (!this.isOn) this.switch(true);
    if (!this.isOn) return announce("Calls cannot be answered together here.");
    if (!call) return;
    const why = this.whyNot(call);
    if (why) return announce(why);
    if (!this.chosen.delete(call.id)) this.chosen.set(call.id, call);
    this.tell();
    this.changed();
  }

  whyNot(call) {
    const [first] = this.chosen.values();
    if (this.chosen.has(call.id)) return "";
    if (call.status !== "held") return "It does not wait any more.";
    if (call.score >= this.limit()) return `Calls of ${this.limit()} points and more are answered one by one.`;
    if (first && first.name !== call.name) return "Only calls of one tool are answered together.";
    return this.chosen.size >= MOST ? `${MOST} at most.` : "";
  }

  boxFor(id) {
    return el("input", { type: "checkbox", class: "box", id: `box-${id}` });
  }

  show(box, call) {
    const why = this.whyNot(call);
    box.checked = this.chosen.has(call.id);
    box.disabled = Boolean(why);
    box.title = why;
    box.setAttribute("aria-label", `Choose ${textOf(call.summary.what)} by ${textOf(call.summary.agent)}, ${call.score} points`);
    box.onchange = () => this.toggle(call);
  }

  /** What was settled meanwhile is chosen no more. */
  keep(calls) {
    for (const id of this.chosen.keys()) if (calls.get(id)?.status !== "held") this.chosen.delete(id);
    this.tell();
  }

  tell() {
    const [first] = this.chosen.values();
    this.button.hidden = !this.limit();
    this.button.setAttribute("aria-pressed", String(this.isOn));
    this.node.hidden = !this.isOn;
    const text = first ? `${this.chosen.size} of ${textOf(first.summary.what)}` : `Choose calls of one tool, below ${this.limit()} points.`;
    if (this.told.textContent !== text) this.told.textContent = text;
    this.go.hidden = !first;
    this.go.href = `#batch=${[...this.chosen.keys()].join(",")}`;
  }
}
