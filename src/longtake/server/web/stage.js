// The stage: the chosen film on the monitor, what happens to it, its timeline and its takes.

import { listen } from "./api.js";
import { $, eachFrame, tell, write } from "./dom.js";
import { amend, choose, chosenFilm, films, house, model, refresh } from "./films.js";
import { canWatch } from "./live.js";
import { Monitor } from "./monitor.js";
import { act, showActions, showFacts } from "./actions.js";
import { playable, forget, showScene, showTakes, takes } from "./takes.js";
import { draw, head, keepPicture, looks, setFilm, setHead, timeline } from "./timeline.js";
import { clock, firstFrame, isLive, state } from "./words.js";

const MOST_APART_S = 0.08;
const MOST_PARENTS = 8;
let first = null;
let second = null;
let listening = new AbortController();
let compared = null;
let scene = null;

/** Take an event of the film on the monitor. */
function hear(film, event) {
  if (event.look) {
    looks.set(event.frames_ready, event.look);
    draw();
  }
  if (!isLive(films.get(film.id) ?? film)) return;
  if (["progress", "border", "frames"].includes(event.type)) {
    const { type, look, block, ...told } = event;
    // At a border the block is the next one, which progress tells when it begins.
    amend(film.id, { status: "in_progress", ...told, ...(type === "progress" ? { block } : {}) });
  } else if (event.type !== "notice") refresh(film.id);
}

/** What the takes looked like that this one turned off from. */
async function hearParents(film, signal) {
  let child = film;
  let until = Infinity;
  for (let depth = 0; child?.parent_id && depth < MOST_PARENTS; depth += 1) {
    const id = child.parent_id;
    if (!films.has(id)) await refresh(id);
    const parent = films.get(id);
    if (!parent || signal.aborted) return;
    until = Math.min(
      until,
      child.from_block ? firstFrame(child.from_block, model.chunk) : parent.frames,
    );
    const most = until;
    await listen(id, signal, ({ look, frames_ready: ends }) => {
      if (!look || ends > most || looks.has(ends)) return;
      looks.set(ends, look);
      draw();
    });
    child = parent;
  }
}

function open() {
  listening.abort();
  listening = new AbortController();
  looks.clear();
  compare(null);
  const film = chosenFilm();
  $("film").hidden = !film;
  $("empty").hidden = Boolean(film);
  if (!film) return close();
  if (!first) addFirst();
  first.loops = !scene;
  show();
  const { signal } = listening;
  listen(film.id, signal, (event) => !signal.aborted && hear(film, event));
  hearParents(film, signal);
}

function close() {
  first?.close();
  first = null;
  forget();
  setFilm(null);
  document.title = "Longtake Studio";
}

function addFirst() {
  first = new Monitor("The film");
  $("monitors").append(first.figure);
  first.addEventListener("picture", ({ detail }) => {
    setHead(detail);
    keepPicture(detail, first.video);
    showClock();
  });
  for (const kind of ["seeking", "timeupdate", "loadeddata"]) {
    first.addEventListener(kind, () => {
      if (first.video.seeking || !first.playing) setHead(first.frame);
      if (second && Math.abs(second.video.currentTime - first.video.currentTime) > MOST_APART_S) {
        second.video.currentTime = first.video.currentTime;
      }
      showClock();
    });
  }
  for (const kind of ["play", "pause"]) {
    first.addEventListener(kind, () => {
      showPlay();
      if (second) second.video[kind]().catch?.(() => {});
    });
  }
  first.addEventListener("ended", nextShot);
}

function showPlay() {
  const playing = first?.playing;
  write($("play"), playing ? "❚❚" : "▶");
  $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
}

function showClock() {
  write($("clock"), clock(head()));
}

const show = eachFrame(() => {
  const film = chosenFilm();
  if (!film || !first) return;
  write($("title"), film.prompt.slice(0, 400));
  document.title = `${isLive(film) ? `${film.progress} % ` : ""}${film.prompt.slice(0, 60)} – Longtake Studio`;
  write($("state"), state(film));
  $("state").dataset.status = film.status;
  write($("length"), `/ ${clock(film.frames)}`);
  first.show(film);
  showPlay();
  showClock();
  setFilm(film);
  showActions(film);
  showFacts(film);
  showTakes(film, compared);
  showScene(film);
  first.label(second ? `This take, seed ${film.seed}` : "");
  if (model.chunk && isLive(film) && !canWatch()) {
    tell(
      $("watch-note"),
      "This browser has no Media Source Extensions: the film is shown as far as the browser can, and whole when it is finished.",
    );
  }
});

function seek(frame) {
  if (!first?.film) return;
  setHead(first.seek(frame));
  showClock();
}

/** Put another take beside the one on the monitor, or take it away. */
function compare(id) {
  second?.close();
  second = null;
  compared = id === compared ? null : id;
  if (compared) {
    second = new Monitor("The other take");
    second.loops = true;
    second.show(films.get(compared));
    second.label(`The other take, seed ${films.get(compared).seed}`);
    $("monitors").append(second.figure);
    second.video.currentTime = first.video.currentTime;
    if (first.playing) second.play();
  }
  $("monitors").classList.toggle("two", Boolean(second));
  show();
}

function playScene() {
  scene = playable().map((film) => film.id);
  nextShot();
}

function nextShot() {
  if (!scene) return;
  const id = scene.shift();
  if (!id) {
    scene = null;
    first.loops = true;
    return;
  }
  first.loops = false;
  if (chosenFilm()?.id === id) {
    first.video.loop = false;
    seek(0);
    first.play();
  } else {
    first.playsNext = true;
    choose(id);
  }
}

/** Bring the stage to life. */
export function openStage() {
  $("play").addEventListener("click", () => first?.toggle());
  $("back").addEventListener("click", () => seek(head() - 1));
  $("forth").addEventListener("click", () => seek(head() + 1));
  timeline.addEventListener("seek", ({ detail }) => seek(detail));
  timeline.addEventListener("toggle", () => first?.toggle());
  timeline.addEventListener("act", ({ detail }) => act(detail));
  takes.addEventListener("compare", ({ detail }) => compare(detail));
  takes.addEventListener("scene", playScene);
  house.addEventListener("choose", open);
  house.addEventListener("change", () => {
    if (!chosenFilm()) return;
    if ($("film").hidden) open();
    else show();
  });
}
