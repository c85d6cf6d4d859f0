"""The Python package as its README says to get it: its wheel in a clean environment, with nothing of this repository beside it."""

import json
import os
import shutil
import subprocess

import pytest

import judges
from documented import documented, put_release
from material import film_mp4, spoken_film
from server import BINARY, MODEL, ROOT

PACKAGE = ROOT / "bindings" / "python"
OFFER = sorted((ROOT / "crates" / "loom-ingest" / "testdata" / "offers").glob("*.sdp"))[0]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An interpreter of a clean environment that has the wheel."""
    library = BINARY.parent / "libloom.so"
    assert library.exists(), "there is no C library: cargo build --workspace"
    tree = tmp_path_factory.mktemp("python")
    put_release(library, tree)
    # of a copy: what building leaves behind is no file of the repository
    shutil.copytree(PACKAGE, tree / "bindings" / "python", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    variables = {key: value for key, value in os.environ.items() if key != "LOOM_LIBRARY"}
    for line in (documented("bindings/python/README.md", "-m venv"), documented("bindings/python/README.md", "pip wheel")):
        subprocess.run(["bash", "-c", line], cwd=tree, env=variables, check=True)
    (_,) = (tree / "dist").glob("loom_video-*-py3-none-linux_*.whl")
    # what was installed stands for itself
    for used in ("bindings", "target"):
        shutil.rmtree(tree / used)
    return tree / "venv" / "bin" / "python"


def run(python, folder, *command, **variables):
    variables = {**{key: value for key, value in os.environ.items() if key != "LOOM_LIBRARY"}, **variables}
    done = subprocess.run([python, *command], cwd=folder, env=variables, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_twenty_lines_turn_a_film_into_an_hls_folder_and_a_transcript(python, tmp_path):
    source = PACKAGE / "examples" / "film.py"
    assert len(source.read_text().splitlines()) <= 20
    model = {"LOOM_MODEL": str(MODEL)} if MODEL.exists() else {}
    said = run(python, tmp_path, source, film_mp4(), tmp_path / "out", **model)
    assert said.count("media: ") > 1 and "media: 100%" in said, said[-1000:]
    assert "transcript: 100%" in said or not MODEL.exists(), said[-1000:]
    assert film_mp4().exists(), "the film is copied, not taken"
    judges.decode(tmp_path / "out" / "hls" / "main.m3u8")
    if MODEL.exists():
        assert (tmp_path / "out" / "transcript.vtt").read_text().startswith("WEBVTT")
        assert (tmp_path / "out" / "transcript.txt").exists()


@pytest.mark.parametrize("program", ["film.py", "README.md"])
def test_a_film_without_sound_has_no_transcript_and_that_is_no_error(python, tmp_path, program):
    source = (PACKAGE / "README.md").read_text().split("```python\n")[1].split("```")[0]
    if program == "film.py":
        source = (PACKAGE / "examples" / program).read_text()
    subprocess.run(["ffmpeg", "-v", "error", "-i", film_mp4(), "-t", "3", "-an", "-c", "copy", tmp_path / "talk.mp4"], check=True)
    model = {"LOOM_MODEL": str(MODEL)} if MODEL.exists() else {}
    run(python, tmp_path, "-c", source, "talk.mp4", ".", **model)
    judges.decode(next(tmp_path.glob("*/main.m3u8")))
    assert not list(tmp_path.glob("transcript.*"))


# Pushes pictures and sound, and reads the events without a thread.
PUSH = """
import array, asyncio, json, time, loom

