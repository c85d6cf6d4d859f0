"""Players that nobody here wrote play everything, live and afterwards, at 334 ms and at 200 ms parts.

PLAY_SECONDS is how long live play is watched: 20 unless told; `make players` watches ten minutes.
"""

import json
import os
import subprocess

import pytest

import judges
import players
from players import begun, live_recording, moved, played_to_the_end, shown, starved, whole_recording
from server import Server

PLAY_SECONDS = float(os.environ.get("PLAY_SECONDS", 12))


@pytest.fixture(scope="module", params=[pytest.param(334, marks=pytest.mark.slow), 200])
def parts(request, tmp_path_factory):
    """A server of its own, with parts of so many milliseconds."""
    # what is judged is playing; encoders beside it would take the machine from the players
    ladder = os.environ.get("LOOM_LADDER", "source")
    server = Server(tmp_path_factory.mktemp("parts"), LOOM_PART=str(request.param), LOOM_CAPTIONS="off", LOOM_LADDER=ladder)
    server.part = request.param / 1000
    yield server
    server.close()


@pytest.fixture(scope="module")
def viewer(chromium):
    return chromium()


@pytest.fixture
def live(parts, publish):
    return live_recording(parts, publish, PLAY_SECONDS)


@pytest.fixture(scope="module")
def whole(parts):
    return whole_recording(parts)


HLS_JS = """url => {
    const hls = window.player = new Hls({lowLatencyMode: true, maxLiveSyncPlaybackRate: 1.5});
    hls.on(Hls.Events.ERROR, (_, data) => {
        if (data.fatal) told.errors.push(`${data.type} ${data.details} ${data.reason ?? ''}`);
        // a stall like any other: where tests share the cores, a starved player is no fault of the stream
        else if (data.details === 'bufferStalledError') told.stalls.push([performance.now() - told.began, hls.media.currentTime]);
    });
    setInterval(() => { if (told.began !== null && hls.latency) told.latency.push([performance.now() - told.began, hls.latency, hls.targetLatency]); }, 250);
    hls.loadSource(url);
    hls.attachMedia(document.querySelector('video'));
}"""

SHAKA = """async url => {
    shaka.polyfill.installAll();
    const player = window.player = new shaka.Player();
    await player.attach(document.querySelector('video'));
    player.configure({streaming: {lowLatencyMode: true}});
    player.addEventListener('error', event => told.errors.push(`${event.detail.code} ${event.detail.message}`));
    await player.load(url);
}"""


