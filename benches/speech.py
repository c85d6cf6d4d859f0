"""Whole files to text, beside faster-whisper and whisper.cpp with the same weights: processor seconds and word errors.

`make bench-speech` builds what this runs. Each contender is a process of its own that stays; they take turns, so that whatever else
the machine does falls on all alike. Model loading is not counted. SPEECH_PAIRS, SPEECH_THREADS, SPEECH_TASKS and SPEECH_ONLY
(names) narrow it; where SPEECH_BUDGET seconds are over it stops, and goes on there the next time.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "e2e"))
import ggml  # noqa: E402
import rig  # noqa: E402
from words import plain  # noqa: E402

import jiwer  # noqa: E402

HERE = pathlib.Path(__file__).parent / "speech"
PEERS = HERE / ".venv" / "bin" / "python"
OURS = pathlib.Path(os.environ.get("LOOM_BY_LINE", rig.ROOT / "target" / "release" / "examples" / "by_line"))
PAIRS = int(os.environ.get("SPEECH_PAIRS", 5))
TASKS = os.environ.get("SPEECH_TASKS", "utterances,long").split(",")
THREADS = [int(it) for it in os.environ.get("SPEECH_THREADS", "1,2").split(",")]
SPEECH = rig.SHARED / "media" / "speech"
BUDGET = float(os.environ.get("SPEECH_BUDGET", "inf"))
LONG = 660  # seconds


class Contender:
    """A process that turns paths into text, a line each."""

    def __init__(self, name, *command):
        self.name = name
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"{name} did not start: {' '.join(map(str, command))}")

    def spent(self):
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def hear(self, paths):
        """Processor seconds, user and system, of all its threads, and the texts."""
        before, texts = self.spent(), []
        for path in paths:
            self.process.stdin.write(f"{path}\n")
            self.process.stdin.flush()
            texts.append(self.process.stdout.readline().strip())
        return self.spent() - before, texts

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


def pcm(path):
    """The sound as 16 kHz mono f32 in a file."""
    def command(to):
        return [*rig.FFMPEG, "-i", path, "-f", "f32le", "-ac", "1", "-ar", "16000", to]

    rig.CACHE.mkdir(parents=True, exist_ok=True)
    to = rig.CACHE / f"{path.stem}.f32"
    if not to.exists():
        subprocess.run(list(map(str, command(to))), check=True)
    return to


def spoken(folder, separator):
    """(file, what is said in it) of a folder with `trans.txt`."""
    lines = (SPEECH / folder / "trans.txt").read_text().splitlines()
    pairs = [line.split(separator, 1) for line in lines if line.strip()]
    return [(pcm(SPEECH / folder / f"{name}.flac"), said) for name, said in pairs]


def joined(pieces):
    """One long file: the pieces one after the other and again from the first, half a second apart. Each as (first sample, sample after
    its pause, what is said).
    """
    pause = numpy.zeros(8000, numpy.float32)
    sounds, placed, length = [], [], 0
    while length < LONG * 16000:
        path, text = pieces[len(placed) % len(pieces)]
        sounds += [numpy.fromfile(path, numpy.float32), pause]
        begin, length = length, length + len(sounds[-2]) + len(pause)
        placed.append((begin, length, text))
    path = rig.CACHE / "joined.f32"
    numpy.concatenate(sounds).tofile(path)
    return path, placed


def contenders(threads):
    ct2, whisper_cpp = rig.CACHE / "ct2-tiny.en", rig.CACHE / "ggml-tiny.en.bin"
    if not (ct2 / "model.bin").exists():
        subprocess.run([PEERS, HERE / "ct2.py", rig.MODEL, ct2], check=True)
    if not whisper_cpp.exists():
        ggml.convert(rig.MODEL, rig.SHARED / "models" / "mel_filters.npz", whisper_cpp)
    peer = (PEERS, HERE / "peer.py")
    all_of_them = {
        "Loom": (OURS, rig.MODEL, threads),
        "faster-whisper int8": (*peer, "faster-whisper", ct2, threads, "int8"),
        "faster-whisper F32": (*peer, "faster-whisper", ct2, threads, "float32"),
        # Its flash attention costs the same on a CPU.
        "whisper.cpp": (*peer, "whisper.cpp", whisper_cpp, threads, "plain"),
    }
    only = os.environ.get("SPEECH_ONLY")
    return [Contender(name, *it) for name, it in all_of_them.items() if not only or name in only.split(",")]


def measure(threads, paths, said, kept):
    """Into `kept`, {contender: {"alone": processor seconds, "words": word error rate, "paired": [processor seconds of each pair]}}:
    one run of each, then pairs of ours and the best peer. Yields after each step, so that it may stop there and go on later.
    """
    runners = {it.name: it for it in contenders(threads)}
    for name, it in runners.items():
        it.hear(paths[:1] if len(paths) > 1 else [pcm(SPEECH / "jfk.wav")])  # a warm-up
        if name in kept:
            continue
        seconds, texts = it.hear(paths)
        heard = texts if len(said) > 1 else [" ".join(texts)]
        rate = jiwer.wer([plain(x) for x in said], [plain(x) for x in heard])
        kept[name] = {"alone": seconds, "words": rate, "paired": []}
        yield
    pair = [runners[name] for name in sorted(kept, key=lambda name: (name != "Loom", kept[name]["alone"]))[:2]]
    while len(kept["Loom"]["paired"]) < PAIRS:
        turn = pair if len(kept["Loom"]["paired"]) % 2 else pair[::-1]
        for name, seconds in [(it.name, it.hear(paths)[0]) for it in turn]:
            kept[name]["paired"].append(seconds)
        yield
    for it in runners.values():
        it.close()


def rows(length, threads, task, kept):
    middle = {name: statistics.median(it["paired"] or [it["alone"]]) for name, it in kept.items()}
    best = next((name for name, it in kept.items() if name != "Loom" and it["paired"]), None)
    for name, it in kept.items():
        ratio = "1" if name == best else ""
        if name == "Loom" and best:
            pairs = [ours / theirs for ours, theirs in zip(it["paired"], kept[best]["paired"])]
            ratio = f"{statistics.median(pairs):.2f} ({min(pairs):.2f}–{max(pairs):.2f})"
        what = f"{task}, {length:.0f} s" if name == "Loom" else ""
        runs = len(it["paired"]) or 1
        yield [what, threads, name, runs, f"{middle[name]:.2f}", f"{middle[name] / length:.4f}", ratio, f"{100 * it['words']:.2f} %"]


def main():
    if not PEERS.exists() or not OURS.exists():
        sys.exit(f"there is no {PEERS} or no {OURS}: make bench-speech")
    utterances = spoken("librispeech-test-other", " ")
    long, placed = joined(utterances + spoken("ljspeech", "|"))
    tasks = {
        "utterances": ([path for path, _ in utterances], [text for _, text in utterances]),
        "long": ([long], [" ".join(said for _, _, said in placed)]),
    }
    # What was measured is kept, so that it may be taken piece by piece.
    kept_at = rig.CACHE / "speech.json"
    kept = json.loads(kept_at.read_text()) if kept_at.exists() else {}
    begun = time.monotonic()
    for threads in THREADS:
        for task in TASKS:
            paths, said = tasks[task]
            for _ in measure(threads, paths, said, kept.setdefault(f"{task} {threads}", {})):
                kept_at.write_text(json.dumps(kept))
                if time.monotonic() - begun > BUDGET:
                    sys.exit(f"stopped after {BUDGET} s; the same again goes on from here")
    table = []
    for key in sorted(kept, reverse=True):
        task, threads = key.split()
        length = sum(path.stat().st_size for path in tasks[task][0]) / 64000
        table += rows(length, threads, task, kept[key])
    kept_at.unlink(missing_ok=True)
    rig.report("speech", "Whole files to text (goal 0.35 of the better peer for utterances, 0.7 for a long file)", rig.table(
        ["sound", "threads", "who", "runs", "processor seconds", "a second of sound", "ratio to the best peer (least–most)",
         "word errors"], *table
    ) + f"""

Whisper tiny.en, the same weights for all; greedy, no warmer second try, no text carried over. The utterances are {len(utterances)} of
LibriSpeech test-other, one call each; the long file is those and LJ Speech, joined half a second apart. Processor seconds are the
process's own, all its threads', user and system; loading the model is not counted. Each runs once; then Loom and the peer that was
best take turns, and the figures of those two are the medians of the {PAIRS} pairs. Loom's weights are rounded to 12 bits in the encoder
and 8 in the decoder; whisper.cpp's are F16.""", "make bench-speech")


if __name__ == "__main__":
    main()
