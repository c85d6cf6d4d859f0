"""Records a publisher over a bad road and has ffmpeg and ffprobe judge what is left.

`record.py relay` puts the testkit's link (example lossy-link) between the two, on loopback. `record.py here` only runs the
server where it stands, at --address, and starts the publisher by the words of --publisher-by: scripts/netem uses it with
both in network namespaces of their own. Prints what was sent and what came, and fails where that is less than Loom promises
for 5 % loss, 2 % in bursts, 60 ms jitter, 1 % doubled and reordered.
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile

import av
import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / os.environ.get("ROAD_PROFILE", "debug")
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

os.environ.setdefault("LOOM_BIN", str(BUILT / "loom-server"))
import judges  # noqa: E402
from server import Server, free_port  # noqa: E402

ROAD = "--loss 0.05 --burst 0.02 --burst-length 4 --duplicate 0.01 --reorder 0.01 --delay-ms 30 --jitter-ms 60 --order kept"
# 2 s are clean in every case: a lost handshake tells nothing about media
CLEAN = "--clean-seconds 2"


def publisher(asked, server, recording):
    """What the publisher says that it sent."""
    script = {"aiortc": "publisher.py", "chromium": "browser.py"}[asked.publisher]
    words = [sys.executable, str(pathlib.Path(__file__).with_name(script)), "--url", recording["whip_url"]]
    words += ["--token", recording["whip_token"], "--codec", asked.codec, "--seconds", str(asked.seconds)]
    done = subprocess.run(
        shlex.split(asked.publisher_by) + words, stdout=subprocess.PIPE, text=True, timeout=asked.seconds + 90
    )
    assert done.returncode == 0, f"the publisher failed\n{server.log.read_text()[-4000:]}"
    return json.loads(done.stdout.strip().splitlines()[-1])


# A picture that stands is repeated, so that parts come in time, by one that skips every block: some 14 bytes. A page's are longer.
REPEAT_BYTES = 20


def frames(file):
    """Pictures that ffprobe decodes without those that only repeat another, how many of these there are, and what it complains about."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "frame=pkt_size", "-of", "csv=p=0", str(file)],
        capture_output=True, text=True, timeout=900,
    )
    sizes = [int(line.strip(",")) for line in done.stdout.split()]
    repeats = sum(size < REPEAT_BYTES for size in sizes)
    return len(sizes) - repeats, repeats, done.stderr.strip()


def beeps(file):
    """When a tone begins, by libav, each packet at its own time: sound that was lost leaves a hole, not a shift. A tone whose
    beginning may have been lost is left out: after a hole a decoder is too quiet for some tens of milliseconds."""
    times, quiet, expected, whole = [], 0, None, 0.0
    with av.open(str(file)) as sound:
        resampler = av.AudioResampler(format="flt", layout="mono")
        for frame in sound.decode(audio=0):
            samples = numpy.concatenate([piece.to_ndarray()[0] for piece in resampler.resample(frame)])
            step = frame.sample_rate // 1000
            if expected is not None and frame.time - expected > 0.002:
                whole = frame.time
            expected = frame.time + frame.samples / frame.sample_rate
            loud = numpy.abs(samples[: len(samples) // step * step]).reshape(-1, step).max(axis=1) > 0.1
            for index, now in enumerate(loud):
                at = frame.time + index / 1000
                if now and quiet >= 300 and (at - whole > 0.1 or whole == 0.0):
                    times.append(at)
                quiet = 0 if now else quiet + 1
    return times


def judge(server, recording, folder):
    """What a foreign decoder finds in the recording."""
    kinds = judges.renditions(server, recording)
    sound = next(path for path, kind in kinds.items() if kind == "audio")
    picture = next((path for path in kinds if path.startswith("source")), None)
    picture = picture or next(path for path, kind in kinds.items() if kind == "video")
    film = judges.joined(server, recording, picture, folder)
    decoded, repeats, complaints = frames(film)
    strict = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-xerror", "-i", str(film), "-map", "0", "-fps_mode", "passthrough",
         "-enc_time_base:v", "1:90000", "-f", "null", "-"],
        capture_output=True, text=True, timeout=900,
    )
    errors = [line for line in (complaints + "\n" + strict.stderr).splitlines() if line.strip()]
    if strict.returncode != 0 and not errors:
        errors = [f"ffmpeg ended with {strict.returncode}"]
    tone = judges.joined(server, recording, sound, folder)
    return (decoded, repeats), errors, (judges.flash_times(str(film)), beeps(tone)), {picture: judges.end(film), sound: judges.end(tone)}


