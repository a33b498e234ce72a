// The Studio: opens its parts and tells of what concerns them all.

import { keepToken, line, pause, seen, there } from "./api.js";
import { $, tell, write } from "./dom.js";
import { choose, house, model, open, readHealth } from "./films.js";
import { openList } from "./list.js";
import { openStage } from "./stage.js";
import { draw, openTimeline } from "./timeline.js";
import { fitModel, openWrite } from "./write.js";

const HEALTH_EVERY_MS = 5000;
const THEMES = ["auto", "dark", "light"];

function openTheme() {
  const names = { auto: "Light or dark: as the system", dark: "Dark", light: "Light" };
  let theme = localStorageOr("longtake.theme", "auto");
  const set = () => {
    document.documentElement.dataset.theme = theme;
    write($("theme"), names[theme].replace(/.*: as the system/, "As the system"));
    $("theme").setAttribute("aria-label", `Colours: ${names[theme]}`);
    draw();
  };
  $("theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try {
      localStorage.setItem("longtake.theme", theme);
    } catch {
      // It holds for this visit.
    }
    set();
  });
  set();
}

function localStorageOr(name, other) {
  try {
    const found = localStorage.getItem(name);
    return THEMES.includes(found) ? found : other;
  } catch {
    return other;
  }
}

function openDoor() {
  line.addEventListener("gone", () =>
    tell(
      $("banner"),
      "The server does not answer. Nothing you wrote is lost; the page goes on when it is back.",
    ),
  );
  line.addEventListener("back", () => tell($("banner"), ""));
  line.addEventListener("locked", () => $("door").open || $("door").showModal());
  $("door").addEventListener("submit", (event) => {
    event.preventDefault();
    keepToken($("token").value);
    location.reload();
  });
  $("keys").addEventListener("click", () => $("help").showModal());
  addEventListener(
    "error",
    ({ message }) =>
      message &&
      !/ResizeObserver/.test(message) &&
      tell($("banner"), `The page failed: ${message}. Reload it; what you wrote is kept.`),
  );
}

async function watchHealth() {
  const words = {
    ok: "ready",
    starting: "getting ready",
    failing: "cannot start; the server’s log tells why",
  };
  for (;;) {
    const status = await readHealth().catch(() => "gone");
    const place = $("model");
    place.dataset.status = status;
    write(place.lastElementChild, `${model.id || "model"}, ${words[status] ?? "not there"}`);
    await pause(status === "ok" ? HEALTH_EVERY_MS : 1000);
    await Promise.all([there(), seen()]);
  }
}

async function begin() {
  for (;;) {
    try {
      await open();
    } catch {
      await Promise.all([there(), pause(1000)]);
    }
  }
}

openTheme();
openDoor();
openWrite();
openTimeline();
openList();
openStage();
const fromAddress = () =>
  choose(/^#video_[0-9a-f]{32}$/.test(location.hash) ? location.hash.slice(1) : null);
house.addEventListener(
  "open",
  () => {
    fitModel();
    fromAddress();
  },
  { once: true },
);
addEventListener("hashchange", fromAddress);
begin();
watchHealth();
