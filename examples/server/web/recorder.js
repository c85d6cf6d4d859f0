// The page at `/`: sets up, records, shows the link at once, and sees a recording through to its end.

import { createRecording, deleteRecording, followEvents, pauseRecording, resumeRecording, stopRecording, uploadFile } from './api.js';
import { canShareScreen, Capture, listDevices, openCamera, openMicrophone } from './capture.js';
import { connectionFailed, connectionLost, explain, Told, whyUnable } from './explain.js';
import { paintIcons, swapIcon } from './icons.js';
import { Library } from './library.js';
import { LevelMeter } from './meter.js';
import { wireCopy } from './share.js';
import { Publisher } from './whip.js';
import { bitrate, clock, stageSentence } from './words.js';

const CONNECT_LIMIT_MS = 20_000;
/** A connection that does not mend itself in this long is made anew. */
const UNSTEADY_LIMIT_MS = 4_000;
/** The server waits this long for a publisher to come back. */
const RECONNECT_LIMIT_MS = 20_000;

const HINTS = {
  both: 'Your screen, with you in the corner.',
  screen: 'Your screen, a window or a single tab.',
  camera: 'Just you and your voice.',
};

const CONNECTION = {
  connecting: 'Connecting…',
  connected: 'Connected',
  disconnected: 'Connection unsteady…',
  failed: 'Connection lost',
};

const $ = (id) => document.getElementById(id);
const announce = (words) => { $('announcer').textContent = words; };

/** One visit of the recorder: idle → asking → connecting → recording → finishing → done, and back. */
class Recorder {
  #phase = 'idle';
  #context = null;
  #rehearsal = null;
  #meter = null;
  #capture = null;
  #publisher = null;
  #recording = null;
  #events = null;
  #begunAt = 0;
  #lostAt = 0;
  /** How long it has been paused so far, and since when it is, where it is. */
  #pausedMs = 0;
  #pausedAt = 0;
  #clock = 0;
  #watchdog = 0;

