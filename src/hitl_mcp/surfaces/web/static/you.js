// Your account: the passkeys that sign for you, and where you are signed in. Whoever looks after the others sees all.

import { get, post } from "./api.js";
import { announce, el } from "./dom.js";
import { Sheet } from "./figures.js";
import { enrol, remove, whyNone } from "./passkeys.js";
import { atClock } from "./time.js";

const HOW = { link: "by a link", passkey: "with a passkey" };

export class YouView extends Sheet {
  constructor(root, page) {
    super(root, page, "You");
  }

  async read() {
    const [me, { passkeys }, { sign_ins: signIns }] = await Promise.all([get("api/me"), get("api/passkeys"), get("api/sign-ins")]);
    Object.assign(this.page.me() ?? {}, me); // the page's offer of a passkey goes by it
    return () => this.body.replaceChildren(
      el("h2", { class: "sentence" }, `You are ${me.reviewer}`),
      el("p", { class: "muted prose" }, me.every_role ? "You have every role." : me.roles.length ? `Your roles: ${me.roles.join(", ")}.` : "You have no roles."),
      this.passkeysCard(me, passkeys),
      this.signInsCard(signIns));
  }

  passkeysCard(me, passkeys) {
    const why = me.passkeys.why_not ?? whyNone();
    const add = el("button", { type: "button", id: "passkey-add", onclick: () => this.act(add, () => this.add()) }, passkeys.length ? "Add another" : "Add a passkey");
    this.step = el("p", { role: "status" });
    this.told = el("p", { class: "problem", role: "alert", id: "passkey-told" });
    const rows = passkeys.map((one) => {
      const gone = el("button", { type: "button", class: "quiet", onclick: () => this.act(gone, () => this.take(one, passkeys.length)) }, "Remove");
      return el("li", { class: "account-row passkey-row" },
        el("div", {}, el("strong", {}, one.label), el("div", { class: "muted small" }, `added ${atClock(one.created_at)}, ${one.last_used_at ? `used ${atClock(one.last_used_at)}` : "not used yet"}`),
          el("div", { class: "muted small" }, "fingerprint ", el("code", {}, one.fingerprint)),
          one.usable ? null : el("div", { class: "warn small" }, `made for ${one.made_for}: it cannot be used at this address`)),
        gone);
    });
    return el("section", { class: "card", "aria-label": "Passkeys" },
      el("div", { class: "card-head" }, el("h3", {}, "Passkeys"), why ? null : add),
      el("p", { class: "muted prose" }, "With a passkey you sign in without a link, and your verdicts are signed by your device: exactly this call, exactly these bytes. Some calls ask for that."),
      why ? el("p", { class: "warn" }, `None can be used here: ${why}.`) : null,
      this.step, this.told,
      el("ul", { class: "account" }, ...rows));
  }

  async add() {
    const made = await enrol(() => new Promise((go) => {
      const sign = el("button", { type: "button", id: "passkey-confirm", onclick: go }, "Confirm with a passkey you have");
      this.step.replaceChildren("One more step: a passkey that you have says yes to the new one. ", sign);
      sign.focus();
    }));
    announce(`Passkey added: ${made.label}.`);
    this.page.decided();
  }

  async take(one, count) {
    if (count === 1 && !confirm("This is your only passkey. Without one you cannot approve calls that ask for it. Remove it?")) return;
    await remove(one.id);
    announce("Passkey removed.");
  }

  signInsCard(signIns) {
    const rows = signIns.map((one) => {
      const end = el("button", { type: "button", class: "quiet", onclick: () => this.act(end, () => post(`api/sign-ins/${encodeURIComponent(one.id)}/end`)) }, one.current ? "Sign out" : "End");
      return el("li", { class: "account-row sign-in-row" },
        el("div", {}, el("strong", {}, one.reviewer), ` ${one.label}${one.current ? ", here" : ""}`,
          el("div", { class: "muted small" }, `${HOW[one.assurance] ?? one.assurance}, seen ${atClock(one.last_seen_at)}, until ${atClock(one.expires_at)}`)),
        end);
    });
    return el("section", { class: "card", "aria-label": "Sign-ins" },
      el("div", { class: "card-head" }, el("h3", {}, "Signed in")),
      el("ul", { class: "account" }, ...rows));
  }

  /** Do something with the button off; then look again, or say why it was not done. */
  async act(button, what) {
    button.setAttribute("disabled", "");
    this.told.textContent = "";
    this.step.replaceChildren();
    try {
      await what();
    } catch (error) {
      if (error.status === 401) return this.page.failed(error);
      button.removeAttribute("disabled");
      this.step.replaceChildren();
      return void (this.told.textContent = /[.!?]$/.test(error.message) ? error.message : `Not done: ${error.message}.`);
    }
    await this.refresh();
  }
}
