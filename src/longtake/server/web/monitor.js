// A monitor: one film, finished or in the making, with its words under it.

import { address, locked } from "./api.js";
import { make, tell, write } from "./dom.js";
import { model } from "./films.js";
import { Feed, canWatch } from "./live.js";
import { FPS, isLive, state } from "./words.js";

export class Monitor extends EventTarget {
  #feed = null;
  #free = () => {};
  #shows = "";
  #film = null;

  constructor(name) {
    super();
    this.video = make("video", { playsinline: true, preload: "auto", "aria-label": name });
    this.video.muted = true;
    this.words = make("p", {});
    this.bar = make("progress", { max: 100, "aria-label": "How much is made" });
    this.slate = make("div", { class: "wait" }, this.words, this.bar);
    this.caption = make("figcaption");
    this.figure = make(
      "figure",
      {},
      make("div", { class: "screen" }, this.video, this.slate),
      this.caption,
    );
    for (const kind of ["play", "pause", "seeking", "timeupdate", "ended", "loadeddata"]) {
      this.video.addEventListener(kind, () => this.dispatchEvent(new Event(kind)));
    }
    this.#frames();
  }

  /** Show a film as it stands now; a change of its state keeps the place. */
  show(film) {
    const other = this.#film?.id !== film.id;
    const waited = !other && isLive(this.#film);
    this.#film = film;
    const [width, height] = film.size.split("x");
    this.video.parentElement.style.aspectRatio = `${width} / ${height}`;
    this.video.parentElement.style.setProperty("--ratio", width / height);
    const kind = this.#kind(film);
    if (other || kind !== this.#shows) this.#open(film, kind, other, waited);
    const black = kind === "none" || (kind !== "film" && !this.video.videoWidth);
    this.slate.hidden = !black;
    write(this.words, state(film));
    this.bar.hidden = !isLive(film);
    this.bar.value = film.progress;
  }

  #kind(film) {
    if (film.status === "completed") return "film";
    if (!model.chunk || film.status !== "in_progress")
      return this.#shows === "live" && isLive(film) ? "live" : "none";
    if (canWatch()) return "live";
    return locked() ? "none" : "plain";
  }

  async #open(film, kind, other, waited) {
    const at = other ? 0 : this.video.currentTime;
    // Somebody who stopped the live picture wants it to stay so.
    const goesOn = waited && (this.#shows !== "live" || !this.video.paused || this.video.ended);
    this.#close();
    this.#shows = kind;
    const { id } = film;
    if (kind === "live") {
      this.#feed = new Feed(this.video, `/v1/videos/${id}/live`);
      this.#feed.done.catch(() => {});
      this.video.loop = false;
      this.play();
    } else if (kind === "plain") {
      // No Media Source Extensions: the browser may still play what comes, or it waits for the end.
      this.video.src = `/v1/videos/${id}/live`;
      this.play();
    } else if (kind === "film") {
      const { url, free } = await address(`/v1/videos/${id}/content`).catch(() => ({}));
      if (this.#film.id !== id || !url) return;
      this.#free = free;
      this.video.src = url;
      this.video.loop = this.loops ?? true;
      this.video.currentTime = at;
      if (goesOn || this.playsNext) this.play();
      this.playsNext = false;
    }
  }

  #close() {
    this.#feed?.close();
    this.#feed = null;
    this.#free();
    this.#free = () => {};
    this.video.removeAttribute("src");
    this.video.load();
  }

  close() {
    this.#close();
    this.figure.remove();
    this.#film = null;
  }

  /** Tell of each picture that is shown. */
  #frames() {
    if (!this.video.requestVideoFrameCallback) return;
    const next = (_now, { mediaTime }) => {
      this.slate.hidden = true;
      this.dispatchEvent(new CustomEvent("picture", { detail: Math.round(mediaTime * FPS) }));
      this.video.requestVideoFrameCallback(next);
    };
    this.video.requestVideoFrameCallback(next);
  }

  get playing() {
    return !this.video.paused && !this.video.ended;
  }

  get frame() {
    return Math.floor(this.video.currentTime * FPS + 1e-3);
  }

  get film() {
    return this.#film;
  }

  /** Go to a frame, or to the nearest that is there, and tell which. */
  seek(frame) {
    const live = isLive(this.#film);
    const { buffered } = this.video;
    const first = live && buffered.length ? Math.ceil(buffered.start(0) * FPS - 1e-3) : 0;
    const last = (live ? this.#film.frames_ready : this.#film.frames) - 1;
    const to = Math.max(Math.min(Math.round(frame), last), first, 0);
    this.video.currentTime = (to + 0.02) / FPS;
    return to;
  }

  play() {
    this.video.play().catch(() => {});
  }

  toggle() {
    if (this.playing) this.video.pause();
    else this.play();
  }

  label(text) {
    tell(this.caption, text);
  }
}
