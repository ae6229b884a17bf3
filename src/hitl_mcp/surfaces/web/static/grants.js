// Grants: the list of those that serve calls and those that ended, and the dialog that gives one on a held call.

import { get, post, Refused } from "./api.js";
import { Armed } from "./arming.js";
import { announce, el, segments } from "./dom.js";
import { atClock, tick } from "./time.js";
import { dialog } from "./verdicts.js";

const PAUSE_MS = 350; // After this without typing the gateway is asked what it would have matched.
const MATCHED_SHOWN = 12;
const OPS = {
  equals: "is", one_of: "is one of (one a line)", starts_with: "starts with", ends_with: "ends with", at_most: "is at most", at_least: "is at least",
  domain_in: "is in the domain (one a line)",
};
const TIMES = [[15, "15 minutes"], [60, "1 hour"], [240, "4 hours"], [480, "8 hours"], [1440, "24 hours"]];

export class GrantsView {
  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.isOpen = false;
  }

  close() {
    this.isOpen = false;
    this.dialog?.close();
    this.root.replaceChildren();
  }

  async open() {
    if (this.isOpen) return;
    this.isOpen = true;
    this.root.replaceChildren(el("p", { class: "empty" }, "Loading the grants…"));
    await this.refresh();
  }

  async refresh() {
    if (!this.isOpen) return;
    try {
      const [live, ended] = await Promise.all(["live", "ended"].map((state) => get(`api/grants?state=${state}`)));
      if (this.isOpen) this.show(live.grants, ended.grants);
    } catch (error) {
      if (!(error instanceof Refused) || error.status === 401) throw error;
      if (this.isOpen) this.root.replaceChildren(el("p", { class: "empty", role: "alert" }, `This cannot be shown: ${error.message}.`));
    }
  }

  show(live, ended) {
    const said = JSON.stringify([live, ended]);
    if (said === this.said && this.root.querySelector(".grants")) return;
    this.said = said;
    const scrolled = this.root.querySelector(".scroll")?.scrollTop ?? 0;
    const text = live.length
      ? "Calls that fit one of these run without anyone being asked. A grant approves a class of calls: nobody looks at them."
      : "There is no grant: every held call waits for people.";
    const scroller = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Grants" },
      el("div", { class: "sheet grants" },
        el("h2", { class: "sentence" }, "Grants"), el("p", { class: "muted" }, text),
        ...live.map((grant) => this.card(grant)),
        ended.length ? el("h2", { class: "sentence" }, "Ended") : null,
        ...ended.map((grant) => this.card(grant))));
    this.root.replaceChildren(scroller);
    scroller.scrollTop = scrolled;
    tick(this.root);
  }

  card(grant) {
    const { shown } = grant;
    const live = grant.state === "live";
    return el("section", { class: "card grant", "data-grant": grant.id },
      el("div", { class: "card-head" }, el("h3", {}, segments(shown.tool)), el("span", { class: live ? "pill approved" : "pill" }, live ? "live" : "ended"),
        el("span", { class: "uses" }, `${grant.used} of ${grant.uses} used`),
        live ? el("span", { class: "until", "data-until": grant.expires_at, title: grant.expires_at }) : null,
        live ? el("button", { type: "button", class: "quiet danger revoke", onclick: () => this.askRevoke(grant) }, "Revoke") : null),
      el("p", {}, "For ", segments(shown.agent), ", where"),
      terms(shown.conditions),
      live ? null : el("p", { class: "ended" }, "Ended ", atClock(grant.ended_at), ": ", segments(shown.ended_why ?? []), "."),
      grant.reason ? el("p", { class: "muted" }, "Why: ", segments(shown.reason)) : null,
      el("p", { class: "muted" }, "Given by ", segments(shown.given_by), `, ${atClock(grant.given_at)}, on `,
        el("a", { href: `#call=${encodeURIComponent(grant.call_id)}` }, grant.call_id), ". ", el("span", { class: "id" }, grant.id)));
  }

  askRevoke(grant) {
    const reason = el("input", { type: "text", id: "revoke-reason", maxlength: "2000" });
    const problem = el("p", { class: "problem", role: "alert", hidden: true });
    const revoke = async () => {
      try {
        await post(`api/grants/${encodeURIComponent(grant.id)}/revoke`, { reason: reason.value.trim() });
        announce("Revoked. It serves no further call.");
        this.dialog.close();
        this.page.decided();
      } catch (error) {
        if (!(error instanceof Refused) || error.status === 401) return this.page.failed(error);
        problem.hidden = false;
        problem.textContent = error.status ? `${error.message}.` : "No answer came.";
      }
      await this.refresh().catch(this.page.failed);
    };
    this.dialog = dialog({ id: "revoke", "aria-labelledby": "revoke-title" },
      el("h2", { id: "revoke-title" }, "Revoke this grant"),
      el("p", {}, "From now on such calls wait for people again. One that it approved and that has not started does not run; one that runs goes on."),
      el("label", { for: "revoke-reason" }, "Why? It stands on record."), reason, problem,
      el("div", { class: "dialog-actions" }, el("button", { type: "button", onclick: () => this.dialog.close() }, "Keep it"),
        el("button", { type: "button", id: "revoke-send", class: "danger send", onclick: revoke }, "Revoke")));
    reason.focus();
  }
}

