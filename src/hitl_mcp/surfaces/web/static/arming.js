// When Approve may be pressed: it has stood still for a moment, untouched and in sight, and the whole payload was on screen.

export const STILL_MS = 600; // Shorter than this and a click meant for something else lands on it.
const LOOK_MS = 100;
const EDGE_PX = 2; // Boxes end between pixels; what is this close to an edge counts as reached.

/** Makes a button inert until it has stood in one place, able and in sight, for `STILL_MS`. */
export class Armed {
  constructor(button) {
    this.button = button;
    this.able = false;
    this.since = performance.now();
    this.place = "";
    this.wasPressed = null; // whether it was ready when the press began that a click will end; null: no press
    this.timer = setInterval(() => this.look(), LOOK_MS);
    for (const name of ["scroll", "resize"]) window.addEventListener(name, this, { capture: true, passive: true });
    for (const name of ["focus", "pageshow"]) window.addEventListener(name, this);
    document.addEventListener("visibilitychange", this);
    for (const name of ["pointerdown", "keydown", "click"]) button.addEventListener(name, this, { capture: true });
    this.look();
  }

  /** Whether it could be pressed at all; becoming able starts the moment of stillness anew. */
  setAble(able) {
    if (able && !this.able) this.begin();
    this.able = able;
    this.look();
    queueMicrotask(() => this.look()); // whoever says so may still be changing what stands around it
  }

  /** Whether pressing it counts, now. It looks again first, so a move nobody noticed yet counts too. */
  isReady() {
    this.look();
    return this.able && !document.hidden && performance.now() - this.since >= STILL_MS;
  }

  begin() {
    this.since = performance.now();
  }

  look() {
    const { x, y, width, height } = this.button.getBoundingClientRect();
    const over = document.elementFromPoint(x + width / 2, y + height / 2);
    const covered = over !== this.button && !this.button.contains(over);
    const place = [...[x, y, width, height].map(Math.round), this.button.textContent, covered].join();
    if (place !== this.place || covered) {
      this.place = place;
      this.begin();
    }
    const still = performance.now() - this.since >= STILL_MS;
    this.button.setAttribute("aria-disabled", String(!(this.able && still)));
    this.button.classList.toggle("arming", this.able && !still);
  }

  handleEvent(event) {
    if (event.type === "pointerdown") this.wasPressed = this.isReady();
    else if (event.type === "keydown") this.onKey(event);
    else if (event.type === "click") this.onClick(event);
    else {
      // A window that comes back brings clicks with it that were meant for what stood there before.
      if (event.type !== "scroll" && event.type !== "resize" && !document.hidden) this.begin();
      this.look();
    }
  }

  /** A key that is held says nothing new, and no press that began too early ends as a click. */
  onKey(event) {
    if (event.key !== "Enter" && event.key !== " ") return;
    if (event.repeat) event.preventDefault();
    else this.wasPressed = this.isReady();
  }

  onClick(event) {
    const tooEarly = this.wasPressed === false;
    this.wasPressed = null;
    if (!tooEarly && this.isReady()) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }

  end() {
    clearInterval(this.timer);
    for (const name of ["scroll", "resize"]) window.removeEventListener(name, this, { capture: true });
    for (const name of ["focus", "pageshow"]) window.removeEventListener(name, this);
    document.removeEventListener("visibilitychange", this);
    for (const name of ["pointerdown", "keydown", "click"]) this.button.removeEventListener(name, this, { capture: true });
  }
}

/**
 * Calls `onseen` once every line beside `end`, and `end` itself, was on screen; returns a way to stop looking.
 *
 * Lines are looked at one by one, so nobody jumps over the middle; a line that is taller than the screen must have been
 * there from its top to its bottom. What only flew by was not seen, nor what is folded (`data-folded`, a closed
 * `details`). `stop.showRest()` goes to the first part that was not.
 */
export function whenSeen(end, scroller, onseen) {
  const seen = new Seen(end, scroller);
  const look = () => {
    if (!seen.look()) return;
    stop();
    onseen();
  };
  const timer = setInterval(look, LOOK_MS);
  const stop = () => clearInterval(timer);
  stop.showRest = () => seen.showRest();
  return stop;
}

class Seen {
  constructor(end, scroller) {
    this.end = end;
    this.scroller = scroller;
    this.parts = new WeakMap(); // of each line the stretches that were on screen, from 0 to 1
    this.endWasSeen = false;
    this.before = null; // how far it was scrolled at the look before, and how long it all was
  }

  get lines() {
    return this.end.parentElement?.getElementsByClassName("line") ?? [];
  }

  /** Note what is on screen now; whether by now everything was. */
  look() {
    const view = this.restingView();
    if (!view) return false;
    let whole = !this.firstFold();
    for (const line of this.lines) {
      if (this.isSeen(line)) continue;
      this.note(line, view);
      whole = whole && this.isSeen(line);
    }
    const last = this.end.getBoundingClientRect();
    this.endWasSeen ||= last.bottom <= view.bottom + EDGE_PX && last.top >= view.top - EDGE_PX;
    return whole && this.endWasSeen;
  }

  /** The part of the screen in which what is there now was there at the look before, too; null where nothing was. */
  restingView() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const before = this.before;
    this.before = document.hidden ? null : { scrollTop, scrollHeight, clientHeight };
    if (!this.before || before?.scrollHeight !== scrollHeight || before.clientHeight !== clientHeight) return null;
    const { top, bottom } = this.scroller.getBoundingClientRect();
    const moved = scrollTop - before.scrollTop;
    return { top: Math.max(top - Math.min(moved, 0), 0), bottom: Math.min(bottom - Math.max(moved, 0), window.innerHeight) };
  }

  firstFold() {
    const folds = this.end.parentElement?.querySelectorAll("[data-folded], details:not([open])") ?? [];
    return [...folds].find((fold) => fold.getClientRects().length);
  }

  /** A line that has no box is not what is being shown: the other of tree and raw, or inside a fold. */
  isSeen(line) {
    if (!line.getClientRects().length) return true;
    const [first] = this.parts.get(line) ?? [];
    return Boolean(first) && first[0] <= 0 && first[1] >= 1;
  }

  note(line, view) {
    const { top, height } = line.getBoundingClientRect();
    const from = Math.max(top, view.top);
    const to = Math.min(top + height, view.bottom);
    if (to <= from && height) return;
    const place = (y) => (y - top <= EDGE_PX ? 0 : y - top >= height - EDGE_PX ? 1 : (y - top) / height);
    this.parts.set(line, joined([...(this.parts.get(line) ?? []), [place(from), height ? place(to) : 1]]));
  }

  showRest() {
    const line = [...this.lines].find((one) => !this.isSeen(one));
    if (!line) return (this.firstFold() ?? this.end).scrollIntoView({ block: "nearest" });
    const [first] = this.parts.get(line) ?? [];
    const { top, height } = line.getBoundingClientRect();
    const from = first && first[0] <= 0 ? first[1] * height : 0; // of a line taller than the screen, from where one left off
    this.scroller.scrollBy(0, top + from - this.scroller.getBoundingClientRect().top - EDGE_PX);
  }
}

/** Stretches in order, those that touch made one. */
function joined(stretches) {
  const result = [];
  for (const [from, to] of stretches.sort((one, other) => one[0] - other[0])) {
    const last = result.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else result.push([from, to]);
  }
  return result;
}
