// The server: asked, listened to, and waited for when it is gone.

/** The server answered no. */
export class Refusal extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.param = error.param;
  }
}

/** The server did not answer at all. */
export class Gone extends Error {
  constructor() {
    super("The server does not answer. What you wrote is kept; try again when it is back.");
  }
}

const TOKEN = "longtake.token";
export const line = new EventTarget();
let isGone = false;
let waiting = null;

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function token() {
  try {
    return sessionStorage.getItem(TOKEN) || "";
  } catch {
    return "";
  }
}

/** Whether requests carry a token, which pictures and films by their address cannot. */
export const locked = () => token() !== "";

export function keepToken(text) {
  sessionStorage.setItem(TOKEN, text.trim());
}

async function wait() {
  for (let tries = 0; ; tries += 1) {
    await pause(Math.min(500 * 2 ** tries, 4000));
    try {
      await fetch("/health", { cache: "no-store" });
      break;
    } catch {
      continue;
    }
  }
  isGone = false;
  waiting = null;
  line.dispatchEvent(new Event("back"));
}

function lost() {
  if (!isGone) {
    isGone = true;
    line.dispatchEvent(new Event("gone"));
  }
  waiting ??= wait();
}

/** Resolves when the server answers again; at once if it does. */
export const there = () => waiting ?? Promise.resolve();

/** A request; the answer if it is a yes. */
export async function request(path, { method = "GET", headers = {}, body, signal } = {}) {
  const known = token();
  let answer;
  try {
    answer = await fetch(path, {
      method,
      body,
      signal,
      headers: known ? { ...headers, Authorization: `Bearer ${known}` } : headers,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    lost();
    throw new Gone();
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  const error = said?.error ?? {
    code: "unknown",
    message: `The server answered ${answer.status}.`,
  };
  if (answer.status === 401) line.dispatchEvent(new Event("locked"));
  throw new Refusal(answer.status, error);
}

/** A request whose answer is JSON. */
export async function ask(path, { json, key, ...rest } = {}) {
  const headers = key ? { "Idempotency-Key": key } : {};
  if (json !== undefined) {
    headers["Content-Type"] = "application/json";
    Object.assign(rest, { method: "POST", body: JSON.stringify(json) });
  }
  return (await request(path, { ...rest, headers })).json();
}

/** An address for a picture or film; with a token the bytes are fetched, for tags send none. */
export async function address(path, signal) {
  if (!locked()) return { url: path, free: () => {} };
  const url = URL.createObjectURL(await (await request(path, { signal })).blob());
  return { url, free: () => URL.revokeObjectURL(url) };
}

/** Save a file as the browser does. */
export async function save(path, name) {
  const { url, free } = await address(path);
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  setTimeout(free, 10_000);
}

/** Resolves when the page can be seen: a hidden one holds no connection. */
export function seen() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

/** A signal that ends with another, and when the page is hidden. */
export function whileSeen(signal) {
  const here = new AbortController();
  const hide = () => document.hidden && here.abort();
  document.addEventListener("visibilitychange", hide);
  signal.addEventListener("abort", () => here.abort(), { signal: here.signal });
  here.signal.addEventListener("abort", () =>
    document.removeEventListener("visibilitychange", hide),
  );
  return here;
}

/** What happens to a film from its first event to its last; a broken line is taken up again. */
export async function listen(id, signal, hear) {
  let last = null;
  let ended = false;
  while (!ended && !signal.aborted) {
    await Promise.all([there(), seen()]);
    const here = whileSeen(signal);
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const answer = await request(`/v1/videos/${id}/events`, { headers, signal: here.signal });
      for await (const event of parsed(answer.body)) {
        last = event.id;
        hear(event.data);
        ended ||= ["completed", "failed", "cancelled", "deleted"].includes(event.data.type);
      }
    } catch (error) {
      if (error instanceof Refusal) return;
    }
    here.abort();
    if (!ended && !signal.aborted) await pause(300);
  }
}

async function* parsed(body) {
  let rest = "";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const fields = Object.fromEntries(
        part.split("\n").map((row) => row.split(/: (.*)/s).slice(0, 2)),
      );
      if (fields.data) yield { id: fields.id, data: JSON.parse(fields.data) };
    }
  }
}
