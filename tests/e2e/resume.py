"""Kills the server at random instants while it processes an upload, starts it again on the same folder, and holds what comes of the file
against what came of it undisturbed: `python tests/e2e/resume.py --runs 50 --seed 1`. No chunk that was kept may be encoded again; some are damaged
between kill and start, and these must be."""

import argparse
import pathlib
import random
import re
import signal
import sys
import tempfile
import threading
import time

import httpx

import judges
import material
from server import Server, until

SETTINGS = {"LOOM_CAPTIONS": "off", "LOOM_LOG": "info,loom_engine=debug"}
# What tells when it came, which is another time for every upload.
DATES = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+[\d:]+)")


def film():
    """A minute of moving pictures and sound with a key frame every four seconds: eight chunks, and a rung beside the source. Its
    sides are multiples of 16: libjpeg codes what happens to lie beyond a picture's edge up to there, and a poster would never be the same twice."""
    return material.by_ffmpeg(
        "resume.mp4", "-f", "lavfi", "-i", "testsrc2=size=848x480:rate=24", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
        "-t", "64", "-c:v", "libx264", "-preset", "veryfast", "-g", "96", "-bf", "2", "-pix_fmt", "yuv420p", "-c:a", "aac",
    )


def made(folder, recording):
    """Every file that the packager made of it, without dates."""
    root = folder / "data" / "recordings" / recording["id"]
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted((root / "hls").rglob("*")) if path.is_file()}
    files["poster.jpg"] = (root / "poster.jpg").read_bytes()
    return {name: DATES.sub(b"DATE", data) if not name.endswith((".m4s", ".mp4", ".jpg")) else data for name, data in files.items()}


class Work:
    """What the servers' logs say of a recording's chunks."""

    def __init__(self):
        self.begun, self.kept, self.found = [], [], []

    def read(self, log, recording):
        for line in re.sub(r"\x1b\[[\d;]*m", "", log.read_text(errors="replace")).splitlines():
            number = re.search(rf"recording={recording['id']} number=(\d+)", line)
            for what, seen in [("a chunk is encoded ", self.begun), ("a chunk was encoded and is kept", self.kept), ("a chunk was encoded before", self.found)]:
                if number and what in line + " ":
                    seen.append(int(number[1]))


def killed(server):
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    server.http.close()


def begin(server, content):
    """Uploads in the background; gives the recording and what tells whether it was accepted."""
    recording, answers = server.create("Killed"), []

    def upload():
        try:
            answers.append(server.upload(recording, content, "video/mp4").status_code)
        except httpx.HTTPError:
            pass  # the server died meanwhile

    threading.Thread(target=upload, daemon=True).start()
    return recording, answers


def end(server, recording):
    now = server.show(recording)
    return now if now["state"] in ("ready", "failed") else None


def damage(folder, recording, dice):
    """Tears or changes a kept chunk, as a disk might; its number."""
    chunks = sorted((folder / "data" / "recordings" / recording["id"] / "chunks").glob("??????"))
    if not chunks:
        return None
    chunk = dice.choice(chunks)
    data = bytearray(chunk.read_bytes())
    if dice.random() < 0.5:
        del data[dice.randrange(len(data)) :]
    else:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    chunk.write_bytes(data)
    return int(chunk.name)


def campaign(folder, runs, seed, say=print):
    """Kills at so many instants; gives how many chunks were found kept, and how many were lost half done."""
    dice = random.Random(seed)
    content = film().read_bytes()
    server, work = Server(folder, **SETTINGS), Work()
    try:
        recording = server.create("Undisturbed")
        began = time.monotonic()
        assert server.upload(recording, content, "video/mp4").status_code == 202
        ready = server.until_state(recording, "ready", seconds=300, every=0.02)
        took = time.monotonic() - began
        judges.check_finished(server, ready)
        reference = made(folder, recording)
        work.read(server.log, recording)
        chunks = sorted(work.kept)
        assert chunks == list(range(len(chunks))) and len(chunks) >= 6, f"encoded were {chunks}"
        at_once = most_at_once(server.log)
        found = lost = 0
        for nth in range(runs):
            kills, work, damaged, after = dice.choice([1, 1, 1, 2, 3]), Work(), [], []
            recording, answers = begin(server, content)
            for _ in range(kills):
                after.append(dice.uniform(0.0, took / kills))
                time.sleep(after[-1])
                killed(server)
                work.read(server.log, recording)
                if dice.random() < 0.25:
                    damaged.append(damage(folder, recording, dice))
                server = Server(folder, **SETTINGS)
                until(lambda: server.http.get(f"/v1/recordings/{recording['id']}").status_code == 200, 30, "the recording to be found")
            ready = until(lambda: end(server, recording), 180, "its end")
            work.read(server.log, recording)
            if ready["state"] == "failed":
                assert not answers and not work.begun, f"it was accepted, and then {ready['reason']}"
            else:
                now = made(folder, recording)
                assert now.keys() == reference.keys(), sorted(now.keys() ^ reference.keys())
                differ = [name for name in now if now[name] != reference[name]]
                assert not differ, f"after {kills} kills these are others: {differ}"
                again = [it for it in chunks if work.kept.count(it) > 1 + damaged.count(it)]
                assert not again, f"kept, and encoded again: {again}"
                redone = len(work.begun) - len(work.kept)
                assert redone <= kills * at_once, f"{redone} were lost half done by {kills} kills, {at_once} at a time"
                found, lost = found + len(set(work.found)), lost + redone
                left = [it.name for it in (folder / "data" / "recordings" / recording["id"]).iterdir() if it.name in ("source", "chunks", "import.json")]
                assert not left, f"{left} are of no use any more"
            times = " and ".join(f"{it:.2f} s" for it in after)
            say(f"run {nth + 1}: killed after {times}: {ready['state']}, {len(set(work.found))} of {len(chunks)} chunks found kept, {len(work.begun) - len(work.kept)} lost half done, damaged {damaged}")
            assert server.http.delete(f"/v1/recordings/{recording['id']}").status_code == 204
    finally:
        server.close()
    say(f"{runs} runs (seed {seed}), {len(chunks)} chunks each, {took:.1f} s undisturbed: the same to the byte, {found} chunks found kept, none encoded again, {lost} lost half done")
    return found


def most_at_once(log):
    """How many chunks were encoded at the same time."""
    now = most = 0
    for line in log.read_text(errors="replace").splitlines():
        now += ("a chunk is encoded" in line) - ("a chunk was encoded and is kept" in line)
        most = max(most, now)
    return max(most, 1)


def main():
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--runs", type=int, default=50)
    asked.add_argument("--seed", type=int, default=int(time.time()))
    asked = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(pathlib.Path(folder), asked.runs, asked.seed, say=lambda line: print(line, flush=True))
    sys.exit(found == 0)


if __name__ == "__main__":
    main()
