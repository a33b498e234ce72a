// What can be done with the film on the monitor; what its model cannot do is said.

import { ask, save } from "./api.js";
import { $, lookUp, make, say, someSeed, tell } from "./dom.js";
import { choose, model, refresh, remove, take } from "./films.js";
import { head, headBlock } from "./timeline.js";
import { FPS, clock, firstFrame, isLive, seconds, shotsOf } from "./words.js";
import { writeLike } from "./write.js";

const ARMED_MS = 4000;
let film = null;
let told = "";
let shownFacts = "";

/** The same request sent again after a line broke makes nothing twice. */
let sent = { text: "", key: "" };

function keyOf(body) {
  const text = JSON.stringify(body);
  if (sent.text !== text)
    sent = { text, key: crypto.getRandomValues(new Uint32Array(4)).join("-") };
  return sent.key;
}

const button = (text, onclick, more = {}) =>
  make("button", { type: "button", onclick, ...more }, text);

function menu() {
  const id = film.id;
  const item = (text, path, name) =>
    make(
      "li",
      {},
      button(text, (event) => {
        event.target.closest("details").open = false;
        attempt(() => save(path, name));
      }),
    );
  const part = (variant) => `/v1/videos/${id}/content?variant=${variant}`;
  const items = [
    item("Film, mp4", `/v1/videos/${id}/content`, `${id}.mp4`),
    item("Timeline, OTIO", part("otio"), `${id}.otio`),
    item("Edit list, EDL", part("edl"), `${id}.edl`),
    item("Contact sheet, PNG", part("contact_sheet"), `${id}.png`),
    item("Record, JSON", part("manifest"), `${id}.json`),
  ];
  if (film.resumable) items.push(item("State, safetensors", part("state"), `${id}.safetensors`));
  const made = make(
    "details",
    { class: "menu" },
    make("summary", {}, "Download"),
    make("ul", {}, ...items),
  );
  made.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    made.open = false;
    made.firstChild.focus();
  });
  made.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !made.contains(event.relatedTarget)) made.open = false;
  });
  return made;
}

function erase() {
  let armed = false;
  const made = button(
    "Delete",
    () => {
      if (armed) {
        attempt(() => remove(film.id));
        return;
      }
      armed = true;
      made.textContent = "Delete for good?";
      setTimeout(() => {
        armed = false;
        made.textContent = "Delete";
      }, ARMED_MS);
    },
    { class: "plain" },
  );
  return made;
}

/** Show what can be done with a film now. */
export function showActions(now) {
  const kind = `${now.id} ${now.status === "completed" ? "done" : isLive(now) ? "live" : "ended"}`;
  film = now;
  if (kind === told) return;
  told = kind;
  $("turn").hidden = true;
  tell($("action-refusal"), "");
  const found = [];
  if (isLive(film)) found.push(button("Cancel", () => attempt(cancel)));
  else {
    if (film.status === "completed") {
      if (model.chunk)
        found.push(
          button("Branch", () => act("branch"), { "aria-keyshortcuts": "B" }),
          button("Redo", () => act("redo"), { "aria-keyshortcuts": "R" }),
          button("Extend", () => act("extend"), { "aria-keyshortcuts": "E" }),
        );
      found.push(
        button("Another take", () => act("again"), { "aria-keyshortcuts": "N" }),
        menu(),
      );
    } else found.push(button("Make again", () => attempt(() => again(film.seed))));
    found.push(
      button("Write like it", () => writeLike(film), { class: "plain" }),
      erase(),
    );
  }
  $("actions").replaceChildren(...found);
  const once = model.chunk ? "" : `${model.id} makes a film in one pass: `;
  const waits = once + (once ? "it is seen when it is finished." : "");
  const rest =
    once +
    (once
      ? "it has no blocks to branch from, and it cannot be extended. Another take is another seed."
      : "");
  tell($("watch-note"), isLive(film) ? waits : film.status === "completed" ? rest : "");
}

async function attempt(call) {
  tell($("action-refusal"), "");
  try {
    await call();
  } catch (error) {
    tell($("action-refusal"), error.message);
  }
}

async function cancel() {
  await ask(`/v1/videos/${film.id}/cancel`, { method: "POST" });
  await refresh(film.id);
}

/** The same words once more. */
async function again(seed, words = film.prompt, long = null) {
  if (film.begins_with_picture) {
    writeLike(film);
    throw new Error(
      "This film began with a picture, which the server gives to no second one. Its words are written beside; drop the picture again and press Make.",
    );
  }
  const scene = film.scene ? { scene: film.scene, shot: film.shot ?? 1 } : {};
  const cues = film.prompt_at.filter((cue) => cue.text).map(({ at_s, text }) => ({ at_s, text }));
  const told = cues.length ? { prompt_at: cues } : {};
  const { frames, ...settings } = film.settings;
  const length = long === null ? { frames } : { seconds: long };
  const body = { prompt: words, ...settings, ...length, seed, ...told, ...scene };
  queued(await ask("/v1/videos", { json: body, key: keyOf(body) }));
}

function queued(made) {
  sent = { text: "", key: "" };
  take(made);
  choose(made.id);
  requestAnimationFrame(lookUp);
  say("Film queued");
}

/** Do what a button or a key says; what cannot be done now is told. */
export function act(what) {
  if (!film || film.status !== "completed") return;
  if (what === "again") attempt(() => again(someSeed()));
  else if (!model.chunk)
    tell(
      $("action-refusal"),
      `${model.id} makes films in one pass and cannot ${what} them; another take (N) is another seed.`,
    );
  else openTurn(what);
}

