"""A word's end being spoken to the word in a caption that can be fetched; and what captions cost."""

import asyncio
import difflib
import re
import sys
import time

import numpy

import rig

SECONDS = 50
GGML = rig.SHARED / "models" / "whisper-tiny" / "ggml-tiny.bin"


def plain(word):
    return re.sub(r"[^a-z0-9']", "", word.lower())


def pcm16k(samples):
    """48 kHz int16 to 16 kHz float, by the mean of each three samples: good enough to read word times from."""
    return samples[: len(samples) // 3 * 3].reshape(-1, 3).mean(1).astype(numpy.float32) / 32768


def whisper_cpp():
    from pywhispercpp.model import Model

    return Model(str(GGML), n_threads=1, print_progress=False, print_realtime=False, redirect_whispercpp_logs_to=None,
                 language="en")


def reference(model, spoken, begins):
    """(word, when it ends in seconds of media), by whisper.cpp's token times, sentence by sentence."""
    words = []
    for sentence, begin in zip(spoken, begins):
        sounding = numpy.flatnonzero(numpy.abs(sentence.astype(numpy.int32)) > 500)[-1] / 48000
        for piece in model.transcribe(pcm16k(sentence), token_timestamps=True, max_len=1, split_on_word=True):
            if plain(piece.text):
                words.append((plain(piece.text), begin + min(piece.t1 / 100, sounding)))
    return words


class Shown:
    """The words of captions as they came: each with the time at which it could first be read."""

    def __init__(self):
        self.cues = {}

    def put(self, cue, text, at):
        old = self.cues.get(cue, [])
        new = [word for word in map(plain, text.split()) if word]
        match = difflib.SequenceMatcher(None, [word for word, _ in old], new, autojunk=False)
        times = [at] * len(new)
        for i, j, count in match.get_matching_blocks():
            times[j : j + count] = [seen for _, seen in old[i : i + count]]
        self.cues[cue] = list(zip(new, times))

    def lags(self, words, begun):
        """Seconds from each word's end to its being shown, and how many words never were."""
        shown = [pair for cue in sorted(self.cues) for pair in self.cues[cue]]
        match = difflib.SequenceMatcher(None, [w for w, _ in words], [w for w, _ in shown], autojunk=False)
        pairs = [(i + k, j + k) for i, j, count in match.get_matching_blocks() for k in range(count)]
        return [shown[j][1] - (begun + words[i][1]) for i, j in pairs], len(words) - len(pairs)


async def by_events(server, recording, shown):
    async for name, data, at in server.events(recording):
        if name == "caption":
            shown.put(data["id"], data["text"], at)


async def by_webvtt(server, recording, shown):
    """Reads each WebVTT segment as soon as the subtitle playlist lists it."""
    known = set()
    while True:
        await asyncio.sleep(0.05)
        text = await server.playlist(recording, "captions/index.m3u8")
        for path in re.findall(r"^(?!#)\S+$", text, re.M):
            if path in known:
                continue
            known.add(path)
            vtt = await server.playlist(recording, f"captions/{path}")
            at = time.time()
            for start, words in re.findall(r"^(?:(\d\d:\d\d:\d\d\.\d{3}|\d\d:\d\d\.\d{3})) -->.*\n((?:.+\n?)+)", vtt, re.M):
                shown.put(start.rjust(12, "0"), re.sub(r"<[^>]*>", "", words), at)


async def live(server, samples):
    """Publishes the speech in real time; what was shown when, when it began, and the captioner's processor time."""
    recording = await server.create()
    sound = rig.Sound(samples)
    events, webvtt = Shown(), Shown()
    async with rig.Threads(server.process.pid) as threads:
        publication = await rig.Publication.start(
            server.http, recording["whip_url"], recording["whip_token"], rig.Encoded(rig.screen_h264(60)), sound
        )
        readers = [asyncio.create_task(by_events(server, recording, events)),
                   asyncio.create_task(by_webvtt(server, recording, webvtt))]
        await asyncio.sleep(len(samples) / 48000 + 4)
    for reader in readers:
        reader.cancel()
    transcript_cpu = await finish(server, recording)
    await publication.close()
    return events, webvtt, sound.begun, threads, transcript_cpu


async def finish(server, recording):
    """Processor seconds from the answer to stop until the transcript is there: little but the transcript."""
    await server.stop(recording)
    async with rig.Threads(server.process.pid) as threads:
        async def ready():
            return (await server.show(recording))["state"] == "ready"

        await rig.until(ready, 120, "the transcript", every=0.1)
    return threads.seconds


async def transcript_cost(model_file, samples):
    """Processor seconds of the final transcript with these weights."""
    async with rig.Server(LOOM_MODEL=str(model_file)) as server:
        await server.captions_on()
        recording = await server.create()
        publication = await rig.Publication.start(
            server.http, recording["whip_url"], recording["whip_token"], rig.Sound(samples)
        )
        await asyncio.sleep(len(samples) / 48000 + 1)
        spent = await finish(server, recording)
        await publication.close()
        return spent


async def main():
    spoken = list(rig.sentences(SECONDS))
    if not spoken or not GGML.exists():
        return print("spoken_to_caption: left out, for there is no speech or no whisper.cpp model in ../shared", file=sys.stderr)
    samples, begins = rig.joined(spoken)
    model = whisper_cpp()
    words = reference(model, spoken, begins)
    async with rig.Server() as server:
        if not await server.captions_on():
            return print("spoken_to_caption: left out, for the server has no speech model", file=sys.stderr)
        events, webvtt, begun, threads, tiny_en = await live(server, samples)
    short, _ = rig.joined(spoken[:3])
    same_weights = await transcript_cost(GGML, short)
    before = time.process_time()
    model.transcribe(pcm16k(short), token_timestamps=True)
    theirs = time.process_time() - before

    audio, audio_short = len(samples) / 48000, len(short) / 48000
    captioner = sum(spent for name, spent in threads.by_name.items() if name.startswith(("loom-captions", "loom-ai")))
    rows = []
    for name, shown in (("server-sent event", events), ("WebVTT segment listed", webvtt)):
        lags, never = shown.lags(words, begun)
        rows.append([name, *rig.spread(lags, "s"), f"{sum(lag <= 3 for lag in lags)} of {len(lags)}", never])
    rig.report("spoken_to_caption", "Spoken word to caption fetchable (p95, goal 3 s)", rig.table(
        ["fetched as", "p50", "p95", "worst", "words", "within 3 s", "words never matched"], *rows
    ) + f"""

{audio:.0f} s of LJ Speech published by aiortc in real time beside a 720p30 picture, so that the encoders run too. A word's end is
what whisper.cpp (tiny, token times, sentence by sentence) says, good to some 0.1 s; "never matched" counts what the two models
heard differently too. No peer captions a live stream from PyPI, npm or Debian with a like rule of stability.

""" + rig.table(
        ["processor seconds a second of sound", "Loom", "whisper.cpp (pywhispercpp wheel, 1 thread)", "ratio"],
        ["final transcript, ggml-tiny.bin for both", f"{same_weights / audio_short:.3f}", f"{theirs / audio_short:.3f}",
         rig.ratio([same_weights], [theirs])],
        [f"final transcript, {rig.MODEL.name}", f"{tiny_en / audio:.3f}", "-", "no peer: it reads no safetensors"],
        [f"live captions, {rig.MODEL.name}", f"{captioner / audio:.3f}", "-", "no peer"],
    ) + """

Loom's seconds are the whole process's from the answer to stop until the recording is ready, so whatever else is finished then
is counted against it; whisper.cpp's are those of one call on the same samples, its model loaded before.""")


asyncio.run(main())