async def main():
    with loom.Engine("work", captions=False, ladder="source", udp="127.0.0.1:0") as engine:
        recording = engine.create("pushed")
        states, kinds = [], set()

        async def read():
            async for event in recording.events():
                kinds.add(event["event"])
                if event["event"] == "state":
                    states.append(event["state"])

        reader = asyncio.create_task(read())
        with recording.push([loom.Pictures(160, 120, 25), loom.Sound(48_000, 1)]) as pusher:
            for number in range(75):
                pusher.picture(0, 100 + number / 25, bytes([60 + number]) * (160 * 120) + bytes([128]) * (160 * 60))
                assert pusher.sound(1, 100 + number / 25, array.array("f", [0.1] * 1920))
                await asyncio.sleep(0.04)
            for wrong, why in ((lambda: pusher.picture(0, 200, b"x"), ValueError), (lambda: pusher.packet(0, 200, b"x"), loom.LoomError)):
                try:
                    wrong()
                    raise SystemExit("it was taken")
                except why as said:
                    assert "bytes" in str(said) or said.name == "LOOM_ERROR_MEDIA", said
        await asyncio.wait_for(reader, 60)
        assert recording.wait(1) == "ready"
        answer = recording.hls("main.m3u8")
        assert answer.status == 200 and answer.body.startswith(b"#EXTM3U"), answer
        assert recording.hls("nothing").status == 404
        part = recording.hls("main.m3u8", range="bytes=1-3")
        assert (part.status, part.body) == (206, b"EXT") and part.content_range == f"bytes 1-3/{len(answer.body)}", part
        assert recording.patch("nobody", "*", "a=mid:0").status == 404
        recording.export("hls")
        try:
            engine.open("nobody")
        except loom.LoomError as said:
            assert said.name == "LOOM_ERROR_NOT_FOUND" and "nobody" in str(said), said
        print(json.dumps({"states": states, "kinds": sorted(kinds), "duration": recording.info()["duration"]}))

asyncio.run(main())
"""


def test_what_python_pushes_is_a_stream_and_its_events_come_without_a_thread(python, tmp_path):
    told = json.loads(run(python, tmp_path, "-c", PUSH).splitlines()[-1])
    assert told["states"][-1] == "ready" and "live" in told["states"], told
    assert {"state", "tracks", "renditions"} <= set(told["kinds"]), told
    assert abs(told["duration"] - 3) < 0.3, told
    judges.decode(tmp_path / "hls" / "main.m3u8")


# What a host does that brings its own HTTP: WHIP's requests, a recording's controls, its store; then the same folder by another engine.
CALLS = """
import array, pathlib, sys, time, loom

offer = pathlib.Path(sys.argv[1]).read_text()

def refused(call, name):
    try:
        call()
    except loom.LoomError as said:
        assert said.name == name, said
        return str(said)
    raise SystemExit(f"it was not {name}")

store = f"file://{pathlib.Path('store').absolute()}"
how = dict(captions=False, ladder="source", udp="127.0.0.1:0", store=store)
with loom.Engine("work", announce=["203.0.113.7"], max_per_address=1, **how) as engine:
    recording = engine.create("whip")
    answer, session = recording.publish(offer, "192.0.2.9")
    assert " 203.0.113.7 " in answer, answer
    etag = recording.etag(session)
    assert len(etag) > 2 and etag[0] == etag[-1] == '"', etag
    assert "192.0.2.9" in refused(lambda: recording.join("phone", offer, "192.0.2.9"), "LOOM_ERROR_FULL")
    refused(lambda: recording.join("My phone", offer), "LOOM_ERROR_ARGUMENT")
    answer, phone = recording.join("phone", offer)
    assert "a=recvonly" in answer and phone != session
    candidate = "a=candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host"
    trickle = "m=audio 9 UDP/TLS/RTP/SAVPF 0\\r\\na=mid:0\\r\\n" + candidate + "\\r\\n"
    assert recording.patch(session, None, trickle).status == 428
    assert recording.patch(session, etag, trickle).status == 204
    recording.hang_up(phone)
    assert recording.state == "live", "who joins ends nothing"
    recording.hang_up(session)
    assert recording.wait(30) == "failed"

    recording = engine.create("pushed")
    with recording.push([loom.Pictures(160, 120, 25), loom.Sound(48_000, 1)]) as pusher:
        states = []
        for number in range(100):
            pusher.picture(0, number / 25, bytes([60 + number]) * (160 * 120) + bytes([128]) * (160 * 60))
            pusher.sound(1, number / 25, array.array("f", [0.1] * 1920))
            if number == 75:
                recording.mark("A chapter")
                recording.pause()
                states.append(recording.state)
                recording.resume()
                states.append(recording.state)
            time.sleep(0.04)
        assert states == ["paused", "live"], states
        recording.stop()
    assert recording.wait(30) == "ready"
    recording.stored()
    refused(lambda: recording.set_class("cold"), "LOOM_ERROR_IO")  # a folder has no tags
    recording.download("pushed.mp4")
    assert "A chapter" in recording.hls("chapters.json").body.decode()
    assert engine.stored_recordings() == ["pushed"], engine.stored_recordings()  # of the other there is nothing
    recording.close()