  constructor(library) {
    this.library = library;
    $('record').addEventListener('click', () => this.record());
    $('stop').addEventListener('click', () => this.stop());
    $('pause').addEventListener('click', () => this.pause());
    $('again').addEventListener('click', () => { this.reset(); $('title').value = ''; });
    $('try').addEventListener('click', () => this.rehearse());
    $('upload').addEventListener('click', () => $('upload-file').click());
    $('upload-file').addEventListener('change', (event) => this.upload(event.target.files[0]));
    $('setup').addEventListener('submit', (event) => { event.preventDefault(); this.record(); });
    for (const radio of document.querySelectorAll('input[name=mode]')) {
      radio.addEventListener('change', () => { this.#showMode(); this.#rehearseAgain(); });
    }
    for (const choice of ['camera-choice', 'mic-choice']) $(choice).addEventListener('change', () => this.#rehearseAgain());
    $('notice-close').addEventListener('click', () => { $('notice').hidden = true; });
    wireCopy($('copy-link'), () => $('share-link').value, $('share-link'), announce);
    $('share-link').addEventListener('focus', (event) => event.target.select());
    document.addEventListener('keydown', (event) => this.#onKey(event));
    window.addEventListener('beforeunload', (event) => {
      if (this.#phase === 'recording' || this.#phase === 'connecting') event.preventDefault();
    });
    window.addEventListener('pagehide', () => this.#leave());
    navigator.mediaDevices?.addEventListener?.('devicechange', () => this.#showDevices());
  }

  async begin() {
    const unable = whyUnable();
    if (unable) {
      this.#tell(unable, { lasting: true });
      $('record').disabled = true;
      $('try').disabled = true;
      return;
    }
    if (!canShareScreen()) {
      for (const radio of document.querySelectorAll('input[name=mode]:not([value=camera])')) radio.disabled = true;
      document.querySelector('input[value=camera]').checked = true;
    }
    this.#showMode();
    await this.#showDevices();
  }

  // ---- setting up -------------------------------------------------------------------------------------------------

  #choice() {
    return {
      mode: document.querySelector('input[name=mode]:checked').value,
      camera: $('camera-choice').value,
      microphone: $('mic-choice').value,
    };
  }

  #showMode() {
    const { mode } = this.#choice();
    $('sketch').dataset.mode = mode;
    $('stage-hint').textContent = HINTS[mode];
    $('camera-field').hidden = mode === 'screen';
    $('level-row').hidden = this.#choice().microphone === 'off' && (mode === 'screen' || this.#phase !== 'idle');
    $('try').textContent = mode === 'screen' ? 'Try microphone' : 'Try camera and mic';
    $('stage').dataset.mode = mode;
  }

  async #showDevices() {
    const { cameras, microphones } = await listDevices();
    fill($('camera-choice'), cameras, 'Default camera', 'Camera');
    fill($('mic-choice'), microphones, 'Default microphone', 'Microphone', [['off', 'No microphone']]);
  }

  /** Shows the camera and the level before anything is recorded. */
  async rehearse() {
    if (this.#phase !== 'idle') return;
    if (this.#rehearsal) return this.#endRehearsal();
    $('notice').hidden = true;
    const { mode, camera, microphone } = this.#choice();
    const streams = [];
    this.#rehearsal = streams;
    try {
      if (mode !== 'screen') {
        const seen = await openCamera(camera);
        if (this.#rehearsal !== streams) return release([seen]);
        streams.push(seen);
        this.#showPicture(seen.getVideoTracks()[0]);
      }
      if (microphone !== 'off') {
        const heard = await openMicrophone(microphone);
        if (this.#rehearsal !== streams) return release([heard]);
        streams.push(heard);
        this.#showLevel(heard.getAudioTracks()[0]);
      }
      $('try').textContent = 'Stop trying';
      this.#showDevices();
    } catch (error) {
      this.#endRehearsal();
      this.#tell(explain(error, 'start the preview'));
    }
  }

  #rehearseAgain() {
    if (!this.#rehearsal) return this.#showMode();
    this.#endRehearsal();
    return this.rehearse();
  }

  #endRehearsal() {
    release(this.#rehearsal ?? []);
    this.#rehearsal = null;
    this.#hideLevel();
    this.#hidePicture();
    this.#showMode();
  }

  // ---- recording --------------------------------------------------------------------------------------------------

  async record() {
    if (this.#phase !== 'idle') return;
    $('notice').hidden = true;
    this.#endRehearsal();
    this.#enter('asking');
    this.#busy('Waiting for your permission…');
    try {
      this.#context ??= new AudioContext();
      this.#context.resume();
      this.#capture = await Capture.start(this.#choice(), this.#context);
      this.#capture.onended = (kind) => this.#onEnded(kind);
      this.#showPicture(this.#capture.video);
      if (this.#capture.microphone) this.#showLevel(this.#capture.microphone);
      this.#showDevices();

      this.#enter('connecting');
      this.#busy('Connecting…');
      this.#recording = await createRecording($('title').value.trim()).catch((error) => {
        throw explain(error, 'start a recording');
      });
      this.#showLink();
      this.#showConnection('connecting');
      this.#watchdog = setTimeout(() => this.#fail(connectionFailed()), CONNECT_LIMIT_MS);
      this.#publisher = await Publisher.start(this.#capture, this.#recording, (state) => this.#onConnection(state)).catch((error) => {
        throw explain(error, 'take the video');
      });
    } catch (error) {
      await this.#fail(explain(error, 'record'));
    }
  }

  #onConnection(state) {
    this.#showConnection(state);
    clearTimeout(this.#watchdog);
    if (state === 'connected' && this.#phase === 'connecting') {
      this.#enter('recording');
      this.#busy(null);
      this.#begunAt = performance.now();
      this.#pausedMs = 0;
      this.#showPaused(0);
      this.#clock = setInterval(() => this.#showElapsed(), 250);
      this.#showElapsed();
      this.library.refresh();
      announce('Recording. Your link is ready to share.');
    } else if (state === 'failed') {
      if (this.#phase === 'recording') {
        this.#reconnect();
      } else {
        this.#fail(connectionFailed());
      }
    } else if (state === 'disconnected' && this.#phase === 'recording') {
      this.#watchdog = setTimeout(() => this.#reconnect(), UNSTEADY_LIMIT_MS);
    } else if (state === 'connected' && this.#phase === 'recording') {
      this.#lostAt = 0;
    }
  }

  /** Publishes anew to the same recording, which goes on behind a gap; gives up when the server no longer waits. */
  async #reconnect() {
    clearTimeout(this.#watchdog);
    if (this.#phase !== 'recording') return;
    this.#lostAt ||= performance.now();
    this.#publisher?.abandon();
    this.#publisher = null;
    this.#showConnection('disconnected');
    if (performance.now() - this.#lostAt > RECONNECT_LIMIT_MS) {
      this.#tell(connectionLost());
      this.stop();
      return;
    }
    this.#watchdog = setTimeout(() => this.#reconnect(), UNSTEADY_LIMIT_MS);
    try {
      const publisher = await Publisher.start(this.#capture, this.#recording, (state) => this.#onConnection(state));
      if (this.#phase === 'recording' && !this.#publisher) this.#publisher = publisher;
      else publisher.abandon();
    } catch (error) {
      // The server cannot be reached yet, or says that the recording is over: the next try, or the last, tells.
      console.warn('could not reconnect', error);
    }
  }

  #onEnded(kind) {
    if (this.#phase === 'recording') {
      if (kind === 'video') return this.stop();
      this.#tell(new Told('The microphone has gone.', 'The recording goes on without sound. Stop it and record again when the microphone is back.'));
    } else if (this.#phase === 'connecting') {
      this.#fail(new Told('Sharing ended before the recording began.', 'Press Record to start again.'));
    }
  }

  /** Pauses, or goes on. What is captured meanwhile is sent and left out by the server. */
  async pause() {
    if (this.#phase !== 'recording' || $('pause').disabled) return;
    const recording = this.#recording;
    const pausing = !this.#pausedAt;
    $('pause').disabled = true;
    try {
      await (pausing ? pauseRecording : resumeRecording)(recording.id);
      if (this.#phase !== 'recording') return;
      if (!pausing) this.#pausedMs += performance.now() - this.#pausedAt;
      this.#showPaused(pausing ? performance.now() : 0);
      announce(pausing ? 'Paused. Nothing is recorded until you resume.' : 'Recording again.');
    } catch (error) {
      this.#tell(explain(error, pausing ? 'pause the recording' : 'resume the recording'));
    } finally {
      $('pause').disabled = false;
    }
  }

  async stop() {
    if (this.#phase !== 'recording') return;
    this.#enter('finishing');
    this.#showFinish('processing', 'Finishing the recording…');
    const recording = this.#recording;
    this.#events = followEvents(recording.id, {
      state: (now) => this.#onState(now),
      progress: ({ stage, fraction }) => this.#showFinish('processing', stageSentence(stage), fraction),
    });
    this.#endCapture();
    $('stage-hint').textContent = 'Wrapping it up…';
    try {
      await stopRecording(recording.id);
    } catch (error) {
      this.#tell(explain(error, 'finish the recording'));
    }
    await this.#publisher?.stop();
    this.#publisher = null;
    this.library.refresh();
  }

  #onState({ state, reason }) {
    if (this.#phase !== 'finishing' || (state !== 'ready' && state !== 'failed')) return;
    this.#events.close();
    this.#enter('done');
    if (state === 'ready') {
      this.#showFinish('ready', 'Your recording is ready.');
      $('share-lead').innerHTML = '<strong>Your link is ready.</strong> The video, its captions and transcript are all there.';
    } else {
      this.#showFinish('failed', reason ? `The recording failed: ${reason}.` : 'The recording failed.');
    }
    $('stage-hint').textContent = state === 'ready' ? 'All done.' : '';
    announce($('finish-state').textContent);
    $('watch').focus();
    this.library.refresh();
  }

  /** Gives up before the recording began: nothing of it is kept. */
  async #fail(told) {
    if (this.#phase === 'idle') return;
    const recording = this.#recording;
    const publisher = this.#publisher;
    this.#publisher = null;
    this.#endCapture();
    this.reset();
    this.#tell(told);
    await publisher?.stop();
    if (recording) await deleteRecording(recording.id).catch(() => {});
    this.library.refresh();
  }

  reset() {
    this.#events?.close();
    this.#events = null;
    this.#recording = null;
    this.#busy(null);
    this.#enter('idle');
    $('share').hidden = true;
    $('finish').hidden = true;
    this.#hidePicture();
    this.#showMode();
    document.title = 'Loom · Record';
  }

  #endCapture() {
    clearInterval(this.#clock);
    clearTimeout(this.#watchdog);
    this.#capture?.stop();
    this.#capture = null;
    this.#hideLevel();
    this.#hidePicture();
    $('rec-pill').hidden = true;
    $('stage').classList.remove('resting');
    $('connection').hidden = true;
    document.title = 'Loom · Record';
  }

  /** The page goes away: what was recorded is kept, the rest is not waited for. */
  #leave() {
    if (this.#phase === 'recording' || this.#phase === 'connecting') {
      if (this.#recording) stopRecording(this.#recording.id, { keepalive: true }).catch(() => {});
      this.#publisher?.stop({ keepalive: true });
    }
  }

  // ---- uploading --------------------------------------------------------------------------------------------------

  async upload(file) {
    $('upload-file').value = '';
    if (!file || this.#phase !== 'idle') return;
    $('notice').hidden = true;
    this.#endRehearsal();
    this.#enter('finishing');
    this.#showFinish('processing', `Uploading ${file.name}…`, 0);
    try {
      this.#recording = await uploadFile(file, (done) => this.#showFinish('processing', `Uploading ${file.name}…`, done));
      this.#showLink();
      $('share-lead').innerHTML = '<strong>Your link.</strong> The video appears there as soon as it is converted.';
      this.#showFinish('processing', 'Converting the video…');
      this.#events = followEvents(this.#recording.id, {
        state: (now) => this.#onState(now),
        progress: ({ stage, fraction }) => this.#showFinish('processing', stageSentence(stage), fraction),
      });
      this.library.refresh();
    } catch (error) {
      this.reset();
      this.#tell(explain(error, 'take the file'));
      this.library.refresh();
    }
  }

  // ---- what is shown ----------------------------------------------------------------------------------------------

  #enter(phase) {
    this.#phase = phase;
    $('studio').dataset.phase = phase;
    $('setup').hidden = phase !== 'idle' && phase !== 'asking';
    $('setup').inert = phase === 'asking';
    $('record').hidden = phase !== 'idle' && phase !== 'asking' && phase !== 'connecting';
    $('record').disabled = phase !== 'idle';
    $('stop').hidden = phase !== 'recording';
    $('pause').hidden = phase !== 'recording';
    $('again').hidden = phase !== 'done';
    $('watch').hidden = phase !== 'done';
    $('foot').hidden = phase !== 'idle';
    $('try').hidden = phase !== 'idle';
    if (phase === 'finishing' || phase === 'done') $('level-row').hidden = true;
    $('rec-pill').hidden = phase !== 'recording';
    if (phase === 'recording') $('stop').focus();
  }

  #busy(words) {
    $('busy').hidden = !words;
    $('busy-text').textContent = words ?? '';
  }

  #showPicture(track) {
    $('preview').srcObject = new MediaStream([track]);
    $('stage').classList.add('has-picture');
  }

  #hidePicture() {
    $('preview').srcObject = null;
    $('stage').classList.remove('has-picture');
  }

  #showLevel(track) {
    this.#context ??= new AudioContext();
    this.#context.resume();
    this.#hideLevel();
    this.#meter = new LevelMeter(this.#context, track, $('level'), $('level-fill'));
  }

  #hideLevel() {
    this.#meter?.stop();
    this.#meter = null;
  }

  #showLink() {
    const link = new URL(this.#recording.watch_url ?? `/w/${this.#recording.id}`, window.location.href).href;
    $('share-link').value = link;
    $('open-link').href = link;
    $('watch').href = link;
    $('share-lead').innerHTML = '<strong>Your link is live.</strong> Anyone who has it can watch while you talk.';
    $('finish').hidden = true;
    $('share').hidden = false;
  }

  #showFinish(state, words, fraction) {
    $('finish').hidden = false;
    $('finish-state').dataset.state = state;
    $('finish-state').textContent = words;
    const bar = $('progress');
    bar.hidden = state !== 'processing';
    bar.classList.toggle('unknown', typeof fraction !== 'number');
    $('progress-fill').style.transform = `scaleX(${typeof fraction === 'number' ? Math.min(1, Math.max(0.02, fraction)) : 1})`;
    if (typeof fraction === 'number') bar.setAttribute('aria-valuenow', String(Math.round(fraction * 100)));
    else bar.removeAttribute('aria-valuenow');
  }

  #showPaused(since) {
    this.#pausedAt = since;
    $('pause').setAttribute('aria-pressed', String(Boolean(since)));
    $('pause-text').textContent = since ? 'Resume' : 'Pause';
    swapIcon($('pause-icon'), since ? 'play' : 'pause');
    $('rec-pill').classList.toggle('resting', Boolean(since));
    $('stage').classList.toggle('resting', Boolean(since));
    this.#showElapsed();
  }

  async #showElapsed() {
    const now = this.#pausedAt || performance.now();
    const seconds = (now - this.#begunAt - this.#pausedMs) / 1000;
    $('elapsed').textContent = this.#pausedAt ? `Paused · ${clock(seconds)}` : clock(seconds);
    document.title = `${this.#pausedAt ? '❚❚' : '●'} ${clock(seconds)} · Loom`;
    if (Math.floor(seconds * 4) % 8 !== 0) return;
    const rate = await this.#publisher?.bitrate().catch(() => null);
    if (rate && $('connection').dataset.state === 'connected') $('connection').textContent = `Connected · ${bitrate(rate)}`;
  }

  #showConnection(state) {
    const pill = $('connection');
    if (!(state in CONNECTION)) return;
    pill.hidden = false;
    pill.dataset.state = state;
    pill.textContent = CONNECTION[state];
  }

