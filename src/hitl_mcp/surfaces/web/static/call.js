// One call: everything needed to decide it, and the verdicts. What it shows comes rendered from the gateway.

import { get, post, Refused } from "./api.js";
import { Armed, whenSeen } from "./arming.js";
import { bindingCard, claimCard, historyCard, outcomeCard, previewCards, revisionCards } from "./cards.js";
import { contextCards, contextOf, newsOf, soon } from "./context.js";
import { announce, el, lines, segments } from "./dom.js";
import { Looking } from "./looking.js";
import { resolveCard } from "./resolve.js";
import { needsCard, scoreCard } from "./score.js";
import { tick } from "./time.js";
import { Tree } from "./tree.js";
import { askReassignment, askRejection, Typed } from "./verdicts.js";

const PARTS = ["head", "news", "needs", "score", "outcome", "previews", "context", "revisions", "history", "hint", "notice"];
const BUDGET_TOLD = 10; // More approvals left than this concern nobody.
const NEXT_STILL_MS = 600; // The second half of a double click on Approve must not leave the page.

export class CallView {
  /** `page` is what app.js says. */
  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.close();
  }

  get keys() {
    return {
      a: ["approve; in a critical call, type what it asks for", () => this.sendApproval()],
      r: ["reject, with a reason", () => this.askRejection(false)],
      e: ["approve with edits", () => this.openEdit()],
      m: ["more: a grant, pass on, stop the agent", () => this.openMore()],
      u: ["unfold all long texts", () => this.tree?.unfoldAll()],
      d: ["go to what was not on screen yet", () => this.showRest()],
      v: ["arguments as a tree, or the raw JSON", () => this.toggleRaw()],
      s: ["next waiting call", () => this.page.next()],
    };
  }

  close() {
    this.leave();
    this.id = null;
    this.root.replaceChildren(el("p", { class: "empty" }, "Choose a call to see exactly what would run."));
  }

  leave() {
    this.armed?.end();
    this.stopLooking?.();
    this.looking?.end();
    this.dialog?.close();
    this.armed = this.looking = this.dialog = this.data = this.tree = null;
  }

  /** Open the call that the address names. */
  async open(params) {
    const id = params.get("call");
    this.leave();
    this.id = id;
    this.busy = false;
    this.context = undefined;
    this.root.replaceChildren(el("p", { class: "empty" }, "Loading the call…"));
    const around = contextOf(id);
    around.catch(() => {}); // `soon` tells of it
    await this.load(id, async (data) => {
      const context = await soon(around);
      if (this.id !== id) return;
      if (this.data) this.showAround(id, context); // an event made `refresh` build it meanwhile
      else {
        this.context = context;
        this.build(data);
      }
      if (context === undefined) around.then((late) => this.showAround(id, late)).catch(this.page.failed);
    });
  }

  /** Look at the open call again: someone else may have decided it, or it ran. */
  async refresh() {
    if (this.id) await this.load(this.id, (data) => (this.data?.digest === data.digest ? this.show(data) : this.build(data)));
  }

  async load(id, use) {
    try {
      const data = await get(`api/calls/${encodeURIComponent(id)}/shown`);
      if (this.id === id && !(this.data && data.version < this.data.version)) await use(data);
    } catch (error) {
      if (this.id !== id) return;
      if (!(error instanceof Refused) || error.status === 401) throw error;
      if (!this.data) this.root.replaceChildren(this.failure(error));
    }
  }

  failure(error) {
    const back = el("a", { class: "button", href: "#" }, "Back to the list");
    const text = error.status === 404 ? "There is no call with this id." : `This call cannot be shown: ${error.message}.`;
    return el("div", { class: "empty" }, el("p", { role: "alert" }, text), back);
  }

  // What stands on the screen. `build` makes it once for each call and each edit of it; `show` puts in what may change.

  build(data) {
    const before = this.data;
    this.leave();
    this.seen = this.raw = false;
    this.parts = Object.fromEntries(PARTS.map((name) => [name, el("div", { class: `part-${name}` })]));
    this.parts.notice.setAttribute("role", "alert");
    this.parts.hint.setAttribute("role", "status");
    this.resolving = resolveCard((happened, evidence) => this.resolve(happened, evidence));
    this.data = data;
    this.end = el("div", { class: "end" });
    this.scroller = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "What would run" },
      el("div", { class: data.critical ? "sheet of-critical" : "sheet" }, this.parts.head, this.parts.news, el("div", { class: "columns" },
        el("div", { class: "column" }, this.parts.outcome, this.resolving, this.parts.revisions, this.argumentsCard(data), this.parts.previews, claimCard(data), this.parts.context),
        el("div", { class: "column side" }, this.parts.needs, this.parts.score, bindingCard(data), this.parts.history),
      )));
    this.root.replaceChildren(this.scroller, this.parts.notice, this.footer(data));
    this.parts.revisions.replaceChildren(...revisionCards(data));
    this.put(this.context);
    this.show(data, before);
    if (before) this.say(`${before.digest === data.digest ? "" : "It was edited while you looked: what stands here is new. Read it again."}`, "loud");
    this.lookForEnd();
    if (data.status === "held") this.looking = new Looking(data.id, (also) => this.showLooking(also));
    this.scroller.focus({ preventScroll: true });
  }

  show(data, before = this.data) {
    this.data = data;
    this.parts.head.replaceChildren(...this.head(data));
    this.parts.needs.replaceChildren(...needsCard(data));
    this.parts.score.replaceChildren(scoreCard(data));
    this.parts.outcome.replaceChildren(...outcomeCard(data));
    this.resolving.hidden = !data.you.may_resolve; // made once: what somebody is writing stays
    this.parts.previews.replaceChildren(...previewCards(data));
    this.parts.history.replaceChildren(historyCard(data));
    if (before && before !== data) this.tellOfOthers(before, data);
    if (data.status !== "held") {
      this.looking?.end();
      if (!this.busy && !data.you.may_reject) this.dialog?.close();
    }
    this.showActions();
    tick(this.root);
  }

  /** Say it loudly where somebody else decided while this page was looked at. */
  tellOfOthers(before, data) {
    if (this.busy || before.digest !== data.digest) return;
    if (before.status === "held" && data.status !== "held") this.say(`Decided while you looked. ${data.headline}.`, "loud");
    else if (data.status === "held" && data.verdicts.length > before.verdicts.length) announce("Somebody approved it; it still needs more.");
  }

  showAround(id, context) {
    if (this.id !== id || !this.data || context === undefined) return;
    this.context = context;
    this.put(context, true);
    tick(this.root);
  }

  put(context, late = false) {
    const news = newsOf(context);
    if (late && news) news.classList.add("late");
    this.parts.news.replaceChildren(...(news ? [news] : late ? [el("p", { class: "news late muted" }, "Nothing is new about it.")] : []));
    this.parts.context.replaceChildren(...contextCards(context));
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
        el("span", { class: "also" }, alsoLooking(data.looking)),
      ),
      data.critical && data.status === "held" ? el("p", { class: "critical-why" }, el("strong", {}, "Critical"), `: ${data.critical.why.join(", ")}.`) : null,
      el("h2", { class: "sentence" }, segments(data.sentence)),
      data.about.length ? el("p", { class: "about" }, segments(data.about)) : null,
      data.stopped ? el("p", { class: "muted" }, el("span", { class: "warn" }, segments(data.agent), " is stopped"), " by ", segments(data.stopped.by), ": what it asks for is denied where people would be asked.") : null,
      data.owner ? el("p", { class: "muted" }, `The agent belongs to ${data.owner}.`) : null,
      data.grant ? el("p", { class: "muted" }, "It ran on the grant ", el("a", { href: "#grants" }, data.grant), "; nobody looked at this call before.") : null,
      data.status === "held" ? null : el("p", { class: `headline ${data.status}` }, data.headline),
      data.closed_reason ? el("div", { class: "muted" }, lines(data.closed_reason)) : null,
      data.erased ? el("p", { class: "muted" }, `${data.erased}.`) : null,
    ].filter(Boolean);
  }

  showLooking(names) {
    this.data.looking = names;
    const place = this.root.querySelector(".also");
    const text = alsoLooking(names);
    if (place && place.textContent !== text) place.textContent = text;
  }

  argumentsCard({ arguments: shown, meta }) {
    this.tree = new Tree(shown.lines, () => this.showActions());
    const raw = el("div", { class: "lines raw", hidden: true });
    this.toggle = el("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => this.toggleRaw() }, "Raw JSON");
    this.views = { tree: this.tree.node, raw };
    return el("section", { class: "card arguments" },
      el("div", { class: "card-head" },
        el("h3", {}, "Arguments"),
        el("span", { class: "muted" }, `${shown.bytes.toLocaleString("en")} bytes`),
        shown.marks ? el("span", { class: "warn" }, `${shown.marks} ${shown.marks === 1 ? "character" : "characters"} marked`) : null,
        shown.decoded_marks ? el("span", { class: "warn" }, `${shown.decoded_marks} hidden in what is encoded`) : null,
        this.toggle,
      ),
      this.tree.node, raw,
      meta ? el("div", { class: "meta" }, el("h4", {}, "Sent along with it (_meta)"), lines(meta.lines, { numbered: true })) : null,
      this.end,
    );
  }

  /** The whole of it counts as seen only once all of it was on screen; a fold keeps something back. */
  lookForEnd() {
    this.stopLooking = whenSeen(this.end, this.scroller, () => {
      this.seen = true;
      this.showActions();
    });
  }

  showRest() {
    if (this.data && !this.seen) this.stopLooking.showRest();
  }

  toggleRaw() {
    if (!this.data) return;
    this.raw = !this.raw;
    if (!this.views.raw.firstChild) {
      this.views.raw.append(el("div", { class: "line" }, el("span", { class: "tx" }, segments(this.data.arguments.raw))));
    }
    this.views.tree.hidden = this.raw;
    this.views.raw.hidden = !this.raw;
    this.toggle.setAttribute("aria-pressed", String(this.raw));
    this.toggle.textContent = this.raw ? "Tree" : "Raw JSON";
    this.showActions();
  }

  // Deciding.

  footer(data) {
    const button = (name, text, act, letter) => el("button", { type: "button", class: name, onclick: act }, text, letter ? el("kbd", { "aria-hidden": "true" }, letter) : null);
    this.edit = button("edit", "Edit", () => this.openEdit(), "e");
    this.reject = button("reject", "Reject", () => this.askRejection(false), "r");
    this.undoLeft = el("span", { class: "undo-left" });
    this.undo = button("undo", "Undo approval", () => this.send({ verdict: "reject", reason: "Approval undone." }, "Undone. It will not run."));
    this.undo.append(this.undoLeft);
    this.approve = button("approve", "Approve", () => this.sendApproval(), "a");
    this.next = button("next", "Next waiting call", () => performance.now() - this.nextSince >= NEXT_STILL_MS && this.page.next(), "s");
    this.menu = el("div", { class: "more-list", id: "more-list", popover: "auto" });
    this.more = el("button", { type: "button", class: "more", popovertarget: "more-list" }, "More", el("kbd", { "aria-hidden": "true" }, "m"));
    this.typed = data.critical ? new Typed(data.critical.type, () => this.showActions(), () => this.sendApproval()) : null;
    this.armed = new Armed(this.approve);
    return el("footer", { class: data.critical ? "actions of-call of-critical" : "actions of-call" }, this.parts.hint, this.typed?.node,
      el("div", { class: "tools" }, this.edit, this.more, this.menu),
      el("div", { class: "buttons" }, this.reject, this.undo, this.next, this.approve));
  }

  /** The footer keeps its height and its places whatever is in it. */
  showActions() {
    if (!this.armed) return;
    const { you, status } = this.data;
    const held = status === "held";
    const blocked = this.obstacle();
    const said = document.activeElement;
    this.reject.hidden = !(you.may_reject && held);
    this.undo.hidden = !(you.may_reject && !held);
    if (this.data.starts_at) this.undoLeft.dataset.until = this.data.starts_at;
    this.approve.hidden = !you.may_approve;
    if (this.next.hidden !== you.may_approve || this.nextSince === undefined) this.nextSince = performance.now();
    this.next.hidden = you.may_approve;
    this.showMore(you, held);
    if (this.typed) this.typed.node.hidden = !you.may_approve;
    for (const one of [this.reject, this.undo]) one.setAttribute("aria-disabled", String(this.busy));
    this.edit.hidden = !you.may_approve;
    this.edit.setAttribute("aria-disabled", String(Boolean(blocked) || this.busy));
    this.armed.setAble(you.may_approve && !blocked && !this.busy && (!this.typed || this.typed.matches));
    this.hint(this.busy ? "Sending…"
      : you.may_approve ? blocked ?? (you.budget_left === null || you.budget_left > BUDGET_TOLD ? "" : `You have ${you.budget_left} approvals left this hour.`)
      : held ? `You cannot approve: ${you.why_not}.` : this.data.headline);
    if (said !== document.activeElement || (said?.hidden && this.root.contains(said))) this.scroller.focus({ preventScroll: true });
  }

  /** The line beside the buttons; where something is still to be read, it leads there. */
  hint(text) {
    if (this.parts.hint.dataset.text === text) return;
    this.parts.hint.dataset.text = text;
    const unread = text.includes("read to") || text.startsWith("Read");
    this.parts.hint.replaceChildren(text, ...(unread ? [" ", el("button", { type: "button", class: "quiet rest", onclick: () => this.showRest() }, "Show what is left")] : []));
  }

  /** Why nothing can be approved yet, whatever is typed; null where nothing stands in the way. */
  obstacle() {
    const whole = this.data.arguments.whole && (this.data.meta?.whole ?? true);
    if (!whole) return "Too long to be shown whole, so it cannot be approved here.";
    if (this.data.you.budget_left === 0) return "Your approvals for this hour are spent: it waits for you, or for somebody else.";
    if (!this.raw && !this.tree.whole() && !this.seen) return "Unfold the long texts, and read to the end of the arguments to approve.";
    return this.seen ? null : "Read to the end of the arguments to approve.";
  }

  showMore(you, held) {
    const item = (text, act) => el("button", { type: "button", onclick: () => {
      this.menu.hidePopover();
      act();
    } }, el("span", {}, ...text));
    const items = [];
    if (you.may_grant && you.may_approve) items.push(item(["Grant: let calls like this run"], () => this.openGrant()));
    if (held && this.data.roles.length) items.push(item(["Pass on to a role"], () => this.askReassignment()));
    if (held && you.may_reject) items.push(item(["Reject, and stop ", segments(this.data.agent)], () => this.askRejection(true)));
    this.menu.replaceChildren(...items);
    this.more.hidden = !items.length;
  }

  openMore() {
    if (this.data && !this.more.hidden) this.more.click();
  }

  sendApproval() {
    if (!this.data?.you.may_approve || this.busy) return;
    if (this.armed.isReady() && (!this.typed || this.typed.matches)) this.send({ verdict: "approve" });
    else if (this.typed && !this.typed.matches) this.typed.field.focus();
  }

  askRejection(stop) {
    if (!this.data?.you.may_reject || this.busy || this.dialog?.open) return;
    const mayStop = this.data.status === "held";
    this.dialog = askRejection(this.data, { stop, mayStop }, (answer) => {
      const stopped = answer.stop ? " Its agent is stopped until somebody releases it." : "";
      this.send({ verdict: "reject", ...(answer.reason ? { reason: answer.reason } : {}), ...(answer.stop ? { stop: true } : {}) }, `Rejected. It will not run.${stopped}`);
    });
  }

  askReassignment() {
    if (this.data?.status !== "held" || this.busy || this.dialog?.open) return;
    this.dialog = askReassignment(this.data, ({ role, reason }) =>
      this.tell("reassign", { digest: this.data.digest, role, reason }, () => `Passed on: a reviewer with the role ${role} has to approve it too.`));
  }

  /** Give a grant and approve this call; only where this call could be approved now. */
  async openGrant() {
    if (!this.data?.you.may_grant || this.busy || this.dialog?.open) return;
    const { id } = this.data;
    const blocked = this.obstacle();
    if (blocked) return this.say(blocked);
    if (this.typed && !this.typed.matches) return this.typed.field.focus();
    const { openGrantDialog } = await import("./grants.js").catch(() => ({}));
    if (!openGrantDialog) return this.say("This part of the page could not be loaded.", "problem");
    if (this.id !== id || this.busy || this.dialog?.open || !this.data?.you.may_approve || this.obstacle()) return;
    this.dialog = openGrantDialog(this.data, { approve: () => this.send({ verdict: "approve" }), failed: this.page.failed });
  }

  async openEdit() {
    if (!this.data?.you.may_approve || this.busy || this.dialog?.open || this.obstacle()) return;
    const { id } = this.data;
    const { Edit } = await import("./edit.js").catch(() => ({})); // most calls are never edited, so it comes when asked for
    if (!Edit) return this.say("This part of the page could not be loaded.", "problem");
    if (this.id !== id || this.dialog?.open || !this.data?.you.may_approve) return;
    const edit = new Edit(this.data, ({ arguments_json, reason, digest, you }) =>
      this.send({ verdict: "approve", arguments_json, ...(reason ? { reason } : {}) }, "", { digest, you }));
    this.dialog = edit.node;
    edit.load().catch(this.page.failed);
  }

  /** Hand over a verdict; `said` is what to announce, `approved` what it is about: the call, or what an edit makes of it. */
  async send(verdict, said = "", approved = this.data) {
    if (this.busy) return;
    const { id, data: { digest } } = this;
    const sign = async () => ({ assertion: await (await import("./passkeys.js")).assertionFor(id, { verdict: verdict.verdict, digest: approved.digest }) });
    const needed = verdict.verdict === "approve" && approved.you.passkey === "needed";
    await this.tell("verdict", { ...verdict, digest }, (call) => {
      const open = call.requirements.reduce((sum, need) => sum + Math.max(0, need.quorum - need.met), 0);
      const edited = verdict.arguments_json ? "Approved as you changed it." : "Approved.";
      return said || (call.status === "held" ? `${edited} It needs ${open} more.`
        : call.runs_elsewhere ? `${edited} The agent may run it itself now, once.` : this.data.starts_at ? `${edited} It can still be undone.` : `${edited} It runs now.`);
    }, needed ? sign : null);
  }

  async resolve(happened, evidence) {
    if (!this.data?.you.may_resolve || this.busy) return;
    await this.tell("resolve", { happened, evidence }, () => "Recorded. The agent is told.");
  }

  /** Post something about the open call; `said(call)` is what to say of it then, `sign()` what a passkey adds to it. */
  async tell(what, body, said, sign = null) {
    const { id } = this.data;
    this.busy = true;
    this.say("");
    this.showActions();
    let told = null;
    try {
      const call = await post(`api/calls/${encodeURIComponent(id)}/${what}`, sign ? { ...body, ...(await sign()) } : body);
      told = () => said(call);
    } catch (error) {
      if (error.status === 401) return this.page.failed(error);
      if (!(error instanceof Refused) && !error.isSaid) throw error;
      if (this.id === id) this.say(error.isSaid ? error.message : refusal(error), "problem");
    }
    if (this.id === id) {
      await this.refresh().catch(this.page.failed);
      this.busy = false;
      if (!this.data) return this.page.decided();
      this.showActions();
      if (told) this.say(told(), "done");
      if (told && !this.next.hidden) this.next.focus({ preventScroll: true });
      else this.scroller.focus({ preventScroll: true });
    }
    this.page.decided();
  }

  /** Say what became of a verdict, or what others did, above the buttons: it moves neither them nor the arguments. */
  say(text, kind) {
    this.parts.notice.replaceChildren(...(text ? [el("p", { class: kind }, text)] : []));
    if (text) announce(text);
  }
}

function refusal(error) {
  const status = error.body.status ? ` The call is ${error.body.status}.` : "";
  const help = error.body.help && !status ? ` ${error.body.help[0].toUpperCase()}${error.body.help.slice(1)}.` : "";
  return error.status === 0 ? "No answer came, so nobody knows whether it was recorded. What stands here is looked up again."
    : `Not recorded: ${error.message}.${status}${help}`;
}

const alsoLooking = (names) => (names?.length ? `also looking: ${names.join(", ")}` : "");
