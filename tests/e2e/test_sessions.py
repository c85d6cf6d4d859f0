"""What a publisher's sessions and tracks may do while a recording goes on: another offer that comes to nothing, a return in another
codec, a mute, another size; and a server that is killed while a publisher is away. What is left plays.
"""

import pathlib
import re
import time

import pytest

import judges
from server import ROOT, Server, until

# Publishes a canvas and a tone, and keeps what the page's next words need.
BEGIN = """async ({url, token, codec, width, height}) => {
    const canvas = Object.assign(document.createElement('canvas'), {width, height});
    document.body.append(canvas);
    const pen = canvas.getContext('2d');
    let count = 0;
    setInterval(() => {
        pen.fillStyle = 'rgb(0,120,0)';
        pen.fillRect(0, 0, canvas.width, canvas.height);
        pen.fillStyle = 'white';
        pen.fillRect((count++ * 8) % canvas.width, canvas.height / 2, 16, 16);
    }, 50);
    const sound = new AudioContext();
    await sound.resume();
    const source = new OscillatorNode(sound, {frequency: 440});
    const out = sound.createMediaStreamDestination();
    source.connect(out);
    source.start();
    const picture = canvas.captureStream(20);
    picture.getTracks()[0].contentHint = 'detail';
    const tracks = [picture, out.stream].map((stream) => ({track: stream.getTracks()[0], stream}));
    const session = await whip.publish({url, token, codec, tracks});
    Object.assign(globalThis, {canvas, picture, session});
    return session.peer ? 'connected' : session;
}"""


def pieces(server, recording, path, folder):
    """A rendition as files that each have one init segment: ffmpeg's HLS reader decodes no change of format."""
    base, files, run, gap = path.rsplit("/", 1)[0], [], [], False
    fetch = lambda name: server.http.get(judges.url(server, recording, f"{base}/{name}")).content  # noqa: E731
    for line in server.http.get(judges.url(server, recording, path)).text.splitlines():
        if init := re.match(r'#EXT-X-MAP:URI="([^"]+)"', line):
            run = [fetch(init[1])]
            files.append(run)
        gap |= line == "#EXT-X-GAP"
        if line and not line.startswith("#"):
            if not gap:
                run.append(fetch(line))
            gap = False
    for number, run in enumerate(files):
        if len(run) > 1:
            file = folder / f"{base}-{number}.mp4"
            file.write_bytes(b"".join(run))
            yield file


def check_pieces(server, ready, folder):
    """Every piece of every rendition decodes without a complaint; {path: seconds of media}."""
    seconds = {}
    for path, kind in judges.renditions(server, ready).items():
        assert "#EXT-X-ENDLIST" in server.http.get(judges.url(server, ready, path)).text
        for file in pieces(server, ready, path, folder) if kind != "subtitles" else ():
            judges.decode(file)
            start, stop, _ = judges.span(file)
            seconds[path] = seconds.get(path, 0.0) + stop - start
    assert seconds
    print(seconds)
    return seconds


def stray_offer():
    """An offer of a browser that nobody runs."""
    return (ROOT / "crates" / "loom-ingest" / "testdata" / "offers" / "chromium.sdp").read_text()


def test_another_offer_that_comes_to_nothing_leaves_the_recording_to_its_publisher(server, publish, growing):
    recording = server.create("A stray offer")
    publisher = publish(recording)
    # Offered as soon as the first is, so before any of its media is here.
    until(lambda: server.show(recording)["state"] == "live", 60, "the first session", every=0.005)
    stray = server.publish(recording, stray_offer())
    assert stray.status_code == 201, stray.text
    growing(recording, 3)
    # It waits to take over: to end it ends nothing else.
    session = stray.headers["location"]
    ended = server.http.delete(session, headers={"authorization": f"Bearer {recording['whip_token']}"})
    assert ended.is_success, ended.text
    growing(recording, 6)
    assert server.show(recording)["state"] == "live"
    publisher.end()
    ready = server.until_state(recording, "ready")
    assert not ready.get("reason") and not ready.get("gaps"), ready
    judges.check_finished(server, ready)


