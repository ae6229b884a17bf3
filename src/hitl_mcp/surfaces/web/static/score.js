// Why people are asked: the score as named points that add up, and the requirements with whoever met them.

import { el, lines, segments } from "./dom.js";

const said = (text) => (Array.isArray(text) ? segments(text) : text);

/** A bar in which each signal is a segment of its own, and a row for each; `parts` have id, points, reason, error. */
export function scoreBar({ score, sum, parts }) {
  const scale = Math.max(100, sum);
  const share = (points) => String((points / scale) * 100);
  const rows = parts.map((part, place) => el("li", {},
    el("span", { class: `swatch step-${place % 6}`, "aria-hidden": "true" }), el("span", { class: "points" }, String(part.points)),
    el("span", {}, said(part.reason), part.error ? el("span", { class: "warn" }, " could not be evaluated: ", said(part.error)) : null,
      el("span", { class: "muted small" }, ` ${part.id}`))));
  const addition = parts.length > 1 ? `: ${parts.map((part) => part.points).join(" + ")} = ${sum}` : "";
  return [
    el("p", { class: "total" }, el("strong", {}, String(score)), " of 100 points", el("span", { class: "muted" }, addition)),
    parts.length ? el("div", { class: "bar-score", role: "img", "aria-label": `${score} of 100 points${addition}` },
      ...parts.map((part, place) => el("span", { class: `step-${place % 6}`, "--points": share(part.points) })),
      sum > 100 ? el("span", { class: "cap", "--points": share(100) }) : null) : null,
    sum > score ? el("p", { class: "muted small" }, `The points add up to ${sum}; a score ends at ${score}.`) : null,
    el("ul", { class: "points-list" }, ...rows),
  ].filter(Boolean);
}

export function scoreCard(data) {
  const { sentence, also, shadows, told } = data.explanation;
  const list = (title, texts) => texts.length
    ? [el("h4", {}, title), el("ul", { class: "rules" }, ...texts.map((text) => el("li", { class: "muted" }, segments(text))))] : [];
  return el("section", { class: "card score-card" },
    el("div", { class: "card-head" }, el("h3", {}, data.requirements.length ? "Why people are asked" : "What the policy said")),
    el("p", { class: "why" }, segments(sentence)),
    also.length ? el("ul", { class: "rules" }, ...also.map((reason) => el("li", {}, segments(reason)))) : null,
    ...scoreBar(data.score), ...list("Tried out, not enforced", shadows), ...list("Known before this call", told),
  );
}

const YOURS = {
  gave: "you approved it",
  met: "met without you",
  can: "yours would count",
  passkey: "yours would count, signed with your passkey",
};

export function needsCard(data) {
  const held = data.status === "held";
  const rows = data.requirements.map((need) => needRow(need, held));
  const verdicts = data.verdicts.filter((verdict) => verdict.reason || !verdict.counts).map((verdict) =>
    el("li", {}, el("div", { class: "muted" }, `${verdict.verdict === "reject" ? "Rejected" : "Approved"} by `, segments(verdict.reviewer),
      verdict.counts ? "" : ", of what it was before it changed", verdict.reason ? ":" : "."),
    verdict.reason ? el("div", { class: "quote" }, lines(verdict.reason)) : null));
  if (!rows.length && !verdicts.length) return [];
  return [el("section", { class: "card needs" }, el("div", { class: "card-head" }, el("h3", {}, "Needs")), el("ul", {}, ...rows, ...verdicts))];
}

export function needRow(need, held) {
  const dots = el("span", { class: "dots", "aria-hidden": "true" });
  for (let place = 0; place < need.quorum; place += 1) dots.append(el("span", { class: place < need.met ? "dot met" : "dot" }));
  const names = need.approved_by.length ? `approved by ${need.approved_by.join(", ")}` : "nobody yet";
  const could = held && !need.done && need.could.length ? `; could: ${need.could.join(", ")}` : "";
  const yours = need.you && (need.you.state === "cannot" ? `yours would not count: ${need.you.why}` : YOURS[need.you.state]);
  return el("li", {}, el("div", { class: "need" }, el("span", {}, need.text), dots),
    el("div", { class: "muted" }, `${Math.min(need.met, need.quorum)} of ${need.quorum}: ${names}${could}`),
    held && yours ? el("div", { class: `yours ${need.you.state}` }, need.done ? "Met." : `${need.missing} more; ${yours}.`) : null,
    el("div", { class: "muted small" }, `asked for by ${need.id}`));
}
