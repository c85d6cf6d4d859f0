"""The programs in examples/ as a person runs them; ffmpeg judges what they make. All run at once, for most of it is waiting for live media."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys

import httpx
import pytest

import judges
import material
from server import BINARY, MODEL, ROOT, free_port, until

# `make recorder` has the programs built alone, with no more features than they ask for.
PROGRAMS = pathlib.Path(os.environ.get("LOOM_EXAMPLES", BINARY.parent))
PUBLISHER = pathlib.Path(__file__).with_name("publisher.py")
TOKEN = "a-secret-of-alice"
SECONDS = 4


def program(name):
    path = PROGRAMS / name
    assert path.exists(), f"there is no {path}: cargo build --workspace --bins"
    return path


class Host:
    """An example that takes publishers in, with one that has published for some seconds."""

    def __init__(self, folder, name, path, *arguments):
        self.base = f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}"
        self.path, self.folder = path, folder
        folder.mkdir()
        self.log = folder / "out"
        command = [program(name), self.base.removeprefix("http://"), folder / "data", *arguments]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def publish(self):
        until(lambda: "publish to" in self.said(), 30, f"{self.log} to say where it is")
        files = ["--codec", "h264", "--video", material.screen_h264(), "--rate", 15, "--audio", material.speech(12)]
        command = [sys.executable, PUBLISHER, "--url", self.base + self.path, "--token", TOKEN, *files, "--seconds", SECONDS]
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
        assert self.publisher.wait(60) == 0
        main = self.stream()
        until(lambda: "#EXT-X-STREAM-INF" in self.fetch(main).text, 30, "main.m3u8")
        path = re.search(r"^#EXT-X-STREAM-INF:.*\n(\S+)", self.fetch(main).text, re.M)[1]
        video = main.replace("main.m3u8", path)
        until(lambda: "#EXT-X-ENDLIST" in self.fetch(video).text, 30, "the end of the playlist")
        judges.decode(main)
        first, last, _ = judges.span(video)
        # how long the publisher takes to connect and to hang up is the machine's business
        assert SECONDS - 1.5 < last - first < SECONDS + 4, (first, last)
        return self.fetch(main).text

    def close(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Every example, started at once."""
    folder = tmp_path_factory.mktemp("examples")
    wanted = os.environ.get("LOOM_EXAMPLES_ONLY", "embed-axum embed-hyper embed-custom embed-draw embed-pipe").split()
    hosts = {"embed-axum": ("/whip",), "embed-hyper": ("/whip",), "embed-custom": ("/alice/whip", f"alice={TOKEN}")}
    running = {name: Host(folder / name, name, *what) for name, what in hosts.items() if name in wanted}
    finite = {
        "embed-draw": f"{program('embed-draw')} {folder}/draw {SECONDS}" if "embed-draw" in wanted else None,
        "embed-pipe": (
            f"ffmpeg -v error -f lavfi -i testsrc2=size=320x240:rate=25 -t {SECONDS} -c:v libx264 -preset ultrafast -tune zerolatency"
            f" -x264-params aud=1 -g 50 -f h264 - | {program('embed-pipe')} {folder}/pipe 25" if "embed-pipe" in wanted else None
        ),
    }
    finite = {name: subprocess.Popen(["bash", "-c", f"set -o pipefail; {it}"], stdin=subprocess.DEVNULL) for name, it in finite.items() if it}
    try:
        for host in running.values():
            host.publish()
        yield {**running, **finite, "folder": folder}
    finally:
        for process in finite.values():
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
    assert process.wait(seconds) == 0


def test_pictures_that_a_program_draws_become_an_hls_folder(ran):
    finished(ran.get("embed-draw") or pytest.skip("embed-draw was not asked for"))
    judges.decode(ran["folder"] / "draw" / "main.m3u8")
    first, last, count = judges.span(ran["folder"] / "draw" / "source" / "index.m3u8")
    # where the machine keeps the program waiting a picture is repeated, so that its part ends in time
    assert abs(last - first - SECONDS) < 0.3 and 0 <= count - SECONDS * 25 < 4, (first, last, count)


def test_a_pipe_becomes_an_hls_folder_and_an_mp4(ran):
    finished(ran.get("embed-pipe") or pytest.skip("embed-pipe was not asked for"))
    for file in ("main.m3u8", "recording.mp4"):
        judges.decode(ran["folder"] / "pipe" / file)
    _, _, count = judges.span(ran["folder"] / "pipe" / "recording.mp4")
    assert count == SECONDS * 25


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """Some seconds of a picture with speech."""
    path = tmp_path_factory.mktemp("talk") / "talk.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-i", material.speech(12)]
    subprocess.run([*material.FFMPEG, *map(str, picture), "-t", "5", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", path], check=True)
    return path


def run(name, *arguments):
    variables = {**os.environ, **({"LOOM_MODEL": str(MODEL)} if MODEL.exists() else {"LOOM_MODEL_DOWNLOAD": "never"})}
    done = subprocess.run([program(name), *arguments], capture_output=True, text=True, env=variables, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_becomes_an_hls_folder_and_a_transcript(talk, tmp_path):
    run("embed-file", talk, tmp_path)
    judges.decode(tmp_path / "main.m3u8")
    if MODEL.exists():
        assert (tmp_path / "transcript.vtt").read_text().startswith("WEBVTT")


def test_a_file_becomes_text(talk):
    if not MODEL.exists():
        pytest.skip(f"NO MODEL at {MODEL}: nothing was transcribed")
    said = run("transcribe", talk, "--format", "vtt")
    assert said.startswith("WEBVTT") and "-->" in said, said


def test_the_requests_of_the_guide_are_answered(server, talk):
    """Those that docs/src/getting-started.md has, as they stand there, to this server."""
    if not shutil.which("curl"):
        pytest.skip("NO curl: the guide's requests were not tried")
    guide = (ROOT / "docs" / "src" / "getting-started.md").read_text()
    asked = [line for line in guide.splitlines() if line.startswith("curl ")]
    assert len(asked) == 2, asked
    made = None
    for line in asked:
        line = line.replace("http://127.0.0.1:8080", server.base).replace("/ID/", f"/{made and made['id']}/")
        answer = subprocess.run(line, shell=True, cwd=talk.parent, check=True, capture_output=True, text=True).stdout
        made = made or json.loads(answer)
    assert made["whip_url"] and made["whip_token"] and made["watch_url"] and made["hls_url"], made
    until(lambda: server.show(made)["state"] == "ready", 60, "the upload to be processed")


def test_sound_on_a_pipe_is_written_down_as_it_comes():
    if not MODEL.exists():
        pytest.skip(f"NO MODEL at {MODEL}: live captions were not tried")
    text, _ = material.spoken()
    with material.speech(12).open("rb") as wav:
        sound = subprocess.run(["ffmpeg", "-v", "error", "-i", "-", "-ac", "1", "-ar", "16000", "-t", "7", "-f", "s16le", "-"], stdin=wav, capture_output=True, check=True)
    done = subprocess.run([program("embed-captions")], input=sound.stdout, capture_output=True, env={**os.environ, "LOOM_MODEL": str(MODEL)}, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines and all(re.match(r"\d", line) for line in lines), lines
    heard = set(re.findall(r"[a-z]+", " ".join(lines).lower()))
    said = re.findall(r"[a-z]+", text.lower())[:12]
    assert sum(word in heard for word in said) >= 8, lines
