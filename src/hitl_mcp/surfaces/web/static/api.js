// Talking to the gateway. Every request carries the reviewer's key as a header; there are no cookies.

const KEY = "hitl-mcp.key";
const SILENCE_MS = 40_000; // The gateway says something every 15 s; after this the connection is taken for dead.
const PAUSES_MS = [500, 1000, 2000, 5000, 10_000];

export const key = {
  get: () => localStorage.getItem(KEY),
  set: (value) => localStorage.setItem(KEY, value),
  clear: () => localStorage.removeItem(KEY),
  isName: (name) => name === KEY,
};

/** An answer that was not what was asked for; `status` is HTTP's (0: no answer came), `body` the gateway's words. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.message ?? "no answer came from the gateway");
    this.status = status;
    this.body = body ?? {};
  }
}

// Relative to the page, so that the gateway may live under any prefix.
const address = (path) => new URL(path, document.baseURI);

async function send(path, options = {}) {
  const headers = { ...options.headers };
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  try {
    return await fetch(address(path), { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0);
  }
}

async function answer(response) {
  const body = await response.json().catch(() => null);
  if (!response.ok || body === null) throw new Refused(response.status, body?.error);
  return body;
}

export const get = async (path) => answer(await send(path));

export const post = async (path, body = {}) =>
  answer(await send(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }));

/**
 * Follow the gateway's events until `signal` aborts. `onready` is called each time the stream stands (read the calls
 * then, and nothing is missed), `onevent` with each event, `onlost` when the connection breaks.
 */
export async function follow({ signal, onready, onevent, onlost }) {
  for (let failures = 0; !signal.aborted; failures += 1) {
    try {
      await readStream(signal, (name, data) => {
        failures = 0;
        if (name === "ready") onready(data);
        else onevent(data);
      });
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status === 401) throw error;
    }
    if (signal.aborted) return;
    onlost();
    await new Promise((resolve) => setTimeout(resolve, PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]));
  }
}

async function readStream(signal, onmessage) {
  const ending = new AbortController(); // told by whoever follows, or by silence
  const end = () => ending.abort();
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(end, SILENCE_MS);
  };
  heard();
  signal.addEventListener("abort", end);
  try {
    const response = await send("api/events", { signal: ending.signal });
    if (!response.ok) return void (await answer(response));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let waiting = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      const messages = (waiting + value).split("\n\n");
      waiting = messages.pop();
      messages.forEach((message) => deliver(message, onmessage));
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  }
}

function deliver(message, onmessage) {
  const fields = Object.fromEntries(
    message.split("\n").filter((line) => line && !line.startsWith(":")).map((line) => {
      const colon = line.indexOf(": ");
      return [line.slice(0, colon), line.slice(colon + 2)];
    }),
  );
  if (fields.data) onmessage(fields.event, JSON.parse(fields.data));
}
