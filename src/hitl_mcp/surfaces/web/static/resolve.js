// What became of a call nobody heard of again: a person looks at the upstream and says so, with how they know.

import { el } from "./dom.js";

/** A card that asks; `send(happened, evidence)` hands over the answer, once there is evidence. */
export function resolveCard(send) {
  const evidence = el("textarea", { id: "resolve-evidence", rows: "3", maxlength: "2000" });
  const told = el("p", { class: "muted small", role: "status" });
  const answer = (happened) => () => {
    const said = evidence.value.trim();
    if (!said) {
      told.textContent = "Write how you know: what you looked at, and what it showed.";
      evidence.focus();
      return;
    }
    told.textContent = "";
    send(happened, said);
  };
  return el("section", { class: "card resolve", hidden: true },
    el("h3", {}, "Do you know what became of it?"),
    el("p", { class: "muted" }, "It was sent once and is never sent again. Look at the upstream; the agent is told what you find."),
    el("label", { for: "resolve-evidence" }, "How do you know?"),
    evidence, told,
    el("div", { class: "buttons" },
      el("button", { type: "button", onclick: answer(true) }, "It happened"),
      el("button", { type: "button", onclick: answer(false) }, "It did not happen")));
}
