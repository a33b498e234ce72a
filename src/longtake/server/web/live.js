// A film while it is made: the server's fragmented mp4 goes into the video as it comes.

import { Refusal, pause, request, seen, there, whileSeen } from "./api.js";

const BEHIND_S = 60;
const AHEAD_S = 30;
const HEAD_BYTES = 65_536;
const Source = self.ManagedMediaSource ?? self.MediaSource;

/** Whether the browser can show a film that is not whole. */
export const canWatch = () => Boolean(Source);

/** Feeds a video until the film ends; memory stays as it is however long it goes on. */
export class Feed {
  #video;
  #path;
  #stop = new AbortController();
  #source;
  #buffer;
  #url;
  /** Bytes that the buffer has taken; a line that breaks is taken up after them. */
  #taken = 0;

  constructor(video, path) {
    this.#video = video;
    this.#path = path;
    this.done = this.#run();
  }

  close() {
    this.#stop.abort();
    if (this.#url) URL.revokeObjectURL(this.#url);
  }

  async #run() {
    const signal = this.#stop.signal;
    this.#source = new Source();
    this.#url = URL.createObjectURL(this.#source);
    this.#video.disableRemotePlayback = true;
    this.#video.src = this.#url;
    await once(this.#source, "sourceopen", signal);
    while (!signal.aborted) {
      await Promise.all([there(), seen()]);
      const here = whileSeen(signal);
      try {
        if (await this.#read(here.signal)) return;
      } catch (error) {
        if (error instanceof Refusal || error.name === "QuotaExceededError") throw error;
      }
      here.abort();
      await pause(300);
    }
  }

  /** Read the film to its end; whether it came to it. */
  async #read(signal) {
    const answer = await request(this.#path, { signal });
    const reader = answer.body.getReader();
    let skip = this.#taken;
    let head = new Uint8Array();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      let part = value;
      if (skip) {
        const over = Math.min(skip, part.length);
        skip -= over;
        part = part.subarray(over);
      }
      if (!part.length) continue;
      if (!this.#buffer) {
        head = joined(head, part);
        const codec = codecOf(head);
        if (!codec && head.length < HEAD_BYTES) continue;
        this.#buffer = this.#source.addSourceBuffer(
          `video/mp4; codecs="${codec ?? "avc1.42E01E"}"`,
        );
        part = head;
      }
      await this.#append(part, signal);
    }
    if (!this.#buffer) return false;
    if (this.#source.readyState === "open") this.#source.endOfStream();
    return true;
  }

  async #append(part, signal) {
    while (this.#ahead() > AHEAD_S) {
      await pause(250);
      signal.throwIfAborted();
    }
    const old = this.#video.currentTime - BEHIND_S;
    if (old > 1 && this.#buffer.buffered.length && this.#buffer.buffered.start(0) < old - 10) {
      this.#buffer.remove(0, old);
      await once(this.#buffer, "updateend", signal);
    }
    this.#buffer.appendBuffer(part);
    this.#taken += part.length;
    await once(this.#buffer, "updateend", this.#stop.signal);
  }

  #ahead() {
    const { buffered } = this.#buffer;
    return buffered.length ? buffered.end(buffered.length - 1) - this.#video.currentTime : 0;
  }
}

function once(target, name, signal) {
  return new Promise((done, fail) => {
    const cut = () => fail(signal.reason);
    signal.addEventListener("abort", cut, { once: true });
    target.addEventListener(
      name,
      () => {
        // Left there, these would add up over a long stream.
        signal.removeEventListener("abort", cut);
        done();
      },
      { once: true },
    );
  });
}

function joined(one, other) {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

/** The codec as the film's own head tells it (avcC: profile, compatibility, level). */
function codecOf(bytes) {
  for (let at = 4; at + 8 < bytes.length; at += 1) {
    if (
      bytes[at] === 0x61 &&
      bytes[at + 1] === 0x76 &&
      bytes[at + 2] === 0x63 &&
      bytes[at + 3] === 0x43
    ) {
      const hex = [...bytes.subarray(at + 5, at + 8)].map((byte) =>
        byte.toString(16).padStart(2, "0"),
      );
      return `avc1.${hex.join("")}`;
    }
  }
  return null;
}
