// One call: everything needed to decide it, and the two buttons. What it shows comes rendered from the gateway.

import { get, post, Refused } from "./api.js";
import { Armed, whenSeen } from "./arming.js";
import { announce, byId, el, lines, segments, textOf } from "./dom.js";
import { resolveCard } from "./resolve.js";
import { atClock, tick } from "./time.js";

export class CallView {
  /** `actions.decided()` is called after a verdict, `next()` goes to another waiting call, `failed()` takes errors. */
  constructor(root, actions) {
    this.root = root;
    this.actions = actions;
    this.clear();
    byId("reject-cancel").addEventListener("click", () => byId("reject").close());
    byId("reject-send").addEventListener("click", () => this.sendRejection());
    byId("reject-reason").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.sendRejection();
    });
  }

  clear() {
    this.leave();
    this.id = null;
    this.root.replaceChildren(el("p", { class: "empty" }, "Choose a call to see exactly what would run."));
  }

  leave() {
    this.armed?.end();
    this.stopLooking?.();
    this.armed = null;
    this.data = null;
    if (byId("reject").open) byId("reject").close();
  }

  /** Open a call by its id. */
  async open(id) {
    this.leave();
    this.id = id;
    this.busy = false;
    this.root.replaceChildren(el("p", { class: "empty" }, "Loading the call…"));
    await this.load(id, (data) => this.build(data));
  }

  /** Look at the open call again: someone else may have decided it, or it ran. */
  async refresh() {
    if (this.id) await this.load(this.id, (data) => (this.data?.digest === data.digest ? this.show(data) : this.build(data)));
  }

  async load(id, use) {
    try {
      const data = await get(`api/calls/${encodeURIComponent(id)}/shown`);
      if (this.id === id && !(this.data && data.version < this.data.version)) use(data);
    } catch (error) {
      if (this.id !== id) return;
      if (error instanceof Refused && error.status === 401) throw error;
      if (!this.data) this.root.replaceChildren(this.failure(error));
    }
  }

  failure(error) {
    const back = el("a", { class: "button", href: "#" }, "Back to the list");
    const text = error.status === 404 ? "There is no call with this id." : `This call cannot be shown: ${error.message}.`;
    return el("div", { class: "empty" }, el("p", { role: "alert" }, text), back);
  }

  // What stands on the screen. `build` makes it once for each call; `show` puts in what may change.

  build(data) {
    this.leave();
    this.seen = false;
    this.raw = false;
    this.parts = Object.fromEntries(
      ["head", "notice", "needs", "score", "outcome", "previews", "history", "hint"].map((name) => [name, el("div", { class: `part-${name}` })]),
    );
    this.parts.notice.setAttribute("role", "alert");
    this.parts.hint.setAttribute("role", "status");
    this.resolving = resolveCard((happened, evidence) => this.resolve(happened, evidence));
    this.buttons = el("div", { class: "buttons" });
    const end = el("div", { class: "end" });
    const scroller = el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "What would run" },
      el("div", { class: "sheet" }, this.parts.head, this.parts.notice, el("div", { class: "columns" },
        el("div", { class: "column" }, this.parts.outcome, this.resolving, this.argumentsCard(data, end), this.parts.previews, this.claimCard(data)),
        el("div", { class: "column side" }, this.parts.needs, this.parts.score, this.bindingCard(data), this.parts.history),
      )),
    );
    this.root.replaceChildren(scroller, el("footer", { class: "actions" }, this.parts.hint, this.buttons));
    this.scroller = scroller;
    this.data = data;
    this.makeButtons();
    this.show(data);
    this.stopLooking = whenSeen(end, scroller, () => {
      this.seen = true;
      this.showActions();
    });
    scroller.focus({ preventScroll: true });
  }

  show(data) {
    this.data = data;
    this.parts.head.replaceChildren(...this.head(data));
    this.parts.needs.replaceChildren(...this.needsCard(data));
    this.parts.score.replaceChildren(this.scoreCard(data));
    this.parts.outcome.replaceChildren(...this.outcomeCard(data));
    this.resolving.hidden = !data.you.may_resolve; // made once: what somebody is writing stays
    this.parts.previews.replaceChildren(...this.previewCards(data));
    this.parts.history.replaceChildren(this.historyCard(data));
    this.showActions();
    tick(this.root);
  }

  head(data) {
    const until = data.status === "held" ? data.expires_at : data.status === "approved" ? data.run_by : null;
    return [
      el("a", { class: "back", href: "#" }, "‹ All calls"),
      el("p", { class: "facts" },
        el("span", { class: `pill ${data.status}` }, data.status),
        until ? el("span", { class: "until", "data-until": until, title: until }) : null,
        el("span", {}, `${data.score.score} points`),
        ...data.requirements.map((need) => el("span", {}, `${Math.min(need.met, need.quorum)} of ${need.text}`)),
        el("span", { class: "id" }, data.id),
      ),
      el("h2", { class: "sentence" }, segments(data.sentence)),
      data.owner ? el("p", { class: "muted" }, `The agent belongs to ${data.owner}.`) : null,
      data.status === "held" ? null : el("p", { class: `headline ${data.status}` }, data.headline),
      data.closed_reason ? el("div", { class: "muted" }, lines(data.closed_reason)) : null,
      data.erased ? el("p", { class: "muted" }, `${data.erased}.`) : null,
    ].filter(Boolean);
  }

  argumentsCard(data, end) {
    const { arguments: shown, meta } = data;
    const tree = lines(shown.lines, { numbered: true });
    const raw = el("div", { class: "lines raw", hidden: true });
    this.toggle = el("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => this.toggleRaw() }, "Raw JSON");
    this.views = { tree, raw };
    return el("section", { class: "card arguments" },
      el("div", { class: "card-head" },
        el("h3", {}, "Arguments"),
        el("span", { class: "muted" }, `${shown.bytes.toLocaleString("en")} bytes`),
        shown.marks ? el("span", { class: "warn" }, `${shown.marks} ${shown.marks === 1 ? "character" : "characters"} marked`) : null,
        this.toggle,
      ),
      tree, raw,
      meta ? el("div", { class: "meta" }, el("h4", {}, "Sent along with it (_meta)"), lines(meta.lines, { numbered: true })) : null,
      end,
    );
  }

  claimCard(data) {
    if (!data.claim) return null;
    return el("section", { class: "card claim" },
      el("div", { class: "card-head" }, el("h3", {}, "What ", segments(data.agent), " says"), el("span", { class: "warn" }, "its own claim, not checked")),
      lines(data.claim),
    );
  }

  needsCard(data) {
    if (!data.requirements.length) return [];
    const rows = data.requirements.map((need) => {
      const dots = el("span", { class: "dots", "aria-hidden": "true" });
      for (let place = 0; place < need.quorum; place += 1) dots.append(el("span", { class: place < need.met ? "dot met" : "dot" }));
      const names = need.approved_by.length ? `approved by ${need.approved_by.join(", ")}` : "nobody yet";
      const could = !need.done && need.could.length ? `; could: ${need.could.join(", ")}` : "";
      return el("li", {}, el("div", { class: "need" }, el("span", {}, need.text), dots),
        el("div", { class: "muted" }, `${Math.min(need.met, need.quorum)} of ${need.quorum}: ${names}${data.status === "held" ? could : ""}`),
        el("div", { class: "muted small" }, `asked for by ${need.id}`));
    });
    const said = data.verdicts.filter((verdict) => verdict.reason).map((verdict) =>
      el("li", {}, el("div", { class: "muted" }, `${verdict.verdict === "reject" ? "Rejected" : "Approved"} by `, segments(verdict.reviewer), ":"), el("div", { class: "quote" }, lines(verdict.reason))));
    return [el("section", { class: "card needs" }, el("div", { class: "card-head" }, el("h3", {}, "Needs")), el("ul", {}, ...rows, ...said))];
  }

  scoreCard(data) {
    const { score, sum, capped, parts } = data.score;
    const scale = Math.max(100, sum);
    const bar = el("div", { class: "bar-score", role: "img", "aria-label": `${score} of 100 points` },
      ...parts.map((part, place) => el("span", { class: `step-${place % 3}`, "--points": String((part.points / scale) * 100) })));
    const rows = parts.map((part, place) => el("li", {},
      el("span", { class: `swatch step-${place % 3}`, "aria-hidden": "true" }), el("span", { class: "points" }, String(part.points)),
      el("span", {}, segments(part.reason), part.error ? el("span", { class: "warn" }, " could not be evaluated: ", segments(part.error)) : null,
        el("span", { class: "muted small" }, ` ${part.id}`))));
    const { sentence, also, shadows, told } = data.explanation;
    const list = (title, texts) => texts.length
      ? [el("h4", {}, title), el("ul", { class: "rules" }, ...texts.map((text) => el("li", { class: "muted" }, segments(text))))] : [];
    return el("section", { class: "card score-card" },
      el("div", { class: "card-head" }, el("h3", {}, data.requirements.length ? "Why people are asked" : "What the policy said")),
      el("p", { class: "why" }, segments(sentence)),
      also.length ? el("ul", { class: "rules" }, ...also.map((reason) => el("li", {}, segments(reason)))) : null,
      el("p", { class: "total" }, el("strong", {}, String(score)), ` of 100 points${capped ? ` (the sum is ${sum})` : ""}`),
      parts.length ? bar : null, el("ul", { class: "points-list" }, ...rows), ...list("Tried out, not enforced", shadows), ...list("Known before this call", told),
    );
  }

  bindingCard(data) {
    return el("details", { class: "card fold" }, el("summary", {}, el("h3", {}, "What an approval is bound to")),
      el("p", { class: "muted" }, "If one of these changes before it runs, the approval is worth nothing."),
      el("dl", { class: "binding" }, ...data.binding.map((row) => el("div", {}, el("dt", {}, row.name), el("dd", {}, segments(row.value))))));
  }

  previewCards(data) {
    return data.previews.map((preview) => el("section", { class: "card preview" }, el("h3", {}, "Preview, as the upstream says"),
      el("p", { class: "muted" }, "By ", segments(preview.name), preview.waiting ? ": it is being asked for." : "."),
      preview.problem ? lines(preview.problem) : null, preview.result ? lines(preview.result, { numbered: true }) : null));
  }

  outcomeCard(data) {
    const { outcome } = data;
    if (!outcome) return [];
    const facts = `${outcome.executed ? "It was sent" : "Nothing was sent"}, ${atClock(outcome.at)}.`;
    return [el("section", { class: `card outcome ${outcome.status}` }, el("div", { class: "card-head" }, el("h3", {}, "Outcome"), el("span", { class: `pill ${outcome.status}` }, outcome.status)),
      el("p", {}, facts), outcome.detail ? lines(outcome.detail) : null,
      outcome.result ? lines(outcome.result, { numbered: true })
        : outcome.result_bytes !== null ? el("p", { class: "muted" }, `Its result (${outcome.result_bytes.toLocaleString("en")} bytes) is not shown here.`) : null)];
  }

  historyCard(data) {
    return el("details", { class: "card fold" }, el("summary", {}, el("h3", {}, `On record (${data.history.length})`)),
      el("ol", { class: "history" }, ...data.history.map((step) => el("li", {},
        el("time", { datetime: step.at, title: step.time }, atClock(step.at)), el("span", {}, el("strong", {}, step.kind), " by ", segments(step.by),
          step.detail ? el("span", { class: "muted" }, ": ", segments(step.detail)) : null)))));
  }

  toggleRaw() {
    if (!this.views) return;
    this.raw = !this.raw;
    if (!this.views.raw.firstChild) {
      this.views.raw.append(el("div", { class: "line" }, el("span", { class: "tx" }, segments(this.data.arguments.raw))));
    }
    this.views.tree.hidden = this.raw;
    this.views.raw.hidden = !this.raw;
    this.toggle.setAttribute("aria-pressed", String(this.raw));
    this.toggle.textContent = this.raw ? "Tree" : "Raw JSON";
  }

  // Deciding.

  makeButtons() {
    this.reject = el("button", { type: "button", class: "reject", onclick: () => this.askRejection() }, "Reject", el("kbd", { "aria-hidden": "true" }, "r"));
    this.approve = el("button", { type: "button", class: "approve", onclick: () => this.sendApproval() }, "Approve", el("kbd", { "aria-hidden": "true" }, "a"));
    this.next = el("button", { type: "button", class: "next", onclick: () => this.actions.next() }, "Next waiting call");
    this.buttons.append(this.reject, this.next, this.approve);
    this.armed = new Armed(this.approve);
  }

  /** The footer keeps its height and its places whatever is in it. */
  showActions() {
    const { you } = this.data;
    const whole = this.data.arguments.whole && (this.data.meta?.whole ?? true);
    this.reject.hidden = !you.may_reject;
    this.approve.hidden = !you.may_approve;
    this.next.hidden = you.may_approve;
    this.reject.setAttribute("aria-disabled", String(this.busy));
    this.armed.setAble(you.may_approve && whole && this.seen && !this.busy);
    this.parts.hint.textContent = this.busy ? "Sending…"
      : you.may_approve && !whole ? "Too long to be shown whole, so it cannot be approved here."
      : you.may_approve && !this.seen ? "Read to the end of the arguments to approve."
      : you.may_approve ? "" : this.data.status === "held" ? `You cannot approve: ${you.why_not}.` : this.data.headline;
  }

  sendApproval() {
    if (this.data && this.armed.isReady() && !this.busy) this.send("approve", "");
  }

  askRejection() {
    if (!this.data?.you.may_reject || this.busy) return;
    byId("reject-what").textContent = textOf(this.data.sentence);
    byId("reject-reason").value = "";
    byId("reject").showModal();
    byId("reject-reason").focus();
  }

  sendRejection() {
    const reason = byId("reject-reason").value.trim();
    byId("reject").close();
    if (this.data?.you.may_reject && !this.busy) this.send("reject", reason);
  }

  async send(verdict, reason) {
    const { digest } = this.data;
    await this.tell("verdict", { verdict, digest, ...(reason ? { reason } : {}) }, (call) => {
      const open = call.requirements.reduce((sum, need) => sum + Math.max(0, need.quorum - need.met), 0);
      return verdict === "reject" ? "Rejected. It will not run." : call.status === "held" ? `Approved. It needs ${open} more.`
        : call.runs_elsewhere ? "Approved. The agent may run it itself now, once." : "Approved. It runs now.";
    });
  }

  async resolve(happened, evidence) {
    if (!this.data?.you.may_resolve || this.busy) return;
    await this.tell("resolve", { happened, evidence }, () => "Recorded. The agent is told.");
  }

  /** Post something about the open call; `said(call)` is what to announce of the call as it then stands. */
  async tell(what, body, said) {
    const { id } = this.data;
    this.busy = true;
    this.notice();
    this.showActions();
    try {
      announce(said(await post(`api/calls/${encodeURIComponent(id)}/${what}`, body)));
    } catch (error) {
      if (error.status === 401) return this.actions.failed(error);
      if (this.id === id) this.notice(error);
    }
    if (this.id === id) {
      this.busy = false;
      await this.refresh().catch(this.actions.failed);
      if (this.data) this.showActions();
      this.scroller?.focus({ preventScroll: true });
    }
    this.actions.decided();
  }

  /** Say why a verdict was not taken. */
  notice(error) {
    if (!error) return void this.parts.notice.replaceChildren();
    const status = error.body.status ? ` The call is ${error.body.status}.` : "";
    const text = error.status === 0 ? "No answer came, so nobody knows whether it was recorded. What stands here is looked up again."
      : `Not recorded: ${error.message}.${status}`;
    this.parts.notice.replaceChildren(el("p", { class: "problem" }, text));
    announce(text);
  }
}
