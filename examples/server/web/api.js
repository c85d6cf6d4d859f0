// The server's HTTP interface: recordings, uploads and the event stream of one recording.

/** A refusal by the server, as its RFC 9457 problem document tells it. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem?.detail || problem?.title || `the server answered ${status}`);
    this.name = 'Refusal';
    this.status = status;
    this.title = problem?.title ?? '';
    this.detail = problem?.detail ?? '';
  }
}

/** The server gave no answer at all. */
export class Unreachable extends Error {
  constructor(cause) {
    super('the server did not answer', { cause });
    this.name = 'Unreachable';
  }
}

/** `fetch`, with both kinds of failure told apart. */
export async function request(url, options) {
  let answer;
  try {
    answer = await fetch(url, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Unreachable(error);
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => null);
  throw new Refusal(answer.status, problem);
}

const base = '/v1/recordings';
const one = (id) => `${base}/${encodeURIComponent(id)}`;
const json = async (url, options) => (await request(url, options)).json();

export const listRecordings = async () => (await json(base, { cache: 'no-store' })).recordings ?? [];
export const readRecording = (id) => json(one(id), { cache: 'no-store' });
export const stopRecording = (id, options) => request(`${one(id)}/stop`, { method: 'POST', ...options });
export const pauseRecording = (id) => request(`${one(id)}/pause`, { method: 'POST' });
export const resumeRecording = (id) => request(`${one(id)}/resume`, { method: 'POST' });
export const deleteRecording = (id) => request(one(id), { method: 'DELETE' });
/** The transcript, with the `tag` of its version once it is written. */
export async function readTranscript({ id, transcript_url: url }) {
  const answer = await request(url || transcriptFile(id, 'json'), { cache: 'no-store' });
  return { ...await answer.json(), tag: answer.headers.get('etag') };
}
/** Says what a segment of the transcript's version `tag` says instead; refused with 412 where there is another version by now. */
export const correctTranscript = (id, tag, segment, text) => request(transcriptFile(id, 'json'), {
  method: 'PATCH', headers: { 'content-type': 'application/json', 'if-match': tag }, body: JSON.stringify({ corrections: [{ segment, text }] }),
});
export const readChapters = async (id) => (await json(`${one(id)}/chapters`, { cache: 'no-store' })).chapters ?? [];
export const transcriptFile = (id, kind) => `${one(id)}/transcript.${kind}`;

export const readJobs = async (id) => (await json(`${one(id)}/jobs`, { cache: 'no-store' })).jobs ?? [];
export const restartJob = (id, job) => request(`${one(id)}/jobs/${job}/restart`, { method: 'POST' });
/** Asks for screen and camera in one picture, the camera at the bottom left. */
export const composeRecording = (id) => request(`${one(id)}/composition`, { method: 'PUT' });

export function createRecording(title) {
  const body = title ? { title } : {};
  return json(base, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
}

const UPLOAD_TYPES = ['video/mp4', 'video/webm', 'video/x-matroska'];

/** Sends a media file to a new recording; `onProgress` is told 0..1. Resolves to the recording. */
export async function uploadFile(file, onProgress) {
  const recording = await createRecording(file.name.replace(/\.[^.]+$/, ''));
  await new Promise((resolve, reject) => {
    const transfer = new XMLHttpRequest();
    transfer.open('POST', `${one(recording.id)}/media`);
    transfer.setRequestHeader('content-type', UPLOAD_TYPES.includes(file.type) ? file.type : 'application/octet-stream');
    if (recording.whip_token) transfer.setRequestHeader('authorization', `Bearer ${recording.whip_token}`);
    transfer.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    transfer.onerror = () => reject(new Unreachable());
    transfer.onload = () => {
      if (transfer.status < 300) return resolve();
      let problem = null;
      try { problem = JSON.parse(transfer.responseText); } catch { /* the status alone must do */ }
      reject(new Refusal(transfer.status, problem));
    };
    transfer.send(file);
  });
  return recording;
}

/**
 * Follows a recording's server-sent events: `handlers` maps an event's name to what is done with its data.
 * `handlers.link(up)` tells whether the stream stands. Reconnects by itself until `close()`.
 */
export function followEvents(id, handlers) {
  let source = null;
  let timer = 0;
  let closed = false;
  let waitMs = 1000;

  const open = () => {
    source = new EventSource(`${one(id)}/events`);
    source.onopen = () => { waitMs = 1000; handlers.link?.(true); };
    source.onerror = () => {
      handlers.link?.(false);
      if (source.readyState !== EventSource.CLOSED || closed) return;
      timer = setTimeout(open, waitMs);
      waitMs = Math.min(waitMs * 2, 15_000);
    };
    for (const name of ['state', 'caption', 'progress', 'renditions', 'chapters']) {
      source.addEventListener(name, (event) => {
        let data;
        try { data = JSON.parse(event.data); } catch { return; }
        handlers[name]?.(data);
      });
    }
    // The server has told everything there will ever be.
    source.addEventListener('end', close);
  };
  const close = () => { closed = true; clearTimeout(timer); source?.close(); };
  open();
  return { close };
}
