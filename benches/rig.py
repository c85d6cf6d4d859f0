"""What every bench stands on: the server under test, material, an aiortc publisher, a Chromium, and the report.

All clocks are this machine's own: `time.time()` here, `Date.now()` in Chromium.
"""

import asyncio
import contextlib
import datetime
import fractions
import json
import math
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

import av
import httpx
import numpy
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
CACHE = ROOT / ".cache" / "bench"
BINARY = pathlib.Path(os.environ.get("LOOM_BIN", ROOT / "target" / "release" / "loom-server"))
MODEL = pathlib.Path(os.environ.get("LOOM_MODEL", SHARED / "models" / "whisper-tiny.en"))
RESULTS = ROOT / "benches" / "RESULTS.md"


# ---- the server under test ------------------------------------------------------------------------------------------


class Server:
    """One loom-server with a fresh data folder, listening on free ports; `async with` ends it."""

    def __init__(self, **environment):
        self.environment = {"LOOM_LOG": "info,webrtc=warn,rtc=warn", **environment}

    async def __aenter__(self):
        if not BINARY.exists():
            sys.exit(f"there is no server at {BINARY}: build it, or name one by LOOM_BIN")
        self.folder = tempfile.TemporaryDirectory(prefix="loom-bench-")
        self.base = f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}"
        self.log = pathlib.Path(self.folder.name) / "server.log"
        variables = {
            "LOOM_LISTEN": self.base.removeprefix("http://"),
            "LOOM_UDP": str(free_port(socket.SOCK_DGRAM)),
            "LOOM_DATA_DIR": f"{self.folder.name}/data",
            **({"LOOM_MODEL": str(MODEL)} if MODEL.exists() else {}),
            **self.environment,
        }
        self.process = subprocess.Popen(
            [BINARY], env={**os.environ, **variables}, stdout=self.log.open("wb"), stderr=subprocess.STDOUT
        )
        limits = httpx.Limits(max_connections=None)
        self.http = httpx.AsyncClient(base_url=self.base, timeout=30, trust_env=False, limits=limits)
        await until(self._ready, 30, f"{BINARY} to answer")
        return self

    async def __aexit__(self, *_):
        await self.http.aclose()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        if keep := os.environ.get("LOOM_BENCH_LOG"):
            pathlib.Path(keep).write_bytes(self.log.read_bytes())
        self.folder.cleanup()

    async def _ready(self):
        if self.process.poll() is not None:
            sys.exit(f"the server ended at once:\n{self.log.read_text()}")
        with contextlib.suppress(httpx.TransportError):
            return (await self.http.get("/readyz")).status_code == 200

    async def captions_on(self):
        """Waits for the speech model; whether there is one."""

        async def settled():
            return (state := (await self.http.get("/v1/recordings")).json().get("captions")) != "loading" and state

        return await until(settled, 120, "the speech model") == "on"

    async def create(self):
        return (await self.http.post("/v1/recordings")).raise_for_status().json()

    async def show(self, recording):
        return (await self.http.get(f"/v1/recordings/{recording['id']}")).json()

    async def stop(self, recording):
        return (await self.http.post(f"/v1/recordings/{recording['id']}/stop")).raise_for_status()

    async def events(self, recording):
        """(name, data, when it came) of each server-sent event."""
        url = f"/v1/recordings/{recording['id']}/events"
        async with self.http.stream("GET", url, timeout=None) as stream:
            name = ""
            async for line in stream.aiter_lines():
                if line.startswith("event:"):
                    name = line[6:].strip()
                elif line.startswith("data:"):
                    yield name, json.loads(line[5:]), time.time()

    async def playlist(self, recording, path="main.m3u8", **query):
        """Text of a playlist, or '' while there is none."""
        answer = await self.http.get(f"/v1/recordings/{recording['id']}/hls/{path}", params=query)
        return answer.text if answer.status_code == 200 else ""

    async def first_part(self, recording, path="source/index.m3u8", **query):
        """When a media playlist first listed a part or a segment, for who asks with this query."""

        async def listed():
            return re.search(r"#EXT(INF|-X-PART):", await self.playlist(recording, path, **query)) and time.time()

        return await until(listed, 20, "the first part", every=0.005)

    async def main_playlist(self, recording):
        """When there first was a multivariant playlist."""

        async def there():
            return await self.playlist(recording) and time.time()

        return await until(there, 20, "the multivariant playlist", every=0.005)

    async def metric(self, name):
        """Sum of a metric's samples whose name is exactly this, over its labels."""
        text = (await self.http.get("/metrics")).text
        found = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.M)
        return sum(map(float, found)) if found else math.nan


