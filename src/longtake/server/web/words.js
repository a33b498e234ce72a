// Numbers and states in the words of people.

export const FPS = 16;

/** Minutes, seconds and frames, as on a slate. */
export function clock(frame) {
  const two = (number) => String(number).padStart(2, "0");
  const seconds = Math.floor(frame / FPS);
  return `${two(Math.floor(seconds / 60))}:${two(seconds % 60)}:${two(frame % FPS)}`;
}

/** Seconds with as many digits as matter. */
export function seconds(value) {
  if (value < 10) return `${+value.toFixed(2)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return `${+(value / 3600).toFixed(1)} h`;
}

export function bytes(value) {
  if (value < 1e6) return `${Math.max(1, Math.round(value / 1e3))} kB`;
  return value < 1e9 ? `${+(value / 1e6).toFixed(1)} MB` : `${+(value / 1e9).toFixed(1)} GB`;
}

export const count = (number, one, many = `${one}s`) =>
  `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

export const isLive = (film) => ["queued", "in_progress", "paused"].includes(film.status);

/** What happens to a film now, in a few words. */
export function state(film) {
  switch (film.status) {
    case "queued":
      return "Waits its turn";
    case "paused":
      return film.error?.message || "Paused";
    case "completed":
      return film.inference_time_s ? `Made in ${seconds(film.inference_time_s)}` : "Finished";
    case "cancelled":
      return "Cancelled";
    case "failed":
      return `Failed: ${film.error?.message || "no reason was given"}`;
  }
  if (film.stage === "decode") return "Developing the pictures";
  if (film.stage !== "denoise") return "Reads the prompt";
  const many = film.blocks_total > 1;
  const place = many
    ? `block ${film.block + 1} of ${film.blocks_total}`
    : `step ${film.step} of ${film.steps_total}`;
  const left = film.eta_s == null ? "" : `, ${seconds(Math.max(Math.ceil(film.eta_s), 1))} left`;
  return `Making: ${place}${left}`;
}

/** A short state for the list. */
export function short(film) {
  if (film.status === "in_progress") return `${film.progress} %`;
  return {
    queued: "waits",
    paused: "paused",
    completed: "",
    failed: "failed",
    cancelled: "cancelled",
  }[film.status];
}

/** All words of a film, for comparing and for titles. */
export const wordsOf = (film) =>
  [film.prompt, ...film.prompt_at.map((cue) => `${cue.at_s} ${cue.text}`)].join("\n");

/** Which shot holds at a frame: its number, first frame and words. */
export function shotsOf(film, chunk) {
  const found = [{ frame: 0, text: film.prompt, seed: film.seed }];
  for (const cue of film.prompt_at) {
    const frame = firstFrame(blockAt(Math.ceil(+(cue.at_s * FPS).toFixed(4)), chunk, true), chunk);
    const before = found.at(-1);
    found.push({
      frame,
      text: cue.text || before.text,
      seed: cue.seed ?? before.seed,
      same: !cue.text,
    });
  }
  return found;
}

/** Block that holds a frame; `up`: the first that begins at it or later. */
export function blockAt(frame, chunk, up = false) {
  if (!chunk || frame <= 0) return 0;
  const blocks = (frame - 1) / (4 * chunk);
  return up ? Math.max(Math.ceil(blocks), 1) : Math.floor(blocks);
}

export const firstFrame = (block, chunk) => (block ? 1 + 4 * chunk * block : 0);
