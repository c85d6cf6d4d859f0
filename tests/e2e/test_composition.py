"""Screen and camera in one picture: a green camera over a screen that flashes while it beeps, made by a server that is killed meanwhile."""

import collections
import subprocess
import time

import av
import pytest

import judges
import material
import players
from conftest import Publisher
from players import begun, played_to_the_end, shown
from s3 import S3
from server import Server, problem, until
from test_dash import SHAKA
from test_edits import edit
from test_jobs import LEAN, jobs
from test_joined import invite, media
from test_players import HLS_JS
from test_reconnect import beep_times, playlist, segments

WIDTH, HEIGHT = 854, 480  # large enough for one rung below it
CIRCLE = (round(0.145 * HEIGHT), round(0.855 * HEIGHT))  # the middle of the default camera: 3.5 % and half of 22 % from the corner
# of a camera of 4:3 and 40 % of the height at the top right
RECTANGLE = (round(WIDTH - 0.035 * HEIGHT - 0.2 * HEIGHT * 4 / 3), round(0.235 * HEIGHT))


def green():
    picture = "color=color=0x00c000:size=320x240:rate=30,format=yuv420p"
    return material.by_ffmpeg("green.h264", "-f", "lavfi", "-i", picture, "-t", "4", *material.X264, "-g", "30", "-f", "h264")


def pictures(target, *times):
    """Red, green and blue of the pictures that are seen at these times, seconds, by libav."""
    found = {}
    with av.open(target) as film:
        for frame in film.decode(video=0):
            for at in times:
                if frame.time <= at:
                    found[at] = frame
    return [found[at].to_ndarray(format="rgb24") for at in times]


def is_green(picture, place):
    x, y = place
    red, light, blue = picture[y - 3 : y + 3, x - 3 : x + 3].reshape(-1, 3).mean(axis=0)
    return light > 120 and red < 80 and blue < 80


def is_grey(picture, place):
    """The screen's own: black, or white in a flash."""
    x, y = place
    colours = picture[y - 3 : y + 3, x - 3 : x + 3].reshape(-1, 3).mean(axis=0)
    return colours.max() - colours.min() < 25


def probed(target):
    """What ffprobe says of each stream, and how long the file is."""
    with av.open(target) as film:
        return sorted(stream.codec_context.name for stream in film.streams), judges.end(target)


def made(server, recording):
    """The job, once it is done."""

    def done():
        job = jobs(server, recording)["composition"]
        assert job["state"] != "parked", job
        return job if job["state"] == "done" else None

    return until(done, 180, "the composition")


def check(server, recording, moved, late):
    """A film of both, as long as the recording and in step. Gives a picture of before and of after the camera moves, and of between."""
    recording = server.show(recording)
    film = f"{server.base}/v1/recordings/{recording['id']}/composition.mp4"
    judges.decode(film)
    kinds, length = probed(film)
    assert kinds == ["aac", "h264"], kinds
    assert abs(length - recording["duration"]) < 0.07, (length, recording["duration"])
    assert f"h264,{WIDTH},{HEIGHT}" in judges.streams(film)
    in_step(server, recording, film, film)
    # its sound is the recording's, and so is what is told of how loud that is
    heard, told = [loudness(film, later) for later in (0, 20, 50, 80)], recording["loudness"]["integrated"]
    assert min(heard) - 0.3 < told < max(heard) + 0.3, (heard, told)
    return pictures(film, moved - 0.6, moved + 0.1, late)


def loudness(film, later):
    """In LUFS, heard later by so many ms: a beep fills its blocks (BS.1770: 400 ms, each 100 ms) by how it lies to them, which tells 1.1 LU."""
    heard = ["ffmpeg", "-nostdin", "-i", film, "-af", f"adelay={later}:all=1,ebur128", "-f", "null", "-"]
    said = subprocess.run(heard, capture_output=True, text=True, timeout=120)
    return float(said.stderr.rsplit("I:", 1)[1].split()[0])


def in_step(server, recording, seen, heard):
    """Each flash and each beep lies where it does in the recording; where that was paused is no measure."""
    of = lambda path: judges.url(server, recording, path)  # noqa: E731
    cuts = [at for at, _, _, broken in segments(playlist(server, recording, "source/index.m3u8")) if broken]
    whole = lambda times: [at for at in times if all(abs(at - cut) > 1 for cut in cuts)]  # noqa: E731
    for times, made, own in ((judges.flash_times, seen, of("source/index.m3u8")), (beep_times, heard, of("aac/index.m3u8"))):
        was, now = whole(times(own)), whole(times(made))  # those that a starved publisher broke are there too
        moved = judges.sync_offsets(now, was)
        print("later than in the recording by", [round(it, 3) for it in moved])
        assert len(moved) == len(was) == len(now) >= 3 and max(map(abs, moved)) <= 0.020, (now, was)


