"""Many live captioners at once on one model, in real time: how late words and final cues are, how right, and how steady.

`make bench-live` builds what this runs. LIVE_SESSIONS (1,6,12), LIVE_SECONDS (180) and LIVE_THREADS (2) change it. Words and their times
are judged by others: what is said is the corpus's own text, and when a word ends is what faster-whisper finds with the same weights.
"""

import collections
import difflib
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

import numpy

import rig
import speech
from words import plain

import jiwer

OURS = pathlib.Path(os.environ.get("LOOM_LIVE_LOAD", rig.ROOT / "target" / "release" / "examples" / "live_load"))
SESSIONS = [int(it) for it in os.environ.get("LIVE_SESSIONS", "1,6,12").split(",")]
SECONDS = float(os.environ.get("LIVE_SECONDS", 180))
THREADS = int(os.environ.get("LIVE_THREADS", 2))
# What a peer would decode again and again to caption live, and how often: ours at most, and as often as ours at least.
WINDOW, STEP = 8, 1.0


def stretches(placed, count):
    """As many (first, last) pieces, each about SECONDS long, spread over all of them."""
    for number in range(count):
        first = last = number * len(placed) // count
        while last + 1 < len(placed) and placed[last][1] - placed[first][0] < SECONDS * 16000:
            last += 1
        while first > 0 and placed[last][1] - placed[first][0] < SECONDS * 16000:
            first -= 1
        yield first, last


def run(sound, spans):
    """What every session showed, and the processor seconds of all."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [OURS, rig.MODEL, sound, THREADS, *(f"{begin}-{end}" for begin, end in spans)]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{OURS.name} ended badly: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = collections.defaultdict(list)
    for line in done.stdout.splitlines():
        it = json.loads(line)
        shown[it["session"]].append(it)
    return shown, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Judged:
    """One session's cues beside what was said."""

    def __init__(self, cues, words):
        self.changed_finals, self.flicker, self.cue_lags = 0, 0, []
        self.versions, self.final = {}, {}
        first_shown = {}
        for it in cues:
            spoken = [(word, end) for word, end in it["words"] if plain(word)]
            texts = [plain(word) for word, _ in spoken]
            if it["cue"] in self.final:
                self.changed_finals += 1
            before = self.versions.get(it["cue"], [])
            same = sum(
                block.size for block in difflib.SequenceMatcher(None, before, texts, autojunk=False).get_matching_blocks()
            )
            self.flicker += len(before) - same
            self.versions[it["cue"]] = texts
            for place, text in enumerate(texts):
                first_shown.setdefault((it["cue"], place, text), it["at"])
            if it["final"]:
                self.final[it["cue"]] = texts
                self.cue_lags.append((spoken[-1][1], it["at"]))
        self.text = " ".join(" ".join(self.final[cue]) for cue in sorted(self.final))
        shown = [
            (text, first_shown[cue, place, text])
            for cue in sorted(self.final) for place, text in enumerate(self.final[cue])
        ]
        match = difflib.SequenceMatcher(None, [word for word, _ in words], [word for word, _ in shown], autojunk=False)
        pairs = [(i + k, j + k) for i, j, count in match.get_matching_blocks() for k in range(count)]
        self.word_lags = [shown[j][1] - words[i][1] for i, j in pairs]
        # A final cue's end is the end of its last word, by the same judge where it heard that word.
        ends = {j: words[i][1] for i, j in pairs}
        at, lags = 0, []
        for (own_end, came), cue in zip(self.cue_lags, sorted(self.final)):
            at += len(self.final[cue])
            lags.append(came - ends.get(at - 1, own_end))
        self.cue_lags = lags


def word_times(sound):
    """(word, when it ends) of the whole sound, by faster-whisper."""
    to = rig.CACHE / "joined-words.json"
    if not to.exists():
        weights = rig.CACHE / "ct2-tiny.en"
        subprocess.run(list(map(str, [speech.PEERS, speech.HERE / "word_times.py", weights, sound, to])), check=True)
    return [(plain(word), end) for word, end in json.loads(to.read_text()) if plain(word)]


