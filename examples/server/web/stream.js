// Plays a recording's HLS stream into a video element: by hls.js where Media Source Extensions exist, natively elsewhere.

const Hls = window.Hls;
const MOST_RECOVERIES = 3;
/** The player is given this long to fetch what was listed before a pause. */
const REST_AFTER_MS = 5_000;
/** After this long without a movement more that is listed is not on its way. */
const STUCK_MS = 3_000;

/** What a cue says, without markup and character references. */
const plain = (text) => new VTTCue(0, 1, text).getCueAsHTML().textContent;

/**
 * Emits 'levels' (the choice of qualities changed), 'level' (another one plays), 'subtitle' (detail: {start, end, text}),
 * 'waiting' (nothing to play yet), 'failed' (detail: a sentence) and 'playable'.
 */
export class Stream extends EventTarget {
  #hls = null;
  #url = '';
  #recoveries = 0;
  #retry = 0;
  #retryMs = 500;
  #resting = false;
  #settle = 0;
  #stuck = 0;

  constructor(video) {
    super();
    this.video = video;
  }

  static get supported() {
    return Boolean(Hls?.isSupported()) || Stream.native;
  }

  static get native() {
    return Boolean(document.createElement('video').canPlayType('application/vnd.apple.mpegurl'));
  }

  /** Begins to play `url`, at `from` seconds, or where the stream suggests. */
  load(url, from = -1) {
    this.close();
    this.#url = url;
    if (Hls?.isSupported()) this.#loadByHls(from);
    else this.#loadNatively(from);
  }

