// What is wrong with the gateway, said above everything else until it passes.

import { byId, el } from "./dom.js";
import { atClock } from "./time.js";

let shown = "";

function recordTrouble({ says, help, passes, since }) {
  const until = passes ? "calls are refused until that passes" : "nothing runs until it is started again";
  return `The gateway cannot write its record: ${until}. Since ${atClock(since)} ${says}. What to do: ${help}.`;
}

function rowsOf({ lost, paused, upstreams = [], store, policy, tampered, tampering, checkpoints, blocked_tools: blocked = [], passkeys, open = {}, offer }) {
  const rows = [];
  if (lost) rows.push(["lost", "Connection lost. What you see may be out of date; trying again."]);
  if (store?.trouble) rows.push(["bad", recordTrouble(store.trouble)]);
  if (tampered?.length) rows.push(["bad", `Tampering: the record of ${tampered.join(", ")} was changed outside the gateway. Nothing of it ran.`]);
  if (tampering) rows.push(["bad", `Tampering: the record is not as the gateway left it: ${tampering}. All that was open has ended.`]);
  for (const one of passkeys?.tampered ?? []) rows.push(["bad", `Tampering: a passkey of ${one} was changed outside the gateway. It signs nothing.`]);
  for (const { reviewer, at } of passkeys?.resets ?? []) rows.push(["bad", `All passkeys of ${reviewer} were taken away at the gateway's machine, ${atClock(at)}. If ${reviewer} did not ask for that, somebody else may sign as ${reviewer}.`]);
  if (checkpoints?.doubt) rows.push(["bad", `Cannot tell: ${checkpoints.doubt}.`]);
  if (policy?.problem) rows.push(["bad", `The policy files cannot be used: the policy of ${atClock(policy.since)} stays in force. ${policy.problem.findings.split("\n")[0]}`]);
  if (blocked.length) rows.push(["bad", `Blocked, being no longer as accepted: ${blocked.map((tool) => tool.name).join(", ")}. `, "#tools", "See what changed"]);
  if (offer) rows.push(["link", "With a passkey you sign in without a link, and your device signs what you approve. ", "#you", "Add one"]);
  if (paused) rows.push(["paused", `Paused by ${paused.by}${paused.reason ? `: ${paused.reason}` : ""}. Nothing runs until someone resumes.`]);
  if (open.unknown) rows.push(["unknown", `${open.unknown} ${open.unknown === 1 ? "call has" : "calls have"} an unknown outcome: it may have happened. Check at the upstream.`]);
  const down = upstreams.filter((upstream) => upstream.state === "down");
  if (down.length) rows.push(["down", `Not reachable: ${down.map((upstream) => upstream.name).join(", ")}.`]);
  return rows;
}

/** Show what the gateway's status says; `said` is about how one got here. Written only where it changed: it is read aloud. */
export function showBanners(status, said) {
  const rows = [...(said ? [["link", said]] : []), ...rowsOf(status)];
  const text = JSON.stringify(rows);
  if (text === shown && byId("banners").childElementCount === rows.length) return;
  shown = text;
  byId("banners").replaceChildren(...rows.map(([kind, words, href, label]) =>
    el("p", { class: `banner ${kind}` }, words, href ? el("a", { href }, label) : null)));
}