  #tell(told, { lasting = false } = {}) {
    $('notice-title').textContent = told.title;
    $('notice-detail').textContent = told.detail;
    $('notice-close').hidden = lasting;
    const action = $('notice-action');
    action.hidden = true;
    if (told.action === 'without-mic' && $('mic-choice').value !== 'off') {
      action.hidden = false;
      action.textContent = 'Record without sound';
      action.onclick = () => { $('mic-choice').value = 'off'; this.record(); };
    } else if (told.action === 'without-camera' && this.#choice().mode === 'both') {
      action.hidden = false;
      action.textContent = 'Record the screen alone';
      action.onclick = () => { document.querySelector('input[value=screen]').checked = true; this.#showMode(); this.record(); };
    }
    $('notice').hidden = false;
    $('notice').scrollIntoView({ block: 'nearest' });
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || $('confirm').open) return;
    if (event.target.closest?.('input:not([type=radio]), select, textarea')) return;
    const key = event.key.toLowerCase();
    if (key === 'r' && this.#phase === 'idle') this.record();
    if (key === 'p' && this.#phase === 'recording') this.pause();
    if (key === 's' && this.#phase === 'recording') this.stop();
  }
}

/** Lists devices in a select, keeping what was chosen. */
function fill(select, devices, first, name, extra = []) {
  const chosen = select.value;
  const options = [['', first], ...devices.filter((d) => d.deviceId !== 'default').map((d, i) => [d.deviceId, d.label || `${name} ${i + 1}`]), ...extra];
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  if (options.some(([value]) => value === chosen)) select.value = chosen;
}

function release(streams) {
  for (const stream of streams) for (const track of stream.getTracks()) track.stop();
}

paintIcons();
const library = new Library({ list: $('library-list'), count: $('library-count'), empty: $('library-empty'), failure: $('library-error') });
library.refresh();
new Recorder(library).begin();
