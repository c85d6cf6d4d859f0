"""Several publishers of one recording: a screen, and a telephone that joins by a token of its own, goes and comes back. Both see the same
flashes and hear the same beeps; in the recording they lie together, whatever the way and the clock of the one that joins."""

import contextlib
import shlex
import socket
import subprocess

import pytest

import judges
import material
from conftest import watchable
from server import ROOT, free_port, until
from test_reconnect import beep_times as beeps

LINK = ROOT / "target" / "debug" / "examples" / "lossy-link"
FAR = "--loss 0 --burst 0 --duplicate 0 --reorder 0 --jitter-ms 0 --delay-ms 150"


def invite(server, recording, name="phone"):
    """The recording as one sees it who joins."""
    answer = server.http.post(f"/v1/recordings/{recording['id']}/publishers", json={"name": name})
    assert answer.status_code == 201, answer.text
    return recording | answer.json()


def joined(server, recording, state):
    """What the recording tells of who has joined, once that is so."""
    now = lambda: [it for it in server.show(recording).get("joined", []) if it["state"] == state]  # noqa: E731
    return until(now, 60, f"the one that joins to be {state}")[0]


def media(server, recording, rendition):
    """Seconds of media, without gaps, that a rendition lists."""
    answer = server.http.get(judges.url(server, recording, f"{rendition}/index.m3u8"))
    if answer.status_code != 200:
        return 0.0
    lines, total = answer.text.splitlines(), 0.0
    for before, line in zip(lines, lines[1:]):
        if line.startswith("#EXTINF:") and before != "#EXT-X-GAP":
            total += float(line[8:].strip(","))
    return total


@contextlib.contextmanager
def road(server, options):
    """An address at which the server is reached by a road with those qualities."""
    port = free_port(socket.SOCK_DGRAM)
    words = [LINK, *shlex.split(options), f"127.0.0.1:{port}", f"127.0.0.1:{server.udp}"]
    link = subprocess.Popen(list(map(str, words)), stderr=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        link.terminate()
        link.wait()


def apart(here, there):
    """By how much the one is later than the other, of each that has one near it, seconds, and the worst."""
    offsets = judges.sync_offsets(here, there)
    return [round(offset, 3) for offset in offsets], max(map(abs, offsets), default=None)


@pytest.mark.parametrize(
    ("way", "off", "by"),
    [
        ("near", 0.0, "clocks"),
        pytest.param("far", 0.0, "clocks", marks=pytest.mark.slow),
        pytest.param("far", 3600.0, "arrival", marks=pytest.mark.slow),
    ],
)
def test_a_telephone_that_joins_lies_beside_the_screen_to_a_tenth_of_a_second(server, publish, way, off, by):
    recording = server.create(f"joined {way} {off}")
    phone = invite(server, recording)
    # a key frame a second: these publishers cannot make one that is asked for
    flashing = {"video": material.flashes(keys=30), "rate": 30, "audio": material.beeps()}
    with road(server, FAR) if way == "far" else contextlib.nullcontext() as through:
        more = ["--together", "--clock-off", off, *(["--through", through] if through else [])]
        # whoever joins may be there first, and waits
        telephone = publish(phone, **flashing, more=more)
        screen = publish(recording, **flashing, more=["--together"])
        until(lambda: media(server, recording, "video-2") > 6, 90, "the telephone's picture")
        telephone.end()
        assert joined(server, recording, "paused")["name"] == "phone"
        assert server.show(recording)["state"] == "live"
        gone = watchable(server, recording)
        until(lambda: watchable(server, recording) > gone + 3, 60, "the recording to go on without it")
        publish(phone, **flashing, more=more)
        there = joined(server, recording, "running")
        back = watchable(server, recording)
        until(lambda: watchable(server, recording) > back + 8, 60, "it to be back for a while")
        there = joined(server, recording, "running")
        screen.end()
        ready = server.until_state(recording, "ready")
    assert there == {"name": "phone", "state": "running", "aligned_by": by}, there
    assert not ready.get("reason") and not ready.get("gaps"), ready
    own = [track for track in ready["tracks"] if "publisher" not in track]
    other = [track for track in ready["tracks"] if track.get("publisher") == "phone"]
    assert sorted(track["kind"] for track in own) == sorted(track["kind"] for track in other) == ["audio", "video"], ready
    assert all(track["mid"].startswith("phone:") and track["renditions"] for track in other), other
    assert {"source", "opus", "video-2", "opus-2"} <= {it["id"] for it in ready["renditions"]}, ready["renditions"]
    # where it is away its pictures go on without a key frame, and their segments until they are as long as they may be: only the ends are one
    ends = {path: judges.span(judges.url(server, ready, path))[1] for path, kind in judges.renditions(server, ready).items() if kind != "subtitles"}
    assert max(ends.values()) - min(ends.values()) < 0.3, ends
    for path in judges.renditions(server, ready):
        if not path.startswith("captions/"):
            judges.decode(judges.url(server, ready, path))

    seen = {path: judges.flash_times(judges.url(server, ready, f"{path}/index.m3u8")) for path in ("source", "video-2")}
    offsets, worst = apart(seen["video-2"], seen["source"])
    print(f"pictures, {way}, clock {off:+} s, by {by}: worst {worst} of {len(offsets)}: {offsets}")
    assert len(offsets) >= 8 and worst < 0.1, (seen, offsets)
    heard = {path: beeps(judges.url(server, ready, f"{path}/index.m3u8"), whole=True) for path in ("opus", "opus-2", "aac-2")}
    offsets, worst = apart(heard["opus-2"], heard["opus"])
    print(f"sound, {way}, clock {off:+} s, by {by}: worst {worst} of {len(offsets)}: {offsets}")
    assert len(offsets) >= 8 and worst < 0.1, (heard, offsets)
    # what is made of its sound has all of it too
    offsets, worst = apart(heard["aac-2"], heard["opus-2"])
    assert abs(len(heard["aac-2"]) - len(heard["opus-2"])) <= 1 and worst < 0.1, (heard, offsets)