@pytest.mark.slow
def test_a_publisher_may_come_back_in_another_codec(server, publish, growing, tmp_path):
    recording = server.create("Another codec")
    first = publish(recording, codec="h264")
    growing(recording, 4)
    first.vanish()
    second = publish(recording, codec="vp8")
    until(lambda: server.show(recording).get("gaps"), 60, "the second session to be taken in")
    back = server.show(recording)["gaps"][0]["to"]
    growing(recording, back + 4)
    second.vanish()
    third = publish(recording, codec="h264")
    until(lambda: len(server.show(recording).get("gaps", [])) == 2, 60, "the third session to be taken in")
    growing(recording, server.show(recording)["gaps"][1]["to"] + 3)
    third.end()
    ready = server.until_state(recording, "ready")
    assert not ready.get("reason"), ready
    seconds = check_pieces(server, ready, tmp_path)
    away = sum(gap["to"] - gap["from"] for gap in ready["gaps"])
    top = "source/index.m3u8"
    assert seconds[top] > ready["duration"] - away - 2, (seconds, ready)
    assert server.http.get(judges.url(server, ready, top)).text.count("#EXT-X-MAP") >= 3


@pytest.mark.parametrize("codec", ["h264", pytest.param("vp8", marks=pytest.mark.slow)])
def test_a_mute_and_another_size_are_told_and_recorded(server, recorder, publishing_page, growing, tmp_path, codec):
    recording = server.create("Muted, turned")
    events = server.events(recording)
    page = publishing_page(recorder)
    asked = {"url": recording["whip_url"], "token": recording["whip_token"], "codec": codec, "width": 640, "height": 360}
    assert page.evaluate(BEGIN, asked) == "connected"
    growing(recording, 2)
    seen = lambda: [data["tracks"] for name, data in events if name == "tracks"]  # noqa: E731
    states = lambda kind: [track["state"] for tracks in seen() for track in tracks if track["kind"] == kind]  # noqa: E731
    sender = "session.peer.getSenders().find((it) => it === globalThis.muted || it.track?.kind === 'video')"
    page.evaluate(f"async () => {{ globalThis.muted = {sender}; await muted.replaceTrack(null); }}")
    until(lambda: "paused" in states("video"), 30, "the pause to be told")
    assert "paused" not in states("audio")
    assert server.show(recording)["state"] == "live"
    page.evaluate("async () => { await muted.replaceTrack(picture.getTracks()[0]); }")
    until(lambda: states("video")[-1] == "running", 30, "the picture to go on")
    page.evaluate("() => Object.assign(canvas, {width: 360, height: 640})")
    size = lambda track: (track["width"], track["height"])  # noqa: E731
    turned = lambda: size(next(track for track in seen()[-1] if track["kind"] == "video")) == (360, 640)  # noqa: E731
    until(turned, 30, "the other size to be told")
    time.sleep(3)
    page.evaluate("() => whip.end(session)")
    ready = server.until_state(recording, "ready")
    assert not ready.get("reason") and not ready.get("gaps"), ready
    seconds = check_pieces(server, ready, tmp_path)
    assert all(length > ready["duration"] - 5 for length in seconds.values()), (seconds, ready)
    if codec == "h264":
        sizes = {size for file in pieces(server, ready, "source/index.m3u8", tmp_path) for size in judges.streams(file)}
        assert sizes == {"h264,640,360", "h264,360,640"}