const terms = (conditions) => (conditions.length
  ? el("ul", { class: "terms" }, ...conditions.map((condition) => el("li", {}, segments(condition))))
  : el("p", {}, "it carries no argument"));

/** One condition of the dialog. A value is kept as text: only the gateway makes a number of one. */
class Row {
  constructor(suggestion, number, onchange) {
    this.path = suggestion.path;
    this.first = suggestion.value_json;
    this.secret = this.first === null;
    this.onchange = onchange;
    this.texts = textsOf(this.first);
    this.on = el("input", { type: "checkbox", id: `term-${number}`, checked: !this.secret, disabled: this.secret, onchange: () => this.changed() });
    this.op = el("select", { "aria-label": `how ${this.path} is compared`, disabled: this.secret, onchange: () => this.turn() },
      ...Object.entries(OPS).map(([op, words]) => el("option", { value: op }, words)));
    this.value = el("textarea", { rows: "1", class: "term-value", "aria-label": `value for ${this.path}`, spellcheck: "false", disabled: this.secret, oninput: () => this.changed() });
    this.value.value = this.secret ? "" : this.textFor("equals");
    this.says = el("p", { class: "term-says small" }, segments(suggestion.shown));
    this.node = el("li", { class: "term", "data-path": this.path },
      el("label", { for: `term-${number}`, class: "term-path" }, this.on, el("code", {}, visiblePath(suggestion))), this.op, this.value, this.says);
  }

  get isText() {
    return this.texts !== null;
  }

  /** What stands in the field when an operator is chosen: what the call has, as that operator wants it. */
  textFor(op) {
    if (op === "one_of") return this.isText ? this.texts.join("\n") : this.first;
    if (op === "equals") return this.first.startsWith('"') ? this.texts[0] : this.first;
    const text = this.texts?.[0] ?? this.first;
    const domain = text.includes("@") ? text.slice(text.lastIndexOf("@") + 1) : null;
    if (op === "ends_with") return domain ? `@${domain}` : text;
    if (op === "domain_in") return domain ?? (URL.canParse(text) ? new URL(text).hostname : text);
    return text;
  }

  turn() {
    this.value.value = this.textFor(this.op.value);
    this.changed();
  }

  changed() {
    const on = this.on.checked;
    this.node.classList.toggle("off", !on);
    this.op.disabled = this.value.disabled = !on;
    if (!on) this.says.replaceChildren(el("strong", {}, "any value"));
    this.onchange();
  }

  condition() {
    const op = this.op.value;
    const text = this.value.value;
    const each = text.split("\n").filter((line) => line !== "");
    const json = op === "starts_with" || op === "ends_with" ? JSON.stringify(text)
      : op === "domain_in" ? JSON.stringify(each.map((line) => line.trim()))
      : op === "one_of" ? `[${each.map((line) => (this.isText ? JSON.stringify(line) : line)).join(",")}]`
      : op === "equals" && this.first.startsWith('"') ? JSON.stringify(text) : text.trim();
    return { path: this.path, op, value_json: json };
  }
}

