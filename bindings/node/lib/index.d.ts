/** The version of the engine, such as "0.1.0". */
export function version(): string;

/** A call failed. */
export class LoomError extends Error {
  /** The number that the call gave. */
  readonly result: number;
  /** What loom.h calls that, such as "LOOM_ERROR_NOT_FOUND". */
  readonly code: string;
}

/** What is freed by `close()`, or once nobody can reach it. Closing waits for the calls that use it. */
declare class Handle {
  protected constructor();
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export type State = "created" | "live" | "reconnecting" | "paused" | "processing" | "ready" | "failed" | "deleted";
export type StorageClass = "hot" | "warm" | "cold" | "archive";

/** How an engine runs. Spans are seconds; what is not told is the engine's own default. */
export interface EngineOptions {
  /** Whether captions are written. */
  captions?: boolean;
  /** A Whisper model: a folder or a file. Else it is looked for, and fetched where there is none. */
  model?: string;
  /** "source": recordings are kept as they come, with no encoder. */
  ladder?: "full" | "source";
  /** The UDP address that WebRTC publishers send to, such as "0.0.0.0:8189". */
  udp?: string;
  /** The length of a live segment. */
  segment?: number;
  /** The length of a live part. */
  part?: number;
  /** How long a publisher that vanished is waited for; 0: not at all. */
  reconnect?: number;
  /** How many recordings may be live at once. */
  maxLive?: number;
  /** No recording is begun while the disk has fewer bytes free. */
  minFreeBytes?: number | bigint;
  /** Where recordings are kept beside the disk: "file:///PATH" or "s3://BUCKET/PREFIX". */
  store?: string;
  /** How often recordings will be asked for, a tag of what the store has. */
  storageClass?: StorageClass;
  /** How recordings are encrypted. */
  encryption?: "segments" | "cbcs" | "cenc";
  /** How many segments a key serves. */
  keySegments?: number;
  /** The IP addresses that publishers are told to send to, such as the public one of a machine behind a NAT. */
  announce?: readonly string[];
  /** How many sessions may be open from one address that `publish` and `join` are told. */
  maxPerAddress?: number;
  /** Whether noise is suppressed in sound that is encoded here. */
  suppressNoise?: boolean;
  /** What the sound of files is brought to, LUFS, -40 to -5. */
  loudness?: number;
  /** Cores that the ladders of all live recordings may take together. */
  liveCores?: number;
  /** The smaller renditions of the "full" ladder: the pixels of the shorter side, and bits a second at most. */
  rungs?: readonly { lines: number; bits: number }[];
  /** Whether recordings have small pictures for the time line. */
  thumbnails?: boolean;
  /** How captions and subtitles are written. */
  text?: "vtt" | "imsc1";
  /** Threads that live captions are heard with, and as many for transcripts. */
  captionThreads?: number;
  /** How many chunks of files are encoded at once. */
  chunksAtOnce?: number;
  /** What live playlists list where a request does not say: "event", "live" or "dvr-SECONDS". */
  window?: string;
  /** How often all that was written is written to the disk. */
  sync?: number;
  /** A recording that is paused for this long is finished. */
  longestPause?: number;
  /** A recording that nobody has published to for this long fails. */
  unused?: number;
}

/** Whether captions can be written, and a sentence about it. */
export interface Captions {
  state: "loading" | "on" | "off";
  note: string;
}

/** An engine: one UDP port, one speech model, any number of recordings. */
export class Engine extends Handle {
  static start(dataDir?: string, options?: EngineOptions): Promise<Engine>;
  /** A new recording, under a random name unless one is given (1 to 40 of a-z, 0-9 and -). */
  create(id?: string): Recording;
  /** The recording of that name, from memory, from disk or from the store. */
  open(id: string): Promise<Recording>;
  /** The names of all recordings on disk, those of earlier engines too. */
  recordings(): Promise<string[]>;
  /** The names of all recordings in the store; none without one. */
  storedRecordings(): Promise<string[]>;
  /** Whether captions can be written; waits so many seconds at most while the model is being loaded. */
  captions(timeout?: number): Promise<Captions>;
  /** Stops every live recording, and waits until each can be watched to its end. */
  stop(): Promise<void>;
  /** Stops every live recording, and lets the engine go. */
  close(): Promise<void>;
}

/** An answer to a request, as it is to be sent; a header that is not to be sent is null. */
export interface Response {
  status: number;
  contentType: string;
  cacheControl: string;
  contentRange: string | null;
  etag: string | null;
  body: Uint8Array;
}

export interface TrackInfo {
  kind: "video" | "audio";
  codec: string;
  width?: number;
  height?: number;
  /** The media section's name in a publisher's offer; of one that has joined "NAME:MID". */
  mid?: string;
  /** The layer's name, of a simulcast. */
  rid?: string;
  /** The media stream that a publisher put it in. */
  stream?: string;
  /** Who brought it, where that was a publisher that has joined. */
  publisher?: string;
  renditions?: string[];
  state: "running" | "paused";
}

/** A publisher that has joined, and how its media was brought onto the recording's line. */
export interface JoinedInfo {
  name: string;
  state: "running" | "paused";
  aligned_by: "clocks" | "arrival";
}

/** What is done for a recording once it has ended, and how that stands; later versions may do more. */
export interface JobInfo {
  job: "chapters" | "transcript" | "brief" | "upload" | "composition";
  state: "queued" | "running" | "waiting" | "parked" | "done";
  /** How far the try is that runs, 0 to 1. */
  progress: number;
  /** Tries that were begun since it was queued or restarted. */
  tries: number;
  /** Why the last try failed. */
  reason?: string;
  /** Seconds until the next try, where it waits for that. */
  next_try?: number;
}

export interface RenditionInfo {
  id: string;
  kind: "video" | "audio";
  codec: string;
  width?: number;
  height?: number;
  bandwidth: number;
  playlist?: string;
}

/** How a recording stands; times are seconds. */
export interface RecordingInfo {
  id: string;
  state: State;
  reason?: string;
  duration: number;
  tracks: TrackInfo[];
  renditions: RenditionInfo[];
  captions: boolean;
  /** How loud its sound was (EBU R 128): LUFS, LU, dBTP, and the decibels by which it was made louder. */
  loudness?: { integrated: number; range: number; true_peak: number; gain?: number };
  gaps?: { from: number; to: number }[];
  /** The publishers that have joined. */
  joined?: JoinedInfo[];
  /** Its screen and camera in one picture, where that was made. */
  composition?: CompositionInfo;
}

/** Where the camera lies over the screen from `at` seconds on; what is not told is as in a circle at the bottom left. */
export interface Placement {
  at?: number;
  /** "circle", its middle, or "rectangle", all of it. */
  shape?: "circle" | "rectangle";
  place?: "top-left" | "top-right" | "bottom-left" | "bottom-right" | { x: number; y: number };
  /** Its height as a fraction of the picture's, 0.05 to 1. */
  size?: number;
  hidden?: boolean;
}

/** A stream of screen and camera in one picture, beside `main.m3u8`. */
export interface CompositionInfo {
  layout: { placements: Required<Placement>[] };
  /** The multivariant playlist. */
  playlist: string;
  /** The DASH manifest. */
  manifest?: string;
  /** The track of thumbnails. */
  thumbnails?: string;
  renditions: RenditionInfo[];
}

export interface Word {
  start: number;
  end: number;
  text: string;
  probability: number;
}

/** What a recording tells; later versions may tell more. Times are seconds. */
export type Event =
  | { event: "state"; state: State; reason?: string; duration: number }
  | { event: "caption"; id: number; start: number; end: number; text: string; words?: Word[]; state: "partial" | "final" }
  | { event: "progress"; stage: "media" | "transcript"; fraction: number }
  | ({ event: "job" } & JobInfo)
  | { event: "gap"; from: number; to: number }
  | { event: "shed"; renditions: string[]; why: string }
  | { event: "overload"; rendition: string; shed: boolean }
  | { event: "unheard"; from: number; to: number }
  | { event: "warning"; what: string }
  | { event: "worker"; chunk: number; why: string }
  | { event: "chapters"; chapters: { id: number; start: number; title: string }[] }
  | { event: "tracks"; tracks: TrackInfo[] }
  | { event: "joined"; joined: JoinedInfo[] }
  | { event: "findings"; findings: { start: number; end: number; label: string; text: string }[] }
  | { event: "transcript"; version: number; made_at?: string; restored?: number }
  | { event: "renditions"; renditions: RenditionInfo[] };

/** A publisher's session: the SDP answer to its offer, its name, and the value of ETag for the 201. */
export interface Session {
  answer: string;
  session: string;
  etag: string;
}

/** A recording. Closing it ends nothing. */
export class Recording extends Handle {
  /** Its name. */
  readonly id: string;
  /** Where it is in its life. */
  readonly state: State;
  /** How it stands. */
  info(): RecordingInfo;
  /** Waits until it is "ready", "failed" or "deleted", and gives which; a LoomError "LOOM_TIMEOUT" after so many seconds. */
  wait(timeout?: number): Promise<"ready" | "failed" | "deleted">;
  /** Answers a WHIP client's offer (RFC 9725). The sessions of the IP address that it came from are counted, where that is told. */
  publish(offer: string, address?: string | null): Promise<Session>;
  /** As `publish`, for another publisher under a name of its own, who brings further tracks: it may come and go, and ends nothing. */
  join(name: string, offer: string, address?: string | null): Promise<Session>;
  /** The value of ETag for a session as its ICE is now. */
  etag(session: string): string;
  /** Does what a WHIP client's PATCH asks (RFC 9725 §4.3), candidates or an ICE restart, and gives the answer to it. */
  patch(session: string, ifMatch: string | null | undefined, fragment: string): Response;
  /** Ends a publisher's session. */
  hangUp(session: string): void;
  /** Has it rest: what comes is not recorded until `resume`. */
  pause(): Promise<void>;
  /** Goes on after `pause`. */
  resume(): Promise<void>;
  /** Ends it, and waits until its playlists are complete. */
  stop(): Promise<void>;
  /** Processes a media file. It is copied, unless `take`: then it is the engine's, and is deleted at the end. */
  importFile(path: string, options?: { take?: boolean }): Promise<void>;
  /** Gives up the file that is being processed. */
  cancel(): void;
  /** Removes every byte of it. */
  delete(): Promise<void>;
  /** Waits until all that there is of it now is in the store. */
  stored(): Promise<void>;
  /** Changes how often it will be asked for, a tag of what the store has of it. */
  setClass(storageClass: StorageClass): Promise<void>;
  /** What was said, in its newest version. */
  transcript(format?: TranscriptFormat): string;
  /** The versions of the transcript; none before the final one is written. Events of kind `transcript` tell each new one. */
  transcriptVersions(): TranscriptVersion[];
  /** What was said, as it was in a version. */
  transcriptVersion(version: number, format?: TranscriptFormat): Promise<string>;
  /**
   * Corrects what was said, once it is ready: a version of its own, which the captions show too. `version` is the newest that you know: where somebody
   * has made another meanwhile, nothing is changed.
   */
  correct(version: number, corrections: readonly Correction[]): Promise<TranscriptVersion>;
  /** Makes an earlier version's text the newest again, as a version of its own. */
  restoreTranscript(newest: number, version: number): Promise<TranscriptVersion>;
  /** Copies the finished stream into a folder; `main.m3u8` there begins it. */
  export(folder: string): Promise<void>;
  /** Writes it as one MP4 file. */
  download(path: string): Promise<void>;
  /** What is done for it once it has ended. */
  jobs(): JobInfo[];
  /** Begins a job anew that waits for its next try, or is parked after its last. */
  restartJob(job: JobInfo["job"]): void;
  /** Has screen and camera made into one picture, by the job "composition"; then `info().composition` tells its playlist. */
  layOut(placements?: readonly Placement[] | null): Promise<void>;
  /** Writes what `layOut` had made as one MP4 file. */
  downloadComposition(path: string): Promise<void>;
  /** Marks where a chapter begins, in seconds; where the recording is now unless told. */
  mark(title: string, at?: number): Promise<void>;
  /** Answers a viewer's request for a path of the stream, such as "main.m3u8", with its query and the value of its Range. */
  hls(path: string, query?: string | null, range?: string | null): Promise<Response>;
  /** Its events: first how it stands, then what happens, until it is ready, failed or deleted. */
  events(): Events;
  /** Begins a take that you push yourself. */
  push(tracks: readonly Track[]): Promise<Pusher>;
}

export type TranscriptFormat = "json" | "vtt" | "srt" | "txt";

/** A version of a transcript. */
export interface TranscriptVersion {
  /** 1 is what was heard; each later one is one more. */
  version: number;
  /** When it was made (RFC 3339); not of what was heard. */
  made_at?: string;
  /** The earlier version whose text it has, where that was brought back. */
  restored?: number;
}

/** What a segment says instead, by its place from 0; some words wherever they stand; or what a speaker is called. */
export type Correction = { segment: number; text: string } | { replace: string; with: string } | { speaker: string; name: string };

/** A recording's events, for `for await`. Leaving that closes them. */
export class Events extends Handle implements AsyncIterableIterator<Event> {
  next(): Promise<IteratorResult<Event, undefined>>;
  return(): Promise<IteratorResult<Event, undefined>>;
  [Symbol.asyncIterator](): this;
}

/** A track that is pushed, a packet at a time; pictures and sound are raw, and encoded. */
export type Track =
  /** An access unit a packet: with start codes, or, where `avcc` is given, behind 4-byte lengths. */
  | { kind: "h264"; avcc?: Uint8Array }
  | { kind: "vp8" }
  | { kind: "vp9" }
  | { kind: "av1" }
  /** 1 or 2 channels, 2 unless told. */
  | { kind: "opus"; channels?: 1 | 2 }
  /** Raw AAC-LC frames, with their AudioSpecificConfig. */
  | { kind: "aac"; config: Uint8Array }
  /** I420 of an even width and height; 30 pictures a second unless told. */
  | { kind: "pictures"; width: number; height: number; frameRate?: number }
  /** Interleaved samples; 48,000 a second in 2 channels unless told. */
  | { kind: "sound"; sampleRate?: number; channels?: 1 | 2 };

/** Pushes media into a recording, live. All times are seconds of one clock of yours: the first that is pushed is the take's zero. */
export class Pusher extends Handle {
  /** Takes an encoded packet. False: too much waits; push it again a little later. */
  packet(track: number, pts: number, data: ArrayBufferView, dts?: number): boolean;
  /** Takes a raw picture: Y, U and V one after the other, rows without space between. False: the encoder is behind, and it was dropped. */
  picture(track: number, pts: number, data: ArrayBufferView): boolean;
  /** Takes raw sound: interleaved samples in -1 to 1. False: the encoder is behind, and it was dropped. */
  sound(track: number, pts: number, samples: Float32Array): boolean;
  /** Whether a track that is pushed encoded should send a key frame soon. */
  wantsKeyFrame(track: number): boolean;
  /** Ends the take: what was pushed is recorded to its end. */
  finish(): Promise<void>;
}

export {};