def video_playlists(main):
    return list(dict.fromkeys(re.findall(r"^#EXT-X-STREAM-INF:.*\n(\S+)", main, re.M)))


def media_playlists(main):
    return list(dict.fromkeys(video_playlists(main) + re.findall(r'^#EXT-X-MEDIA:.*URI="([^"]+)"', main, re.M)))


async def until(happened, seconds, what, every=0.02):
    """The first true value that `happened()` gives."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := await happened():
            return value
        await asyncio.sleep(every)
    raise TimeoutError(f"waited {seconds} s in vain for {what}")


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---- an aiortc publisher --------------------------------------------------------------------------------------------


class Paced(MediaStreamTrack):
    """A track that gives its next item when its time has come; `begun` is when media time 0 was sent."""

    begun = None

    async def due(self, seconds):
        self.begun = self.begun or time.time()
        await asyncio.sleep(max(0, self.begun + seconds - time.time()))


class Pictures(Paced):
    """640x360 at 30 a second, encoded by aiortc as they are sent, so that key frames come when asked for."""

    kind = "video"

    def __init__(self):
        super().__init__()
        self.page = numpy.full((360, 640, 3), 245, numpy.uint8)
        self.page[40:340:14, 30:500] = 40
        self.sent = 0

    async def recv(self):
        await self.due(self.sent / 30)
        picture = self.page.copy()
        at = self.sent * 4 % 600
        picture[170:190, at : at + 40] = (200, 60, 60)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = self.sent * 3000, fractions.Fraction(1, 90000)
        self.sent += 1
        return frame


class Encoded(Paced):
    """An H.264 file with a key frame every 2 s, sent as it is: the publisher costs next to nothing."""

    kind = "video"

    def __init__(self, path, rate=30):
        super().__init__()
        with av.open(str(path)) as file:
            self.packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
        self.rate = rate
        self.sent = 0

    async def recv(self):
        if self.sent == len(self.packets):
            await asyncio.Event().wait()
        await self.due(self.sent / self.rate)
        packet = av.Packet(self.packets[self.sent])
        packet.pts, packet.time_base = self.sent, fractions.Fraction(1, self.rate)
        self.sent += 1
        return packet


class Sound(Paced):
    """Mono 48 kHz samples in frames of 20 ms, then silence."""

    kind = "audio"
    FRAME = 960

    def __init__(self, samples):
        super().__init__()
        self.samples = samples
        self.sent = 0

    async def recv(self):
        await self.due(self.sent / 48000)
        piece = self.samples[self.sent : self.sent + self.FRAME]
        piece = numpy.pad(piece, (0, self.FRAME - len(piece)))
        frame = av.AudioFrame.from_ndarray(piece.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, self.sent, fractions.Fraction(1, 48000)
        self.sent += self.FRAME
        return frame


class Publication:
    """One WHIP session; `posted` and `answered` are when its offer left and when its answer came."""

    @classmethod
    async def start(cls, http, url, token, *tracks):
        self = cls()
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        for track in tracks:
            sending = self.peer.addTransceiver(track, direction="sendonly")
            if track.kind == "video":
                codecs = RTCRtpSender.getCapabilities("video").codecs
                sending.setCodecPreferences([c for c in codecs if c.mimeType == "video/H264"])
        await self.peer.setLocalDescription(await self.peer.createOffer())
        headers = {"content-type": "application/sdp", "authorization": f"Bearer {token}"}
        self.posted = time.time()
        answer = await http.post(url, content=self.peer.localDescription.sdp, headers=headers)
        self.answered = time.time()
        if answer.status_code != 201:
            raise RuntimeError(f"WHIP answered {answer.status_code}: {answer.text}")
        await self.peer.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        return self

    async def close(self):
        await self.peer.close()


# ---- processor time -------------------------------------------------------------------------------------------------


class Threads:
    """Processor seconds of each thread of a process, also of those that have ended, by sampling every 0.1 s."""

    TICK = os.sysconf("SC_CLK_TCK")

    def __init__(self, process):
        self.folder = pathlib.Path(f"/proc/{process}")
        self.seen = {}

    async def __aenter__(self):
        self.sample()
        self.before = dict(self.seen)
        self.total_before = self.total()
        self.sampling = asyncio.create_task(self.go_on())
        return self

    async def __aexit__(self, *_):
        self.sampling.cancel()
        self.sample()
        self.seconds = self.total() - self.total_before
        self.by_name = {}
        for thread, (name, spent) in self.seen.items():
            grown = spent - self.before.get(thread, (name, 0))[1]
            self.by_name[name] = self.by_name.get(name, 0) + grown

    async def go_on(self):
        while True:
            await asyncio.sleep(0.1)
            self.sample()

    def sample(self):
        for task in (self.folder / "task").iterdir():
            with contextlib.suppress(OSError):
                text = (task / "stat").read_text()
                name = text[text.index("(") + 1 : text.rindex(")")]
                self.seen[int(task.name)] = (name, self.spent(text))

    def total(self):
        return self.spent((self.folder / "stat").read_text())

    def spent(self, stat):
        fields = stat[stat.rindex(")") + 2 :].split()
        return (int(fields[11]) + int(fields[12])) / self.TICK


# ---- material -------------------------------------------------------------------------------------------------------


def made(name, *command):
    """A file in the cache, made by a command whose last argument is its path."""
    path = CACHE / name
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"part-{name}")  # so that what was cut short is never taken
        subprocess.run([*map(str, command), part], check=True)
        part.rename(path)
    return path


FFMPEG = ("ffmpeg", "-v", "error", "-y")


def screen():
    """ffmpeg's input arguments for a screen recording that goes on for ever, or for a stand-in."""
    film = SHARED / "media" / "screen" / "napari-histogram.webm"
    if film.exists():
        return ["-stream_loop", "-1", "-i", film]
    return ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30"]


