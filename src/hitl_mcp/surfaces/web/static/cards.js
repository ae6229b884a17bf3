// The cards of one call that only show: what it is bound to, previews, what came of it, its record, what was edited.

import { differenceLines } from "./difference.js";
import { el, lines, segments } from "./dom.js";
import { atClock } from "./time.js";

export function claimCard(data) {
  if (!data.claim) return null;
  return el("section", { class: "card claim" },
    el("div", { class: "card-head" }, el("h3", {}, "What ", segments(data.agent), " says"), el("span", { class: "warn" }, "its own claim, not checked")),
    lines(data.claim),
  );
}

export function bindingCard(data) {
  return el("details", { class: "card fold" }, el("summary", {}, el("h3", {}, "What an approval is bound to")),
    el("p", { class: "muted" }, "If one of these changes before it runs, the approval is worth nothing."),
    el("dl", { class: "binding" }, ...data.binding.map((row) => el("div", {}, el("dt", {}, row.name), el("dd", {}, segments(row.value))))));
}

export function previewCards(data) {
  return data.previews.map((preview) => el("section", { class: "card preview" }, el("h3", {}, "Preview, as the upstream says"),
    el("p", { class: "muted" }, "By ", segments(preview.name), preview.waiting ? ": it is being asked for." : "."),
    preview.problem ? lines(preview.problem) : null, preview.result ? lines(preview.result, { numbered: true }) : null));
}

export function outcomeCard(data) {
  const { outcome } = data;
  if (!outcome) return [];
  const facts = `${outcome.executed ? "It was sent" : "Nothing was sent"}, ${atClock(outcome.at)}.`;
  return [el("section", { class: `card outcome ${outcome.status}` }, el("div", { class: "card-head" }, el("h3", {}, "Outcome"), el("span", { class: `pill ${outcome.status}` }, outcome.status)),
    el("p", {}, facts), outcome.detail ? lines(outcome.detail) : null,
    outcome.result ? lines(outcome.result, { numbered: true })
      : outcome.result_bytes !== null ? el("p", { class: "muted" }, `Its result (${outcome.result_bytes.toLocaleString("en")} bytes) is not shown here.`) : null)];
}

export function historyCard(data) {
  return el("details", { class: "card fold" }, el("summary", {}, el("h3", {}, `On record (${data.history.length})`)),
    el("ol", { class: "history" }, ...data.history.map((step) => el("li", {},
      el("time", { datetime: step.at, title: step.time }, atClock(step.at)), el("span", {}, el("strong", {}, step.kind), " by ", segments(step.by),
        step.detail ? el("span", { class: "muted" }, ": ", segments(step.detail)) : null)))));
}

/** What was changed since the agent asked, the latest change open; nothing where nobody edited it. */
export function revisionCards(data) {
  return data.revisions.map((edit, place, edits) => {
    const last = place === edits.length - 1;
    return el("details", { class: "card fold revision", open: last }, el("summary", {}, el("h3", {}, "Edited by ", segments(edit.by), `, ${atClock(edit.at)}`)),
      el("p", { class: "muted" }, last ? "What stands below is as it was edited. This changed:" : "This changed then:", ` It had ${edit.score} points before.`),
      edit.reason ? el("div", { class: "quote" }, lines(edit.reason)) : null,
      edit.changes ? differenceLines(edit.changes) : null,
      edit.before ? el("details", { class: "earlier" }, el("summary", {}, place ? "As it stood before" : "As the agent asked"), lines(edit.before.lines, { numbered: true })) : null);
  });
}
