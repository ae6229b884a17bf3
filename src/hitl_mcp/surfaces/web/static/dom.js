// Making elements. Text only ever becomes text nodes: there is no way through here to write markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes, listeners (`onclick: fn`), and children (elements or text). */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** The server's segments as elements: one class for each kind, right-to-left runs isolated. */
export function segments(list) {
  const fragment = document.createDocumentFragment();
  for (const { kind, text, rtl, changed } of list) {
    const named = { class: changed ? `s ${kind} changed` : `s ${kind}` };
    fragment.append(rtl ? el("bdi", { ...named, dir: "rtl" }, text) : el("span", named, text));
  }
  return fragment;
}

/** The server's lines, numbered or not; a line that goes on inside a string has no number. */
export function lines(list, { numbered = false } = {}) {
  const block = el("div", { class: numbered ? "lines numbered" : "lines" });
  let number = 0;
  for (const line of list) {
    if (!line.continued) number += 1;
    block.append(
      el(
        "div",
        { class: line.continued ? "line continued" : "line", "--depth": String(Math.min(line.depth, 12)) },
        numbered ? el("span", { class: "no", "aria-hidden": "true" }, line.continued ? "" : String(number)) : null,
        el("span", { class: "tx" }, segments(line.segments)),
      ),
    );
  }
  return block;
}

/** What segments read as, for titles and notifications. */
export const textOf = (list) => list.map((segment) => segment.text).join("");

/** Say something to screen readers without moving anything. */
export function announce(text) {
  byId("announce").textContent = text;
}
