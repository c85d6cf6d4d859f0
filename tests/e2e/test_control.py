"""A recording is steered and followed over one WebSocket, by Chromium's own client; who is cut off misses nothing."""

import urllib.parse

import pytest

import material
from conftest import watchable
from server import until

# A client that keeps what it is told, and can be asked to send.
OPEN = """({url, name}) => new Promise((resolve) => {
    const socket = new WebSocket(url);
    const client = window[name] = {socket, told: [], closed: false};
    socket.onmessage = ({data}) => client.told.push(JSON.parse(data));
    socket.onclose = () => { client.closed = true; resolve('closed'); };
    socket.onopen = () => resolve('open');
})"""


@pytest.fixture
def client(server, new_page, chromium):
    page = new_page(chromium())
    page.goto(server.base)

    class Client:
        def open(self, recording, name, **query):
            url = f"{server.base.replace('http', 'ws')}/v1/recordings/{recording['id']}/control"
            return page.evaluate(OPEN, {"url": f"{url}?{urllib.parse.urlencode(query)}", "name": name})

        def told(self, name):
            return page.evaluate("(name) => window[name].told", name)

        def ask(self, name, **command):
            page.evaluate("({name, command}) => window[name].socket.send(JSON.stringify(command))", {"name": name, "command": command})
            answered = lambda: [it for it in self.told(name) if it.get("answer") == command["id"] and "ok" in it]  # noqa: E731
            return until(answered, 60, f"an answer to {command}")[0]

        def cut(self, name):
            page.evaluate("(name) => window[name].socket.close()", name)

    return Client()


def events(told):
    return [it for it in told if "event" in it and it["event"] not in ("clock", "levels")]


def test_commands_are_acknowledged_and_who_was_cut_off_misses_nothing(server, publish, client):
    recording = server.create("Steered")
    publisher = publish(recording, video=material.flashes(), rate=30, audio=material.beeps())
    until(lambda: watchable(server, recording) > 2, 60, "the first seconds")
    for name in ("whole", "cut"):
        assert client.open(recording, name) == "open"
    clock = until(lambda: [it for it in client.told("whole") if it.get("event") == "clock"], 30, "the time")[-1]
    assert clock["network"]["packets_received"] > 50, clock
    refused = client.ask("whole", id="x", command="dance")
    assert not refused["ok"] and refused["problem"]["status"] == 400, refused
    assert client.ask("whole", id=1, command="pause") == {"answer": 1, "ok": True, "state": "paused"}
    assert client.ask("whole", id=2, command="pause")["ok"], "twice is once"
    until(lambda: any(it.get("state") == "paused" for it in events(client.told("cut"))), 30, "the other to be told")
    client.cut("cut")
    before = client.told("cut")
    last = max(it["number"] for it in before if "number" in it)
    # what happens now, the one that was cut off does not see
    assert client.ask("whole", id=3, command="resume")["state"] == "live"
    assert client.ask("whole", id=4, command="mark", title="After the pause")["ok"]
    until(lambda: any(it["event"] == "chapters" for it in events(client.told("whole"))), 30, "the chapter")
    assert client.open(recording, "again", after=last) == "open"
    assert client.ask("again", id=5, command="stop")["ok"]
    publisher.vanish()
    server.until_state(recording, "ready")
    ended = lambda name: any(it.get("event") == "end" for it in client.told(name))  # noqa: E731
    until(lambda: ended("whole") and ended("again"), 60, "the end to be told")
    numbers = [it["number"] for it in events(client.told("whole")) if it.get("number", 0) > last]
    missed = [it["number"] for it in events(client.told("again")) if "number" in it]
    assert numbers == missed and numbers == list(range(last + 1, last + 1 + len(numbers))), (numbers, missed)
    assert [it["state"] for it in events(client.told("again")) if it["event"] == "state"][:1] == ["live"]


def test_who_listens_is_told_how_loud_the_sound_is(server, publish, client):
    recording = server.create("Beeps")
    publish(recording, video=material.flashes(), rate=30, audio=material.beeps())
    until(lambda: watchable(server, recording) > 1, 60, "the first second")
    assert client.open(recording, "deaf") == client.open(recording, "listening", levels="true") == "open"
    heard = lambda: [it["levels"] for it in client.told("listening") if it["event"] == "levels"]  # noqa: E731
    until(lambda: len(heard()) >= 24, 60, "six seconds of levels")
    told = heard()
    track = next(it for it in server.show(recording)["tracks"] if it["kind"] == "audio")
    assert all(len(levels) == 1 and levels[0]["mid"] == track["mid"] for levels in told), told
    # a tone of half the full scale is 9 dB below the loudest, for a tenth of each second; the publisher rounds its own way
    levels = [levels[0]["level"] for levels in told]
    assert -20 <= max(levels) <= -6 and min(levels) <= -60, levels
    seconds = sum(it["event"] == "clock" for it in client.told("listening"))
    assert len(told) <= 4 * (seconds + 2), "four times a second and no more often"
    assert not any(it["event"] == "levels" for it in client.told("deaf"))


def test_no_foreign_page_steers_a_recording(server):
    recording = server.create("Not yours")
    key = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
    path = f"/v1/recordings/{recording['id']}/control"
    answer = server.http.get(path, headers=key | {"origin": "https://elsewhere.example"})
    assert answer.status_code == 403, answer.text
    assert server.http.get(path).status_code in (400, 426), "it is a WebSocket"
