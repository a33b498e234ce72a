// Writing: lines become shots, shots become a plan, and a plan becomes films.

import { Gone, ask, line, there } from "./api.js";
import { $, eachFrame, lookUp, make, say, someSeed, tell } from "./dom.js";
import { draft, keep, read } from "./draft.js";
import { choose, house, model, take } from "./films.js";
import { bytes, clock, count, seconds, FPS } from "./words.js";

const FIELDS = ["text", "seconds", "size", "seed", "steps", "guidance", "negative"];
const MOST_SHOTS = 100;
const MOST_SHOWN = 12;
const MOST_PROMPT = 10_000;
const MOST_PICTURE = 25 * 2 ** 20;
const SIZES = ["448x256", "256x448", "320x192", "640x352", "832x480", "1280x720"];
const PLAN_AFTER_MS = 350;
/** Key of what was sent and not answered: sent again, it makes nothing twice. */
let key = null;
let picture = null;
let planning = null;
let planTimer = 0;

/** Lines as shots, each with its words and its length as it was typed. */
export function shotsIn(text, length) {
  const found = [];
  for (const row of text.split("\n")) {
    if (!row.trim()) continue;
    const match = /^\s*(\d+(?:\.\d+)?)\s*s(?:ec(?:onds)?)?\b[\s:.,–-]*(.+)$/i.exec(
      row.slice(0, 200),
    );
    const words = match ? row.slice(match[0].length - match[2].length) : row;
    found.push({ words: words.trim(), seconds: match ? Number(match[1]) : length });
    if (found.length > MOST_SHOTS) break;
  }
  return found;
}

const number = (id) => {
  const text = $(id).value.trim().replace(",", ".");
  return text === "" ? null : Number(text);
};

const values = () => ({
  ...Object.fromEntries(FIELDS.map((id) => [id, $(id).value])),
  way: way(),
});

const way = () => document.querySelector("input[name=way]:checked").value;

function fill(kept) {
  for (const id of FIELDS) if (typeof kept[id] === "string") $(id).value = kept[id];
  for (const input of document.querySelectorAll("input[name=way]")) {
    input.checked = input.value === (kept.way ?? "take");
  }
  changed();
}

/** Write a film's words into the page, for another one like it. */
export function writeLike(film) {
  let last = (film.frames - 1) / FPS;
  const cues = [...film.prompt_at].reverse().map((cue) => {
    const row = `${+(last - cue.at_s).toFixed(3)}s ${cue.text || film.prompt}`;
    last = cue.at_s;
    return row;
  });
  fill({
    ...values(),
    text: [`${+last.toFixed(3)}s ${film.prompt}`, ...cues.reverse()].join("\n"),
    size: film.size,
    seed: String(film.seed),
  });
  keep(values);
  $("text").focus();
}

/** What to say before anything is sent; empty if all is well. */
function wrong(shots) {
  if (!shots.length) return "Write what is to be seen: a line is a shot.";
  if (shots.length > MOST_SHOTS)
    return `These are more than ${MOST_SHOTS} shots; make them in parts.`;
  const long = shots.findIndex((shot) => shot.words.length > MOST_PROMPT);
  if (long >= 0) {
    const size = shots[long].words.length.toLocaleString("en");
    return `Line ${long + 1} has ${size} characters; the most is 10,000. It is kept as you wrote it.`;
  }
  if (shots.some((shot) => !(shot.seconds > 0))) return "The length of a shot is a number above 0.";
  for (const [id, name] of [
    ["seed", "The seed"],
    ["steps", "Steps"],
    ["guidance", "Guidance"],
  ]) {
    if (Number.isNaN(number(id))) return `${name} is a number.`;
  }
  return "";
}

function settings() {
  const found = {};
  if ($("size").value.trim()) found.size = $("size").value.trim().toLowerCase().replace("×", "x");
  for (const id of ["steps", "guidance"]) if (number(id) !== null) found[id] = number(id);
  if ($("negative").value.trim()) found.negative = $("negative").value.trim();
  return found;
}

const inOneTake = (shots) => shots.length < 2 || (model.chunk > 0 && way() === "take");

