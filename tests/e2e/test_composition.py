"""Screen and camera in one picture: a green camera over a screen that flashes while it beeps, made by a server that is killed meanwhile."""

import collections

import av
import pytest

import judges
import material
from s3 import S3
from server import Server, problem, until
from test_edits import edit
from test_jobs import LEAN, jobs
from test_joined import invite, media
from test_reconnect import beep_times

WIDTH, HEIGHT = 640, 360
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

    return until(done, 60, "the composition")


def check(server, recording, moved, late):
    """A film of both, as long as the recording and in step. Gives a picture of before and of after the camera moves, and of between."""
    film = f"{server.base}/v1/recordings/{recording['id']}/composition.mp4"
    judges.decode(film)
    kinds, length = probed(film)
    assert kinds == ["aac", "h264"], kinds
    assert abs(length - recording["duration"]) < 0.07, (length, recording["duration"])
    assert f"h264,{WIDTH},{HEIGHT}" in judges.streams(film)
    flashes, beeps = judges.flash_times(film), beep_times(film, whole=True)
    offsets = judges.sync_offsets(flashes, beeps)
    print("out of step by", [round(it, 3) for it in offsets])
    assert len(offsets) >= 4 and max(map(abs, offsets)) < 0.040, (flashes, beeps)
    return pictures(film, moved - 0.6, moved + 0.1, late)


@pytest.fixture(scope="module")
def stored():
    s3 = S3()
    yield s3
    s3.close()


def test_a_camera_lies_over_the_screen_where_it_is_wanted_though_the_server_is_killed_meanwhile(tmp_path, publish, stored, chromium, new_page):
    settings = {"LOOM_CAPTIONS": "off", "LOOM_THUMBNAILS": "off", **stored.environment}
    server = Server(tmp_path, **settings)
    try:
        recording = server.create("Screen and camera")
        url = f"/v1/recordings/{recording['id']}/composition"
        camera = invite(server, recording, "camera")
        screen = publish(recording, video=material.flashes(keys=30), rate=30, audio=material.beeps())
        publish(camera, video=green(), rate=30, audio=material.beeps())
        early = server.http.put(url)
        assert early.status_code == 409 and "ready" in problem(early), early.text
        until(lambda: media(server, recording, "video-2") > 6, 60, "the camera's picture")
        screen.end()
        recording = server.until_state(recording, "ready")
        assert recording["composition_url"].endswith("composition.mp4")
        nothing = server.http.get(f"{url}.mp4")
        assert nothing.status_code == 404 and "PUT" in problem(nothing), nothing.text
        wrong = server.http.put(url, json={"placements": [{"size": 7}]})
        assert wrong.status_code == 400 and "placements[0].size is 7: a size is 0.05 to 1" in problem(wrong), wrong.text

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
        root = tmp_path / "data" / "recordings" / recording["id"]
        assert not list(root.glob("composition-*.mp4")), "it was killed too late"

        server = Server(tmp_path, **settings)
        assert made(server, recording)["tries"] == 2
        before, between, after = check(server, recording, moves, moves + 2)
        assert is_green(before, CIRCLE) and is_grey(before, RECTANGLE)
        assert is_grey(after, CIRCLE) and is_green(after, RECTANGLE)
        assert is_grey(between, RECTANGLE), "it glides there"
        # a circle shows the screen where a square's corner would be
        corner = (round(0.035 * HEIGHT) + 4, round(0.965 * HEIGHT) - 4)
        assert is_grey(before, corner) and is_grey(before, (WIDTH // 2, HEIGHT // 2))
        (first,) = root.glob("composition-*.mp4")
        part = server.http.get(f"{url}.mp4", headers={"range": "bytes=4-7"})
        assert (part.status_code, part.content) == (206, b"ftyp"), part.content
        assert "Screen and camera.mp4" in part.headers["content-disposition"]

        # the same again is there already, another layout takes its place
        assert server.http.put(url, json=moved).status_code == 202
        made(server, recording)
        assert list(root.glob("composition-*.mp4")) == [first]
        assert server.http.put(url).status_code == 202
        made(server, recording)
        before, _, after = check(server, recording, moves, moves + 2)
        assert is_green(before, CIRCLE) and is_green(after, CIRCLE) and is_grey(after, RECTANGLE)
        (second,) = root.glob("composition-*.mp4")
        assert second != first and not (root / "composition").exists()

        # the page asks for it, waits and saves it, of an edit as of any recording
        (cut,) = edit(server, recording, keep=[[0.0, begins + 2.5]])
        page = new_page(chromium())
        page.goto(cut["watch_url"])
        with page.expect_download() as saved:
            page.get_by_test_id("compose").click()
        assert saved.value.suggested_filename == "Screen and camera.mp4"
        kinds, length = probed(saved.value.path())
        assert kinds == ["aac", "h264"] and abs(length - cut["duration"]) < 0.07, (kinds, length, cut)
        (seen,) = pictures(str(saved.value.path()), begins + 1.5)
        assert is_green(seen, CIRCLE)

        until(lambda: jobs(server, recording)["upload"]["state"] == "done", 60, "all to be sent")
        # one that this disk has lost comes back from the store, where it stays as it is
        film = second.read_bytes()
        second.unlink()
        assert server.http.put(url).status_code == 202
        made(server, recording)
        assert second.read_bytes() == film
        until(lambda: jobs(server, recording)["upload"]["state"] == "done", 60, "all to be looked at again")
        sent = collections.Counter(key.rsplit("/", 1)[1] for key, _ in stored.stored if f"{recording['id']}/composition-" in key)
        assert sent[second.name] == 1 and max(sent.values()) == 1, sent
        assert server.http.delete(f"/v1/recordings/{recording['id']}").status_code == 204
        assert not root.exists()
    finally:
        server.close()


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
