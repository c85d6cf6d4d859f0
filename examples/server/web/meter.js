// The microphone's level, shown while it runs.

/** Draws the level of an audio track into the element `fill`, and says it through `meter`. */
export class LevelMeter {
  #context;
  #analyser;
  #samples;
  #frame = 0;
  #shown = 0;
  #toldAt = 0;

  constructor(context, track, meter, fill) {
    this.#context = context;
    this.#analyser = context.createAnalyser();
    this.#analyser.fftSize = 1024;
    this.#samples = new Float32Array(this.#analyser.fftSize);
    this.source = context.createMediaStreamSource(new MediaStream([track]));
    this.source.connect(this.#analyser);
    this.meter = meter;
    this.fill = fill;
    this.#draw(0);
  }

  stop() {
    cancelAnimationFrame(this.#frame);
    this.source.disconnect();
    this.#show(0);
    this.meter.setAttribute('aria-valuenow', '0');
  }

  #draw(now) {
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    const decibels = 10 * Math.log10(sum / this.#samples.length + 1e-9);
    const level = Math.min(1, Math.max(0, (decibels + 60) / 54));
    this.#shown = level > this.#shown ? level : this.#shown * 0.88 + level * 0.12;
    this.#show(this.#shown);
    if (now - this.#toldAt > 500) {
      this.#toldAt = now;
      this.meter.setAttribute('aria-valuenow', String(Math.round(this.#shown * 100)));
    }
    this.#frame = requestAnimationFrame((at) => this.#draw(at));
  }

  #show(level) {
    this.fill.style.transform = `scaleX(${level.toFixed(3)})`;
  }
}
