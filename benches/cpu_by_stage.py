"""Processor seconds of a recorded minute, by stage, and against ffmpeg making the same renditions."""

import asyncio
import re
import resource
import wave

import rig

SECONDS = 60

# A thread's name says its stage: `360p:src` is GStreamer's for what follows the queue named 360p, x264's threads among it.
STAGES = [
    ("captions", r"loom-captions|loom-ai"),
    ("packaging and disk", r"loom-package"),
    ("network, HTTP, WebRTC, events", r"tokio|loom-server|loom-ingest"),
    ("video: decode", r"decode"),
    ("video: scale", r"scale"),
    ("video: encode the rungs", r"\d+p"),
    ("sound: Opus to AAC and to 16 kHz", r"line|sound|aac|speech|loom-audio"),
]
OTHER = "video: poster and the rest"
BESIDE_FFMPEG = ("captions", "network, HTTP, WebRTC, events")


def stage_of(thread):
    return next((stage for stage, names in STAGES if re.match(names, thread)), OTHER)


async def record(server, samples):
    recording = await server.create()
    publication = await rig.Publication.start(
        server.http, recording["whip_url"], recording["whip_token"], rig.Encoded(rig.screen_h264(60)), rig.Sound(samples)
    )
    async with rig.Threads(server.process.pid) as live:
        await asyncio.sleep(SECONDS)
    shown = await server.show(recording)
    async with rig.Threads(server.process.pid) as after:
        await server.stop(recording)

        async def ready():
            return (await server.show(recording))["state"] == "ready"

        await rig.until(ready, 120, "the end of processing", every=0.1)
    await publication.close()
    return shown, live, after


def presets(server):
    """x264's preset for each height, as the plan in the log has it."""
    found = re.findall(r"scale \d+x(\d+) -> x264enc (\w+)", re.sub(r"\x1b\[[0-9;]*m", "", server.log.read_text()))
    return {int(height): preset for height, preset in found}


async def ffmpeg(film, sound, shown, presets, folder):
    """Processor seconds of ffmpeg for the same renditions, at the pace of a live source."""
    rungs = [r for r in shown["renditions"] if r["kind"] == "video" and r["id"] != "source"]
    chain, inside = [], "[0:v]"
    for i, rung in enumerate(rungs):
        last = i == len(rungs) - 1
        chain.append(f"{inside}scale={rung['width']}:{rung['height']}" + (f"[v{i}]" if last else f",split[v{i}][n{i}]"))
        inside = f"[n{i}]"
    words = f"ffmpeg -v error -y -re -i {film} -re -i {sound}".split()
    if rungs:
        words += ["-filter_complex", ";".join(chain)]
    words += "-map 0:v -c:v:0 copy".split()
    for i, rung in enumerate(rungs, 1):
        rate = rung["bandwidth"]
        words += f"""-map [v{i - 1}] -c:v:{i} libx264 -preset:v:{i} {presets.get(rung['height'], 'superfast')} -crf:v:{i} 23
            -maxrate:v:{i} {rate} -bufsize:v:{i} {rate} -tune:v:{i} zerolatency -aq-mode:v:{i} none -threads:v:{i} 1 -g:v:{i} 60
            -sc_threshold:v:{i} 0""".split()
    words += "-map 1:a -c:a aac -b:a 128k".split()
    streams = " ".join(f"v:{i},agroup:a" for i in range(len(rungs) + 1)) + " a:0,agroup:a"
    words += f"-t {SECONDS} -f hls -hls_time 2 -hls_playlist_type event -hls_segment_type fmp4".split()
    words += ["-var_stream_map", streams, "-master_pl_name", "main.m3u8", f"{folder}/%v/index.m3u8"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = await asyncio.create_subprocess_exec(*words)
    if await process.wait():
        raise RuntimeError(f"ffmpeg failed: {' '.join(words)}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


async def main():
    spoken = list(rig.sentences(50))
    samples = rig.joined(spoken)[0] if spoken else rig.hum(SECONDS)
    async with rig.Server() as server:
        captions = await server.captions_on()
        async with rig.Threads(server.process.pid) as idle:
            await asyncio.sleep(2)
        shown, live, after = await record(server, samples)
        chosen = presets(server)
        sound = f"{server.folder.name}/sound.wav"
        with wave.open(sound, "wb") as file:
            file.setparams((1, 2, 48000, 0, "NONE", ""))
            file.writeframes(rig.numpy.pad(samples, (0, max(0, SECONDS * 48000 - len(samples)))).tobytes())
        theirs = await ffmpeg(rig.screen_mp4(60), sound, shown, chosen, server.folder.name)

    stages = {}
    for thread, spent in live.by_name.items():
        stages[stage_of(thread)] = stages.get(stage_of(thread), 0) + spent
    stages["threads that ended unseen"] = live.seconds - sum(stages.values())
    minute = 60 / SECONDS
    ours = live.seconds - sum(stages.get(name, 0) for name in BESIDE_FFMPEG)
    busiest = sorted(live.by_name.items(), key=lambda item: -item[1])[:16]
    ladder = ", ".join(f"{r['id']} {r.get('width', '')}x{r.get('height', '')}" if r["kind"] == "video" else r["id"]
                       for r in shown["renditions"])
    per = lambda spent: f"{spent * minute:.2f}"
    rig.report("cpu_by_stage", "CPU seconds per recorded minute, by stage", rig.table(
        ["stage, while recording", "CPU s a minute", "share of one core"],
        *([name, per(spent), f"{spent / SECONDS * 100:.1f} %"] for name, spent in sorted(stages.items(), key=lambda s: -s[1])
          if spent > 0.005),
        ["**all while recording**", per(live.seconds), f"{live.seconds / SECONDS * 100:.1f} %"],
        [f"after stop: the transcript and the rest (captions {'on' if captions else 'off'})", per(after.seconds), "-"],
        ["the server with nothing to do", f"{idle.seconds * 30:.2f}", f"{idle.seconds * 50:.1f} %"],
    ) + "\n\n" + rig.table(
        ["decoding once, the same rungs, AAC, HLS", "CPU s a minute", "ratio to ffmpeg"],
        ["Loom: all but captions and network", per(ours), rig.ratio([ours], [theirs])],
        ["Loom: everything while recording", per(live.seconds), rig.ratio([live.seconds], [theirs])],
        ["ffmpeg", per(theirs), "1"],
    ) + f"""

720p30 of a screen as H.264 with speech, published by aiortc in real time for {SECONDS} s ({ladder}; x264 {
        ", ".join(f"{preset} for {height} lines" for height, preset in chosen.items()) or "not used"}).
The peer is ffmpeg reading the same pictures at the same pace, keeping its picture, scaling in a cascade and encoding the same
rungs with the same presets (crf 23, the same ceilings, one thread, zerolatency), one AAC, fMP4 HLS of 2 s: it has no WebRTC,
no captions, no 16 kHz sound, no Opus decoding (its sound is WAV), no parts and no poster.

Threads, CPU s a minute: {", ".join(f"{name} {per(spent)}" for name, spent in busiest)}.""")


asyncio.run(main())
