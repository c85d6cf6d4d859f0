"""Players of DASH that nobody here wrote play the manifest, live and to its end; ffmpeg reads all of it."""

import datetime
import json
import os
import re
import subprocess

import pytest

import judges
import players
from conftest import watchable
from players import begun, live_recording, moved, played_to_the_end, shown, starved, whole_recording
from server import Server, until

PLAY_SECONDS = float(os.environ.get("PLAY_SECONDS", 12))
# What a segment lasts, seconds, where nothing else is asked for.
SEGMENT = 2.0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    # what is judged is playing; encoders beside it would take the machine from the players
    server = Server(tmp_path_factory.mktemp("dash"), LOOM_CAPTIONS="off", LOOM_LADDER="source")
    yield server
    server.close()


@pytest.fixture(scope="module")
def viewer(chromium):
    return chromium()


@pytest.fixture
def live(server, publish):
    return live_recording(server, publish, PLAY_SECONDS)


@pytest.fixture(scope="module")
def whole(server):
    return whole_recording(server)


def manifest(server, recording):
    return judges.url(server, recording, "manifest.mpd")


DASH_JS = """url => {
    const player = window.player = dashjs.MediaPlayer().create();
    player.on('error', ({error}) => told.errors.push(`${error.code} ${error.message}`));
    player.initialize(document.querySelector('video'), url, true);
    setInterval(() => { if (told.began !== null) told.latency.push([performance.now() - told.began, player.getCurrentLiveLatency(), player.getTargetLiveDelay()]); }, 250);
}"""

SHAKA = """async url => {
    shaka.polyfill.installAll();
    const player = window.player = new shaka.Player();
    await player.attach(document.querySelector('video'));
    // the second is its own default for low latency, which comes too late where the manifest says that it is that
    player.configure({streaming: {lowLatencyMode: true}, manifest: {dash: {autoCorrectDrift: false}}});
    player.addEventListener('error', event => told.errors.push(`${event.detail.code} ${event.detail.data}`));
    await player.load(url);
    setInterval(() => { if (told.began !== null && player.isLive()) told.latency.push([performance.now() - told.began, player.getStats().liveLatency]); }, 250);
}"""

PLAYERS = pytest.mark.parametrize("player, begin", [(players.DASH, DASH_JS), (players.SHAKA, SHAKA)], ids=["dash.js", "shaka"])


@PLAYERS
def test_a_player_plays_what_is_left_to_its_end(server, whole, new_page, viewer, player, begin):
    page = shown(server, new_page, viewer, players.package(*player), manifest(server, whole), begin)
    begun(page)
    played_to_the_end(page, whole)


