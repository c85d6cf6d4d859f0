// A steady clock in a worker: timers of a hidden page are throttled to once a second, those of its workers are not.
// Takes {every: ms} to start and {drawn: true} when the page has drawn; ticks again only after that.

let every = 0;
let begun = 0;
let count = 0;
let waiting = false;
let timer = 0;

function plan() {
  const now = performance.now();
  count = Math.max(count + 1, Math.ceil((now - begun) / every));
  timer = setTimeout(tick, begun + count * every - now);
}

function tick() {
  if (!waiting) {
    waiting = true;
    postMessage('tick');
  }
  plan();
}

onmessage = ({ data }) => {
  if (data.drawn) waiting = false;
  if (data.every) {
    clearTimeout(timer);
    every = data.every;
    begun = performance.now();
    count = 0;
    plan();
  }
};
