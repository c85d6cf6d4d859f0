"""Uploads damaged files, several at a time, and sees that each is refused or processed with a reason, in bounded time and memory, and that the
server takes no harm: `python tests/e2e/damaged.py --files 500 --seed 1`. They are those of ../shared/corpora, and good ones with bytes changed,
cut, doubled or gone."""

import argparse
import collections
import concurrent.futures
import pathlib
import random
import sys
import tempfile
import time

import material
from server import SHARED, Server

# From its last byte to its end: a file of two seconds, while others are processed beside it.
LONGEST = 60
# What the server may have in memory at most, bytes.
MOST = 2048 << 20
AT_ONCE = 4

PICTURES = ["-f", "lavfi", "-i", "testsrc2=size=480x360:rate=12"]
SOUND = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
CODECS = {
    "h264.mp4": ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "12", "-pix_fmt", "yuv420p", "-c:a", "aac"],
    "long.mp4": ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-movflags", "+faststart"],
    "pieces.mp4": ["-c:v", "libx264", "-preset", "ultrafast", "-g", "12", "-pix_fmt", "yuv420p", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"],
    "hevc.mp4": ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=12", "-pix_fmt", "yuv420p", "-c:a", "aac"],
    "vp8.webm": ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "12", "-c:a", "libvorbis"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "12", "-c:a", "libopus"],
    "av1.mkv": ["-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-g", "12", "-c:a", "flac"],
    "h264.ts": ["-c:v", "libx264", "-preset", "ultrafast", "-g", "12", "-pix_fmt", "yuv420p", "-c:a", "aac"],
}


def good():
    """Short good files of every kind, and the beginnings of real ones."""
    files = {name: material.by_ffmpeg(f"good-{name}", *PICTURES, *SOUND, "-t", "2", *codecs) for name, codecs in CODECS.items()}
    files["sound.wav"] = material.by_ffmpeg("good-sound.wav", *SOUND, "-t", "1")
    files["sound.mp3"] = material.by_ffmpeg("good-sound.mp3", *SOUND, "-t", "1")
    for real in sorted(SHARED.glob("media/screen/*.webm")) + sorted(SHARED.glob("media/natural/*480p*.mp4")):
        name = f"real-{real.name}"
        files[name] = material.by_ffmpeg(f"good-{name}", "-i", real, "-t", "2", "-c", "copy")
    return {name: path.read_bytes() for name, path in files.items()}


def corpora(dice, count):
    """Files of the corpora, all MP4 and AVIF first."""
    first = sorted(it for it in SHARED.glob("corpora/mp4parse-rust/**/*") if it.suffix in (".mp4", ".avif"))
    rest = sorted(it for it in SHARED.glob("corpora/gofuzz-raw/**/*") if it.is_file())
    dice.shuffle(first)
    dice.shuffle(rest)
    return [(it.relative_to(SHARED).as_posix(), it.read_bytes()) for it in (first + rest)[:count]]


def changed_bytes(dice, data):
    for _ in range(dice.choice([1, 4, 30, 300])):
        data[dice.randrange(len(data))] = dice.randrange(256)


def changed_head(dice, data):
    """Where a container says what it holds."""
    for _ in range(dice.choice([1, 3, 10])):
        data[dice.randrange(min(len(data), 1500))] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])


def changed_tail(dice, data):
    for _ in range(dice.choice([1, 3, 10])):
        data[-1 - dice.randrange(min(len(data), 2500))] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])


def changed_number(dice, data):
    at = dice.randrange(len(data) - 4)
    data[at : at + 4] = dice.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, dice.randrange(2**32)]).to_bytes(4, "big")


def cut_off(dice, data):
    del data[dice.randrange(len(data)) :]


def gone(dice, data):
    at = dice.randrange(len(data))
    del data[at : at + dice.choice([1, 7, 500, 20_000])]


def doubled(dice, data):
    at = dice.randrange(len(data))
    data[at:at] = data[at : at + dice.choice([1, 100, 20_000])]


