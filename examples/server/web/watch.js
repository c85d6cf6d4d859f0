// The page at `/w/{id}`: plays a recording from its first second, while it is made and after.

import { correctTranscript, followEvents, readChapters, readRecording, readTranscript, Refusal, transcriptFile } from './api.js';
import { CaptionLine, CueStore, cuesOf } from './captions.js';
import { wireComposition } from './composition.js';
import { Controls } from './controls.js';
import { explain, Told } from './explain.js';
import { paintIcons } from './icons.js';
import { wireCopy } from './share.js';
import { Stream } from './stream.js';
import { Thumbnails } from './thumbnails.js';
import { TranscriptView } from './transcript.js';
import { clock, GOING, OVER, stageSentence, stateWord, titleOf, when } from './words.js';

const $ = (id) => document.getElementById(id);
/** `?with=camera`: screen and camera in one picture. */
const WITH_CAMERA = new URLSearchParams(window.location.search).get('with') === 'camera';
const announce = (words) => { $('announcer').textContent = words; };

/** One visit of a recording. */
class Visit {
  #recording = null;
  #state = '';
  #loaded = false;
  #written = false;
  /** The version of the transcript that is shown. */
  #tag = null;
  #retry = 0;

  constructor(id) {
    this.id = id;
    this.video = $('video');
    this.cues = new CueStore();
    this.stream = new Stream(this.video);
    this.line = new CaptionLine($('caption'), this.cues);
    this.thumbnails = new Thumbnails();
    this.controls = new Controls({ video: this.video, stream: this.stream, captionLine: this.line, thumbnails: this.thumbnails, announce });
    this.transcript = new TranscriptView({
      list: $('transcript'), scroller: $('transcript-scroll'), follow: $('follow'), store: this.cues,
      seek: (seconds) => { this.controls.seek(seconds); this.controls.play(); },
      correct: (cue, words) => this.#correct(cue, words),
    });
    this.cues.addEventListener('change', () => this.#showTranscriptNote());
    this.stream.addEventListener('levels', () => this.controls.showLevels());
    this.stream.addEventListener('level', () => this.controls.showLevels());
    this.stream.addEventListener('subtitle', ({ detail }) => this.#written || this.cues.fill(detail));
    this.stream.addEventListener('playable', () => this.#veil(null));
    this.stream.addEventListener('waiting', ({ detail }) => this.#onWaiting(detail));
    this.stream.addEventListener('failed', ({ detail }) => this.#veil('The video cannot be played.', detail, { retry: true }));
    this.video.addEventListener('waiting', () => { $('player').dataset.stalled = 'yes'; });
    this.video.addEventListener('playing', () => { delete $('player').dataset.stalled; this.#veil(null); });
    $('veil-action').addEventListener('click', () => this.begin());
    wireCopy($('share'), () => new URL(this.#recording?.watch_url ?? window.location.pathname, window.location.href).href, null, announce);
    wireComposition($('compose'), () => this.#recording, announce, () => this.#again());
  }

  async begin() {
    clearTimeout(this.#retry);
    if (!Stream.supported) {
      this.#veil('This browser cannot play this video.', 'Use a current Chrome, Edge, Firefox or Safari.', { idle: true });
      return;
    }
    this.#veil('Loading…');
    try {
      this.#take(await readRecording(this.id));
    } catch (error) {
      if (error instanceof Refusal && error.status === 404) {
        this.#veil('There is no recording at this link.', 'It may have been deleted, or the link is not complete.', { idle: true });
        $('title').textContent = 'Not found';
        $('transcript-empty').textContent = '';
      } else {
        const told = explain(error, 'show this recording');
        this.#veil(told.title, told.detail, { retry: true });
        this.#retry = setTimeout(() => this.begin(), 5000);
      }
      return;
    }
    this.#tick();
    if (this.#over) return;
    this.events ??= followEvents(this.id, {
      link: (up) => up && this.#again(),
      state: (now) => this.#onState(now),
      // What is told anew after the end is what the transcript already holds.
      caption: (cue) => this.#over || this.cues.put(cue),
      progress: ({ stage, fraction }) => this.#onProgress(stage, fraction),
      renditions: () => this.controls.showLevels(),
      chapters: ({ chapters }) => this.controls.showChapters(chapters),
    });
  }

  /** Whether it is being made now, or its publisher is waited for. */
  get #going() {
    return GOING.has(this.#state);
  }

  /** Whether screen and camera are shown in one picture: where the visitor wants that, and it was made. */
  get #composed() {
    return WITH_CAMERA && Boolean(this.#recording.composition_hls_url);
  }

  /** Whether the recording will change no more. */
  get #over() {
    return OVER.has(this.#state);
  }

  // ---- what the server tells --------------------------------------------------------------------------------------

  /** Reads the recording anew: after a reconnect something may have been missed. */
  async #again() {
    try { this.#take(await readRecording(this.id)); } catch { /* the event stream tries again by itself */ }
  }

  #onState({ state, reason, duration }) {
    if (this.#recording) this.#take({ ...this.#recording, state, reason, duration: duration ?? this.#recording.duration });
    if (state === 'ready' || state === 'failed') this.#again(); // of what was deleted there is nothing to be read
  }

  #take(recording) {
    const before = this.#state;
    this.#recording = recording;
    this.#state = recording.state;
    this.#describe(recording);
    this.thumbnails.open(new URL(recording.hls_url, window.location.href), this.#composed ? recording.composition.thumbnails : 'thumbs.vtt', !this.#over);
    if (this.#state === before) return;
    $('main').dataset.state = this.#state;
    if (before) announce(`This recording is now: ${stateWord(this.#state)}.`);
    switch (this.#state) {
      case 'created':
        this.#veil('Waiting for the recording to begin…', 'It starts here by itself.');
        break;
      case 'live':
      case 'reconnecting':
      case 'paused':
        this.#load();
        this.stream.rest(this.#state === 'paused');
        if (!GOING.has(before)) this.#readTranscript();
        break;
      case 'processing':
        // What was recorded live plays on while it is finished; an upload may have nothing to show yet.
        this.#load();
        break;
      case 'ready':
        this.#load();
        readChapters(this.id).then((chapters) => this.controls.showChapters(chapters), () => {});
        this.#readTranscript();
        break;
      case 'failed':
        if (!this.#loaded || !this.video.buffered.length) {
          this.#veil('This recording failed.', recording.reason ? sentence(recording.reason) : 'Nothing of it could be kept.', { idle: true });
        }
        break;
      case 'deleted':
        this.#veil('This recording was deleted.', 'It is not there any more.', { idle: true });
        break;
      default:
    }
  }

  #load() {
    if (this.#loaded) return;
    this.#loaded = true;
    this.#veil(this.#going ? 'Joining…' : 'Loading…');
    if (this.#recording.poster_url && this.#state === 'ready') this.video.poster = this.#recording.poster_url;
    const url = this.#composed ? this.#recording.composition_hls_url : this.#recording.hls_url;
    this.stream.load(new URL(url, window.location.href).href);
    // A live visitor came to see it now; a finished recording waits for its press of play.
    if (this.#going) this.controls.play();
    else $('big-play').hidden = false;
  }

  async #readTranscript() {
    if (this.#recording.captions === 'off') return;
    try {
      const transcript = await readTranscript(this.#recording);
      const cues = cuesOf(transcript);
      if (this.#over) this.#takeTranscript(transcript.tag, cues);
      else for (const cue of cues) this.cues.put(cue);
    } catch {
      // While it is being made there may be none yet; the events and the stream's subtitles bring what is said.
    }
    this.#showTranscriptNote();
  }

  #takeTranscript(tag, cues) {
    this.#written = true;
    this.#tag = tag;
    this.transcript.editable = this.#state === 'ready' && Boolean(tag);
    this.cues.replace(cues);
  }

  /** Has a line say something else, and shows the version that comes of it. */
  async #correct(cue, words) {
    let segment = cue.id;
    try {
      await correctTranscript(this.id, this.#tag, segment, words);
    } catch (error) {
      if (!(error instanceof Refusal && error.status === 412)) throw error;
      // somebody was quicker: where that was about other lines, both are kept
      const newest = await readTranscript(this.#recording);
      segment = cuesOf(newest).findIndex((it) => it.start === cue.start && it.text === cue.text);
      if (segment < 0) throw new Told('Somebody else has corrected this line meanwhile.', 'Copy your words, and load the page again to see theirs.');
      await correctTranscript(this.id, newest.tag, segment, words);
    }
    // it is kept, whether or not it can be read at once
    await this.#readTranscript();
    announce('The correction is kept.');
  }

  // ---- what is shown ----------------------------------------------------------------------------------------------

  #describe(recording) {
    const title = titleOf(recording);
    $('title').textContent = title;
    document.title = `${recording.state === 'live' ? '● ' : ''}${title} · Loom`;
    $('state').textContent = stateWord(recording.state);
    $('state').dataset.state = recording.state;
    $('state').hidden = recording.state === 'ready';
    const length = recording.duration && !this.#going ? clock(recording.duration) : '';
    const how = recording.state === 'reconnecting' ? 'The recording was interrupted; it goes on when the connection is back.'
      : recording.state === 'paused' ? 'The recording is paused; it goes on here by itself.'
      : recording.state === 'ready' && recording.reason ? recording.reason : '';
    $('meta').textContent = [when(recording.created_at), length, how]
      .filter(Boolean).join(' · ');
    const ready = recording.state === 'ready';
    $('download').hidden = !ready || !recording.download_url;
    if (recording.download_url) $('download').href = recording.download_url;
    $('compose').hidden = !ready || !recording.composition_url;
    $('with-camera').hidden = !ready || !recording.composition_hls_url;
    $('with-camera').href = this.#composed ? window.location.pathname : '?with=camera';
    $('with-camera').children[1].textContent = this.#composed ? 'Play the screen alone' : 'Play with camera';
    const off = recording.captions === 'off';
    $('captions').disabled = off;
    $('transcript-links').hidden = !ready || off;
    for (const kind of ['txt', 'vtt', 'srt']) $(`get-${kind}`).href = transcriptFile(recording.id, kind);
    this.#showTranscriptNote();
  }

  #showTranscriptNote() {
    const recording = this.#recording;
    const off = recording?.captions === 'off';
    const note = recording?.captions_note || (off ? 'Captions are off: this server has no speech model' : '');
    $('transcript-note').hidden = !note;
    $('transcript-note').textContent = note ? sentence(note) : '';
    const empty = !off && this.cues.all.length === 0;
    $('transcript-empty').hidden = !empty;
    if (!empty) return;
    $('transcript-empty').textContent = {
      created: 'What is said will appear here.',
      live: 'Listening… what is said appears here.',
      reconnecting: 'Listening… what is said appears here.',
      paused: 'What is said appears here when the recording goes on.',
      processing: 'The transcript is being written.',
      ready: 'Nothing was said in this recording.',
    }[this.#state] ?? '';
  }

  #onWaiting({ status }) {
    if (this.video.buffered.length && !this.video.ended) return;
    if (!status && !navigator.onLine) return this.#veil('You are offline.', 'Playing goes on when the network is back.');
    if (this.#going) this.#veil('Joining…', 'The first seconds are on their way.');
    else if (this.#state === 'processing') $('veil-progress').hidden && this.#veil('Getting ready…', 'The video appears here as soon as it can be played.');
    else if (!status) this.#veil('The server cannot be reached.', 'Trying again…');
    else this.#veil('Loading…');
  }

  #onProgress(stage, fraction) {
    if (this.#state !== 'processing') return;
    $('meta').textContent = stageSentence(stage);
    if ($('veil').hidden) return;
    const known = typeof fraction === 'number';
    $('veil-title').textContent = stageSentence(stage);
    $('veil-progress').hidden = !known;
    if (known) {
      $('veil-progress').setAttribute('aria-valuenow', String(Math.round(fraction * 100)));
      $('veil-progress-fill').style.transform = `scaleX(${Math.min(1, fraction)})`;
    }
  }

  /** Words over the picture while there is none; null takes them away. */
  #veil(title, detail = '', { retry = false, idle = false } = {}) {
    const veil = $('veil');
    veil.hidden = title === null;
    if (title === null) return;
    $('big-play').hidden = true;
    $('veil-title').textContent = title;
    $('veil-detail').textContent = detail;
    $('veil-spinner').hidden = idle || retry;
    $('veil-progress').hidden = true;
    $('veil-action').hidden = !retry;
  }

  #tick() {
    if (this.ticking) return;
    this.ticking = true;
    let last = -1;
    const frame = (now) => {
      requestAnimationFrame(frame);
      if (now - last < 60) return;
      last = now;
      const seconds = this.video.currentTime;
      this.controls.refresh();
      this.line.show(seconds, this.controls.atEdge);
      this.transcript.mark(seconds);
      // The browser refused to start with sound, or the recording is finished and has not been started.
      if ($('veil').hidden && this.video.paused && seconds < 0.1 && this.video.readyState >= 2) $('big-play').hidden = false;
    };
    requestAnimationFrame(frame);
  }
}

const sentence = (words) => `${words[0].toUpperCase()}${words.slice(1)}${/[.!?]$/.test(words) ? '' : '.'}`;

paintIcons();
new Visit(decodeURIComponent(window.location.pathname.split('/')[2] ?? '')).begin();