@pytest.mark.alone
@PLAYERS
def test_a_player_plays_live_less_than_a_segment_late_and_without_a_stall(server, live, new_page, viewer, player, begin):
    # encoder, server and player share this machine's cores: where they starve each other once, a short look is taken again
    for again in (PLAY_SECONDS < 60, False):
        page = shown(server, new_page, viewer, players.package(*player), manifest(server, live), begin)
        begun(page)
        start = moved(page)
        page.wait_for_timeout(PLAY_SECONDS * 1000)
        told, played = page.evaluate("() => told"), moved(page) - start
        # one that begins too near to what there is settles first
        stalls = [at for at, _ in told["stalls"] if at > 5_000]
        if not again or not stalls:
            break
        page.close()
    print(f"{played:.1f} s played of {PLAY_SECONDS}", told["stalls"])
    print("latency:", [[round(at / 1000, 1), *(round(it, 2) for it in rest if it is not None)] for at, *rest in told["latency"][::4]])
    assert not told["errors"], told["errors"]
    if starved(page, stalls, PLAY_SECONDS):
        return
    assert not stalls, told["stalls"]
    assert played > PLAY_SECONDS * 0.85, played
    late = sorted(latency for at, latency, *_ in told["latency"] if at > PLAY_SECONDS * 500)
    assert late[len(late) // 2] < SEGMENT, f"it is {late[len(late) // 2]:.2f} s late, which is more than a segment lasts"


def test_ffmpeg_reads_every_representation_without_a_complaint(server, whole):
    url = manifest(server, whole)
    assert judges.streams(url) == ["h264,1280,720", "opus"], judges.streams(url)
    for path, kind in judges.renditions(server, whole).items():
        # one at a time: where it reads several at once, it ends with the first of them
        done = subprocess.run(
            ["ffmpeg", "-nostdin", "-v", "error", "-i", url, "-map", f"0:{kind[0]}", "-c", "copy", "-f", "framemd5", "-"],
            capture_output=True, text=True, timeout=120,
        )
        assert done.returncode == 0 and not done.stderr.strip(), done.stderr
        counted = sum(not line.startswith("#") for line in done.stdout.splitlines())
        _, _, packets = judges.span(judges.url(server, whole, path))
        assert counted == packets, (path, counted, packets)
    judges.decode(url)


# Reads one file and prints its producer reference times.
PRFT = """import { createFile } from '%s';
import { readFileSync } from 'node:fs';
const bytes = readFileSync(process.argv[2]);
const file = createFile();
const data = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
data.fileStart = 0;
file.appendBuffer(data);
file.flush();
const found = file.boxes.filter(box => box.type === 'prft');
console.log(JSON.stringify({
    timescale: file.moov.traks[0].mdia.mdhd.timescale, chunks: file.moofs.length,
    times: found.map(box => [box.ref_track_id, box.flags, box.ntp_timestamp, box.media_time].map(Number)),
}));
"""


def test_each_part_says_when_it_happened(server, whole, tmp_path):
    script = tmp_path / "prft.mjs"
    script.write_text(PRFT % players.package(*players.MP4BOX))
    for path, kind in judges.renditions(server, whole).items():
        if kind == "subtitles":
            continue
        playlist = server.http.get(judges.url(server, whole, path)).text
        zero = datetime.datetime.fromisoformat(re.search(r"#EXT-X-PROGRAM-DATE-TIME:(\S+)", playlist)[1]).timestamp()
        file = judges.joined(server, whole, path, tmp_path)
        done = subprocess.run(["node", str(script), str(file)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and not done.stderr.strip(), done.stderr
        told = json.loads(done.stdout)
        first, *_ = judges.span(file)
        # parts of a third of a second, and a picture of its own at the beginning of a segment
        assert 25 < len(told["times"]) <= told["chunks"], (path, len(told["times"]), told["chunks"])
        for track, flags, ntp, media_time in told["times"]:
            happened = (ntp / 2**32) - 2_208_988_800
            shown = media_time / told["timescale"]
            # flags: the time at which what is shown happened
            assert (track, flags) == (1, 24) and abs(happened - zero - (shown - first)) < 0.02, (path, happened - zero, shown - first)


def test_a_player_is_told_the_time(server, live):
    url = judges.url(server, live, "clock.txt")
    answer = server.http.get(url)
    assert answer.headers["cache-control"] == "no-store", answer.headers
    told = datetime.datetime.fromisoformat(answer.text)
    assert abs((datetime.datetime.now(datetime.UTC) - told).total_seconds()) < 30, told
    until(lambda: datetime.datetime.fromisoformat(server.http.get(url).text) > told, 10, "a later time")


GERMAN = "WEBVTT\n\n1\n00:01.000 --> 00:03.500\nGuten Tag\n\n2\n00:05.000 --> 00:07.000\nAuf Wiedersehen\n"

SHAKA_TEXT = """async () => {
    const [track] = player.getTextTracks();
    await player.selectTextTrack(track);
    return [track.language, track.label, track.roles];
}"""

DASH_JS_TEXT = """() => {
    const [track] = player.getTracksFor('text');
    player.enableText(true);
    player.setTextTrack(0);
    return [track.lang, track.labels[0].text, track.roles.map(role => role.value)];
}"""

CUES = "() => [...document.querySelector('video').textTracks].flatMap(track => [...(track.cues ?? [])].map(cue => [cue.startTime, cue.endTime, cue.text]))"


def joined_cues(cues):
    """Cues without markup; those that a segment's end has cut in two are one."""
    whole = []
    for start, end, text in cues:
        text = re.sub("<[^>]*>", "", text)
        if whole and whole[-1][2] == text:
            whole[-1][1] = end
        else:
            whole.append([start, end, text])
    return whole


# dash.js draws TTML itself, so that there are no cues of the browser's to be looked at.
@pytest.mark.parametrize(
    "form, player, begin, choose",
    [("webvtt", players.SHAKA, SHAKA, SHAKA_TEXT), ("webvtt", players.DASH, DASH_JS, DASH_JS_TEXT), ("imsc1", players.SHAKA, SHAKA, SHAKA_TEXT)],
    ids=["webvtt-shaka", "webvtt-dash.js", "imsc1-shaka"],
)
def test_a_player_shows_subtitles(tmp_path, publish, new_page, viewer, form, player, begin, choose):
    server = Server(tmp_path, LOOM_CAPTIONS="off", LOOM_LADDER="source", LOOM_LANGUAGES="de", LOOM_TEXT=form)
    try:
        recording = server.create("Said")
        publisher = publish(recording, seconds=11)
        until(lambda: watchable(server, recording) >= 2, 90, "two seconds to watch")
        answer = server.http.put(f"/v1/recordings/{recording['id']}/captions/de", content=GERMAN.encode())
        assert answer.status_code == 204, answer.text
        publisher.wait()
        server.until_state(recording, "ready")
        page = shown(server, new_page, viewer, players.package(*player), manifest(server, recording), begin)
        begun(page)
        language, label, roles = page.evaluate(choose)
        assert (language, label, roles) == ("de", "Deutsch", ["subtitle"])
        wanted = [(1, 3.5, "Guten Tag"), (5, 7, "Auf Wiedersehen")]

        def both():
            # those of the last segment come last, and may end another's
            found = joined_cues(page.evaluate(CUES))
            return [text for *_, text in found] == [text for *_, text in wanted] and found[-1][1] > 6.9 and found

        said = until(both, 60, "both cues")
        assert max(abs(a - b) for found, cue in zip(said, wanted) for a, b in zip(found[:2], cue[:2])) < 0.05, said
    finally:
        server.close()
