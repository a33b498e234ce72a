// The list of films: only the rows that are seen exist, so a thousand scroll like ten.

import { address } from "./api.js";
import { $, eachFrame, lookUp, make, write } from "./dom.js";
import { choose, chosenId, films, house, more, order, readMore, show } from "./films.js";
import { isLive, seconds, short } from "./words.js";

const ROW = 58;
const AROUND = 6;
const rows = new Map();
let active = null;

function row(id) {
  const made = make(
    "li",
    { role: "option", id: `row-${id}` },
    make("span", { class: "thumb" }),
    make("b"),
    make("small"),
    make("i"),
  );
  made.addEventListener("click", () => {
    pick(id);
    requestAnimationFrame(lookUp);
  });
  made.picture = new AbortController();
  return made;
}

function fill(made, film, place) {
  const [thumb, words, facts, bar] = made.children;
  made.style.transform = `translateY(${place * ROW}px)`;
  made.setAttribute("aria-posinset", place + 1);
  made.setAttribute("aria-setsize", more ? -1 : order.length);
  made.setAttribute("aria-selected", String(film.id === chosenId()));
  made.classList.toggle("active", film.id === active);
  write(words, film.prompt.slice(0, 160));
  const shot = film.shot
    ? `shot ${film.shot}`
    : film.from_block
      ? `from block ${film.from_block + 1}`
      : "";
  const known = [shot, seconds(Number(film.seconds)), `seed ${film.seed}`, short(film)];
  write(facts, known.filter(Boolean).join(" · "));
  made.dataset.status = film.status;
  bar.style.transform = `scaleX(${isLive(film) ? film.progress / 100 : 0})`;
  if (film.status === "completed" && !thumb.firstChild) addThumb(thumb, film, made.picture.signal);
}

async function addThumb(thumb, film, signal) {
  const image = make("img", { alt: "", decoding: "async" });
  thumb.append(image);
  try {
    const { url, free } = await address(`/v1/videos/${film.id}/content?variant=thumbnail`, signal);
    image.addEventListener("load", free);
    image.src = url;
  } catch {
    image.remove();
  }
}

const draw = eachFrame(() => {
  const scroller = $("scroller");
  const first = Math.max(Math.floor(scroller.scrollTop / ROW) - AROUND, 0);
  const last = Math.min(
    Math.ceil((scroller.scrollTop + scroller.clientHeight) / ROW) + AROUND,
    order.length,
  );
  $("list").style.height = `${order.length * ROW}px`;
  const ids = order.slice(first, last);
  const here = new Set(ids);
  if (active && films.has(active)) here.add(active);
  for (const [id, made] of rows) {
    if (here.has(id)) continue;
    made.picture.abort();
    made.remove();
    rows.delete(id);
  }
  for (const id of here) {
    if (!rows.has(id)) {
      rows.set(id, row(id));
      $("list").append(rows.get(id));
    }
    fill(rows.get(id), films.get(id), order.indexOf(id));
  }
  show(ids);
  write($("count"), order.length ? `${order.length}${more ? "+" : ""}` : "");
  $("none").hidden = order.length > 0;
  $("list").hidden = order.length === 0;
  if (more && last > order.length - 40) readMore().catch(() => {});
});

function pick(id) {
  active = id;
  $("list").setAttribute("aria-activedescendant", `row-${id}`);
  choose(id);
  draw();
}

function move(event) {
  const page = Math.max(Math.floor($("scroller").clientHeight / ROW) - 1, 1);
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 };
  if (!(event.key in steps) || !order.length) return;
  event.preventDefault();
  const from = order.indexOf(active ?? chosenId());
  const to = Math.min(Math.max(from + steps[event.key], 0), order.length - 1);
  pick(order[to]);
  const scroller = $("scroller");
  if (to * ROW < scroller.scrollTop) scroller.scrollTop = to * ROW;
  const below = (to + 1) * ROW - scroller.clientHeight;
  if (below > scroller.scrollTop) scroller.scrollTop = below;
}

/** Bring the list to life. */
export function openList() {
  $("scroller").addEventListener("scroll", draw, { passive: true });
  $("list").addEventListener("keydown", move);
  new ResizeObserver(draw).observe($("scroller"));
  house.addEventListener("change", draw);
  house.addEventListener("choose", () => {
    active = chosenId();
    draw();
  });
}
