// A film to an HLS folder and a transcript: `node film.mjs FILM FOLDER`.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Engine } from "loom-video";

const [film, folder] = process.argv.slice(2);
const engine = await Engine.start(join(folder, "work"));
const recording = engine.create();
await recording.importFile(film);
for await (const event of recording.events()) {
  if (event.event === "progress") console.log(`${event.stage}: ${Math.round(event.fraction * 100)}%`);
}
if (recording.state !== "ready") throw new Error(recording.info().reason);
await recording.export(join(folder, "hls"));
if (recording.info().captions) { // it has sound, and there is a model
  await writeFile(join(folder, "transcript.txt"), recording.transcript("txt"));
  await writeFile(join(folder, "transcript.vtt"), recording.transcript("vtt"));
}
await engine.close();
