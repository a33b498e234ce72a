// What is being written, kept in the browser as it is typed; two tabs do not overwrite each other.

const PLACE = "longtake.draft";
export const draft = new EventTarget();
/** This tab's name, to tell its own writing from another's. */
const mine = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
let timer = 0;
let waiting = null;
let kept = true;
let edited = false;

/** What was kept last, by any tab; null if there is none. */
export function read() {
  try {
    return JSON.parse(localStorage.getItem(PLACE));
  } catch {
    return null;
  }
}

function put(values) {
  try {
    localStorage.setItem(PLACE, JSON.stringify({ ...values, tab: mine }));
    if (!kept) draft.dispatchEvent(new CustomEvent("kept", { detail: true }));
    kept = true;
  } catch {
    // Full, or switched off: said once, and again when it works.
    if (kept) draft.dispatchEvent(new CustomEvent("kept", { detail: false }));
    kept = false;
  }
}

/** Keep what is written, soon; `values` is asked when it is done. */
export function keep(values) {
  edited = true;
  waiting = values;
  clearTimeout(timer);
  timer = setTimeout(flush, 150);
}

function flush() {
  if (waiting) put(waiting());
  waiting = null;
}

addEventListener("pagehide", flush);

addEventListener("storage", ({ key, newValue }) => {
  if (key !== PLACE || !newValue) return;
  const theirs = read();
  if (!theirs || theirs.tab === mine) return;
  // A tab in which nobody wrote follows; one in which somebody did is asked.
  draft.dispatchEvent(new CustomEvent(edited ? "other" : "follow", { detail: theirs }));
});