def kept_apart(flashes, tones, late):
    """By how much each picture is later than its sound than it was in the page that drew both: it tells with each second how late it drew.
    Which second is which is found by trying: with the right one they differ least."""
    pairs = [(beep, flash - beep) for flash in flashes for beep in tones if abs(flash - beep) < 0.4]
    late, tried = dict(map(tuple, late)), []
    for first in late:
        found = [(first + round(beep - pairs[0][0]), offset) for beep, offset in pairs]
        apart = [offset - late[second] for second, offset in found if second in late]
        if len(apart) >= 0.95 * len(pairs):
            middle = statistics.median(apart)
            tried.append((sum(min(0.1, abs(it - middle)) for it in apart), middle, [it - middle for it in apart]))
    _, middle, offsets = min(tried)
    return middle, offsets


def counted(server):
    """The packets that the server counted, by what it logs when a session is over."""
    lines = [line for line in server.log.read_text().splitlines() if "session is over" in line]
    return {name: int(count) for name, count in re.findall(r"(packets|asked|requests)\S*?=\S*?(\d+)", lines[-1])}


def main():
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("how", choices=("relay", "here"))
    ask.add_argument("--seconds", type=float, default=float(os.environ.get("ROAD_SECONDS", 60)))
    ask.add_argument("--codec", choices=("h264", "vp8"), default=os.environ.get("ROAD_CODEC", "h264"))
    ask.add_argument("--publisher", choices=("aiortc", "chromium"), default=os.environ.get("ROAD_PUBLISHER", "aiortc"))
    ask.add_argument(
        "--both", action=argparse.BooleanOptionalAction, default=os.environ.get("ROAD_BOTH", "") == "1",
        help="what goes to the publisher, such as its requests, is impaired too (relay)",
    )
    ask.add_argument("--road", default=os.environ.get("ROAD", ROAD), help="options of lossy-link")
    ask.add_argument("--address", default="127.0.0.1", help="where the server listens")
    ask.add_argument("--publisher-by", default="", help="words before the publisher's own command")
    ask.add_argument("--keep", type=pathlib.Path, help="a folder to leave the recording in")
    asked = ask.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port(socket.SOCK_DGRAM)
        # the source alone: what is judged is what was received, not what an encoder made of it
        settings = {"LOOM_UDP": f"{asked.address}:{port}", "LOOM_CAPTIONS": "off"}
        if asked.codec == "h264":
            settings["LOOM_LADDER"] = "source"
        else:
            settings["LOOM_STILLS"] = "on"  # each picture counts
        relay, log = None, folder / "link.log"
        if asked.how == "relay":
            settings["LOOM_ANNOUNCE"] = "127.0.0.2"
        server = Server(folder, host=asked.address, **settings)
        try:
            if asked.how == "relay":
                ways = " --both" if asked.both else ""
                words = [str(BUILT / "examples" / "lossy-link"), *shlex.split(f"{asked.road} {CLEAN}{ways}")]
                with log.open("wb") as err:
                    relay = subprocess.Popen([*words, f"127.0.0.2:{port}", f"127.0.0.1:{port}"], stderr=err)
            recording = server.create("a bad road")
            sent = publisher(asked, server, recording)
            ready = server.until_state(recording, "ready")
            received = counted(server)
            (decoded, repeats), errors, (flashes, tones), ends = judge(server, ready, folder)
        finally:
            server.close()
            if relay:
                relay.terminate()
                relay.wait()
        link = log.read_text().strip().splitlines()[-1:] if log.exists() else []

    share = decoded / sent["frames"]
    if asked.publisher == "chromium":
        # A page cannot draw and sound at one instant: what is judged is whether the two keep to the distance they have.
        middle, offsets = kept_apart(flashes, tones, sent.pop("late"))
        print(f"Chromium's own picture is {middle * 1000:.0f} ms behind its sound")
    else:
        offsets = judges.sync_offsets(flashes, tones)
    offsets = sorted(map(abs, offsets))
    late = offsets[min(len(offsets) - 1, int(len(offsets) * 0.99))] if offsets else None
    print(json.dumps(sent))
    print("\n".join(link))
    print(f"decoded {decoded} of {sent['frames']} frames encoded: {share:.2%}; {repeats} repeats beside them")
    print(f"decode errors: {len(errors)}", *errors[:5], sep="\n  ")
    print("lengths:", ", ".join(f"{path} {end:.2f} s" for path, end in ends.items()))
    if late is not None:
        middle = offsets[len(offsets) // 2]
        print(f"A/V offset over {len(offsets)} flashes: median {middle * 1000:.0f} ms, p99 {late * 1000:.0f} ms")
    print(f"the server asked {received['requests']} times for {received['asked']} packets of {received['packets'] + received['asked']}: "
          f"{received['requests'] / max(1, received['asked']):.2f} retransmission requests, a packet asked for")
    for track in ("video", "audio"):
        if asked_for := sent[track].get("asked_distinct"):
            print(f"{track}: {sent[track]['asked'] / asked_for:.2f} retransmission requests that arrived, a packet asked for")
    good = share >= 0.98 and not errors and (late is None or late <= 0.050)
    print("as promised" if good else "NOT as promised: 98 % of the frames, no decode error, 50 ms")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
