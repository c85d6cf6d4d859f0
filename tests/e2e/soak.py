"""Recordings that start and stop at random for a while, and what the server has left of them: memory, file handles, threads, tasks, GStreamer
objects. `python tests/e2e/soak.py --seconds 120 --at-once 3 --lasts 9 --seed 1`. It is held against how it stood after a first round: what is
made once, as buffers that are kept, is no leak."""

import argparse
import collections
import pathlib
import random
import re
import signal
import sys
import tempfile
import time

import material
from server import Server

# Memory may grow by this much between the first round and the end, and the rest by so many.
GROWTH_MIB, GROWTH_FILES, GROWTH_THREADS, GROWTH_TASKS, GROWTH_OBJECTS = 24, 4, 4, 8, 0

# Pictures a second of what is published.
RATE = 10

# GStreamer's own tracer names each object that is alive when it is asked to.
TRACED = {"GST_TRACERS": "leaks", "GST_DEBUG": "GST_TRACER:7", "GST_LEAKS_TRACER_SIG": "1", "GST_DEBUG_NO_COLOR": "1"}


def standing(server):
    """How the process stands."""
    proc = pathlib.Path(f"/proc/{server.process.pid}")
    status = (proc / "status").read_text()
    tasks = re.search(r"^loom_tasks_alive (\d+)", server.http.get("/metrics").text, re.M)
    return {
        "memory MiB": int(status.split("VmRSS:")[1].split()[0]) / 1024,
        "file handles": len(list((proc / "fd").iterdir())),
        "threads": int(status.split("Threads:")[1].split()[0]),
        "tasks": int(tasks[1]),
    }


def objects(server):
    """How many objects of GStreamer are alive, by their types; where none is, nothing is told."""
    size = lambda: server.log.stat().st_size
    before, last = size(), 0
    server.process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 15
    # it has told when it has begun to, and tells no more
    while not last == size() > before and time.monotonic() < deadline:
        last = size()
        time.sleep(3)
    with server.log.open("rb") as log:
        log.seek(before)
        said = log.read().decode(errors="replace")
    return collections.Counter(re.findall(r"object-alive, type-name=\(string\)(\w+)", said))


def settled(server, seconds=90):
    """How it stands once nothing changes any more: what ends later than its recording has ended."""
    last, since = None, time.monotonic()
    deadline = since + seconds
    while time.monotonic() < deadline:
        now = standing(server)
        counts = {name: count for name, count in now.items() if name != "memory MiB"}
        if counts != last:
            last, since = counts, time.monotonic()
        if time.monotonic() - since > 12:
            break
        time.sleep(1)
    now, alive = standing(server), objects(server)
    return now | {"GStreamer objects": alive.total()}, alive


class Life:
    """One recording from its beginning, after a while in which there is none, to its deletion."""

    def __init__(self, dice, server, lasts):
        self.server, self.lived = server, False
        self.kind = dice.choice(["publish", "publish", "vanish", "upload", "unused"])
        self.begins = time.monotonic() + dice.uniform(0.0, lasts / 2)
        self.ends = self.begins + dice.uniform(1.0, lasts)
        self.paused_at = self.begins + dice.uniform(1.0, lasts)
        self.recording, self.publisher = None, None

    def begin(self):
        server, self.recording = self.server, self.server.create("Soaked")
        if self.kind in ("publish", "vanish"):
            self.publisher = material.published(self.recording, material.flashes(), RATE, 3600)
        elif self.kind == "upload":
            server.upload(self.recording, material.film_mp4().read_bytes(), "video/mp4")

    def step(self):
        """Whether it is over, and gone."""
        now = time.monotonic()
        if self.recording is None:
            if now >= self.begins:
                self.begin()
            return False
        url = f"/v1/recordings/{self.recording['id']}"
        if now > self.paused_at and self.kind == "publish":
            self.paused_at = float("inf")
            if self.server.http.post(f"{url}/pause").is_success:
                self.server.http.post(f"{url}/resume")
        if now < self.ends:
            return False
        self.lived = self.server.show(self.recording)["duration"] > 0
        if self.publisher:
            if self.kind == "publish":
                self.server.http.post(f"{url}/stop")
            self.publisher.kill()
            self.publisher.wait()
        if self.kind == "upload" and self.server.show(self.recording)["state"] == "processing" and now < self.ends + 60:
            return False
        assert self.server.http.delete(url).status_code == 204
        return True


def soak(folder, seconds, at_once, lasts, seed, say=print):
    """How the server stands after a first round, and at the end."""
    dice = random.Random(seed)
    server = Server(folder, LOOM_CAPTIONS="off", LOOM_LOG="warn", **TRACED)
    count = collections.Counter()

    def round(length):
        lives, until_then = [], time.monotonic() + length
        look, most = time.monotonic() + length / 2, 0
        while time.monotonic() < until_then or lives:
            if time.monotonic() > look:
                look, most = float("inf"), objects(server).total()
            while len(lives) < at_once and time.monotonic() < until_then:
                lives.append(Life(dice, server, lasts))
            for life in [life for life in lives if life.step()]:
                lives.remove(life)
                count[life.kind, "with media" if life.lived else "without"] += 1
            time.sleep(0.05)
        assert most, "GStreamer does not tell what is alive"
        say(f"in the midst of it: {most} GStreamer objects")

    def stands():
        now, alive = settled(server)
        say(f"after {count.total()} recordings: {told(now)}")
        return now, alive

    try:
        say(f"at first: {told(settled(server)[0])}")
        round(min(max(30, lasts), seconds / 3))
        first, before = stands()
        round(seconds)
        last, after = stands()
        say(f"recordings: {dict(count)}")
        if after - before:
            say(f"objects that are left: {dict(after - before)}")
        assert server.http.get("/v1/recordings").json()["recordings"] == []
        left = list((folder / "data" / "recordings").iterdir())
        assert not left, left
        return first, last
    finally:
        server.close()


def told(standing):
    return ", ".join(f"{count:.0f} {name}" for name, count in standing.items())


def main():
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--seconds", type=float, default=300)
    asked.add_argument("--at-once", type=int, default=3)
    asked.add_argument("--lasts", type=float, default=9, help="the longest that a recording lasts, seconds")
    asked.add_argument("--seed", type=int, default=int(time.time()))
    asked = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first, last = soak(pathlib.Path(folder), asked.seconds, asked.at_once, asked.lasts, asked.seed, say=lambda line: print(line, flush=True))
    grown = {name: last[name] - first[name] for name in first}
    allowed = dict(zip(first, (GROWTH_MIB, GROWTH_FILES, GROWTH_THREADS, GROWTH_TASKS, GROWTH_OBJECTS)))
    print(f"seed {asked.seed}: grown by {told(grown)}")
    sys.exit(any(grown[name] > allowed[name] for name in grown))


if __name__ == "__main__":
    main()
