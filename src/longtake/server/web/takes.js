// Takes of a film, and the shots of a scene: cards in rows, each with its picture.

import { address, save } from "./api.js";
import { $, lookUp, make, tell, write } from "./dom.js";
import { choose, films, order } from "./films.js";
import { isLive, short, wordsOf } from "./words.js";

const MOST_TAKES = 24;
const MOST_LOOKED_AT = 2000;
export const takes = new EventTarget();
const cards = new Map();

function rootOf(film) {
  let found = film;
  while (found.parent_id && films.has(found.parent_id)) found = films.get(found.parent_id);
  return found;
}

/** Films that are other takes of this one, oldest first. */
function family(film) {
  const root = rootOf(film).id;
  const words = wordsOf(film);
  const kin = (other) =>
    rootOf(other).id === root ||
    (film.scene
      ? other.scene === film.scene && other.shot === film.shot
      : !other.scene && wordsOf(other) === words);
  return order
    .slice(0, MOST_LOOKED_AT)
    .map((id) => films.get(id))
    .filter(kin)
    .reverse();
}

/** The best film of each shot of a scene: the newest that is finished. */
function cutOf(film) {
  const shots = new Map();
  for (const id of order) {
    const other = films.get(id);
    if (other.scene !== film.scene) continue;
    const best = shots.get(other.shot);
    if (
      other.id === film.id ||
      !best ||
      (best.id !== film.id && best.status !== "completed" && other.status === "completed")
    ) {
      shots.set(other.shot, other);
    }
  }
  return [...shots.values()].sort((one, other) => one.shot - other.shot);
}

function show(id) {
  choose(id);
  requestAnimationFrame(lookUp);
}

function card(film, kind) {
  const id = `${kind} ${film.id}`;
  let made = cards.get(id);
  if (!made) {
    made = make(
      "li",
      {},
      make(
        "button",
        { type: "button", class: "card", onclick: () => show(film.id) },
        make("span", { class: "thumb" }),
        make("b"),
        make("small"),
      ),
    );
    if (kind === "take") {
      made.append(
        make(
          "button",
          {
            type: "button",
            class: "plain compare",
            onclick: () => {
              takes.dispatchEvent(new CustomEvent("compare", { detail: film.id }));
              lookUp();
            },
          },
          "Side by side",
        ),
      );
    }
    cards.set(id, made);
  }
  if (film.status === "completed" && !made.asked) {
    made.asked = true;
    address(`/v1/videos/${film.id}/content?variant=thumbnail`).then(
      ({ url, free }) => {
        const image = make("img", { alt: "" });
        image.addEventListener("load", free);
        image.src = url;
        made.querySelector(".thumb").append(image);
      },
      () => {},
    );
  }
  return made;
}

function fill(made, film, { name, facts, current, compared }) {
  const [press, compare] = made.children;
  write(press.children[1], name);
  write(press.children[2], facts);
  press.setAttribute("aria-pressed", String(current));
  press.classList.toggle("live", isLive(film));
  if (!compare) return;
  compare.hidden = current || film.status !== "completed";
  compare.setAttribute("aria-pressed", String(compared));
  compare.setAttribute("aria-label", `${name} side by side`);
}

function put(place, name, found, ...more) {
  const list = place.querySelector("ul") ?? make("ul");
  if (!place.firstChild) place.append(make("h3", {}, name), list, ...more);
  const same =
    found.length === list.children.length && found.every((one, n) => list.children[n] === one);
  if (!same) list.replaceChildren(...found);
}

/** Show the other takes of a film. */
export function showTakes(film, comparedId) {
  if (cards.size > 4 * MOST_TAKES) cards.clear();
  const found = family(film);
  $("takes").hidden = found.length < 2;
  if (found.length < 2) return;
  const from = Math.max(found.length - MOST_TAKES, 0);
  // The one on the monitor is among them however old it is.
  const near = found.findIndex((one) => one.id === film.id);
  const shown = [...found.keys()].slice(from);
  if (near >= 0 && near < from) shown[0] = near;
  put(
    $("takes"),
    "Takes",
    shown.map((place) => {
      const one = found[place];
      const made = card(one, "take");
      const origin = one.from_block
        ? `from block ${one.from_block + 1}`
        : one.parent_id
          ? "extended"
          : `seed ${one.seed}`;
      const facts = [origin, short(one)].filter(Boolean).join(" · ");
      fill(made, one, {
        name: `Take ${place + 1}`,
        facts,
        current: one.id === film.id,
        compared: one.id === comparedId,
      });
      return made;
    }),
  );
}

/** Show the shots of a film's scene. */
export function showScene(film) {
  $("scene").hidden = !film.scene;
  if (!film.scene) return;
  const cut = cutOf(film);
  const tools = make(
    "p",
    { class: "tools" },
    make(
      "button",
      { type: "button", onclick: () => takes.dispatchEvent(new Event("scene")) },
      "Play the scene",
    ),
    make(
      "button",
      { type: "button", class: "plain", onclick: () => saveCut("otio") },
      "Scene as OTIO",
    ),
    make(
      "button",
      { type: "button", class: "plain", onclick: () => saveCut("edl") },
      "Scene as EDL",
    ),
    make("span", { role: "alert" }),
  );
  put(
    $("scene"),
    "Scene",
    cut.map((one) => {
      const made = card(one, "shot");
      const facts = [one.prompt.slice(0, 60), short(one)].filter(Boolean).join(" · ");
      fill(made, one, { name: `Shot ${one.shot}`, facts, current: one.id === film.id });
      return made;
    }),
    tools,
  );
  $("scene").cut = cut;
}

async function saveCut(format) {
  const { cut } = $("scene");
  const alert = $("scene").querySelector("[role=alert]");
  const open = cut.filter((film) => film.status !== "completed").length;
  tell(alert, open ? `${open} of ${cut.length} shots are not finished.` : "");
  if (open) return;
  const query = cut.map((film) => `video=${film.id}`).join("&");
  await save(`/v1/timeline?${query}&format=${format}`, `scene.${format}`).catch((error) =>
    tell(alert, error.message),
  );
}

/** Shots of the scene on the monitor that can be played, in order. */
export const playable = () => ($("scene").cut ?? []).filter((film) => film.status === "completed");

/** Forget the cards of films that are no longer looked at. */
export function forget() {
  cards.clear();
}
