// When Approve may be pressed: it has stood still for a moment, and the payload was on screen to its end.

export const STILL_MS = 600; // Shorter than this and a click meant for something else lands on it.
const LOOK_MS = 100;

/** Makes a button inert until it has stood in one place, able, for `STILL_MS`. */
export class Armed {
  constructor(button) {
    this.button = button;
    this.able = false;
    this.since = performance.now();
    this.place = "";
    this.timer = setInterval(() => this.look(), LOOK_MS);
    for (const name of ["scroll", "resize"]) window.addEventListener(name, this, { capture: true, passive: true });
    document.addEventListener("visibilitychange", this);
    this.look();
  }

  /** Whether it could be pressed at all; becoming able starts the moment of stillness anew. */
  setAble(able) {
    if (able && !this.able) this.begin();
    this.able = able;
    this.look();
  }

  /** Whether pressing it counts, now. It looks again first, so a move nobody noticed yet counts too. */
  isReady() {
    this.look();
    return this.able && performance.now() - this.since >= STILL_MS;
  }

  begin() {
    this.since = performance.now();
  }

  look() {
    const { x, y, width, height } = this.button.getBoundingClientRect();
    const place = [x, y, width, height].map(Math.round).join();
    if (place !== this.place) {
      this.place = place;
      this.begin();
    }
    const still = performance.now() - this.since >= STILL_MS;
    this.button.setAttribute("aria-disabled", String(!(this.able && still)));
    this.button.classList.toggle("arming", this.able && !still);
  }

  handleEvent(event) {
    if (event.type === "visibilitychange" && !document.hidden) this.begin();
    this.look();
  }

  end() {
    clearInterval(this.timer);
    for (const name of ["scroll", "resize"]) window.removeEventListener(name, this, { capture: true });
    document.removeEventListener("visibilitychange", this);
  }
}

/** Calls `onseen` once the end of the payload was on screen; returns a way to stop looking. */
export function whenSeen(end, scroller, onseen) {
  const observer = new IntersectionObserver(
    (entries) => {
      if (document.hidden || !entries.some((entry) => entry.isIntersecting)) return;
      stop();
      onseen();
    },
    { root: scroller },
  );
  const look = () => { // what was only there while nobody could see it is looked at again
    observer.unobserve(end);
    observer.observe(end);
  };
  const stop = () => {
    observer.disconnect();
    document.removeEventListener("visibilitychange", look);
  };
  document.addEventListener("visibilitychange", look);
  look();
  return stop;
}
