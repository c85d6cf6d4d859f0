"""The programs in examples/ as README and guide say to run them; ffmpeg judges what they make. Most run at once, for most of it is waiting for
live media."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

import judges
import material
from documented import BUILDING, as_run, documented
from server import BINARY, MODEL, free_port, until

# `make recorder` has the programs built alone, with no more features than they ask for.
PROGRAMS = pathlib.Path(os.environ.get("LOOM_EXAMPLES", BINARY.parent)).resolve()
PUBLISHER = pathlib.Path(__file__).with_name("publisher.py")
TOKEN = "SECRET"  # as the guide has it
SECONDS = 4  # of a publisher
DRAWN = 10  # of the program that draws, as the guide has it
TALK = 8  # of the film that the guide's commands are given


class Host:
    """An example that takes publishers in, run by a line of the guide in an empty folder."""

    def __init__(self, folder, line, path):
        self.base = f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}"
        self.path = path
        folder.mkdir()
        self.log = folder.with_suffix(".log")
        line = as_run(line, PROGRAMS).replace("127.0.0.1:8081", self.base.removeprefix("http://"))
        with self.log.open("wb") as log:
            # it is bash's own process that becomes the program, for signals
            self.process = subprocess.Popen(["bash", "-c", f"exec {line}"], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def begun(self):
        until(lambda: "publish to" in self.said(), 30 + BUILDING, f"{self.log} to say where it is")

    def publish(self):
        self.begun()
        files = ["--codec", "h264", "--video", material.screen_h264(), "--rate", 15, "--audio", material.speech(12)]
        command = [sys.executable, PUBLISHER, "--url", self.base + self.path, "--token", TOKEN, *files, "--seconds", SECONDS]
        self.published = time.monotonic()
        self.publisher = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL)

    def said(self):
        return self.log.read_text()

    def stream(self):
        """The URL of its recording's main.m3u8."""
        found = re.search(r"^(/\S+/)main\.m3u8$", self.said(), re.M)
        return found and self.base + found[1] + "main.m3u8"

    def fetch(self, url):
        return httpx.get(url, timeout=30, trust_env=False)

    def judge(self):
        """The whole stream decodes, and is as long as what was published."""
        assert self.publisher.wait(120) == 0
        lived = time.monotonic() - self.published
        main = self.stream()
        until(lambda: "#EXT-X-STREAM-INF" in self.fetch(main).text, 30, "main.m3u8")
        path = re.search(r"^#EXT-X-STREAM-INF:.*\n(\S+)", self.fetch(main).text, re.M)[1]
        video = main.replace("main.m3u8", path)
        until(lambda: "#EXT-X-ENDLIST" in self.fetch(video).text, 30, "the end of the playlist")
        judges.decode(main)
        first, last, _ = judges.span(video)
        # how long the publisher takes to connect and to hang up is the machine's business
        assert SECONDS - 1.5 < last - first < lived + 1, (first, last, lived)
        return self.fetch(main).text

    def close(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def piped(line, folder, **how):
    """Starts a line of the guide that ends by itself, in a folder."""
    return subprocess.Popen(["bash", "-o", "pipefail", "-c", as_run(line, PROGRAMS)], cwd=folder, stdin=subprocess.DEVNULL, **how)


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """The guide's talk.mp4: some seconds of a picture with speech."""
    path = tmp_path_factory.mktemp("talk") / "talk.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-i", material.speech(12)]
    subprocess.run([*material.FFMPEG, *map(str, picture), "-t", str(TALK), "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", path], check=True)
    return path


@pytest.fixture(scope="module")
def ran(talk, tmp_path_factory):
    """Every example that needs no model, started at once."""
    folder = tmp_path_factory.mktemp("examples")
    wanted = os.environ.get("LOOM_EXAMPLES_ONLY", "embed-axum embed-hyper embed-custom embed-draw embed-pipe").split()
    hosts = {
        "embed-axum": (documented("docs/src/embedding.md", "-p embed-axum"), "/whip"),
        "embed-hyper": (documented("docs/src/embedding.md", "-p embed-hyper"), "/whip"),
        "embed-custom": (documented("docs/src/embedding.md", "-p embed-custom"), "/alice/whip"),
    }
    finite = {
        "embed-draw": documented("docs/src/embedding.md", "-p embed-draw"),
        "embed-pipe": documented("docs/src/embedding.md", "-p embed-pipe"),
    }
    running, ending = {}, {}
    try:
        for name in wanted:
            if name in hosts:
                running[name] = Host(folder / name, *hosts[name])
            else:
                (folder / name).mkdir()
                shutil.copy(talk, folder / name)
                ending[name] = piped(finite[name], folder / name)
        for host in running.values():
            host.publish()
        yield {**running, **ending, "folder": folder}
    finally:
        for process in ending.values():
            process.kill()
            process.wait()
        for host in running.values():
            host.close()


@pytest.mark.parametrize("name", ["embed-axum", "embed-hyper"])
def test_a_publisher_is_recorded_and_watched(ran, name):
    if name not in ran:
        pytest.skip(f"{name} was not asked for")
    host = ran[name]
    main = host.judge()
    if "LOOM_EXAMPLES" in os.environ:
        assert main.count("#EXT-X-STREAM-INF") == 1, "the source as it came, and nothing encoded"
    assert host.fetch(host.base + "/whip/none/none").status_code in (404, 405)
    assert host.fetch(host.base + "/nobody/hls/main.m3u8").status_code == 404