def offline(by_line, sound, spans):
    """What the pass over the whole stretch makes of each."""
    pcm, paths = numpy.fromfile(sound, numpy.float32), []
    for begin, end in spans:
        paths.append(rig.CACHE / f"stretch-{begin}-{end}.f32")
        pcm[begin:end].tofile(paths[-1])
    texts = by_line.hear(paths)[1]
    for path in set(paths):  # where the sound is short, two sessions hear the same
        path.unlink()
    return texts


def peer_cost(peer, sound):
    """Processor seconds a second of sound of decoding the last WINDOW seconds each STEP seconds."""
    pcm, paths = numpy.fromfile(sound, numpy.float32), []
    count = 40
    for number in range(count):
        end = int((WINDOW + number * STEP) * 16000)
        paths.append(rig.CACHE / f"window-{number}.f32")
        pcm[end - WINDOW * 16000 : end].tofile(paths[-1])
    peer.hear(paths[:2])
    spent, _ = peer.hear(paths)
    for path in paths:
        path.unlink()
    return spent / (count * STEP)


def main():
    for path in (speech.PEERS, OURS, speech.OURS):
        if not path.exists():
            sys.exit(f"there is no {path}: make bench-live")
    sound, placed = speech.joined(speech.spoken("librispeech-test-other", " ") + speech.spoken("ljspeech", "|"))
    runners = {it.name: it for it in speech.contenders(1)}
    words = word_times(sound)
    costs = {name: peer_cost(it, sound) for name, it in runners.items() if name != "Loom"}
    table = []
    for count in SESSIONS:
        parts = list(stretches(placed, count))
        spans = [(placed[first][0], placed[last][1]) for first, last in parts]
        shown, spent = run(sound, spans)
        said = [" ".join(text for _, _, text in placed[first : last + 1]) for first, last in parts]
        judged = []
        for session, (begin, end) in enumerate(spans):
            own = [(word, at - begin / 16000) for word, at in words if begin / 16000 < at <= end / 16000]
            judged.append(Judged(shown[session], own))
        length = sum(end - begin for begin, end in spans) / 16000
        live = jiwer.wer([plain(it) for it in said], [it.text for it in judged])
        whole = jiwer.wer([plain(it) for it in said], [plain(it) for it in offline(runners["Loom"], sound, spans)])
        word_lags = [lag for it in judged for lag in it.word_lags]
        cue_lags = [lag for it in judged for lag in it.cue_lags]
        of = lambda lags: " / ".join(f"{numpy.percentile(lags, share):.2f} s" for share in (50, 95))  # noqa: E731
        table.append([
            count, of(word_lags), of(cue_lags), f"{100 * live:.2f} %", f"{100 * whole:.2f} %",
            sum(it.changed_finals for it in judged), f"{60 * sum(it.flicker for it in judged) / length:.1f}",
            f"{spent / length:.3f}",
        ])
        print(table[-1], time.strftime("%H:%M:%S"), file=sys.stderr)
    for it in runners.values():
        it.close()
    peers = [[name, f"{cost:.3f}", f"{THREADS / cost:.1f}"] for name, cost in costs.items()]
    rig.report("live_captions", "Live captions, many sessions at once (goals with one: 1.2 s and 2.0 s; 12 sessions before p95 passes 4 s)", rig.table(
        ["sessions", "word ends to shown, p50 / p95", "cue ends to final, p50 / p95", "word errors live", "of the pass afterwards",
         "final cues changed", "shown words changed a minute", "processor seconds a second of sound"], *table
    ) + f"""

Whisper tiny.en, {THREADS} threads for all sessions, each fed {SECONDS:.0f} s or a little more of LibriSpeech test-other and LJ Speech as fast as it is spoken,
20 ms at a time. When a word ends is what faster-whisper's cross-attention says (F32, the same weights), good to some 0.1 s. A shown word changed where
its cue's next form does not have it any more.

No peer captions live by itself. What decoding the last {WINDOW} s each {STEP:.0f} s costs, which is the least that such captions take, and how many sessions
{THREADS} cores would carry then:

""" + rig.table(["peer", "processor seconds a second of sound", "sessions"], *peers), "make bench-live")


if __name__ == "__main__":
    main()
