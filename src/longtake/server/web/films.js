// The films that the server knows, newest first, kept up to date; and the one on the monitor.

import { Refusal, ask, line, seen, there, pause } from "./api.js";
import { isLive } from "./words.js";

const PAGE = 100;
const LOOK_EVERY_MS = 1500;
const MOST_SINGLE = 6;

export const films = new Map();
export const house = new EventTarget();
export let order = [];
export let more = true;
let loading = null;
let chosen = null;
/** Ids that the list shows now. */
let shown = [];

export const model = { id: "", chunk: 0, defaults: {}, most_frames: 81, most_pixels: 0 };

function changed(detail) {
  house.dispatchEvent(new CustomEvent("change", { detail }));
}

export const chosenFilm = () => films.get(chosen) ?? null;
export const chosenId = () => chosen;

/** Put a film on the monitor. */
export function choose(id) {
  if (chosen === id) return;
  chosen = id;
  history.replaceState(null, "", id ? `#${id}` : location.pathname);
  house.dispatchEvent(new Event("choose"));
  if (id && !films.has(id)) refresh(id);
}

/** Take a film as the server tells it. */
export function take(film) {
  const before = films.get(film.id);
  if (before && before.status !== "completed" && film.status === "completed")
    house.dispatchEvent(new Event("made"));
  films.set(film.id, film);
  if (!order.includes(film.id)) {
    const at = order.findIndex((id) => films.get(id).created_at <= film.created_at);
    // A film older than all that were read comes with its page.
    if (at >= 0 || !more || !order.length) order.splice(at < 0 ? order.length : at, 0, film.id);
  }
  changed(film.id);
}

/** Change what is known of a film by an event. */
export function amend(id, change) {
  const film = films.get(id);
  if (!film) return;
  films.set(id, { ...film, ...change });
  changed(id);
}

export async function refresh(id) {
  try {
    take(await ask(`/v1/videos/${id}`));
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) drop(id);
  }
}

function drop(id) {
  films.delete(id);
  order = order.filter((other) => other !== id);
  if (chosen === id) choose(null);
  changed(id);
}

export async function remove(id) {
  await ask(`/v1/videos/${id}`, { method: "DELETE" });
  drop(id);
}

/** Read the next page of older films. */
export function readMore() {
  if (!more) return Promise.resolve();
  loading ??= (async () => {
    try {
      const after = order.length ? `&after=${order.at(-1)}` : "";
      const page = await ask(`/v1/videos?limit=${PAGE}${after}`);
      const known = new Set(order);
      for (const film of page.data) {
        films.set(film.id, film);
        if (!known.has(film.id)) order.push(film.id);
      }
      more = page.has_more;
      changed(null);
    } finally {
      loading = null;
    }
  })();
  return loading;
}

/** Tell which films the list shows, for these are kept up to date. */
export function show(ids) {
  shown = ids;
}

async function look() {
  const page = await ask("/v1/videos?limit=20");
  const ids = new Set(page.data.map((film) => film.id));
  const known = new Set(order);
  const fresh = page.data.filter((film) => !known.has(film.id));
  if (fresh.length === page.data.length && order.length) {
    // More came than one page tells: read anew.
    order = [];
    more = true;
    await readMore();
    return;
  }
  const oldest = page.data.at(-1)?.created_at ?? 0;
  if (page.data.length && !page.has_more) more = false;
  for (const id of order) {
    const film = films.get(id);
    if (film.created_at > oldest && !ids.has(id)) await refresh(id);
  }
  order.unshift(...fresh.map((film) => film.id));
  let differs = fresh.length > 0;
  for (const film of page.data) {
    const before = films.get(film.id);
    const same = before && before.status === film.status && before.progress === film.progress;
    if (same || (film.id === chosen && before && isLive(film))) continue;
    films.set(film.id, film);
    differs = true;
  }
  if (differs) changed(null);
  const old = shown.filter((id) => !ids.has(id) && films.has(id) && isLive(films.get(id)));
  for (const id of old.slice(0, MOST_SINGLE)) await refresh(id);
}

/** Read the model and the first films, then look for changes for ever. */
export async function open() {
  await Promise.all([readModel(), readMore()]);
  house.dispatchEvent(new Event("open"));
  for (;;) {
    await pause(LOOK_EVERY_MS);
    await Promise.all([there(), seen()]);
    await look().catch(() => {});
  }
}

async function readModel() {
  const { data } = await ask("/v1/models");
  Object.assign(model, data[0]);
}

/** Whether the server can make films now. */
export async function readHealth() {
  return (await ask("/health")).status;
}

line.addEventListener("back", () => chosen && refresh(chosen));
