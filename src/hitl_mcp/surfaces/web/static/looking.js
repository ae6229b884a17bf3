// Who else has this call open: we say that we do, now and then, and are told of the others.

import { post } from "./api.js";

const EVERY_MS = 10_000; // The gateway forgets whoever it has not heard of for 30 s.

/** Says that `id` is looked at until it is ended; `onalso(names)` gets the others. */
export class Looking {
  constructor(id, onalso) {
    this.id = id;
    this.onalso = onalso;
    this.timer = setInterval(() => this.say(), EVERY_MS);
    document.addEventListener("visibilitychange", this);
    this.say();
  }

  async say() {
    if (document.hidden) return;
    const said = await post(`api/calls/${encodeURIComponent(this.id)}/looking`).catch(() => null); // it is only a courtesy
    if (said && this.timer) this.onalso(said.also);
  }

  handleEvent() {
    this.say();
  }

  end() {
    clearInterval(this.timer);
    this.timer = null;
    document.removeEventListener("visibilitychange", this);
  }
}
