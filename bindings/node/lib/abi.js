// The C ABI as koffi sees it: `bindings/c/include/loom.h` says what each call does.
import { fileURLToPath } from "node:url";
import koffi from "koffi";

const ABI_VERSION = 0;
export const OK = 0, TIMEOUT = 1, END = 2, BEHIND = 3;

const EngineConfig = koffi.struct("loom_engine_config", {
  size: "size_t",
  data_dir: "str",
  udp: "str",
  model: "str",
  captions: "int32_t",
  ladder: "int32_t",
  segment_ms: "uint32_t",
  part_ms: "uint32_t",
  reconnect_ms: "uint32_t",
  max_live: "uint32_t",
  min_free_bytes: "uint64_t",
  store: "str",
  storage_class: "int32_t",
  encryption: "int32_t",
  key_segments: "uint32_t",
  announce: "str",
  max_per_address: "uint32_t",
  suppress_noise: "int32_t",
  loudness: "double",
  live_cores: "double",
  rungs: "str",
  thumbnails: "int32_t",
  text: "int32_t",
  caption_threads: "uint32_t",
  chunks_at_once: "uint32_t",
  window: "str",
  sync_ms: "uint32_t",
  longest_pause_ms: "uint32_t",
  unused_ms: "uint32_t",
});
export const CONFIG_SIZE = koffi.sizeof(EngineConfig);

const Track = koffi.struct("loom_track", {
  kind: "int32_t",
  width: "uint32_t",
  height: "uint32_t",
  sample_rate: "uint32_t",
  channels: "uint32_t",
  frame_rate: "double",
  config: "const uint8_t *",
  config_size: "size_t",
});

const Picture = koffi.struct("loom_picture", {
  planes: koffi.array("const uint8_t *", 3),
  strides: koffi.array("size_t", 3),
});

const OBJECT = "void *", TEXT = "str", DATA = "const uint8_t *", MILLIS = "uint32_t", TIME = "int64_t", SIZE = "size_t";

// name: what it takes, and what it gives out by pointers behind that; each returns a result
const CALLS = {
  loom_engine_start: [[koffi.pointer(EngineConfig)], ["object"]],
  loom_engine_stop: [[OBJECT], []],
  loom_engine_captions: [[OBJECT, MILLIS], ["number", "text"]],
  loom_engine_recordings: [[OBJECT], ["text"]],
  loom_engine_stored_recordings: [[OBJECT], ["text"]],
  loom_recording_create: [[OBJECT, TEXT], ["object"]],
  loom_recording_open: [[OBJECT, TEXT], ["object"]],
  loom_recording_state: [[OBJECT], ["number"]],
  loom_recording_info: [[OBJECT], ["text"]],
  loom_recording_publish: [[OBJECT, TEXT, TEXT], ["text", "text"]],
  loom_recording_join: [[OBJECT, TEXT, TEXT, TEXT], ["text", "text"]],
  loom_recording_etag: [[OBJECT, TEXT], ["text"]],
  loom_recording_patch: [[OBJECT, TEXT, TEXT, TEXT], ["response"]],
  loom_recording_hang_up: [[OBJECT, TEXT], []],
  loom_recording_pause: [[OBJECT], []],
  loom_recording_resume: [[OBJECT], []],
  loom_recording_stop: [[OBJECT], []],
  loom_recording_import: [[OBJECT, TEXT], []],
  loom_recording_cancel: [[OBJECT], []],
  loom_recording_delete: [[OBJECT], []],
  loom_recording_stored: [[OBJECT], []],
  loom_recording_set_class: [[OBJECT, "int32_t"], []],
  loom_recording_transcript: [[OBJECT, "int32_t"], ["text"]],
  loom_recording_transcript_versions: [[OBJECT], ["text"]],
  loom_recording_transcript_version: [[OBJECT, "uint32_t", "int32_t"], ["text"]],
  loom_recording_correct: [[OBJECT, "uint32_t", TEXT], ["text"]],
  loom_recording_restore_transcript: [[OBJECT, "uint32_t", "uint32_t"], ["text"]],
  loom_recording_export: [[OBJECT, TEXT], []],
  loom_recording_download: [[OBJECT, TEXT], []],
  loom_recording_mark: [[OBJECT, TIME, TEXT], []],
  loom_recording_jobs: [[OBJECT], ["text"]],
  loom_recording_restart_job: [[OBJECT, TEXT], []],
  loom_recording_lay_out: [[OBJECT, TEXT], []],
  loom_recording_download_composition: [[OBJECT, TEXT], []],
  loom_recording_hls: [[OBJECT, TEXT, TEXT, TEXT], ["response"]],
  loom_events_open: [[OBJECT, OBJECT, OBJECT], ["object"]],
  loom_events_next: [[OBJECT, MILLIS], ["text"]],
  loom_pusher_open: [[OBJECT, koffi.pointer(Track), SIZE], ["object"]],
  loom_pusher_packet: [[OBJECT, SIZE, TIME, TIME, DATA, SIZE], []],
  loom_pusher_picture: [[OBJECT, SIZE, TIME, koffi.pointer(Picture)], []],
  loom_pusher_sound: [[OBJECT, SIZE, TIME, "const float *", SIZE], []],
  loom_pusher_wants_key_frame: [[OBJECT, SIZE], ["flag"]],
};

