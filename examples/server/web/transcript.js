// The transcript beside the video: follows playback word by word, every word is a place to jump to, and every line can be corrected.

import { icon } from './icons.js';
import { LineEditor } from './editor.js';
import { clock, spokenTime } from './words.js';

/**
 * Shows a CueStore as a list; `seek(seconds)` is called when a word is chosen, and `correct(cue, text)`, which resolves once that is kept, when
 * a line is corrected.
 */
export class TranscriptView {
  #rows = new Map();
  #current = null;
  #word = null;
  #following = true;
  #scrollingTill = 0;

  constructor({ list, scroller, follow, store, seek, correct }) {
    Object.assign(this, { list, scroller, follow, store, seek, correct });
    store.addEventListener('change', ({ detail }) => (detail ? this.#showOne(detail) : this.#showAll()));
    list.addEventListener('click', (event) => this.#onClick(event));
    // Only the person's own scrolling stops the following, never ours.
    for (const kind of ['wheel', 'touchmove', 'pointerdown', 'keydown']) {
      scroller.addEventListener(kind, (event) => {
        if (kind === 'keydown' && !['ArrowUp', 'ArrowDown', 'PageUp', 'PageDown', 'Home', 'End'].includes(event.key)) return;
        if (kind === 'pointerdown' && event.target !== scroller) return;
        this.#letGo();
      }, { passive: true });
    }
    follow.addEventListener('click', () => { this.#following = true; follow.hidden = true; this.#reveal(); });
  }

  /** Whether lines can be corrected: once the transcript is written. */
  set editable(yes) {
    this.list.classList.toggle('editable', yes);
  }

  /** Marks the row and the word spoken at `seconds`. */
  mark(seconds) {
    const cue = this.store.at(seconds);
    const row = cue && this.#rows.get(cue.id);
    if (row !== this.#current) {
      this.#current?.classList.remove('current');
      this.#current?.removeAttribute('aria-current');
      this.#current = row ?? null;
      row?.classList.add('current');
      row?.setAttribute('aria-current', 'true');
      this.#reveal();
    }
    this.#markWord(row, seconds);
  }

  #markWord(row, seconds) {
    let spoken = null;
    for (const word of row?.querySelectorAll('[data-start]') ?? []) {
      if (Number(word.dataset.start) > seconds + 0.05) break;
      spoken = word;
    }
    if (spoken === this.#word) return;
    this.#word?.classList.remove('spoken');
    spoken?.classList.add('spoken');
    this.#word = spoken;
  }

  #showAll() {
    this.#rows.clear();
    this.#current = null;
    this.#word = null;
    const rows = this.store.all.map((cue) => this.#row(cue));
    this.list.replaceChildren(...rows);
  }

  #showOne(cue) {
    const known = this.#rows.get(cue.id);
    const row = this.#row(cue);
    if (known) {
      if (known === this.#current) this.#current = null;
      known.replaceWith(row);
      return;
    }
    const after = this.store.all[this.store.all.indexOf(cue) + 1];
    this.list.insertBefore(row, (after && this.#rows.get(after.id)) ?? null);
    // Rows whose cue was superseded go with it.
    const alive = new Set(this.store.all.map(({ id }) => id));
    for (const [id, old] of this.#rows) {
      if (!alive.has(id)) { old.remove(); this.#rows.delete(id); }
    }
  }

  #row(cue) {
    const row = document.createElement('li');
    row.className = cue.state === 'partial' ? 'line partial' : 'line';
    row.dataset.testid = 'transcript-line';
    row.dataset.state = cue.state;
    const time = document.createElement('button');
    time.type = 'button';
    time.className = 'line-time';
    time.dataset.seek = cue.start;
    time.textContent = clock(cue.start);
    time.setAttribute('aria-label', `Play from ${spokenTime(cue.start)}`);
    const text = document.createElement('p');
    text.className = 'line-text';
    text.dataset.seek = cue.start;
    const before = this.store.all[this.store.all.indexOf(cue) - 1];
    if (cue.speaker && cue.speaker !== before?.speaker) {
      const who = document.createElement('strong');
      who.className = 'line-speaker';
      who.dataset.testid = 'speaker';
      who.textContent = cue.speaker;
      row.append(who);
    }
    if (cue.words?.length) {
      cue.words.forEach((word, index) => {
        const span = document.createElement('span');
        span.className = 'word';
        span.dataset.start = word.start;
        span.dataset.seek = word.start;
        span.textContent = String(word.text ?? word.word ?? '').trim();
        text.append(...(index ? [' ', span] : [span]));
      });
    } else {
      text.textContent = cue.text.trim();
    }
    const edit = document.createElement('button');
    edit.type = 'button';
    edit.className = 'line-edit';
    edit.dataset.testid = 'edit-line';
    edit.setAttribute('aria-label', `Correct what is said at ${spokenTime(cue.start)}`);
    edit.innerHTML = icon('pencil');
    edit.addEventListener('click', () => new LineEditor(row, cue, (words) => this.correct(cue, words)));
    row.append(time, text, edit);
    this.#rows.set(cue.id, row);
    return row;
  }

  #onClick(event) {
    const target = event.target.closest('[data-seek]');
    if (!target || String(window.getSelection())) return;
    this.seek(Number(target.dataset.seek));
    this.#following = true;
    this.follow.hidden = true;
  }

  #letGo() {
    if (performance.now() < this.#scrollingTill || !this.#current) return;
    this.#following = false;
    this.follow.hidden = false;
  }

  #reveal() {
    const row = this.#current;
    if (!row || !this.#following) return;
    const box = this.scroller;
    // On narrow screens the list is not a box of its own: the page would jump under the person's finger.
    if (box.scrollHeight <= box.clientHeight + 1) return;
    const smooth = !window.matchMedia('(prefers-reduced-motion: reduce)').matches;
    this.#scrollingTill = performance.now() + 600;
    box.scrollTo({ top: row.offsetTop - box.clientHeight * 0.4, behavior: smooth ? 'smooth' : 'auto' });
  }
}
