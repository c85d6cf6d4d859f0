"""What a host has players told comes to them at its instant, live and later, over HLS and over DASH."""

import pytest

import judges
import players
from conftest import watchable
from players import begun, shown
from server import Server, problem, until


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("metadata"), LOOM_CAPTIONS="off", LOOM_LADDER="source")
    yield server
    server.close()


@pytest.fixture(scope="module")
def viewer(chromium):
    return chromium()


def tell(server, recording, **what):
    return server.http.post(f"/v1/recordings/{recording['id']}/metadata", json=what)


# What each player makes of it, as [seconds, name, text].
HLS_JS = """url => {
    told.tags = [];
    const hls = window.player = new Hls({lowLatencyMode: true});
    const text = bytes => new TextDecoder().decode(bytes);
    hls.on(Hls.Events.FRAG_PARSING_METADATA, (_, {samples}) => {
        for (const {pts, data, type} of samples) {
            if (type !== 'https://aomedia.org/emsg/ID3') continue;
            const [, name, value] = /TXXX[^]{7}([^\\0]*)\\0([^]*)$/.exec(text(data));
            told.tags.push([pts, name, value]);
        }
    });
    hls.on(Hls.Events.ERROR, (_, data) => { if (data.fatal) told.errors.push(`${data.type} ${data.details}`); });
    hls.loadSource(url);
    hls.attachMedia(document.querySelector('video'));
}"""

SHAKA = """async url => {
    told.tags = [];
    shaka.polyfill.installAll();
    const player = window.player = new shaka.Player();
    await player.attach(document.querySelector('video'));
    player.configure({streaming: {lowLatencyMode: true}, manifest: {dash: {autoCorrectDrift: false}}});
    player.addEventListener('metadata', ({startTime, payload}) => told.tags.push([startTime, payload.description, payload.data]));
    player.addEventListener('error', event => told.errors.push(`${event.detail.code} ${event.detail.data}`));
    await player.load(url);
}"""

DASH_JS = """url => {
    told.tags = [];
    const player = window.player = dashjs.MediaPlayer().create();
    player.on('error', ({error}) => told.errors.push(`${error.code} ${error.message}`));
    player.on('https://aomedia.org/emsg/ID3', ({event}) => {
        const [, name, value] = /TXXX[^]{7}([^\\0]*)\\0([^]*)$/.exec(new TextDecoder().decode(event.messageData));
        told.tags.push([event.calculatedPresentationTime, name, value]);
    });
    player.initialize(document.querySelector('video'), url, true);
}"""

PLAYERS = [
    pytest.param(players.HLS, HLS_JS, "main.m3u8", id="hls.js"),
    pytest.param(players.SHAKA, SHAKA, "manifest.mpd", id="shaka", marks=pytest.mark.slow),
    pytest.param(players.DASH, DASH_JS, "manifest.mpd", id="dash.js", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("player, begin, path", PLAYERS)
def test_a_player_is_told_live_and_later(server, publish, new_page, viewer, player, begin, path):
    script = player if player == players.HLS else players.package(*player)
    recording = server.create("Told")
    publisher = publish(recording, seconds=120)
    until(lambda: watchable(server, recording) >= 6, 90, "six seconds to watch")
    page = shown(server, new_page, viewer, script, judges.url(server, recording, path), begin)
    begun(page)
    assert tell(server, recording, name="now", text="grün & gut").status_code == 204
    tags = until(lambda: page.evaluate("() => told.tags"), 30, "the tag, live")
    at, *said = tags[0]
    assert said == ["now", "grün & gut"] and len(tags) == 1, tags
    now = page.evaluate("() => document.querySelector('video').currentTime")
    assert abs(at - now) < 15, (at, now)
    # one that lies ahead waits for its instant
    assert tell(server, recording, at=at + 6, name="ahead", text="later").status_code == 204
    until(lambda: watchable(server, recording) >= at + 9, 60, "it to be packaged")
    publisher.end()
    server.until_state(recording, "ready")
    page.close()
    page = shown(server, new_page, viewer, script, judges.url(server, recording, path), begin)
    until(lambda: len(page.evaluate("() => told.tags")) == 2, 60, "both tags, later")
    told = page.evaluate("() => told")
    assert not told["errors"], told["errors"]
    (first, *_), (second, *said) = told["tags"]
    assert said == ["ahead", "later"] and abs(second - first - 6) < 0.05, told["tags"]


def test_what_cannot_be_carried_is_refused(server, publish):
    recording = server.create("Refused")
    assert tell(server, recording, name="a", text="b").status_code == 409
    publish(recording, seconds=60)
    until(lambda: watchable(server, recording) >= 1, 90, "a second to watch")
    answer = tell(server, recording, name="a", text="b" * 20_000)
    assert answer.status_code == 400 and "16384" in problem(answer), answer.text
    answer = tell(server, recording, name="a")
    assert answer.status_code == 400, answer.text