// name: what it returns, what it takes
const OTHERS = {
  loom_version: [TEXT, []],
  loom_abi_version: ["uint32_t", []],
  loom_last_error: [TEXT, []],
  loom_result_name: [TEXT, ["int32_t"]],
  loom_bytes_data: [TEXT, [OBJECT]],
  loom_bytes_free: ["void", [OBJECT]],
  loom_recording_id: [TEXT, [OBJECT]],
  loom_response_status: ["uint16_t", [OBJECT]],
  loom_response_content_type: [TEXT, [OBJECT]],
  loom_response_cache_control: [TEXT, [OBJECT]],
  loom_response_content_range: [TEXT, [OBJECT]],
  loom_response_etag: [TEXT, [OBJECT]],
  loom_response_data: [OBJECT, [OBJECT]],
  loom_response_size: [SIZE, [OBJECT]],
  loom_response_free: ["void", [OBJECT]],
  loom_engine_free: ["void", [OBJECT]],
  loom_recording_free: ["void", [OBJECT]],
  loom_events_free: ["void", [OBJECT]],
  loom_pusher_free: ["void", [OBJECT]],
};

const OUT = { object: "void *", text: "void *", response: "void *", number: "int32_t", flag: "bool" };

// the library that came with the package, or the one that LOOM_LIBRARY names
const library = koffi.load(process.env.LOOM_LIBRARY || fileURLToPath(new URL("libloom.so", import.meta.url)));
const out = (kind) => koffi.out(koffi.pointer(OUT[kind]));
const calls = Object.fromEntries(
  Object.entries(CALLS).map(([name, [takes, gives]]) => [name, library.func(name, "int32_t", [...takes, ...gives.map(out)])]),
);
export const lib = Object.fromEntries(
  Object.entries(OTHERS).map(([name, [returns, takes]]) => [name, library.func(name, returns, takes)]),
);
if (lib.loom_abi_version() !== ABI_VERSION) {
  throw new Error(`the library's ABI is ${lib.loom_abi_version()}, and this package is for ${ABI_VERSION}`);
}

const read = {
  object: (handle) => handle,
  number: (number) => number,
  flag: (flag) => flag,
  text(bytes) {
    const text = lib.loom_bytes_data(bytes);
    lib.loom_bytes_free(bytes);
    return text;
  },
  response(response) {
    const size = Number(lib.loom_response_size(response));
    // a copy: the library's own bytes go with the answer
    const body = size === 0 ? new Uint8Array() : new Uint8Array(koffi.view(lib.loom_response_data(response), size)).slice();
    const made = {
      status: lib.loom_response_status(response),
      contentType: lib.loom_response_content_type(response),
      cacheControl: lib.loom_response_cache_control(response),
      contentRange: lib.loom_response_content_range(response),
      etag: lib.loom_response_etag(response),
      body,
    };
    lib.loom_response_free(response);
    return made;
  },
};

/** Makes a call, and tells its result, what it gave, and, for that is known on its own thread alone, what it says of an error. */
export function invoke(name, args) {
  if (!(name in CALLS)) return { result: OK, given: [lib[name](...args)], message: "" };
  const kinds = CALLS[name][1];
  const places = kinds.map(() => [null]);
  const result = calls[name](...args, ...places);
  if (result !== OK) return { result, given: [], message: result >= 100 ? lib.loom_last_error() : "nothing was taken or given" };
  return { result, given: kinds.map((kind, at) => read[kind](places[at][0])), message: "" };
}
