// Lines of arguments with their long texts folded. A fold says how much it keeps back; `whole()` is true once all are open.

import { el, segments } from "./dom.js";

const FOLD_CHARACTERS = 800; // About a third of a screen of a desktop: more, and the next argument is out of sight.
const FOLD_LINES = 16;
const KEPT_CHARACTERS = 360;
const KEPT_LINES = 6;
const OURS = new Set(["note", "decoded"]);

/** A numbered tree of `list`; `onunfold()` is told whenever a fold was opened. */
export class Tree {
  constructor(list, onunfold) {
    this.onunfold = onunfold;
    this.folds = [];
    this.node = el("div", { class: "lines numbered" });
    let number = 0;
    for (const group of groups(list)) {
      number += 1;
      this.put(group, number);
    }
  }

  whole() {
    return this.folds.length === 0;
  }

  unfoldAll() {
    for (const open of [...this.folds]) open();
  }

  put(group, number) {
    const characters = group.reduce((sum, line) => sum + lengthOf(line), 0);
    if (characters <= FOLD_CHARACTERS && group.length <= FOLD_LINES) return this.node.append(...group.map((line, place) => row(line, place ? "" : number)));
    const hidden = [];
    let kept = 0;
    const rows = group.map((line, place) => {
      const room = place < KEPT_LINES ? Math.max(0, KEPT_CHARACTERS - kept) : 0;
      const [first, rest] = cut(line.segments, room);
      kept += lengthOf({ segments: first });
      const text = row({ ...line, segments: first }, place ? "" : number);
      if (!first.length) hidden.push(text);
      if (rest.length) {
        const span = el("span", {}, segments(rest));
        text.lastChild.append(span);
        hidden.push(span);
      }
      return text;
    });
    for (const node of hidden) node.hidden = true;
    const left = (characters - kept).toLocaleString("en");
    const button = el("button", { type: "button", class: "quiet unfold", onclick: () => open() }, `Show ${left} more of ${characters.toLocaleString("en")} characters`);
    const open = () => {
      this.folds.splice(this.folds.indexOf(open), 1);
      for (const node of hidden) node.hidden = false;
      for (const line of rows) line.replaceWith(line.cloneNode(true)); // a line that was on screen in part is new to whoever notes that
      button.parentNode.remove();
      this.onunfold();
    };
    this.folds.push(open);
    this.node.append(...rows, el("div", { class: "fold-row", "data-folded": "" }, button));
  }
}

/** Each line with those that go on inside its string. */
function groups(list) {
  const found = [];
  for (const line of list) {
    if (line.continued && found.length) found.at(-1).push(line);
    else found.push([line]);
  }
  return found;
}

const lengthOf = (line) => line.segments.reduce((sum, one) => sum + (OURS.has(one.kind) ? 0 : [...one.text].length), 0);

/** The first `room` characters of segments, and the rest; a mark stays in one piece. */
function cut(list, room) {
  const first = [];
  let left = room;
  for (const [place, one] of list.entries()) {
    const characters = [...one.text];
    if (OURS.has(one.kind) && left > 0) first.push(one);
    else if (characters.length <= left) {
      first.push(one);
      left -= characters.length;
    } else if (one.kind === "mark" || left <= 0) return [first, list.slice(place)];
    else {
      const part = (text) => ({ ...one, text: text.join("") });
      return [[...first, part(characters.slice(0, left))], [part(characters.slice(left)), ...list.slice(place + 1)]];
    }
  }
  return [first, []];
}

function row(line, number) {
  return el("div", { class: line.continued ? "line continued" : "line", "--depth": String(Math.min(line.depth, 12)) },
    el("span", { class: "no", "aria-hidden": "true" }, String(number)), el("span", { class: "tx" }, segments(line.segments)));
}