/** The requests that make what is written. */
function bodies(shots, seed) {
  const common = { ...settings(), ...(seed === null ? {} : { seed }) };
  if (inOneTake(shots)) {
    let at = 0;
    const cues = shots.slice(1).map((shot, place) => {
      at += shots[place].seconds;
      return { at_s: +at.toFixed(4), text: shot.words };
    });
    const total = shots.reduce((sum, shot) => sum + shot.seconds, 0);
    const more = cues.length ? { prompt_at: cues } : {};
    return [{ prompt: shots[0].words, seconds: total, ...common, ...more }];
  }
  const scene = `Scene ${new Date().toLocaleString("sv").replace("T", " ")}`;
  return shots.map((shot, place) => ({
    prompt: shot.words,
    seconds: shot.seconds,
    ...common,
    scene,
    shot: place + 1,
  }));
}

const shotsNow = () => shotsIn($("text").value, number("seconds") ?? 5);

const showShots = eachFrame(() => {
  const shots = shotsNow();
  $("ways").hidden = shots.length < 2 || !model.chunk;
  $("shots").hidden = shots.length < 2;
  let at = 0;
  const rows = shots.slice(0, MOST_SHOWN).map((shot) => {
    const row = make(
      "li",
      {},
      make("b", {}, clock(Math.round(at * FPS))),
      make("q", {}, shot.words.slice(0, 80)),
      make("span", {}, seconds(shot.seconds || 0)),
    );
    at += shot.seconds || 0;
    return row;
  });
  if (shots.length > MOST_SHOWN) rows.push(make("li", {}, `and ${shots.length - MOST_SHOWN} more`));
  $("shots").replaceChildren(...rows);
});

function changed() {
  showShots();
  tell($("refusal"), "");
  clearTimeout(planTimer);
  planTimer = setTimeout(plan, PLAN_AFTER_MS);
}

async function plan() {
  planning?.abort();
  const shots = shotsNow();
  if (!shots.length || wrong(shots)) {
    showPlan([], shots.length ? wrong(shots) : "");
    return;
  }
  const here = new AbortController();
  planning = here;
  try {
    const found = [];
    for (const body of bodies(shots, number("seed"))) {
      found.push(await ask("/v1/videos/plan", { json: body, signal: here.signal }));
    }
    showPlan(found, "");
  } catch (error) {
    if (!here.signal.aborted) showPlan([], error.message);
  }
}

function showPlan(plans, problem) {
  const sum = (name) => plans.reduce((total, one) => total + (one[name] ?? 0), 0);
  const rows = [];
  if (problem) rows.push(["Plan", problem]);
  if (plans.length) {
    const films = plans.length > 1 ? `${count(plans.length, "film")}, ` : "";
    const blocks = model.chunk ? `, ${count(sum("blocks_total"), "block")}` : ", one pass";
    rows.push([
      "Film",
      `${films}${seconds(plans.reduce((t, one) => t + Number(one.seconds), 0))}, ${plans[0].size}, ${count(sum("frames"), "frame")}${blocks}`,
    ]);
    const known = plans.every((one) => one.estimate_s !== null);
    rows.push([
      "Time",
      known
        ? `about ${seconds(Math.max(Math.round(sum("estimate_s")), 1))}`
        : "known after the first film here",
    ]);
    rows.push(["Disk", bytes(sum("disk_bytes"))]);
    const notices = new Set(plans.flatMap((one) => one.notices));
    [...notices].slice(0, 5).forEach((notice, place) => rows.push([place ? "" : "Note", notice]));
  }
  $("plan").classList.toggle("bad", Boolean(problem));
  $("plan").replaceChildren(
    ...rows.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]),
  );
}

function form(body) {
  const made = new FormData();
  for (const [name, value] of Object.entries(body)) {
    made.append(name, typeof value === "string" ? value : JSON.stringify(value));
  }
  made.append("input_reference", picture, "picture");
  return made;
}

async function send(event) {
  event.preventDefault();
  if ($("make").getAttribute("aria-disabled")) return;
  const shots = shotsNow();
  const problem = wrong(shots);
  tell($("refusal"), problem);
  if (problem) return;
  const written = JSON.stringify(values()) + (picture?.name ?? "");
  if (key?.written !== written)
    key = { written, name: crypto.getRandomValues(new Uint32Array(4)).join("-") };
  key.bodies ??= bodies(shots, number("seed") ?? someSeed());
  $("make").setAttribute("aria-disabled", "true");
  try {
    const made = [];
    for (const [place, body] of key.bodies.entries()) {
      const first = picture && place === 0 && model.chunk;
      const said = first ? { method: "POST", body: form(body) } : { json: body };
      made.push(await ask("/v1/videos", { ...said, key: `${key.name}-${place}` }));
    }
    key = null;
    made.forEach(take);
    choose(made[0].id);
    say(`${count(made.length, "film")} in the queue`);
    requestAnimationFrame(lookUp);
  } catch (error) {
    tell($("refusal"), error.message);
    if (error instanceof Gone) there().then(() => tell($("refusal"), ""));
    // What may come through later is sent again as the same request.
    else if (error.status < 429) key = null;
  } finally {
    $("make").removeAttribute("aria-disabled");
  }
}