/** Where a redo may begin: the block at the playhead, or the shot it is in. */
function places() {
  const shot = shotsOf(film, model.chunk).findLast((one) => one.frame <= head());
  const block = headBlock();
  const ofShot = shot.frame ? headBlockOf(shot.frame) : 0;
  return { shot, block, ofShot };
}

const headBlockOf = (frame) => Math.round((frame - 1) / (4 * model.chunk));
const at = (block) => `${clock(firstFrame(block, model.chunk))}`;

function openTurn(what) {
  const { shot, block, ofShot } = places();
  const rest = (from) =>
    +((film.frames - (from ? firstFrame(from, model.chunk) : 1)) / FPS).toFixed(4);
  const words = make("textarea", { id: "turn-text", rows: 2 });
  const length = make("input", {
    id: "turn-seconds",
    inputmode: "decimal",
    value: what === "extend" ? 5 : rest(block),
  });
  const seed = make("input", {
    id: "turn-seed",
    inputmode: "numeric",
    placeholder: `${film.seed}`,
  });
  const from = make("select", { id: "turn-from" });
  if (what === "redo") {
    words.value = shot.text;
    seed.value = someSeed();
    from.append(make("option", { value: block }, `block ${block + 1}, ${at(block)}`));
    if (ofShot !== block)
      from.append(make("option", { value: ofShot }, `the shot’s beginning, ${at(ofShot)}`));
    if (block && ofShot) from.append(make("option", { value: 0 }, "the film’s beginning"));
    from.addEventListener("change", () => (length.value = rest(Number(from.value))));
  }
  const title = {
    branch: block
      ? `Branch at block ${block + 1}, ${at(block)}: what happens then?`
      : "Branch at the beginning: what is seen instead?",
    redo: "Redo: the same length, other chances",
    extend: "Extend: what happens next? (May stay empty.)",
  }[what];
  const field = (label, input, more = {}) => make("label", more, label, input);
  $("turn").replaceChildren(
    field(title, words, { class: "wide" }),
    ...(what === "redo" ? [field("From", from)] : []),
    field(what === "extend" ? "Seconds more" : "Seconds from there", length),
    field("Seed from there", seed),
    make(
      "div",
      { class: "ends" },
      make(
        "button",
        { class: "main" },
        { branch: "Make the branch", redo: "Redo", extend: "Extend" }[what],
      ),
      button("Leave it", closeTurn, { class: "plain" }),
    ),
  );
  $("turn").hidden = false;
  $("turn").onsubmit = (event) => {
    event.preventDefault();
    const asked = {
      words: words.value.trim(),
      seconds: length.value.trim().replace(",", "."),
      seed: seed.value.trim(),
    };
    attempt(() => turn(what, what === "redo" ? Number(from.value) : block, asked));
  };
  $("turn").scrollIntoView({ block: "nearest" });
  words.focus({ preventScroll: true });
}

function closeTurn() {
  $("turn").hidden = true;
  $("track").focus();
}

async function turn(what, block, { words, seconds: long, seed }) {
  if (Number.isNaN(Number(seed || 0))) throw new Error("The seed is a number.");
  const reseeded = seed === "" ? {} : { seed: Number(seed) };
  if (what !== "extend" && !block) {
    if (!words) throw new Error("Say what is to be seen.");
    await again(reseeded.seed ?? film.seed, words, long);
    $("turn").hidden = true;
    return;
  }
  if (what === "branch" && !words && seed === "")
    throw new Error("Say what happens then, or give another seed; else it is the same film.");
  const body = { video: film.id, seconds: long, ...reseeded };
  if (what !== "extend") body.from_block = block;
  const first = firstFrame(block, model.chunk);
  const shots = shotsOf(film, model.chunk);
  const goesOn =
    what === "redo" &&
    shots.some((shot) => shot.frame < first && shot.text === words) &&
    !shots.some((shot) => shot.frame === first);
  // Words that hold already are not said twice.
  if (words && !goesOn) body.prompt = words;
  if (what === "redo") {
    const later = film.prompt_at.filter((_cue, place) => shots[place + 1].frame > first);
    if (later.length)
      body.prompt_at = later.map(({ at_s, text, seed: own }) =>
        own == null ? { at_s, text } : { at_s, text, seed: own },
      );
  }
  queued(await ask("/v1/videos/extensions", { json: body, key: keyOf(body) }));
  $("turn").hidden = true;
}

/** What a film is made from, in rows. */
export function showFacts(now) {
  const facts = {
    Seed: now.settings.seed,
    Size: now.size,
    Length: `${seconds(now.frames / FPS)}, ${now.frames} frames at ${FPS} a second`,
    Steps: now.settings.steps,
    Guidance: now.settings.guidance,
    Shift: now.settings.shift,
    Sampler: now.settings.sampler,
    "Not to be shown": now.settings.negative,
    Model: now.model,
    "Peak memory": now.peak_memory_mb && `${now.peak_memory_mb} MB`,
    Notes: now.notices.join("; "),
    "SHA-256": now.sha256,
    Id: now.id,
  };
  const text = JSON.stringify(facts);
  if (text === shownFacts) return;
  shownFacts = text;
  const rows = Object.entries(facts).filter(([, value]) => value !== "" && value != null);
  $("facts").lastElementChild.replaceChildren(
    ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]),
  );
}
