// Loom, a video-messaging engine: any WebRTC client, a file, or media of your own becomes adaptive, captioned HLS.
import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { copyFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { BEHIND, CONFIG_SIZE, END, TIMEOUT, lib } from "./abi.js";
import { Handle, LONGEST, LoomError, given, millis, nanos, optionalText, text } from "./handle.js";
import { invokeAside } from "./threads.js";

export { LoomError };

const STATES = ["created", "live", "reconnecting", "paused", "processing", "ready", "failed", "deleted"];
const ENDS = ["ready", "failed", "deleted"];
const FORMATS = { json: 0, vtt: 1, srt: 2, txt: 3 };
const LADDERS = { full: 0, source: 1 };
const CLASSES = { hot: 0, warm: 1, cold: 2, archive: 3 };
const TEXTS = { vtt: 0, imsc1: 1 };
const ENCRYPTIONS = { segments: 1, cbcs: 2, cenc: 3 };
const KINDS = { h264: 0, vp8: 1, vp9: 2, av1: 3, opus: 4, aac: 5, pictures: 6, sound: 7 };

/** How often is looked whether something has come. */
const LOOK_AGAIN = 20;

/** The version of the engine, such as "0.1.0". */
export const version = () => lib.loom_version();

/** An engine: one UDP port, one speech model, any number of recordings. */
export class Engine extends Handle {
  /** Starts one. Spans are seconds; what is not told is the engine's own default. */
  static async start(dataDir = ".loom", options = {}) {
    const { segment, part, reconnect, encryption } = options;
    const span = (seconds) => (seconds == null ? 0 : millis(seconds));
    const config = {
      size: CONFIG_SIZE,
      data_dir: text(dataDir),
      udp: optionalText(options.udp),
      model: optionalText(options.model),
      captions: Number(options.captions ?? true),
      ladder: named(LADDERS, options.ladder ?? "full", "ladder"),
      segment_ms: span(segment),
      part_ms: span(part),
      reconnect_ms: reconnect == null ? 0 : millis(reconnect) || LONGEST,
      max_live: options.maxLive ?? 0,
      min_free_bytes: options.minFreeBytes ?? 0,
      store: optionalText(options.store),
      storage_class: named(CLASSES, options.storageClass ?? "hot", "storage class"),
      encryption: encryption == null ? 0 : named(ENCRYPTIONS, encryption, "encryption"),
      key_segments: options.keySegments ?? 0,
      announce: options.announce == null ? null : options.announce.map(text).join(","),
      max_per_address: options.maxPerAddress ?? 0,
      suppress_noise: Number(options.suppressNoise ?? false),
      loudness: options.loudness ?? 0,
      live_cores: options.liveCores ?? 0,
      rungs: options.rungs == null ? null : options.rungs.map(({ lines, bits }) => `${lines}:${bits}`).join(","),
      thumbnails: Number(!(options.thumbnails ?? true)),
      text: named(TEXTS, options.text ?? "vtt", "form of text"),
      caption_threads: options.captionThreads ?? 0,
      chunks_at_once: options.chunksAtOnce ?? 0,
      window: optionalText(options.window),
      sync_ms: span(options.sync),
      longest_pause_ms: span(options.longestPause),
      unused_ms: span(options.unused),
    };
    return new Engine(given(await invokeAside("loom_engine_start", [config])), "loom_engine_free");
  }

  create(id) {
    return new Recording(this._call("loom_recording_create", optionalText(id)), "loom_recording_free");
  }

  async open(id) {
    return new Recording(await this._wait("loom_recording_open", text(id)), "loom_recording_free");
  }

  async recordings() {
    return JSON.parse(await this._wait("loom_engine_recordings"));
  }

  async storedRecordings() {
    return JSON.parse(await this._wait("loom_engine_stored_recordings"));
  }

  async captions(timeout = 0) {
    const [state, note] = await this._wait("loom_engine_captions", millis(timeout));
    return { state: ["loading", "on", "off"][state], note };
  }

  async stop() {
    await this._wait("loom_engine_stop");
  }

  /** Stops every live recording, and lets the engine go. */
  async close() {
    if (!this._closed) await this.stop();
    await super.close();
  }
}

/** A recording. Closing it ends nothing. */
export class Recording extends Handle {
  get id() {
    return lib.loom_recording_id(this._open);
  }

  get state() {
    return STATES[this._call("loom_recording_state")];
  }

  info() {
    return JSON.parse(this._call("loom_recording_info"));
  }

  async wait(timeout = Infinity) {
    const end = performance.now() + timeout * 1000;
    for (;;) {
      const { state } = this;
      if (ENDS.includes(state)) return state;
      if (performance.now() >= end) throw new LoomError(TIMEOUT, `recording ${this.id} has not ended`);
      await sleep(LOOK_AGAIN);
    }
  }

  async publish(offer, address) {
    const [answer, session] = await this._wait("loom_recording_publish", text(offer), optionalText(address));
    return { answer, session, etag: this.etag(session) };
  }

  async join(name, offer, address) {
    const [answer, session] = await this._wait("loom_recording_join", text(name), text(offer), optionalText(address));
    return { answer, session, etag: this.etag(session) };
  }

  etag(session) {
    return this._call("loom_recording_etag", text(session));
  }

  patch(session, ifMatch, fragment) {
    return this._call("loom_recording_patch", text(session), optionalText(ifMatch), text(fragment));
  }

  hangUp(session) {
    this._call("loom_recording_hang_up", text(session));
  }

  pause() {
    return this._wait("loom_recording_pause");
  }

  resume() {
    return this._wait("loom_recording_resume");
  }

  stop() {
    return this._wait("loom_recording_stop");
  }

  async importFile(path, { take = false } = {}) {
    if (take) return this._wait("loom_recording_import", text(path));
    const copy = join(tmpdir(), `loom-${randomUUID()}`);
    try {
      await copyFile(text(path), copy, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
      await this._wait("loom_recording_import", copy);
    } catch (why) {
      await rm(copy, { force: true });
      throw why;
    }
  }

  cancel() {
    this._call("loom_recording_cancel");
  }

  delete() {
    return this._wait("loom_recording_delete");
  }

  stored() {
    return this._wait("loom_recording_stored");
  }

  async setClass(storageClass) {
    await this._wait("loom_recording_set_class", named(CLASSES, storageClass, "storage class"));
  }

  transcript(format = "txt") {
    return this._call("loom_recording_transcript", named(FORMATS, format, "format"));
  }

  transcriptVersions() {
    return JSON.parse(this._call("loom_recording_transcript_versions"));
  }

  async transcriptVersion(version, format = "txt") {
    return this._wait("loom_recording_transcript_version", version, named(FORMATS, format, "format"));
  }

  async correct(version, corrections) {
    return JSON.parse(await this._wait("loom_recording_correct", version, JSON.stringify(corrections)));
  }

  async restoreTranscript(newest, version) {
    return JSON.parse(await this._wait("loom_recording_restore_transcript", newest, version));
  }

  async export(folder) {
    await this._wait("loom_recording_export", text(folder));
  }

  async download(path) {
    await this._wait("loom_recording_download", text(path));
  }

  jobs() {
    return JSON.parse(this._call("loom_recording_jobs"));
  }

  restartJob(job) {
    this._call("loom_recording_restart_job", text(job));
  }

  async layOut(placements) {
    await this._wait("loom_recording_lay_out", placements == null ? null : JSON.stringify({ placements }));
  }

  async downloadComposition(path) {
    await this._wait("loom_recording_download_composition", text(path));
  }

  async mark(title, at) {
    await this._wait("loom_recording_mark", at == null ? -1n : nanos(at), text(title));
  }

  async hls(path, query, range) {
    return this._wait("loom_recording_hls", text(path), optionalText(query), optionalText(range));
  }

  events() {
    return new Events(this._call("loom_events_open", null, null), "loom_events_free");
  }

  async push(tracks) {
    return Pusher._open(this, tracks);
  }
}

/** A recording's events, for `for await`. Leaving that closes them. */
export class Events extends Handle {
  async next() {
    // A wake callback would have the engine's threads wait for JavaScript, and recordings with them: so it is looked instead.
    while (!this._closed) {
      const told = this._invoke("loom_events_next", 0);
      if (told.result === END) await this.close();
      else if (told.result === TIMEOUT) await sleep(LOOK_AGAIN);
      else return { value: JSON.parse(given(told)), done: false };
    }
    return { value: undefined, done: true };
  }

  async return() {
    await this.close();
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}

/** Pushes media into a recording, live. All times are seconds of one clock of yours: the first that is pushed is the take's zero. */
export class Pusher extends Handle {
  #tracks;

  static async _open(recording, tracks) {
    const made = tracks.map((track) => {
      const config = track.avcc ?? track.config ?? new Uint8Array();
      return {
        kind: named(KINDS, track.kind, "kind of track"),
        width: track.width ?? 0,
        height: track.height ?? 0,
        sample_rate: track.sampleRate ?? (track.kind === "sound" ? 48_000 : 0),
        channels: track.channels ?? (track.kind === "opus" || track.kind === "sound" ? 2 : 0),
        frame_rate: track.frameRate ?? (track.kind === "pictures" ? 30 : 0),
        config: config.length > 0 ? config : null,
        config_size: config.length,
      };
    });
    const handle = await recording._wait("loom_pusher_open", made, made.length);
    const pusher = new Pusher(handle, "loom_pusher_free");
    pusher.#tracks = tracks.map((track) => ({ ...track }));
    return pusher;
  }

  packet(track, pts, data, dts = pts) {
    return this.#taken("loom_pusher_packet", track, nanos(pts), nanos(dts), bytes(data), data.byteLength);
  }

  picture(track, pts, data) {
    const { kind, width, height } = this.#tracks[track] ?? {};
    if (kind !== "pictures") throw new TypeError(`track ${track} takes no pictures`);
    const luma = width * height, chroma = luma / 4;
    const whole = bytes(data);
    if (whole.length !== luma + 2 * chroma) {
      throw new RangeError(`a picture of ${width}x${height} has ${luma + 2 * chroma} bytes, not ${whole.length}`);
    }
    const planes = [whole.subarray(0, luma), whole.subarray(luma, luma + chroma), whole.subarray(luma + chroma)];
    return this.#taken("loom_pusher_picture", track, nanos(pts), { planes, strides: [width, width / 2, width / 2] });
  }

  sound(track, pts, samples) {
    if (!(samples instanceof Float32Array)) throw new TypeError("sound is a Float32Array");
    return this.#taken("loom_pusher_sound", track, nanos(pts), samples, samples.length);
  }

  wantsKeyFrame(track) {
    return this._call("loom_pusher_wants_key_frame", track);
  }

  /** Ends the take: what was pushed is recorded to its end. */
  finish() {
    return this.close();
  }

  #taken(name, ...args) {
    const told = this._invoke(name, ...args);
    if (told.result === BEHIND) return false;
    given(told);
    return true;
  }
}

/** The bytes of a Buffer, a typed array or a DataView. */
function bytes(data) {
  if (!ArrayBuffer.isView(data)) throw new TypeError("media is a Buffer or a typed array");
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function named(names, name, what) {
  if (!Object.hasOwn(names, name)) throw new TypeError(`${name} is no ${what}: ${Object.keys(names).join(", ")}`);
  return names[name];
}
