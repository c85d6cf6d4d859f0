// Threads of our own for calls that wait. Those of Node are few, and shared with files and names; and an error's words can only be asked
// for on the thread on which the call was made.
import { Worker } from "node:worker_threads";

/** So many calls wait at once; more wait for these. */
const MOST = 32;

const idle = [];
const queue = [];
let count = 0;

/** Makes a call on another thread: gives what `invoke` gives. */
export function invokeAside(name, args) {
  return new Promise((resolve, reject) => {
    queue.push({ name, args, resolve, reject });
    if (idle.length > 0) next(idle.pop());
    else if (count < MOST) next(begin());
  });
}

function begin() {
  count += 1;
  const thread = { worker: new Worker(new URL("thread.js", import.meta.url), { execArgv: [] }), job: null };
  thread.worker.on("message", (told) => {
    const { job } = thread;
    thread.job = null;
    next(thread);
    if (told.thrown) job.reject(told.thrown);
    else job.resolve(told);
  });
  thread.worker.on("error", (why) => {
    count -= 1;
    const at = idle.indexOf(thread);
    if (at >= 0) idle.splice(at, 1);
    thread.job?.reject(why);
    if (queue.length > 0 && idle.length === 0) next(begin());
  });
  return thread;
}

/** Has a thread that is free do what waits, or wait for that without keeping the process alive. */
function next(thread) {
  const job = queue.shift();
  if (job === undefined) {
    thread.worker.unref();
    idle.push(thread);
    return;
  }
  thread.job = job;
  thread.worker.ref();
  thread.worker.postMessage({ name: job.name, args: job.args });
}