def check_stream(server, recording):
    """Its renditions have the recording's segments, all decode, and are in step. The multivariant playlist's."""
    made = recording["composition"]
    assert recording["composition_hls_url"].endswith(f"/hls/{made['playlist']}")
    main = playlist(server, recording, made["playlist"])
    named = judges.named(main)
    composed = [path for path, kind in named.items() if kind == "video"]
    assert sorted(composed) == sorted(f"{it['id']}/index.m3u8" for it in made["renditions"]), main
    heard = lambda text: {path: kind for path, kind in judges.named(text).items() if kind != "video"}  # noqa: E731
    assert heard(main) == heard(playlist(server, recording, "main.m3u8")) and "aac/index.m3u8" in heard(main), main
    sizes = [(it["width"], it["height"]) for it in made["renditions"]]
    assert sizes == [(WIDTH, HEIGHT), (640, 360)], sizes
    for size in sizes:
        assert f"RESOLUTION={size[0]}x{size[1]}," in main, main
    head = lambda text: [line for line in text.split("#EXTINF")[0].splitlines() if line.startswith(("#EXT-X-TARGET", "#EXT-X-MEDIA-SEQ"))]  # noqa: E731
    screen = playlist(server, recording, "source/index.m3u8")
    own = segments(screen)
    assert any(broken for *_, broken in own), "it was paused"
    dates = lambda text: [line for line in text.splitlines() if line.startswith("#EXT-X-PROGRAM-DATE-TIME")]  # noqa: E731
    for path in composed:
        text = playlist(server, recording, path)
        assert "#EXT-X-ENDLIST" in text and head(text) == head(screen), (head(text), head(screen))
        listed = segments(text)
        assert len(listed) == len(own) and [it[3] for it in listed] == [it[3] for it in own], (listed, own)
        apart = [abs(here[0] - there[0]) for here, there in zip(listed, own)]
        assert max(apart) < 0.050, apart
        assert len(dates(text)) == len(dates(screen)) and dates(text)[0][:-3] == dates(screen)[0][:-3], (dates(text), dates(screen))
        judges.decode(judges.url(server, recording, path))
        in_step(server, recording, judges.url(server, recording, path), judges.url(server, recording, "aac/index.m3u8"))
    return main


@pytest.fixture(scope="module")
def stored():
    s3 = S3()
    yield s3
    s3.close()


@pytest.fixture(scope="module")
def kept(tmp_path_factory, stored):
    """A server, killed once while it made this, and a recording of a screen and a camera that was paused, with both in one picture."""
    folder = tmp_path_factory.mktemp("composition")
    settings = {"LOOM_CAPTIONS": "off", **stored.environment}
    server = Server(folder, **settings)
    running = []
    try:
        recording = server.create("Screen and camera")
        url = f"/v1/recordings/{recording['id']}/composition"
        camera = invite(server, recording, "camera")
        running.append(Publisher(recording, "h264", material.flashes(keys=30, size=f"{WIDTH}x{HEIGHT}"), 30, material.beeps()))
        running.append(Publisher(camera, "h264", green(), 30, material.beeps()))
        early = server.http.put(url)
        assert early.status_code == 409 and "ready" in problem(early), early.text
        until(lambda: media(server, recording, "video-2") > 6, 60, "the camera's picture")
        assert server.http.post(f"/v1/recordings/{recording['id']}/pause").is_success
        at = server.show(recording)["duration"]
        time.sleep(2)
        assert server.http.post(f"/v1/recordings/{recording['id']}/resume").is_success
        until(lambda: server.show(recording)["duration"] > at + 4, 60, "it to go on")
        running[0].end()
        recording = server.until_state(recording, "ready")
        assert recording["composition_url"].endswith("composition.mp4") and "composition_hls_url" not in recording
        nothing = server.http.get(f"{url}.mp4")
        assert nothing.status_code == 404 and "PUT" in problem(nothing), nothing.text
        wrong = server.http.put(url, json={"placements": [{"size": 7}]})
        assert wrong.status_code == 400 and "placements[0].size is 7: a size is 0.05 to 1" in problem(wrong), wrong.text
        marked = server.http.post(f"/v1/recordings/{recording['id']}/chapters", json={"title": "Second", "at": 3.0})
        assert marked.is_success, marked.text

        begins = judges.span(judges.url(server, recording, "video-2/index.m3u8"))[0]
        moves = begins + 3.0
        moved = {"placements": [{}, {"at": moves, "shape": "rectangle", "place": "top-right", "size": 0.4}]}
        asked = server.http.put(url, json=moved)
        assert asked.status_code == 202 and asked.json()["job"] == "composition", asked.text

        def runs():
            job = jobs(server, recording)["composition"]
            assert job["state"] in ("queued", "running"), f"it was too quick: {job}"
            return job["state"] == "running"

        until(runs, 60, "the composition to be begun", every=0.002)
        server.process.kill()
        server.process.wait()
        server.close()
        root = folder / "data" / "recordings" / recording["id"]
        assert not list(root.glob("hls/composition*")), "it was killed too late"

        server = Server(folder, **settings)
        assert made(server, recording)["tries"] == 2
        yield server, recording["id"], root, moves, moved
    finally:
        for publisher in running:
            publisher.end()
        server.close()