def test_a_publisher_that_mutes_all_it_sends_stays(server, recorder, publishing_page, growing, tmp_path):
    recording = server.create("All muted")
    events = server.events(recording)
    page = publishing_page(recorder)
    asked = {"url": recording["whip_url"], "token": recording["whip_token"], "codec": "h264", "width": 640, "height": 360}
    assert page.evaluate(BEGIN, asked) == "connected"
    growing(recording, 3)
    seen = lambda: [data["tracks"] for name, data in events if name == "tracks"][-1]  # noqa: E731
    states = lambda: {track["state"] for track in seen()}  # noqa: E731
    page.evaluate("""async () => {
        globalThis.muted = session.peer.getSenders().filter((it) => it.track).map((it) => [it, it.track]);
        for (const [sender] of muted) await sender.replaceTrack(null);
    }""")
    until(lambda: states() == {"paused"}, 30, "the pause of all to be told")
    time.sleep(12)
    assert server.show(recording)["state"] == "live"
    page.evaluate("async () => { for (const [sender, track] of muted) await sender.replaceTrack(track); }")
    until(lambda: states() == {"running"}, 30, "all to go on")
    time.sleep(4)
    page.evaluate("() => whip.end(session)")
    ready = server.until_state(recording, "ready")
    print(ready)
    assert not ready.get("reason"), ready
    assert ready["duration"] > 18, ready
    assert not [data for name, data in events if name == "state" and data.get("state") == "reconnecting"], events
    check_pieces(server, ready, tmp_path)


def test_a_server_that_is_killed_while_a_publisher_is_away_keeps_no_gap_at_the_end(tmp_path, publish):
    def listed(server, recording):
        answer = server.http.get(judges.url(server, recording, "source/index.m3u8"))
        return answer.text if answer.status_code == 200 else ""

    server = Server(tmp_path, LOOM_CAPTIONS="off")
    try:
        recording = server.create("Killed meanwhile")
        publisher = publish(recording)
        until(lambda: listed(server, recording).count("#EXTINF") >= 3, 60, "some segments")
        publisher.vanish()
        server.until_state(recording, "reconnecting", seconds=60)
        stored = pathlib.Path(tmp_path / "data" / "recordings" / recording["id"] / "hls" / "source" / "index.m3u8")
        until(lambda: stored.read_text().count("#EXT-X-GAP") >= 2, 60, "the absence to be listed")
        server.process.kill()
        server.process.wait()
        server.close()
        server = Server(tmp_path, LOOM_CAPTIONS="off")
        ready = server.until_state(recording, "ready")
        assert "cut off" in ready["reason"], ready
        for path in judges.renditions(server, ready):
            text = server.http.get(judges.url(server, ready, path)).text
            assert not re.search(r"#EXT-X-GAP\n#EXTINF:(?!0\.0)\S+\n\S+\n#EXT-X-ENDLIST", text), text
        judges.check_finished(server, ready)
    finally:
        server.close()


def test_a_ladder_has_the_room_that_others_leave(tmp_path, publish):
    own = Server(tmp_path, LOOM_CAPTIONS="off", LOOM_LIVE_CORES="0.2")
    rungs = lambda recording: [it["id"] for it in own.show(recording)["renditions"] if it["kind"] == "video" and it["id"] != "source"]
    planned = lambda: float(re.search(r"^loom_live_planned_cores (\S+)", own.http.get("/metrics").text, re.M)[1])
    try:
        first, second, third = (own.create(title) for title in ("It has room", "It has none", "It has it again"))
        begun = lambda recording: until(lambda: own.show(recording)["renditions"], 60, "a recording to begin")
        publisher = publish(first)
        begun(first)
        assert rungs(first) and 0 < planned() <= 0.2
        before = planned()
        publish(second)
        begun(second)
        assert not rungs(second) and planned() == before
        publisher.end()
        own.stop(first)
        until(lambda: planned() == 0, 30, "the first ladder to end")
        publish(third)
        begun(third)
        assert rungs(third) == rungs(first)
        for recording in (second, third):
            own.stop(recording)
            judges.check_finished(own, own.until_state(recording, "ready"))
    finally:
        own.close()
