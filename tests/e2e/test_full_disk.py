"""A disk that is full while a recording runs: the rungs are given up, the source goes on as soon as there is room, and what was lost is a
declared gap. The disk is a small tmpfs, which only root can mount; without, this is skipped and says so."""

import errno
import os
import subprocess
import time

import pytest

import judges
import material
from conftest import watchable
from server import Server, until
from test_reconnect import segments


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"NO FULL DISK WAS TRIED: a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path):
    """Takes every byte that is left."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as why:
                assert why.errno == errno.ENOSPC, why


def test_a_full_disk_costs_the_rungs_and_a_gap_and_never_the_recording(disk, publish):
    server = Server(disk.parent, LOOM_DATA_DIR=str(disk), LOOM_CAPTIONS="off", LOOM_MIN_FREE="4M")
    try:
        recording = server.create("On a full disk")
        events = server.events(recording)
        publisher = publish(recording, video=material.screen_h264(), rate=15, audio=material.speech(12))
        until(lambda: watchable(server, recording) > 4, 90, "the first seconds")
        rungs = [r["id"] for r in server.show(recording)["renditions"] if r["kind"] == "video" and r["id"] != "source"]
        assert rungs, "there is nothing to give up"
        fill(disk / "filler")
        shed = until(lambda: [data for name, data in events if name == "shed"], 60, "the rungs to be given up")
        assert shed[0]["renditions"] == rungs and "space" in shed[0]["why"].lower(), shed
        refused = server.http.post("/v1/recordings", json={})
        assert refused.status_code == 507, refused.text
        time.sleep(5)  # what comes in so long cannot be held back
        assert server.show(recording)["state"] == "live", "the recording does not end where the disk is full"
        os.remove(disk / "filler")
        gap = until(lambda: server.show(recording).get("gaps"), 60, "what was lost to be declared")[0]
        until(lambda: server.show(recording)["duration"] > gap["to"] + 5, 60, "it to go on")
        server.stop(recording)
        publisher.end()
        ready = server.until_state(recording, "ready")
        assert not ready.get("reason"), ready
        print("gaps", ready.get("gaps"))
        assert ready["gaps"] == [gap] and 2 < gap["to"] - gap["from"] < 20, ready["gaps"]
        source = server.http.get(judges.url(server, ready, "source/index.m3u8")).text
        listed = segments(source)
        assert any(lost for _, _, lost, _ in listed) and listed[-1][2] is False, source
        for path in ("source/index.m3u8", "aac/index.m3u8"):
            judges.decode(judges.url(server, ready, path))
            start, end, _ = judges.span(judges.url(server, ready, path))
            assert end > gap["to"] + 4, f"{path} ends at {end}"
        names = [line for line in source.splitlines() if line.endswith(".m4s")]
        for name, (_, _, lost, _) in zip(names, listed, strict=True):
            status = server.http.get(judges.url(server, ready, f"source/{name}")).status_code
            assert lost or status == 200, (name, status)
    finally:
        server.close()
        log = server.log.read_text()
        assert "panicked" not in log, log[-4000:]