def zeros(dice, data):
    at = dice.randrange(len(data))
    length = min(dice.choice([16, 500, 20_000]), len(data) - at)
    data[at : at + length] = bytes(length)


MUTATIONS = [changed_bytes, changed_head, changed_tail, changed_number, cut_off, gone, doubled, zeros]


def mutated(dice, sources):
    name = dice.choice(sorted(sources))
    data, done = bytearray(sources[name]), []
    for mutation in dice.choices(MUTATIONS, k=dice.choice([1, 1, 2])):
        if len(data) > 8:
            mutation(dice, data)
            done.append(mutation.__name__)
    return f"{name} with {' and '.join(done)}", bytes(data)


def judge(server, name, data):
    """Uploads a file; (what became of it, the reason, seconds)."""
    recording = server.create(name[:80])
    began = time.monotonic()
    answer = server.upload(recording, data, "application/octet-stream")
    state = server.show(recording)
    while state["state"] not in ("ready", "failed"):
        assert time.monotonic() - began < LONGEST, f"{name}: {state['state']} after {LONGEST} s"
        time.sleep(0.05)
        state = server.show(recording)
    took = time.monotonic() - began
    reason = state.get("reason") or ""
    if answer.status_code != 202:
        assert answer.status_code in (400, 415, 422), f"{name}: {answer.status_code} {answer.text}"
        assert state["state"] == "failed", f"{name}: {answer.status_code}, and {state['state']}"
    if state["state"] == "failed":
        assert len(reason.split()) >= 4, f"{name}: {reason!r} is no reason"
        assert "/data/" not in reason, f"{name}: {reason!r} tells the server's own paths"
    assert server.http.delete(f"/v1/recordings/{recording['id']}").status_code == 204
    return state["state"], reason, took


def peak(server):
    """The most that the server has had in memory, bytes."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


def campaign(folder, files, seed, say=print):
    dice = random.Random(seed)
    sources = good()
    cases = corpora(dice, files // 3)
    cases += [mutated(dice, sources) for _ in range(files - len(cases))]
    server = Server(folder, LOOM_CAPTIONS="off")
    seen, reasons, slowest = collections.Counter(), collections.Counter(), (0.0, "")
    try:
        for name, data in sources.items():
            state, reason, _ = judge(server, name, data)
            assert state == "ready", f"{name} is good, and {state}: {reason}"
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            waiting = {pool.submit(judge, server, name, data): (name, data) for name, data in cases}
            for done in concurrent.futures.as_completed(waiting):
                name, data = waiting[done]
                try:
                    state, reason, took = done.result()
                except Exception:
                    (folder / "culprit").write_bytes(data)
                    alive = server.process.poll() is None
                    say(f"{name} ({len(data)} bytes, kept as {folder / 'culprit'}); the server {'lives' if alive else f'ended: {server.process.poll()}'}")
                    pool.shutdown(cancel_futures=True)
                    raise
                seen[state] += 1
                reasons[reason.split(":")[0] + ":" + reason.split(":")[-1][:60] if reason else ""] += 1
                slowest = max(slowest, (took, name))
        assert server.process.poll() is None, "the server ended"
        most = peak(server)
        assert most < MOST, f"the server has had {most >> 20} MiB in memory"
        name, data = next(iter(sources.items()))
        assert judge(server, name, data)[0] == "ready", "a good file afterwards"
        log = server.log.read_text(errors="replace")
        assert "panicked" not in log, log[log.index("panicked") - 200 :][:2000]
    finally:
        server.close()
    for reason, count in reasons.most_common(12):
        say(f"{count:5} {reason or '(processed without one)'}")
    say(f"{len(cases)} damaged files (seed {seed}): {dict(seen)}; slowest {slowest[0]:.1f} s ({slowest[1]}); at most {most >> 20} MiB in memory")
    return seen


def main():
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--files", type=int, default=500)
    asked.add_argument("--seed", type=int, default=int(time.time()))
    asked = asked.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp())
    campaign(folder, asked.files, asked.seed, say=lambda line: print(line, flush=True))
    sys.exit(0)


if __name__ == "__main__":
    main()