def screen_h264(seconds):
    """720p30 constrained baseline with a key frame every 2 s."""
    shape = ["-an", "-vf", "scale=1280:720,format=yuv420p", "-r", "30", "-t", str(seconds)]
    codec = ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", "baseline", "-level", "3.1", "-bf", "0", "-g", "60"]
    rate = ["-sc_threshold", "0", "-b:v", "2500k", "-maxrate", "2500k", "-bufsize", "2500k", "-f", "h264"]
    return made(f"screen-720p-{seconds}s.h264", *FFMPEG, *screen(), *shape, *codec, *rate)


def screen_mp4(seconds):
    """The same pictures with time stamps, for ffmpeg."""
    copy = ["-r", "30", "-i", screen_h264(seconds), "-c", "copy"]
    return made(f"screen-720p-{seconds}s.mp4", *FFMPEG, *copy)


def sentences(seconds):
    """Read sentences as mono 48 kHz int16, no longer than this in all; none where there is no speech material."""
    length = 0
    for file in sorted((SHARED / "media" / "speech" / "ljspeech").glob("*.flac")):
        command = ["ffmpeg", "-v", "error", "-i", file, "-f", "s16le", "-ac", "1", "-ar", "48000", "-"]
        sentence = numpy.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, numpy.int16)
        length += len(sentence) / 48000
        if length > seconds:
            return
        yield sentence


def joined(spoken):
    """Sentences with 0.6 s of silence before each and after the last, and where each begins, in seconds."""
    pause = numpy.zeros(28800, numpy.int16)
    pieces, begins, length = [], [], 0
    for sentence in spoken:
        pieces += [pause, sentence]
        begins.append((length + len(pause)) / 48000)
        length += len(pause) + len(sentence)
    return numpy.concatenate([*pieces, pause]), begins


def hum(seconds):
    """A quiet tone: sound that nobody speaks in."""
    at = numpy.arange(int(seconds * 48000)) / 48000
    return (1000 * numpy.sin(2 * numpy.pi * 220 * at)).astype(numpy.int16)


