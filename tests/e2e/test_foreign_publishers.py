"""Publishers that nobody here wrote end as ready recordings: Chromium with each codec, in layers, through a relay and over TCP;
FFmpeg's WHIP muxer; GStreamer's WHIP sink. (aiortc's are in test_publishers.py.)
"""

import os
import shutil
import socket
import subprocess
import types

import pytest

import judges
import material
from server import ROOT, free_port

SECONDS = 5

# Publishes camera and microphone for a while, then deletes the WHIP resource; tells over which pair of candidates it went, and
# what was sent of each layer.
PUBLISH = """async ({layers, seconds, width, ...asked}) => {
    const media = await navigator.mediaDevices.getUserMedia({audio: true, video: {width, height: width * 9 / 16}});
    const [audio, video] = [media.getAudioTracks()[0], media.getVideoTracks()[0]];
    // A busy machine then gets fewer pictures rather than smaller ones: ffmpeg's HLS reader decodes no change of size.
    video.contentHint = 'detail';
    const tracks = [{track: audio, stream: media}, {track: video, stream: media, layers}];
    const session = await whip.publish({...asked, tracks});
    if (!session.peer) return session;
    await new Promise((done) => setTimeout(done, seconds * 1000));
    const stats = [...(await session.peer.getStats()).values()];
    const pair = stats.find((one) => one.type === 'candidate-pair' && one.nominated && one.state === 'succeeded');
    const local = stats.find((one) => one.id === pair?.localCandidateId);
    const sent = stats.filter((one) => one.type === 'outbound-rtp' && one.kind === 'video');
    const used = stats.find((one) => one.id === sent[0]?.codecId);
    await whip.end(session);
    media.getTracks().forEach((track) => track.stop());
    return {
        codec: used?.mimeType.toLowerCase(), kind: local?.candidateType, protocol: local?.protocol, cipher: stats.find((one) => one.type === 'transport')?.srtpCipher,
        layers: sent.map((one) => ({rid: one.rid, frames: one.framesSent, width: one.frameWidth})),
    };
}"""


@pytest.fixture
def browser_publishes(server, recorder, publishing_page):
    def publish(title, codec="h264", layers=None, ice=None, only=None, width=640, seconds=SECONDS):
        recording = server.create(title)
        page = publishing_page(recorder)
        asked = {
            "url": recording["whip_url"], "token": recording["whip_token"], "codec": codec, "layers": layers, "seconds": seconds,
            "ice": ice or {"iceServers": []}, "only": only, "width": width,
        }
        told = page.evaluate(PUBLISH, asked)
        print(told)
        assert "refused" not in told, told["refused"]
        return types.SimpleNamespace(recording=recording, **told)

    return publish


def judged(server, recording, codec, least=SECONDS - 2.5):
    """The recording once it is ready and everything in it was decoded by others."""
    ready = server.until_state(recording, "ready")
    assert {track["kind"] for track in ready["tracks"]} == {"video", "audio"}, ready["tracks"]
    assert {track["codec"] for track in ready["tracks"] if track["kind"] == "video"} == {codec}, ready["tracks"]
    spans = judges.check_finished(server, ready)
    assert all(stop - start > least for start, stop, *_ in spans.values()), spans
    return ready


@pytest.mark.parametrize("codec", ["h264", "vp8", "vp9", "av1"])
def test_chromium_publishes_each_codec(server, browser_publishes, codec):
    published = browser_publishes(f"Chromium {codec}", codec)
    if getattr(published, "missing", None):
        pytest.skip(f"THIS CHROMIUM SENDS NO {codec.upper()}")
    assert published.codec == f"video/{codec}"
    # Chromium offers it, but names it last
    assert published.cipher == "SRTP_AEAD_AES_128_GCM", published.cipher
    judged(server, published.recording, codec)


def test_chromium_publishes_layers(server, browser_publishes):
    layers = [
        {"rid": "low", "scaleResolutionDownBy": 4, "maxBitrate": 150_000},
        {"rid": "middle", "scaleResolutionDownBy": 2, "maxBitrate": 400_000},
        {"rid": "high", "scaleResolutionDownBy": 1, "maxBitrate": 1_200_000},
    ]
    published = browser_publishes("Chromium in layers", "h264", layers=layers, width=1280, seconds=8)
    assert {layer["rid"] for layer in published.layers} == {"low", "middle", "high"}, published.layers
    assert all(layer["frames"] for layer in published.layers), f"Chromium held a layer back: {published.layers}"
    ready = judged(server, published.recording, "h264")
    pictures = [track for track in ready["tracks"] if track["kind"] == "video"]
    widths = {track["rid"]: track["width"] for track in pictures}
    assert widths == {"low": 320, "middle": 640, "high": 1280}, pictures
    made = {track["rid"]: track["renditions"] for track in pictures}
    assert "source" in made["high"] and made["middle"] == ["360p"] and made["low"] == ["180p"], made
    kept = {rendition["id"]: rendition["width"] for rendition in ready["renditions"] if rendition["kind"] == "video"}
    assert (kept["source"], kept["360p"], kept["180p"]) == (1280, 640, 320), kept


