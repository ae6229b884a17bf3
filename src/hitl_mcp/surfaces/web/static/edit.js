// Approve with edits: a form, what the policy makes of it, and what would be different, before anything is sent.

import { get, post, Refused } from "./api.js";
import { Armed, whenSeen } from "./arming.js";
import { differenceLines } from "./difference.js";
import { el, segments } from "./dom.js";
import { parse, write } from "./exact.js";
import { Form, visible, Wrong } from "./form.js";
import { needRow, scoreBar } from "./score.js";
import { dialog, Typed } from "./verdicts.js";

const PAUSE_MS = 350; // After this without typing the gateway is asked what it makes of it.

export class Edit {
  /** Opens by itself; `send({arguments_json, reason, digest, you})` hands over what was tried and found good. */
  constructor(data, send) {
    this.data = data;
    this.send = send;
    this.tried = null; // what the gateway said last, and of which text
    this.turn = 0;
    this.hint = el("p", { class: "part-hint", role: "status" }, "Loading…");
    this.found = el("div", { class: "found" });
    this.formPlace = el("div", { class: "form-place" });
    this.button = el("button", { type: "button", id: "edit-send", class: "approve", onclick: () => this.give() }, "Approve with edits");
    this.reason = el("textarea", { id: "edit-reason", rows: "2", maxlength: "2000" });
    this.typedPlace = el("div", { class: "typed-place" });
    this.side = el("div", { class: "verdict-on", tabindex: "0", role: "region", "aria-label": "What would change" }, this.found,
      el("label", { for: "edit-reason" }, "Why? The agent is told what was changed, and this."), this.reason);
    this.scroller = el("div", { class: "edit-body", tabindex: "0", role: "region", "aria-label": "The arguments" }, this.formPlace, this.side);
    this.node = dialog({ id: "edit", "aria-labelledby": "edit-title" },
      el("div", { class: "edit-head" }, el("h2", { id: "edit-title" }, "Approve with edits"), el("p", { class: "muted" }, segments(data.sentence))),
      this.scroller,
      el("footer", { class: "actions" }, this.hint, this.typedPlace, el("div", { class: "buttons" },
        el("button", { type: "button", id: "edit-cancel", onclick: () => this.node.close() }, "Cancel"), this.button)));
    this.armed = new Armed(this.button);
    this.node.addEventListener("close", () => this.end());
    this.node.addEventListener("cancel", (event) => this.tried?.dirty && event.preventDefault()); // Escape would lose what was typed
  }

  end() {
    this.armed.end();
    this.stopLooking?.();
    clearTimeout(this.timer);
    this.turn += 1;
  }

  close() {
    this.node.close();
  }

  /** Get the exact bytes and make the form over them. */
  async load() {
    const call = await get(`api/calls/${encodeURIComponent(this.data.id)}`);
    if (call.digest !== this.data.digest || !this.node.open) return this.close();
    this.original = write(parse(call.arguments_json));
    const schema = this.data.schema ? parse(this.data.schema) : null;
    this.form = new Form(schema, parse(call.arguments_json), () => this.changed());
    if (!this.data.schema) this.formPlace.append(el("p", { class: "muted" }, "The tool's schema is not known now; the fields are made from what was asked."));
    this.formPlace.append(this.form.node);
    this.form.node.querySelector("input, textarea, select")?.focus();
    this.say("Change something. Nothing is sent before you approve.");
  }

  say(text) {
    this.hint.textContent = text;
  }

