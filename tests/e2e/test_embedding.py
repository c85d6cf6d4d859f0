"""Programs that embed Loom through its C ABI, judged as the server is: a player that nobody here wrote plays what they serve."""

import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess

import pytest

import players
from documented import documented
from players import begun, moved, shown
from server import BINARY, ROOT, until

SECONDS = 20


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The C library, installed under a prefix of its own, as a packager would."""
    if not shutil.which("cc") or not shutil.which("pkg-config"):
        pytest.skip("NO C COMPILER, or no pkg-config: programs that embed Loom were not tried")
    built = BINARY.parent
    assert (built / "libloom.so").exists(), "there is no C library: cargo build --workspace"
    prefix = tmp_path_factory.mktemp("prefix")
    subprocess.run([ROOT / "bindings" / "c" / "install", prefix, built], check=True)
    return prefix


class Host:
    """bindings/c/examples/host.c, built by a line of the README, and running."""

    def __init__(self, line, prefix, folder):
        variables = {**os.environ, "PKG_CONFIG_PATH": f"{prefix}/lib/pkgconfig", "LD_LIBRARY_PATH": f"{prefix}/lib"}
        (folder / "bindings").symlink_to(ROOT / "bindings")
        strict = f"cc -std=gnu11 -O1 -Wall -Wextra -Werror -c -o /dev/null -I {shlex.quote(str(prefix))}/include bindings/c/examples/host.c"
        for line in (strict, line):
            subprocess.run(["bash", "-c", line], cwd=folder, env=variables, check=True)
        self.process = subprocess.Popen([folder / "host", folder / "data", "0", str(SECONDS)], env=variables, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        self.base = self.url.removesuffix("/main.m3u8")

    def close(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def host(installed, tmp_path):
    host = Host(documented("bindings/c/README.md", "cc "), installed, tmp_path)
    yield host
    host.close()


# Starts an engine and lets it go: enough to need all of the library.
SMALL = """
#include <loom.h>
#include <stdio.h>