def test_a_store_a_token_check_and_a_transcriber_of_the_programs_own(ran):
    host = ran.get("embed-custom") or pytest.skip("embed-custom was not asked for")
    headers = {"content-type": "application/sdp", "authorization": "Bearer not-hers"}
    for name in ("alice", "mallory"):
        refused = httpx.post(f"{host.base}/{name}/whip", content="v=0", headers=headers, trust_env=False)
        assert refused.status_code == 401, refused.text
    host.judge()
    until(lambda: "objects are kept" in host.said(), 60, "the store to have it")
    kept = int(re.search(r": (\d+) objects are kept", host.said())[1])
    assert kept > 10, host.said()
    until(lambda: re.search(r"\[sound, -\d+ dB\]", host.said()), 30, "what was heard")
    captions = host.fetch(host.stream().replace("main.m3u8", "captions/index.m3u8")).text
    pieces = re.findall(r"^(\S+\.vtt)$", captions, re.M)
    shown = [host.fetch(host.stream().replace("main.m3u8", f"captions/{piece}")).text for piece in pieces]
    assert any("[sound, -" in text for text in shown), captions


def finished(process, seconds=60):
    assert process.wait(seconds + BUILDING) == 0


def test_pictures_that_a_program_draws_become_an_hls_folder(ran):
    finished(ran.get("embed-draw") or pytest.skip("embed-draw was not asked for"))
    out = ran["folder"] / "embed-draw" / "out"
    judges.decode(out / "main.m3u8")
    first, last, count = judges.span(out / "source" / "index.m3u8")
    # where the machine keeps the program waiting a picture is repeated, so that its part ends in time; where it is too slow for the encoder
    # some are left out
    assert abs(last - first - DRAWN) < 0.3 and DRAWN * 25 * 0.6 < count < DRAWN * 25 + 4, (first, last, count)


def test_a_pipe_becomes_an_hls_folder_and_an_mp4(ran):
    finished(ran.get("embed-pipe") or pytest.skip("embed-pipe was not asked for"))
    out = ran["folder"] / "embed-pipe" / "out"
    for file in ("main.m3u8", "recording.mp4"):
        judges.decode(out / file)
    # the film has 25 pictures a second, the line makes 30 of them: it is as long as it was
    first, last, count = judges.span(out / "recording.mp4")
    assert abs(count - TALK * 30) <= 2 and abs(last - first - TALK) < 0.2, (first, last, count)


def run(line, folder):
    """What a line of the guide says."""
    variables = {**os.environ, **({"LOOM_MODEL": str(MODEL)} if MODEL.exists() else {})}
    process = piped(line, folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    try:
        said, errors = process.communicate(timeout=180 + BUILDING)
    finally:
        process.kill()
    if process.returncode and not MODEL.exists() and "speech model" in errors:
        pytest.skip(f"NO MODEL CAN BE HAD: {errors[-300:]}")
    assert process.returncode == 0, errors
    return said


def test_a_file_becomes_an_hls_folder_and_a_transcript(talk, tmp_path):
    shutil.copy(talk, tmp_path)
    run(documented("README.md", "-p embed-file"), tmp_path)
    judges.decode(tmp_path / "out" / "main.m3u8")
    if MODEL.exists():
        assert (tmp_path / "out" / "transcript.vtt").read_text().startswith("WEBVTT")


@pytest.mark.parametrize("line", [documented("README.md", "-p transcribe"), documented("docs/src/models.md", "-p transcribe")], ids=["vtt", "txt"])
def test_a_file_becomes_text(talk, line):
    said = run(line, talk.parent)
    timed = line.endswith("vtt")
    assert said.startswith("WEBVTT") == ("-->" in said) == timed and len(said.split()) > 10, said


def test_the_requests_of_the_guide_are_answered(server, talk):
    """Those of the guide's first page, to this server."""
    if not shutil.which("curl"):
        pytest.skip("NO curl: the guide's requests were not tried")
    made = None
    for line in (documented("docs/src/getting-started.md", "POST http"), documented("docs/src/getting-started.md", "--data-binary")):
        line = line.replace("http://127.0.0.1:8080", server.base).replace("/ID/", f"/{made and made['id']}/")
        answer = subprocess.run(line, shell=True, cwd=talk.parent, check=True, capture_output=True, text=True).stdout
        made = made or json.loads(answer)
    assert made["whip_url"] and made["whip_token"] and made["watch_url"] and made["hls_url"], made
    until(lambda: server.show(made)["state"] == "ready", 60, "the upload to be processed")


def test_sound_on_a_pipe_is_written_down_as_it_comes(talk):
    text, _ = material.spoken()
    lines = run(documented("docs/src/embedding.md", "-p embed-captions"), talk.parent).splitlines()
    assert lines and all(re.match(r"\d", line) for line in lines), lines
    heard = set(re.findall(r"[a-z]+", " ".join(lines).lower()))
    said = re.findall(r"[a-z]+", text.lower())[:12]
    assert sum(word in heard for word in said) >= 8, lines