  changed() {
    this.tried = { dirty: true };
    this.showReady();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.try(), PAUSE_MS);
  }

  /** Read the form; ask the gateway for its decision on what stands there. */
  async try() {
    const mine = (this.turn += 1);
    const text = this.textOfForm();
    if (text === null) return;
    if (text === this.original) {
      this.found.replaceChildren();
      return this.say("It is what was asked: nothing is changed.");
    }
    this.say("Asking the policy…");
    try {
      const said = await post(`api/calls/${encodeURIComponent(this.data.id)}/edit`, { digest: this.data.digest, arguments_json: text });
      if (mine === this.turn) this.show(text, said);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (mine !== this.turn) return;
      this.found.replaceChildren(el("p", { class: "problem", role: "alert" }, error.status ? `${error.message}.${error.body.help ? ` ${error.body.help}.` : ""}` : "No answer came. Change something to try again."));
      this.say("It cannot be approved like this.");
    }
  }

  textOfForm() {
    try {
      const text = write(this.form.read());
      this.form.mark([]);
      return text;
    } catch (error) {
      if (!(error instanceof Wrong)) throw error;
      this.form.mark([error]);
      this.found.replaceChildren(problemList([error]));
      this.say("It cannot be approved like this.");
      return null;
    }
  }

  show(text, said) {
    const { decision, problems } = said;
    this.form.mark(problems);
    const good = !problems.length && said.digest !== null && decision !== null && decision.effect !== "deny";
    const end = el("div", { class: "end" });
    this.found.replaceChildren(
      ...(problems.length ? [problemList(problems)] : []),
      ...(decision ? this.decisionOn(decision, said.requirements) : []),
      ...(said.changes ? [el("h3", {}, "What would change"), differenceLines(said.changes)] : []), end);
    const counts = !said.requirements.length || said.requirements.some((need) => ["can", "passkey"].includes(need.you.state));
    this.tried = { dirty: true, text, digest: said.digest, you: said.you, good: good && counts && (said.changes?.whole ?? true), seen: false };
    this.askToType(good ? said.critical?.type : null);
    this.stopLooking?.();
    const alone = getComputedStyle(this.side).overflowY === "auto"; // beside the form, not below it
    this.stopLooking = whenSeen(end, alone ? this.side : this.scroller, () => {
      this.tried.seen = true;
      this.showReady();
    });
    this.showReady();
  }

  decisionOn(decision, requirements) {
    const sum = decision.signals.reduce((total, one) => total + one.points, 0);
    const before = this.data.score.score;
    const same = decision.score === before ? "The score stays the same." : `It was ${before}.`;
    const denied = decision.effect === "deny";
    return [
      denied ? el("p", { class: "problem", role: "alert" }, "The policy denies it like this: ", decision.reasons.map(visible).join("; "), ".") : null,
      el("section", { class: "again" }, el("h3", {}, "What the policy makes of it"),
        ...scoreBar({ score: decision.score, sum, parts: decision.signals.map((one) => ({ ...one, reason: visible(one.reason), error: one.error && visible(one.error) })) }),
        el("p", { class: "muted small" }, same),
        denied ? null : el("ul", { class: "needs" }, ...requirements.map((need) => needRow(need, true)))),
    ].filter(Boolean);
  }

  /** Have typed what a critical call asks for, as it would now be: of an amount the new one. */
  askToType(asked) {
    if (asked?.text === this.typed?.text) return;
    this.typed = asked ? new Typed(asked, () => this.showReady(), () => this.give()) : null;
    this.typedPlace.replaceChildren(...(this.typed ? [this.typed.node] : []));
  }

  isGood() {
    return Boolean(this.tried?.good && this.tried.seen && (!this.typed || this.typed.matches));
  }

  showReady() {
    const { good, seen, text } = this.tried ?? {};
    this.armed.setAble(this.isGood());
    if (!text) return;
    this.say(!good ? "It cannot be approved like this." : !seen ? "Read to the end of what would change." : this.isGood() ? "" : "Type what is asked for to approve.");
  }

  give() {
    if (!this.armed.isReady() || !this.isGood()) return;
    const { text, digest, you } = this.tried;
    const reason = this.reason.value.trim();
    this.node.close();
    this.send({ arguments_json: text, reason, digest, you });
  }
}

const problemList = (problems) => el("div", { class: "problem", role: "alert" }, el("ul", {},
  ...problems.map(({ path, message }) => el("li", {}, path ? el("code", {}, visible(path)) : null, path ? ": " : "", message))));
