"""One server for all tests, Chromium with files for a camera and a microphone, and aiortc publishers."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
from playwright.sync_api import sync_playwright

import material
from server import BINARY, Server, until

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required"
).split()
FAKE_DEVICES = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """Two that serve all tests, each started when it is first wanted: one that listens to what is said, which costs as much as all else
    together, and one that does not."""
    assert BINARY.exists(), f"there is no server at {BINARY}: cargo build -p loom-server"
    started = {}

    def start(listens):
        if listens not in started:
            settings = {} if listens else {"LOOM_CAPTIONS": "off"}
            started[listens] = Server(tmp_path_factory.mktemp("server"), **settings)
        return started[listens]

    yield start
    for server in started.values():
        alive = server.process.poll() is None
        server.close()
        log = server.log.read_text()
        assert alive, f"the server did not live to the end of the tests:\n{log[-4000:]}"
        assert "panicked" not in log, log[log.index("panicked") - 200 :][:4000]


@pytest.fixture(scope="module")
def server(request, servers):
    """The one of them that a file of tests needs: it says `LISTENS = True` where it is about what is said."""
    return servers(getattr(request.module, "LISTENS", False))


@pytest.fixture(autouse=True)
def server_log(request):
    """What the server said during a test, beside that test's own words."""
    if "server" not in request.fixturenames:
        yield
        return
    log = request.getfixturevalue("server").log
    before = log.stat().st_size
    yield
    with log.open("rb") as file:
        file.seek(before)
        print(f"the server's log:\n{file.read()[-6000:].decode(errors='replace')}")


@pytest.fixture(scope="module")
def captions(server):
    """Whether this server has a speech model. Without one, what needs it is skipped, and says so."""
    return server.captions_on()


@pytest.fixture(scope="session")
def chromium():
    """Starts one more Chromium, with the given flags besides the usual ones."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("LOOM_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert path, "no Chromium: scripts/setup test installs it, or LOOM_CHROMIUM names it"
    with sync_playwright() as play, contextlib.ExitStack() as browsers:

        def launch(*flags):
            browser = play.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
            browsers.callback(browser.close)
            return browser

        yield launch


@pytest.fixture(scope="session")
def recorder(chromium):
    """A Chromium whose camera shows a screen and whose microphone speaks."""
    return chromium(
        *FAKE_DEVICES,
        f"--use-file-for-fake-video-capture={material.camera()}",
        f"--use-file-for-fake-audio-capture={material.microphone()}%noloop",
    )


@pytest.fixture
def new_page():
    """Opens a page in a fresh context; what its console says is printed, an uncaught error fails the test."""
    errors, contexts = [], []

    def open_page(browser, **options):
        context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda said: print(f"console {said.type}: {said.text}") if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors, errors


@pytest.fixture
def publishing_page(server, new_page):
    """Opens a page that can publish by publish.js."""
    script = pathlib.Path(__file__).with_name("publish.js").read_text()

    def open_page(browser):
        page = new_page(browser)
        page.goto(f"{server.base}/healthz")
        page.evaluate(script)
        return page

    return open_page


class Publisher:
    """publisher.py in a process of its own."""

    def __init__(self, recording, codec, video, rate, audio, seconds=3600.0, hang_up=True, more=()):
        script = os.path.join(os.path.dirname(__file__), "publisher.py")
        command = [
            sys.executable, script, "--url", recording["whip_url"], "--token", recording["whip_token"], "--codec", codec,
            *(["--video", video] if video else []), "--rate", rate, "--audio", audio, "--seconds", seconds,
            "--hang-up" if hang_up else "--no-hang-up", *more,
        ]
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL)

    def wait(self, seconds=120):
        assert self.process.wait(seconds) == 0, "the publisher failed; its words are above"

    def vanish(self):
        """Dies without a word to anybody."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.vanish()


@pytest.fixture
def publish():
    """Starts an aiortc publisher; those still running at the end of the test are ended."""
    running = []

    def start(recording, codec="h264", **options):
        files = {"h264": (material.screen_h264, 15), "vp8": (material.screen_vp8, 15)}
        make, rate = files[codec]
        options = {"video": options.pop("video", "") or ("" if options.pop("audio_only", False) else make()), "rate": rate, "audio": material.speech(12), **options}
        running.append(Publisher(recording, codec, **options))
        return running[-1]

    yield start
    for publisher in running:
        publisher.end()


@pytest.fixture
def growing(server):
    """Waits until so many seconds of a recording can be watched."""

    def wait(recording, seconds):
        return until(lambda: watchable(server, recording) >= seconds, 120, f"{seconds} s to watch")

    return wait


def watchable(server, recording):
    """Seconds of segments that the first video playlist lists; 0 while there is none."""
    import re

    folder = f"/v1/recordings/{recording['id']}/hls"
    main = server.http.get(f"{folder}/main.m3u8")
    paths = re.findall(r"^#EXT-X-STREAM-INF:.*\n(\S+)", main.text, re.M) if main.status_code == 200 else []
    if not paths:
        return 0.0
    playlist = server.http.get(f"{folder}/{paths[0]}")
    return sum(map(float, re.findall(r"#EXTINF:([\d.]+)", playlist.text))) if playlist.status_code == 200 else 0.0
