// How long is left, by the gateway's clock and not the browser's.

let ahead = 0;

/** Learn the gateway's time. */
export function setNow(text) {
  ahead = Date.parse(text) - Date.now();
}

export const now = () => Date.now() + ahead;

export const millisecondsTo = (text) => Date.parse(text) - now();

/** A length of time in at most two units. */
export function inWords(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return minutes < 5 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} days`;
}

/** When something happened, as a person of this place would write it. */
export function atClock(text) {
  const moment = new Date(text);
  const sameDay = moment.toDateString() === new Date(now()).toDateString();
  const time = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return sameDay ? time : `${moment.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

/** Keep every `[data-until]` element's text current. */
export function tick(root) {
  for (const node of root.querySelectorAll("[data-until]")) {
    const left = millisecondsTo(node.dataset.until);
    const text = left > 0 ? `${inWords(left)} left` : "time is over";
    if (node.textContent !== text) node.textContent = text;
    node.classList.toggle("soon", left < 10 * 60_000);
  }
}
