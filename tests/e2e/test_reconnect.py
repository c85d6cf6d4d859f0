"""A publisher that dies and comes back, again and again: one recording, one timeline, and gaps that are declared."""

import contextlib
import re
import subprocess

import av
import numpy
import playwright.sync_api
import pytest

import judges
import material
from conftest import watchable
from server import Server, until

TAKES = 10


def playlist(server, recording, path):
    return server.http.get(judges.url(server, recording, path)).text


def segments(text):
    """(start, length, is it a gap, does it follow a discontinuity) of each segment."""
    at, found, gap, broken = 0.0, [], False, False
    for line in text.splitlines():
        gap |= line == "#EXT-X-GAP"
        broken |= line == "#EXT-X-DISCONTINUITY"
        if length := re.match(r"#EXTINF:([\d.]+)", line):
            found.append((at, float(length[1]), gap, broken))
            at, gap, broken = at + float(length[1]), False, False
    return found


def packet_times(target):
    """The decode times of every packet, as ffprobe reads the playlist."""
    command = ["ffprobe", "-v", "error", "-show_entries", "packet=dts_time", "-of", "csv=p=0", target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr.strip(), f"ffprobe on {target}: {done.stderr}"
    return [float(line.strip(",")) for line in done.stdout.split()]


def beep_times(target, whole=False):
    """When a tone begins, by libav: each frame counts from its own time, for there are gaps between. `whole`: only of those of which all is
    there, for what is cut off may have lost its beginning."""
    tones = []
    with av.open(target) as sound:
        for frame in sound.decode(audio=0):
            samples = numpy.abs(frame.to_ndarray()[0])
            for index in numpy.flatnonzero(samples > 0.1)[:: max(1, frame.sample_rate // 1000)]:
                at = frame.time + float(index) / frame.sample_rate
                if not tones or at - tones[-1][1] > 0.3:
                    tones.append([at, at])
                tones[-1][1] = at
    return [begin for begin, end in tones if not whole or end - begin > 0.09]


def published(server, recording, publish, times):
    """Publishes so often, each time but the last killed without a word; the ready recording."""
    for take in range(times):
        publisher = publish(recording, video=material.flashes(), rate=30, audio=material.beeps())
        before = watchable(server, recording) if take else 0.0
        gaps = take
        until(lambda: len(server.show(recording).get("gaps", [])) >= gaps, 60, f"take {take} to be taken in")
        start = max(before, server.show(recording)["gaps"][-1]["to"] if take else 0.0)
        until(lambda: watchable(server, recording) > start + 1.5, 90, f"take {take} to be seen")
        if take + 1 == times:
            publisher.end()
        else:
            publisher.vanish()
            # Now and then long enough that its absence is noticed before it is back.
            if take % 4 == 1:
                server.until_state(recording, "reconnecting", seconds=30)
    return server.until_state(recording, "ready")


def check_timeline(server, ready):
    """Every rendition's times climb, nothing lies in a gap, and all have the same segments; those of the first."""
    listed = {}
    for path, kind in judges.renditions(server, ready).items():
        text = playlist(server, ready, path)
        assert "#EXT-X-ENDLIST" in text
        listed[path] = segments(text)
        if kind == "subtitles":
            continue
        times = packet_times(judges.url(server, ready, path))
        assert all(here < there for here, there in zip(times, times[1:])), f"{path}: the timeline goes back"
        for gap in ready["gaps"]:
            inside = [at for at in times if gap["from"] + 0.1 < at < gap["to"] - 0.1]
            assert not inside, f"{path}: {inside} lie in {gap}"
    first = next(iter(listed.values()))
    for path, other in listed.items():
        assert len(other) == len(first), path
        assert all(abs(here[0] - there[0]) < 0.1 for here, there in zip(first, other)), f"{path}: boundaries differ"
        assert [segment[3] for segment in other] == [segment[3] for segment in first], f"{path}: discontinuities"
        if not path.startswith("captions/"):
            # What an encoder still held when its publisher died is missing: less than a fifth of a second.
            differ = [(here, there) for here, there in zip(first, other) if here[1] > 0.2 and here[2] != there[2]]
            assert not differ, f"{path}: {differ} are gaps in one alone, of {ready['gaps']}"
    return first


def plays_to_its_end(page, ready, end):
    """hls.js, in Chromium, plays the recording from its beginning to `end`, seconds."""
    page.goto(ready["watch_url"])
    page.locator('main[data-state="ready"]').wait_for()
    video = "document.querySelector('video')"
    until(lambda: page.evaluate(f"() => {video}.readyState >= 2"), 60, "the first picture")
    page.evaluate(f"() => {{ {video}.muted = true; {video}.playbackRate = 3; {video}.play(); }}")
    now = lambda: page.evaluate(f"() => {video}.currentTime")  # noqa: E731
    until(lambda: page.evaluate(f"() => {video}.ended") or now() >= end - 0.5, 180, "hls.js to play to the end")
    assert not page.get_by_test_id("veil").is_visible()


# Publishes camera and microphone, and keeps the session where the page's next words find it.
BEGIN = """async ({url, token}) => {
    const media = await navigator.mediaDevices.getUserMedia({audio: true, video: {width: 640, height: 360}});
    media.getVideoTracks()[0].contentHint = 'detail';
    const tracks = media.getTracks().map((track) => ({track, stream: media}));
    globalThis.session = await whip.publish({url, token, codec: 'h264', tracks});
    return session.peer ? 'connected' : session;
}"""


@pytest.mark.slow
def test_ten_ice_restarts_and_ten_reconnects_make_one_recording_that_plays_to_its_end(
    server, recorder, publishing_page, chromium, new_page
):
    recording = server.create("Ten restarts, ten returns")
    events = server.events(recording)
    asked = {"url": recording["whip_url"], "token": recording["whip_token"]}
    fragments = []
    for take in range(TAKES + 1):
        page = publishing_page(recorder)
        before = watchable(server, recording) if take else 0.0
        assert page.evaluate(BEGIN, asked) == "connected"
        gaps = take
        until(lambda: len(server.show(recording).get("gaps", [])) >= gaps, 60, f"take {take} to be taken in")
        start = max(before, server.show(recording)["gaps"][-1]["to"] if take else 0.0)
        until(lambda: watchable(server, recording) > start + 1, 90, f"take {take} to be seen")
        if take == TAKES:
            page.evaluate("() => whip.end(session)")
            break
        fragments.append(page.evaluate("() => whip.restart(session)"))
        restarted = watchable(server, recording)
        until(lambda: watchable(server, recording) > restarted + 1, 90, f"take {take} to go on behind its restart")
        with pytest.raises(playwright.sync_api.Error):
            page.goto("chrome://crash")  # says goodbye to nobody
    assert len(fragments) == TAKES and all(before != after for before, after in fragments), fragments
    ready = server.until_state(recording, "ready")
    assert not ready.get("reason"), ready
    gaps = ready["gaps"]
    assert len(gaps) == TAKES, gaps
    edges = [edge for gap in gaps for edge in (gap["from"], gap["to"])]
    assert edges == sorted(edges), gaps
    until(lambda: ("end", {}) in events, 30, "the last event")
    assert sum(name == "gap" for name, _ in events) == TAKES
    first = check_timeline(server, ready)
    assert sum(segment[3] for segment in first) == TAKES
    assert any(segment[2] for segment in first), "no gap is declared"
    # A restart costs nothing: between two absences there is no hole.
    picture = next(path for path, kind in judges.renditions(server, ready).items() if path.startswith("source"))
    times = packet_times(judges.url(server, ready, picture))
    holes = [(here, there) for here, there in zip(times, times[1:]) if there - here > 0.7]
    away = [(gap["from"], gap["to"]) for gap in gaps]
    assert all(any(start - 0.3 <= here and there <= end + 0.3 for start, end in away) for here, there in holes), (holes, away)
    plays_to_its_end(new_page(chromium()), ready, sum(segment[1] for segment in first))


@pytest.mark.slow
def test_ten_deaths_and_returns_make_one_recording_that_plays_to_its_end(server, publish, chromium, new_page):
    recording = server.create("Ten lives")
    events = server.events(recording)
    ready = published(server, recording, publish, TAKES)
    assert not ready.get("reason"), ready
    gaps = ready["gaps"]
    assert len(gaps) == TAKES - 1, gaps
    edges = [edge for gap in gaps for edge in (gap["from"], gap["to"])]
    assert edges == sorted(edges), gaps
    until(lambda: ("end", {}) in events, 30, "the last event")
    states = [data["state"] for name, data in events if name == "state"]
    assert "reconnecting" in states and states[-1] == "ready", states
    assert sum(name == "gap" for name, _ in events) == TAKES - 1

    first = check_timeline(server, ready)
    assert sum(segment[3] for segment in first) == TAKES - 1
    assert any(segment[2] for segment in first), "no gap is declared"

    # In step after ten returns as before the first.
    kinds = judges.renditions(server, ready)
    sound = "aac/index.m3u8"
    picture = next(path for path, kind in kinds.items() if kind == "video")
    flashes, beeps = (times(judges.url(server, ready, path)) for times, path in ((judges.flash_times, picture), (beep_times, sound)))
    offsets = judges.sync_offsets(flashes, beeps)
    print([round(offset * 1000) for offset in offsets], "ms")
    assert len(offsets) >= TAKES and sorted(map(abs, offsets))[len(offsets) * 9 // 10] <= 0.060, offsets

    plays_to_its_end(new_page(chromium()), ready, sum(segment[1] for segment in first))


def test_a_publisher_who_does_not_come_back_leaves_what_there_is_while_another_goes_on(tmp_path, publish):
    with contextlib.closing(Server(tmp_path, LOOM_RECONNECT="5", LOOM_CAPTIONS="off")) as server:
        recording, other = server.create("Gone for good"), server.create("Goes on")
        publisher, staying = publish(recording), publish(other, "vp8")
        until(lambda: min(watchable(server, it) for it in (recording, other)) >= 3, 120, "3 s of both to watch")
        publisher.vanish()
        waiting = server.until_state(recording, "reconnecting", seconds=60)
        assert "reason" not in waiting
        ready = server.until_state(recording, "ready", seconds=60)
        assert "nobody came back" in ready["reason"], ready
        assert not ready.get("gaps")
        assert server.show(other)["state"] == "live"
        before = watchable(server, other)
        until(lambda: watchable(server, other) > before + 3, 60, "the other recording to grow")
        staying.end()
        judges.check_finished(server, server.until_state(other, "ready"))
        judges.check_finished(server, ready)
        for path in judges.renditions(server, ready):
            # what an encoder held when its publisher died may be missing of a last segment as short
            text = playlist(server, ready, path)
            gaps = [float(it) for it in re.findall(r"#EXT-X-GAP\n#EXTINF:([0-9.]+)", text)]
            assert sum(gaps) < 0.1, text


def test_a_recording_can_be_stopped_while_its_publisher_is_away(server, publish, growing):
    recording = server.create("Stopped meanwhile")
    publisher = publish(recording)
    growing(recording, 3)
    publisher.vanish()
    server.until_state(recording, "reconnecting", seconds=60)
    server.stop(recording)
    ready = server.until_state(recording, "ready")
    assert not ready.get("reason"), ready
    judges.check_finished(server, ready)