  /** While the recording is paused nothing new is listed, and nothing is asked for. */
  rest(resting) {
    if (this.#resting === resting) return;
    this.#resting = resting;
    if (!this.#hls) return;
    // what is listed is still fetched and played to its end
    clearTimeout(this.#settle);
    if (resting) this.#settle = setTimeout(() => this.#hls?.stopLoad(), REST_AFTER_MS);
    else this.#hls.startLoad(this.video.currentTime || -1);
  }

  close() {
    clearTimeout(this.#settle);
    clearTimeout(this.#retry);
    clearTimeout(this.#stuck);
    this.#hls?.destroy();
    this.#hls = null;
  }

  /** [{index, height, bandwidth, kept}] from the best to the least, empty where the choice is the browser's. */
  get levels() {
    return (this.#hls?.levels ?? []).map((level, index) => ({
      index,
      height: level.height,
      bandwidth: level.bitrate,
      kept: /(^|\/)source\//.test(level.url?.[0] ?? level.uri ?? ''),
    })).sort((a, b) => b.height - a.height || b.bandwidth - a.bandwidth);
  }

  /** The level that plays now, or -1. */
  get playing() {
    return this.#hls?.currentLevel ?? -1;
  }

  /** Whether the player itself chooses. */
  get automatic() {
    return this.#hls?.autoLevelEnabled ?? true;
  }

  /** Chooses a level by its index; -1 leaves the choice to the player. */
  choose(index) {
    if (this.#hls) this.#hls.nextLevel = index;
  }

  /** Whether the stream still grows. */
  get live() {
    if (this.#hls) return this.#hls.latestLevelDetails?.live ?? false;
    return this.video.duration === Infinity;
  }

  /** Seconds between what is shown and what was last recorded. */
  get latency() {
    if (this.#hls) return this.#hls.latency;
    const end = this.end;
    return end ? end - this.video.currentTime : 0;
  }

  /** Where a viewer of the live edge should be, in seconds. */
  get edge() {
    return this.#hls?.liveSyncPosition ?? this.end;
  }

  /** The last moment that can be shown, in seconds. */
  get end() {
    const { seekable, duration } = this.video;
    if (this.live || !Number.isFinite(duration)) {
      const listed = this.#hls?.latestLevelDetails?.edge;
      return listed ?? (seekable.length ? seekable.end(seekable.length - 1) : 0);
    }
    return duration;
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #loadByHls(from) {
    const hls = new Hls({
      lowLatencyMode: true,
      backBufferLength: 60,
      maxBufferLength: 30,
      maxLiveSyncPlaybackRate: 1.1,
      // A stall moves the viewer back by this much for good; the default of 1 s is more than it needs.
      liveSyncOnStallIncrease: 0.2,
      startPosition: from,
      startLevel: -1,
      testBandwidth: false,
      abrEwmaDefaultEstimate: 5_000_000,
      renderTextTracksNatively: false,
      // A recording that has just begun lists nothing yet: ask again soon.
      manifestLoadPolicy: { default: { maxTimeToFirstByteMs: 10_000, maxLoadTimeMs: 20_000, timeoutRetry: null, errorRetry: null } },
    });
    this.#hls = hls;
    hls.on(Hls.Events.MANIFEST_PARSED, () => { this.#retryMs = 500; this.#emit('levels'); });
    hls.on(Hls.Events.LEVELS_UPDATED, () => this.#emit('levels'));
    hls.on(Hls.Events.LEVEL_SWITCHED, () => this.#emit('level'));
    hls.on(Hls.Events.FRAG_BUFFERED, () => { this.#recoveries = 0; this.#emit('playable'); });
    hls.on(Hls.Events.SUBTITLE_TRACKS_UPDATED, () => { if (hls.subtitleTracks.length) hls.subtitleTrack = 0; });
    hls.on(Hls.Events.CUES_PARSED, (_, { type, cues }) => {
      if (type !== 'subtitles' && type !== 'captions') return;
      for (const cue of cues) this.#emit('subtitle', { start: cue.startTime, end: cue.endTime, text: plain(cue.text) });
    });
    hls.on(Hls.Events.ERROR, (_, data) => this.#onError(data));
    hls.loadSource(this.#url);
    hls.attachMedia(this.video);
  }

  #onError({ fatal, type, details, response }) {
    if (!fatal) {
      if (details === Hls.ErrorDetails.BUFFER_STALLED_ERROR) this.#watch(this.video.currentTime);
      return;
    }
    const hls = this.#hls;
    if (details === Hls.ErrorDetails.MANIFEST_LOAD_ERROR || details === Hls.ErrorDetails.MANIFEST_LOAD_TIMEOUT
      || details === Hls.ErrorDetails.MANIFEST_PARSING_ERROR || details === Hls.ErrorDetails.LEVEL_EMPTY_ERROR) {
      this.#emit('waiting', { status: response?.code ?? 0 });
      this.#again(this.video.currentTime || -1);
    } else if (type === Hls.ErrorTypes.MEDIA_ERROR && this.#recoveries < MOST_RECOVERIES) {
      this.#recoveries += 1;
      hls.recoverMediaError();
    } else if (type === Hls.ErrorTypes.NETWORK_ERROR) {
      this.#emit('waiting', { status: response?.code ?? 0 });
      this.#again(this.video.currentTime || -1);
    } else {
      this.#emit('failed', 'This browser could not decode the video.');
    }
  }

  /** hls.js may wait for good for a part that it takes for loaded: who stands at `stood` though more is listed goes on at the live edge. */
  #watch(stood) {
    clearTimeout(this.#stuck);
    this.#stuck = setTimeout(() => {
      const { video, edge } = this;
      if (this.#hls && this.live && !video.paused && video.currentTime === stood && edge > stood + 1) video.currentTime = edge;
    }, STUCK_MS);
  }

  #again(from) {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.load(this.#url, from), this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 1.5, 5000);
  }

  #loadNatively(from) {
    const { video } = this;
    video.src = this.#url;
    video.onloadedmetadata = () => {
      if (from > 0) video.currentTime = from;
      for (const track of video.textTracks) track.mode = 'hidden';
      this.#emit('playable');
    };
    video.textTracks.onaddtrack = ({ track }) => {
      track.mode = 'hidden';
      track.oncuechange = () => {
        for (const cue of track.activeCues ?? []) this.#emit('subtitle', { start: cue.startTime, end: cue.endTime, text: plain(cue.text) });
      };
    };
    video.onerror = () => {
      this.#emit('waiting', { status: 0 });
      this.#again(video.currentTime || -1);
    };
  }
}
