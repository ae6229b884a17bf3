// How fast and how alike people approve: for themselves to see, before a habit lets something through.

import { get } from "./api.js";
import { el } from "./dom.js";
import { figure, figures, lasting, percent, Sheet } from "./figures.js";

export class PaceView extends Sheet {
  constructor(root, page) {
    super(root, page, "Pace");
  }

  async read() {
    const { reviewers } = await get("api/reviewers/pace");
    const mine = this.page.me()?.reviewer;
    const sorted = [...reviewers].sort((one, other) => (other.reviewer === mine) - (one.reviewer === mine) || one.reviewer.localeCompare(other.reviewer));
    return () => this.body.replaceChildren(
      el("h2", { class: "sentence" }, "How answers were given, this week"),
      el("p", { class: "muted prose" }, "Quick answers and long rows of approvals are how harmful calls get through. These figures are no judgement: they are there so that you notice a habit. "
        + "Time counts from when you were first shown what you answered."),
      ...(sorted.length ? sorted.map((one) => card(one, one.reviewer === mine)) : [el("p", { class: "empty" }, "Nobody has answered anything this week.")]));
  }
}

function card(one, isMine) {
  const said = sentences(one);
  return el("section", { class: "card" },
    el("div", { class: "card-head" }, el("h3", {}, isMine ? `You (${one.reviewer})` : one.reviewer)),
    figures(figure(one.approvals, "approved"), figure(one.rejections, "rejected"), figure(percent(one.share_approved), "of the answers were approvals"),
      figure(lasting(one.median_seconds), "until an answer, in the middle"), figure(lasting(one.fastest_seconds), "the fastest"),
      figure(one.under_5_seconds, "within 5 seconds"), figure(one.longest_streak, "approvals in a row")),
    said.length ? el("ul", { class: "notes" }, ...said.map((text) => el("li", {}, text))) : null);
}

/** What stands out, in words. The bounds are where studies of tired reviewers saw attacks pass. */
function sentences({ approvals, rejections, under_5_seconds: quick, share_approved: share, longest_streak: streak }) {
  const answers = approvals + rejections;
  const said = [];
  if (answers >= 10 && quick / answers > 0.25) said.push(`${quick} of ${answers} answers came within five seconds: too soon to have read the arguments.`);
  if (answers >= 20 && share > 0.95) said.push("Nearly everything was approved. Either the policy asks too often, or something passes unseen.");
  if (streak >= 25) said.push(`${streak} approvals in a row. A break helps; so does a rule that stops asking for what is always approved.`);
  return said;
}
