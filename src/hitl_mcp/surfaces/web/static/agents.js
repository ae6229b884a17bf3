// The agents: what each did of late, and stopping one.

import { get, post } from "./api.js";
import { announce, el, segments } from "./dom.js";
import { commonFigures, figures, LastCalls, nameLink, percent, Sheet, statusBar, table, total, when } from "./figures.js";
import { atClock } from "./time.js";

export class AgentsView extends Sheet {
  constructor(root, page) {
    super(root, page, "Agents");
  }

  async read() {
    const { agents } = await get("api/agents");
    agents.sort((one, other) => (other.open ?? 0) - (one.open ?? 0) || one.name.localeCompare(other.name));
    return () => this.body.replaceChildren(
      el("h2", { class: "sentence" }, "Agents"), el("p", { class: "muted" }, "What each asked for in the last seven days."),
      agents.length ? table("Figures of agents", ["Agent", "Calls", "Open", "Approved", "Rejected", "Approvals of answers", "Last call"],
        agents.map((agent) => [
          el("span", {}, nameLink("agent", agent), agent.stopped ? el("span", { class: "pill failed" }, "stopped") : null),
          String(total(agent.by_status)), String(agent.open ?? 0), String(agent.by_answer?.approved ?? 0), String(agent.by_answer?.rejected ?? 0),
          percent(agent.approval_share), when(agent.last_at),
        ])) : el("p", { class: "empty" }, "No agent has asked for anything yet."));
  }
}

export class AgentView extends Sheet {
  constructor(root, page) {
    super(root, page, "Agent");
    this.nothing = "No agent of this name has asked for anything yet.";
    this.calls = new LastCalls("agent");
    this.reason = el("textarea", { id: "stop-reason", rows: "2", maxlength: "2000" });
    this.told = el("p", { class: "problem", role: "alert" });
    this.stopForm = el("div", {},
      el("p", { class: "muted" }, "All that it asks for is refused until somebody releases it. What waits stays; what runs goes on."),
      el("label", { for: "stop-reason" }, "Why? The agent is told this, word for word."), this.reason,
      el("div", { class: "buttons-small" }, el("button", { type: "button", class: "danger", onclick: () => this.stop() }, "Stop this agent")));
  }

  async open(params) {
    this.reason.value = "";
    this.told.textContent = "";
    await super.open(params);
  }

  async read(params) {
    const name = params.get("agent");
    const [agent, showCalls] = await Promise.all([get(`api/agents/${encodeURIComponent(name)}`), this.calls.read(name)]);
    return () => {
      showCalls();
      this.name = name;
      const head = el("div", { class: "title" }, el("h2", { class: "sentence" }, "Agent ", el("span", { class: "name" }, segments(agent.shown))),
        agent.stopped ? el("span", { class: "pill failed" }, "stopped") : null);
      const facts = [agent.owner ? `It belongs to ${agent.owner}.` : "", agent.last_at ? `Its last call was at ${atClock(agent.last_at)}.` : ""].join(" ").trim();
      this.put([el("a", { class: "back", href: "#agents" }, "‹ Agents"), head, el("p", { class: "muted" }, facts), figures(...commonFigures(agent)),
        el("section", { class: "card" }, el("h3", {}, "How its calls stand"), statusBar(agent.by_status)), this.stopCard(agent), this.calls.node,
        el("p", {}, el("a", { class: "onward", href: `#queue&agent=${encodeURIComponent(name)}` }, "What of it waits"))]);
    };
  }

  /** Put the page's parts in; the form that somebody may be writing in is not touched while it is there. */
  put(parts) {
    const at = this.body.contains(document.activeElement) ? document.activeElement : null;
    this.body.replaceChildren(...parts);
    at?.focus({ preventScroll: true });
  }

  stopCard(agent) {
    const { stopped } = agent;
    if (stopped) {
      this.stopped ??= el("section", { class: "card stop" });
      this.stopped.replaceChildren(el("h3", {}, "This agent is stopped"),
        el("p", {}, `By ${stopped.by}, ${atClock(stopped.at)}${stopped.reason ? ":" : "."}`), stopped.reason ? el("p", { class: "quote" }, stopped.reason) : "", this.told,
        el("div", { class: "buttons-small" }, el("button", { type: "button", onclick: () => this.release() }, "Release it")));
      return this.stopped;
    }
    this.stopping ??= el("details", { class: "card fold stop" }, el("summary", {}, el("h3", {}, "Stop this agent")));
    if (!this.stopping.contains(this.stopForm)) this.stopping.append(this.stopForm);
    this.stopForm.append(this.told);
    return this.stopping;
  }

  stop() {
    return this.tell("stop", { reason: this.reason.value.trim() }, "Stopped. What it asks for is refused until somebody releases it.");
  }

  release() {
    return this.tell("release", {}, "Released. It may ask again.");
  }

  async tell(what, body, said) {
    if (this.isBusy) return;
    this.isBusy = true;
    this.told.textContent = "";
    try {
      await post(`api/agents/${encodeURIComponent(this.name)}/${what}`, body);
      announce(said);
      this.reason.value = "";
      this.page.decided();
    } catch (error) {
      if (error.status === 401) return this.page.failed(error);
      this.told.textContent = error.status === 0 ? "No answer came, so nobody knows whether it was done. Look again in a moment." : `Not done: ${error.message}.`;
    } finally {
      this.isBusy = false;
    }
    await this.refresh().catch(this.page.failed);
  }
}
