// The timeline: filmstrip, prompts, blocks and drift over one scale of time.

import { address } from "./api.js";
import { $, eachFrame, make, write } from "./dom.js";
import { model } from "./films.js";
import { FPS, blockAt, clock, firstFrame, shotsOf } from "./words.js";

const CELLS = 60;
const COLUMNS = 10;
const CELL_WIDTH = 120;
const RULER = 16;
const BLOCKS = 9;
const LEAST_RANGE = 0.05;
const MEASURES = [
  ["luma", "Light"],
  ["saturation", "Colour"],
  ["contrast", "Contrast"],
  ["sharpness", "Detail"],
];

export const timeline = new EventTarget();
/** How each piece looks, by the frame it ends at. */
export const looks = new Map();
let film = null;
let frame = 0;
let strip = null;
/** Prompts of the film, and which of them holds at the playhead. */
let shots = [];
let holds = -1;
/** Points of each measure, as they were drawn last. */
let curves = [];

/** Small pictures of a film: those the server made, or those that were seen go by. */
class Strip {
  constructor(of) {
    this.cells = Math.min(of.frames, CELLS);
    this.last = Math.max(of.frames - 1, 1);
    const [width, height] = of.size.split("x").map(Number);
    this.width = CELL_WIDTH;
    this.height = Math.max(Math.round((CELL_WIDTH * height) / width), 1);
    this.seen = new Set();
    this.sheet = make("canvas", {
      width: CELL_WIDTH * COLUMNS,
      height: this.height * Math.ceil(this.cells / COLUMNS),
    });
    this.ink = this.sheet.getContext("2d", { alpha: false });
  }

  cellOf(at) {
    return Math.min(Math.round((at / this.last) * (this.cells - 1)), this.cells - 1);
  }

  place(cell) {
    return [(cell % COLUMNS) * this.width, Math.floor(cell / COLUMNS) * this.height];
  }

  add(at, video) {
    const cell = this.cellOf(at);
    if (this.seen.has(cell) || !video.videoWidth) return false;
    this.ink.drawImage(video, ...this.place(cell), this.width, this.height);
    this.seen.add(cell);
    return true;
  }

  async load(id) {
    const { url, free } = await address(`/v1/videos/${id}/content?variant=spritesheet`);
    const image = new Image();
    image.src = url;
    await image.decode();
    this.ink.drawImage(image, 0, 0, this.sheet.width, this.sheet.height);
    for (let cell = 0; cell < this.cells; cell += 1) this.seen.add(cell);
    this.whole = true;
    free();
  }
}

/** Show another film, or the same in another state. */
export function setFilm(now) {
  const other = film?.id !== now?.id;
  film = now;
  if (!film) return;
  if (other) {
    frame = 0;
    strip = new Strip(film);
    shots = shotsOf(film, model.chunk);
    holds = -1;
  }
  if (film.status === "completed" && !strip.whole && !strip.asked) {
    const mine = strip;
    mine.asked = true;
    mine.load(film.id).then(draw, () => {
      mine.asked = false;
    });
  }
  if (other) showPrompts();
  draw();
}

/** Keep a picture that goes by, where the strip has none yet. */
export function keepPicture(at, video) {
  if (strip && !strip.whole && strip.add(at, video)) draw();
}

/** Move the playhead; it is where branch and redo turn off. */
export function setHead(at) {
  if (frame === at) return;
  frame = at;
  drawHead();
}

export const head = () => frame;
export const headBlock = () => blockAt(frame, model.chunk);

const colour = (element) => getComputedStyle(element).color;

function canvas(element) {
  const ratio = devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = element;
  if (
    element.width !== Math.round(width * ratio) ||
    element.height !== Math.round(height * ratio)
  ) {
    element.width = Math.round(width * ratio);
    element.height = Math.round(height * ratio);
  }
  const ink = element.getContext("2d");
  ink.setTransform(ratio, 0, 0, ratio, 0, 0);
  ink.clearRect(0, 0, width, height);
  return { ink, width, height };
}

export const draw = eachFrame(() => {
  if (!film || !$("strip").clientWidth) return;
  drawStrip();
  drawDrift();
  drawHead();
});

