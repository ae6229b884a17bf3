// The questions that a verdict asks: why rejected, whether the agent is to stop, to whom it is passed on.

import { el, segments } from "./dom.js";

/** What is said most often, each telling the agent what to do instead; a click puts it into the field, to be changed. */
const READY = [
  "Not needed. Leave this out and go on.",
  "Wrong recipient or target. Ask the user which it is, then ask again.",
  "Too much at once. Ask for a smaller amount or fewer items.",
  "Ask the user first, and say what they answered when you ask again.",
  "Not now. Tell the user that this was declined, and stop.",
];

/** A dialog made for one question and gone with its answer. Ctrl+Enter in it presses `send`. */
export function dialog(attributes, ...children) {
  const node = el("dialog", attributes, ...children);
  node.addEventListener("close", () => node.remove());
  node.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat) node.querySelector(".send")?.click();
  });
  document.body.append(node);
  node.showModal();
  return node;
}

/** Why it is rejected, and whether the agent is stopped; `send({reason, stop})` hands over the answer. */
export function askRejection(data, { stop, mayStop }, send) {
  const reason = el("textarea", { id: "reject-reason", rows: "4", maxlength: "2000" });
  const ready = READY.map((text) => el("button", { type: "button", class: "quiet", onclick: () => {
    reason.value = text;
    reason.focus();
  } }, text));
  const agent = () => segments(data.agent);
  const box = el("input", { type: "checkbox", id: "reject-stop", checked: stop, onchange: () => show() });
  const title = el("h2", { id: "reject-title" });
  const button = el("button", { type: "button", id: "reject-send", class: "danger send", onclick: () => {
    const answer = { reason: reason.value.trim(), stop: box.checked };
    node.close();
    send(answer);
  } });
  const told = el("div", { class: "consequences" });
  const show = () => {
    title.replaceChildren(...(box.checked ? ["Reject this call and stop ", agent()] : ["Reject this call"]));
    button.replaceChildren(el("span", {}, ...(box.checked ? ["Reject and stop ", agent()] : ["Reject call"])));
    told.replaceChildren(...(box.checked ? [
      el("p", {}, "Until somebody releases ", agent(), ":"),
      el("ul", {}, el("li", {}, "every call of it that people would be asked about is denied at once, and it is told so;"),
        el("li", {}, "what waits of it already goes on waiting, and what the policy simply allows still runs;"),
        el("li", {}, "its name stands among the stopped agents, where any reviewer can release it."))] : []));
  };
  const node = dialog({ id: "reject", "aria-labelledby": "reject-title" }, title,
    el("p", { class: "muted" }, segments(data.sentence)),
    el("label", { for: "reject-reason" }, "Why? The agent is told this, word for word. Best: what to do instead."),
    reason,
    el("div", { class: "ready", role: "group", "aria-label": "Ready reasons" }, ...ready),
    mayStop ? el("label", { class: "switch", for: "reject-stop" }, box, " Also stop ", agent()) : null,
    told,
    el("div", { class: "dialog-actions" }, el("button", { type: "button", id: "reject-cancel", onclick: () => node.close() }, "Cancel"), button));
  show();
  reason.focus();
  return node;
}

/** To which role it is passed on, and why; `send({role, reason})` hands over the answer. */
export function askReassignment(data, send) {
  const role = el("select", { id: "reassign-role" }, ...data.roles.map((name) => el("option", { value: name }, name)));
  const reason = el("textarea", { id: "reassign-reason", rows: "3", maxlength: "2000" });
  const node = dialog({ id: "reassign", "aria-labelledby": "reassign-title" }, el("h2", { id: "reassign-title" }, "Pass this call on"),
    el("p", { class: "muted" }, segments(data.sentence)),
    el("p", {}, "Somebody with this role has to approve it as well, beside what the policy asks for. Its time runs on."),
    el("label", { for: "reassign-role" }, "To a reviewer with the role"), role,
    el("label", { for: "reassign-reason" }, "Why? The other reviewers read this."), reason,
    el("div", { class: "dialog-actions" }, el("button", { type: "button", onclick: () => node.close() }, "Cancel"),
      el("button", { type: "button", id: "reassign-send", class: "send", onclick: () => {
        const answer = { role: role.value, reason: reason.value.trim() };
        node.close();
        send(answer);
      } }, "Pass on")));
  role.focus();
  return node;
}

/** A field to type what is to be approved, for calls that ask for more care; `onmatch()` is told when that changes. */
export class Typed {
  constructor(asked, onmatch, onenter) {
    this.text = asked.text;
    this.matches = false;
    this.field = el("input", {
      type: "text", class: "typed", autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: "60", "aria-label": `Type ${asked.text} to approve`,
      placeholder: asked.text, oninput: () => {
        this.matches = this.field.value.trim() === this.text;
        this.field.classList.toggle("matches", this.matches);
        onmatch();
      },
      onkeydown: (event) => {
        if (event.key === "Enter" && !event.repeat && !event.ctrlKey && !event.metaKey) onenter();
      },
      onpaste: (event) => event.preventDefault(),
      ondrop: (event) => event.preventDefault(),
    });
    const what = asked.name === "id" ? "the end of its id" : asked.name === "tool" ? "the tool's name" : `its ${asked.name}`;
    this.node = el("label", { class: "typing" }, el("span", {}, "To approve, type ", what, " ", el("code", {}, asked.text)), this.field);
  }
}
