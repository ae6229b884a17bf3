// A difference as the gateway rendered it: lines that went, lines that came.

import { el, segments } from "./dom.js";

const SIGNS = { same: " ", gone: "−", new: "+", skipped: "…" };
const WORDS = { gone: "gone: ", new: "new: " };

export function differenceLines(difference) {
  return el("div", { class: "lines diff" }, ...difference.lines.map(line), difference.whole ? null : el("p", { class: "warn" }, "Cut here: too long to be shown whole."));
}

function line({ sign, depth, skipped, segments: list }) {
  return el("div", { class: `line ${sign}`, "--depth": String(Math.min(depth, 12)) },
    el("span", { class: "no", "aria-hidden": "true" }, SIGNS[sign]),
    el("span", { class: "tx" }, WORDS[sign] ? el("span", { class: "sr" }, WORDS[sign]) : null,
      sign === "skipped" ? el("span", { class: "s note" }, `${skipped} ${skipped === 1 ? "line is" : "lines are"} the same`) : segments(list)));
}
