// Times, sizes and dates as people read them.

/** Seconds as `m:ss` or `h:mm:ss`. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(Number.isFinite(seconds) ? seconds : 0));
  const h = Math.floor(whole / 3600);
  const m = Math.floor((whole % 3600) / 60);
  const s = String(whole % 60).padStart(2, '0');
  return h ? `${h}:${String(m).padStart(2, '0')}:${s}` : `${m}:${s}`;
}

/** Seconds spoken out, for screen readers. */
export function spokenTime(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const m = Math.floor(whole / 60);
  const s = whole % 60;
  return (m ? `${m} minute${m === 1 ? '' : 's'} ` : '') + `${s} second${s === 1 ? '' : 's'}`;
}

/** "just now", "5 minutes ago", "yesterday", or a date. */
export function when(iso, now = Date.now()) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return '';
  const minutes = (now - at) / 60_000;
  if (minutes < 1) return 'just now';
  const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
  if (minutes < 60) return relative.format(-Math.floor(minutes), 'minute');
  if (minutes < 24 * 60) return relative.format(-Math.floor(minutes / 60), 'hour');
  if (minutes < 7 * 24 * 60) return relative.format(-Math.floor(minutes / 1440), 'day');
  return at.toLocaleDateString(undefined, { year: 'numeric', month: 'short', day: 'numeric' });
}

/** Bits per second, short. */
export function bitrate(bits) {
  return bits >= 1e6 ? `${(bits / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bits / 1e3)} kbit/s`;
}

const STATES = { created: 'Waiting', live: 'Live', reconnecting: 'Reconnecting', paused: 'Paused', processing: 'Finishing', ready: 'Ready', failed: 'Failed', deleted: 'Deleted' };

/** States of a recording that will change no more. */
export const OVER = new Set(['ready', 'failed', 'deleted']);

/** States of a recording of which there is more to come. */
export const GOING = new Set(['live', 'reconnecting', 'paused']);

/** A recording's state, as its chip says it. */
export function stateWord(state) {
  return STATES[state] ?? state ?? '';
}

/** What a recording is called: its title, or the day it was made. */
export function titleOf(recording) {
  if (recording.title?.trim()) return recording.title.trim();
  const at = new Date(recording.created_at);
  if (Number.isNaN(at.getTime())) return 'Untitled recording';
  return `Recording of ${at.toLocaleDateString(undefined, { month: 'long', day: 'numeric' })}, ${at.toLocaleTimeString(undefined, { hour: 'numeric', minute: '2-digit' })}`;
}

/** A progress stage as a sentence; stages this page does not know are shown as they are named. */
export function stageSentence(stage) {
  const name = String(stage ?? '').toLowerCase();
  if (/transcri|caption|speech/.test(name)) return 'Writing the transcript…';
  if (/download|mp4|progressive/.test(name)) return 'Preparing the download…';
  if (/media|transcod|encod|convert|process/.test(name)) return 'Preparing the video…';
  if (/upload|receiv/.test(name)) return 'Receiving the file…';
  if (!name || /finish|packag|final/.test(name)) return 'Finishing the recording…';
  return `${name[0].toUpperCase()}${name.slice(1)}…`;
}
