"""What is encrypted by samples plays in a browser that has the key, over HLS and over DASH, and not without."""

import re

import pytest

import judges
import material
import players
from conftest import Publisher
from players import begun, played_to_the_end, shown
from server import Server, until


@pytest.fixture(scope="module", params=["cbcs", "cenc"])
def server(request, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp(request.param), LOOM_CAPTIONS="off", LOOM_LADDER="source", LOOM_ENCRYPTION=request.param)
    server.scheme = request.param
    yield server
    server.close()


@pytest.fixture(scope="module")
def viewer(chromium):
    return chromium()


@pytest.fixture(scope="module")
def whole(server):
    recording = server.create("Secret")
    Publisher(recording, "h264", material.screen_h264(), 15, material.speech(12), seconds=8).wait()
    return server.until_state(recording, "ready")


SHAKA = """async url => {
    shaka.polyfill.installAll();
    const player = window.player = new shaka.Player();
    await player.attach(document.querySelector('video'));
    player.configure({drm: {clearKeys: %s}});
    player.addEventListener('error', event => told.errors.push(`${event.detail.code} ${event.detail.data}`));
    await player.load(url).catch(error => told.errors.push(`${error.code} ${error.data}`));
}"""


def key(server, recording):
    """{KID: key} in hexadecimal, the first from the manifest."""
    text = server.http.get(judges.url(server, recording, "manifest.mpd")).text
    assert f'value="{server.scheme}"' in text, text
    kid = re.search(r'cenc:default_KID="([^"]+)"', text)[1].replace("-", "")
    return {kid: server.http.get(judges.url(server, recording, "key-0.bin")).content.hex()}


@pytest.mark.parametrize("path", ["manifest.mpd", "main.m3u8"])
def test_shaka_plays_with_the_key(server, whole, new_page, viewer, path):
    begin = SHAKA % key(server, whole)
    page = shown(server, new_page, viewer, players.package(*players.SHAKA), judges.url(server, whole, path), begin)
    begun(page)
    if path.endswith("mpd"):
        played_to_the_end(page, whole)
    told = page.evaluate("() => ({...told, time: document.querySelector('video').currentTime})")
    assert not told["errors"] and told["time"] > 0, told


def test_another_key_shows_nothing(server, whole, new_page, viewer):
    begin = SHAKA % {kid: "00" * 16 for kid in key(server, whole)}
    page = shown(server, new_page, viewer, players.package(*players.SHAKA), judges.url(server, whole, "manifest.mpd"), begin)
    errors = until(lambda: page.evaluate("() => told.errors"), 60, "an error")
    assert errors, errors
