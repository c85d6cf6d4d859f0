// Screen and camera in one picture: the screen fills it, the camera sits in a round bubble in a corner.

const LARGEST = { width: 1920, height: 1080 };
const FRAME_RATE = 30;

/** Draws two video tracks into one, at a steady rate even while the page is hidden. */
export class Bubble {
  #screen;
  #camera;
  #canvas = document.createElement('canvas');
  #pen;
  #ticker;
  #track;

  /** `screen` and `camera` are MediaStreamTracks; the result is `track`. */
  static async start(screen, camera) {
    const bubble = new Bubble();
    [bubble.#screen, bubble.#camera] = await Promise.all([playing(screen), playing(camera)]);
    bubble.#begin();
    return bubble;
  }

  get track() {
    return this.#track;
  }

  stop() {
    this.#ticker.terminate();
    this.#track.stop();
    for (const video of [this.#screen, this.#camera]) video.srcObject = null;
  }

  #begin() {
    const scale = Math.min(1, LARGEST.width / this.#screen.videoWidth, LARGEST.height / this.#screen.videoHeight);
    this.#canvas.width = even(this.#screen.videoWidth * scale);
    this.#canvas.height = even(this.#screen.videoHeight * scale);
    this.#pen = this.#canvas.getContext('2d', { alpha: false });
    this.#draw();
    const stream = this.#canvas.captureStream(0);
    [this.#track] = stream.getVideoTracks();
    // Where a single frame cannot be asked for (Firefox keeps requestFrame on the stream, Safari has none), sample.
    if (!this.#track.requestFrame && !stream.requestFrame) [this.#track] = this.#canvas.captureStream(FRAME_RATE).getVideoTracks();
    this.#track.contentHint = 'detail';
    this.#ticker = new Worker('/assets/ticker.js');
    this.#ticker.onmessage = () => {
      this.#draw();
      if (this.#track.requestFrame) this.#track.requestFrame();
      else stream.requestFrame?.();
      this.#ticker.postMessage({ drawn: true });
    };
    this.#ticker.postMessage({ every: 1000 / FRAME_RATE });
  }

  #draw() {
    const { width, height } = this.#canvas;
    const pen = this.#pen;
    const screen = this.#screen;
    const fit = Math.min(width / screen.videoWidth, height / screen.videoHeight);
    const w = screen.videoWidth * fit;
    const h = screen.videoHeight * fit;
    // A shared window may change its shape: bars then, never a stretched picture.
    if (w < width - 1 || h < height - 1) {
      pen.fillStyle = '#101010';
      pen.fillRect(0, 0, width, height);
    }
    pen.drawImage(screen, (width - w) / 2, (height - h) / 2, w, h);
    this.#drawCamera(width, height);
  }

  #drawCamera(width, height) {
    const pen = this.#pen;
    const camera = this.#camera;
    const radius = Math.min(width, height) * 0.13;
    const margin = Math.min(width, height) * 0.035;
    const x = margin + radius;
    const y = height - margin - radius;
    const side = Math.min(camera.videoWidth, camera.videoHeight);
    pen.save();
    pen.beginPath();
    pen.arc(x, y, radius + radius * 0.035, 0, 2 * Math.PI);
    pen.fillStyle = 'rgba(255, 255, 255, 0.92)';
    pen.fill();
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.clip();
    // Mirrored, as people know themselves from a mirror and expect to point at things.
    pen.translate(x, y);
    pen.scale(-1, 1);
    pen.drawImage(camera, (camera.videoWidth - side) / 2, (camera.videoHeight - side) / 2, side, side,
      -radius, -radius, 2 * radius, 2 * radius);
    pen.restore();
  }
}

const even = (n) => Math.max(2, Math.round(n / 2) * 2);

/** A video element, never shown, that plays `track`, once its first picture is there. */
async function playing(track) {
  const video = document.createElement('video');
  video.muted = true;
  video.playsInline = true;
  video.srcObject = new MediaStream([track]);
  await video.play();
  if (!video.videoWidth) await new Promise((resolve) => video.addEventListener('resize', resolve, { once: true }));
  return video;
}
