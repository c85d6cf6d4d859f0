// Cues from wherever they come (live events, the transcript, the stream's own subtitles) and the line shown over the video.

const LINGER_SECONDS = 2.5;
const LATE_MS = 4000;

/** All cues of a recording, by start. Emits 'change' with the cue in `detail`, or nothing when all were replaced. */
export class CueStore extends EventTarget {
  #cues = [];

  get all() {
    return this.#cues;
  }

  /** A cue as it came live: new, grown, or the final form of one shown before. */
  put(cue) {
    const known = this.#cues.findIndex((other) => other.id === cue.id && !other.fromStream);
    if (known >= 0) {
      if (this.#cues[known].state === 'final' && cue.state === 'partial') return;
      this.#cues.splice(known, 1);
    }
    if (!cue.text?.trim()) {
      if (known >= 0) this.dispatchEvent(new CustomEvent('change'));
      return;
    }
    // What the stream's subtitles said of this stretch is less precise: words and later corrections are here.
    this.#cues = this.#cues.filter((other) => !(other.fromStream && overlaps(other, cue)));
    this.#insert({ ...cue, came: performance.now() });
    this.dispatchEvent(new CustomEvent('change', { detail: this.#cues.find(({ id }) => id === cue.id) }));
  }

  /** A cue of the stream's subtitle track: only fills a gap. */
  fill(cue) {
    if (!cue.text?.trim() || this.#cues.some((other) => overlaps(other, cue))) return;
    const added = { ...cue, id: `stream-${cue.start}`, state: 'final', fromStream: true };
    this.#insert(added);
    this.dispatchEvent(new CustomEvent('change', { detail: added }));
  }

  /** The finished transcript takes the place of everything. */
  replace(cues) {
    this.#cues = cues.filter((cue) => cue.text?.trim()).sort((a, b) => a.start - b.start);
    this.dispatchEvent(new CustomEvent('change'));
  }

  /** The last cue that has begun at `seconds`, or null. */
  at(seconds) {
    let low = 0;
    let high = this.#cues.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#cues[middle].start <= seconds + 0.05) low = middle + 1;
      else high = middle;
    }
    return this.#cues[low - 1] ?? null;
  }

  #insert(cue) {
    let place = this.#cues.length;
    while (place > 0 && this.#cues[place - 1].start > cue.start) place -= 1;
    this.#cues.splice(place, 0, cue);
  }
}

const overlaps = (a, b) => Math.min(a.end, b.end) - Math.max(a.start, b.start) > 0.5 * Math.min(a.end - a.start, b.end - b.start);

/**
 * The caption line. Cues reach a live viewer a little after their words: the newest stays a moment longer then, and one
 * that comes when its words have passed is shown all the same.
 */
export class CaptionLine {
  constructor(element, store) {
    this.element = element;
    this.store = store;
    this.on = true;
  }

  /** Shows what belongs to `seconds`; `live` when the viewer is at the edge of a recording that still goes on. */
  show(seconds, live) {
    let line = this.on ? lineAt(this.store.at(seconds), seconds) : null;
    if (line && seconds > line.end + (live ? LINGER_SECONDS : 0.25)) {
      const newest = this.store.all.at(-1);
      line = live && performance.now() - newest.came < LATE_MS ? lineAt(newest, newest.end) : null;
    }
    const text = line?.text ?? '';
    if (this.element.textContent !== text) this.element.textContent = text;
  }
}

const LINE_LENGTH = 84;
const linesOf = new WeakMap();

/** The line of `cue` that is spoken at `seconds`: a sentence of the transcript can be longer than fits over a picture. */
function lineAt(cue, seconds) {
  if (!cue || cue.text.length <= LINE_LENGTH || !cue.words?.length) return cue;
  if (!linesOf.has(cue)) linesOf.set(cue, brokenByWords(cue.words));
  const lines = linesOf.get(cue);
  return lines.findLast((line) => line.start <= seconds + 0.05) ?? lines[0];
}

/** Words in lines of even length: two lines of 50 read better than one of 84 and one of 16. */
function brokenByWords(words) {
  const total = words.reduce((sum, word) => sum + word.text.length + 1, 0);
  const aim = total / Math.ceil(total / LINE_LENGTH);
  const lines = [];
  for (const { text, start, end } of words) {
    const last = lines.at(-1);
    if (last && last.text.length + text.length / 2 < aim) Object.assign(last, { text: `${last.text} ${text}`, end });
    else lines.push({ text, start, end });
  }
  // A line stays until the next one comes.
  lines.forEach((line, index) => { line.end = Math.max(line.end, lines[index + 1]?.start ?? 0); });
  return lines;
}

/** Reads the transcript's JSON: its cues under either name. */
export function cuesOf(transcript) {
  const list = transcript?.cues ?? transcript?.segments ?? (Array.isArray(transcript) ? transcript : []);
  return list.map((cue, index) => ({
    id: cue.id ?? index, start: Number(cue.start), end: Number(cue.end), text: String(cue.text ?? '').trim(), words: cue.words ?? [], speaker: cue.speaker ?? '', state: cue.state ?? 'final',
  }));
}