/** The texts of a JSON value that is a text or a list of nothing but texts; null for any other. */
function textsOf(json) {
  if (json === null || !/^["[]/.test(json)) return null;
  const value = JSON.parse(json);
  const texts = Array.isArray(value) ? value : [value];
  return texts.length && texts.every((one) => typeof one === "string") ? texts : null;
}

const visiblePath = (suggestion) => segments(suggestion.shown.slice(0, suggestion.shown.findIndex((one) => one.kind === "plain")));

/**
 * Give a grant on the held call of `data` (as `shown` says it), then have this call approved: `approve()` does that, with
 * the digest that was shown. Whoever opens it has seen the call to its end. Gives the dialog.
 */
export function openGrantDialog(data, { approve, failed }) {
  return new Giving(data, approve, failed).node;
}

class Giving {
  constructor(data, approve, failed) {
    Object.assign(this, { data, approve, failed, rows: [], turn: 0, good: false, busy: false });
    this.place = el("ul", { class: "terms-form" });
    this.found = el("div", { class: "matched", role: "status" }, "Loading…");
    this.problem = el("p", { class: "problem", role: "alert", hidden: true });
    this.uses = el("input", { type: "number", id: "grant-uses", min: "1", max: "1000", value: "10", oninput: () => this.show() });
    this.minutes = el("select", { id: "grant-minutes" }, ...TIMES.map(([value, words]) => el("option", { value: String(value), selected: value === 60 }, words)));
    this.reason = el("input", { type: "text", id: "grant-reason", maxlength: "2000" });
    this.button = el("button", { type: "button", id: "grant-send", class: "approve", onclick: () => this.give() }, "Grant and approve this call");
    this.node = dialog({ id: "grant", "aria-labelledby": "grant-title" },
      el("h2", { id: "grant-title" }, "Let calls like this run"),
      el("p", { class: "muted" }, segments(data.sentence)),
      el("p", {}, "Calls of this agent to this tool, as the tool is now, run without anyone being asked where all of this is so. Nobody will look at them."),
      this.place,
      el("p", { class: "muted small" }, "An argument that this call does not have is never let through. Whatever else the policy asks of a call, it waits for people."),
      el("div", { class: "bounds" },
        el("label", { for: "grant-uses" }, "At most so many calls"), this.uses,
        el("label", { for: "grant-minutes" }, "For"), this.minutes,
        el("label", { for: "grant-reason" }, "Why? It stands on record."), this.reason),
      el("h3", {}, "What it would have matched"), this.found, this.problem,
      el("div", { class: "dialog-actions" }, el("button", { type: "button", id: "grant-cancel", onclick: () => this.node.close() }, "Cancel"), this.button));
    this.armed = new Armed(this.button);
    this.node.addEventListener("close", () => {
      clearTimeout(this.timer);
      this.armed.end();
    });
    this.check(true);
  }

  soon() {
    this.good = false;
    this.show();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(false), PAUSE_MS);
  }

  conditions() {
    return this.rows.filter((row) => row.on.checked).map((row) => row.condition());
  }

  /** Ask what these conditions would have matched; the first time also which there are to begin with. */
  async check(first) {
    const mine = (this.turn += 1);
    try {
      const said = await post("api/grants/check", { call_id: this.data.id, ...(first ? {} : { conditions: this.conditions() }) });
      if (mine !== this.turn || !this.node.open) return;
      if (first) this.begin(said.suggested);
      this.tell(said);
    } catch (error) {
      if (!(error instanceof Refused) || error.status === 401) return this.failed(error);
      if (mine === this.turn) this.found.replaceChildren(el("p", { class: "warn" }, error.status ? `${error.message}.${error.body.help ? ` ${error.body.help}.` : ""}` : "No answer came. Change something to try again."));
    }
  }

  begin(suggested) {
    this.rows = suggested.map((suggestion, number) => new Row(suggestion, number, () => this.soon()));
    this.place.replaceChildren(...this.rows.map((row) => row.node));
    if (this.rows.some((row) => row.secret)) this.soon(); // what is secret is in none of the conditions
  }

  tell(said) {
    const on = this.rows.filter((row) => row.on.checked);
    said.conditions.forEach((condition, index) => on[index]?.says.replaceChildren(segments(condition)));
    this.good = !said.problem && (on.length > 0 || this.rows.length === 0);
    const { matched, of } = said;
    this.found.replaceChildren(...[
      on.length || !this.rows.length ? null : el("p", { class: "warn" }, "Say at least of one argument what it must be."),
      said.problem ? el("p", { class: "warn" }, "It would not serve this very call: ", said.problem, ".") : null,
      el("p", { class: "count-of" }, `${matched.length} of the last ${of} calls of this tool by this agent.`),
      el("ul", { class: "earlier" }, ...matched.slice(0, MATCHED_SHOWN).map((call) => el("li", {},
        el("span", { class: `pill ${call.status}` }, call.status), el("span", { class: "preview" }, segments(call.summary.preview)),
        el("time", { class: "muted", datetime: call.created_at }, atClock(call.created_at))))),
      matched.length > MATCHED_SHOWN ? el("p", { class: "muted small" }, `and ${matched.length - MATCHED_SHOWN} more`) : null,
    ].filter(Boolean));
    this.show();
  }

  show() {
    this.armed.setAble(this.good && !this.busy && this.uses.validity.valid && this.uses.value !== "");
  }

  async give() {
    if (!this.good || this.busy || !this.armed.isReady()) return;
    this.busy = true;
    this.show();
    try {
      await post("api/grants", {
        call_id: this.data.id, digest: this.data.digest, conditions: this.conditions(), uses: Number(this.uses.value),
        minutes: Number(this.minutes.value), reason: this.reason.value.trim(),
      });
      announce("The grant is given.");
      this.node.close();
      this.approve();
    } catch (error) {
      if (!(error instanceof Refused) || error.status === 401) return this.failed(error);
      this.busy = false;
      this.problem.hidden = false;
      this.problem.textContent = error.status ? `Not given: ${error.message}.` : "No answer came, so nobody knows whether it was given. The grants page says.";
      this.show();
    }
  }
}
