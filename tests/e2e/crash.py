"""Kills the server at random instants while it records, starts it again on the same folder, and holds what is there against what viewers
had been shown: `python tests/e2e/crash.py --runs 300 --seed 1`. Publishers (aiortc), uploads and edits run when it dies, and what is recorded is
on its way to an object store (moto), which is to have each object once."""

import argparse
import hashlib
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time

import httpx

import judges
import material
from s3 import S3
from server import Server, until
from test_store import is_ready, kept

PART = 0.334
KINDS = ["publish", "publish", "publish", "upload", "edit"]


class Shown:
    """What a viewer has been shown of each media playlist: the end of the last part or segment that was listed, and all names."""

    def __init__(self, base, recording):
        self.ends, self.over = {}, threading.Event()
        self.folder = f"{base}/v1/recordings/{recording['id']}/hls"
        self.thread = threading.Thread(target=self.follow, daemon=True)
        self.thread.start()

    def follow(self):
        with httpx.Client(timeout=5, trust_env=False) as http:
            while not self.over.is_set():
                try:
                    self.look(http)
                except httpx.HTTPError:
                    pass  # it is dead, or not there yet
                time.sleep(0.05)

    def look(self, http):
        main = http.get(f"{self.folder}/main.m3u8")
        if main.status_code != 200:
            return
        for path in judges.named(main.text):
            text = http.get(f"{self.folder}/{path}")
            if text.status_code == 200:
                self.ends[path] = max(self.ends.get(path, 0.0), listed(text.text))

    def stop(self):
        self.over.set()
        self.thread.join(10)
        return self.ends


def listed(playlist):
    """Seconds up to the end of the last part or segment."""
    seconds, parts = 0.0, 0.0
    for line in playlist.splitlines():
        if line.startswith("#EXTINF:"):
            seconds, parts = seconds + float(line[8:].split(",")[0]), 0.0
        elif line.startswith("#EXT-X-PART:"):
            parts += float(re.search(r"DURATION=([\d.]+)", line)[1])
    return seconds + parts


class Run:
    """One kill: what ran, what was shown, and what was there afterwards."""

    def __init__(self, dice, original, only=None):
        self.original = original
        self.kind = only or dice.choice(KINDS)
        self.after = dice.uniform(0.0, {"publish": 9.0, "upload": 4.0, "edit": 0.6}[self.kind])

    def begin(self, server):
        """Starts it; gives the recording and the process that publishes, where there is one."""
        if self.kind == "edit":
            answer = server.http.post(f"/v1/recordings/{self.original['id']}/edits", json={"cut": [[2, 4]]})
            assert answer.status_code == 201, answer.text
            return answer.json()["recordings"][0], None
        recording = server.create(f"Killed: {self.kind}")
        if self.kind == "upload":
            content = material.film_mp4().read_bytes()
            threading.Thread(target=quietly, args=(server.upload, recording, content, "video/mp4"), daemon=True).start()
            return recording, None
        publisher = material.published(recording, material.flashes(), 30, 60)
        # what takes longest is to begin: count from there
        until(lambda: server.show(recording)["state"] == "live" or publisher.poll() is not None, 60, "the publisher")
        return recording, publisher

    def kill(self, server):
        recording, publisher = self.begin(server)
        shown = Shown(server.base, recording)
        time.sleep(self.after)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        server.http.close()
        if publisher:
            publisher.kill()
            publisher.wait()
        return recording, shown.stop()

    def judge(self, server, recording, ends):
        """Seconds that were listed and are not there."""
        until(lambda: server.http.get(f"/v1/recordings/{recording['id']}").status_code == 200, 30, "the recording to be found")
        ready = until(lambda: final(server, recording), 120, "its end")
        if not ends:
            return ready["state"], 0.0
        assert ready["state"] == "ready", f"{ready['state']}: {ready.get('reason')}; listed was {ends}"
        kinds = judges.renditions(server, ready)
        lost = 0.0
        for path, before in ends.items():
            text = server.http.get(judges.url(server, ready, path)).text
            assert "#EXT-X-ENDLIST" in text and "#EXT-X-PART" not in text, text
            if kinds.get(path) == "subtitles":
                continue
            base = path.rsplit("/", 1)[0]
            for name in [line for line in text.splitlines() if line and not line.startswith("#")]:
                answer = server.http.get(judges.url(server, ready, f"{base}/{name}"))
                assert answer.status_code == 200 and answer.content, f"{path} lists {name}, which is not there"
            judges.decode(judges.url(server, ready, path))
            lost = max(lost, before - listed(text))
        return ready["state"], lost


