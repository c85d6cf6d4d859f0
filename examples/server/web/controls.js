// The player's buttons, sliders, menus and keys.

import { swapIcon } from './icons.js';
import { clock, spokenTime } from './words.js';

const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2];
const HIDE_AFTER_MS = 2800;
const AT_EDGE_SECONDS = 6;
// A viewer at the edge who falls this far behind by no wish of their own is taken back to it, but not all the time.
const LOST_SECONDS = 8;
const FOLLOW_AGAIN_MS = 6000;
const $ = (id) => document.getElementById(id);

/** What the viewer chose last time, kept by the browser; a closed storage is no reason to fail. */
const remembered = {
  read(name, otherwise) {
    try { return JSON.parse(localStorage.getItem(`loom.${name}`)) ?? otherwise; } catch { return otherwise; }
  },
  write(name, value) {
    try { localStorage.setItem(`loom.${name}`, JSON.stringify(value)); } catch { /* not remembered, then */ }
  },
};

/** Wires the controls of one player to its video and its stream. */
export class Controls {
  #dragging = false;
  #hideTimer = 0;
  #levelsShown = '';
  #chaptersShown = '';
  #wanted = false;
  #following = true;
  #followedAt = 0;

  constructor({ video, stream, captionLine, thumbnails, announce }) {
    Object.assign(this, { video, stream, captionLine, thumbnails, announce });
    this.player = $('player');
    this.#wireButtons();
    this.#wireSeek();
    this.#wireMenus();
    this.#wireChrome();
    document.addEventListener('keydown', (event) => this.#onKey(event));
    this.setCaptions(remembered.read('captions', true), { quiet: true });
    video.volume = remembered.read('volume', 1);
    this.#showVolume();
    this.#showSpeed();
  }

  /** Whether the viewer sees what is being recorded now. */
  get atEdge() {
    return this.stream.live && this.stream.latency < AT_EDGE_SECONDS;
  }

  /** Brings clock, seek bar and live badge up to date. */
  refresh() {
    const { video, stream } = this;
    const end = Math.max(stream.end || 0, video.currentTime);
    const live = stream.live;
    const position = this.#dragging ? Number($('seek').value) : video.currentTime;
    $('seek').max = String(end || 1);
    this.#placeChapters();
    if (!this.#dragging) $('seek').value = String(position);
    $('seek').setAttribute('aria-valuetext', `${spokenTime(position)} of ${spokenTime(end)}`);
    const share = (seconds) => (end ? Math.min(1, seconds / end) : 0);
    $('seek-played').style.transform = `scaleX(${share(position)})`;
    const { buffered } = video;
    let ahead = 0;
    for (let i = 0; i < buffered.length; i += 1) if (buffered.start(i) <= position + 0.5) ahead = Math.max(ahead, buffered.end(i));
    $('seek-buffered').style.transform = `scaleX(${share(ahead)})`;
    $('now').textContent = clock(position);
    $('total').textContent = clock(end);
    $('clock-rest').hidden = live;
    $('live').hidden = !live;
    if (live) {
      this.#follow();
      const edge = this.atEdge;
      $('live').dataset.edge = edge ? 'yes' : 'no';
      $('live-text').textContent = edge ? 'Live' : 'Go live';
      const latency = stream.latency;
      $('latency').textContent = edge && latency > 0 ? `${latency.toFixed(1)} s` : '';
      $('live').setAttribute('aria-label', edge ? 'Live' : 'Jump to live');
      $('live').title = edge ? 'Seconds between the recording and what you see' : 'Jump to what is being recorded now';
    }
  }

  setCaptions(on, { quiet = false } = {}) {
    this.captionLine.on = on;
    $('captions').setAttribute('aria-pressed', String(on));
    $('captions').title = on ? 'Captions on (C)' : 'Captions off (C)';
    remembered.write('captions', on);
    if (!quiet) this.announce(on ? 'Captions on.' : 'Captions off.');
    if (!on) $('caption').textContent = '';
  }

  /** Shows the qualities that the stream offers now. */
  showLevels() {
    const { levels, playing, automatic } = this.stream;
    const key = JSON.stringify([levels, playing, automatic]);
    if (key === this.#levelsShown) return;
    this.#levelsShown = key;
    const name = (level) => `${level.height ? `${level.height}p` : 'Sound only'}${level.kept ? ' · original' : ''}`;
    const current = levels.find(({ index }) => index === playing);
    const items = levels.map((level) => item(name(level), !automatic && level.index === playing, () => this.#choose(level.index, name(level))));
    items.unshift(item(automatic && current ? `Auto · ${current.height}p` : 'Auto', automatic, () => this.#choose(-1, 'Automatic')));
    $('quality-menu').replaceChildren(...items);
    $('quality').textContent = automatic ? 'Auto' : (current ? `${current.height}p` : 'Auto');
    $('quality').hidden = levels.length === 0;
  }

  toggle() {
    if (this.video.paused || this.video.ended) {
      this.play();
    } else {
      this.#following = false;
      this.video.pause();
    }
  }

  /** Plays; where the browser wants a press first, plays muted, and where that too is refused, shows the big button. */
  async play() {
    try {
      await this.video.play();
    } catch (error) {
      // Attaching a stream interrupts a play that came too early.
      if (error.name === 'AbortError' && !this.#wanted) {
        this.#wanted = true;
        this.video.addEventListener('canplay', () => { this.#wanted = false; this.play(); }, { once: true });
      }
      if (error.name !== 'NotAllowedError') return;
      this.video.muted = true;
      $('unmute').hidden = false;
      await this.video.play().catch(() => { $('big-play').hidden = false; });
    }
  }

  seek(seconds) {
    const end = this.stream.live ? this.stream.edge : this.stream.end;
    this.#following = this.stream.live && seconds > this.stream.edge - AT_EDGE_SECONDS;
    this.video.currentTime = Math.max(0, Math.min(seconds, end || seconds));
    this.refresh();
  }

  jumpToLive() {
    this.#following = true;
    this.video.currentTime = this.stream.edge;
    this.play();
    this.announce('At the live edge.');
  }

  #follow() {
    const { video, stream } = this;
    const now = performance.now();
    if (!this.#following || video.paused || stream.latency < LOST_SECONDS || now - this.#followedAt < FOLLOW_AGAIN_MS) return;
    this.#followedAt = now;
    video.currentTime = stream.edge;
  }

  #choose(index, name) {
    this.stream.choose(index);
    this.announce(`Quality: ${name}.`);
    setTimeout(() => this.showLevels(), 0);
  }

  #wireButtons() {
    const { video } = this;
    $('play').addEventListener('click', () => this.toggle());
    $('big-play').addEventListener('click', () => { video.muted = false; this.play(); });
    $('unmute').addEventListener('click', () => { video.muted = false; });
    $('mute').addEventListener('click', () => this.#toggleMute());
    $('volume').addEventListener('input', () => { video.muted = false; video.volume = Number($('volume').value); });
    $('captions').addEventListener('click', () => this.setCaptions(!this.captionLine.on));
    $('live').addEventListener('click', () => this.jumpToLive());
    $('fullscreen').addEventListener('click', () => this.#toggleFullscreen());
    $('fullscreen').hidden = !document.fullscreenEnabled && !video.webkitEnterFullscreen;
    video.addEventListener('click', () => this.toggle());
    video.addEventListener('dblclick', () => this.#toggleFullscreen());
    for (const kind of ['play', 'playing', 'pause', 'ended', 'emptied']) video.addEventListener(kind, () => this.#showPlaying());
    video.addEventListener('volumechange', () => { this.#showVolume(); remembered.write('volume', video.volume); });
    video.addEventListener('ratechange', () => this.#showSpeed());
    document.addEventListener('fullscreenchange', () => {
      const full = Boolean(document.fullscreenElement);
      swapIcon($('fullscreen').firstElementChild, full ? 'shrink' : 'expand');
      $('fullscreen').setAttribute('aria-label', full ? 'Leave full screen' : 'Full screen');
    });
  }

  #showPlaying() {
    const { paused, ended } = this.video;
    const playing = !paused && !ended;
    swapIcon($('play').firstElementChild, playing ? 'pause' : ended ? 'replay' : 'play');
    $('play').setAttribute('aria-label', playing ? 'Pause' : ended ? 'Play again' : 'Play');
    this.player.dataset.playing = playing ? 'yes' : 'no';
    if (playing) $('big-play').hidden = true;
    this.#showChrome();
  }

  #toggleMute() {
    const { video } = this;
    video.muted = !(video.muted || video.volume === 0);
    if (!video.muted && video.volume === 0) video.volume = 0.6;
  }

  #showVolume() {
    const silent = this.video.muted || this.video.volume === 0;
    if (!silent) $('unmute').hidden = true;
    swapIcon($('mute').firstElementChild, silent ? 'muted' : 'volume');
    $('mute').setAttribute('aria-label', silent ? 'Unmute' : 'Mute');
    $('volume').value = String(silent ? 0 : this.video.volume);
    $('volume').style.setProperty('--share', silent ? 0 : this.video.volume);
  }

  #toggleFullscreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (this.player.requestFullscreen) this.player.requestFullscreen().catch(() => {});
    else this.video.webkitEnterFullscreen?.();
  }

  #wireSeek() {
    const seek = $('seek');
    const tip = $('seek-tip');
    seek.addEventListener('pointerdown', () => { this.#dragging = true; });
    seek.addEventListener('input', () => {
      if (this.#dragging) this.refresh();
      else this.seek(Number(seek.value));
    });
    seek.addEventListener('change', () => { this.#dragging = false; this.seek(Number(seek.value)); });
    $('seek-row').addEventListener('pointermove', (event) => {
      const box = seek.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      const seconds = share * Number(seek.max);
      tip.hidden = false;
      $('seek-time').textContent = clock(seconds);
      $('seek-chapter').textContent = this.chapters?.findLast(({ start }) => start <= seconds)?.title ?? '';
      $('seek-chapter').hidden = !$('seek-chapter').textContent;
      const width = this.#showPicture(seconds);
      // The tip stays inside the player.
      const half = Math.min(width / 2 + 4, box.width / 2);
      tip.style.left = `${Math.min(box.width - half, Math.max(half, share * box.width))}px`;
    });
    $('seek-row').addEventListener('pointerleave', () => { tip.hidden = true; });
  }

  /** Shows the thumbnail of a second; gives its width. */
  #showPicture(seconds) {
    const picture = $('seek-picture');
    const found = this.thumbnails?.at(seconds);
    picture.hidden = !found;
    $('seek-tip').toggleAttribute('data-picture', Boolean(found));
    if (!found) return 0;
    picture.style.width = `${found.width}px`;
    picture.style.height = `${found.height}px`;
    picture.style.backgroundImage = `url("${found.url}")`;
    picture.style.backgroundPosition = `-${found.x}px -${found.y}px`;
    return found.width;
  }

  /** Marks the chapters' beginnings: [{start, title}] by start. */
  showChapters(chapters) {
    this.chapters = chapters;
    this.#placeChapters();
  }

  #placeChapters() {
    const end = Number($('seek').max) || 1;
    const key = JSON.stringify([this.chapters, this.chapters?.length ? end : 0]);
    if (key === this.#chaptersShown) return;
    this.#chaptersShown = key;
    const marks = (this.chapters ?? []).filter(({ start }) => start <= end).map(({ start, title }) => {
      const mark = document.createElement('span');
      mark.className = 'seek-mark';
      mark.style.left = `${(start / end) * 100}%`;
      mark.dataset.title = title;
      return mark;
    });
    $('seek-chapters').replaceChildren(...marks);
  }

  #wireMenus() {
    $('speed-menu').replaceChildren(...SPEEDS.map((speed) => {
      const choice = item(`${speed}×`, speed === 1, () => { this.video.playbackRate = speed; });
      choice.dataset.speed = speed;
      return choice;
    }));
    for (const name of ['speed', 'quality']) {
      const button = $(name);
      const menu = $(`${name}-menu`);
      const show = (open) => {
        menu.hidden = !open;
        button.setAttribute('aria-expanded', String(open));
        if (open) (menu.querySelector('[aria-checked=true]') ?? menu.firstElementChild)?.focus();
      };
      button.addEventListener('click', () => { this.showLevels(); show(menu.hidden); });
      menu.addEventListener('click', (event) => { if (event.target.closest('button')) { show(false); button.focus(); } });
      menu.addEventListener('keydown', (event) => {
        const all = [...menu.children];
        const here = all.indexOf(document.activeElement);
        const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: all.length - 1 }[event.key];
        if (to !== undefined) all[(to + all.length) % all.length].focus();
        else if (event.key === 'Escape') { show(false); button.focus(); } else return;
        event.preventDefault();
        event.stopPropagation();
      });
      document.addEventListener('pointerdown', (event) => { if (!menu.hidden && !event.target.closest('.menu-anchor')) show(false); });
      menu.addEventListener('focusout', (event) => { if (!menu.contains(event.relatedTarget) && event.relatedTarget !== button) show(false); });
    }
  }

  #showSpeed() {
    const rate = this.video.playbackRate;
    // While it catches up with the live edge the rate is the player's own affair.
    const shown = SPEEDS.includes(rate) ? rate : 1;
    $('speed').textContent = `${shown}×`;
    for (const choice of $('speed-menu').children) choice.setAttribute('aria-checked', String(Number(choice.dataset.speed) === shown));
  }

  #stepSpeed(by) {
    const here = SPEEDS.indexOf(SPEEDS.includes(this.video.playbackRate) ? this.video.playbackRate : 1);
    const speed = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, here + by))];
    this.video.playbackRate = speed;
    this.announce(`Speed ${speed}.`);
  }

  #wireChrome() {
    for (const kind of ['pointermove', 'pointerdown', 'focusin', 'keydown']) this.player.addEventListener(kind, () => this.#showChrome());
    this.player.addEventListener('pointerleave', () => this.#hideChrome());
  }

  #showChrome() {
    this.player.dataset.chrome = 'shown';
    clearTimeout(this.#hideTimer);
    this.#hideTimer = setTimeout(() => this.#hideChrome(), HIDE_AFTER_MS);
  }

  #hideChrome() {
    const busy = this.video.paused || this.video.ended || !$('speed-menu').hidden || !$('quality-menu').hidden
      || this.player.querySelector(':focus-visible');
    if (!busy) this.player.dataset.chrome = 'hidden';
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const at = event.target;
    if (at.closest?.('input:not([type=range]), select, textarea, [role=menu]')) return;
    const onButton = at.closest?.('button, a');
    const onSlider = at.closest?.('input[type=range]');
    const inText = at.closest?.('#transcript-scroll');
    const { video } = this;
    const actions = {
      ' ': onButton ? null : () => this.toggle(),
      k: () => this.toggle(),
      arrowleft: onSlider && at.id !== 'seek' ? null : () => this.seek(video.currentTime - 5),
      arrowright: onSlider && at.id !== 'seek' ? null : () => this.seek(video.currentTime + 5),
      j: () => this.seek(video.currentTime - 10),
      l: () => this.seek(video.currentTime + 10),
      arrowup: onSlider || inText ? null : this.player.contains(at) ? () => { video.muted = false; video.volume = Math.min(1, video.volume + 0.1); } : null,
      arrowdown: onSlider || inText ? null : this.player.contains(at) ? () => { video.volume = Math.max(0, video.volume - 0.1); } : null,
      c: () => this.setCaptions(!this.captionLine.on),
      f: () => this.#toggleFullscreen(),
      m: () => this.#toggleMute(),
      '<': () => this.#stepSpeed(-1),
      '>': () => this.#stepSpeed(1),
      home: onSlider || inText ? null : () => this.seek(0),
      end: onSlider || inText ? null : () => (this.stream.live ? this.jumpToLive() : this.seek(this.stream.end)),
    };
    const act = actions[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
    this.#showChrome();
  }
}

/** One choice of a menu. */
function item(words, checked, act) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'menu-item';
  button.setAttribute('role', 'menuitemradio');
  button.setAttribute('aria-checked', String(checked));
  button.tabIndex = -1;
  button.textContent = words;
  button.addEventListener('click', act);
  return button;
}