const MAGIC = [
  [0, [0x89, 0x50, 0x4e, 0x47]],
  [0, [0xff, 0xd8, 0xff]],
  [8, [0x57, 0x45, 0x42, 0x50]],
];

async function takePicture(file) {
  if (!file) return;
  const place = $("picture");
  const alert = place.querySelector("[role=alert]");
  const head = new Uint8Array(await file.slice(0, 16).arrayBuffer());
  const known = MAGIC.some(([at, bytes]) => bytes.every((byte, n) => head[at + n] === byte));
  if (!known) return tell(alert, `${file.name} is no PNG, JPEG or WebP; nothing was changed.`);
  if (file.size > MOST_PICTURE)
    return tell(alert, `${file.name} has ${bytes(file.size)}; the most is 25 MB.`);
  tell(alert, "");
  picture = file;
  const image = place.querySelector("img");
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(file);
  place.querySelector("figure").hidden = false;
  place.querySelector(".drop").hidden = true;
}

function dropPicture() {
  picture = null;
  $("file").value = "";
  $("picture").querySelector("figure").hidden = true;
  $("picture").querySelector(".drop").hidden = false;
  $("file").focus();
}

function takeDrops() {
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    // A file that is dropped beside the place would otherwise replace the page.
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file && model.chunk) takePicture(file);
    else if (file)
      tell($("refusal"), `${model.id} does not begin with a picture; ${file.name} was left out.`);
  });
}

/** Show what the model can do, and say what it cannot. */
export function fitModel() {
  const { defaults } = model;
  $("picture").hidden = !model.chunk;
  tell(
    $("no-picture"),
    model.chunk
      ? ""
      : `${model.id} makes each film in one pass, up to ${seconds((model.most_frames - 1) / FPS)}; it does not begin with a picture. Several shots become a scene, one film each.`,
  );
  const own = `${defaults.width}x${defaults.height}`;
  const fits = (size) =>
    size.split("x").reduce((area, side) => area * side, 1) <= model.most_pixels;
  $("sizes").replaceChildren(...SIZES.filter(fits).map((size) => make("option", { value: size })));
  $("size").placeholder = own;
  $("steps").placeholder = defaults.steps;
  $("guidance").placeholder = defaults.guidance;
  changed();
}

function tellTabs(theirs) {
  const place = $("tabs");
  place.hidden = false;
  const done = (text) => () => {
    if (text) fill(theirs);
    else keep(values);
    place.hidden = true;
    $("text").focus();
  };
  place.replaceChildren(
    "This text was changed in another tab. ",
    make("button", { type: "button", class: "plain", onclick: done(true) }, "Take that one"),
    make("button", { type: "button", class: "plain", onclick: done(false) }, "Keep this one"),
  );
}

/** Bring the writing column to life. */
export function openWrite() {
  const kept = read();
  if (kept) fill(kept);
  const typed = () => {
    keep(values);
    changed();
  };
  $("write").addEventListener("input", (event) => event.target.type !== "file" && typed());
  $("write").addEventListener("submit", send);
  $("write").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send(event);
  });
  $("file").addEventListener("change", () => takePicture($("file").files[0]));
  $("picture").querySelector("button").addEventListener("click", dropPicture);
  takeDrops();
  draft.addEventListener("follow", ({ detail }) => fill(detail));
  draft.addEventListener("other", ({ detail }) => tellTabs(detail));
  draft.addEventListener("kept", ({ detail }) => {
    tell(
      $("tabs"),
      detail
        ? ""
        : "The browser has no room to keep this text; it is in this tab alone. Copy it before you leave.",
    );
  });
  line.addEventListener("back", changed);
  // The first film tells how long the next takes.
  house.addEventListener("made", () => key || plan());
}