def stored_once(s3, folder, recording):
    """Waits until the store has the recording; each object came there once, and is what the disk has. Gives how many there are."""
    until(lambda: is_ready(s3, recording), 120, "everything to be in the store")
    mine = f"{recording['id']}/"
    # what is there is counted a moment later
    until(lambda: s3.finished.count(recording["id"]), 10, "it to be told finished")
    s3.assert_stored_once(under=mine)
    assert s3.finished.count(recording["id"]) == 1, f"finished {s3.finished.count(recording['id'])} times"
    there = {key: hashlib.sha256(s3.get(key)).hexdigest() for key in s3.keys() if key.startswith(mine)}
    local = kept(folder, recording)
    assert there == {key: local.get(key) for key in there}
    return len(there)


def final(server, recording):
    now = server.show(recording)
    return now if now["state"] in ("ready", "failed") else None


def quietly(act, *arguments):
    try:
        act(*arguments)
    except httpx.HTTPError:
        pass  # the server died meanwhile


def campaign(folder, runs, seed, first=1, only=None, say=print):
    """Kills so often; gives the most seconds that any kill lost of what had been listed."""
    dice = random.Random(seed)
    worst, seen, objects = 0.0, {}, 0
    s3 = S3()
    settings = {"LOOM_CAPTIONS": "off", **s3.environment}
    server = Server(folder, **settings)
    try:
        film = server.create("What edits are made of")
        server.upload(film, material.film_mp4().read_bytes(), "video/mp4")
        original = server.until_state(film, "ready", seconds=300)
        for nth in range(first + runs - 1):
            run = Run(dice, original, only)
            if nth + 1 < first:
                continue
            recording, ends = run.kill(server)
            server = Server(folder, **settings)
            state, lost = run.judge(server, recording, ends)
            if state == "ready":
                objects += stored_once(s3, folder, recording)
            assert not s3.unnamed, f"a playlist named what was not there: {s3.unnamed}"
            worst = max(worst, lost)
            seen[run.kind, state] = seen.get((run.kind, state), 0) + 1
            say(f"kill {nth + 1}: {run.kind} after {run.after:.2f} s, listed {max(ends.values(), default=0):.2f} s, {state}, lost {lost:.3f} s")
            assert server.http.delete(f"/v1/recordings/{recording['id']}").status_code == 204
            left = [path for path in (folder / "data").rglob("*") if recording["id"] in path.name]
            assert not left, f"the recording was deleted, and {left} are there"
            until(lambda: not [key for key in s3.keys() if key.startswith(recording["id"])], 30, "the store to have none of it")
        assert server.until_state(original, "ready")["duration"] == original["duration"]
    finally:
        server.close()
        s3.close()
    say(f"{runs} kills (seed {seed}), {seen}, {objects} objects in the store, each sent once: at most {worst:.3f} s lost of what had been listed; a part is {PART} s")
    return worst


def main():
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--runs", type=int, default=300)
    asked.add_argument("--seed", type=int, default=int(time.time()))
    asked.add_argument("--from", type=int, default=1, dest="first", help="the kill to begin with, as one that failed")
    asked.add_argument("--only", choices=sorted(set(KINDS)), help="what runs when it is killed, each time")
    asked = asked.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        worst = campaign(folder, asked.runs, asked.seed, asked.first, asked.only, say=lambda line: print(line, flush=True))
    except BaseException:
        print(f"what is left of it lies in {folder}", file=sys.stderr)
        raise
    shutil.rmtree(folder)
    sys.exit(worst > PART)


if __name__ == "__main__":
    main()