with loom.Engine("work", **how) as engine:
    assert sorted(engine.recordings()) == ["pushed", "whip"], engine.recordings()
    recording = engine.open("pushed")
    assert recording.state == "ready"
    recording.delete()
    assert recording.wait(5) == recording.state == "deleted"
    assert engine.recordings() == ["whip"] and engine.stored_recordings() == []
"""


def test_every_call_of_a_host_is_made_and_a_later_engine_finds_what_was_recorded(python, tmp_path):
    run(python, tmp_path, "-c", CALLS, OFFER)
    judges.decode(tmp_path / "pushed.mp4")
    assert judges.end(tmp_path / "pushed.mp4") > 2


# What a program begins with that is refused something.
REFUSED = """
import loom

def refused(call, name):
    try:
        call()
    except loom.LoomError as said:
        assert said.name == name, said
        return str(said)
    raise SystemExit(f"it was not {name}")
"""

# Pushes a grey screen and a green camera, and has both made into one picture.
COMPOSED = REFUSED + """
import array, json, time

how = dict(captions=False, udp="127.0.0.1:0", rungs=[(120, 300_000)], live_cores=2, window="dvr-60", chunks_at_once=1, longest_pause=60, unused=60)
refused(lambda: loom.Engine("work", loudness=3, captions=False), "LOOM_ERROR_ARGUMENT")
with loom.Engine("work", suppress_noise=True, loudness=-18, sync=1, caption_threads=1, **how) as engine:
    recording = engine.create("both")
    with recording.push([loom.Pictures(320, 240, 25), loom.Pictures(160, 120, 25), loom.Sound(48_000, 1)]) as pusher:
        for number in range(100):
            pusher.picture(0, number / 25, bytes([90 + number % 8]) * (320 * 240) + bytes([128]) * (320 * 120))
            pusher.picture(1, number / 25, bytes([149 + number % 8]) * (160 * 120) + bytes([43]) * (80 * 60) + bytes([21]) * (80 * 60))
            pusher.sound(2, number / 25, array.array("f", [0.1] * 1920))
            if number == 50:
                assert "ready" in refused(recording.lay_out, "LOOM_ERROR_STATE")
            time.sleep(0.04)
    assert recording.wait(60) == "ready"
    assert "composition" not in recording.info() and [it["job"] for it in recording.jobs()] == []
    refused(lambda: recording.download_composition("no.mp4"), "LOOM_ERROR_NOT_READY")
    refused(lambda: recording.restart_job("composition"), "LOOM_ERROR_NOT_FOUND")
    refused(lambda: recording.restart_job("dinner"), "LOOM_ERROR_ARGUMENT")
    assert "placements[0].size is 7" in refused(lambda: recording.lay_out([{"size": 7}]), "LOOM_ERROR_ARGUMENT")
    recording.lay_out([{"shape": "rectangle", "place": {"x": 0.5, "y": 0.5}, "size": 0.5}])
    while (job := {it["job"]: it for it in recording.jobs()}["composition"])["state"] != "done":
        assert job["state"] in ("queued", "running") and 0 <= job["progress"] <= 1, job
        time.sleep(0.05)
    made = recording.info()["composition"]
    assert made["layout"]["placements"][0]["shape"] == "rectangle", made
    assert [(it["width"], it["height"]) for it in made["renditions"]] == [(320, 240), (160, 120)], made
    for name in ("playlist", "manifest", "thumbnails"):
        assert recording.hls(made[name]).status == 200, made
    recording.download_composition("both.mp4")
    recording.export("hls")
    recording.restart_job("composition")  # what is done stays so
    print(made["playlist"])
"""


def test_screen_and_camera_that_are_pushed_become_one_picture_and_settings_are_obeyed(python, tmp_path):
    name = run(python, tmp_path, "-c", COMPOSED).split()[-1]
    for target in (tmp_path / "both.mp4", tmp_path / "hls" / name):
        judges.decode(target)
        assert judges.streams(target)[0] == "aac", judges.streams(target)
    command = ["ffmpeg", "-v", "error", "-ss", "2", "-i", tmp_path / "both.mp4", "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    picture = subprocess.run(command, capture_output=True, check=True).stdout
    at = lambda x, y: picture[(y * 320 + x) * 3 :][:3]  # noqa: E731
    red, light, blue = at(160, 120)
    assert light > 120 and red < 90 and blue < 90, "the camera lies in the middle"
    corner = at(20, 20)
    assert max(corner) - min(corner) < 25, "the screen lies around it"


# Has a spoken film heard, and corrects what was.
CORRECTED = REFUSED + """
import sys