def test_a_camera_lies_over_the_screen_where_it_is_wanted_though_the_server_was_killed_meanwhile(kept):
    server, name, root, moves, moved = kept
    recording = server.show({"id": name})
    before, between, after = check(server, recording, moves, moves + 2)
    assert is_green(before, CIRCLE) and is_grey(before, RECTANGLE)
    assert is_grey(after, CIRCLE) and is_green(after, RECTANGLE)
    assert is_grey(between, RECTANGLE), "it glides there"
    # a circle shows the screen where a square's corner would be
    corner = (round(0.035 * HEIGHT) + 4, round(0.965 * HEIGHT) - 4)
    assert is_grey(before, corner) and is_grey(before, (WIDTH // 2, HEIGHT // 2))
    url = f"/v1/recordings/{name}/composition"
    part = server.http.get(f"{url}.mp4", headers={"range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp"), part.content
    assert "Screen and camera.mp4" in part.headers["content-disposition"]
    assert not list(root.glob("composition-*")) and not (root / "chunks").exists(), "nothing is left of the work"
    # the same again is there already
    before = {path: path.stat().st_mtime_ns for path in root.glob("hls/composition*/*")}
    assert server.http.put(url, json=moved).status_code == 202
    made(server, recording)
    assert {path: path.stat().st_mtime_ns for path in root.glob("hls/composition*/*")} == before


def test_it_is_a_stream_with_a_ladder_beside_the_recordings_own(kept, chromium, new_page):
    server, name, *_ = kept
    recording = server.show({"id": name})
    main = check_stream(server, recording)
    assert "chapters.json" in main, main
    # the recording's own is as it was
    own = judges.named(playlist(server, recording, "main.m3u8"))
    assert not any("composition" in path for path in own), own
    for path in own:
        judges.decode(judges.url(server, recording, path))
    page = shown(server, new_page, chromium(), players.HLS, judges.url(server, recording, recording["composition"]["playlist"]), HLS_JS)
    begun(page)
    until(lambda: page.evaluate("() => document.querySelector('video').ended"), 90, "hls.js to play to the end")
    told = page.evaluate("() => ({...told, duration: document.querySelector('video').duration})")
    assert not told["errors"] and abs(told["duration"] - recording["duration"]) < 0.2, told
    # its thumbnails show the camera
    track = playlist(server, recording, recording["composition"]["thumbnails"])
    sheet = track.split("-->")[1].split("\n")[1].split("#")[0]
    picture = server.http.get(judges.url(server, recording, sheet))
    assert picture.headers["content-type"] == "image/jpeg", picture.headers
    (colours,) = pictures(judges.url(server, recording, sheet), 0)
    light, red = colours[..., 1].astype(int), colours[..., 0].astype(int)
    assert ((light > 120) & (red < 80)).sum() > 20, "no green on the sheet"
    # where a viewer asks for a part of it
    part = server.http.get(judges.url(server, recording, f"{recording['composition']['playlist']}?from=2&to=4"))
    assert part.status_code == 200 and "from=2" in part.text, part.text


def test_players_of_gstreamer_and_dash_play_it_too(kept, chromium, new_page):
    server, name, *_ = kept
    recording = server.show({"id": name})
    main = judges.url(server, recording, recording["composition"]["playlist"])
    command = ["gst-launch-1.0", "-q", "playbin3", f"uri={main}", "video-sink=fakesink", "audio-sink=fakesink"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "ERROR" not in done.stderr, done.stderr
    manifest = judges.url(server, recording, recording["composition"]["manifest"])
    assert server.http.get(manifest).headers["content-type"] == "application/dash+xml"
    assert judges.streams(manifest) == ["aac", "h264,640,360", f"h264,{WIDTH},{HEIGHT}", "opus"], judges.streams(manifest)
    text = server.http.get(manifest).text
    assert text.count("<Period ") == 2 and 'contentType="image"' in text, text
    page = shown(server, new_page, chromium(), players.package(*players.SHAKA), manifest, SHAKA)
    begun(page)
    played_to_the_end(page, recording)


def test_an_edit_has_its_own_which_the_page_makes_saves_and_plays(kept, chromium, new_page):
    server, name, _, moves, _ = kept
    (cut,) = edit(server, {"id": name}, keep=[[0.0, moves - 0.5]])
    assert "composition" not in cut
    page = new_page(chromium())
    page.goto(cut["watch_url"])
    with page.expect_download() as saved:
        page.get_by_test_id("compose").click()
    assert saved.value.suggested_filename == "Screen and camera.mp4"
    kinds, length = probed(saved.value.path())
    assert kinds == ["aac", "h264"] and abs(length - cut["duration"]) < 0.07, (kinds, length, cut)
    (seen,) = pictures(str(saved.value.path()), moves - 1.5)
    assert is_green(seen, CIRCLE)
    page.get_by_test_id("with-camera").click()
    page.wait_for_url("**/*with=camera")
    page.locator('main[data-state="ready"]').wait_for()
    page.evaluate("() => { const video = document.querySelector('video'); video.muted = true; video.play(); }")
    until(lambda: page.evaluate("() => document.querySelector('video').currentTime > 1"), 60, "the page to play it")
    loaded = page.evaluate("() => performance.getEntriesByType('resource').map((it) => it.name)")
    assert any("/hls/composition-" in it for it in loaded), loaded


def test_another_layout_takes_its_place_in_the_store_too_and_comes_back_from_there(kept, stored, tmp_path):
    server, name, root, moves, moved = kept
    recording = server.show({"id": name})
    until(lambda: jobs(server, recording)["upload"]["state"] == "done", 60, "all to be sent")
    keys = lambda: {key for key in stored.keys() if f"{name}/hls/composition-" in key}  # noqa: E731
    first = keys()
    assert any(key.endswith("/s1.m4s") for key in first), first
    assert server.http.put(f"/v1/recordings/{name}/composition").status_code == 202
    made(server, recording)
    before, _, after = check(server, recording, moves, moves + 2)
    assert is_green(before, CIRCLE) and is_green(after, CIRCLE) and is_grey(after, RECTANGLE)
    until(lambda: jobs(server, recording)["upload"]["state"] == "done", 60, "the other to be sent")
    second = keys()
    assert second and not second & first, "the first is gone"
    sent = collections.Counter(key for key, _ in stored.stored if f"{name}/hls/composition-" in key and key.endswith(".m4s"))
    assert max(sent.values()) == 1, "nothing is sent twice"
    # the layout of before, made again, has names of its own: those it had may be in a cache for good
    assert server.http.put(f"/v1/recordings/{name}/composition", json=moved).status_code == 202
    made(server, recording)
    until(lambda: jobs(server, recording)["upload"]["state"] == "done", 60, "the first to be sent again")
    assert keys() and not keys() & (first | second)
    # on another disk all of it is there
    other = Server(tmp_path, LOOM_CAPTIONS="off", **stored.environment)
    try:
        there = other.show({"id": name})
        assert there["composition"] == server.show({"id": name})["composition"]
        check_stream(other, there)
        check(other, there, moves, moves + 2)
    finally:
        other.close()
    assert server.http.delete(f"/v1/recordings/{name}").status_code == 204
    assert not root.exists() and not keys()


def test_a_recording_of_one_picture_has_no_composition(tmp_path):
    server = Server(tmp_path, LOOM_CAPTIONS="off", **LEAN)
    try:
        recording = server.create("One picture")
        picture = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=15,format=yuv420p", "-t", "2"]
        film = material.by_ffmpeg("one-picture.mp4", *picture, *material.X264, "-g", "30")
        assert server.upload(recording, film.read_bytes(), "video/mp4").is_success
        ready = server.until_state(recording, "ready")
        assert "composition_url" not in ready
        refused = server.http.put(f"/v1/recordings/{recording['id']}/composition")
        assert refused.status_code == 409 and "no camera" in problem(refused), refused.text
    finally:
        server.close()
