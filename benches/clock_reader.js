// Reads the clock that clock.html draws from each frame that a video element presents.
(video) => {
  const canvas = new OffscreenCanvas(13 * 4, 4 * 4);
  const pen = canvas.getContext('2d', { willReadFrequently: true });
  const seen = [];
  const read = () => {
    const { videoWidth: w, videoHeight: h } = video;
    pen.drawImage(video, 0, 0, w, (h * 2) / 3, 0, 0, canvas.width, canvas.height);
    const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
    const bits = [];
    for (let row = 0; row < 4; row += 1) {
      for (let column = 0; column < 13; column += 1) {
        bits.push(data[((row * 4 + 2) * canvas.width + column * 4 + 2) * 4 + 1] > 128 ? 1 : 0);
      }
    }
    const check = [0, 0, 0, 0, 0, 0, 0, 0];
    bits.slice(0, 44).forEach((bit, i) => { check[i % 8] ^= bit ^ (i & 1); });
    if (check.some((bit, i) => bit !== bits[44 + i])) return null;
    return parseInt(bits.slice(0, 44).join(''), 2);
  };
  const each = () => {
    const now = Date.now();
    const drawn = read();
    seen.push({ at: now, delay: drawn === null ? null : now - drawn, height: video.videoHeight });
    video.requestVideoFrameCallback(each);
  };
  video.requestVideoFrameCallback(each);
  let stalls = 0;
  video.addEventListener('waiting', () => { stalls += 1; });
  return () => ({ seen, stalls });
}