function drawStrip() {
  const { ink, width, height } = canvas($("strip"));
  const dim = colour($("legend"));
  const high = height - RULER;
  ink.font = "10px ui-monospace, 'DejaVu Sans Mono', monospace";
  const long = film.frames / FPS;
  const step =
    [0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300].find((one) => (one / long) * width > 58) ?? 600;
  ink.fillStyle = dim;
  for (let at = 0; at < long - step / 3; at += step) {
    const x = Math.round((at / long) * width) + 0.5;
    ink.globalAlpha = 0.5;
    ink.fillRect(x, RULER - 5, 1, 5);
    ink.globalAlpha = 1;
    ink.fillText(
      step < 1 ? `${at.toFixed(2)}` : clock(Math.round(at * FPS)).slice(0, 5),
      x + 4,
      RULER - 5,
    );
  }
  const wide = (high * strip.width) / strip.height;
  const count = Math.max(Math.round(width / wide), 1);
  const each = width / count;
  for (let slot = 0; slot < count; slot += 1) {
    const cell = strip.cellOf(((slot + 0.5) / count) * (film.frames - 1));
    const x = slot * each;
    if (strip.seen.has(cell)) {
      const cut = Math.min(strip.width, (strip.height * each) / high);
      const [left, top] = strip.place(cell);
      ink.drawImage(
        strip.sheet,
        left + (strip.width - cut) / 2,
        top,
        cut,
        strip.height,
        x,
        RULER,
        each - 1,
        high,
      );
    } else {
      const ready = (slot + 0.5) / count < film.frames_ready / film.frames;
      ink.globalAlpha = ready ? 0.22 : 0.1;
      ink.fillRect(x, RULER, each - 1, high);
      ink.globalAlpha = 1;
    }
  }
}

/** Points of every measure as its change since the first piece. */
function changes() {
  const found = [...looks].sort(([one], [other]) => one - other);
  return MEASURES.map(([name]) => {
    let before = 0;
    return found.map(([ends, look]) => {
      const first = found[0][1][name];
      const at = (before + ends) / 2;
      before = ends;
      return { at, ends, change: (look[name] - first) / Math.max(Math.abs(first), 1) };
    });
  });
}

function drawDrift() {
  const { ink, width, height } = canvas($("drift"));
  const dim = colour($("legend"));
  ink.fillStyle = dim;
  const blocks = model.chunk ? blockAt(film.frames - 1, model.chunk, true) : 1;
  const gap = width / blocks > 4 ? 1 : 0;
  for (let block = 0; block < blocks; block += 1) {
    const from = firstFrame(block, model.chunk);
    const to = Math.min(
      model.chunk ? firstFrame(block + 1, model.chunk) : film.frames,
      film.frames,
    );
    ink.globalAlpha = to <= film.frames_ready ? 0.55 : 0.15;
    ink.fillRect(
      (from / film.frames) * width,
      2,
      ((to - from) / film.frames) * width - gap,
      BLOCKS - 4,
    );
  }
  ink.globalAlpha = 1;
  const top = BLOCKS + 4;
  const middle = top + (height - top) / 2;
  curves = changes();
  const range =
    Math.max(LEAST_RANGE, ...curves.flat().map((point) => Math.abs(point.change))) * 1.1;
  ink.globalAlpha = 0.35;
  ink.fillRect(0, Math.round(middle), width, 1);
  for (const shot of shots.slice(1)) {
    ink.fillRect(Math.round((shot.frame / film.frames) * width), top, 1, height - top);
  }
  ink.globalAlpha = 1;
  ink.font = "10px ui-monospace, 'DejaVu Sans Mono', monospace";
  const swatches = $("legend").querySelectorAll("i");
  curves.forEach((points, place) => {
    if (!points.length) return;
    ink.strokeStyle = ink.fillStyle = colour(swatches[place]);
    ink.lineWidth = 1.5;
    ink.beginPath();
    for (const { at, change } of points) {
      ink.lineTo((at / film.frames) * width, middle - (change / range) * ((height - top) / 2 - 3));
    }
    ink.stroke();
    if (points.length < 40) {
      for (const { at, change } of points) {
        ink.fillRect(
          (at / film.frames) * width - 1.5,
          middle - (change / range) * ((height - top) / 2 - 3) - 1.5,
          3,
          3,
        );
      }
    }
  });
  if (looks.size) {
    ink.fillStyle = dim;
    ink.textAlign = "right";
    ink.fillText(`±${Math.round(range * 100)} %`, width - 2, top + 9);
    ink.textAlign = "left";
  }
  const told = curves.map(
    (points, place) => `${MEASURES[place][1]} ${percent(points.at(-1)?.change ?? 0)}`,
  );
  const text = looks.size
    ? `Drift since the first block: ${told.join(", ")}`
    : "Drift: nothing measured yet";
  if ($("drift").getAttribute("aria-label") !== text) $("drift").setAttribute("aria-label", text);
}