int main(int argc, char **argv) {
  loom_engine_config config;
  loom_engine *engine = NULL;
  if (argc != 2 || loom_engine_config_init(&config, sizeof config) != LOOM_OK) return 2;
  config.data_dir = argv[1];
  config.captions = 0;
  if (loom_engine_start(&config, &engine) != LOOM_OK) return fprintf(stderr, "%s\\n", loom_last_error()), 1;
  loom_engine_free(engine);
  puts(loom_version());
}
"""
VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]


def runs(program, folder, **variables):
    done = subprocess.run([program, folder / "data"], env={**os.environ, **variables}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, VERSION), done.stdout + done.stderr


@pytest.mark.slow
def test_a_program_has_the_library_within_it(installed, tmp_path):
    variables = {**os.environ, "PKG_CONFIG_PATH": f"{installed}/lib/pkgconfig"}
    flags = ["pkg-config", "--cflags", "--libs", "--static", "loom"]
    flags = subprocess.run(flags, env=variables, check=True, capture_output=True, text=True).stdout.split()
    flags = ["-l:libloom.a" if flag == "-lloom" else flag for flag in flags]
    (tmp_path / "small.c").write_text(SMALL)
    subprocess.run(["cc", "-pthread", "-o", tmp_path / "small", tmp_path / "small.c", *flags], check=True)
    runs(tmp_path / "small", tmp_path, LD_LIBRARY_PATH="")


def test_cmake_finds_the_library_by_its_version(installed, tmp_path):
    if not shutil.which("cmake"):
        pytest.skip("NO CMake: find_package(loom) was not tried")
    (tmp_path / "small.c").write_text(SMALL)
    major, minor, patch = VERSION.split(".")

    def configured(wanted):
        (tmp_path / "CMakeLists.txt").write_text(f"""
            cmake_minimum_required(VERSION 3.16)
            project(small C)
            find_package(loom {wanted} REQUIRED)
            add_executable(shared small.c)
            target_link_libraries(shared PRIVATE loom::loom)
            add_executable(within small.c)
            target_link_libraries(within PRIVATE loom::static)
        """)
        shutil.rmtree(tmp_path / "build", ignore_errors=True)
        return subprocess.run(["cmake", "-B", "build", f"-DCMAKE_PREFIX_PATH={installed}"], cwd=tmp_path, capture_output=True, text=True)

    for wanted in (f"{major}.{int(minor) + 1}", f"{int(major) + 1}.0", f"{VERSION}.1"):
        refused = configured(wanted)
        assert refused.returncode != 0 and f"version: {VERSION}" in refused.stderr, (wanted, refused.stderr)
    for wanted in ("", f"{major}.{minor}", f"{VERSION} EXACT"):
        found = configured(wanted)
        assert found.returncode == 0, (wanted, found.stderr)
    subprocess.run(["cmake", "--build", "build"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    for program in ("shared", "within"):
        runs(tmp_path / "build" / program, tmp_path, LD_LIBRARY_PATH="")


HLS_JS = """url => {
    const hls = window.player = new Hls({lowLatencyMode: true});
    const note = (...what) => (told.noted ??= []).push([Math.round(document.querySelector('video').currentTime * 100) / 100, ...what]);
    hls.on(Hls.Events.ERROR, (_, data) => {
        if (data.fatal) told.errors.push(`${data.type} ${data.details} ${data.reason ?? ''}`);
        note(data.details, data.frag?.sn, data.part?.index, data.response?.code);
    });
    hls.on(Hls.Events.FRAG_BUFFERED, (_, {frag, part}) => note('buffered', frag.type, frag.sn, part?.index, frag.endList));
    hls.on(Hls.Events.BUFFER_EOS, (_, {type}) => note('eos', type));
    hls.on(Hls.Events.LEVEL_UPDATED, (_, {details}) => { if (!details.live) note('ended', details.endSN); });
    hls.on(Hls.Events.FRAG_LOADED, (_, data) => { told.parts = (told.parts ?? 0) + (data.part ? 1 : 0); });
    const load = () => fetch(url).then(answer => answer.ok ? hls.loadSource(url) : setTimeout(load, 200));
    load();
    hls.attachMedia(document.querySelector('video'));
}"""


def test_a_c_host_answers_what_is_no_text_and_serves_on(host):
    def ask(path):
        with socket.create_connection(("127.0.0.1", int(host.base.rsplit(":", 1)[1])), timeout=30) as connection:
            connection.sendall(b"GET /" + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            return connection.makefile("rb").readline()

    assert b" 400 " in ask(b"\xff\xfe")
    assert b" 404 " in ask(b"nothing")
    until(lambda: b" 200 " in ask(b"main.m3u8"), 30, "the stream")
    assert host.process.poll() is None


def test_a_c_host_under_150_lines_draws_what_hls_js_plays_live(host, new_page, chromium):
    source = pathlib.Path(ROOT / "bindings" / "c" / "examples" / "host.c").read_text()
    assert len(source.splitlines()) < 150
    assert host.url.startswith("http://127.0.0.1:"), host.url
    page = shown(host, new_page, chromium(), players.HLS, host.url, HLS_JS)
    begun(page)
    live = page.evaluate("() => player.levels[0].details.live")
    assert live, "it plays while the host still draws"
    until(lambda: page.evaluate("() => told.parts > 0"), 30, "a part, not a whole segment")
    start = moved(page)
    until(lambda: moved(page) > start + 3, 30, "three seconds of play")
    # the disc moves: two looks at the picture differ, and it is bright where the disc is
    look = page.evaluate(LOOK)
    assert look["width"] == 640 and look["height"] == 360, look
    assert max(look["luma"]) > 180 > 120 > min(look["luma"]), (max(look["luma"]), min(look["luma"]))
    until(lambda: page.evaluate(LOOK)["luma"] != look["luma"], 10, "another picture")
    assert host.process.stdout.readline().strip() == "ready"
    until(lambda: not page.evaluate("() => player.levels[0].details.live"), 30, "the end of the playlist")
    page.evaluate("() => { const video = document.querySelector('video'); video.currentTime = video.duration - 2; video.play(); }")
    # a player that was starved at the live edge does not always say `ended`; what is there to be played must have been
    at_end = "() => { const video = document.querySelector('video'); return video.ended || video.currentTime > video.duration - 0.1; }"
    try:
        until(lambda: page.evaluate(at_end), 60, "the end")
    finally:
        print(page.evaluate(STATE))
    duration = page.evaluate("() => document.querySelector('video').duration")
    assert abs(duration - SECONDS) < 0.3, duration
    assert not page.evaluate("() => told.errors"), page.evaluate("() => told.errors")


# Where a player that does not come to the end is.
STATE = """() => {
    const video = document.querySelector('video'), details = player.levels[0].details;
    const ranges = of => [...Array(of.length).keys()].map(at => [of.start(at), of.end(at)]);
    const {currentTime, duration, paused, readyState, seeking} = video;
    const {live, edge, endSN, partList} = details;
    return {currentTime, duration, paused, readyState, seeking, buffered: ranges(video.buffered), live, edge, endSN, parts: partList?.length,
        fragments: details.fragments.map(it => [it.sn, it.start, it.duration, it.endList]), told, state: player.streamController?.state};
}"""

# What the picture shows, at 32 x 18 places.
LOOK = """() => {
    const video = document.querySelector('video'), canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [32, 18];
    const context = canvas.getContext('2d');
    context.drawImage(video, 0, 0, 32, 18);
    const {data} = context.getImageData(0, 0, 32, 18), luma = [];
    for (let at = 0; at < data.length; at += 4) luma.push(Math.round(0.21 * data[at] + 0.72 * data[at + 1] + 0.07 * data[at + 2]));
    return {luma, width: video.videoWidth, height: video.videoHeight};
}"""