# ---- Chromium -------------------------------------------------------------------------------------------------------

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --use-fake-device-for-media-stream --use-fake-ui-for-media-stream "
    "--autoplay-policy=no-user-gesture-required --disable-background-timer-throttling "
    "--disable-backgrounding-occluded-windows --disable-renderer-backgrounding"
).split()


@contextlib.asynccontextmanager
async def chromium(*flags):
    """A fresh headless Chromium with a camera and a microphone that are files."""
    from playwright.async_api import async_playwright

    async with async_playwright() as play:
        path = os.environ.get("LOOM_CHROMIUM", "/usr/bin/chromium")
        browser = await play.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        try:
            yield browser
        finally:
            await browser.close()


def devices():
    """Flags that make a film of a screen the camera, and speech (or a tone) the microphone."""
    shape = ["-an", "-vf", "scale=1280:720,format=yuvj420p", "-r", "30", "-t", "10", "-c:v", "mjpeg", "-q:v", "4"]
    film = made("camera.mjpeg", *FFMPEG, *screen(), *shape, "-f", "mjpeg")
    sound = CACHE / "microphone.wav"
    if not sound.exists():
        import wave

        with wave.open(str(sound), "wb") as file:
            file.setparams((1, 2, 48000, 0, "NONE", ""))
            spoken = list(sentences(50))
            file.writeframes((joined(spoken)[0] if spoken else hum(50)).tobytes())
    return f"--use-file-for-fake-video-capture={film}", f"--use-file-for-fake-audio-capture={sound}"


# ---- the report -----------------------------------------------------------------------------------------------------


def percentile(values, p):
    """Nearest rank: always a value that was measured, never one between two."""
    values = sorted(values)
    return values[max(0, math.ceil(p / 100 * len(values)) - 1)]


def spread(values, unit="ms"):
    """p50, p95, worst and count, rounded up."""
    if not values:
        return "-", "-", "-", "0"
    digits = 0 if unit == "ms" else 2
    scale = 1000 if unit == "ms" else 1
    cells = (math.ceil(percentile(values, p) * scale * 10**digits - 1e-9) / 10**digits for p in (50, 95, 100))
    return *(f"{cell:.{digits}f} {unit}" for cell in cells), str(len(values))


def ratio(ours, theirs):
    """Ours over theirs, rounded up: below 1 is better than the peer."""
    if not ours or not theirs:
        return "-"
    return f"{math.ceil(percentile(ours, 50) / percentile(theirs, 50) * 100 - 1e-9) / 100:.2f}"


def table(head, *rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", info)
    load = os.getloadavg()[0]
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout
    built = "release" if "release" in BINARY.parts else "debug"
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    cpu = model[1] if model else "unknown CPU"
    return f"{now}, {os.cpu_count()} cores of {cpu}, load {load:.2f} at the end, {built} build, commit {commit.strip()}"


def report(name, title, text, command=None):
    """Prints a bench's figures and replaces its section of RESULTS.md."""
    section = f"<!-- {name} -->\n## {title}\n\n`{command or f'benches/run {name}'}`: {machine()}\n\n{text.strip()}\n<!-- /{name} -->\n"
    print("\n" + section, flush=True)
    before = RESULTS.read_text() if RESULTS.exists() else HEAD
    pattern = rf"<!-- {name} -->.*?<!-- /{name} -->\n"
    after = re.sub(pattern, lambda _: section, before, flags=re.S)
    if after == before and not re.search(pattern, before, re.S):
        after = f"{before.rstrip()}\n\n{section}"
    RESULTS.write_text(after)


HEAD = """# What `make bench` measured

Each section is replaced by its bench when it runs. p50 and p95 are nearest rank (a value that was measured); every
figure is rounded up. A ratio is ours over the peer's, taken in the same run on the same machine: below 1 is better than
the peer. MediaMTX, the peer one would name first, is in neither PyPI, npm nor Debian, so it is not here.

Publisher, Chromiums, server and peer share the machine's cores, so the server has less than it would have to itself; the load
average tells how busy the machine was besides. With a load far above the cores the figures are those of the load.
"""
