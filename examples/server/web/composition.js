// Screen and camera in one picture: asked for, waited for, then saved.

import { composeRecording, readJobs, restartJob } from './api.js';
import { explain, Told } from './explain.js';

const EVERY_MS = 1000;

/** Makes `button` (an icon, then words) have the film made of `recording()`, show how far that is, and download it; `onMade` is told then. */
export function wireComposition(button, recording, announce = () => {}, onMade = () => {}) {
  const words = button.children[1];
  const before = words.textContent;
  button.addEventListener('click', async () => {
    const { id, composition_url: url } = recording();
    button.disabled = true;
    button.title = '';
    announce('Screen and camera are being made into one video.');
    try {
      await made(id, url, (fraction) => { words.textContent = `Making it… ${Math.floor(fraction * 100)} %`; });
      announce('The video is being downloaded.');
      save(url);
      onMade();
    } catch (error) {
      const told = explain(error, 'make this video');
      button.title = `${told.title} ${told.detail}`;
      announce(button.title);
    }
    words.textContent = button.title ? 'It could not be made' : before;
    button.disabled = false;
  });
}

/** Resolves once the film is there; a layout that somebody has asked for stays as it is. */
async function made(id, url, onProgress) {
  let job = await read(id);
  if (!job) {
    // one that was made where this server has not its jobs
    const { status } = await fetch(url, { method: 'HEAD' });
    if (status === 200) return;
    if (status === 404) await composeRecording(id);
  } else if (job.state === 'parked') {
    await restartJob(id, 'composition');
  }
  for (;;) {
    job = await read(id);
    if (!job) throw new Told('The video could not be made.', 'Nothing has been begun.');
    if (job.state === 'done') return;
    if (job.state === 'parked') throw new Told('The video could not be made.', job.reason);
    onProgress(job.progress);
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

const read = async (id) => (await readJobs(id)).find(({ job }) => job === 'composition');

function save(url) {
  const link = Object.assign(document.createElement('a'), { href: url, download: '' });
  document.body.append(link);
  link.click();
  link.remove();
}