const percent = (share) =>
  `${share < 0 ? "−" : "+"}${Math.abs(share * 100).toFixed(share && Math.abs(share) < 0.1 ? 1 : 0)} %`;

function drawHead() {
  if (!film) return;
  const share = Math.min((frame + 0.5) / film.frames, 1);
  $("head").style.transform = `translateX(${share * $("strip").clientWidth}px)`;
  const block = headBlock();
  const shot = shots.findLastIndex((one) => one.frame <= frame);
  const track = $("track");
  track.setAttribute("aria-valuemax", film.frames - 1);
  track.setAttribute("aria-valuenow", frame);
  const blocks = model.chunk ? `, block ${block + 1}` : "";
  track.setAttribute(
    "aria-valuetext",
    `${(frame / FPS).toFixed(2)} seconds${blocks}: ${shots[shot].text.slice(0, 120)}`,
  );
  if (shot !== holds) {
    $("prompts").children[holds]?.classList.remove("now");
    $("prompts").children[shot].classList.add("now");
    holds = shot;
  }
  const swatches = $("legend").querySelectorAll("b");
  MEASURES.forEach((_measure, place) => {
    const points = curves[place] ?? [];
    const here = points.find((point) => point.ends > frame) ?? points.at(-1);
    write(swatches[place], here ? percent(here.change) : "–");
  });
}

function showPrompts() {
  const ends = [...shots.slice(1).map((shot) => shot.frame), film.frames];
  $("prompts").replaceChildren(
    ...shots.map((shot, place) => {
      const row = make(
        "li",
        { title: shot.text.slice(0, 500) },
        make("span", { class: "unseen" }, `From ${(shot.frame / FPS).toFixed(2)} seconds: `),
        shot.same ? `↻ seed ${shot.seed}` : shot.text.slice(0, 300),
      );
      row.style.left = `${(shot.frame / film.frames) * 100}%`;
      row.style.width = `${((ends[place] - shot.frame) / film.frames) * 100}%`;
      return row;
    }),
  );
}

/** Frame that lies under a pointer. */
function under(event) {
  const { left, width } = $("strip").getBoundingClientRect();
  return Math.round(((event.clientX - left) / width) * film.frames - 0.5);
}

function ask(kind, detail) {
  timeline.dispatchEvent(new CustomEvent(kind, { detail }));
}

function key(event) {
  if (!film || event.ctrlKey || event.metaKey || event.altKey) return;
  const pace = event.shiftKey ? 1 : 0;
  const block = headBlock();
  const on = () =>
    pace ? frame + 1 : model.chunk ? firstFrame(block + 1, model.chunk) : frame + 4;
  const begins = firstFrame(block, model.chunk);
  const back = () =>
    pace
      ? frame - 1
      : model.chunk
        ? frame > begins
          ? begins
          : firstFrame(Math.max(block - 1, 0), model.chunk)
        : frame - 4;
  const seek = {
    ArrowRight: on,
    ArrowUp: on,
    ArrowLeft: back,
    ArrowDown: back,
    Home: () => 0,
    End: () => film.frames - 1,
    PageUp: () => frame + 5 * FPS,
    PageDown: () => frame - 5 * FPS,
  }[event.key];
  if (seek) ask("seek", seek());
  else if (event.key === " ") ask("toggle");
  else if ("brenBREN".includes(event.key))
    ask("act", { b: "branch", r: "redo", e: "extend", n: "again" }[event.key.toLowerCase()]);
  else return;
  event.preventDefault();
}

/** Bring the timeline to life. */
export function openTimeline() {
  $("legend").append(
    ...MEASURES.map(([name, word]) =>
      make("span", { class: name }, make("i"), `${word} `, make("b", {}, "–")),
    ),
  );
  const area = $("timeline");
  area.addEventListener("pointerdown", (event) => {
    if (!film || event.button) return;
    area.setPointerCapture(event.pointerId);
    ask("seek", under(event));
    $("track").focus({ preventScroll: true });
    event.preventDefault();
  });
  area.addEventListener("pointermove", (event) => {
    if (film && area.hasPointerCapture(event.pointerId)) ask("seek", under(event));
  });
  $("track").addEventListener("keydown", key);
  new ResizeObserver(draw).observe(area);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
