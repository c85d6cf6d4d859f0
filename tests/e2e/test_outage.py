"""An object store that is down for OUTAGE_SECONDS (30), then slow for a quarter of that and losing answers, then back, while recordings go
on: `make outage` takes ten minutes of it. What is recorded is bounded by the disk alone, and arrives whole, once."""

import hashlib
import os
import pathlib
import time

import pytest

import judges
import material
from s3 import S3
from server import Server, until
from test_store import LEAN, is_ready, kept

OUTAGE = float(os.environ.get("OUTAGE_SECONDS", 30))
SLOW = OUTAGE / 4

# What is on its way to a store is at most four objects of 8 MiB.
GROWTH_MIB = 40


class Memory:
    """The resident memory of a process, MiB."""

    def __init__(self, pid):
        self.proc = pathlib.Path(f"/proc/{pid}")
        self.most()

    def now(self):
        return self._read("VmRSS")

    def most(self):
        """The most since this was last asked."""
        most = self._read("VmHWM")
        (self.proc / "clear_refs").write_text("5")
        return most

    def _read(self, name):
        return int((self.proc / "status").read_text().split(f"{name}:")[1].split()[0]) / 1024


@pytest.mark.slow
def test_recordings_go_on_while_the_store_is_down_and_slow_and_all_of_them_arrives_once(publish, tmp_path):
    s3 = S3()
    server = Server(tmp_path, **s3.environment, **LEAN)
    try:
        outlives(s3, server, publish, tmp_path)
    finally:
        server.close()
        s3.close()
        assert "panicked" not in server.log.read_text()


def outlives(s3, server, publish, folder):
    screen = {"video": material.screen_h264(), "rate": 15, "audio": material.beeps()}
    through = server.create("Before, through and behind it")
    publish(through, **screen)
    until(lambda: any(key.endswith("s3.m4s") for key in s3.keys()), 60, "a segment in the store")
    began = time.monotonic()
    puts = sum(s3.sent.values())
    s3.go_down()
    within = server.create("Within it")
    publisher = publish(within, **screen)
    server.until_state(within, "live")
    ends = time.monotonic() + OUTAGE
    # both live, nothing waits yet
    time.sleep(5)
    memory = Memory(server.process.pid)
    figures = {"with both live": memory.now()}
    time.sleep(OUTAGE / 3 - 5)
    server.stop(within)
    publisher.end()
    assert server.until_state(within, "ready")["duration"] > OUTAGE / 3 - 3, "it is over without the store"
    while time.monotonic() < ends:
        now = server.show(through)
        assert now["state"] == "live" and not now.get("gaps"), now
        time.sleep(1)
    assert sum(s3.sent.values()) == puts, "it was not down"
    job = upload(server, within)
    assert job["state"] in ("running", "waiting") and job["tries"] > 1, job
    figures["at the most while it is down"] = memory.most()

    s3.delay = 1.0
    s3.at_put = lambda number, when: when == "after" and number % 5 == 0
    s3.come_back()
    until(lambda: sum(s3.sent.values()) > puts, 150, "another put")
    time.sleep(SLOW)
    assert server.show(through)["state"] == "live"
    figures["at the most while it is slow"] = memory.most()

    s3.delay, s3.at_put = 0.0, None
    server.stop(through)
    lasted = time.monotonic() - began
    ready = server.until_state(through, "ready")
    assert ready["duration"] > lasted and not ready.get("gaps"), ready
    until(lambda: is_ready(s3, through) and is_ready(s3, within), 300, "everything to be in the store")
    until(lambda: all(upload(server, it)["state"] == "done" for it in (through, within)), 60, "the jobs to be done")
    figures["at the most from the stop on"], figures["after"] = memory.most(), memory.now()

    there = {key: (len(data := s3.get(key)), hashlib.sha256(data).hexdigest()) for key in s3.keys()}
    stretches = server.log.read_text().count("not all is in the store yet")
    print(
        f"down for {OUTAGE:.0f} s, slow for {SLOW:.0f} s: memory "
        + ", ".join(f"{mib:.0f} MiB {when}" for when, mib in figures.items())
        + f"; {ready['duration']:.1f} s recorded through it, {sum(s3.sent.values())} puts, {len(s3.stored)} stored, {len(there)} objects of "
        f"{sum(size for size, _ in there.values()) / 1e6:.1f} MB, {stretches} rounds in vain while live"
    )
    assert not s3.unnamed, f"a playlist named what was not there: {s3.unnamed}"
    s3.assert_stored_once()
    assert {key: digest for key, (_, digest) in there.items()} == kept(folder, through) | kept(folder, within)
    for recording in (through, within):
        for path in judges.renditions(server, server.show(recording)):
            judges.decode(judges.url(server, recording, path))
    assert max(figures.values()) - figures["with both live"] < GROWTH_MIB, figures


def upload(server, recording):
    """How a recording's upload stands."""
    jobs = server.http.get(f"/v1/recordings/{recording['id']}/jobs").json()["jobs"]
    return next(job for job in jobs if job["job"] == "upload")