with loom.Engine("work", ladder="source", udp="127.0.0.1:0") as engine:
    recording = engine.create("said")
    recording.import_file(sys.argv[1])
    assert recording.transcript_versions() == []
    assert recording.wait(300) == "ready"
    (heard,) = recording.transcript_versions()
    assert heard == {"version": 1}, heard
    before = recording.transcript()
    made = recording.correct(1, [{"segment": 0, "text": "Quite other words."}])
    assert made["version"] == 2 and made["made_at"], made
    assert "Quite other words." in recording.transcript("vtt") and recording.transcript(version=1) == before
    refused(lambda: recording.correct(1, [{"segment": 0, "text": "Too late."}]), "LOOM_ERROR_STATE")
    refused(lambda: recording.correct(2, []), "LOOM_ERROR_ARGUMENT")
    refused(lambda: recording.correct(2, [{"where": 0}]), "LOOM_ERROR_ARGUMENT")
    refused(lambda: recording.transcript(version=3), "LOOM_ERROR_NOT_FOUND")
    refused(lambda: recording.restore_transcript(2, 2), "LOOM_ERROR_ARGUMENT")
    assert recording.restore_transcript(2, 1)["restored"] == 1
    assert recording.transcript() == before and [it["version"] for it in recording.transcript_versions()] == [1, 2, 3]
    recording.export("hls")
"""


@pytest.mark.skipif(not MODEL.exists(), reason="NO SPEECH MODEL: nothing is heard that could be corrected")
def test_what_was_heard_is_corrected_as_a_version(python, tmp_path):
    run(python, tmp_path, "-c", CORRECTED, spoken_film(), LOOM_MODEL=str(MODEL))
    judges.decode(tmp_path / "hls" / "main.m3u8")


def test_a_film_that_is_cancelled_has_failed_at_once(python, tmp_path):
    program = f"""
import loom
with loom.Engine("work", captions=False) as engine:
    recording = engine.create()
    recording.import_file({str(film_mp4())!r})
    recording.cancel()
    assert recording.state == "failed", recording.state
    assert "cancelled" in recording.info()["reason"]
    assert [event["state"] for event in recording.events() if event["event"] == "state"][-1] == "failed"
"""
    run(python, tmp_path, "-c", program)


# Closes a recording by many threads while another waits for it, as `asyncio.wait_for(asyncio.to_thread(recording.wait), 1)` in a `with` does.
CLOSED = """
import threading, loom

calls, wait, free = [], loom._lib.loom_recording_wait, loom._lib.loom_recording_free
waits = threading.Event()

def waited(*args):
    waits.set()
    return wait(*args)

def freed(handle):
    calls.append(threading.current_thread())
    free(handle)

loom._lib.loom_recording_wait, loom._lib.loom_recording_free = waited, freed
with loom.Engine("work", captions=False, udp="127.0.0.1:0") as engine:
    recording, said = engine.create("closed"), []

    def read():
        try:
            recording.wait(2)
        except TimeoutError as why:
            said.append(str(why))

    reader = threading.Thread(target=read)
    reader.start()
    waits.wait()
    closers = [threading.Thread(target=recording.close) for _ in range(8)]
    for it in closers:
        it.start()
    for it in closers:
        it.join()
    assert not calls, "it is used"
    try:
        recording.state
        raise SystemExit("it was used")
    except ValueError as why:
        assert "closed" in str(why), why
    reader.join()
    assert calls == [reader] and said == ["recording closed has not ended"], (calls, said)
    recording.close()
    del recording
    assert calls == [reader], "once"
    engine.create().close()
    assert len(calls) == 2, "at once where nobody uses it"
    engine.close()
"""


def test_what_is_closed_while_another_thread_uses_it_is_freed_once_that_is_done(python, tmp_path):
    run(python, tmp_path, "-c", CLOSED)


# What is registered first is called last.
LEFT = """
import atexit
freed = []
atexit.register(lambda: print("freed", len(freed)))
import loom

free = loom._lib.loom_events_free
loom._lib.loom_events_free = lambda handle: (freed.append(handle), free(handle))
engine = loom.Engine("work", captions=False, udp="127.0.0.1:0")
events = engine.create().events()
"""


def test_nobody_wakes_a_reader_that_is_left_open_while_python_ends(python, tmp_path):
    assert run(python, tmp_path, "-c", LEFT) == "freed 1\n"