@pytest.fixture
def relay():
    """A TURN server on this machine's first address."""
    if not shutil.which("turnserver"):
        pytest.skip("NO TURN SERVER: apt-get install coturn")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = probe.getsockname()[0]
        except OSError:
            address = "127.0.0.1"
    port = free_port(socket.SOCK_DGRAM)
    command = [
        "turnserver", "-n", "--lt-cred-mech", "--user=loom:relayed", "--realm=loom", f"--listening-ip={address}", f"--relay-ip={address}",
        f"--listening-port={port}", "--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers", "--log-file=stdout",
        "--pidfile=/dev/null", "--userdb=/dev/null",
    ]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    yield types.SimpleNamespace(address=address, port=port, user="loom", password="relayed")
    process.terminate()
    process.wait(10)


def test_chromium_publishes_through_a_relay_only(server, browser_publishes, relay):
    servers = [{"urls": f"turn:{relay.address}:{relay.port}?transport=udp", "username": relay.user, "credential": relay.password}]
    published = browser_publishes("Chromium by TURN", ice={"iceServers": servers, "iceTransportPolicy": "relay"})
    assert published.kind == "relay"
    judged(server, published.recording, "h264")


def test_chromium_publishes_over_tcp_only(server, browser_publishes):
    published = browser_publishes("Chromium by TCP", only="tcp")
    if getattr(published, "missing", None):
        pytest.skip(f"THIS SERVER TELLS NO TCP CANDIDATE: {published.offered}")
    assert published.protocol == "tcp"
    judged(server, published.recording, "h264")


def ffmpeg_with_whip():
    """An FFmpeg that can publish by WHIP: version 8 or later, with the muxer built in."""
    found = [os.environ.get("LOOM_FFMPEG"), shutil.which("ffmpeg")]
    try:
        import imageio_ffmpeg

        found.append(imageio_ffmpeg.get_ffmpeg_exe())
    except ImportError:
        pass
    for path in filter(None, found):
        muxers = subprocess.run([path, "-hide_banner", "-muxers"], capture_output=True, text=True, timeout=30).stdout
        if any(line.split()[1:2] == ["whip"] for line in muxers.splitlines()):
            return path
    pytest.skip("NO FFMPEG WITH A WHIP MUXER: pip install imageio-ffmpeg, or name one by LOOM_FFMPEG")


def test_ffmpeg_publishes(server):
    ffmpeg = ffmpeg_with_whip()
    recording = server.create("FFmpeg")
    picture = ["-re", "-stream_loop", "-1", "-framerate", "15", "-i", material.screen_h264()]
    sound = ["-re", "-i", material.speech(12)]
    codecs = ["-map", "0:v", "-map", "1:a", "-c:v", "libx264", "-preset", "ultrafast", "-profile:v", "baseline", "-bf", "0", "-g", "30"]
    codecs += ["-vf", "scale=640:360", "-b:v", "600k", "-c:a", "libopus", "-ac", "2", "-ar", "48000", "-b:a", "48k", "-t", SECONDS]
    where = ["-f", "whip", "-authorization", recording["whip_token"], recording["whip_url"]]
    command = [ffmpeg, "-nostdin", "-hide_banner", "-v", "warning", *picture, *sound, *codecs, *where]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    print(done.stderr)
    assert done.returncode == 0, done.stderr
    judged(server, recording, "h264")


def whipsink():
    """The environment in which GStreamer knows its WHIP sink."""
    environment = dict(os.environ)
    built = ROOT / ".cache" / "whipsink"
    environment["GST_PLUGIN_PATH"] = os.pathsep.join(filter(None, [os.environ.get("GST_PLUGIN_PATH"), str(built)]))
    for element in ("whipsink", "nicesrc", "webrtcbin"):
        inspected = subprocess.run(["gst-inspect-1.0", element], env=environment, capture_output=True)
        if inspected.returncode:
            pytest.skip(f"NO {element.upper()} IN GSTREAMER: scripts/whipsink builds it (and gstreamer1.0-nice is its ICE)")
    return environment


def gstreamer_publishes(environment, recording, *options):
    """Pictures and tones by GStreamer's own elements; ended as a person would, by an interrupt."""
    video = "videotestsrc is-live=true ! video/x-raw,width=640,height=360,framerate=30/1 ! x264enc tune=zerolatency key-int-max=60"
    video += " bitrate=600 speed-preset=ultrafast ! video/x-h264,profile=baseline ! rtph264pay config-interval=-1"
    video += " aggregate-mode=zero-latency ! application/x-rtp,media=video,encoding-name=H264,payload=102,clock-rate=90000 ! w.sink_0"
    audio = "audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay"
    audio += " ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000 ! w.sink_1"
    sink = ["whipsink", "name=w", f"auth-token={recording['whip_token']}", f"whip-endpoint={recording['whip_url']}", *options]
    command = ["timeout", "-k", "5", "-s", "INT", str(SECONDS + 2), "gst-launch-1.0", *sink, *video.split(), *audio.split()]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    print(done.stdout[-2000:], done.stderr[-2000:])


# GStreamer sends at once what it made while it was connecting: media that is ahead of its arrival.
def test_gstreamer_publishes(server):
    environment = whipsink()
    recording = server.create("GStreamer")
    gstreamer_publishes(environment, recording)
    judged(server, recording, "h264")


def test_gstreamer_publishes_through_a_relay_only(server, relay):
    environment = whipsink()
    recording = server.create("GStreamer by TURN")
    turn = f"turn-server=turn://{relay.user}:{relay.password}@{relay.address}:{relay.port}"
    gstreamer_publishes(environment, recording, turn, "ice-transport-policy=relay")
    judged(server, recording, "h264")
