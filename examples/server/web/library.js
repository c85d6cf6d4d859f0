// The list of recordings: poster, title, length, state, and a way to delete each.

import { deleteRecording, listRecordings } from './api.js';
import { explain } from './explain.js';
import { icon } from './icons.js';
import { wireCopy } from './share.js';
import { clock, GOING, stateWord, titleOf, when } from './words.js';

const RESTING_MS = 15_000;
const BUSY_MS = 2500;

/** Keeps the list in step with the server: often while something is going on, rarely otherwise. */
export class Library {
  #timer = 0;
  #shown = '';

  constructor(places) {
    this.places = places;
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && this.refresh());
  }

  async refresh() {
    clearTimeout(this.#timer);
    const { list, count, empty, failure } = this.places;
    let wait = RESTING_MS;
    try {
      const recordings = await listRecordings();
      recordings.sort((a, b) => new Date(b.created_at) - new Date(a.created_at));
      failure.hidden = true;
      empty.hidden = recordings.length > 0;
      count.textContent = recordings.length ? `${recordings.length} recording${recordings.length === 1 ? '' : 's'}` : '';
      if (recordings.some(({ state }) => GOING.has(state) || state === 'processing')) wait = BUSY_MS;
      this.#show(list, recordings);
    } catch (error) {
      const told = explain(error, 'list the recordings');
      failure.textContent = `${told.title} ${told.detail}`;
      failure.hidden = false;
      empty.hidden = true;
    }
    if (document.visibilityState === 'visible') this.#timer = setTimeout(() => this.refresh(), wait);
  }

  #show(list, recordings) {
    const now = JSON.stringify(recordings) + Math.floor(Date.now() / 60_000);
    if (now === this.#shown) return;
    this.#shown = now;
    const focused = document.activeElement?.closest?.('[data-recording]');
    const again = focused && { id: focused.dataset.recording, part: document.activeElement.dataset.part };
    list.replaceChildren(...recordings.map((recording) => this.#card(recording)));
    if (again) list.querySelector(`[data-recording="${CSS.escape(again.id)}"] [data-part="${again.part}"]`)?.focus();
  }

  #card(recording) {
    const card = document.createElement('li');
    card.className = 'card';
    card.dataset.recording = recording.id;
    card.dataset.testid = 'library-item';
    card.dataset.state = recording.state;
    const link = recording.watch_url ? new URL(recording.watch_url, window.location.href).href : `/w/${encodeURIComponent(recording.id)}`;
    card.innerHTML = `
      <a class="card-link" data-part="open">
        <span class="poster"><span class="poster-empty">${icon('film')}</span><span class="poster-state"></span><span class="poster-time"></span></span>
        <span class="card-title"></span>
      </a>
      <div class="card-foot">
        <span class="muted card-when"></span>
        <span class="card-actions">
          <button class="icon-button" type="button" data-part="copy"><span data-icon="link">${icon('link')}</span><span class="visually-hidden">Copy link</span></button>
          <button class="icon-button" type="button" data-part="delete" data-testid="delete">${icon('trash')}</button>
        </span>
      </div>`;
    const title = titleOf(recording);
    const anchor = card.querySelector('.card-link');
    anchor.href = link;
    card.querySelector('.card-title').textContent = title;
    card.querySelector('.card-when').textContent = recording.state === 'failed' && recording.reason ? recording.reason : when(recording.created_at);
    card.querySelector('.poster-time').textContent = recording.duration ? clock(recording.duration) : '';
    const chip = card.querySelector('.poster-state');
    chip.textContent = stateWord(recording.state);
    chip.dataset.state = recording.state;
    chip.hidden = recording.state === 'ready';
    if (recording.poster_url && (recording.state === 'ready' || GOING.has(recording.state))) {
      const poster = new Image();
      poster.alt = '';
      poster.onload = () => card.querySelector('.poster-empty').replaceWith(poster);
      poster.src = recording.poster_url;
    }
    if (recording.preview_url && recording.state === 'ready') this.#preview(anchor, recording.preview_url);
    const copy = card.querySelector('[data-part=copy]');
    copy.setAttribute('aria-label', `Copy the link of ${title}`);
    copy.title = 'Copy link';
    wireCopy(copy, () => link);
    const remove = card.querySelector('[data-part=delete]');
    remove.setAttribute('aria-label', `Delete ${title}`);
    remove.title = 'Delete';
    remove.addEventListener('click', () => this.#delete(recording, title));
    return card;
  }

  /** Shows moments of the recording in the poster's place while it is pointed at or has the focus. One without a preview keeps its poster. */
  #preview(anchor, url) {
    let film = null;
    const show = () => {
      if (film || window.matchMedia('(prefers-reduced-motion: reduce)').matches) return;
      film = document.createElement('video');
      film.className = 'moments';
      film.dataset.testid = 'moments';
      film.muted = true;
      film.loop = true;
      film.playsInline = true;
      film.autoplay = true;
      film.onerror = hide;
      film.src = url;
      anchor.querySelector('.poster').append(film);
    };
    const hide = () => {
      film?.remove();
      film = null;
    };
    anchor.addEventListener('pointerenter', show);
    anchor.addEventListener('pointerleave', hide);
    anchor.addEventListener('focus', show);
    anchor.addEventListener('blur', hide);
  }

  #delete(recording, title) {
    const dialog = document.getElementById('confirm');
    document.getElementById('confirm-detail').textContent = `“${title}” and its link will be gone for good.`;
    dialog.returnValue = '';
    dialog.onclose = async () => {
      if (dialog.returnValue !== 'delete') return;
      try {
        await deleteRecording(recording.id);
      } catch (error) {
        const told = explain(error, 'delete the recording');
        this.places.failure.textContent = `${told.title} ${told.detail}`;
        this.places.failure.hidden = false;
        return;
      }
      this.refresh();
    };
    dialog.showModal();
  }
}
