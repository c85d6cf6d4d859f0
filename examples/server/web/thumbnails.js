// Small pictures along the time line: which sheet, and where on it, for each second.

const AGAIN_MS = 4000;

/** Seconds of `[hh:]mm:ss.mmm`. */
const seconds = (text) => text.split(':').reduce((sum, part) => sum * 60 + Number(part), 0);

/** A WebVTT file's cues: {start, end, text}. */
export function readCues(text) {
  return text.replace(/\r\n?/g, '\n').split(/\n{2,}/).flatMap((block) => {
    const lines = block.split('\n');
    const at = lines.findIndex((line) => line.includes('-->'));
    if (at < 0) return [];
    const [, start, end] = lines[at].match(/(\S+)\s+-->\s+(\S+)/) ?? [];
    return start ? [{ start: seconds(start), end: seconds(end), text: lines.slice(at + 1).join('\n') }] : [];
  });
}

/** The thumbnails of one recording. The track is read when somebody first wants one, and anew now and then while it grows. */
export class Thumbnails {
  #url = '';
  #cues = [];
  #readAt = -Infinity;
  #reading = false;

  /** Names the recording's HLS folder, and the track in it, where there is one; `growing` tells whether there will be more. */
  open(folder, track, growing) {
    this.#url = track ? new URL(track, folder).href : '';
    this.growing = growing;
  }

  /** {url, x, y, width, height} of what is seen at a time, or null. */
  at(time) {
    this.#refresh(time);
    let found = null;
    for (const cue of this.#cues) if (cue.start <= time + 0.001) found = cue;
    if (!found) return null;
    const [path, place] = found.text.split('#xywh=');
    const [x, y, width, height] = (place ?? '').split(',').map(Number);
    if (!height) return null;
    const url = new URL(path, this.#url);
    // The sheet that is still being filled is another with each picture.
    if (this.growing && found.text.startsWith(this.#cues.at(-1).text.split('#')[0])) url.search = `?${this.#cues.length}`;
    return { url: url.href, x, y, width, height };
  }

  async #refresh(time) {
    const last = this.#cues.at(-1);
    const known = last && (time <= last.end || !this.growing);
    if (!this.#url || this.#reading || known || performance.now() - this.#readAt < AGAIN_MS) return;
    this.#reading = true;
    this.#readAt = performance.now();
    try {
      const answer = await fetch(this.#url);
      if (answer.ok) this.#cues = readCues(await answer.text());
    } catch {
      // None, then; the time alone is shown.
    }
    this.#reading = false;
  }
}