@pytest.mark.alone
def test_hls_js_plays_live_with_low_latency_and_without_a_stall(parts, live, new_page, viewer):
    # encoder, server and player share this machine's cores: where they starve each other once, a short look is taken again
    for again in (PLAY_SECONDS < 60, False):
        page = shown(parts, new_page, viewer, players.HLS, judges.url(parts, live, "main.m3u8"), HLS_JS)
        begun(page)
        start = moved(page)
        page.wait_for_timeout(PLAY_SECONDS * 1000)
        told = page.evaluate("() => told")
        played = moved(page) - start
        if not again or not told["stalls"]:
            break
        print("a stall, so once more:", told["stalls"])
        page.close()
    late = sorted(latency for at, latency, _ in told["latency"] if at > PLAY_SECONDS * 500)
    target = max(target for *_, target in told["latency"])
    print(f"parts of {parts.part} s: {played:.1f} s played of {PLAY_SECONDS}, latency p50 {late[len(late) // 2]:.2f}, p95 {late[len(late) * 95 // 100]:.2f}, target {target:.2f}")
    print("latency:", [(round(at / 1000, 1), round(latency, 2)) for at, latency, _ in told["latency"][::4]])
    assert not told["errors"], (told["errors"], told["stalls"])
    if starved(page, told["stalls"], PLAY_SECONDS):
        return
    assert not told["stalls"], told["stalls"]
    assert played > PLAY_SECONDS * 0.9, played
    # PART-HOLD-BACK, and what a busy machine adds
    assert late[len(late) // 2] < target + 0.75, (late[len(late) // 2], target)


def test_hls_js_plays_what_is_left_to_its_end(parts, whole, new_page, viewer):
    page = shown(parts, new_page, viewer, players.HLS, judges.url(parts, whole, "main.m3u8"), HLS_JS)
    begun(page)
    played_to_the_end(page, whole)


def test_hls_js_carries_a_token_on_into_every_request(parts, live, new_page, viewer):
    asked = []
    url = judges.url(parts, live, "main.m3u8") + "?define=token&token=a1-b2"
    page = shown(parts, new_page, viewer, players.HLS, url, "url => { window.ready = url; }")
    page.on("request", lambda request: asked.append(request.url) if "/hls/" in request.url else None)
    page.evaluate(HLS_JS, url)
    begun(page)
    page.wait_for_timeout(3000)
    told = page.evaluate("() => told")
    assert not told["errors"], told["errors"]
    kinds = {kind: [url for url in asked if kind in url] for kind in ("main.m3u8", "index.m3u8", "/init-", "/p", "/s")}
    assert all(kinds.values()), kinds
    assert all("token=a1-b2" in url for url in asked), [url for url in asked if "token=a1-b2" not in url]


# The segment's last part, which is short, is listed while the part before it is still on its way to a player that is some way off.
@pytest.mark.slow
@pytest.mark.alone
def test_hls_js_plays_on_from_far_away(parts, live, new_page, viewer):
    page = new_page(viewer)
    road = page.context.new_cdp_session(page)
    road.send("Network.enable")
    road.send("Network.emulateNetworkConditions", {"offline": False, "latency": 50, "downloadThroughput": -1, "uploadThroughput": -1})
    page = shown(parts, lambda _: page, viewer, players.HLS, judges.url(parts, live, "main.m3u8"), HLS_JS)
    begun(page)
    start = moved(page)
    page.wait_for_timeout(PLAY_SECONDS * 1000)
    told = page.evaluate("() => told")
    print(f"{moved(page) - start:.1f} s played of {PLAY_SECONDS}, stalls {told['stalls']}, latency {told['latency'][-1:]}")
    assert not told["errors"], told["errors"]
    assert moved(page) - start > PLAY_SECONDS * 0.6, told["stalls"]


@pytest.mark.alone
def test_shaka_plays_live(parts, live, new_page, viewer):
    page = shown(parts, new_page, viewer, players.package(*players.SHAKA), judges.url(parts, live, "main.m3u8"), SHAKA)
    begun(page)
    start = moved(page)
    page.wait_for_timeout(PLAY_SECONDS * 1000)
    told = page.evaluate("() => told")
    assert not told["errors"], told["errors"]
    assert moved(page) - start > PLAY_SECONDS * 0.85, (start, moved(page), told)


# shaka places segments by their dates: one that ended before the whole by them, if only by a rounding, would be waited for.
def test_shaka_plays_what_is_left_to_its_end(parts, whole, new_page, viewer):
    page = shown(parts, new_page, viewer, players.package(*players.SHAKA), judges.url(parts, whole, "main.m3u8"), SHAKA)
    begun(page)
    played_to_the_end(page, whole)


def test_ffmpeg_reads_live_and_whole_without_a_complaint(parts, live, whole):
    url = judges.url(parts, live, "main.m3u8")
    command = ["ffmpeg", "-nostdin", "-v", "error", "-xerror", "-i", url, "-t", "8", "-map", "0:v:0", "-map", "0:a:0"]
    # see judges.decode
    command += ["-fps_mode", "passthrough", "-enc_time_base:v", "1:90000", "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    for path, kind in judges.renditions(parts, whole).items():
        if kind != "subtitles":
            judges.decode(judges.url(parts, whole, path))


def test_gstreamer_plays_to_the_end(parts, whole):
    url = judges.url(parts, whole, "main.m3u8")
    command = ["gst-launch-1.0", "-q", "playbin3", f"uri={url}", "video-sink=fakesink", "audio-sink=fakesink"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "ERROR" not in done.stdout + done.stderr, done.stdout + done.stderr


# Reads one file, box by box, and prints what it found.
BOXES = """import { createFile } from '%s';
import { readFileSync } from 'node:fs';
const bytes = readFileSync(process.argv[2]);
const file = createFile();
let told = null;
file.onReady = info => { told = info; };
file.onError = why => { console.error(String(why)); process.exit(3); };
const data = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
data.fileStart = 0;
file.appendBuffer(data);
file.flush();
const boxes = file.boxes.map(box => [box.type, box.size, box.start]);
const samples = told.tracks.map(track => file.getTrackSamplesInfo(track.id).length);
console.log(JSON.stringify({boxes, samples, codecs: told.tracks.map(track => track.codec), fragmented: told.isFragmented}));
"""


def test_mp4box_reads_every_box_of_every_rendition(parts, whole, tmp_path):
    library = players.package(*players.MP4BOX)
    script = tmp_path / "boxes.mjs"
    script.write_text(BOXES % library)
    for path, kind in judges.renditions(parts, whole).items():
        if kind == "subtitles":
            continue
        file = judges.joined(parts, whole, path, tmp_path)
        done = subprocess.run(["node", str(script), str(file)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and not done.stderr.strip(), f"{path}: {done.stderr}"
        told = json.loads(done.stdout)
        assert told["fragmented"] and len(told["codecs"]) == 1, told
        assert sum(size for _, size, _ in told["boxes"]) == file.stat().st_size, f"{path}: boxes and bytes differ"
        command = ["ffprobe", "-v", "error", "-count_packets", "-show_entries", "stream=nb_read_packets", "-of", "csv=p=0", file]
        counted = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0].strip(","))
        assert told["samples"] == [counted], (path, told["samples"], counted)
